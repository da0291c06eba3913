"""Time the kernels and their peers on this machine's GPU; one CSV row per case and variant, failures included.

    python benchmarks/fetch_peers.py                      # once, where there is a network
    python benchmarks/record_throughput.py --out data/throughput_h200.csv --peers .peers

Needs torch with CUDA and Triton; no network. Kernels are compiled ahead by as many processes as there are cores, then
one process measures, alone on the GPU. When a variant takes that process down, it gets a row saying so and a fresh
process goes on with the next. `--limit` bounds the whole run: what is left then becomes skipped rows. Rows are written
as they come and a table is printed last. Exit code 0 when something was measured, 1 when nothing was, 2 on bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.errors import UserError

# Of the whole limit, the most that compiling ahead may take; what it did not finish compiles while measuring.
COMPILE_SHARE = 0.5
CONTEXT_LOST = 75
MOST_RESTARTS = 6
PROVENANCE = ("gpu", "driver", "torch", "triton", "cuda", "date_utc")


def main(argv: list[str] | None = None) -> int:
    """Record rows; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    options = parse(argv)
    try:
        if options.shard:
            return _shard(options)
        if options.worker:
            return _worker(options)
        return _record(options, argv)
    except UserError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2


def parse(argv: list[str]) -> argparse.Namespace:
    """The options; exits with code 2 on unknown ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="CSV file to write")
    parser.add_argument("--peers", type=Path, help="folder that benchmarks/fetch_peers.py filled")
    parser.add_argument("--quick", action="store_true", help="only the five cases of the table")
    parser.add_argument("--cases", help="cases or groups, comma-separated (table, ragged, 'sliding fp8', …)")
    parser.add_argument("--variants", help="only variants whose name contains one of these, comma-separated")
    parser.add_argument("--limit", type=float, default=235.0, help="seconds for the whole run (default 235)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="turns a variant has in each case (default 7; 1: no turns)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that compile ahead; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", default="", help=argparse.SUPPRESS)
    parser.add_argument("--shard", default="", help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> tuple[list, list]:
    """(cases, variants) that the options ask for; raises UserError for names there are not."""
    from helpers.attention.bench import bench_cases
    from helpers.attention.peers import select_variants

    names = [name.strip() for name in options.cases.split(",")] if options.cases else None
    variants = select_variants(options.variants, options.peers)
    cases = bench_cases(names, quick=options.quick)
    return cases, variants


# --- the parent: no CUDA here, so that nothing a variant does can end the run -------------------------------


def _record(options: argparse.Namespace, argv: list[str]) -> int:
    import torch

    from helpers.attention.bench import read_csv, summary_table, write_rows
    from helpers.attention.peers import FA4_ARCHIVE, unpack_fa4

    started = time.monotonic()
    cases, variants = chosen(options)
    if not torch.cuda.is_available():
        raise UserError("this needs a CUDA GPU and torch sees none; recorded rows are in data/")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.peers and (options.peers / FA4_ARCHIVE).is_file():
        unpack_fa4(options.peers)  # once, before many processes want it
    # The recorded command names the file, not the folder of the machine it was written on.
    words = [word if word != str(options.out) else options.out.name for word in argv]
    command = "python benchmarks/record_throughput.py " + shlex.join(words)
    write_rows(options.out, [], comments=[f"Throughput, recorded by `{command}`; columns: helpers/attention/bench.py"])
    with tempfile.TemporaryDirectory(prefix="register-cliff-bench-") as folder:
        environment = {
            **os.environ,
            "TRITON_CACHE_DIR": os.environ.get("TRITON_CACHE_DIR", f"{folder}/triton"),
            # Each process compiles for itself: a pool of helpers in each would only be in the way.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            # FlashAttention-4 compiles in Python, half a minute a kernel, and keeps nothing unless asked to.
            "FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED": "1",
            "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": f"{folder}/flash_attn",
            "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", f"{folder}/inductor"),
        }
        itself = [sys.executable, str(Path(__file__).resolve()), *argv, "--command", command]
        if options.jobs > 0:
            until = started + COMPILE_SHARE * options.limit
            _compile_ahead(itself, environment, jobs=options.jobs, until=until, folder=Path(folder))
            print(f"compiled ahead, {time.monotonic() - started:.0f} s", flush=True)
        marker = Path(folder) / "current.json"
        environment["REGISTER_CLIFF_BENCH_MARKER"] = str(marker)

        def start(seconds: float) -> int:
            process = subprocess.Popen([*itself, "--worker", f"{seconds:.0f}"], env=environment, start_new_session=True)
            try:
                # A worker stops by itself at its deadline, after the pair it is at.
                return process.wait(timeout=seconds + 45)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL
            finally:
                _end(process)

        supervise(
            start, out=options.out, marker=marker, until=started + options.limit, cases=cases, variants=variants,
            command=command, seed=options.seed,
        )  # fmt: skip
    rows = read_csv(options.out)
    print(summary_table(rows))
    print(f"{len(rows)} rows in {options.out}, {time.monotonic() - started:.0f} s")
    return 0 if any(row["median_ms"] and row["case"] != "ceiling" for row in rows) else 1


def _compile_ahead(itself: list[str], environment: dict, *, jobs: int, until: float, folder: Path) -> None:
    shards = []
    for i in range(jobs):
        log = (folder / f"shard{i}.log").open("w")
        shards.append(
            subprocess.Popen(
                [*itself, "--shard", f"{i}/{jobs}"], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        )
        log.close()
    try:
        for i, process in enumerate(shards):
            try:
                process.wait(timeout=max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"compile process {i} was stopped: out of time", flush=True)
    finally:
        for process in shards:
            _end(process)
    for i in range(jobs):
        for line in (folder / f"shard{i}.log").read_text(errors="replace").splitlines():
            if line.startswith("could not compile"):
                print(line[:300], flush=True)


def _end(process: subprocess.Popen) -> None:
    """Kill a child of ours and what it started (ptxas runs as a process of its own), unless it has ended by itself."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def supervise(
    start: Callable[[float], int],
    *,
    out: Path,
    marker: Path,
    until: float,
    cases: list,
    variants: list,
    command: str,
    seed: int,
) -> None:
    """Run workers until one ends well; a pair that ended one gets a row, and the next worker goes on after it.

    `start(seconds)` runs a worker and returns its exit code. `marker` holds the pair a worker is at, as JSON.
    """
    from dataclasses import replace

    from helpers.attention.bench import blank_row, read_csv, write_rows

    pairs = {(case.name, variant.name): (case, variant) for case in cases for variant in variants}
    for _ in range(MOST_RESTARTS):
        marker.unlink(missing_ok=True)
        code = start(max(5.0, until - time.monotonic()))
        if code in (0, 2):
            return
        at = json.loads(marker.read_text()) if marker.is_file() else {}
        pair = pairs.get((at.get("case"), at.get("variant")))
        rows = read_csv(out)
        if pair is None or (pair[0].name, pair[1].name) in {(row["case"], row["variant"]) for row in rows}:
            print(f"the measuring process ended with code {code}, outside any variant: see above", file=sys.stderr)
            return
        how = "broke the CUDA context" if code == CONTEXT_LOST else f"ended the measuring process (code {code})"
        reason = f"{how}: {at['reason']}" if at.get("reason") else how
        # This process knows no GPU; the rows of the workers do.
        facts = [{name: row[name] for name in PROVENANCE} for row in rows if row["gpu"]]
        known = {"status": "failed", "reason": reason, "command": command, "seed": seed, **(facts[-1] if facts else {})}
        write_rows(out, [replace(blank_row(*pair), **known)], append=True)
        print(f"   failed  {pair[0].name}, {pair[1].name}: {reason}", flush=True)
    print(f"gave up after {MOST_RESTARTS} measuring processes", file=sys.stderr)


# --- children ------------------------------------------------------------------------------------------------


def _shard(options: argparse.Namespace) -> int:
    from helpers.attention.bench import compile_ahead

    shard, _, shards = options.shard.partition("/")
    cases, variants = chosen(options)
    for case, variant, error in compile_ahead(cases, variants, shard=int(shard), shards=int(shards)):
        print(f"could not compile {variant} for {case}: {error}", flush=True)
    return 0


def _worker(options: argparse.Namespace) -> int:
    from helpers.attention.bench import ContextLost, main_rows, read_csv, write_rows

    deadline = time.monotonic() + options.worker
    marker = Path(os.environ["REGISTER_CLIFF_BENCH_MARKER"])
    cases, variants = chosen(options)
    at: dict[str, str] = {}

    def starting(case, variant) -> None:
        at.update(case=case.name, variant=variant.name)
        marker.write_text(json.dumps(at))

    def emit(row) -> None:
        write_rows(options.out, [row], append=True)
        speed = f"{row.tflops:8.1f} TFLOP/s" if row.tflops else " " * 16
        print(f"{row.status:>9}  {speed}  {row.case}, {row.variant}  {row.reason[:90]}", flush=True)

    try:
        main_rows(
            cases,
            variants,
            seed=options.seed,
            command=options.command,
            rounds=options.rounds,
            deadline=deadline,
            done=[(row["case"], row["variant"]) for row in read_csv(options.out)],
            starting=starting,
            emit=emit,
        )
    except ContextLost as exc:
        marker.write_text(json.dumps({**at, "reason": str(exc)}))
        # The usual clean-up would touch the broken context.
        sys.stdout.flush()
        os._exit(CONTEXT_LOST)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Mutated PTX through everything that reads PTX here: no exception but UserError, no hang; a sample through ptxas too.

Every mutant is made of a real PTX by a seeded mutator and read in a pool of processes, with a limit in CPU seconds.
Rows go to data/fuzz.csv.

    python benchmarks/fuzz_ptx.py                           # 2,000 mutants, 200 of them through ptxas
    python benchmarks/fuzz_ptx.py --csv data/fuzz.csv       # the same, recorded

Every second one of those for ptxas is a whole text with a few lines changed, as others end at its parser.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO_ROOT))

from helpers.compiler.run_ptxas import run_ptxas  # noqa: E402
from helpers.compiler.toolchain import installed_ptxas  # noqa: E402
from helpers.inspection.ptx import scan as ptx  # noqa: E402
from tests.hunting.readers import read_ptx_text  # noqa: E402
from tests.hunting.records import append_rows  # noqa: E402
from tests.hunting.text_mutants import gentle_ptx, mutated_ptx, ptx_texts  # noqa: E402

COLUMNS = ("what", "count", "seconds", "uncaught", "hangs", "seed", "date_utc", "command", "python")
LIMIT_S = 30
PTXAS_LIMIT_S = 30.0


class _Hang(BaseException):
    """The limit is over; no reader catches this."""


def _stop(_signal, _frame) -> None:
    raise _Hang


def try_one(job: tuple[str, int, int]) -> tuple[int, str, float]:
    """(number, what went wrong: "", "hang" or a traceback; seconds) of one mutant: read, or given to ptxas."""
    what, seed, number = job
    make = gentle_ptx if what == "ptxas" and number % 2 else mutated_ptx
    text = make(ptx_texts(), seed, number)
    # Seconds of this process's own work: a busy machine is no hang, and nothing that reads text sleeps.
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    started, wrong = time.process_time(), ""
    try:
        if what == "read":
            read_ptx_text(text)
        else:
            assemble(text, number)
    except _Hang:
        wrong = "hang"
    except Exception:
        wrong = traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return number, wrong, time.process_time() - started


def assemble(text: str, number: int) -> str:
    """How a ptxas ended on a text, in a word; ptxas releases take turns."""
    programs = list(installed_ptxas().values())
    arch = ptx.ptx_header(text).target or "sm_80"
    if not re.fullmatch(r"sm_[0-9]{2,3}[a-z]?", arch):
        arch = "sm_80"
    program = programs[number % len(programs)]
    return run_ptxas(program, text, gpu_name=arch, flags=("-v",), timeout_s=PTXAS_LIMIT_S).status


def run(what: str, count: int, seed: int, workers: int) -> dict:
    """A row of the table: `count` mutants read (or assembled), what was uncaught, what hung."""
    started = time.perf_counter()
    uncaught, hangs, slowest = [], [], 0.0
    with ProcessPoolExecutor(workers) as pool:
        jobs = ((what, seed, number) for number in range(count))
        for number, wrong, seconds in pool.map(try_one, list(jobs), chunksize=8):
            slowest = max(slowest, seconds)
            if wrong:
                (hangs if wrong == "hang" else uncaught).append(number)
                print(f"mutant {number}: {wrong}", flush=True)
            if number % 200 == 199:
                print(f"{what}: {number + 1} of {count}, slowest {slowest:.1f} s", flush=True)
    names = {"read": "mutated PTX through parsing, liveness, editing, diagnosis", "ptxas": "mutated PTX through ptxas"}
    return {
        "what": names[what],
        "count": count,
        "seconds": round(time.perf_counter() - started, 1),
        "uncaught": len(uncaught),
        "hangs": len(hangs),
        "seed": seed,
        "date_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/fuzz_ptx.py --seed {seed}",
        "python": platform.python_version(),
    }


def main(argv: list[str] | None = None) -> int:
    """Run both parts; exit code 1 when anything was uncaught or hung."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--ptxas-count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    options = parser.parse_args(argv)
    table = options.csv.absolute() if options.csv else None
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        rows = [
            run("read", options.count, options.seed, options.workers),
            run("ptxas", options.ptxas_count, options.seed, options.workers),
        ]
        os.chdir(REPO_ROOT)
        made = [p.name for folder in (Path(empty), Path(empty).parent) for p in folder.glob("*PWNED*")]
    if made:
        print(f"something in a mutant was executed, or a path of it written: {made}")
    for row in rows:
        print(row)
    if table:
        append_rows(table, COLUMNS, rows)
    return int(bool(made) or any(row["uncaught"] or row["hangs"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

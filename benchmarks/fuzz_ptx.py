"""Mutated PTX through everything that reads PTX here: no exception but UserError, no hang; a sample through ptxas too.

Every mutant is made of a real PTX by a seeded mutator and read in a pool of processes, with a limit in CPU seconds.
Rows go to data/fuzz.csv.

    python benchmarks/fuzz_ptx.py                           # 2,000 mutants, 200 of them through ptxas
    python benchmarks/fuzz_ptx.py --csv data/fuzz.csv       # the same, recorded

Every second one of those for ptxas is a whole text with a few lines changed, as others end at its parser.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import gzip
import importlib.util
import io
import os
import platform
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO_ROOT))

from helpers.compiler.run_ptxas import run_ptxas  # noqa: E402
from helpers.compiler.toolchain import installed_ptxas  # noqa: E402
from helpers.diagnosis.pressure import format_pressure, pressure_report  # noqa: E402
from helpers.errors import UserError  # noqa: E402
from helpers.files import write_text_atomically  # noqa: E402
from helpers.inspection.ptx import graph as cfg  # noqa: E402
from helpers.inspection.ptx import scan as ptx  # noqa: E402
from helpers.search.minimize import check as ptx_check  # noqa: E402
from helpers.search.minimize import program as ptx_edit  # noqa: E402
from helpers.search.minimize import sweeps as ptx_sweeps  # noqa: E402

FIXTURES = REPO_ROOT / "tests" / "fixtures" / "ptx"
COLUMNS = ("what", "count", "seconds", "uncaught", "hangs", "seed", "date_utc", "command", "python")
LIMIT_S = 30
PTXAS_LIMIT_S = 30.0
_TOKEN = re.compile(r"[%$\w.]+|\s+|[^\s\w]")


# --- the mutator ------------------------------------------------------------------------------------------


def _some(rng: random.Random, tokens: list[str]) -> int:
    return rng.randrange(len(tokens)) if tokens else 0


def _delete(rng: random.Random, tokens: list[str]) -> None:
    at = _some(rng, tokens)
    del tokens[at : at + rng.choice((1, 1, 2, 30, 400))]


def _duplicate(rng: random.Random, tokens: list[str]) -> None:
    at = _some(rng, tokens)
    piece = tokens[at : at + rng.choice((1, 5, 60))]
    tokens[at:at] = piece * rng.choice((1, 1, 3, 200))


def _swap(rng: random.Random, tokens: list[str]) -> None:
    if tokens:
        a, b = _some(rng, tokens), _some(rng, tokens)
        tokens[a], tokens[b] = tokens[b], tokens[a]


def _truncate(rng: random.Random, tokens: list[str]) -> None:
    del tokens[_some(rng, tokens) :]


def _behead(rng: random.Random, tokens: list[str]) -> None:
    del tokens[: _some(rng, tokens)]


def _garbage(rng: random.Random, tokens: list[str]) -> None:
    junk = bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 400)))).decode("utf-8", errors="replace")
    tokens.insert(_some(rng, tokens), junk)


def _huge_number(rng: random.Random, tokens: list[str]) -> None:
    numbers = [at for at, t in enumerate(tokens) if t.isdigit()]
    number = rng.choice(("9" * 5_000, "4294967296", "-1", "0x" + "f" * 300, "999999999", "1e999"))
    if numbers:
        tokens[rng.choice(numbers)] = number
    else:
        tokens.append(number)


def _nest(rng: random.Random, tokens: list[str]) -> None:
    opening, closing = rng.choice(("{}", "()", "[]", ("/*", "*/"), ("{ .reg .b32 %x<9>; ", "}")))
    depth = rng.choice((3, 100, 20_000))
    tokens.insert(_some(rng, tokens), opening * depth)
    if rng.random() < 0.5:
        tokens.insert(_some(rng, tokens), closing * depth)


def _one_line(rng: random.Random, tokens: list[str]) -> None:
    tokens[:] = [" " if t.isspace() else t for t in tokens]


def _scramble(rng: random.Random, tokens: list[str]) -> None:
    at = _some(rng, tokens)
    piece = tokens[at : at + 200]
    rng.shuffle(piece)
    tokens[at : at + 200] = piece


def _shell(rng: random.Random, tokens: list[str]) -> None:
    words = ("$(touch PWNED)", "`touch PWNED`", "; touch PWNED;", '"; touch PWNED; "', "../../PWNED", "--output=PWNED")
    for at in range(len(tokens)):
        if tokens[at].startswith((".visible", ".target", "extend_attention_kernel", ".file")) and rng.random() < 0.5:
            tokens[at] += rng.choice(words)


MUTATIONS: tuple[Callable[[random.Random, list[str]], None], ...] = (
    _delete, _duplicate, _swap, _truncate, _behead, _garbage, _huge_number, _nest, _one_line, _scramble, _shell,
)  # fmt: skip


@lru_cache(maxsize=1)
def seeds() -> list[str]:
    """The PTX texts that mutants are made of: real compiles of three architectures, traps, several functions."""
    texts = [p.read_text() for p in sorted(FIXTURES.glob("*.ptx"))]
    return texts + [gzip.decompress(p.read_bytes()).decode() for p in sorted(FIXTURES.glob("*.ptx.gz"))]


def mutant(texts: list[str], seed: int, number: int) -> str:
    """Mutant `number` of a run with `seed`: one to four mutations of one text, mostly of a part of it."""
    rng = random.Random(f"{seed}-{number}")
    text = rng.choice(texts)
    if len(text) > 20_000 and rng.random() < 0.6:  # a head, so that most mutants still have functions, and are quick
        text = text[: rng.randrange(5_000, 20_000)]
    tokens = _TOKEN.findall(text)
    for _ in range(rng.randrange(1, 5)):
        rng.choice(MUTATIONS)(rng, tokens)
    return "".join(tokens)


def gentle_mutant(texts: list[str], seed: int, number: int) -> str:
    """A whole text with a few lines gone, doubled or swapped: most of these get past ptxas's parser."""
    rng = random.Random(f"gentle-{seed}-{number}")
    lines = rng.choice(texts).split("\n")
    body = [at for at, line in enumerate(lines) if line.startswith("\t") and line.endswith(";") and ".reg" not in line]
    for at in rng.sample(body, min(len(body), rng.choice((1, 2, 5)))):
        what = rng.choice(("gone", "double", "swap"))
        if what == "gone":
            lines[at] = ""
        elif what == "double":
            lines[at] += "\n" + lines[at]
        else:
            other = rng.choice(body)
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines)


# --- what reads them --------------------------------------------------------------------------------------


def read_everything(text: str) -> None:
    """Whatever in this project reads PTX, over a text."""
    ptx.ptx_header(text)
    ptx.count_instructions(text)
    ptx.register_declarations(text)
    ptx.wide_operands(text)
    ptx.instructions_by_source_line(text)
    ptx.is_trap_stub(text)
    cfg.read_functions(text)
    try:  # liveness, and what is held across a branch
        format_pressure(pressure_report(text))
    except UserError:
        pass
    edit_it(text)
    if importlib.util.find_spec("helpers.diagnosis.diagnose"):
        from helpers.diagnosis.diagnose import diagnose

        diagnose(text).text()


def edit_it(text: str) -> None:
    """Read, render, check and take apart a text as the minimiser does."""
    program = ptx_edit.read_program(text)
    plain = ptx_edit.render(program)
    ptx_check.check_valid(text)
    again = ptx_edit.read_program(plain)
    for _name, make in ptx_sweeps.sweeps(0)[:6]:
        for change in make(again)[:8]:
            changed = ptx_sweeps.apply_removal(again, change)
            if changed is not None:
                ptx_edit.render(changed)


class _Hang(BaseException):
    """The limit is over; no reader catches this."""


def _stop(_signal, _frame) -> None:
    raise _Hang


def try_one(job: tuple[str, int, int]) -> tuple[int, str, float]:
    """(number, what went wrong: "", "hang" or a traceback; seconds) of one mutant: read, or given to ptxas."""
    what, seed, number = job
    make = gentle_mutant if what == "ptxas" and number % 2 else mutant
    text = make(seeds(), seed, number)
    # Seconds of this process's own work: a busy machine is no hang, and nothing that reads text sleeps.
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    started, wrong = time.process_time(), ""
    try:
        if what == "read":
            read_everything(text)
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


def append_rows(path: Path, rows: list[dict]) -> None:
    """Append rows to the CSV file, with a header when it is new."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    text = path.read_text() if path.is_file() else ""
    if not text:
        writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(path, text + out.getvalue())


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
        append_rows(table, rows)
    return int(bool(made) or any(row["uncaught"] or row["hangs"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

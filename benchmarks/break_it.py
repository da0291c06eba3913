"""Try to break the project, with a seed and a time limit, and record what came of it: one row a hunt.

    python benchmarks/break_it.py --seconds 600                          # every hunt gets its share of the time
    python benchmarks/break_it.py --kind input --what log,ptx --seed 3   # mutated logs and PTX, without an end: Ctrl-C
    python benchmarks/break_it.py --kind input --what ptx --seed 3 --number 812   # one input again, with its traceback

Kinds: `input` (mutated logs, PTX, specs, wheels … through whatever reads them, each within 5 s of work and 2 GB);
`kill` (a long verb killed at random points, by TERM and KILL in turn, and started again on what it left: no process and
no scratch file stays, the end is that of an undisturbed run; `runs` counts the kills, `slowest_s` is the longest end of
one); `secret` (bundles of every mode, made of what holds a secret of each kind: `runs` counts secrets); `full disk` (a
matrix of sixty compiles with its temporary files or its cache on a disk of random size: it says so with exit code 3 or
has every row right, and with room again it ends right).
A fault is printed as it is found; exit code 1 where there was one. `--csv data/break_it.csv` appends the rows.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers.compiler.toolchain import environment_triton  # noqa: E402
from tests.hunting.bounded import Bounded  # noqa: E402
from tests.hunting.bundles import MODES, hunt_secrets  # noqa: E402
from tests.hunting.full_disk import FULL, hunt_full_disks  # noqa: E402
from tests.hunting.kills import VERBS, hunt_kills  # noqa: E402
from tests.hunting.mutants import MUTATORS  # noqa: E402
from tests.hunting.records import Outcome, append_rows  # noqa: E402

COLUMNS = ("kind", "what", "seed", "runs", "faults", "slowest_s", "peak_mb", "wall_s", "versions", "command", "time",
           "status")  # fmt: skip
# Called after each run with the words of a fault, or "": whether to go on.
GoOn = Callable[[str], bool]


def hunt_inputs(what: str, seed: int, go_on: GoOn, number: int | None = None) -> Outcome:
    """Mutated inputs of one kind through whatever reads them."""
    found = Outcome()
    with Bounded() as reader:
        for at in itertools.count() if number is None else (number,):
            read = reader.read(what, seed, at)
            found.count(read.words() if read.wrong else "", read.cpu_s, read.peak_mb)
            if not go_on(read.words() if read.wrong else ""):
                break
    return found


HUNTS: dict[str, tuple[tuple[str, ...], Callable[..., Outcome]]] = {
    "input": (tuple(MUTATORS), hunt_inputs),
    "kill": (tuple(VERBS), hunt_kills),
    "secret": (MODES, hunt_secrets),
    "full disk": (FULL, hunt_full_disks),
}


def versions() -> str:
    """The Python, the environment's Triton and the commit that a hunt ran on."""
    triton = environment_triton()
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    here = f"Python {platform.python_version()}, Triton {triton.version if triton else 'none'}"
    return f"{here}, commit {asked.stdout.strip() or 'not known'}"


@contextmanager
def bar(words: str, seconds: float) -> Iterator[Callable[[str], None]]:
    """A progress bar on stderr, over the time there is; gives what a run reports to."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    began, runs, faults = time.monotonic(), 0, 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(words, total=None if seconds == float("inf") else seconds, said="")

        def ran(wrong: str) -> None:
            nonlocal runs, faults
            runs, faults = runs + 1, faults + bool(wrong)
            if wrong:
                console.print(wrong, markup=False, highlight=False)
            shown.update(task, completed=time.monotonic() - began, said=f"{runs} runs, {faults} faults")

        yield ran


def hunted(kind: str, what: str, seed: int, seconds: float, count: float, **more: object) -> dict[str, object]:
    """The row of one hunt of so many seconds or runs, whichever are over first."""
    began, runs = time.monotonic(), 0
    with bar(f"{kind}: {what}", seconds) as ran:

        def go_on(wrong: str) -> bool:
            nonlocal runs
            runs += 1
            ran(wrong)
            return runs < count and time.monotonic() - began < seconds

        found = HUNTS[kind][1](what, seed, go_on, **more)
    return {
        "kind": kind,
        "what": what,
        "seed": seed,
        "runs": found.runs,
        "faults": len(found.faults),
        "slowest_s": round(found.slowest_s, 2),
        "peak_mb": round(found.peak_mb),
        "wall_s": round(time.monotonic() - began, 1),
        "versions": versions(),
        "command": "python benchmarks/break_it.py " + shlex.join(
            ["--kind", kind, "--what", what, "--seed", str(seed), "--count", str(found.runs)]
        ),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "status": found.status,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Hunt, print each row, record it where asked to; exit code 1 where something broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default=",".join(HUNTS), help="kinds of hunt, by commas (all)")
    parser.add_argument("--what", default="", help="what of them, by commas (all): a kind of input, a verb")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for all hunts together")
    parser.add_argument("--count", type=float, default=float("inf"), help="runs of each hunt at most")
    parser.add_argument("--number", type=int, help="one input again")
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    chosen = parser.parse_args(argv)
    wanted = [name for name in chosen.what.split(",") if name]
    pairs = [(kind, what) for kind in chosen.kind.split(",") for what in HUNTS[kind][0] if what in (wanted or [what])]
    if not pairs:
        there = "; ".join(f"{kind}: {', '.join(whats)}" for kind, (whats, _) in HUNTS.items())
        parser.error(f"there is no such hunt; choose from {there}")
    more = {} if chosen.number is None else {"number": chosen.number}
    rows = []
    for kind, what in pairs:
        row = hunted(kind, what, chosen.seed, chosen.seconds / len(pairs), chosen.count, **more)
        rows.append(row)
        print("  ".join(f"{name}={row[name]}" for name in COLUMNS[:8] + COLUMNS[-1:]), flush=True)
        if chosen.csv:
            append_rows(chosen.csv, COLUMNS, [row])
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

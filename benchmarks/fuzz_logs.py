"""Feed mutated logs to `diagnose` and append the outcome to data/fuzz.csv: uncaught exceptions, and hangs by the clock.

    python benchmarks/fuzz_logs.py --count 10000 --seed 1

Each log may take `--limit` seconds (an alarm interrupts it); the text, JSON and HTML of each diagnosis are made
as well. The outcome is one row; exit code 1 when anything was not caught or did not end.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helpers.diagnosis.diagnose import diagnose  # noqa: E402
from helpers.recorded import DATA  # noqa: E402
from tests.hunting.records import append_rows  # noqa: E402
from tests.hunting.text_mutants import mutated_logs  # noqa: E402

COLUMNS = ("what", "count", "seconds", "uncaught", "hangs", "seed", "date_utc", "command", "python")


class Hang(Exception):
    """One log took longer than it may."""


def _alarm(_signal, _frame):
    raise Hang


def main() -> int:
    """Run, print what went wrong, record the row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds one log may take")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    chosen = parser.parse_args()
    signal.signal(signal.SIGALRM, _alarm)
    uncaught = hangs = 0
    kinds: dict[str, int] = {}
    slowest = 0.0
    started = time.perf_counter()
    for number, (name, text) in enumerate(mutated_logs(chosen.count, chosen.seed)):
        signal.setitimer(signal.ITIMER_REAL, chosen.limit)
        begun = time.perf_counter()
        try:
            found = diagnose(text)
            json.dumps(found.to_dict()), found.text(), found._repr_html_()
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
        except Hang:
            hangs += 1
            print(f"log {number} (from {name}, {len(text)} characters) took over {chosen.limit} s", file=sys.stderr)
        except Exception as exc:  # what is looked for
            uncaught += 1
            print(f"log {number} (from {name}): {type(exc).__name__}: {exc}", file=sys.stderr)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.perf_counter() - begun)
    seconds = time.perf_counter() - started
    print(f"{chosen.count} logs, {seconds:.0f} s, slowest {slowest:.2f} s, {uncaught} uncaught, {hangs} hangs; {kinds}")
    if not chosen.dry:
        append_rows(
            DATA / "fuzz.csv",
            COLUMNS,
            [
                {
                    "what": "mutated logs through diagnose (text, JSON, HTML)",
                    "count": chosen.count,
                    "seconds": round(seconds, 1),
                    "uncaught": uncaught,
                    "hangs": hangs,
                    "seed": chosen.seed,
                    "date_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "command": f"python benchmarks/fuzz_logs.py --count {chosen.count} --seed {chosen.seed}",
                    "python": platform.python_version(),
                }
            ],
        )
    return 1 if uncaught or hangs else 0


if __name__ == "__main__":
    sys.exit(main())

"""Time from a change of a control to its answer in every explorer, and write data/explorer_latency.csv.

    python benchmarks/explorer_latency.py [--repeats N]

Each change is first made once, so that compiles and pictures are in the cache: what is timed is a person who comes back
to a state, in a kernel that has not shown it yet (`cached`) and in one that has (`shown before`). Time ends when the
widgets have their new values; the browser's own part is not in it. No GPU is involved.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import helpers as rc
from helpers.files import write_text_atomically
from helpers.recorded import DATA
from helpers.workbook.explorer.frame import NOTHING, ExplorerFrame

LIMIT_MS = 200
CHANGES = (
    ("compile", rc.explorer, "tile", "64x64"),
    ("compile", rc.explorer, "window", None),
    ("landscape", rc.landscape_explorer, "window", None),
    ("landscape", rc.landscape_explorer, "figure", "operands"),
    ("tile", rc.tile_explorer, "head_dim", 512),
    ("tile", rc.tile_explorer, "arch", "sm_90a"),
    ("numerics", rc.numerics_explorer, "kv_dtype", "bf16"),
    ("throughput", rc.throughput_explorer, "case", "global"),
    ("root-cause", rc.root_cause_explorer, "triton", "3.8.0"),
    ("root-cause", rc.root_cause_explorer, "tile_skip", "bounds"),
    ("cliff-map", rc.cliff_map, "kv_dtype", "bf16"),
    ("cliff-map", rc.cliff_map, "arch", "sm_120a"),
)


def timed_ms(frame: ExplorerFrame, name: str, value: object) -> float:
    """Milliseconds from setting the control to the answer; raises RuntimeError where there is none."""
    begin = time.perf_counter()
    frame.controls[name].value = NOTHING if value is None else value
    if not frame.wait(300) or frame.view is None:
        raise RuntimeError(f"{frame.name}: no answer for {name} = {value}: {frame.problem!r}")
    return (time.perf_counter() - begin) * 1e3


def measure(
    make: Callable[[], ExplorerFrame], name: str, value: object, repeats: int
) -> tuple[list[float], list[float]]:
    """(times with everything cached but not shown yet, times of states shown before)."""
    timed_ms(make(), name, value)
    cached, again = [], []
    for _ in range(repeats):
        frame = make()
        start = frame.controls[name].value
        cached.append(timed_ms(frame, name, value))
        timed_ms(frame, name, start)
        again.append(timed_ms(frame, name, value))
    return cached, again


def main() -> int:
    """Write the rows; 1 when a median is over the limit."""
    import pandas as pd

    parser = argparse.ArgumentParser(description="time the explorers")
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    rows = []
    for explorer, make, name, value in CHANGES:
        for what, times in zip(("cached", "shown before"), measure(make, name, value, chosen.repeats), strict=True):
            rows.append(
                {"explorer": explorer, "change": f"{name} = {value}", "state": what, "repeats": len(times),
                 "median_ms": round(statistics.median(times), 1), "least_ms": round(min(times), 1),
                 "most_ms": round(max(times), 1), "load_1min": round(os.getloadavg()[0], 1)}
            )  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    where = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, no GPU"
    )
    head = (
        f"# {len(rows)} rows by `python benchmarks/explorer_latency.py` on {datetime.date.today()}, {where}; from the "
        "control set to the widgets updated, without the browser. load_1min: other work on the machine meanwhile.\n"
    )
    write_text_atomically(DATA / "explorer_latency.csv", head + pd.DataFrame(rows).to_csv(index=False))
    over = [r for r in rows if r["median_ms"] > LIMIT_MS]
    print(f"{len(rows)} rows, {len(over)} medians over {LIMIT_MS} ms")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())

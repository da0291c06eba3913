"""Compile the grids of the register cliff map and write data/cliff_map.csv, so that the default maps answer at once.

    python benchmarks/record_cliff_map.py [--jobs N]

Needs Triton 3.5.1; about ten minutes cold on two cores, seconds from the cache. Rows hold no paths and no host name.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import platform
import sys

import helpers as rc
from helpers.attention.studies.cliff_map import cliff_choices, recorded_maps
from helpers.compiler.compile import usable_cores
from helpers.compiler.report import CompileReport
from helpers.files import write_text_atomically
from helpers.recorded import DATA

FIELDS = ("ptxas_version", "status", "ptxas_code", "regs_per_thread", "spill_store_bytes", "spill_load_bytes",
          "smem_bytes", "tmem_columns", "tensor_core_path")  # fmt: skip


def row_of(choice: rc.Choice, report: CompileReport) -> dict:
    """One cell as a row: what was asked, and ptxas's answer."""
    asked = ("arch", "head_dim", "kv_dtype", "window", "tile", "num_warps", "triton")
    return {
        **{name: getattr(choice, name) for name in asked},
        **{name: getattr(report, name) for name in FIELDS},
        "message": report.message[:160],
        "wall_s": round(report.wall_s, 2),
    }


def main() -> int:
    """Write the rows; 1 when a toolchain was missing or a compile ran out of time, for then there would be a gap."""
    import pandas as pd

    parser = argparse.ArgumentParser(description="record the register cliff map")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="compiles at once")
    chosen = parser.parse_args()
    choices = [cell for base in recorded_maps() for cell in cliff_choices(base)]

    def show(done: int, total: int, report: CompileReport) -> None:
        print(f"{done}/{total} {report.label} {report.arch}: {report.verdict()}", file=sys.stderr, flush=True)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, chosen.jobs)) as executor:
        reports = rc.compile_matrix([c.request() for c in choices], executor=executor, progress=show)
    gaps = [r for r in reports if r.status in ("toolchain_missing", "timeout", "ptxas_signal")]
    if gaps:
        print(f"not recorded: {gaps[0].label}: {gaps[0].status}: {gaps[0].message}", file=sys.stderr)
        return 1
    table = pd.DataFrame([row_of(c, r) for c, r in zip(choices, reports, strict=True)])
    for name in ("window", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "smem_bytes", "tmem_columns"):
        table[name] = table[name].astype("Int64")
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_cliff_map.py` on {datetime.date.today()}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, no GPU; compile-time only.\n"
    )
    write_text_atomically(DATA / "cliff_map.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows: {table['status'].value_counts().to_dict()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compile one spec on every Triton x ptxas pair and write data/version_matrix.csv.

    python benchmarks/record_version_matrix.py [--install] [--workers N]

The spec is the incident. Seven Tritons, each with the ptxas it bundles and its own PTX under sixteen ptxas releases:
119 pairs. Where a ptxas is too old for that PTX, one row says so and a second one has the Triton write its PTX for that
ptxas: 151 rows, about ten minutes cold on two cores. Without --install, what is not on this machine becomes a row that
says so and the exit code is 1; with it, missing releases are fetched through pip (each ptxas is about 40 MB).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import platform
import sys

import helpers as rc
from helpers.compiler import toolchain as tc
from helpers.compiler.bisect import MATRIX_TRITONS, is_on_hand, pair_request, pair_row, readable_pairs, version_pairs
from helpers.compiler.compile import compile_request, usable_cores
from helpers.compiler.paths import write_text_atomically
from helpers.reporting.records import DATA

COUNTS = ("ptx_lines", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes")


def fetch_missing() -> None:
    """Install what the matrix needs and this machine lacks; what pip cannot fetch stays a row with its reason."""
    for axis, versions in (("triton", MATRIX_TRITONS), ("ptxas", tc.KNOWN_PTXAS)):
        for version in versions:
            if is_on_hand(axis, version):
                continue
            try:
                tc.install(f"{axis}=={version}", quiet=True)
            except tc.ToolchainMissing as exc:
                print(exc, file=sys.stderr)


def main() -> int:
    """Write the rows; 1 when a toolchain was missing."""
    import pandas as pd

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--install", action="store_true", help="fetch missing releases through pip")
    options.add_argument("--workers", type=int, default=usable_cores(), help="compiles at once")
    given = options.parse_args()
    if given.install:
        fetch_missing()
    request = rc.INCIDENT_CHOICE.request()
    pairs = version_pairs()
    requests = [pair_request(request.spec, request.arch, pair) for pair in pairs]
    # Bundled first, one by one in the list: each makes the PTX that the other pairs of its Triton then share.
    with concurrent.futures.ThreadPoolExecutor(given.workers) as pool:
        reports = list(pool.map(compile_request, requests))
        again = readable_pairs(pairs, reports)
        reports += pool.map(compile_request, [pair_request(request.spec, request.arch, pair) for pair in again])
    pairs += again
    table = pd.DataFrame([pair_row(pair, report) for pair, report in zip(pairs, reports, strict=True)])
    for name in COUNTS:
        table[name] = table[name].astype("Int64")
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_version_matrix.py` on {datetime.date.today()}: "
        f"{request.spec.label} for {request.arch}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, no GPU; compile-time only.\n"
        "# The identical PTX of a Triton goes to every ptxas (ptx_sha256, its first 12 digits), except in rows where "
        "ptx_written_for names a ptxas: there the Triton wrote it for that ptxas, which is too old for its own. "
        "`bundled` is the ptxas that this Triton would use for this arch itself.\n"
    )
    write_text_atomically(DATA / "version_matrix.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows: {table['status'].value_counts().to_dict()}")
    missing = table[table["status"] == "toolchain_missing"]
    for reason in sorted(set(missing["reason"])):
        print(reason, file=sys.stderr)
    return 1 if len(missing) else 0


if __name__ == "__main__":
    sys.exit(main())

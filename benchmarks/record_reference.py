"""Compile the incident release's own kernel, straight from its wheel, and write data/incident_reference.csv.

    python benchmarks/record_reference.py [--wheel sglang==0.5.10]

Six configurations, Triton 3.5.1 with its ptxas, sm_100a; about a minute cold on two cores. The wheel (6 MB) comes
through your pip's own set-up; of it only the files with device code stay, in the cache. Exit code 1 without the Triton.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import sys

import helpers as rc
from helpers.attention.sglang_kernel import INCIDENT_WHEEL
from helpers.compiler.bring.from_wheel import fetch_wheel
from helpers.files import write_text_atomically
from helpers.recorded import DATA

COLUMNS = ("head_dim", "tile", "kv_dtype", "model_window", "status", "regs_per_thread", "spill_store_bytes", "note")
NOTES = {3: "branch tile", 4: "the tile the report blames", 5: "branch tile"}


def main(argv: list[str] | None = None) -> int:
    """Write the rows; 1 when the toolchain was missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", default=INCIDENT_WHEEL, help=f"requirement or .whl file (default {INCIDENT_WHEEL})")
    options = parser.parse_args(argv)
    choices = rc.incident_rows()
    requests = [
        rc.CompileRequest(rc.sglang_extend_spec(options.wheel, c), c.arch, rc.Toolchain(c.triton)) for c in choices
    ]
    reports = rc.compile_matrix(requests)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing:
        print(f"not recorded: {missing[0].message}", file=sys.stderr)
        return 1
    about = json.loads((fetch_wheel(options.wheel) / "wheel.json").read_text())
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for number, (choice, report) in enumerate(zip(choices, reports, strict=True)):
        counts = [report.regs_per_thread, report.spill_store_bytes] if report.compiled else [None, None]
        note = report.ptxas_code or NOTES.get(number, "")
        rows.writerow([choice.head_dim, choice.tile, choice.kv_dtype, choice.window, report.status, *counts, note])
    head = (
        f"# sglang 0.5.10's own extend kernel ({about['file']}, sha256 {about['sha256'][:16]}, "
        "triton_ops/extend_attention.py:_fwd_kernel, its unimportable imports stubbed),\n"
        f"# compiled by `python benchmarks/record_reference.py` on {datetime.date.today()} on a machine without "
        "a GPU:\n"
        f"# Triton {reports[0].triton_version}, ptxas {reports[0].ptxas_version}, sm_100a, causal, bf16 queries, "
        "8 warps, num_stages 1.\n"
    )
    write_text_atomically(DATA / "incident_reference.csv", head + out.getvalue())
    print(f"{len(reports)} rows: {', '.join(r.status for r in reports)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

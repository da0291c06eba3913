"""Repack and open the packs of pairs of floats in PTX, assemble every edit, write data/pack_experiment.csv.

    python benchmarks/record_pack_experiment.py

The dead cells of the tile audit and two neighbours that live, by three Tritons, each under its own ptxas; the incident
under every ptxas on this machine that reads it, and how many packs it takes. About ten minutes on two cores. What is
not installed is left out and said on stderr.
"""

from __future__ import annotations

import datetime
import platform
import sys

from helpers.attention.studies.pack_experiment import RECORDED, TRITONS, cases, count_rows, edit_rows, subject
from helpers.compiler.toolchain import ToolchainMissing, installed_ptxas, version_key
from helpers.files import write_text_atomically
from helpers.recorded import DATA


def main() -> int:
    """Write the rows; 1 when a Triton was missing."""
    rows: list[dict] = []
    missing = 0
    for case in cases():
        for triton in TRITONS:
            try:
                this = subject(case, triton)
            except ToolchainMissing as exc:
                print(exc, file=sys.stderr)
                missing = 1
                continue
            everywhere = sorted(installed_ptxas(), key=version_key) if case == "incident" else [this.own_ptxas]
            for release in everywhere:
                rows += edit_rows(this, release)
            if case == "incident":
                rows += count_rows(this, this.own_ptxas)
            _write(rows)
            print(f"{case}, Triton {triton}: {len(rows)} rows so far", flush=True)
    return missing


def _write(rows: list[dict]) -> None:
    import pandas as pd

    table = pd.DataFrame(rows)
    for name in ("regs_per_thread", "spill_store_bytes"):
        table[name] = table[name].astype("Int64")
    head = (
        f"# {len(table)} assemblies by `python benchmarks/record_pack_experiment.py` on {datetime.date.today()}: cells "
        f"of the tile audit for sm_100a, {platform.system()} {platform.machine()}, no GPU; compile-time only, ptxas "
        "flags -lineinfo -v.\n"
        "# `packs`: pairs of 32-bit halves that an f32x2 instruction reads; `form`: open (four instructions) or whole "
        "(mov.b64) as Triton's LLVM wrote them; `changed`: how many were put in the other form.\n"
    )
    write_text_atomically(DATA / f"{RECORDED}.csv", head + table.to_csv(index=False))


if __name__ == "__main__":
    sys.exit(main())

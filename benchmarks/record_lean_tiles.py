"""Compile the lean kernel's table rows on every arch and write data/lean_tiles.csv: the evidence behind the table.

    python benchmarks/record_lean_tiles.py [--triton 3.5.1,3.6.0,3.9.0]

About four minutes cold on two cores. A row that a Triton cannot target is a row that says so.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from dataclasses import replace

import helpers as rc
from helpers.attention.lean import build_lean_spec, lean_row
from helpers.attention.shapes import LLAMA_LIKE
from helpers.files import write_text_atomically
from helpers.hardware import ARCHS
from helpers.recorded import DATA
from helpers.show.reports import ctas_per_sm

LAYERS = (rc.GEMMA4_31B_SLIDING, rc.GEMMA4_31B_GLOBAL, LLAMA_LIKE)


def main() -> int:
    """Write the rows and print how many are spill-free."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triton", default="3.5.1,3.6.0,3.9.0", help="Triton versions, comma-separated")
    versions = parser.parse_args().triton.split(",")
    cells = []
    for arch in ARCHS.values():
        # fp8_e4m3 is not a type of Triton's before capability 8.9.
        for kv_dtype in ("bf16", "fp8_e4m3" if arch.capability >= 89 else "fp8_e5m2"):
            for layer in LAYERS:
                shape = replace(layer, kv_dtype=kv_dtype)
                row = lean_row(arch.name, shape)
                spec = build_lean_spec(shape, row.tile)
                cells += [(arch, shape, row, rc.CompileRequest(spec, arch.name, rc.Toolchain(v))) for v in versions]
    reports = rc.compile_matrix([request for *_, request in cells])
    rows = []
    for (arch, shape, row, _request), report in zip(cells, reports, strict=True):
        rows.append(
            {"arch": arch.name, "head_dim": shape.head_dim, "kv_dtype": shape.kv_dtype,
             "model_window": shape.model_window,
             "tile": str(row.tile), "num_warps": row.tile.num_warps, "num_stages": row.tile.num_stages,
             "triton": report.triton_version, "ptxas": report.ptxas_version, "status": report.status,
             "regs_per_thread": report.regs_per_thread, "spill_store_bytes": report.spill_store_bytes,
             "smem_bytes": report.smem_bytes, "tmem_columns": report.tmem_columns, "ctas_per_sm": ctas_per_sm(report),
             "tensor_core_path": report.tensor_core_path, "message": report.message[:120], "chosen_by": row.chosen_by}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    whole = ["model_window", "regs_per_thread", "spill_store_bytes", "smem_bytes", "tmem_columns", "ctas_per_sm"]
    table[whole] = table[whole].astype("Int64")
    head = (
        f"# {len(table)} compiles of the lean kernel by `python benchmarks/record_lean_tiles.py` "
        f"on {datetime.date.today()}, "
        f"{platform.system()} {platform.machine()}, no GPU; compile-time only.\n"
    )
    write_text_atomically(DATA / "lean_tiles.csv", head + table.to_csv(index=False))
    print(table.groupby("arch")["status"].value_counts().unstack(fill_value=0).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())

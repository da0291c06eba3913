"""Compile the extend kernel for AMD's chips with the engine's tiles and write data/amd_extend.csv; no GPU is needed.

    python benchmarks/record_amd.py [--triton 3.5.1,3.6.0,3.7.1,3.8.0,3.9.0]

About ten minutes cold on two cores. Each row's figures are read from the assembly and compared with the note in the
binary (`note_agrees`). The last rows of gfx950 are sglang #34741: head dim 576 with values of 512, by both its tiles.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from dataclasses import replace
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.tiles import amd_tile
from helpers.compiler.compile import compile_matrix
from helpers.compiler.report import CompileReport
from helpers.files import write_text_atomically
from helpers.hardware import AMD_ARCHS
from helpers.inspection.binary.hsaco import hsaco_resources
from helpers.recorded import DATA
from helpers.show.reports import AMD_COLUMNS

TRITONS = "3.5.1,3.6.0,3.7.1,3.8.0,3.9.0"
# (head dim, values' head dim, KV dtype): fp8 only where the incident had it.
SHAPES = (
    (64, 64, "bf16"), (128, 128, "bf16"), (256, 256, "bf16"), (256, 256, "fp8_e4m3"), (512, 512, "bf16"),
    (576, 512, "bf16"),
)  # fmt: skip


def choices(tritons: list[str]) -> list[Choice]:
    """Every shape by the engine's tile of that chip and release, then the tile that it does not choose for 576."""
    found = []
    for arch in AMD_ARCHS:
        for head_dim, v_head_dim, kv_dtype in SHAPES:
            for triton in tritons:
                shape = Choice(arch=arch, head_dim=head_dim, v_head_dim=v_head_dim, kv_dtype=kv_dtype, window=None)
                chosen = str(amd_tile(arch, head_dim, triton=triton))
                tiles = [chosen, *({"64x64", "64x32"} - {chosen} if (arch, head_dim) == ("gfx950", 576) else ())]
                found += [replace(shape, tile=tile, triton=triton) for tile in tiles]
    return found


def note_agrees(report: CompileReport) -> bool | None:
    """Whether the binary's own note has the figures that were read from the assembly; None without a binary."""
    if report.hsaco_path is None or report.amd is None:
        return None
    noted = hsaco_resources(Path(report.hsaco_path).read_bytes())[report.kernel_name or ""]
    return noted == replace(report.amd, waves_per_simd=None, lds_bytes=noted.lds_bytes)


def main() -> int:
    """Write the rows; exit code 1 where a binary's note says otherwise than its assembly."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triton", default=TRITONS, help="Triton versions, comma-separated")
    asked = choices(parser.parse_args().triton.split(","))
    reports = compile_matrix([choice.request() for choice in asked])
    rows = []
    for choice, report in zip(asked, reports, strict=True):
        chosen = str(amd_tile(choice.arch, choice.head_dim, triton=choice.triton)) == choice.tile
        figures = {name: getattr(report.amd, name, None) for name in AMD_COLUMNS}
        rows.append(
            {"arch": choice.arch, "head_dim": choice.head_dim, "v_head_dim": choice.v_head_dim,
             "kv_dtype": choice.kv_dtype, "tile": choice.tile, "num_warps": report.num_warps, "engines_tile": chosen,
             "triton": report.triton_version, "status": report.status, **figures,
             "mfma": report.instructions.get("mfma"), "note_agrees": note_agrees(report),
             "message": report.message[:160].replace("\n", " "), "command": choice.command()}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table[[*AMD_COLUMNS, "mfma"]] = table[[*AMD_COLUMNS, "mfma"]].astype("Int64")
    head = (
        f"# {len(table)} compiles of the extend kernel for AMD's chips by `python benchmarks/record_amd.py` on "
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, no GPU; compile-time only.\n"
    )
    write_text_atomically(DATA / "amd_extend.csv", head + table.to_csv(index=False))
    print(table.groupby(["arch", "triton"])["status"].value_counts().unstack(fill_value=0).to_string())
    return int((table["note_agrees"] == False).any())  # noqa: E712


if __name__ == "__main__":
    sys.exit(main())

"""The extend kernel on AMD's chips, cell by cell: the engine's tile of each chip and Triton, and the row it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.tiles import amd_tile
from helpers.compiler.report import CompileReport
from helpers.errors import UserError
from helpers.hardware import AMD_ARCHS
from helpers.inspection.binary.hsaco import hsaco_resources
from helpers.show.reports import AMD_COLUMNS

AMD_TRITONS = ("3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0")
# (head dim, values' head dim, KV dtype): fp8 only where the incident had it.
AMD_SHAPES = (
    (64, 64, "bf16"), (128, 128, "bf16"), (256, 256, "bf16"), (256, 256, "fp8_e4m3"), (512, 512, "bf16"),
    (576, 512, "bf16"),
)  # fmt: skip
# sglang #34741 is about this chip and head dim: both tiles are compiled there, also the one that is not chosen.
TWO_TILES, BOTH = ("gfx950", 576), ("64x64", "64x32")


def amd_choices(
    archs: Sequence[str] = (),
    *,
    tritons: Sequence[str] = AMD_TRITONS,
    head_dims: Sequence[int] = (),
    kv_dtypes: Sequence[str] = (),
) -> list[Choice]:
    """Every shape under every Triton by the tile that the engine launches there; without a filter, all of that kind.

    Raises UserError where the filters leave nothing.
    """
    found = []
    for arch in archs or AMD_ARCHS:
        for head_dim, v_head_dim, kv_dtype in AMD_SHAPES:
            if (head_dims and head_dim not in head_dims) or (kv_dtypes and kv_dtype not in kv_dtypes):
                continue
            shape = Choice(arch=arch, head_dim=head_dim, v_head_dim=v_head_dim, kv_dtype=kv_dtype, window=None)
            for triton in tritons:
                chosen = str(amd_tile(arch, head_dim, triton=triton))
                others = [tile for tile in BOTH if tile != chosen] if (arch, head_dim) == TWO_TILES else []
                found += [replace(shape, tile=tile, triton=triton) for tile in (chosen, *others)]
    if not found:
        shapes = ", ".join(f"{head_dim} with {kv_dtype}" for head_dim, _, kv_dtype in AMD_SHAPES)
        raise UserError(f"these filters leave nothing to audit on AMD's chips; head dims there are {shapes}")
    return found


def amd_row(choice: Choice, report: CompileReport) -> dict:
    """The row of a cell and the report of its compile."""
    chosen = str(amd_tile(choice.arch, choice.head_dim, triton=choice.triton)) == choice.tile
    return {
        "arch": choice.arch,
        "head_dim": choice.head_dim,
        "v_head_dim": choice.v_head_dim,
        "kv_dtype": choice.kv_dtype,
        "tile": choice.tile,
        "num_warps": report.num_warps,
        "engines_tile": chosen,
        "triton": report.triton_version,
        "status": report.status,
        **{name: getattr(report.amd, name, None) for name in AMD_COLUMNS},
        "mfma": report.instructions.get("mfma"),
        "note_agrees": note_agrees(report),
        "message": " ".join(report.message.split())[:160],
        "command": choice.command(),
    }


def note_agrees(report: CompileReport) -> bool | None:
    """Whether the binary's own note has the figures that were read from the assembly; None without a binary."""
    if report.hsaco_path is None or report.amd is None:
        return None
    noted = hsaco_resources(Path(report.hsaco_path).read_bytes()).get(report.kernel_name or "")
    return noted is not None and noted == replace(report.amd, waves_per_simd=None, lds_bytes=noted.lds_bytes)

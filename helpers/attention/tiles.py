"""Tile tables by compute capability, as data, and the chooser that reads them, before and after the fix.

Source: sglang's extend attention at 0.5.10 and pull request #22079 (facts restated as rows; see data/README.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers.errors import UserError


@dataclass(frozen=True)
class TileConfig:
    """What a CTA works on: BLOCK_M queries by BLOCK_N keys, by `num_warps` warps, `num_stages` loads ahead."""

    block_m: int
    block_n: int
    num_warps: int = 8
    num_stages: int = 1

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("BLOCK_M", self.block_m, 16, 256),
            ("BLOCK_N", self.block_n, 16, 256),
            ("num_warps", self.num_warps, 1, 32),
        ):
            if not low <= value <= high or value & (value - 1):
                raise UserError(f"{what} {value} must be a power of two from {low} to {high}")
        if not 1 <= self.num_stages <= 8:
            raise UserError(f"num_stages {self.num_stages} must be from 1 to 8")

    def __str__(self) -> str:
        return f"{self.block_m}x{self.block_n}"


@dataclass(frozen=True)
class TileRow:
    """(BLOCK_M, BLOCK_N) for head dims up to 128, up to 256 and above, for capabilities the rule covers."""

    name: str
    rule: str
    up_to_128: tuple[int, int]
    up_to_256: tuple[int, int]
    above: tuple[int, int]

    def tile(self, head_dim: int) -> tuple[int, int]:
        """The (BLOCK_M, BLOCK_N) of a main head dimension."""
        if head_dim <= 128:
            return self.up_to_128
        return self.up_to_256 if head_dim <= 256 else self.above


BLACKWELL_CONSUMER = TileRow("blackwell_consumer", "capability 12.x", (64, 128), (64, 64), (32, 32))
SM100_BRANCH = TileRow("sm100_branch", "capability 10.x, after the fix", (64, 64), (64, 64), (16, 64))
HOPPER_CATCH_ALL = TileRow("hopper_catch_all", "capability >= 9, at the incident", (128, 64), (128, 64), (32, 64))
HOPPER_0_5_15 = TileRow("hopper_0_5_15", "capability >= 9, by release 0.5.15", (128, 64), (64, 64), (32, 64))
AMPERE_A100 = TileRow("ampere_a100", "capability 8.0", (128, 128), (64, 64), (32, 64))
AMPERE_ADA = TileRow("ampere_ada", "capability 8.6 and 8.9", (64, 128), (64, 64), (32, 32))
OLDER = TileRow("older", "before 8.0", (64, 64), (32, 32), (32, 32))
TILE_ROWS = {
    r.name: r
    for r in (BLACKWELL_CONSUMER, SM100_BRANCH, HOPPER_CATCH_ALL, HOPPER_0_5_15, AMPERE_A100, AMPERE_ADA, OLDER)
}
# Chooser versions: the order matters, the first row that covers a capability wins, as in the original code.
CHOOSERS = ("before_fix", "after_fix", "release_0_5_15")


def tile_row(capability: int, chooser: str = "after_fix") -> TileRow:
    """The row that covers `capability` (100 for 10.0); raises UserError for an unknown chooser or capability."""
    if chooser not in CHOOSERS:
        raise UserError(f"unknown chooser {chooser!r}: choose one of {', '.join(CHOOSERS)}")
    if not 70 <= capability < 130:
        raise UserError(f"no tile table for compute capability {capability / 10:.1f}: the tables cover 7.0 to 12.x")
    major = capability // 10
    if major == 12:
        return BLACKWELL_CONSUMER
    if major == 10 and chooser != "before_fix":
        return SM100_BRANCH
    if major >= 9:
        return HOPPER_0_5_15 if chooser == "release_0_5_15" else HOPPER_CATCH_ALL
    if capability == 80:
        return AMPERE_A100
    return AMPERE_ADA if major == 8 else OLDER


def choose_tile(capability: int, head_dim: int, *, chooser: str = "after_fix") -> TileConfig:
    """The tile the engine would launch with for this query head dim on this capability."""
    return _from_row(tile_row(capability, chooser), head_dim)


def _from_row(row: TileRow, head_dim: int) -> TileConfig:
    block_m, block_n = row.tile(head_dim)
    return TileConfig(block_m, block_n, num_warps=default_num_warps(head_dim), num_stages=1)


def default_num_warps(head_dim: int) -> int:
    """Warps per CTA in the engine's launcher."""
    return 4 if head_dim <= 64 else 8


def parse_tile(text: str, *, capability: int, head_dim: int) -> TileConfig:
    """The tile for `128x64`, or by table: `hopper`, `sm100`, `auto` (the engine's after the fix), or a row's name."""
    aliases = {"hopper": HOPPER_CATCH_ALL, "sm100": SM100_BRANCH, **TILE_ROWS}
    word = text.strip().lower()
    if word == "auto":
        return choose_tile(capability, head_dim)
    if word in aliases:
        return _from_row(aliases[word], head_dim)
    first, cross, second = word.partition("x")
    if not cross or not first.isdecimal() or not second.isdecimal() or len(word) > 12:
        raise UserError(
            f"cannot read tile {text[:40]!r}: give BLOCK_MxBLOCK_N such as 128x64, or one of auto, {', '.join(aliases)}"
        )
    return TileConfig(int(first), int(second), num_warps=default_num_warps(head_dim))


# The launch options that the engine adds for AMD's chips, whatever the shape.
AMD_LAUNCH = {"waves_per_eu": 1, "matrix_instr_nonkdim": 16, "kpack": 2}


def amd_tile(arch: str, head_dim: int, *, triton: str = "") -> TileConfig:
    """The tile the engine launches with on an AMD chip; on gfx950 it depends on the release of Triton as well.

    Source: sglang's extend attention, pull requests #27793 (gfx950, head dims from 129 to 256) and #34741 (gfx950,
    head dim 576, from Triton 3.7 on; an unknown release counts as one of these).
    """
    if arch == "gfx950" and 128 < head_dim <= 256:
        return TileConfig(128, 64, num_warps=8, num_stages=1)
    newer = not (found := re.match(r"(\d+)\.(\d+)", triton)) or (int(found[1]), int(found[2])) >= (3, 7)
    if arch == "gfx950" and head_dim == 576 and newer:
        return TileConfig(64, 32, num_warps=4, num_stages=1)
    return TileConfig(64, 64, num_warps=4, num_stages=1)


# Head dims that are a power of two plus a rotary part, which gets a dot of its own.
_SPLITS = {576: (512, 64), 288: (256, 32), 192: (128, 64)}


def head_dim_blocks(head_dim: int) -> tuple[int, int]:
    """(BLOCK_DMODEL, BLOCK_DPE): the main part and the rotary part; other sizes round up to a power of two."""
    if head_dim in _SPLITS:
        return _SPLITS[head_dim]
    block = 16
    while block < head_dim:
        block *= 2
    return block, 0

"""The sum that decides, done in the open: how many registers of a thread the accumulator takes, and twice of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.tiles import parse_tile
from helpers.hardware import WARP_SIZE, cap_for, get_arch

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RegisterSum:
    """The accumulator of one configuration, `rows` x `columns` 32-bit numbers, cut among the threads of its CTA."""

    rows: int
    columns: int
    warps: int

    @property
    def numbers(self) -> int:
        return self.rows * self.columns

    @property
    def threads(self) -> int:
        return self.warps * WARP_SIZE

    @property
    def registers(self) -> int:
        """Of each thread, for one accumulator: one 32-bit number takes one register."""
        return -(-self.numbers // self.threads)

    @property
    def twice(self) -> int:
        """Of each thread, while the old accumulator and the new product are both there."""
        return 2 * self.registers

    @property
    def cap(self) -> int:
        """The most registers that a thread of this CTA can have."""
        return cap_for(self.threads)

    @property
    def fits(self) -> bool:
        return self.twice <= self.cap


def register_sum(choice: Choice) -> RegisterSum:
    """The sum for a configuration of the kernel; raises UserError for one that cannot be."""
    tile = parse_tile(choice.tile, capability=get_arch(choice.arch).capability, head_dim=choice.head_dim)
    return RegisterSum(tile.block_m, choice.v_head_dim or choice.head_dim, choice.num_warps or tile.num_warps)


def sum_table(choice: Choice) -> pd.DataFrame:
    """The sum step by step: what is counted, the arithmetic, its result with the unit."""
    import pandas as pd

    s = register_sum(choice)
    sign = "<=" if s.fits else ">"
    return pd.DataFrame(
        [
            (
                "one accumulator",
                f"{s.rows} rows x {s.columns} columns",
                f"{s.numbers:,} numbers of 32 bits",
            ),
            ("the threads that share it", f"{s.warps} warps x {WARP_SIZE} threads", f"{s.threads} threads"),
            ("one accumulator in each thread", f"{s.numbers:,} / {s.threads}", f"{s.registers} registers"),
            ("old accumulator and new product", f"2 x {s.registers}", f"{s.twice} registers"),
            ("the most that a thread can have", f"{s.twice} {sign} {s.cap}", f"{s.cap} registers"),
        ],
        columns=["what is counted", "the sum", "result"],
    )

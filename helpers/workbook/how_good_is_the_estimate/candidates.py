"""Numbers that were tried to tell a PTX that dies from one that compiles (data/pressure_candidates.csv)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NOT_NUMBERS = ("case", "triton", "edit", "changed", "dies")


def candidate_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a number: on how many kernels it separates all texts that die from all that compile, and of how many.

    It separates a kernel's texts if every one that dies lies above every one that compiles, or below. Kernels of which
    no text dies, or none compiles, are not counted. Raises UserError for rows without any number.
    """
    import pandas as pd

    numbers = [name for name in rows.columns if name not in NOT_NUMBERS]
    if not numbers or rows.empty:
        raise UserError("these rows hold no number that was tried; read_rows('pressure_candidates')")
    kernels = [part for _, part in rows.groupby("case", sort=False) if part["dies"].nunique() == 2]
    table = []
    for name in numbers:
        ways = [_way(part.loc[part["dies"], name], part.loc[~part["dies"], name]) for part in kernels]
        table.append({"number read from the PTX": name, "kernels it separates": sum(way != "" for way in ways),
                      "kernels tried": len(kernels)})  # fmt: skip
    return pd.DataFrame(table)


def _way(dead: pd.Series, alive: pd.Series) -> str:
    """`above` or `below` where the texts that die lie on one side of those that compile; empty where they mix."""
    if dead.min() > alive.max():
        return "above"
    return "below" if dead.max() < alive.min() else ""

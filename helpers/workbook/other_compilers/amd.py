"""The recorded rows of AMD's chips (data/amd_extend.csv): what goes to scratch memory, by tile and by Triton."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = {"triton": "Triton", "tile": "tile", "engines_tile": "the engine's choice", "status": "verdict",
          "vgprs": "VGPRs", "scratch_bytes": "scratch, B"}  # fmt: skip


def amd_table(rows: pd.DataFrame, head_dim: int = 576, arch: str = "gfx950") -> pd.DataFrame:
    """The extend kernel on an AMD chip at a head dim: vector registers and scratch, by tile and release."""
    table = rows[(rows["arch"] == arch) & (rows["head_dim"] == head_dim)][list(_SHOWN)].rename(columns=_SHOWN)
    table[["VGPRs", "scratch, B"]] = table[["VGPRs", "scratch, B"]].astype("Int64")
    return table.sort_values(["tile", "Triton"]).reset_index(drop=True)


def scratch_of(table: pd.DataFrame, triton: str, tile: str) -> int:
    """Bytes of scratch of one row of an `amd_table`; raises UserError where it has no such row."""
    found = table[(table["Triton"] == triton) & (table["tile"] == tile)]
    if len(found) != 1:
        raise UserError(f"{len(found)} rows of Triton {triton} with the tile {tile}; one was expected")
    return int(found["scratch, B"].iloc[0])


def releases_that_spill(table: pd.DataFrame, tile: str) -> str:
    """The releases of Triton with which a tile needs scratch memory, in words: `3.5.1 and 3.6.0`."""
    *first, last = [*table.loc[(table["tile"] == tile) & (table["scratch, B"] > 0), "Triton"]] or ["none"]
    return f"{', '.join(first)} and {last}" if first else last

"""Which Triton under which ptxas: the version matrix as a table, findings and a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED, NO_VERDICT
from helpers.compiler.toolchain import BUNDLED, version_key
from helpers.show.verdicts import Cell, Grid, cell_of, grid_figure, grid_of
from helpers.workbook.explorer.recorded_choices import OWN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def version_grid(rows: pd.DataFrame) -> Grid:
    """Triton (rows) by ptxas (columns, the bundled one first): bytes of spill stores, or how it failed.

    Where a ptxas cannot read a Triton's own PTX, the cell is of PTX that this Triton wrote for that ptxas, marked `*`.
    """
    tritons = sorted(set(rows["triton"]), key=version_key)
    releases = sorted(set(rows["ptxas_asked"]), key=lambda v: (v != BUNDLED, version_key(v)))
    own, again = {}, {}
    for row in rows.to_dict("records"):
        (own if row["ptx_written_for"] == OWN else again)[row["triton"], row["ptxas_asked"]] = row

    def at(triton: str, release: str) -> Cell:
        row = own.get((triton, release))
        if (row is None or row["status"] in NO_VERDICT) and (triton, release) in again:
            return cell_of(again[triton, release], mark=" *")
        return cell_of(row)

    return grid_of(tritons, releases, at, row_title="Triton that wrote the PTX",
                   column_title="ptxas that assembled it   (cell: bytes of spill stores; * PTX written anew for an "
                   "older ptxas)")  # fmt: skip


def version_findings(rows: pd.DataFrame) -> dict:
    """What the matrix says: which Tritons die, which is the first fixed one, and whether any ptxas tells them apart.

    `by_ptxas_alone` lists Tritons whose identical PTX dies under one ptxas and compiles under another: empty means
    that code generation, not ptxas, decides.
    """
    judged = rows[~rows["status"].isin(NO_VERDICT)]
    own = judged[judged["ptx_written_for"] == OWN]
    bundled = own[own["ptxas_asked"] == BUNDLED]
    order = sorted(bundled["triton"], key=version_key)
    died = dict(zip(bundled["triton"], ~bundled["status"].isin(COMPILED), strict=True))
    dying = [t for t in order if died[t]]
    fixed = next((t for t in order if dying and not died[t] and version_key(t) > version_key(dying[-1])), None)
    split = []
    for triton in order:
        verdicts = set(own[own["triton"] == triton]["status"].isin(COMPILED))
        if len(verdicts) > 1:
            split.append(triton)
    separate = own[own["ptxas_asked"] != BUNDLED]
    rewritten = judged[judged["ptx_written_for"] != OWN]
    return {
        "dying": dying,
        "first_dying": dying[0] if dying else None,
        "first_fixed": fixed,
        "last_dying": dying[-1] if dying else None,
        "by_ptxas_alone": split,
        "decided_by": "Triton" if dying and fixed and not split else "ptxas" if split else "undecided",
        "ptxas_per_triton": {t: int((separate["triton"] == t).sum()) for t in order},
        "rewritten_pairs": len(rewritten),
        "rewritten_dying": sorted(set(rewritten[~rewritten["status"].isin(COMPILED)]["triton"]), key=version_key),
    }


def plot_version_matrix(
    rows: pd.DataFrame, title: str, subtitle: str, *, chosen: tuple[str, str] | None = None
) -> Figure:
    """The matrix as a picture, Tritons down, ptxas releases across; the pair `chosen` (Triton, ptxas) is framed."""
    grid = version_grid(rows)
    if chosen:
        grid = grid.framed(*chosen)
    return grid_figure(grid, title, subtitle, cell_inches=(0.42, 0.44), font=8.5, slanted=True)

"""Which Triton under which ptxas: the version matrix as a table, findings and a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED
from helpers.compiler.toolchain import BUNDLED, version_key
from helpers.search.bisect import NO_VERDICT
from helpers.show.style import FAILED_MARK, bare_cells, claim, status_colour, use_house_style
from helpers.show.verdicts import matrix_words
from helpers.workbook.root_cause.ladder import _NOT_ASKED
from helpers.workbook.root_cause.pressure import _SHADES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
if TYPE_CHECKING:
    import pandas as pd


def version_grid(rows: pd.DataFrame, *, written_for_ptxas: bool = False) -> pd.DataFrame:
    """Triton (rows) by ptxas (columns, the bundled one first): `C7600`, spill-store bytes, or why there is no verdict.

    With `written_for_ptxas`, cells whose ptxas cannot read the Triton's own PTX show the PTX written for that ptxas.
    """
    chosen = rows[rows["ptx_written_for"] == "its own"].copy()
    chosen["cell"] = [matrix_words(row) for row in chosen.to_dict("records")]
    grid = chosen.pivot(index="triton", columns="ptxas_asked", values="cell")
    if written_for_ptxas:
        for row in rows[rows["ptx_written_for"] != "its own"].to_dict("records"):
            grid.loc[row["triton"], row["ptxas_asked"]] = matrix_words(row)
    columns = sorted(grid.columns, key=lambda c: (c != BUNDLED, version_key(c)))
    return grid.loc[sorted(grid.index, key=version_key), columns]


def version_findings(rows: pd.DataFrame) -> dict:
    """What the matrix says: which Tritons die, which is the first fixed one, and whether any ptxas tells them apart.

    `by_ptxas_alone` lists Tritons whose identical PTX dies under one ptxas and compiles under another: empty means
    that code generation, not ptxas, decides.
    """
    judged = rows[~rows["status"].isin(NO_VERDICT)]
    own = judged[judged["ptx_written_for"] == "its own"]
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
    rewritten = judged[judged["ptx_written_for"] != "its own"]
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


def plot_version_matrix(rows: pd.DataFrame, title: str, subtitle: str = "") -> Figure:
    """A heat map, ptxas releases down, Tritons across: fatal, bytes spilled, or why the pair could not be asked.

    Where a ptxas cannot read a Triton's own PTX, the cell is of PTX that this Triton wrote for that ptxas, marked `*`.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    use_house_style()
    tritons = sorted(set(rows["triton"]), key=version_key)
    releases = sorted(set(rows["ptxas_asked"]), key=lambda v: (v != BUNDLED, version_key(v)))
    own = {(r["triton"], r["ptxas_asked"]): r for r in rows.to_dict("records") if r["ptx_written_for"] == "its own"}
    again = {(r["triton"], r["ptxas_asked"]): r for r in rows.to_dict("records") if r["ptx_written_for"] != "its own"}
    fig, ax = plt.subplots(figsize=(8.5, 1.5 + 0.27 * len(releases)))
    cmap, norm = plt.get_cmap(_SHADES), LogNorm(200, 9000)
    for y, release in enumerate(releases):
        for x, triton in enumerate(tritons):
            row, mark = own.get((triton, release)), ""
            if (row is None or row["status"] in NO_VERDICT) and (triton, release) in again:
                row, mark = again[triton, release], " *"
            face, colour, text, hatch = _cell_look(row, cmap, norm)
            ax.add_patch(
                plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5, hatch=hatch)
            )
            ax.text(x, y, text + mark, ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(tritons)), tritons)
    ax.set_yticks(range(len(releases)), ["the one it bundles" if r == BUNDLED else r for r in releases], fontsize=8.5)
    ax.xaxis.tick_bottom()
    bare_cells(ax, len(tritons), len(releases))
    ax.set_xlabel("Triton that wrote the PTX")
    ax.set_ylabel("ptxas that assembled it")
    key = f"{FAILED_MARK} fatal; shaded: bytes of spill stores; * PTX written anew for an older ptxas"
    claim(ax, title, f"{subtitle}\n{key}" if subtitle else key)
    plt.close(fig)
    return fig


def _cell_look(row: Mapping | None, cmap, norm) -> tuple[object, str, str, str | None]:
    """(face, text colour, text, hatch) of a cell."""
    if row is None or row["status"] in NO_VERDICT:
        return _NOT_ASKED, "#555555", "not asked" if row is None else "cannot read", "..."
    if row["status"] in COMPILED:
        spilled = int(row["spill_store_bytes"])
        return cmap(norm(max(200, min(spilled, 3000)))), "black", f"{spilled:,} B", None
    return status_colour(row["status"]), "white", f"{FAILED_MARK} {row['ptxas_code'] or row['status']}", None

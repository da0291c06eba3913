"""The ladder of ablations as tables and as a picture: what each change does, and which ingredients are necessary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.search.ablate import NO_SPILLS, Ablation, Rung, SmallestSets
from helpers.show.style import LIMIT_COLOUR, SOFT_INK, claim, status_colour, use_house_style
from helpers.show.verdicts import words_in_cell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def ladder_findings(ablation: Ablation) -> dict[str, object]:
    """How many `changes` were tried, how many `cured` it and how many left it `free` of spills; which did nothing."""
    cured = [r for r in ablation.rungs if r.report.compiled]
    return {
        "changes": len(ablation.rungs),
        "cured": len(cured),
        "free": sum(r.report.spill_store_bytes == 0 for r in cured),
        "same failure": [r.description for r in ablation.rungs if r.effect == "same failure"],
    }


def rung_of(ablation: Ablation, description: str) -> Rung:
    """The rung whose change reads so; raises UserError naming those there are."""
    for rung in ablation.rungs:
        if rung.description == description:
            return rung
    there = ", ".join(r.description for r in ablation.rungs)
    raise UserError(f"no change reads {description!r}; there are {there}")


def best_with_tile_kept(ablation: Ablation) -> SmallestSets:
    """The smallest sets of changes that end the spills, with tile, launch and problem as they are."""
    return ablation.smallest(NO_SPILLS, ablation.searches[-1].held)


def search_table(ablation: Ablation, *, tile_kept: bool = False) -> pd.DataFrame:
    """One row a smallest set of changes, by goal and by what was held still; a search without a find is a row too.

    With `tile_kept`, only the searches that held tile, launch and problem still, without that column.
    """
    import pandas as pd

    rows = []
    for search in ablation.searches:
        base = {"goal": search.goal, "held": ", ".join(search.held) or "nothing", "complete": search.complete}
        rows += [
            {**base, "changes": r.description, "size": len(r.changes), "verdict": r.report.verdict()}
            for r in search.sets
        ] or [{**base, "changes": "none found", "size": None, "verdict": search.stopped}]
    table = pd.DataFrame(rows, columns=["goal", "held", "size", "changes", "verdict", "complete"])
    return table[table["held"] != "nothing"].drop(columns="held").reset_index(drop=True) if tile_kept else table


# The incident's ingredients, and the changes that take each away: the window brings the branch, the scale keeps the
# accumulator apart, an upcast cache is no fp8 operand.
TAKEN_AWAY_BY = {
    "fp8 operands": ("kv_dtype", "kv_operands"),
    "128 rows at head dim 256": ("block_m",),
    "tile-skip branch": ("tile_skip", "window"),
    "accumulator apart from the dot": ("accumulate", "v_scale"),
    "q cast inside the tile": ("q_cast",),
    "launch and inner tile": ("block_n", "num_warps", "num_stages", "maxnreg"),
}


def ingredient_table(ablation: Ablation) -> pd.DataFrame:
    """One row an ingredient of the extend kernel: the changes that take it away, how each ended, whether all cure.

    `necessary`: every change tried for it reaches what `ablation.necessary` asks (it compiles, or ends the spills).
    Changes that belong to no ingredient here are left out.
    """
    import pandas as pd

    rows = []
    for ingredient, names in TAKEN_AWAY_BY.items():
        rungs = [r for r in ablation.rungs if r.names[0] in names]
        if not rungs:
            continue
        cured = [r for r in rungs if r.names[0] in ablation.necessary and r.effect not in ("same failure", "no effect")]
        rows.append(
            {
                "ingredient": ingredient,
                "taken away by": "; ".join(r.description for r in rungs),
                "verdicts": "; ".join(r.report.verdict() for r in rungs),
                "necessary": len(cured) == len(rungs),
            }
        )
    return pd.DataFrame(rows)


def plot_ladder(ablation: Ablation, title: str, subtitle: str = "") -> Figure:
    """One bar a change: bytes of spill stores it leaves; the baseline on top.

    Where no binary comes out there is no bar, and a cross stands beside the axis.
    """
    import matplotlib.pyplot as plt

    use_house_style()
    rungs = [Rung((), ablation.baseline, "baseline"), *ablation.rungs]
    fig, ax = plt.subplots(figsize=(8.5, 1.3 + 0.34 * len(rungs)))
    most = max([r.report.spill_store_bytes or 0 for r in rungs if r.report.compiled] or [1])
    for y, rung in enumerate(rungs):
        _ladder_bar(ax, y, rung)
    labels = ["nothing: the spec as it is", *(r.description for r in ablation.rungs)]
    ax.set_yticks(range(len(rungs)), labels, fontsize=9)
    for label, rung in zip(ax.get_yticklabels(), rungs, strict=True):
        needed = rung.changes and rung.names[0] in ablation.necessary and rung.report.compiled
        label.set_fontweight("bold" if needed else "normal")
    ax.set_ylim(len(rungs) - 0.4, -1.1)
    ax.set_xscale("symlog", linthresh=_LINEAR_TO)
    ticks = [t for t in (0, 100, 1_000, 10_000, 100_000) if t <= 10 * max(most, 10)]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set_xlim(0, 120 * max(most, 20))
    ax.minorticks_off()
    ax.axvline(_LINEAR_TO, color=LIMIT_COLOUR, linewidth=0.9, linestyle=":")
    for words, side, off in (("linear", "right", -4), ("logarithmic", "left", 4)):
        ax.annotate(words, (_LINEAR_TO, -0.75), (off, 0), textcoords="offset points", ha=side, va="center", fontsize=8,
                    color=SOFT_INK)  # fmt: skip
    ax.set_xlabel(f"bytes of spill stores per thread (linear up to {_LINEAR_TO}, then logarithmic)")
    base = ablation.baseline
    words = subtitle or f"{ablation.label}, {base.arch}, Triton {base.triton_version}, ptxas {base.ptxas_version}"
    claim(ax, title, f"{words}\nbold: {ablation.criterion}; every row is one change, compile-time")
    plt.close(fig)
    return fig


_LINEAR_TO = 100


def _ladder_bar(ax: Axes, y: int, rung: Rung) -> None:
    report = rung.report
    colour = status_colour(report.status)
    if not report.compiled:
        # Beside the axis, where no number of bytes can be read off it.
        ax.text(1.01, y, words_in_cell(report), transform=ax.get_yaxis_transform(), va="center", fontsize=9,
                fontweight="bold", color=colour)  # fmt: skip
        return
    spilled = report.spill_store_bytes or 0
    ax.barh(y, spilled, 0.6, color=colour, hatch="///", edgecolor="white")
    words = f"  {words_in_cell(report, registers=True)}"
    if rung.slower_path:
        words += f", only {report.tensor_core_path}"
    if not rung.launchable:
        words += ", too many to launch"
    ax.text(spilled, y, words, va="center", fontsize=8.5)

"""Figures: registers against the cap, the landscape of a PTX, grids of verdicts, before and after the fix.

Every function takes evidence or tables, draws, and returns the Figure. A configuration that failed is a mark on its
own row, never a missing row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from helpers.compiler.report import CompileReport, Evidence
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import PressureProfile
from helpers.show.display import evidence_label
from helpers.show.style import (
    LIMIT_COLOUR,
    claim,
    status_colour,
    use_house_style,
)
from helpers.show.verdicts import words_in_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _source_words(evidence: Sequence[Evidence]) -> str:
    live = sum(e.live for e in evidence)
    if live == len(evidence):
        return "compile-time, live"
    return "compile-time, recorded" if not live else f"compile-time, {live} live and {len(evidence) - live} recorded"


def compile_time_words(subtitle: str) -> str:
    """The subtitle of a figure of things compiled and not run, which says so."""
    return subtitle if evidence_label(subtitle) else f"{subtitle}, compile-time"


def conditions(evidence: Sequence[Evidence]) -> str:
    reports = [e.report for e in evidence]
    parts = []
    for what, values in (
        ("", {r.arch for r in reports}),
        ("Triton ", {r.triton_version for r in reports}),
        ("ptxas ", {r.ptxas_version for r in reports if r.ptxas_version}),
    ):
        if values:
            parts.append(what + "/".join(sorted(str(v) for v in values)))
    return ", ".join([*parts, _source_words(evidence)])


def status_bar(ax: Axes, y: float, report: CompileReport, height: float = 0.62) -> None:
    """One report as a bar up to its register count, hatched when it spills; a failure as a cross beyond the cap.

    A launch of many warps whose cap is below 255 has a line of its own there.
    """
    cap = report.cap or CAP
    colour = status_colour(report.status)
    if report.compiled:
        spills = report.spill_store_bytes or 0
        ax.barh(
            y, report.regs_per_thread or 0, height, color=colour, hatch="///" if spills else None, edgecolor="white"
        )
        ax.text(CAP + 6, y, words_in_sentence(report), va="center", fontsize=9)
    else:
        ax.barh(y, cap, height, facecolor="none", edgecolor=colour, linestyle=":")
        # Beside the words, where no register count can be read off it.
        ax.plot(CAP + 12, y, marker="x", markersize=8, markeredgewidth=3, color=colour)
        ax.text(CAP + 20, y, words_in_sentence(report), va="center", fontsize=9, fontweight="bold", color=colour)
    if cap < CAP:
        ax.plot([cap, cap], [y - height / 2, y + height / 2], color=LIMIT_COLOUR, linewidth=1.6)
        ax.text(cap + 3, y, f"cap {cap}", va="center", fontsize=8, color=LIMIT_COLOUR)


def cap_line(ax: Axes) -> None:
    """The most any launch can have as a line over all bars; `status_bar` marks the launches that have less."""
    ax.axvline(CAP, color=LIMIT_COLOUR, linewidth=1.2)
    ax.set_xlim(0, 420)
    ax.set_xticks([0, 64, 128, 192, CAP], ["0", "64", "128", "192", f"{CAP}\nthe cap"])
    # Words and crosses stand beyond the end of the axis.
    ax.spines["bottom"].set_bounds(0, CAP)
    ax.set_xlabel("registers per thread (ptxas -v)")


def plot_registers(evidence: Sequence[Evidence], title: str, labels: Sequence[str] | None = None) -> Figure:
    """Horizontal bars, one a compile: registers per thread against the cap, spills named, failures marked."""
    import matplotlib.pyplot as plt

    use_house_style()
    names = labels or [e.report.label for e in evidence]
    fig, ax = plt.subplots(figsize=(8.5, 1.3 + 0.42 * len(names)))
    for y, item in enumerate(evidence):
        status_bar(ax, y, item.report)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.4, -0.8)
    cap_line(ax)
    claim(ax, title, conditions(evidence))
    plt.close(fig)
    return fig


_MOST_STEPS = 400


def _thinned(points: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """The highest and the lowest of each stretch of points, in their order: more cannot be told apart in a figure."""
    step = -(-len(points) // _MOST_STEPS)
    if step <= 2:
        return points
    found: list[tuple[int, int]] = []
    for at in range(0, len(points), step):
        part = points[at : at + step]
        ends = {max(part, key=lambda point: point[1]), min(part, key=lambda point: point[1])}
        found += sorted(ends)
    return found


def pressure_plot(ax: Axes, profile: PressureProfile, *, marks: Mapping[str, int] | None = None) -> None:
    """Draw demand along the PTX of one kernel with the cap as a line; `marks` are labels and PTX lines to point at."""
    from helpers.show.style import LIMIT_COLOUR, status_colour

    cap = profile.cap
    drawn = _thinned(profile.points)
    where, demand = [p[0] for p in drawn], [p[1] for p in drawn]
    ax.fill_between(where, demand, step="mid", color=status_colour("ok"), alpha=0.35, linewidth=0)
    over = [d if d > cap else float("nan") for d in demand]
    ax.plot(where, demand, color=status_colour("ok"), linewidth=0.9, label="demand")
    if profile.demand > cap:
        ax.plot(where, over, color=status_colour("register_exhausted"), linewidth=1.4, label="above the cap")
    ax.axhline(cap, color=LIMIT_COLOUR, linewidth=1.2, linestyle="--", label=f"cap: {cap} registers")
    heights = dict(profile.points)
    for label, line_no in (marks or {}).items():
        height = heights.get(line_no, 0)
        ax.annotate(
            label, (line_no, height), xytext=(0, 10), textcoords="offset points", fontsize=8, ha="center",
            arrowprops={"arrowstyle": "-", "color": LIMIT_COLOUR, "linewidth": 0.8},
        )  # fmt: skip
    ax.set_xlabel("line of the PTX")
    ax.set_ylabel("registers needed at once")
    ax.set_ylim(0, max(cap, profile.demand) * 1.12)
    ax.legend(loc="upper right", fontsize=8)

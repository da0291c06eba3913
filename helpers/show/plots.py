"""Figures: registers against the cap, the landscape of a PTX, grids of verdicts, before and after the fix.

Every function takes evidence or tables, draws, and returns the Figure. A configuration that failed is a mark on its
own row, never a missing row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from helpers.compiler.report import CompileReport, Evidence
from helpers.hardware import MAX_REGS_PER_THREAD
from helpers.inspection.ptx.pressure import CAP, PressureProfile
from helpers.inspection.ptx.scan import wide_operands
from helpers.show.display import evidence_label
from helpers.show.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    LIMIT_COLOUR,
    bare_cells,
    claim,
    status_colour,
    use_house_style,
)
from helpers.show.verdicts import _failure_words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_before_after",
    "plot_cost",
    "plot_ptx_landscape",
    "plot_registers",
    "plot_spill_grid",
    "use_house_style",
]


def _source_words(evidence: Sequence[Evidence]) -> str:
    live = sum(e.live for e in evidence)
    if live == len(evidence):
        return "compile-time, live"
    return "compile-time, recorded" if not live else f"compile-time, {live} live and {len(evidence) - live} recorded"


def _compile_time(subtitle: str) -> str:
    """The subtitle of a figure of things compiled and not run, which says so."""
    return subtitle if evidence_label(subtitle) else f"{subtitle}, compile-time"


def _conditions(evidence: Sequence[Evidence]) -> str:
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


def _bar(ax: Axes, y: float, report: CompileReport, height: float = 0.62) -> None:
    """One report as a bar up to its register count, hatched when it spills; a failure as a cross at the cap."""
    colour = status_colour(report.status)
    if report.compiled:
        spills = report.spill_store_bytes or 0
        ax.barh(y, report.regs_per_thread, height, color=colour, hatch="///" if spills else None, edgecolor="white")
        text = f"{report.regs_per_thread}" + (f", {spills} B spilled" if spills else ", no spills")
        ax.text(MAX_REGS_PER_THREAD + 6, y, text, va="center", fontsize=9)
    else:
        ax.barh(y, MAX_REGS_PER_THREAD, height, facecolor="none", edgecolor=colour, linestyle=":")
        ax.plot(MAX_REGS_PER_THREAD / 2, y, marker="x", markersize=10, markeredgewidth=3, color=colour)
        text = f"fatal {report.ptxas_code}" if report.crashed else report.status.replace("_", " ")
        ax.text(MAX_REGS_PER_THREAD + 6, y, text, va="center", fontsize=9, fontweight="bold", color=colour)


def _cap_line(ax: Axes) -> None:
    ax.axvline(MAX_REGS_PER_THREAD, color=LIMIT_COLOUR, linewidth=1.2)
    ax.set_xlim(0, 345)
    ax.set_xticks([0, 64, 128, 192, MAX_REGS_PER_THREAD], ["0", "64", "128", "192", "255\nthe cap"])
    ax.set_xlabel("registers per thread (ptxas -v)")


def plot_registers(evidence: Sequence[Evidence], title: str, labels: Sequence[str] | None = None) -> Figure:
    """Horizontal bars, one a compile: registers per thread against the cap of 255, spills named, failures marked."""
    import matplotlib.pyplot as plt

    use_house_style()
    names = labels or [e.report.label for e in evidence]
    fig, ax = plt.subplots(figsize=(8.5, 1.3 + 0.42 * len(names)))
    for y, item in enumerate(evidence):
        _bar(ax, y, item.report)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.4, -0.8)
    _cap_line(ax)
    claim(ax, title, _conditions(evidence))
    plt.close(fig)
    return fig


def plot_ptx_landscape(ptx: str, title: str, subtitle: str = "") -> Figure:
    """Where, along the lines of a PTX, its wide operands sit, one row an opcode, marked by registers in the operand."""
    import matplotlib.pyplot as plt

    use_house_style()
    found = wide_operands(ptx, min_registers=16)
    rows = sorted({_opcode_family(w.opcode, w.registers) for w in found})
    fig, ax = plt.subplots(figsize=(8.5, 1.6 + 0.45 * max(1, len(rows))))
    for w in found:
        y = rows.index(_opcode_family(w.opcode, w.registers))
        ax.plot(
            w.line_no,
            y,
            marker="|",
            markersize=22,
            markeredgewidth=2.5,
            color=AFTER_COLOUR if "ld" in w.opcode else BEFORE_COLOUR,
        )
    for y, row in enumerate(rows):
        count = sum(_opcode_family(w.opcode, w.registers) == row for w in found)
        ax.text(ptx.count("\n") * 1.015, y, f"{count}×", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, ptx.count("\n"))
    ax.set_xlabel("line of the PTX")
    claim(ax, title, _compile_time(subtitle or f"{ptx.count(chr(10)):,} lines of PTX"))
    plt.close(fig)
    return fig


def _opcode_family(opcode: str, registers: int) -> str:
    head = ".".join(opcode.split(".")[:2])
    return f"{head}, {registers} registers"


def plot_spill_grid(evidence: Sequence[Evidence], rows: Sequence[str], columns: Sequence[str], title: str) -> Figure:
    """A grid of verdicts: spill-store bytes per cell, 0 for none, a cross where no binary came out.

    `evidence` runs over rows, then columns, as `product` makes it.
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    use_house_style()
    if len(evidence) != len(rows) * len(columns):
        raise ValueError(f"{len(evidence)} reports do not fill {len(rows)} x {len(columns)} cells")
    fig, ax = plt.subplots(figsize=(2.6 + 1.25 * len(columns), 1.4 + 0.42 * len(rows)))
    cmap, norm = plt.get_cmap("YlOrBr"), LogNorm(8, 6000)
    for i, item in enumerate(evidence):
        y, x = divmod(i, len(columns))
        report = item.report
        spilled = report.spill_store_bytes or 0
        face = cmap(norm(max(8, spilled))) if report.compiled and spilled else "#F2F6FA"
        colour = "black" if spilled < 900 else "white"
        text = f"{report.regs_per_thread} regs\n{spilled} B" if report.compiled else _failure_words(report)
        if not report.compiled:
            face, colour = status_colour(report.status), "white"
        ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=2))
        ax.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    bare_cells(ax, len(columns), len(rows))
    ax.set_xlabel("tile, BLOCK_M x BLOCK_N   (cell: registers per thread, bytes of spill stores)")
    claim(ax, title, _conditions(evidence))
    plt.close(fig)
    return fig


def plot_before_after(
    before: Sequence[Evidence], after: Sequence[Evidence], names: Sequence[str], title: str
) -> Figure:
    """Pairs of bars, before over after the fix, one pair a layer and KV dtype."""
    import matplotlib.pyplot as plt

    use_house_style()
    fig, ax = plt.subplots(figsize=(8.5, 1.4 + 0.82 * len(names)))
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        _bar(ax, 2.3 * i, old.report, height=0.85)
        _bar(ax, 2.3 * i + 1, new.report, height=0.85)
        for y, word, colour in ((2.3 * i, "before", BEFORE_COLOUR), (2.3 * i + 1, "after", AFTER_COLOUR)):
            ax.text(-3, y, word, ha="right", va="center", fontsize=8, color=colour)
    ax.set_yticks([2.3 * i + 0.5 for i in range(len(names))], names, fontsize=9)
    ax.tick_params(axis="y", pad=42, length=0)
    ax.set_ylim(2.3 * len(names) - 0.6, -1.0)
    _cap_line(ax)
    claim(ax, title, _conditions([*before, *after]))
    plt.close(fig)
    return fig


def plot_cost(table: pd.DataFrame, title: str, subtitle: str) -> Figure:
    """How often a prefill reads each key and value, before and after, a pair of bars a layer; takes a `cost_table`."""
    import matplotlib.pyplot as plt

    use_house_style()
    layers = list(dict.fromkeys(table["layer"]))
    fig, ax = plt.subplots(figsize=(8.5, 1.4 + 0.7 * len(layers)))
    for i, layer in enumerate(layers):
        for offset, (when, colour) in enumerate((("before", BEFORE_COLOUR), ("after", AFTER_COLOUR))):
            row = table[(table["layer"] == layer) & (table["when"] == when)].iloc[0]
            y = 2.3 * i + offset
            ax.barh(y, row["kv_reads"], 0.85, color=colour, hatch=None if when == "after" else "///", edgecolor="white")
            ax.text(
                row["kv_reads"],
                y,
                f"  {row['kv_reads']}×  ({when}: {row['tile']}, {row['tensor_core_path']})",
                va="center",
                fontsize=9,
            )
    ax.set_yticks([2.3 * i + 0.5 for i in range(len(layers))], layers, fontsize=9)
    ax.set_ylim(2.3 * len(layers) - 0.6, -0.9)
    ax.set_xlim(0, table["kv_reads"].max() * 1.6)
    ax.set_xlabel("times each query head's CTAs read the same keys and values (blocks of new tokens)")
    claim(ax, title, _compile_time(subtitle))
    plt.close(fig)
    return fig


def pressure_plot(ax: Axes, profile: PressureProfile, *, marks: Mapping[str, int] | None = None) -> None:
    """Draw demand along the PTX of one kernel with the cap as a line; `marks` are labels and PTX lines to point at."""
    from helpers.show.style import LIMIT_COLOUR, status_colour

    where, demand = [p[0] for p in profile.points], [p[1] for p in profile.points]
    ax.fill_between(where, demand, step="mid", color=status_colour("ok"), alpha=0.35, linewidth=0)
    over = [d if d > CAP else float("nan") for d in demand]
    ax.plot(where, demand, color=status_colour("ok"), linewidth=0.9, label="demand")
    if profile.demand > CAP:
        ax.plot(where, over, color=status_colour("register_exhausted"), linewidth=1.4, label="above the cap")
    ax.axhline(CAP, color=LIMIT_COLOUR, linewidth=1.2, linestyle="--", label=f"cap: {CAP} registers")
    heights = dict(profile.points)
    for label, line_no in (marks or {}).items():
        height = heights.get(line_no, 0)
        ax.annotate(
            label, (line_no, height), xytext=(0, 10), textcoords="offset points", fontsize=8, ha="center",
            arrowprops={"arrowstyle": "-", "color": LIMIT_COLOUR, "linewidth": 0.8},
        )  # fmt: skip
    ax.set_xlabel("line of the PTX")
    ax.set_ylabel("registers needed at once")
    ax.set_ylim(0, max(CAP, profile.demand) * 1.12)
    ax.legend(loc="upper right", fontsize=8)

"""The root cause in pictures and tables: the ladder, the version matrix, pressure beside the source, what is held.

Every plot is a still one, apart in greyscale: what failed is dark and carries a cross, what could not be asked is
hatched, what spills is shaded by its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.spec import EXTEND_KERNEL
from helpers.compiler.report import COMPILED
from helpers.compiler.toolchain import BUNDLED, version_key
from helpers.errors import UserError
from helpers.inspection.ptx.pressure import CAP, Held, PressureProfile, pressure_profile
from helpers.search.ablate import Ablation, Rung
from helpers.search.bisect import NO_VERDICT
from helpers.show.display import remember_words
from helpers.show.plots import pressure_plot
from helpers.show.style import FAILED_MARK, LIMIT_COLOUR, bare_cells, claim, status_colour, use_house_style
from helpers.workbook.prose import source_lines_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "held_lines",
    "ingredient_table",
    "line_demands",
    "plot_ladder",
    "plot_pressure",
    "plot_version_matrix",
    "source_text",
]

# The incident's ingredients, and the changes that take each away: the window brings the branch, the scale keeps the
# accumulator apart, an upcast cache is no fp8 operand.
INGREDIENTS = {
    "fp8 operands": ("kv_dtype", "kv_operands"),
    "128 rows at head dim 256": ("block_m",),
    "tile-skip branch": ("tile_skip", "window"),
    "accumulator apart from the dot": ("accumulate", "v_scale"),
    "q cast inside the tile": ("q_cast",),
    "launch and inner tile": ("block_n", "num_warps", "num_stages", "maxnreg"),
}
_NOT_ASKED = "#EEEEEE"
_SHADES = "YlOrBr"


# --- the ladder -------------------------------------------------------------------------------------------


def ingredient_table(ablation: Ablation) -> pd.DataFrame:
    """One row an ingredient of the extend kernel: the changes that take it away, how each ended, whether all cure.

    `necessary`: every change tried for it reaches what `ablation.necessary` asks (it compiles, or ends the spills).
    Changes that belong to no ingredient here are left out.
    """
    import pandas as pd

    rows = []
    for ingredient, names in INGREDIENTS.items():
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
    """One bar a change: bytes of spill stores it leaves; crosses where no binary comes out; the baseline on top."""
    import matplotlib.pyplot as plt

    use_house_style()
    rungs = [Rung((), ablation.baseline, "baseline"), *ablation.rungs]
    fig, ax = plt.subplots(figsize=(8.5, 1.3 + 0.34 * len(rungs)))
    most = max([r.report.spill_store_bytes or 0 for r in rungs if r.report.compiled] or [1])
    for y, rung in enumerate(rungs):
        _ladder_bar(ax, y, rung, most)
    labels = ["nothing: the spec as it is", *(r.description for r in ablation.rungs)]
    ax.set_yticks(range(len(rungs)), labels, fontsize=9)
    for label, rung in zip(ax.get_yticklabels(), rungs, strict=True):
        needed = rung.knobs and rung.names[0] in ablation.necessary and rung.report.compiled
        label.set_fontweight("bold" if needed else "normal")
    ax.set_ylim(len(rungs) - 0.4, -0.8)
    ax.set_xscale("symlog", linthresh=100)
    ticks = [t for t in (0, 100, 1_000, 10_000, 100_000) if t <= 10 * max(most, 10)]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set_xlim(0, 120 * max(most, 20))
    ax.minorticks_off()
    ax.set_xlabel("bytes of spill stores per thread (linear up to 100, then logarithmic)")
    base = ablation.baseline
    words = subtitle or f"{ablation.label}, {base.arch}, Triton {base.triton_version}, ptxas {base.ptxas_version}"
    claim(ax, title, f"{words}\nbold: {ablation.criterion}; every row is one change, compile-time")
    plt.close(fig)
    return fig


def _ladder_bar(ax: Axes, y: int, rung: Rung, most: int) -> None:
    report = rung.report
    colour = status_colour(report.status)
    if not report.compiled:
        words = f"{FAILED_MARK} {report.ptxas_code or report.status.replace('_', ' ')}"
        ax.barh(y, 30 * max(most, 20), 0.6, facecolor="none", edgecolor=colour, linestyle=":")
        ax.text(8, y, words, va="center", fontsize=9, fontweight="bold", color=colour)
        return
    spilled = report.spill_store_bytes or 0
    ax.barh(y, spilled, 0.6, color=colour, hatch="///", edgecolor="white")
    words = f"  {spilled:,} B, {report.regs_per_thread} registers"
    if rung.slower_path:
        words += f", only {report.tensor_core_path}"
    if not rung.launchable:
        words += ", too many to launch"
    ax.text(spilled, y, words, va="center", fontsize=8.5)


# --- the version matrix -----------------------------------------------------------------------------------


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


# --- pressure beside the source ---------------------------------------------------------------------------


def source_text(file: str, line: int) -> str:
    """The text of a line of the kernel's own file (known by its name: recorded PTX has no folders), else empty."""
    if Path(file).name != Path(EXTEND_KERNEL.path).name:
        return ""
    return source_lines_of(EXTEND_KERNEL.path).get(line, "").strip()


def line_demands(ptx: str, top: int = 12) -> pd.DataFrame:
    """The source lines with the highest demand: registers, how far above the cap, PTX line, text of the line."""
    import pandas as pd

    profile = _profile(ptx)
    rows = [
        {"file": Path(line.source[0]).name, "line": line.source[1], "source": source_text(*line.source)[:80],
         "registers": line.registers, "over the cap": max(0, line.registers - CAP), "PTX line": line.line_no}
        for line in profile.lines[:top]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def held_lines(held: Held, top: int = 8) -> pd.DataFrame:
    """What is held across the branch, by the lines that define it, with their text; the rest as one last row."""
    import pandas as pd

    rows = []
    for group in held.groups[:top]:
        named = [line for _, line in group.lines if line]
        text = " | ".join(t[:60] for file, line in group.lines if (t := source_text(file, line)))
        rows.append(
            {"registers": group.registers, "values": group.values, "lines": ", ".join(map(str, named)) or "compiler's",
             "source": text or "addresses and masks the compiler made", "by": group.opcode}
        )  # fmt: skip
    if rest := held.groups[top:]:
        rows.append(
            {"registers": sum(g.registers for g in rest), "values": sum(g.values for g in rest), "lines": "",
             "source": f"{len(rest)} more groups", "by": ""}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _profile(ptx: str) -> PressureProfile:
    profile = pressure_profile(ptx)
    if profile is None:
        raise UserError(
            "this text has no PTX function with instructions in it: give the .ptx that Triton or nvcc wrote"
        )
    return profile


def plot_pressure(
    ptx: str, title: str, subtitle: str = "", *, marks: Mapping[str, int] | None = None, top: int = 24
) -> Figure:
    """Demand along the PTX, and below it the `top` source lines of highest demand in the order of the file.

    The cap of 255 registers is a labelled line in both. Lines of the kernel's own file carry their text; what lies
    above the cap is dark. `marks` are labels and PTX lines to point at.
    """
    import matplotlib.pyplot as plt

    use_house_style()
    profile = _profile(ptx)
    lines = sorted(profile.lines[:top], key=lambda line: (source_text(*line.source) == "", line.source))
    height = 0.24 * max(1, len(lines))
    fig = plt.figure(figsize=(9, 4.2 + height))
    # Two figures in one: the labels of the lower part do not push the upper one aside.
    top_part, low_part = fig.subfigures(2, 1, height_ratios=[3.4, 0.8 + height])
    above, below = top_part.subplots(), low_part.subplots()
    pressure_plot(above, profile, marks=marks)
    above.get_legend().remove()
    above.text(
        0, CAP, f" the cap: {CAP} registers", va="bottom", fontsize=8.5, color=LIMIT_COLOUR, fontweight="bold",
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
    )  # fmt: skip
    _line_bars(below, lines)
    words = subtitle or f"{profile.function}, demand estimated from the PTX, compile-time; nothing was assembled"
    claim(above, title, words)
    remember_words(fig, title, words)  # the claim's own figure is only a part of this one
    plt.close(fig)
    return fig


def _line_bars(ax: Axes, lines: Sequence) -> None:
    labels = []
    for y, line in enumerate(lines):
        ax.barh(y, min(line.registers, CAP), 0.68, color=status_colour("ok"), alpha=0.45)
        if line.registers > CAP:
            ax.barh(y, line.registers - CAP, 0.68, left=CAP, color=status_colour("register_exhausted"))
        ax.text(line.registers, y, f" {line.registers}", va="center", fontsize=8)
        text = source_text(*line.source)
        name = f"{line.source[1]}" if text else f"{Path(line.source[0]).name}:{line.source[1]}"
        labels.append(f"{text[:62]}  {name}" if text else name)
    ax.axvline(CAP, color=LIMIT_COLOUR, linewidth=1.2, linestyle="--")
    ax.set_yticks(range(len(lines)), labels, fontsize=7.5, family="monospace")
    ax.set_ylim(len(lines) - 0.4, -0.7)
    ax.set_xlim(0, max([CAP, *(line.registers for line in lines)]) * 1.1)
    ax.text(CAP, -0.75, f"{CAP}", ha="center", va="bottom", fontsize=8.5, fontweight="bold", color=LIMIT_COLOUR)
    ax.set_xlabel("registers needed at once: the most at any instruction of the line")

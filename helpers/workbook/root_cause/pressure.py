"""Where registers are needed: demand along a PTX beside the source, and what a branch holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.compiler.report import Evidence
from helpers.errors import UserError
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import Held, PressureProfile, held_across, pressure_profile
from helpers.inspection.ptx.scan import wide_operands
from helpers.show.display import remember_words
from helpers.show.plots import pressure_plot
from helpers.show.style import LIMIT_COLOUR, claim, status_colour, use_house_style
from helpers.workbook.evidence import ptx_of
from helpers.workbook.prose import source_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def line_demands(ptx: str, top: int = 12) -> pd.DataFrame:
    """The source lines with the highest demand: registers, how far above the cap, PTX line, text of the line."""
    import pandas as pd

    profile = _profile(ptx)
    rows = [
        {"file": Path(line.source[0]).name, "line": line.source[1], "source": source_text(*line.source)[:80],
         "registers": line.registers, "over the cap": max(0, line.registers - profile.cap), "PTX line": line.line_no}
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

    The cap on a thread's registers is a labelled line in both. Lines of the kernel's own file carry their text; what
    lies above the cap is dark. `marks` are labels and PTX lines to point at.
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
        0, profile.cap, f" the cap: {profile.cap} registers", va="bottom", fontsize=8.5, color=LIMIT_COLOUR,
        fontweight="bold", bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
    )  # fmt: skip
    _line_bars(below, lines, profile.cap)
    words = subtitle or f"{profile.function}, demand estimated from the PTX, compile-time; nothing was assembled"
    claim(above, title, words)
    remember_words(fig, title, words)  # the claim's own figure is only a part of this one
    plt.close(fig)
    return fig


def _line_bars(ax: Axes, lines: Sequence, cap: int) -> None:
    labels = []
    for y, line in enumerate(lines):
        ax.barh(y, min(line.registers, cap), 0.68, color=status_colour("ok"), alpha=0.45)
        if line.registers > cap:
            ax.barh(y, line.registers - cap, 0.68, left=cap, color=status_colour("register_exhausted"))
        ax.text(line.registers, y, f" {line.registers}", va="center", fontsize=8)
        text = source_text(*line.source)
        name = f"{line.source[1]}" if text else f"{Path(line.source[0]).name}:{line.source[1]}"
        labels.append(f"{text[:62]}  {name}" if text else name)
    ax.axvline(cap, color=LIMIT_COLOUR, linewidth=1.2, linestyle="--")
    ax.set_yticks(range(len(lines)), labels, fontsize=7.5, family="monospace")
    ax.set_ylim(len(lines) - 0.4, -0.7)
    ax.set_xlim(0, max([cap, *(line.registers for line in lines)]) * 1.1)
    ax.text(cap, -0.75, f"{cap}", ha="center", va="bottom", fontsize=8.5, fontweight="bold", color=LIMIT_COLOUR)
    ax.set_xlabel("registers needed at once: the most at any instruction of the line")


def wide_move_marks(ptx: str) -> dict[str, int]:
    """Marks for `plot_pressure`: each tensor-memory move of 128 registers, `x128 ld, 2121`, and its line of the PTX."""
    return {
        f"x128 {move.opcode.split('.')[1]}, {move.line_no}": move.line_no
        for move in wide_operands(ptx, min_registers=128)
    }


def share_above_cap(profile: PressureProfile) -> float:
    """The share of a PTX's instructions at which more registers are needed than a thread can have."""
    return sum(demand > CAP for _, demand in profile.points) / len(profile.points)


def demand_table(evidence: Sequence[Evidence], names: Sequence[str]) -> pd.DataFrame:
    """One row a compile: demand of its PTX, its widest load from tensor memory, what lives beside that, the verdict.

    `held across the branch` is empty where no large region inside a loop can be skipped. Raises UserError where a PTX
    is not at hand.
    """
    import pandas as pd

    rows = []
    for item, name in zip(evidence, names, strict=True):
        ptx = ptx_of(item)
        profile, held = pressure_profile(ptx), held_across(ptx)
        loads = [t for t in profile.tuples if ".ld." in t.opcode]
        widest = max(loads, key=lambda t: (t.registers, t.beside), default=None)
        rows.append(
            {
                "compile": name,
                "demand": profile.demand,
                "widest load": widest.registers if widest else 0,
                "beside it": widest.beside if widest else 0,
                "held across the branch": held.registers if held else None,
                "verdict": item.report.verdict(),
            }
        )
    return pd.DataFrame(rows)

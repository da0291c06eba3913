"""Demand on registers along a PTX: its telling numbers, and the pictures that 02's explorers show of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.spec import EXTEND_KERNEL
from helpers.diagnosis.pressure import pressure_report
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.show.plots import pressure_plot
from helpers.show.style import claim, use_house_style
from helpers.workbook.explorer.pictures import kept_picture
from helpers.workbook.inside_ptxas.views import plot_ptx_landscape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP_LINES = 6


def pressure_facts(ptx: str) -> dict:
    """The telling numbers of a PTX's pressure, without folders, ready for JSON; raises UserError for no kernel."""
    report = pressure_report(ptx)
    peak, branch = report["peak"], report["branch"]
    own = [line for line in report["lines"] if line["source"][0].endswith(Path(EXTEND_KERNEL.path).name)]
    return {
        "demand": report["demand"],
        "cap": report["cap"],
        "estimate": report["estimate"],
        "peak": _where(peak) if peak else None,
        "held": f"{branch['registers']:g} registers across the branch around {branch['instructions']} instructions, "
        f"{_where(branch)}"
        if branch
        else None,
        "wide": max((t["registers"] for t in report["tuples"]), default=0),
        "lines": [[line["source"][1], line["registers"], line["instructions"]] for line in own[:TOP_LINES]],
    }


def _where(found: dict) -> str:
    source = found["source"]
    line = f", {Path(source[0]).name}:{source[1]}" if source else ""
    words = f": {found['opcode']}" if "opcode" in found else ""
    return f"PTX line {found['line_no']}{line}{words}"


def draw_pressure(ptx: str, title: str, subtitle: str) -> Figure:
    """Demand along the PTX against the cap, as a figure with its claim."""
    import matplotlib.pyplot as plt

    use_house_style()
    figure, ax = plt.subplots(figsize=(8.5, 3.4))
    pressure_plot(ax, pressure_profile(ptx))
    claim(ax, title, subtitle)
    plt.close(figure)
    return figure


def pressure_picture(ptx: str, label: str, figure: str = "pressure") -> tuple[dict, bytes]:
    """(facts, SVG) of a PTX: its demand, or its wide operands; kept in the cache by the PTX's content."""

    def make() -> tuple[dict, Figure]:
        facts = pressure_facts(ptx)
        over = facts["demand"] - facts["cap"]
        said = f"{over} more registers than there are" if over > 0 else f"{-over} registers to spare"
        title = f"{facts['demand']} registers needed at once: {said}"
        if figure == "operands":
            title = f"The widest operand moves {facts['wide']} registers as one"
            return facts, plot_ptx_landscape(ptx, title, label)
        return facts, draw_pressure(ptx, title, f"{label}; from the PTX alone")

    return kept_picture(make, __name__, ptx=hashlib.sha256(ptx.encode()).hexdigest(), label=label, figure=figure)


def pressure_rows(facts: dict) -> dict[str, object]:
    """The facts in words, for a table."""
    return {
        "demand": f"{facts['demand']} registers at the worst point, the cap is {facts['cap']}",
        "estimate": f"{facts['estimate']} as ptxas's count",
        "peak": facts["peak"],
        "held": facts["held"],
        "widest operand": f"{facts['wide']} registers" if facts["wide"] else None,
    }

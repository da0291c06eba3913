"""The same source lines before and after ptxas: the demand of the PTX beside the registers live in the SASS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from helpers.compiler.disassemble import sass_pressure
from helpers.compiler.report import Evidence
from helpers.errors import UserError
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.show.style import LIMIT_COLOUR, claim, status_colour, use_house_style
from helpers.workbook.evidence import ptx_of
from helpers.workbook.prose import source_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def both_sides(evidence: Evidence, top: int = 12) -> pd.DataFrame:
    """The source lines with the most live registers after ptxas, with the PTX's demand and bytes spilled on each.

    `SASS` is the most general registers live at any instruction of the line (nvdisasm), `PTX` the demand worked out
    before; stores and loads are bytes per thread of STL and LDL. Raises UserError without a binary, or without an
    nvdisasm that reads it.
    """
    import pandas as pd

    report = evidence.report
    if not report.cubin_path:
        raise UserError(f"no binary of {report.label!r} at hand: {report.verdict()}; {evidence.source}")
    sass = sass_pressure(report.cubin_path, report.ptxas_version)
    if not sass.lines:
        raise UserError(f"the binary of {report.label!r} has no line information: compile it with -lineinfo")
    profile = pressure_profile(ptx_of(evidence))
    if profile is None:
        raise UserError(f"the PTX of {report.label!r} cannot be analysed, so there is no demand to compare with")
    # nvdisasm and the PTX spell folders in their own ways: lines join by the file's name.
    demand = {(Path(line.source[0]).name, line.source[1]): line.registers for line in profile.lines}
    rows = []
    for line in sass.lines[:top]:
        key = (Path(line.source[0]).name, line.source[1])
        rows.append(
            {"file": key[0], "line": key[1], "source": source_text(*line.source)[:70], "PTX": demand.get(key),
             "SASS": line.gprs, "spill stores": line.spill_store_bytes, "spill loads": line.spill_load_bytes}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table["PTX"] = table["PTX"].astype("Int64")
    table.attrs["cap"] = profile.cap
    return table


def plot_both_sides(table: pd.DataFrame, title: str, subtitle: str) -> Figure:
    """A `both_sides` table as a picture: demand as open squares, live registers as dots, one row a source line."""
    import matplotlib.pyplot as plt
    import pandas as pd

    use_house_style()
    lines = table.sort_values(["file", "line"]).reset_index(drop=True)
    fig, ax = plt.subplots(figsize=(9, 1.5 + 0.27 * len(lines)))
    for y, row in lines.iterrows():
        known = pd.notna(row["PTX"])
        if known:
            ax.plot([row["SASS"], row["PTX"]], [y, y], color="#BBBBBB", linewidth=2, zorder=1)
            ax.plot(
                row["PTX"], y, "s", markersize=7, markerfacecolor="white", color=status_colour("register_exhausted")
            )
        ax.plot(row["SASS"], y, "o", markersize=6, color=status_colour("ok"))
        moved = int(row["spill stores"] + row["spill loads"])
        if moved:
            ax.text(max(row["SASS"], row["PTX"] if known else 0) + 8, y, f"{moved} B spilled", va="center", fontsize=8)
    ax.plot([], [], "s", markerfacecolor="white", color=status_colour("register_exhausted"), label="demand, from PTX")
    ax.plot([], [], "o", color=status_colour("ok"), label="live after ptxas, from SASS")
    cap = table.attrs.get("cap", CAP)
    ax.axvline(cap, color=LIMIT_COLOUR, linewidth=1.2, linestyle="--")
    ax.text(cap + 3, len(lines) - 0.45, f"{cap}, the cap", va="bottom", fontsize=8.5, fontweight="bold",
            color=LIMIT_COLOUR)  # fmt: skip
    names = [
        f"{r['source'][:56]}  {r['line']}" if r["source"] else f"{r['file']}:{r['line']}" for _, r in lines.iterrows()
    ]
    ax.set_yticks(range(len(lines)), names, fontsize=7.5, family="monospace")
    ax.set_ylim(len(lines) - 0.4, -0.8)
    ax.set_xlim(0, max(cap, lines["PTX"].fillna(0).max()) * 1.25)
    ax.set_xlabel("registers per thread, most at any instruction of the line")
    ax.legend(loc="lower left", fontsize=8)
    claim(ax, title, subtitle)
    plt.close(fig)
    return fig


def sides_findings(table: pd.DataFrame) -> dict[str, object]:
    """Of a `both_sides` table: the worst line by SASS and by PTX, and how far the demand lies from the live registers.

    `least`, `most` and `median` are shares of the live registers, over the `lines` that both sides know.
    """
    gaps = (table["PTX"] / table["SASS"] - 1).dropna()
    return {
        "by SASS": table.sort_values("SASS", ascending=False, kind="stable").iloc[0]["line"],
        "by PTX": table.sort_values("PTX", ascending=False, kind="stable").iloc[0]["line"],
        "lines": len(gaps), "least": gaps.min(), "most": gaps.max(), "median": gaps.median(),
    }  # fmt: skip

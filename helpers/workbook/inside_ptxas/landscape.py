"""The landscape explorer: where along the PTX of a configuration registers are needed, and which lines need them."""

from __future__ import annotations

import hashlib
import html
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.spec import EXTEND_KERNEL
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.report import Evidence
from helpers.diagnosis.pressure import pressure_profile, pressure_report
from helpers.errors import UserError
from helpers.show.html import facts_html
from helpers.show.plots import pressure_plot
from helpers.show.style import claim, use_house_style
from helpers.workbook.evidence import ptx_of
from helpers.workbook.explorer.choices import (
    INGREDIENTS,
    choice_controls,
    choice_of,
    evidence_words,
    is_final,
    one_line,
    status_banner,
)
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop
from helpers.workbook.explorer.pictures import kept_picture
from helpers.workbook.explorer.work import Work
from helpers.workbook.inside_ptxas.views import plot_ptx_landscape
from helpers.workbook.prose import source_lines_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELDS = ("arch", "head_dim", "kv_dtype", "window", "tile", "num_warps", "triton", *INGREDIENTS)
FIGURES = (("demand on registers", "pressure"), ("wide operands", "operands"))
TOP_LINES = 6


def ptx_command(choice: Choice) -> str:
    """The command line that shows the pressure of this configuration's PTX."""
    path = 'import json,sys; print(json.load(sys.stdin)["ptx_path"])'
    return f"register-cliff pressure \"$({choice.command()} --json | python -c '{path}')\""


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
    """(facts, PNG) of a PTX: its demand, or its wide operands; kept in the cache by the PTX's content."""

    def make() -> tuple[dict, Figure]:
        facts = pressure_facts(ptx)
        over = facts["demand"] - facts["cap"]
        said = f"{over} more registers than there are" if over > 0 else f"{-over} registers to spare"
        title = f"{facts['demand']} registers needed at once: {said}"
        if figure == "operands":
            title = f"The widest operand moves {facts['wide']} registers as one"
            return facts, plot_ptx_landscape(ptx, title, label)
        return facts, draw_pressure(ptx, title, f"{label}; from the PTX alone")

    return kept_picture(make, ptx=hashlib.sha256(ptx.encode()).hexdigest(), label=label, figure=figure)


def lines_html(facts: dict) -> str:
    """The kernel's own lines with the highest demand as a table; all text escaped."""
    source = source_lines_of(EXTEND_KERNEL.path)
    rows = "".join(
        f"<tr><td>{registers}</td><td>{instructions}</td><td>{line}</td>"
        f'<td style="text-align:left"><code>{html.escape(source.get(line, "").strip()[:90])}</code></td></tr>'
        for line, registers, instructions in facts["lines"]
    )
    head = "<tr><th>registers</th><th>PTX instructions</th><th>line</th><th>source</th></tr>"
    return f"<table><caption>the kernel's lines by demand</caption>{head}{rows}</table>" if rows else ""


def pressure_rows(facts: dict) -> dict[str, object]:
    """The facts in words, for a table."""
    return {
        "demand": f"{facts['demand']} registers at the worst point, the cap is {facts['cap']}",
        "estimate": f"{facts['estimate']} as ptxas's count",
        "peak": facts["peak"],
        "held": facts["held"],
        "widest operand": f"{facts['wide']} registers" if facts["wide"] else None,
    }


def _view(base: Choice, state: dict, work: Work) -> View:
    choice = choice_of(base, state)
    evidence: Evidence = work.compile_one(choice)
    report = evidence.report
    try:
        ptx = ptx_of(evidence)
        work.check()
        where = f"{report.label}, {report.arch}, Triton {report.triton_version}"
        facts, png = pressure_picture(ptx, where, state["figure"])
    except UserError as exc:
        rows = {"ptxas": report.verdict(), "PTX": str(exc), "evidence": evidence_words(evidence)}
        return View(status_banner(report) + facts_html(rows), one_line(report), choice.command(), data=evidence,
                    choice=choice, final=False)  # fmt: skip
    rows = {"ptxas": report.verdict(), **pressure_rows(facts), "evidence": evidence_words(evidence)}
    return View(
        verdict=status_banner(report) + facts_html(rows),
        title=f"{one_line(report)}; {facts['demand']} registers needed at once",
        command=ptx_command(choice),
        png=png,
        below=lines_html(facts),
        choice=choice,
        data=evidence,
        final=is_final([evidence]),
    )


def landscape_explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of the demand on registers along a PTX, of a compile that failed or not; starts at `choice`."""
    controls = {"figure": drop("figure", FIGURES, "pressure"), **choice_controls(choice, FIELDS)}
    return ExplorerFrame("landscape", controls, lambda state, work: _view(choice, state, work))

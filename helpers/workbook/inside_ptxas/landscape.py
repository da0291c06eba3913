"""The landscape explorer: where along the PTX of a configuration registers are needed, and which lines need them."""

from __future__ import annotations

from helpers.attention.choice import Choice
from helpers.attention.spec import EXTEND_KERNEL
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.report import Evidence
from helpers.errors import UserError
from helpers.show.html import cells_html, facts_html
from helpers.workbook.evidence import ptx_of
from helpers.workbook.explorer.choices import (
    INGREDIENT_FIELDS,
    MEANS,
    choice_controls,
    choice_of,
    evidence_words,
    is_final,
    one_line,
    status_banner,
)
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop
from helpers.workbook.explorer.work import Work
from helpers.workbook.inside_ptxas.cliff_page import landscape_page
from helpers.workbook.inside_ptxas.demand import pressure_picture, pressure_rows
from helpers.workbook.prose import source_lines_of

LANDSCAPE_FIELDS = ("arch", "head_dim", "kv_dtype", "window", "tile", "num_warps", "triton", *INGREDIENT_FIELDS)
FIGURES = (("demand on registers", "pressure"), ("wide operands", "operands"))


def ptx_command(choice: Choice) -> str:
    """The command line that shows the pressure of this configuration's PTX."""
    path = 'import json,sys; print(json.load(sys.stdin)["ptx_path"])'
    return f"register-cliff pressure \"$({choice.command()} --json | python -c '{path}')\""


def lines_html(facts: dict) -> str:
    """The kernel's own lines with the highest demand as a table."""
    source = source_lines_of(EXTEND_KERNEL.path)
    rows = [(registers, n, line, source.get(line, "").strip()[:90]) for line, registers, n in facts["lines"]]
    heads = ("registers", "PTX instructions", "line", "source")
    return cells_html(heads, rows, caption="the kernel's lines by demand", code_columns={3})


def _view(base: Choice, state: dict, work: Work) -> View:
    choice = choice_of(base, state)
    evidence: Evidence = work.compile_one(choice)
    report = evidence.report
    try:
        ptx = ptx_of(evidence)
        work.check()
        where = f"{report.label}, {report.arch}, Triton {report.triton_version}"
        facts, drawing = pressure_picture(ptx, where, state["figure"])
    except UserError as exc:
        rows = {"ptxas": report.verdict(), "PTX": str(exc), "evidence": evidence_words(evidence)}
        return View(status_banner(report) + facts_html(rows), one_line(report), choice.command(), data=evidence,
                    choice=choice, final=False)  # fmt: skip
    rows = {"ptxas": report.verdict(), **pressure_rows(facts), "evidence": evidence_words(evidence)}
    return View(
        verdict=status_banner(report) + facts_html(rows),
        title=f"{one_line(report)}; {facts['demand']} registers needed at once",
        command=ptx_command(choice),
        drawing=drawing,
        below=lines_html(facts),
        choice=choice,
        data=evidence,
        final=is_final([evidence]),
    )


def landscape_explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of the demand on registers along a PTX, of a compile that failed or not; starts at `choice`."""
    controls = {
        "figure": drop("figure", FIGURES, "pressure", MEANS["figure"]),
        **choice_controls(choice, LANDSCAPE_FIELDS),
    }
    return ExplorerFrame(
        "landscape",
        controls,
        lambda state, work: _view(choice, state, work),
        page=lambda made: landscape_page(choice, made),
    )

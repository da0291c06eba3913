"""The compile explorer: pick a configuration, see its verdict and its registers against the cap."""

from __future__ import annotations

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.show.plots import plot_registers
from helpers.workbook.explorer.choices import (
    INGREDIENTS,
    choice_controls,
    choice_of,
    is_final,
    one_line,
    verdict_html,
)
from helpers.workbook.explorer.frame import ExplorerFrame, View, kept_png, reports_key
from helpers.workbook.explorer.work import Work

FIELDS = ("arch", "head_dim", "kv_dtype", "window", "tile", "num_warps", "num_stages", "triton", "ptxas", *INGREDIENTS)


def compile_view(base: Choice, state: dict, work: Work) -> View:
    """The view of one configuration: compiled, or recorded where its toolchain is missing."""
    choice = choice_of(base, state)
    evidence = work.compile_one(choice)
    report = evidence.report
    return View(
        verdict=verdict_html(evidence),
        title=one_line(report),
        command=choice.command(),
        png=kept_png(
            lambda: plot_registers([evidence], report.verdict(), labels=[report.arch]),
            figure="registers",
            reports=reports_key([evidence]),
        ),
        choice=choice,
        data=evidence,
        final=is_final([evidence]),
    )


def explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of single compiles that starts at `choice` (default: the incident); `view.data` is the Evidence."""
    return ExplorerFrame(
        "compile", choice_controls(choice, FIELDS), lambda state, work: compile_view(choice, state, work)
    )

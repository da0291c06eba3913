"""The root-cause explorer: any Triton under any ptxas, any ingredient taken away, and what becomes of the crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.report import COMPILED, NO_VERDICT, Evidence
from helpers.compiler.toolchain import BUNDLED
from helpers.recorded import provenance, read_rows
from helpers.show.html import banner, facts_html
from helpers.show.plots import plot_registers
from helpers.show.verdicts import cell_of, grid_html, words_in_sentence
from helpers.workbook.explorer.choices import (
    INGREDIENT_FIELDS,
    MEANS,
    choice_controls,
    choice_of,
    evidence_words,
    is_final,
    status_banner,
)
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop
from helpers.workbook.explorer.on_page import Answer, OnPage, choice_command, choice_words, knobs_of
from helpers.workbook.explorer.pictures import drawing_of, kept_drawing, reports_key
from helpers.workbook.explorer.recorded_choices import configuration, recorded_compiles, recorded_settings
from helpers.workbook.explorer.work import Work
from helpers.workbook.root_cause.versions import OWN, plot_version_matrix, version_grid

if TYPE_CHECKING:
    import ipywidgets as w
    import pandas as pd

TOGGLES = ("kv_dtype", "window", "tile", *INGREDIENT_FIELDS)


def matrix_row(rows: pd.DataFrame, triton: str, ptxas: str) -> dict | None:
    """The recorded row of a pair: its own PTX where that ptxas reads it, else the PTX written for it; None for none."""
    pair = rows[(rows["triton"] == triton) & (rows["ptxas_asked"] == ptxas)]
    judged = pair[~pair["status"].isin(NO_VERDICT)]
    for found in (judged[judged["ptx_written_for"] == OWN], judged, pair):
        if len(found):
            return found.iloc[0].where(found.iloc[0].notna(), None).to_dict()
    return None


def _how_a_triton_fares(rows: pd.DataFrame, triton: str) -> str:
    """How one Triton's PTX fares under all the ptxas that read it, counted."""
    mine = rows[(rows["triton"] == triton) & ~rows["status"].isin(NO_VERDICT)]
    dead = int((~mine["status"].isin(COMPILED)).sum())
    if dead in (0, len(mine)):
        return f"{'dies' if dead else 'compiles'} under every one of the {len(mine)} ptxas tried: ptxas does not decide"
    return f"dies under {dead} of the {len(mine)} ptxas tried"


def _still(rows: pd.DataFrame, view: View) -> bytes:
    """The picture of the first view for pages without widgets."""
    if view.drawing or view.choice is None:
        return view.drawing
    chosen = view.choice.triton, view.choice.ptxas
    return drawing_of(
        lambda: plot_version_matrix(rows, view.title, "the incident; recorded, compile-time", chosen=chosen)
    )


def _incident_told(rows: pd.DataFrame, choice: Choice) -> tuple[str, str, dict, dict | None]:
    """(status, verdict in a sentence, facts, the recorded row) of the incident under a pair of versions."""
    row = matrix_row(rows, choice.triton, choice.ptxas)
    where = f"Triton {choice.triton}, ptxas {choice.ptxas}"
    said = f"{where}: {words_in_sentence(row) if row else 'not recorded'}"
    other = row and row["ptx_written_for"] != OWN
    facts = {
        "this pair": said,
        "PTX": (
            f"written for ptxas {row['ptx_written_for']}, which is too old for this Triton's own" if other else None
        )
        or (row and f"version {row['ptx_version']}, {row['ptx_lines']:.0f} lines, the same for every ptxas in the row"),
        f"Triton {choice.triton}": _how_a_triton_fares(rows, choice.triton),
        "evidence": provenance(rows),
    }
    return row["status"] if row else "toolchain_missing", said, facts, row


def _incident_view(rows: pd.DataFrame, choice: Choice) -> View:
    """The incident itself under a pair of versions: recorded, all pairs at once, the pair framed."""
    status, said, facts, row = _incident_told(rows, choice)
    return View(
        verdict=banner(status, said) + facts_html(facts),
        title=said,
        command=choice.command(),
        figure=grid_html(
            version_grid(rows).framed(choice.triton, choice.ptxas),
            "the incident under every pair; click a cell to choose it",
            sets=("Triton", "ptxas"),
        ),
        choice=choice,
        data=row,
    )


def _changed_view(rows: pd.DataFrame, choice: Choice, work: Work) -> View:
    """The configuration with ingredients taken away beside the incident under the same versions, both compiled."""
    incident = replace(INCIDENT_CHOICE, triton=choice.triton, ptxas=choice.ptxas)
    base, mine = work.compile([incident, choice])
    taken = _taken(choice)
    said = _effect(base, mine, taken)
    row = matrix_row(rows, incident.triton, incident.ptxas)
    facts = {
        "changed": ", ".join(taken),
        "the incident here": base.report.verdict(),
        "with the change": mine.report.verdict(),
        "recorded for the incident": words_in_sentence(row) if row else None,
        "message": mine.report.message[:400],
        "evidence": evidence_words(mine),
    }
    return View(
        verdict=status_banner(mine.report) + facts_html(facts),
        title=said,
        command=choice.command(),
        drawing=kept_drawing(
            partial(plot_registers, [base, mine], said, labels=["the incident", ", ".join(taken)[:40]]),
            figure="with and without",
            said=said,
            taken=taken,
            reports=reports_key([base, mine]),
        ),
        choice=choice,
        data=(base, mine),
        final=is_final([base, mine]),
    )


def _taken(choice: Choice) -> list[str]:
    """What differs from the incident, versions aside."""
    changed = [n for n in TOGGLES if getattr(choice, n) != getattr(INCIDENT_CHOICE, n)]
    return [f"{n.replace('_', ' ')} = {_shown(getattr(choice, n))}" for n in changed]


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _effect(base: Evidence, mine: Evidence, taken: list[str]) -> str:
    words = "one change" if len(taken) == 1 else f"{len(taken)} changes"
    if mine.report.status == "toolchain_missing":
        return "this toolchain is not on this machine"
    if base.report.crashed:
        if mine.report.compiled:
            return f"{words.capitalize()} and it compiles: {mine.report.spill_store_bytes} B of spill stores"
        return f"{words.capitalize()}, and there is still no kernel: {mine.report.verdict()}"
    return f"{words.capitalize()}: {base.report.verdict()} becomes {mine.report.verdict()}"[:90]


def root_cause_explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of versions and ingredients: the recorded version matrix, and what taking an ingredient away does."""
    rows = read_rows("version_matrix")
    grid = version_grid(rows)
    controls = {
        "triton": drop("Triton", [(v, v) for v in grid.rows], choice.triton, MEANS["triton"]),
        "ptxas": drop("ptxas", [(v, v) for v in grid.columns], choice.ptxas or BUNDLED, MEANS["ptxas"]),
        **choice_controls(choice, TOGGLES),
    }

    def answer(state: dict, work: Work) -> View:
        asked = choice_of(choice, state)
        if all(getattr(asked, name) == getattr(INCIDENT_CHOICE, name) for name in TOGGLES):
            return _incident_view(rows, asked)
        return _changed_view(rows, asked, work)

    return ExplorerFrame(
        "root-cause",
        controls,
        answer,
        still=lambda view: _still(rows, view),
        page=lambda made: _page(rows, choice, made),
    )


def _page(rows: pd.DataFrame, base: Choice, controls: Mapping[str, w.Dropdown]) -> dict:
    """The version matrix for a page without a kernel, and what was recorded of taking an ingredient away."""
    knobs = knobs_of(controls, choice_words(base, controls))
    compiles, answers = recorded_compiles(), {}
    for setting, mine in recorded_settings(base, knobs, compiles):
        choice = choice_of(base, dict(zip(controls, setting, strict=True)))
        incident = compiles.get(configuration(replace(INCIDENT_CHOICE, triton=choice.triton, ptxas=choice.ptxas)))
        if (taken := _taken(choice)) and incident:
            facts = {
                "changed": ", ".join(taken),
                "the incident here": incident.report.verdict(),
                "with the change": mine.report.verdict(),
                "evidence": mine.source,
            }
            said = _effect(incident, mine, taken)
            answers[setting] = Answer(mine.report.status, said, facts, cell_of(mine.report))
    grid = version_grid(rows)
    for triton, line in zip(grid.rows, grid.cells, strict=True):
        for ptxas, cell in zip(grid.columns, line, strict=True):
            pair = replace(INCIDENT_CHOICE, triton=triton, ptxas=ptxas)
            status, said, facts, row = _incident_told(rows, pair)
            if row:
                facts["this Triton"] = facts.pop(f"Triton {triton}")
                answers[tuple(getattr(pair, name) for name in controls)] = Answer(status, said, facts, cell)
    return OnPage(
        name="root-cause",
        title="The incident under every pair of versions: choose a pair, or take an ingredient away",
        knobs=knobs,
        answers=answers,
        command=choice_command(base, list(controls)),
        grid=("triton", "ptxas"),
        grid_note="Rows are the Tritons that wrote the PTX, columns the ptxas that assembled it. A cell says how many "
        "bytes per thread are stored in memory for want of registers, or how it failed; a star marks PTX that was "
        "written anew for an older ptxas. Click a cell, or move with the arrow keys.",
    ).payload()

"""02's explorers on a page without a kernel: the recorded cells of the cliff map, their reports and their demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import ipywidgets as w

from helpers.attention.choice import Choice
from helpers.attention.studies.cliff_map import CLIFF_TILES, CLIFF_WARPS
from helpers.compiler.report import CompileReport, Evidence
from helpers.show.verdicts import cell_of
from helpers.workbook.explorer.choices import MEANS, report_rows
from helpers.workbook.explorer.frame import drop
from helpers.workbook.explorer.on_page import Answer, Knob, OnPage, choice_command, choice_words, knobs_of
from helpers.workbook.explorer.recorded_choices import configuration, recorded_settings
from helpers.workbook.inside_ptxas.cliff_rows import ASKED, recorded_profiles, recorded_reports
from helpers.workbook.inside_ptxas.demand import pressure_rows


def cliff_page(base: Choice, controls: Mapping[str, w.Dropdown], first: tuple[str, int]) -> dict:
    """The recorded maps over `base` for a page: the controls of the map, and tile and warps to choose a cell by."""
    cells = {
        "tile": drop("tile", [(tile, tile) for tile in CLIFF_TILES], first[0], MEANS["tile"]),
        "num_warps": drop("warps", [(f"{n} warps", n) for n in CLIFF_WARPS], first[1], MEANS["num_warps"]),
    }
    every = {**controls, **cells}
    knobs = knobs_of(every, choice_words(base, every))
    return OnPage(
        name="cliff-map",
        title="The register cliff map: choose a map, then a cell",
        knobs=knobs,
        answers=_answers(knobs),
        command=choice_command(base, list(every)),
        grid=("tile", "num_warps"),
        grid_note="A cell says how many bytes per thread are stored in memory for want of registers, or why there "
        "is no kernel. Rows are tiles, columns are numbers of warps. Click a cell, or move with the arrow keys.",
    ).payload()


def _answers(knobs: tuple[Knob, ...]) -> dict[tuple, Answer]:
    """The recorded cells that the knobs can reach, by their values."""
    reports, source = recorded_reports()
    profiles, counted = recorded_profiles()
    found = {}
    for asked, report in reports.items():
        values = dict(zip(ASKED, asked, strict=True))
        key = tuple(values[knob.name] for knob in knobs)
        if all(value in knob.values for value, knob in zip(key, knobs, strict=True)):
            found[key] = _answer(values, report, source, profiles.get(asked), counted)
    return found


def _where(asked: Mapping[str, object]) -> str:
    """A recorded cell in words."""
    return (
        f"tile {asked['tile']}, {asked['num_warps']} warps, head dim {asked['head_dim']}, {asked['kv_dtype']} cache, "
        f"{asked['arch']}"
    )


def _answer(
    asked: Mapping[str, object], report: CompileReport, source: str, facts: dict | None, counted: str
) -> Answer:
    rows = report_rows(Evidence(report, source)) | {"spec": None, "evidence": source}
    if facts and facts["demand"]:
        rows |= pressure_rows(facts) | {"demand counted": counted}
    return Answer(
        status=report.status,
        said=f"{_where(asked)}: {report.verdict()}",
        facts=rows,
        cell=cell_of(report),
        profile=facts["profile"] if facts else (),
        cap=int(facts["cap"]) if facts else 0,
    )


def landscape_page(base: Choice, controls: Mapping[str, w.Dropdown]) -> dict:
    """The demand along the recorded texts for a page; of the figures, only the one of the demand was recorded."""
    knobs = knobs_of(controls, choice_words(base, controls))
    reports, _ = recorded_reports()
    profiles, counted = recorded_profiles()
    found = {}
    for asked, facts in profiles.items():
        values = dict(zip(ASKED, asked, strict=True))
        if facts["demand"] and asked in reports:
            found[configuration(replace(base, **values))] = _demand_answer(values, reports[asked], facts, counted)
    settings = recorded_settings(base, [knob for knob in knobs if knob.name != "figure"], found)
    return OnPage(
        name="landscape",
        title="The demand on registers along the PTX: choose a configuration",
        knobs=knobs,
        answers={("pressure", *values): answer for values, answer in settings},
        command=choice_command(base, list(controls)),
    ).payload()


def _demand_answer(asked: Mapping[str, object], report: CompileReport, facts: dict, counted: str) -> Answer:
    worst = "; ".join(f"line {line}: {registers}" for line, registers in facts["lines"])
    return Answer(
        status=report.status,
        said=f"{_where(asked)}: {facts['demand']} registers needed at once; {report.verdict()}",
        facts=pressure_rows(facts) | {"the kernel's lines by demand": worst, "evidence": counted},
        profile=facts["profile"],
        cap=int(facts["cap"]),
    )

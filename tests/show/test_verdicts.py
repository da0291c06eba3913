"""A verdict has one set of words and one set of colours, whether it comes as a report or as a row of data/."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest

from helpers.compiler.report import NO_VERDICT, STATUSES
from helpers.show.style import STATUS_COLOURS
from helpers.show.verdicts import (
    DARK,
    NO_SPILLS,
    NOT_ASKED,
    PALE,
    Cell,
    Grid,
    cell_of,
    grid_figure,
    grid_html,
    grid_of,
    ground_of,
    ink_on,
    words_in_cell,
    words_in_sentence,
)


@pytest.fixture
def spill(ok):
    return replace(ok, status="spills", regs_per_thread=255, spill_store_bytes=1008)


def row(report) -> dict:
    """The report as a row of data/ has it: whole numbers are floats, what is missing is NaN."""
    nan = float("nan")
    return {
        "status": report.status,
        "regs_per_thread": nan if report.regs_per_thread is None else float(report.regs_per_thread),
        "spill_store_bytes": nan if report.spill_store_bytes is None else float(report.spill_store_bytes),
        "ptxas_code": report.ptxas_code or nan,
    }


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        from matplotlib.colors import to_hex

        parts = [int(to_hex(colour)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_report_and_its_row_say_the_same(ok, crash, spill):
    for report, in_cell, in_sentence in (
        (ok, "0 B", "200 registers, 0 B spill stores"),
        (spill, "1,008 B", "255 registers, 1008 B spill stores"),
        (crash, "✕ C7600", "dies (C7600)"),
        (replace(crash, status="out_of_shared_memory", ptxas_code=None), "✕ shared mem", "out of shared memory"),
    ):
        assert words_in_cell(report) == words_in_cell(row(report)) == in_cell
        assert words_in_sentence(report) == words_in_sentence(row(report)) == report.verdict() == in_sentence
    assert words_in_cell(spill, registers=True) == "255 regs, 1,008 B"
    assert words_in_cell(row(replace(crash, ptxas_code=None))) == "✕ registers"


def test_each_failure_has_words_of_its_own_and_a_cross_and_what_has_no_verdict_has_none(crash):
    failed = [s for s in STATUSES if s not in ("ok", "spills", *NO_VERDICT)]
    cells = {status: cell_of(replace(crash, status=status, ptxas_code=None)) for status in failed}
    assert len({cell.words for cell in cells.values()}) == len(failed) and all(c.failed for c in cells.values())
    for status in NO_VERDICT:
        cell = cell_of(replace(crash, status=status))
        assert not cell.failed and cell.hatched and cell.ground == NOT_ASKED
    assert cell_of(None).words == "not asked" and cell_of(None).ground == NOT_ASKED


def test_grounds_go_from_pale_to_dark_with_the_bytes_and_words_stand_out_on_each(ok, crash, spill):
    grounds = [ground_of(replace(spill, spill_store_bytes=n)) for n in (1, 8, 100, 1000, 8000, 90_000)]
    assert grounds[:2] == [PALE, PALE] and grounds[-2:] == [DARK, DARK] and len(set(grounds)) == 4
    assert ground_of(ok) == NO_SPILLS and ground_of(crash) == STATUS_COLOURS["register_exhausted"]
    for ground in (*grounds, ground_of(ok), ground_of(crash), NOT_ASKED, ground_of(replace(crash, status="trapped"))):
        assert contrast(ground, ink_on(ground)) >= 4.5, ground


def test_a_grid_wants_a_cell_for_each_place():
    with pytest.raises(ValueError, match="3 cells do not fill 2 x 2"):
        Grid(("a", "b"), ("c", "d"), ((None, None), (None,)))


def test_the_figure_and_the_table_of_a_grid_show_the_same_words_the_frame_and_the_legend(ok, crash, spill):
    found = {("<a>", "x"): crash, ("<a>", "y"): spill, ("b", "x"): ok, ("b", "y"): None}
    grid = grid_of(("<a>", "b"), ("x", "y"), lambda r, c: cell_of(found[r, c])).framed("b", "x")
    page = grid_html(grid, "a <caption>")
    figure = grid_figure(grid, "a claim", "recorded, compile-time")
    (ax,) = figure.axes
    drawn = [" ".join(t.get_text().split()) for t in ax.texts]
    for cell in (cell for line in grid.cells for cell in line):
        assert cell.words in drawn and f">{cell.words}</td>" in page
    assert page.count("outline:3px") == 1 and "<a>" not in page and "&lt;caption&gt;" in page
    assert 'title="b, x: 200 registers, 0 B spill stores"' in page
    assert sum(patch.get_fill() is False for patch in ax.patches) == 1
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [entry[0] for entry in grid.legend()] and all(entry in page for entry in words if "<" not in entry)
    assert "✕ dies: out of registers" in words and "✕ fails in another way" not in words
    assert grid.framed("nobody", "x") == grid


def test_a_legend_names_no_colour_that_is_not_there(ok):
    alone = Grid(("a",), ("b",), ((cell_of(ok),),))
    assert [words for words, *_ in alone.legend()] == ["no spills"]
    blank = Grid(("a",), ("b",), ((None,),))
    assert blank.legend() == [] and "<td></td>" in grid_html(blank, "")
    assert Cell("x", DARK).ink == "black" and Cell("x", STATUS_COLOURS["register_exhausted"]).ink == "white"


def test_a_cell_of_a_table_carries_the_lists_it_sets_where_that_is_asked(ok, crash):
    grid = grid_of(["3.5.1", '"<3>"'], ["bundled"], lambda row, _column: cell_of(crash if row == "3.5.1" else ok))
    page = grid_html(grid, "", sets=("Triton", "ptxas"))
    told = [json.loads(html.unescape(found)) for found in re.findall(r'data-sets="([^"]*)"', page)]
    assert told == [{"Triton": "3.5.1", "ptxas": "bundled"}, {"Triton": '"<3>"', "ptxas": "bundled"}]
    assert page.count("<button") == 2 and "onclick=" in page and 'aria-label="3.5.1, bundled: dies (C7600)"' in page
    assert "<button" not in grid_html(grid, "") and "onclick" not in grid_html(grid, "")

"""The stages side by side: linked by source line, bounded, escaped, readable without their script."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

import helpers as rc
from helpers.compiler.report import LIVE, Evidence
from helpers.workbook import side_by_side as module
from helpers.workbook.pages import network_loads
from helpers.workbook.side_by_side import Pane, _packed, _windowed, changed_keys


@pytest.fixture(scope="module")
def crash(toolchain_351):
    return rc.side_by_side(rc.INCIDENT_CHOICE)


@pytest.fixture(scope="module")
def pair(toolchain_351):
    return rc.side_by_side(rc.INCIDENT_CHOICE, replace(rc.INCIDENT_CHOICE, tile="sm100"))


def _data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_the_accumulator_line_links_all_stages(pair):
    (line,) = rc.find_lines("acc = acc * rescale[:, None] + tl.dot(p, v) * v_scale")[:1]
    for side in pair.sides:
        found = {pane.name: [ln for ln in pane.lines if ln[1] == str(line)] for pane in side.panes}
        assert found["source"][0][0].strip().startswith("acc = acc * rescale")
        assert any("tc_gen5_mma" in text for text, _, _ in found["TTGIR"])
        assert any(text.startswith("tcgen05.") for text, _, _ in found["PTX"])
    branch = pair.sides[1]
    assert any(text.startswith(("UTCQMMA", "UTCHMMA", "LDTM")) for text, key, _ in branch.stage("SASS").lines
               if key == str(line))  # fmt: skip


def test_pressure_is_in_the_gutters_and_the_peak_is_the_crashs(crash):
    side = crash.sides[0]
    assert max(registers for _, _, registers in side.stage("PTX").lines) == 582
    data = crash.data()
    assert side.demand[data["peak"]] == 582 and data["sides"][0]["cap"] == 255
    assert max(registers for _, _, registers in side.stage("source").lines) == 582


def test_a_crash_has_no_sass_and_says_why(crash, pair):
    pane = crash.sides[0].stage("SASS")
    assert not pane.lines and "C7600" in pane.note
    assert max(registers for _, _, registers in pair.sides[1].stage("SASS").lines) > 200


def test_the_page_loads_nothing_holds_no_paths_and_stays_small(pair):
    page = pair._repr_html_()
    assert len(page.encode()) < module.MAX_PAGE_BYTES and network_loads(page) == []
    assert not re.search(r"/(?:home|root|tmp|work)/", page)
    assert {"rc-explorer", "rc-side-by-side"} <= set(re.search(r'class="([^"]*)"', page)[1].split())
    assert "register-cliff compile" in page


def test_without_the_script_a_table_of_lines_stands_in(crash):
    page = re.sub(r"<(script|style).*?</\1>", "", crash._repr_html_(), flags=re.DOTALL)
    assert "582" in page and "acc = acc * rescale" in page and len(page) < 20_000


def test_text_of_a_compile_cannot_end_the_script_or_become_html(crash):
    side = crash.sides[0]
    evil = "</script><script>alert(1)</script><!-- <b>"
    panes = tuple(replace(p, lines=((evil, "206", 9), *p.lines[:3])) for p in side.panes)
    page = replace(crash, sides=(replace(side, panes=panes, title=evil, verdict=evil),))._repr_html_()
    assert page.count("</script>") == 2 and "<b>" not in page.replace("<b>&lt;", "") and "<!--" not in page
    assert _data(page)["source"]["runs"][0][2] == evil


def test_what_differs_is_found_by_line_and_names_of_registers_do_not_count():
    mine = Pane("PTX", (("add %r1, %r2;", "1", 0), ("mul %r1, %r2;", "2", 0), ("x", "3", 0)))
    theirs = Pane("PTX", (("add %r77, %r8;", "1", 0), ("sub %r1, %r2;", "2", 0), ("y", "4", 0)))
    assert changed_keys(mine, theirs) == {"2", "3", "4"}
    assert changed_keys(mine, mine) == set()


def test_long_panes_keep_the_window_around_the_peak_and_say_so():
    lines = [(f"line {n}", "", 300 if n == 90_000 else 1) for n in range(100_000)]
    pane = _windowed("PTX", lines)
    assert len(pane.lines) == module.MAX_PANE_LINES and ("line 90000", "", 300) in pane.lines
    assert "of 100,000" in pane.note
    assert _windowed("PTX", [("a" * 10_000, "", 0)]).lines[0][0] == "a" * module.MAX_LINE_CHARS


def test_neighbouring_lines_of_one_source_line_are_one_run_but_never_in_the_source():
    lines = (("a", "1", 5), ("b", "1", 9), ("c", "2", 1))
    assert _packed(Pane("PTX", lines))["runs"] == [["1", 9, "a\nb"], ["2", 1, "c"]]
    assert len(_packed(Pane("source", lines))["runs"]) == 3


def test_a_page_that_would_grow_too_large_is_refused(pair, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 10_000)
    with pytest.raises(rc.UserError, match="one configuration at a time"):
        pair._repr_html_()


def test_a_ptx_that_is_not_at_hand_is_a_sentence(monkeypatch):
    other = replace(rc.INCIDENT_CHOICE, head_dim=128, triton="9.9.9")
    report = rc.compile_one(other).report
    assert report.status == "toolchain_missing"
    monkeypatch.setattr(module, "compile_choices", lambda choices: [Evidence(report, LIVE) for _ in choices])
    with pytest.raises(rc.UserError, match="no PTX of"):
        rc.side_by_side(other)


def test_of_two_the_one_at_hand_is_shown_and_the_other_says_what_is_missing(toolchain_351):
    pair = rc.side_by_side(rc.INCIDENT_CHOICE, replace(rc.INCIDENT_CHOICE, triton="9.9.9", tile="64x64"))
    missing = pair.sides[1]
    assert pair.sides[0].stage("PTX").lines and not missing.stage("PTX").lines
    assert (
        "toolchains install" in missing.stage("PTX").note
        and missing.stage("PTX").note in _data(pair._repr_html_())["sides"][1]["stages"][1]["note"]
    )

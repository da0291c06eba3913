"""Notebook 06's findings: what each experiment says of its suspect, on the recorded rows and on rows changed."""

from __future__ import annotations

import pandas as pd
import pytest

import helpers as rc
from helpers.compiler.toolchain import installed_ptxas
from helpers.errors import UserError
from helpers.inspection.ptx.packs import packs as packs_of
from helpers.inspection.ptx.packs import repacked
from helpers.search.ablate import MAKES_IT_COMPILE, Ablation, Rung
from helpers.search.changes import Change
from helpers.search.minimize.check import check_valid
from helpers.workbook.root_cause.annotated import listing, listing_html, note_of
from helpers.workbook.root_cause.crossing import crossing_grid, decided_by_column, decided_by_row, died, spilled
from helpers.workbook.root_cause.pack_edits import (
    no_count_decides,
    other_kernels,
    pack_findings,
    pack_table,
    packs_needed,
)
from helpers.workbook.root_cause.suspects import suspects_table

THREE = ("3.5.1", "3.6.0", "3.7.1")


@pytest.fixture(scope="module")
def crossing() -> pd.DataFrame:
    return rc.read_rows("crossing")


@pytest.fixture(scope="module")
def packs() -> pd.DataFrame:
    return rc.read_rows("pack_experiment")


@pytest.fixture(scope="module")
def matrix() -> pd.DataFrame:
    return rc.read_rows("version_matrix")


@pytest.fixture
def ladder(crash, ok) -> Ablation:
    """A small ablation in which q's cast is necessary and the width of the inner tile is not."""

    def rung(name: str, report, effect: str) -> Rung:
        return Rung((Change(name, name, lambda spec: spec),), report, effect)

    rungs = (rung("q_cast", ok, "no spills"), rung("block_n", crash, "same failure"))
    return Ablation("a spec", crash, rungs, MAKES_IT_COMPILE, ("q_cast",), (), 3, 1.0)


def changed(rows: pd.DataFrame, status: str, **where) -> pd.DataFrame:
    """The rows with another status where all of `where` holds; it must hold somewhere."""
    chosen = pd.Series(True, index=rows.index)
    for name, value in where.items():
        chosen &= rows[name] == value
    assert chosen.any()
    return rows.assign(status=rows["status"].mask(chosen, status))


# --- the crossing -------------------------------------------------------------------------------------------------


def test_each_stage_is_read_by_its_pattern(crossing):
    assert decided_by_column(crossing, "ptx", THREE) and not decided_by_row(crossing, "ptx", THREE)
    assert decided_by_row(crossing, "cubin", THREE) and not decided_by_column(crossing, "cubin", THREE)
    # With 3.4.0 among them LLVM does not decide alone.
    assert not decided_by_column(crossing, "ptx", ("3.4.0", *THREE))


def test_one_cell_that_ends_otherwise_breaks_the_pattern(crossing):
    other = changed(crossing, "spills", step="ptx", text_by="3.7.1", done_by="3.6.0")
    assert not decided_by_column(other, "ptx", THREE)
    other = changed(crossing, "spills", step="cubin", text_by="3.6.0", done_by="3.7.1")
    assert not decided_by_row(other, "cubin", THREE)
    # Where all end alike, nothing decides.
    alike = crossing.assign(status="spills")
    assert not decided_by_column(alike, "ptx", THREE) and not decided_by_row(alike, "cubin", THREE)


def test_one_way_through_the_compiler(crossing):
    assert died(crossing, "ptx", "3.6.0", "3.6.0") is True and died(crossing, "ptx", "3.6.0", "3.7.1") is False
    assert died(crossing, "cubin", "3.9.0", "3.4.0") is None and died(crossing, "ptx", "3.9.0", "3.4.0") is None
    assert spilled(crossing, "ptx", "3.4.0", "3.5.1") == 1232
    with pytest.raises(UserError, match="gave no kernel"):
        spilled(crossing, "ptx", "3.6.0", "3.6.0")
    with pytest.raises(UserError, match=r"2.0.0 to 3.5.1 was not crossed"):
        died(crossing, "ptx", "2.0.0", "3.5.1")


def test_the_grid_has_the_makers_down_the_goers_on_across_and_marks_adjusted_texts(crossing):
    grid = crossing_grid(crossing, "ptx")
    assert grid.rows == grid.columns == ("3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.9.0")
    cells = dict(zip(grid.columns, grid.cells[grid.rows.index("3.7.1")], strict=True))
    assert cells["3.6.0"].failed and cells["3.6.0"].words.endswith("*") and not cells["3.9.0"].words.endswith("*")
    assert "2,552" in cells["3.7.1"].words
    assert grid.cells[-1][0].words == "cannot read"
    assert "LLIR" in grid.row_title and "PTX" in crossing_grid(crossing, "cubin").row_title
    with pytest.raises(UserError, match="no row is of the step 'sass'"):
        crossing_grid(crossing, "sass")


# --- the packs ----------------------------------------------------------------------------------------------------


def test_the_pack_experiment_of_the_incident(packs):
    found = pack_findings(packs)
    assert (found.open_dying, found.cured, found.whole_living, found.killed) == (9, 9, 3, 3)
    assert found.second_decides and not found.first_matters and len(found.ptxas) == 5
    assert other_kernels(packs) == {"died": 7, "cured": 7, "kernels": 4}


def test_an_edit_that_ends_otherwise_is_seen(packs):
    incident = {"case": "incident", "triton": "3.6.0", "ptxas": "13.1.80"}
    assert pack_findings(changed(packs, "register_exhausted", edit="all", **incident)).cured == 8
    assert not pack_findings(changed(packs, "register_exhausted", edit="after load 3", **incident)).second_decides
    assert pack_findings(changed(packs, "spills", edit="after load 1", **incident)).first_matters
    with pytest.raises(UserError, match="not the rows of the whole pack experiment"):
        pack_findings(packs[packs["edit"] != "all"])


def test_how_many_packs_it_takes(packs):
    assert [packs_needed(packs, "3.6.0", order) for order in ("the first", "the last")] == [4, 1]
    assert packs_needed(packs, "3.7.1", "the last") == 61
    assert no_count_decides(packs, "3.6.0") == (61, 63)
    with pytest.raises(UserError, match=r"not tried on the PTX of Triton 3.4.0"):
        packs_needed(packs, "3.4.0", "the last")
    alike = packs.assign(status="spills")
    with pytest.raises(UserError, match="never turn the verdict"):
        packs_needed(alike, "3.6.0", "the last")
    with pytest.raises(UserError, match="all texts ended alike"):
        no_count_decides(alike, "3.6.0")


def test_the_table_of_packs_has_the_bundled_ptxas_alone(packs):
    table = pack_table(packs)
    incident = table[table["kernel"] == "incident"].set_index("Triton")
    assert list(incident.index) == list(THREE)
    assert incident.loc["3.6.0", "every pack in the other form"] == "2,292 B"
    assert incident.loc["3.7.1", "packs written as"] == "one mov.b64"
    assert "C7600" in incident.loc["3.7.1", "only the packs behind the second wide load"]


# --- the verdicts -------------------------------------------------------------------------------------------------


def test_every_suspect_has_a_verdict_with_its_numbers(ladder, matrix, crossing, packs):
    table = suspects_table(ladder, matrix, crossing, packs).set_index("suspect")
    assert list(table.index) == ["The kernel's ingredients", "ptxas", "Triton's passes", "LLVM"]
    assert table.loc["LLVM", "verdict"].startswith("convicted") and table.loc["ptxas", "verdict"].startswith(
        "acquitted"
    )
    assert "2,556 B" in table.loc["LLVM", "what was found"] and "12 times of 12" in table.loc["LLVM", "what was found"]
    assert table.loc["The kernel's ingredients", "what was found"].startswith("1 ingredients")


@pytest.mark.parametrize(
    ("rows", "where", "status", "who"),
    [
        ("crossing", {"step": "ptx", "text_by": "3.6.0", "done_by": "3.7.1"}, "register_exhausted", "Triton's passes"),
        ("crossing", {"step": "ptx", "text_by": "3.4.0", "done_by": "3.5.1"}, "register_exhausted", "Triton's passes"),
        ("crossing", {"step": "cubin", "text_by": "3.6.0", "done_by": "3.7.1"}, "spills", "ptxas is acquitted"),
        ("crossing", {"step": "ptx", "text_by": "3.4.0", "done_by": "3.4.0"}, "register_exhausted", "accomplices"),
        ("packs", {"case": "incident", "edit": "all", "ptxas": "13.4.59"}, "register_exhausted", "LLVM is convicted"),
    ],
)
def test_a_row_that_does_not_carry_the_verdict_stops_the_table(
    ladder, matrix, crossing, packs, rows, where, status, who
):
    crossing = changed(crossing, status, **where) if rows == "crossing" else crossing
    packs = changed(packs, status, **where) if rows == "packs" else packs
    with pytest.raises(UserError, match=f"do not carry the verdict that .*{who}"):
        suspects_table(ladder, matrix, crossing, packs)


# --- the smallest pair --------------------------------------------------------------------------------------------


def test_the_pair_is_valid_differs_by_its_pack_alone_and_ends_differently():
    fatal, cured = rc.pack_pair()
    assert repacked(fatal) == cured and not check_valid(fatal) and not check_valid(cured)
    (pack,) = packs_of(fatal)
    assert pack.form == "open" and rc.lines_apart(fatal, cured) == 3
    table = rc.pack_pair_verdicts()
    assert list(table["ptxas"]) == list(installed_ptxas())
    assert set(table["the PTX that dies"]) == {"✕ C7600"} and set(table["its twin"]) == {"48 B"}


def test_the_listing_folds_what_looks_alike_and_explains_what_tells():
    fatal = "a\nmov.b64 %rd1, 0;\nmov.b64 %rd2, 0;\nmov.b64 %rd3, 0;\nshl.b64 %rd4, %rd1, 32;\nret;"
    cured = "a\nmov.b64 %rd1, 0;\nmov.b64 %rd2, 0;\nmov.b64 %rd3, 0;\nmov.b64 %rd4, {%r1, %r2};\nret;"
    lines = listing(fatal, cured)
    assert (" ", "mov.b64 %rd1, 0;") in lines and ("…", "2 more lines like this one") in lines
    assert [mark for mark, _ in lines].count("//") == 2
    assert ("-", "shl.b64 %rd4, %rd1, 32;") in lines and ("+", "mov.b64 %rd4, {%r1, %r2};") in lines
    assert [line for mark, line in lines if mark == " "][-1] == "ret;"
    page = listing_html(fatal.replace("ret", "<ret>"), cured.replace("ret", "<ret>"))
    assert "&lt;ret&gt;" in page and "<ret>" not in page and "only in the PTX that dies: shl" in page


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tcgen05.ld.sync.aligned.32x32b.x128.b32 {%r2}, [%r1];", "into 128 registers"),
        ("@%p0 tcgen05.st.sync.aligned.32x32b.x64.b32 [%r0], {%r2};", "from 64 registers"),
        ("@%p1 bra $L2;", "A branch"),
        ("bra.uni $L2;", ""),
        ("mov.b64 {%r1, %r2}, %rd1;", ""),
        ("fma.rn.f32x2 %rd1, %rd2, %rd3, %rd1;", "two floats at once"),
    ],
)
def test_telling_lines_have_a_note(line: str, says: str):
    assert (says in note_of(line)) if says else not note_of(line)


# --- the switch -------------------------------------------------------------------------------------------------


def test_the_switch_leaves_every_operation_and_takes_every_pair():
    rows = rc.read_rows("llvm_switch")
    assert len(rows) == 32 and rows["same_operations"].all() and not rows["pairs_with_switch"].any()
    assert (rows["operations"] == rows["operations_with_switch"]).all()
    # Chips without pairs get the same text, so the comparison says something only where there are pairs.
    assert rows.loc[rows["arch"] == "sm_90a", "same_text"].all()
    assert not rows.loc[rows["pairs"] > 0, "same_text"].any() and (rows["pairs"] > 0).sum() > 20

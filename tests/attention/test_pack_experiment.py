"""The pack experiment's and the crossing's rows say what the project says of them, and the note is made of them."""

from __future__ import annotations

import runpy

import pytest

from helpers.attention.studies.pack_experiment import cases, count_rows, subject
from helpers.compiler.report import CompileReport
from helpers.files import ROOT
from helpers.recorded import read_rows
from helpers.search.cross import STEPS, Crossed, Crossing, Member, turns_of


@pytest.fixture(scope="module")
def edits():
    return read_rows("pack_experiment")


@pytest.fixture(scope="module")
def cells():
    return read_rows("crossing")


def one(rows, **wanted):
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    (row,) = rows.to_dict("records")
    return row["ptxas_code"] if row["status"] == "register_exhausted" else int(row["spill_store_bytes"])


def test_the_rows_found_by_hand_before_come_out_again(edits):
    at = {"case": "incident"}
    for ptxas, spilled in (("12.8.93", 2016), ("12.9.86", 1976), ("13.1.80", 1868)):
        assert one(edits, **at, triton="3.5.1", ptxas=ptxas, edit="as it is") == "C7600"
        assert one(edits, **at, triton="3.5.1", ptxas=ptxas, edit="all") == spilled
    assert one(edits, **at, triton="3.6.0", ptxas="12.9.86", edit="all") == 2292
    assert one(edits, **at, triton="3.6.0", ptxas="13.1.80", edit="all") == 2312
    assert one(edits, **at, triton="3.7.1", ptxas="13.1.80", edit="as it is") == 2256
    assert one(edits, **at, triton="3.7.1", ptxas="13.1.80", edit="all") == "C7600"


def test_the_packs_behind_the_second_wide_load_decide(edits):
    rows = edits[(edits["case"] == "incident") & edits["edit"].isin(["after load 1", "after load 3"])]
    rows = rows[rows["status"].isin(["register_exhausted", "spills"])]  # a ptxas that reads the PTX
    assert len(rows) > 20
    for _, row in rows.iterrows():
        dies = row["status"] == "register_exhausted"
        assert dies == ((row["edit"] == "after load 1") == (row["form"] == "open")), dict(row)


def test_every_dead_case_lives_repacked(edits):
    rows = edits[edits["form"] == "open"]
    plain = rows[rows["edit"] == "as it is"].set_index(["case", "triton", "ptxas"])["status"]
    changed = rows[rows["edit"] == "all"].set_index(["case", "triton", "ptxas"])["status"]
    dead = plain[plain == "register_exhausted"].index
    assert len(dead) >= 10 and (changed.loc[list(dead)] == "spills").all()
    assert {"hd512 bf16 window 64x32", "bf16 mask", "fp8 mask", "e5m2 window"} < {case for case, _, _ in dead}


def test_llvm_decides_between_360_and_371(cells):
    for maker in ("3.6.0", "3.7.1"):
        assert one(cells, step="ptx", text_by=maker, done_by="3.6.0") == "C7600"
        assert isinstance(one(cells, step="ptx", text_by=maker, done_by="3.7.1"), int)
    assert one(cells, step="ptx", text_by="3.4.0", done_by="3.5.1") == 1232


def test_the_recorded_crossing_names_llvm_as_the_cure_and_what_35_changed_besides(cells):
    """The rows read back as a crossing: the same two turns come out, with who decides each."""
    releases = tuple(dict.fromkeys(cells["done_by"]))

    def report(row):
        known = row["status"] not in ("cannot_read", "no_text")
        code = row["ptxas_code"] if row["status"] == "register_exhausted" else None
        asked = 255 if code else None
        paths = dict.fromkeys(("ttgir_path", "llir_path", "ptx_path"), "kept")
        return known and CompileReport(row["status"], "sm_100a", row["done_by"], row["ptxas"], ptxas_code=code,
                                       register_count_asked=asked, **paths)  # fmt: skip

    rows = cells.to_dict("records")
    crossings = tuple(Crossing(r["step"], r["text_by"], r["done_by"], report(r) or None) for r in rows)
    own = {c.done_by: c.report for c in crossings if c.made_by == c.done_by}
    members = tuple(Member(name, None, None) for name in releases)
    found = Crossed("incident", "sm_100a", STEPS, members, own, crossings)
    brought, cured = turns_of(found)
    assert (brought.other, brought.fails, brought.decided_by) == ("3.4.0", "3.5.1", ("ttgir", "ptx"))
    assert (cured.fails, cured.other, cured.decided_by) == ("3.6.0", "3.7.1", ("ptx",))


def test_the_note_is_made_of_the_rows():
    script = runpy.run_path(str(ROOT / "benchmarks" / "write_triton_8488.py"))
    assert script["note_text"]() == script["NOTE"].read_text()


def test_counting_asks_for_what_lies_between(monkeypatch):
    """A made-up ptxas that dies while fewer than 5 packs are changed: the number comes out, from both ends."""
    this = subject("incident", "3.5.1")
    monkeypatch.setattr(
        "helpers.attention.studies.pack_experiment.assembled",
        lambda _this, _ptxas, chosen, words: {
            "edit": words, "changed": len(chosen), "status": "register_exhausted" if len(chosen) < 5 else "spills",
        },
    )  # fmt: skip
    rows = list(count_rows(this, "12.8.93"))
    for words in ("the first", "the last"):
        lives = [r["changed"] for r in rows if r["edit"] == words and r["status"] == "spills"]
        assert min(lives) == 5


def test_the_cases_differ():
    assert len({choice.request().spec.content_key() for choice in cases().values()}) == len(cases())

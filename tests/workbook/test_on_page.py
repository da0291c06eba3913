"""What an exported page gets of an explorer: the recorded rows as they are, commands that compile them, no more."""

from __future__ import annotations

import json

import pytest

import helpers as rc
from helpers.attention.choice import Choice
from helpers.attention.studies.cliff_map import CLIFF_TILES, CLIFF_WARPS
from helpers.compiler.report import CompileReport, Evidence
from helpers.workbook.explorer.choices import choice_controls
from helpers.workbook.explorer.frame import KNOBS, MAKING_PAGES, drop
from helpers.workbook.explorer.on_page import LETTERS, Answer, OnPage, choice_command, choice_words, knobs_of
from helpers.workbook.explorer.recorded_choices import (
    choice_of_command,
    compile_answer,
    configuration,
    recorded_compiles,
    recorded_settings,
)
from helpers.workbook.inside_ptxas.cliff_rows import ASKED, recorded_profiles, recorded_reports
from helpers.workbook.numerics import filter_numerics

BASE = rc.INCIDENT_CHOICE


def chosen(page: dict, key: str) -> dict[str, str]:
    """The labels of the options that a key of the page's states stands for."""
    return {k["label"]: k["options"][LETTERS.index(at)] for k, at in zip(page["knobs"], key, strict=True)}


def command_of(page: dict, key: str) -> str:
    """The command that the page shows for a state, as its script puts it together."""
    words = [w if isinstance(w, str) else page["knobs"][w]["words"][LETTERS.index(key[w])] for w in page["command"]]
    return " ".join(word for word in words if word)


@pytest.fixture(scope="module")
def cliff(toolchain_351) -> dict:
    return page_of(rc.cliff_map())


def page_of(frame) -> dict:
    """What goes to the page, through JSON as it does there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MAKING_PAGES, "1")
        data, _ = frame._repr_mimebundle_()
    return json.loads(json.dumps(data[KNOBS]))


def test_every_recorded_cell_of_the_cliff_map_is_on_the_page_with_what_ptxas_said(cliff):
    reports, source = recorded_reports()
    assert len(cliff["states"]) == len(reports) == 252
    assert (len(CLIFF_TILES), len(CLIFF_WARPS)) == tuple(len(cliff["knobs"][n]["options"]) for n in cliff["grid"])
    for key, number in cliff["states"].items():
        choice = choice_of_command(command_of(cliff, key))
        report = reports[tuple(getattr(choice, name) for name in ASKED)]
        _, said, cell, facts, *_ = cliff["answers"][number]
        assert cliff["texts"][said].endswith(report.verdict()) and f"head dim {choice.head_dim}" in cliff["texts"][said]
        assert ("✕" in cell[1]) == (not report.compiled)
        told = {name: cliff["texts"][at] for name, at in zip(cliff["heads"], facts, strict=True) if at >= 0}
        assert told["evidence"] == source.replace("`", "") and told["toolchain"].startswith("Triton 3.5.1")


def test_every_cell_that_needs_registers_has_its_profile_and_the_peak_is_in_it(cliff):
    profiles, _ = recorded_profiles()
    assert len(profiles) == 252
    for asked, facts in profiles.items():
        assert bool(facts["profile"]) == bool(facts["demand"]), asked
        if facts["profile"]:
            assert max(facts["profile"]) == facts["demand"] and len(facts["profile"]) == 64
    drawn = [row[4] for row in cliff["answers"] if row[4]]
    assert [255, *profiles["sm_100a", 256, "fp8_e4m3", 1024, "128x64", 8, "3.5.1"]["profile"]] in drawn


def test_a_page_starts_where_the_explorer_does(cliff):
    key = "".join(LETTERS[k["at"]] for k in cliff["knobs"])
    assert choice_of_command(command_of(cliff, key)) == Choice(tile="128x64", num_warps=8)
    assert "dies (C7600)" in cliff["texts"][cliff["answers"][cliff["states"][key]][1]]


def test_a_page_gets_nothing_outside_the_making_of_pages(monkeypatch):
    monkeypatch.delenv(MAKING_PAGES, raising=False)
    data, _ = rc.throughput_explorer()._repr_mimebundle_()
    assert KNOBS not in data and "text/html" in data


@pytest.mark.parametrize("make", ["explorer", "landscape_explorer", "tile_explorer", "root_cause_explorer"])
def test_the_command_of_a_state_compiles_what_the_state_says(make, toolchain_351):
    page = page_of(getattr(rc, make)())
    assert len(page["states"]) > 100 and len(json.dumps(page)) < 250_000
    for key in list(page["states"])[::7]:
        choice, labels = choice_of_command(command_of(page, key)), chosen(page, key)
        assert choice is not None
        assert str(choice.head_dim) == labels.get("head dim", "256") and choice.kv_dtype == labels["KV dtype"]
        assert (choice.window or "none") == (labels["window"] if labels["window"] == "none" else int(labels["window"]))
        assert labels["Triton"] == choice.triton and labels.get("ptxas", "bundled") == choice.ptxas
        assert labels.get("tile", choice.tile) == choice.tile


def test_every_choice_of_recorded_numerics_is_on_the_page_and_says_what_the_explorer_says():
    frame = rc.numerics_explorer()
    page = page_of(frame)
    assert len(json.dumps(page)) < 150_000
    matrix = rc.read_rows("numerics_h200")
    matrix = matrix[matrix["study"] == "matrix"].assign(mask=matrix["mask"].fillna("none"))
    labels = {knob["label"]: name for knob, name in zip(page["knobs"], frame.controls, strict=True)}
    for key in [*list(page["states"])[::41], "".join(LETTERS[k["at"]] for k in page["knobs"])]:
        state = {
            labels[k["label"]]: frame.controls[labels[k["label"]]].options[LETTERS.index(at)][1]
            for k, at in zip(page["knobs"], key, strict=True)
        }
        rows = filter_numerics(matrix, state)
        _, said, *_, bars = page["answers"][page["states"][key]]
        assert page["texts"][said] == f"{len(rows)} of {len(rows)} cases keep their error budget"
        shares = (rows["row_rel"] / rows["row_rel_tolerance"]).sort_values(ascending=False)[:8]
        assert [page["bars"][at][1] for at in bars] == pytest.approx(list(shares), abs=1e-4)
    nowhere = {"tile_table": "Hopper kernel", "head_dim": 80}
    with pytest.raises(rc.UserError):
        filter_numerics(matrix, nowhere)
    places = "".join(
        LETTERS[[v for _, v in frame.controls[n].options].index(nowhere[n])] if n in nowhere else LETTERS[0]
        for n in frame.controls
    )
    assert places not in page["states"]


def test_a_command_is_read_back_as_the_choice_that_wrote_it():
    for choice in (
        Choice(),
        Choice(window=None, num_warps=16, tile_skip="bounds"),
        Choice(ptxas="13.0.88", maxnreg=128),
    ):
        assert choice_of_command(choice.command()) == choice
    assert choice_of_command("register-cliff compile --arch sm_100a --llvm nvptx-no-f32x2") is None
    assert choice_of_command("register-cliff compile --mask --arch sm_100a") is None
    assert choice_of_command("register-cliff compile --ptxas-flag=-O1") is None


def test_a_compile_is_found_under_every_spelling_of_its_launch():
    assert configuration(Choice()) == configuration(Choice(tile="128x64", num_warps=8, num_stages=1, num_q_heads=4))
    others = [
        Choice(tile="64x64"),
        Choice(num_warps=4),
        Choice(num_stages=2),
        Choice(arch="sm_90a"),
        Choice(maxnreg=64),
    ]
    assert len({configuration(c) for c in [Choice(), *others]}) == 6
    names = ("tile", "num_warps")
    controls = choice_controls(BASE, names)
    knobs = knobs_of(controls, choice_words(BASE, controls))
    crash = {configuration(Choice()): "crash", configuration(Choice(arch="sm_90a")): "elsewhere"}
    found = dict(recorded_settings(BASE, knobs, crash))
    assert set(found.values()) == {"crash"}
    assert set(found) == {(tile, warps) for tile in ("hopper", "128x64") for warps in (None, 8)}


def test_the_incident_is_recorded_and_reads_as_the_crash():
    found = recorded_compiles()[configuration(Choice())]
    assert found.report.crashed and found.source.startswith("recorded")
    answer = compile_answer(found)
    assert answer.status == "register_exhausted" and answer.bars[0].value is None and "C7600" in answer.bars[0].words
    spilling = CompileReport("spills", "sm_100a", "3.5.1", "12.8.93", num_warps=8, regs_per_thread=255,
                             spill_store_bytes=8)  # fmt: skip
    bar = compile_answer(Evidence(spilling, "recorded: here")).bars[0]
    assert (bar.value, bar.hatched) == (255, True)


def test_equal_answers_and_texts_are_carried_once_and_markdown_goes():
    control = {"n": drop("n", [("none", None), ("one", 1), ("two", 2)], 1, "How many.")}
    knobs = knobs_of(control, {"n": {None: "", 1: "--n 1", 2: "--n 2"}})
    same = Answer("ok", "fine", {"by": "`me`", "nothing": None, "empty": ""})
    page = OnPage("made", "Made", knobs, {(1,): same, (2,): same, (None,): Answer("ok", "fine")}, ("x", "n")).payload()
    assert page["states"] == {"1": 0, "2": 0, "0": 1} and len(page["answers"]) == 2
    assert page["texts"] == ["fine", "me"] and page["heads"] == ["by"] and page["command"] == ["x", 0]
    assert page["knobs"][0] | {} == {"label": "n", "means": "How many.", "options": ("none", "one", "two"),
                                     "words": ("", "--n 1", "--n 2"), "at": 1}  # fmt: skip
    assert page["answers"][1][3] == [-1]
    ordered = OnPage(
        "made", "Made", knobs, {(1,): Answer("ok", "x", {"evidence": "e", "zebra": "z"})}, ("x",)
    ).payload()
    assert ordered["heads"] == ["zebra", "evidence"]  # where it comes from stands last


def test_the_words_of_a_choice_stand_where_the_command_has_them():
    names = ["kv_dtype", "num_warps"]
    words = choice_command(Choice(triton="3.6.0"), names)
    assert (
        words[0] == "register-cliff compile" and {"kv_dtype", "num_warps"} <= set(words) and "--triton 3.6.0" in words
    )
    told = choice_words(Choice(), choice_controls(Choice(), names))
    assert told["num_warps"] == {None: "", 4: "--num-warps 4", 8: "--num-warps 8", 16: "--num-warps 16"}

"""What the pages say of their tables is worked out in the rooms: on the recorded rows, and on small made ones."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import helpers as rc
from helpers.compiler.report import LIVE, Evidence
from helpers.search.ablate import MAKES_IT_COMPILE, Ablation, Rung
from helpers.search.changes import Change
from helpers.workbook.inside_ptxas.cliff_map import recorded_cells
from helpers.workbook.reproduce_the_crash import AGREE, DIFFERENCE


def evidence(*reports) -> list[Evidence]:
    return [Evidence(report, LIVE) for report in reports]


# --- 01, 02, 03 ---------------------------------------------------------------------------------------------------


def test_the_reference_agrees_where_crash_meets_crash_and_missing_bytes_are_no_difference():
    table = pd.DataFrame({AGREE: [True, False, True], DIFFERENCE: [None, -132, 8]})
    assert rc.reference_findings(table) == {"rows": 3, "agree": 2, "least": -132, "most": 8}


def test_dying_layers_are_counted_by_layers_and_not_by_rows():
    table = pd.DataFrame(
        {"status": ["register_exhausted", "spills", "register_exhausted"], "layers": [50, 10, 3],
         "head_dim": [256, 512, 256], "kv_dtype": ["fp8_e4m3", "bf16", "bf16"]}
    )  # fmt: skip
    assert rc.dying_layers(table) == {"layers": 53, "head_dims": {256}, "kv_dtypes": {"fp8_e4m3", "bf16"}}


def test_the_grid_names_what_dies_and_hands_out_what_traps(ok, crash):
    trap = replace(ok, status="trapped")
    assert rc.grid_findings(evidence(ok, replace(crash, label="dead"), trap)) == (["dead"], [trap])


def test_the_recorded_cliff_map_dies_with_8_warps_at_the_incident_and_never_with_16():
    dead, spilled = rc.cliff_findings(recorded_cells(rc.INCIDENT_CHOICE))
    assert "128x64" in dead[8] and dead[16] == [] and "128x64" not in dead[4]
    assert spilled["128x64", 16] == 7428 and spilled["128x64", 4] == 9292 and ("128x64", 8) not in spilled


def test_the_fix_is_counted_before_and_after(ok, crash):
    spills = replace(ok, status="spills", spill_store_bytes=700)
    assert rc.fix_findings(evidence(crash, spills), evidence(ok, ok)) == {
        "fatal_before": 1, "spilled_before": 700, "fatal_after": 0, "spilled_after": 0
    }  # fmt: skip


def test_the_cost_is_told_after_the_fix_only():
    table = pd.DataFrame(
        {"layer": ["a", "a", "b"], "when": ["before", "after", "after"], "ctas_per_sm": [2, 1, 1],
         "tensor_core_path": ["mma.sync", "tcgen05", "mma.sync"]}
    )  # fmt: skip
    assert rc.cost_findings(table) == {
        "paths": {"a": "tcgen05", "b": "mma.sync"}, "mma.sync": ["b"], "ctas_per_sm": [1, 1]
    }  # fmt: skip


# --- 04 -----------------------------------------------------------------------------------------------------------


def test_numerics_are_counted_by_kernel_and_a_case_without_a_number_has_no_worst_share():
    table = pd.DataFrame(
        {"study": ["matrix", "matrix", "matrix", "fp8"], "status": ["ok", "wrong", "ok", "ok"],
         "tile_table": ["hopper", "hopper", "Hopper kernel", "hopper"], "row_rel": [1.0, 2.0, 3.0, 4.0],
         "row_rel_tolerance": [4.0, 4.0, 4.0, 4.0]}
    )  # fmt: skip
    assert rc.passed_by_kernel(table) == {"Gluon kernel": (1, 1), "extend kernel": (1, 2)}
    assert rc.worst_share(table) == 1.0
    assert pd.isna(rc.worst_share(table.assign(row_rel=[1.0, None, 3.0, 4.0])))


def test_recorded_numerics_keep_the_bits_for_the_merged_row_and_add_their_squares():
    table = rc.read_rows("numerics_h200")
    equal = rc.equal_shares(rc.tile_study_table(table))
    assert (equal["merged row's tile, incident against hopper tile"] == 1).all()
    assert (equal["other BLOCK_N, incident against hopper tile"] < 1).all()
    fp8 = rc.fp8_findings(table)
    assert (fp8["ratio"] > 4).all() and ((fp8["stored"] / fp8["from squares"] - 1).abs() < 0.1).all()


# --- 06 -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ablation(ok, crash) -> Ablation:
    def rung(words: str, report, effect: str) -> Rung:
        return Rung((Change(words, words, lambda spec: spec),), report, effect)

    spills = replace(ok, status="spills", spill_store_bytes=684)
    rungs = (rung("a", spills, "compiles"), rung("b", crash, "same failure"), rung("c", ok, "no spills"))
    return Ablation("a spec", crash, rungs, MAKES_IT_COMPILE, ("a", "c"), (), 3, 1.0)


def test_the_ladder_is_counted_and_a_rung_is_found_by_its_words(ablation):
    assert rc.ladder_findings(ablation) == {"changes": 3, "cured": 2, "free": 1, "same failure": ["b"]}
    assert rc.rung_of(ablation, "c").report.spill_store_bytes == 0
    with pytest.raises(rc.UserError, match="no change reads 'd'; there are a, b, c"):
        rc.rung_of(ablation, "d")


def test_marks_and_the_share_above_the_cap_are_those_of_the_recorded_crash():
    from helpers.workbook.your_own_crash.views import incident_ptx

    ptx = incident_ptx()[0]
    marks = rc.wide_move_marks(ptx)
    assert len(marks) >= 2 and all(ptx.splitlines()[line - 1].count("%r") >= 128 for line in marks.values())
    assert {name.split(",")[0] for name in marks} == {"x128 ld", "x128 st"}
    assert 0.7 < rc.share_above_cap(rc.pressure_profile(ptx)) < 0.9


def test_both_sides_have_their_worst_lines_and_gaps_where_both_know_the_line():
    table = pd.DataFrame({"line": [5, 7, 9], "SASS": [100, 90, 80], "PTX": pd.array([110, 135, None], "Int64")})
    found = rc.sides_findings(table)
    assert (found["by SASS"], found["by PTX"], found["lines"]) == (5, 7, 2)
    assert found["least"] == pytest.approx(0.1) and found["most"] == pytest.approx(0.5)


def test_estimates_and_peak_lines_are_told_from_the_recorded_rows():
    words = rc.family_words(rc.liveness_counts(rc.read_rows("tile_audit")))
    assert words.count("`") == 6 and "`sm_90a`" in words and ("met" in words)
    peaks = rc.peak_findings()
    assert peaks["lines"] == peaks["agree"] + peaks["missed"] and peaks["exact"] <= peaks["agree"]


def test_predictions_are_counted_without_those_that_were_not_made():
    recorded = rc.read_rows("tuple_experiment")
    kept, made = rc.predictions_kept(recorded)
    assert kept == made == 368 < len(recorded)
    wrong = recorded.assign(found="dies")
    assert rc.predictions_kept(wrong)[0] < made
    assert rc.pairs_tried(recorded) == (46, ["3.5.0", "3.5.1", "3.6.0"])
    mine = recorded[(recorded["triton"] == "3.5.1") & recorded["bundled"]]
    assert rc.spilled_after(mine, "loads split, x128 to x64") == 776
    with pytest.raises(rc.UserError, match="nothing compiled after the edit 'moved'"):
        rc.spilled_after(mine, "moved")


def test_the_audit_says_which_cells_die_and_from_which_demand():
    audit = rc.read_rows("tile_audit")
    crashes = rc.crash_findings(rc.audit_offenders(audit, top=10))
    assert crashes == {"dead": 8, "masked": 2, "tables": {"hopper_catch_all"}, "head_dims": ["256"]}
    limit = rc.demand_threshold(audit)
    assert (limit["lived"], limit["died"], limit["only_tmem"]) == (542, 582, True) and limit["elsewhere_most"] > 582
    # One survivor above the lowest that died, and there is no threshold any more.
    row = audit[(audit["status"] == "spills") & (audit["tensor_core_path"] == "tcgen05") & (audit["triton"] == "3.5.1")]
    changed = audit.copy()
    changed.loc[row.index[0], "demand"] = 900
    assert rc.demand_threshold(changed)["lived"] == 900
    tally = rc.arch_tally(rc.audit_counts(audit), "sm_120a")
    assert tally["table"] == "blackwell_consumer" and tally["crashes"] == 0
    choices = rc.spill_free_choices(audit)
    changed = rc.changed_choices(choices)
    assert set(changed["outcome"]) == {"changes"} and len(changed) == (choices["outcome"] == "changes").sum() > 0
    told = rc.audit_in_words(rc.audit_offenders(audit, top=3))
    assert set(told["row of the table"]) == {"capability >= 9, at the incident"}
    assert not [name for frame in (told, rc.audit_in_words(changed)) for name in frame if "_" in name]


# --- 07 -----------------------------------------------------------------------------------------------------------


def test_the_wheels_say_which_died():
    assert rc.wheel_findings() == {"wheel": "sglang==0.5.23", "bytes": 10964, "died": ["sglang==0.5.10"]}
    verdicts = pd.DataFrame({"level": ["-O0", "-O3"], "verdict": ["compiles", "C7600 at 255"]})
    assert rc.levels_that_die(verdicts) == ["-O3"]

"""Views of the tile audit, on the recorded rows and on small tables made for one question each."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import helpers as rc
from helpers.__main__ import main
from helpers.attention.studies.tile_audit import EVERYWHERE, audit_requests
from helpers.errors import UserError
from helpers.workbook.every_chips_tiles.tile_audit import audit_rows
from helpers.workbook.how_good_is_the_estimate.estimate import LEAST_SPECS, MAIN_ARCHS, audit_label, liveness_specs


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    return rc.read_rows("tile_audit.csv")


def row(**changes) -> dict:
    """An audit row, spill-free at 200 registers unless told otherwise."""
    base = {
        "arch": "sm_100a", "head_dim": 256, "v_head_dim": 256, "kv_dtype": "bf16", "option": "none",
        "table": "sm100_branch", "chosen_by": "after_fix", "tile": "64x64", "num_warps": 8, "num_stages": 1,
        "triton": "3.5.1", "ptxas": "12.8.93", "status": "ok", "ptxas_code": None, "regs_per_thread": 200,
        "spill_store_bytes": 0, "tensor_core_path": "tcgen05", "demand": 190, "estimate": 200,
    }  # fmt: skip
    return base | changes


NO_TRAINING = pd.DataFrame({"set": [], "arch": [], "label": []}, dtype=str)


# --- the recorded file --------------------------------------------------------------------------------------------


def test_every_cell_of_the_tables_is_recorded_with_a_verdict(recorded):
    rows = audit_rows(recorded)
    there = {
        (r["arch"], r["table"], r["head_dim"], r["kv_dtype"], r["option"], r["tile"]): r["status"]
        for r in rows.to_dict("records")
    }
    for cell in audit_requests():
        c = cell.choice
        status = there.get((c.arch, cell.table, c.head_dim, c.kv_dtype, cell.option, c.tile))
        assert status not in (None, "toolchain_missing", "timeout", "frontend_error"), (c, status)


def test_the_incident_is_in_it_and_the_branch_mends_it(recorded):
    rows = audit_rows(recorded)
    incident = rows[(rows["arch"] == "sm_100a") & (rows["head_dim"] == 256) & (rows["kv_dtype"] == "fp8_e4m3")
                    & (rows["option"] == "window")].set_index("table")  # fmt: skip
    assert incident.loc["hopper_catch_all", ["status", "ptxas_code"]].tolist() == ["register_exhausted", "C7600"]
    assert incident.loc["sm100_branch", "status"] == "ok"


def test_rows_have_provenance_and_no_path_of_a_machine(recorded):
    for column in ("triton", "ptxas", "date_utc", "machine", "command", "estimate_rule"):
        assert recorded[column].notna().all(), column
    assert not recorded["command"].str.contains("/").any()
    assert "record_audit.py" in rc.provenance(recorded)


def test_the_liveness_figure_rests_on_enough_specs_of_each_arch_and_hides_no_miss(recorded):
    counts = rc.liveness_counts(recorded).set_index("arch")
    for arch in MAIN_ARCHS:
        assert counts.loc[arch, "specs"] >= LEAST_SPECS
    assert counts.loc["all", "specs"] == counts.drop("all")["specs"].sum()
    training = rc.read_rows("liveness_accuracy")
    training = training[training["set"].str.startswith("training")]
    fitted = set(zip(training["arch"], training["label"], strict=True))
    specs = liveness_specs(recorded)
    assert fitted.isdisjoint(zip(specs["arch"], specs["label"], strict=True))


def test_the_figures_draw_and_the_map_names_the_crash(recorded):
    fig = rc.plot_audit(recorded, "Title", "conditions")
    words = [t.get_text() for t in fig.axes[0].texts]
    assert "✕ C7600" in words and any(w.startswith("conditions\n") and "not drawn" in w for w in words)
    assert len(fig.axes[0].get_xticks()) >= 11
    fig = rc.plot_liveness_accuracy(recorded, "Title")
    assert len(fig.axes) == 2


def test_the_readers_question_has_a_row_for_every_head_dim_and_dtype(recorded):
    table = rc.reader_question_table(recorded)
    assert len(table) == 16 and set(table["own row"]) == {"64x128", "64x64", "32x32"}
    assert not table["own row: worst"].str.contains("C7600").any()


def test_peak_lines_are_of_ten_kernels_with_the_misses_in_sight():
    table = rc.peak_line_table()
    assert table["kernel"].nunique() == 10 and set(table["arch"]) == set(MAIN_ARCHS)
    misses = rc.peak_line_table(misses=True)
    assert 0 < len(misses) == (~table["agrees"].astype(bool)).sum()


def test_the_verb_prints_counts_and_offenders_and_the_same_as_json(capsys):
    assert main(["audit", "--arch", "sm_100a", "--head-dim", "256", "--kv-dtype", "fp8_e4m3"]) == 0
    text = capsys.readouterr().out
    assert "✕ C7600" in text and "recorded" in text
    assert main(["audit", "--arch", "sm_100a", "--head-dim", "256", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"counts", "offenders", "spill_free", "liveness", "source", "triton"} <= set(result)
    assert result["offenders"][0]["verdict"] == "✕ C7600"


@pytest.mark.parametrize("words", [["--arch", "sm_70"], ["--head-dim", "x"], ["--head-dim", "77"], ["--option", "x"],
                                   ["--triton", "9.9.9"], ["--kv-dtype", "int4"], ["--top", "0"],
                                   ["--csv", "/no/such/folder/x.csv"]])  # fmt: skip
def test_the_verb_says_in_one_line_what_it_cannot_show(words, capsys):
    assert main(["audit", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- small tables -------------------------------------------------------------------------------------------------


def test_counts_leave_tried_tiles_and_what_ifs_out_of_the_sum():
    table = pd.DataFrame(
        [
            row(), row(option="mask", status="spills", spill_store_bytes=40),
            row(option="window", status="register_exhausted", ptxas_code="C7600", spill_store_bytes=None),
            row(option="cap", status="trapped"), row(table="search", chosen_by=None, tile="32x32"),
            row(arch="sm_120a", chosen_by=None),
        ]
    )  # fmt: skip
    counts = rc.audit_counts(table)
    total = counts[counts["arch"] == "all"].iloc[0]
    assert total[["cells", "spill_free", "spills", "crashes", "other_failures"]].tolist() == [4, 1, 1, 1, 1]
    assert total["worst_spill_bytes"] == 40
    assert counts[counts["arch"] == "sm_120a"]["chosen"].tolist() == [False]


def test_offenders_are_crashes_then_failures_then_bytes_and_a_spec_of_two_tables_is_one():
    table = pd.DataFrame(
        [
            row(status="spills", spill_store_bytes=9000, tile="128x64"),
            row(status="spills", spill_store_bytes=12, head_dim=512),
            row(status="out_of_shared_memory", head_dim=96), row(head_dim=64),
            row(status="register_exhausted", ptxas_code="C7600", head_dim=128, spill_store_bytes=None),
            row(status="register_exhausted", ptxas_code="C7600", head_dim=128, spill_store_bytes=None, table="other"),
        ]
    )  # fmt: skip
    found = rc.audit_offenders(table)
    assert found["verdict"].tolist() == ["✕ C7600", "✕ shared mem", "9,000 B", "12 B"]
    assert found["table"].iloc[0] == "sm100_branch, other"
    assert len(rc.audit_offenders(table, 2)) == 2
    assert rc.audit_offenders(pd.DataFrame([row()])).empty


def test_a_spill_free_choice_needs_every_option_and_the_largest_wins():
    def tile(name, bad=(), **more):
        return [row(tile=name, option=o, **({"status": "spills", "spill_store_bytes": 8} if o in bad else {}), **more)
                for o in EVERYWHERE]  # fmt: skip

    tried = {"table": "search", "chosen_by": None}
    table = pd.DataFrame(
        [*tile("64x64", bad=("mask",)), *tile("64x32", **tried), *tile("32x32", **tried), *tile("128x32", **tried)[:2]]
    )
    (choice,) = rc.spill_free_choices(table).to_dict("records")
    assert (choice["today"], choice["today_worst"]) == ("64x64", "8 B (mask)")
    assert (choice["spill_free"], choice["outcome"], choice["compiles"]) == ("64x32", "changes", 11)

    def outcome(rows):
        return rc.spill_free_choices(pd.DataFrame(rows))["outcome"].tolist()

    assert outcome(tile("64x64")) == ["keeps"]
    assert outcome([*tile("64x64"), *tile("128x32", **tried)]) == ["keeps"], "as large is no reason to change"
    assert outcome([*tile("64x64"), *tile("128x64", **tried)]) == ["changes"]
    assert outcome(tile("64x64", bad=EVERYWHERE)) == ["not searched"]
    assert outcome([*tile("64x64", bad=EVERYWHERE), *tile("16x32", bad=("none",), **tried)]) == ["none found"]


def test_estimates_count_where_ptxas_had_a_free_hand_once_a_spec_and_never_on_training_specs():
    table = pd.DataFrame(
        [
            row(), row(table="hopper_0_5_15"),  # the same spec by another table
            row(option="window", estimate=231), row(option="mask", estimate=169),  # 15.5% off, both ways
            row(head_dim=512, regs_per_thread=255), row(head_dim=96, status="spills"), row(head_dim=64, estimate=None),
            row(head_dim=128, estimate=900),
        ]
    )  # fmt: skip
    training = pd.DataFrame([{"set": "training", "arch": "sm_100a", "label": audit_label(row(head_dim=128))},
                             {"set": "test", "arch": "sm_100a", "label": audit_label(row())}])  # fmt: skip
    counts = rc.liveness_counts(table, training).set_index("arch")
    assert counts.loc["all", ["specs", "near", "met"]].tolist() == [3, 1, False]
    specs = liveness_specs(table, training)
    assert sorted(specs[~specs["near"]]["estimate"]) == [169, 231]
    enough = pd.DataFrame([row(head_dim=d, option=o) for d in (64, 96, 128, 256, 512) for o in EVERYWHERE])
    assert rc.liveness_counts(enough, NO_TRAINING)["met"].all()


def test_labels_are_those_of_the_specs_themselves():
    for cell in audit_requests(archs=["sm_120a"]):
        c = cell.choice
        made = audit_label({"head_dim": c.head_dim, "v_head_dim": c.v_head_dim or c.head_dim, "kv_dtype": c.kv_dtype,
                            "option": cell.option, "tile": c.tile, "num_stages": 1,
                            "num_warps": 4 if c.head_dim <= 64 else 8})  # fmt: skip
        assert made == cell.request().spec.label


def test_tables_of_something_else_and_tritons_that_are_not_there_are_sentences():
    with pytest.raises(UserError, match="no audit rows"):
        rc.audit_counts(pd.DataFrame({"a": [1]}))
    with pytest.raises(UserError, match=r"no audit rows of Triton 3\.6\.0; there are rows of 3\.5\.1"):
        rc.audit_counts(pd.DataFrame([row()]), triton="3.6.0")
    newer = pd.DataFrame([row(triton="3.10.0"), row(triton="3.9.0")])
    assert audit_rows(newer)["triton"].tolist() == ["3.10.0"]


def test_misses_are_counted_by_tensor_core_path_and_side(recorded):
    found = rc.misses_of(recorded, "sm_90a")
    counts = rc.liveness_counts(recorded)
    hopper = counts[counts["arch"] == "sm_90a"].iloc[0]
    assert found["missed"] == hopper["specs"] - hopper["near"]
    assert 0 < found["wgmma_low"] <= found["wgmma"] < found["missed"]
    high = recorded.assign(estimate=recorded["regs_per_thread"] * 1.2)
    assert rc.misses_of(high, "sm_90a")["wgmma_low"] == 0 and rc.misses_of(high, "sm_90a")["missed"] == hopper["specs"]

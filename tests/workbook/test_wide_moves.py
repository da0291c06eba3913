"""The tuple experiment: what its predictions were and what ptxas answered, live and recorded."""

from __future__ import annotations

import pytest

import helpers as rc
from helpers.compiler.toolchain import KNOWN_PTXAS, ToolchainMissing
from helpers.workbook.root_cause import wide_moves as tuple_study
from helpers.workbook.root_cause.wide_moves import CRASH, EDITS, OPEN, OPTION, tuple_counts


@pytest.mark.slow
def test_splitting_loads_cures_and_joining_them_kills(toolchain_351):
    table = rc.tuple_experiment()
    assert table.attrs["evidence"].startswith("live") and len(table) == len(EDITS)
    judged = table[table["predicted"] != OPEN]
    assert len(judged) == 8 and (judged["found"] == judged["predicted"]).all()
    assert {"dies", "compiles"} == set(judged["found"])  # both happen: the experiment could have failed
    found = {(r.ptx, r.edit): r for r in table.itertuples()}
    split, stores = found[CRASH, "loads split, x128 to x64"], found[CRASH, "stores split, x128 to x64"]
    assert (split.widest_load, split.widest_store) == (64, 128) and split.spill_store_bytes > 0
    assert (stores.widest_load, stores.widest_store, stores.ptxas_code) == (128, 64, "C7600")
    assert found[OPTION, "loads joined, x64 to x128"].widest_load == 128
    # Live rows are the recorded ones.
    recorded = rc.read_rows("tuple_experiment")
    same = recorded[(recorded["triton"] == "3.5.1") & recorded["bundled"]].reset_index(drop=True)
    assert list(same["spill_store_bytes"].astype("Int64").fillna(-1)) == list(table["spill_store_bytes"].fillna(-1))


def test_the_recorded_experiment_is_whole_and_no_prediction_failed():
    rows = rc.read_rows("tuple_experiment")
    per_pair = rows.groupby(["triton", "ptxas"])
    assert (per_pair.size() == len(EDITS)).all() and per_pair.ngroups == 46
    assert set(rows["triton"]) == set(rc.version_findings(rc.read_rows("version_matrix"))["dying"])
    assert set(rows["ptxas"]) <= set(KNOWN_PTXAS)
    assert (rows.groupby("triton")["bundled"].sum() == len(EDITS)).all()
    judged = rows[rows["predicted"] != OPEN]
    assert (judged["found"] == judged["predicted"]).all()
    counts = tuple_counts(rows)
    assert len(counts) == len(EDITS) and (counts["dies"] + counts["compiles"] == counts["pairs"]).all()


def test_without_the_toolchain_the_recorded_rows_stand_in_and_say_so(monkeypatch):
    def missing(triton, ptxas=None):
        raise ToolchainMissing(f"Triton {triton} is not installed")

    monkeypatch.setattr(tuple_study, "tuple_rows", missing)
    table = rc.tuple_experiment()
    assert len(table) == len(EDITS) and table.attrs["evidence"].startswith("recorded: ")
    assert set(table["triton"]) == {"3.5.1"} and "bundled" not in table


def test_every_edit_has_its_row_in_the_picture(monkeypatch):
    def missing(triton, ptxas=None):
        raise ToolchainMissing("no")

    monkeypatch.setattr(tuple_study, "tuple_rows", missing)
    table = rc.tuple_experiment()
    table.loc[table["edit"].str.startswith("stores split"), "found"] = "compiles"
    table.loc[table["edit"].str.startswith("stores split"), "spill_store_bytes"] = 12
    (ax,) = rc.plot_tuple_experiment(table, "a claim").axes
    texts = [t.get_text() for t in ax.texts]
    assert len(ax.get_yticklabels()) == len(EDITS) and texts.count("✕ C7600") == 3
    assert "widest load x128: predicted: dies" in texts and "  12 B" in texts  # a miss is said
    assert sum("not predicted" in t for t in texts) == 2

"""The throughput figures read rows and nothing else: every variant of a case keeps its row, targets are computed."""

from __future__ import annotations

import pytest

import helpers as rc
from helpers.workbook.throughput import BASELINE, ratio_table


@pytest.fixture(scope="module")
def rows():
    return rc.throughput()[0]


def words(ax) -> str:
    texts = [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]
    return " | ".join(t.get_text() for t in texts)


def test_the_source_names_machine_versions_and_day(rows):
    source = rc.throughput()[1]
    assert all(word in source for word in ("H100", "torch 2.11", "Triton 3.6", "2026-11-26", "recorded"))


@pytest.mark.parametrize("case", ["sliding", "global", "hd128", "sliding fp8", "global fp8"])
def test_every_variant_of_a_case_keeps_its_row(rows, case):
    mine = rows[rows["case"] == case]
    ax = rc.plot_throughput(rows, case, "t", "s").axes[0]
    shown = words(ax)
    assert all(name in shown for name in mine["variant"]) and "roofline" in shown
    ran = mine["status"].isin(("ok", "wrong")).sum()
    assert len(ax.patches) == ran and shown.count("skipped:") == (mine["status"] == "skipped").sum()


def test_a_wrong_answer_is_never_shown_as_a_plain_bar(rows):
    wrong = rows.copy()
    wrong.loc[wrong["variant"].eq("lean") & wrong["case"].eq("sliding"), "status"] = "wrong"
    assert "WRONG" in words(rc.plot_throughput(wrong, "sliding", "t", "s").axes[0])
    assert "WRONG" not in words(rc.plot_throughput(rows, "sliding", "t", "s").axes[0])


def test_targets_are_computed_from_the_rows(rows):
    table = rc.targets_table(rows).set_index("case")
    assert table["must reach"].tolist() == [4.5, 2.5, 2.0, 4.0, 1.6]
    assert table["reached"].all()
    halved = rows.copy()
    halved.loc[halved["variant"].isin(["lean", "hopper, Gluon"]), "tflops"] /= 12
    assert not rc.targets_table(halved)["reached"].any()


def test_ratios_are_to_the_incident_with_the_hopper_tile(rows):
    table = ratio_table(rows, ["sliding", "hd128"]).set_index(["case", "variant"])
    assert table.loc[("sliding", BASELINE), "ratio"] == 1
    assert table.loc[("sliding", "lean"), "ratio"] == pytest.approx(
        table.loc[("sliding", "lean"), "TFLOP/s"] / table.loc[("sliding", BASELINE), "TFLOP/s"]
    )


def test_sweeps_hold_the_points_of_the_table_and_zero(rows):
    figure = rc.plot_sweep(rows, "prefix_sweep", [BASELINE, "lean"], "t", "s")
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert "0" in ticks and "1,024" in ticks and "16,384" in ticks
    assert len(figure.axes) == 2


def test_an_unknown_case_lists_what_there_is(rows):
    with pytest.raises(rc.UserError, match="sliding"):
        rc.case_rows(rows, "nonsense")


def test_the_share_is_of_the_better_peer_and_the_smallest_comes_first(rows):
    table = rc.page_one_table(rows)
    assert table["share"].is_monotonic_increasing and {"sliding", "hd128", "hd64", "hd128 server"} <= set(table.index)
    sliding = table.loc["sliding"]
    assert sliding["share"] == sliding["hopper, Gluon"] / max(sliding["FA3 paged 1"], sliding["FA4 paged 1"])
    assert "global" not in table.index, "no peer has head dim 512"
    assert rc.page_one_table(rows[rows["variant"] != "hopper, Gluon"]).empty


def test_steps_and_energy_come_from_rows(rows):
    steps = rc.steps_table(rows, ["sliding"]).loc["sliding"]
    assert steps.is_monotonic_increasing or steps.iloc[1] > steps.iloc[2] * 0.95
    energy = rc.energy_table(rows, ["sliding", "global"])
    assert energy.loc["sliding", "hopper, Gluon"] < energy.loc["sliding", "incident, hopper tile"]
    assert rc.energy_table(rows.drop(columns="millijoules"), ["sliding"]).empty


def test_no_program_deals_out_more_registers_than_an_sm_has():
    budget = rc.warp_group_registers()
    assert (budget["dealt out"] <= 65536).all() and set(budget.index) == {64, 128, 192, 256, 512}
    # setmaxnreg takes multiples of 8.
    shares = budget[["registers a computing thread", "registers a loading thread"]]
    assert (shares % 8 == 0).all().all()


def test_tables_for_readers_have_units_in_their_headings(rows):
    targets = rc.targets_in_words(rc.targets_table(rows))
    assert "incident, TFLOP/s" in targets and not [name for name in targets if "_" in name]
    shared = rc.with_unit(rc.page_one_table(rows), "TFLOP/s", but=("share", "share of dense"))
    assert {"FA3 paged 1, TFLOP/s", "share"} <= set(shared) and "share, TFLOP/s" not in shared


def test_a_sweep_gains_from_its_first_point_to_its_last(rows):
    gain = rc.sweep_gain(rows, "prefix_sweep", 256)
    assert gain[BASELINE] < 0.5 < 0.9 < gain["lean"]
    swept = rows[rows["group"].eq("prefix_sweep") & rows["head_dim"].eq(256) & rows["variant"].eq("lean")]
    speeds = swept.set_index(swept["prefix_len"].astype(str).str.split().str[0].astype(int))["tflops"].sort_index()
    assert gain["lean"] == pytest.approx(speeds.iloc[-1] / speeds.iloc[0])


def test_the_smaller_tile_stands_beside_the_larger_one_in_each_case(rows):
    table = rc.smaller_tile_table(rows, ["sliding", "hd128"])
    assert sorted(table["tile"]) == ["hopper tile"] * 2 + ["merged row's tile"] * 2
    assert (table.loc[table["tile"] == "hopper tile", "times the hopper tile"] == 1).all()

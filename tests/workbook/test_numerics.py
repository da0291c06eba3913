"""Numerics figures and tables from recorded rows; a failed case is shown as failed."""

from __future__ import annotations

import helpers as rc


def recorded():
    return rc.read_rows("numerics_h200")


def test_counts_add_up_and_shares_are_below_one():
    table = rc.count_table(recorded())
    assert table["cases"].sum() == (recorded()["study"] == "matrix").sum() >= 55
    assert (table["passed"] == table["cases"]).all() and (table["worst_share"] < 1).all()
    assert {"lean kernel", "Hopper kernel"} <= set(table["tile_table"])
    assert 288 in set(recorded().loc[recorded()["tile_table"] == "lean kernel", "head_dim"])
    assert {"hopper", "sm100"} <= set(table["tile_table"]) and {"incident", "lean"} <= set(table["ingredients"])


def test_a_failed_case_is_counted_and_crossed():
    broken = recorded()
    broken = broken[broken["status"] == "ok"].reset_index(drop=True)
    index = broken.index[broken["study"] == "matrix"][0]
    broken.loc[index, ["status", "row_rel"]] = ["nan", float("nan")]
    assert (rc.count_table(broken)["cases"] - rc.count_table(broken)["passed"]).sum() == 1
    ax = rc.plot_error_budget(broken, "t", "s").axes[0]
    assert sum(line.get_marker() == "x" for line in ax.lines) == 1


def test_the_three_sources_of_fp8_error_stand_apart():
    table = rc.fp8_table(recorded())
    assert list(table.columns) == ["hd256", "hd512"] and len(table) == 5 and table.notna().all().all()
    assert (table.loc["kernel, as_stored"] > 4 * table.loc["kernel, upcast"]).all()
    ax = rc.plot_fp8_sources(recorded(), "t", "s").axes[0]
    assert len(ax.patches) == 10 and ax.get_xscale() == "log"


def test_the_merged_row_changes_no_bit():
    table = rc.tile_study_table(recorded()).set_index("variant")
    assert (table.loc["merged row's tile, incident against hopper tile", "bitwise_equal_fraction"] == 1).all()
    assert (table.loc["other BLOCK_N, incident against hopper tile", "bitwise_equal_fraction"] < 1).all()

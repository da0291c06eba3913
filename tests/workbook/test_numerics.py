"""Numerics figures and tables from recorded rows; a failed case is shown as failed."""

from __future__ import annotations

import helpers as rc


def recorded():
    return rc.read_rows("numerics_h200")


def test_counts_add_up_and_shares_are_below_one():
    table = rc.count_table(recorded())
    assert table["cases"].sum() == (recorded()["study"] == "matrix").sum() >= 55
    assert (table["passed"] == table["cases"]).all() and (table["largest share of its tolerance"] < 1).all()
    assert {"lean kernel", "Gluon kernel"} <= set(table["kernel"])
    assert 288 in set(recorded().loc[recorded()["tile_table"] == "lean kernel", "head_dim"])
    extend = table[table["kernel"].str.startswith("extend kernel")]
    assert set(extend["tiles"]) == {"hopper tile", "merged row's tile"}
    assert set(extend["kernel"].str.partition(", ")[2]) == {"as in the incident", "with the lean kernel's ingredients"}


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


def test_only_no_difference_at_all_is_called_none():
    table = rc.tile_study_table(recorded())
    words = rc.tiles_in_words(table)
    assert ((words["elements that differ"] == "none") == (table["bitwise_equal_fraction"] == 1)).all()
    assert (words.loc[words["elements that differ"] == "none", "relative difference"] == 0).all()
    assert not words["elements that differ"].isin(["0.000%"]).any()


def test_fp8_rows_say_what_they_are_compared_with():
    words = rc.fp8_in_words(recorded())
    assert words["compared with"].str.contains("on the fp8 cache").tolist() == [False] + [True] * 4
    assert words["head dim 256, error in percent"].between(0.1, 5).all()


def test_the_budget_tells_the_kernels_apart_by_shape():
    ax = rc.plot_error_budget(recorded(), "t", "s").axes[0]
    named = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"extend kernel", "lean kernel", "Gluon kernel", "fp8 cache", "16-bit cache"} == named
    assert {"o", "^", "D"} <= {line.get_marker() for line in ax.lines}

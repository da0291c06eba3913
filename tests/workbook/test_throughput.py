"""The throughput figures read rows and nothing else: every variant of a case keeps its row, targets are computed."""

from __future__ import annotations

import pytest

import helpers as rc
from helpers.workbook.throughput import BASELINE


@pytest.fixture(scope="module")
def rows():
    return rc.throughput()[0]


def words(ax) -> str:
    texts = [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label]
    return " | ".join(t.get_text() for t in texts)


def test_the_source_names_machine_versions_and_day(rows):
    source = rc.throughput()[1]
    assert all(word in source for word in ("H200", "torch 2.11", "Triton 3.6", "2026-11-24", "recorded"))


@pytest.mark.parametrize("case", ["sliding", "global", "hd128", "sliding fp8", "global fp8"])
def test_every_variant_of_a_case_keeps_its_row(rows, case):
    mine = rows[rows["case"] == case]
    ax = rc.plot_throughput(rows, case, "t", "s").axes[0]
    shown = words(ax)
    assert all(name in shown for name in mine["variant"]) and "roofline" in shown
    ran = mine["status"].isin(("ok", "wrong")).sum()
    assert len(ax.patches) == ran and shown.count("skipped:") == (mine["status"] == "skipped").sum()


def test_a_wrong_answer_is_never_shown_as_a_plain_bar(rows):
    assert "WRONG" in words(rc.plot_throughput(rows, "sliding fp8", "t", "s").axes[0])


def test_targets_are_computed_from_the_rows(rows):
    table = rc.targets_table(rows).set_index("case")
    assert table["must reach"].tolist() == [4.5, 2.5, 2.0, 4.0, 1.6]
    assert table["reached"].all()
    halved = rows.copy()
    halved.loc[halved["variant"].isin(["lean", "hopper, Gluon"]), "tflops"] /= 12
    assert not rc.targets_table(halved)["reached"].any()


def test_ratios_are_to_the_incident_with_the_hopper_tile(rows):
    table = rc.ratio_table(rows, ["sliding", "hd128"]).set_index(["case", "variant"])
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

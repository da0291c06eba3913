"""The root cause's plots and tables: every rung and pair has its mark, the cap its line, and live sides join."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import helpers as rc
from helpers.compiler.report import LIVE, Evidence
from helpers.errors import UserError
from helpers.inspection.ptx.pressure import held_across
from helpers.search.ablate import MAKES_IT_COMPILE, TOO_MANY, Ablation, Rung
from helpers.search.changes import Change
from helpers.show.display import figure_metadata

PTX = Path(__file__).parents[1] / "fixtures" / "ptx"


@pytest.fixture(scope="module")
def crash_ptx() -> str:
    return gzip.decompress((PTX / "crash_sm100a.ptx.gz").read_bytes()).decode()


def rung(name: str, words: str, report, effect: str, **fields) -> Rung:
    return Rung((Change(name, words, lambda spec: spec),), report, effect, **fields)


@pytest.fixture
def ablation(ok, crash) -> Ablation:
    spills = replace(ok, status="spills", regs_per_thread=255, spill_store_bytes=684, spill_load_bytes=600)
    rungs = (
        rung("kv_dtype", "KV cache fp8 → bf16", spills, "compiles"),
        rung("kv_operands", "as_stored → upcast", crash, "same failure"),
        rung("block_m", "BLOCK_M 128 → 64", ok, "no spills"),
        rung("num_warps", "num_warps 8 → 32", replace(ok, regs_per_thread=128), TOO_MANY, launchable=False),
    )
    return Ablation("a spec", crash, rungs, MAKES_IT_COMPILE, ("kv_dtype", "block_m"), (), 5, 1.0)


def texts(ax) -> list[str]:
    return [t.get_text() for t in [*ax.texts, *ax.get_yticklabels(), *ax.get_xticklabels(), ax._left_title]]


def test_every_rung_has_its_row_and_the_necessary_are_bold(ablation):
    figure = rc.plot_ladder(ablation, "a claim")
    (ax,) = figure.axes
    said = " | ".join(texts(ax))
    assert "a claim" in said and said.count("✕ C7600") == 2 and "255 regs, 684 B" in said
    assert "200 regs, 0 B" in said and "128 regs, 0 B, too many to launch" in said
    assert [t.get_fontweight() for t in ax.get_yticklabels()] == ["normal", "bold", "normal", "bold", "normal"]
    assert len(ax.patches) == 3, "what died has no bar"
    crosses = [t for t in ax.texts if t.get_text() == "✕ C7600"]
    assert all(t.get_position()[0] > 1 and t.get_transform() == ax.get_yaxis_transform() for t in crosses)
    assert "compile-only" in figure_metadata(figure)["evidence"]


def test_an_ingredient_is_necessary_only_when_every_way_to_take_it_away_cures(ablation):
    table = rc.ingredient_table(ablation).set_index("ingredient")
    assert dict(table["necessary"]) == {
        "fp8 operands": False, "128 rows at head dim 256": True, "launch and inner tile": False
    }  # fmt: skip
    assert table.loc["fp8 operands", "taken away by"] == "KV cache fp8 → bf16; as_stored → upcast"


def cell(triton: str, asked: str, status: str, *, written: str = "its own", spilled: int | None = None) -> dict:
    code = "C7600" if status == "register_exhausted" else None
    return {
        "triton": triton, "ptxas_asked": asked, "ptx_written_for": written, "status": status, "ptxas_code": code,
        "spill_store_bytes": spilled,
    }  # fmt: skip


def test_the_matrix_shows_what_dies_spills_or_cannot_be_asked():
    rows = pd.DataFrame(
        [
            cell("3.5.1", "bundled", "register_exhausted"),
            cell("3.5.1", "13.5.37", "register_exhausted"),
            cell("3.10.0", "bundled", "spills", spilled=2552),
            cell("3.10.0", "12.8.93", "unsupported_ptx_version"),
            cell("3.10.0", "12.8.93", "spills", written="12.8.93", spilled=2260),
            cell("3.10.0", "13.5.37", "unsupported_ptx_version"),
        ]
    )
    figure = rc.plot_version_matrix(rows, "a claim", "recorded, compile-time")
    (ax,) = figure.axes
    said = texts(ax)
    said = [" ".join(words.split()) for words in said]
    assert said.count("✕ C7600") == 2 and "2,552 B" in said and "2,260 B *" in said and "cannot read" in said
    assert "not asked" in said  # 3.5.1 under 12.8.93: no such row
    assert [t.get_text() for t in ax.get_yticklabels()] == ["3.5.1", "3.10.0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["bundled", "12.8.93", "13.5.37"]
    assert len(ax.patches) == 6 and sum(p.get_hatch() is not None for p in ax.patches) == 2
    # In greyscale, too: what died is darker than what spills, and that than what was not asked.
    grey = [0.3 * r + 0.59 * g + 0.11 * b for r, g, b, _ in (p.get_facecolor() for p in ax.patches)]
    by_text = dict(zip([" ".join(t.get_text().split()) for t in ax.texts], grey, strict=False))
    assert by_text["✕ C7600"] < by_text["2,552 B"] < by_text["not asked"]


def test_pressure_beside_the_source_names_the_line_the_cap_and_the_marks(crash_ptx):
    figure = rc.plot_pressure(crash_ptx, "a claim", marks={"here": 3425}, top=10)
    above, below = figure.axes
    assert "here" in texts(above) and any("the cap: 255" in t for t in texts(above))
    assert "255" in texts(below) and " 582" in texts(below)
    labels = [t.get_text() for t in below.get_yticklabels()]
    assert len(labels) == 10 and any("acc = acc * rescale" in t for t in labels)
    assert any(t.startswith("standard.py:") for t in labels)  # another file: named, its text is not ours
    assert figure_metadata(figure)["alt"].startswith("a claim.")
    with pytest.raises(UserError, match="no PTX function"):
        rc.plot_pressure("not PTX", "a claim")


def test_ptx_without_line_information_has_a_picture_and_no_lines():
    figure = rc.plot_pressure((PTX / "several_functions.ptx").read_text(), "a claim")
    assert [t.get_text() for t in figure.axes[1].get_yticklabels()] == []
    assert rc.line_demands((PTX / "several_functions.ptx").read_text()).empty


def test_lines_and_held_values_come_with_their_source(crash_ptx):
    lines = rc.line_demands(crash_ptx, top=3)
    assert lines.iloc[0]["registers"] == 582 and lines.iloc[0]["over the cap"] == 327
    assert "acc" in lines.iloc[0]["source"]
    held = held_across(crash_ptx)
    table = rc.held_lines(held, top=3)
    assert len(table) == 4 and table["registers"].sum() == held.registers
    assert "tl.dot(p, v)" in table.iloc[0]["source"] and table.iloc[1]["lines"] == "compiler's"


def test_demand_beside_the_verdict(crash_ptx, crash, tmp_path):
    (tmp_path / "k.ptx").write_text(crash_ptx)
    evidence = Evidence(replace(crash, ptx_path=str(tmp_path / "k.ptx")), LIVE)
    (row,) = rc.demand_table([evidence], ["the crash"]).to_dict("records")
    assert (row["demand"], row["widest load"], row["beside it"]) == (582, 128, 451)
    assert row["held across the branch"] == 451 and row["verdict"] == "dies (C7600)"
    with pytest.raises(UserError, match="no binary"):
        rc.both_sides(evidence)


@pytest.mark.slow
def test_both_sides_of_a_compile_agree_at_the_top(toolchain_351):
    evidence = rc.compile_one(replace(rc.INCIDENT_CHOICE, tile="sm100"))
    table = rc.both_sides(evidence, top=10)
    assert len(table) == 10 and table["SASS"].is_monotonic_decreasing and table["SASS"].max() <= 255
    assert table.iloc[0]["line"] == table.sort_values("PTX", ascending=False).iloc[0]["line"]
    assert "tl.dot(p, v)" in table.iloc[0]["source"]
    table.loc[3, "PTX"] = pd.NA  # a line that ptxas has and the PTX does not
    figure = rc.plot_both_sides(table, "a claim", "live")
    assert len(figure.axes[0].get_yticklabels()) == 10
    # Where it spills, the bytes stand on their lines.
    spilling = rc.both_sides(rc.compile_one(replace(rc.INCIDENT_CHOICE, kv_dtype="bf16")), top=400)
    assert spilling["spill stores"].sum() > 0.9 * 684
    assert any("B spilled" in t.get_text() for t in rc.plot_both_sides(spilling, "a", "live").axes[0].texts)

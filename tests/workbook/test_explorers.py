"""Every explorer changes what it shows when it is operated; what it says of recorded rows is what the rows say."""

from __future__ import annotations

from dataclasses import replace

import pytest

import helpers as rc
from helpers.attention.studies.cliff_map import CLIFF_TILES, CLIFF_WARPS, cliff_choices
from helpers.compiler.report import CompileReport
from helpers.workbook.explorer.frame import NOTHING
from helpers.workbook.inside_ptxas import cliff_map as cliff_module
from helpers.workbook.inside_ptxas.cliff_map import MapCell, passing_neighbour, recorded_cells
from helpers.workbook.inside_ptxas.landscape import ptx_command
from helpers.workbook.numerics import filter_numerics
from helpers.workbook.root_cause.explorer import matrix_row

WAIT_S = 180


def _shown(frame) -> tuple[str, ...]:
    assert frame.wait(WAIT_S) and frame.view is not None, frame.verdict.value
    return frame.verdict.value, frame.figure.value, frame.command.value


def _operate(frame, **values) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is shown before and after the controls are set."""
    before = _shown(frame)
    for name, value in values.items():
        frame.controls[name].value = NOTHING if value is None else value
    return before, _shown(frame)


@pytest.mark.parametrize(
    ("make", "values", "alike"),
    [
        # `alike`: which of (verdict, figure, command) may stay as they were.
        ("landscape_explorer", {"window": None}, ()),
        ("landscape_explorer", {"figure": "operands"}, (0, 2)),
        ("tile_explorer", {"head_dim": 512}, ()),
        ("tile_explorer", {"arch": "sm_90a"}, ()),
        ("numerics_explorer", {"kv_dtype": "bf16"}, (2,)),
        ("throughput_explorer", {"case": "global"}, ()),
        ("throughput_explorer", {"metric": "time"}, (2,)),
        ("root_cause_explorer", {"triton": "3.8.0"}, ()),
        ("root_cause_explorer", {"tile_skip": "bounds"}, ()),
    ],
)
def test_operating_an_explorer_changes_what_it_shows(make, values, alike, toolchain_351):
    frame = getattr(rc, make)()
    data, _ = frame._repr_mimebundle_()
    assert (
        "data:image/svg+xml;base64," in data["text/html"]
        and data["text/plain"]
        and f"rc-{frame.name}" in frame._dom_classes
    )
    before, after = _operate(frame, **values)
    assert all(after[i] != before[i] for i in range(3) if i not in alike)
    assert frame.command.value and frame.view.command.startswith(("register-cliff ", "python benchmarks/"))


def test_the_landscape_has_the_demand_and_a_command_for_any_shell(toolchain_351):
    frame = rc.landscape_explorer()
    assert (
        "582 registers at the worst point" in frame.verdict.value and "extend_attention.py:206" in frame.verdict.value
    )
    assert "acc = acc * rescale" in frame.below.value
    command = ptx_command(rc.INCIDENT_CHOICE)
    assert command.count('"$(') == 1 and command.endswith(')"') and rc.INCIDENT_CHOICE.command() in command


def test_the_tile_explorer_says_where_nothing_changed_and_what_did(toolchain_351):
    frame = rc.tile_explorer()
    assert "128x64 becomes 64x64; dies (C7600) becomes 255 registers, 0 B spill stores" in frame.view.title
    _operate(frame, arch="sm_90a")
    assert "nothing changed" in frame.view.title
    _operate(frame, after="release_0_5_15")
    assert "128x64 becomes 64x64" in frame.view.title


def test_the_numerics_explorer_shows_the_rows_that_match_and_says_when_none_does():
    frame = rc.numerics_explorer()
    everything = len(frame.view.data)
    _operate(frame, kv_dtype="fp8_e4m3", option="sinks")
    rows = frame.view.data
    assert 0 < len(rows) < everything and set(rows["kv_dtype"]) == {"fp8_e4m3"} and rows["sinks"].all()
    assert f"of {len(rows)} cases" in frame.view.title and "recorded" in frame.verdict.value
    with pytest.raises(rc.UserError, match="no recorded case"):
        filter_numerics(rc.read_rows("numerics_h200"), {"kv_dtype": "bf16", "head_dim": 7})


def test_the_throughput_explorer_ranks_by_the_metric_and_keeps_what_did_not_run():
    frame = rc.throughput_explorer()
    rows = frame.view.data
    ran = rows[rows["tflops"].notna()]
    assert list(ran["tflops"]) == sorted(ran["tflops"], reverse=True) and len(ran) < len(rows)
    assert str(ran.iloc[0]["variant"]) in frame.view.title
    _operate(frame, metric="time")
    times = frame.view.data["median_ms"].dropna()
    assert list(times) == sorted(times)
    with pytest.raises(rc.UserError, match="no recorded rows for case 'moon'"):
        rc.throughput_explorer("moon")


def test_the_root_cause_explorer_answers_a_pair_from_the_recorded_matrix():
    rows = rc.read_rows("version_matrix")
    frame = rc.root_cause_explorer()
    assert "dies (C7600)" in frame.view.title and "ptxas does not decide" in frame.verdict.value
    _operate(frame, triton="3.9.0", ptxas="12.8.61")
    row = matrix_row(rows, "3.9.0", "12.8.61")
    assert f"{row['spill_store_bytes']:.0f} B spill stores" in frame.view.title
    assert "written for ptxas 12.8.61" in frame.verdict.value
    assert matrix_row(rows, "3.9.0", "1.2.3") is None


def test_taking_an_ingredient_away_is_compiled_beside_the_incident(toolchain_351):
    frame = rc.root_cause_explorer()
    _operate(frame, tile_skip="bounds")
    incident, changed = frame.view.data
    assert incident.report.crashed and changed.report.compiled
    assert "One change and it compiles" in frame.view.title and "tile skip = bounds" in frame.verdict.value


# --- the cliff map ------------------------------------------------------------------------------------------


def _report(**fields) -> CompileReport:
    base = {"status": "spills", "arch": "sm_100a", "triton_version": "3.5.1", "ptxas_version": "12.8.93",
            "regs_per_thread": 255, "spill_store_bytes": 100}  # fmt: skip
    return CompileReport(**{**base, **fields})


def _crash() -> MapCell:
    return MapCell(_report(status="register_exhausted", ptxas_code="C7600", spill_store_bytes=None), recorded=True)


@pytest.fixture(scope="module")
def cliff(toolchain_351):
    return rc.cliff_map()


def test_the_recorded_map_agrees_with_a_compile(toolchain_351):
    cells = recorded_cells(rc.INCIDENT_CHOICE)
    assert len(cells) == len(CLIFF_TILES) * len(CLIFF_WARPS) and all(c.recorded for c in cells.values())
    for at in (("128x64", 8), ("64x64", 8), ("64x128", 4)):
        choice = next(c for c in cliff_choices(rc.INCIDENT_CHOICE) if (c.tile, c.num_warps) == at)
        live, kept = rc.compile_one(choice).report, cells[at].report
        assert (live.status, live.spill_store_bytes) == (kept.status, kept.spill_store_bytes)
    # Anything else that differs is another map.
    assert not recorded_cells(replace(rc.INCIDENT_CHOICE, tile_skip="bounds"))
    assert not recorded_cells(replace(rc.INCIDENT_CHOICE, triton="9.9.9"))


def test_the_map_has_a_button_for_each_cell_with_words_and_colour(cliff):
    buttons = [part for part in cliff.children[1].children[3].children if "rc-cell" in part._dom_classes]
    assert len(buttons) == len(CLIFF_TILES) * len(CLIFF_WARPS)
    by_words = {button.description: button for button in buttons}
    assert "✕ C7600" in by_words and "0 B" in by_words
    assert by_words["✕ C7600"].style.button_color != by_words["0 B"].style.button_color
    assert all(button.tooltip for button in buttons)
    assert cliff._still.startswith(b"<svg ") and cliff._still != cliff.view.drawing


def test_a_click_opens_a_cell_with_pressure_ptx_and_the_difference_to_a_neighbour_that_compiles(cliff):
    grid = cliff.children[1].children[3].children
    names = [(tile, warps) for tile in CLIFF_TILES for warps in CLIFF_WARPS]
    buttons = dict(zip(names, (part for part in grid if "rc-cell" in part._dom_classes), strict=True))
    before = _shown(cliff)
    assert "128x32, 8 warps" in cliff.below.value and ".visible .entry" in cliff.below.value
    buttons["64x64", 8].click()
    assert all(new != old for new, old in zip(_shown(cliff), before, strict=True))
    assert cliff.view.choice.tile == "64x64" and buttons["64x64", 8].layout.border.startswith("3px")
    buttons["128x64", 8].click()  # seen before: from memory, and the border goes with it
    assert _shown(cliff) == before and not buttons["64x64", 8].layout.border.startswith("3px")


def test_cells_that_are_not_recorded_appear_as_they_compile(monkeypatch, toolchain_351):
    monkeypatch.setattr(cliff_module, "CLIFF_TILES", ("16x64",))
    monkeypatch.setattr("helpers.attention.studies.cliff_map.CLIFF_TILES", ("16x64",))
    monkeypatch.setattr(cliff_module, "recorded_cells", lambda _base: {})
    monkeypatch.setattr(cliff_module._Map, "first", ("16x64", 8))
    seen = []
    show = cliff_module._Map.show
    monkeypatch.setattr(cliff_module._Map, "show", lambda self, cells: (seen.append(len(cells)), show(self, cells)))
    frame = rc.cliff_map()
    assert seen[0] == 0 and max(seen) == 3 and {1, 2, 3} <= set(seen)
    assert not any(cell.recorded for cell in frame.view.data.values())


def test_the_neighbour_is_the_nearest_cell_that_compiles():
    cells = {("128x64", 8): _crash(), ("128x32", 8): _crash(), ("128x64", 4): MapCell(_report(), True),
             ("128x64", 16): MapCell(_report(spill_store_bytes=8), True), ("16x64", 4): MapCell(_report(), True),
             ("16x64", 8): MapCell(_report(status="ok", spill_store_bytes=0), True)}  # fmt: skip
    assert passing_neighbour(cells, ("128x64", 8)) == ("128x64", 16)
    assert passing_neighbour({("128x64", 8): _crash()}, ("128x64", 8)) is None

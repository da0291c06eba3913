"""Figures show every configuration: a failure is a mark with its code, a spill is named in bytes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest

import helpers as rc
from helpers.commands.compile import format_report
from helpers.compiler.report import LIVE, Evidence
from helpers.diagnosis.pressure import format_pressure, pressure_report
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.show.plots import pressure_plot
from helpers.workbook.inside_ptxas.views import plot_ptx_landscape


@pytest.fixture
def good(ok) -> Evidence:
    return Evidence(ok, LIVE)


@pytest.fixture
def dead(crash) -> Evidence:
    return Evidence(crash, LIVE)


@pytest.fixture
def spill(ok) -> Evidence:
    return Evidence(replace(ok, status="spills", regs_per_thread=255, spill_store_bytes=464), "recorded: x")


def words(figure) -> str:
    """All text of a figure's first axes."""
    ax = figure.axes[0]
    labels = [*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.title, ax._left_title, ax.xaxis.label]
    return " | ".join(t.get_text() for t in labels)


def test_registers_marks_the_crash_names_the_spill_and_labels_the_cap(good, dead, spill):
    figure = rc.plot_registers([good, dead, spill], "a claim", labels=["x", "y", "z"])
    text = words(figure)
    assert (
        "a claim" in text
        and "dies (C7600)" in text
        and "255 registers, 464 B spill stores" in text
        and "the cap" in text
    )
    assert "2 live and 1 recorded" in text and "sm_100a" in text
    widths = sorted(p.get_width() for p in figure.axes[0].patches)
    assert widths == [200, 255, 255]
    assert any(line.get_marker() == "x" for line in figure.axes[0].lines)


def test_a_launch_of_16_warps_is_drawn_and_told_against_128_registers(good, spill):
    wide = replace(good, report=replace(good.report, num_warps=16, regs_per_thread=120))
    figure = rc.plot_registers([wide, spill], "a claim", labels=["16 warps", "8 warps"])
    own = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [128, 128]]
    assert len(own) == 1 and "cap 128" in words(figure) and "255" in words(figure)
    assert "120 per thread (cap 128 with 16 warps)" in format_report(wide.report)
    assert "255 per thread (cap 255)" in format_report(spill.report)


def test_pressure_is_drawn_against_the_cap_of_the_launch():
    ptx = rc.ptx_of(rc.compile_one(rc.INCIDENT_CHOICE))
    told = pressure_report(ptx.replace(".reqntid 256", ".reqntid 512"))
    assert (pressure_report(ptx)["cap"], told["cap"]) == (255, 128)
    assert told["estimate"] == 128 and max(t["over_cap"] for t in told["tuples"]) > 0
    assert "the cap is 128" in format_pressure(told)
    (figure, ax) = plt.subplots()
    pressure_plot(ax, pressure_profile(ptx.replace(".reqntid 256", ".reqntid 512")))
    assert "cap: 128 registers" in [t.get_text() for t in ax.get_legend().get_texts()]
    plt.close(figure)


def test_grid_refuses_a_wrong_number_of_cells_and_shows_every_cell(good, dead, spill):
    with pytest.raises(ValueError, match="do not fill"):
        rc.plot_spill_grid([good], ["a"], ["b", "c"], "t")
    figure = rc.plot_spill_grid([good, dead, spill, good], ["a", "b"], ["c", "d"], "t")
    text = words(figure)
    assert len(figure.axes[0].patches) == 4 and "✕ C7600" in text and "464 B" in text


def test_before_after_keeps_pairs_together(good, dead, spill):
    figure = rc.plot_before_after([dead, spill], [good, good], ["one", "two"], "t")
    assert words(figure).count("before") == 2 and len(figure.axes[0].patches) == 4
    with pytest.raises(ValueError):
        rc.plot_before_after([dead], [], ["one"], "t")


def test_landscape_has_one_row_an_opcode_and_width():
    text = rc.ptx_of(rc.compile_one(rc.INCIDENT_CHOICE))
    shown = words(plot_ptx_landscape(text, "t"))
    assert "tcgen05.ld, 128 registers" in shown and "tcgen05.st, 128 registers" in shown and "line of the PTX" in shown


def test_status_colours_differ_in_lightness_as_well():
    from matplotlib.colors import to_rgb

    from helpers.show.style import OTHER_FAILURE_COLOUR, STATUS_COLOURS

    def lightness(colour: str) -> float:
        r, g, b = to_rgb(colour)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    values = sorted(lightness(c) for c in (*STATUS_COLOURS.values(), OTHER_FAILURE_COLOUR))
    assert min(b - a for a, b in itertools.pairwise(values)) > 0.08

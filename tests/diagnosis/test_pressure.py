"""The pressure report in JSON and text, its tables and its plot, on real PTX with and without line info."""

import gzip
import json
import re
from pathlib import Path

import pytest

from helpers.compiler.disassemble import nvdisasm_programs
from helpers.diagnosis.pressure import format_pressure, held_table, pressure_report, pressure_table, tuple_table
from helpers.errors import UserError
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import held_across, pressure_profile
from helpers.show.plots import pressure_plot

PTX = Path(__file__).parents[1] / "fixtures" / "ptx"


@pytest.fixture(scope="module")
def crash_ptx() -> str:
    return gzip.decompress((PTX / "crash_sm100a.ptx.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def report(crash_ptx) -> dict:
    return pressure_report(crash_ptx)


def test_the_report_survives_json_and_reads_the_same(report):
    again = json.loads(json.dumps(report))
    assert format_pressure(again) == format_pressure(report)
    assert again["demand"] > CAP and again["has_line_info"] and again["estimate"] == CAP
    assert again["lines"][0]["registers"] == again["demand"]


def test_the_text_names_the_numbers_the_lines_and_the_operand(report):
    text = format_pressure(report)
    line = report["peak"]["source"][1]
    assert f"{report['demand']} registers are needed at the worst point, the cap is 255" in text
    assert f"PTX line {report['peak']['line_no']} (extend_attention.py:{line})" in text
    assert "128 of 582 are filled for this instruction's operand alone" in text
    assert f"held across the branch at PTX line {report['branch']['line_no']}" in text
    assert max(len(row) for row in text.splitlines()) < 140


def test_room_beside_the_operand_is_what_it_leaves_of_the_cap(report):
    worst = report["tuples"][0]
    assert worst["room"] == CAP - worst["registers"] == 127
    assert worst["over_cap"] == worst["beside"] - worst["room"] > 0
    assert worst["demand"] == worst["registers"] + worst["beside"]


def test_without_line_info_the_report_stands_on_ptx_lines(crash_ptx, report):
    bare = pressure_report(re.sub(r"(?m)^\s*\.(loc|file)\s.*$", "", crash_ptx))
    assert not bare["has_line_info"] and bare["lines"] == []
    assert bare["demand"] == report["demand"]
    text = format_pressure(bare)
    assert "no line information" in text and "extend_attention.py" not in text


@pytest.mark.parametrize("name", [p.name for p in sorted(PTX.glob("*.ptx")) if p.name != "illegal.ptx"])
def test_any_ptx_has_a_report(name):
    report = pressure_report((PTX / name).read_text())
    assert report["function"] in format_pressure(report)
    assert 0 <= report["floor"] <= CAP


@pytest.mark.parametrize("text", ["", "not PTX at all", ".version 8.7\n.target sm_80\n"])
def test_text_without_a_function_is_refused_in_a_sentence(text):
    with pytest.raises(UserError, match="no PTX function"):
        pressure_report(text)


def test_tables_hold_the_lines_the_held_values_and_the_operands(crash_ptx):
    profile = pressure_profile(crash_ptx)
    table = pressure_table(profile, lambda line: f"  text of {line}", top=5)
    assert len(table) == 5
    assert table["registers"].is_monotonic_decreasing
    assert table.iloc[0]["source"] == f"text of {profile.peak.source[1]}"
    assert (table["over_cap"] == table["registers"] - CAP).all()
    assert set(table[table["file"] == "standard.py"]["source"]) <= {""}  # not the kernel's own file
    held = held_across(crash_ptx)
    assert held_table(held, top=100)["registers"].sum() == held.registers
    assert held_table(None).empty
    operands = tuple_table(profile)
    assert operands.iloc[0]["adjacent"] == operands.iloc[0]["filled for it"] == 128


def test_the_plot_shows_demand_the_cap_and_the_marks(crash_ptx):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    profile = pressure_profile(crash_ptx)
    ax = Figure().add_subplot()
    pressure_plot(ax, profile, marks={"accumulator": profile.peak.line_no})
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["demand", "above the cap", "cap: 255 registers"]
    assert "registers" in ax.get_ylabel() and "PTX" in ax.get_xlabel()
    assert ax.get_ylim()[1] > profile.demand
    assert [t.get_text() for t in ax.texts] == ["accumulator"]


def test_the_nvdisasm_most_likely_to_fit_comes_first():
    old, new = nvdisasm_programs("12.8.93"), nvdisasm_programs("13.1.80")
    assert old == new[::-1] and all(path.name == "nvdisasm" for path in old)

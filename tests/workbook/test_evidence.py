"""Recorded rows stand in for missing toolchains, visibly, and agree with what compiles here."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

import helpers as rc
from helpers.compiler.report import LIVE
from helpers.recorded import DATA
from helpers.workbook.evidence import _recorded_reports, evidence_line


@pytest.fixture
def no_toolchain(tmp_path, monkeypatch):
    """A machine on which the incident's Triton was never fetched."""
    monkeypatch.setenv("REGISTER_CLIFF_CACHE", str(tmp_path))


def test_the_incident_is_live_where_its_toolchain_is(toolchain_351):
    evidence = rc.compile_one(rc.INCIDENT_CHOICE)
    assert evidence.source == LIVE and evidence.report.crashed


def test_a_recorded_row_stands_in_and_says_so(no_toolchain):
    evidence = rc.compile_one(rc.INCIDENT_CHOICE)
    assert not evidence.live and "recorded: " in evidence.source and "2026" in evidence.source
    assert (evidence.report.status, evidence.report.ptxas_code) == ("register_exhausted", "C7600")
    assert evidence.report.instructions["tcgen05_mma"] > 0
    assert "1 recorded" in evidence_line([evidence])


def test_what_is_not_recorded_stays_missing_and_names_the_command(no_toolchain):
    evidence = rc.compile_one(replace(rc.INCIDENT_CHOICE, tile="32x32"))
    assert evidence.report.status == "toolchain_missing"
    assert "toolchains install 3.5.1" in evidence.report.message


@pytest.mark.parametrize("other", [{"ptxas_flags": ("-O3",)}, {"ptxas": "12.9.86"}, {"maxnreg": 128}])
def test_a_recorded_row_never_answers_for_other_flags(no_toolchain, other):
    assert rc.compile_one(replace(rc.INCIDENT_CHOICE, **other)).report.status == "toolchain_missing"


def test_recorded_flags_have_rows_of_their_own(no_toolchain):
    lowered = rc.compile_one(replace(rc.INCIDENT_CHOICE, ptxas_flags=("-O1",)))
    assert lowered.report.status == "spills" and lowered.report.spill_store_bytes > 0


def test_every_recorded_row_reads_back_as_a_report():
    table = rc.read_rows("compile_rows")
    assert len(table) == len(_recorded_reports()) > 50
    for report, source in _recorded_reports().values():
        assert report.compiled == (report.status in ("ok", "spills"))
        assert (report.regs_per_thread is not None) or not report.compiled
        assert "record_compile_rows.py" in source


def test_a_sample_of_recorded_rows_is_what_compiles_here(toolchain_351):
    for choice in (*rc.incident_rows()[2:4], rc.inside_ptxas_choices()[0]):
        live = rc.compile_one(choice).report
        recorded, _ = _recorded_reports()[live.label, live.arch, "3.5.1", ""]
        assert (live.status, live.regs_per_thread, live.spill_store_bytes, live.instructions) == (
            recorded.status,
            recorded.regs_per_thread,
            recorded.spill_store_bytes,
            recorded.instructions,
        )


def test_the_recorded_ptx_is_the_crash(no_toolchain):
    text = rc.ptx_of(rc.compile_one(rc.INCIDENT_CHOICE))
    assert len(rc.wide_operands(text, 128)) == 4 and rc.ptx_header(text).target == "sm_100a"


def test_no_recorded_file_names_a_folder_of_a_machine():
    folders = [b"/home/", b"/tmp/", b"/Users/", str(Path.home()).encode(), str(DATA.parent).encode()]
    for path in DATA.iterdir():
        content = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        for folder in folders:
            assert folder not in content, (path.name, folder)


@pytest.mark.parametrize("name", ["no_such_rows", "../README", "", "/etc/passwd"])
def test_unknown_rows_are_refused_with_what_there_is(name):
    with pytest.raises(rc.UserError, match="incident_reference"):
        rc.read_rows(name)


def test_the_demand_of_a_compile_is_read_from_its_ptx(toolchain_351):
    crash = rc.compile_one(rc.INCIDENT_CHOICE)
    assert rc.demand_of(crash) == rc.pressure_profile(rc.ptx_of(crash)).demand > 2 * 255

"""Spills weighed by loops: of kernels that really spill there, and through the gate."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from helpers.__main__ import main
from helpers.attention.choice import Choice
from helpers.compiler.compile import compile_request
from helpers.compiler.disassemble import report_loop_spills, spill_weight
from helpers.inspection.binary.sass_loops import LOOP_TRIPS, LoopSpills
from helpers.search.gate import parse_baseline

SPILLING = Choice(head_dim=512, window=None, tile="32x64")


@pytest.fixture(scope="module")
def spilling(toolchain_351):
    report = compile_request(SPILLING.request())
    assert (report.status, report.regs_per_thread) == ("spills", 255)
    return report


def test_the_bytes_add_up_to_ptxas_s_and_those_in_loops_weigh_more(spilling):
    found = report_loop_spills(spilling)
    assert sum(found.stores.values()) == spilling.spill_store_bytes
    assert sum(found.loads.values()) == spilling.spill_load_bytes
    assert 0 < found.inside < found.total  # some of them before and after the loops
    assert found.weighted == found.total - found.inside + LOOP_TRIPS * found.inside  # loops side by side, none nested
    assert spill_weight(spilling) == float(found.weighted)


def test_what_cannot_be_weighed_is_none_and_no_spills_weigh_nothing(spilling, tmp_path):
    clean = replace(spilling, status="ok", spill_store_bytes=0, spill_load_bytes=0, cubin_path=None)
    assert report_loop_spills(clean) == LoopSpills() and spill_weight(clean) == 0.0
    assert spill_weight(replace(spilling, status="timeout")) is None
    assert spill_weight(replace(spilling, cubin_path=None)) is None
    (tmp_path / "broken.cubin").write_bytes(b"\x7fELF")
    assert spill_weight(replace(spilling, cubin_path=str(tmp_path / "broken.cubin"))) is None


def test_the_gate_records_weights_and_fails_on_as_many_bytes_in_deeper_loops(spilling, tmp_path, capsys):
    spec, baseline = tmp_path / "hd512.json", tmp_path / "baseline.csv"
    spec.write_text(SPILLING.request().spec.to_json())
    words = ["gate", str(spec), "--baseline", str(baseline), "--arch", "sm_100a", "--triton", "3.5.1"]
    assert main([*words, "--write"]) == 0
    (row,) = parse_baseline(baseline.read_text())
    assert row.weighted_spill_bytes == spill_weight(spilling)
    assert f"({row.weighted_spill_bytes:g} by loops)" in capsys.readouterr().out
    assert main(words) == 0
    lighter = baseline.read_text().replace(str(row.weighted_spill_bytes), str(row.spill_bytes + 0.0))
    baseline.write_text(lighter)
    capsys.readouterr()
    assert main([*words, "--json"]) == 1
    (said,) = json.loads(capsys.readouterr().out)["rows"]
    assert said["failed"] and "in deeper loops" in said["regressions"][0]
    assert said["spill_bytes_now"] == said["spill_bytes_before"]
    assert said["weighted_spill_bytes_now"] > said["weighted_spill_bytes_before"]

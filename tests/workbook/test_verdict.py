"""The verdict is computed: it says reproduced only when this machine ran the crash."""

from __future__ import annotations

import helpers as rc


def test_reproduced_live(toolchain_351):
    verdict = rc.workbook_verdict()
    assert verdict.reproduced and verdict.lines[0].startswith("Crash reproduced: ")
    assert "(head dim 256, fp8_e4m3 cache, window 1,024, 128 queries by 64 keys, 8 warps)" in verdict.lines[0]
    assert "50 of 60 to 0" in verdict.lines[1] and len(verdict.lines) == 2
    assert verdict.table["tiles"].tolist() == ["before the fix"] * 4 + ["after the fix"] * 4
    assert verdict.table["outcome"][0] == "dies (C7600)" and verdict.table["outcome"][4].startswith("255 registers")


def test_a_recording_is_not_called_a_reproduction(tmp_path, monkeypatch):
    monkeypatch.setenv("REGISTER_CLIFF_CACHE", str(tmp_path))
    verdict = rc.workbook_verdict()
    assert not verdict.reproduced and "not run here" in verdict.lines[0] and "recorded" in verdict.evidence


def test_a_compiler_that_lets_it_pass_is_reported_as_such(monkeypatch):
    from helpers.compiler.report import LIVE, Evidence
    from helpers.workbook import verdict as module

    passing = Evidence(rc.compile_one(rc.incident_rows()[3]).report, LIVE)
    monkeypatch.setattr(module, "compile_one", lambda _choice: passing)
    verdict = rc.workbook_verdict()
    assert not verdict.reproduced and "NOT reproduced" in verdict.lines[0]

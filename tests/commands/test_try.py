"""The verb `try`: edits are told as they pass, and ranked at the end."""

from __future__ import annotations

from helpers.__main__ import main
from helpers.workbook.your_own_crash.cliff_matmul import matmul_spec


def test_each_edit_is_told_as_it_passes_and_not_under_quiet_or_json(toolchain_351, capsys, tmp_path):
    spec = tmp_path / "matmul.json"
    spec.write_text(matmul_spec().to_json())
    command = ["try", str(spec), "--arch", "sm_90a", "--triton", "3.5.1"]
    assert main(command) == 0
    told = capsys.readouterr()
    passes = [line for line in told.err.splitlines() if " passes: " in line]
    assert passes and any("BLOCK_M 256 → 128 passes: " in line and "no spills" in line for line in passes)
    assert "BLOCK_M 256 → 128" in told.out
    for flag in ("--quiet", "--json"):
        assert main([*command, flag]) == 0
        assert " passes: " not in capsys.readouterr().err

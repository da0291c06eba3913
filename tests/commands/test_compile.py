"""The verb `compile`: a reproduced crash is a result, a missing toolchain a sentence."""

from __future__ import annotations

import json

from helpers.__main__ import main
from helpers.compiler.report import CompileReport


def test_missing_toolchain_as_json_is_a_report_and_exit_two(capfd):
    assert main(["compile", "--triton", "9.9.9", "--json"]) == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "toolchain_missing"
    assert "register-cliff toolchains install 9.9.9" in err and err.count("\n") == 1


def test_a_reproduced_crash_is_exit_zero(toolchain_351, capfd):
    assert (
        main(
            [
                "compile",
                "--arch",
                "sm_100a",
                "--head-dim",
                "256",
                "--kv-dtype",
                "fp8_e4m3",
                "--window",
                "1024",
                "--tile",
                "128x64",
                "--num-warps",
                "8",
                "--triton",
                "3.5.1",
                "--json",
            ]
        )
        == 0
    )
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert err == "" and report["status"] == "register_exhausted" and report["ptxas_code"] == "C7600"
    assert set(CompileReport.__dataclass_fields__) <= set(report)
    assert main(["compile"]) == 0  # the defaults are the incident; read from the cache
    out, _ = capfd.readouterr()
    assert "register_exhausted" in out and "(C7600)" in out and report["ptx_path"] in out and "from the cache" in out

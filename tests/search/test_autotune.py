"""What an autotuner would drop: registers told from shared memory, a static_assert, and what ends the program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import helpers as rc
from helpers.__main__ import main
from helpers.compiler.bring.from_file import configurations, spec_from_file
from helpers.compiler.toolchain import Toolchain, ToolchainMissing
from helpers.errors import UserError
from helpers.search.autotune import autotune_report, configured

MATMUL = Path(__file__).parents[2] / "kernels" / "cliff_matmul.py"
CONFIGS = """
import engine.that.is_not_here as engine

engine.setup()
SIZES = [(128, 128, 8, 3), (256, 256, 16, 1), (256, 256, 8, 7)]


@triton.autotune(
    configs=[triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=w, num_stages=s) for m, n, w, s in SIZES]
    + [triton.Config({"BLOCK_M": 64, "BLOCK_N": 512}), triton.Config({"BLOCK_M": 48, "BLOCK_N": 64})],
    key=["k"],
)
@triton.heuristics({"BLOCK_K": lambda args: 64})
@triton.jit
def cliff_matmul_kernel("""
SIGNATURE = "*bf16:16, *bf16:16, *bf16:16, i32, i32, i32:16, i32:16, i32:16, i32:16, BLOCK_K=64"


@pytest.fixture
def file(tmp_path) -> Path:
    """The project's plain matrix product under an autotuner, with one configuration of each kind."""
    path = tmp_path / "tuned_matmul.py"
    text = MATMUL.read_text().replace("\n@triton.jit\ndef cliff_matmul_kernel(", CONFIGS)
    path.write_text(
        text.replace(
            "    rows = tl.program_id(0)",
            '    tl.static_assert(BLOCK_N <= 256, "too wide")\n    rows = tl.program_id(0)',
            1,
        )
    )
    return path


def test_each_configuration_gets_its_fate_and_its_reason(file, toolchain_351):
    spec = spec_from_file(file, "cliff_matmul_kernel", SIGNATURE)
    assert dict(spec.constexprs)["BLOCK_M"] == 128 and spec.num_warps == 8  # the first configuration's
    report = autotune_report(spec, "sm_90a", toolchain_351)
    fine, registers, shared, asserted, broken = report.tried
    assert (fine.fate, fine.why) == ("runs", "")
    assert (
        registers.fate == "dropped" and registers.why == "registers: ptxas could not allocate them (C7602, 128 asked)"
    )
    assert (shared.fate, shared.why) == ("dropped", "shared memory")
    assert (asserted.fate, asserted.why) == ("dropped", "a static_assert of the kernel")
    # Triton catches no other error of the front end: that configuration ends the program.
    assert broken.fate == "raises" and broken.why.startswith("the front end")
    assert report.summary().startswith("4 of 5 configurations do not run on sm_90a: ")
    assert registers.report.label.endswith("num_stages: 1, maxnreg: None]")


def test_the_verb_prints_every_configuration(file, tmp_path, toolchain_351, capfd):
    spec = tmp_path / "spec.json"
    words = ["spec", "--file", str(file), "--kernel", "cliff_matmul_kernel", "--signature", SIGNATURE, "-o", str(spec)]
    assert main(words) == 0
    assert "next: register-cliff compile" in capfd.readouterr().out
    assert main(["autotune", str(spec), "--arch", "sm_90a", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [c["fate"] for c in result["configurations"]] == ["runs", "dropped", "dropped", "dropped", "raises"]
    assert main(["autotune", str(spec), "--arch", "sm_90a"]) == 0
    out = capfd.readouterr().out
    assert out.count("dropped") == 3 and "shared memory" in out and "C7602" in out


def test_what_is_not_autotuned_does_not_load_or_is_not_there_is_a_sentence(file, tmp_path):
    plain = spec_from_file(MATMUL, "cliff_matmul_kernel", SIGNATURE + ", BLOCK_M=64, BLOCK_N=64")
    with pytest.raises(UserError, match=r"under no triton.autotune"):
        rc.autotune_report(plain, "sm_90a", Toolchain("environment"))
    with pytest.raises(ToolchainMissing, match=r"toolchains install 1\.2\.3"):
        configurations(plain.kernel, "1.2.3")
    with pytest.raises(UserError, match="arch"):
        rc.autotune_report(spec_from_file(file, "cliff_matmul_kernel", SIGNATURE), "sm_1", Toolchain("environment"))


def test_an_environment_inside_the_projects_folder_is_not_forgotten_with_the_project(file):
    """Where `.venv` lies in the checkout, Triton itself lies below the kernel's import root."""
    spec = spec_from_file(file, "cliff_matmul_kernel", SIGNATURE)
    below_everything = replace(spec.kernel, import_root="/")
    for _ in range(2):
        assert len(configurations(below_everything, "environment")) == len(configurations(spec.kernel, "environment"))


def test_a_configuration_may_set_only_what_the_kernel_has(file):
    spec = spec_from_file(file, "cliff_matmul_kernel", SIGNATURE)
    (first, *_) = configurations(spec.kernel, "environment")
    assert first.values == {"BLOCK_M": 128, "BLOCK_N": 128} and first.options["num_stages"] == 3
    first.values["NOT_THERE"] = 1
    with pytest.raises(UserError, match="no constexpr 'NOT_THERE'"):
        configured(spec, first)

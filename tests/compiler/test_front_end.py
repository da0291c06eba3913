"""A compile that Triton's C++ side ends says why, where and in which pass, and keeps the MLIR; real failures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.compiler.compile import compile_kernel
from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.toolchain import Toolchain
from helpers.search.autotune import RAISES, fate

FAILURES = Path(__file__).parents[1] / "fixtures" / "kernels" / "failures.py"
BF16 = "*bf16:16"
pytestmark = pytest.mark.usefixtures("toolchain_351", "own_cache")


def spec_of(kernel: str, **parameters: object) -> KernelSpec:
    """The spec of a kernel in failures.py; text is a type, a number a constexpr."""
    values = {name: value for name, value in parameters.items() if not isinstance(value, str)}
    return KernelSpec(
        kernel=KernelRef(str(FAILURES), kernel),
        signature=tuple((name, "constexpr" if name in values else value) for name, value in parameters.items()),
        constexprs=tuple(values.items()),
        divisible_by_16=tuple(name for name in parameters if name not in values),
        options=(("num_warps", 8), ("num_stages", 2)),
    )


def gated_up(tokens: int = 64, cols: int = 32) -> KernelSpec:
    return spec_of(
        "gated_up",
        tokens="*bf16",
        gate="*bf16",
        up="*bf16",
        out="*bf16",
        WIDTH=1024,
        TOKENS=tokens,
        SLICE=64,
        COLS=cols,
    )


def test_a_pass_that_fails_is_named_with_the_kernel_s_line_and_its_reproducer_kept():
    for cached in (False, True):
        report = compile_kernel(gated_up(), "sm_100a", Toolchain("3.5.1"))
        assert report.status == "frontend_error" and report.cached == cached
        assert report.error_line.startswith("operand #2 does not dominate this use (failures.py:22, pass ")
        assert (report.failed_pass, report.error_place) == ("TritonGPUHoistTMEMAlloc", "failures.py:22")
        assert report.error_source.startswith("opened += tl.dot(")
        assert "PassManager::run failed" not in report.message
        assert "mlir_reproducer" in Path(report.reproducer_path).read_text()
        assert "does not dominate" in Path(report.frontend_log_path).read_text()
    told = report.to_dict()
    assert json.dumps(told) and told["failed_pass"] and told["headline"] == report.error_line
    assert report.error_line in report.verdict_in_full()
    assert fate(report) == (RAISES, f"the front end: {report.error_line}"[: len(fate(report)[1])])


def test_an_abort_of_the_worker_is_a_report_with_the_assertion_and_is_kept():
    spec = spec_of("byte_register", numbers="*i32", out="*i32", COUNT=128)
    first, second = (compile_kernel(spec, "sm_90a", Toolchain("3.5.1")) for _ in range(2))
    assert first.status == "frontend_error"
    assert first.error_line == "assertion failed: Copying to an illegal type! (SelectionDAGBuilder.cpp:523)"
    assert "SIGABRT" in first.message and Path(first.frontend_log_path).stat().st_size > 100
    assert second.cached and second.message == first.message


def test_what_python_says_stays_the_message_of_a_python_failure():
    report = compile_kernel(
        spec_of("forgotten_name", numbers="*i32", out="*i32", COUNT=128), "sm_90a", Toolchain("3.5.1")
    )
    assert report.status == "frontend_error" and report.error_line is None
    assert report.headline == "NameError('factor is not defined')"
    assert report.verdict_in_full() == "frontend error: NameError('factor is not defined')"


def test_one_compile_s_words_are_not_another_s(write_kernel):
    """The same worker: what the first kernel printed is not the second one's failure."""
    loud = write_kernel("import os\nos.write(2, b'k.py:3:1: error: not a failure\\n')\nimport missing_module\n")
    report = compile_kernel(loud, "sm_90a", Toolchain("3.5.1"))
    assert report.error_line is None and "missing_module" in report.headline
    report = compile_kernel(gated_up(), "sm_100a", Toolchain("3.5.1"))
    assert "not a failure" not in Path(report.frontend_log_path).read_text()

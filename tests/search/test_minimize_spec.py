"""minimize_spec: which numbers a failure needs, found by compiling; with a compiler that fails for a known reason."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.report import CompileReport
from helpers.errors import UserError
from helpers.search.minimize import minimize_spec as module
from helpers.search.minimize.minimize_spec import minimize_spec

SPEC = KernelSpec(
    kernel=KernelRef("kernel.py", "kernel"),
    signature=(
        ("x", "*bf16"), ("M", "constexpr"), ("N", "constexpr"), ("D", "constexpr"), ("CAUSAL", "constexpr"),
        ("CAP", "constexpr"), ("MODE", "constexpr"), ("NONE", "constexpr"),
    ),
    constexprs=(("M", 128), ("N", 64), ("D", 256), ("CAUSAL", True), ("CAP", 30.0), ("MODE", "branch"), ("NONE", None)),
    divisible_by_16=("x",),
    options=(("num_warps", 8), ("num_stages", 3), ("maxnreg", 255)),
    label="made up",
)  # fmt: skip
CRASH = CompileReport(
    "register_exhausted", "sm_100a", "3.5.1", "12.8.93", ptxas_code="C7600", register_count_asked=255,
    failed_stage="ptxas", ptx_lines=900,
)  # fmt: skip


@pytest.fixture
def compiler(monkeypatch):
    """Fails as the incident does while M * D >= 4096 and CAUSAL, and in other ways where a kernel cannot be."""
    asked = []

    def judge(spec: KernelSpec, *_more, **_named) -> CompileReport:
        asked.append(spec)
        value = dict(spec.constexprs)
        if value["N"] < 16:
            return replace(CRASH, status="frontend_error", ptxas_code=None, failed_stage="frontend")
        if spec.num_warps < 2:
            return replace(CRASH, register_count_asked=128)
        if value["M"] * value["D"] >= 4096 and value["CAUSAL"]:
            return CRASH
        return replace(CRASH, status="ok", ptxas_code=None, failed_stage=None, regs_per_thread=90)

    def all_of_them(requests, *, executor=None, progress=None):
        return [judge(r.spec) for r in requests]

    monkeypatch.setattr(module, "compile_kernel", judge)
    monkeypatch.setattr(module, "compile_matrix", all_of_them)
    return asked


def test_what_the_failure_needs_is_left(compiler):
    small = minimize_spec(SPEC, "sm_100a")
    value = dict(small.spec.constexprs)
    assert small.complete and small.compiles == len(compiler)
    assert value["M"] * value["D"] == 4096
    assert value["N"] == 16  # at 8 it fails in another way
    assert value["CAUSAL"] is True and value["CAP"] == 0.0
    assert value["MODE"] == "branch" and value["NONE"] is None
    assert small.spec.option == {"num_warps": 2, "num_stages": 1}
    assert "maxnreg 255 → unset" in small.changes
    assert "CAUSAL True → False: 90 registers" in small.needed
    assert "N 16 → 8: frontend error" in small.needed
    assert not any(change.startswith("CAP") for change in small.needed)


def test_numbers_that_only_shrink_together(compiler, monkeypatch):
    """As a head dimension and the tile as wide as it: halved apart, the kernel is another or none."""

    def judge(spec):
        value = dict(spec.constexprs)
        return CRASH if value["M"] == value["N"] >= 16 else replace(CRASH, status="frontend_error", ptxas_code=None)

    monkeypatch.setattr(module, "compile_matrix", lambda requests, **_named: [judge(r.spec) for r in requests])
    monkeypatch.setattr(module, "compile_kernel", lambda spec, *_more, **_named: judge(spec))
    small = minimize_spec(SPEC.with_constexprs(N=128), "sm_100a")
    assert dict(small.spec.constexprs)["M"] == dict(small.spec.constexprs)["N"] == 16
    assert "M, N 128 → 64" in small.changes
    assert any(change.startswith("M, N 16 → 8: frontend error") for change in small.needed)


def test_the_result_is_as_small_as_single_steps_make_it(compiler):
    small = minimize_spec(SPEC, "sm_100a").spec
    again = minimize_spec(small, "sm_100a")
    assert again.spec == small and again.changes == ()


def test_a_step_that_makes_the_ptx_longer_is_not_taken(compiler, monkeypatch):
    """As when a head dimension falls below the tile's width: every load gets a mask."""

    def longer(requests, **_named):
        return [
            replace(CRASH, ptx_lines=901 if dict(r.spec.constexprs)["D"] < 256 else 900 - r.spec.num_warps)
            for r in requests
        ]

    monkeypatch.setattr(module, "compile_matrix", longer)
    small = minimize_spec(SPEC, "sm_100a")
    assert dict(small.spec.constexprs)["D"] == 256
    assert "D 256 → 128: the same in a longer PTX" in small.needed


def test_ready_for_json(compiler):
    result = json.loads(json.dumps(minimize_spec(SPEC, "sm_100a").to_dict()))
    assert KernelSpec.from_json(json.dumps(result["spec"])).num_warps == 2
    assert result["verdict"] == "dies (C7600)" and result["register_count_asked"] == 255


def test_time_limit(compiler, monkeypatch):
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    small = minimize_spec(SPEC, "sm_100a", time_limit_s=100)
    assert not small.complete
    assert 1 < len(compiler) < 40


def test_a_spec_that_compiles_is_refused(compiler):
    with pytest.raises(UserError, match="made up does not fail on sm_100a"):
        minimize_spec(SPEC.with_constexprs(D=16), "sm_100a")
    with pytest.raises(UserError, match="time limit"):
        minimize_spec(SPEC, "sm_100a", time_limit_s=0)


def test_no_verdict_is_no_failure(monkeypatch):
    missing = replace(CRASH, status="toolchain_missing", ptxas_code=None, message="Triton 3.5.1 is not installed")
    monkeypatch.setattr(module, "compile_kernel", lambda *a, **k: missing)
    with pytest.raises(UserError, match="is not installed"):
        minimize_spec(SPEC, "sm_100a")


@pytest.mark.slow
def test_the_incident(toolchain_351):
    """For real: whatever it has when the time is up fails as the incident does, and the limit is kept to.

    How far ten seconds get depends on the machine, so no step is asked for here; the made-up compiler above asks.
    """
    from helpers.attention.studies.incident import INCIDENT_CHOICE

    started = time.monotonic()
    spec = INCIDENT_CHOICE.request().spec
    small = minimize_spec(spec, "sm_100a", toolchain_351, time_limit_s=10, timeout_s=15)
    assert (small.after.ptxas_code, small.after.register_count_asked) == ("C7600", 255)
    assert small.compiles > 1 and bool(small.changes) == (small.spec.content_key() != spec.content_key())
    assert time.monotonic() - started < 240

"""Crossing: who is named when Triton's passes, LLVM, ptxas or two of them decide; and crossings of small kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.report import CompileReport
from helpers.errors import UserError
from helpers.search.cross import CUBIN, LLIR, PTX, STEPS, TTGIR, Crossed, Crossing, Member, StageText, cross, turns_of
from helpers.search.cross_answer import crossed_dict, sentences

GATED = Path(__file__).resolve().parents[1] / "fixtures" / "cross" / "gated.py"


def gated_spec() -> KernelSpec:
    """A kernel that a pass of Triton 3.5.1 fails on for sm_100a, and that 3.6.0 compiles."""
    pointers = ("tokens", "gate", "up", "down", "out")
    sizes = {"HIDDEN": 512, "MODEL": 128, "ROWS": 64, "PART": 64, "STEP": 32}
    signature = (*((name, "*bf16") for name in pointers), *((name, "constexpr") for name in sizes))
    options = (("num_warps", 8), ("num_stages", 2))
    return KernelSpec(KernelRef(str(GATED), "gated"), signature, tuple(sizes.items()), pointers, options, "gated")


def crossed(dies, ok: CompileReport, crash: CompileReport, blank=()) -> Crossed:
    """Releases 3.5.1 and 3.6.0; `dies(ttgir, llir, ptx, cubin)` says whether that chain of releases fails."""
    names = ("3.5.1", "3.6.0")

    def report(*chain: str) -> CompileReport:
        paths = {f"{stage}_path": "there" for stage in ("ttgir", "llir", "ptx")}
        return replace(crash if dies(*chain) else ok, **paths)

    cells = []
    for number, step in enumerate(STEPS[1:], start=1):
        for maker in names:
            for other in names:
                found = report(*[maker] * number, *[other] * (4 - number))
                unread = (step, maker, other) in blank
                cells.append(Crossing(step, maker, other, None if unread else found, unreadable="so" if unread else ""))
    members = tuple(Member(n, None, "12.8.93") for n in names)
    return Crossed("k", "sm_100a", STEPS, members, {n: report(*[n] * 4) for n in names}, tuple(cells))


OLD = "3.5.1"


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)))
def test_the_step_whose_doer_the_verdict_follows_is_named(number, step, ok, crash):
    found = crossed(lambda *chain: chain[number] == OLD, ok, crash)
    (turn,) = turns_of(found)
    assert turn.fails == OLD and turn.decided_by == (step,)


def test_two_steps_that_are_both_needed_are_both_named(ok, crash):
    found = crossed(lambda ttgir, _llir, ptx, _cubin: ttgir == ptx == OLD, ok, crash)
    (turn,) = turns_of(found)
    assert turn.decided_by == (TTGIR, PTX) and not turn.either_is_enough
    assert "it takes both Triton (source → TTGIR) and LLVM (LLIR → PTX)" in sentences(replace(found, turns=(turn,)))[0]


def test_two_steps_of_which_one_is_enough(ok, crash):
    (turn,) = turns_of(crossed(lambda ttgir, _llir, ptx, _cubin: OLD in (ttgir, ptx), ok, crash))
    assert turn.decided_by == (TTGIR, PTX) and turn.either_is_enough


def test_a_text_that_cannot_be_read_leaves_it_open_between_two_steps(ok, crash):
    found = crossed(lambda *chain: chain[2] == OLD, ok, crash, blank={(PTX, OLD, "3.6.0")})
    (turn,) = turns_of(found)
    assert turn.first == (LLIR, PTX) and turn.last == (PTX,) and turn.decided_by == ()
    assert "leaves it open" in sentences(replace(found, turns=(turn,)))[0]


def test_equal_verdicts_turn_nowhere(ok, crash):
    found = crossed(lambda *_chain: True, ok, crash)
    assert turns_of(found) == []
    assert "fails in the same way (C7600)" in sentences(found)[0]


@pytest.mark.usefixtures("triton_360")
def test_a_pass_of_tritons_that_fails_is_named(own_cache):
    found = cross(gated_spec(), "sm_100a", versions=["3.6.0", "3.5.1"])
    assert found.own[OLD].status == "frontend_error" and found.own["3.6.0"].compiled
    (turn,) = crossed_dict(found)["turns"]
    assert (turn["fails"], turn["culprit"]) == (OLD, ["Triton"])
    assert "TritonGPUHoistTMEMAlloc" in sentences(found)[0]
    assert found.at(LLIR, OLD, "3.6.0").report is None  # there is no text to hand on
    assert found.at(CUBIN, "3.6.0", OLD).report.compiled


def test_one_ptxas_that_refuses_is_named_for_a_ptx_alone(fake_ptxas, write_kernel):
    fake_ptxas("echo \"ptxas fatal   : (C7600) Register allocation failed with register count of '255'\" >&2; exit 255")
    from helpers.compiler.compile import compile_kernel
    from helpers.compiler.toolchain import Toolchain

    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    what = StageText("ptx", Path(report.ptx_path).read_text(), "small.ptx")
    found = cross(what, "sm_90a", versions=["1.2.3", "12.8.93"])
    result = crossed_dict(found)
    assert result["turns"][0]["culprit"] == ["ptxas"] and result["turns"][0]["fails"] == "1.2.3"
    assert "ptxas 1.2.3 fails (C7600), ptxas 12.8.93 compiles" in result["sentences"][0]


@pytest.mark.usefixtures("triton_360")
def test_an_llir_alone_goes_through_each_llvm_and_each_ptxas(own_cache, write_kernel):
    from helpers.compiler.compile import compile_kernel
    from helpers.compiler.toolchain import Toolchain

    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    found = cross(StageText("llir", Path(report.llir_path).read_text(), "small.llir"), "sm_90a",
                  versions=["3.5.1", "3.6.0"])  # fmt: skip
    assert found.steps == (PTX, CUBIN) and found.rows_of(PTX) == ("small.llir",)
    assert all(cell.report.compiled for cell in found.cells)
    assert found.member("3.6.0").facts.llvm_revision.startswith("f6ded0be8")


@pytest.mark.usefixtures("triton_360")
def test_a_text_that_a_release_cannot_read_is_no_failure_of_the_kernel(own_cache, write_kernel):
    from helpers.compiler.compile import compile_kernel
    from helpers.compiler.toolchain import Toolchain

    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.6.0"))
    text = Path(report.llir_path).read_text().replace("@llvm.nvvm.read.ptx.sreg.ctaid.x", "@llvm.nvvm.no.such.thing")
    found = cross(StageText("llir", text), "sm_90a", versions=["3.5.1", "3.6.0"])
    assert found.turns == () and sentences(found) == ["no release at hand gave a verdict"]
    assert "llvm.nvvm.no.such.thing" in found.at(PTX, "the file", "3.6.0").unreadable


@pytest.mark.usefixtures("triton_360")
def test_the_second_crossing_runs_nothing(own_cache, write_kernel, monkeypatch):
    spec = write_kernel()
    cross(spec, "sm_90a", versions=["3.5.1", "3.6.0"])
    from helpers.compiler import codegen, run_ptxas

    def nobody(*_args, **_more):
        raise AssertionError("asked again")

    monkeypatch.setattr(codegen.POOL, "borrow", nobody)
    monkeypatch.setattr(run_ptxas, "run_ptxas", nobody)
    assert all(cell.report for cell in cross(spec, "sm_90a", versions=["3.5.1", "3.6.0"]).cells)


@pytest.mark.usefixtures("triton_360")
def test_only_the_turns_give_the_same_answer_with_fewer_cells(own_cache):
    versions = ["3.4.0", "3.5.1", "3.6.0"]
    whole = cross(gated_spec(), "sm_100a", versions=versions)
    part = cross(gated_spec(), "sm_100a", versions=versions, only_turns=True)
    assert whole.turns and part.turns == whole.turns and sentences(part) == sentences(whole)
    asked = {frozenset((c.made_by, c.done_by)) for c in part.cells if c.made_by != c.done_by}
    assert asked == {frozenset((t.fails, t.other)) for t in whole.turns}


def test_one_release_cannot_be_crossed(write_kernel):
    with pytest.raises(UserError, match=r"two releases of Triton at least"):
        cross(write_kernel(), "sm_90a", versions=["3.5.1"])

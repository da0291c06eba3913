"""Going on from a text: what another release cannot read is reported as that, and what is changed is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.compiler.compile import compile_kernel
from helpers.compiler.from_text import go_on, ptx_as_generated, readable_by
from helpers.compiler.toolchain import Toolchain, resolve_ptxas, resolve_triton
from helpers.errors import UserError
from helpers.hardware import get_arch

pytestmark = pytest.mark.usefixtures("triton_360")

NEWER = ".version 99.9\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{\n\tret;\n}\n"


def test_a_ptx_that_is_too_new_has_its_version_lowered(own_cache):
    ptxas = resolve_ptxas("12.8.93")
    lowered, said = readable_by(ptx_as_generated(NEWER, gpu_name="sm_90a"), ptxas, timeout_s=60)
    assert said == (".version 99.9 lowered to 8.7",)
    assert Path(lowered.path("ptx")).read_text() == NEWER.replace("99.9", "8.7")


def test_a_ptx_that_needs_its_version_is_left_alone(own_cache):
    made = ptx_as_generated(NEWER.replace("ret;", "no.such.instruction;"), gpu_name="sm_90a")
    assert readable_by(made, resolve_ptxas("12.8.93"), timeout_s=60) == (made, ())


@pytest.mark.parametrize("stage", ["ttgir", "llir"])
def test_a_text_that_is_none_cannot_be_read(own_cache, stage):
    gone = go_on("nonsense", stage, get_arch("sm_90a"), resolve_triton("3.6.0"), timeout_s=60)
    assert gone.unreadable and gone.generated.failed


def test_an_intrinsic_that_llvm_does_not_know_is_named(own_cache, write_kernel):
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.6.0"))
    text = Path(report.llir_path).read_text()
    strange = text.replace("@llvm.nvvm.read.ptx.sreg.ctaid.x", "@llvm.nvvm.no.such.thing")
    assert strange != text
    gone = go_on(strange, "llir", get_arch("sm_90a"), resolve_triton("3.6.0"), timeout_s=60)
    assert "llvm.nvvm.no.such.thing" in gone.unreadable


def test_going_on_from_its_own_llir_gives_its_own_ptx(own_cache, write_kernel):
    spec = write_kernel()
    report = compile_kernel(spec, "sm_90a", Toolchain("3.6.0"))
    text, arch = Path(report.llir_path).read_text(), get_arch("sm_90a")
    gone = go_on(text, "llir", arch, resolve_triton("3.6.0"), options=spec.options, timeout_s=60)
    assert gone.generated.ptx_sha256 == report.ptx_sha256 and gone.adjustments == ()


def test_going_on_from_its_own_ttgir_gives_the_same_instructions(own_cache, write_kernel):
    spec = write_kernel()
    report = compile_kernel(spec, "sm_90a", Toolchain("3.6.0"))
    text, arch = Path(report.ttgir_path).read_text(), get_arch("sm_90a")
    gone = go_on(text, "ttgir", arch, resolve_triton("3.6.0"), options=spec.options, timeout_s=60)
    assert gone.generated.instructions == report.instructions
    assert gone.adjustments == ("source locations left out",)


def test_there_is_nothing_before_ttgir(write_kernel):
    with pytest.raises(UserError, match="nothing goes on from 'ttir'"):
        go_on("", "ttir", get_arch("sm_90a"), resolve_triton("3.6.0"), timeout_s=60)

"""Switches of LLVM's as changes: which a release knows, that the worker alone gets them, that the cache tells them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler.assembly import flags_of
from helpers.compiler.codegen import codegen_key
from helpers.compiler.compile import CompileRequest, compile_kernel
from helpers.compiler.from_text import ptx_as_generated
from helpers.compiler.toolchain import Toolchain, resolve_triton
from helpers.compiler.wheel_facts import merged, switch_environment
from helpers.compiler.worker.pool import worker_environment
from helpers.errors import UserError
from helpers.hardware import get_arch
from helpers.search.ablate import ablate
from helpers.search.changes import compiler_changes, option_change

NO_PAIRS = (("DISABLE_LLVM_OPT", "nvptx-no-f32x2"),)
PAIRS = """
import triton
import triton.language as tl


@triton.jit
def add_one(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for step in range(n):
        total = total * 0.5 + tl.load(x_ptr + step * BLOCK + offsets)
    tl.store(x_ptr + offsets, total)
"""


@pytest.mark.usefixtures("triton_360")
def test_a_release_offers_the_switches_that_its_llvm_knows():
    names = {v: {c.name for c in compiler_changes(Toolchain(v)) if c.group == "llvm"} for v in ("3.5.1", "3.6.0")}
    assert "nvptx-no-f32x2" in names["3.6.0"] and "nvptx-no-f32x2" not in names["3.5.1"]


@pytest.mark.usefixtures("triton_360")
def test_a_release_that_lacks_a_switch_says_who_has_it():
    with pytest.raises(UserError, match=r"3\.5\.1 \(LLVM 22\.0\.0git 7d5de3033\) has no switch.* 3\.6\.0"):
        switch_environment(["nvptx-no-f32x2"], resolve_triton("3.5.1"))
    with pytest.raises(UserError, match="no switch of LLVM's is called 'no-such'"):
        switch_environment(["no-such"], resolve_triton("3.6.0"))


def test_the_worker_alone_gets_it(monkeypatch):
    monkeypatch.setenv("DISABLE_LLVM_OPT", "of the shell")
    assert worker_environment(Path("/site"), NO_PAIRS)["DISABLE_LLVM_OPT"] == "nvptx-no-f32x2"
    assert "DISABLE_LLVM_OPT" not in worker_environment(Path("/site"))
    assert os.environ["DISABLE_LLVM_OPT"] == "of the shell"


def test_two_switches_add_up():
    assert merged(NO_PAIRS, (("DISABLE_LLVM_OPT", "disable-lsr"),)) == (
        ("DISABLE_LLVM_OPT", "disable-lsr,nvptx-no-f32x2"),
    )


def test_the_cache_tells_a_compile_with_a_switch_from_one_without():
    parts = {"triton": "3.6.0", "cuda": None, "foreign": False}
    plain = codegen_key("k", get_arch("sm_100a"), **parts)
    assert codegen_key("k", get_arch("sm_100a"), **parts, environment=NO_PAIRS) != plain
    assert codegen_key("k", get_arch("sm_100a"), **parts, environment=()) == plain


@pytest.mark.usefixtures("triton_360")
def test_the_switch_ends_packed_pairs_and_the_next_compile_has_them_again(own_cache, write_kernel):
    spec = write_kernel(PAIRS).with_constexprs(BLOCK=4096)
    chain = Toolchain("3.6.0")
    plain = compile_kernel(spec, "sm_100a", chain)
    without = compile_kernel(spec, "sm_100a", chain, environment=NO_PAIRS)
    again = compile_kernel(replace(spec, label="again").with_constexprs(BLOCK=2048), "sm_100a", chain)
    texts = [Path(r.ptx_path).read_text() for r in (plain, without, again)]
    assert ["f32x2" in text for text in texts] == [True, False, True]


@pytest.mark.usefixtures("triton_360")
def test_an_ablation_passes_the_switch_on(own_cache, write_kernel):
    spec, chain = write_kernel(PAIRS).with_constexprs(BLOCK=4096), Toolchain("3.6.0")
    change = next(c for c in compiler_changes(chain) if c.name == "nvptx-no-f32x2")
    (rung,) = ablate(spec, "sm_100a", chain, changes=[change]).rungs
    assert "f32x2" not in Path(rung.report.ptx_path).read_text()
    assert CompileRequest(spec, "sm_100a").environment == ()


def test_a_flag_of_the_callers_replaces_tritons_own():
    made = ptx_as_generated(".version 8.7\n", gpu_name="sm_100a", flags=("-v", "--regAllocOptLevel=2"))
    assert flags_of(made, ("--regAllocOptLevel=4",)) == (("-v", "--regAllocOptLevel=4"), "sm_100a")
    assert flags_of(made, ()) == (("-v", "--regAllocOptLevel=2"), "sm_100a")


@pytest.mark.usefixtures("triton_360")
def test_a_change_of_the_compiler_is_tried_alone_and_in_no_set(fake_ptxas, write_kernel):
    words = "ptxas fatal   : (C7600) Register allocation failed with register count of '255'"
    version = fake_ptxas(f'echo "{words}" >&2; exit 255')
    chain = Toolchain("3.6.0", version)
    spec = write_kernel()
    changes = [option_change("num_warps", 4, 2), option_change("num_stages", None, 1)]
    changes += [c for c in compiler_changes(chain) if c.name == "nvptx-no-f32x2"]
    found = ablate(spec, "sm_90a", chain, changes=changes)
    assert len(found.rungs) == 3 and not found.rungs[-1].report.compiled
    assert found.compiles == 1 + 3 + 1  # as it is, each alone, and the one pair without LLVM

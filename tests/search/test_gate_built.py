"""gate over what is built: what fails, what is told, and what must not pass."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler.built.rows import BuiltKernel
from helpers.errors import UserError
from helpers.search.gate import Measured, exit_code, parse_baseline, read_baseline
from helpers.search.gate_built import compare_built, gate_built_result, measured_built

BUILT = Path(__file__).resolve().parents[1] / "fixtures" / "built"
LIBRARY = BUILT / "library.so"
NOW = Measured(
    "f<int>", "sm_90a", "ok", regs_per_thread=168, spill_store_bytes=0, spill_load_bytes=0, stack_frame_bytes=0,
    weighted_spill_bytes=0.0, tensor_core_path="wgmma", wgmma=8,
)  # fmt: skip
UNREAD = replace(NOW, spill_store_bytes=None, spill_load_bytes=None, weighted_spill_bytes=None,
                 tensor_core_path="unknown", wgmma=0)  # fmt: skip
SPILLS = replace(NOW, status="spills", spill_store_bytes=8, spill_load_bytes=16, stack_frame_bytes=8,
                 weighted_spill_bytes=24.0)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now", "failed", "words"),
    [
        (NOW, NOW, False, ""),
        (None, NOW, True, "new: it has no row in the baseline"),
        (NOW, replace(NOW, regs_per_thread=169), True, "169 registers, 168 before"),
        (NOW, replace(NOW, regs_per_thread=167), False, "better: 167 registers, 168 before"),
        (NOW, SPILLS, True, "8 B of stack, 0 before"),
        (SPILLS, NOW, False, "better: 0 B of stack, 8 before; 0 B spilled, 24 before"),
        (SPILLS, replace(SPILLS, weighted_spill_bytes=240.0), True, "240 B of spills by loops, 24 before"),
        (NOW, replace(NOW, tensor_core_path="mma.sync", wgmma=0, mma_sync=4), True, "lost wgmma: now mma.sync"),
        (NOW, UNREAD, False, ""),  # nobody read the code: nothing is known of path and spills
        (UNREAD, replace(UNREAD, regs_per_thread=255), True, "255 registers"),
        (UNREAD, replace(UNREAD, stack_frame_bytes=16), True, "16 B of stack"),
    ],
)
def test_what_fails_of_a_build(before, now, failed, words):
    (row,) = compare_built([now], [before] if before else [])
    assert row.failed == failed == bool(exit_code([row]))
    said = "; ".join(row.regressions if failed else row.notes)
    assert words in said and (words or not said)


def test_with_a_ratchet_better_kernels_fail_too():
    better = replace(NOW, regs_per_thread=160)
    (row,) = compare_built([better], [NOW], ratchet=True)
    assert (
        row.failed and "better, which the baseline does not hold yet: 160 registers, 168 before" in row.regressions[0]
    )
    assert not compare_built([NOW], [NOW], ratchet=True)[0].failed
    assert not compare_built([better], [better], ratchet=True)[0].failed


def test_some_more_registers_can_be_allowed():
    more = replace(NOW, regs_per_thread=170)
    assert not compare_built([more], [NOW], more_registers_allowed=2)[0].failed
    assert compare_built([more], [NOW], more_registers_allowed=1)[0].failed
    assert compare_built([more], [NOW], more_registers_allowed=2, pins=["f<"])[0].failed


def test_what_has_gone_is_told_and_a_pinned_kernel_has_to_stay_as_it_was():
    (row,) = compare_built([], [NOW])
    assert not row.failed and "gone" in row.notes[0] and row.now is None
    assert compare_built([], [NOW], pins=["f<*>"])[0].regressions == ("pinned, and not in the build",)
    better = replace(NOW, regs_per_thread=160)
    assert "pinned, and changed: 160 registers" in compare_built([better], [NOW], pins=["f<"])[0].regressions[0]
    assert not compare_built([better], [NOW], pins=["g<"])[0].failed
    (_, nobody) = compare_built([NOW], [NOW], pins=["g<"])
    assert nobody.failed and (nobody.spec, nobody.regressions) == (
        "g<",
        ("pinned, and no kernel has this in its name",),
    )


def test_of_several_kernels_with_one_name_the_worst_counts_and_no_name_can_hide_a_row():
    rows = [
        BuiltKernel("a.so", kernel="k", name="k", arch="sm_80", registers=n, stack_frame_bytes=n % 3)
        for n in (7, 11, 9)
    ]
    (worst,) = measured_built([*rows, BuiltKernel("b.ptx", kernel="p", arch="sm_80"), BuiltKernel("c", problem="x")])
    assert (worst.regs_per_thread, worst.spec, worst.tensor_core_path) == (11, "k", "unknown")
    (hidden,) = measured_built([replace(rows[0], name="# a\ncomment")])
    assert hidden.spec == "a comment"


def test_a_build_passes_against_itself_and_the_baseline_reads_back(isolated_cache, tmp_path):
    file = tmp_path / "regs.csv"
    wrote = gate_built_result([LIBRARY], file, write=True, sass=True)
    assert wrote["exit_code"] == 0 and [row["notes"] for row in wrote["rows"]] == [["recorded"]] * 3
    passed = gate_built_result([LIBRARY], file, sass=True, ratchet=True)
    assert (passed["exit_code"], passed["regressions"], len(passed["rows"])) == (0, 0, 3)
    stencil = next(row for row in read_baseline(file) if row.spec == "wide_stencil")
    assert (stencil.spill_bytes, stencil.stack_frame_bytes, stencil.status) == (6916, 1936, "spills")
    with pytest.raises(UserError, match="give --sass"):
        gate_built_result([LIBRARY], file)
    plain = tmp_path / "plain.csv"
    gate_built_result([LIBRARY], plain, write=True)
    assert {row.spill_bytes for row in read_baseline(plain)} == {None}
    assert gate_built_result([LIBRARY], plain)["exit_code"] == 0
    assert gate_built_result([LIBRARY], plain, sass=True)["exit_code"] == 0
    assert gate_built_result([BUILT / "split.sm_90a.cubin"], plain)["exit_code"] == 0  # the others are told


def test_half_of_a_build_does_not_pass_and_makes_no_baseline(isolated_cache, tmp_path):
    shutil.copy(LIBRARY, tmp_path / "good.so")
    file = tmp_path / "regs.csv"
    gate_built_result([tmp_path], file, write=True)
    (tmp_path / "bad.cubin").write_bytes((BUILT / "split.sm_90a.cubin").read_bytes()[:2000])
    failed = gate_built_result([tmp_path], file)
    assert failed["exit_code"] == 1 and "no cubin that can be read" in failed["rows"][-1]["regressions"][0]
    with pytest.raises(UserError, match="no baseline is made of half"):
        gate_built_result([tmp_path], file, write=True)
    with pytest.raises(UserError, match="nothing was read, so nothing passes"):
        gate_built_result([BUILT / "split_sm90a.ptx"], file)


def test_a_baseline_row_needs_spills_or_a_stack():
    text = "spec,arch,status,regs_per_thread,stack_frame_bytes\nk,sm_80,ok,40,8\n"
    (row,) = parse_baseline(text)
    assert (row.stack_frame_bytes, row.spill_bytes, row.verdict()) == (8, None, "40 registers, 8 B stack")

"""gate: regressions against a recorded baseline, the exit code, and the file."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.commands.gate import format_gate, gate_table
from helpers.compiler.bring.from_file import spec_from_file
from helpers.compiler.kernel_spec import read_specs
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.inspection.amdgcn import AmdResources
from helpers.search.gate import (
    BASELINE_COLUMNS,
    Measured,
    baseline_text,
    compare,
    exit_code,
    gate,
    gate_command_result,
    measure,
    measured,
    parse_baseline,
    read_baseline,
    write_baseline,
)
from helpers.workbook.your_own_crash.cliff_matmul import matmul_spec

CLEAN = Measured(
    "a", "sm_100a", "ok", regs_per_thread=200, spill_store_bytes=0, spill_load_bytes=0, tensor_core_path="tcgen05",
    tcgen05_mma=8,
)  # fmt: skip
SPILLS = replace(CLEAN, status="spills", regs_per_thread=255, spill_store_bytes=100, spill_load_bytes=60)
CRASH = Measured("a", "sm_100a", "register_exhausted", ptxas_code="C7600", tensor_core_path="tcgen05", tcgen05_mma=8)
WGMMA = replace(CLEAN, tensor_core_path="wgmma", tcgen05_mma=0, wgmma=8)


def test_a_real_spec_passes_against_itself_and_fails_against_a_better_past(toolchain_351, write_kernel, tmp_path):
    spec = write_kernel()
    toolchain = Toolchain("3.5.1")
    file = tmp_path / "baseline.csv"
    write_baseline(file, measure([spec], ["sm_90a", "sm_100a"], toolchain))
    rows = gate([spec], ["sm_90a", "sm_100a"], toolchain, baseline=read_baseline(file))
    assert exit_code(rows) == 0 and [(r.regressions, r.notes) for r in rows] == [((), ())] * 2
    broken = write_kernel("raise RuntimeError('no')\n" + Path(spec.kernel.path).read_text(), folder="broken")
    rows = gate([broken], ["sm_90a"], toolchain, baseline=read_baseline(file))
    assert exit_code(rows) == 1 and rows[0].regressions == ("no longer compiles: frontend error",)
    assert rows[0].notes == ("the kernel or its spec changed since the baseline",)
    assert rows[1].now is None and "not checked" in rows[1].notes[0]


@pytest.mark.parametrize(
    ("before", "now", "failed", "words"),
    [
        (CLEAN, CLEAN, False, ""),
        (CLEAN, CRASH, True, "no longer compiles: dies (C7600)"),
        (CLEAN, replace(CLEAN, status="trapped"), True, "no longer compiles: trapped"),
        (CLEAN, SPILLS, True, "spills 160 B, 160 B more"),
        (SPILLS, SPILLS, False, ""),
        (SPILLS, CLEAN, False, "spills 160 B less"),
        (CRASH, CRASH, False, ""),
        (CRASH, SPILLS, False, "compiles now"),
        (CRASH, replace(CRASH, ptxas_code="C7602"), False, "fails in another way"),
        (None, CLEAN, False, "new: no baseline row"),
        (None, CRASH, True, "does not compile"),
        (SPILLS, replace(SPILLS, spill_load_bytes=61), True, "1 B more"),
        (CLEAN, replace(CLEAN, tensor_core_path="mma.sync", tcgen05_mma=0, mma_sync=64), True, "lost tcgen05"),
        (WGMMA, replace(WGMMA, tensor_core_path="none", wgmma=0), True, "lost wgmma: now none"),
        (CLEAN, replace(CLEAN, tcgen05_mma=4), False, ""),  # fewer and larger ones
        (CLEAN, replace(CLEAN, tcgen05_mma=4, mma_sync=32), True, "4 of 8 tcgen05 instructions gone, mma.sync in"),
        (CLEAN, replace(CLEAN, mma_sync=32), False, ""),  # none gone
        (WGMMA, CLEAN, False, ""),  # a faster path is none lost
        (replace(CLEAN, tensor_core_path="none", tcgen05_mma=0), CLEAN, False, ""),
    ],
)
def test_what_is_a_regression(before, now, failed, words):
    (row,) = compare([now], [before] if before else [])
    assert row.failed == failed == bool(exit_code([row]))
    said = "; ".join(row.regressions if failed else row.notes)
    assert words in said and (words or not said)


def test_bytes_allowed_are_no_regression():
    (row,) = compare([SPILLS], [CLEAN], more_spills_allowed=160)
    assert not row.failed and "160 B are allowed" in row.notes[0]
    assert compare([SPILLS], [CLEAN], more_spills_allowed=159)[0].failed
    with pytest.raises(UserError, match="0 or more"):
        gate([], [], baseline=[], more_spills_allowed=-1)


def test_spills_that_move_into_a_loop_are_a_regression():
    before, now = replace(SPILLS, weighted_spill_bytes=160.0), replace(SPILLS, weighted_spill_bytes=1600.0)
    (row,) = compare([now], [before])
    assert row.failed and "deeper loops" in row.regressions[0]
    assert not compare([before], [now])[0].failed
    heavier = replace(now, spill_load_bytes=61)  # more bytes, which were allowed: so is what they weigh
    assert not compare([heavier], [before], more_spills_allowed=1)[0].failed
    assert not compare([now], [SPILLS])[0].failed  # measured without weights then: nothing to compare


def test_weights_come_from_the_caller_and_only_for_what_compiled():
    report = CompileReport(
        status="spills", arch="sm_90a", triton_version="3.5.1", ptxas_version="12.8.93", label="a",
        spill_store_bytes=8, spill_load_bytes=8, instructions={"wgmma": 3},
    )  # fmt: skip
    seen = measured(report, lambda r: 100.0 * r.spill_store_bytes)
    assert (seen.weighted_spill_bytes, seen.wgmma, seen.tensor_core_path) == (800.0, 3, "wgmma")
    assert measured(replace(report, status="timeout"), lambda r: 1.0).weighted_spill_bytes is None


def test_the_baseline_file_reads_back_as_written(tmp_path):
    rows = [CLEAN, replace(SPILLS, spec="b, with a comma", weighted_spill_bytes=1.5), replace(CRASH, spec="c")]
    assert parse_baseline("# where it came from\n" + baseline_text(rows)) == rows
    file = tmp_path / "x.csv"
    write_baseline(file, rows)
    assert read_baseline(file) == rows and file.read_text().splitlines()[0] == ",".join(BASELINE_COLUMNS)
    with pytest.raises(UserError, match="cannot write the baseline"):
        write_baseline(file / "below", rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'spec'"),
        ("spec,arch\na,b\n", "no column 'status'"),
        ("spec,arch,status\na,sm_90a,fine\n", "row 1: status 'fine'"),
        ("spec,arch,status\na,sm_90a,ok\n", "no spill_store_bytes"),
        ("spec,arch,status,spill_store_bytes\na,sm_90a,ok,many\n", "row 1: invalid literal"),
        ("spec,arch,status\n,sm_90a,timeout\n", "names no spec"),
        ("spec,arch,status\na,sm_90a,timeout\na,sm_90a,timeout\n", "two rows for 'a'"),
        ("spec,arch,status\n" + "a" * 200_000 + ",b,timeout\n", "not a baseline"),
        ("\0\x01\x02", "not a baseline"),
    ],
)
def test_a_file_that_is_no_baseline_is_one_sentence(text, words):
    with pytest.raises(UserError, match=words):
        parse_baseline(text)


def test_two_tiles_of_one_kernel_pass_the_gate_together(write_kernel, toolchain_351, tmp_path):
    source = write_kernel().kernel.path
    tiles = [spec_from_file(source, "add_one", f"*fp32:16, i32, {block}") for block in (128, 256)]
    assert [spec.label for spec in tiles] == ["kernel:add_one BLOCK=128", "kernel:add_one BLOCK=256"]
    same_name = [replace(spec, label="add") for spec in tiles]
    rows = measure(same_name, ["sm_90a"], toolchain_351)
    assert [row.spec for row in rows] == ["add BLOCK=128", "add BLOCK=256"]
    assert exit_code(gate(same_name, ["sm_90a"], toolchain_351, baseline=rows)) == 0


def test_a_gate_that_compiles_nothing_does_not_pass(write_kernel, tmp_path):
    spec = write_kernel()
    for specs, archs, words in (
        ([], ["sm_90a"], "nothing to compile"),
        ([spec], [], "nothing to compile"),
        ([spec, spec], ["sm_90a"], "there twice"),
        ([replace(spec, label="")], ["sm_90a"], "is no name"),
        ([replace(spec, label="# a comment")], ["sm_90a"], "is no name"),
        ([replace(spec, label="two\nlines")], ["sm_90a"], "is no name"),
    ):
        with pytest.raises(UserError, match=words):
            measure(specs, archs)
    with pytest.raises(UserError, match=r"9\.9\.9 is not installed"):
        measure([spec], ["sm_90a"], Toolchain("9.9.9"))
    gone = replace(spec, kernel=replace(spec.kernel, path=spec.kernel.path + ".gone"))
    with pytest.raises(UserError, match="cannot read kernel source"):
        measure([gone], ["sm_90a"])
    with pytest.raises(UserError, match="cannot read the baseline"):
        read_baseline(tmp_path / "none.csv")


def test_spec_files(write_kernel, tmp_path):
    spec = write_kernel()
    raw = json.loads(spec.to_json())
    raw["label"], raw["kernel"]["path"] = "", "k/kernel.py"
    (tmp_path / "one.json").write_text(json.dumps(raw))
    (tmp_path / "two.json").write_text(json.dumps([raw, {**raw, "label": "named"}]))
    specs = read_specs([tmp_path / "one.json", tmp_path / "two.json"])
    assert [s.label for s in specs] == ["one", "two 1", "named"]
    assert {s.content_key() for s in specs} == {spec.content_key()}
    for text, words in (("{", "holds no spec"), ("[1]", "not a KernelSpec"), ("{}", "not a KernelSpec")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match=words):
            read_specs([tmp_path / "bad.json"])


def test_the_command_s_result(toolchain_351, write_kernel, tmp_path):
    spec, file = write_kernel(), tmp_path / "baseline.csv"
    with pytest.raises(UserError, match="there is no baseline"):
        gate_command_result([spec], ["sm_90a"], file, toolchain=Toolchain("3.5.1"))
    wrote = gate_command_result([spec], ["sm_90a"], file, toolchain=Toolchain("3.5.1"), write=True)
    assert wrote["exit_code"] == 0 and "baseline written" in format_gate(wrote)
    passed = gate_command_result([spec], ["sm_90a"], file, toolchain=Toolchain("3.5.1"))
    assert (passed["exit_code"], passed["regressions"]) == (0, 0) and "0 regressions in 1 rows" in format_gate(passed)
    assert json.loads(json.dumps(passed)) == passed and gate_table(passed).iloc[0]["spill_bytes_now"] == 0
    better = [replace(m, tensor_core_path="wgmma", wgmma=4) for m in read_baseline(file)]
    write_baseline(file, better)
    failed = gate_command_result([spec], ["sm_90a"], file, toolchain=Toolchain("3.5.1"))
    assert failed["exit_code"] == 1 and "FAIL kernel on sm_90a: lost wgmma: now none" in format_gate(failed)


def test_specs_come_out_of_a_pipe_and_a_device_without_an_end_is_refused(tmp_path):
    pipe = tmp_path / "specs"
    os.mkfifo(pipe)
    text = matmul_spec().to_json().replace("\n", "\r\n")
    writer = threading.Thread(target=pipe.write_bytes, args=(text.encode(),), daemon=True)
    writer.start()
    assert read_specs([pipe]) == [matmul_spec()]
    writer.join(10)
    with pytest.raises(UserError, match="no ordinary file and no pipe"):
        read_specs([Path("/dev/zero")])


def amd_row(**changes) -> Measured:
    fields = {"spec": "k", "arch": "gfx950", "status": "ok", "triton_version": "3.7.1", "tensor_core_path": "mfma",
              "mfma": 64, "vgprs": 400, "scratch_bytes": 0, "lds_bytes": 65_536}  # fmt: skip
    return Measured(**{**fields, **changes})


def test_a_kernel_for_an_amd_chip_is_held_to_its_scratch_and_its_matrix_instructions():
    before, worse = amd_row(), amd_row(status="spills", scratch_bytes=472, vgprs=512)
    assert before.verdict() == "400 VGPRs, 0 B scratch, mfma" and worse.spill_bytes == 472
    (row,) = compare([worse], [before])
    assert row.failed and row.regressions == ("spills 472 B, 472 B more",)
    (row,) = compare([amd_row(mfma=0, tensor_core_path="none")], [before])
    assert row.regressions == ("lost mfma: now none",)
    assert not compare([before], [worse])[0].failed
    assert parse_baseline(baseline_text([before, worse][:1])) == [before]
    assert parse_baseline(baseline_text([worse])) == [worse]


def test_a_report_for_an_amd_chip_is_measured_by_its_own_figures():
    found = AmdResources(512, 256, 106, 14, 85, 60, 65_536, 256, 64, 1)
    report = CompileReport("spills", "gfx950", "3.7.1", None, label="k", instructions={"mfma": 272}, amd=found)
    row = measured(report, lambda r: 1.0)
    assert (row.vgprs, row.scratch_bytes, row.lds_bytes, row.mfma) == (512, 60, 65_536, 272)
    assert row.weighted_spill_bytes is None and row.spill_store_bytes is None

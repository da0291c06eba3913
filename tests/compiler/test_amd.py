"""Compiles for AMD's chips, without one: the figures are those of the binary's own note, by other readers than ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.attention.choice import Choice
from helpers.compiler.compile import CompileRequest, compile_kernel, compile_request
from helpers.compiler.report import CompileReport, explain
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.hardware import AMD_ARCHS, get_target
from helpers.inspection.amdgcn import AmdResources
from helpers.inspection.binary.hsaco import hsaco_resources
from helpers.recorded import read_rows

OWN_TRITON = Toolchain("3.7.1")
BIG = {"head_dim": 128, "window": None, "kv_dtype": "bf16", "triton": "3.7.1"}


@pytest.fixture(scope="module")
def extend() -> dict[str, CompileReport]:
    """The extend kernel at head dim 128 on both chips; 128x64 on gfx942 spills nothing and needs more registers."""
    return {arch: compile_request(Choice(arch=arch, tile="auto", **BIG).request()) for arch in AMD_ARCHS}


@pytest.mark.parametrize("arch", AMD_ARCHS)
def test_the_figures_are_those_of_the_binary_s_own_note(extend, arch):
    report = extend[arch]
    assert report.status == "ok" and report.tensor_core_path == "mfma" and report.instructions["mfma"] > 10
    said, by_name = report.amd, hsaco_resources(Path(report.hsaco_path).read_bytes())
    assert by_name == {report.kernel_name: replace(said, waves_per_simd=None, lds_bytes=0)}
    assert said.max_threads == 64 * report.num_warps and said.wave_size == 64 and said.vgprs > 100


@pytest.mark.parametrize("arch", AMD_ARCHS)
def test_llvm_s_own_reader_agrees(extend, arch):
    if not (readelf := shutil.which("llvm-readelf")):
        pytest.skip("there is no llvm-readelf here")
    text = subprocess.run([readelf, "-n", extend[arch].hsaco_path], capture_output=True, text=True, check=True).stdout
    figures = {name: int(n) for name, n in re.findall(r"\.(\w+):\s+(\d+)$", text, re.MULTILINE)}
    said = extend[arch].amd
    assert (figures["vgpr_count"], figures["sgpr_count"]) == (said.vgprs, said.sgprs)
    assert figures["private_segment_fixed_size"] == said.scratch_bytes and f"--{arch}" in text


@pytest.mark.parametrize(("arch", "tile"), [("gfx942", "64x64"), ("gfx950", "128x32")])
def test_the_occupancy_by_registers_is_llvm_s(arch, tile):
    # The engine's waves_per_eu=1 makes LLVM plan for one wave and say so; the chip holds as many as fit.
    request = Choice(arch=arch, tile=tile, **BIG).request()
    options = tuple((name, value) for name, value in request.spec.options if name != "waves_per_eu")
    report = compile_request(replace(request, spec=replace(request.spec, options=options)))
    (said,) = re.findall(r"; Occupancy: (\d+)", Path(report.amdgcn_path).read_text())
    by_registers = AMD_ARCHS[arch].waves_per_simd(vgprs=report.amd.vgprs, lds_bytes=0, num_warps=4)
    assert by_registers == int(said) and 1 <= report.amd.waves_per_simd <= by_registers


def test_spills_are_told_with_their_scratch_and_come_from_the_cache_again():
    request = Choice(arch="gfx950", tile="64x64", **{**BIG, "head_dim": 576, "v_head_dim": 512}).request()
    report, again = compile_request(request), compile_request(request)
    assert report.status == "spills" and report.amd.scratch_bytes > 0 and report.amd.vgpr_spills > 0
    assert report.verdict() == f"{report.amd.vgprs} VGPRs, {report.amd.scratch_bytes} B scratch"
    assert again.cached and again.amd == report.amd and report.regs_per_thread is None and report.cubin_path is None
    assert explain(report.status, "gfx950") != explain(report.status, "sm_100a")


def test_more_lds_than_the_chip_has():
    report = compile_request(Choice(arch="gfx942", tile="64x64", **{**BIG, "head_dim": 576}).request())
    assert report.status == "out_of_shared_memory" and report.smem_bytes is None
    assert report.amd.lds_bytes > AMD_ARCHS["gfx942"].lds_bytes
    assert f"{report.amd.lds_bytes} bytes of LDS" in report.message and "65536" in report.message


def test_a_kernel_of_one_s_own(write_kernel):
    report = compile_kernel(write_kernel(), "MI300X", OWN_TRITON)
    assert (report.status, report.arch, report.tensor_core_path) == ("ok", "gfx942", "none")
    assert report.amd.scratch_bytes == 0 and report.amd.waves_per_simd == 8 and report.launchable
    assert report.ptxas_version is None and report.ptx_path is None


def test_a_chip_that_a_release_does_not_know_is_a_report():
    report = compile_request(Choice(arch="gfx950", tile="auto", **{**BIG, "triton": "3.4.0"}).request())
    if report.status == "toolchain_missing":
        pytest.skip(report.message)
    assert report.status == "frontend_error" and report.amd is None and report.message


def test_no_ptxas_is_asked_of_an_amd_chip(write_kernel):
    spec = write_kernel()
    for changed in ({"toolchain": Toolchain("3.7.1", "12.8.93")}, {"ptxas_flags": ("-O1",)}):
        with pytest.raises(UserError, match="no ptxas assembles for it"):
            compile_request(CompileRequest(spec, "gfx942", **{"toolchain": OWN_TRITON, **changed}))
    with pytest.raises(UserError, match="maxnreg is an option of ptxas"):
        Choice(arch="gfx942", maxnreg=64, **BIG).request()


@pytest.mark.parametrize(
    ("head_dim", "arch", "triton", "tile", "warps"),
    [
        (128, "gfx942", "3.7.1", "64x64", 4),
        (256, "gfx942", "3.7.1", "64x64", 4),
        (128, "gfx950", "3.7.1", "64x64", 4),
        (129, "gfx950", "3.7.1", "128x64", 8),
        (256, "gfx950", "3.6.0", "128x64", 8),
        (257, "gfx950", "3.7.1", "64x64", 4),
        (576, "gfx950", "3.6.0", "64x64", 4),
        (576, "gfx950", "3.7.0", "64x32", 4),
        (576, "gfx950", "3.10.0", "64x32", 4),
        (576, "gfx950", "environment", "64x32", 4),
        (576, "gfx942", "3.7.1", "64x64", 4),
    ],
)
def test_the_engine_s_tiles(head_dim, arch, triton, tile, warps):
    from helpers.attention.tiles import amd_tile

    chosen = amd_tile(arch, head_dim, triton=triton)
    assert (str(chosen), chosen.num_warps, chosen.num_stages) == (tile, warps, 1)


def test_a_launch_for_an_amd_chip_has_the_engine_s_options():
    spec = Choice(arch="MI355X", tile="128x64", **BIG).request().spec
    assert {**spec.option} == {
        "num_warps": 4, "num_stages": 1, "waves_per_eu": 1, "matrix_instr_nonkdim": 16, "kpack": 2
    }  # fmt: skip
    assert "waves_per_eu" not in Choice(arch="sm_90a", **BIG).request().spec.option


def test_occupancy_and_caps():
    chip = get_target("gfx950")
    waves = chip.waves_per_simd
    assert [waves(vgprs=v, lds_bytes=0, num_warps=4) for v in (1, 64, 65, 128, 129, 256, 257, 512)] == [
        8, 8, 7, 4, 3, 2, 1, 1
    ]  # fmt: skip
    assert waves(vgprs=64, lds_bytes=chip.lds_bytes // 2, num_warps=4) == 2
    assert waves(vgprs=64, lds_bytes=chip.lds_bytes + 1, num_warps=4) == 0
    assert [chip.cap_for(num_warps=n) for n in (1, 4, 8, 16)] == [512, 512, 256, 128]


def test_a_workgroup_that_no_compute_unit_holds_is_not_launchable():
    found = AmdResources(300, 0, 32, 0, 0, 0, 0, 512, 64)
    report = CompileReport("ok", "gfx950", "3.7.1", None, num_warps=8, amd=found)
    assert report.cap == 256 and not report.launchable


def test_recorded_rows_are_what_is_compiled_here(extend):
    rows = read_rows("amd_extend")
    assert (
        len(rows) == 65
        and not rows["note_agrees"].astype(str).eq("False").any()
        and rows["note_agrees"].notna().sum() == 64
    )
    same = rows[rows["head_dim"].eq(128) & rows["triton"].eq("3.7.1")].set_index("arch")
    for arch, report in extend.items():
        row = same.loc[arch]
        assert (row["status"], row["tile"]) == (report.status, "64x64")
        figures = ("vgprs", "agprs", "sgprs", "scratch_bytes", "lds_bytes", "waves_per_simd")
        assert [row[name] for name in figures] == [getattr(report.amd, name) for name in figures]


def test_what_is_no_code_object_of_amd_s(extend):
    content = Path(extend["gfx942"].hsaco_path).read_bytes()
    for broken in (b"", b"rubbish", content[:40], content[:200], b"\x7fELF" + bytes(60)):
        with pytest.raises(UserError, match="not a code object of AMD's"):
            hsaco_resources(broken)
    at = content.index(b"amdhsa.kernels")
    with pytest.raises(UserError, match="not a code object of AMD's"):
        hsaco_resources(content[:at] + b"amdhsa.colonel" + content[at + 14 :])

"""compile_kernel: the incident, its ablations, and every arch by every Triton, as reports."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE, incident_rows
from helpers.compiler.codegen import Generated
from helpers.compiler.compile import (
    _judge,
    compile_kernel,
    compile_matrix,
    compile_request,
)
from helpers.compiler.report import EXPLANATIONS, STATUSES, CompileReport
from helpers.compiler.toolchain import Toolchain, ToolchainMissing, resolve_triton
from helpers.errors import UserError
from helpers.hardware import ARCHS
from helpers.recorded import recorded

REPO_ROOT = Path(__file__).parents[2]
REFERENCE = recorded("incident_reference")
# What each ablation of the incident leaves, on Triton 3.5.1: only the incident itself may crash.
ABLATIONS = {
    "the incident": {},
    "bf16 cache": {"kv_dtype": "bf16"},
    "no window": {"window": None},
    "64x64": {"tile": "64x64"},
    "bounds": {"tile_skip": "bounds"},
    "fused": {"accumulate": "fused"},
    "no v_scale": {"v_scale": "absent"},
    "upcast": {"kv_operands": "upcast"},
    "q hoisted": {"q_cast": "hoisted"},
    "bounds and fused": {"tile_skip": "bounds", "accumulate": "fused"},
}


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory, toolchain_351):
    """One cache for the run, all its processes included: what two tests need is compiled once."""
    from helpers.files import CACHE_ENV, cache_root

    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "shared-cache"
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "toolchains").symlink_to((cache_root() / "toolchains").resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_ENV, str(folder))
        yield folder


def ablation(name: str) -> Choice:
    return replace(INCIDENT_CHOICE, **ABLATIONS[name])


def test_reference_rows_and_choices_are_the_same_configurations():
    for row, choice in zip(REFERENCE, incident_rows(), strict=True):
        window = int(row["model_window"]) if row["model_window"] else None
        assert (int(row["head_dim"]), row["tile"], row["kv_dtype"], window) == (
            choice.head_dim, choice.tile, choice.kv_dtype, choice.window,
        )  # fmt: skip


def test_verdicts_agree_with_the_incident_s_table(shared_cache):
    reports = compile_matrix([choice.request() for choice in incident_rows()])
    crashed = [report.crashed for report in reports]
    assert crashed == [row["status"] == "register_exhausted" for row in REFERENCE], [r.verdict() for r in reports]
    for report in reports:
        assert report.triton_version == "3.5.1" and report.ptxas_version == "12.8.93"
        assert report.crashed or (report.compiled and report.regs_per_thread is not None)
    suspect, branch = reports[4:]
    assert suspect.status == "spills" and 200 <= suspect.spill_store_bytes <= 1_500
    assert branch.status == "ok" and branch.spill_store_bytes == 0 and branch.regs_per_thread < 255
    assert {suspect.tensor_core_path, branch.tensor_core_path} == {"mma.sync"}  # BLOCK_M < 64


def test_the_crash_keeps_its_exhibits_and_is_cached(shared_cache):
    crash = compile_request(INCIDENT_CHOICE.request())
    assert crash.status == "register_exhausted" and crash.ptxas_code == "C7600"
    assert crash.register_count_asked == 255 and crash.failed_stage == "ptxas" and crash.cubin_path is None
    assert "Register allocation failed with register count of '255'" in crash.message
    ptx = Path(crash.ptx_path).read_text()
    assert ".target sm_100a" in ptx and ptx.count("\n") == crash.ptx_lines
    assert "tcgen05.ld" in ptx and crash.tensor_core_path == "tcgen05"
    assert "(C7600)" in Path(crash.log_path).read_text()
    for path in (crash.ttir_path, crash.ttgir_path, crash.llir_path):
        assert Path(path).stat().st_size > 10_000
    again = compile_request(INCIDENT_CHOICE.request())
    assert again.cached and again.crashed and again.wall_s == crash.wall_s


@pytest.mark.parametrize("name", ABLATIONS)
def test_taking_one_ingredient_away_compiles(shared_cache, name):
    report = compile_request(ablation(name).request())
    assert report.crashed == (name == "the incident")
    assert report.compiled == (name != "the incident"), report.verdict()
    if name == "bounds and fused":  # the root-cause fix: the Hopper tile itself, nothing spilled
        assert report.status == "ok" and report.spill_store_bytes == report.spill_load_bytes == 0
        assert "128x64" in report.label


# 3.5.1's ptxas knows neither; later Tritons bundle a second one that does.
TOO_NEW_FOR_OLD = ("sm_103a", "sm_121a")


@pytest.mark.parametrize("triton", ["3.4.0", "3.5.1", "3.6.0", "environment", "3.9.0"])
def test_every_arch_is_reported_by_every_triton(shared_cache, triton):
    try:
        resolve_triton(triton)
    except ToolchainMissing as exc:
        if triton in ("3.5.1", "environment"):
            raise
        pytest.skip(str(exc))
    small = Choice(head_dim=64, window=None, tile="16x64", triton=triton)
    reports = compile_matrix([replace(small, arch=arch).request() for arch in ARCHS])
    for arch, report in zip(ARCHS, reports, strict=True):
        if arch in ("sm_80", "sm_86"):
            assert report.status == "frontend_error", report
            assert "fp8e4nv not supported" in report.message
        elif arch in TOO_NEW_FOR_OLD and triton in ("3.4.0", "3.5.1"):
            assert report.status == "unsupported_target", report
            assert arch in report.message and Path(report.ptx_path).is_file()
        else:
            assert report.compiled, report
            assert report.instructions["mma_sync"] > 0  # BLOCK_M 16: neither wgmma nor tcgen05
        assert report.arch == arch


def test_ptxas_of_another_release_reassembles_the_same_ptx(shared_cache):
    spec = Choice(head_dim=64, window=None, tile="16x64").request().spec
    own = compile_kernel(spec, "sm_90a", Toolchain("3.5.1"))
    try:
        other = compile_kernel(spec, "sm_90a", Toolchain("3.6.0"))
    except ToolchainMissing as exc:
        pytest.skip(str(exc))
    named = compile_kernel(spec, "sm_90a", Toolchain("3.5.1", own.ptxas_version))
    assert named.cached and named.ptx_sha256 == own.ptx_sha256
    assert other.ptx_sha256 != own.ptx_sha256


def test_a_ptxas_too_old_for_the_ptx_is_reported_so(shared_cache):
    spec = Choice(head_dim=64, window=None, tile="16x64").request().spec
    report = compile_kernel(spec, "sm_100a", Toolchain("environment", "12.8.93"))
    assert report.status in ("unsupported_ptx_version", "ptxas_error") and report.message
    codegen = compile_kernel(spec, "sm_100a", Toolchain("environment", "12.8.93", ptxas_for_codegen=True))
    assert codegen.ptx_version == "8.7"


def test_more_shared_memory_than_the_arch_has(shared_cache):
    choice = Choice(head_dim=256, kv_dtype="bf16", window=None, tile="64x128", num_stages=3, arch="sm_86")
    report = compile_request(choice.request())
    assert report.status == "out_of_shared_memory", report
    assert report.smem_bytes > ARCHS["sm_86"].smem_per_block_max_bytes and str(report.smem_bytes) in report.message
    assert not report.compiled and report.regs_per_thread is not None


@pytest.mark.parametrize(
    ("fields", "trap", "status"),
    [
        ({"spill_store_bytes": 0, "spill_load_bytes": 0}, False, "ok"),
        ({"spill_store_bytes": 0, "spill_load_bytes": 4}, False, "spills"),
        ({"spill_store_bytes": 8}, False, "spills"),
        ({"spill_store_bytes": 0, "smem_bytes": 999_999}, False, "out_of_shared_memory"),
        ({"spill_store_bytes": 0, "tmem_columns": 1024}, False, "out_of_tensor_memory"),
        ({"spill_store_bytes": 0, "regs_per_thread": 4}, True, "trapped"),
    ],
)
def test_what_ptxas_lets_pass_is_judged(fields, trap, status):
    report = CompileReport(status="ok", arch="sm_100a", triton_version="3.5.1", ptxas_version="12.8.93", **fields)
    judged = _judge(report, ARCHS["sm_100a"], trap)
    assert judged.status == status and bool(judged.message) == (status not in ("ok", "spills"))


@pytest.mark.parametrize(
    ("stage", "error", "status"),
    [
        ("timeout", "no answer", "timeout"),
        ("ttgir", "out of resource: shared memory, Required: 300000", "out_of_shared_memory"),
        ("ttgir", "out of resource: tensor memory", "out_of_tensor_memory"),
        ("llir", "LLVM ERROR: sm_103a is not supported by this target", "unsupported_target"),
        ("frontend", "the kernel says sm_90 is not supported", "frontend_error"),
        ("ttgir", "PassManager::run failed", "frontend_error"),
    ],
)
def test_what_ends_before_ptxas_is_sorted(stage, error, status):
    ended = Generated(Path("x"), (), False, "key", "3.5.1", stage, 0.1, error)
    assert ended.failed and ended.failure_status() == status and ended.path("ptx") is None


def test_missing_toolchains_are_reports_that_name_the_command():
    spec = INCIDENT_CHOICE.request().spec
    report = compile_kernel(spec, "sm_100a", Toolchain("9.9.9"))
    assert report.status == "toolchain_missing"
    assert "register-cliff toolchains install 9.9.9" in report.message
    report = compile_kernel(spec, "sm_100a", Toolchain("environment", "13.9.9"))
    assert report.status == "toolchain_missing" and "install ptxas==13.9.9" in report.message


def test_unknown_arch_and_unreadable_kernel_raise(tmp_path, write_kernel):
    with pytest.raises(UserError, match=r"sm_70 .Volta. is known to diagnose"):
        compile_kernel(INCIDENT_CHOICE.request().spec, "sm_70")
    spec = write_kernel()
    Path(spec.kernel.path).unlink()
    with pytest.raises(UserError, match="cannot read kernel source"):
        compile_kernel(spec, "sm_90a", Toolchain("environment"))


def test_every_status_is_explained():
    assert set(EXPLANATIONS) == set(STATUSES)
    with pytest.raises(ValueError, match="unknown status"):
        CompileReport(status="fine", arch="sm_80", triton_version=None, ptxas_version=None)

"""A bundle for each kind of failure that a spec can have: its own repro is run with one compiler and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.bundle import collect, compile_again, members
from helpers.bundle import material as bundle_source
from helpers.bundle.report import report
from helpers.bundle.triton_repro import TritonEnd, triton_end, triton_script
from helpers.compiler.compile import CompileRequest
from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import Toolchain, resolve_triton
from helpers.compiler.trust import trust_roots
from helpers.errors import UserError
from tests.compiler.test_front_end import gated_up, spec_of

FAILURES = Path(__file__).parents[1] / "fixtures" / "kernels" / "failures.py"
pytestmark = pytest.mark.usefixtures("toolchain_351")


@pytest.fixture(autouse=True)
def quick(toolchain_351, monkeypatch):
    """One ptxas, one Triton, no search for workarounds: each has tests of its own."""
    program = resolve_triton("3.5.1").program("ptxas")
    monkeypatch.setattr(bundle_source, "installed_ptxas", lambda: {"12.8.93": program})
    monkeypatch.setattr(members, "installed_tritons", lambda: ["3.5.1"])
    monkeypatch.setattr(collect, "edits_of", lambda *_, **__: [])


def request_of(spec: KernelSpec, arch: str, triton: str = "3.5.1", timeout_s: float = 300.0) -> CompileRequest:
    return CompileRequest(spec, arch, Toolchain(triton), timeout_s=timeout_s)


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def run_elsewhere(path: Path, folder: Path, triton: str = "3.5.1") -> subprocess.CompletedProcess:
    """repro.py of a zip as a stranger runs it: another program unpacks, only that Triton is importable."""
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(path), str(folder)], check=True)
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(resolve_triton(triton).path)}
    return subprocess.run(
        [sys.executable, "-S", "repro.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


def test_a_failing_pass_brings_its_reproducer_and_a_repro_that_needs_that_triton_alone(tmp_path):
    done = report(request_of(gated_up(), "sm_100a"), tmp_path / "r.zip")
    assert done.reproduced and done.status == "frontend_error" and "Triton 3.5.1 and nothing else" in done.check
    assert done.report_to.startswith("Triton") and "TritonGPUHoistTMEMAlloc" in done.report_why
    found = members_of(tmp_path / "r.zip")
    assert {
        "repro.py",
        "reproducer.mlir",
        "frontend.log",
        "triton_table.csv",
        "spec.json",
        "kernel/failures.py",
    } <= set(found)
    assert "repro.sh" not in found and "mlir_reproducer" in found["reproducer.mlir"].decode()
    for text in (found["README.md"].decode(), done.issue_path.read_text()):
        assert "does not dominate this use" in text and "failures.py:22: opened += tl.dot(" in text
        assert "python repro.py" in text and "PassManager::run failed" not in text
    assert str(FAILURES.parent) not in "".join(content.decode("latin-1") for content in found.values())
    ran = run_elsewhere(tmp_path / "r.zip", tmp_path / "there")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "does not dominate this use" in ran.stdout and "result: ended the same way" in ran.stdout
    # It tells another end from the recorded one: on this chip the same kernel compiles.
    script = tmp_path / "there" / "repro.py"
    script.write_text(script.read_text().replace("LIMIT_S = 100, None", "LIMIT_S = 90, None"))
    assert "CAPABILITY, CODEGEN_CUDA, LIMIT_S = 90, None" in script.read_text()
    again = subprocess.run(
        [sys.executable, "-S", "repro.py"], cwd=script.parent, capture_output=True, text=True, timeout=300,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(resolve_triton("3.5.1").path)},
    )  # fmt: skip
    assert again.returncode == 1 and "did not end the same way" in again.stdout
    nothing = subprocess.run(
        [sys.executable, "-S", "repro.py"], cwd=script.parent, capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert nothing.returncode == 2 and "pip install triton==3.5.1" in nothing.stdout


def test_an_abort_and_a_python_complaint(tmp_path):
    abort = spec_of("byte_register", numbers="*i32", out="*i32", COUNT=128)
    done = report(request_of(abort, "sm_90a"), tmp_path / "a.zip")
    assert done.reproduced and "Copying to an illegal type!" in done.check and done.report_to.startswith("Triton")
    name = spec_of("forgotten_name", numbers="*i32", out="*i32", COUNT=128)
    done = report(request_of(name, "sm_90a"), tmp_path / "n.zip")
    assert done.reproduced and "factor is not defined" in done.check and done.report_to == "the kernel's own project"


def test_too_much_shared_memory(tmp_path):
    big = spec_of("square", left="*bf16", right="*bf16", out="*fp32", SIDE=256)
    done = report(request_of(big, "sm_120a"), tmp_path / "r.zip")
    assert done.reproduced and done.status == "out_of_shared_memory"
    assert "262144 bytes of shared memory per CTA, and the chip has 101376" in done.check
    assert done.report_to == "the kernel's own project" and "kernel.ptx" in done.members


def test_a_trap_is_no_pass(tmp_path):
    done = report(request_of(gated_up(128, 256), "sm_100a", "environment"), tmp_path / "r.zip")
    assert done.reproduced and done.status == "trapped" and "bare trap" in done.check
    assert "pressure.txt" not in done.members and "repro.sh" not in done.members
    with pytest.raises(UserError, match=r"a bare trap.*Give the kernel's spec"):
        report(FAILURES.parents[1] / "ptx" / "trap_stub_sm100a.ptx", tmp_path / "p.zip")


def test_a_front_end_that_takes_too_long(tmp_path):
    slow = spec_of("long_list", numbers="*i32", out="*i32", COUNT=1024, TIMES=20_000)
    done = report(request_of(slow, "sm_90a", timeout_s=2.0), tmp_path / "r.zip")
    assert done.reproduced and done.status == "timeout" and "still compiling after 2 seconds" in done.check
    assert any("no workarounds were looked for" in note for note in done.notes)


def test_a_ptxas_that_takes_too_long_is_stopped_at_the_spec_s_own_limit(tmp_path, monkeypatch, own_cache):
    slow = tmp_path / "ptxas"
    real = resolve_triton("3.5.1").program("ptxas")
    slow.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec "{real}" --version\nexec sleep 60\n')
    slow.chmod(0o755)
    compiled = CompileReport(
        "timeout", "sm_80", "3.5.1", "12.8.93", failed_stage="ptxas", ptx_path=str(_small_ptx(tmp_path)),
        ptxas_command="ptxas -v --gpu-name=sm_80 kernel.ptx -o kernel.cubin", message="stopped",
    )  # fmt: skip
    monkeypatch.setattr(bundle_source, "compile_request", lambda _: compiled)
    monkeypatch.setattr(bundle_source, "_own_ptxas", lambda *_: slow)
    spec = spec_of("byte_register", numbers="*i32", out="*i32", COUNT=128)
    done = report(request_of(spec, "sm_80", timeout_s=1.0), tmp_path / "r.zip")
    assert done.reproduced and done.status == "timeout" and "ptxas is still running after 1 seconds" in done.check


def _small_ptx(folder: Path) -> Path:
    path = folder / "kernel.ptx"
    path.write_text(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { ret; }\n")
    return path


def test_spills_are_reported_on_request_and_only_then(tmp_path):
    wide = spec_of("wide_sum", numbers="*fp32", out="*fp32", COUNT=32768)
    with pytest.raises(UserError, match=r"this compiles.*--for spills"):
        report(request_of(wide, "sm_90a"), tmp_path / "r.zip")
    done = report(request_of(wide, "sm_90a"), tmp_path / "r.zip", symptom="spills")
    assert done.reproduced and done.status == "spills" and "bytes stored" in done.check
    ptx = members_of(tmp_path / "r.zip")["kernel.ptx"].decode()
    assert report(ptx, tmp_path / "p.zip", symptom="spills").reproduced
    narrow = spec_of("wide_sum", numbers="*fp32", out="*fp32", COUNT=1024)
    with pytest.raises(UserError, match="nothing spills"):
        report(request_of(narrow, "sm_90a"), tmp_path / "n.zip", symptom="spills")
    with pytest.raises(UserError, match="cannot be reported: choose failure or spills"):
        report(request_of(narrow, "sm_90a"), tmp_path / "n.zip", symptom="slow")


def test_a_withheld_source_cannot_show_what_triton_does_and_says_so(tmp_path):
    with pytest.raises(UserError, match="only the kernel's source can show that"):
        report(request_of(gated_up(), "sm_100a"), tmp_path / "r.zip", withhold_source=True)
    done = report(request_of(gated_up(), "sm_100a"), tmp_path / "r.zip", withhold_source=True, allow_unreproduced=True)
    text = "".join(c.decode("latin-1") for c in members_of(tmp_path / "r.zip").values()) + done.issue_path.read_text()
    assert not done.reproduced
    assert not [word for word in ("gated_up", "opened", "failures", "TOKENS") if word in text]


def test_a_kernel_whose_file_imports_what_is_not_there_reproduces_with_stand_ins(tmp_path):
    package = tmp_path / "proj" / "house"
    package.mkdir(parents=True)
    (package / "sizes.py").write_text("WIDE = 2\n")
    text = FAILURES.read_text().replace("import triton\n", "import no_such_engine\nimport triton\n", 1)
    (package / "failures.py").write_text(
        text.replace("import triton.language", "from house.sizes import WIDE\nimport triton.language", 1)
    )
    spec = gated_up()
    kernel = KernelRef(str(package / "failures.py"), "gated_up", str(tmp_path / "proj"), stub_imports=True)
    done = report(request_of(replace(spec, kernel=kernel), "sm_100a"), tmp_path / "r.zip")
    assert done.reproduced
    assert {"loader/foreign_worker.py", "loader/stubs.py", "kernel/house/failures.py", "kernel/house/sizes.py"} <= set(
        done.members
    )


def test_a_script_that_does_not_end_as_recorded_stops_the_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        collect, "triton_script", lambda request, end: triton_script(request, replace(end, words="?!?"))
    )
    with pytest.raises(UserError, match="nothing was written, the bundle does not reproduce"):
        report(request_of(gated_up(), "sm_100a"), tmp_path / "r.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "stage", "kind"),
    [
        ("ok", None, None),
        ("spills", None, None),
        ("register_exhausted", "ptxas", None),
        ("ptxas_error", "ptxas", None),
        ("timeout", "ptxas", None),
        ("timeout", "timeout", "limit"),
        ("frontend_error", "ttgir", "words"),
        ("unsupported_target", "llir", "words"),
        ("unsupported_target", "ptxas", None),
        ("out_of_shared_memory", "llir", "words"),
        ("out_of_shared_memory", None, "resource"),
        ("out_of_tensor_memory", None, "resource"),
        ("trapped", None, "trap"),
    ],
)
def test_which_compiles_a_triton_shows(status, stage, kind):
    compiled = CompileReport(
        status, "sm_100a", "3.5.1", None, failed_stage=stage, message="it says so", smem_bytes=300_000, tmem_columns=600
    )
    end = triton_end(request_of(gated_up(), "sm_100a", timeout_s=9.0), compiled)
    if kind is None:
        assert end is None
        return
    told = {"limit": end.limit_s == 9, "words": end.words == "it says so", "resource": end.needed > end.available > 0,
            "trap": end == TritonEnd("trapped", "3.5.1")}  # fmt: skip
    assert told[kind]
    compile(triton_script(request_of(gated_up(), "sm_100a"), end), "repro.py", "exec")


def test_the_script_knows_a_trap_from_a_kernel():
    ptx = FAILURES.parents[1] / "ptx"
    for name in ("trap_stub_sm100a.ptx", "trap_stub_sm100a_triton360.ptx"):
        assert compile_again.only_traps((ptx / name).read_text())
    for name in ("wgmma_sm90a.ptx", "mma_sync_sm120a.ptx", "assert_branch.ptx"):
        assert not compile_again.only_traps((ptx / name).read_text())


@pytest.mark.parametrize(
    ("expected", "code", "output", "same"),
    [
        ({"words": "it broke"}, 1, "so it broke", True),
        ({"words": "it broke"}, -6, "so it broke", True),
        ({"words": "it broke"}, 0, "so it broke", False),
        ({"words": "it broke"}, 1, "another", False),
        ({"limit_s": 3}, None, "", True),
        ({"limit_s": 3}, 1, "", False),
        ({"resource": "shared memory", "available": 9}, 0, 'compiled: {"shared memory": 10}', True),
        ({"resource": "shared memory", "available": 9}, 0, 'compiled: {"shared memory": 9}', False),
        ({"resource": "shared memory", "available": 9}, 1, "Traceback", False),
        ({"status": "trapped"}, 0, 'compiled: {"trap": true}', True),
        ({"status": "trapped"}, 0, 'compiled: {"trap": false}', False),
        ({"status": "trapped"}, 0, "", False),
    ],
)
def test_what_the_script_counts_as_the_same_end(monkeypatch, expected, code, output, same):
    monkeypatch.setattr(compile_again, "EXPECTED", {**compile_again.EXPECTED, **expected})
    assert compile_again.ends_as_recorded(code, output) == same


def test_the_same_report_is_the_same_bytes(tmp_path):
    abort = request_of(spec_of("byte_register", numbers="*i32", out="*i32", COUNT=128), "sm_90a")
    first = report(abort, tmp_path / "a.zip").path.read_bytes()
    assert report(abort, tmp_path / "b.zip").path.read_bytes() == first


def test_a_log_alone_gives_an_issue_text_and_what_to_attach(tmp_path):
    log = "starting\nRuntimeError: something nobody has seen went wrong in a kernel\n"
    done = report(log, tmp_path / "r.zip")
    assert not done.reproduced and "To attach" in done.issue_path.read_text()
    mlir = (FAILURES.parents[1] / "front_end" / "mlir_verifier_triton351.log").read_text()
    done = report(mlir, tmp_path / "m.zip")
    assert (
        "A log alone cannot be run again" in done.check
        and "mlir_reproducer" in members_of(tmp_path / "m.zip")["reproducer.mlir"].decode()
    )
    for nothing in ("hello\nworld\n", "all is well\nprogress 10%\n"):
        with pytest.raises(UserError, match="no failure that is known"):
            report(nothing, tmp_path / "n.zip")


def test_the_verb_takes_for(tmp_path, capsys):
    from helpers.__main__ import main

    (tmp_path / "s.json").write_text(spec_of("wide_sum", numbers="*fp32", out="*fp32", COUNT=32768).to_json())
    words = ["report", str(tmp_path / "s.json"), "--arch", "sm_90a", "--triton", "3.5.1", "--for", "spills",
             "--trust-root", str(FAILURES.parent)]  # fmt: skip
    assert main([*words, "-o", str(tmp_path / "r.zip"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "spills"
    assert os.path.exists(tmp_path / "r.issue.md")


def test_the_time_limit_of_a_spec_s_compile_is_the_reports_too(tmp_path, isolated_cache):
    (tmp_path / "s.json").write_text(spec_of("wide_sum", numbers="*fp32", out="*fp32", COUNT=16384).to_json())
    trust_roots([FAILURES.parent])
    try:
        done = report(tmp_path / "s.json", tmp_path / "r.zip", arch="sm_90a", triton="3.5.1", timeout_s=0.01,
                      allow_unreproduced=True)  # fmt: skip
    finally:
        trust_roots(())
    assert done.status == "timeout"

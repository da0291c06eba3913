"""Running ptxas: one that hangs, dies, babbles or cannot start is a report, and leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from helpers.bundle.members import ptxas_table
from helpers.bundle.repro import expected_of
from helpers.compiler import run_ptxas as assemble
from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import Toolchain, ToolchainMissing, resolve_ptxas
from helpers.search.minimize.prober import Check, Verdict
from helpers.search.try_this import try_ptx

pytestmark = pytest.mark.usefixtures("toolchain_351")
C7600 = (Path(__file__).parents[1] / "fixtures" / "logs" / "c7600.log").read_text()


def compile_with(spec, ptxas, **options):
    return compile_kernel(spec, "sm_90a", Toolchain("3.5.1", ptxas), **options)


def test_a_real_ptxas_leaves_log_cubin_and_command(write_kernel, own_cache):
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    assert report.status == "ok"
    ptx = Path(report.ptx_path).read_text()
    program = Path(own_cache / "toolchains").glob("triton-3.5.1-*/triton/backends/nvidia/bin/ptxas")
    done = assemble.run_ptxas(next(iter(program)), ptx, gpu_name="sm_90a", flags=("-lineinfo", "--gpu-name=sm_80"))
    assert done.exit_code == 0 and done.compiled
    assert done.cubin == Path(report.cubin_path).read_bytes()
    assert "Used " in done.log  # -v was added
    assert done.command == "ptxas -lineinfo -v --gpu-name=sm_90a kernel.ptx -o kernel.cubin"


def test_a_hang_is_stopped_with_its_children_at_the_limit(write_kernel, fake_ptxas, processes_of):
    version = fake_ptxas("sleep 987654 &\nsleep 987654")
    started = time.monotonic()
    report = compile_with(write_kernel(), version, timeout_s=3)
    assert report.status == "timeout" and report.failed_stage == "ptxas"
    assert time.monotonic() - started < 30
    assert "had not finished after 3." in report.message
    assert processes_of("987654") == []
    assert Path(report.ptx_path).is_file()


def test_what_is_no_fact_about_the_kernel_is_not_kept(write_kernel, fake_ptxas, own_cache):
    spec, version = write_kernel(), fake_ptxas("kill -SEGV $$")
    first, second = compile_with(spec, version), compile_with(spec, version)
    assert [first.status, second.status] == ["ptxas_signal"] * 2
    assert not second.cached


@pytest.mark.parametrize("name", ["SEGV", "KILL", "ABRT"])
def test_death_by_signal_names_the_signal(write_kernel, fake_ptxas, name):
    report = compile_with(write_kernel(), fake_ptxas(f"echo so far so good >&2; kill -{name} $$"))
    # Nobody but the machine, or a person, sends a KILL: that says nothing of the kernel.
    assert report.status == ("environment_error" if name == "KILL" else "ptxas_signal")
    assert f"SIG{name}" in report.message and "so far so good" in report.message


def test_garbage_with_exit_code_zero_is_not_ok(write_kernel, fake_ptxas):
    report = compile_with(write_kernel(), fake_ptxas("head -c 20000 /dev/urandom"))
    assert report.status == "ptxas_error" and not report.compiled
    assert report.regs_per_thread is None and report.cubin_path is None


def test_a_cubin_without_a_word_is_not_ok(write_kernel, fake_ptxas):
    report = compile_with(write_kernel(), fake_ptxas("echo x > kernel.cubin"))
    assert report.status == "ptxas_error"
    assert "made no kernel" in report.message


def test_the_crash_text_is_register_exhausted(write_kernel, fake_ptxas):
    version = fake_ptxas(f"cat >&2 <<'LOG'\n{C7600}\nLOG\nexit 255")
    report = compile_with(write_kernel(), version)
    assert report.crashed and report.ptxas_code == "C7600" and report.register_count_asked == 255
    assert Path(report.log_path).read_text().strip() == C7600.strip()


def test_silent_failure_says_at_least_the_exit_code(write_kernel, fake_ptxas):
    report = compile_with(write_kernel(), fake_ptxas("exit 7"))
    assert report.status == "ptxas_error" and "exit code 7" in report.message


@pytest.mark.parametrize("answer", ["I am something else", "V", "V1.2", ""])
def test_a_program_that_is_no_ptxas_is_toolchain_missing(write_kernel, own_cache, answer, fake_ptxas):
    fake_ptxas("exit 0", version_answer=answer)
    report = compile_with(write_kernel(), "1.2.3")
    assert report.status == "toolchain_missing"
    assert "is no ptxas" in report.message


def test_a_ptxas_without_exec_permission_is_toolchain_missing(write_kernel, fake_ptxas):
    version = fake_ptxas("exit 0")
    resolve_ptxas(version).path.chmod(0o644)
    report = compile_with(write_kernel(), version)
    assert report.status == "toolchain_missing" and "Permission denied" in report.message


def test_permission_taken_away_between_two_compiles(write_kernel, fake_ptxas):
    version = fake_ptxas("exit 7")
    assert compile_with(write_kernel(), version).status == "ptxas_error"
    resolve_ptxas(version).path.chmod(0o644)  # mtime stays, so its version is still remembered
    other = write_kernel().with_constexprs(BLOCK=256)
    assert compile_with(other, version).status == "toolchain_missing"


def test_a_flag_that_makes_ptxas_do_nothing_is_no_pass(write_kernel, own_cache):
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"), ptxas_flags=["--version"])
    assert report.status == "ptxas_error"


def test_an_unknown_flag_is_ptxas_error_in_its_own_words(write_kernel, own_cache):
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"), ptxas_flags=["--no-such; touch x"])
    assert report.status == "ptxas_error" and "no-such" in report.message


def test_stop_runs_ends_only_the_runs_of_the_threads_named(tmp_path):
    program = tmp_path / "ptxas"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    ended: dict[str, int | None] = {}

    def wait(name):
        ended[name] = assemble.run_ptxas(program, "", gpu_name="sm_90a", timeout_s=4).exit_code

    threads = {name: threading.Thread(target=wait, args=(name,)) for name in ("stopped", "left")}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + 10
    while len(assemble._running) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assemble.stop_runs({threads["stopped"].ident})
    threads["stopped"].join(2)
    assert ended == {"stopped": -9}
    threads["left"].join(10)
    assert ended["left"] is None  # its own time limit
    assert assemble._running == {}


def test_a_run_that_had_only_just_begun_is_ended_too(tmp_path, monkeypatch):
    program = tmp_path / "ptxas"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    start = subprocess.Popen
    stops = [True, False]

    def popen(*args, **kwargs):
        process = start(*args, **kwargs)
        if stops.pop(0):
            assemble.stop_runs({threading.get_ident()})  # before the run is known to be under way
        return process

    monkeypatch.setattr(assemble.subprocess, "Popen", popen)
    codes = []
    for limit_s in (30.0, 0.2):
        thread = threading.Thread(
            target=lambda limit_s=limit_s: codes.append(
                assemble.run_ptxas(program, "", gpu_name="sm_90a", timeout_s=limit_s).exit_code
            )
        )
        thread.start()
        thread.join(10)
    assert codes == [-9, None]  # a thread that comes later is not meant


def test_scratch_folders_are_gone(write_kernel, fake_ptxas, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    compile_with(write_kernel(), fake_ptxas("kill -KILL $$"))
    assert [p for p in os.listdir(scratch) if "ptxas" in p] == []


# --- what a run amounts to ------------------------------------------------------------------------------------

KERNEL = ".version 8.0\n.target sm_80\n.visible .entry k() { ret; }\n"
FUNCTION = ".version 8.0\n.target sm_80\n.visible .func f() { ret; }\n"
SAID = """ptxas info    : Compiling entry function 'k' for 'sm_80'
ptxas info    : Function properties for k
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 12 bytes smem
"""
ADVICE = "ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to it\n"
OUTCOMES = {
    "a kernel": ((KERNEL, SAID, 0, b"x"), "ok", None, 40),
    "no cubin": ((KERNEL, SAID, 0, None), "ptxas_error", None, None),
    "no word": ((KERNEL, "", 0, b"x"), "ptxas_error", None, None),
    "a cubin of functions": ((FUNCTION, "ptxas info    : 0 bytes gmem\n", 0, b"x"), "ok", None, None),
    "advice before the failure": ((KERNEL, ADVICE + C7600, 255, None), "register_exhausted", "C7600", None),
    "advice beside a kernel": ((KERNEL, ADVICE + SAID, 0, b"x"), "ok", None, 40),
    "a signal": ((KERNEL, SAID, -11, None), "ptxas_signal", None, None),
    "the time limit": ((KERNEL, SAID, None, None), "timeout", None, None),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_outcome_of_a_run(name):
    (ptx, log, exit_code, cubin), status, code, registers = OUTCOMES[name]
    run = assemble.outcome(ptx, log, exit_code, cubin=cubin)
    assert (run.status, run.ptxas_code, run.regs_per_thread) == (status, code, registers)
    assert run.compiled == (status == "ok") == (run.message == "") == (run.cubin is not None)
    assert run.verdict == ("spills" if registers else status)
    assert run.silent == (name in ("no cubin", "no word"))


@pytest.fixture
def does_nothing(tmp_path) -> Path:
    """A ptxas that ends with exit code 0 and makes nothing."""
    program = tmp_path / "bin" / "ptxas"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    return program


def test_exit_code_0_without_a_kernel_is_no_edit_that_helps(does_nothing):
    assert try_ptx(KERNEL, ptxas=does_nothing, ptxas_version="1.2.3", arch="sm_80") == []


def test_exit_code_0_without_a_kernel_is_a_failure_in_the_table_of_a_bundle(does_nothing):
    ((row, run),) = ptxas_table(KERNEL, "sm_80", (), [("1.2.3", does_nothing)])
    assert row["status"] == "ptxas_error" and "no kernel" in str(row["message"])
    assert expected_of(run).failed


def test_exit_code_0_without_a_kernel_is_no_verdict_of_a_compile_to_a_search(does_nothing):
    verdict = Check("1.2.3", does_nothing, (), "sm_80").run(KERNEL, 5)
    assert verdict.status == "ptxas_error" and verdict.text() == "ptxas_error: no kernel"
    assert not verdict.agrees(Verdict("ok"))


def test_a_program_that_cannot_start_is_toolchain_missing(tmp_path):
    program = tmp_path / "ptxas"
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    with pytest.raises(ToolchainMissing, match="cannot run the ptxas at"):
        assemble.run_ptxas(program, KERNEL, gpu_name="sm_80")
    with pytest.raises(ToolchainMissing, match="No such file"):
        assemble.run_ptxas(tmp_path / "none", KERNEL, gpu_name="sm_80")

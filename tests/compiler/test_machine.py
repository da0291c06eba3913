"""Failures of the machine are a status of their own, asked again once and never kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler import assembly, codegen, compile, machine, run_ptxas
from helpers.compiler.codegen import Generated
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import Tool, Toolchain, ToolchainMissing
from helpers.compiler.worker.pool import WorkerDied, WorkerUnusable
from helpers.errors import MachineError
from helpers.files import CACHE_ENV
from helpers.search import gate
from tests.compiling import ADD_ONE

PTX = ".version 8.7\n.target sm_90a\n.visible .entry k() { ret; }\n"
PTXAS = Tool(Path("ptxas"), "12.8.93")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))


def generated(folder: Path) -> Generated:
    (folder / "kernel.ptx").write_text(PTX)
    digest = hashlib.sha256(PTX.encode()).hexdigest()
    return Generated(folder, ("kernel.ptx",), False, "key", "3.5.1", "done", 0.0, ptx_sha256=digest)


@pytest.fixture
def ptxas_that(tmp_path, monkeypatch):
    """`ptxas_that(lines, …)`: a ptxas that does in its runs, one after the other, what these lines of shell say."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def make(*runs: str) -> tuple[Tool, Path]:
        program, count = tmp_path / "ptxas", tmp_path / "runs"
        cases = "\n".join(f"{number}) {lines};;" for number, lines in enumerate(runs, start=1))
        program.write_text(f'#!/bin/sh\necho x >> {count}\ncase "$(wc -l < {count})" in\n{cases}\nesac\n')
        program.chmod(0o755)
        count.unlink(missing_ok=True)
        return Tool(program, "12.8.93"), count

    return make


def assembled(tmp_path, made):
    """(what `assemble` says, how often ptxas was run)."""
    program, count = made
    found = assembly.assemble(generated(tmp_path), program, timeout_s=20)
    return found, len(count.read_text().split()) if count.exists() else 0


SAID = """echo "ptxas info    : Compiling entry function 'k' for 'sm_90a'"; echo "ptxas info    : Used 8 registers";"""
REFUSED = "echo \"ptxas fatal   : Unresolved extern function 'f'\"; exit 255"
ILL = {
    "no memory": "echo 'ptxas fatal   : Memory allocation failure'; exit 255",
    "no memory in the other copy": "echo 'ptxas-blackwell fatal   : Memory allocation failure'; exit 255",
    "no output": "echo \"ptxas fatal   : Output file 'kernel.cubin' could not be opened\"; exit 255",
    "killed": "kill -KILL $$",
    "too large a file": "kill -XFSZ $$",
    "out of processor time": "kill -XCPU $$",
    "not loaded": 'echo "$0: error while loading shared libraries: libc.so.6: cannot open it: Error 24"; exit 127',
    "an empty kernel": f"{SAID} : > kernel.cubin",
    "a cut header": f"{SAID} printf '\\177ELF' > kernel.cubin",
    "half a kernel": f"{SAID} {{ printf '\\177ELF\\002'; head -c 200 /dev/zero | tr '\\0' '\\77'; }} > kernel.cubin",
}
OWN = {
    "refused": (REFUSED, "ptxas_error"),
    "a pragma that says so": ("echo \"ptxas error   : Pragma 'Memory allocation failure' not supported\"; exit 255",
                              "ptxas_error"),
    "a name that says so": ("echo \"ptxas fatal   : Unresolved extern function 'std::bad_alloc'\"; exit 255",
                            "ptxas_error"),
    "a line that says so": ("echo 'ptxas k.ptx, line 5; fatal   : Memory allocation failure: syntax error'; exit 255",
                            "ptxas_error"),
    "its own crash": ("kill -SEGV $$", "ptxas_signal"),
    "exit code 127 of its own": ("exit 127", "ptxas_error"),
    "no ELF": (f"{SAID} echo x > kernel.cubin", "ok"),
}  # fmt: skip


@pytest.mark.parametrize("name", ILL)
def test_ptxas_that_the_machine_failed_is_asked_twice_and_not_kept(tmp_path, ptxas_that, name):
    found, asked = assembled(tmp_path, ptxas_that(ILL[name], ILL[name]))
    assert found.status == "environment_error" and asked == 2 and machine.WHAT_TO_DO in found.message
    again, asked = assembled(tmp_path, ptxas_that(REFUSED))
    assert again.status == "ptxas_error" and asked == 1 and not again.cached


@pytest.mark.parametrize("name", OWN)
def test_what_ptxas_says_of_the_kernel_is_the_kernels_whatever_words_are_in_it(tmp_path, ptxas_that, name):
    lines, status = OWN[name]
    found, asked = assembled(tmp_path, ptxas_that(lines))
    assert (found.status, asked) == (status, 1)


def test_ptxas_that_answers_the_second_time_is_believed_and_kept(tmp_path, ptxas_that):
    found, asked = assembled(tmp_path, ptxas_that(ILL["no memory"], REFUSED))
    assert found.status == "ptxas_error" and asked == 2
    found, asked = assembled(tmp_path, ptxas_that())
    assert found.cached and asked == 0


def test_a_run_that_was_stopped_is_not_made_again(tmp_path, ptxas_that):
    program, count = ptxas_that("sleep 60", "sleep 60")
    thread = threading.Thread(target=assembled, args=(tmp_path, (program, count)))
    thread.start()
    deadline = time.monotonic() + 10
    while not count.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    run_ptxas.stop_runs({thread.ident})
    thread.join(10)
    assert not thread.is_alive() and len(count.read_text().split()) == 1 and not run_ptxas._stopped


def test_a_full_scratch_folder_is_no_refusal(tmp_path, ptxas_that, monkeypatch):
    monkeypatch.setattr(machine, "no_room", lambda: True)
    assert assembled(tmp_path, ptxas_that("exit 0", "exit 0"))[0].status == "environment_error"
    monkeypatch.setattr(machine, "no_room", lambda: False)
    assert assembled(tmp_path, ptxas_that("exit 0"))[0].status == "ptxas_error"
    assert not assembled(tmp_path, ptxas_that("exit 0"))[0].cached


def test_whoever_runs_ptxas_alone_hears_of_it_as_an_exception(ptxas_that):
    program, _count = ptxas_that(ILL["killed"], ILL["killed"])
    with pytest.raises(MachineError, match="says nothing of the kernel: ptxas was ended by SIGKILL"):
        run_ptxas.run_ptxas(program.path, PTX, gpu_name="sm_90a")


class Pool:
    """A pool whose workers answer, or raise, as told."""

    def __init__(self, *answers, stopped=False):
        self.answers, self.killed, self.stopped = list(answers), 0, stopped

    @contextlib.contextmanager
    def borrow(self, *args, **options):
        yield self

    def ask(self, request, timeout_s):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def kill(self):
        self.killed += 1

    def was_stopped(self):
        return self.stopped


def answer(words: str = "", **link) -> dict:
    """What a worker answers of an exception."""
    link = {"type": "OSError", "words": words, "memory": False, "errno": None, "returncode": None, **link}
    return {"stage": "frontend", "error": words, "stages": {}, "seconds": {}, "raised": [link]}


FULL = answer("No space left on device", errno=28)
DONE = {"stage": "done", "stages": {}, "seconds": {}}


@pytest.mark.parametrize(
    "first",
    [
        FULL,
        answer(memory=True),
        answer("Cannot find ptxas-blackwell", type="RuntimeError"),
        answer("can't start new thread", type="RuntimeError"),
        answer("Command '['ptxas', '--version']' died", type="CalledProcessError", returncode=-9),
        WorkerDied(-9, ""),
        WorkerDied(-6, "a\nLLVM ERROR: out of memory\nAllocation failed\n"),
        WorkerDied(-6, "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"),
        WorkerUnusable("no answer within 120 s", of_machine=True),
        BlockingIOError(11, "Resource temporarily unavailable"),
    ],
    ids=["disk", "memory", "tool", "thread", "version", "killed", "LLVM", "C++", "start", "process"],
)
def test_a_worker_that_the_machine_failed_is_replaced_once(monkeypatch, first):
    monkeypatch.setattr(codegen, "POOL", Pool(first, DONE))
    assert codegen.answer_of({}, PTXAS, 1) == (DONE, True)
    pool = Pool(first, first)
    monkeypatch.setattr(codegen, "POOL", pool)
    answer, keep = codegen.answer_of({}, PTXAS, 1)
    assert answer["stage"] == "machine" and not keep and not pool.answers
    assert pool.killed == (0 if isinstance(first, Exception) else 2)
    assert codegen.kept_answer({**answer, "seconds": {"total": 0}}, PTXAS, True)[2] is False


def test_an_interrupted_worker_is_not_started_again(monkeypatch):
    pool = Pool(WorkerDied(-9, ""), DONE, stopped=True)
    monkeypatch.setattr(codegen, "POOL", pool)
    assert codegen.answer_of({}, PTXAS, 1)[0]["stage"] == "machine" and len(pool.answers) == 1


KILLED, OUT_OF_TIME = WorkerDied(-9, ""), WorkerDied(-24, "")


@pytest.mark.parametrize(
    ("deaths", "ended_for_memory", "by_itself"),
    [
        ((KILLED, KILLED), (7, 7), True),
        ((KILLED, KILLED), (None, None), True),
        ((OUT_OF_TIME, OUT_OF_TIME), (7, 7), True),
        ((KILLED, KILLED), (7, 8), False),
        ((KILLED, OUT_OF_TIME), (7, 7), False),
        ((FULL, KILLED), (7, 7), False),
        ((KILLED, FULL), (7, 7), False),
    ],
    ids=[
        "twice",
        "Linux does not say",
        "a limit",
        "out of memory",
        "two signals",
        "disk and killed",
        "killed and disk",
    ],
)
def test_a_worker_killed_twice_may_be_the_kernels_doing_and_the_sentence_says_so(
    monkeypatch, deaths, ended_for_memory, by_itself
):
    counts = iter(ended_for_memory)
    monkeypatch.setattr(machine, "ended_for_memory", lambda: next(counts))
    monkeypatch.setattr(codegen, "POOL", Pool(*deaths))
    found, keep = codegen.answer_of({}, PTXAS, 1)
    assert found["stage"] == "machine" and not keep and "ended_by" not in found and machine.WHAT_TO_DO in found["error"]
    assert ("sends the signal itself" in found["error"]) == by_itself
    assert ("the machine failed, this says nothing of the kernel" in found["error"]) != by_itself


def test_a_kernel_file_that_kills_its_own_process_is_not_called_the_machines_fault(write_kernel):
    spec = write_kernel(f"import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n{ADD_ONE}")
    for _once_more in range(2):
        report = compile.compile_kernel(spec, "sm_90a", Toolchain("environment"))
        assert report.status == "environment_error" and not report.cached
        assert (
            "ended by SIGKILL, and so was a fresh one" in report.message and "sends the signal itself" in report.message
        )


def test_linux_says_how_many_it_ended_for_memory(monkeypatch):
    assert isinstance(machine.ended_for_memory(), int | None)
    monkeypatch.setattr(Path, "read_text", lambda self: "nr_free_pages 3\noom_kill 12\nx_oom_kill 4\n")
    assert machine.ended_for_memory() == 12
    monkeypatch.setattr(Path, "read_text", lambda self: "nr_free_pages 3\n")
    assert machine.ended_for_memory() is None


@pytest.mark.parametrize(
    "first",
    [
        WorkerDied(-11, ""),
        WorkerDied(-11, "No space left on device\nMemoryError: Cannot allocate memory\n"),
        WorkerDied(-6, "the kernel prints: LLVM ERROR: out of memory\n"),
        WorkerDied(1, "LLVM ERROR: out of memory\n"),
    ],
    ids=["crash", "a crash after words", "an abort after words", "an exit after words"],
)
def test_a_crash_of_the_worker_is_the_kernels(monkeypatch, first):
    pool = Pool(first)
    monkeypatch.setattr(codegen, "POOL", pool)
    assert codegen.answer_of({}, PTXAS, 1)[0]["stage"] == "died"


@pytest.mark.parametrize(
    "first",
    [
        answer("No space left on device", type="CompileTimeAssertionFailure"),
        answer("MemoryError: no", type="ValueError"),
        answer("No space left on device", errno=28, by_kernel=True),
        answer("so the kernel says", memory=True, by_kernel=True),
        answer("Cannot find ptxas", type="RuntimeError", by_kernel=True),
        answer("No such file", errno=2),
    ],
    ids=["an assertion", "a message", "a number", "memory", "tool", "another number"],
)
def test_what_a_kernel_says_is_the_kernels_whatever_words_are_in_it(monkeypatch, first):
    monkeypatch.setattr(codegen, "POOL", Pool(first))
    found, keep = codegen.answer_of({}, PTXAS, 1)
    assert found["stage"] == "frontend" and keep


MACHINES = {
    "memory of its own": ("raise MemoryError('no tile is that large')", "frontend_error"),
    "a number of its own": ("raise OSError(28, 'No space left on device')", "frontend_error"),
    "a message": ("raise ValueError('No space left on device: Cannot allocate memory')", "frontend_error"),
    "words before a crash": (
        "import os, sys\nprint('No space left on device', file=sys.stderr, flush=True)\nos.abort()",
        "frontend_error",
    ),
    "a full disk": ("x = open('/dev/full', 'w').write('x' * 100_000)", "environment_error"),
    "a full disk, told otherwise": (
        "try:\n    x = open('/dev/full', 'w').write('x' * 100_000)\nexcept OSError:\n"
        "    raise ValueError('cannot tune')",
        "environment_error",
    ),
    "no memory": ("x = bytearray(1 << 62)", "environment_error"),
    "a static_assert": ("", "frontend_error"),
}


# A foreign kernel's own statements may fail without harm.
OF_THE_SYSTEM = [(name, stubs) for name, (lines, status) in MACHINES.items()
                 for stubs in (False, True) if not stubs or not lines or status == "environment_error"]  # fmt: skip


@pytest.mark.parametrize(("name", "stubs"), OF_THE_SYSTEM)
def test_the_system_decides_and_not_the_words(write_kernel, name, stubs):
    lines, status = MACHINES[name]
    said = "tl.static_assert(BLOCK < 1, 'No space left on device, Cannot allocate memory')"
    source = ADD_ONE.replace("    offsets =", f"    {said}\n    offsets =") if not lines else f"{lines}\n{ADD_ONE}"
    spec = write_kernel(source)
    spec = replace(spec, kernel=replace(spec.kernel, stub_imports=stubs))
    report = compile.compile_kernel(spec, "sm_90a", Toolchain("environment"))
    assert report.status == status, report.message


def chained(cause: Exception) -> Exception:
    missing = ToolchainMissing("cannot run it")
    missing.__cause__ = cause
    return missing


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOSPC, "No space left on device"),
        MemoryError(),
        RuntimeError("can't start new thread"),
        subprocess.CalledProcessError(-9, ["ptxas", "--version"]),
        subprocess.CalledProcessError(127, ["ptxas"], stderr=b"ptxas: error while loading shared libraries: x\n"),
        WorkerUnusable("it was killed", of_machine=True),
    ],
    ids=["no process", "no space", "no memory", "no thread", "killed", "not loaded", "worker killed at its start"],
)
def test_what_cannot_be_started_for_want_of_room_is_not_a_missing_toolchain(monkeypatch, cause):
    asked = []

    def fails(*args):
        asked.append(1)
        raise chained(cause)

    monkeypatch.setattr(compile, "_compile", fails)
    spec = type("Spec", (), {"label": "k", "num_warps": 4})
    assert compile.compile_kernel(spec, "sm_90a").status == "environment_error" and len(asked) == 2
    cause = FileNotFoundError(errno.ENOENT, "No such file")
    assert compile.compile_kernel(spec, "sm_90a").status == "toolchain_missing" and len(asked) == 3


def test_the_gate_takes_no_failure_of_the_machine_for_a_baseline(tmp_path, monkeypatch):
    spec = type("Spec", (), {"label": "k", "content_key": lambda self: "key"})()
    monkeypatch.setattr(gate, "tell_apart", lambda specs: specs)
    ill = CompileReport("environment_error", "sm_90a", "3.5.1", None, label="k", message="no space")
    monkeypatch.setattr(gate, "compile_matrix", lambda requests, progress: [ill])
    baseline = tmp_path / "baseline.csv"
    with pytest.raises(MachineError, match="k for sm_90a: no space"):
        gate.gate_command_result([spec], ["sm_90a"], baseline, write=True)
    assert not baseline.exists()

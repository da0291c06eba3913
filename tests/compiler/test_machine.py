"""Failures of the machine are a status of their own, asked again once and never kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import signal
import subprocess
from pathlib import Path

import pytest

from helpers.compiler import assembly, cache, codegen, compile, machine
from helpers.compiler.codegen import Generated
from helpers.compiler.report import CompileReport
from helpers.compiler.run_ptxas import outcome
from helpers.compiler.toolchain import Tool, Toolchain, ToolchainMissing
from helpers.compiler.worker.pool import WorkerDied
from helpers.errors import MachineError
from helpers.files import CACHE_ENV
from helpers.hardware import get_arch
from helpers.search import gate

PTX = ".version 8.7\n.target sm_90a\n.visible .entry k() { ret; }\n"
PTXAS = Tool(Path("ptxas"), "12.8.93")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))


def generated(folder: Path) -> Generated:
    (folder / "kernel.ptx").write_text(PTX)
    digest = hashlib.sha256(PTX.encode()).hexdigest()
    return Generated(folder, ("kernel.ptx",), False, "key", "3.5.1", "done", 0.0, ptx_sha256=digest)


def assembled(tmp_path, monkeypatch, *runs):
    """What `assemble` says where ptxas ends as told, run after run; and how many of the runs it took."""
    left = list(runs)
    monkeypatch.setattr(assembly.run_ptxas, "run_ptxas", lambda *args, **options: left.pop(0))
    found = assembly.assemble(generated(tmp_path), PTXAS, timeout_s=1)
    return found, len(runs) - len(left)


ILL = outcome(PTX, "ptxas fatal   : Memory allocation failure\n", 1)
KILLED = outcome(PTX, "", -signal.SIGKILL)
REFUSED = outcome(PTX, "ptxas fatal   : Unresolved extern function 'f'\n", 255)


@pytest.mark.parametrize("run", [ILL, KILLED], ids=["no memory", "killed"])
def test_ptxas_that_the_machine_failed_is_asked_twice_and_not_kept(tmp_path, monkeypatch, run):
    found, asked = assembled(tmp_path, monkeypatch, run, run)
    assert found.status == "environment_error" and asked == 2 and machine.WHAT_TO_DO in found.message
    again, asked = assembled(tmp_path, monkeypatch, REFUSED)
    assert again.status == "ptxas_error" and asked == 1 and not again.cached


def test_ptxas_that_answers_the_second_time_is_believed_and_kept(tmp_path, monkeypatch):
    found, asked = assembled(tmp_path, monkeypatch, ILL, REFUSED)
    assert found.status == "ptxas_error" and asked == 2
    assert assembled(tmp_path, monkeypatch)[0].cached


def test_a_full_scratch_folder_is_no_refusal(tmp_path, monkeypatch):
    silent = outcome(PTX, "", 0)
    monkeypatch.setattr(machine, "no_room", lambda: True)
    assert assembled(tmp_path, monkeypatch, silent, silent)[0].status == "environment_error"
    monkeypatch.setattr(machine, "no_room", lambda: False)
    assert assembled(tmp_path, monkeypatch, silent)[0].status == "ptxas_error"
    assert not assembled(tmp_path, monkeypatch, silent)[0].cached


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
        return answer

    def kill(self):
        self.killed += 1

    def was_stopped(self):
        return self.stopped


FULL = {"stage": "frontend", "error": "OSError: [Errno 28] No space left on device", "stages": {}, "seconds": {}}
DONE = {"stage": "done", "stages": {}, "seconds": {}}


@pytest.mark.parametrize(
    "first",
    [FULL, {**FULL, "error": "RuntimeError: Cannot find ptxas"}, WorkerDied(-9, "")],
    ids=["disk", "tool", "killed"],
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


def test_a_crash_of_the_worker_is_the_kernels(monkeypatch):
    pool = Pool(WorkerDied(-11, ""))
    monkeypatch.setattr(codegen, "POOL", pool)
    assert codegen.answer_of({}, PTXAS, 1)[0]["stage"] == "died"


@pytest.mark.parametrize(
    "meta",
    [
        {"stage": "frontend", "error": "OSError: [Errno 28] No space left on device"},
        {"status": "ptxas_error", "message": "ptxas ended with exit code 0 and made no kernel, without a word"},
    ],
)
def test_failures_that_earlier_versions_kept_are_not_believed(meta):
    cache.write("codegen", "ab" * 32, meta, {})
    entry, cached = cache.get_or_make("codegen", "ab" * 32, lambda: ({"stage": "done"}, {}, True))
    assert not cached and entry["stage"] == "done"
    assert cache.get_or_make("codegen", "ab" * 32, lambda: pytest.fail("made again"))[1]


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
        WorkerDied(-9, ""),
    ],
    ids=["no process", "no space", "no memory", "no thread", "version killed", "worker killed at its start"],
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


def test_a_kernel_saved_while_it_compiles_is_not_kept_under_its_old_hash(monkeypatch):
    keys = ["old", "new", "old", "old"]

    class Spec:
        kernel = type("Kernel", (), {"stub_imports": False})

        def content_key(self):
            return keys.pop(0)

    answers = []

    def answer(*args, **options):
        answers.append(1)
        return {"stage": "frontend", "error": "no", "stages": {}, "seconds": {"total": 0.0}}, True

    monkeypatch.setattr(codegen, "_request", lambda *args: {})
    monkeypatch.setattr(codegen, "answer_of", answer)
    chip, toolchain = get_arch("sm_90a"), Toolchain()
    for _ in range(2):
        assert not codegen.generate(Spec(), chip, toolchain, Tool(Path(), "3.5.1"), 1).cached
    assert len(answers) == 2

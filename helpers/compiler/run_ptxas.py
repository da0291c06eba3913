"""Run ptxas: once, with -v, within a time limit, on a PTX text, never through a shell; and say how that ended."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import threading
import time
import weakref
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.compiler import machine
from helpers.compiler.toolchain import ToolchainMissing
from helpers.errors import MachineError
from helpers.inspection.ptx.scan import ptx_header
from helpers.inspection.ptxas import classify_failure, parse_ptxas_log
from helpers.processes import end_with_parent, scratch_folder, wait_for_end

DEFAULT_FLAGS = ("-lineinfo", "-v")
MAX_LOG_CHARS = 2_000_000
_ELF64, _ELF_HEADER_BYTES = b"\x7fELF\x02", 64
# Runs under way and the thread that waits for each, so that an interrupt can end them (see stop_runs).
_running: dict[subprocess.Popen[bytes], int] = {}
# Those of them that were ended so: their death is nobody else's doing, and nothing is asked again.
_stopped: set[subprocess.Popen[bytes]] = set()
# Threads whose runs were ended so: a run that one of them has only just started is ended too.
_stopped_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@dataclass(frozen=True)
class PtxasRun:
    """How one run of ptxas ended.

    `status` is a word of `classify_failure`; exit code 0 without a kernel is `ptxas_error`. `ptxas_code`,
    `registers_asked` and `fatal` (ptxas's complaints, in order) are of a failure; registers and bytes are of the first
    kernel of a run that made one, per thread (`smem_bytes`: static, per CTA), else None. `exit_code` is negative for a
    death by signal and None for a run that was stopped at its time limit.
    """

    status: str
    exit_code: int | None
    log: str
    cubin: bytes | None = None
    wall_s: float = 0.0
    command: str = ""
    ptxas_code: str | None = None
    registers_asked: int | None = None
    fatal: tuple[str, ...] = ()
    message: str = ""
    regs_per_thread: int | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None
    stack_frame_bytes: int | None = None
    smem_bytes: int | None = None
    barriers: int | None = None

    @property
    def compiled(self) -> bool:
        """Whether ptxas made what it was asked for."""
        return self.status == "ok"

    @property
    def verdict(self) -> str:
        """`status` as a CompileReport has it: `spills` where registers were spilled."""
        return "spills" if self.spill_store_bytes or self.spill_load_bytes else self.status

    @property
    def silent(self) -> bool:
        """Whether it ended with exit code 0 and made no kernel, without a complaint."""
        return self.status == "ptxas_error" and self.exit_code == 0 and not self.fatal


def outcome(
    ptx: str,
    log: str,
    exit_code: int | None,
    *,
    cubin: bytes | None = None,
    wall_s: float = 0.0,
    command: str = "",
) -> PtxasRun:
    """What a run of ptxas on `ptx` amounts to, from its log and exit code (None: stopped at its time limit).

    Exit code 0 is a success only with a cubin and, where the PTX has a kernel, with a kernel in the log: a flag such as
    --version makes ptxas do nothing, and not every program called ptxas is one.
    """
    read = parse_ptxas_log(log)
    status, entry = classify_failure(read, exit_code, timed_out=exit_code is None), read.entry
    if status == "ok" and (cubin is None or (entry is None and ptx_header(ptx).entries)):
        status = "ptxas_error"
    made = entry if status == "ok" else None
    return PtxasRun(
        status=status,
        exit_code=exit_code,
        log=log,
        cubin=cubin if status == "ok" else None,
        wall_s=wall_s,
        command=command,
        ptxas_code=read.failure_code,
        registers_asked=read.register_count_asked,
        fatal=read.fatal,
        message=_complaint(status, read.fatal, log, exit_code, wall_s),
        regs_per_thread=made.regs_per_thread if made else None,
        spill_store_bytes=made.spill_store_bytes if made else None,
        spill_load_bytes=made.spill_load_bytes if made else None,
        stack_frame_bytes=made.stack_frame_bytes if made else None,
        smem_bytes=made.smem_bytes if made else None,
        barriers=made.barriers if made else None,
    )


def _complaint(status: str, fatal: Sequence[str], log: str, exit_code: int | None, wall_s: float) -> str:
    """What to say of a run that failed: ptxas's own words, else how it ended; nothing for one that did not."""
    if status == "ok":
        return ""
    words = "; ".join(fatal) or "".join(c if c.isprintable() or c == "\n" else "." for c in log.strip()[-2000:])
    said = f"; it said: {words}" if words else ""
    if status == "timeout":
        return f"ptxas had not finished after {wall_s:.1f} s and was stopped{said}"
    if status == "ptxas_signal" and exit_code is not None and exit_code < 0:
        return f"ptxas was ended by {signal_name(exit_code)}{said}"
    return words or f"ptxas ended with exit code {exit_code} and made no kernel, without a word"


def run_ptxas(
    ptxas: Path, ptx: str, *, gpu_name: str, flags: Sequence[str] = DEFAULT_FLAGS, timeout_s: float = 300.0
) -> PtxasRun:
    """Assemble `ptx` for `gpu_name`; a hang past `timeout_s` is killed, whole process group, and reported.

    `flags` are passed as they are, except that -v is added when missing and any --gpu-name among them dropped. A run
    that the machine failed is made once more. Raises MachineError where that one fails so too, and ToolchainMissing for
    a program that cannot be started.
    """
    for _ in range(2):
        try:
            return _run(ptxas, ptx, gpu_name=gpu_name, flags=flags, timeout_s=timeout_s)
        except (_Ill, OSError, MemoryError) as exc:
            if not machine.from_machine(exc):
                raise
            said: Exception = exc
    raise MachineError(machine.sentence(str(said) or "no memory")) from said


class _Ill(MachineError):
    """A run that says nothing of its PTX."""


def _run(ptxas: Path, ptx: str, *, gpu_name: str, flags: Sequence[str], timeout_s: float) -> PtxasRun:
    """One run; raises _Ill, or what the system said, where the machine failed it."""
    words = [w for w in flags if not w.startswith(("--gpu-name", "-arch"))]
    if not {"-v", "--verbose"} & set(words):
        words.append("-v")
    words.append(f"--gpu-name={gpu_name}")
    with scratch_folder("ptxas") as folder:
        (folder / "kernel.ptx").write_text(ptx)
        argv = [str(ptxas), *words, "kernel.ptx", "-o", "kernel.cubin"]
        started = time.perf_counter()
        with open(folder / "log", "wb") as log:
            try:
                process = subprocess.Popen(
                    argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    preexec_fn=end_with_parent(),
                )  # fmt: skip
            except OSError as exc:
                if machine.from_machine(exc):
                    raise
                raise ToolchainMissing(f"cannot run the ptxas at {ptxas}: {exc.strerror or exc}") from exc
            timed_out = False
            _running[process] = threading.get_ident()
            if threading.current_thread() in _stopped_threads:
                stop_runs({threading.get_ident()})
            try:
                wait_for_end(process, timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _kill(process)
                process.wait()
                del _running[process]
                stopped = process in _stopped
                _stopped.discard(process)
        wall_s = time.perf_counter() - started
        with open(folder / "log", "rb") as log:
            text = log.read(MAX_LOG_CHARS).decode(errors="replace")
        cubin = folder / "kernel.cubin"
        made = cubin.read_bytes() if process.returncode == 0 and cubin.is_file() else None
        command = " ".join([ptxas.name, *words, "kernel.ptx", "-o", "kernel.cubin"])
        exit_code = None if timed_out else process.returncode
        run = outcome(ptx, text, exit_code, cubin=made, wall_s=wall_s, command=command)
        if not stopped and _is_ill(run, made):
            raise _Ill(run.message or "ptxas wrote half of a kernel")
        return run


def _is_ill(run: PtxasRun, made: bytes | None) -> bool:
    """Whether the machine failed a run: it was killed, or had no memory or room for what it makes."""
    if machine.ended(run.exit_code, run.log) or machine.of_ptxas(run.fatal) or (made is not None and _is_cut(made)):
        return True
    return run.status == "ptxas_error" and machine.no_room()


def _is_cut(cubin: bytes) -> bool:
    """Whether a cubin ends before its tables do: ptxas does not look whether it could write them."""
    if not cubin or (cubin[:4] == _ELF64[:4] and len(cubin) < _ELF_HEADER_BYTES):
        return True
    if cubin[: len(_ELF64)] != _ELF64:
        return False
    programs, sections = struct.unpack_from("<QQ", cubin, 0x20)
    program_bytes, program_count, section_bytes, section_count = struct.unpack_from("<HHHH", cubin, 0x36)
    return max(programs + program_bytes * program_count, sections + section_bytes * section_count) > len(cubin)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def stop_runs(threads: Container[int]) -> None:
    """Kill the ptxas runs that these threads wait for, or start from now on; each then sees a death by signal."""
    # The marks come first: a run that is not in `_running` yet will find its thread's.
    _stopped_threads.update(t for t in threading.enumerate() if t.ident in threads)
    for process, thread in list(_running.items()):
        if thread in threads:
            _stopped.add(process)
            _kill(process)


def signal_name(returncode: int) -> str:
    """`SIGSEGV` for -11: the signal that a negative exit code stands for."""
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"

"""Run ptxas: once, with -v, within a time limit, on a PTX text; never through a shell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

MAX_LOG_CHARS = 2_000_000
# Runs under way and the thread that waits for each, so that an interrupt can end them (see stop_runs).
_running: dict[subprocess.Popen, int] = {}


@dataclass(frozen=True)
class Assembly:
    """What one ptxas run left: its exit code (negative: the signal), log, cubin if any, and the time it took."""

    returncode: int | None
    log: str
    cubin: bytes | None
    wall_s: float
    timed_out: bool
    command: str


def run_ptxas(
    ptxas: Path, ptx: str, *, gpu_name: str, flags: tuple[str, ...] = ("-lineinfo", "-v"), timeout_s: float = 300.0
) -> Assembly:
    """Assemble `ptx` for `gpu_name`; a hang past `timeout_s` is killed, whole process group, and reported.

    `flags` are passed as they are, except that -v is added when missing and any --gpu-name among them dropped.
    """
    words = [w for w in flags if not w.startswith(("--gpu-name", "-arch"))]
    if not {"-v", "--verbose"} & set(words):
        words.append("-v")
    words.append(f"--gpu-name={gpu_name}")
    with tempfile.TemporaryDirectory(prefix="register-cliff-ptxas-") as scratch:
        folder = Path(scratch)
        (folder / "kernel.ptx").write_text(ptx)
        argv = [str(ptxas), *words, "kernel.ptx", "-o", "kernel.cubin"]
        started = time.perf_counter()
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            timed_out = False
            _running[process] = threading.get_ident()
            try:
                process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _kill(process)
                process.wait()
                del _running[process]
        wall_s = time.perf_counter() - started
        with open(folder / "log", "rb") as log:
            text = log.read(MAX_LOG_CHARS).decode(errors="replace")
        cubin = folder / "kernel.cubin"
        ok = process.returncode == 0 and cubin.is_file()
        command = " ".join([ptxas.name, *words, "kernel.ptx", "-o", "kernel.cubin"])
        return Assembly(
            None if timed_out else process.returncode,
            text,
            cubin.read_bytes() if ok else None,
            wall_s,
            timed_out,
            command,
        )


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def stop_runs(threads: Container[int]) -> None:
    """Kill the ptxas runs that these threads wait for; each of them then sees a death by signal."""
    for process, thread in list(_running.items()):
        if thread in threads:
            _kill(process)


def signal_name(returncode: int) -> str:
    """`SIGSEGV` for -11: the signal that a negative exit code stands for."""
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"

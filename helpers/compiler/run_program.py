"""One run of a program of NVIDIA's that reads binaries (nvdisasm, cuobjdump): within a time and a size, in a folder."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from helpers.compiler import machine
from helpers.compiler.toolchain import ToolchainMissing, installed_tritons, resolve_triton
from helpers.errors import MachineError
from helpers.processes import end_with_parent, wait_for_end

__all__ = ["MAX_TEXT_BYTES", "nvidia_programs", "run_program"]

MAX_TEXT_BYTES = 200_000_000
# No file that such a program writes may be larger: a few bytes of a hostile input can be unpacked to any number.
MAX_WRITTEN_BYTES = 2_000_000_000


def run_program(argv: Sequence[str], folder: str | Path, timeout_s: float) -> tuple[str, str]:
    """(output, problem) of a program that is killed, children and all, when its time is up.

    Raises MachineError where the machine is the reason.
    """
    name = Path(argv[0]).name
    try:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                preexec_fn=_limited(end_with_parent()),
            )  # fmt: skip
            try:
                wait_for_end(process, timeout_s)
            except subprocess.TimeoutExpired:
                return "", f"{name} had not finished after {timeout_s:g} s and was stopped"
            finally:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            out.seek(0)
            err.seek(0)
            text = out.read(MAX_TEXT_BYTES).decode(errors="replace")
            if process.returncode or not text:
                said = err.read(10_000).decode(errors="replace")
                too_much = process.returncode == -signal.SIGXFSZ
                if too_much and resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY:
                    return "", f"{name} wrote more than {MAX_WRITTEN_BYTES:,} bytes and was stopped"
                if machine.ended(process.returncode, said):
                    raise MachineError(machine.sentence(f"{name} ended with exit code {process.returncode} {said}"))
                words = said.strip().splitlines()
                return "", words[-1] if words else f"{name} ended with exit code {process.returncode}"
            return text, ""
    except OSError as exc:
        if machine.from_machine(exc):
            raise MachineError(machine.sentence(f"cannot run {name}: {exc}")) from exc
        return "", f"cannot run {argv[0]}: {exc.strerror or exc}"


def _limited(first: Callable[[], None]) -> Callable[[], None]:
    def in_the_child() -> None:
        first()
        _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = MAX_WRITTEN_BYTES if hard == resource.RLIM_INFINITY else min(hard, MAX_WRITTEN_BYTES)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))

    return in_the_child


def nvidia_programs(name: str) -> list[Path]:
    """The program of that name of every Triton on hand, the oldest Triton's first."""
    found: list[Path] = []
    for version in installed_tritons():
        try:
            program = resolve_triton(version).program(name)
        except ToolchainMissing:
            continue
        if program.is_file():
            found.append(program)
    return found

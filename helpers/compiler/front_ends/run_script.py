"""One compile by another language's front end: a script, run in a process and a folder of its own, within a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.compiler.front_ends.extras import Installed
from helpers.compiler.run_ptxas import MAX_LOG_CHARS
from helpers.processes import end_with_parent, wait_for_end

__all__ = ["Compiled", "run_script"]


@dataclass(frozen=True)
class Compiled:
    """How a front end's compile ended: the largest cubin that it left and the PTX of the same name, its log, its time.

    `exit_code` is None for a compile that was stopped at its time limit.
    """

    exit_code: int | None
    log: str
    wall_s: float
    cubin: Path | None = None
    ptx: Path | None = None

    @property
    def complaint(self) -> str:
        """The last line of what a compile without a binary said; empty where there is a binary."""
        if self.cubin is not None:
            return ""
        if self.exit_code is None:
            return f"stopped after {self.wall_s:.0f} s"
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        return lines[-1] if lines else f"ended with exit code {self.exit_code}, without a word"


def run_script(
    script: Path,
    words: Sequence[str],
    installed: Installed,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> Compiled:
    """Run `script` with `words` in `folder`, where it leaves `*.cubin` and perhaps `*.ptx`; never through a shell.

    Its PYTHONPATH holds the front end and nothing else. What goes wrong is in the result.
    """
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    surroundings |= {"PYTHONPATH": os.pathsep.join(map(str, installed.path)), **(environment or {})}
    started = time.perf_counter()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script.resolve()), *words], cwd=folder, env=surroundings, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True, preexec_fn=end_with_parent(),
        )  # fmt: skip
        try:
            exit_code: int | None = wait_for_end(process, timeout_s)
        except subprocess.TimeoutExpired:
            exit_code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    wall_s = time.perf_counter() - started
    with open(folder / "log", "rb") as log:
        said = log.read(MAX_LOG_CHARS).decode(errors="replace")
    # A host function can bring small kernels of its own beside the one that was asked for.
    cubin = max(folder.rglob("*.cubin"), key=lambda path: path.stat().st_size, default=None) if exit_code == 0 else None
    ptx = cubin.with_suffix(".ptx") if cubin is not None else None
    return Compiled(exit_code, said, wall_s, cubin, ptx if ptx is not None and ptx.is_file() else None)

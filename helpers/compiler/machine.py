"""Whether a compile failed because of the machine: no space, no memory, no threads, a killed child, a missing tool.

Such a failure says nothing about the kernel. It is asked again once, and is never kept. What decides is how a program
ended, the number of an OSError, or a complaint of the compiler's own in its own place; never words that may be a
kernel's.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from helpers.errors import OUT_OF_ROOM, MachineError

WHAT_TO_DO = "make room (disk, memory, processes) and run the same command again; what was done is kept"
# Fewer free bytes than this where scratch files go: a tool that made nothing, without a word, had no room for it.
LEAST_FREE_BYTES = 1 << 20
# What ends a process for the machine's sake: the killer of the memory, a limit of file sizes, a limit of time.
_SIGNALS = frozenset({-signal.SIGKILL, -signal.SIGXFSZ, -signal.SIGXCPU})
# How a program that cannot be loaded ends: the dynamic loader speaks, nothing of the program has run.
_NOT_LOADED = 127
_LOADER = re.compile(r"^\S+: error while loading shared libraries: ", re.MULTILINE)
# Whole complaints of ptxas's that are about memory and files: its input and output are ours.
_OF_PTXAS = re.compile(
    r"Memory allocation failure|std::bad_alloc|(?:Input|Output) file '[^']*' could not be opened"
    r"|Could not open (?:input|output) file '[^']*'"
)
# Last words of LLVM and of the C++ runtime before they abort: whole lines.
_BEFORE_ABORT = re.compile(
    r"^(?:LLVM ERROR: (?:out of memory|IO failure on output stream: .*)"
    r"|terminate called after throwing an instance of 'std::(?:bad_alloc|system_error)')",
    re.MULTILINE | re.IGNORECASE,
)
# Words of a Python that does not get as far as a kernel: nobody else's can be among them.
_AT_START = re.compile(
    r"^(?:\w+\.)*(?:MemoryError|BlockingIOError)\b|failed to map segment from shared object|cannot allocate memory"
    rf"|can't start new thread|std::bad_alloc|\[Errno (?:{'|'.join(map(str, sorted(OUT_OF_ROOM)))})\]",
    re.MULTILINE,
)
# Exceptions without a number: (type, how the message begins).
_IN_WORDS = (("RuntimeError", "can't start new thread"), ("RuntimeError", "Cannot find ptxas"))


def no_room(place: Path | None = None) -> bool:
    """Whether a folder (by default, the one for scratch files) is full."""
    try:
        return shutil.disk_usage(place or tempfile.gettempdir()).free < LEAST_FREE_BYTES
    except OSError:
        return True


def ended(returncode: int | None, log: str = "") -> bool:
    """Whether a program ended in a way that no input brings about: a limit's signal, or it could not be loaded."""
    return returncode in _SIGNALS or (returncode == _NOT_LOADED and bool(_LOADER.search(log)))


def of_ptxas(complaints: Iterable[str]) -> bool:
    """Whether one of ptxas's complaints, each whole, is about memory or the files that it was given."""
    return any(_OF_PTXAS.fullmatch(complaint.strip()) for complaint in complaints)


def died(returncode: int | None, log: str) -> bool:
    """Whether a worker that ended, with this on its stderr, was ended by the machine."""
    return ended(returncode, log) or (returncode == -signal.SIGABRT and bool(_BEFORE_ABORT.search(log)))


def died_at_start(returncode: int | None, log: str) -> bool:
    """As `died`, of a worker that had not been asked anything."""
    return died(returncode, log) or bool(_AT_START.search(log))


def raised(chain: Iterable[Mapping]) -> bool:
    """Whether a worker's exception, or one that it came from, is the machine's (see `worker.chain_of`).

    What the kernel's own code raised in so many words is the kernel's, whatever it says.
    """
    return any(_is_of_machine(link) for link in chain if not link.get("by_kernel"))


def _is_of_machine(link: Mapping) -> bool:
    if link.get("memory") or link.get("errno") in OUT_OF_ROOM or link.get("returncode") in _SIGNALS:
        return True
    return any(link.get("type") == kind and str(link.get("words", "")).startswith(w) for kind, w in _IN_WORDS)


def from_machine(exc: BaseException | None) -> bool:
    """Whether an exception of this process, or one that it was raised from, came from the machine."""
    while exc is not None:
        if isinstance(exc, MemoryError | subprocess.TimeoutExpired | MachineError) or getattr(exc, "of_machine", False):
            return True
        if isinstance(exc, OSError) and exc.errno in OUT_OF_ROOM:
            return True
        # A program that was asked for its version.
        said = getattr(exc, "stderr", None) or b""
        if ended(getattr(exc, "returncode", None), said.decode(errors="replace") if isinstance(said, bytes) else said):
            return True
        if isinstance(exc, RuntimeError) and str(exc) == _IN_WORDS[0][1]:
            return True
        exc = exc.__cause__
    return False


def ended_for_memory() -> int | None:
    """How many processes Linux has ended for want of memory since it started; None where it does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def killed_sentence(signal_name: str, times: str = "") -> str:
    """What to tell of a process with the user's own code in it that got a signal which any process may have sent."""
    return (
        f"the process that loads the kernel was ended by {signal_name}{times}. Either the machine did that, which says "
        "nothing of the kernel (a guard of the memory, a limit), or the kernel's file, or what it imports, sends the "
        f"signal itself. In the first case, {WHAT_TO_DO}; in the second, the same will come again"
    )


def sentence(words: str) -> str:
    """What to tell: that the machine failed, its words, and what to do."""
    return f"the machine failed, this says nothing of the kernel: {words.strip()[:600]}; {WHAT_TO_DO}"

"""Whether a compile failed because of the machine: no space, no memory, no threads, a killed child, a missing tool.

Such a failure says nothing about the kernel. It is asked again once, and is never kept.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile

from helpers.errors import OUT_OF_ROOM

WHAT_TO_DO = "make room (disk, memory, processes) and run the same command again; what was done is kept"
# Fewer free bytes than this where scratch files go: a tool that made nothing, without a word, had no room for it.
LEAST_FREE_BYTES = 1 << 20
_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Cannot allocate memory|Memory allocation failure"
    r"|std::bad_alloc|\bMemoryError\b|Resource temporarily unavailable|can't start new thread|Too many open files"
    r"|Cannot find ptxas"
)
# What a full disk once left in the cache: ptxas that ended with exit code 0 and made nothing.
_SILENT = "ptxas ended with exit code 0 and made no kernel, without a word"


def tells_of_machine(words: str) -> bool:
    """Whether an error message is about the machine and not about the kernel."""
    return bool(_WORDS.search(words))


def kept_by_mistake(meta: dict) -> bool:
    """Whether an entry of the cache holds a failure of the machine, as versions before this status kept them."""
    words = str(meta.get("error") or meta.get("message") or "")
    return tells_of_machine(words) or words == _SILENT


def no_room() -> bool:
    """Whether the folder for scratch files is full."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free < LEAST_FREE_BYTES
    except OSError:
        return True


def from_machine(exc: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised from, came from the machine."""
    while exc is not None:
        if isinstance(exc, MemoryError | subprocess.TimeoutExpired):
            return True
        if isinstance(exc, OSError) and exc.errno in OUT_OF_ROOM:
            return True
        # A subprocess or a worker that the kernel's out-of-memory killer, or somebody, ended.
        if getattr(exc, "returncode", None) == -9:
            return True
        if isinstance(exc, RuntimeError) and tells_of_machine(str(exc)):
            return True
        exc = exc.__cause__
    return False


def sentence(words: str) -> str:
    """What to tell: that the machine failed, its words, and what to do."""
    return f"the machine failed, this says nothing of the kernel: {words.strip()[:600]}; {WHAT_TO_DO}"

"""Names as their authors wrote them: C++ names demangled in a process of its own, within a time and a memory.

A mangled name of two hundred characters can stand for gigabytes, and names come out of strangers' files.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from helpers.processes import end_with_parent

__all__ = ["demangled"]

MAX_NAME, MAX_ANSWER = 20_000, 100_000
# After so many names that could not be done, the others stay as they are.
_MOST_FAILURES = 8
_TIMEOUT_S = 120.0
# A name that takes longer than its alarm ends the process; whoever started it goes on with the next one.
_CHILD = f"""
import resource, signal, sys
import cxxfilt
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
for line in sys.stdin.buffer:
    name = line.rstrip(b"\\n").decode()
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        answer = cxxfilt.demangle(name, external_only=False)
    except Exception:
        answer = name
    signal.setitimer(signal.ITIMER_REAL, 0)
    if len(answer) > {MAX_ANSWER} or "\\n" in answer:
        answer = name
    sys.stdout.buffer.write(answer.encode(errors="replace") + b"\\n")
    sys.stdout.buffer.flush()
"""


def demangled(names: Iterable[str]) -> dict[str, str]:
    """Each name by its mangled one; a name that is not mangled, or that cannot be done in a second, stays as it is."""
    found = {name: name for name in names}
    left = [n for n in found if n.startswith("_Z") and len(n) <= MAX_NAME and n.isascii() and n.isprintable()]
    for _ in range(_MOST_FAILURES):
        if not left:
            break
        answers = _answers(left)
        found.update(zip(left, answers, strict=False))
        left = left[len(answers) + 1 :]  # the one without an answer ended the process
    return found


def _answers(names: list[str]) -> list[str]:
    """The first names, demangled: all of them, or those before one that ended the process."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD], input="".join(f"{n}\n" for n in names).encode(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False,
            preexec_fn=end_with_parent(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.decode(errors="replace").split("\n")
    return lines[:-1]  # a line that was cut short has no end

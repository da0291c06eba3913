"""Whether two compiles fail in the same way: the one idea of it that bisect, ablate and every other search share.

A release that fails differently has not mended the first failure's cause, nor does it share it: it says nothing of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers.compiler.report import CompileReport

_ERROR = re.compile(r"(?:^|\s)(?:error|fatal error|LLVM ERROR) *: *([^\n]+)", re.IGNORECASE)
_PASS = re.compile(r"\b(?:Pipeline failed while executing|failed in pass|pass) [`'\[]*([A-Za-z][\w-]*)", re.ASCII)
# What differs between two runs of one failure: numbers, addresses, places in files.
_VARYING = re.compile(r"0x[0-9a-fA-F]+|\b[0-9]+\b|(?:/|[A-Za-z]:\\)[^\s:\"']+|%[\w#]+")
MAX_WORDS = 160


@dataclass(frozen=True)
class FailureKey:
    """What two failures share when they are the same: status, ptxas's code and, in the front end, pass or error."""

    status: str
    code: str = ""
    words: str = ""

    def sentence(self) -> str:
        """`C7600` or `frontend error: …`, for people."""
        return ": ".join(part for part in (self.code or self.status.replace("_", " "), self.words) if part)


def failure_key(report: CompileReport) -> FailureKey | None:
    """The key of a report's failure; None for one that compiled."""
    if report.compiled:
        return None
    words = front_end_words(report.message) if report.status == "frontend_error" else ""
    return FailureKey(report.status, report.ptxas_code or "", words)


def same_failure(one: CompileReport, other: CompileReport) -> bool:
    """Whether both failed, and in the same way."""
    key = failure_key(one)
    return key is not None and key == failure_key(other)


def front_end_words(message: str) -> str:
    """The pass that failed, else the compiler's own error, else the last line of a front end's message.

    Numbers, addresses, value names and paths are taken out: two releases give them differently for one failure.
    """
    if found := _PASS.search(message):
        return found.group(1)
    error = _ERROR.search(message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    words = error.group(1) if error else lines[-1] if lines else ""
    return " ".join(_VARYING.sub("…", words).split())[:MAX_WORDS]

"""What a failure kind is made of: how it is worded, what was found in a log, and what is answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from helpers.inspection.crash.crash_log import CrashLog

__all__ = ["CERTAIN", "LIKELY", "NONE", "Answer", "Failure", "Kind", "Recogniser", "Suggestion", "Wording", "wording"]

CERTAIN, LIKELY, NONE = "certain", "likely", "none"
MAX_MESSAGE = 600
# Ranks: a stated failure is explained before a failed build without a reason, and both before what is no failure.
STATED_FAILURE, BUILD, NO_FAILURE = 0, 1, 2
_NUMBERS = {
    "asked": "register_count_asked",
    "needed": "register_count_needed",
    "required": "required",
    "limit": "limit",
    "ptx_line": "ptx_line",
}


@dataclass(frozen=True)
class Suggestion:
    """One edit, why it helps (or does not), and the evidence: measured here (with its file), reported, arithmetic."""

    edit: str
    why: str
    evidence: str

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Failure:
    """One distinct failure of the log: its kind, the words of who refused, and the numbers in them.

    `required` and `limit` are of a resource (bytes of shared memory, columns of tensor memory, threads); register
    counts are ptxas's, per thread; `signal` a signal's name or number, `ptx_line` a line of the PTX. `details` holds
    the other named parts of the message (a feature, a threshold, a pass, a source line). `at` is the line of the log,
    from 0, and `place` its position in the text made one line; `seen` is how often the log repeats it.
    """

    kind: str
    message: str
    code: str | None = None
    register_count_asked: int | None = None
    register_count_needed: int | None = None
    required: int | None = None
    limit: int | None = None
    resource: str | None = None
    signal: str | None = None
    ptx_line: int | None = None
    ptx_path: str | None = None
    command: str | None = None
    seen: int = 1
    at: int = 0
    place: int = -1
    details: Mapping[str, str] = field(default_factory=dict)

    def detail(self, name: str) -> str | None:
        """A named part of the message, or None."""
        return self.details.get(name) or None


@dataclass(frozen=True)
class Answer:
    """What is said about a failure: sentences from the log to the kind, what helps and what cannot, to whom, what next.

    `go_on` is what to do next with this project, () for nothing. `title` replaces the kind's where it can say more.
    """

    because: tuple[str, ...] = ()
    helps: tuple[Suggestion, ...] = ()
    in_vain: tuple[Suggestion, ...] = ()
    report_to: str = ""
    report_why: str = ""
    attach: tuple[str, ...] = ()
    go_on: tuple[str, ...] = ()
    title: str = ""
    confidence: str = CERTAIN
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of failure: its name (a key), its title, what is answered, and its rank among others in one log."""

    name: str
    title: str
    explain: Callable[[CrashLog, Failure], Answer]
    rank: int = STATED_FAILURE
    # The name under which a `Diagnosis` has it, where several entries are one kind to the reader.
    public: str = ""


@dataclass(frozen=True)
class Wording:
    """One way in which a tool words a failure of `kind`.

    Named groups of `pattern` become fields of the failure (asked, needed, required, limit, ptx_line, signal, resource)
    or its details. `hexadecimal` says that the numbers are written in base 16.
    """

    kind: str
    pattern: re.Pattern[str]
    hint: str = ""

    def failure(self, m: re.Match[str], at: int = 0) -> Failure:
        """The failure that a match tells of."""
        parts = {name: value.strip() for name, value in m.groupdict().items() if value is not None}
        fields: dict[str, Any] = {_NUMBERS[name]: int(value, 0) for name, value in parts.items() if name in _NUMBERS}
        fields |= {name: parts[name] for name in ("signal", "resource") if name in parts}
        details = {name: value for name, value in parts.items() if name not in _NUMBERS and name not in fields}
        return Failure(self.kind, m[0].strip()[:MAX_MESSAGE], at=at, details=details, **fields)


# Looks at a whole log, and at the failures found before it, for what no single line states.
Recogniser = Callable[[CrashLog, Iterable[Failure]], Iterable[Failure]]


def wording(kind: str, pattern: str, hint: str = "") -> Wording:
    """A `Wording` of `kind`; `hint` is a word that every match contains, which makes the search fast."""
    return Wording(kind, re.compile(pattern), hint)

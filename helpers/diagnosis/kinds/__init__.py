"""The kinds of failure, one small module a family: how each is worded, and what is said about it.

A module has `KINDS` (names, titles, answers), `WORDINGS` (patterns over the text made one line), `PTXAS_WORDINGS` (over
one complaint of ptxas) and, where no single line states it, `recognise` (over the log and what was found before).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from helpers.diagnosis.failure import NO_FAILURE, STATED_FAILURE, Failure, Kind, Wording
from helpers.diagnosis.kinds import (
    advice,
    autotuner,
    builds,
    chip_lacks,
    known_ptxas_faults,
    launch,
    memory,
    mlir,
    other_compilers,
    ptxas_died,
    registers,
    slow,
    toolchain,
)
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.pasted_text import near
from helpers.inspection.crash.ptxas_runs import Complaint, PtxasRun

__all__ = ["CATALOGUE", "KINDS", "Found", "find_failures"]

# The order in which the wordings of one complaint are tried.
FAMILIES = (
    registers,
    memory,
    chip_lacks,
    toolchain,
    ptxas_died,
    launch,
    mlir,
    other_compilers,
    known_ptxas_faults,
    slow,
    advice,
    builds,
    autotuner,
)
CATALOGUE: dict[str, Kind] = {kind.name: kind for family in FAMILIES for kind in family.KINDS}
KINDS: tuple[str, ...] = (*dict.fromkeys(kind.public or kind.name for kind in CATALOGUE.values()), "unknown")
MAX_FAILURES = 200
MAX_EACH = 2_000
MAX_FEATURES = 200
MAX_BESIDE = 60
_PTXAS_WORDINGS = tuple(w for family in FAMILIES for w in family.PTXAS_WORDINGS)
_WORDINGS = tuple(w for family in FAMILIES for w in family.WORDINGS)
# Words of ptxas that a caller quotes without its name.
_QUOTED = tuple(w for w in _PTXAS_WORDINGS if w.hint)
# Words of a caller on ptxas's own line.
_RUN_ON = re.compile(
    r"\.? (?=Skipping\b|Ignoring this|\[rank[0-9]+\]|Traceback \(|Set TORCH_LOGS|Repro command|Stack dump|Aborted\b)"
)
# How ptxas goes on behind the part of its sentence by which a kind is known.
_SENTENCE = re.compile(
    r"(?:[.,;]? ?(?:Compile the program with a higher register \w{1,6}|Try to ?compile with register target of [0-9]+|"
    r"or (?:higher|later)|in function '[^'\n]{0,2000}'|for instruction '[^'\n]{0,200}'|[0-9]+ bytes spill \w+))*\.?"
)
_RAISED = re.compile(r"\b\w{1,60}(?:Error|Exception): |CUDA error: ")
_COUNTED = ("register_exhaustion", "register_cap_too_low")
# A failure whose words say less than those of another in the same log, and that mean the same one.
_FOLLOWS_FROM = {"frontend_error": {"amd_compiler", "feature_not_on_target", "slow_compile"}, "launch_resources": set(),
                 "slow_compile": {"candidate_dropped"}}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """The failures of a log, the one to explain first; `count` counts all, also beyond the `MAX_FAILURES` kept."""

    failures: tuple[Failure, ...] = ()
    count: int = 0

    @property
    def first(self) -> Failure | None:
        """The failure to explain, or None."""
        return self.failures[0] if self.failures else None


def find_failures(log: CrashLog) -> Found:
    """What failed in a log, or what it states instead of a failure; nothing where it states nothing known."""
    current = [run for run in log.runs if not _is_over(log, run)]
    stated = [f for run in current if (f := _of_run(run)) is not None]
    stated += _of_text(log, _WORDINGS)
    if len(current) == len(log.runs) and not any(f.kind != "ptxas_error" for f in stated):
        stated += _of_text(log, _QUOTED)
    stated = _with_counts(stated)
    deaths = [*ptxas_died.recognise(log, stated)]
    stated = [f for f in stated if f.kind != "died"] + deaths
    for family in (other_compilers, mlir, known_ptxas_faults):
        stated += family.recognise(log, stated)
    stated = autotuner.dropped(log, sorted(stated, key=lambda f: f.at))
    others = [*slow.recognise(log, stated), *advice.recognise(log, stated)]
    if all(
        CATALOGUE[f.kind].rank > STATED_FAILURE for f in (*stated, *(o for o in others if o.kind != "slow_compile"))
    ):
        others += builds.recognise(log, stated)
    distinct = _Distinct()
    for failure in (*stated, *others):
        distinct.add(failure)
    return Found(tuple(_in_order(distinct.failures)), distinct.total)


def _with_counts(stated: list[Failure]) -> list[Failure]:
    """Without the failures whose count is cut off, where another of the kind has it: output of ranks runs together."""
    counted = {f.kind for f in stated if f.register_count_asked is not None}
    return [f for f in stated if f.register_count_asked is not None or f.kind not in counted or f.kind not in _COUNTED]


def _in_order(failures: list[Failure]) -> list[Failure]:
    kinds = {f.kind for f in failures}
    kept = [f for f in failures if not (_FOLLOWS_FROM.get(f.kind, set()) & kinds)]
    if any(CATALOGUE[f.kind].rank < NO_FAILURE for f in kept):
        kept = [f for f in kept if CATALOGUE[f.kind].rank < NO_FAILURE]
    order = {name: i for i, name in enumerate(CATALOGUE)}
    return sorted(kept, key=lambda f: (CATALOGUE[f.kind].rank, f.at, f.place, order[f.kind]))


# --- one complaint, one run -------------------------------------------------------------------------------


def _is_over(log: CrashLog, run: PtxasRun) -> bool:
    """Whether the text around a complaint calls it solved, and another failure follows."""
    if not run.complaints or not all(c.solved for c in run.complaints):
        return False
    another = any(not c.solved for r in log.runs for c in r.complaints)
    return another or any(_RAISED.search(line[:2_000]) for line in log.bare[run.at :])


def _of_run(run: PtxasRun) -> Failure | None:
    """The failure a run of ptxas tells of: the first of its complaints that is known, else its first complaint."""
    if not run.complaints:
        return None
    told = [c for c in run.complaints if not c.solved] or run.complaints
    known = ((c, f) for c in told if (f := _of_complaint(c)) is not None)
    complaint, failure = next(known, (told[0], None))
    if failure is None:
        said = (complaint.text or complaint.joined)[:600]
        failure = Failure("ptxas_error", said, ptx_line=complaint.ptx_line, at=complaint.at)
    elif failure.kind in _COUNTED and failure.register_count_asked is None:
        # Output of several ranks runs together: one line is cut, another one has the count.
        failure = next((f for _, f in known if f.kind == failure.kind and f.register_count_asked is not None), failure)
    if failure.kind == "feature_not_on_target":
        # Of the same file only: another one may be for another target.
        same = [c for c in run.complaints[:MAX_FEATURES] if c.ptx_path == complaint.ptx_path]
        others = [f for c in same if (f := _of_complaint(c)) and f.kind == failure.kind]
        failure = chip_lacks.together(failure, others)
    line = failure.ptx_line if failure.ptx_line is not None else run.complaints[0].ptx_line
    return replace(failure, ptx_line=line, ptx_path=run.ptx_path, command=run.command)


def _of_complaint(complaint: Complaint) -> Failure | None:
    texts = tuple(dict.fromkeys((complaint.text, complaint.joined, complaint.glued)))
    for words in _PTXAS_WORDINGS:
        for text in texts:
            if m := words.pattern.search(text[:2_500]):
                failure = words.failure(m, complaint.at)
                whole = _own_words(text, m.end()) if text == complaint.text else m[0]
                return replace(
                    failure,
                    message=(f"line {complaint.ptx_line}: " if complaint.ptx_line else "") + whole.strip()[:600],
                    code=_code(text),
                    ptx_line=complaint.ptx_line if complaint.ptx_line is not None else failure.ptx_line,
                )
    return None


def _own_words(text: str, end: int) -> str:
    """A line of ptxas to where its known sentence ends: what follows can be somebody's prose, or a caller's."""
    return _RUN_ON.split(text[: _SENTENCE.match(text, end).end()])[0]  # type: ignore[union-attr]


def _code(text: str) -> str | None:
    start = text.find("(C")
    end = text.find(")", start)
    code = text[start + 1 : end] if 0 <= start < end else ""
    return code if code[1:].isdigit() and len(code) == 5 else None


def _of_text(log: CrashLog, wordings: tuple[Wording, ...]) -> list[Failure]:
    found = []
    for words in wordings:
        before = 0 if words.pattern.pattern.startswith(words.hint) else 600
        for count, m in enumerate(near(words.pattern, log.flat.text, words.hint, before=before)):
            failure = replace(words.failure(m, log.flat.line_of(m.start())), place=m.start())
            resource = {"shared_memory": "shared memory", "tensor_memory": "tensor memory", "threads": "threads"}.get(
                words.kind
            )
            found.append(replace(failure, resource=resource, code=_code(m.string[max(0, m.start() - 12) : m.end()])))
            if count >= MAX_EACH:
                break
    return _once_each(found)


def _once_each(found: list[Failure]) -> list[Failure]:
    """Of failures of one kind without numbers that stand side by side (an error's name and its text), the first."""
    kept: list[Failure] = []
    last: dict[str, int] = {}
    for failure in sorted(found, key=lambda f: f.place):
        beside = failure.place - last.get(failure.kind, -MAX_BESIDE) < MAX_BESIDE
        if not (beside and failure.kind == "launch_resources"):
            kept.append(failure)
            last[failure.kind] = failure.place + len(failure.message)
    return kept


# --- repetitions ------------------------------------------------------------------------------------------


class _Distinct:
    """Failures in order of appearance, repetitions counted: Triton prints one to stdout and raises it as well."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.total = 0
        self._places: dict[tuple, int] = {}

    def add(self, failure: Failure) -> None:
        what = (failure.kind, failure.code, failure.register_count_asked, failure.required, failure.limit,
                failure.resource, failure.signal)  # fmt: skip
        # A PTX's temporary name tells compiles apart; without one the words have to.
        words = failure.kind if failure.kind == "launch_resources" else failure.message
        keys = [(*what, word) for word in (failure.ptx_path, words) if word]
        if failure.ptx_path and keys[0] not in self._places:
            # Another compile, unless the one that said the same had no name yet.
            place = self._places.get(keys[-1])
            same = place is not None and self.failures[place].ptx_path is None
        else:
            place = next((self._places[key] for key in keys if key in self._places), None)
            same = place is not None
        if not same or place is None:
            self.total += 1
            if len(self.failures) >= MAX_FAILURES:
                return
            place = len(self.failures)
            self.failures.append(failure)
        else:
            old = self.failures[place]
            self.failures[place] = replace(
                old,
                seen=old.seen + 1,
                ptx_path=old.ptx_path or failure.ptx_path,
                command=old.command or failure.command,
            )
        for key in keys:
            self._places.setdefault(key, place)

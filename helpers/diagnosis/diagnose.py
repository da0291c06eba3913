"""`diagnose`: what kind of failure a pasted log shows, what is known to help, what to attach and where to report it.

Unknown is an answer; guessing is not. Nothing in the text is run, opened or trusted.
"""

from __future__ import annotations

from helpers.diagnosis.diagnosis import Diagnosis, facts_of, producer_of
from helpers.diagnosis.failure import NO_FAILURE, NONE, Answer, Failure, Suggestion
from helpers.diagnosis.incidents import SAME, Match, match_incidents
from helpers.diagnosis.kinds import CATALOGUE, Found, find_failures
from helpers.diagnosis.kinds.autotuner import goes_on
from helpers.diagnosis.remedies import ABOUT_MEASURED, MEASURED_ON
from helpers.diagnosis.unknown import last_words, named_reason, why_unknown
from helpers.diagnosis.words import NOBODY
from helpers.errors import UserError
from helpers.inspection.crash.crash_log import CrashLog, parse_crash_log

# Kinds in which a compiler of kernels need not have been at work at all.
_OPEN = ("unknown", "slow_compile")


def diagnose(text: str) -> Diagnosis:
    """The `Diagnosis` of a pasted log: a traceback, ptxas's stderr, Triton's printed PTX, a piece of a CI log.

    Any text gets an answer, `unknown` where nothing in it is known. Raises UserError for what is not text.
    """
    if not isinstance(text, str):
        raise UserError(
            f"diagnose takes the text of a log, not {type(text).__name__}; read the file first, or use "
            "register-cliff diagnose FILE"
        )
    log = parse_crash_log(text)
    found = find_failures(log)
    if found.first is None:
        return _unknown(log, found)
    if (ended := _ended_otherwise(log, found.first)) is not None:
        return ended
    return _known(log, found, found.first)


def _known(log: CrashLog, found: Found, first: Failure) -> Diagnosis:
    kind = CATALOGUE[first.kind]
    answer = kind.explain(log, first)
    public = kind.public or kind.name
    matches = match_incidents(log, first) if kind.rank < NO_FAILURE else ()
    to, why = _to_whom(answer, matches)
    return Diagnosis(
        kind=public,
        title=answer.title or kind.title,
        because=answer.because,
        confidence=answer.confidence,
        log=log,
        suggestions=(*_from_incidents(matches), *answer.helps),
        in_vain=answer.in_vain,
        incidents=matches,
        report_to=to,
        report_why=why,
        attach=_attach(log, answer) if kind.rank < NO_FAILURE else answer.attach,
        notes=tuple(_notes(log, found, answer)),
        failures=found.failures,
        failure_count=found.count,
        failed=None if public in _OPEN else kind.rank < NO_FAILURE,
        producer=producer_of(log, first),
        facts=facts_of(log, first),
        go_on=answer.go_on,
    )


def _from_incidents(matches: tuple[Match, ...]) -> tuple[Suggestion, ...]:
    return tuple(
        Suggestion(m.incident.remedy, f"this is {m.incident.name}", m.incident.remedy_evidence)
        for m in matches
        if m.degree == SAME
    )


def _to_whom(answer: Answer, matches: tuple[Match, ...]) -> tuple[str, str]:
    same = next((m for m in matches if m.degree == SAME), None)
    if same is None:
        return answer.report_to, answer.report_why
    return (
        NOBODY,
        f"this failure is known as {same.incident.name}, {same.incident.link}; write there if the remedy fails",
    )


def _attach(log: CrashLog, answer: Answer) -> tuple[str, ...]:
    wanted = ["this log, whole, as text", *answer.attach]
    if log.speaks("Triton") and log.triton.stated is None:
        wanted.append("`pip list | grep -iE 'triton|torch'`" + (
            f" (the log leaves open: {' or '.join(log.triton.candidates)})" if len(log.triton.candidates) > 1 else ""
        ))  # fmt: skip
    return tuple(dict.fromkeys(wanted))


def _notes(log: CrashLog, found: Found, answer: Answer) -> list[str]:
    notes = [*log.notes, *answer.notes]
    others = [f for f in found.failures[1:] if f.kind != found.failures[0].kind]
    if len(found.failures) > 1 and CATALOGUE[found.failures[0].kind].rank < NO_FAILURE:
        notes.append(_of_several(found, others))
    if any(MEASURED_ON in s.evidence for s in answer.helps):
        notes.append(ABOUT_MEASURED)
    return [*notes, *log.triton.contradictions]


def _of_several(found: Found, others: list[Failure]) -> str:
    """What is said of more than one failure in a log; one message about several files is one failure."""
    if len({(f.kind, f.code, f.register_count_asked, f.required, f.message) for f in found.failures}) == 1:
        return f"the same failure is in this log {found.count} times, each time of another compile"
    kinds = ", ".join(dict.fromkeys(CATALOGUE[f.kind].public or f.kind for f in others))
    return f"{found.count} different failures are in this log; this is about the first" + (
        f" (the others: {kinds.replace('_', ' ')})" if kinds else ""
    )


def _ended_otherwise(log: CrashLog, first: Failure) -> Diagnosis | None:
    """The answer for a log in which nothing known failed, and which ends in a failure of something else."""
    if CATALOGUE[first.kind].rank < NO_FAILURE:
        return None
    # What an autotuner dropped may be raised and caught before it says so; anything else stands anywhere.
    after = int(first.detail("last") or -1)
    what = CATALOGUE[first.kind].title.removeprefix("no failure: ")
    remark = f"apart from that, the log says: {first.message} ({what}, which is no failure)"
    ended = last_words(log, after)
    if first.kind == "candidate_dropped" and (ended is None or goes_on(log, ended[0])):
        return None
    if ended is not None and (first.kind == "candidate_dropped" or named_reason(log, ended[0] - 1) is not None):
        return _unknown(log, Found(), max(after, ended[0] - 1), remark)
    # Advice does not tell that the program ended well: a known reason can stand on a line of any form.
    if named_reason(log, after) is not None:
        return _unknown(log, Found(), after, remark)
    return None if ended is None else _unknown(log, Found(), max(after, ended[0] - 1), remark)


# --- nothing known ----------------------------------------------------------------------------------------


def _unknown(log: CrashLog, found: Found, after: int = -1, remark: str = "") -> Diagnosis:
    """Nothing known failed; `remark` is what the log tells beside, and `after` the line behind which it ended."""
    why, named = why_unknown(log, after)
    wanted = "the whole output from `Traceback` or the compiler's first complaint on, to its end"
    attach = (wanted,) if log.chars and not named else ()
    return Diagnosis(
        "unknown",
        "unknown",
        (why, *([remark] if remark else [])),
        NONE,
        log,
        attach=attach,
        notes=log.notes,
        failed=None,
        producer=producer_of(log, None),
        facts=facts_of(log, None),
    )


__all__ = ["diagnose"]

"""`diagnose`: what kind of failure a pasted log shows, what is known to help, what to attach and where to report it.

Unknown is an answer; guessing is not. Nothing in the text is run, opened or trusted.
"""

from __future__ import annotations

import re

from helpers.diagnosis.diagnosis import Diagnosis, facts_of, producer_of
from helpers.diagnosis.failure import NO_FAILURE, NONE, Answer, Failure, Suggestion
from helpers.diagnosis.incidents import SAME, Match, match_incidents
from helpers.diagnosis.kinds import CATALOGUE, Found, find_failures
from helpers.diagnosis.remedies import ABOUT_MEASURED, MEASURED_ON
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
    return NOBODY, f"it is known: {same.incident.name}, {same.incident.link}; say there if the remedy fails"


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
        kinds = ", ".join(dict.fromkeys(CATALOGUE[f.kind].public or f.kind for f in others))
        notes.append(
            f"{found.count} different failures are in this log; this is about the first"
            + (f" (the others: {kinds.replace('_', ' ')})" if kinds else "")
        )
    if any(MEASURED_ON in s.evidence for s in answer.helps):
        notes.append(ABOUT_MEASURED)
    return [*notes, *log.triton.contradictions]


# --- nothing known ----------------------------------------------------------------------------------------


def _unknown(log: CrashLog, found: Found) -> Diagnosis:
    attach = (
        ("the whole output from `Traceback` or the compiler's first complaint on, to its end",) if log.chars else ()
    )
    return Diagnosis(
        "unknown",
        "unknown",
        (_why_unknown(log),),
        NONE,
        log,
        attach=attach,
        notes=log.notes,
        failed=None,
        producer=producer_of(log, None),
        facts=facts_of(log, None),
    )


# What is no compiler's failure and often taken for one: (words, what they say).
_AT_RUN_TIME = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation",
         "the GPU's main memory is full; smaller batches or less kept on the GPU help"),
        (r"illegal memory access|misaligned address|Invalid __(?:global|shared|local)__ (?:read|write)",
         "a kernel read or wrote outside its memory; compute-sanitizer says which one and where"),
        (r"device-side assert", "an assertion in a kernel failed, mostly an index out of range; it says nothing "
                                "about compiling"),
        (r"no kernel image is available|CUDA_ERROR_NO_BINARY_FOR_GPU|named symbol not found",
         "the program has no machine code for this GPU: it was built for other chips, and a build for this one (or "
         "with PTX) helps"),
        (
            r"kernel image is invalid|CUDA_ERROR_INVALID_IMAGE",
            "the driver cannot load the binary: it was made for another chip or is damaged",
        ),
        (
            r"CUDA_ERROR_INVALID_PTX|a PTX JIT compilation failed",
            "the compiler inside the driver refused the PTX; what it said (its error log) is not in the log",
        ),
        (r"unspecified launch failure", "a kernel broke off while it ran; compute-sanitizer says where"),
        (r"NCCL|ProcessGroup", "processes waited for each other until a time limit"),
        (r"Cannot find ptxas", "no ptxas was found where the caller looks (PATH, CUDA_HOME, TRITON_PTXAS_PATH)"),
        (r"cannot be accessed from Triton \(cpu tensor\?\)", "a tensor on the CPU was handed to a kernel for the GPU"),
        (r"ptxas too old", "the ptxas found is older than its caller wants; it falls back to the driver's own "
                           "compiler"),
        (r"Killed signal terminated program|internal compiler error: Killed",
         "the compiler of the host code was killed; likely the machine ran out of memory, and fewer jobs at once help"),
    )
)  # fmt: skip


def _why_unknown(log: CrashLog) -> str:
    if log.blank:
        return "the text is empty"
    if "this is binary data, not text" in log.notes:
        return "this is not text"
    if log.value("ptxas_gave_up"):
        return "ptxas gave up on the PTX, but the line above, in which it says why, is not in the log"
    for pattern, words in _AT_RUN_TIME:
        if pattern.search(log.flat.text):
            return f"an error at run time or before any compile, not one of a compiler: {words}"
    if log.exception:
        return (
            f"a Python error ({log.exception}), but nothing in the log is a failure of a compiler of GPU kernels "
            f"that this "
            "project knows; an error at run time says nothing about compiling"
        )
    if log.ptx is not None:
        return "a PTX module without a word of what went wrong; register-cliff pressure reads it"
    names = [s.name for s in log.speakers]
    if log.frames or names:
        shown = f" ({', '.join(names[:4])})" if names else ""
        return (
            f"parts of a log{shown}, but not the part in which a compiler says what failed (it stands at the end, or "
            f"above the "
            "first line that a build prints about it)"
        )
    return "no compiler of GPU kernels (ptxas, nvcc, Triton, LLVM) and no Python traceback speaks in it"


__all__ = ["diagnose"]

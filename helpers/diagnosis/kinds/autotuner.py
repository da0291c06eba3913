"""An autotuner that dropped a configuration and went on: no failure, whatever the configuration died of."""

from __future__ import annotations

import bisect
import re
from dataclasses import replace

from helpers.diagnosis.failure import NO_FAILURE, Answer, Failure, Kind, Suggestion
from helpers.inspection.crash.crash_log import CrashLog

PTXAS_WORDINGS = ()
WORDINGS = ()
# Words of autotuners that leave a configuration out: in front of what it failed of, and behind it.
_HEAD = re.compile(
    r"[Ss]kipping (?:this )?(?:failing )?(?:config|choice|candidate)|Autotuning failed with|[Ff]ailure occur{1,2}ed "
    r"when "
    r"compiling fusion|"
    r"Runtime error during autotuning|config(?:uration)? [^\n]{1,400} failed|while (?:auto)?tuning|benchmarking "
    r"(?:of )?[^\n]{0,200}failed|for benchmark choice"
)
_TAIL = re.compile(
    r"Ignoring this choice|(?:config|choice|candidate)s? (?:is |was |were )?(?:skipped|dropped|ignored|discarded)|, "
    r"(?:skipped|ignored)\b|"
    r"^ignored\b|\. Skipping\.|[Ss]kipping (?:it|this)|moving on|trying the next"
)
_TRYING = re.compile(r"Autotuning kernel \S{1,200} with config")
# One of these is in each of the patterns above.
_WORDS = (
    "kip",
    "gnor",
    "Autotuning failed",
    "ailure occur",
    "autotuning",
    "tuning",
    "config",
    "benchmarking",
    "benchmark choice",
    "dropped",
    "discarded",
    "moving on",
    "trying the next",
)
# Words that say: it went on.
_WENT_ON = re.compile(
    r"AUTOTUNE \w{1,60}\(|best config|best of \d|best=Config|[Aa]utotuning complete|Completed tuning|finished after|"
    r"Ignoring this choice|"
    r"ignored, \d{1,6} left|"
    r"[Ss]kipping config|skipped|serving on|step \d{1,9} |Compiling \d{1,6} configs"
)
_REACH = 12
# Kinds of a candidate's own compile or launch; a build, or a compiler that dies, is none.
_OF_A_CANDIDATE = (
    "register_exhaustion",
    "register_cap_too_low",
    "shared_memory",
    "tensor_memory",
    "threads",
    "launch_resources",
    "ptxas_error",
    "illegal_instruction",
    "internal_error",
    "frontend_error",
    "feature_not_on_target",
)


def dropped(log: CrashLog, failures: list[Failure]) -> list[Failure]:
    """The failures, those of dropped candidates marked as `candidate_dropped`.

    A failure is a candidate's where an autotuner says so in its line, in front of it or behind it, with no traceback
    between the two: what is raised was not dropped.
    """
    if not failures or not any(word in log.flat.text for word in _WORDS):
        return failures
    # A terminal may have broken a line inside the autotuner's words.
    lines = [f"{a[:4_000]} {b[:80]}" for a, b in zip(log.bare, (*log.bare[1:], ""), strict=True)]
    heads = [i for i, line in enumerate(lines) if _HEAD.search(line)]
    tails = [i for i, line in enumerate(lines) if _TAIL.search(line)]
    failures = _tried_before_another(lines, failures)
    if (not heads and not tails) or not any(_WENT_ON.search(line) for line in lines):
        return failures
    last = _last_of_tuner(lines, heads, tails)
    return [
        _marked(f, last) if f.kind in _OF_A_CANDIDATE and _beside(lines, f.at, heads, tails) else f for f in failures
    ]


def _tried_before_another(lines: list[str], failures: list[Failure]) -> list[Failure]:
    """Triton's own tuner prints what it tries; a message without an exception's name, with a failure behind it,
    was caught, and the one behind it was not.
    """

    def caught(failure: Failure) -> bool:
        line = lines[failure.at] if failure.at < len(lines) else ""
        return (
            failure.kind in ("shared_memory", "tensor_memory", "threads")
            and line.startswith("out of resource")
            and any(_TRYING.search(before) for before in lines[max(0, failure.at - 3) : failure.at])
            and any(other.at > failure.at and other.kind != failure.kind for other in failures)
        )

    return [_marked(f, f.at) if caught(f) else f for f in failures]


def _last_of_tuner(lines: list[str], heads: list[int], tails: list[int]) -> int:
    """The last line that is about a dropped candidate; what a head begins ends where the tuner says how it goes on."""
    if tails and (not heads or tails[-1] >= heads[-1]):
        return tails[-1]
    return next((i for i in range(heads[-1] + 1, len(lines)) if _WENT_ON.search(lines[i])), len(lines))


def goes_on(log: CrashLog, at: int) -> bool:
    """Whether an autotuner or what called it goes on behind line `at`."""
    return any(_WENT_ON.search(line[:4_000]) for line in log.bare[at + 1 :])


def _marked(failure: Failure, last: int) -> Failure:
    return replace(
        failure, kind="candidate_dropped", details={**failure.details, "of": failure.kind, "last": str(last)}
    )


def _beside(lines: list[str], at: int, heads: list[int], tails: list[int]) -> bool:
    head = heads[bisect.bisect_right(heads, at) - 1] if heads and heads[0] <= at else None
    tail = tails[bisect.bisect_left(tails, at)] if tails and tails[-1] >= at else None
    return any(
        place is not None
        and abs(place - at) <= _REACH
        and not any("Traceback (most recent" in line for line in lines[min(place, at) : max(place, at)])
        for place in (head, tail)
    )


def _dropped(log: CrashLog, failure: Failure) -> Answer:
    of = failure.detail("of") or ""
    who = (
        "Inductor's autotuner" if log.speaks("Inductor") else "XLA's autotuner" if log.speaks("XLA") else "an autotuner"
    )
    because = [
        f"the log says: {failure.message}",
        f"that was one configuration: {who} left it out and went on; that is no failure",
    ]
    if failure.seen > 1:
        because.append(f"it dropped {failure.seen} that way")
    why = {"shared_memory": "it wants more shared memory than the chip has", "tensor_memory": "it wants more tensor "
                                                                                              "memory than there is",
           "register_exhaustion": "ptxas could not allocate its "
                                  "registers", "register_cap_too_low": "one of its instructions needs more "
           "registers than its warps leave"}.get(of)  # fmt: skip
    if why:
        because.append(f"that configuration cannot work on this chip: {why}")
    return Answer(
        tuple(because),
        (
            Suggestion(
                "nothing; or take the configuration out of the list, which saves its compile time",
                "an autotuner tries what may not fit, and keeps what does",
                "the log itself: it goes on",
            ),
        ),
        report_to="nobody",
        report_why="a candidate that does not fit is no failure",
    )


KINDS = (
    Kind("candidate_dropped", "no failure: an autotuner dropped one configuration and went on", _dropped, NO_FAILURE),
)

__all__ = ["KINDS", "PTXAS_WORDINGS", "WORDINGS", "dropped", "goes_on"]

"""An autotuner that dropped a configuration and went on: no failure of the program, whatever the configuration died of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from helpers.diagnosis.kinds.model import NO_FAILURE, Answer, Failure, Kind, Suggestion
from helpers.inspection.crash.crash_log import CrashLog

PTXAS_WORDINGS = ()
WORDINGS = ()
# Words of autotuners that say: this one is left out.
_DROPPED = re.compile(
    r"Ignoring this choice|[Ss]kipping (?:this )?(?:failing )?(?:config|choice|candidate)|(?:config|choice|candidate)s? (?:is |was |were )?"
    r"(?:skipped|dropped|ignored|discarded)|, (?:skipped|ignored)\b|^ignored\b|\(config skipped\)|Autotuning failed with|[Ff]ailure occurred "
    r"when compiling fusion|while (?:auto)?tuning|Runtime error during autotuning|benchmarking failed[^\n]{0,60}(?:skip|ignor)|"
    r"config [^\n]{1,300} failed|configuration [^\n]{1,200} failed"
)
# Words that say: it went on.
_WENT_ON = re.compile(
    r"AUTOTUNE \w+\(|best config|best of \d+|best=Config|[Aa]utotuning complete|finished after|Ignoring this choice|ignored, \d+ left|"
    r"[Ss]kipping config|skipped|serving on|step \d+ |Compiling \d+ configs"
)
_FATAL = re.compile(r"^(?:[\w.]{0,120}(?:Error|Exception|OutOfResources)): |^Traceback \(most recent|^\S{0,40}error {0,4}:")
_BEFORE, _AFTER = 8, 12


def dropped(log: CrashLog, failures: list[Failure]) -> list[Failure]:
    """The failures, those of dropped candidates marked as `candidate_dropped`.

    A failure is a candidate's where an autotuner says so beside it: in its own line, or in a line near it with nothing
    of another failure between.
    """
    spoken = [i for i, line in enumerate(log.bare) if _DROPPED.search(line[:4_000])]
    if not spoken:
        return failures
    went_on = any(_WENT_ON.search(line[:4_000]) for line in log.bare)
    result = []
    for failure in failures:
        beside = went_on and failure.kind != "died" and _beside(log, failure, spoken)
        result.append(
            replace(failure, kind="candidate_dropped", details={**failure.details, "of": failure.kind}) if beside else failure
        )
    return result


def _beside(log: CrashLog, failure: Failure, spoken: list[int]) -> bool:
    for place in spoken:
        if place == failure.at:
            return True
        between = log.bare[min(place, failure.at) + 1 : max(place, failure.at)]
        if -_BEFORE <= failure.at - place <= _BEFORE + _AFTER and not _raised(log, failure, place) and len(between) <= _AFTER:
            return True
    return False


def _raised(log: CrashLog, failure: Failure, place: int) -> bool:
    """Whether a traceback stands between an autotuner's word and the failure: then it was raised, not dropped."""
    low, high = min(place, failure.at), max(place, failure.at)
    return any("Traceback (most recent" in line for line in log.bare[low:high])


def _dropped(log: CrashLog, failure: Failure) -> Answer:
    of = failure.detail("of") or ""
    who = "Inductor's autotuner" if log.speaks("Inductor") else "XLA's autotuner" if log.speaks("XLA") else "an autotuner"
    because = [
        f"the log says: {failure.message}",
        f"that was one configuration: {who} left it out and went on, so nothing failed",
    ]
    if failure.seen > 1:
        because.append(f"it dropped {failure.seen} that way")
    why = {"shared_memory": "it wants more shared memory than the chip has", "tensor_memory": "it wants more tensor memory than there is",
           "register_exhaustion": "ptxas could not allocate its registers", "register_cap_too_low": "one of its instructions needs more "
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

__all__ = ["KINDS", "PTXAS_WORDINGS", "WORDINGS", "dropped"]

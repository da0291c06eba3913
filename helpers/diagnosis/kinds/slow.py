"""A compile that takes minutes: which stage it is in, as far as the log tells, and what makes that stage slow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from helpers.diagnosis.failure import LIKELY, NO_FAILURE, Answer, Failure, Kind, Suggestion
from helpers.diagnosis.kinds.advice import report_lines
from helpers.diagnosis.kinds.mlir import STAGES
from helpers.diagnosis.words import OWNER, TRITON, is_triton, maker, ptx_verbs, spec_verbs
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.pasted_text import near

PTXAS_WORDINGS = ()
WORDINGS = ()
# A compile of a minute is what people ask about.
SLOW_SECONDS = 60.0
# Of a build or tuning that ended well, only what took longer than this is one.
LONG_SECONDS = 600.0
SEEN_AT_WORK = "a stack in the log shows a process in"
_DONE = re.compile(
    r"Successfully (?:installed|built)|Autotuning complete|autotuning complete|Build finished successfully|"
    r"\[100%\] Built target|Finished `?release|BUILD SUCCESS|Completed tuning"
)


@dataclass(frozen=True)
class Sign:
    """One way in which a log shows a slow compile: a word, the pattern around it, its stage ("" for none)."""

    word: str
    pattern: re.Pattern[str]
    stage: str = ""


def _sign(word: str, pattern: str, stage: str = "") -> Sign:
    return Sign(word, re.compile(pattern), stage)


# Groups: ms, s, m (minutes) and h of a time, where the sign has one; a sign without a time speaks for itself.
SIGNS = (
    _sign("Compile time", r"Compile time = (?P<ms>[0-9]{1,12}(?:\.[0-9]{1,6})?) ms", "ptxas"),
    _sign("timed out after", r"ptxas[^\n]{1,900}? timed out after (?P<s>[0-9.]{1,10}) seconds", "ptxas"),
    _sign("The operation took", r"The operation took "
                                r"(?:(?P<h>[0-9]{1,3})h)?(?:(?P<m>[0-9]{1,4})m)?(?P<s>[0-9.]{1,14})s"),
    _sign("low compile", r"\[Compiling module [^\]\n]{1,200}\] (?:Very slow|Slow) compile"),
    _sign("Constant folding", r"Constant folding an instruction is taking > (?P<any>[0-9]{1,6})s", "XLA's constant "
                                                                                                   "folding"),
    _sign("compiling Config", r"Timeout after (?P<any>[0-9.]{1,8})s compiling Config\([^\n]{0,300}"),
    _sign("Total Execution Time", r"Total Execution Time: (?P<s>[0-9.]{1,12}) seconds"),
    _sign("Timeout", r"Timeout \(>(?P<any>[0-9.]{1,8})s\) from pytest-timeout"),
    _sign("to compile", r"(?<![\w.])(?:(?P<h>[0-9.]{1,5}) ?(?:hours?|hrs?|h)\b ?)?(?:(?P<m>[0-9.]{1,6}) "
                        r"?min(?:utes?)?\b ?)?(?:(?:[0-9]{1,6}-)?(?P<s>[0-9.]{1,9}) ?"
          r"(?:s|sec|seconds)\b ?)?(?:to|in order to) compile"),
    _sign("ptxas", r"ptxas[`']?\*{0,2} (?:runs|ran|has been running|is running|takes|took)(?: for)?:? "
                   r"?\*{0,2}(?:over |more than |about )?(?:(?P<h>[0-9.]{1,5}) ?h(?:ours?|rs?)?"
          r"\b ?)?(?:(?P<m>[0-9.]{1,6}) ?min(?:utes?)?\b ?)?(?:(?P<s>[0-9.]{1,9}) ?s(?:ec\w{0,5})?\b)?", "ptxas"),
    *(_sign(word, r"[Cc]ompil(?:e|ation|ing)\w{0,10}(?: of [^\n]{1,80}?)? (?:took|takes|is taking|has been running for|"
                  r"running for) "
            r"(?:about |over |more than |~)?(?:(?P<m>[0-9.]{1,6}) ?min(?:utes?)?(?: ?(?:and "
            r")?)?)?(?:(?P<s>[0-9.]{1,10}) ?(?:s\b|sec))?")
      for word in (" took", " takes", " taking", " running for")),
)  # fmt: skip
# A process seen at work: a stack without an exception, as py-spy, faulthandler and pytest-timeout print it.
_STACK = re.compile(
    r"py-spy|Thread (?:0x)?[0-9a-f]{1,18} \((?:idle|active)|Timeout \(>|dump_traceback_later|Stack of MainThread|"
    r"Timeout >(?P<limit>[0-9]{1,6}(?:\.[0-9]{1,3})?)s|"
    r"Timeout \(0:"
)
_IN_STAGE = re.compile(r"\b(make_(?:ttir|ttgir|gluon_ir|llir|ptx|cubin|ir))\b")
_PS = re.compile(
    r"(?P<m>[0-9]{1,4}):(?P<s>[0-9]{2}(?:\.[0-9]{1,2})?)[ \t]{1,8}\S{0,200}?(?P<tool>ptxas|cicc|tileiras|"
    r"nvcc)(?:-blackwell)?\b"
)


def seconds_of(m: re.Match[str]) -> float | None:
    """The time a sign names, in seconds; None where it names none, or where any time tells."""
    parts = {
        name: float(value.rstrip(".")) for name, value in m.groupdict().items() if value and name not in ("tool", "any")
    }
    if not parts:
        return None
    return parts.get("ms", 0) / 1e3 + parts.get("s", 0) + 60 * parts.get("m", 0) + 3600 * parts.get("h", 0)


@dataclass(frozen=True)
class _Seen:
    """The sign of the longest time: that time in seconds (0 where it names none), the match and its stage."""

    seconds: float
    match: re.Match[str]
    stage: str


def _signs(flat: str) -> Iterator[_Seen]:
    """Every sign of a slow compile; a time below `SLOW_SECONDS` is none."""
    for sign in SIGNS:
        for m in near(sign.pattern, flat, sign.word, before=1_000, after=600):
            time = seconds_of(m)
            speaks_for_itself = "any" in m.groupdict() or "low compile" in sign.word
            if (time is None and speaks_for_itself) or (time is not None and time >= SLOW_SECONDS):
                yield _Seen(time or 0, m, sign.stage)


def _longest(signs: Iterable[_Seen]) -> _Seen | None:
    """The first of the longest."""
    return max(signs, key=lambda seen: seen.seconds, default=None)


def _ended_well(flat: str, seen: _Seen) -> bool:
    """Whether it took its time, and all went well."""
    return seen.seconds < LONG_SECONDS and _DONE.search(flat, seen.match.start()) is not None


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """A slow compile, by the longest time of its signs or by a process that was seen at work."""
    best = _longest(_signs(log.flat.text))
    if (stack := _STACK.search(log.text)) and (stage := _IN_STAGE.search(log.text, stack.start())):
        yield _seen_at_work(log, best, stack, stage)
    elif best is not None and not _ended_well(log.flat.text, best):
        details = {"stage": best.stage, "seconds": f"{best.seconds:.0f}" if best.seconds else ""}
        if stack and (ps := _process(log)):
            details["stage"] = best.stage or ps["tool"]
            details["seconds"] = f"{max(best.seconds, seconds_of(ps) or 0):.0f}"
        yield Failure("slow_compile", best.match[0][:300], at=log.flat.line_of(best.match.start()), details=details)


def _process(log: CrashLog) -> re.Match[str] | None:
    """A compiler in a list of processes, with the time it has run."""
    return next(iter(near(_PS, log.text, "ptxas", before=60, after=200)), None)


def _seen_at_work(log: CrashLog, best: _Seen | None, stack: re.Match[str], stage: re.Match[str]) -> Failure:
    """A process whose stack stands in one of Triton's stages, with the times that the log gives."""
    ps = _process(log)
    time = max(best.seconds if best else 0, (seconds_of(ps) or 0) if ps else 0, float(stack["limit"] or 0))
    where = (best.stage if best else "") or (ps["tool"] if ps else "") or stage[1]
    return Failure(
        "slow_compile",
        (best.match[0] if best else f"{SEEN_AT_WORK} {stage[1]}")[:300],
        at=log.flat.line_of(best.match.start()) if best else log.text.count("\n", 0, stack.start()),
        details={"stage": where, "seconds": f"{time:.0f}" if time else ""},
    )


# --- what is said -----------------------------------------------------------------------------------------


def _minutes(seconds: float) -> str:
    return f"{seconds:,.0f} s" + (f" (about {seconds / 60:.0f} minutes)" if seconds >= 90 else "")


def _slow(log: CrashLog, failure: Failure) -> Answer:
    stage = failure.detail("stage") or ""
    seen = failure.message.startswith(SEEN_AT_WORK)
    because = [
        failure.message if seen else f"the log says: {failure.message}",
        "a compile that takes long has not failed: the log shows no refusal",
    ]
    if failure.detail("seconds"):
        because.append(f"the longest time it names is {_minutes(float(failure.detail('seconds') or 0))}")
    because.append(_stage_sentence(stage))
    because += report_lines(log)
    ptxas = stage in ("ptxas", "make_cubin")
    helps = [*(_ptxas_helps() if ptxas else _front_helps(log, stage)), *_general_helps(log)]
    made = maker(log)
    to, why = (OWNER, "first the size of what one thread does: a slow compile mostly unrolls too much")
    if stage.startswith("make_") and not ptxas:
        to, why = (
            f"{OWNER}, then {TRITON}",
            "the stage is Triton's; a small kernel that needs minutes there is a fault of it",
        )
    elif made and not is_triton(log):
        to = f"{OWNER}, then {made}"
    return Answer(
        tuple(because),
        tuple(helps),
        (Suggestion("a faster GPU, or more GPU memory", "the compile runs on the CPU", "follows from the stage"),),
        to,
        why,
        (
            "how long each stage takes, the sizes of the tiles, and whether other processes were compiling at the "
            "same time",
        ),
        (*spec_verbs(log, "compile --time-limit", "try"), *(ptx_verbs(log) if ptxas else ())),
        title=f"a compile takes long: {_minutes(float(failure.detail('seconds') or 0))}"
        if failure.detail("seconds")
        else "",
        confidence=LIKELY,
    )


def _stage_sentence(stage: str) -> str:
    if stage in ("ptxas", "make_cubin"):
        return "the stage is ptxas: the PTX is written, and machine code is being made of it"
    if stage.startswith("make_"):
        return f"the stage is {stage}, {STAGES.get(stage, 'a stage of Triton')}: before ptxas"
    if stage:
        return f"the stage is {stage}"
    return (
        "which stage it is (front end, LLVM or ptxas), the log does not say: a stack of the process (py-spy dump) or "
        "`ps` "
        "does"
    )


def _ptxas_helps() -> tuple[Suggestion, ...]:
    return (
        Suggestion(
            "less for one thread: a smaller tile, more warps for the same tile, a smaller unroll",
            "ptxas's time grows faster than the number of its instructions, and spilling makes it worse",
            "reported: triton-lang/triton #8908 (4x65536 elements on 4 warps, 151 s)",
        ),
        Suggestion(
            "the same PTX under another release of ptxas, and under ptxas -O1",
            "tells within minutes whether an optimisation of that release is slow",
            "general; not measured here for this PTX",
        ),
    )


def _front_helps(log: CrashLog, stage: str) -> tuple[Suggestion, ...]:
    if stage.startswith("make_"):
        return (
            Suggestion(
                "less for one thread: a smaller tile, more warps for the same tile, tl.range instead of "
                "tl.static_range",
                "every element of a tile becomes instructions, and the passes look at all of them",
                "reported: triton-lang/triton #8908",
            ),
            Suggestion(
                "another release of Triton",
                "a pass that became slow in one release was mended in another",
                "reported: triton-lang/triton #10465 (an LLVM update: 1.4 s became 500 s)",
            ),
        )
    return (
        Suggestion(
            "find the stage first: py-spy dump --pid of the process, and `ps` for ptxas",
            "what helps depends on the stage",
            "general",
        ),
    )


def _general_helps(log: CrashLog) -> tuple[Suggestion, ...]:
    found = [
        Suggestion(
            "keep the compile cache between runs",
            "the time is then paid once",
            "general",
        )
    ]
    if log.speaks("Helion", "Inductor", "XLA"):
        found.insert(
            0,
            Suggestion(
                "fewer compiles at once, or a shorter list of candidates in the autotuner",
                "on few cores many ptxas slow each other down",
                "reported: pytorch/helion #91",
            ),
        )
    return tuple(found)


KINDS = (Kind("slow_compile", "a compile takes long", _slow, NO_FAILURE - 1),)

__all__ = ["KINDS", "PTXAS_WORDINGS", "SIGNS", "SLOW_SECONDS", "WORDINGS", "recognise", "seconds_of"]

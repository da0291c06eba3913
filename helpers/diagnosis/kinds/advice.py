"""What is no failure: ptxas's advice, warnings and report on what it compiled; and a kernel that is one bare trap."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.diagnosis.failure import LIKELY, NO_FAILURE, Answer, Failure, Kind, Suggestion
from helpers.diagnosis.words import kernel_of, spec_verbs
from helpers.hardware import CAP, cap_for
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.pasted_text import near
from helpers.inspection.ptx.scan import is_trap_stub
from helpers.inspection.ptxas import PtxasFunction

PTXAS_WORDINGS = ()
WORDINGS = ()
_CODED = re.compile(r"\(C75[0-9]{2}\)")
_ADVICE = re.compile(r"(?:info|warning) ?: ?(?P<words>\((?P<code>C75[0-9]{2})\) ?[^\n]{1,600})")
_NEXT = re.compile(
    r" (?=Traceback \(|File \"|ninja: |g?make(?:\[[0-9]\])?: |Successfully |[A-Za-z_.]{1,60}Error: )"
    r"| (?=ptxas[\w.-]{0,24} (?:info|warning|error|fatal) ?:)| Used [0-9]{1,4} registers"
)
_SPILLED = re.compile(
    r"warning ?: ?(?P<words>Registers are spilled to local memory in function '(?P<function>[^'\n]{1,2000})'(?:, "
    r"?(?P<stores>[0-9]{1,9}) "
    r"bytes spill stores)?(?:, ?(?P<loads>[0-9]{1,9}) bytes spill loads)?)"
)
_WARNING = re.compile(r"ptxas[\w.-]{0,24} {0,8}[^\n;]{0,300}?warning ?: ?(?P<words>[^\n]{1,300})")
# A line that ends so holds the whole sentence.
_WHOLE = re.compile(r"(?:'|\.|at entry|compilation units|debugging)$")
_IN_FUNCTION = re.compile(r"in (?:the )?function '([^'\n]{1,2000})'")


@dataclass(frozen=True)
class Advice:
    """One kind of advice: the words that tell it, what it means, and what to do about it."""

    words: re.Pattern[str]
    means: str
    edit: str
    why: str


def _advice(words: str, means: str, edit: str, why: str) -> Advice:
    return Advice(re.compile(words), means, edit, why)


# Sources: ptxas's own words, seen here with 12.9 to 13.5; setmaxnreg and wgmma in the PTX ISA.
ADVICE = (
    _advice(
        r"'setmaxnreg' ignored; unable to determine register count at entry",
        "setmaxnreg was dropped in silence: ptxas does not know how many registers a thread has at entry, so the "
        "split between warp "
        "groups does not happen",
        "give the kernel a launch bound: __launch_bounds__(threads, 1) in CUDA C++, min_blocks_per_mp=1 at the "
        "launch in the CuTe DSL, "
        "in PTX .maxntid (or .reqntid) with .minnctapersm; or .maxnreg",
        "threads and blocks per SM fix the register count at entry, and setmaxnreg is then kept",
    ),
    _advice(
        r"'setmaxnreg' ignored to maintain compatibility across compilation units",
        "setmaxnreg was dropped: with relocatable device code (-rdc) other compilation units may call in with "
        "another register count",
        "compile without -rdc (whole program, not separate compilation), or with device link-time optimisation",
        "with the whole program in one unit, ptxas may set registers as it wants",
    ),
    _advice(
        r"'setmaxnreg' ignored to allow debugging",
        "setmaxnreg was dropped because the build is one for debugging",
        "compile without -G (-g of ptxas); -lineinfo keeps source lines",
        "debug code keeps one register count for all",
    ),
    _advice(
        r"'setmaxnreg' ignored",
        "setmaxnreg was dropped, so the split of registers between warp groups does not happen",
        "give the kernel a launch bound and compile it as a whole program without debugging",
        "these are the usual reasons; ptxas's line gives its own",
    ),
    _advice(
        r"serialized due to insufficient register resources",
        "wgmma instructions wait for each other (they are serialised): there are not enough registers to keep them "
        "in flight",
        "a smaller tile, fewer warps, or a higher cap on registers",
        "each wgmma in flight holds its accumulator",
    ),
    _advice(
        r"serialized due to the presence of Extern calls|serialized due to [^'\n]{0,60}function (?:call|boundary)",
        "wgmma instructions are serialised: a call to a function that is not inlined stands between them",
        "let every device function be inlined (no -rdc, no -G, __forceinline__)",
        "across a call ptxas cannot see who touches the accumulator",
    ),
    _advice(
        r"serialized due to non wgmma instructions (?:defining|reading) accumulator",
        "wgmma instructions are serialised: other instructions write or read the accumulator while a group of them "
        "is in flight",
        "touch the accumulator only after wgmma.wait_group (warpgroup_wait<0>), and set it to zero by scale-d "
        "instead of by moves",
        "between start and wait of a group its registers belong to the tensor cores",
    ),
    _advice(
        r"serialized due to ill formed pipeline stage",
        "wgmma instructions are serialised: fence, commit and wait do not pair up on every path",
        "one wgmma.fence before, one commit_group and one wait_group after each group, on the same path",
        "ptxas keeps them in flight only where it can prove the pairing",
    ),
    _advice(
        r"divergent path",
        "wgmma instructions are serialised: they stand on a path that only a part of the warps may take (divergent)",
        "take the wgmma out of the branch, or make its condition the same for the whole warp group",
        "a warp-group instruction needs all its warps",
    ),
    _advice(
        r"serialized",
        "wgmma instructions are serialised: they wait for each other",
        "look at what ptxas's line gives as the reason",
        "in flight they overlap with the loads",
    ),
    _advice(
        r"warpgroup\.arrive is injected|wgmma\.wait_group is injected|is injected in around line",
        "ptxas put in a synchronisation (warpgroup.arrive or wgmma.wait_group) of its own, because registers of a "
        "wgmma are used "
        "around there",
        "nothing has to be done; an own warpgroup_arrive/fence or wait at that place says where it should be",
        "the result is right; where it stands costs time",
    ),
)  # fmt: skip


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """A trap stub; and, where nothing else is in the log, advice, warnings or a report of ptxas."""
    if log.ptx and is_trap_stub(log.ptx):
        yield Failure("trapped", "the PTX's kernel is one bare trap", details={"function": log.kernel_name or ""})
    coded = _coded(log)
    if coded:
        yield coded
        return
    if m := _SPILLED.search(log.flat.text):
        yield Failure("spill_warning", m["words"], at=log.flat.line_of(m.start()),
                      details={k: v for k, v in m.groupdict().items() if v and k != "words"})  # fmt: skip
        return
    entry = log.compiled.entry
    m = next(iter(near(_WARNING, log.flat.text, "ptxas", before=0, after=700)), None) if "warning" in log.text else None
    if entry is not None and entry.regs_per_thread is not None and m is None:
        yield Failure("no_failure", f"ptxas compiled {entry.name}", details={"function": entry.name})
    elif m:
        yield Failure("ptxas_warning", _NEXT.split(m["words"])[0].strip(), at=log.flat.line_of(m.start()))


def _sentence(log: CrashLog, m: re.Match[str]) -> str:
    """ptxas's words to their end: that of the line, where the sentence is whole on it, else that of the function."""
    line = " ".join(log.bare[log.flat.line_of(m.start("words"))].split())
    own = line[line.find(m["code"]) - 1 :] if m["code"] in line else ""
    if own and m["words"].startswith(own) and _WHOLE.search(own):
        return _NEXT.split(own)[0].strip()
    words = _NEXT.split(m["words"])[0]
    named = _IN_FUNCTION.search(words)
    return words[: named.end()].strip() if named else words.strip()


def _coded(log: CrashLog) -> Failure | None:
    if not _CODED.search(log.flat.text):
        return None
    found = [(m, _sentence(log, m)) for m in _ADVICE.finditer(log.flat.text)]
    if not found:
        return None
    first, words = found[0]
    function = _IN_FUNCTION.search(" ".join(w for _, w in found[:20]))
    distinct = dict.fromkeys(w for _, w in found)
    details = {"code": first["code"], "all": "\n".join(list(distinct)[:12])}
    if function:
        details["function"] = function[1]
    return Failure(
        "advice_only", words, code=first["code"], at=log.flat.line_of(first.start()), details=details, seen=len(found)
    )


# --- what is said -----------------------------------------------------------------------------------------


def report_lines(log: CrashLog) -> list[str]:
    """What ptxas reports of the functions it compiled, as sentences."""
    said = []
    for f in log.compiled.functions[:5]:
        if f.regs_per_thread is not None:
            spilled = f"{f.spill_store_bytes:,} B of spill stores" if f.spill_store_bytes else "no spills"
            said.append(f"ptxas reports {f.name}: {f.regs_per_thread} registers{_share_words(f)}, {spilled}")
    rest = sum(f.regs_per_thread is not None for f in log.compiled.functions[5:])
    return [*said, *([f"{rest} more functions are reported"] if rest else [])]


def _share_words(f: PtxasFunction) -> str:
    """For a kernel that spills below 255 registers: the number of threads that leaves exactly so many."""
    if not f.spill_store_bytes or (f.regs_per_thread or 255) >= CAP:
        return ""
    warps = next((n for n in (4, 8, 12, 16, 20, 24, 28, 32) if cap_for(num_warps=n) == f.regs_per_thread), None)
    return f" (as {32 * warps} threads leave)" if warps else ""


def _coded_answer(log: CrashLog, failure: Failure) -> Answer:
    lines = (failure.detail("all") or failure.message).split("\n")
    because = ["ptxas advises; advice is no failure"]
    helps, seen = [], set()
    for line in lines:
        known = next((a for a in ADVICE if a.words.search(line)), None)
        because.append(f"ptxas says: {line[:300]}")
        if known and known.means not in seen:
            seen.add(known.means)
            because.append(known.means)
            helps.append(Suggestion(known.edit, known.why, "ptxas's own words; PTX ISA"))
    return Answer(
        (*because, *report_lines(log)),
        tuple(helps),
        report_to="nobody",
        report_why="advice is no failure: the kernel is built, and the advice is about its speed",
        go_on=_pressure(log),
    )


def _spill_warning(log: CrashLog, failure: Failure) -> Answer:
    stores, loads = failure.detail("stores"), failure.detail("loads")
    amount = f": {int(stores):,} B of stores, {int(loads or 0):,} B of loads" if stores else ""
    return Answer(
        (
            f"ptxas warns: {failure.message}",
            f"a warning: the kernel is built; a spill costs time, not correctness{amount}",
        ),
        (
            Suggestion(
                "nothing, unless the kernel is slow; then a smaller tile or unroll, or a higher cap on registers "
                "where one is set",
                "spills cost time and nothing else",
                "general; register-cliff pressure FILE.ptx shows what is alive where",
            ),
        ),
        report_to="nobody",
        report_why="a spill is no failure",
        go_on=_pressure(log),
        title=f"a warning: {kernel_of(log, failure) or 'a kernel'} spills registers, which is no failure",
    )


def _warning(log: CrashLog, failure: Failure) -> Answer:
    return Answer(
        (f"ptxas warns: {failure.message}", "a warning is no failure", *report_lines(log)),
        report_to="nobody",
        report_why="a warning is no failure",
    )


def _no_failure(log: CrashLog, failure: Failure) -> Answer:
    said = report_lines(log)
    entry = log.compiled.entry
    if entry is not None and (entry.regs_per_thread or 99) <= 8 and not entry.spill_store_bytes:
        said.append(
            "so few registers can mean that the kernel collapsed to a bare trap; the PTX would tell (register-cliff "
            "pressure "
            "FILE.ptx)"
        )
    return Answer(tuple(said), go_on=_pressure(log), confidence=LIKELY)


def _trapped(log: CrashLog, failure: Failure) -> Answer:
    return Answer(
        (failure.message + ": it compiles, and stops when it runs",),
        (
            Suggestion(
                "a smaller tile",
                "a compiler replaces a kernel by a trap where its tiles cannot fit" if not log.speaks("Triton")
                else "Triton replaced the kernel by a trap because its tiles cannot fit",
                "measured here (data/compile_rows.csv): head dim 512 at 128x64 traps, at 64x64 it compiles",
            ),
        ),
        (Suggestion("ptxas flags, or another ptxas", "the trap is in the PTX already", "the PTX itself"),),
        "the kernel's own project",
        "the tile is its own choice; a compiler that says nothing when it gives up could say it",
        ("the kernel's source and its tile sizes",),
        spec_verbs(log, "compile", "try"),
    )  # fmt: skip


def _pressure(log: CrashLog) -> tuple[str, ...]:
    if any(f.spill_store_bytes for f in log.compiled.functions):
        return ("register-cliff pressure FILE.ptx shows which source lines hold the registers",)
    return ()


KINDS = (
    Kind("trapped", "the kernel is one bare trap: it compiles and cannot run", _trapped),
    Kind("advice_only", "no failure: ptxas advises", _coded_answer, NO_FAILURE),
    Kind("spill_warning", "no failure: ptxas warns of spills", _spill_warning, NO_FAILURE, "advice_only"),
    Kind("ptxas_warning", "no failure: ptxas warns", _warning, NO_FAILURE, "advice_only"),
    Kind("no_failure", "no failure: ptxas compiled it", _no_failure, NO_FAILURE),
)

__all__ = ["ADVICE", "KINDS", "PTXAS_WORDINGS", "WORDINGS", "Advice", "recognise", "report_lines"]

"""A build that failed around a ptxas that did not: a killed neighbour, a host compiler, a missing file, the linker."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.diagnosis.failure import BUILD, LIKELY, Answer, Failure, Kind, Suggestion
from helpers.diagnosis.kinds.advice import report_lines
from helpers.inspection.crash.crash_log import CrashLog

PTXAS_WORDINGS = ()
WORDINGS = ()


@dataclass(frozen=True)
class Reason:
    """One way in which a build fails beside ptxas: how it is worded, what it means, what helps."""

    name: str
    words: re.Pattern[str]
    means: str
    edit: str
    why: str


def _reason(name: str, words: str, means: str, edit: str, why: str) -> Reason:
    return Reason(name, re.compile(words), means, edit, why)


REASONS = (
    _reason(
        "missing",
        r"(?:fatal )?error: [^\n]{1,300}: No such file or directory|catastrophic error: cannot open "
        r"source file [^\n]{1,200}|"
        r"fatal error C1083:[^\n]{1,300}",
        "a header or file is missing: the compiler of the C++ code says so, not ptxas",
        "give the build the folder of that file (submodules, include path), or the package that brings it",
        "the file named in the message is not where the build looks",
    ),
    _reason(
        "device link",
        r"nvlink (?:error|fatal) {0,8}: ?Undefined reference[^\n]{1,300}",
        "nvlink, the linker of device code, failed: it joins kernels that are compiled already",
        "give the link step every file whose device code is called (-rdc=true, -dlink), each compiled for the target "
        "that nvlink names",
        "what is undefined is device code of another file, or is there for another target only",
    ),
    _reason(
        "device link of another release",
        r"nvlink (?:error|fatal) {0,8}: ?Input file [^\n]{1,300}? newer than toolkit[^\n]{0,40}",
        "nvlink, the linker of device code, is of an older CUDA than the file that it names; the numbers are the two "
        "releases (129 is 12.9)",
        "one CUDA toolkit for all: the nvcc that links at least as new as the one that compiled that file or library "
        "(which nvcc, PATH, CUDA_HOME, the folder of cudadevrt), or that file compiled anew",
        "nvlink reads what its own and earlier releases wrote",
    ),
    _reason(
        "device link, no rule",
        r"nvlink (?:error|fatal) {0,8}:[^\n]{1,300}",
        "nvlink, the linker of device code, failed; this project has no rule for that message",
        "",
        "",
    ),
    _reason(
        "link",
        r"cannot find -l[\w.+-]{1,80}|undefined reference to [^\n]{1,300}|collect2: error[^\n]{0,120}|ld "
        r"returned 1 exit status|"
        r"LNK[0-9]{4}[^\n]{1,200}",
        "the linker failed, after every kernel had compiled",
        "give the linker the library it names (path or package)",
        "compiling and linking are two steps; the kernels are not at fault",
    ),
    _reason(
        "source",
        r"(?:\([0-9]{1,7}\)|:[0-9]{1,7}:[0-9]{1,5}): (?:fatal )?error: [^\n]{1,400}|\([0-9]{1,7}\): error "
        r"[A-Z]?[0-9#-]{1,8}[^\n]{0,300}",
        "the C++ front end (host or device code) refuses a line of the source; ptxas is not involved",
        "mend that line, or take the versions of the libraries that the source was written for",
        "the message names the file and the line",
    ),
    _reason(
        "killed",
        r"(?:^|(?<=[\s\]>|]))Killed(?=\s|$)|Killed signal terminated program \w{1,60}|fatal error: Killed|"
        r"[Dd]etected [0-9]{1,6} oom[-_]kill event(?:\(s\))?(?: in \S{1,80})?|"
        r"Out of memory: Kill(?:ed)? process[^\n]{0,120}|"
        r"\[code=137\]|exit code:? 137\b|\bError 137\b",
        "a program was killed from outside: likely the machine ran out of memory (RAM)",
        "fewer jobs at once (MAX_JOBS=1, ninja -j 1, make -j 1; nvcc --threads 1), or a machine with more memory",
        "each compiler of a large kernel takes gigabytes; `dmesg | grep -i oom` says whether it was so",
    ),
    _reason(
        "crashed",
        r"Segmentation fault|\[code=139\]|\bError 139\b|internal compiler error[^\n]{0,200}|Bus error|Illegal "
        r"instruction(?= |$)",
        "a program of the build crashed; the log does not name which one",
        "run the failing command by hand with --dryrun (nvcc) or -v, and see which step dies; then another release "
        "of that program",
        "nvcc starts several programs (cudafe++, cicc, ptxas, the host compiler), and any of them can be it",
    ),
)
_STOPPED = re.compile(
    r"ninja: build stopped|make(?:\[\d\])?: \*\*\*|Error compiling objects for extension|"
    r"subprocess-exited-with-error|error: command '"
    r"[^'\n]{1,300}' failed|FAILED: |errors? detected in the compilation|compilation terminated|Failed to build|nvcc "
    r"failed|"
    r"error MSB[0-9]{4}|returned non-zero exit status|failed to build|Build failed|could not compile|nvcc error while|"
    r"panicked at"
)
# One of these is in each of the patterns above.
_WORDS = (
    "rror",
    "nvlink",
    "oom",
    "Out of memory",
    "Killed",
    "=137",
    "=139",
    "137",
    "fault",
    "cannot find",
    "undefined",
    "LNK",
    "ld returned",
    "Illegal",
)
_NVLINK = re.compile(r"nvlink (?:error|fatal) {0,8}:")
_ZERO = re.compile(r"(?<![0-9])0 errors?")


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """A failed build, where no compiler of a GPU kernel says why."""
    if not (log.speaks("nvcc") or log.compiled.functions or _NVLINK.search(log.flat.text)):
        return
    lines = log.bare
    stopped = next(
        (i for i, line in enumerate(lines) if _STOPPED.search(line[:600]) and not _ZERO.search(line[:600])), None
    )
    reasons = []
    for index, line in enumerate(lines):
        if not any(word in line for word in _WORDS):
            continue
        for reason in REASONS:
            if m := reason.words.search(line[:1_200]):
                # The file stands in front of its line number.
                start = line.rfind(" ", 0, m.start()) + 1 if reason.name == "source" else m.start()
                words = line[max(start, m.start() - 300) : m.end()].strip()
                reasons.append((index, reason, words if len(words) > 25 else line.strip()[:200]))
                break
        if len(reasons) >= 200:
            break
    if stopped is None and not any(r.name in _THE_PROJECTS for _, r, _ in reasons):
        return
    if not reasons and stopped is None:
        return
    order = {r.name: i for i, r in enumerate(REASONS)}
    at, first, words = min(reasons, key=lambda r: (order[r[1].name], r[0])) if reasons else (stopped or 0, None, "")
    message = words or lines[at].strip()[:300]
    yield Failure("build_failed_elsewhere", message, at=at, details={"reason": first.name if first else ""})


_SPILLS = (
    Suggestion(
        "apart from that, a kernel spills registers: fewer threads per block, a smaller tile or unroll, or a higher "
        "cap",
        "a spill costs time and does not fail a build; a kernel that spills much also takes its compiler more memory "
        "and time",
        "ptxas's report in the log",
    ),
)


def _build(log: CrashLog, failure: Failure) -> Answer:
    reason = next((r for r in REASONS if r.name == failure.detail("reason")), None)
    compiled = report_lines(log)
    because = [f"the build says: {failure.message}"]
    because.append(reason.means if reason else "the build stopped; why, the log does not say")
    if compiled:
        because.append("what ptxas says in the log is a report on kernels it compiled, not why the build failed")
        because += compiled
    elif log.speaks("ptxas"):
        because.append("ptxas does not complain in the log")
    spilling = next((f for f in log.compiled.functions if f.spill_store_bytes), None)
    helps = (Suggestion(reason.edit, reason.why, "general; the message itself"),) if reason and reason.edit else ()
    return Answer(
        tuple(because),
        (*helps, *(_SPILLS if spilling else ())),
        (),
        "the project that is built" if reason and reason.name in _THE_PROJECTS else "nobody yet",
        "its build is at fault, not the compiler of the kernels" if reason and reason.name not in ("killed", "crashed")
        else "first find out which program it is",
        ("the whole output of the build with one job (-j 1) and verbose",),
        title=_title(log, reason),
        confidence=LIKELY,
    )  # fmt: skip


_DEVICE_LINK = ("device link", "device link of another release", "device link, no rule")
_THE_PROJECTS = ("missing", "source", "link", *_DEVICE_LINK)


def _title(log: CrashLog, reason: Reason | None) -> str:
    if reason is None:
        return "a build failed; why, the log does not say"
    if reason.name in ("killed", "crashed"):
        return f"the build failed: a program of it {'was killed' if reason.name == 'killed' else 'crashed'}"
    return "" if log.speaks("ptxas") else "the build failed, and not in ptxas"


KINDS = (Kind("build_failed_elsewhere", "the build failed, and not by what ptxas says in the log", _build, BUILD),)

__all__ = ["KINDS", "PTXAS_WORDINGS", "REASONS", "WORDINGS", "recognise"]

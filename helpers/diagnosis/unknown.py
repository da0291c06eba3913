"""Why a log gets no kind: what it says failed, in its own words, where this project has no rule for that.

A reason is either a rule of the table here or the log's own line. Nothing is said about what is not in the log.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.inspection.crash.crash_log import CrashLog

__all__ = ["MEANINGS", "Meaning", "last_words", "named_reason", "why_unknown"]

MAX_QUOTED = 240
MAX_LINE = 1_000
MAX_PLACES = 2_000
MAX_WRAPPED = 20


@dataclass(frozen=True)
class Meaning:
    """Words that say what failed outside the kinds known here, plain words to search them by, and what they mean."""

    words: re.Pattern[str]
    hints: tuple[str, ...]
    means: str


def _reason(words: str, hints: tuple[str, ...], means: str) -> Meaning:
    return Meaning(re.compile(words), hints, means)


_RUN_TIME = "an error at run time or before any compile, not one of a compiler"
# In this order; the first whose words are in the log is taken. `means` follows the log's own words.
MEANINGS = (
    _reason(r"\(C7602\) Insufficient registers[^\n]{0,100}", ("(C7602)",),
            "one instruction of the kernel needs more registers than its cap; how many it needs stands further on in "
            "ptxas's line, and the line is cut"),
    _reason(r"No space left on device|Disk quota exceeded", ("No space left", "Disk quota"),
            "a disk is full, mostly that of the temporary folder (TMPDIR); what was being written is at no fault"),
    _reason(r"(?:Permission denied|Access is denied|Exec format error|Text file busy|No such file or directory)"
            r"[^\n]{0,20}'[^'\n]{0,300}ptxas(?:-blackwell)?(?:\.exe)?'|"
            r"ptxas(?:-blackwell)?: (?:cannot execute binary file[^\n]{0,60}|[Pp]ermission denied)",
            ("ptxas'", "ptxas-blackwell'", "ptxas.exe'", "cannot execute", "ermission denied"),
            "ptxas could not be started, so it read no PTX: the file may not be executed (denied), is a "
            "program for another kind of processor or damaged (Exec format error), or is not there"),
    _reason(r"ptxas(?:-blackwell)?: (?:command )?not found|Cannot find ptxas", ("not found", "Cannot find ptxas"),
            "no ptxas was found where the caller looks (PATH, CUDA_HOME, TRITON_PTXAS_PATH), so none ran"),
    _reason(r"fatal error: Python\.h: No such file or directory", ("Python.h",),
            "the C compiler that builds the small C module around a kernel (Triton's launcher is one) finds no header "
            "files of Python; the package with them is called python3-dev or python3-devel"),
    _reason(r"cannot find -lcuda\b[^\n]{0,60}", ("-lcuda",),
            "the linker of the host code finds no libcuda.so, the driver's library; Triton links its small C module "
            "against it, and in a container or a build machine without a driver it is missing (its folder goes into "
            "LIBRARY_PATH or TRITON_LIBCUDA_PATH)"),
    _reason(r"(?:CUDA_ERROR_JIT_COMPILER_NOT_FOUND|PTX JIT compiler library (?:was )?not found)[^\n]{0,80}",
            ("JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library"),
            "the driver's compiler of PTX (libnvidia-ptxjitcompiler) is not installed, so the driver can load machine "
            "code only"),
    _reason(r"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|"
            r"Triton Error \[CUDA\]: out of memory|"
            r"RESOURCE_EXHAUSTED: Out of memory[^\n]{0,100}|torch\.OutOfMemoryError",
            ("out of memory", "Out of memory", "OUT_OF_MEMORY", "MemoryAllocation", "OutOfMemoryError"),
            f"{_RUN_TIME}: the GPU's main memory is full; smaller batches or less kept on the GPU help"),
    _reason(r"(?:CUDA_ERROR_|cudaError)(?:INVALID_PTX|InvalidPtx)[^\n]{0,80}|PTX JIT compil\w+ failed", (
            "INVALID_PTX", "InvalidPtx", "PTX JIT compil"),
            "the driver compiles PTX by a compiler of its own, and that one refused it. Its reason is in the error "
            "log of the call that loads the PTX, and not in this log; a PTX from a CUDA toolkit newer than the "
            "driver is a usual reason"),
    _reason(r"device kernel image is invalid|CUDA_ERROR_INVALID_IMAGE", ("kernel image is invalid", "INVALID_IMAGE"),
            "the driver cannot load the binary (machine code or PTX) that it was given; why, it does not say"),
    _reason(r"LLVM ERROR: out of memory", ("LLVM ERROR: out of memory",),
            "the compiler (LLVM) was refused memory of the machine (RAM), not of the GPU; fewer jobs at once, or a "
            "machine with more RAM, help"),
    _reason(r"misaligned address", ("misaligned address",),
            f"{_RUN_TIME}: a kernel read or wrote at an address that is no multiple of the size of the access; "
            "compute-sanitizer says which one and where"),
    _reason(r"illegal memory access|Invalid __(?:global|shared|local)__ (?:read|write)",
            ("illegal memory access", "Invalid __"),
            f"{_RUN_TIME}: a kernel read or wrote outside its memory; compute-sanitizer says which one and where"),
    _reason(r"Check failed: [^\n]{0,60}(?:CUDA_SUCCESS|cudaSuccess)\b[^\n]{0,200}", ("CUDA_SUCCESS", "cudaSuccess"),
            f"{_RUN_TIME}: a call of the driver failed in a program that was built already"),
    _reason(r"device-side assert", ("device-side assert",),
            f"{_RUN_TIME}: an assertion in a kernel failed, mostly an index out of range; it says nothing about "
            "compiling"),
    _reason(r"no kernel image is available|CUDA_ERROR_NO_BINARY_FOR_GPU|hipErrorNoBinaryForGpu|named symbol not found",
            ("no kernel image", "NO_BINARY_FOR_GPU", "NoBinaryForGpu", "named symbol not found"),
            f"{_RUN_TIME}: the program has no machine code for this GPU: it was built for other chips, and a build "
            "for this one (or with PTX) helps"),
    _reason(r"unspecified launch failure", ("unspecified launch failure",),
            f"{_RUN_TIME}: a kernel broke off while it ran; compute-sanitizer says where"),
    _reason(r"Watchdog caught collective operation timeout[^\n]{0,200}|"
            r"(?:NCCL|ProcessGroup)[^\n]{0,200}(?:timed out|operation timeout|[Tt]imeout (?:expired|exceeded|reached))"
            r"[^\n]{0,60}",
            ("NCCL", "ProcessGroup", "Watchdog"),
            f"{_RUN_TIME}: processes waited for each other until a time limit"),
    _reason(r"(?:Watchdog|NCCL (?:error|failure|WARN))[^\n]{0,160}|ncclUnhandledCudaError[^\n]{0,80}|ncclSystemError",
            ("Watchdog", "NCCL", "ncclUnhandled", "ncclSystem"),
            f"{_RUN_TIME}: NCCL, the library by which GPUs exchange data, failed; NCCL_DEBUG=INFO makes it say more"),
    _reason(r"cannot be accessed from Triton \(cpu tensor\?\)", ("cpu tensor?",),
            f"{_RUN_TIME}: a tensor on the CPU was handed to a kernel for the GPU"),
    _reason(r"ptxas too old", ("ptxas too old",),
            "the ptxas found is older than its caller wants; it falls back to the driver's own compiler"),
    _reason(r"GPUTooOldForTriton[^\n]{0,260}|Triton only supports devices of CUDA Capability[^\n]{0,120}",
            ("GPUTooOldForTriton", "Triton only supports devices"),
            "the GPU is older than any that Triton compiles for, and no release of Triton changes that; code that "
            "runs without a compiled model (eager mode) is left"),
    _reason(r"Could not find a version that satisfies[^\n]{0,160}|No matching distribution found[^\n]{0,120}|"
            r"PackagesNotFoundError[^\n]{0,120}|No solution found when resolving[^\n]{0,120}|ResolutionImpossible",
            ("Could not find a version", "No matching distribution", "PackagesNotFound", "No solution found",
             "ResolutionImpossible"),
            "the installer found no such release, or none that fits: nothing was installed, and nothing "
            "was compiled"),
    _reason(r"[Dd]etected [0-9]{1,6} oom[-_]kill event(?:\(s\))?(?: in \S{1,80})?|oom[-_]kill(?:er)?:[^\n]{0,120}|"
            r"Out of memory: Kill(?:ed)? process[^\n]{0,120}", ("oom-kill", "oom_kill", "Out of memory: Kill"),
            "the operating system or the batch system ended a process because the machine's memory (RAM), or the "
            "job's share of it, was full; more of it, or fewer jobs at once, help"),
    _reason(r"Killed signal terminated program[^\n]{0,40}|internal compiler error: Killed", (
            "Killed signal", "error: Killed"),
            "the compiler of the host code was killed; likely the machine ran out of memory, and fewer jobs at once "
            "help"),
    _reason(r"^(?:\S{1,200}: line [0-9]{1,7}: *[0-9]{1,9} )?Killed(?: +\S[^\n]{0,160})?$", ("Killed",),
            "a process was ended from outside; likely the machine's memory (RAM) was full, and then `dmesg | grep -i "
            "oom` says so"),
    _reason(r"FAILED:? \S{1,300}::\S{1,200} - (?:assert|AssertionError)\b[^\n]{0,200}", ("FAILED",),
            "a test's own comparison failed after the code it tests had run; that is no word of a compiler"),
)  # fmt: skip
# A line that says that something failed, in anybody's words.
_SAYS = re.compile(
    r"(?:^|[\s\]:>(])(?:fatal )?(?:error|ERROR|Error|fatal|FATAL) {0,8}(?::|[A-Z]?[0-9]{2,5}\b)|"
    r"(?:^|[\s\]:>(])(?:[A-Za-z_]\w{0,60}\.){0,8}[A-Za-z_]\w{0,60}(?:Error|Exception|Failure|Interrupt): |"
    r"nvJitLink error|failed with|LLVM ERROR|Assertion .{1,300} failed|Segmentation fault|not supported|"
    r"RESOURCE_EXHAUSTED|CUDA_ERROR_\w+|cudaError\w+|is not recognized|cannot find|undefined reference|"
    r"command not found|OutOfResources: |out of resource: "
)
_SAYS_WORDS = ("rror", "RROR", "atal", "FATAL", "xception:", "ailure:", "nterrupt:", "failed", "Segmentation",
               "not supported", "EXHAUSTED", "not recognized", "cannot find", "undefined ref", "not found",
               "esource")  # fmt: skip
_PYTHON = re.compile(
    r"(?:[A-Za-z_]\w{0,60}\.){0,8}[A-Za-z_]\w{0,60}(?:Error|Exception|Failure|Interrupt|OutOfResources)(?::|$)"
)
# Lines that end a program without an exception's name.
_ENDS = re.compile(
    r"CUDA error: |terminate called after|Segmentation fault|Fatal Python error|Aborted \(core|Bus error|"
    r"(?:[A-Z]+ )?Killed$|error: command '|slurmstepd: error|\S{0,40}oom-kill|ninja: build stopped|"
    r"g?make(?:\[[0-9]\])?: \*\*\*|collect2: error|FAILED: |Process finished with exit code [1-9]"
)
# What a caller adds around a failure that stands elsewhere.
_WRAPPER = re.compile(
    r"subprocess\.CalledProcessError|BackendCompilerFailed|Failures have been detected|Error building extension|"
    r"ninja: build stopped|make(?:\[[0-9]\])?: \*\*\*|errors? generated|[0-9] errors? detected|Backend worker is gone"
)


def last_words(log: CrashLog, after: int) -> tuple[int, str] | None:
    """(line of the log, its words) of the last thing behind line `after` that ended the program; None for nothing."""
    found = None
    for at in range(after + 1, len(log.bare)):
        line = log.bare[at]
        if _PYTHON.match(line[:700]) or _ENDS.match(line[:300]):
            found = at, line.strip()[:MAX_QUOTED]
    return found


def why_unknown(log: CrashLog, after: int = -1) -> tuple[str, bool]:
    """(the reason in a sentence, whether the log itself names it); of the lines behind line `after` of the log only."""
    if log.blank:
        return "the text is empty", False
    if "this is binary data, not text" in log.notes:
        return "this is not text", False
    if log.value("ptxas_gave_up"):
        return "ptxas gave up on the PTX, but the line above, in which it says why, is not in the log", False
    if (named := named_reason(log, after)) is not None:
        return named, True
    if (line := _said(log, after)) is not None:
        return (
            f"the log says: {line.rstrip('.:')}; this project has no rule for that message, so it does not say what "
            "it means or what helps"
        ), False
    return _nothing_said(log), False


def named_reason(log: CrashLog, after: int = -1) -> str | None:
    """The reason that the table of meanings has for words behind line `after` of the log; None where none is there."""
    lines = log.bare[after + 1 :]
    flat = log.flat.text[log.flat.starts[after + 1] if 0 <= after + 1 < len(log.flat.starts) else 0 :]
    for reason in MEANINGS:
        if not any(hint in flat for hint in reason.hints):
            continue
        # On one line first: in the text made one line, a quotation may run on into the next.
        said_in = (line[:MAX_LINE] for line in lines if any(hint in line for hint in reason.hints))
        pieces = itertools.chain(itertools.islice(said_in, MAX_PLACES), _pieces(flat, reason.hints))
        found = next((m for piece in pieces if (m := reason.words.search(piece))), None)
        if found is None:
            continue
        said = _cut(found[0].strip().rstrip(".:"))
        if reason.means.startswith(_RUN_TIME):
            return f"{reason.means} (the log says: {said})"
        return f"the log says: {said}; that is, {reason.means}"
    return None


def _pieces(flat: str, hints: tuple[str, ...]) -> Iterator[str]:
    """The surroundings of the first places of some plain words, in a text made one line."""
    for hint in hints:
        at = flat.find(hint)
        for _ in range(MAX_WRAPPED):
            if at < 0:
                break
            yield flat[max(0, at - 300) : at + 500]
            at = flat.find(hint, at + len(hint))


def _cut(words: str) -> str:
    """At most `MAX_QUOTED` characters, with a sign where something is left out."""
    return words if len(words) <= MAX_QUOTED else f"{words[:MAX_QUOTED].rstrip()} …"


def _said(log: CrashLog, after: int) -> str | None:
    """The line that says what failed: a compiler's or tool's first, a Python exception's last, no caller's wrapper."""
    first = last = wrapper = None
    for line in log.bare[after + 1 :]:
        if not any(word in line for word in _SAYS_WORDS) or not _SAYS.search(line[:1_000]):
            continue
        words = _cut(" ".join(line.split()))
        if _WRAPPER.search(line[:600]):
            wrapper = wrapper or words
        elif _PYTHON.match(line.strip()[:700]):
            last = words
        else:
            first = first or words
    return first or last or wrapper


def _nothing_said(log: CrashLog) -> str:
    if log.ptx is not None:
        return "a PTX module without a word of what went wrong; register-cliff pressure reads it"
    names = [s.name for s in log.speakers]
    if log.frames or names:
        shown = f" ({', '.join(names[:4])})" if names else ""
        return (
            f"parts of a log{shown}, without a line that says what failed (it stands at the end, or above the first "
            "line that a build prints about it)"
        )
    return "no compiler of GPU kernels (ptxas, nvcc, Triton, LLVM) and no Python traceback speaks in it"

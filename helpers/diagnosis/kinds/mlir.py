"""Compilers before ptxas that failed: a refused source, an MLIR assertion, a verifier, a pass, LLVM, libNVVM, Tile IR.

The pass, the source line, the kernel and the target are taken from the text. Whether the kernel or the compiler
is at fault follows from the form: a refusal names the source, an assertion the compiler's own code.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.diagnosis.failure import Answer, Failure, Kind, Suggestion
from helpers.diagnosis.kinds.other_compilers import backend_failed, not_nvidia, other_backend
from helpers.diagnosis.words import OWNER, TRITON, chip_words, is_triton, kernel_of, maker, spec_verbs, triton_words
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.pasted_text import near, near_any

PTXAS_WORDINGS = ()
WORDINGS = ()
REFUSED, CRASHED, NO_WORDS = "refused", "crashed", "no words"

_MAX_PLACES = 40
_ASSERTION = re.compile(r"Assertion [`'](?P<said>.{1,900}?)' failed")
_BEFORE_ASSERTION = re.compile(r"(?P<source>[\w./+\\:~-]{1,300}\.(?:cpp|h|cc|hpp|inc)):(?P<line>[0-9]{1,6}): ")
# An assertion is a compiler's where its place or its function is.
_COMPILER = re.compile(
    r"\b(?:mlir|llvm|nvws|tileir)::|triton::(?:gpu|nvidia_gpu|nvgpu|nvws|amdgpu|LinearLayout)\b|"
    r"[\\/](?:mlir|llvm(?:-project)?)[\\/]|[\\/](?:lib|include)[\\/](?:triton[\\/])?"
    r"(?:Dialect|Analysis|Conversion|Target|Tools[\\/]LinearLayout)|third_party[\\/](?:nvidia|amd)[\\/]lib|tileir"
)
_UNREACHABLE = re.compile(r"UNREACHABLE executed(?: at (?P<source>[\w./+\\:~-]{1,300}):(?P<line>[0-9]{1,6}))?")
_BEFORE_ERROR = re.compile(
    r"(?P<source>(?:[A-Za-z]:)?[^\s:\"'`(]{1,300}\.(?:py|mlir|ttir|ttgir|jl))\"?:(?P<line>[0-9]{1,7})(?::[0-9]{1,5})?\)?$"
)
_AFTER_ERROR = re.compile(r" \S{1,300}:[0-9]{1,7}:[0-9]{1,5}: (?:note|error):| \^| module (?:attributes )?\{| note:|\n")
_NOT_A_REASON = "Failures have been detected while processing"
_PIPELINE = re.compile(r"Pipeline failed while executing \[`(?P<pass>[\w.-]{1,120})`")
_PASS_OF_LLVM = re.compile(
    r"Running pass '(?P<pass>[^'\n]{1,120})' on (?:function|basic block|module) '@?(?P<function>[^'\n]{1,200})'"
)
_LLVM = re.compile(r"(?:LLVM ERROR|fatal error: error in backend): (?P<said>[^\n]{1,300})")
# An intrinsic's name has no space in it: what follows in a text made one line is somebody else's.
_INTRINSIC = re.compile(r"Cannot select: intrinsic %llvm\.[\w.]{1,200}")
_OPERATION = re.compile(
    r"error: (?P<said>'(?:tt|ttg|ttng|triton_gpu|triton_nvidia_gpu|arith|scf|cf|math|gpu|nvgpu|llvm|"
    r"func)\.[\w.]{1,60}' op [^\n]{1,300})"
)
_PLAIN = (
    (
        CRASHED,
        re.compile(r"error: [Ff]ailed to legalize (?:operation '[^'\n]{1,80}'[^\n]{0,60}|unresolved [a-z]{1,20})"),
    ),
    (CRASHED, re.compile(r"PassManager::run failed")),
    (CRASHED, re.compile(r"Failures have been detected while processing an MLIR pass pipeline")),
    (CRASHED, re.compile(r"failed to translate module to LLVM IR")),
    (CRASHED, re.compile(r"error encountered during parsing")),
    (NO_WORDS, re.compile(r"NVVM backend compilation failed|libNVVM failed while compiling[^\n]{0,80}")),
    (REFUSED, re.compile(r"NVVM_ERROR_[A-Z_]{3,40}:?[^\n]{0,300}")),
    (NO_WORDS, re.compile(r"NVPTX compiler invocation failed[^\n]{0,200}")),
    (NO_WORDS, re.compile(r"failed to compile Tile IR program[^\n]{0,200}|TileCompilerExecutionError: [^\n]{0,120}")),
    (CRASHED, re.compile(r"Compilation failed, MLIR module written to [^\n]{0,200}")),
    (REFUSED, re.compile(r"Failed in (?:cuda|nopython) mode pipeline \(step: [^)\n]{0,80}\)[^\n]{0,300}")),
    (REFUSED, re.compile(r"NVRTC_ERROR_COMPILATION[^\n]{0,300}|nvrtc: error: failed to [^\n]{0,200}")),
    (
        REFUSED,
        re.compile(
            r"(?:TVMError|tvm\.error\.InternalError|InternalError): Check failed: "
            r"(?![^\n]{0,60}(?:CUDA_SUCCESS|cudaSuccess))[^\n]{0,400}"
        ),
    ),
)
_PYTHON = re.compile(
    r"(?:[A-Za-z_][\w.]{0,80}\.)?(?<!\w)(?P<error>CompilationError|CompileTimeAssertionFailure|"
    r"UnsupportedLanguageConstruct): ?"
    r"(?P<place>at [0-9]{1,6}:[0-9]{1,5}:)?"
)
_PYTHON_ERRORS = ("CompilationError:", "CompileTimeAssertionFailure:", "UnsupportedLanguageConstruct:")
_DIED = re.compile(r"Fatal Python error: (?P<said>Aborted|Segmentation fault|Illegal instruction)")
_INNER = re.compile(r'File "(?P<file>[^"\n]{1,400})", line (?P<line>[0-9]{1,6}),? in (?P<function>[\w<>]{1,80})')
# A launch is no compile: the driver's side of Triton is left out.
_OF_COMPILER = re.compile(r"triton/(?:compiler|language|runtime/jit)|triton/backends/\w{1,20}/compiler")
_STAGE = re.compile(r"line (?P<line>[0-9]{1,6}),? in (?P<stage>make_(?:ttir|ttgir|gluon_ir|llir|ptx|cubin|ir|amdgcn|"
                    r"hsaco))\b|"
                    r"(?P<stage2>make_(?:ttir|ttgir|llir|ptx)) \(")  # fmt: skip
STAGES = {
    "make_ir": "reading the kernel's Python",
    "make_ttir": "Triton's first passes (TTIR)",
    "make_ttgir": "Triton's GPU passes (TTGIR)",
    "make_gluon_ir": "Gluon's passes",
    "make_llir": "the lowering to LLVM IR (make_llir)",
    "make_ptx": "LLVM's code generation (make_ptx)",
    "make_cubin": "ptxas (make_cubin)",
    "make_amdgcn": "LLVM's code generation for AMD",
}


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """One failure of a compiler before ptxas, put together from its several lines."""
    flat = log.flat.text
    parts = [
        part
        for part in (
            _crash(flat),
            _source_error(log),
            _operation(log),
            _llvm(flat),
            _python(log),
            _plain(flat),
            _died(log),
        )
        if part
    ]
    if any(run.complaints for run in log.runs) or any(f.kind != "died" for f in found):
        # What a caller makes of a refusal by ptxas is no failure of its own.
        parts = [part for part in parts if part.weight < 3]
    if not parts:
        return
    first = min(parts, key=lambda part: (part.weight, part.at))
    details = dict(first.details)
    if m := _PIPELINE.search(flat):
        details["pass"] = m["pass"]
    elif m := _PASS_OF_LLVM.search(flat):
        # The last one named is the innermost.
        last = [*_PASS_OF_LLVM.finditer(flat)][-1]
        details["pass"] = last["pass"]
        details["function"] = last["function"].lstrip("@")
    stage = next((m["stage"] or m["stage2"] for m in [_STAGE.search(log.text)] if m), None)
    details |= {"case": first.case, **({"stage": stage} if stage else {})}
    yield Failure("frontend_error", first.message[:600], at=log.flat.line_of(min(p.at for p in parts)), details=details)


@dataclass(frozen=True)
class _Part:
    """A piece of evidence: how much it says (0 most), where, in what form, its words and named parts."""

    weight: int
    at: int
    case: str
    message: str
    details: dict[str, str]


def _at(m: re.Match[str]) -> dict[str, str]:
    return {"source": f"{m['source']}:{m['line']}"} if m["source"] else {}


def _crash(flat: str) -> _Part | None:
    for m in itertools.islice(near(_ASSERTION, flat, "Assertion", before=0, after=1_000), _MAX_PLACES):
        before = flat[max(0, m.start() - 2_000) : m.start()]
        places = [*_BEFORE_ASSERTION.finditer(before)]
        if _COMPILER.search(before[places[-1].start() :] if places else before[-600:]):
            details = {**(_at(places[-1]) if places else {}), "assertion": m["said"]}
            return _Part(0, m.start(), CRASHED, f"assertion `{m['said']}` failed", details)
    if (found := _UNREACHABLE.search(flat)) is not None:
        before = re.split(r"[)\]}] |\. ", flat[max(0, found.start() - 120) : found.start()].strip())[-1].strip()
        details = {**_at(found), "before": before if 3 < len(before) < 90 else ""}
        return _Part(0, found.start(), CRASHED, found[0], details)
    return None


def _source_error(log: CrashLog) -> _Part | None:
    flat = log.flat.text
    at = flat.find(": error: ")
    for _ in range(_MAX_PLACES):
        if at < 0:
            return None
        place = _BEFORE_ERROR.search(flat[max(0, at - 330) : at])
        said = _AFTER_ERROR.split(flat[at + 9 : at + 420])[0].strip()
        if place and said and not said.startswith(_NOT_A_REASON):
            line = log.bare[log.flat.line_of(at)].partition(": error: ")[2].strip()
            # Behind the message stands the source line, on a line of its own unless breaks were lost.
            message = line if line and said.startswith(" ".join(line.split())) else said
            code = _pointed_at(log, log.flat.line_of(at))
            return _Part(1, at, CRASHED, f"error: {message}", {**_at(place), "said": message, "code": code})
        at = flat.find(": error: ", at + 9)
    return None


def _pointed_at(log: CrashLog, line: int) -> str:
    """The source line under a complaint, where a line of its own with a caret follows; else ""."""
    below = log.bare[line + 1 : line + 3]
    return below[0].strip() if len(below) == 2 and below[1].strip().startswith("^") else ""


def _operation(log: CrashLog) -> _Part | None:
    """A verifier's complaint without a place, as releases before 2.1 print it."""
    m = next(iter(near(_OPERATION, log.text, "' op ", before=120, after=320)), None)
    if m is None:
        return None
    at = log.flat.starts[min(log.text.count("\n", 0, m.start()), len(log.flat.starts) - 1)]
    return _Part(2, at, CRASHED, f"error: {m['said'].strip()}", {"said": m["said"].strip()})


def _llvm(flat: str) -> _Part | None:
    m = _LLVM.search(flat)
    # Memory of the machine that ran out is no fault of a pass.
    if m is not None and not m["said"].startswith("out of memory"):
        said = re.split(
            r" (?:In function: |clang|Stack dump:|PLEASE submit|Fatal Python error|Aborted|error: could not|File "
            r"\")", m["said"]
        )[0].strip()  # fmt: skip
        if intrinsic := _INTRINSIC.match(said):
            said = intrinsic[0]
        return _Part(1, m.start(), CRASHED, f"LLVM ERROR: {said}", {"llvm": said})
    return None


def _plain(flat: str) -> _Part | None:
    for case, pattern in _PLAIN:
        if m := pattern.search(flat):
            words = m[0].split(" For even more")[0].strip()
            return _Part(3, m.start(), case, words, {})
    return None


def _python(log: CrashLog) -> _Part | None:
    """A CompilationError's place and its last line, which holds the reason; the source between is left out."""
    m = next(iter(near_any(_PYTHON, log.text, _PYTHON_ERRORS, before=120, after=60)), None)
    if m is None:
        return None
    after = [line.strip() for line in log.text[m.end() : m.end() + 6_000].split("\n")]
    carets = next((i for i, line in enumerate(after) if line and not line.strip("^ ~")), None)
    reason = next((line for line in after[carets + 1 :] if line), "") if carets is not None else ""
    code = after[carets - 1] if carets else ""
    cause = _cause_before(log.text, m.start())
    if not reason or reason.startswith("Traceback"):
        # Python prints a cause in front of the error that was raised from it.
        if cause:
            code, reason = next((line for line in after if line), ""), cause
        else:
            reason = next((line for line in after if line), "")
    message = f"{m['error']}: {m['place'] or ''} {reason}".replace("  ", " ").strip()
    number = log.text.count("\n", 0, m.start())
    at = log.flat.starts[number] if number < len(log.flat.starts) else 0
    return _Part(
        0, at, REFUSED, message, {"reason": reason, "code": code[:200], "source": (m["place"] or "").strip("at :")}
    )


_CAUSE = "The above exception was the direct cause"


def _cause_before(text: str, at: int) -> str:
    """The last line of the exception that was the direct cause of the one at `at`; "" where none is printed."""
    mark = text.rfind(_CAUSE, max(0, at - 20_000), at)
    lines = [line.strip() for line in text[max(0, mark - 2_000) : mark].split("\n")] if mark >= 0 else []
    return next((line for line in reversed(lines) if line), "")[:300]


def _died(log: CrashLog) -> _Part | None:
    """Python's own dump of a process that died inside Triton's compiler: the innermost frame tells."""
    m = _DIED.search(log.text)
    if m is None:
        return None
    current = log.text.find("Current thread", m.end())
    if current < 0 and "Thread 0x" in log.text[m.end() :]:
        return None  # which of the threads died, only that word tells
    inner = _INNER.search(log.text, max(current, m.end()))
    if inner is None or not _OF_COMPILER.search(inner["file"].replace("\\", "/")) or inner["function"] == "make_cubin":
        return None
    number = log.text.count("\n", 0, m.start())
    at = log.flat.starts[number] if number < len(log.flat.starts) else 0
    details = {"frame": f"{inner['file'][-80:]}:{inner['line']} in {inner['function']}"}
    return _Part(2, at, CRASHED, f"Fatal Python error: {m['said']}", details)


# --- what is known of some of them ------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """Something public or measured about a crash of a front end: the words that tell it, a sentence, its evidence.

    `message` has to be in the complaint itself: a pass alone dies of many things.
    """

    words: re.Pattern[str]
    message: re.Pattern[str]
    sentence: str
    evidence: str


def _known(words: str, message: str, sentence: str, evidence: str) -> Known:
    return Known(re.compile(words), re.compile(message), sentence, evidence)


# Looked up in public threads, 2026-11.
KNOWN = (
    _known(
        r"HoistTMEMAlloc\.cpp",
        r"UNREACHABLE|Assertion|assertion",
        "this pass dies in 3.4.0 on fla-core 0.3.2's chunk_gated_delta_rule_bwd_kernel_dhu_blockdim64, and 3.5.0 "
        "gets that kernel past it; "
        "of another kernel it may die in later releases too",
        "measured here; reported alike: triton-lang/triton #7837, #8459, #8695",
    ),
    _known(
        r"RemoveLayoutConversions",
        r"does not dominate this use",
        "an operand that does not dominate its use after this pass was reported for several releases",
        "reported: triton-lang/triton #6733, #8257, #9809",
    ),
    _known(
        r"mma -> mma layout conversion is only supported on Ampere",
        r"",
        "Hopper's own conversion came with triton-lang/triton #4492 (August 2024); on chips before sm_80 it means "
        "tl.dot results fed "
        "into another tl.dot, which that release cannot convert",
        "reported: triton-lang/triton #2627, #4492",
    ),
    _known(
        r"tcgen05\.",
        r"Cannot select",
        "LLVM has no tcgen05 for the target it was told: on sm_120a the chip lacks it, on sm_103a that LLVM does not "
        "know the chip",
        "reported: triton-lang/triton #8481 (GB300), #11747 (sm_120)",
    ),
    _known(
        r"nvvm\.shfl\.sync",
        r"Cannot select",
        "LLVM was told a PTX version before 6.0 for a chip between sm_30 and sm_62, where shfl.sync needs it",
        "reported: llvm/llvm-project #90421",
    ),
    _known(
        r"redux\.sync\.f",
        r"Cannot select",
        "redux on floats exists on data-centre Blackwell only; LLVM was asked for it on another chip",
        "reported: triton-lang/triton #7517",
    ),
)


# --- what is said -----------------------------------------------------------------------------------------


def _frontend(log: CrashLog, failure: Failure) -> Answer:
    case = failure.detail("case")
    because = [_who_says(log, failure)]
    because += _places(log, failure)
    backend = other_backend(log)
    if backend and case != REFUSED:
        return backend_failed(log, because, backend)
    because += [f"known: {k.sentence} [{k.evidence}]" for k in _known_of(log, failure)]
    if log.speaks("AMD's compiler"):
        because.append("it was compiling for AMD's chips: this project covers NVIDIA's only")
    if case == REFUSED:
        return _refused(log, failure, because)
    if case == NO_WORDS:
        because.append("it gives no reason: neither a line nor a pass")
    triton = is_triton(log)
    return Answer(
        tuple(because),
        _crash_helps(log, failure),
        ()
        if not_nvidia(log)
        else (
            Suggestion(
                "ptxas flags, maxnreg or another ptxas" if triton else "ptxas flags or another ptxas",
                "ptxas never ran: there was no PTX yet"
                if "PTX" not in failure.message
                else "the PTX was never finished",
                "the stage that failed",
            ),
        ),
        *_crash_to_whom(log, failure),
        _crash_attach(log),
        spec_verbs(log, "compile", "bisect", "try", "report"),
        title="Triton itself failed before there was PTX"
        if triton
        else "a compiler failed before there was machine code",
    )


def _who_says(log: CrashLog, failure: Failure) -> str:
    names = (
        "CUTLASS DSL (CuTe)",
        "cuTile",
        "Reactant",
        "Numba",
        "TileLang",
        "Triton",
        "llc",
        "clang",
        "libNVVM",
        "XLA",
        "NVRTC",
    )
    who = next((n for n in names if log.speaks(n)), "the compiler")
    return f"{'LLVM' if failure.detail('llvm') and who in ('llc', 'clang') else who} says: {failure.message}"


def _places(log: CrashLog, failure: Failure) -> list[str]:
    said = []
    source, name = failure.detail("source"), kernel_of(log, failure)
    if failure.detail("before"):
        said.append(f"just before: {failure.detail('before')}")
    if source and failure.detail("case") == CRASHED:
        own = source.rsplit(":", 1)[0].endswith((".py", ".mlir", ".ttir", ".ttgir", ".jl"))
        said.append(f"at {source}" + ("" if own else ": the compiler's own source, not the kernel's"))
    if failure.detail("code") and failure.detail("case") == CRASHED:
        said.append(f"the source line: {failure.detail('code')}")
    if failure.detail("pass"):
        said.append(f"in the pass {failure.detail('pass')}")
    if failure.detail("frame"):
        said.append(f"the innermost frame: {failure.detail('frame')}")
    if failure.detail("stage"):
        stage = failure.detail("stage") or ""
        said.append(f"in the stage {stage}: {STAGES.get(stage, stage)}")
    more = [f"kernel {name}"] if name else []
    more += [f"target {chip_words(log.arch)}"] if log.arch else []
    more += [f"{log.num_warps} warps"] if log.num_warps else []
    if more:
        said.append("the text gives " + ", ".join(more))
    return said


def _known_of(log: CrashLog, failure: Failure) -> list[Known]:
    words = " ".join((failure.message, *(str(v) for v in failure.details.values())))
    if log.speaks("AMD's compiler"):
        return []
    return [
        k
        for k in KNOWN
        if k.words.search(words)
        and k.message.search(failure.message)
        and (is_triton(log) or "triton-lang" not in k.evidence)
    ]


def _refused(log: CrashLog, failure: Failure, because: list[str]) -> Answer:
    if failure.detail("code"):
        because.append(f"at the source line: {failure.detail('code')}")
    who = "Triton" if is_triton(log) else "the compiler"
    return Answer(
        tuple(because),
        (
            Suggestion(
                "mend the source at the place that is named",
                failure.detail("reason") or "the message says what is refused",
                "the message itself",
            ),
        ),
        ()
        if other_backend(log)
        else (
            Suggestion(
                "num_warps, maxnreg, ptxas flags or another ptxas"
                if is_triton(log)
                else "ptxas flags or another ptxas",
                f"{who} refused the source before there was PTX",
                "the place where it is raised",
            ),
        ),
        OWNER,
        f"{who} says what it cannot take in the source; to its makers only if that source is valid",
        ("the kernel's source and its constexprs",),
        spec_verbs(log, "compile"),
        title=f"{who} refuses the kernel's source",
    )


# Words that say that no launch option can help.
_NO_SUCH_CHIP = re.compile(
    r"[Cc]ompute ?[Cc]apability[\w ]{0,20} (?:is )?not supported|unsupported (?:compute )?capability"
)
_TENSOR_MEMORY = re.compile(r"requires a target with tensor memory")
_OPERANDS = re.compile(r"[Uu]nsupported (?:DotOp|dot|conversion|rounding mode|mma|MMA|operand|data ?type|element type)")


def _crash_helps(log: CrashLog, failure: Failure) -> tuple[Suggestion, ...]:
    if is_triton(log):
        said = triton_words(log)
        words = " ".join((failure.message, failure.detail("assertion") or ""))
        if _TENSOR_MEMORY.search(words):
            return (
                Suggestion(
                    "compile for data-centre Blackwell (sm_100a, sm_103a), or take another kernel for this chip",
                    "tensor memory is in those chips only; neither num_warps nor a release of Triton adds it",
                    "the message itself; helpers/hardware.py",
                ),
            )
        if _NO_SUCH_CHIP.search(words):
            return (
                Suggestion(
                    "a newer release of Triton, if the GPU is newer than this one; a GPU older than sm_75 is left out "
                    "by newer releases",
                    "this Triton has no code for the GPU's capability",
                    "the message itself; which release knows which chip is not recorded here",
                ),
            )
        release = Suggestion(
            "another release of Triton, older or newer" + (f" than {said}" if said else ""),
            "the fault is in that release's own code",
            "general; register-cliff bisect says which releases have it",
        )
        if "Cannot select" in words:
            return (
                Suggestion(
                    "a path of the kernel without that instruction, where the chip does not have it",
                    "LLVM has no way to write it for the target that it was told; no launch option changes that",
                    "the message itself",
                ),
                Suggestion(
                    "another release of Triton, which brings another LLVM, where the chip has it",
                    "a later LLVM may know the instruction for that chip",
                    "general; register-cliff bisect says which releases fail",
                ),
            )
        if _OPERANDS.search(words):
            return (
                Suggestion(
                    "other data types or shapes of the operation that is named",
                    "this release cannot lower it with the operands that it has",
                    "the message itself",
                ),
                release,
            )
        return (
            Suggestion(
                "another num_warps or num_stages, from the kernel's own list",
                "they change what the passes do and not what the kernel computes",
                "general; register-cliff try finds out for the kernel",
            ),
            release,
        )
    if log.speaks("llc", "clang") or (failure.detail("llvm") or "").startswith("Cannot select"):
        return (
            Suggestion(
                "another release of LLVM, or a target that has the instruction (-mcpu, -mattr=+ptxNN)",
                "it has no way to write that operation for the target it was told",
                "the message itself",
            ),
        )
    return (
        Suggestion(
            "another release of that compiler, and the smallest kernel that still fails",
            "a compiler that breaks off without a reason is at fault, whatever the kernel is",
            "general",
        ),
    )


def _crash_to_whom(log: CrashLog, failure: Failure) -> tuple[str, str]:
    if _TENSOR_MEMORY.search(failure.message):
        return OWNER, "it chose a memory that this chip does not have"
    made = maker(log)
    if log.speaks("Intel's Triton"):
        return "Intel's backend for Triton (github.com/intel/intel-xpu-backend-for-triton)", (
            "it is not NVIDIA's path, and not covered here; a pass that breaks off is at fault, whatever the kernel is"
        )
    if is_triton(log) and not log.speaks("CUTLASS DSL (CuTe)", "cuTile", "TileLang"):
        said = triton_words(log)
        if "Cannot select" in failure.message:
            return TRITON, "LLVM breaks off over an instruction that Triton should refuse for that target with a reason"
        return TRITON, "a pass that asserts or breaks off is at fault, whatever the kernel is" + (
            f" (version {said})" if said else "; name its version"
        )
    if made:
        return made, "a compiler that breaks off by itself is at fault, whatever the kernel is"
    return "the makers of the compiler that printed it", "a compiler that breaks off by itself is at fault"


def _crash_attach(log: CrashLog) -> tuple[str, ...]:
    if is_triton(log):
        return (
            "the MLIR module after the message, whole, with its `{-# external_resources … #-}` block: it is the "
            "reproducer",
            "the kernel's source, its constexprs, num_warps and num_stages",
        )
    return ("the kernel's source, and the intermediate files if the compiler can keep them",)


KINDS = (Kind("frontend_error", "a compiler failed before there was machine code", _frontend),)

__all__ = ["KINDS", "KNOWN", "PTXAS_WORDINGS", "STAGES", "WORDINGS", "recognise"]

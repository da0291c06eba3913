"""Compilers that this project does not cover: AMD's. It says what the message is, and stops there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from helpers.diagnosis.failure import LIKELY, Answer, Failure, Kind, Suggestion
from helpers.diagnosis.words import OWNER, is_triton, kernel_of
from helpers.hardware import AMD_ARCHS
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.pasted_text import near

PTXAS_WORDINGS = ()
WORDINGS = ()
# LLVM's own register allocator: NVIDIA's path has none before ptxas, which words it otherwise.
_OUT_OF_REGISTERS = (
    (re.compile(r"ran out of registers during register allocation"), "ran out of registers"),
    (re.compile(r"(?:LLVM ERROR: )?could not scavenge [^\n]{1,60}? to spill[^\n]{0,60}"), "could not scavenge"),
    (re.compile(r"(?:LLVM ERROR: )?Error while trying to spill [SV]GPR[^\n]{0,160}"), "Error while trying to spill"),
    (re.compile(r"inline assembly requires more registers than available"), "requires more registers"),
    (re.compile(r"couldn't allocate (?:output|input) register for constraint '[^'\n]{1,8}'"), "couldn't allocate"),
)
_BACKEND = re.compile(r"triton[\\/]backends[\\/](?P<name>[a-z]\w{1,30})[\\/]")
_BACKEND_OF = {
    "amd": "github.com/triton-lang/triton, third_party/amd",
    "cpu": "github.com/triton-lang/triton-cpu",
    "intel": "github.com/intel/intel-xpu-backend-for-triton",
}
_ROCM = re.compile(r"(?i)(?<![a-z])(?:rocm|hip(?:cc|error)?(?![a-z])|ROCArray|rocarray)")
_ANY = re.compile(
    r"LLVM ERROR: [^\n]{1,200}|fatal error: error in backend: [^\n]{1,200}|"
    r"(?:ld\.)?lld: error: [^\n]{1,200}|error: [^\n]{0,80}instruction not supported on this GPU"
)


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """A failure of AMD's compiler."""
    flat, amd = log.flat.text, log.speaks("AMD's compiler")
    for pattern, word in _OUT_OF_REGISTERS:
        for m in near(pattern, flat, word):
            details = {"amd": "yes" if amd else "", "registers": "yes"}
            yield Failure("amd_compiler", m[0].strip(), at=log.flat.line_of(m.start()), details=details)
            return
    said = _ANY.search(flat) if amd and not log.runs else None
    if said:
        words = re.split(r" (?:Stack dump|PLEASE|Aborted|File \"|v_\w+ |error: [0-9]+ error)", said[0])[0].strip()
        yield Failure("amd_compiler", words, at=log.flat.line_of(said.start()), details={"amd": "yes"})


def not_nvidia(log: CrashLog) -> str:
    """`AMD's` or `Intel's` where the log shows their toolchain and nothing of NVIDIA's compilers; else ""."""
    if (log.arch or "").startswith("sm_") or log.speaks("ptxas", "nvcc", "NVRTC", "libNVVM", "nvJitLink"):
        return ""
    return next((w for tool, w in (("AMD's compiler", "AMD's"), ("Intel's Triton", "Intel's")) if log.speaks(tool)), "")


def other_backend(log: CrashLog) -> str:
    """The folder's name of a backend of Triton that is not NVIDIA's (`amd`, `cpu`); "" where NVIDIA shows as well."""
    if (log.arch or "").startswith("sm_"):
        return ""
    names = dict.fromkeys(m["name"] for m in near(_BACKEND, log.text, "backends", before=20, after=60))
    if "nvidia" in names:
        return ""
    return next(iter(names), "intel" if log.speaks("Intel's Triton") else "")


def backend_failed(log: CrashLog, because: list[str], backend: str) -> Answer:
    """A failure inside a backend of Triton that this project has measured nothing of."""
    where = _BACKEND_OF.get(backend, "")
    return Answer(
        (
            *because,
            f"the files in the log are those of Triton's backend {backend}: this project covers NVIDIA's only, and "
            "nothing that it measured bears on another",
        ),
        report_to=f"the makers of Triton's backend {backend}{f' ({where})' if where else ''}",
        report_why="a pass that asserts or breaks off is at fault, whatever the kernel is",
        attach=("the kernel's source and its constexprs", f"the versions of Triton and of its backend {backend}"),
        title=f"Triton's backend {backend} failed: not covered here",
        confidence=LIKELY,
    )


def not_covered(log: CrashLog, failure: Failure, whose: str) -> Answer:
    """A failure that is worded as NVIDIA's is, for a chip of another maker: its numbers, and nothing measured."""
    because = [f"the log says: {failure.message}"]
    if failure.required is not None and failure.limit is not None:
        over = failure.required - failure.limit
        because.append(f"{failure.required:,} are asked for, {failure.limit:,} are there: {over:,} too many")
    because.append(
        f"the log shows {whose} chip or toolchain{f' ({log.arch})' if log.arch else ''}: this project covers NVIDIA's "
        f"chips only, and nothing that it measured bears on {whose}"
    )
    return Answer(
        tuple(because),
        (
            Suggestion(
                "a smaller tile, fewer warps or fewer pipeline stages",
                "what a block keeps at once has to fit",
                f"general; not tried on {whose} chips",
            ),
        ),
        (),
        OWNER,
        "tile, warps and stages are its own choice",
        ("the shapes and data types of the inputs", "tile sizes, num_warps and num_stages"),
        title=f"the kernel asks for more than {whose} chip has: not covered here",
    )


def _amd(log: CrashLog, failure: Failure) -> Answer:
    sure = failure.detail("amd")
    name = kernel_of(log, failure)
    because = [f"the log says: {failure.message}"]
    because.append(
        "these are words of LLVM, which compiles for AMD's chips here" + (f" ({log.arch})" if log.arch else "")
        if sure
        else "these are words of LLVM's own register allocator, as for AMD's chips (ROCm); NVIDIA's path does not "
        "have it"
    )
    if failure.detail("registers"):
        because.append("the compiler ran out of the chip's registers (SGPRs or VGPRs) and found no room to spill")
    if name:
        because.append(f"the kernel is {name}")
    because.append("what this project advises was tried on NVIDIA's chips only: it has no advice for AMD's")
    if log.arch in AMD_ARCHS:
        because.append(f"`register-cliff compile SPEC --arch {log.arch}` shows a kernel's registers and scratch there")
    rocm = sure and _ROCM.search(log.text)
    to = "ROCm's compiler (github.com/ROCm/llvm-project)" if rocm else "the makers of that compiler"
    return Answer(
        tuple(because),
        report_to=f"{to}{', or Triton for its AMD backend' if is_triton(log) and sure else ''}",
        report_why="a compiler that breaks off instead of spilling is at fault, whatever the kernel is"
        if failure.detail("registers")
        else "whether the kernel or the compiler is at fault, this project cannot say of AMD's",
        attach=("the kernel's source or LLVM IR, the chip (gfx…), the versions of ROCm and LLVM",),
        confidence="certain" if sure else LIKELY,
    )


KINDS = (Kind("amd_compiler", "AMD's compiler failed: not covered here", _amd),)

__all__ = [
    "KINDS",
    "PTXAS_WORDINGS",
    "WORDINGS",
    "backend_failed",
    "not_covered",
    "not_nvidia",
    "other_backend",
    "recognise",
]

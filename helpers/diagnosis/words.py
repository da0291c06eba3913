"""Phrases that several kinds share: whose kernel it is, who made its compiler, what goes on from here."""

from __future__ import annotations

from helpers.diagnosis.failure import Failure
from helpers.hardware import ARCHS, chips_of_limit, known_chip
from helpers.inspection.crash.crash_log import CrashLog

TRITON = "Triton (github.com/triton-lang/triton)"
NVIDIA = "NVIDIA (developer.nvidia.com/bugs)"
NOBODY = "nobody yet"
OWNER = "the kernel's own project"
# The makers of the tool that wrote the kernel's PTX, in the order in which the log's evidence is asked.
_MAKERS = (
    ("CUTLASS DSL (CuTe)", "CUTLASS (github.com/NVIDIA/cutlass)"),
    ("cuTile", "cuTile (github.com/NVIDIA/cutile-python)"),
    ("TileLang", "TileLang (github.com/tile-ai/tilelang)"),
    ("TVM", "TVM (github.com/apache/tvm)"),
    ("Julia (CUDA.jl)", "CUDA.jl (github.com/JuliaGPU/CUDA.jl)"),
    ("Numba", "numba-cuda (github.com/NVIDIA/numba-cuda)"),
    ("Reactant", "Reactant (github.com/EnzymeAD/Reactant.jl)"),
    ("XLA", "XLA (github.com/openxla/xla)"),
    ("Triton", TRITON),
    ("llc", "LLVM (github.com/llvm/llvm-project)"),
    ("clang", "LLVM (github.com/llvm/llvm-project)"),
)


def maker(log: CrashLog) -> str:
    """To whom faults of the tool that wrote the PTX go; "" where the log does not show which it is."""
    return next((to for name, to in _MAKERS if log.speaks(name)), "")


def is_triton(log: CrashLog) -> bool:
    """Whether Triton shows itself in the log."""
    return log.speaks("Triton")


def is_cuda_cpp(log: CrashLog, failure: Failure | None = None) -> bool:
    """Whether the kernel is CUDA C++: nvcc, NVRTC or clang speak, or its name is mangled and no other language does."""
    if log.speaks("nvcc", "NVRTC", "clang"):
        return not log.speaks("TileLang", "TVM")
    name = kernel_of(log, failure) or ""
    others = ("Triton", "Julia (CUDA.jl)", "Numba", "CUTLASS DSL (CuTe)", "cuTile", "TileLang", "XLA")
    return name.startswith("_Z") and not log.speaks(*others)


def kernel_of(log: CrashLog, failure: Failure | None) -> str | None:
    """The kernel that failed: the one the message names, else the one that the log names."""
    said = failure.detail("function") if failure else None
    return said or log.kernel_name


def chip_words(name: str) -> str:
    """`sm_75 (Turing: Tesla T4, RTX 20, GTX 16)`; the name alone where it is in no table."""
    chip = known_chip(name)
    return f"{name} ({chip.generation}: {chip.product})" if chip else name


def limit_words(limit: int) -> str:
    """Which chips have exactly that much shared memory per block: `sm_90a, sm_100a, sm_103a`; "" for none."""
    by_capability = {a.capability: a.name for a in ARCHS.values()}
    return ", ".join(by_capability.get(c.capability, c.name) for c in chips_of_limit(limit))


def triton_words(log: CrashLog) -> str:
    """Triton's version as far as the log tells, in a phrase; "" where it tells nothing."""
    words = log.triton.words()
    return "" if words in ("not known", "none of the releases read") else words


def spec_verbs(log: CrashLog, *verbs: str) -> tuple[str, ...]:
    """What goes on with the kernel in hand, for kernels that this project can compile: Triton's."""
    if not is_triton(log) or log.speaks("AMD's compiler", "Intel's Triton"):
        return ()
    return (
        "with the kernel's source or wheel in hand: register-cliff spec makes a spec of it, and then register-cliff "
        + ", ".join(verbs)
        + (" goes on from there" if len(verbs) == 1 else " go on from there"),
    )


def ptx_verbs(log: CrashLog) -> tuple[str, ...]:
    """What goes on with the PTX alone, whoever wrote it."""
    if log.ptx is not None and not log.ptx_cut:
        return ("the log holds the PTX: register-cliff report LOG makes a bundle that reproduces the failure",)
    if log.speaks("Triton"):
        return ("Triton leaves the PTX in the temporary folder: register-cliff pressure FILE.ptx reads it",)
    if is_cuda_cpp(log):
        return ("nvcc -ptx (or --keep) writes the PTX; register-cliff pressure FILE.ptx reads it",)
    return ("with the PTX in hand, register-cliff pressure FILE.ptx reads it",)

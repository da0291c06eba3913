"""A kernel that compiled and cannot be launched: its registers, threads or memory together are more than an SM has."""

from __future__ import annotations

from helpers.diagnosis.failure import Answer, Failure, Kind, Suggestion, wording
from helpers.diagnosis.kinds.other_compilers import not_covered, not_nvidia
from helpers.diagnosis.words import OWNER, is_cuda_cpp, is_triton, spec_verbs
from helpers.hardware import cap_for
from helpers.inspection.crash.crash_log import CrashLog

# One error has a name, a text or both, in either order.
_NAME = r"(?:CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES|cudaErrorLaunchOutOfResources|ERROR_LAUNCH_OUT_OF_RESOURCES)"
_TEXT = r"too many resources requested for launch"
WORDINGS = (
    wording(
        "launch_resources",
        rf"(?:{_NAME}\W{{0,6}}|Triton Error \[CUDA\]: |CUDA error: )?{_TEXT}(?:\W{{0,6}}{_NAME})?",
        "too many resources",
    ),
    *(wording("launch_resources", _NAME, hint) for hint in ("aunchOutOfResources", "LAUNCH_OUT_OF_RESOURCES")),
)
PTXAS_WORDINGS = ()


def _launch(log: CrashLog, failure: Failure) -> Answer:
    if whose := not_nvidia(log):
        return not_covered(log, failure, whose)
    triton, cpp = is_triton(log), is_cuda_cpp(log)
    because = [
        f"the log says: {failure.message}",
        "the kernel compiled; the driver refuses to launch it: registers per thread x threads per block exceed the "
        "65,536 "
        "registers of an SM (or its shared memory is more than the launch was allowed)",
    ]
    if log.num_warps:
        because.append(
            f"{log.num_warps} warps leave {cap_for(num_warps=log.num_warps)} registers a thread; the kernel has more"
        )
    fewer = "fewer warps (num_warps)" if triton else "fewer threads per block"
    cap = (
        "maxnreg as a launch option"
        if triton
        else "__launch_bounds__(threads) on the kernel, or -maxrregcount"
        if cpp or not log.speaks("Numba", "CuPy", "Julia (CUDA.jl)")
        else "a limit on registers when the kernel is compiled (max_registers, maxregs, --maxrregcount)"
    )
    return Answer(
        tuple(because),
        (
            Suggestion(
                fewer, "half the threads may have twice the registers each", "arithmetic: 65,536 registers per SM"
            ),
            Suggestion(
                f"a cap on registers that fits the threads: {cap}",
                "compiled for that number of threads, the kernel fits, and may spill",
                "arithmetic: 512 threads leave 128 registers each, 1,024 leave 64",
            ),
        ),
        (
            Suggestion(
                "a GPU with more memory, or a smaller batch",
                "the limit is that of one block on one SM",
                "the CUDA programming guide's table of limits, in helpers/hardware.py",
            ),
        ),
        OWNER,
        "threads and registers of its launch are its own choice; no compiler is at fault",
        ("threads per block, and the kernel's registers (ptxas -v, or cuobjdump -res-usage)",),
        spec_verbs(log, "compile", "try"),
    )


KINDS = (Kind("launch_resources", "the compiled kernel needs more registers than its launch leaves", _launch),)

__all__ = ["KINDS", "PTXAS_WORDINGS", "WORDINGS"]

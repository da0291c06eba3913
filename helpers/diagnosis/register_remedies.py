"""What helps when ptxas runs out of registers, and what does not: the cap that is met decides."""

from __future__ import annotations

from helpers.diagnosis.suggestions import ARITHMETIC, MEASURED_ON, Advice, Suggestion, measured
from helpers.hardware import MAX_REGS_PER_THREAD, POWERS, register_share, warps_of_cap
from helpers.inspection.crash.crash_log import CrashLog, Failure
from helpers.recorded import recorded


def exhaustion(log: CrashLog, failure: Failure) -> Advice:
    """Against C7600: at 255 the kernel has to want less; below, the cap that was set or shared out can give way."""
    asked = failure.register_count_asked
    if asked is not None and asked < MAX_REGS_PER_THREAD:
        return Advice((*_raise_cap(log, asked), *_smaller(log)), _IN_VAIN_CAPPED)
    return Advice(_at_the_limit(log), _in_vain())


def _raise_cap(log: CrashLog, asked: int) -> tuple[Suggestion, ...]:
    warps = warps_of_cap(asked)
    found = []
    if log.register_cap == asked:
        found.append(Suggestion(
            f"raise or drop the cap of {asked} registers that the log itself sets (maxnreg, --maxrregcount)",
            "ptxas was held to it; up to 255 an instruction can address",
            measured(("maxnreg=128 as a launch option", "maxnreg=168 as a launch option",
                      "maxnreg=255 as a launch option"), ("3.5.1",)),
        ))  # fmt: skip
    if warps and log.register_cap in (None, asked) and log.num_warps in (None, *warps):
        n = log.num_warps or warps[0]
        half = max(1, n // 2)
        found.append(Suggestion(
            f"num_warps {half} instead of {n}",
            f"{n} warps are {n * 32} threads, which leave {asked} registers each; {half} warps leave "
            f"{register_share(half)}",
            ARITHMETIC,
        ))  # fmt: skip
    if log.register_cap is None and (not warps or asked % 64 == 0):
        found.append(Suggestion(
            f"look for a cap of {asked} in the launch: maxnreg in the options, --maxrregcount in ptx_options",
            f"{asked} is " + (f"what {' or '.join(map(str, warps))} warps leave, but a cap can be the reason as well"
                              if warps else "no share of the register file that a power-of-two num_warps leaves"),
            measured(("maxnreg=128 as a launch option", "maxnreg=168 as a launch option"), ("3.5.1",)),
        ))  # fmt: skip
    return tuple(found)


def _at_the_limit(log: CrashLog) -> tuple[Suggestion, ...]:
    where = _where(log)
    return (
        *_smaller(log),
        Suggestion(
            "in the kernel: loop bounds instead of a tile-wide `if`, and accumulate inside the dot (scale once, after)",
            "takes away the branch and the second accumulator; the large tile stays",
            f"{measured(('bounds and fused',))}, {where}",
        ),
        *_newer_triton(log),
        Suggestion(
            "maxnreg=255 as a Triton launch option (not as a ptxas flag)",
            "told of a limit, Triton moves tensor memory in smaller pieces (x64 for x128); the flag comes after",
            f"{measured(('maxnreg=255 as a launch option',))}, {where}; reported for maxnreg=250: "
            "triton-lang/triton #8488",
        ),
        Suggestion(
            "ptxas -O1 (launch option ptx_options='-O1')",
            "the allocator survives; the kernel spills more and is scheduled worse",
            f"{measured(('-O1',))}, {where}",
        ),
        Suggestion(
            "a 16-bit KV cache or operands up-cast before the dot, where fp8 is in the kernel",
            "fp8 operands are one of the incident's four necessary ingredients",
            f"{measured(('bf16 KV cache', 'fp8 up-cast before the dots'), ('3.5.1',))}, {where}",
        ),
    )


def _where(log: CrashLog) -> str:
    """What the measurements were made on, and that this log's arch is another where it is."""
    other = log.arch and not log.arch.startswith(("sm_100", "sm_103"))
    return MEASURED_ON + (f"; not measured for {log.arch}" if other else "")


def _newer_triton(log: CrashLog) -> tuple[Suggestion, ...]:
    here = (log.triton.stated,) if log.triton.stated else log.triton.candidates
    if here and all(v >= "3.7" for v in here):
        return ()
    return (
        Suggestion(
            "Triton 3.7 or later",
            "its code generation changed: the same source compiles, with heavy spills",
            f"{measured(('nothing',))}, {_where(log)}",
        ),
    )


def _smaller(log: CrashLog) -> tuple[Suggestion, ...]:
    return (
        Suggestion(
            "a smaller tile: 64x64 where it was 128x64 (halve BLOCK_M first)",
            "accumulator and scores per thread halve",
            f"{measured(('tile 64x64',))}, {_where(log)}",
        ),
    )


def _in_vain() -> tuple[Suggestion, ...]:
    table = recorded("version_matrix")
    died = sorted({r["ptxas_version"] for r in table if r["triton"] == "3.5.1" and r["status"] == "register_exhausted"},
                  key=lambda v: [int(n) for n in v.split(".")])  # fmt: skip
    span = f", {len(died)} releases from {died[0]} to {died[-1]}" if died else ""
    return (
        Suggestion(
            "--maxrregcount, at any value",
            "a ptxas flag comes after Triton chose its instructions; 255 is the most an instruction can address",
            measured([f"--maxrregcount={n}" for n in (128, 168, 250, 255)], ("3.5.1",)),
        ),
        Suggestion(
            "another ptxas for the same PTX",
            "it is the PTX that asks for too much",
            f"measured here (data/version_matrix.csv): Triton 3.5.1's PTX is fatal on every ptxas tried{span}",
        ),
        Suggestion("ptxas -O2, --regAllocOptLevel=2", "the default is -O3; neither gives way",
                   measured(("-O2", "--regAllocOptLevel=2"), ("3.5.1",))),
        Suggestion("more pipeline stages (num_stages)", "they take shared memory and, if anything, registers",
                   measured(("num_stages 2",), ("3.5.1",))),
        Suggestion("more warps, or fewer: it compiles, badly", "kilobytes of spills, or off the fast tensor-core path",
                   measured(("num_warps 4", "num_warps 16"), ("3.5.1",))),
    )  # fmt: skip


_IN_VAIN_CAPPED = (
    Suggestion(
        "a chip with more registers, or more shared memory",
        "every chip listed here has 65,536 registers per SM and the same rule of sharing",
        "the CUDA programming guide's table of limits, in helpers/hardware.py",
    ),
)


def cap_too_low(log: CrashLog, failure: Failure) -> Advice:
    """Against C7602: one instruction's operands alone are more than the cap."""
    asked, needed = failure.register_count_asked, failure.register_count_needed
    found = []
    if needed is not None:
        room = next((n for n in reversed(POWERS) if register_share(n) >= needed), None)
        words = f" ({room} warps leave {register_share(room)})" if room else ""
        found.append(Suggestion(
            f"let a thread have {needed} registers or more: raise or drop maxnreg, or fewer warps{words}",
            f"one instruction alone takes more than the {asked} it was given; ptxas says {needed} would do for it",
            "ptxas's own message; whether the rest then fits is another question",
        ))  # fmt: skip
    helps = (*found, *_raise_cap(log, asked), *_smaller(log)) if asked is not None else (*found, *_smaller(log))
    return Advice(
        helps,
        (
            Suggestion(
                "-O1 or another allocator setting",
                "no allocator can give an instruction fewer registers than its operands take",
                "follows from ptxas's message; not measured here",
            ),
        ),
    )

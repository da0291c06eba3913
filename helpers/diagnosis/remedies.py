"""What was measured on the incident's kernel: what helps against its register exhaustion, and what does not.

Each claim with its evidence; for another kernel it is a lead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from helpers.diagnosis.failure import Suggestion
from helpers.inspection.crash.crash_log import CrashLog
from helpers.recorded import recorded

MEASURED_ON = "on the incident's kernel"
SWITCH = "DISABLE_LLVM_OPT=nvptx-no-f32x2"
SWITCH_CURES = (3, 6)
"""The release of Triton that dies of the incident and whose LLVM has the switch."""


ABOUT_MEASURED = (
    "the incident's kernel is extend attention, head dim 256, fp8 cache, window 1024, tile 128x64, 8 warps, compiled "
    "for sm_100a; for another kernel what was measured is a lead: register-cliff ablate finds out for it"
)


ARITHMETIC = "arithmetic: 65,536 registers per SM, allocated to warps in units of 8 per thread"


def _verdict(row: dict[str, str]) -> str:
    if row["status"] in ("ok", "spills"):
        path = "" if row["tensor_core_path"] == "tcgen05" else f" by {row['tensor_core_path']}"
        return f"compiles{path}, {int(float(row['spill_store_bytes']))} B of spill stores"
    return f"{row['ptxas_code'] or row['status']}"


def measured(remedies: Iterable[str], tritons: Iterable[str] = ()) -> str:
    """The recorded verdicts of remedies of data/remedies.csv as one phrase; several remedies want one Triton."""
    wanted, allowed = set(remedies), set(tritons)
    rows = [r for r in recorded("remedies") if r["remedy"] in wanted and (not allowed or r["triton"] in allowed)]
    if not rows:
        return "measured here: data/remedies.csv"
    by_verdict: dict[str, list[str]] = {}
    for row in rows:
        word = row["remedy"] if len(allowed) == 1 else row["triton"]
        by_verdict.setdefault(_verdict(row), []).append(word)
    words = "; ".join(f"{', '.join(names)}: {verdict}" for verdict, names in by_verdict.items())
    return f"measured here (data/remedies.csv, Triton {f'{next(iter(allowed))}, ' if len(allowed) == 1 else ''}{words})"


def at_the_limit(log: CrashLog, *, same: bool) -> tuple[Suggestion, ...]:
    """What helps against C7600 at 255 registers, best first: measured on the incident's kernel.

    `same` says that the log is of that kernel: then edits of its source are among them.
    """
    where = _where(log)
    in_the_kernel = (
        Suggestion(
            "in the kernel: loop bounds instead of a tile-wide `if`, and accumulate inside the dot (scale once, after)",
            "takes away the branch and the second accumulator; the large tile stays",
            f"{measured(('bounds and fused',))}, {where}",
        ),
    )
    operands = (
        Suggestion(
            "a 16-bit KV cache or operands up-cast before the dot, where fp8 is in the kernel",
            "fp8 operands are one of the five ingredients without which the incident's kernel compiles",
            f"{measured(('bf16 KV cache', 'fp8 up-cast before the dots'), ('3.5.1',))}, {where}",
        ),
    )
    return (
        *smaller_tile(log),
        *(in_the_kernel if same else ()),
        *_newer_triton(log),
        Suggestion(
            "maxnreg=255 as a Triton launch option (not as a ptxas flag)",
            "Triton then moves tensor memory in smaller pieces (x64 instead of x128); a flag of ptxas comes too late",
            f"{measured(('maxnreg=255 as a launch option',))}, {where}; reported for maxnreg=250: "
            "triton-lang/triton #8488",
        ),
        *_llvm_switch(log),
        Suggestion(
            "ptxas -O1 (launch option ptx_options='-O1')",
            "ptxas then finds a way to spill; the kernel spills more, and its instructions are in a worse order",
            f"{measured(('-O1',))}, {where}",
        ),
        *(operands if same else ()),
    )


def _where(log: CrashLog) -> str:
    """What the measurements were made on, and that this log's arch is another where it is."""
    other = log.arch and not log.arch.startswith(("sm_100", "sm_103"))
    return MEASURED_ON + (f"; not measured for {log.arch}" if other else "")


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"[0-9]{1,4}", version)[:2])


def _newer_triton(log: CrashLog) -> tuple[Suggestion, ...]:
    here = (log.triton.stated,) if log.triton.stated else log.triton.candidates
    if any(_release(v) >= (3, 7) for v in here):
        return ()
    return (
        Suggestion(
            "Triton 3.7 or later",
            "its LLVM writes pairs of floats in another form: the same source compiles, with heavy spills",
            f"{measured(('nothing',))}, {_where(log)}",
        ),
    )


def _llvm_switch(log: CrashLog) -> tuple[Suggestion, ...]:
    """LLVM's switch against pairs of floats, where the log's Triton may be the release that it was seen to cure.

    The LLVM of Triton 3.5 and older has no such switch, and later releases than 3.6 compile the incident without it,
    with fewer or more spills (data/remedies.csv).
    """
    here = (log.triton.stated,) if log.triton.stated else log.triton.candidates
    if here and not any(_release(v) == SWITCH_CURES for v in here):
        return ()
    known = "" if here else "; Triton 3.5 and older do not have this switch"
    return (
        Suggestion(
            f"{SWITCH} in the environment of the compile, on Triton 3.6",
            f"LLVM then writes no instructions on pairs of floats, whose operands it puts together for ptxas{known}",
            f"{measured((SWITCH,))}, {_where(log)}; the releases from 3.7 on compile it without the switch too",
        ),
    )


def smaller_tile(log: CrashLog) -> tuple[Suggestion, ...]:
    """The first remedy: the tile that the merged fix chose."""
    return (
        Suggestion(
            "a smaller tile: 64x64 where it was 128x64 (halve BLOCK_M first)",
            "accumulator and scores per thread halve",
            f"{measured(('tile 64x64',))}, {_where(log)}",
        ),
    )


def in_vain_at_the_limit(*, same: bool) -> tuple[Suggestion, ...]:
    """What does not help against C7600 at 255 registers: measured on the incident's kernel.

    What may be otherwise for another kernel is listed for the `same` one only.
    """
    cap = Suggestion(
        "--maxrregcount, at any value",
        "a ptxas flag comes after Triton chose its instructions; 255 is the most an instruction can address",
        measured([f"--maxrregcount={n}" for n in (128, 168, 250, 255)], ("3.5.1",)),
    )
    level = Suggestion("ptxas -O2, --regAllocOptLevel=2 or 4", "none of these levels helps; the default is -O3",
                       measured(("-O2", "--regAllocOptLevel=2", "--regAllocOptLevel=4"), ("3.5.1",)))  # fmt: skip
    if not same:
        return cap, level
    table = recorded("version_matrix")
    died = sorted({r["ptxas_version"] for r in table if r["triton"] == "3.5.1" and r["status"] == "register_exhausted"},
                  key=lambda v: [int(n) for n in v.split(".")])  # fmt: skip
    span = f", {len(died)} releases from {died[0]} to {died[-1]}" if died else ""
    return (
        cap,
        Suggestion(
            "another ptxas for the same PTX",
            "every ptxas tried gives up on this PTX, so another one does not help",
            f"measured here (data/version_matrix.csv): Triton 3.5.1's PTX is fatal on every ptxas tried{span}",
        ),
        level,
        Suggestion("more pipeline stages (num_stages)", "they take shared memory and, if anything, registers",
                   measured(("num_stages 2",), ("3.5.1",))),
        Suggestion("more warps, or fewer",
                   "it compiles with kilobytes of spills, and with 16 warps without the new tensor-core instructions",
                   measured(("num_warps 4", "num_warps 16"), ("3.5.1",))),
    )  # fmt: skip

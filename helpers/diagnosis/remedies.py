"""What is known to help against a kind of failure and what does not, each claim with its evidence."""

from __future__ import annotations

from helpers.diagnosis import register_remedies
from helpers.diagnosis.suggestions import Advice, Suggestion
from helpers.hardware import ARCHS
from helpers.inspection.crash.crash_log import CrashLog, Failure
from helpers.recorded import recorded


def advice(log: CrashLog, failure: Failure) -> Advice:
    """What to try and what not for a failure of a log."""
    make = {
        "register_exhaustion": register_remedies.exhaustion,
        "register_cap_too_low": register_remedies.cap_too_low,
        "shared_memory": _shared_memory,
        "tensor_memory": _tensor_memory,
        "threads": _threads,
        "unsupported_ptx_version": _ptx_version,
        "unsupported_arch": _arch,
        "illegal_instruction": _illegal,
        "internal_error": _broken_ptxas,
        "ptxas_signal": _broken_ptxas,
        "trapped": _trapped,
    }.get(failure.kind)
    return make(log, failure) if make else Advice()


LARGEST_SMEM_BYTES = max(a.smem_per_block_max_bytes for a in ARCHS.values())
_OWN_TILES = (
    Suggestion(
        "a tile table row of this chip's own",
        "tiles chosen for data-centre chips (227 KiB per CTA) do not fit the others",
        "helpers/hardware.py; reported the same way: triton-lang/triton #8182",
    ),
)


# --- memories ---------------------------------------------------------------------------------------------


def _shared_memory(log: CrashLog, failure: Failure) -> Advice:
    over = (failure.required or 0) - (failure.limit or 0)
    return Advice(
        (
            Suggestion(
                "one pipeline stage less (num_stages)",
                f"each stage holds its own K and V (or A and B) tiles; {over:,} bytes have to go",
                "measured here (data/kernel_log.md): stages are what fills shared memory",
            ),
            Suggestion(
                "a smaller tile, BLOCK_N first",
                "the tiles of every stage shrink with it",
                "measured here (data/compile_rows.csv): the incident's 128x64 does not fit sm_120a, 64x64 does",
            ),
            *(_OWN_TILES if (failure.limit or 0) < LARGEST_SMEM_BYTES else ()),
        ),
        (
            Suggestion(
                "maxnreg, num_warps, ptxas flags or another ptxas",
                "shared memory is allotted by Triton before ptxas runs: this is not register exhaustion",
                "where the message is raised: Triton's launcher, after a compile that succeeded",
            ),
        ),
    )


def _tensor_memory(log: CrashLog, failure: Failure) -> Advice:
    return Advice(
        (
            Suggestion(
                "a smaller tile, or fewer accumulators alive at once",
                f"{failure.required} columns of 128 lanes are asked for, {failure.limit} exist per SM",
                "measured here (data/compile_rows.csv): head dim 512 at 128x64 does not fit, at 64x64 it does",
            ),
        ),
        (
            Suggestion(
                "maxnreg, num_warps or ptxas flags",
                "tensor memory is allotted by Triton, apart from registers",
                "where the message is raised: Triton's launcher",
            ),
        ),
    )


def _threads(log: CrashLog, failure: Failure) -> Advice:
    return Advice(
        (
            Suggestion(
                "fewer warps (num_warps), or a smaller tile",
                f"the launch asks for {failure.required} threads; with the registers this kernel was given, "
                f"{failure.limit} can be resident",
                "the message's own numbers",
            ),
        )
    )


# --- toolchain --------------------------------------------------------------------------------------------

_OWN_PTXAS = Suggestion(
    "Triton's own ptxas: unset TRITON_PTXAS_PATH and TRITON_PTXAS_BLACKWELL_PATH",
    "an override set for another version hands PTX to a ptxas that cannot read it",
    "read in Triton's wheels (knobs.py): from 3.6 on Blackwell has a variable of its own",
)


def _ptx_version(log: CrashLog, failure: Failure) -> Advice:
    return Advice(
        (
            _OWN_PTXAS,
            Suggestion(
                "a ptxas at least as new as the PTX",
                "ptxas reads every PTX version up to its own",
                "measured here (data/version_matrix.csv): each Triton's PTX is refused by every older ptxas",
            ),
        ),
        (
            Suggestion(
                "editing `.version` in the PTX down",
                "works only where nothing in it is newer; it changes what is compiled",
                "follows from the PTX ISA's rules; not measured here",
            ),
        ),
    )


def _arch(log: CrashLog, failure: Failure) -> Advice:
    known = ", ".join(
        sorted(
            {r["arch"] for r in recorded("compile_rows") if r["triton_version"] == "3.7.1" and r["status"] == "spills"}
        )
    )
    return Advice(
        (
            Suggestion(
                "a newer Triton (with its own ptxas)",
                "both have to know the chip: Triton writes the PTX version, ptxas the machine code",
                f"measured here (data/compile_rows.csv): Triton 3.7.1 compiles for {known or 'Blackwell chips'}",
            ),
            _OWN_PTXAS,
        ),
        (
            Suggestion(
                "a newer ptxas alone, for PTX an old Triton wrote",
                "its `.version` is older than the chip, and ptxas refuses the pair",
                "measured here: ptxas 12.9 refuses Triton 3.5.1's PTX for sm_103a (tests/fixtures/logs)",
            ),
        ),
    )


def _illegal(log: CrashLog, failure: Failure) -> Advice:
    return Advice(
        (
            Suggestion(
                "look at the PTX line that ptxas names; is it inline assembly of the kernel's own?",
                "ptxas could not read it: a name or operand that this PTX version or chip does not have",
                "ptxas's own message",
            ),
        )
    )


def _broken_ptxas(log: CrashLog, failure: Failure) -> Advice:
    return Advice(
        (
            Suggestion(
                "assemble the same PTX with another ptxas (python -m helpers toolchains install ptxas==12.9.86)",
                "a ptxas that breaks off by itself is at fault whatever the PTX says; another release may not be",
                "reported in general; not measured here for this PTX",
            ),
            Suggestion(
                "ptxas -O1 or -O0 on the same PTX",
                "tells whether an optimisation pass is at fault",
                "general practice; not measured here for this PTX",
            ),
        )
    )


def _trapped(log: CrashLog, failure: Failure) -> Advice:
    return Advice(
        (
            Suggestion(
                "a smaller tile",
                "Triton replaced the kernel by a trap because its tiles cannot fit",
                "measured here (data/compile_rows.csv): head dim 512 at 128x64 traps, at 64x64 it compiles",
            ),
        )
    )

"""What is known to help against a kind of failure and what does not, each claim with its evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from helpers.hardware import ARCHS, CAP, POWERS, cap_for, warps_of_cap
from helpers.inspection.crash.crash_log import CrashLog, Failure
from helpers.recorded import recorded

MEASURED_ON = "on the incident's kernel"


ABOUT_MEASURED = (
    "the incident's kernel is extend attention, head dim 256, fp8 cache, window 1024, tile 128x64, 8 warps, compiled "
    "for sm_100a; for another kernel what was measured is a lead: register-cliff ablate finds out for it"
)


ARITHMETIC = "arithmetic: 65,536 registers per SM, allocated to warps in units of 8 per thread"


@dataclass(frozen=True)
class Suggestion:
    """One edit, why it helps (or does not), and the evidence: measured here (with its file), reported, arithmetic."""

    edit: str
    why: str
    evidence: str

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Advice:
    """Suggestions in the order to try them, and what people try in vain."""

    helps: tuple[Suggestion, ...] = ()
    does_not: tuple[Suggestion, ...] = ()


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


def advice(log: CrashLog, failure: Failure) -> Advice:
    """What to try and what not for a failure of a log."""
    make = {
        "register_exhaustion": exhaustion,
        "register_cap_too_low": cap_too_low,
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
                "assemble the same PTX with another ptxas (register-cliff toolchains install ptxas==12.9.86)",
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


def exhaustion(log: CrashLog, failure: Failure) -> Advice:
    """Against C7600: at 255 the kernel has to want less; below, the cap that was set or shared out can give way."""
    asked = failure.register_count_asked
    if asked is not None and asked < CAP:
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
            f"{cap_for(num_warps=half)}",
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
        room = next((n for n in reversed(POWERS) if cap_for(num_warps=n) >= needed), None)
        words = f" ({room} warps leave {cap_for(num_warps=room)})" if room else ""
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

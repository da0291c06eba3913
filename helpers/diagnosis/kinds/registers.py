"""Registers: allocation that failed, a cap below an instruction's need, a callee above its caller's cap, spills.

65,536 registers per SM on every chip here, 255 at most per thread; a launch leaves each thread its share.
"""

from __future__ import annotations

import re

from helpers.diagnosis import remedies
from helpers.diagnosis.failure import Answer, Failure, Kind, Suggestion, wording
from helpers.diagnosis.incidents import SAME, match_incidents
from helpers.diagnosis.words import (
    OWNER,
    is_cuda_cpp,
    is_triton,
    maker,
    ptx_verbs,
    spec_verbs,
    triton_words,
)
from helpers.hardware import CAP, cap_for
from helpers.inspection.crash.crash_log import CrashLog

# Powers of two are what Triton launches; whole warp groups of four what kernels with warp groups do.
POWERS = (1, 2, 4, 8, 16, 32)
_NUM_WARPS = re.compile(r"num[-_]warps['\"]?(?: ?= ?|: ?| )([0-9]{1,2})(?![0-9])")
WARP_COUNTS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)

PTXAS_WORDINGS = (
    wording(
        "register_exhaustion",
        r"Register allocation failed with register count of ?'(?P<asked>[0-9]{1,4})'",
        "Register allocation failed",
    ),
    wording("register_exhaustion", r"Register allocation failed with register count of ?'?(?P<cut>[0-9]{1,3})$"),
    wording("register_exhaustion", r"\(C7600\)[^\n]{0,300}"),
    wording(
        "register_cap_too_low",
        r"Insufficient registers \((?P<asked>[0-9]{1,4})\) to compile instruction(?: at line "
        r"(?P<ptx_line>[0-9]{1,9}))? "
        r"in ?function ?(?P<function>\S{1,300}?)\. ?Try to ?compile with register target of (?P<needed>[0-9]{1,4})",
        "Insufficient registers",
    ),
    wording("register_cap_too_low", r"Insufficient registers \((?P<asked>[0-9]{1,4})\)|\(C7602\)[^\n]{0,300}"),
    wording(
        "callee_needs_more_registers",
        r"[Ff]unction '(?P<function>[^'\n]{1,2000})' with max regcount of (?P<cap>[0-9]{1,4}) ?calls function "
        r"'(?P<callee>[^'\n]{1,2000})' with regcount of (?P<needs>[0-9]{1,4})",
        "with max regcount of",
    ),
    wording(
        "spills_made_errors",
        r"Registers are spilled to local memory in function '(?P<function>[^'\n]{1,2000})'(?:, "
        r"?(?P<stores>[0-9]{1,9}) bytes "
        r"spill stores)?(?:, ?(?P<loads>[0-9]{1,9}) bytes spill loads)?",
    ),
)


def warps_that_leave(cap: int, counts: tuple[int, ...] = WARP_COUNTS) -> tuple[int, ...]:
    """The numbers of warps that leave exactly `cap` registers a thread; () for none, and for 255."""
    return tuple(n for n in counts if cap_for(num_warps=n) == cap) if cap < CAP else ()


# --- C7600 ------------------------------------------------------------------------------------------------


def _exhaustion(log: CrashLog, failure: Failure) -> Answer:
    asked = failure.register_count_asked
    because = [f"ptxas says: {failure.message}"]
    because.append(_about_cap(log, asked) if asked is not None else _count_missing(failure))
    if failure.seen > 1:
        because.append(f"the log says it {failure.seen} times")
    helps: tuple[Suggestion, ...]
    in_vain: tuple[Suggestion, ...] = ()
    if asked is None:
        helps, to, why = (*_smaller(log), _WHOLE_LINE), OWNER, "what is at fault depends on the count that is missing"
    elif asked < CAP:
        helps, in_vain = (*_raise_cap(log, asked), *_smaller(log)), _IN_VAIN_CAPPED
        to, why = OWNER, "the launch configuration is its own choice; no compiler is at fault"
        if maker(log) and not is_triton(log) and not is_cuda_cpp(log):
            to, why = f"{OWNER}, then {maker(log)}", "the split of registers over the warps is made above ptxas"
    else:
        helps, in_vain, to, why = _at_the_limit(log, failure)
    return Answer(
        tuple(because), helps, in_vain, to, why, _attach(log, failure),
        (*spec_verbs(log, "try", "autotune", "bisect"), *ptx_verbs(log)),
    )  # fmt: skip


def _count_missing(failure: Failure) -> str:
    """What can be said where the log is cut inside the count of registers or before it."""
    digits = failure.detail("cut") or ""
    if digits and not "255".startswith(digits):
        return (
            f"the count of registers is cut off in the log; it begins with {digits} and so is below {CAP}, the most "
            "that an instruction can address: the launch or a flag caps it"
        )
    return (
        f"the count of registers is not in the log: {CAP} would mean that the kernel wants more than an instruction "
        "can address, and a smaller count that the launch or a flag caps it"
    )


_WHOLE_LINE = Suggestion(
    "find the whole line of ptxas, with the count behind `register count of`",
    "below 255 fewer warps or a higher cap help, at 255 neither does",
    "arithmetic: 65,536 registers per SM, 255 at most per thread",
)


def _warps_named(log: CrashLog) -> tuple[int, ...]:
    """Every number of warps that the log names, of whichever configuration."""
    return tuple(dict.fromkeys(int(n) for n in _NUM_WARPS.findall(log.text[:2_000_000])))[:20]


def _about_cap(log: CrashLog, asked: int) -> str:
    if asked >= CAP:
        return f"{CAP} is the most that an instruction can address. No setting raises it, and the kernel needs more"
    if log.register_cap == asked:
        return f"{asked} is the cap the log itself names (maxnreg or --maxrregcount)"
    if log.num_warps is not None and cap_for(num_warps=log.num_warps) == asked:
        counted = -(-log.num_warps // 4) * 4  # warps count in fours, see `cap_for`
        return (
            f"{asked} is what {log.num_warps} warps leave: 65,536 registers / ({counted} * 32 threads), in steps of 8"
        )
    if log.num_warps is not None:
        return (
            f"{log.num_warps} warps would leave {cap_for(num_warps=log.num_warps)} registers a thread, so {asked} is a "
            f"cap set elsewhere ({_cap_setters(log)})"
        )
    warps = warps_that_leave(asked)
    named = _warps_named(log)
    if warps and named and not set(named) & set(warps):
        return (
            f"{asked} is what {' or '.join(map(str, warps))} warps leave (65,536 / {warps[0] * 32} threads, in steps "
            f"of 8), or a cap ({_cap_setters(log)}); the log names a configuration with num_warps="
            f"{' or '.join(map(str, named[:4]))}, which leaves more, and does not say which configuration failed"
            if all(cap_for(num_warps=n) > asked for n in named)
            else f"{asked} is what {' or '.join(map(str, warps))} warps leave, or a cap ({_cap_setters(log)}): the log "
            "does not say which"
        )
    if warps:
        return (
            f"{asked} is what {' or '.join(map(str, warps))} warps leave (65,536 / {warps[0] * 32} threads, in steps "
            f"of "
            f"8), or a cap ({_cap_setters(log)}): the log does not say which"
        )
    return (
        f"no usual number of warps (a power of two, or whole groups of four) leaves {asked} registers a thread: it "
        f"is a "
        f"cap set elsewhere ({_cap_setters(log)})"
    )


def _counts(log: CrashLog) -> tuple[int, ...]:
    """The numbers of warps that a kernel of this log's language may have."""
    groups = log.speaks("CUTLASS DSL (CuTe)", "TileLang", "TVM", "nvcc") and not is_triton(log)
    return WARP_COUNTS if groups else POWERS


def _cap_setters(log: CrashLog) -> str:
    if is_cuda_cpp(log):
        return "__launch_bounds__, -maxrregcount or setmaxnreg"
    if log.speaks("CUTLASS DSL (CuTe)", "TileLang", "cuTile", "TVM"):
        return "setmaxnreg or a launch bound"
    return (
        "maxnreg"
        if is_triton(log) or "num_warps" in log.text
        else "maxnreg, --maxrregcount, a launch bound or setmaxnreg"
    )


def _raise_cap(log: CrashLog, asked: int) -> tuple[Suggestion, ...]:
    triton, counts = is_triton(log), _counts(log)
    option = "num_warps " if triton or "num_warps" in log.text else ""
    warps = warps_that_leave(asked)
    named = _warps_named(log)
    found = []
    if log.register_cap == asked:
        found.append(Suggestion(
            f"raise or drop the cap of {asked} registers that the log itself sets (maxnreg, --maxrregcount)",
            "ptxas was held to it; up to 255 an instruction can address",
            remedies.ARITHMETIC,
        ))  # fmt: skip
    if (
        warps
        and log.register_cap in (None, asked)
        and log.num_warps in (None, *warps)
        and (not named or set(named) & set(warps))
    ):
        n = log.num_warps or warps[0]
        fewer = max((m for m in counts if m < n), default=1)
        found.append(Suggestion(
            f"{option}{fewer} instead of {n}" if option else f"{fewer} warps instead of {n}",
            f"{n} warps are {n * 32} threads, which leave {asked} registers each; {fewer} warps leave "
            f"{cap_for(num_warps=fewer)}",
            remedies.ARITHMETIC,
        ))  # fmt: skip
    if log.register_cap is None and (not warps or asked % 64 == 0):
        where = (
            "maxnreg in the options, --maxrregcount in ptx_options"
            if triton
            else _cap_setters(log).replace(" or ", ", ")
        )
        found.append(Suggestion(
            f"look for a cap of {asked} in the launch: {where}",
            f"{asked} is " + (f"what {' or '.join(map(str, warps))} warps leave, but a cap can be the reason as well"
                              if warps else "no share of the register file that a usual number of warps leaves"),
            remedies.ARITHMETIC,
        ))  # fmt: skip
    return tuple(found)


def _smaller(log: CrashLog) -> tuple[Suggestion, ...]:
    if bears_on_incident(log):
        return remedies.smaller_tile(log)
    return (
        Suggestion(
            "a smaller tile, or less kept alive at once (smaller unroll, fewer accumulators)",
            "what a thread holds between two instructions has to fit its registers",
            "follows from ptxas's message; by how much is not known from a log",
        ),
    )


_OTHER_PTXAS = Suggestion(
    "the same PTX under another ptxas, and under ptxas -O1",
    "whether ptxas or the PTX decides is one compile away; releases differ in what they allocate",
    "general; the incident's PTX died on every ptxas (data/version_matrix.csv), others' may not",
)
_LIKE_SM_100 = ("sm_100", "sm_103")


def bears_on_incident(log: CrashLog) -> bool:
    """Whether what was measured on the incident's kernel is a lead: Triton's, for a chip like its sm_100a, stated."""
    return is_triton(log) and not log.speaks("XLA", "AMD's compiler") and (log.arch or "").startswith(_LIKE_SM_100)


def _at_the_limit(log: CrashLog, failure: Failure) -> tuple[tuple[Suggestion, ...], tuple[Suggestion, ...], str, str]:
    """(helps, in vain, to whom, why) for an allocation that failed with all 255 registers."""
    if bears_on_incident(log):
        said = triton_words(log)
        same = any(m.degree == SAME for m in match_incidents(log, failure))
        return (
            (*remedies.at_the_limit(log, same=same), *(() if same else (_OTHER_PTXAS,))),
            remedies.in_vain_at_the_limit(same=same),
            f"{OWNER} first, then Triton (triton-lang/triton)",
            f"the tile is the project's choice, the PTX is Triton's{f' (version {said})' if said else ''}: of the "
            "incident's kernel the same PTX died on every ptxas, and another Triton's on none "
            "(data/version_matrix.csv); "
            "NVIDIA only if one ptxas takes your PTX and another does not",
        )
    helps = [*_smaller(log)]
    if is_triton(log) and log.num_warps in (1, 2, 4):
        helps.append(Suggestion(
            f"num_warps {2 * log.num_warps} instead of {log.num_warps}",
            "the same tile is spread over twice the threads, so each holds half of it",
            "general; not measured here for this kernel",
        ))  # fmt: skip
    helps.append(_OTHER_PTXAS)
    in_vain = (
        Suggestion(
            "-maxrregcount, a launch bound, or more warps than now: anything that lowers the cap",
            f"ptxas had all {CAP} that an instruction can address",
            "ptxas's own message",
        ),
    )
    made = maker(log)
    return (
        tuple(helps),
        in_vain,
        f"{OWNER} first" + (f", then {made}" if made else ""),
        "how much is alive at once is the kernel's choice and its compiler's; NVIDIA only if one ptxas takes the PTX "
        "and "
        "another does not",
    )


_IN_VAIN_CAPPED = (
    Suggestion(
        "a chip with more registers, or more shared memory",
        "every chip from sm_50 on has 65,536 registers per SM and the same rule of sharing",
        "the CUDA programming guide's table of limits, in helpers/hardware.py",
    ),
)


# --- C7602 ------------------------------------------------------------------------------------------------


def _cap_too_low(log: CrashLog, failure: Failure) -> Answer:
    asked, needed = failure.register_count_asked, failure.register_count_needed
    triton = is_triton(log)
    because = [f"ptxas says: {failure.message}"]
    if asked is not None:
        because.append(_about_cap(log, asked))
    helps = []
    if needed is not None:
        room = next((n for n in reversed(_counts(log)) if cap_for(num_warps=n) >= needed), None)
        words = f" ({room} warps leave {cap_for(num_warps=room)})" if room and room not in _warps_named(log) else ""
        # A cap that no number of warps explains is not lifted by fewer of them.
        fewer = f", or fewer warps{words}" if asked is None or warps_that_leave(asked) else ""
        raise_words = "raise or drop maxnreg" if triton else f"raise the cap ({_cap_setters(log)})"
        helps.append(Suggestion(
            f"let a thread have {needed} registers or more: {raise_words}{fewer}",
            f"one instruction alone takes more than the {asked} it was given; ptxas says {needed} would do for it",
            "ptxas's own message; whether the rest then fits is another question",
        ))  # fmt: skip
    if asked is not None:
        helps += _raise_cap(log, asked)
    helps += _smaller(log)
    in_vain = (
        Suggestion(
            "-O1, another allocator setting or another ptxas",
            "no allocator can give an instruction fewer registers than its operands take",
            "follows from ptxas's message; not measured here",
        ),
    )
    made = maker(log)
    splits = bool(made) and not triton and not is_cuda_cpp(log)
    return Answer(
        tuple(because),
        tuple(helps),
        in_vain,
        f"{OWNER}, then {made}" if splits else OWNER,
        "how many registers a thread has is the launch's choice; no compiler is at fault"
        + (" unless the split over the warps is the compiler's own" if splits else ""),
        _attach(log, failure),
        (*spec_verbs(log, "try", "autotune"), *ptx_verbs(log)),
    )


# --- caller and callee, spills ----------------------------------------------------------------------------


def _callee(log: CrashLog, failure: Failure) -> Answer:
    cap, needs = failure.detail("cap"), failure.detail("needs")
    caller, callee = failure.detail("function"), failure.detail("callee")
    because = (
        f"{'ptxas' if log.runs or 'nvlink' not in log.text else 'nvlink'} says: {failure.message}",
        f"the kernel {caller} is capped at {cap} registers (a launch bound or -maxrregcount), and {callee}, which it "
        f"calls "
        f"and which was not inlined, was compiled with {needs}: a call cannot raise its caller's cap",
    )
    return Answer(
        because,
        (
            Suggestion(
                f"compile {callee} under the same cap of {cap} (-maxrregcount={cap} for its file, or "
                f"__launch_bounds__)",
                "caller and callee then agree; it may spill",
                "follows from ptxas's message",
            ),
            Suggestion(
                "let it be inlined: __forceinline__, no -G and no -O0; debug builds do not inline",
                "an inlined function has no register count of its own",
                "general: device functions are inlined when optimising, debug builds (-G) leave the calls",
            ),
            Suggestion(
                f"raise or drop the kernel's cap of {cap} (launch bounds, -maxrregcount)",
                f"the callee wants {needs}; the kernel then runs with fewer threads per SM",
                "follows from ptxas's message",
            ),
        ),
        (Suggestion("another ptxas or GPU", "the two numbers are the build's own choice", "ptxas's own message"),),
        OWNER,
        "caps and inlining are its build's choice; no compiler is at fault",
        ("the compile commands of both functions (-G, -O, -maxrregcount, -rdc)",),
    )


def _spills_as_errors(log: CrashLog, failure: Failure) -> Answer:
    stores, loads = failure.detail("stores"), failure.detail("loads")
    amount = f"{stores} B of spill stores and {loads} B of spill loads" if stores else "an amount the log leaves out"
    because = (
        f"ptxas says: {failure.message}",
        f"a spill is a warning by nature; here a flag makes it an error (-warn-spills with -Werror): {amount}",
    )
    return Answer(
        because,
        (
            Suggestion(
                "build without that flag: -warn-spills together with -Werror (all-warnings, or ptxas's "
                "--warning-as-error)",
                "the code is complete and right; it moves some values through local memory",
                "nvcc's and ptxas's help texts",
            ),
            Suggestion(
                "a higher cap, where one is set (-maxrregcount, __launch_bounds__), or a smaller tile or unroll",
                "then there is nothing to spill",
                "general; register-cliff pressure FILE.ptx shows what is alive where",
            ),
        ),
        (),
        OWNER,
        "the flag and the cap are its build's choice; ptxas compiled the kernel",
        ("the compile command with its flags",),
        ptx_verbs(log),
    )


def _attach(log: CrashLog, failure: Failure) -> tuple[str, ...]:
    wanted = []
    if log.ptx is not None and not log.ptx_cut:
        wanted.append(f"the PTX in it ({log.ptx.count(chr(10)):,} lines), as a file")
    elif failure.ptx_path:
        wanted.append(f"the PTX: it is left where the command names it ({failure.ptx_path})")
    elif is_triton(log):
        wanted.append("the PTX: Triton prints it before the traceback, and leaves it in the temporary folder")
    else:
        wanted.append("the PTX")
    if not log.value("ptxas_version"):
        wanted.append("`ptxas --version` of the ptxas that ran")
    return tuple(wanted)


KINDS = (
    Kind("register_exhaustion", "register exhaustion: ptxas could not allocate registers", _exhaustion),
    Kind("register_cap_too_low", "the register cap is lower than one instruction needs", _cap_too_low),
    Kind("callee_needs_more_registers", "a called function needs more registers than its caller's cap", _callee),
    Kind("spills_made_errors", "register spills, made an error by a flag", _spills_as_errors),
)
WORDINGS = ()

__all__ = ["KINDS", "PTXAS_WORDINGS", "WORDINGS", "bears_on_incident", "warps_that_leave"]

"""`diagnose`: what kind of failure a pasted log shows, what is known to help, what to attach and where to report it.

Unknown is an answer; guessing is not. Nothing in the text is run, opened or trusted.
"""

from __future__ import annotations

from helpers.diagnosis.diagnosis import CERTAIN, LIKELY, NONE, TITLES, Diagnosis
from helpers.diagnosis.incidents import SAME, Match, match_incidents
from helpers.diagnosis.remedies import ABOUT_MEASURED, MEASURED_ON, Suggestion, advice
from helpers.diagnosis.where_to_report import addressee
from helpers.errors import UserError
from helpers.hardware import CAP, archs_of_limit, cap_for, warps_of_cap
from helpers.inspection.crash.crash_log import CrashLog, Failure, parse_crash_log


def diagnose(text: str) -> Diagnosis:
    """The `Diagnosis` of a pasted log: a traceback, ptxas's stderr, Triton's printed PTX, a piece of a CI log.

    Any text gets an answer, `unknown` where nothing in it is known. Raises UserError for what is not text.
    """
    if not isinstance(text, str):
        raise UserError(
            f"diagnose takes the text of a log, not {type(text).__name__}; read the file first, or use "
            "register-cliff diagnose FILE"
        )
    log = parse_crash_log(text)
    failure = log.first
    notes = list(log.notes)
    if log.failure_count > 1:
        notes.append(f"{log.failure_count} different failures are in this log; this is about the first")
    if failure is None:
        return _without_failure(log, notes)
    given = advice(log, failure)
    if any(MEASURED_ON in s.evidence for s in given.helps):
        notes.append(ABOUT_MEASURED)
    matches = match_incidents(log)
    to, why = addressee(log, failure, matches)
    return Diagnosis(
        kind=failure.kind,
        title=TITLES[failure.kind],
        because=tuple(_because(log, failure)),
        confidence=CERTAIN,
        log=log,
        suggestions=(*_from_incidents(matches), *given.helps),
        in_vain=given.does_not,
        incidents=matches,
        report_to=to,
        report_why=why,
        attach=_attach(log, failure),
        notes=(*notes, *log.triton.contradictions),
    )


def _from_incidents(matches: tuple[Match, ...]) -> tuple[Suggestion, ...]:
    return tuple(
        Suggestion(m.incident.remedy, f"this is {m.incident.name}: {m.incident.what}", m.incident.remedy_evidence)
        for m in matches
        if m.degree == SAME
    )


# --- why --------------------------------------------------------------------------------------------------


def _because(log: CrashLog, failure: Failure) -> list[str]:
    who = "Triton" if failure.resource or failure.kind == "frontend_error" else "ptxas"
    lines = [f"{who} says: {failure.message}"] if failure.kind != "trapped" else [failure.message]
    asked = failure.register_count_asked
    if failure.kind == "register_exhaustion" and asked is not None:
        lines.append(_about_cap(log, asked))
    if failure.kind == "register_cap_too_low" and asked is not None:
        lines.append(_about_cap(log, asked))
    if failure.resource and failure.required is not None and failure.limit is not None:
        unit = {"shared memory": " bytes per CTA", "tensor memory": " columns"}.get(failure.resource, "")
        lines.append(
            f"{failure.required:,} of {failure.limit:,}{unit} are {failure.required - failure.limit:,} too many; "
            "the compile itself had succeeded"
        )
        chips = archs_of_limit(failure.limit) if failure.resource == "shared memory" else ()
        if chips:
            lines.append(f"a limit of {failure.limit:,} bytes is that of {', '.join(a.name for a in chips)}")
    if failure.seen > 1:
        lines.append(f"the log says it {failure.seen} times")
    return lines


def _about_cap(log: CrashLog, asked: int) -> str:
    if asked >= CAP:
        return f"{CAP} is the most an instruction can address: no setting raises it, the kernel wants more"
    if log.register_cap == asked:
        return f"{asked} is the cap the log itself names (maxnreg or --maxrregcount)"
    warps = warps_of_cap(asked)
    if log.num_warps is not None and cap_for(num_warps=log.num_warps) == asked:
        counted = -(-log.num_warps // 4) * 4  # warps count in fours, see `cap_for`
        return (
            f"{asked} is what {log.num_warps} warps leave: 65,536 registers / ({counted} * 32 threads), in steps of 8"
        )
    if log.num_warps is not None:
        return (
            f"{log.num_warps} warps would leave {cap_for(num_warps=log.num_warps)} registers a thread, so {asked} is a "
            "cap set elsewhere (maxnreg)"
        )
    if warps:
        return (
            f"{asked} is what {' or '.join(map(str, warps))} warps leave (65,536 / {warps[0] * 32} threads), or a cap "
            "set as maxnreg: the log does not say which"
        )
    return f"no power-of-two num_warps leaves {asked} registers a thread: it is a cap set elsewhere (maxnreg)"


def _without_failure(log: CrashLog, notes: list[str]) -> Diagnosis:
    entry = log.compiled.entry
    if entry is not None and entry.regs_per_thread is not None:
        said = [
            f"ptxas reports {f.name}: {f.regs_per_thread} registers, {f.spill_store_bytes or 0} B of spill stores"
            for f in log.compiled.functions[:5]
            if f.regs_per_thread is not None
        ]
        if entry.regs_per_thread <= 8:
            said.append(
                "so few registers can mean that the kernel collapsed to a bare trap; the PTX would tell "
                "(register-cliff pressure FILE.ptx)"
            )
        return Diagnosis("no_failure", TITLES["no_failure"], tuple(said), LIKELY, log, notes=tuple(notes))
    if log.blank:
        why = "the text is empty"
    elif "this is binary data, not text" in notes:
        why = "this is not text"
    elif log.value("ptxas_gave_up"):
        why = "ptxas gave up on the PTX, but the line above, in which it says why, is not in the log"
    elif log.exception:
        why = (
            f"a Python error ({log.exception}), but nothing in the log is a failure of ptxas or of Triton's compiler "
            "that this project knows; an error at run time says nothing about compiling"
        )
    elif log.ptx is not None:
        why = "a PTX module without a word of what went wrong; register-cliff pressure reads it"
    elif log.frames or log.facts:
        why = "parts of a log, but not the part in which ptxas or Triton say what failed (it stands at the end)"
    else:
        why = "nothing in it is by ptxas, Triton or a Python traceback"
    attach = ("the whole output from `Traceback` or `ptxas` on, to its end",) if log.chars else ()
    return Diagnosis("unknown", TITLES["unknown"], (why,), NONE, log, attach=attach, notes=tuple(notes))


# --- where to and with what -------------------------------------------------------------------------------


def _attach(log: CrashLog, failure: Failure) -> tuple[str, ...]:
    wanted = ["this log, whole, as text"]
    if log.ptx is not None and not log.ptx_cut:
        wanted.append(f"the PTX in it ({log.ptx.count(chr(10)):,} lines), as a file")
    elif failure.ptx_path and not failure.resource:
        wanted.append(f"the PTX: Triton leaves it where the command names it ({failure.ptx_path}) when ptxas fails")
    elif failure.kind not in ("shared_memory", "tensor_memory", "threads", "frontend_error"):
        wanted.append("the PTX: Triton prints it before the traceback, and leaves it in the temporary folder")
    if log.triton.stated is None:
        wanted.append("`pip list | grep -iE 'triton|torch'`" + (
            f" (the log leaves open: {' or '.join(log.triton.candidates)})" if len(log.triton.candidates) > 1 else ""
        ))  # fmt: skip
    if failure.kind not in ("shared_memory", "tensor_memory", "threads", "frontend_error") and not log.value(
        "ptxas_version"
    ):
        wanted.append("`ptxas --version` of the ptxas in the command")
    if log.arch is None:
        wanted.append("the GPU and its arch (nvidia-smi)")
    launch = [
        w
        for w, known in (("num_warps", log.num_warps), ("num_stages", None), ("maxnreg", log.register_cap))
        if not known
    ]
    wanted.append(f"the kernel's source, its constexprs (tile sizes) and {', '.join(launch)}")
    return tuple(wanted)


__all__ = ["diagnose"]

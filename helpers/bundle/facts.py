"""facts_of: findings in words, for the README of a bundle and the issue text beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from helpers.bundle.findings import SPILLS, Findings
from helpers.bundle.issue_text import Facts, Reproduction, with_a_ptxas, with_a_triton
from helpers.bundle.members import Row
from helpers.bundle.repro import one_command
from helpers.bundle.scrub import Scrubber
from helpers.compiler.report import COMPILED
from helpers.diagnosis.where_to_report import where_to_report, where_to_report_a_compile, where_to_report_spills
from helpers.inspection.ptx.scan import is_trap_stub

_WHAT = {
    "README.md": "what happens, what was expected, the one command",
    "repro.py": "compiles the kernel with Triton and says whether that ends as recorded",
    "loader/worker.py": "loads the kernel's file for repro.py",
    "loader/foreign_worker.py": "the same, with stand-ins for what the file imports",
    "loader/stubs.py": "the stand-ins",
    "frontend.log": "what Triton wrote to stderr",
    "reproducer.mlir": "the MLIR and the passes that failed, for `triton-opt --run-reproducer` of Triton's own build",
    "triton_table.csv": "the same kernel under every installed Triton",
    "repro.sh": "gives kernel.ptx to a ptxas and says whether it fails as recorded",
    "kernel.ptx": "the PTX",
    "kernel.ttir": "Triton's IR",
    "kernel.ttgir": "Triton's GPU IR",
    "spec.json": "signature, constexprs and options of the compile (a KernelSpec)",
    "ptxas.log": "what ptxas said",
    "ptxas_table.csv": "ptxas -v of every installed ptxas on the identical PTX",
    "pressure.txt": "registers needed along the PTX, by source line where it knows",
    "pressure.png": "the same as a figure",
    "workarounds.json": "edits that make it compile, each one compiled, ranked",
    "environment.json": "versions, and SHA-256 hashes of programs and files",
    "repro_check.txt": "the run of repro.sh from this zip in an empty folder",
    "log.txt": "the log as it was given, names and paths replaced",
    "diagnosis.txt": "what the log shows",
    "diagnosis.json": "the same as data",
    "minimized.ptx": "a smaller PTX that fails in the same way",
}
_EXPECTED = {
    "register_exhausted": "A binary, with spills if registers run short, as for other tiles of the same kernel.",
    "spills": "A binary that spills less, or not at all.",
    "out_of_shared_memory": "A kernel that can be launched: one that fits the chip's shared memory.",
    "out_of_tensor_memory": "A kernel that can be launched: one that fits the chip's tensor memory.",
    "trapped": "A kernel that computes what its source says, or an error that tells why there is none.",
    "timeout": "A binary, or an error, in less time.",
    # Kinds of a log that was given alone.
    "launch_resources": "A launch that starts: fewer registers a thread, or fewer threads a block.",
    "advice_only": "Nothing failed; the advice followed, or known to cost nothing.",
    "candidate_dropped": "Every candidate of the autotuner compiled, or a reason why this one is left out.",
    "no_failure": "Nothing failed.",
    "known_wrong_code": "The same answers as with another release of ptxas.",
    "slow_compile": "A compile that ends sooner.",
    "unknown": "A program that goes on.",
}
_REPLACED = "home folders, user and host names and absolute paths were replaced (FOLDER1, USER, HOST …)"


def facts_of(found: Findings, scrubber: Scrubber, *, reproduced: bool, check: str, names: Sequence[str]) -> Facts:
    """What README and issue text say of the findings; `names` are the files of the zip, `check` how it was tried."""
    material, diagnosis = found.material, found.material.diagnosis
    status, code = status_of(found), found.expected.code if found.expected else None
    to, why = _addressee(found, status, code)
    label = ""
    if material.request is not None and not found.withhold:
        label = f", {material.request.spec.label or material.request.spec.kernel.name}"
    return Facts(
        title=title_of(found) + label,
        status=status,
        message=message_of(found, scrubber),
        code=code,
        how=_how(found),
        versions=versions_of(found),
        expected=_EXPECTED.get(status, "A binary."),
        reproduced=reproduced,
        check=check,
        report_to=to,
        report_why=why,
        table=found.table,
        triton_table=found.triton_table,
        edits=found.edits,
        edits_left_out=found.edits_left_out,
        members={name: _what(name, found.script) for name in names},
        notes=[
            *found.notes,
            *(["the source is withheld: names in the PTX are not the original's"] if found.withhold else []),
            _REPLACED,
        ],
        diagnosis=diagnosis_words(found, scrubber),
        what=diagnosis.title if diagnosis is not None else "",
    )


def _what(name: str, script: str) -> str:
    return _WHAT.get(name, "source of the kernel").replace("repro.sh", script)


def _how(found: Findings) -> Reproduction | None:
    """How the zip's repro is run by hand; None where there is none."""
    if found.script not in found.members:
        return None
    if found.end is None:
        return with_a_ptxas(one_command(found.material.flags, found.material.gpu_name or ""))
    return with_a_triton(found.end.version)


def chosen_row(found: Findings, rows: Sequence[Row]) -> int:
    """Which ptxas to reproduce with: the one asked for or that compiled the spec; else the first that can fail."""
    if found.material.kind == "spec":
        return 0
    wanted = found.material.asked_ptxas
    for at, row in enumerate(rows):
        if wanted and row["ptxas_version"] == wanted:
            return at
    for at, row in enumerate(rows):
        if found.symptom == SPILLS and row["status"] == "spills":
            return at
        if (
            found.symptom != SPILLS
            and row["status"] not in COMPILED
            and not str(row["status"]).startswith("unsupported")
        ):
            return at
    return 0


def status_of(found: Findings) -> str:
    """The failure in one word: as the repro sees it, else as the compile, the diagnosis or the table does."""
    material = found.material
    if found.expected is not None and found.expected.failed:
        return found.expected.status
    if material.compiled is not None:
        return material.compiled.status
    if material.diagnosis is not None and found.ptx is None:
        return material.diagnosis.kind
    return str(found.table[chosen_row(found, found.table)]["status"]) if found.table else "unknown"


def title_of(found: Findings) -> str:
    """One line: which program fails how, and for which chip."""
    material = found.material
    where = material.gpu_name or (material.request.arch if material.request else "")
    if found.end is not None and material.compiled is not None:
        told = found.end.status == "frontend_error" and not found.withhold
        said = f": {material.compiled.headline}" if told else ""
        return f"Triton {found.end.version}: {found.end.status} on {where}{said}"
    program = f"ptxas {found.program[0]}: " if found.program else ""
    if found.expected is not None and found.expected.failed:
        return f"{program}{found.expected.code or found.expected.status} on {where}"
    if found.ptx is None and material.diagnosis is not None:
        where = material.diagnosis.log.arch or ""
        return " ".join([material.diagnosis.title, *([f"on {where}"] if where else [])])
    return " ".join(filter(None, [f"{program}{status_of(found)}", f"on {where}" if where else ""]))


def message_of(found: Findings, scrubber: Scrubber) -> str:
    """The compiler's own words, scrubbed; `(withheld)` for a front end's, which quote the source."""
    material = found.material
    if "ptxas.log" in found.members and found.failed:
        lines = found.members["ptxas.log"].decode(errors="replace").splitlines()
        marks = (" bytes spill ",) if found.symptom == SPILLS else (" fatal", " error")
        spoken = [line for line in lines if any(mark in line[:400] for mark in marks)]
        return "\n".join(spoken[:12] or lines[-12:])
    if material.compiled is not None:
        hidden = found.withhold and (found.ptx is None or found.end is not None)
        return "(withheld)" if hidden else scrubber.text(material.compiled.message)
    first = material.diagnosis.failure if material.diagnosis else None
    return scrubber.text(first.message) if first else ""


def diagnosis_words(found: Findings, scrubber: Scrubber) -> str:
    """The diagnosis in short: what it is, why, and which known incidents it is or resembles."""
    diagnosis = found.material.diagnosis
    if diagnosis is None:
        return ""
    lines = [diagnosis.title, *diagnosis.because]
    lines += [f"{match.degree}: {match.incident.name}, {match.incident.link}" for match in diagnosis.incidents]
    return scrubber.text("\n".join(lines))


def versions_of(found: Findings) -> Mapping[str, str]:
    """Versions, target and hash, empty where a source does not say."""
    compiled, diagnosis = found.material.compiled, found.material.diagnosis
    triton = compiled.triton_version if compiled else diagnosis.log.triton.words() if diagnosis else None
    return {
        "Triton": triton or "not known (the PTX does not say)",
        "ptxas": found.program[0] if found.program else (compiled.ptxas_version if compiled else None) or "",
        "target": found.material.gpu_name or (compiled.arch if compiled else ""),
        "PTX SHA-256": hashlib.sha256(found.ptx.encode(errors="replace")).hexdigest() if found.ptx else "",
        "GPU": "none was used: this is about compiling" if found.ptx or compiled else "not known here: a log was given",
    }


def why_nothing(found: Findings) -> str:
    """Why there is nothing to report, and what to do instead: the words of a refusal."""
    status, compiled = status_of(found), found.material.compiled
    if found.end is not None and found.withhold:
        return (
            f"this fails in Triton ({status}), and only the kernel's source can show that, which is withheld; leave "
            "--withhold-source away, or --allow-unreproduced writes a bundle that says so"
        )
    if compiled is not None and (found.ptx is None or found.end is not None):
        return (
            f"this fails before there is PTX ({status}: {compiled.message[:200]}), and the kernel's source cannot be "
            "packed to compile it again; --allow-unreproduced writes a bundle that says so"
        )
    if found.expected is None:
        return (
            "no ptxas is on this machine to try the PTX with: register-cliff toolchains install ptxas==12.8.93, "
            "or --allow-unreproduced for a bundle that says it was not run"
        )
    row = found.table[chosen_row(found, found.table)]
    spills = f"{row['spill_store_bytes']} B of spill stores" if row["spill_store_bytes"] else "no spills"
    if found.symptom == SPILLS:
        return (
            f"nothing spills: ptxas {row['ptxas_version']} ends with {row['status']}; a report of spills is of a PTX "
            "that compiles and spills. --ptxas names another ptxas, --allow-unreproduced writes a bundle that says so"
        )
    if found.ptx is not None and is_trap_stub(found.ptx):
        return (
            f"ptxas {row['ptxas_version']} takes this PTX, and the kernel in it is a bare trap: what wrote it is at "
            "fault, mostly for want of tensor memory. Give the kernel's spec, from which Triton can write it again; "
            "--allow-unreproduced writes a bundle that says so"
        )
    hint = " --for spills reports the spills." if row["status"] == "spills" else ""
    return (
        f"this compiles: ptxas {row['ptxas_version']} takes it with {row['regs_per_thread']} registers, {spills}"
        f"; a report is of a PTX that ptxas refuses.{hint} --ptxas names another ptxas, --allow-unreproduced "
        "writes a bundle that says so"
    )


def not_run(found: Findings) -> str:
    """Why the bundle's repro was not run."""
    if found.end is not None and found.withhold:
        return "The source is withheld, and without it Triton has nothing to compile"
    if found.ptx is None and found.material.diagnosis is not None:
        return f"A log alone cannot be run again: {found.notes[0] if found.notes else 'it holds no PTX'}"
    if found.ptx is None:
        reason = found.notes[0] if found.notes else f"this fails before there is PTX ({status_of(found)})"
        return f"There is nothing to run: {reason}"
    if found.expected is None:
        return "There was no ptxas on the machine that wrote this, so nothing was run"
    if not found.expected.failed:
        return f"The PTX compiles under ptxas {found.program[0] if found.program else '?'}: there is no failure to show"
    return "It was not run"


def _addressee(found: Findings, status: str, code: str | None) -> tuple[str, str]:
    """(where to report, why)."""
    diagnosis = found.material.diagnosis
    if diagnosis is not None and not found.table:
        return diagnosis.report_to or "nobody yet", diagnosis.report_why or "the log does not tell enough"
    compiled = found.material.compiled
    if found.end is not None and compiled is not None:
        mended = [row["triton_version"] for row in found.triton_table if row["status"] in COMPILED]
        return where_to_report_a_compile(compiled, mended)
    if found.symptom == SPILLS:
        return where_to_report_spills(found.table)
    to, why = where_to_report(status, code, found.table, found.edits)
    if diagnosis is not None and diagnosis.report_why and diagnosis.incidents:
        why += f". The log's diagnosis adds: {diagnosis.report_why}"
    return to, why

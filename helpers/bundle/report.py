"""report: one zip to attach to an issue, its own repro run before it was written, and the issue's text beside it.

The way is a line: material (what was given) -> findings (what was found out) -> facts (in words) -> zip.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.bundle.collect import Deadline, Say, collect, first_findings
from helpers.bundle.facts import facts_of, not_run
from helpers.bundle.findings import FAILURE, SPILLS, SYMPTOMS, Findings
from helpers.bundle.issue_text import Facts, issue, readme
from helpers.bundle.material import Source, read_material
from helpers.bundle.members import environment_of
from helpers.bundle.repro import RUN_LIMIT_S, ReproRun, run_repro, zip_bytes
from helpers.bundle.scrub import Identity, Scrubber
from helpers.bundle.triton_repro import LIMIT_S as TRITON_LIMIT_S
from helpers.bundle.triton_repro import run_triton_repro
from helpers.compiler import machine
from helpers.compiler.compile import DEFAULT_TIMEOUT_S
from helpers.errors import MachineError, UserError
from helpers.files import write_together
from helpers.inspection.ptxas import parse_ptxas_log
from helpers.search.changes import LadderOf, generic_ladder

__all__ = ["Bundle", "report"]


def report(
    source: Source,
    out: str | Path = "report.zip",
    *,
    withhold_source: bool = False,
    allow_unreproduced: bool = False,
    arch: str | None = None,
    triton: str | None = None,
    ptxas: str | None = None,
    ptxas_flags: Sequence[str] = (),
    minimize_s: float = 0.0,
    identity: Identity | None = None,
    say: Say | None = None,
    ladder_of: LadderOf = generic_ladder,
    symptom: str = FAILURE,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    budget_s: float | None = None,
    dry_run: bool = False,
    tell: Say | None = None,
) -> Bundle:
    """Write a zip that reproduces a failure with nothing but its compiler, and `<name>.issue.md`; the Bundle it became.

    `source` is a CompileRequest, a KernelSpec or a Choice (see `Requestable`), the path of a spec (JSON), PTX or log,
    or a text of these (see `read_material`; arch, triton, ptxas and flags are for sources that do not say). What
    ptxas refuses is shown by a repro.sh that needs a ptxas; what a spec's compile ends in otherwise (the front end,
    shared or tensor memory, a trap, Triton's own time) by a repro.py that needs that Triton. The zip's repro is run
    from an empty folder first; where it does not fail as recorded, UserError, unless `allow_unreproduced`.
    `symptom` "spills" reports a kernel that compiles and spills. A log without PTX makes a zip of the diagnosis,
    marked as not reproduced. `withhold_source` leaves out source, IR, spec, log and line info, and renames
    everything the PTX declares. `minimize_s` seconds go to a smaller PTX. Home folders, user and host names
    (`identity`, default: this machine's), absolute paths and secrets (tokens, passwords, addresses: see
    `secret_words`) are replaced in every file and in its name; `tell` hears, as a sentence, what kinds of them were,
    before anything is written. `dry_run` does all of it and writes nothing. The workarounds are looked for on the
    ladder that `ladder_of` has for the spec. After `budget_s` seconds what is not found yet is left away; each
    stage of a spec's compile may take `timeout_s`.
    """
    say, tell = say or (lambda _words: None), tell or (lambda _words: None)
    deadline = Deadline.after(budget_s)
    out = Path(out)
    if out.suffix != ".zip":
        raise UserError(f"{str(out)[:200]!r}: the bundle is a zip; give it a name that ends in .zip")
    if symptom not in SYMPTOMS:
        raise UserError(f"{symptom[:40]!r} cannot be reported: choose {' or '.join(SYMPTOMS)}")
    material = read_material(
        source, arch=arch, triton=triton, ptxas=ptxas, ptxas_flags=ptxas_flags, timeout_s=deadline.left(timeout_s)
    )
    found, scrubber = first_findings(material, withhold=withhold_source, identity=identity, symptom=symptom)
    found = collect(
        found, scrubber, allow_unreproduced=allow_unreproduced, minimize_s=minimize_s, ladder_of=ladder_of, say=say,
        deadline=deadline,
    )  # fmt: skip
    facts, content = _tried_zip(found, scrubber, allow_unreproduced=allow_unreproduced, say=say)
    text = _clean(scrubber, issue(facts, zip_name=out.name))
    bundle = replace(_bundle(found, facts, content, out), written=not dry_run, replaced=tuple(scrubber.list_replaced()))
    tell(f"replaced in every file of the bundle: {', '.join(bundle.replaced) or 'nothing'}")
    if dry_run:
        return bundle
    try:
        write_together({out: content, bundle.issue_path: text.encode(errors="replace")})
    except OSError as exc:
        raise MachineError(
            f"cannot write {out} and {bundle.issue_path.name}: {exc.strerror or exc}; make room, or name a file in "
            "another folder: the compiles are in the cache, so that the same command is quicker then"
        ) from exc
    return bundle


@dataclass(frozen=True)
class Bundle:
    """What `report` wrote: the zip, the issue text beside it, and whether the zip's own repro failed as recorded.

    `sizes` are the bytes of the members, in their order; `replaced` says what was taken out of them, never what it was.
    A dry run has all of it, and has `written` nothing.
    """

    path: Path
    issue_path: Path
    members: tuple[str, ...]
    status: str
    reproduced: bool
    check: str
    report_to: str
    report_why: str
    notes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    replaced: tuple[str, ...] = ()
    written: bool = True

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return {
            "zip": str(self.path),
            "issue": str(self.issue_path),
            "written": self.written,
            "members": list(self.members),
            "bytes": dict(zip(self.members, self.sizes, strict=True)),
            "replaced": list(self.replaced),
            "status": self.status,
            "reproduced": self.reproduced,
            "check": self.check,
            "report_to": self.report_to,
            "report_why": self.report_why,
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The files, whether they reproduce and how that was found out, where to take them; one thing a line."""
        lines = [f"{self.path}: {len(self.members)} files", f"{self.issue_path}: the issue text", ""]
        if not self.written:
            lines = [f"nothing was written. {self.path} would hold {len(self.members)} files:"]
            lines += [f"{size:>12,} B  {name}" for name, size in zip(self.members, self.sizes, strict=True)]
            lines += ["", f"replaced in them: {', '.join(self.replaced) or 'nothing'}", ""]
        lines += [("" if self.reproduced else "NOT REPRODUCED: ") + self.check]
        lines += [f"report it to: {self.report_to}", f"because: {self.report_why}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _tried_zip(found: Findings, scrubber: Scrubber, *, allow_unreproduced: bool, say: Say) -> tuple[Facts, bytes]:
    """(facts, zip), its repro run from those very bytes; raises UserError where it does not reproduce."""
    if found.script not in found.members:
        return _packed(found, scrubber, reproduced=False, check=not_run(found))
    tried = f"{found.script} of this zip was run in an empty folder with {_compiler(found)}"
    verb = "ended" if found.symptom == SPILLS or (found.end is not None and not found.end.words) else "failed"
    claim = f"{tried} and nothing else, and it {verb} the same way: {_sentence(found)}"
    facts, content = _packed(found, scrubber, reproduced=True, check=claim)
    say("the zip's own repro, in an empty folder")
    ran = _run(found, content)
    if _of_machine(found, ran) and _of_machine(found, ran := _run(found, content)):
        said = " ".join(ran.output.split())[-300:]
        raise MachineError(f"{machine.sentence(f'{tried}, and it ended so: {said}')}. Nothing was written")
    if ran.same:
        return facts, content
    tail = " ".join(ran.output.split())[-300:]
    check = f"{tried} and did not fail the same way (exit code {ran.exit_code}): {tail}"
    if not allow_unreproduced:
        raise UserError(
            f"nothing was written, the bundle does not reproduce: {check}. --allow-unreproduced writes it all "
            "the same, and it will say so"
        )
    return _packed(found, scrubber, reproduced=False, check=check)


def _compiler(found: Findings) -> str:
    if found.end is not None:
        return f"Triton {found.end.version}"
    return f"ptxas {found.program[0] if found.program else '?'}"


def _sentence(found: Findings) -> str:
    shown = found.end or found.expected
    return shown.sentence() if shown else ""


def _run(found: Findings, content: bytes) -> ReproRun:
    """One run of the zip's repro with the compiler of the failure."""
    if found.end is not None and found.material.request is not None:
        limit_s = 60 + (found.end.limit_s or TRITON_LIMIT_S)
        return run_triton_repro(content, found.material.request.toolchain.triton, timeout_s=limit_s)
    if found.program is None:
        raise UserError("there is no ptxas to run the repro with")
    return run_repro(content, found.program[1], timeout_s=2.0 * RUN_LIMIT_S + 60)


_CODE_OF_PTXAS = re.compile(r"^exit code of ptxas: ([0-9]{1,3})$", re.MULTILINE)


def _of_machine(found: Findings, ran: ReproRun) -> bool:
    """Whether the machine ended a run of the repro: then it says nothing, not even where it failed as it should."""
    if not ran.same and machine.no_room():
        return True
    code = int(told[1]) if (told := _CODE_OF_PTXAS.search(ran.output)) else ran.exit_code
    if found.expected is not None and found.expected.status == "timeout":  # the script itself kills it
        return False
    ended = machine.ended(128 - code if code is not None and code > 128 else code, ran.output)
    return ended or machine.of_ptxas(parse_ptxas_log(ran.output).fatal)


def _packed(found: Findings, scrubber: Scrubber, *, reproduced: bool, check: str) -> tuple[Facts, bytes]:
    """(facts, zip) of the findings; raises UserError where scrubbing has missed something."""
    members = dict(found.members)
    members["repro_check.txt"] = _clean(scrubber, f"{'' if reproduced else 'NOT REPRODUCED. '}{check}\n").encode()
    names = [*members, "environment.json", "README.md"]
    # Before Markdown's own signs come between the letters of an address.
    facts = scrubber.every(facts_of(found, scrubber, reproduced=reproduced, check=check, names=names))
    members["README.md"] = _clean(scrubber, readme(facts)).encode()
    environment = environment_of(found.material, found.program, found.table, members, withhold=found.withhold)
    members["environment.json"] = _clean(scrubber, json.dumps(environment, indent=2) + "\n").encode()
    remains = [line for name, content in sorted(members.items()) for line in scrubber.remains(name, content)]
    if remains:
        raise UserError(f"nothing was written: after scrubbing there is still {'; '.join(remains[:5])}")
    return facts, zip_bytes(members)


def _clean(scrubber: Scrubber, text: str) -> str:
    return scrubber.text(text).encode(errors="replace").decode()


def _bundle(found: Findings, facts: Facts, content: bytes, out: Path) -> Bundle:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = tuple(archive.namelist())
        sizes = tuple(info.file_size for info in archive.infolist())
    return Bundle(
        path=out,
        issue_path=out.with_suffix(".issue.md"),
        members=names,
        status=facts.status,
        reproduced=facts.reproduced,
        check=facts.check,
        report_to=facts.report_to,
        report_why=facts.report_why,
        notes=found.notes,
        sizes=sizes,
    )

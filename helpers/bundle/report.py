"""report: one zip to attach to an issue, its own repro run before it was written, and the issue's text beside it.

The way is a line: material (what was given) -> findings (what was found out) -> facts (in words) -> zip.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.bundle.collect import Say, collect, first_findings
from helpers.bundle.facts import facts_of, not_run
from helpers.bundle.findings import Findings
from helpers.bundle.issue_text import Facts, issue, readme
from helpers.bundle.material import Source, read_material
from helpers.bundle.members import environment_of
from helpers.bundle.repro import RUN_LIMIT_S, run_repro, zip_bytes
from helpers.bundle.scrub import Identity, Scrubber
from helpers.errors import UserError
from helpers.files import write_bytes_atomically, write_text_atomically
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
) -> Bundle:
    """Write a zip that reproduces a failure with nothing but a ptxas, and `<name>.issue.md`; the Bundle it became.

    `source` is a CompileRequest, a KernelSpec or a Choice (see `Requestable`), the path of a spec (JSON), PTX or log,
    or a text of these (see `read_material`; arch, triton, ptxas and flags are for sources that do not say). The zip's
    repro.sh is run from an empty folder first; where it does not fail as ptxas did, UserError, unless
    `allow_unreproduced`. A log without PTX makes a zip of the diagnosis, marked as not reproduced. `withhold_source`
    leaves out source, IR, spec, log and line info, and renames everything the PTX declares. `minimize_s` seconds go
    to a smaller PTX. Home folders, user and host names (`identity`, default: this machine's) and absolute paths are
    replaced in every file. The workarounds are looked for on the ladder that `ladder_of` has for the spec.
    """
    say = say or (lambda _words: None)
    out = Path(out)
    if out.suffix != ".zip":
        raise UserError(f"{str(out)[:200]!r}: the bundle is a zip; give it a name that ends in .zip")
    material = read_material(source, arch=arch, triton=triton, ptxas=ptxas, ptxas_flags=ptxas_flags)
    found, scrubber = first_findings(material, withhold=withhold_source, identity=identity)
    found = collect(
        found, scrubber, allow_unreproduced=allow_unreproduced, minimize_s=minimize_s, ladder_of=ladder_of, say=say
    )
    facts, content = _tried_zip(found, scrubber, allow_unreproduced=allow_unreproduced, say=say)
    bundle = _bundle(found, facts, content, out)
    try:
        write_bytes_atomically(out, content)
        write_text_atomically(bundle.issue_path, _clean(scrubber, issue(facts, zip_name=out.name)))
    except OSError as exc:
        raise UserError(f"cannot write {out}: {exc.strerror or exc}; name a file in a writable folder") from exc
    return bundle


@dataclass(frozen=True)
class Bundle:
    """What `report` wrote: the zip, the issue text beside it, and whether the zip's own repro failed as recorded."""

    path: Path
    issue_path: Path
    members: tuple[str, ...]
    status: str
    reproduced: bool
    check: str
    report_to: str
    report_why: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return {
            "zip": str(self.path),
            "issue": str(self.issue_path),
            "members": list(self.members),
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
        lines += [("" if self.reproduced else "NOT REPRODUCED: ") + self.check]
        lines += [f"report it to: {self.report_to}", f"because: {self.report_why}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _tried_zip(found: Findings, scrubber: Scrubber, *, allow_unreproduced: bool, say: Say) -> tuple[Facts, bytes]:
    """(facts, zip), its repro run from those very bytes; raises UserError where it does not reproduce."""
    if found.program is None or found.expected is None or "repro.sh" not in found.members:
        return _packed(found, scrubber, reproduced=False, check=not_run(found))
    version, program = found.program
    claim = (
        f"repro.sh of this zip was run in an empty folder with ptxas {version} and nothing else, and it "
        f"failed the same way: {found.expected.sentence()}"
    )
    facts, content = _packed(found, scrubber, reproduced=True, check=claim)
    say("the zip's own repro, in an empty folder")
    ran = run_repro(content, program, timeout_s=2.0 * RUN_LIMIT_S + 60)
    if ran.same:
        return facts, content
    tail = " ".join(ran.output.split())[-300:]
    check = (
        f"repro.sh of this zip was run in an empty folder with ptxas {version} and did not fail the same way "
        f"(exit code {ran.exit_code}): {tail}"
    )
    if not allow_unreproduced:
        raise UserError(
            f"nothing was written, the bundle does not reproduce: {check}. --allow-unreproduced writes it all "
            "the same, and it will say so"
        )
    return _packed(found, scrubber, reproduced=False, check=check)


def _packed(found: Findings, scrubber: Scrubber, *, reproduced: bool, check: str) -> tuple[Facts, bytes]:
    """(facts, zip) of the findings; raises UserError where scrubbing has missed something."""
    members = dict(found.members)
    members["repro_check.txt"] = _clean(scrubber, f"{'' if reproduced else 'NOT REPRODUCED. '}{check}\n").encode()
    names = [*members, "environment.json", "README.md"]
    facts = facts_of(found, scrubber, reproduced=reproduced, check=check, names=names)
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
    )

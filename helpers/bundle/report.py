"""report: one zip to attach to an issue, its own repro run before it was written, and the issue's text beside it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.bundle.facts import Findings, Say
from helpers.bundle.findings import (
    edits_of,
    environment_of,
    kernel_files,
    minimized_of,
    pressure_files,
    ptxas_table,
    table_csv,
)
from helpers.bundle.issue_text import Facts, issue, readme
from helpers.bundle.material import Source, read_material
from helpers.bundle.repro import RUN_LIMIT_S, expected_of, repro_script, run_repro, safe_member, zip_bytes
from helpers.bundle.scrub import Identity
from helpers.compiler.run_ptxas import PtxasRun
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
    draft = Draft(material, withhold_source, identity, say, ladder_of)
    draft.collect(allow_unreproduced, minimize_s)
    content, bundle = draft.finish(out, allow_unreproduced)
    issue_path = bundle.issue_path
    try:
        write_bytes_atomically(out, content)
        write_text_atomically(issue_path, draft.issue_text)
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


class Draft(Findings):
    """A bundle in the making: its files are made, and scrubbed as they come in; its repro is run."""

    # --- what goes in ---

    def collect(self, allow_unreproduced: bool, minimize_s: float) -> None:
        """Run what has to be run and fill the members; raises UserError where there is nothing to report."""
        material = self.material
        self.notes += material.notes
        if self.ptx is not None:
            self.ptx = self.scrubber.code(self.ptx)
            self._add("kernel.ptx", self.ptx)
        if self.ptx is not None and material.gpu_name and material.programs:
            self._assemble()
        elif self.ptx is not None and material.gpu_name:
            self.notes.append("no ptxas on this machine: register-cliff toolchains install ptxas==12.8.93")
        failed = self.expected is not None and self.expected.failed
        if not failed and not allow_unreproduced:
            found = material.diagnosis
            if self.ptx is not None or found is None:
                raise UserError(self.why_nothing())
            if found.kind in ("unknown", "no_failure"):
                raise UserError(
                    f"no failure that is known is in this log: {'; '.join(found.because)[:400]}. Nothing was written; "
                    "--allow-unreproduced writes a bundle that says so"
                )
        if failed:
            self._add("repro.sh", repro_script(material.flags, material.gpu_name or "", self.expected))
        self._add_files()
        self._add_edits(failed)
        if self.ptx is not None:
            self.say("registers along the PTX")
            for name, content in pressure_files(self.ptx, self.title()).items():
                self._add(name, content)
        if minimize_s and failed:
            self.say(f"making the PTX smaller, up to {minimize_s:g} s")
            small, note = minimized_of(
                self.ptx or "", material.gpu_name or "", self.program[0] if self.program else None,
                flags=material.flags, seconds=minimize_s,
            )  # fmt: skip
            self.notes.append(note)
            if small and self._fails_alike(small := self.scrubber.code(small)):
                self._add("minimized.ptx", small)
            elif small:
                self.notes[-1] = "a smaller PTX was found, but it did not fail in the same way when tried again"

    def _fails_alike(self, ptx: str) -> bool:
        """Whether another PTX ends as this one does, under the same ptxas and flags."""
        material = self.material
        if self.program is None or self.expected is None:
            return False
        ((_row, done),) = ptxas_table(ptx, material.gpu_name or "", material.flags, [self.program])
        found = expected_of(done)
        return (found.status, found.code) == (self.expected.status, self.expected.code)

    def _assemble(self) -> None:
        material = self.material
        self.say(f"the PTX under {len(material.programs)} ptxas releases")
        runs = ptxas_table(self.ptx or "", material.gpu_name or "", material.flags, material.programs)
        self.table = [row for row, _ in runs]
        at = self.chosen([row for row, _ in runs])
        self.program = material.programs[at]
        done: PtxasRun = runs[at][1]
        self.expected = expected_of(done)
        self._add("ptxas.log", self.scrubber.text(_without_times(done.log)))
        self._add("ptxas_table.csv", table_csv(self.table))

    def _add_files(self) -> None:
        material = self.material
        if material.log is not None and not self.withhold:
            self._add("log.txt", self.scrubber.text(material.log))
        if material.diagnosis is not None and self.withhold:
            self._add("diagnosis.txt", self.diagnosis_words() + "\n")
        elif material.diagnosis is not None:
            self._add("diagnosis.txt", self.scrubber.text(material.diagnosis.text()) + "\n")
            found = json.dumps(material.diagnosis.to_dict(), indent=2, default=str)
            self._add("diagnosis.json", self.scrubber.text(found) + "\n")
        if material.request is None or self.withhold:
            return
        compiled = material.compiled
        for stage in ("ttir", "ttgir"):
            if path := getattr(compiled, f"{stage}_path", None):
                self._add(f"kernel.{stage}", self.scrubber.code(Path(path).read_text()))
        files, kernel, note = kernel_files(material.request.spec.kernel)
        for name, text in files.items():
            self._add(name, self.scrubber.python(text))
        if note:
            self.notes.append(note)
        spec = replace(material.request.spec, kernel=kernel)
        self._add("spec.json", self.scrubber.text(spec.to_json()) + "\n")

    def _add_edits(self, failed: bool) -> None:
        if self.ptx is None and self.material.request is None:
            return
        self.say("workarounds, each one compiled")
        edits = edits_of(self.material, self.ptx, self.program if failed else None, self.ladder_of)
        if self.withhold:
            shown = [e for e in edits if not {"kernel", "tile", "types", "constexpr"} & set(e["kind"].split(" + "))]
            self.edits_left_out = len(edits) - len(shown)
            edits = shown
        self.edits = edits
        if edits:
            self._add("workarounds.json", self.scrubber.text(json.dumps(edits, indent=2)) + "\n")

    def _add(self, name: str, content: str | bytes) -> None:
        self.members[safe_member(name)] = content.encode(errors="replace") if isinstance(content, str) else content

    # --- what comes out ---

    def finish(self, out: Path, allow_unreproduced: bool) -> tuple[bytes, Bundle]:
        """(the zip, the Bundle), its repro run from those very bytes; raises UserError where it does not reproduce."""
        reproduced, check = False, self.not_run()
        if "repro.sh" in self.members and self.program is not None:
            version = self.program[0]
            claim = (
                f"repro.sh of this zip was run in an empty folder with ptxas {version} and nothing else, and it "
                f"failed the same way: {self.expected.sentence() if self.expected else ''}"
            )
            content, facts = self._zip(True, claim)
            self.say("the zip's own repro, in an empty folder")
            ran = run_repro(content, self.program[1], timeout_s=2.0 * RUN_LIMIT_S + 60)
            if ran.same:
                return self._done(out, content, facts)
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
        content, facts = self._zip(reproduced, check)
        return self._done(out, content, facts)

    def _zip(self, reproduced: bool, check: str) -> tuple[bytes, Facts]:
        members = dict(self.members)
        members["repro_check.txt"] = self._text(f"{'' if reproduced else 'NOT REPRODUCED. '}{check}\n").encode()
        facts = self.facts(reproduced, check, [*members, "environment.json", "README.md"])
        members["README.md"] = self._text(readme(facts)).encode()
        environment = environment_of(self.material, self.program, self.table, members, withhold=self.withhold)
        members["environment.json"] = self._text(json.dumps(environment, indent=2) + "\n").encode()
        remains = [line for name, content in sorted(members.items()) for line in self.scrubber.remains(name, content)]
        if remains:
            raise UserError(f"nothing was written: after scrubbing there is still {'; '.join(remains[:5])}")
        return zip_bytes(members), facts

    def _text(self, text: str) -> str:
        return self.scrubber.text(text).encode(errors="replace").decode()

    def _done(self, out: Path, content: bytes, facts: Facts) -> tuple[bytes, Bundle]:
        self.issue_text = self._text(issue(facts, zip_name=out.name))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = tuple(archive.namelist())
        return content, Bundle(
            path=out,
            issue_path=out.with_suffix(".issue.md"),
            members=names,
            status=facts.status,
            reproduced=facts.reproduced,
            check=facts.check,
            report_to=facts.report_to,
            report_why=facts.report_why,
            notes=tuple(self.notes),
        )


def _without_times(log: str) -> str:
    """A ptxas log without its one line that differs from run to run."""
    return "\n".join(line for line in log.split("\n") if "Compile time = " not in line)

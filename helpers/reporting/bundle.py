"""report: one zip to attach to an issue, its own repro run before it was written, and the issue's text beside it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.compiler.assemble import Assembly
from helpers.compiler.paths import write_bytes_atomically, write_text_atomically
from helpers.compiler.report import COMPILED
from helpers.errors import UserError
from helpers.reporting.bundle_parts import (
    Row,
    edits_of,
    environment_of,
    kernel_files,
    minimized_of,
    pressure_files,
    ptxas_table,
    table_csv,
)
from helpers.reporting.bundle_source import Material, Source, read_material
from helpers.reporting.issue_text import Facts, issue, readme, where_to_report
from helpers.reporting.repro import (
    RUN_LIMIT_S,
    Expected,
    expected_of,
    one_command,
    repro_script,
    run_repro,
    safe_member,
)
from helpers.reporting.scrub import Identity, Scrubber
from helpers.reporting.withhold import withhold_ptx

Say = Callable[[str], None]
_EPOCH = (1980, 1, 1, 0, 0, 0)
_WHAT = {
    "README.md": "what happens, what was expected, the one command",
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
) -> Bundle:
    """Write a zip that reproduces a failure with nothing but a ptxas, and `<name>.issue.md`; the Bundle it became.

    `source` is a CompileRequest, Choice or KernelSpec, the path of a spec (JSON), PTX or log, or a text of these (see
    `read_material`; arch, triton, ptxas and flags are for sources that do not say). The zip's repro.sh is run from an
    empty folder first; where it does not fail as ptxas did, UserError, unless `allow_unreproduced`. A log without PTX
    makes a zip of the diagnosis, marked as not reproduced. `withhold_source` leaves out source, IR, spec, log and line
    info, and renames everything the PTX declares. `minimize_s` seconds go to a smaller PTX. Home folders, user and host
    names (`identity`, default: this machine's) and absolute paths are replaced in every file.
    """
    say = say or (lambda _words: None)
    out = Path(out)
    if out.suffix != ".zip":
        raise UserError(f"{str(out)[:200]!r}: the bundle is a zip; give it a name that ends in .zip")
    material = read_material(source, arch=arch, triton=triton, ptxas=ptxas, ptxas_flags=ptxas_flags)
    draft = _Draft(material, withhold_source, identity, say)
    draft.collect(allow_unreproduced, minimize_s)
    content, bundle = draft.finish(out, allow_unreproduced)
    issue_path = bundle.issue_path
    try:
        write_bytes_atomically(out, content)
        write_text_atomically(issue_path, draft.issue_text)
    except OSError as exc:
        raise UserError(f"cannot write {out}: {exc.strerror or exc}; name a file in a writable folder") from exc
    return bundle


class _Draft:
    """A bundle in the making: members by name, the facts for its words, scrubbed as they come in."""

    def __init__(self, material: Material, withhold: bool, identity: Identity | None, say: Say) -> None:
        self.material, self.withhold, self.say = material, withhold, say
        self.members: dict[str, bytes] = {}
        self.notes: list[str] = []
        self.table: list[Row] = []
        self.edits: list[dict] = []
        self.edits_left_out = 0
        self.program: tuple[str, Path] | None = None
        self.expected: Expected | None = None
        self.issue_text = ""
        self.ptx, told = material.ptx, ()
        if withhold and self.ptx is not None:
            withheld = withhold_ptx(self.ptx)
            self.ptx, told = withheld.ptx, withheld.names
        self.scrubber = Scrubber(identity, withheld=(*told, *self._own_names()) if withhold else ())
        # Whoever is named by a home folder anywhere is replaced everywhere.
        for text in (material.log, material.ptx, material.compiled and material.compiled.message):
            self.scrubber.learn(text or "")

    def _own_names(self) -> tuple[str, ...]:
        request = self.material.request
        if request is None and self.material.diagnosis is not None:
            log = self.material.diagnosis.log
            files = {Path(frame.file.replace("\\", "/")).stem for frame in log.frames}
            return (log.kernel_name or "", *files, *(frame.function for frame in log.frames))
        if request is None:
            return ()
        spec = request.spec
        return (spec.kernel.name, Path(spec.kernel.path).stem, *(name for name, _ in spec.signature), spec.label)

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
            self.notes.append("no ptxas on this machine: python -m helpers toolchains install ptxas==12.8.93")
        failed = self.expected is not None and self.expected.failed
        if not failed and not allow_unreproduced:
            found = material.diagnosis
            if self.ptx is not None or found is None:
                raise UserError(self._why_nothing())
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
            for name, content in pressure_files(self.ptx, self._title()).items():
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
        at = self._chosen([row for row, _ in runs])
        self.program = material.programs[at]
        done: Assembly = runs[at][1]
        self.expected = expected_of(done)
        self._add("ptxas.log", self.scrubber.text(_without_times(done.log)))
        self._add("ptxas_table.csv", table_csv(self.table))

    def _chosen(self, rows: Sequence[Row]) -> int:
        """Which ptxas to reproduce with: the one asked for or that compiled the spec; else the first that can fail."""
        if self.material.kind == "spec":
            return 0
        wanted = self.material.asked_ptxas
        for at, row in enumerate(rows):
            if wanted and row["ptxas_version"] == wanted:
                return at
        for at, row in enumerate(rows):
            if row["status"] not in COMPILED and not row["status"].startswith("unsupported"):
                return at
        return 0

    def _why_nothing(self) -> str:
        status = self._status()
        if self.ptx is None and self.material.compiled is not None:
            return (
                f"this fails before there is PTX ({status}: {self.material.compiled.message[:200]}): no repro with a "
                "ptxas alone can show that; --allow-unreproduced writes a bundle that says so"
            )
        if self.expected is None:
            return (
                "no ptxas is on this machine to try the PTX with: python -m helpers toolchains install ptxas==12.8.93, "
                "or --allow-unreproduced for a bundle that says it was not run"
            )
        row = self.table[self._chosen(self.table)]
        spills = f"{row['spill_store_bytes']} B of spill stores" if row["spill_store_bytes"] else "no spills"
        after = "" if status in COMPILED else f" (what fails is what comes after: {status})"
        return (
            f"this compiles: ptxas {row['ptxas_version']} takes it with {row['regs_per_thread']} registers, {spills}"
            f"{after}; a report is of a PTX that ptxas refuses. --ptxas names another ptxas, --allow-unreproduced "
            "writes a bundle that says so"
        )

    def _add_files(self) -> None:
        material = self.material
        if material.log is not None and not self.withhold:
            self._add("log.txt", self.scrubber.text(material.log))
        if material.diagnosis is not None and self.withhold:
            self._add("diagnosis.txt", self._diagnosis_words() + "\n")
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
        edits = edits_of(self.material, self.ptx, self.program if failed else None)
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
        reproduced, check = False, self._not_run()
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

    def _not_run(self) -> str:
        if self.ptx is None:
            reason = self.notes[0] if self.notes else f"this fails before there is PTX ({self._status()})"
            return f"There is nothing to run: {reason}"
        if self.expected is None:
            return "There was no ptxas on the machine that wrote this, so nothing was run"
        if not self.expected.failed:
            return (
                f"The PTX compiles under ptxas {self.program[0] if self.program else '?'}: there is no failure to show"
            )
        return "It was not run"

    def _zip(self, reproduced: bool, check: str) -> tuple[bytes, Facts]:
        members = dict(self.members)
        members["repro_check.txt"] = self._text(f"{'' if reproduced else 'NOT REPRODUCED. '}{check}\n").encode()
        facts = self._facts(reproduced, check, [*members, "environment.json", "README.md"])
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

    # --- words ---

    def _status(self) -> str:
        if self.expected is not None and self.expected.failed:
            return self.expected.status
        if self.material.compiled is not None:
            return self.material.compiled.status
        if self.material.diagnosis is not None and self.ptx is None:
            return self.material.diagnosis.kind
        return self.table[self._chosen(self.table)]["status"] if self.table else "unknown"

    def _title(self) -> str:
        where = self.material.gpu_name or (self.material.request.arch if self.material.request else "")
        program = f"ptxas {self.program[0]}: " if self.program else ""
        if self.expected is not None and self.expected.failed:
            return f"{program}{self.expected.code or self.expected.status} on {where}"
        if self.ptx is None and self.material.diagnosis is not None:
            where = self.material.diagnosis.log.arch or ""
            return " ".join([self.material.diagnosis.title, *([f"on {where}"] if where else [])])
        return " ".join(filter(None, [f"{program}{self._status()}", f"on {where}" if where else ""]))

    def _message(self) -> str:
        if "ptxas.log" in self.members and self.expected is not None and self.expected.failed:
            lines = self.members["ptxas.log"].decode(errors="replace").splitlines()
            spoken = [line for line in lines if " fatal" in line[:400] or " error" in line[:400]]
            return "\n".join(spoken[:12] or lines[-12:])
        if self.material.compiled is not None:
            # A front end's complaint quotes the source.
            hidden = self.withhold and self.ptx is None
            return "(withheld)" if hidden else self.scrubber.text(self.material.compiled.message)
        first = self.material.diagnosis.failure if self.material.diagnosis else None
        return self.scrubber.text(first.message) if first else ""

    def _diagnosis_words(self) -> str:
        """The diagnosis in short: what it is, why, and which known incidents it is or resembles."""
        found = self.material.diagnosis
        if found is None:
            return ""
        lines = [found.title, *found.because]
        lines += [f"{match.degree}: {match.incident.name}, {match.incident.link}" for match in found.incidents]
        return self.scrubber.text("\n".join(lines))

    def _facts(self, reproduced: bool, check: str, names: Sequence[str]) -> Facts:
        material, diagnosis = self.material, self.material.diagnosis
        status, code = self._status(), self.expected.code if self.expected else None
        if self.table:
            to, why = where_to_report(status, code, self.table, self.edits)
        elif diagnosis is not None:
            to, why = diagnosis.report_to or "nobody yet", diagnosis.report_why or "the log does not tell enough"
        else:
            to, why = where_to_report(status, code, (), self.edits)
        if diagnosis is not None and self.table and diagnosis.report_why and diagnosis.incidents:
            why += f". The log's diagnosis adds: {diagnosis.report_why}"
        label = ""
        if material.request is not None and not self.withhold:
            label = f", {material.request.spec.label or material.request.spec.kernel.name}"
        return Facts(
            title=self._title() + label,
            status=status,
            message=self._message(),
            code=code,
            command=one_command(material.flags, material.gpu_name or "") if "repro.sh" in self.members else None,
            versions=self._versions(),
            expected="A binary, with spills if registers run short, as for other tiles of the same kernel."
            if status == "register_exhausted"
            else "A binary.",
            reproduced=reproduced,
            check=check,
            report_to=to,
            report_why=why,
            table=self.table,
            edits=self.edits,
            edits_left_out=self.edits_left_out,
            members={name: _WHAT.get(name, "source of the kernel") for name in names},
            notes=[
                *self.notes,
                *(["the source is withheld: names in the PTX are not the original's"] if self.withhold else []),
                "home folders, user and host names and absolute paths were replaced (FOLDER1, USER, HOST …)",
            ],
            diagnosis=self._diagnosis_words(),
            what=diagnosis.title if diagnosis is not None else "",
        )

    def _versions(self) -> Mapping[str, str]:
        compiled, diagnosis = self.material.compiled, self.material.diagnosis
        triton = compiled.triton_version if compiled else diagnosis.log.triton.words() if diagnosis else None
        return {
            "Triton": triton or "not known (the PTX does not say)",
            "ptxas": self.program[0] if self.program else "",
            "target": self.material.gpu_name or (compiled.arch if compiled else ""),
            "PTX SHA-256": hashlib.sha256(self.ptx.encode(errors="replace")).hexdigest() if self.ptx else "",
            "GPU": "none was used: this is about compiling",
        }


def _without_times(log: str) -> str:
    """A ptxas log without its one line that differs from run to run."""
    return "\n".join(line for line in log.split("\n") if "Compile time = " not in line)


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """A zip of `members` (name to content) whose bytes depend on nothing else; names are checked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(safe_member(name), date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()

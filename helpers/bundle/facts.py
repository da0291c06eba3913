"""Findings: all that a bundle knows of its failure, and what there is to say of it in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from helpers.bundle.findings import Row
from helpers.bundle.issue_text import Facts
from helpers.bundle.material import Material
from helpers.bundle.repro import Expected, one_command
from helpers.bundle.scrub import Identity, Scrubber
from helpers.bundle.withhold import withhold_ptx
from helpers.compiler.report import COMPILED
from helpers.diagnosis.where_to_report import where_to_report
from helpers.search.changes import LadderOf

Say = Callable[[str], None]
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


class Findings:
    """What was found so far: the PTX as it goes out, the ptxas table, workarounds, notes, the files of the zip.

    `program` is the (version, ptxas) to reproduce with and `expected` how its run ended; None before it was run.
    """

    def __init__(
        self, material: Material, withhold: bool, identity: Identity | None, say: Say, ladder_of: LadderOf
    ) -> None:
        self.material, self.withhold, self.say, self.ladder_of = material, withhold, say, ladder_of
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
        self.scrubber = Scrubber(identity, withheld=(*told, *self.own_names()) if withhold else ())
        # Whoever is named by a home folder anywhere is replaced everywhere.
        for text in (material.log, material.ptx, material.compiled and material.compiled.message):
            self.scrubber.learn(text or "")

    def own_names(self) -> tuple[str, ...]:
        request = self.material.request
        if request is None and self.material.diagnosis is not None:
            log = self.material.diagnosis.log
            files = {Path(frame.file.replace("\\", "/")).stem for frame in log.frames}
            return (log.kernel_name or "", *files, *(frame.function for frame in log.frames))
        if request is None:
            return ()
        spec = request.spec
        return (spec.kernel.name, Path(spec.kernel.path).stem, *(name for name, _ in spec.signature), spec.label)

    def chosen(self, rows: Sequence[Row]) -> int:
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

    def status(self) -> str:
        if self.expected is not None and self.expected.failed:
            return self.expected.status
        if self.material.compiled is not None:
            return self.material.compiled.status
        if self.material.diagnosis is not None and self.ptx is None:
            return self.material.diagnosis.kind
        return self.table[self.chosen(self.table)]["status"] if self.table else "unknown"

    def title(self) -> str:
        where = self.material.gpu_name or (self.material.request.arch if self.material.request else "")
        program = f"ptxas {self.program[0]}: " if self.program else ""
        if self.expected is not None and self.expected.failed:
            return f"{program}{self.expected.code or self.expected.status} on {where}"
        if self.ptx is None and self.material.diagnosis is not None:
            where = self.material.diagnosis.log.arch or ""
            return " ".join([self.material.diagnosis.title, *([f"on {where}"] if where else [])])
        return " ".join(filter(None, [f"{program}{self.status()}", f"on {where}" if where else ""]))

    def message(self) -> str:
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

    def diagnosis_words(self) -> str:
        """The diagnosis in short: what it is, why, and which known incidents it is or resembles."""
        found = self.material.diagnosis
        if found is None:
            return ""
        lines = [found.title, *found.because]
        lines += [f"{match.degree}: {match.incident.name}, {match.incident.link}" for match in found.incidents]
        return self.scrubber.text("\n".join(lines))

    def facts(self, reproduced: bool, check: str, names: Sequence[str]) -> Facts:
        material, diagnosis = self.material, self.material.diagnosis
        status, code = self.status(), self.expected.code if self.expected else None
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
            title=self.title() + label,
            status=status,
            message=self.message(),
            code=code,
            command=one_command(material.flags, material.gpu_name or "") if "repro.sh" in self.members else None,
            versions=self.versions(),
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
            diagnosis=self.diagnosis_words(),
            what=diagnosis.title if diagnosis is not None else "",
        )

    def versions(self) -> Mapping[str, str]:
        compiled, diagnosis = self.material.compiled, self.material.diagnosis
        triton = compiled.triton_version if compiled else diagnosis.log.triton.words() if diagnosis else None
        return {
            "Triton": triton or "not known (the PTX does not say)",
            "ptxas": self.program[0] if self.program else "",
            "target": self.material.gpu_name or (compiled.arch if compiled else ""),
            "PTX SHA-256": hashlib.sha256(self.ptx.encode(errors="replace")).hexdigest() if self.ptx else "",
            "GPU": "none was used: this is about compiling",
        }

    def why_nothing(self) -> str:
        status = self.status()
        if self.ptx is None and self.material.compiled is not None:
            return (
                f"this fails before there is PTX ({status}: {self.material.compiled.message[:200]}): no repro with a "
                "ptxas alone can show that; --allow-unreproduced writes a bundle that says so"
            )
        if self.expected is None:
            return (
                "no ptxas is on this machine to try the PTX with: register-cliff toolchains install ptxas==12.8.93, "
                "or --allow-unreproduced for a bundle that says it was not run"
            )
        row = self.table[self.chosen(self.table)]
        spills = f"{row['spill_store_bytes']} B of spill stores" if row["spill_store_bytes"] else "no spills"
        after = "" if status in COMPILED else f" (what fails is what comes after: {status})"
        return (
            f"this compiles: ptxas {row['ptxas_version']} takes it with {row['regs_per_thread']} registers, {spills}"
            f"{after}; a report is of a PTX that ptxas refuses. --ptxas names another ptxas, --allow-unreproduced "
            "writes a bundle that says so"
        )

    def not_run(self) -> str:
        if self.ptx is None:
            reason = self.notes[0] if self.notes else f"this fails before there is PTX ({self.status()})"
            return f"There is nothing to run: {reason}"
        if self.expected is None:
            return "There was no ptxas on the machine that wrote this, so nothing was run"
        if not self.expected.failed:
            return (
                f"The PTX compiles under ptxas {self.program[0] if self.program else '?'}: there is no failure to show"
            )
        return "It was not run"

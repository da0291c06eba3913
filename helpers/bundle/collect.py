"""collect: from material to findings, one step after the other; what has to be run is run here."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from helpers.bundle.facts import chosen_row, diagnosis_words, status_of, title_of, why_nothing
from helpers.bundle.findings import FAILURE, SPILLS, Findings
from helpers.bundle.material import Material
from helpers.bundle.members import (
    edits_of,
    foreign_imports,
    kernel_files,
    minimized_of,
    pressure_files,
    ptxas_table,
    table_csv,
    triton_csv,
    triton_table,
)
from helpers.bundle.repro import RUN_LIMIT_S, expected_of, repro_script, spills_of
from helpers.bundle.scrub import Identity, Scrubber
from helpers.bundle.triton_repro import loader_files, triton_end, triton_script
from helpers.bundle.withhold import withhold_ptx
from helpers.compiler.toolchain import version_key
from helpers.errors import UserError
from helpers.inspection.crash.mlir import mlir_reproducer
from helpers.search.changes import LadderOf

# A log whose failure is not known is worth an issue text where it speaks of one at all.
_SIGNS = re.compile(
    r"(?i)\b(?:error|fatal|failed|failure|traceback|abort(?:ed)?|assert(?:ion)?|unreachable|killed|segmentation fault"
    r"|core dumped|timed out)\b|\w(?:Error|Exception)\b"
)
# Names that a source and a PTX declare.
_DEFINED = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)
_DECLARED = re.compile(r"\.(?:entry|func)\s+(?:\.noreturn\s+)?(?:\([^()]{0,4000}\)\s*)?([A-Za-z_$][\w$]*)", re.ASCII)
Say = Callable[[str], None]
# How many ptxas releases a PTX is given to that runs into its time limit.
SLOW_PROGRAMS = 3
# Kinds of workarounds that name parameters or types of the kernel.
_TELLING_EDITS = {"kernel", "tile", "types", "constexpr"}


def first_findings(
    material: Material, *, withhold: bool, identity: Identity | None, symptom: str = FAILURE
) -> tuple[Findings, Scrubber]:
    """(the findings before anything was run, the Scrubber that has learnt from every text of the material)."""
    ptx, told = material.ptx, tuple[str, ...]()
    if withhold and ptx is not None:
        withheld = withhold_ptx(ptx)
        ptx, told = withheld.ptx, withheld.names
    scrubber = Scrubber(identity, withheld=(*told, *_own_names(material)) if withhold else ())
    # Whoever is named by a home folder anywhere is replaced everywhere.
    sources = kernel_files(material.request.spec.kernel)[0] if material.request is not None and not withhold else {}
    said = (material.log, material.ptx, material.compiled and material.compiled.message, _stderr(material))
    for text in (*said, *sources.values()):
        scrubber.learn(text or "")
    scrubber.rename(_named_here(material, sources))
    end = None
    if material.request is not None and material.compiled is not None and symptom == FAILURE:
        end = triton_end(material.request, material.compiled)
        # The kernel of the zip has other names where they were somebody's, and so has what is said of it.
        end = end and replace(end, words=scrubber.names(end.words))
    found = Findings(material, withhold, notes=material.notes, end=end, symptom=symptom)
    if ptx is None:
        return found, scrubber
    ptx = scrubber.code(ptx)
    return replace(found, ptx=ptx).with_member("kernel.ptx", ptx), scrubber


def _named_here(material: Material, sources: Mapping[str, str]) -> set[str]:
    """Names that the kernel's author gave: of the kernel and its functions, of its folders and files."""
    found = {part for name in sources for part in PurePosixPath(name).with_suffix("").parts}
    found |= {m[1] for text in sources.values() for m in _DEFINED.finditer(text)}
    found |= {m[1] for m in _DECLARED.finditer(material.ptx or "")}
    if material.request is not None:
        found.add(material.request.spec.kernel.name)
    return found


@dataclass(frozen=True)
class Deadline:
    """When a report has to be done; without one, it takes the time that its steps may take."""

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The one that comes in so many seconds."""
        return cls(math.inf if seconds is None else time.monotonic() + seconds)

    def left(self, most: float = math.inf) -> float:
        """Seconds that are left, at most `most`; 0 once it has passed."""
        return max(0.0, min(most, self.at - time.monotonic()))


def collect(
    found: Findings,
    scrubber: Scrubber,
    *,
    allow_unreproduced: bool,
    deadline: Deadline = Deadline(),
    minimize_s: float,
    ladder_of: LadderOf,
    say: Say,
) -> Findings:
    """The findings with all that can be found out; raises UserError where there is nothing to report."""
    step = _assembled if found.end is None else _compiled_again
    found = step(found, scrubber, say, deadline)
    if not (_can_be_shown(found) or allow_unreproduced):
        _check_failure(found)
    found = _with_log(found, scrubber)
    found = _with_sources(found, scrubber)
    found = _with_repro(found)
    found = _with_workarounds(found, scrubber, ladder_of, say, deadline)
    found = _with_pressure(found, scrubber, say)
    return _with_smaller_ptx(found, scrubber, deadline.left(minimize_s), say)


def _own_names(material: Material) -> tuple[str, ...]:
    """The names of a withheld kernel: its own, its file's, its parameters'."""
    if material.request is not None:
        spec = material.request.spec
        return (spec.kernel.name, Path(spec.kernel.path).stem, *(name for name, _ in spec.signature), spec.label)
    if material.diagnosis is None:
        return ()
    log = material.diagnosis.log
    files = {Path(frame.file.replace("\\", "/")).stem for frame in log.frames}
    return (log.kernel_name or "", *files, *(frame.function for frame in log.frames))


def _assembled(found: Findings, scrubber: Scrubber, say: Say, deadline: Deadline) -> Findings:
    """With the PTX under every ptxas on hand, and the one to reproduce with."""
    material, ptx, gpu_name = found.material, found.ptx, found.material.gpu_name
    if ptx is None or not gpu_name:
        return found
    if not material.programs:
        return found.with_notes("no ptxas on this machine: register-cliff toolchains install ptxas==12.8.93")
    # A spec that is stopped at its own time limit is not given more time here.
    limit_s: float = RUN_LIMIT_S
    if material.compiled is not None and material.compiled.status == "timeout" and material.request is not None:
        limit_s = max(1.0, min(RUN_LIMIT_S, material.request.timeout_s))
        if len(material.programs) > SLOW_PROGRAMS:
            # Each would take its whole time: the one that was used is asked, and the newest beside it.
            newest = sorted(material.programs[1:], key=lambda p: version_key(p[0]))[1 - SLOW_PROGRAMS :]
            material = replace(material, programs=(material.programs[0], *newest))
            found = replace(found, material=material).with_notes(
                f"{SLOW_PROGRAMS} ptxas releases were asked, not all on this machine: each takes its {limit_s:g} s"
            )
    if deadline.left() < limit_s:
        # The one that was used has to be asked; the others' answers are what the time is left away from.
        material = replace(material, programs=material.programs[:1])
        found = replace(found, material=material).with_notes("only one ptxas was asked: the budget is nearly spent")
        limit_s = max(1.0, deadline.left(limit_s))
    say(f"the PTX under {len(material.programs)} ptxas releases")
    runs = ptxas_table(ptx, gpu_name, material.flags, material.programs, limit_s=limit_s)
    table = tuple(row for row, _ in runs)
    at = chosen_row(found, table)
    done = runs[at][1]
    spills = found.symptom == SPILLS and table[at]["status"] == "spills"
    expected = spills_of(table[at]) if spills else expected_of(done)
    found = replace(found, table=table, program=material.programs[at], expected=expected)
    found = found.with_member("ptxas.log", scrubber.text(_without_times(done.log)))
    return found.with_member("ptxas_table.csv", table_csv(table))


def _compiled_again(found: Findings, scrubber: Scrubber, say: Say, deadline: Deadline) -> Findings:
    """With the same spec under every Triton on hand; not where one compile may take minutes."""
    request = found.material.request
    if request is None or found.end is None or found.end.limit_s:
        return found
    if deadline.left() <= 0:
        return found.with_notes("the kernel was not compiled with other Tritons: the budget was spent")
    request = replace(request, timeout_s=deadline.left(request.timeout_s))
    say("the kernel under every Triton on hand")
    # A front end's complaint quotes the source.
    rows = [
        {**row, "message": "" if found.withhold else scrubber.text(row["message"])} for row in triton_table(request)
    ]
    return replace(found, triton_table=tuple(rows)).with_member("triton_table.csv", triton_csv(rows))


def _with_repro(found: Findings) -> Findings:
    """With the script that fails again, and what it needs beside the sources."""
    material = found.material
    if found.end is not None and material.request is not None and _can_be_shown(found):
        found = found.with_member("repro.py", triton_script(material.request, found.end))
    elif found.expected is not None and found.failed:
        found = found.with_member("repro.sh", repro_script(material.flags, material.gpu_name or "", found.expected))
    return found


def _stderr(material: Material) -> str:
    """What Triton wrote to stderr in a compile that failed."""
    path = material.compiled.frontend_log_path if material.compiled else None
    return Path(path).read_text(errors="replace") if path else ""


def _can_be_shown(found: Findings) -> bool:
    """Whether the zip can hold all that its repro needs."""
    if found.end is None or found.material.request is None:
        return found.failed
    return not found.withhold and bool(kernel_files(found.material.request.spec.kernel)[0])


def _check_failure(found: Findings) -> None:
    """Raise UserError where nothing that can be shown fails."""
    diagnosis = found.material.diagnosis
    if found.ptx is not None or diagnosis is None:
        raise UserError(why_nothing(found))
    if diagnosis.kind == "no_failure" or (diagnosis.kind == "unknown" and not _SIGNS.search(found.material.log or "")):
        raise UserError(
            f"no failure that is known is in this log: {'; '.join(diagnosis.because)[:400]}. Nothing was written; "
            "--allow-unreproduced writes a bundle that says so"
        )


def _with_log(found: Findings, scrubber: Scrubber) -> Findings:
    """With the log and what it shows; of a withheld source, the diagnosis in short alone."""
    material = found.material
    if material.log is not None and not found.withhold:
        found = found.with_member("log.txt", scrubber.text(material.log))
        if reproducer := mlir_reproducer(material.log):
            found = found.with_member("reproducer.mlir", scrubber.code(reproducer))
    if material.diagnosis is None:
        return found
    if found.withhold:
        return found.with_member("diagnosis.txt", diagnosis_words(found, scrubber) + "\n")
    found = found.with_member("diagnosis.txt", scrubber.text(material.diagnosis.text()) + "\n")
    as_data = json.dumps(material.diagnosis.to_dict(), indent=2, default=str)
    return found.with_member("diagnosis.json", scrubber.text(as_data) + "\n")


def _with_sources(found: Findings, scrubber: Scrubber) -> Findings:
    """With Triton's IR, the kernel's files and the spec that names them inside the zip."""
    material = found.material
    if material.request is None or found.withhold:
        return found
    if stderr := _stderr(material):
        found = found.with_member("frontend.log", scrubber.text(stderr))
    if path := material.compiled.reproducer_path if material.compiled else None:
        found = found.with_member("reproducer.mlir", scrubber.code(Path(path).read_text(errors="replace")))
    for stage in ("ttir", "ttgir"):
        if path := getattr(material.compiled, f"{stage}_path", None):
            found = found.with_member(f"kernel.{stage}", scrubber.code(Path(path).read_text()))
    files, kernel, note = kernel_files(material.request.spec.kernel)
    with_stubs = found.end is not None and (kernel.stub_imports or bool(foreign_imports(files)))
    for name, text in files.items():
        found = found.with_member(scrubber.member(name), scrubber.python(text))
    if with_stubs:
        # repro.py has nothing but Triton: what else the files import, stand-ins stand for.
        kernel = replace(kernel, stub_imports=True)
        for name, text in loader_files().items():  # ours, and as they are in any checkout
            found = found.with_member(name, text)
    if note:
        found = found.with_notes(note)
    # The spec inside names what is inside.
    kernel = replace(kernel, path=scrubber.member(kernel.path), name=scrubber.names(kernel.name))
    spec = replace(material.request.spec, kernel=kernel)
    return found.with_member("spec.json", scrubber.text(spec.to_json()) + "\n")


def _with_workarounds(
    found: Findings, scrubber: Scrubber, ladder_of: LadderOf, say: Say, deadline: Deadline
) -> Findings:
    """With the edits that make it compile, without those that tell of a withheld source."""
    if found.ptx is None and found.material.request is None:
        return found
    if status_of(found) == "timeout":
        return found.with_notes(
            "no workarounds were looked for: each try might take as long as the compile that failed"
        )
    if deadline.left() <= 0:
        return found.with_notes("no workarounds were looked for: the budget was spent")
    say("workarounds, each one compiled")
    program = found.program if found.failed else None
    edits = edits_of(found.material, found.ptx, program, ladder_of=ladder_of, seconds=deadline.left())
    shown = [e for e in edits if not (found.withhold and _TELLING_EDITS & set(e["kind"].split(" + ")))]
    found = replace(found, edits=tuple(shown), edits_left_out=len(edits) - len(shown))
    if not shown:
        return found
    return found.with_member("workarounds.json", scrubber.text(json.dumps(shown, indent=2)) + "\n")


def _with_pressure(found: Findings, scrubber: Scrubber, say: Say) -> Findings:
    """With the registers needed along the PTX, as text and figure."""
    if found.ptx is None or status_of(found) == "trapped":
        return found
    say("registers along the PTX")
    for name, content in pressure_files(found.ptx, scrubber.text(title_of(found))).items():
        found = found.with_member(name, content)
    return found


def _with_smaller_ptx(found: Findings, scrubber: Scrubber, seconds: float, say: Say) -> Findings:
    """With a smaller PTX that was seen to fail in the same way, if `seconds` were given to look for one."""
    material = found.material
    if not seconds or not found.failed or found.ptx is None or found.program is None:
        return found
    say(f"making the PTX smaller, up to {seconds:g} s")
    small, note = minimized_of(
        found.ptx, material.gpu_name or "", found.program[0], flags=material.flags, seconds=seconds
    )
    if small is None:
        return found.with_notes(note)
    small = scrubber.code(small)
    if not _fails_alike(found, small):
        return found.with_notes("a smaller PTX was found, but it did not fail in the same way when tried again")
    return found.with_notes(note).with_member("minimized.ptx", small)


def _fails_alike(found: Findings, ptx: str) -> bool:
    """Whether another PTX ends as this one does, under the same ptxas and flags."""
    if found.program is None or found.expected is None:
        return False
    material = found.material
    ((_row, done),) = ptxas_table(ptx, material.gpu_name or "", material.flags, [found.program])
    again = expected_of(done)
    return (again.status, again.code) == (found.expected.status, found.expected.code)


def _without_times(log: str) -> str:
    """A ptxas log without its one line that differs from run to run."""
    return "\n".join(line for line in log.split("\n") if "Compile time = " not in line)

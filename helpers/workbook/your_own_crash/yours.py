"""What a reader brings to notebook 07: a log, a PTX, a spec, a Python file or a wheel, read once into a `Yours`.

The cells of the notebook ask a `Yours`; what it cannot answer, it says in a sentence with the reason. Whatever is
given is data: a kernel's file runs only in a worker process when its spec is compiled, and nothing else of it runs.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.compiler.bring.from_file import spec_from_file
from helpers.compiler.bring.from_wheel import fetch_wheel, spec_from_wheel
from helpers.compiler.bring.signature import kernel_names
from helpers.compiler.compile import CompileRequest, compile_request
from helpers.compiler.kernel_spec import KernelSpec, read_specs
from helpers.compiler.report import EXPLANATIONS, CompileReport
from helpers.compiler.run_ptxas import PtxasRun, run_ptxas
from helpers.compiler.toolchain import (
    ENVIRONMENT,
    INCIDENT_TRITON,
    Toolchain,
    environment_triton,
    installed_ptxas,
    version_key,
)
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import Diagnosis, printable
from helpers.diagnosis.incidents import SAME
from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, read_text_bounded
from helpers.hardware import get_arch
from helpers.inspection import contents
from helpers.inspection.contents import BINARY, EMPTY, FOLDER, LOG, PTX, PYTHON, SPEC, TEXT, ZIP
from helpers.inspection.ptx.scan import ptx_header
from helpers.search.ablate import Limits
from helpers.workbook.prose import as_html
from helpers.workbook.your_own_crash.decision_tree import DecisionTree
from helpers.workbook.your_own_crash.paste_box import example_log
from helpers.workbook.your_own_crash.views import (
    bundle_table,
    bundle_text,
    edits_table,
    facts_table,
    incident_ptx,
    scratch_folder,
    try_this,
)
from helpers.workbook.your_own_crash.views import report as bundle_report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from helpers.bundle.report import Bundle
    from helpers.search.try_this import TriedEdit

WHEEL, NOTHING = "wheel", "nothing"
# What a `Yours` may have or lack, in the order in which the notebook asks.
DIAGNOSIS, KERNEL, PTX_TEXT, EDITS, REPORT = "a diagnosis", "a spec of the kernel", "the PTX", "edits", "a bug report"
PARTS = (DIAGNOSIS, KERNEL, PTX_TEXT, EDITS, REPORT)
DEFAULT_ARCH = "sm_100a"
# Seconds for one stage of the first compile, and for ptxas on a PTX that was given.
COMPILE_S, PTXAS_S = 120.0, 60.0
# So much is tried on the page; the command line has no such limit.
ON_THE_PAGE = Limits(max_compiles=24, max_seconds=60.0, max_size=1)
MAX_NAMED = 12
MAX_FILES = 2_000
# The incidents whose kernel this project holds: a log of one of them has its spec.
_KERNELS_HELD = {"sgl-project/sglang #22079": Choice()}
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}==[A-Za-z0-9.+!_-]{1,40}")
_CAPTURE = "register-cliff capture -o seen -- python PROGRAM.py"


@dataclass(frozen=True, repr=False)
class Words:
    """A sentence in place of a table or figure; `code` and **bold** as in Markdown, everything else escaped."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<p style="overflow-wrap:anywhere">{as_html(self.text)}</p>'


@dataclass(frozen=True)
class Tried:
    """Edits that were compiled and pass, the best first, or the reason why there are none."""

    passing: tuple[TriedEdit, ...]
    why: str = ""

    def said(self) -> Words:
        """The best edit in one sentence, or why there is none."""
        if not self.passing:
            return Words(self.why)
        best, count = self.passing[0], len(self.passing)
        report = best.report
        others = f" {count - 1} other edit{'s pass' if count > 2 else ' passes'} too." if count > 1 else ""
        return Words(
            f"The best edit found is **{printable(best.change)}**. It compiles to {report.regs_per_thread} registers "
            f"and {report.spill_store_bytes or 0:,} bytes of spill stores.{others}"
        )

    def table(self) -> pd.DataFrame | Words:
        """The edits as rows: change, registers, spill bytes, tensor-core path, what it costs."""
        return edits_table(self.passing) if self.passing else Words("There is no edit to list.")


@dataclass(frozen=True)
class Packed:
    """A bug report that was written, or the reason why there is none."""

    bundle: Bundle | None
    why: str = ""

    def said(self) -> Words:
        """Whether the report reproduces and where to take it, or why there is none."""
        if self.bundle is None:
            return Words(self.why)
        mark = "" if self.bundle.reproduced else "**Not reproduced:** "
        return Words(f"{mark}{self.bundle.check}. Report it to **{self.bundle.report_to}**: {self.bundle.report_why}.")

    def table(self) -> pd.DataFrame | Words:
        """The files of the zip: name, size in bytes, purpose."""
        return Words("There is no zip to list.") if self.bundle is None else bundle_table(self.bundle)

    def issue(self, lines: int = 24) -> str:
        """The first lines of the issue text."""
        return "There is no issue text." if self.bundle is None else bundle_text(self.bundle, "issue", lines=lines)


@dataclass(frozen=True, repr=False)
class Yours:
    """What was given and what could be made of it; None where a part could not be made, and `lacks` says why.

    `what` is a sentence about the thing itself, `has` are sentences about the parts that are there, `lacks` about those
    that are not, both by the names of `PARTS`. `source` is what `report` is made from. `compiled` is the report of a
    spec's compile, `assembled` the run of ptxas on a PTX that was given.
    """

    kind: str
    what: str
    diagnosis: Diagnosis | None = None
    request: CompileRequest | None = None
    ptx: str | None = None
    source: CompileRequest | Choice | str | None = None
    compiled: CompileReport | None = None
    assembled: PtxasRun | None = None
    has: tuple[tuple[str, str], ...] = ()
    lacks: tuple[tuple[str, str], ...] = ()

    def why_not(self, part: str) -> str:
        """The sentence that says why a part is missing."""
        return dict(self.lacks).get(part, f"There is no way from a {self.kind} to {part}.")

    # --- what it is

    def rows(self) -> list[tuple[str, str, str]]:
        """(part, yes or no, sentence) for each of `PARTS`."""
        there = dict(self.has)
        return [(p, "yes", there[p]) if p in there else (p, "no", self.why_not(p)) for p in PARTS]

    def __repr__(self) -> str:
        return "\n".join([self.what, *(f"  {part}: {yes}. {words}" for part, yes, words in self.rows())])

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<tr><th style="text-align:left">{html.escape(part)}</th><td style="text-align:left">{yes}</td>'
            f'<td style="text-align:left;overflow-wrap:anywhere">{as_html(words)}</td></tr>'
            for part, yes, words in self.rows()
        )
        return f'<p style="overflow-wrap:anywhere">{as_html(self.what)}</p><table><tbody>{cells}</tbody></table>'

    def tree(self) -> DecisionTree:
        """The decision tree, with the kind of this failure marked where it is known."""
        failure = self.diagnosis.failure if self.diagnosis else None
        return DecisionTree(failure.kind if failure else "")

    # --- what it says

    def answer(self) -> Diagnosis | Words:
        """The diagnosis, or why there is none."""
        return self.diagnosis or Words(self.why_not(DIAGNOSIS))

    def headline(self) -> Words:
        """The kind of failure in one sentence, with its confidence and what is known of chip, Triton and kernel."""
        if self.diagnosis is None:
            return Words(self.why_not(DIAGNOSIS))
        found, log = self.diagnosis, self.diagnosis.log
        title = "unknown" if found.kind == "unknown" else found.title
        code = found.failure.code if found.failure else None
        triton = log.triton.words() if log.speaks("Triton") else "not known"
        known = {
            "the code": code,
            "the chip": log.arch,
            "the Triton release": None if triton == "not known" else triton,
            "the kernel": found.facts.get("kernel"),
        }
        said = " ".join(f"{name[0].upper()}{name[1:]} is {value}." for name, value in known.items() if value)
        silent = " or ".join(name for name, value in known.items() if not value and name != "the code")
        rest = f" It does not say {silent}." if silent and self.kind == LOG else ""
        return Words(printable(f"The answer is: **{title}**. {said} The confidence is: {found.confidence}.{rest}"))

    def facts(self) -> pd.DataFrame | Words:
        """Each fact of the log with how it is known and the text it came from."""
        if self.diagnosis is None:
            return Words(self.why_not(DIAGNOSIS))
        table = facts_table(self.diagnosis)
        return Words("Nothing in it names a chip, a release, a command or a kernel.") if table.empty else table

    # --- what can be done with it

    def pressure(self) -> Figure | Words:
        """The registers that its PTX needs at once, along its lines, beside the cap; or why there is no PTX."""
        if self.ptx is None:
            return Words(self.why_not(PTX_TEXT))
        return _pressure_figure(self.ptx)

    def edits(self, budget: Limits = ON_THE_PAGE) -> Tried:
        """Compile edits of the kernel; a `Tried` with those that pass, or with the reason why there are none."""
        if self.request is None or dict(self.lacks).get(EDITS):
            return Tried((), self.why_not(EDITS))
        try:
            found = try_this(self.source if isinstance(self.source, Choice) else self.request, budget=budget)
        except UserError as exc:
            return Tried((), _sentence(f"No edit can be tried: {exc}"))
        if found:
            return Tried(tuple(found))
        most = f"at most {budget.max_compiles} compiles and {budget.max_seconds:.0f} seconds"
        return Tried((), f"None of the edits tried on this page passes ({most}). `register-cliff try` searches longer.")

    def pack(self, name: str = "report.zip") -> Packed:
        """Write a bug report into this session's scratch folder; a `Packed` with the reason where there can be none."""
        if self.source is None:
            return Packed(None, self.why_not(REPORT))
        spilled = self.compiled is not None and self.compiled.status == "spills"
        try:
            return Packed(
                bundle_report(self.source, scratch_folder() / name, symptom="spills" if spilled else "failure")
            )
        except UserError as exc:
            return Packed(None, _sentence(f"No report was written: {exc}"))


# --- from what is given to a `Yours` ----------------------------------------------------------------------


def yours(
    mine: str | Path | None = None,
    *,
    kernel: str = "",
    signature: str | Sequence[object] | Mapping[str, object] = "",
    options: Mapping[str, object] | None = None,
    arch: str | None = None,
    triton: str | None = None,
) -> Yours:
    """Read what a reader brings: the path of a log, PTX, spec (JSON), Python file or wheel, or the text of a log.

    None is the incident's log. A requirement such as `sglang==0.5.10` is a wheel that pip fetches. For a Python file or
    a wheel, `kernel` names the kernel (in a wheel `pkg/file.py:kernel`), with `signature` and `options` as for
    `spec_from_file`. A spec is compiled once, for `arch` by `triton`, which default to what it was captured with and to
    this environment's. Nothing is raised for what cannot be read: the answer says so.
    """
    how = _How(kernel, signature, dict(options or {}), arch, triton)
    try:
        return _read(mine, how)
    except UserError as exc:
        return _nothing(_sentence(f"Nothing could be made of it: {exc}"))


@dataclass(frozen=True)
class _How:
    """What the reader says beside the thing itself."""

    kernel: str
    signature: str | Sequence[object] | Mapping[str, object]
    options: dict[str, object]
    arch: str | None
    triton: str | None


def _read(mine: str | Path | None, how: _How) -> Yours:
    if mine is None:
        return _of_log(example_log(), "the log of the incident as it was posted, because MINE is not set")
    if isinstance(mine, str) and not mine.strip():
        return _nothing("MINE is an empty text: give a log, a PTX, a spec, a Python file or a wheel.")
    if isinstance(mine, str) and _is_text(mine):
        return _of_text(mine, "the text", how)
    path = Path(mine).expanduser()
    if isinstance(mine, str) and not path.exists() and _REQUIREMENT.fullmatch(mine.strip()):
        return _of_wheel(mine.strip(), mine.strip(), how)
    given = contents.recognise(path)
    if given.kind in (LOG, TEXT, PTX):
        text = read_text_bounded(path, MAX_TEXT_BYTES, "MINE", hint="give a log, a PTX or a spec")
        return _of_text(text, path.name, how, kind=given.kind)
    if given.kind == SPEC:
        return _of_spec_file(path, how)
    if given.kind == PYTHON:
        return _of_python(path, how)
    if given.kind == ZIP:
        return _of_wheel(path, path.name, how)
    return _nothing(_not_taken(given))


def _is_text(mine: str) -> bool:
    """Whether a string is a text rather than a path: it has a line break, or reads like one and no file is so named."""
    if "\n" in mine:
        return True
    try:
        if Path(mine).expanduser().exists():
            return False
    except (OSError, ValueError, RuntimeError):  # longer than a name may be, or no name at all
        return True
    return contents.kind_of(mine.encode(errors="replace"), Path()) in (LOG, PTX, SPEC) and " " in mine


def _of_text(text: str, name: str, how: _How, kind: str = "") -> Yours:
    kind = kind or contents.kind_of(text.encode(errors="replace")[: contents.HEAD_BYTES], Path(name))
    if kind == EMPTY or not text.strip():
        return _nothing(f"{name} is empty: give a log, a PTX, a spec, a Python file or a wheel.")
    if kind == PTX:
        return _of_ptx(text, name, how)
    if kind == SPEC:
        return _of_spec(KernelSpec.from_json(text), f"a spec, given as {name}", how, {}, SPEC)
    if kind == PYTHON:
        return _nothing("The text is Python source: save it to a file and give MINE the file's path.")
    return _of_log(text, f"a log, {name}" if name != "the text" else "a log, given as text")


def _not_taken(given: contents.Given) -> str:
    name = given.path.name
    if given.kind == FOLDER:
        specs = sorted(p.name for p in given.path.glob("*.json") if not p.name.endswith(".incomplete.json"))
        listed = f" ({', '.join(specs[:MAX_NAMED])})" if specs else ""
        return f"{name} is a folder: give one file in it{listed}."
    if given.kind == EMPTY:
        return f"{name} is empty: give a log, a PTX, a spec, a Python file or a wheel."
    hint = "" if given.kind == BINARY else "; it is compiled already: give the PTX or the spec that it was made from"
    return f"{name} is a {given.kind}, and this page takes a log, a PTX, a spec, a Python file or a wheel{hint}."


def _nothing(what: str) -> Yours:
    why = "There is nothing to start from."
    return Yours(NOTHING, what, lacks=tuple((part, why) for part in PARTS))


# --- a log


def _of_log(text: str, name: str) -> Yours:
    found = diagnose(text)
    lines = len(text.splitlines())
    what = f"This is {name}: {len(text):,} characters in {lines:,} line{'s' * (lines != 1)}."
    has, lacks = [(DIAGNOSIS, f"{found.title if found.kind != 'unknown' else 'the kind is unknown'}.")], []
    held = next((c for m in found.incidents if m.degree == SAME if (c := _KERNELS_HELD.get(m.incident.name))), None)
    if held is not None:
        begun = Yours(LOG, what, found, source=held, has=tuple(has))
        origin = "The log is of an incident whose kernel this project holds; the log itself holds no kernel."
        return _with_spec(begun, held.request(), origin)
    no_kernel = f"A log holds no kernel. `{_CAPTURE}` records the kernel of a running program; give MINE that spec."
    lacks += [(KERNEL, no_kernel), (EDITS, "Every edit is compiled, and there is no kernel to compile.")]
    ptx = found.log.ptx if not found.log.ptx_cut else None
    if ptx is not None:
        has.append((PTX_TEXT, f"The log prints it, {ptx.count(chr(10)):,} lines."))
    elif found.log.ptx is not None:
        lacks.append((PTX_TEXT, "The log prints a PTX, and the end of the PTX is missing."))
    else:
        lacks.append((PTX_TEXT, "The log prints no PTX."))
    if found.failed is False or (found.failed is None and found.kind == "unknown"):
        none = "states no failure" if found.failed is False else "names no failure that this project knows"
        lacks.append((REPORT, f"The log {none}: there is nothing to report yet."))
        return Yours(LOG, what, found, ptx=ptx, has=tuple(has), lacks=tuple(lacks))
    more = "made from the PTX in the log" if ptx else "of the log alone: an issue text, without a repro"
    has.append((REPORT, f"One can be written, {more}."))
    source = text if "\n" in text else text + "\n"
    return Yours(LOG, what, found, ptx=ptx, source=source, has=tuple(has), lacks=tuple(lacks))


# --- a PTX


def _of_ptx(text: str, name: str, how: _How) -> Yours:
    header = ptx_header(text)
    entries = printable(", ".join(header.entries[:MAX_NAMED]) or "none")
    what = (
        f"This is a PTX: {name}, {text.count(chr(10)):,} lines, written for "
        f"{printable(header.target or 'no chip')[:40]}, kernels: {entries}."
    )
    no_kernel = f"A PTX is compiled from a kernel and does not hold it. `{_CAPTURE}` records the kernel."
    has = [(PTX_TEXT, "It was given.")]
    lacks = [(KERNEL, no_kernel), (EDITS, "An edit changes the kernel, and the kernel is not here.")]
    run, why = _assemble(text, header.target or "", how)
    if run is None:
        return Yours(PTX, what, ptx=text, source=text, has=(*has, (REPORT, "One can be tried from the PTX.")),
                     lacks=(*lacks, (DIAGNOSIS, why)))  # fmt: skip
    found = None if run.compiled else diagnose(f"{run.command}\n{run.log}\n{run.message}")
    if found is None:
        lacks.append((DIAGNOSIS, f"Nothing failed: {why} takes it, with {run.regs_per_thread} registers and "
                      f"{run.spill_store_bytes} bytes of spill stores."))  # fmt: skip
        lacks.append((REPORT, f"Nothing failed under {why}: name another with ptxas where it fails."))
        return Yours(PTX, what, ptx=text, assembled=run, has=tuple(has), lacks=tuple(lacks))
    has.append((DIAGNOSIS, f"{why} was run on it now: {found.title}."))
    has.append((REPORT, "One can be written from the PTX."))
    return Yours(PTX, what, found, ptx=text, source=text, assembled=run, has=tuple(has), lacks=tuple(lacks))


def _assemble(text: str, target: str, how: _How) -> tuple[PtxasRun | None, str]:
    """(run, the ptxas's name) of the first ptxas here that knows the chip, the one that fails first; (None, why)."""
    here = installed_ptxas()
    if not here:
        return None, f"No ptxas is installed here. `register-cliff toolchains install {INCIDENT_TRITON}` fetches one."
    arch = get_arch(how.arch).name if how.arch else target
    if not re.fullmatch(r"sm_[0-9]{2,3}[a-z]?", arch):
        return None, f"The PTX names the target {printable(arch)[:40]!r}, which is no chip; set arch beside MINE."
    runs: list[tuple[str, PtxasRun]] = []
    for version, program in sorted(here.items(), key=lambda item: version_key(item[0])):
        run = run_ptxas(program, text, gpu_name=arch, timeout_s=PTXAS_S)
        if run.status not in ("unsupported_target", "unsupported_ptx_version"):
            runs.append((version, run))
        if runs and not run.compiled:
            break
    if not runs:
        return None, f"None of the ptxas here ({', '.join(here)}) takes a PTX of this version for {arch}."
    version, run = next(((v, r) for v, r in runs if not r.compiled), runs[0])
    return run, f"ptxas {version}"


# --- a spec, a Python file, a wheel


def _of_spec_file(path: Path, how: _How) -> Yours:
    specs = read_specs([path])
    many = f", the first of {len(specs)} in it" if len(specs) > 1 else ""
    return _of_spec(specs[0], f"a spec, {path.name}{many}", how, contents.captured_with(path), SPEC)


def _of_spec(spec: KernelSpec, name: str, how: _How, about: Mapping[str, object], kind: str) -> Yours:
    captured = str(about.get("arch") or "")
    arch, origin = how.arch or captured, "it was captured on that chip"
    if how.arch:
        origin = "arch says so"
    elif not captured:
        arch, origin = DEFAULT_ARCH, "neither the spec nor arch names a chip, so it is the incident's"
    request = CompileRequest(spec, get_arch(arch).name, Toolchain(_triton(how, about)), timeout_s=COMPILE_S)
    what = f"This is {name}: the kernel `{spec.kernel.name}`, compiled here for {request.arch} ({origin})."
    return _with_spec(Yours(kind, what, source=request), request, "It was given." if kind == SPEC else "It was made.")


def _triton(how: _How, about: Mapping[str, object]) -> str:
    """The release asked for, else this environment's, else the incident's."""
    if how.triton:
        return how.triton
    here = environment_triton()
    if here is None:
        return str(about.get("triton_version") or INCIDENT_TRITON)
    return here.version if re.fullmatch(r"\d+\.\d+\.\d+", here.version) else ENVIRONMENT


def _with_spec(begun: Yours, request: CompileRequest, origin: str) -> Yours:
    """`begun` with a spec: compiled once, its PTX, and the diagnosis of a failure where none was at hand."""
    has, lacks = [*begun.has, (KERNEL, f"{origin} {_kernel_words(request.spec)}")], []
    report = compile_request(request)
    if report.status == "toolchain_missing":
        return _without_toolchain(begun, request, has, report.message)
    ptx = Path(report.ptx_path).read_text() if report.ptx_path else None
    by = f"Triton {report.triton_version} and ptxas {report.ptxas_version} on {report.arch}"
    if ptx is None:
        lacks.append((PTX_TEXT, _sentence(f"The compile ended before there was PTX ({EXPLANATIONS[report.status]})")))
    else:
        has.append((PTX_TEXT, f"{by} made it now, {ptx.count(chr(10)):,} lines."))
    found = begun.diagnosis
    if found is None and report.status not in ("ok", "spills"):
        found = diagnose(_words_of(report))
        found = None if found.kind == "unknown" else found
        said = found.title if found else EXPLANATIONS[report.status]
        (has if found else lacks).append(
            (DIAGNOSIS, _sentence(f"{by} were run now: {said}. {report.message.split(';')[0][:300]}"))
        )
    elif found is None:
        lacks.append((DIAGNOSIS, f"Nothing failed: {by} compiles it to {report.verdict()}."))
    has.append((EDITS, "They are looked for below, each by a compile."))
    if report.status == "ok":
        has.pop()
        lacks.append((EDITS, "It compiles and spills nothing: there is nothing to mend."))
        lacks.append((REPORT, "Nothing failed: there is nothing to report."))
        return replace(
            begun, request=request, source=None, ptx=ptx, compiled=report, has=tuple(has), lacks=tuple(lacks)
        )
    has.append(
        (REPORT, "One is written below." if report.status != "spills" else "One is written of the spills below.")
    )
    return replace(
        begun, diagnosis=found, request=request, ptx=ptx, compiled=report, has=tuple(has), lacks=tuple(lacks)
    )


def _kernel_words(spec: KernelSpec) -> str:
    """The kernel's name, and its launch where the spec says it."""
    option = dict(spec.options)
    launch = [f"{option[name]} {what}" for name, what in (("num_warps", "warps"), ("num_stages", "pipeline stages"))
              if option.get(name) is not None]  # fmt: skip
    launch = [words.removesuffix("s") if words.startswith("1 ") else words for words in launch]
    return f"The kernel is `{spec.kernel.name}`{', launched with ' * bool(launch)}{' and '.join(launch)}."


def _without_toolchain(begun: Yours, request: CompileRequest, has: list[tuple[str, str]], message: str) -> Yours:
    """A spec whose Triton is not here: nothing is compiled; the incident's PTX stands in as it was recorded."""
    why = _sentence(f"Nothing was compiled: {message}")
    lacks = [(EDITS, why), (REPORT, why)]
    if begun.diagnosis is None:
        lacks.append((DIAGNOSIS, why))
    if isinstance(begun.source, Choice):
        has.append((PTX_TEXT, "As it was recorded; nothing was compiled now."))
        return replace(begun, source=None, ptx=incident_ptx()[0], has=tuple(has), lacks=tuple(lacks))
    return replace(begun, source=None, has=tuple(has), lacks=(*lacks, (PTX_TEXT, why)))


def _words_of(report: CompileReport) -> str:
    """What the tools said of a failed compile: ptxas's log with its command, else the front end's words."""
    for path in (report.log_path, report.frontend_log_path):
        if path and (text := Path(path).read_text(errors="replace").strip()):
            return f"{report.ptxas_command or ''}\n{text}\n"
    return report.message + "\n"


def _of_python(path: Path, how: _How) -> Yours:
    names = kernel_names(path)
    what = f"This is a Python file, {path.name}, with the kernels: {', '.join(names[:MAX_NAMED]) or 'none'}."
    kernel = how.kernel or (names[0] if len(names) == 1 else "")
    if not kernel:
        why = "No function in it is decorated with `triton.jit`." if not names else (
            "It holds several kernels: set kernel beside MINE to one of their names, and its signature.")  # fmt: skip
        return _no_spec_yet(PYTHON, what, why)
    try:
        spec = spec_from_file(path, kernel, how.signature, options=how.options)
    except UserError as exc:
        return _no_spec_yet(PYTHON, what, _sentence(f"A spec of {kernel} needs more: {exc}"))
    return _of_spec(spec, f"a kernel of the Python file {path.name}", how, {}, PYTHON)


def _of_wheel(wheel: str | Path, name: str, how: _How) -> Yours:
    folder = fetch_wheel(wheel)
    names = _kernels_of(folder)
    few = f"{', '.join(names[:MAX_NAMED])}{f' and {len(names) - MAX_NAMED} more' if len(names) > MAX_NAMED else ''}"
    what = f"This is a wheel, {name}, with {len(names)} kernel{'s' * (len(names) != 1)}: {few or 'none'}."
    kernel = how.kernel or (names[0] if len(names) == 1 else "")
    if not kernel:
        why = "Set kernel beside MINE to one of them, as it is listed, and its signature."
        return _no_spec_yet(WHEEL, what, why if names else "No file in it has a function decorated with `triton.jit`.")
    try:
        spec = spec_from_wheel(wheel, kernel, how.signature, options=how.options)
    except UserError as exc:
        return _no_spec_yet(WHEEL, what, _sentence(f"A spec of {kernel} needs more: {exc}"))
    return _of_spec(spec, f"a kernel of the wheel {name}", how, {}, WHEEL)


def _kernels_of(folder: Path) -> list[str]:
    """`file.py:kernel` of every kernel below a folder; a file that is no Python is passed over."""
    found = []
    for path in sorted(folder.rglob("*.py"))[:MAX_FILES]:
        try:
            found += [f"{path.relative_to(folder).as_posix()}:{name}" for name in kernel_names(path)]
        except UserError:
            continue
    return found


def _no_spec_yet(kind: str, what: str, why: str) -> Yours:
    after = "It needs a spec of the kernel first."
    return Yours(kind, what, lacks=((KERNEL, why), *((part, after) for part in PARTS if part != KERNEL)))


# --- small things


def _sentence(words: str) -> str:
    """Words of an error as one sentence: printable, bounded, with a full stop."""
    text = " ".join(printable(words).split())[:1_200]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _pressure_figure(ptx: str) -> Figure | Words:
    import matplotlib.pyplot as plt

    from helpers.inspection.ptx.pressure import pressure_profile
    from helpers.show.plots import compile_time_words, pressure_plot
    from helpers.show.style import claim, use_house_style

    profile = pressure_profile(ptx)
    if profile is None:
        return Words("The PTX has no function with instructions in it.")
    use_house_style()
    figure, axes = plt.subplots(figsize=(8.5, 3.6))
    pressure_plot(axes, profile)
    over = profile.demand > profile.cap
    words = "above" if over else "within"
    claim(axes, f"At its worst point the kernel needs {profile.demand} registers, {words} the cap of {profile.cap}",
          compile_time_words(f"{printable(profile.function)[:60]}, {ptx.count(chr(10)):,} lines of PTX"))  # fmt: skip
    plt.close(figure)
    return figure

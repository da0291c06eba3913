"""Reading what a reader brings to notebook 07: a log, a PTX, a spec, a Python file or a wheel, once, into a `Yours`.

Whatever is given is data: a kernel's file runs only in a worker process when its spec is compiled, and nothing else of
it runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.compiler.bring.from_file import spec_from_file
from helpers.compiler.bring.from_wheel import fetch_wheel, spec_from_wheel
from helpers.compiler.bring.inductor import kernels_in_strings
from helpers.compiler.bring.signature import kernel_names
from helpers.compiler.compile import CompileRequest, compile_request
from helpers.compiler.kernel_spec import KernelSpec, read_specs
from helpers.compiler.report import EXPLANATIONS, CompileReport, refuse_ill
from helpers.compiler.run_ptxas import PtxasRun, run_ptxas
from helpers.compiler.source import parse_source
from helpers.compiler.toolchain import (
    ENVIRONMENT,
    INCIDENT_TRITON,
    Toolchain,
    environment_triton,
    installed_ptxas,
    installed_tritons,
    version_key,
)
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import printable
from helpers.diagnosis.incidents import SAME
from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, read_text_bounded
from helpers.hardware import get_arch
from helpers.inspection import contents
from helpers.inspection.contents import BINARY, EMPTY, FOLDER, LOG, PTX, PYTHON, SPEC, TEXT, ZIP
from helpers.inspection.ptx.scan import ptx_header
from helpers.workbook.your_own_crash.mine import DIAGNOSIS, EDITS, KERNEL, PARTS, PTX_TEXT, REPORT, Yours, sentence
from helpers.workbook.your_own_crash.paste_box import example_log
from helpers.workbook.your_own_crash.views import incident_ptx

WHEEL, NOTHING = "wheel", "nothing"
DEFAULT_ARCH = "sm_100a"
# Seconds for one stage of the first compile, and for ptxas on a PTX that was given.
COMPILE_S, PTXAS_S = 120.0, 60.0
MAX_NAMED = 12
MAX_FILES = 2_000
# The incidents whose kernel this project holds: a log of one of them has its spec.
_KERNELS_HELD = {"sgl-project/sglang #22079": Choice()}
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}==[A-Za-z0-9.+!_-]{1,40}")
# How the name of a file ends that a reader may give: one that is not there is said to be missing.
_FILE_NAME = re.compile(r"\.(?:log|txt|out|err|ptx|json|py|whl|zip|gz)$")
_CAPTURE = "register-cliff capture -o seen -- python PROGRAM.py"


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
    `spec_from_file`. A spec is compiled once, for `arch` by `triton`, which default to what it was captured with, and
    else to the incident's chip and this environment's Triton. Nothing is raised for what cannot be read: the answer
    says so.
    """
    how = _How(kernel, signature, dict(options or {}), arch, triton)
    try:
        return _read(mine, how)
    except UserError as exc:
        return _nothing(sentence(f"Nothing could be made of it: {exc}"))


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
    if given.kind == ZIP or path.name.endswith((".tar.gz", ".tgz")):
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
    if _FILE_NAME.search(mine):
        return False
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
        return (
            None,
            f"The PTX names the target {printable(arch)[:40]!r}, which is no chip; set `arch` in `rc.yours(MINE, …)`.",
        )
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
    what += _captured_otherwise(about, request.toolchain.triton)
    return _with_spec(Yours(kind, what, source=request), request, "It was given." if kind == SPEC else "It was made.")


def _triton(how: _How, about: Mapping[str, object]) -> str:
    """The release asked for, else the one it was captured with where that is here, else this environment's."""
    captured = str(about.get("triton_version") or "")
    if how.triton or captured in installed_tritons():
        return how.triton or captured
    here = environment_triton()
    if here is None:
        return captured or INCIDENT_TRITON
    return here.version if re.fullmatch(r"\d+\.\d+\.\d+", here.version) else ENVIRONMENT


def _captured_otherwise(about: Mapping[str, object], triton: str) -> str:
    """A sentence where a spec was captured with another release than it is compiled with; else nothing."""
    captured = str(about.get("triton_version") or "")[:40]
    if not captured or captured == triton:
        return ""
    return printable(f" It was captured with Triton {captured}, which is not the one used here.")


def _with_spec(begun: Yours, request: CompileRequest, origin: str) -> Yours:
    """`begun` with a spec: compiled once, its PTX, and the diagnosis of a failure where none was at hand."""
    has, lacks = [*begun.has, (KERNEL, f"{origin} {_kernel_words(request.spec)}")], []
    report = compile_request(request)
    refuse_ill([report])
    if report.status == "toolchain_missing":
        return _without_toolchain(begun, request, has, report.message)
    ptx = Path(report.ptx_path).read_text() if report.ptx_path else None
    by = f"Triton {report.triton_version}{f' and ptxas {v}' if (v := report.ptxas_version) else ''} for {report.arch}"
    if ptx is None:
        lacks.append((PTX_TEXT, sentence(f"The compile ended before there was PTX ({EXPLANATIONS[report.status]})")))
    else:
        has.append((PTX_TEXT, f"It was made now by {by}, {ptx.count(chr(10)):,} lines."))
    found = begun.diagnosis
    if found is None and report.status not in ("ok", "spills"):
        found = diagnose(_words_of(report))
        found = None if found.kind == "unknown" else found
        said = found.title if found else EXPLANATIONS[report.status]
        words = (report.error_line or _last_line(report.message.split(";")[0]))[:300]
        (has if found else lacks).append((DIAGNOSIS, sentence(f"Compiled now by {by}: {said}. {words}")))
    elif found is None:
        lacks.append((DIAGNOSIS, f"Nothing failed. Compiled now by {by}: {report.verdict()}."))
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
    why = sentence(f"Nothing was compiled: {message}")
    lacks = [(EDITS, why), (REPORT, why)]
    if begun.diagnosis is None:
        lacks.append((DIAGNOSIS, why))
    if isinstance(begun.source, Choice):
        has.append((PTX_TEXT, "As it was recorded; nothing was compiled now."))
        return replace(begun, request=request, source=None, ptx=incident_ptx()[0], has=tuple(has), lacks=tuple(lacks))
    return replace(begun, request=request, source=None, has=tuple(has), lacks=(*lacks, (PTX_TEXT, why)))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()


def _words_of(report: CompileReport) -> str:
    """What the tools said of a failed compile: ptxas's log with its command, else the front end's words."""
    for path in (report.log_path, report.frontend_log_path):
        if path and (text := Path(path).read_text(errors="replace").strip()):
            return f"{report.ptxas_command or ''}\n{text}\n"
    return report.message + "\n"


def _of_python(path: Path, how: _How) -> Yours:
    names = sorted({*kernel_names(path), *kernels_in_strings(parse_source(path))})
    what = f"This is a Python file, {path.name}, with the kernels: {', '.join(names[:MAX_NAMED]) or 'none'}."
    kernel = how.kernel or (names[0] if len(names) == 1 else "")
    if not kernel:
        many = "It holds several kernels: set `kernel` in `rc.yours(MINE, …)` to one of their names, and `signature`."
        why = many if names else "No function in it is decorated with `triton.jit`."
        return _no_spec_yet(PYTHON, what, why)
    try:
        spec = spec_from_file(path, kernel, how.signature, options=how.options)
    except UserError as exc:
        return _no_spec_yet(PYTHON, what, sentence(f"Set `signature` in `rc.yours(MINE, …)`. {exc}"))
    return _of_spec(spec, f"a kernel of the Python file {path.name}", how, {}, PYTHON)


def _of_wheel(wheel: str | Path, name: str, how: _How) -> Yours:
    folder = fetch_wheel(wheel)
    names = _kernels_of(folder)
    few = f"{', '.join(names[:MAX_NAMED])}{f' and {len(names) - MAX_NAMED} more' if len(names) > MAX_NAMED else ''}"
    what = f"This is a wheel, {name}, with {len(names)} kernel{'s' * (len(names) != 1)}: {few or 'none'}."
    kernel = how.kernel or (names[0] if len(names) == 1 else "")
    if not kernel:
        why = "Set `kernel` in `rc.yours(MINE, …)` to one of them, as it is listed, and `signature`."
        return _no_spec_yet(WHEEL, what, why if names else "No file in it has a function decorated with `triton.jit`.")
    try:
        spec = spec_from_wheel(wheel, kernel, how.signature, options=how.options)
    except UserError as exc:
        return _no_spec_yet(WHEEL, what, sentence(f"Set `signature` in `rc.yours(MINE, …)`. {exc}"))
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

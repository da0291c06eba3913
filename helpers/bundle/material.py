"""What a bundle is made from: a spec, a PTX or a pasted log, read into one Material with the PTX and its ptxas."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from helpers.bundle.repro import safe_flags
from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest, compile_request
from helpers.compiler.kernel_spec import KernelSpec, read_specs
from helpers.compiler.report import CompileReport, refuse_ill
from helpers.compiler.run_ptxas import DEFAULT_FLAGS
from helpers.compiler.toolchain import (
    BUNDLED,
    INCIDENT_TRITON,
    Tool,
    Toolchain,
    ToolchainMissing,
    installed_ptxas,
    ptxas_tool,
    resolve_ptxas,
    resolve_triton,
    version_key,
)
from helpers.compiler.trust import check_kernel
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import Diagnosis
from helpers.errors import MachineError, UserError
from helpers.files import MAX_TEXT_BYTES, STDIN, read_text_bounded
from helpers.hardware import get_arch
from helpers.inspection.contents import is_ptx
from helpers.inspection.ptx.scan import ptx_header

_GPU_NAME = re.compile(r"sm_[0-9]{2,3}[a-z]?")


class Requestable(Protocol):
    """Anything that stands for one compile, such as a configuration of the extend kernel."""

    def request(self) -> CompileRequest:
        """The compile that this stands for."""


Source = CompileRequest | Requestable | KernelSpec | Path | str


@dataclass(frozen=True)
class Material:
    """What is known of a failure: `kind` is spec, ptx or log; None for what the source does not give.

    `programs` are the ptxas candidates, version to program, the one to reproduce with first; `asked_ptxas` is the
    version that was named for a PTX or log, if any.
    """

    kind: str
    ptx: str | None = None
    gpu_name: str | None = None
    flags: tuple[str, ...] = DEFAULT_FLAGS
    programs: tuple[tuple[str, Path], ...] = ()
    request: CompileRequest | None = None
    compiled: CompileReport | None = None
    log: str | None = None
    diagnosis: Diagnosis | None = None
    asked_ptxas: str | None = None
    notes: tuple[str, ...] = ()


def read_material(
    source: Source,
    *,
    arch: str | None = None,
    triton: str | None = None,
    ptxas: str | None = None,
    ptxas_flags: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Material:
    """The Material of a compile request, a spec, a file (spec JSON, PTX or log; also .gz) or a text; see `Source`.

    A str with a line break is a text, one without the path of a file (- for stdin). The content of a file
    decides what it is. A spec is compiled (its kernel file runs in a worker process); a log or PTX is only
    read. Raises UserError.
    """
    if not isinstance(source, (CompileRequest, KernelSpec, Path, str)) and hasattr(source, "request"):
        source = source.request()
    if isinstance(source, CompileRequest):
        return _of_request(source)
    if isinstance(source, str) and "\n" in source:
        text, name = source, "the text"
    elif isinstance(source, (str, Path)):
        text = read_text_bounded(source, MAX_TEXT_BYTES, "the source", hint="give a spec, a PTX or a log")
        name = "stdin" if Path(source) == STDIN else str(source)
    elif not isinstance(source, KernelSpec):
        raise UserError(f"cannot report {type(source).__name__}: give a spec, a PTX or a log, as a file or a text")
    if not isinstance(source, KernelSpec):
        if text.lstrip()[:1] in ("{", "[") and '"kernel"' in text:
            source = _spec_of(text, None if name in ("the text", "stdin") else Path(source))
        elif is_ptx(text):
            return _of_ptx(text, arch, triton, ptxas, (*DEFAULT_FLAGS, *ptxas_flags))
        elif not text.strip():
            raise UserError(f"{name} is empty: give a KernelSpec in JSON, a PTX or a log")
        else:
            return _of_log(text, arch, triton, ptxas, ptxas_flags)
    chain = Toolchain(triton or INCIDENT_TRITON, ptxas or BUNDLED)
    return _of_request(CompileRequest(source, arch or "sm_100a", chain, tuple(ptxas_flags), timeout_s))


def _spec_of(text: str, path: Path | None) -> KernelSpec:
    """The one spec in a JSON text or file; in a file, a relative kernel path is relative to that file."""
    if path is None:
        spec = KernelSpec.from_json(text)
        check_kernel(spec.kernel.path, spec.kernel.import_root, spec_folder=Path(), named_by="the spec")
        return spec
    specs = read_specs([path])
    if len(specs) != 1:
        raise UserError(
            f"{path} holds {len(specs)} specs; a report is about one: write that one into a file of its own"
        )
    return specs[0]


def _of_request(request: CompileRequest) -> Material:
    compiled = compile_request(request)
    if compiled.status == "toolchain_missing":
        raise UserError(compiled.message)
    refuse_ill([compiled])
    flags: tuple[str, ...] = DEFAULT_FLAGS
    programs: tuple[tuple[str, Path], ...] = ()
    gpu_name = None
    if compiled.ptxas_command:
        words = compiled.ptxas_command.split(" ")
        gpu_name = next((w.partition("=")[2] for w in words if w.startswith("--gpu-name=")), None)
        flags = tuple(w for w in words[1 : words.index("kernel.ptx")] if not w.startswith("--gpu-name="))
        flags, _ = safe_flags(flags, trusted=True)
        programs = _programs(first=compiled.ptxas_version, own=_own_ptxas(request, compiled))
    ptx = Path(compiled.ptx_path).read_text() if compiled.ptx_path else None
    return Material("spec", ptx, gpu_name, flags, programs, request, compiled)


def _own_ptxas(request: CompileRequest, compiled: CompileReport) -> Path | None:
    """The very ptxas that compiled it: another one may say the same version."""
    if request.toolchain.ptxas != BUNDLED:
        return resolve_ptxas(request.toolchain.ptxas).path
    program = resolve_triton(request.toolchain.triton).program((compiled.ptxas_command or "ptxas").split(" ")[0])
    return program if program.is_file() else None


def _programs(*, first: str | None, own: Path | None = None) -> tuple[tuple[str, Path], ...]:
    here = installed_ptxas()
    if first and own:
        here[first] = own
    return tuple(sorted(here.items(), key=lambda item: (item[0] != first, version_key(item[0]))))


def _first_ptxas(triton: str | None, ptxas: str | None, gpu_name: str) -> Tool | None:
    """The ptxas asked for; None where nothing was asked."""
    if ptxas and ptxas != BUNDLED:
        return resolve_ptxas(ptxas)
    if triton:
        found = resolve_triton(triton)
        # Triton from 3.6 on gives Blackwell's PTX to a program of its own.
        capability = int(re.sub(r"\D", "", gpu_name) or 0)
        names = ("ptxas-blackwell", "ptxas") if capability >= 100 else ("ptxas",)
        for name in names:
            if found.program(name).is_file():
                return ptxas_tool(found.program(name))
        raise ToolchainMissing(f"Triton {found.version} here has no ptxas of its own; name one with --ptxas")
    return None


def _of_ptx(
    ptx: str, arch: str | None, triton: str | None, ptxas: str | None, flags: Sequence[str], kind: str = "ptx"
) -> Material:
    target = ptx_header(ptx).target or ""
    gpu_name = get_arch(arch).name if arch else target
    if not _GPU_NAME.fullmatch(gpu_name):
        raise UserError(f"the PTX says .target {target[:40]!r}, which is no arch such as sm_100a; name it with --arch")
    asked = _first_ptxas(triton, ptxas, gpu_name)
    first, own = (asked.version, asked.path) if asked else (None, None)
    kept, out = safe_flags(tuple(dict.fromkeys(flags)), trusted=True)
    if out:
        raise UserError(f"ptxas flag {out[0][:60]!r} cannot be part of a repro: it names a file or the arch")
    return Material(kind, ptx, gpu_name, kept, _programs(first=first, own=own), asked_ptxas=first)


def _of_log(text: str, arch: str | None, triton: str | None, ptxas: str | None, ptxas_flags: Sequence[str]) -> Material:
    found = diagnose(text)
    log = found.log
    notes = []
    if log.ptx is None or log.ptx_cut:
        missing = "the log prints no PTX" if log.ptx is None else "the PTX in the log is cut off at its end"
        notes.append(missing + (f". To attach: {'; '.join(found.attach)}" if found.attach else ""))
        return Material("log", log=text, diagnosis=found, notes=tuple(notes))
    said, out = safe_flags(log.ptxas_flags, trusted=False)
    if out:
        notes.append(f"flags of the log's ptxas command not used here: {', '.join(w[:40] for w in out[:5])}")
    asked, refused = safe_flags(ptxas_flags, trusted=True)
    if refused:
        raise UserError(f"ptxas flag {refused[0][:60]!r} cannot be part of a repro: it names a file or the arch")
    if ptxas is None and triton is None and log.value("ptxas_version") in installed_ptxas():
        ptxas = log.value("ptxas_version")
    try:
        material = _of_ptx(log.ptx, arch, triton, ptxas, (*(said or DEFAULT_FLAGS), *asked), "log")
    except (ToolchainMissing, MachineError):
        raise
    except UserError as exc:
        notes.append(f"the PTX in the log cannot be used: {exc}")
        return Material("log", log=text, diagnosis=found, notes=tuple(notes))
    notes.append("the PTX is the one the log prints")
    return replace(material, log=text, diagnosis=found, notes=tuple(notes))

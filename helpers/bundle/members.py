"""The files of a bundle, each made by one function: ptxas table, versions, source, pressure, workarounds."""

from __future__ import annotations

import ast
import concurrent.futures
import csv
import hashlib
import importlib.metadata
import io
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from helpers.bundle.material import Material
from helpers.bundle.repro import NO_KERNEL, RUN_LIMIT_S
from helpers.compiler.compile import CompileRequest, compile_matrix, usable_cores
from helpers.compiler.kernel_spec import KernelRef
from helpers.compiler.report import refuse_ill
from helpers.compiler.run_ptxas import PtxasRun, run_ptxas
from helpers.compiler.source import read_source
from helpers.compiler.toolchain import Toolchain, installed_tritons, resolve_triton
from helpers.errors import MachineError, UserError
from helpers.files import decode_text
from helpers.search.ablate import Limits
from helpers.search.changes import LadderOf
from helpers.search.try_this import try_ptx, try_this

Row = dict[str, object]
TABLE_COLUMNS = (
    "ptxas_version", "program", "sha256", "flags", "status", "ptxas_code", "regs_per_thread", "spill_store_bytes",
    "spill_load_bytes", "stack_frame_bytes", "message",
)  # fmt: skip
BUNDLE_BUDGET = Limits(max_compiles=40, max_seconds=60.0, max_size=2)
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,60}")


# --- ptxas ------------------------------------------------------------------------------------------------


def ptxas_table(
    ptx: str,
    gpu_name: str,
    flags: Sequence[str],
    programs: Sequence[tuple[str, Path]],
    *,
    limit_s: float = RUN_LIMIT_S,
) -> list[tuple[Row, PtxasRun]]:
    """One (row, run) a ptxas of `programs` (version, program), in their order, all of the identical PTX and flags."""

    def one(item: tuple[str, Path]) -> tuple[Row, PtxasRun]:
        version, program = item
        run = run_ptxas(program, ptx, gpu_name=gpu_name, flags=flags, timeout_s=limit_s)
        row: Row = {
            "ptxas_version": version,
            "program": program.name,
            "sha256": program_hash(str(program), program.stat().st_mtime_ns),
            "flags": " ".join(flags),
            "status": run.verdict,
            "ptxas_code": run.ptxas_code,
            "regs_per_thread": run.regs_per_thread,
            "spill_store_bytes": run.spill_store_bytes,
            "spill_load_bytes": run.spill_load_bytes,
            "stack_frame_bytes": run.stack_frame_bytes,
            # Not `run.message`, which has seconds in it: two bundles of one failure are the same bytes.
            "message": NO_KERNEL if run.silent else "; ".join(run.fatal)[:300],
        }
        return row, run

    with concurrent.futures.ThreadPoolExecutor(max_workers=usable_cores()) as threads:
        return list(threads.map(one, programs))


def table_csv(rows: Sequence[Row]) -> str:
    """The table as CSV text."""
    out = io.StringIO()
    writer = csv.DictWriter(out, TABLE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: "" if v is None else v for k, v in row.items()} for row in rows)
    return out.getvalue()


def triton_table(request: CompileRequest) -> list[dict]:
    """One row a Triton on this machine, the request's own first: how the same spec ends under it."""
    own = resolve_triton(request.toolchain.triton).version
    others = [version for version in installed_tritons() if version != own]
    chains = [request.toolchain, *(Toolchain(version) for version in others)]
    reports = compile_matrix([replace(request, toolchain=chain) for chain in chains])
    refuse_ill(reports)
    return [
        {
            "triton_version": version,
            "status": report.status,
            "failed_pass": report.failed_pass or "",
            "message": report.headline[:300],
        }
        for version, report in zip((own, *others), reports, strict=True)
    ]


def triton_csv(rows: Sequence[Mapping]) -> str:
    """The table as CSV text."""
    out = io.StringIO()
    writer = csv.DictWriter(out, ("triton_version", "status", "failed_pass", "message"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@lru_cache(maxsize=64)
def program_hash(path: str, _mtime_ns: int) -> str:
    """SHA-256 of a program's file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- environment ------------------------------------------------------------------------------------------


def environment_of(
    material: Material,
    program: tuple[str, Path] | None,
    table: Sequence[Row],
    members: Mapping[str, bytes],
    *,
    withhold: bool,
) -> dict:
    """Versions and SHA-256 hashes, ready for JSON; nothing that names the machine or changes from run to run."""
    compiled = material.compiled
    found = {
        "triton_of_the_compile": compiled.triton_version if compiled else None,
        "ptxas_of_the_failure": program[0] if program else None,
        "target": material.gpu_name,
        "ptxas_flags": list(material.flags),
        "ptxas": [{k: row[k] for k in ("ptxas_version", "program", "sha256")} for row in table],
        "on_the_machine_that_wrote_this": {
            "tritons": installed_tritons(),
            "python": platform.python_version(),
            "torch": _version_of("torch"),
            "system": f"{platform.system()} {platform.machine()}",
            "libc": " ".join(platform.libc_ver()),
            "register_cliff": _version_of("register-cliff"),
        },
        "files_sha256": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())},
    }
    if material.request is not None and not withhold:
        found["kernel_source_sha256"] = material.request.spec.kernel.source_hash()
    return found


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- source -----------------------------------------------------------------------------------------------


def kernel_files(kernel: KernelRef) -> tuple[dict[str, str], KernelRef, str]:
    """(member name -> source of the kernel and the local modules it imports, the KernelRef inside the zip, a note).

    Only Python goes in: a spec can name any file, and what does not parse or has no such function stays out, with a
    note that says so.
    """
    start, root = Path(kernel.path).resolve(), kernel.root.resolve()
    inside = replace(kernel, path="kernel/kernel.py", import_root="kernel")
    try:
        tree = ast.parse(read_source(start))
        defined = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
        closure = kernel.source_files()
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}, inside, "the kernel's source is not in here: the file that was named is no Python that can be read"
    if kernel.name not in defined:
        return {}, inside, "the kernel's source is not in here: the file that was named does not define the kernel"
    files: dict[str, str] = {}
    for file in closure:
        parts = file.relative_to(root).parts if file.is_relative_to(root) else (file.name,)
        if file.suffix != ".py" or not all(_PART.fullmatch(part) for part in parts):
            if file == start:
                parts = ("kernel.py",)
            else:
                continue
        name = "/".join(("kernel", *parts))
        files[name] = decode_text(read_source(file))
        if file == start:
            inside = replace(inside, path=name)
    return files, inside, ""


def foreign_imports(files: Mapping[str, str]) -> set[str]:
    """Top-level modules that a kernel's files (as `kernel_files` names them) import: neither Triton nor their own."""
    own = {name.split("/")[1].removesuffix(".py") for name in files}
    found = set()
    for text in files.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - own - sys.stdlib_module_names - {"triton"}


# --- pressure, workarounds, a smaller PTX -----------------------------------------------------------------


def pressure_files(ptx: str, title: str) -> dict[str, str | bytes]:
    """pressure.txt and pressure.png of a PTX; nothing for one without a function."""
    from helpers.diagnosis.pressure import format_pressure, pressure_report
    from helpers.inspection.ptx.pressure import pressure_profile
    from helpers.show.plots import pressure_plot

    try:
        told = format_pressure(pressure_report(ptx))
    except UserError:
        return {}
    profile = pressure_profile(ptx)
    if profile is None or not profile.points:
        return {"pressure.txt": told + "\n"}
    import matplotlib.pyplot as plt

    from helpers.show.style import claim, use_house_style

    use_house_style()
    fig, ax = plt.subplots(figsize=(8.5, 3.6))
    pressure_plot(ax, profile)
    claim(
        ax,
        f"{profile.demand} registers needed at the worst point, a thread has {profile.cap}",
        f"{title}, computed from the PTX",
    )
    image = io.BytesIO()
    # Without the library's name and version in it, the bytes depend on the picture alone.
    fig.savefig(image, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    return {"pressure.txt": told + "\n", "pressure.png": image.getvalue()}


def edits_of(
    material: Material, ptx: str | None, program: tuple[str, Path] | None, *, ladder_of: LadderOf, seconds: float
) -> list[dict]:
    """Ranked edits that pass (see try_this), as rows: of the spec if there is one, else of the PTX under ptxas -O."""
    if material.request is not None:
        budget = replace(BUNDLE_BUDGET, max_seconds=min(BUNDLE_BUDGET.max_seconds, seconds))
        return [edit.to_dict() for edit in try_this(material.request, budget=budget, ladder_of=ladder_of)]
    if ptx is None or program is None:
        return []
    version, path = program
    found = try_ptx(ptx, ptxas=path, ptxas_version=version, arch=material.gpu_name or "", flags=material.flags)
    return [edit.to_dict() for edit in found]


def minimized_of(
    ptx: str, gpu_name: str, ptxas_version: str | None, *, flags: Sequence[str], seconds: float
) -> tuple[str | None, str]:
    """(a smaller PTX that fails in the same way or None, a sentence about it)."""
    from helpers.search.minimize.minimize_ptx import minimize_ptx

    try:
        small = minimize_ptx(
            ptx, arch=gpu_name, ptxas=ptxas_version, flags=tuple(flags), time_limit_s=seconds, everywhere=False
        )
    except MachineError:
        raise
    except UserError as exc:
        return None, f"no smaller PTX: {exc}"
    ended = "" if small.complete else f" (the search was ended after {seconds:g} s)"
    return small.ptx, f"minimized.ptx has {small.lines_after} of {small.lines_before} lines{ended}"

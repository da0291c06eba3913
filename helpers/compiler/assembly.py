"""Assembly: the PTX of a code generation becomes a cubin, or ptxas's complaint; the result is kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from helpers.compiler import cache, run_ptxas
from helpers.compiler.codegen import Generated
from helpers.compiler.toolchain import Tool
from helpers.compiler.worker.pool import POOL
from helpers.errors import MachineError
from helpers.inspection import ptxas as ptxas_log

LOG_FILE, CUBIN_FILE = "ptxas.log", "kernel.cubin"
# What a run of ptxas that made a kernel says of it: per thread, `static_smem_bytes` per CTA.
_NUMBERS = ("regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes", "barriers")


@dataclass(frozen=True)
class Assembled:
    """What ptxas made of a PTX; `status` as in `PtxasRun`, numbers None for a run that failed."""

    folder: Path
    cached: bool
    status: str
    ptxas_version: str
    command: str
    wall_s: float
    ptxas_code: str | None = None
    registers_asked: int | None = None
    message: str = ""
    regs_per_thread: int | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None
    stack_frame_bytes: int | None = None
    barriers: int | None = None

    @property
    def log_path(self) -> str:
        """Where ptxas's own words are kept."""
        return str(self.folder / LOG_FILE)

    @property
    def cubin_path(self) -> str | None:
        """Where the binary is kept; None for a run that failed."""
        return str(self.folder / CUBIN_FILE) if self.status == "ok" else None


class DamagedPtx(Exception):
    """The cached PTX is not what was written."""


@lru_cache(maxsize=1)
def _read_by() -> str:
    """sha256 over the code that turns ptxas's words into what is cached, so that a mended parser reads anew."""
    digest = hashlib.sha256()
    for module in (run_ptxas, ptxas_log):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()


def assembly_key(ptx_sha256: str | None, *, ptxas: str, flags: Sequence[str], gpu_name: str) -> str:
    """The name of an assembly in the cache: all that its result depends on."""
    return cache.content_key(ptx=ptx_sha256, ptxas=ptxas, flags=flags, gpu=gpu_name, by=_read_by())


def flags_of(generated: Generated, extra: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """(flags without the arch, the arch's name for ptxas): Triton's own, then the caller's, which replace them.

    ptxas takes an option with a value once.
    """
    replaced = {flag.partition("=")[0] for flag in extra if flag.startswith("--") and "=" in flag}
    words = [w for w in generated.ptxas_flags if not ("=" in w and w.partition("=")[0] in replaced)]
    gpu_name = next((w.partition("=")[2] for w in words if w.startswith("--gpu-name=")), "")
    return (*(w for w in words if not w.startswith("--gpu-name")), *extra), gpu_name


def assemble(generated: Generated, ptxas: Tool, *, extra_flags: Sequence[str] = (), timeout_s: float) -> Assembled:
    """The generated PTX assembled by `ptxas` under Triton's flags and `extra_flags`; from the cache where it is.

    Raises DamagedPtx where the PTX on disk is not what was generated, and ToolchainMissing for a ptxas that does not
    start.
    """
    flags, gpu_name = flags_of(generated, extra_flags)

    def make() -> tuple[dict, dict[str, bytes], bool]:
        try:
            content = (generated.folder / "kernel.ptx").read_bytes()
        except OSError as exc:
            raise DamagedPtx from exc
        if hashlib.sha256(content).hexdigest() != generated.ptx_sha256:
            raise DamagedPtx
        try:
            if POOL.was_stopped():
                raise MachineError("it was stopped")
            run = run_ptxas.run_ptxas(ptxas.path, content.decode(), gpu_name=gpu_name, flags=flags, timeout_s=timeout_s)
        except MachineError as exc:
            run = run_ptxas.PtxasRun("environment_error", None, "", message=str(exc))
        meta: dict[str, object] = {
            "status": run.status,
            "ptxas_version": ptxas.version,
            "command": run.command,
            "wall_s": run.wall_s,
            "code": run.ptxas_code,
            "register_count_asked": run.registers_asked,
            "message": run.message,
            "returncode": run.exit_code,
        }
        files = {LOG_FILE: run.log.encode()}
        if run.compiled:
            meta |= {name: getattr(run, name) for name in _NUMBERS} | {"static_smem_bytes": run.smem_bytes}
        if run.cubin is not None:
            files[CUBIN_FILE] = run.cubin
        # A timeout and a death by signal are no facts about the kernel.
        keep = not run.silent and run.status not in ("timeout", "ptxas_signal", "environment_error")
        return meta, files, keep

    key = assembly_key(generated.ptx_sha256, ptxas=ptxas.version, flags=flags, gpu_name=gpu_name)
    entry, cached = cache.get_or_make("assembly", key, make)
    return Assembled(
        folder=entry["folder"],
        cached=cached,
        status=entry["status"],
        ptxas_version=entry["ptxas_version"],
        command=entry["command"],
        wall_s=entry["wall_s"],
        ptxas_code=entry["code"],
        registers_asked=entry["register_count_asked"],
        message=entry["message"],
        **{name: entry.get(name) for name in _NUMBERS},
    )

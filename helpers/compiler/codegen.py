"""Code generation: a spec becomes PTX in a worker process with its own Triton; the result is kept in the cache."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from helpers.compiler import cache, machine
from helpers.compiler.front_end import front_end_parts
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.source import HashedSource, read_anew
from helpers.compiler.toolchain import Tool, Toolchain, ToolchainMissing
from helpers.compiler.worker.pool import (
    FOREIGN_SCRIPTS,
    POOL,
    WORKER_SCRIPT,
    Environment,
    WorkerDied,
    WorkerTimeout,
    WorkerUnusable,
)
from helpers.errors import MachineError
from helpers.hardware import WARP_SIZE, AmdArch, GpuArch
from helpers.inspection import amdgcn
from helpers.inspection.amdgcn import AmdResources
from helpers.inspection.crash import mlir
from helpers.inspection.crash.mlir import FrontEndFailure
from helpers.inspection.ptx import scan
from helpers.inspection.ptx.scan import count_instructions, is_trap_stub

# Where an answer ends whose kernel was not the one that was hashed, and how often it is looked at anew.
CHANGED, MOST_LOOKS = "changed", 3
STAGE_FILES = {
    "ttir": "kernel.ttir",
    "ttgir": "kernel.ttgir",
    "llir": "kernel.llir",
    "ptx": "kernel.ptx",
    "amdgcn": "kernel.amdgcn",
    "hsaco": "kernel.hsaco",
}
_TARGET_REFUSED = re.compile(
    r"sm_?\d+\w*.{0,60}(not (?:supported|recognized|defined)|unsupported)|unsupported (?:target|architecture|arch)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Generated:
    """What code generation left of a spec: the PTX and the stages before it, up to the stage that failed.

    `stage` is `done`, or where it ended: load, options, frontend, a stage of Triton's, died, timeout. `ptxas_program`
    and `ptxas_flags` are of the command Triton itself would run. `front_end` is what Triton's C++ side said of its
    failure. `wall_s` is what it took when it was run. For an AMD chip there is AMD's assembly instead of PTX, and `amd`
    is what it says of its kernel.
    """

    folder: Path
    files: tuple[str, ...]
    cached: bool
    spec_key: str
    triton_version: str
    stage: str
    wall_s: float
    error: str = ""
    ptxas_program: str = "ptxas"
    ptxas_flags: tuple[str, ...] = ()
    kernel_name: str | None = None
    num_warps: int | None = None
    smem_bytes: int | None = None
    tmem_columns: int | None = None
    instructions: dict[str, int] = field(default_factory=dict)
    trap_stub: bool = False
    ptx_lines: int | None = None
    ptx_sha256: str | None = None
    ptx_version: str | None = None
    front_end: FrontEndFailure | None = None
    amd: AmdResources | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended before there was a PTX and a command for ptxas."""
        return self.stage != "done"

    def path(self, stage: str) -> str | None:
        """Where what a stage left (`ttir`, `ttgir`, `llir`, `ptx`, …) is kept; None where it was not reached."""
        name = STAGE_FILES[stage]
        return str(self.folder / name) if name in self.files else None

    def failure_status(self) -> str:
        """The status of a CompileReport for a code generation that failed."""
        words = self.error.lower()
        if self.stage == "machine":
            return "environment_error"
        if self.stage == "timeout":
            return "timeout"
        if "out of resource: tensor memory" in words:
            return "out_of_tensor_memory"
        if "out of resource: shared memory" in words:
            return "out_of_shared_memory"
        if _TARGET_REFUSED.search(self.error) and self.stage != "frontend":
            return "unsupported_target"
        return "frontend_error"


@lru_cache(maxsize=2)
def _read_by(foreign: bool) -> str:
    """sha256 over the code that turns a spec into what is cached, so that a mended worker or parser makes it anew."""
    digest = hashlib.sha256()
    parsers = [Path(str(module.__file__)) for module in (scan, mlir, amdgcn)]
    for file in (WORKER_SCRIPT, *(FOREIGN_SCRIPTS if foreign else ()), *parsers):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def codegen_key(
    spec_key: str,
    arch: GpuArch | AmdArch,
    *,
    triton: str,
    cuda: str | None,
    foreign: bool,
    environment: Environment = (),
) -> str:
    """The name of a code generation in the cache: all that its result depends on."""
    more = {"environment": environment} if environment else {}
    return cache.content_key(
        spec=spec_key, target=target_of(arch), triton=triton, codegen_cuda=cuda, by=_read_by(foreign), **more
    )


def generate(
    spec: KernelSpec,
    arch: GpuArch | AmdArch,
    toolchain: Toolchain,
    triton: Tool,
    timeout_s: float,
    *,
    environment: Environment = (),
) -> Generated:
    """The stages of `spec` for `arch` by the Triton that `toolchain` resolved to; from the cache where they are.

    `environment` is what the worker's environment gets on top, and nobody else's.

    A kernel that fails, hangs or kills its worker is a result. One that is saved anew between the look at it and the
    load is looked at again. Raises UserError for a kernel file that cannot be read, ToolchainMissing for a Triton that
    does not start, and MachineError for a file that never stays as it is.
    """
    foreign = spec.kernel.stub_imports
    cuda = ".".join(toolchain.ptxas.split(".")[:2]) if toolchain.ptxas_for_codegen else None
    for _ in range(MOST_LOOKS):
        source = spec.kernel.hashed_source()
        spec_key = spec.content_key(source.sha256)

        def make(source: HashedSource = source) -> tuple[dict, dict[str, bytes], bool]:
            request = _request(spec, arch, cuda, source)
            answer, keep = answer_of(request, triton, timeout_s, foreign=foreign, environment=environment)
            if answer["stage"] == CHANGED:
                raise _SourceChanged(str(answer["error"]))
            return kept_answer(answer, triton, keep)

        key = codegen_key(spec_key, arch, triton=triton.version, cuda=cuda, foreign=foreign, environment=environment)
        try:
            entry, cached = cache.get_or_make("codegen", key, make)
        except _SourceChanged as exc:
            read_anew()
            said = exc
            continue
        return generated_of(entry, cached, spec_key)
    raise MachineError(f"{said}, {MOST_LOOKS} times in a row; run the same command again when it stays as it is")


class _SourceChanged(Exception):
    """A file of the kernel's was not the one that was hashed when the worker loaded it."""


def kept_answer(answer: dict, triton: Tool, keep: bool) -> tuple[dict, dict[str, bytes], bool]:
    """(meta data, files, whether to keep them) of a worker's answer, as the cache takes them."""
    stages = answer.pop("stages")
    told, kept = front_end_parts(answer.pop("log", "")) if answer["stage"] != "done" else (None, {})
    # An abort in Triton's own words is a fact about the kernel; a worker that was killed is not.
    keep = answer["stage"] != "machine" and (keep or (told is not None and told.aborts))
    ptx, assembly = stages.get("ptx", ""), stages.get("amdgcn", "")
    binary, resources = answer.pop("hsaco", None), amdgcn.amd_resources(assembly)
    meta = {
        **answer,
        "front_end": asdict(told) if told else None,
        "triton_version": triton.version,
        "ptxas_program": Path(answer.get("ptxas_program") or "ptxas").name,
        "instructions": count_instructions(ptx) if ptx else _amd_instructions(assembly),
        "amd": asdict(resources) if resources else None,
        "trap_stub": bool(ptx) and is_trap_stub(ptx),
        "ptx_lines": ptx.count("\n") if ptx else None,
        "ptx_sha256": hashlib.sha256(ptx.encode()).hexdigest() if ptx else None,
        "ptx_version": (found := re.search(r"^\.version\s+(\S+)", ptx, re.MULTILINE)) and found.group(1),
    }
    files = {STAGE_FILES[n]: text.encode() for n, text in stages.items() if n in STAGE_FILES}
    if binary:
        files[STAGE_FILES["hsaco"]] = base64.b64decode(binary)
    return meta, {**files, **kept}, keep


def _amd_instructions(assembly: str) -> dict[str, int]:
    return {"mfma": amdgcn.count_matrix_instructions(assembly)} if assembly else {}


def generated_of(entry: dict, cached: bool, spec_key: str) -> Generated:
    """What an entry of the cache, made by `kept_answer`, says."""
    return Generated(
        folder=entry["folder"],
        files=tuple(entry["files"]),
        cached=cached,
        spec_key=spec_key,
        triton_version=entry["triton_version"],
        stage=entry["stage"],
        wall_s=entry["seconds"]["total"],
        error=str(entry.get("error", "")),
        ptxas_program=entry["ptxas_program"],
        ptxas_flags=tuple(entry.get("ptxas_flags", ())),
        kernel_name=entry.get("kernel_name"),
        num_warps=entry.get("num_warps"),
        smem_bytes=entry.get("smem_bytes"),
        tmem_columns=entry.get("tmem_columns"),
        instructions=entry["instructions"],
        trap_stub=bool(entry["trap_stub"]),
        ptx_lines=entry["ptx_lines"],
        ptx_sha256=entry["ptx_sha256"],
        ptx_version=entry["ptx_version"],
        front_end=FrontEndFailure(**entry["front_end"]) if entry.get("front_end") else None,
        amd=AmdResources(**entry["amd"]) if entry.get("amd") else None,
    )


def target_of(arch: GpuArch | AmdArch) -> tuple[str, int | str, int]:
    """What Triton calls a target: its backend, the chip there, and the threads of a warp."""
    if isinstance(arch, AmdArch):
        return "hip", arch.name, arch.wave_size
    return "cuda", arch.capability, WARP_SIZE


def _request(spec: KernelSpec, arch: GpuArch | AmdArch, cuda: str | None, source: HashedSource) -> dict:
    """What a worker is asked for the stages of a spec."""
    return {
        "target": target_of(arch),
        "codegen_cuda_version": cuda,
        "spec": {
            "kernel": spec.kernel.for_worker(source),
            "signature": spec.signature,
            "constexprs": spec.constexprs,
            "divisible_by_16": spec.divisible_by_16,
            "options": spec.options,
        },
    }


def answer_of(
    request: dict,
    triton: Tool,
    timeout_s: float,
    *,
    foreign: bool = False,
    texts: bool = False,
    environment: Environment = (),
) -> tuple[dict, bool]:
    """(what the worker answers, whether it is a fact about the kernel: a timeout and a dead worker are not).

    A failure of the machine is asked again once, of a fresh worker; its stage is `machine`. Where the same signal ends
    both workers and Linux ended nobody for want of memory, the kernel's own code may have sent it: then the error says
    so, and its stage is the same, since nobody can tell.
    """
    ended_before = machine.ended_for_memory()
    answer, keep = _asked(request, triton, timeout_s, foreign=foreign, texts=texts, environment=environment)
    first = answer.pop("ended_by", None)
    if answer["stage"] == "machine" and not POOL.was_stopped():
        answer, keep = _asked(request, triton, timeout_s, foreign=foreign, texts=texts, environment=environment)
        second = answer.pop("ended_by", None)
        if first and first == second and machine.ended_for_memory() == ended_before:
            answer["error"] = machine.killed_sentence(first, ", and so was a fresh one that was asked the same")
    return answer, keep


def _asked(
    request: dict, triton: Tool, timeout_s: float, *, foreign: bool, texts: bool, environment: Environment
) -> tuple[dict, bool]:
    try:
        with POOL.borrow(triton, foreign=foreign, texts=texts, environment=environment) as worker:
            answer = worker.ask(request, timeout_s)
            if changed := answer.pop("changed", None):
                return {**answer, "stage": CHANGED, "error": f"{changed} was saved again while it was compiled"}, False
            chain = answer.pop("raised", ())
            if not machine.raised(chain):
                return answer, True
            worker.kill()  # it may remember what it could not find
            words = str(answer.get("error") or chain[-1]["words"])
            return {**answer, "stage": "machine", "error": machine.sentence(words)}, False
    except WorkerTimeout as exc:
        return {"stage": "timeout", "error": str(exc), "stages": {}, "seconds": {"total": timeout_s}}, False
    except WorkerDied as exc:
        if exc.of_machine:
            return {**_ill(exc), "ended_by": exc.signal_name}, False
        return {"stage": "died", "error": str(exc), "log": exc.log, "stages": {}, "seconds": {"total": 0.0}}, False
    except (OSError, MemoryError, RuntimeError) as exc:
        if machine.from_machine(exc):  # no room to start a worker, or to talk to it
            return _ill(exc), False
        if not isinstance(exc, WorkerUnusable):
            raise
        raise ToolchainMissing(f"Triton {triton.version} does not start with this Python: {exc}") from exc


def _ill(exc: Exception) -> dict:
    """What stands for a worker's answer where the machine let it give none."""
    said = {"stage": "machine", "error": machine.sentence(str(exc) or type(exc).__name__)}
    return {**said, "log": getattr(exc, "log", ""), "stages": {}, "seconds": {"total": 0.0}}

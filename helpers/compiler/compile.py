"""compile_kernel: a spec, an arch and a toolchain in, a CompileReport out; compile_matrix: many of them at once."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from helpers.compiler import cache
from helpers.compiler.front_end import front_end_parts, with_front_end
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import CompileReport
from helpers.compiler.run_ptxas import Assembly, run_ptxas, signal_name, stop_runs
from helpers.compiler.toolchain import (
    BUNDLED,
    Toolchain,
    ToolchainMissing,
    ptxas_version,
    resolve_ptxas,
    resolve_triton,
)
from helpers.compiler.worker.pool import FOREIGN_SCRIPTS, POOL, WORKER_SCRIPT, WorkerDied, WorkerTimeout, WorkerUnusable
from helpers.errors import UserError
from helpers.hardware import GpuArch, get_arch
from helpers.inspection import ptxas as ptxas_module
from helpers.inspection.crash import mlir as mlir_module
from helpers.inspection.ptx import scan as ptx_module
from helpers.inspection.ptx.scan import count_instructions, is_trap_stub
from helpers.inspection.ptxas import PtxasLog, classify_failure, parse_ptxas_log

DEFAULT_TIMEOUT_S = 300.0
_TARGET_REFUSED = re.compile(
    r"sm_?\d+\w*.{0,60}(not (?:supported|recognized|defined)|unsupported)|unsupported (?:target|architecture|arch)",
    re.IGNORECASE,
)
_STAGE_FILES = {"ttir": "kernel.ttir", "ttgir": "kernel.ttgir", "llir": "kernel.llir", "ptx": "kernel.ptx"}


@dataclass(frozen=True)
class CompileRequest:
    """One cell of a matrix: what to compile, for what, by what, and for how long at most (seconds, per stage)."""

    spec: KernelSpec
    arch: str
    toolchain: Toolchain = field(default_factory=Toolchain)
    ptxas_flags: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S


def compile_kernel(
    spec: KernelSpec,
    arch: str | GpuArch,
    toolchain: Toolchain | None = None,
    *,
    ptxas_flags: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> CompileReport:
    """The report of compiling `spec` for `arch`; from the cache when the same content was compiled before.

    Failures of the compiler are reports, not exceptions. Raises UserError for an unknown arch or an unreadable
    kernel file. `ptxas_flags` are added to those Triton itself passes.
    """
    target = get_arch(arch)
    toolchain = toolchain or Toolchain()
    try:
        return _compile(spec, target, toolchain, tuple(ptxas_flags), timeout_s)
    except ToolchainMissing as exc:
        return CompileReport(
            status="toolchain_missing",
            arch=target.name,
            triton_version=None if toolchain.triton == "environment" else toolchain.triton,
            ptxas_version=None if toolchain.ptxas == BUNDLED else toolchain.ptxas,
            label=spec.label,
            num_warps=spec.num_warps,
            message=str(exc),
        )


def compile_request(request: CompileRequest) -> CompileReport:
    """`compile_kernel` for one request; a module-level function, so that any executor can ship it."""
    return compile_kernel(
        request.spec, request.arch, request.toolchain, ptxas_flags=request.ptxas_flags, timeout_s=request.timeout_s
    )


def compile_cell(request: CompileRequest) -> CompileReport:
    """`compile_request` for one cell of many: a kernel file that cannot be read is a report, not the end of all."""
    get_arch(request.arch)  # a mistake of the whole matrix
    try:
        return compile_request(request)
    except UserError as exc:
        return CompileReport(
            status="frontend_error",
            arch=request.arch,
            triton_version=None if request.toolchain.triton == "environment" else request.toolchain.triton,
            ptxas_version=None,
            label=request.spec.label,
            kernel_name=request.spec.kernel.name,
            num_warps=request.spec.num_warps,
            message=str(exc),
            failed_stage="load",
        )


def compile_matrix(
    requests: Iterable[CompileRequest],
    *,
    executor: concurrent.futures.Executor | None = None,
    progress: Callable[[int, int, CompileReport], None] | None = None,
) -> list[CompileReport]:
    """The reports of `requests`, in their order, compiled as many at once as there are cores.

    `executor` is any concurrent.futures executor, of another machine as well (Dask's `Client(...).get_executor()`): it
    needs this project and its toolchains where it runs, and the paths in its reports are that machine's. By default
    threads, each with a worker process of its own. Raises UserError when the executor itself fails.
    `progress` is called after each compile with (done, total, report). An interrupt (or an exception out of
    `progress`) ends what runs on the default threads and cancels what has not begun; what is done is in the cache.
    """
    todo = list(requests)
    own, threads = None, set()
    if executor is None:
        own = executor = concurrent.futures.ThreadPoolExecutor(
            max_workers=usable_cores(), initializer=lambda: threads.add(threading.get_ident())
        )
    try:
        futures = {_submit(executor, request, own): request for request in todo}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(futures), start=1):
                if progress is not None:
                    progress(done, len(futures), _result(future, futures[future], own))
            return [_result(future, request, own) for future, request in futures.items()]
        except BaseException:
            for future in futures:
                future.cancel()
            # What is under way is ended as well: a ptxas that hangs must not hold an interrupt back.
            POOL.stop(threads)
            stop_runs(threads)
            raise
    finally:
        if own is not None:
            own.shutdown(wait=True)


def _submit(
    executor: concurrent.futures.Executor, request: CompileRequest, own: concurrent.futures.Executor | None
) -> concurrent.futures.Future:
    """The future of a request; an executor of somebody else's that takes no work is a sentence."""
    try:
        return executor.submit(compile_cell, request)
    except Exception as exc:
        if own is not None:
            raise
        raise UserError(
            f"the executor takes no work ({type(exc).__name__}: {' '.join(str(exc).split())[:300]}); give one that runs"
        ) from exc


def _result(
    future: concurrent.futures.Future, request: CompileRequest, own: concurrent.futures.Executor | None
) -> CompileReport:
    """The report of a future; what somebody else's executor makes of a worker that died becomes a sentence."""
    try:
        return future.result()
    except UserError:
        raise
    except (Exception, concurrent.futures.CancelledError) as exc:
        if own is not None:
            raise
        raise UserError(
            f"the executor gave no report of {request.spec.label or request.spec.kernel.name} for {request.arch}: "
            f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}. Look into its workers' logs; what they "
            "finished is in their cache, so that asking again goes on from there"
        ) from exc


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=2)
def _readers(foreign: bool = False) -> str:
    """sha256 over the code that turns compiler output into what is cached, so that a mended parser reads anew."""
    digest = hashlib.sha256()
    scripts = (WORKER_SCRIPT, *(FOREIGN_SCRIPTS if foreign else ()))
    for file in (*scripts, Path(ptx_module.__file__), Path(ptxas_module.__file__), Path(mlir_module.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


# --- the two stages ---------------------------------------------------------------------------------------


def _codegen(spec: KernelSpec, arch: GpuArch, toolchain: Toolchain, timeout_s: float) -> tuple[dict, bool, str]:
    """(cache entry of the PTX and the stages before it, whether cached, spec key)."""
    spec_key = spec.content_key()
    foreign = spec.kernel.stub_imports
    version, _site = resolve_triton(toolchain.triton)
    cuda = ".".join(toolchain.ptxas.split(".")[:2]) if toolchain.ptxas_for_codegen else None
    key = cache.content_key(
        spec=spec_key, capability=arch.capability, triton=version, codegen_cuda=cuda, by=_readers(foreign)
    )

    def make() -> tuple[dict, dict[str, bytes], bool]:
        request = {
            "capability": arch.capability,
            "codegen_cuda_version": cuda,
            "spec": {
                "kernel": spec.kernel.for_worker(),
                "signature": spec.signature,
                "constexprs": spec.constexprs,
                "divisible_by_16": spec.divisible_by_16,
                "options": spec.options,
            },
        }
        keep = True
        try:
            with POOL.borrow(toolchain.triton, foreign=foreign) as worker:
                answer = worker.ask(request, timeout_s)
        except WorkerTimeout as exc:
            answer, keep = {"stage": "timeout", "error": str(exc), "stages": {}, "seconds": {"total": timeout_s}}, False
        except WorkerDied as exc:
            answer, keep = {"stage": "died", "error": str(exc), "stages": {}, "seconds": {"total": 0.0}}, False
            answer["log"] = exc.log
        except WorkerUnusable as exc:
            raise ToolchainMissing(f"Triton {version} does not start with this Python: {exc}") from exc
        stages = answer.pop("stages")
        files_out = {_STAGE_FILES[n]: text.encode() for n, text in stages.items() if n in _STAGE_FILES}
        told, kept = front_end_parts(answer.pop("log", "")) if answer["stage"] != "done" else ({}, {})
        files_out |= kept
        # An abort in Triton's own words is a fact about the kernel; a worker that was killed is not.
        keep = keep or bool(told and told["front_end"]["aborts"])
        ptx = stages.get("ptx", "")
        meta = {
            **answer,
            **told,
            "triton_version": version,
            "ptxas_program": Path(answer.get("ptxas_program") or "ptxas").name,
            "instructions": count_instructions(ptx) if ptx else {},
            "trap_stub": bool(ptx) and is_trap_stub(ptx),
            "ptx_lines": ptx.count("\n") if ptx else None,
            "ptx_sha256": hashlib.sha256(ptx.encode()).hexdigest() if ptx else None,
            "ptx_version": (found := re.search(r"^\.version\s+(\S+)", ptx, re.MULTILINE)) and found.group(1),
        }
        return meta, files_out, keep

    entry, hit = cache.get_or_make("codegen", key, make)
    return entry, hit, spec_key


def _assembly(
    ptx_entry: dict, ptxas: Path, flags: tuple[str, ...], gpu_name: str, timeout_s: float
) -> tuple[dict, bool]:
    """(cache entry of the assembled PTX, whether cached)."""
    version = ptxas_version(ptxas)
    key = cache.content_key(ptx=ptx_entry["ptx_sha256"], ptxas=version, flags=flags, gpu=gpu_name, by=_readers())

    def make() -> tuple[dict, dict[str, bytes], bool]:
        try:
            content = (ptx_entry["folder"] / "kernel.ptx").read_bytes()
        except OSError as exc:
            raise _DamagedPtx from exc
        if hashlib.sha256(content).hexdigest() != ptx_entry["ptx_sha256"]:
            raise _DamagedPtx
        try:
            done = run_ptxas(ptxas, content.decode(), gpu_name=gpu_name, flags=flags, timeout_s=timeout_s)
        except PermissionError as exc:
            raise ToolchainMissing(f"cannot run the ptxas at {ptxas}: {exc.strerror}") from exc
        log = parse_ptxas_log(done.log)
        status = classify_failure(log, done.returncode, timed_out=done.timed_out)
        entry = log.entry
        if status == "ok" and (done.cubin is None or entry is None):
            status = "ptxas_error"  # exit code 0 without a kernel (a flag such as --version, or not a ptxas at all)
        meta = {
            "status": status,
            "ptxas_version": version,
            "command": done.command,
            "wall_s": done.wall_s,
            "code": _failure_code(log),
            "register_count_asked": log.register_count_asked,
            "message": _complaint(status, log.fatal, done),
            "returncode": done.returncode,
        }
        if entry is not None and status == "ok":
            for name in ("regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes", "barriers"):
                meta[name] = getattr(entry, name)
            meta["static_smem_bytes"] = entry.smem_bytes
        files = {"ptxas.log": done.log.encode()}
        if done.cubin is not None:
            files["kernel.cubin"] = done.cubin
        return meta, files, status not in ("timeout", "ptxas_signal")

    return cache.get_or_make("assembly", key, make)


def _failure_code(log: PtxasLog) -> str | None:
    """The code of the failure itself: advice in the same log has codes of its own."""
    return next((code for code in log.codes if any(code in words for words in log.fatal)), None)


def _complaint(status: str, fatal: Sequence[str], done: Assembly) -> str:
    """What to say of a ptxas run that failed: its own words, else how it ended; nothing for one that did not."""
    if status == "ok":
        return ""
    words = "; ".join(fatal) or "".join(c if c.isprintable() or c == "\n" else "." for c in done.log.strip()[-2000:])
    if status == "timeout":
        return f"ptxas had not finished after {done.wall_s:.1f} s and was stopped" + (
            f"; it said: {words}" if words else ""
        )
    if status == "ptxas_signal" and done.returncode is not None and done.returncode < 0:
        return f"ptxas was ended by {signal_name(done.returncode)}" + (f"; it said: {words}" if words else "")
    return words or f"ptxas ended with exit code {done.returncode} and made no kernel, without a word"


class _DamagedPtx(Exception):
    """The cached PTX is not what was written."""


def _compile(
    spec: KernelSpec, arch: GpuArch, toolchain: Toolchain, ptxas_flags: tuple[str, ...], timeout_s: float
) -> CompileReport:
    # Before the front end runs: a missing ptxas must not cost a compile first.
    named_ptxas = None if toolchain.ptxas == BUNDLED else resolve_ptxas(toolchain.ptxas)
    for attempt in (1, 2):
        built, built_hit, spec_key = _codegen(spec, arch, toolchain, timeout_s)
        report = CompileReport(
            status="frontend_error",
            arch=arch.name,
            triton_version=built["triton_version"],
            ptxas_version=None,
            label=spec.label,
            kernel_name=built.get("kernel_name") or spec.kernel.name,
            num_warps=built.get("num_warps") or spec.num_warps,
            smem_bytes=built.get("smem_bytes"),
            tmem_columns=built.get("tmem_columns"),
            instructions=built["instructions"],
            wall_s=built["seconds"]["total"],
            cached=built_hit,
            ptx_version=built["ptx_version"],
            ptx_lines=built["ptx_lines"],
            ptx_sha256=built["ptx_sha256"],
            spec_key=spec_key,
            **{
                f"{stage}_path": str(built["folder"] / name)
                for stage, name in _STAGE_FILES.items()
                if name in built["files"]
            },
        )
        if built["stage"] != "done":
            return _frontend_failure(report, built)
        _version, site = resolve_triton(toolchain.triton)
        ptxas = named_ptxas or site / "triton" / "backends" / "nvidia" / "bin" / built["ptxas_program"]
        flags, gpu_name = _flags(built["ptxas_flags"], ptxas_flags, ptxas)
        try:
            assembled, assembled_hit = _assembly(built, ptxas, flags, gpu_name, timeout_s)
            break
        except _DamagedPtx:
            cache.discard_folder(built["folder"])
            if attempt == 2:
                raise
    report = replace(
        report,
        ptxas_version=assembled["ptxas_version"],
        ptxas_command=assembled["command"],
        ptxas_code=assembled["code"],
        register_count_asked=assembled["register_count_asked"],
        message=assembled["message"],
        status=assembled["status"],
        wall_s=report.wall_s + assembled["wall_s"],
        cached=built_hit and assembled_hit,
        log_path=str(assembled["folder"] / "ptxas.log"),
    )
    if report.status != "ok":
        return replace(report, failed_stage="ptxas")
    report = replace(
        report,
        cubin_path=str(assembled["folder"] / "kernel.cubin"),
        **{
            name: assembled.get(name)
            for name in ("regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes", "barriers")
        },
    )
    return _judge(report, arch, bool(built["trap_stub"]))


def _flags(triton_flags: Sequence[str], extra: tuple[str, ...], ptxas: Path) -> tuple[tuple[str, ...], str]:
    """(flags without the arch, the arch's name for ptxas): Triton's own, then the caller's."""
    gpu_name = next((w.partition("=")[2] for w in triton_flags if w.startswith("--gpu-name=")), "")
    words = [w for w in triton_flags if not w.startswith("--gpu-name")]
    return tuple(words) + extra, gpu_name


def _frontend_failure(report: CompileReport, built: dict) -> CompileReport:
    """The report of a compile that ended before there was PTX."""
    message = str(built.get("error", ""))
    if built["stage"] == "timeout":
        status = "timeout"
    elif "out of resource: tensor memory" in message.lower():
        status = "out_of_tensor_memory"
    elif "out of resource: shared memory" in message.lower():
        status = "out_of_shared_memory"
    elif _TARGET_REFUSED.search(message) and built["stage"] != "frontend":
        status = "unsupported_target"
    else:
        status = "frontend_error"
    return with_front_end(replace(report, status=status, message=message, failed_stage=built["stage"]), built)


def _judge(report: CompileReport, arch: GpuArch, trap_stub: bool) -> CompileReport:
    """The verdict on a compile that ptxas let pass."""
    if trap_stub:
        note = "the kernel collapsed to a bare trap instruction; register and spill counts mean nothing"
        if (report.tmem_columns or 0) > arch.tmem_columns:
            note += f". It asked for {report.tmem_columns} tensor-memory columns, {arch.name} has {arch.tmem_columns}"
        return replace(report, status="trapped", message=note)
    if (report.tmem_columns or 0) > arch.tmem_columns:
        note = f"needs {report.tmem_columns} tensor-memory columns, {arch.name} has {arch.tmem_columns}"
        return replace(report, status="out_of_tensor_memory", message=note)
    if (report.smem_bytes or 0) > arch.smem_per_block_max_bytes:
        note = (
            f"needs {report.smem_bytes} bytes of shared memory per CTA, {arch.name} has {arch.smem_per_block_max_bytes}"
        )
        return replace(report, status="out_of_shared_memory", message=note)
    if report.spill_store_bytes or report.spill_load_bytes:
        return replace(report, status="spills")
    return report

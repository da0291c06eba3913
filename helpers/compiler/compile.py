"""compile_kernel: a spec, an arch and a toolchain in, a CompileReport out; compile_matrix: many of them at once."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from helpers.compiler import cache
from helpers.compiler.assembly import Assembled, DamagedPtx, assemble
from helpers.compiler.codegen import Generated, generate
from helpers.compiler.front_end import with_front_end
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.machine import from_machine, sentence
from helpers.compiler.report import CompileReport
from helpers.compiler.run_ptxas import stop_runs
from helpers.compiler.toolchain import BUNDLED, ENVIRONMENT, Toolchain, ToolchainMissing, Tools
from helpers.compiler.worker.pool import POOL, Environment
from helpers.errors import MachineError, UserError
from helpers.hardware import AmdArch, GpuArch, get_target

DEFAULT_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class CompileRequest:
    """One cell of a matrix: what to compile, for what, by what, and for how long at most (seconds, per stage)."""

    spec: KernelSpec
    arch: str
    toolchain: Toolchain = field(default_factory=Toolchain)
    ptxas_flags: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    environment: Environment = ()


def compile_kernel(
    spec: KernelSpec,
    arch: str | GpuArch | AmdArch,
    toolchain: Toolchain | None = None,
    *,
    ptxas_flags: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
    environment: Environment = (),
) -> CompileReport:
    """The report of compiling `spec` for `arch`; from the cache when the same content was compiled before.

    Failures of the compiler are reports, not exceptions. Raises UserError for an unknown arch or an unreadable
    kernel file. `ptxas_flags` are added to those Triton itself passes; `environment` is for the worker alone.
    """
    target = get_target(arch)
    toolchain = toolchain or Toolchain()
    POOL.begin()
    try:
        try:
            return _compile(spec, target, toolchain, tuple(ptxas_flags), timeout_s, environment)
        except Exception as exc:
            if not from_machine(exc) or POOL.was_stopped():
                raise
            return _compile(spec, target, toolchain, tuple(ptxas_flags), timeout_s, environment)  # once more
    except Exception as exc:
        return replace(no_answer(exc, target, toolchain), label=spec.label, num_warps=spec.num_warps)


def no_answer(exc: Exception, arch: GpuArch | AmdArch, toolchain: Toolchain) -> CompileReport:
    """The report of a compile that an exception has left without an answer; raises it where it tells of a mistake."""
    ill = from_machine(exc)
    if not ill and not isinstance(exc, ToolchainMissing):
        raise exc
    words = str(exc) or "there is no memory left"
    return CompileReport(
        status="environment_error" if ill else "toolchain_missing",
        arch=arch.name,
        triton_version=None if toolchain.triton == ENVIRONMENT else toolchain.triton,
        ptxas_version=None if toolchain.ptxas == BUNDLED else toolchain.ptxas,
        message=words if not ill or isinstance(exc, MachineError) else sentence(words),
    )


def compile_request(request: CompileRequest) -> CompileReport:
    """`compile_kernel` for one request; a module-level function, so that any executor can ship it."""
    return compile_kernel(
        request.spec,
        request.arch,
        request.toolchain,
        ptxas_flags=request.ptxas_flags,
        timeout_s=request.timeout_s,
        environment=request.environment,
    )


def compile_cell(request: CompileRequest) -> CompileReport:
    """`compile_request` for one cell of many: a kernel file that cannot be read is a report, not the end of all."""
    get_target(request.arch)  # a mistake of the whole matrix
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
    own: concurrent.futures.Executor | None = None
    threads: set[int] = set()
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


# --- one compile ------------------------------------------------------------------------------------------


def _compile(
    spec: KernelSpec,
    arch: GpuArch | AmdArch,
    toolchain: Toolchain,
    ptxas_flags: tuple[str, ...],
    timeout_s: float,
    environment: Environment,
) -> CompileReport:
    if isinstance(arch, AmdArch) and (toolchain.ptxas != BUNDLED or ptxas_flags):
        raise UserError(f"{arch.name} is AMD's, and no ptxas assembles for it: leave its release and its flags away")
    # Before the front end runs: a missing ptxas must not cost a compile first.
    tools = toolchain.resolve()
    for last_try in (False, True):
        generated = generate(spec, arch, toolchain, tools.triton, timeout_s, environment=environment)
        if isinstance(arch, AmdArch):
            report = amd_report(generated, arch)
            break
        try:
            report = finish(generated, arch, tools, ptxas_flags=ptxas_flags, timeout_s=timeout_s)
            break
        except DamagedPtx:
            # Somebody changed the cached PTX between the look at it and the run: it is made once more.
            cache.discard_folder(generated.folder)
            if last_try:
                raise
    return replace(
        report,
        label=spec.label,
        kernel_name=report.kernel_name or spec.kernel.name,
        num_warps=report.num_warps or spec.num_warps,
    )


def finish(
    generated: Generated, arch: GpuArch, tools: Tools, *, ptxas_flags: Sequence[str] = (), timeout_s: float
) -> CompileReport:
    """The report of a code generation: of its failure, or of what ptxas makes of its PTX.

    Raises DamagedPtx where the kept PTX is not what was generated.
    """
    report = _after_codegen(arch, generated)
    if generated.failed:
        report = replace(
            report,
            status=generated.failure_status(),
            message=generated.error,
            failed_stage=generated.stage,
        )
        return with_front_end(report, generated.front_end, generated.folder, generated.files)
    ptxas = tools.assembler(generated.ptxas_program)
    report = _after_assembly(report, assemble(generated, ptxas, extra_flags=ptxas_flags, timeout_s=timeout_s))
    return _judge(report, arch, generated.trap_stub) if report.status == "ok" else report


def amd_report(generated: Generated, arch: AmdArch) -> CompileReport:
    """The report of a code generation for an AMD chip, whose binary Triton's own LLVM writes."""
    report = _after_codegen(arch, generated)
    found = generated.amd
    if generated.failed or found is None:
        report = replace(
            report,
            status=generated.failure_status() if generated.failed else "frontend_error",
            message=generated.error or "AMD's assembly says nothing of its kernel's registers",
            failed_stage=generated.stage if generated.failed else "amdgcn",
        )
        return with_front_end(report, generated.front_end, generated.folder, generated.files)
    lds = max(found.lds_bytes, generated.smem_bytes or 0)
    warps = generated.num_warps or -(-found.max_threads // found.wave_size)
    waves = arch.waves_per_simd(vgprs=found.vgprs, lds_bytes=lds, num_warps=warps)
    report = replace(
        report,
        status="spills" if found.scratch_bytes and found.vgpr_spills else "ok",
        smem_bytes=None,
        tmem_columns=None,
        amd=replace(found, lds_bytes=lds, waves_per_simd=waves),
    )
    if lds > arch.lds_bytes:
        note = f"needs {lds} bytes of LDS per workgroup, {arch.name} has {arch.lds_bytes}"
        return replace(report, status="out_of_shared_memory", message=note)
    if found.scratch_bytes and not found.vgpr_spills:
        return replace(report, message=f"{found.scratch_bytes} bytes of scratch a thread, none of it for spills")
    return report


def _after_codegen(arch: GpuArch | AmdArch, generated: Generated) -> CompileReport:
    """The report as far as the front end got."""
    return CompileReport(
        status="frontend_error",
        arch=arch.name,
        triton_version=generated.triton_version,
        ptxas_version=None,
        kernel_name=generated.kernel_name,
        num_warps=generated.num_warps,
        smem_bytes=generated.smem_bytes,
        tmem_columns=generated.tmem_columns,
        instructions=generated.instructions,
        wall_s=generated.wall_s,
        cached=generated.cached,
        ptx_version=generated.ptx_version,
        ptx_lines=generated.ptx_lines,
        ptx_sha256=generated.ptx_sha256,
        spec_key=generated.spec_key,
        ptx_path=generated.path("ptx"),
        ttir_path=generated.path("ttir"),
        ttgir_path=generated.path("ttgir"),
        llir_path=generated.path("llir"),
        amdgcn_path=generated.path("amdgcn"),
        hsaco_path=generated.path("hsaco"),
    )


def _after_assembly(report: CompileReport, assembled: Assembled) -> CompileReport:
    """The report with what ptxas made of it."""
    return replace(
        report,
        status=assembled.status,
        ptxas_version=assembled.ptxas_version,
        ptxas_command=assembled.command,
        ptxas_code=assembled.ptxas_code,
        register_count_asked=assembled.registers_asked,
        message=assembled.message,
        failed_stage=None if assembled.status == "ok" else "ptxas",
        wall_s=report.wall_s + assembled.wall_s,
        cached=report.cached and assembled.cached,
        regs_per_thread=assembled.regs_per_thread,
        spill_store_bytes=assembled.spill_store_bytes,
        spill_load_bytes=assembled.spill_load_bytes,
        stack_frame_bytes=assembled.stack_frame_bytes,
        barriers=assembled.barriers,
        log_path=assembled.log_path,
        cubin_path=assembled.cubin_path,
    )


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

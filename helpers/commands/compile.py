"""The verb `compile`: one configuration or spec in, its CompileReport out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import rich_click as click

from helpers.commands.line.common import WORTH_TRYING, choice_options, request_of, spec_argument
from helpers.commands.line.grammar import Verb, own_option, shared
from helpers.commands.line.output import command_line, echo_json, same_again, say
from helpers.compiler.compile import compile_request
from helpers.compiler.report import CompileReport, explain, refuse_ill
from helpers.compiler.wheel_facts import LLVM_SWITCHES, switch_environment
from helpers.errors import UserError
from helpers.hardware import AMD_ARCHS, CAP
from helpers.inspection.amdgcn import AmdResources


@click.command(
    "compile", cls=Verb, examples=("register-cliff compile specs/NAME.json --arch B200",
                                   "register-cliff compile --head-dim 256 --window 1024 --tile 64x64"),
)  # fmt: skip
@spec_argument
@own_option(
    "--llvm",
    "switches",
    multiple=True,
    metavar="SWITCH",
    help=f"turn a switch of LLVM's on for this compile: {' | '.join(LLVM_SWITCHES)} (repeatable)",
)
@choice_options(many=False, amd=True)
@shared("json", "quiet")
def compile_command(
    spec: Path | None, switches: tuple[str, ...], as_json: bool, quiet: bool, **options
) -> None:  # fmt: skip
    """Compile a spec, or one configuration of the extend kernel, and print its CompileReport.

    Without SPEC the options spell out a configuration of the extend kernel; their defaults are the incident, and a
    reproduced crash is exit code 0. SPEC may be of any kernel: its file runs in a worker process.
    """
    request = request_of(spec, options)
    if switches:
        environment = switch_environment(switches, request.toolchain.resolve().triton)
        request = replace(request, environment=environment)
    report = compile_request(request)
    if as_json:
        echo_json(report.to_dict())
    elif report.status != "toolchain_missing":
        say(format_report(report))
        if step := next_step(report):
            say(f"\nnext: {step}")
    if report.status == "toolchain_missing":
        raise UserError(report.message)
    refuse_ill([report])


def next_step(report: CompileReport) -> str | None:
    """The command to go on with after a compile, for the same thing; None where nothing is wrong with it."""
    if report.arch in AMD_ARCHS:
        return None  # the other verbs take none of AMD's chips
    if report.status in WORTH_TRYING:
        return f"{same_again('try')} ranks edits that make it compile"
    if report.status == "spills" and report.ptx_path:
        return f"{command_line('pressure', report.ptx_path)} shows where the registers go"
    return None


def format_report(report: CompileReport) -> str:
    """A report as aligned lines of text."""
    lines = {
        "spec": report.label,
        "arch": report.arch,
        "toolchain": toolchain_words(report),
        "status": f"{report.status}: {explain(report.status, report.arch)}",
    }
    if report.amd is not None:
        lines |= _amd_lines(report.amd)
    if report.compiled or report.status.startswith("out_of"):
        if report.regs_per_thread is not None:
            lines["registers"] = f"{report.regs_per_thread} per thread ({cap_words(report)})"
        if report.compiled and not report.launchable:
            lines["launch"] = (
                f"cannot be launched: {report.num_warps} warps leave {report.cap} registers a thread, "
                f"and it was given {report.regs_per_thread}; use fewer warps or a lower maxnreg"
            )
        if report.spill_store_bytes is not None:
            lines["spills"] = (
                f"{report.spill_store_bytes} B stores, {report.spill_load_bytes} B loads, "
                f"{report.stack_frame_bytes} B stack frame"
            )
    if report.smem_bytes is not None:
        lines["memory"] = (
            f"{report.smem_bytes} B shared memory per CTA, {report.tmem_columns or 0} tensor-memory columns"
        )
    if report.instructions:
        lines["tensor cores"] = report.tensor_core_path
    if report.message:
        lines["message"] = report.message.strip().replace("\n", "\n" + " " * 14)
    if report.ptxas_command:
        lines["command"] = report.ptxas_command
    for stage in ("ptx", "amdgcn", "ttgir", "cubin", "hsaco", "log", "reproducer", "frontend_log"):
        if path := getattr(report, f"{stage}_path"):
            lines[stage.upper() if stage in ("ptx", "ttgir") else stage.replace("frontend_log", "stderr")] = path
    lines["time"] = f"{report.wall_s:.2f} s{' (from the cache)' if report.cached else ''}"
    return "\n".join(f"{name + ':':<14}{text}" for name, text in lines.items())


def toolchain_words(report: CompileReport) -> str:
    """`Triton 3.5.1, ptxas 12.8.93`; for a chip of AMD's, Triton's own LLVM assembles."""
    if report.arch in AMD_ARCHS:
        return f"Triton {report.triton_version}, whose LLVM writes AMD's binary"
    return f"Triton {report.triton_version}, ptxas {report.ptxas_version or '(not reached)'}"


def _amd_lines(amd: AmdResources) -> dict[str, str]:
    """The figures of a kernel for an AMD chip, by their names there."""
    return {
        "registers": f"{amd.vgprs} VGPRs per thread ({amd.agprs} of them AGPRs), {amd.sgprs} SGPRs per wave",
        "spills": f"{amd.scratch_bytes} B scratch per thread, {amd.vgpr_spills} VGPR and {amd.sgpr_spills} SGPR spills",
        "memory": f"{amd.lds_bytes} B LDS per workgroup",
        "occupancy": f"{amd.waves_per_simd} waves per SIMD",
    }


def cap_words(report: CompileReport) -> str:
    """`cap 255`, or `cap 128 with 16 warps` where the launch leaves a thread less than an instruction can name."""
    if report.cap is None or report.cap == CAP:
        return f"cap {CAP}"
    return f"cap {report.cap} with {report.num_warps} warps"

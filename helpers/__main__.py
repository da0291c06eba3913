"""The command line: `python -m helpers …`, a thin skin over the functions the notebooks call."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path

import click

from helpers.commands import VERBS
from helpers.commands.common import (
    HELP_NAMES,
    Verb,
    check_writable,
    choice_options,
    echo_json,
    request_of,
    requests_of,
    run_with_progress,
    show_result,
    spec_argument,
    specs_argument,
)
from helpers.compiler.compile import compile_request
from helpers.compiler.report import EXPLANATIONS, CompileReport
from helpers.compiler.toolchain import BUNDLED, INCIDENT_TRITON
from helpers.errors import UserError

# Triton's largest PTX seen here has half a megabyte.
MAX_PTX_BYTES = 64_000_000


class _Group(click.Group):
    """Verbs defined here, and those of helpers.commands, each loaded when it is asked for."""

    command_class = Verb
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *VERBS})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if home := VERBS.get(name):
            return getattr(importlib.import_module(home), f"{name}_command")
        return super().get_command(ctx, name)


@click.group(cls=_Group, context_settings=HELP_NAMES)
def cli() -> None:
    """Register Cliff: look inside Triton kernels that die in ptxas, on a machine with or without a GPU."""


@cli.command("compile")
@spec_argument
@choice_options(many=False)
@click.option("--json", "as_json", is_flag=True, help="print the whole CompileReport as JSON")
def compile_command(spec: Path | None, as_json: bool, **options) -> None:
    """Compile one configuration of the extend kernel and print its CompileReport. Defaults: the incident.

    SPEC is a KernelSpec in JSON, of any kernel, as `spec` and `capture` write them; its file runs in a worker process.
    """
    report = compile_request(request_of(spec, options))
    if as_json:
        echo_json(report.to_dict())
    elif report.status != "toolchain_missing":
        click.echo(format_report(report))
    if report.status == "toolchain_missing":
        raise UserError(report.message)


def format_report(report: CompileReport) -> str:
    """A report as aligned lines of text."""
    lines = {
        "spec": report.label,
        "arch": report.arch,
        "toolchain": f"Triton {report.triton_version}, ptxas {report.ptxas_version or '(not reached)'}",
        "status": f"{report.status}: {EXPLANATIONS[report.status]}",
    }
    if report.compiled or report.status.startswith("out_of"):
        lines["registers"] = f"{report.regs_per_thread} per thread (cap 255)"
        if report.compiled and not report.launchable:
            lines["launch"] = (
                f"cannot be launched: {report.num_warps} warps leave {report.register_cap} registers a thread, "
                f"and it was given {report.regs_per_thread}; use fewer warps or a lower maxnreg"
            )
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
    for stage in ("ptx", "ttgir", "cubin", "log"):
        if path := getattr(report, f"{stage}_path"):
            lines[stage.upper() if stage in ("ptx", "ttgir") else stage] = path
    lines["time"] = f"{report.wall_s:.2f} s{' (from the cache)' if report.cached else ''}"
    return "\n".join(f"{name + ':':<14}{text}" for name, text in lines.items())


@cli.command("matrix")
@specs_argument
@choice_options(many=True)
@click.option(
    "--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="also write all columns to this CSV file"
)
@click.option("--dask", "dask_address", metavar="ADDRESS", help="compile on the Dask cluster at tcp://host:8786")
@click.option("--json", "as_json", is_flag=True, help="print the CompileReports as JSON")
@click.option("--quiet", is_flag=True, help="no progress bar")
def matrix_command(
    specs: tuple[Path, ...], csv_path: Path | None, dask_address: str | None, as_json: bool, quiet: bool, **options
) -> None:
    """Compile every combination of the values given (comma-separated) and print a table.

    Each SPEC is a file of KernelSpecs in JSON, of any kernel, compiled under every --arch, --triton and --ptxas.
    With --dask the workers of that cluster compile; each needs this project and its toolchains (say, a shared folder).
    """
    requests = requests_of(specs, options)
    if csv_path is not None:
        check_writable(csv_path)  # before the compiles, not after
    from helpers.commands.dask_ import dask_executor

    with dask_executor(dask_address) as executor:
        reports = run_with_progress(requests, quiet=quiet, executor=executor)
    from helpers.show.reports import reports_table

    if as_json:
        echo_json([r.to_dict() for r in reports])
    else:
        click.echo(reports_table(reports).astype(object).fillna("").to_string(index=False))
    if csv_path is not None:
        from helpers.files import write_text_atomically

        try:
            write_text_atomically(csv_path, reports_table(reports, columns=None).to_csv(index=False))
        except OSError as exc:
            raise UserError(f"cannot write {csv_path}: {exc.strerror or exc}") from exc
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing and len(missing) == len(reports):
        raise UserError(missing[0].message)


@cli.command("ablate")
@spec_argument
@choice_options(many=False)
@click.option("--hold", metavar="NAME,…", help="changes the search may not use (default: tile, launch and problem)")
@click.option("--json", "as_json", is_flag=True, help="print `rungs`, `necessary` and the sets found as JSON")
def ablate_command(spec: Path | None, hold: str | None, as_json: bool, **options) -> None:
    """Take one ingredient away at a time from a failing or spilling configuration; find what is necessary.

    SPEC is a KernelSpec in JSON, of any kernel (its file runs in a worker process): constexprs, launch options and
    ptxas levels are what is changed. Without it, the options spell out a configuration of the extend kernel.
    """
    from helpers.workbook.root_cause.ladder import ablate_command_result, format_ablation

    held = None if hold is None else [name.strip() for name in hold.split(",") if name.strip()]
    result = ablate_command_result(request_of(spec, options), hold=held)
    show_result(result, as_json, format_ablation)


@cli.command("bisect")
@spec_argument
@choice_options(many=False)
@click.option("--axis", type=click.Choice(["triton", "ptxas"]), default="triton", show_default=True)
@click.option("--install", is_flag=True, help="fetch the versions that the search needs")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def bisect_command(spec: Path | None, axis: str, install: bool, as_json: bool, **options) -> None:
    """Find the first Triton (or ptxas) on which a configuration compiles, or stops to, with the fewest installs.

    SPEC is a KernelSpec in JSON, of any kernel (its file runs in a worker process); without it, the options spell out
    a configuration of the extend kernel.
    """
    from helpers.workbook.root_cause.ladder import bisect_command_result, format_bisection

    result = bisect_command_result(request_of(spec, options), axis=axis, install=install)
    show_result(result, as_json, format_bisection)


@cli.command("gate")
@click.argument("specs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--baseline", required=True, type=click.Path(dir_okay=False, path_type=Path), help="CSV to hold to")
@click.option("--arch", "archs", default="sm_100a", show_default=True, metavar="ARCH,…")
@click.option("--triton", default=INCIDENT_TRITON, show_default=True)
@click.option("--ptxas", default=BUNDLED, show_default=True)
@click.option("--write", is_flag=True, help="write the baseline instead of comparing with it")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def gate_command(specs, baseline, archs, triton, ptxas, write, as_json) -> int:
    """Recompile KernelSpecs (JSON files) and exit 1 on a new crash, more spill bytes or a lost tensor-core path.

    Spills are also weighed by the loops they sit in, as the SASS shows them: as many bytes in deeper loops fail too.
    """
    from helpers.compiler.disassemble import spill_weight
    from helpers.compiler.kernel_spec import read_specs
    from helpers.compiler.toolchain import Toolchain
    from helpers.workbook.root_cause.ladder import format_gate, gate_command_result

    names = [name.strip() for name in archs.split(",")]
    result = gate_command_result(
        read_specs(specs), names, baseline,
        toolchain=Toolchain(triton, ptxas), write=write, spill_weight=spill_weight,
    )  # fmt: skip
    show_result(result, as_json, format_gate)
    return int(result["exit_code"])


@cli.command("pressure")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def pressure_command(file: Path, as_json: bool) -> None:
    """Show the demand on registers along any PTX file, by source line where it knows; assembles nothing."""
    from helpers.diagnosis.pressure import format_pressure, pressure_report
    from helpers.files import read_text_bounded

    ptx = read_text_bounded(file, MAX_PTX_BYTES, "the PTX", errors="replace")
    show_result(pressure_report(ptx), as_json, format_pressure)


@cli.command("bench")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="throughput.csv", show_default=True,
              help="CSV file; rows are appended when it is there")  # fmt: skip
@click.option(
    "--peers", type=click.Path(file_okay=False, path_type=Path), help="what benchmarks/fetch_peers.py fetched"
)
@click.option("--cases", help="cases or groups, comma-separated (sliding, 'sliding fp8', table, ragged, …)")
@click.option("--variants", help="only variants whose name contains one of these, comma-separated")
@click.option("--quick", is_flag=True, help="only the five cases of the table")
@click.option("--json", "as_json", is_flag=True, help="print the rows as JSON")
def bench_command(
    out: Path, peers: Path | None, cases: str | None, variants: str | None, quick: bool, as_json: bool
) -> None:
    """Time the kernels and their peers on this machine's GPU; rows with provenance are appended to a CSV file.

    Compiles in this process; benchmarks/record_throughput.py compiles ahead in parallel and survives a crash.
    """
    from dataclasses import asdict

    from helpers.attention import bench
    from helpers.attention.peers import select_variants

    wanted = [name.strip() for name in cases.split(",")] if cases else None
    chosen_cases, chosen_variants = bench.bench_cases(wanted, quick=quick), select_variants(variants, peers)
    check_writable(out)
    bench.require_gpu()
    if not out.is_file():
        bench.write_rows(out, [], comments=["Throughput, recorded by `python -m helpers bench`"])

    def keep(row) -> None:
        bench.write_rows(out, [row], append=True)
        if not as_json:
            speed = f"{row.tflops:8.1f} TFLOP/s" if row.tflops else f"{row.status}: {row.reason[:80]}"
            click.echo(f"{row.case:<28}{row.variant:<26}{speed}")

    words = f"python -m helpers bench --out {out.name}" + (" --quick" if quick else "")
    rows = bench.main_rows(chosen_cases, chosen_variants, peers=peers, command=words, emit=keep)
    if as_json:
        echo_json([asdict(row) for row in rows])


@cli.group("toolchains", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
@click.pass_context
def toolchains_command(ctx: click.Context, as_json: bool) -> None:
    """List the Tritons and ptxas releases on this machine, or install more (`toolchains install 3.5.1`)."""
    if ctx.invoked_subcommand:
        return
    from helpers.compiler import toolchain as tc

    here = tc.environment_triton()
    tritons = tc.installed_tritons()
    ptxas = tc.installed_ptxas()
    listing = {
        "folder": str(tc.toolchains_root()),
        "environment_triton": here[0] if here else None,
        "triton": [{"version": v, "path": str(tc.resolve_triton(v)[1])} for v in tritons],
        "ptxas": [{"version": v, "path": str(p)} for v, p in ptxas.items()],
        "known_triton": list(tc.KNOWN_TRITONS),
        "known_ptxas": list(tc.KNOWN_PTXAS),
    }
    if as_json:
        echo_json(listing)
        return
    click.echo(f"toolchain folder: {listing['folder']}")
    click.echo(
        "Triton on hand:   "
        + (", ".join(v + (" (environment)" if here and v == here[0] else "") for v in tritons) or "none")
    )
    click.echo(f"ptxas on hand:    {', '.join(ptxas) or 'none'}")
    click.echo(f"can be fetched:   Triton {', '.join(v for v in tc.KNOWN_TRITONS if v not in tritons)}")
    click.echo(f"                  ptxas {', '.join(v for v in tc.KNOWN_PTXAS if v not in ptxas)}")
    click.echo("fetch with:       python -m helpers toolchains install 3.5.1 ptxas==12.9.86")


@toolchains_command.command("install")
@click.argument("versions", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def install_command(versions: tuple[str, ...], as_json: bool) -> None:
    """Fetch Triton (`3.5.1`) or ptxas (`ptxas==12.9.86`) releases through pip into the cache folder."""
    from helpers.compiler import toolchain as tc

    for version in versions:  # all readable before any is fetched
        tc.parse_request(version)
    done = []
    for version in versions:
        kind, number = tc.parse_request(version)
        there = tc.is_installed(kind, number)
        if not as_json:
            click.echo(f"{kind} {number}: {'already installed' if there else 'fetching'}", err=True)
        done.append(
            {"kind": kind, "version": number, "path": str(tc.install(version, quiet=as_json)), "fetched": not there}
        )
    if as_json:
        echo_json(done)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit code 0 when it did its job, 2 on bad input with one line on stderr."""
    # A warning is a sentence for the reader, not a place in our source.
    warnings.showwarning = lambda message, *_rest, **_more: click.echo(f"warning: {message}", err=True)
    try:
        code = cli.main(args=argv, prog_name="python -m helpers", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message())
        return 2
    except click.ClickException as exc:
        click.echo(f"error: {' '.join(exc.format_message().split())}", err=True)
        return 2
    except UserError as exc:
        click.echo(f"error: {' '.join(str(exc).split())}", err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was finished is in the cache", err=True)
        return 130
    except (BrokenPipeError, SystemExit):
        # `… | head` has seen enough (click turns that into an exit of its own). What Python still holds back
        # must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())

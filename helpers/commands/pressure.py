"""The verb `pressure`: demand on registers by source line, of a PTX that failed or not."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from helpers.commands.line.common import ARCH_DEFAULT, TRITON_OF_SPEC, assumed_for, toolchain_of
from helpers.commands.line.given import FOLDER, LOG, PTX, SPEC, read_text, recognise, spec_path
from helpers.commands.line.grammar import ARGUMENTS, GIVEN, Verb, shared
from helpers.commands.line.output import command_line, show_result
from helpers.errors import UserError


@click.command("pressure", cls=Verb, examples=("register-cliff pressure crash.ptx",
                                               "register-cliff pressure spec.json --arch B200"))  # fmt: skip
@click.argument("file", type=GIVEN, metavar="FILE", panel=ARGUMENTS,
                help="a PTX (also .ptx.gz), a KernelSpec in JSON, a log that prints a PTX, or - for stdin")  # fmt: skip
@shared("trust_root")
@shared("arch", "triton", "time_limit", arch=ARCH_DEFAULT, triton=TRITON_OF_SPEC)
@shared("json", "quiet")
def pressure_command(file: Path, as_json: bool, quiet: bool, **options) -> None:
    """Show the demand on registers along a PTX, by source line where it knows; assembles nothing.

    A PTX is only read. Of a spec the PTX is made first (its file runs in a worker process), with --arch and --triton;
    a PTX of it that ptxas dies on is as good as any.
    """
    from helpers.diagnosis.pressure import format_pressure, pressure_report

    given = recognise(file)
    if given.kind in (SPEC, FOLDER):
        ptx = ptx_of_spec(spec_path(file), options)
    else:
        ptx = read_text(given, wants="a PTX or a spec", kinds=(PTX, LOG))
        if given.kind == LOG:
            ptx = ptx_of_log(ptx, file)
        elif options["arch"] or options["triton"]:
            flag = "--arch" if options["arch"] else "--triton"
            raise UserError(f"{flag} says what a spec is compiled for, and {file} is a PTX already: leave it away")
    result = pressure_report(ptx)
    show_result(result, as_json, format_pressure, next_step(result, file, given.kind))


def ptx_of_spec(spec: Path, options: dict) -> str:
    """The PTX that Triton makes of a spec, whether ptxas takes it or not; raises UserError where there is none."""
    from helpers.compiler.compile import compile_kernel
    from helpers.compiler.kernel_spec import read_specs
    from helpers.compiler.report import refuse_ill

    (first, *others) = read_specs([spec])
    if others:
        raise UserError(f"{spec} holds {len(others) + 1} specs; this takes one at a time")
    arch, toolchain = toolchain_of({**options, **assumed_for(spec, options)})
    report = compile_kernel(first, arch, toolchain, timeout_s=options["timeout_s"])
    if report.ptx_path is None:
        refuse_ill([report])
        said = report.message.strip().splitlines()[-1:] or [report.status]
        raise UserError(f"no PTX came out of {spec} ({report.status}): {said[0][:400]}")
    return Path(report.ptx_path).read_text()


def ptx_of_log(text: str, file: Path) -> str:
    """The PTX that a log prints; raises UserError where it prints none."""
    from helpers.inspection.crash.crash_log import parse_crash_log

    if ptx := parse_crash_log(text).ptx:
        return ptx
    raise UserError(f"the log {file} prints no PTX; {command_line('diagnose', file)} says what it shows")


def next_step(result: dict, file: Path, kind: str) -> str | None:
    """The command to go on with; None where everything fits."""
    if result["demand"] <= result["cap"] or str(file) == "-":
        return None
    if kind in (SPEC, FOLDER):
        return f"{command_line('try', file)} ranks edits that make it compile"
    verb = "report" if kind == LOG else "minimize"
    return (
        f"{command_line(verb, file)} {'packs it for an issue' if kind == LOG else 'finds the smallest PTX that fails'}"
    )

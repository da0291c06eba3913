"""The verb `matrix`: every combination of the values given, compiled and told as a table."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from helpers.commands.line.common import WORTH_TRYING, choice_options, choices_of, requests_of, specs_argument
from helpers.commands.line.grammar import Verb, own_option, shared
from helpers.commands.line.output import (
    check_writable,
    command_line,
    echo_json,
    kept_elsewhere,
    say,
    trust_words,
    write_result,
)
from helpers.commands.line.progress import progress
from helpers.compiler.compile import compile_matrix
from helpers.compiler.report import CompileReport, refuse_ill
from helpers.errors import UserError
from helpers.hardware import AMD_ARCHS


@click.command(
    "matrix", cls=Verb, examples=("register-cliff matrix --tile 64x64,128x64 --window none,1024 --csv rows.csv",
                                  "register-cliff matrix specs --arch H100,B200"),
)  # fmt: skip
@specs_argument()
@own_option("--dask", "dask_address", metavar="ADDRESS", help="compile on the Dask cluster at tcp://host:8786")
@choice_options(many=True, amd=True)
@shared("csv", "force", "json", "quiet")
def matrix_command(
    specs: list[Path], csv_path: Path | None, dask_address: str | None, as_json: bool, quiet: bool, force: bool,
    **options,
) -> None:  # fmt: skip
    """Compile every combination of the values given (comma-separated) and print a table.

    Each SPEC is a file of KernelSpecs in JSON, of any kernel, or a folder of such files, as `capture` makes it; all are
    compiled under every --arch, --triton and --ptxas.
    With --dask the workers of that cluster compile; each needs this project and its toolchains (say, a shared folder).
    """
    requests = requests_of(specs, options)
    if csv_path is not None:
        check_writable(csv_path)  # before the compiles, not after
    from helpers.commands.line.dask_ import dask_executor

    with dask_executor(dask_address) as executor, progress("compiling", len(requests)) as bar:
        reports = compile_matrix(requests, executor=executor, progress=bar.compiled)
    from helpers.show.reports import reports_table

    answered = [report for report in reports if report.status != "environment_error"]
    unwritten = ""
    # Before the table: whoever reads that may leave early.
    if csv_path is not None and len(answered) == len(reports):
        write_result(csv_path, reports_table(reports, columns=None).to_csv(index=False))
    elif csv_path is not None:
        # A row of the moment in a file would be taken for a fact, and a file that is there would stop the next run.
        kept = kept_elsewhere(csv_path, reports_table(answered, columns=None).to_csv(index=False)) if answered else None
        unwritten = f"{csv_path} was not written" + (
            f", the rows that have an answer are in {kept}: " if kept else ": "
        )
    if as_json:
        echo_json([r.to_dict() for r in reports])
    else:
        say(reports_table(reports).astype(object).fillna("").to_string(index=False))
        if step := next_step(specs, options, reports):
            say(f"\nnext: {step}")
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing and len(missing) == len(reports):
        raise UserError(missing[0].message)
    refuse_ill(reports, before=unwritten)


def next_step(specs: list[Path], options: dict, reports: list[CompileReport]) -> str | None:
    """The command that looks for a way out of the first failure; None where nothing fails."""
    failed = (i for i, r in enumerate(reports) if r.status in WORTH_TRYING and r.arch not in AMD_ARCHS)
    at = next(failed, None)
    if at is None:
        return None
    if not specs:
        command = choices_of(options)[at].command().replace(" compile ", " try ", 1)
        return f"{command} ranks edits that make it compile"
    # A file may hold many specs, so of several only the label says which failed.
    file = specs[0] if len(specs) == 1 else "SPEC"
    words = command_line(
        "try", file, "--arch", reports[at].arch, "--triton", reports[at].triton_version or "environment", *trust_words()
    )
    return words + (
        " ranks edits" if len(specs) == 1 else f", with the file of {reports[at].label} for SPEC, ranks edits"
    )

"""The verb `matrix`: every combination of the values given, compiled and told as a table."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import (
    Verb,
    check_writable,
    choice_options,
    echo_json,
    requests_of,
    run_with_progress,
    specs_argument,
)
from helpers.errors import UserError


@click.command("matrix", cls=Verb)
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

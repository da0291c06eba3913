"""`report`: one zip that reproduces a failure with nothing but a ptxas, and an issue text beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from helpers.attention.ladder import ladder_of
from helpers.commands.common import Verb, check_writable, choice_options, request_of, show_result
from helpers.errors import UserError

if TYPE_CHECKING:
    from helpers.bundle.material import Source


@click.command("report", cls=Verb)
@click.argument("source", required=False, metavar="[SPEC|LOG|PTX]",
                type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))  # fmt: skip
@choice_options(many=False)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default="report.zip", show_default=True,
              help="the zip; the issue text is written beside it as NAME.issue.md")  # fmt: skip
@click.option("--withhold-source", is_flag=True, help="no source, IR, spec or line info; names in the PTX are replaced")
@click.option("--minimize", "minimize_s", type=click.FloatRange(0, 86_400), default=0.0, metavar="SECONDS",
              help="also look for a smaller PTX, for at most so long")  # fmt: skip
@click.option("--allow-unreproduced", is_flag=True, help="write it although nothing fails again; it then says so")
@click.option("--json", "as_json", is_flag=True, help="print what was written as JSON")
def report_command(
    source: Path | None,
    out: Path,
    withhold_source: bool,
    minimize_s: float,
    allow_unreproduced: bool,
    as_json: bool,
    **options,
) -> None:
    """Pack a failure into one zip to attach to an issue, and the issue's text beside it.

    SPEC is a KernelSpec in JSON (its kernel file runs in a worker process), PTX and LOG are read only (- reads from
    stdin); without one, the options spell out a configuration of the extend kernel. Before it is written, the zip's own
    repro.sh is run in an empty folder and must fail as recorded.
    """
    from helpers.bundle.report import report

    if source is None:
        what: Source = request_of(None, options)
    else:
        _only_of_any_kernel(source, options)
        what = source
    check_writable(out)
    bundle = report(
        what,
        out,
        withhold_source=withhold_source,
        allow_unreproduced=allow_unreproduced,
        arch=_one(options["arch"]),
        triton=_one(options["triton"]),
        ptxas=_one(options["ptxas"]),
        ptxas_flags=options["ptxas_flags"],
        minimize_s=minimize_s,
        ladder_of=ladder_of,
        say=None if as_json else lambda words: click.echo(f"… {words}", err=True),
    )
    show_result(bundle.to_dict(), as_json, lambda _result: bundle.text())


def _one(values: list | None) -> str | None:
    return values[0] if values else None


def _only_of_any_kernel(source: Path, options: dict) -> None:
    """Raise UserError for an option of the extend kernel beside a file: it would change nothing."""
    useful = {"arch", "triton", "ptxas", "ptxas_flags", "timeout_s"}
    plain = (None, False, ())
    given = [n for n, v in options.items() if n not in useful and v not in plain]
    if given:
        raise UserError(
            f"--{given[0].replace('_', '-')} is for the extend kernel, and {source} says what failed: leave one away"
        )

"""The verb `pressure`: demand on registers by source line, of a PTX that failed or not."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import Verb, show_result


@click.command("pressure", cls=Verb)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def pressure_command(file: Path, as_json: bool) -> None:
    """Show the demand on registers along any PTX (FILE, or - for stdin), by source line where it knows.

    It assembles nothing."""
    from helpers.diagnosis.pressure import format_pressure, pressure_report
    from helpers.files import MAX_TEXT_BYTES, read_text_bounded

    ptx = read_text_bounded(file, MAX_TEXT_BYTES, "the PTX", hint="name a .ptx or .ptx.gz, or - for what is piped in")
    show_result(pressure_report(ptx), as_json, format_pressure)

"""`diagnose`: what a crash log says, what helps, and what a bug report needs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from helpers.commands.common import Verb, echo_json
from helpers.errors import UserError
from helpers.files import STDIN, read_bounded

# A bundle of CI logs has a few megabytes; the failure stands near the end.
MAX_BYTES = 20_000_000


@click.command("diagnose", cls=Verb)
@click.argument("file", type=click.Path(dir_okay=True, path_type=Path, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="print the whole diagnosis as JSON")
def diagnose_command(file: Path, as_json: bool) -> None:
    """Read a crash log (FILE, or - for stdin): the kind of failure, what helps, what to attach and where to report.

    Takes a Python traceback with or without line breaks, ptxas's stderr, Triton's printed PTX, CI output. Nothing in it
    is run, and no file it names is opened.
    """
    from helpers.diagnosis.diagnose import diagnose
    from helpers.inspection.crash.pasted_text import clean_text

    if file == STDIN and sys.stdin.isatty():
        click.echo("paste the log, then press Ctrl-D", err=True)
    read = read_bounded(file, MAX_BYTES, "the log", both_ends=True, hint="name a log file, or - for what is piped in")
    text, left_out = read.text(), read.left_out
    if clean_text(text[:100_000]).binary:
        raise UserError(f"{file} holds binary data, not the text of a log; name the log file, or paste its text")
    found = diagnose(text)
    cut = f"{left_out:,} bytes in the middle were not read: {MAX_BYTES:,} at most are" if left_out else None
    if as_json:
        result = found.to_dict()
        echo_json({**result, "notes": [*result["notes"], *([cut] if cut else [])]})
    else:
        click.echo(found.text() + (f"\nnote: {cut}" if cut else ""))

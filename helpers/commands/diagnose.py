"""`diagnose`: what a crash log says, what helps, and what a bug report needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.commands.line.given import CUBIN, FOLDER, PROGRAM, PTX, PYTHON, SPEC, ZIP, recognise, refused
from helpers.commands.line.grammar import ARGUMENTS, GIVEN, Verb, shared
from helpers.commands.line.output import command_line, echo_json, has_terminal, say
from helpers.errors import UserError
from helpers.files import STDIN, read_bounded

if TYPE_CHECKING:
    from helpers.diagnosis.diagnosis import Diagnosis

# A bundle of CI logs has a few megabytes; the failure stands near the end.
MAX_BYTES = 20_000_000


@click.command("diagnose", cls=Verb, examples=("register-cliff diagnose crash.log",
                                               "python serve.py 2>&1 | register-cliff diagnose -"))  # fmt: skip
@click.argument("file", type=GIVEN, metavar="FILE", panel=ARGUMENTS, help="a crash log (also .gz), or - for stdin")
@shared("json", "quiet")
def diagnose_command(file: Path, as_json: bool, quiet: bool) -> None:
    """Read a crash log: the kind of failure, what helps, what to attach and where to report it.

    Takes a Python traceback with or without line breaks, ptxas's stderr, Triton's printed PTX, CI output. Nothing in it
    is run, and no file it names is opened.
    """
    from helpers.diagnosis.diagnose import diagnose
    from helpers.inspection.crash.pasted_text import clean_text

    given = recognise(file)
    if given.kind in (SPEC, PTX, PYTHON, FOLDER, CUBIN, PROGRAM, ZIP):
        raise refused(given, wants="a crash log")
    if file == STDIN and has_terminal():
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
        say(found.text() + (f"\nnote: {cut}" if cut else ""))
        if step := next_step(found, file):
            say(f"\nnext: {step}")


def next_step(found: Diagnosis, file: Path) -> str | None:
    """The command to go on with after a diagnosis; None where no failure was found."""
    if found.log.first is None:
        return None
    if found.log.ptx is not None and str(file) != "-":
        return f"{command_line('report', file)} packs the log and its PTX for an issue"
    return "register-cliff capture -o specs -- python PROGRAM.py records the kernel, to compile it again without a GPU"

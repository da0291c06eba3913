"""`diagnose`: what a crash log says, what helps, and what a bug report needs."""

from __future__ import annotations

import re
from pathlib import Path

import rich_click as click

from helpers.commands.line.given import CUBIN, FOLDER, PROGRAM, PTX, PYTHON, SPEC, ZIP, recognise, refused
from helpers.commands.line.grammar import ARGUMENTS, GIVEN, Verb, own_option, shared
from helpers.commands.line.output import echo_json, has_terminal, say, warn
from helpers.errors import UserError
from helpers.files import STDIN, read_bounded

# A bundle of CI logs has a few megabytes; the failure stands near the end.
MAX_BYTES = 12_000_000
# Where a failure is told in the middle of more than that, what stands around it is read all the same.
TELLING = re.compile(
    rb"ptxas ?(?:fatal|error)|PTXAS ?[Ee]rror|\(C7[0-9]{3}\)|Register allocation failed|OutOfResources|out of resource"
    rb"|LLVM ERROR|PassManager::run failed|Traceback \(most recent call last\)"
)


@click.command("diagnose", cls=Verb, examples=("register-cliff diagnose crash.log",
                                               "python serve.py 2>&1 | register-cliff diagnose -"))  # fmt: skip
@click.argument("file", type=GIVEN, metavar="FILE", panel=ARGUMENTS, help="a crash log (also .gz), or - for stdin")
@own_option("--verbose", is_flag=True, help="add the evidence of each claim, and the text each fact came from")
@shared("json", "quiet")
def diagnose_command(file: Path, verbose: bool, as_json: bool, quiet: bool) -> None:
    """Read a crash log: the kind of failure, what helps, what to attach and where to report it.

    Takes a Python traceback with or without line breaks, ptxas's stderr, Triton's printed PTX, CI output. Nothing in it
    is run, and no file it names is opened.
    """
    from helpers.diagnosis.diagnose import diagnose
    from helpers.diagnosis.diagnosis import as_text
    from helpers.inspection.crash.pasted_text import clean_text

    given = recognise(file)
    if given.kind in (SPEC, PTX, PYTHON, FOLDER, CUBIN, PROGRAM, ZIP):
        raise refused(given, wants="a crash log")
    if file == STDIN and has_terminal():
        warn("paste the log, then press Ctrl-D")
    read = read_bounded(
        file, MAX_BYTES, "the log", both_ends=True, telling=TELLING, hint="name a log file, or - for what is piped in"
    )
    text, left_out = read.text(), read.left_out
    if clean_text(text[:100_000]).binary:
        raise UserError(f"{file} holds binary data, not the text of a log; name the log file, or paste its text")
    found = diagnose(text)
    cut = f"{left_out:,} bytes in the middle were not read: {MAX_BYTES:,} at most are" if left_out else None
    if as_json:
        result = found.to_dict()
        echo_json({**result, "notes": [*result["notes"], *([cut] if cut else [])]})
    else:
        say(as_text(found, verbose) + (f"\nnote: {cut}" if cut else ""))

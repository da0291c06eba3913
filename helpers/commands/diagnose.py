"""`diagnose`: what a crash log says, what helps, and what a bug report needs."""

from __future__ import annotations

import gzip
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import rich_click as click

from helpers.commands.given import CUBIN, FOLDER, PROGRAM, PTX, PYTHON, SPEC, ZIP, recognise, refused
from helpers.commands.grammar import ARGUMENTS, GIVEN, Verb, shared
from helpers.commands.output import command_line, echo_json, has_terminal, say
from helpers.errors import UserError

if TYPE_CHECKING:
    from helpers.diagnosis.diagnosis import Diagnosis

# A bundle of CI logs has a few megabytes; the failure stands near the end.
MAX_BYTES = 20_000_000
_CHUNK = 1 << 20


def read_bounded(stream: BinaryIO, limit: int) -> tuple[bytes, int]:
    """(what is kept of a stream, how many bytes were left out): the first and the last half of `limit`."""
    half = limit // 2
    head = bytearray()
    while len(head) < half and (chunk := stream.read(min(_CHUNK, half - len(head)))):
        head += chunk
    tail, total = bytearray(), len(head)
    while chunk := stream.read(_CHUNK):
        total += len(chunk)
        tail += chunk
        if len(tail) > half + 4 * _CHUNK:
            del tail[: len(tail) - half]
    del tail[: max(0, len(tail) - half)]
    left_out = total - len(head) - len(tail)
    return bytes(head) + (b"\n" if left_out else b"") + bytes(tail), left_out


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
    from helpers.inspection.crash.pasted_text import clean_text, decode_log

    given = recognise(file)
    if given.kind in (SPEC, PTX, PYTHON, FOLDER, CUBIN, PROGRAM, ZIP):
        raise refused(given, wants="a crash log")
    data, left_out = _read(file)
    text = decode_log(data)
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


def _read(file: Path) -> tuple[bytes, int]:
    if str(file) == "-":
        if has_terminal():
            click.echo("paste the log, then press Ctrl-D", err=True)
        return read_bounded(sys.stdin.buffer, MAX_BYTES)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is no ordinary file" if file.exists() else "is not there"
        raise UserError(f"{file} {what}; name a log file, or - to read what is piped in")
    try:
        with file.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            return read_bounded(gzip.GzipFile(fileobj=stream) if packed else stream, MAX_BYTES)
    except (OSError, EOFError, zlib.error) as exc:
        raise UserError(
            f"cannot read {file}: {getattr(exc, 'strerror', None) or exc}; name a log file, or - for stdin"
        ) from exc

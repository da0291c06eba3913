"""`diagnose`: what a crash log says, what helps, and what a bug report needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from helpers.commands.common import Verb, echo_json
from helpers.errors import UserError

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


@click.command("diagnose", cls=Verb)
@click.argument("file", type=click.Path(dir_okay=True, path_type=Path, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="print the whole diagnosis as JSON")
def diagnose_command(file: Path, as_json: bool) -> None:
    """Read a crash log (FILE, or - for stdin): the kind of failure, what helps, what to attach and where to report.

    Takes a Python traceback with or without line breaks, ptxas's stderr, Triton's printed PTX, CI output. Nothing in it
    is run, and no file it names is opened.
    """
    from helpers.diagnosis.diagnose import diagnose
    from helpers.inspection.crash.pasted_text import clean_text, decode_log

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
        click.echo(found.text() + (f"\nnote: {cut}" if cut else ""))


def _read(file: Path) -> tuple[bytes, int]:
    if str(file) == "-":
        if sys.stdin.isatty():
            click.echo("paste the log, then press Ctrl-D", err=True)
        return read_bounded(sys.stdin.buffer, MAX_BYTES)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is no ordinary file" if file.exists() else "is not there"
        raise UserError(f"{file} {what}; name a log file, or - to read what is piped in")
    try:
        with file.open("rb") as stream:
            return read_bounded(stream, MAX_BYTES)
    except OSError as exc:
        raise UserError(f"cannot read {file}: {exc.strerror or exc}; name a log file, or - for stdin") from exc

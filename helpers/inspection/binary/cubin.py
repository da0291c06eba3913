"""Cubins: register counts as the ELF states them, a copy that nvdisasm reads, and nvdisasm itself, run within limits.

nvdisasm refuses a cubin whose kernel takes all 255 registers ("Invalid register count"); in a copy that says 254 it
reads the same instructions. Life ranges and line numbers cannot be had in one run (`-lrm` ignores `-g`), so there are
two, joined by instruction offset in sass.py. Formats differ between releases: a cubin of ptxas 12.x is read by 12.8's
nvdisasm, one of 13.x by 13.1's; `disassemble` takes the first program that can.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Disassembly", "disassemble", "readable_copy", "register_counts"]

MAX_REGISTERS = 254
"""The most registers that nvdisasm accepts."""
TIMEOUT_S = 60.0
MAX_TEXT_BYTES = 200_000_000
# .nv.info holds attributes: format byte, number, size, value. EIATTR_REGCOUNT's value is (symbol, registers).
_EIFMT_SVAL, _EIATTR_REGCOUNT = 0x04, 0x2F
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


@dataclass(frozen=True)
class Disassembly:
    """What nvdisasm said of a cubin: text with life ranges, text with line numbers, and the program that read it.

    `problem` is empty, or one sentence on why there is no text.
    """

    life_ranges: str
    lines: str
    program: str
    problem: str = ""


def readable_copy(cubin: bytes) -> bytes:
    """The cubin with register counts above 254 stated as 254: for reading only, never to be loaded."""
    copy = bytearray(cubin)
    for at, _, count in register_counts(cubin):
        if count > MAX_REGISTERS:
            struct.pack_into("<I", copy, at, MAX_REGISTERS)
    return bytes(copy)


def register_counts(cubin: bytes) -> Iterator[tuple[int, int, int]]:
    """(position, symbol of the function, registers per thread) of each count in .nv.info; none for other bytes."""
    for offset, size in _sections(cubin, ".nv.info"):
        at, end = offset, offset + size
        while at + 4 <= end:
            form, number, length = cubin[at], cubin[at + 1], struct.unpack_from("<H", cubin, at + 2)[0]
            if form == _EIFMT_SVAL:
                if number == _EIATTR_REGCOUNT and length == 8 and at + 12 <= end:
                    symbol, count = struct.unpack_from("<II", cubin, at + 4)
                    yield at + 8, symbol, count
                at += 4 + length
            else:
                at += 4  # the value is in the two bytes where the others have their length


def _sections(cubin: bytes, name: str) -> Iterator[tuple[int, int]]:
    """(offset, size) of the sections of that name, as far as they lie within the bytes."""
    if len(cubin) < _ELF_HEADER.size or cubin[:5] != b"\x7fELF\x02":
        return
    fields = _ELF_HEADER.unpack_from(cubin)
    table, entry, count, names_at = fields[6], fields[11], fields[12], fields[13]
    if entry < _SECTION.size or table + entry * count > len(cubin) or names_at >= count:
        return
    headers = [_SECTION.unpack_from(cubin, table + entry * n) for n in range(count)]
    strings = headers[names_at][4]
    for header in headers:
        begin = strings + header[0]
        if cubin[begin : begin + len(name) + 1] == name.encode() + b"\0" and header[4] + header[5] <= len(cubin):
            yield header[4], header[5]


def disassemble(cubin: bytes, programs: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> Disassembly:
    """The disassembly by the first of `programs` (nvdisasm releases) that reads the cubin; at most two runs each.

    Nothing is raised: what went wrong is in `problem`.
    """
    problems = []
    with tempfile.TemporaryDirectory(prefix="register-cliff-sass-") as scratch:
        path = Path(scratch) / "kernel.cubin"
        path.write_bytes(readable_copy(cubin))
        for program in programs:
            life, problem = _run([str(program), "-lrm", "count", "-c", path.name], scratch, timeout_s)
            if not problem:
                lines, problem = _run([str(program), "-g", "-c", path.name], scratch, timeout_s)
                if not problem:
                    return Disassembly(life, lines, str(program))
            problems.append(problem)
    return Disassembly("", "", "", "; ".join(dict.fromkeys(problems)) or "no nvdisasm was given")


def _run(argv: list[str], folder: str, timeout_s: float) -> tuple[str, str]:
    """(output, problem) of a program that is killed, children and all, when its time is up."""
    try:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )
            try:
                process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                return "", f"nvdisasm had not finished after {timeout_s:g} s and was stopped"
            finally:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            out.seek(0)
            err.seek(0)
            text = out.read(MAX_TEXT_BYTES).decode(errors="replace")
            if process.returncode or not text:
                words = err.read(10_000).decode(errors="replace").strip().splitlines()
                return "", words[-1] if words else f"nvdisasm ended with exit code {process.returncode}"
            return text, ""
    except OSError as exc:
        return "", f"cannot run {argv[0]}: {exc.strerror or exc}"

"""What a file holds: a log, a PTX, a spec, a Python file, a cubin, an archive; told by content, never by running it."""

from __future__ import annotations

import ast
import json
import re
import shlex
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, head_bytes, read_ordinary

# As much of a file is read to tell what it is; a PTX says so in its first lines, a log near its end at times.
HEAD_BYTES = 256_000
EM_CUDA = 190
FATBIN_MAGIC = 0xBA55ED50  # the first word of a container of device code (fatbinary.h)

LOG, PTX, SPEC, FOLDER, PYTHON, CUBIN, PROGRAM, FATBIN, ARCHIVE, ZIP, EMPTY, TEXT, BINARY = (
    "log", "PTX", "spec", "folder", "Python file", "cubin", "program or library", "fatbin", "archive of object files",
    "zip archive", "empty file", "text", "binary file",
)  # fmt: skip

_COMMENTS = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_COMPLAINT = re.compile(r"^ptxas[^\n]{0,300}(?:fatal|error) *:|^Traceback ", re.MULTILINE)
_SPEC_START = re.compile(r"\s*(?:\[\s*)?\{")
_LOG_SIGNS = re.compile(
    r"^Traceback \(most recent|^\s*File \"[^\"\n]{1,300}\", line \d|\bptxas(?:-blackwell)?\b[^\n]{0,200}"
    r"(?:fatal|error|info|warning)\b|\bPTXASError\b|Repro command|\bRuntimeError\b|\bOutOfResources\b",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Given:
    """What a path holds: its `kind`, and where it lies."""

    kind: str
    path: Path

    @property
    def shown(self) -> str:
        """The path as a shell takes it."""
        return shlex.quote(str(self.path))


def recognise(path: Path) -> Given:
    """What lies at `path`, by content (a .gz is looked into); raises UserError for what cannot be read.

    `-`, a pipe and a device are TEXT: they can be read once, by whoever reads them whole.
    """
    if str(path) == "-":
        return Given(TEXT, path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise UserError(f"{path} is not there; name a file that is, or a folder of captured specs") from exc
    except (OSError, ValueError) as exc:  # a name too long, a folder that is not for us, a NUL
        raise UserError(f"cannot read {str(path)[:200]}: {getattr(exc, 'strerror', None) or exc}") from exc
    if stat.S_ISDIR(mode):
        return Given(FOLDER, path)
    if not stat.S_ISREG(mode):
        return Given(TEXT, path)
    return Given(kind_of(head_of(path), path), path)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is gzip; raises UserError."""
    return head_bytes(path, HEAD_BYTES)


def kind_of(head: bytes, path: Path) -> str:
    """The kind of a file, by its first bytes (unpacked); its name decides only where a Python file has no kernel."""
    if head[:4] == b"\x7fELF":
        return CUBIN if int.from_bytes(head[18:20], "little") == EM_CUDA else PROGRAM
    if head[:4] == FATBIN_MAGIC.to_bytes(4, "little"):
        return FATBIN
    if head[:8] == b"!<arch>\n":
        return ARCHIVE
    if head[:4] == b"PK\x03\x04":
        return ZIP
    if not head.strip():
        return EMPTY
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = head.decode("utf-16" if wide else "utf-8", errors="replace")
    if "\0" in text[:4_000]:
        return BINARY
    if is_ptx(text):
        return PTX
    if _SPEC_START.match(text) and re.search(r'"kernel"\s*:\s*\{', text):
        return SPEC
    if path.suffix == ".py" or ("triton" in text and "jit" in text and _is_python(text)):
        return PYTHON
    return LOG if _LOG_SIGNS.search(text) else TEXT


def is_ptx(text: str) -> bool:
    """Whether a text is PTX and nothing else: its first word is .version, and nobody complains of it."""
    before = _COMMENTS.match(text)
    return text.startswith(".version", before.end() if before else 0) and not _COMPLAINT.search(text)


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def captured_with(path: Path) -> dict:
    """What a spec file says of its capture: arch, triton_version, outcome …; {} for one that was not captured."""
    try:
        if not path.is_file():  # a pipe can be read once
            return {}
        raw = json.loads(read_ordinary(path, MAX_TEXT_BYTES, "the spec file"))
    except (OSError, ValueError, RecursionError):
        return {}
    first = raw[0] if isinstance(raw, list) and raw else raw
    about = first.get("capture") if isinstance(first, dict) else None
    return about if isinstance(about, dict) else {}

"""What a file holds: a log, a PTX, a spec, a Python file, a cubin, an archive; told by content, never by running it."""

from __future__ import annotations

import ast
import gzip
import json
import re
import shlex
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import UserError

# As much of a file is read to tell what it is; a PTX says so in its first lines, a log near its end at times.
HEAD_BYTES = 256_000
MAX_SPEC_BYTES = 64_000_000
EM_CUDA = 190

LOG, PTX, SPEC, FOLDER, PYTHON, CUBIN, PROGRAM, ZIP, EMPTY, TEXT, BINARY = (
    "log", "PTX", "spec", "folder", "Python file", "cubin", "program or library", "zip archive", "empty file",
    "text", "binary file",
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
    if path.is_dir():
        return Given(FOLDER, path)
    if not path.exists():
        raise UserError(f"{path} is not there; name a file that is, or a folder of captured specs")
    if not path.is_file():
        return Given(TEXT, path)
    return Given(kind_of(head_of(path), path), path)


def head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is gzip; raises UserError."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            if head[:2] != b"\x1f\x8b":
                return head
            stream.seek(0)
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return unpacked.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error, ValueError) as exc:
        raise UserError(f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}") from exc


def kind_of(head: bytes, path: Path) -> str:
    """The kind of a file, by its first bytes (unpacked); its name decides only where a Python file has no kernel."""
    if head[:4] == b"\x7fELF":
        return CUBIN if int.from_bytes(head[18:20], "little") == EM_CUDA else PROGRAM
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
        if not path.is_file() or path.stat().st_size > MAX_SPEC_BYTES:  # a pipe can be read once
            return {}
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    first = raw[0] if isinstance(raw, list) and raw else raw
    about = first.get("capture") if isinstance(first, dict) else None
    return about if isinstance(about, dict) else {}

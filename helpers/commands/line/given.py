"""What a verb was given: a log, a PTX, a spec, a folder of specs, a Python file, a cubin; told by content.

`recognise` reads a bounded part of a file and says what it is. A verb that reads such a thing does its job; another one
raises what `refused` makes: a sentence that names the verb that does.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import re
import shlex
import sys
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.errors import UserError

# As much of a file is read to tell what it is; a PTX says so in its first lines, a log near its end at times.
HEAD_BYTES = 256_000
MAX_BYTES = 64_000_000
MAX_PYTHON_BYTES = 2_000_000
MAX_LISTED = 8
MAX_FOLDER_FILES = 20_000
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


GIVEN_SPEC = "a KernelSpec in JSON, as spec and capture write it, or a folder of such files"


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
    return Given(_kind(head_of(path), path), path)


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


def _kind(head: bytes, path: Path) -> str:
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
    return text.startswith(".version", _COMMENTS.match(text).end()) and not _COMPLAINT.search(text)


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


# What reads each kind, as commands; {} is the path.
_READERS = {
    LOG: ("register-cliff diagnose {}",),
    PTX: ("register-cliff pressure {}", "register-cliff minimize {}", "register-cliff report {}"),
    SPEC: ("register-cliff compile {}", "register-cliff try {}"),
}


def refused(given: Given, *, wants: str = "") -> UserError:
    """The error for a thing that a verb does not read: what it is, what the verb `wants`, and which verb reads it.

    Without `wants`, the thing stands where a verb should.
    """
    takes = f"this takes {wants}" if wants else "a verb comes first"
    what = f"{given.path} is {'an' if given.kind[0] in 'aeiou' else 'a'} {given.kind}, and {takes}"
    if given.kind == FOLDER:
        return UserError(f"{what}; {_of_folder(given)}")
    if given.kind == PYTHON:
        return UserError(f"{what}; make a spec of a kernel in it: {spec_command_line(given.path)}")
    if given.kind == CUBIN:
        return UserError(f"{what}; a cubin is compiled already: give the PTX or the spec that it was made from")
    if given.kind == ZIP:
        return UserError(
            f"{what}; unpack it first, or, for a wheel: register-cliff spec --wheel {given.shown} --member …"
        )
    if readers := _READERS.get(given.kind):
        return UserError(f"{what}; {' or '.join(readers).format(*[given.shown] * len(readers))} reads it")
    return UserError(what)


def _of_folder(given: Given) -> str:
    specs = specs_in(given.path)
    if not specs:
        return "it holds no captured specs: register-cliff capture -o FOLDER -- python PROGRAM.py makes such a folder"
    listed = ", ".join(str(path) for path in specs[:MAX_LISTED])
    more = f" and {len(specs) - MAX_LISTED} more" if len(specs) > MAX_LISTED else ""
    return f"name one spec in it ({listed}{more}), or take all: register-cliff matrix {given.shown}"


def spec_command_line(path: Path) -> str:
    """The command that makes a spec of a kernel in a Python file, with the kernels there are."""
    there = kernels_in(path)
    name = there[0] if len(there) == 1 else "NAME"
    listing = f" (kernels there: {', '.join(there[:40]) or 'none'})"
    return f"register-cliff spec --file {shlex.quote(str(path))} --kernel {name} --signature …{listing}"


def kernels_in(path: Path) -> list[str]:
    """Names of the @triton.jit functions in a Python file; [] where there are none or it cannot be read."""
    from helpers.compiler.bring.signature import kernel_names

    try:
        return kernel_names(path)
    except UserError:
        return []


def specs_in(folder: Path) -> list[Path]:
    """The spec files of a folder that can be compiled, failures first; those that capture calls incomplete are not."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.json"))):
        if number >= MAX_FOLDER_FILES:
            break
        if path.name.endswith(".incomplete.json") or not path.is_file():
            continue
        try:
            if _kind(head_of(path), path) == SPEC:
                found.append((captured_with(path).get("outcome") != "failed", path))
        except UserError:
            continue
    return [path for _ok, path in sorted(found)]


def spec_path(path: Path) -> Path:
    """The one spec file that a path stands for: itself, or the only spec of a folder; raises UserError."""
    given = recognise(path)
    if given.kind == FOLDER and len(specs := specs_in(path)) == 1:
        return specs[0]
    if given.kind in (SPEC, TEXT, EMPTY, BINARY):  # of the last three, whoever reads specs says what is wrong
        return path
    raise refused(given, wants="a spec (a KernelSpec in JSON)")


def spec_paths(paths: Iterable[Path]) -> list[Path]:
    """The spec files that paths stand for, every spec of a folder among them; raises UserError."""
    found = []
    for path in paths:
        given = recognise(path)
        if given.kind == FOLDER and (specs := specs_in(path)):
            found += specs
        else:
            found.append(spec_path(path))
    return found


def captured_with(path: Path) -> dict:
    """What a spec file says of its capture: arch, triton_version, outcome …; {} for one that was not captured."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:  # a pipe can be read once
            return {}
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    first = raw[0] if isinstance(raw, list) and raw else raw
    about = first.get("capture") if isinstance(first, dict) else None
    return about if isinstance(about, dict) else {}


def read_text(given: Given, *, wants: str, kinds: Sequence[str]) -> str:
    """The whole text of what was given, unpacked where it is gzip, if it is of one of `kinds`; raises UserError."""
    if given.kind not in (*kinds, TEXT, EMPTY):
        raise refused(given, wants=wants)
    try:
        if str(given.path) == "-":
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with given.path.open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        if content[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as unpacked:
                content = unpacked.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, ValueError) as exc:
        raise UserError(f"cannot read {given.path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if len(content) > MAX_BYTES:
        raise UserError(f"{given.path} has more than {MAX_BYTES} bytes; at most that many are read")
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if wide else "utf-8", errors="replace").replace("\r\n", "\n")

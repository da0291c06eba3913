"""What a path stands for, file by file: cubins, PTX, and the libraries, wheels and folders that hold them."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helpers.compiler.bring.wheels import copy_bounded, safe_members
from helpers.errors import UserError
from helpers.inspection.contents import ARCHIVE, CUBIN, FATBIN, FOLDER, PROGRAM, PTX, ZIP, head_of, kind_of, recognise
from helpers.processes import scratch_folder

__all__ = ["HOLDERS", "Source", "at_hand", "sources"]

HOLDERS = (PROGRAM, ARCHIVE, FATBIN)
"""Kinds of files that hold entries (`helpers.inspection.binary.fatbin`)."""
_KINDS = (CUBIN, PTX, *HOLDERS)
MAX_FILES_WALKED = 1_000_000
# The largest library of device code known here (libtorch_cuda) has less than a third of this.
MAX_MEMBER_BYTES = 8_000_000_000
_HEAD = 4_096
# What a damaged zip raises.
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
# What a wheel's members and a folder's files are called where it is worth looking at their first bytes.
_SUFFIXES = (".so", ".o", ".a", ".cubin", ".fatbin", ".ptx", ".ptx.gz", ".whl", ".pyd", ".bin")


@dataclass(frozen=True)
class Source:
    """One file: its kind, how it is shown, where it lies; `member` where it is in a wheel.

    `problem` says why it is not read. `beside` is the PTX that a cubin was made of, `noted` what Triton noted of it,
    where they lie next to it.
    """

    shown: str
    path: Path
    kind: str
    member: str = ""
    problem: str = ""
    beside: Path | None = None
    noted: Path | None = None
    archive: zipfile.ZipFile | None = None

    def unpacked(self, limit: int) -> bytes:
        """The bytes of a member of a wheel; raises UserError for what cannot be unpacked or has more than `limit`."""
        assert self.archive is not None
        try:
            with self.archive.open(self.member) as file:
                content = file.read(limit + 1)
        except _DAMAGED as exc:
            raise UserError(f"it cannot be unpacked: {exc}") from exc
        if len(content) > limit:
            raise UserError(f"it has more than {limit:,} bytes")
        return content


def sources(paths: Iterable[Path]) -> Iterator[Source]:
    """The files that `paths` stand for, in order; raises UserError for a path that is none of what can be read."""
    for path in paths:
        given = recognise(path)
        if given.kind == FOLDER:
            yield from _in_folder(path)
        elif given.kind == ZIP:
            yield from _in_wheel(path)
        elif given.kind in _KINDS:
            yield _source(path, given.kind)
        else:
            raise UserError(
                f"{path} is {'an' if given.kind[0] in 'aeiou' else 'a'} {given.kind}; give a cubin, a fatbin, a PTX, a "
                "program, a library (.so, .o, .a), a wheel, or a folder with such files"
            )


def _worth_a_look(name: str) -> bool:
    return name.endswith(_SUFFIXES) or ".so." in name


def _in_folder(folder: Path) -> Iterator[Source]:
    seen = 0
    for root, folders, files in os.walk(folder, onerror=None, followlinks=False):
        folders.sort()
        for name in sorted(files):
            seen += 1
            if seen > MAX_FILES_WALKED:
                raise UserError(f"{folder} has more than {MAX_FILES_WALKED:,} files; name a folder in it")
            path = Path(root) / name
            if not _worth_a_look(name) or path.is_symlink() or not path.is_file():
                continue
            if name.endswith(".whl"):
                try:
                    yield from _in_wheel(path)
                except UserError as exc:
                    yield Source(str(path), path, ZIP, problem=str(exc))
                continue
            try:
                kind = kind_of(head_of(path), path)
            except UserError as exc:
                yield Source(str(path), path, "file", problem=str(exc))
                continue
            if kind == PTX and path.with_suffix(".cubin").is_file():
                continue  # told with the cubin that was made of it
            if kind in _KINDS:
                yield _source(path, kind)


def _source(path: Path, kind: str) -> Source:
    if kind != CUBIN:
        return Source(str(path), path, kind)
    return Source(str(path), path, kind, beside=_beside(path, ".ptx"), noted=_beside(path, ".json"))


def _beside(cubin: Path, suffix: str) -> Path | None:
    """The file of the same name and another suffix, as a Triton cache has it."""
    other = cubin.with_suffix(suffix)
    return other if other != cubin and other.is_file() else None


def _in_wheel(wheel: Path) -> Iterator[Source]:
    names = sorted(safe_members(wheel))
    archive = zipfile.ZipFile(wheel)  # open as long as a source of it is
    for name in names:
        if not _worth_a_look(PurePosixPath(name).name):
            continue
        shown = f"{wheel}!{name}"
        try:
            with archive.open(name) as file:
                head = file.read(_HEAD)
                if head[:2] == b"\x1f\x8b":
                    continue
                kind = kind_of(head, Path(name))
        except _DAMAGED as exc:
            yield Source(shown, wheel, "file", name, problem=f"it cannot be unpacked: {exc}")
            continue
        if kind in _KINDS:
            yield Source(shown, wheel, kind, name, archive=archive)


@contextlib.contextmanager
def at_hand(source: Source) -> Iterator[Path]:
    """The file of a source while the block runs, taken out of its wheel where it is in one; raises UserError."""
    if source.archive is None:
        yield source.path
        return
    with scratch_folder("wheel") as folder:
        target = folder / "member"
        try:
            with source.archive.open(source.member) as file:
                copy_bounded(file, target, MAX_MEMBER_BYTES, too_large=f"it has more than {MAX_MEMBER_BYTES:,} bytes")
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as exc:
            raise UserError(f"it cannot be unpacked: {exc}") from exc
        yield target

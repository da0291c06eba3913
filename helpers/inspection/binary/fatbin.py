"""Device code that is embedded in a host's file: where each cubin and PTX lies, and one of them in a fatbin of its own.

A program or library keeps its device code in sections that nvcc names. Each is a row of containers, a container for
every compiled file, and a container is a row of entries: one cubin or one PTX each, for one arch, compressed or not.
Only the framing is read here, so that a library of any size is walked by seeking; what an entry holds is unpacked by
NVIDIA's own cuobjdump, which takes the entry in a container of its own.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.inspection.binary.device_elf import named_sections
from helpers.inspection.contents import FATBIN_MAGIC

__all__ = ["FatbinEntry", "as_fatbin", "entries"]

_CONTAINER = struct.Struct("<IHHQ")  # magic, version, size of this header, bytes that follow it
_ENTRY = struct.Struct("<HHIQ")  # kind, version, size of this header, bytes that follow it
_KINDS = {1: "PTX", 2: "cubin"}
# Linked device code, and what is yet to be linked. Like cuobjdump, the second only where there is none of the first.
_SECTIONS = (".nv_fatbin", "__nv_relfatbin")
_ALIGNMENT = 8
_ARCHIVE = b"!<arch>\n"
_KNOWN_VERSION = 1
_ARCH_AT, _MIN_HEADER = 28, 32  # where an entry has the number of its arch
_NAME_AT = slice(32, 40)  # and where it says that its name stands, and how long that is


@dataclass(frozen=True)
class FatbinEntry:
    """One entry: `cubin`, `PTX` or another kind by its number; its arch (90), its place and size with its header."""

    kind: str
    arch: int
    offset: int
    size: int


def entries(content: bytes | mmap.mmap) -> Iterator[FatbinEntry]:
    """The entries of a program, a library, an object file, an archive of such or a fatbin; none where there are none.

    A container that does not lie within its section ends the walk: what comes after it has no known beginning.
    """
    for begin, end in _regions(content):
        at = begin
        while at + _CONTAINER.size <= end:
            magic, version, header, size = _CONTAINER.unpack_from(content, at)
            if magic != FATBIN_MAGIC:
                at += _ALIGNMENT
                continue
            if version != _KNOWN_VERSION or header < _CONTAINER.size or at + header + size > end:
                break
            yield from _entries_of(content, at + header, at + header + size)
            at += header + size


def _entries_of(content: bytes | mmap.mmap, at: int, end: int) -> Iterator[FatbinEntry]:
    while at + _MIN_HEADER <= end:
        kind, _version, header, size = _ENTRY.unpack_from(content, at)
        if header < _MIN_HEADER or at + header + size > end:
            return
        (arch,) = struct.unpack_from("<I", content, at + _ARCH_AT)
        yield FatbinEntry(_KINDS.get(kind, f"kind {kind}"), arch, at, header + size)
        at += header + size


def _regions(content: bytes | mmap.mmap) -> Iterator[tuple[int, int]]:
    """(begin, end) of what holds containers, one after the other."""
    if content[:4] == struct.pack("<I", FATBIN_MAGIC):
        yield 0, len(content)
    elif content[: len(_ARCHIVE)] == _ARCHIVE:
        # Its members are object files at any even place. Each container is found by its first word.
        at = content.find(struct.pack("<I", FATBIN_MAGIC))
        while at >= 0:
            end = at + _CONTAINER.size
            if end <= len(content):
                _magic, version, header, size = _CONTAINER.unpack_from(content, at)
                if version == _KNOWN_VERSION and header == _CONTAINER.size and end + size <= len(content):
                    end += size
                    yield at, end
            at = content.find(struct.pack("<I", FATBIN_MAGIC), end)
    else:
        for name in _SECTIONS:
            if found := named_sections(content, name):
                yield from ((offset, offset + size) for offset, size in found)
                return


def as_fatbin(entry: bytes) -> bytes:
    """A fatbin that holds this one entry, header and all but for its name: cuobjdump calls what it writes by that."""
    plain = bytearray(entry)
    if len(plain) >= _NAME_AT.stop and int.from_bytes(plain[4:8], "little") >= _NAME_AT.stop:
        plain[_NAME_AT] = bytes(_NAME_AT.stop - _NAME_AT.start)
    return _CONTAINER.pack(FATBIN_MAGIC, _KNOWN_VERSION, _CONTAINER.size, len(plain)) + plain

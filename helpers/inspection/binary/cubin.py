"""Cubins: register counts as the ELF states them, and a copy that nvdisasm reads.

nvdisasm refuses a cubin whose kernel takes all 255 registers ("Invalid register count"); in a copy that says 254 it
reads the same instructions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["readable_copy", "register_counts"]

MAX_REGISTERS = 254
"""The most registers that nvdisasm accepts."""
# .nv.info holds attributes: format byte, number, size, value. EIATTR_REGCOUNT's value is (symbol, registers).
_EIFMT_SVAL, _EIATTR_REGCOUNT = 0x04, 0x2F
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


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

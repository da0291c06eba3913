"""Cubins: register counts as the ELF states them, and a copy that nvdisasm reads.

nvdisasm refuses a cubin whose kernel takes all 255 registers ("Invalid register count"); in a copy that says 254 it
reads the same instructions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from helpers.inspection.binary.device_elf import REGCOUNT, attributes, named_sections

__all__ = ["readable_copy", "register_counts"]

MAX_REGISTERS = 254
"""The most registers that nvdisasm accepts."""


def readable_copy(cubin: bytes) -> bytes:
    """The cubin with register counts above 254 stated as 254: for reading only, never to be loaded."""
    copy = bytearray(cubin)
    for at, _, count in register_counts(cubin):
        if count > MAX_REGISTERS:
            struct.pack_into("<I", copy, at, MAX_REGISTERS)
    return bytes(copy)


def register_counts(cubin: bytes) -> Iterator[tuple[int, int, int]]:
    """(position, symbol of the function, registers per thread) of each count in .nv.info; none for other bytes."""
    for offset, size in named_sections(cubin, ".nv.info"):
        for at, number, value in attributes(cubin[offset : offset + size]):
            if number == REGCOUNT and len(value) == 8:  # (symbol, registers)
                symbol, count = struct.unpack("<II", value)
                yield offset + at + 4, symbol, count

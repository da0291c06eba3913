"""What a cubin says of each function in it: registers, frame, shared memory, barriers, launch bounds, arch, ptxas.

Read with pyelftools from the sections that ptxas writes: `.nv.info` and `.nv.info.NAME` (attributes, as `cuobjdump`
lists them), `.text.NAME`, `.nv.shared.NAME`, the symbol table and the note of the tools. Numbers are the ELF's own; the
tests hold them to `cuobjdump -res-usage` and to `ptxas -v`. A file from elsewhere costs no more reading than a fixed
number of times its size.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from helpers.errors import UserError

__all__ = ["REGCOUNT", "DeviceElf", "DeviceFunction", "attributes", "named_sections", "read_device_elf"]

# Attributes of .nv.info, by the names that `cuobjdump -elf` gives them (EIATTR_…).
REGCOUNT = 0x2F
_FRAME_SIZE, _MAX_THREADS, _REQNTID, _MAXREG_COUNT, _NUM_BARRIERS = 0x11, 0x05, 0x10, 0x1B, 0x4C
# An attribute is: form, number, and either a size and so many bytes (form 4), or a value in the size's two bytes.
_FORM_SIZED = 0x04
# What a launch bound of registers is where none was given: every register that an instruction can name.
_NO_REGISTER_BOUND = 255
_ENTRY_POINT = 0x10  # STO_CUDA_ENTRY, in a symbol's st_other
_SYMBOL_OTHER = 5  # where that byte stands in an entry of the symbol table
_MAX_SECTIONS = 400_000
_READING = 16  # how often a cubin may be read over
_MAX_HEADERS = 200_000_000  # what is read of a host's file, which has its code beside what its headers say
_ARCH_ASKED = re.compile(rb"-arch[ =](sm_[0-9]{2,3}[af]?)\b")
_RELEASE = re.compile(rb"\bV([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})\b")
_TOOLS_NOTE = ".note.nv.tkinfo"
# pyelftools says most of what it dislikes with these; a header that lies can bring any of the others.
_UNREADABLE = (ELFError, ConstructError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError,
               AssertionError, struct.error, RecursionError, MemoryError)  # fmt: skip


@dataclass(frozen=True)
class DeviceFunction:
    """One function of a cubin. Bytes of the frame are per thread, of shared memory (static) per CTA.

    `is_kernel` is false for what kernels only call. `max_threads` is the launch bound in threads per CTA (exactly so
    many where `threads_are_exact`), `register_bound` the one in registers (`.maxnreg`); None where there is none.
    """

    name: str
    is_kernel: bool
    registers: int | None = None
    stack_frame_bytes: int | None = None
    shared_bytes: int = 0
    barriers: int | None = None
    max_threads: int | None = None
    threads_are_exact: bool = False
    register_bound: int | None = None


@dataclass(frozen=True)
class DeviceElf:
    """A cubin: its arch (`sm_90a`), the release of the ptxas or nvlink that wrote it, its functions in order.

    Where the cubin has no note of its tools, the arch is the header's (whose mark for `a` is not always set) and the
    release None. A cubin that is yet to be linked says so in `relocatable`.
    """

    arch: str | None
    ptxas_version: str | None
    functions: tuple[DeviceFunction, ...]
    relocatable: bool = False

    @property
    def kernels(self) -> tuple[DeviceFunction, ...]:
        """The functions that a program can launch."""
        return tuple(f for f in self.functions if f.is_kernel)


class _Bounded:
    """A file of which only so much is read, and then no more: headers of a hostile one can ask for all of it again."""

    def __init__(self, file: Any, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size) if size >= 0 else self._file.read()
        self._left -= len(piece) + 1
        if self._left < 0:
            raise ELFError("its headers ask for more than the file holds")
        return piece

    def seek(self, offset: int, whence: int = 0) -> None:
        self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _opened(content: bytes | mmap.mmap) -> ELFFile:
    if isinstance(content, bytes):
        return ELFFile(_Bounded(io.BytesIO(content), _READING * len(content) + 1_000_000))
    return ELFFile(_Bounded(content, _MAX_HEADERS))


def read_device_elf(cubin: bytes) -> DeviceElf:
    """The `DeviceElf` of a cubin's bytes; raises UserError for what is none."""
    try:
        elf = _opened(cubin)
        if elf["e_machine"] != "EM_CUDA":
            raise UserError("it is an ELF file, but of no GPU")
        return _read(elf, cubin)
    except _UNREADABLE as exc:
        if isinstance(exc, UserError):
            raise
        raise UserError(f"it is no cubin that can be read: {str(exc)[:200] or type(exc).__name__}") from exc


def _read(elf: ELFFile, cubin: bytes) -> DeviceElf:
    sections = {section.name: section for section in _sections(elf)}
    names, entry_points = _symbols(sections.get(".symtab"), cubin)
    whole: dict[int, dict[str, int]] = {REGCOUNT: {}, _FRAME_SIZE: {}}
    for _, number, value in attributes(_content(sections.get(".nv.info"), cubin)):
        if number in whole and len(value) == 8:
            symbol, count = struct.unpack("<II", value)
            whole[number][names.get(symbol, "")] = count
    functions = []
    for section_name, section in sections.items():
        if not section_name.startswith(".text."):
            continue
        name = section_name.removeprefix(".text.")
        own = {n: value for _, n, value in attributes(_content(sections.get(f".nv.info.{name}"), cubin))}
        exact = _threads(own.get(_REQNTID))
        bound = own.get(_MAXREG_COUNT, b"\xff")[0]
        # Older cubins keep both in the header of the code: bits 20 to 26 of its flags, the highest byte of its info.
        barriers = own.get(_NUM_BARRIERS, bytes([section["sh_flags"] >> 20 & 0x7F]))[0]
        shared = sections.get(f".nv.shared.{name}")
        functions.append(
            DeviceFunction(
                name,
                name in entry_points or (not entry_points and f".nv.constant0.{name}" in sections),
                registers=whole[REGCOUNT].get(name) or section["sh_info"] >> 24 or None,
                stack_frame_bytes=whole[_FRAME_SIZE].get(name),
                shared_bytes=int(shared["sh_size"]) if shared is not None else 0,
                barriers=barriers,
                max_threads=exact or _threads(own.get(_MAX_THREADS)),
                threads_are_exact=exact is not None,
                register_bound=bound if 0 < bound < _NO_REGISTER_BOUND else None,
            )
        )
    note = _content(sections.get(_TOOLS_NOTE), cubin)
    releases = _RELEASE.findall(note)
    return DeviceElf(
        _arch(elf, note),
        releases[-1].decode() if releases else None,
        tuple(functions),
        relocatable=elf["e_type"] == "ET_REL",
    )


def _sections(elf: ELFFile) -> Iterator:
    if elf.num_sections() > _MAX_SECTIONS:
        raise UserError(f"it says that it has {elf.num_sections():,} sections; at most {_MAX_SECTIONS:,} are read")
    return elf.iter_sections()


def _symbols(table, cubin: bytes) -> tuple[dict[int, str], set[str]]:
    """(names of functions by their number in the symbol table, the names of those that can be launched)."""
    names: dict[int, str] = {}
    entries: set[str] = set()
    if table is None:
        return names, entries
    content, size = _content(table, cubin), table["sh_entsize"]
    if size <= _SYMBOL_OTHER:
        raise UserError("its symbol table has entries without a size")
    for number in range(len(content) // size):
        info, other = content[number * size + _SYMBOL_OTHER - 1], content[number * size + _SYMBOL_OTHER]
        if info & 0xF == 2:  # STT_FUNC
            names[number] = table.get_symbol(number).name
            if other & _ENTRY_POINT:
                entries.add(names[number])
    return names, entries


def _content(section, cubin: bytes) -> bytes:
    """The bytes of a section as they lie in the file; none for a section that is not there or takes no room."""
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return b""
    return cubin[section["sh_offset"] : section["sh_offset"] + section["sh_size"]]


def attributes(info: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(position of the value, number, value) of each attribute in the bytes of a section `.nv.info`."""
    at = 0
    while at + 4 <= len(info):
        form, number, length = info[at], info[at + 1], int.from_bytes(info[at + 2 : at + 4], "little")
        if form == _FORM_SIZED:
            if at + 4 + length <= len(info):
                yield at + 4, number, info[at + 4 : at + 4 + length]
            at += 4 + length
        else:
            yield at + 2, number, info[at + 2 : at + 4]
            at += 4


def named_sections(content: bytes | mmap.mmap, name: str) -> list[tuple[int, int]]:
    """(offset, size) of the sections of that name, as far as they lie within the ELF file; none for other content."""
    try:
        return [
            (section["sh_offset"], section["sh_size"])
            for section in _sections(_opened(content))
            if section.name == name
            and section["sh_type"] != "SHT_NOBITS"
            and section["sh_offset"] + section["sh_size"] <= len(content)
        ]
    except _UNREADABLE:
        return []


def _threads(value: bytes | None) -> int | None:
    """The threads per CTA of an attribute that has them by dimension."""
    if value is None or len(value) != 12:
        return None
    x, y, z = struct.unpack("<III", value)
    return x * y * z or None


def _arch(elf: ELFFile, note: bytes) -> str | None:
    """The arch that the tools were asked for; without their note, what the header's flags say."""
    if asked := _ARCH_ASKED.findall(note):
        return asked[0].decode()
    flags = elf["e_flags"]
    newer = elf["e_ident"]["EI_ABIVERSION"] >= 8
    number, specific = (flags >> 8 & 0xFF, flags & 0x8) if newer else (flags & 0xFF, flags & 0x800)
    return f"sm_{number}{'a' if specific else ''}" if number else None

"""What ptxas made of it: live registers and local-memory traffic of every SASS instruction, by source line.

Pure text: reads what `nvdisasm -lrm count -c` and `nvdisasm -g -c` print and joins the two by function and offset.
A live register here is one that ptxas has in use between an instruction and the next: the counterpart, after the
fact, of the demand that `ptx/pressure.py` works out before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers.inspection.ptx.scan import SourceLine

__all__ = ["SassInstruction", "SassLine", "SassProfile", "parse_life_ranges", "parse_line_info", "sass_profile"]


_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-fA-F]{4,8})\*/\s+(.{1,400}?);", re.ASCII)
# A short name is filled up with blanks.
_SECTION = re.compile(r"^//-+ \.text\.(\S+) +-+")
_COUNTS = re.compile(r"//\s*\|([^\n]{1,200})$")
_FILE_LINE = re.compile(r'//## File "([^"\n]{0,4000})", line ([0-9]{1,9})( inlined at)?')
_OPCODE = re.compile(r"^(?:\{\s*)?(?:@!?U?P(?:T|[0-9])\s+)?([A-Z][A-Z0-9_.]*)", re.ASCII)
_BYTES = {"8": 1, "16": 2, "U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(frozen=True)
class SassInstruction:
    """One instruction: function, byte offset in it, text, live registers of the three files, source line if known."""

    function: str
    offset: int
    text: str
    gprs: int
    predicates: int
    uniforms: int
    source: SourceLine | None = None

    @property
    def opcode(self) -> str:
        """`HMMA.16816.F32.BF16` of `@P0 HMMA.16816.F32.BF16 R4, …`."""
        m = _OPCODE.match(self.text)
        return m[1] if m else ""

    @property
    def local_bytes(self) -> int:
        """Bytes per thread that the instruction moves to or from local memory (spills, stack); 0 for all others."""
        words = self.opcode.split(".")
        if words[0] not in ("LDL", "STL"):
            return 0
        return next((_BYTES[w] for w in words[1:] if w in _BYTES), 4)


@dataclass(frozen=True)
class SassLine:
    """A source line: most live GPRs at any of its instructions, how many it became, bytes spilled and reloaded."""

    source: SourceLine
    gprs: int
    instructions: int
    spill_store_bytes: int
    spill_load_bytes: int


@dataclass(frozen=True)
class SassProfile:
    """A kernel after ptxas: instructions with live registers, totals by source line (most GPRs first), and the peak."""

    instructions: tuple[SassInstruction, ...]
    lines: tuple[SassLine, ...]

    @property
    def peak(self) -> SassInstruction | None:
        """The first instruction with the most live GPRs."""
        return max(self.instructions, key=lambda i: i.gprs, default=None)

    @property
    def peak_lines(self) -> tuple[SourceLine, ...]:
        """The source lines that reach the highest number of live GPRs."""
        return tuple(line.source for line in self.lines if line.gprs == self.lines[0].gprs)


def parse_life_ranges(text: str) -> tuple[SassInstruction, ...]:
    """The instructions of `nvdisasm -lrm count -c`, without sources; empty for any other text. Never raises."""
    found = []
    function = ""
    columns: list[str] = []
    for line in text.split("\n"):
        if m := _SECTION.match(line):
            function = m[1]
            continue
        counts = _COUNTS.search(line[-400:])
        if counts is None:
            continue
        cells = [cell.strip() for cell in counts[1].split("|")]
        if "GPR" in cells:
            columns = cells
        elif m := _INSTRUCTION.match(line[:600]):
            by_name = dict(zip(columns or ["GPR"], cells, strict=False))
            gpr, pred, ugpr = (_number(by_name.get(name, "")) for name in ("GPR", "PRED", "UGPR"))
            found.append(SassInstruction(function, int(m[1], 16), m[2].strip(), gpr, pred, ugpr))
    return tuple(found)


def parse_line_info(text: str) -> dict[tuple[str, int], SourceLine]:
    """(function, offset) -> (file, line) of `nvdisasm -g -c`; inlined code counts for its own line. Never raises."""
    found: dict[tuple[str, int], SourceLine] = {}
    function, source = "", None
    for line in text.split("\n"):
        if "//" in line and (m := _SECTION.match(line)):
            function, source = m[1], None
        elif "//##" in line and (m := _FILE_LINE.search(line[:5_000])):
            source = (m[1], int(m[2]))
        elif (m := _INSTRUCTION.match(line[:600])) and source is not None:
            found[function, int(m[1], 16)] = source
    return found


def sass_profile(life_ranges: str, lines: str = "") -> SassProfile:
    """The profile of a disassembled cubin; without line information `lines` of the profile is empty."""
    sources = parse_line_info(lines)
    instructions = tuple(
        SassInstruction(
            i.function, i.offset, i.text, i.gprs, i.predicates, i.uniforms, sources.get((i.function, i.offset))
        )
        for i in parse_life_ranges(life_ranges)
    )
    by_line: dict[SourceLine, list[SassInstruction]] = {}
    for instruction in instructions:
        if instruction.source is not None and instruction.source[1]:
            by_line.setdefault(instruction.source, []).append(instruction)
    found = [
        SassLine(
            source,
            max(i.gprs for i in group),
            len(group),
            sum(i.local_bytes for i in group if i.opcode.startswith("STL")),
            sum(i.local_bytes for i in group if i.opcode.startswith("LDL")),
        )
        for source, group in by_line.items()
    ]
    return SassProfile(instructions, tuple(sorted(found, key=lambda line: (-line.gprs, line.source))))


def _number(cell: str) -> int:
    return int(cell) if cell.isdecimal() and len(cell) < 9 else 0

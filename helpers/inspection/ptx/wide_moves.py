"""The wide moves of tensor memory in a PTX, split into narrower or joined to wider ones: an experiment on its text.

`tcgen05.ld/st.sync.aligned.32x32b.xN` moves N columns between a lane's tensor memory and N adjacent registers. In this
shape, and only in this one, N columns at an address are N/2 there and N/2 at the address plus N/2: the two halves do
what the whole does, without asking for N adjacent registers. Other shapes and forms (`.pack`, `.red`) are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["join_moves", "split_moves", "wide_moves"]

_MOVE = re.compile(
    r"^(?P<head>[ \t]*(?:@!?[%\w$]+[ \t]+)?)tcgen05\.(?P<kind>ld|st)\.sync\.aligned\.32x32b\.x(?P<width>[0-9]{1,3})"
    r"\.b32[ \t]+(?P<operands>[^;\n]{1,8000});[ \t]*$",
    re.ASCII,
)
_REGISTERS = re.compile(r"\{([^{}]{1,8000})\}")
_ADDRESS = re.compile(r"\[[ \t]*([%\w$]+)[ \t]*(?:\+[ \t]*([0-9]{1,9})[ \t]*)?\]", re.ASCII)


class _Move:
    """A move taken apart: registers, base address and offset in columns; `ok` is False for another form."""

    def __init__(self, line: str) -> None:
        self.found = _MOVE.match(line) if "tcgen05." in line else None
        if self.found is None:
            return
        registers, address = _REGISTERS.search(self.found["operands"]), _ADDRESS.search(self.found["operands"])
        self.head, self.kind = self.found["head"], self.found["kind"]
        self.registers = [r.strip() for r in registers[1].split(",")] if registers else []
        self.base, self.offset = (address[1], int(address[2] or 0)) if address else ("", 0)
        if not address or len(self.registers) != int(self.found["width"]):
            self.found = None

    @property
    def ok(self) -> bool:
        return self.found is not None

    def written(self, registers: list[str], offset: int) -> str:
        """The move of these registers at this offset, as a line of PTX."""
        words = "{" + ", ".join(registers) + "}"
        place = f"[{self.base} + {offset}]"
        operands = f"{words}, {place}" if self.kind == "ld" else f"{place}, {words}"
        return f"{self.head}tcgen05.{self.kind}.sync.aligned.32x32b.x{len(registers)}.b32 {operands};"


def wide_moves(ptx: str, registers: int = 64) -> list[tuple[int, str, int]]:
    """(PTX line, `ld` or `st`, registers) of the moves of at least so many registers, in order. Never raises."""
    moves = ((number, _Move(line)) for number, line in enumerate(ptx.split("\n"), start=1))
    return [(n, m.kind, len(m.registers)) for n, m in moves if m.ok and len(m.registers) >= registers]


def split_moves(
    ptx: str, registers: int = 64, *, kinds: Collection[str] = ("ld", "st"), lines: Collection[int] | None = None
) -> str:
    """The PTX with every wider move split into moves of `registers` (a power of two), guards and all.

    `kinds` are `ld`, `st` or both; `lines`, if given, the PTX lines of the only moves to split. The same columns go to
    the same registers. Raises ValueError for a width that cannot be.
    """
    if registers not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise ValueError(f"a move has 1, 2, 4 … 128 registers, not {registers}")
    out = []
    for number, line in enumerate(ptx.split("\n"), start=1):
        move = _Move(line)
        wanted = move.ok and len(move.registers) > registers and move.kind in kinds
        if not wanted or (lines is not None and number not in lines):
            out.append(line)
            continue
        out += [
            move.written(move.registers[at : at + registers], move.offset + at)
            for at in range(0, len(move.registers), registers)
        ]
    return "\n".join(out)


def join_moves(ptx: str, registers: int = 64, *, kinds: Collection[str] = ("ld", "st")) -> str:
    """The PTX with neighbours of `registers` each that move adjacent columns joined into one of twice as many.

    Neighbours follow each other with nothing but comments and `.loc` between, under the same guard. A joined load may
    take registers apart that it then has to bring together: that is the point of it.
    """
    lines = ptx.split("\n")
    last: tuple[int, _Move] | None = None
    for number, line in enumerate(lines):
        move = _Move(line)
        if not move.ok:
            if line.strip() and not line.strip().startswith(("//", ".loc")):
                last = None
            continue
        if last is not None and _adjacent(last[1], move, registers) and move.kind in kinds:
            first, before = last
            lines[first], lines[number] = "", before.written([*before.registers, *move.registers], before.offset)
            last = None
        else:
            last = (number, move)
    return "\n".join(lines)


def _adjacent(one: _Move, other: _Move, registers: int) -> bool:
    return (
        len(one.registers) == len(other.registers) == registers
        and (one.head.strip(), one.kind, one.base) == (other.head.strip(), other.kind, other.base)
        and other.offset == one.offset + registers
        # A first load that sets the second's address cannot be put off.
        and not (one.kind == "ld" and other.base in one.registers)
    )

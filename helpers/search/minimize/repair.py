"""Units of a PTX function taken away, and the rest mended so that it stays valid.

Valid means what `check.check_valid` looks for: every label is there, code follows every label a branch names, and
every register is written before it is read on every path to the read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from helpers.inspection.ptx.late_order import EFFECTS
from helpers.search.minimize.check import blocks, unset_reads
from helpers.search.minimize.program import Function, Label, Unit

__all__ = ["ANY", "FORWARD", "ZERO", "Edit", "apply_edit"]

FORWARD, ANY, ZERO = "forward", "any", "zero"
"""What is read in place of a result that is gone: an operand of the instruction that made it, else a value that
depends on the thread; always that value; or zero."""

# Stand-ins of earlier edits are looked for among so many units at the head of a function.
_HEAD_UNITS = 64


@dataclass(frozen=True)
class Edit:
    """Units to drop (by uid), units to put in another's place, and what is read instead of results that are gone.

    A label goes when nothing names it, not by being dropped.
    """

    drop: frozenset[int] = frozenset()
    swap: Mapping[int, Unit] = field(default_factory=dict)
    mode: str = FORWARD


def apply_edit(function: Function, edit: Edit) -> Function:
    """The function without what the edit drops, mended: no unreachable or dead code, no read of an unset register."""
    units = [edit.swap.get(u.uid, u) for u in function.units if u.label is not None or u.uid not in edit.drop]
    units = _reachable(units)
    types = list(function.types)
    kept = {r for u in units for r in u.defs}
    lost: dict[int, list[Unit]] = {}
    for unit in function.units:
        for register in unit.defs:
            if register not in kept:
                lost.setdefault(register, []).append(unit)
    made = _StandIns(types, units)
    chosen: dict[int, int] = {}

    def instead(register: int) -> int:
        """What is read in place of `register`: followed through everything that is gone."""
        chain, at = [], register
        while at not in kept and at not in chosen:
            chain.append(at)
            source = _same_type_source(lost.get(at, ()), types, at) if edit.mode == FORWARD else None
            if source is None or source in chain:
                chosen[at] = made.get(types[at], ZERO if edit.mode == ZERO else ANY)
                break
            at = source
        final = chosen.get(at, at)
        chosen.update(dict.fromkeys(chain, final))
        return final

    missing = {r for u in units for r in u.uses if r not in kept}
    table = {r: instead(r) for r in sorted(missing)}
    if table:
        units = [_renamed(u, table) if not table.keys().isdisjoint(u.uses) else u for u in units]
    units = _without_dead([*made.made, *units], function.units)
    unset = sorted({r for _, r in unset_reads(units, len(types))})
    first = [_set(register, types[register], made.next_uid + n) for n, register in enumerate(unset)]
    return replace(function, units=tuple(first + units), types=tuple(types))


def _same_type_source(makers: Iterable[Unit], types: list[str], register: int) -> int | None:
    """The first register that the one instruction making `register` reads and that has the same type."""
    makers = list(makers)
    if len(makers) != 1:
        return None
    return next((r for r in makers[0].uses if types[r] == types[register] and r != makers[0].guard), None)


def _renamed(unit: Unit, table: Mapping[int, int]) -> Unit:
    """The unit reading other registers; a register it also writes keeps its name."""
    table = {r: n for r, n in table.items() if r in unit.uses and r not in unit.defs}
    return replace(
        unit,
        pieces=tuple(table.get(p, p) if isinstance(p, int) else p for p in unit.pieces),
        uses=tuple(dict.fromkeys(table.get(r, r) for r in unit.uses)),
        guard=None if unit.guard is None else table.get(unit.guard, unit.guard),
    )


# --- values out of nothing --------------------------------------------------------------------------------


class _StandIns:
    """Registers that stand for results that are gone, one of each type and mode; made when first asked for.

    One made for an earlier edit is found again at the head of the function, by what it looks like.
    """

    def __init__(self, types: list[str], units: list[Unit]) -> None:
        self.types = types
        self.next_uid = max((u.uid for u in units), default=0) + 1
        self.made: list[Unit] = []
        self.there: dict[tuple[str, str], int] = {}
        self.head: dict[tuple[str, str], list[Unit]] = {}
        for unit in units[:_HEAD_UNITS]:
            if unit.label is not None or unit.word == "bra":
                break
            if len(unit.defs) == 1 and unit.guard is None:
                self.head.setdefault((types[unit.defs[0]], _shape(unit)), []).append(unit)
        self.writes = Counter(r for u in units for r in u.defs) if self.head else Counter()

    def get(self, kind: str, mode: str) -> int:
        if (register := self.there.get((kind, mode))) is not None:
            return register
        thread = self.get("b32", ANY) if mode == ANY and kind != "b32" else len(self.types)
        register = len(self.types)
        unit = _set(register, kind, self.next_uid) if mode == ZERO else _varying(register, kind, self.next_uid, thread)
        for old in self.head.get((kind, _shape(unit)), ()):
            if self.writes[old.defs[0]] == 1 and old.uses == unit.uses:
                self.there[kind, mode] = old.defs[0]
                return old.defs[0]
        self.next_uid += 1
        self.types.append(kind)
        self.made.append(unit)
        self.there[kind, mode] = register
        return register


def _shape(unit: Unit) -> str:
    return "".join(p if isinstance(p, str) else "%" for p in unit.pieces)


def _width(kind: str) -> str:
    digits = kind.lstrip("bfusx")
    return digits if digits in ("8", "16", "32", "64", "128") else "32"


def _set(register: int, kind: str, uid: int) -> Unit:
    """`register` set to zero."""
    width = _width(kind)
    if kind == "pred":
        opcode, rest = "mov.pred", ", 0;"
    elif width == "8":
        opcode, rest = "cvt.u8.u32", ", 0;"
    elif width == "128":
        opcode, rest = "mov.b128", ", {0, 0};"
    else:
        opcode, rest = f"mov.b{width}", ", 0;"
    return Unit(uid, (opcode + " ", register, rest), opcode, (register,))


def _varying(register: int, kind: str, uid: int, thread: int) -> Unit:
    """`register` set to something that differs between threads, made of register `thread`."""
    width = _width(kind)
    if register == thread:
        return Unit(uid, ("mov.u32 ", register, ", %tid.x;"), "mov.u32", (register,))
    if kind == "pred":
        return Unit(uid, ("setp.ne.b32 ", register, ", ", thread, ", 0;"), "setp.ne.b32", (register,), (thread,))
    if width == "32":
        return Unit(uid, ("mov.b32 ", register, ", ", thread, ";"), "mov.b32", (register,), (thread,))
    if width == "64" and kind.startswith("f"):
        pieces = ("mov.b64 ", register, ", {", thread, ", ", thread, "};")
        return Unit(uid, pieces, "mov.b64", (register,), (thread,))
    if width == "16" and kind.startswith("f"):
        return Unit(uid, ("cvt.rn.f16.u32 ", register, ", ", thread, ";"), "cvt.rn.f16.u32", (register,), (thread,))
    if width == "128":
        return _set(register, kind, uid)
    opcode = f"cvt.u{width}.u32"
    return Unit(uid, (opcode + " ", register, ", ", thread, ";"), opcode, (register,), (thread,))


# --- dead and unreachable code ----------------------------------------------------------------------------


def _reachable(units: list[Unit]) -> list[Unit]:
    """Without code no path leads to, branches to branches or to the very next unit, and labels nobody names."""
    while True:
        before = len(units)
        units = _straightened(units)
        _, starts, successors = blocks(units)
        seen, waiting = {0}, [0]
        while waiting:
            for block in successors[waiting.pop()]:
                if block not in seen:
                    seen.add(block)
                    waiting.append(block)
        ends = [*starts[1:], len(units)]
        kept = [u for n, (a, b) in enumerate(zip(starts, ends, strict=True)) if n in seen for u in units[a:b]]
        # A directive inside code that went (a table of labels, a variable) may still be meant.
        named = {t for u in kept if u.label is None for t in u.targets}
        units = [u for u in kept if u.label is None or u.label in named]
        units = _without_short_branches(units)
        if len(units) == before:
            return units


def _straightened(units: list[Unit]) -> list[Unit]:
    """Branches to a branch that is always taken go to its target instead."""
    onward: dict[int, int] = {}
    for at, unit in enumerate(units):
        if unit.word == "bra" and unit.guard is None and len(unit.targets) == 1:
            before = at - 1
            while before >= 0 and (label := units[before].label) is not None:
                onward[label] = unit.targets[0]
                before -= 1
    if not onward:
        return units

    def final(label: int) -> int:
        seen = {label}
        while (following := onward.get(label)) is not None and following not in seen:
            seen.add(label := following)
        return label

    return [
        replace(u, pieces=tuple(Label(final(p.number)) if isinstance(p, Label) else p for p in u.pieces))
        if u.word == "bra" and not onward.keys().isdisjoint(u.targets)
        else u
        for u in units
    ]


def _without_short_branches(units: list[Unit]) -> list[Unit]:
    out = []
    for at, unit in enumerate(units):
        if unit.word == "bra" and len(unit.targets) == 1:
            ahead = at + 1
            while ahead < len(units) and units[ahead].label is not None and units[ahead].label != unit.targets[0]:
                ahead += 1
            if ahead < len(units) and units[ahead].label == unit.targets[0]:
                continue
        out.append(unit)
    return out


def _without_dead(units: list[Unit], before: Sequence[Unit]) -> list[Unit]:
    """Without instructions that do nothing but make results that were read `before` and are not any more.

    What nobody read before stays: the failure may lie in it, and it can be dropped by name.
    """
    once, readers = _readers(before), _readers(units)
    makers: dict[int, list[int]] = {}
    for at, unit in enumerate(units):
        for register in unit.defs:
            makers.setdefault(register, []).append(at)
    dead = [False] * len(units)
    waiting = list(range(len(units)))
    while waiting:
        at = waiting.pop()
        unit = units[at]
        if dead[at] or unit.word in EFFECTS or any(readers[r] for r in unit.defs):
            continue
        if not any(once[r] for r in unit.defs):
            continue
        dead[at] = True
        for register in unit.uses:
            if register not in unit.defs:
                readers[register] -= 1
                if not readers[register]:
                    waiting += makers.get(register, ())
    return [u for u, gone in zip(units, dead, strict=True) if not gone]


def _readers(units: Sequence[Unit]) -> Counter[int]:
    """How many instructions read each register; what only feeds itself (a loop counter) does not count."""
    return Counter(r for u in units for r in u.uses if r not in u.defs)

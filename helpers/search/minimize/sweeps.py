"""What a minimiser tries on a PTX, from coarse to fine: lists of removals, each taking something away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from helpers.search.minimize.check import block_numbers
from helpers.search.minimize.program import Function, Program, Unit
from helpers.search.minimize.repair import ANY, FORWARD, ZERO, Edit, apply_edit

__all__ = ["Removal", "apply_removal", "sweeps"]

# Statements without which ptxas reads nothing.
_NEEDED = (".version", ".target", ".address_size")
# Up to this size of a chunk all three ways to stand in for what is gone are tried.
_SMALL = 4


@dataclass(frozen=True)
class Removal:
    """Something to take away: a `part` of the module, `params` or a `tail` directive of a function, or an `edit` in it.

    `function` is the number of the function among the parts, `params` the parameters themselves.
    """

    function: int = 0
    edit: Edit | None = None
    part: str | Function | None = None
    params: tuple[str, ...] = ()
    tail: str | None = None


def apply_removal(program: Program, removal: Removal) -> Program | None:
    """The program after a removal; None when there is nothing left for it to take."""
    parts = list(program.parts)
    if removal.part is not None:
        if removal.part not in parts:
            return None
        parts.remove(removal.part)
        return replace(program, parts=tuple(parts))
    functions = [(at, part) for at, part in enumerate(parts) if isinstance(part, Function)]
    if removal.function >= len(functions):
        return None
    at, function = functions[removal.function]
    if removal.edit is not None:
        there = {u.uid for u in function.units}
        if there.isdisjoint(removal.edit.drop) and there.isdisjoint(removal.edit.swap):
            return None
        parts[at] = apply_edit(function, removal.edit)
    elif removal.tail is not None:
        parts[at] = replace(function, tail=tuple(t for t in function.tail if t != removal.tail))
    else:
        parts[at] = replace(function, params=tuple(p for p in function.params if p not in removal.params))
    return replace(program, parts=tuple(parts))


def sweeps(round_no: int) -> list[tuple[str, Callable[[Program], list[Removal]]]]:
    """(name, what makes the removals out of the program as it then is) for one round, in order.

    The first round goes from halves to single instructions; later ones look again at what is small.
    """
    plan: list[tuple[str, Callable[[Program], list[Removal]]]] = [("module", _module), ("branches", _branches)]
    plan += [("blocks", _basic_blocks), ("like instructions", _groups)]
    parts = (2, 4, 8, 16, 32, 64) if round_no == 0 else ()
    plan += [(f"1/{n}", partial(_chunks, n=n)) for n in parts]
    plan += [(f"{size} at a time", partial(_chunks, size=size)) for size in (8, 4, 2, 1)]
    return plan


def _module(program: Program) -> list[Removal]:
    """Whole functions, then module statements, then unused parameters and directives of the heads."""
    removals = [Removal(part=f) for f in program.functions] if len(program.functions) > 1 else []
    removals += [Removal(part=p) for p in program.parts if isinstance(p, str) and not p.startswith(_NEEDED)]
    text = " ".join(p for f in program.functions for u in f.units for p in u.pieces if isinstance(p, str))
    for number, function in enumerate(program.functions):
        unused = tuple(p for p in function.params if p.split()[-1].split("[")[0] not in text)
        removals += [Removal(number, params=unused)] if unused else []
        removals += [Removal(number, tail=t) for t in function.tail]
    removals += [Removal(part=p) for p in program.parts if isinstance(p, str) and p.startswith(_NEEDED[2])]
    return removals


def _branches(program: Program) -> list[Removal]:
    """Each conditional branch never or always taken; each unconditional one gone."""
    removals = []
    for number, function in enumerate(program.functions):
        for unit in function.units:
            if unit.word in ("bra", "ret", "exit"):
                removals.append(Removal(number, Edit(drop=frozenset({unit.uid}))))
                if unit.guard is not None:
                    removals.append(Removal(number, Edit(swap={unit.uid: _always(unit)})))
    return removals


def _always(unit: Unit) -> Unit:
    return replace(unit, pieces=unit.pieces[3:], uses=tuple(r for r in unit.uses if r != unit.guard), guard=None)


def _basic_blocks(program: Program) -> list[Removal]:
    """Each basic block without its label and branch, largest first."""
    removals = []
    for number, function in enumerate(program.functions):
        blocks: dict[int, list[int]] = {}
        for unit, block in zip(function.units, block_numbers(function.units), strict=True):
            if unit.label is None and unit.word not in ("bra", "brx", "ret", "exit"):
                blocks.setdefault(block, []).append(unit.uid)
        for uids in sorted(blocks.values(), key=len, reverse=True):
            removals += _modes(number, uids)
    return removals


def _groups(program: Program) -> list[Removal]:
    """All instructions of one opcode, then those of one opcode in one block, most numerous first.

    Unrolled code says the same thing many times: a column of it may go where no single line can.
    """
    removals = []
    for number, function in enumerate(program.functions):
        whole: dict[tuple, list[int]] = {}
        local: dict[tuple, list[int]] = {}
        for unit, block in zip(function.units, block_numbers(function.units), strict=True):
            if unit.opcode and unit.word not in ("bra", "brx", "ret", "exit"):
                key = (unit.opcode, unit.guard is None)
                whole.setdefault(key, []).append(unit.uid)
                local.setdefault((block, *key), []).append(unit.uid)
        groups = sorted(whole.values(), key=len, reverse=True) + sorted(local.values(), key=len, reverse=True)
        seen: set[tuple[int, ...]] = set()
        for uids in groups:
            if len(uids) > 1 and tuple(uids) not in seen:
                seen.add(tuple(uids))
                removals += _modes(number, uids)
    return removals


def _chunks(program: Program, *, n: int = 0, size: int = 0) -> list[Removal]:
    """Runs of units that stand together, `size` long or one `n`-th of the function, the last first."""
    removals = []
    for number, function in enumerate(program.functions):
        uids = [u.uid for u in function.units if u.label is None]
        length = size or max(1, -(-len(uids) // n))
        for run in _runs(uids, length):
            removals += _modes(number, run) if length <= _SMALL else [Removal(number, Edit(frozenset(run)))]
    return removals


def _runs(uids: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for begin in range((len(uids) - 1) // length * length, -1, -length):
        yield uids[begin : begin + length]


def _modes(number: int, uids: Sequence[int]) -> list[Removal]:
    return [Removal(number, Edit(frozenset(uids), mode=mode)) for mode in (FORWARD, ANY, ZERO)]

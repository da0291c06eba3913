"""What is wrong with a PTX: missing labels, undeclared registers, registers read before they are written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from helpers.search.minimize.program import Function, Label, Unit, read_program

__all__ = ["block_numbers", "blocks", "check_valid", "unset_reads"]

LEAVES = frozenset({"ret", "exit", "trap"})
"""First words of the opcodes after which nothing follows."""


def blocks(units: list[Unit]) -> tuple[dict[int, int], list[int], list[list[int]]]:
    """(block of each label, first unit of each block, successors of each block)."""
    named = {t for u in units if u.label is None for t in u.targets}
    starts, open_next = [0], False
    for at, unit in enumerate(units):
        begins = unit.label is not None and unit.label in named
        if at and (begins or open_next):
            starts.append(at)
        open_next = unit.word in LEAVES or unit.word in ("bra", "brx")
    label_block: dict[int, int] = {}
    ends = [*starts[1:], len(units)]
    for number, (first, last) in enumerate(zip(starts, ends, strict=True)):
        for unit in units[first:last]:
            if unit.label is not None:
                label_block[unit.label] = number
    successors: list[list[int]] = []
    for number, last in enumerate(ends):
        tail = units[last - 1] if last else None
        follow: list[int] = []
        if tail is not None and tail.word == "bra":
            follow += [label_block[t] for t in tail.targets if t in label_block]
        elif tail is not None and tail.word == "brx":
            follow += sorted(set(label_block.values()))
        falls = tail is None or tail.guard is not None or tail.word not in {*LEAVES, "bra", "brx"}
        if falls and number + 1 < len(ends):
            follow.append(number + 1)
        successors.append(follow)
    return label_block, starts, successors


def block_numbers(units: Sequence[Unit]) -> list[int]:
    """The number of its basic block for every unit."""
    if not units:
        return []
    _, starts, _ = blocks(list(units))
    numbers = [0] * len(units)
    for start in starts[1:]:
        numbers[start] = 1
    return list(accumulate(numbers))


def unset_reads(units: list[Unit], registers: int) -> list[tuple[Unit, int]]:
    """(unit, register) for every read that some path reaches before a write; each register once."""
    if not units:
        return []
    _, starts, successors = blocks(units)
    ends = [*starts[1:], len(units)]
    writes = []
    for first, last in zip(starts, ends, strict=True):
        mask = 0
        for unit in units[first:last]:
            for register in unit.defs:
                mask |= 1 << register
        writes.append(mask)
    everything = (1 << registers) - 1
    entering = [everything] * len(starts)
    entering[0] = 0
    waiting = list(range(len(starts)))[::-1]
    reached = {0}
    queued = set(waiting)
    while waiting:
        block = waiting.pop()
        queued.discard(block)
        if block not in reached:
            continue
        leaving = entering[block] | writes[block]
        for successor in successors[block]:
            met = entering[successor] & leaving
            if met != entering[successor] or successor not in reached:
                entering[successor] = met
                reached.add(successor)
                if successor not in queued:
                    queued.add(successor)
                    waiting.append(successor)
    found: dict[int, Unit] = {}
    for block in sorted(reached):
        known = entering[block]
        for unit in units[starts[block] : ends[block]]:
            for register in unit.uses:
                if not known >> register & 1:
                    found.setdefault(register, unit)
            for register in unit.defs:
                known |= 1 << register
    return [(unit, register) for register, unit in found.items()]


def check_valid(ptx: str) -> list[str]:
    """What is wrong with a PTX, one sentence each, with its line; empty when nothing is.

    Looked for: registers that are declared nowhere, or read before they are written on some path; branches to labels
    that are not there or that no instruction follows; a text without a function. Operands and types are ptxas's to
    judge.
    """
    program = read_program(ptx)
    if not program.functions:
        return ["there is no function with a body"]
    problems = [f"line {line}: {what}" for line, what in program.undeclared]
    for function in program.functions:
        units = list(function.units)
        instructions = [at for at, u in enumerate(units) if u.opcode]
        if not instructions:
            problems.append(f"{function.head}: there is no instruction")
            continue
        named = {target for u in units if u.label is None for target in u.targets}
        for at, unit in enumerate(units):
            if unit.label is not None and at > instructions[-1] and unit.label in named:
                problems.append(f"line {unit.source_line}: a branch leads to the end, where no instruction is")
        written = {r for u in units for r in u.defs}
        for unit, register in unset_reads(units, len(function.types)):
            what = "on some path before it is written" if register in written else "and never written"
            text = _opening(unit, function)
            problems.append(f"line {unit.source_line}: {_name(register, function)} is read {what}: {text}")
    return problems


def _opening(unit: Unit, function: Function, characters: int = 120) -> str:
    # One line of a damaged PTX can read 100,000 registers, with a sentence for each: no more is joined than is shown.
    text = ""
    for piece in unit.pieces:
        if len(text) >= characters:
            break
        text += _name(piece, function)
    return text[:characters]


def _name(piece: str | int | Label, function: Function) -> str:
    if isinstance(piece, Label):
        return f"label {piece.number}"
    return piece if isinstance(piece, str) else f"{function.types[piece]} register {piece}"

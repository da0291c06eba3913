"""Loops of SASS, and the spilled bytes that lie inside them; pure text.

Reads what `nvdisasm -c` prints (with life ranges or line numbers, or with neither). A loop is a natural one: a jump
back to a block that every way to the jump passes, and all blocks from which the jump is reached without that block. So
a wait that ptxas moved behind the last instruction, and which jumps back into the middle, makes no loop of what lies
between. Indirect jumps have no known target and count as ends, calls as running on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from helpers.inspection.binary.sass import _INSTRUCTION, _SECTION, SassInstruction

__all__ = ["LOOP_TRIPS", "LoopSpills", "loop_depths", "loop_spills"]

LOOP_TRIPS = 10
"""How often a loop is taken to run: the customary weight of register allocators since Chaitin's spill costs."""
_LABEL = re.compile(r"^([.$\w]{1,300}):", re.ASCII)
_TARGET = re.compile(r"`\(([.$\w]{1,300})\)", re.ASCII)
# Dominators are sets of blocks: beyond this the text is no kernel.
_MAX_BLOCKS = 20_000
_ENDS = frozenset({"EXIT", "RET", "BRX", "BRXU", "JMX", "JMXU", "KILL", "RTT"})
_JUMPS = frozenset({"BRA", "JMP"})


@dataclass(frozen=True)
class LoopSpills:
    """Bytes per thread that spills move, by the number of loops around them (0: outside of all)."""

    stores: Mapping[int, int] = field(default_factory=dict)
    loads: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All bytes, each instruction counted once, as ptxas counts."""
        return sum(self.stores.values()) + sum(self.loads.values())

    @property
    def inside(self) -> int:
        """Bytes of instructions inside some loop."""
        return self.total - self.stores.get(0, 0) - self.loads.get(0, 0)

    @property
    def weighted(self) -> int:
        """All bytes, each instruction counted LOOP_TRIPS times for every loop around it."""
        both = (*self.stores.items(), *self.loads.items())
        return sum(size * LOOP_TRIPS**depth for depth, size in both)


@dataclass(slots=True)
class SassBlock:
    instructions: list[tuple[str, int, str]]  # function, offset, text
    successors: list[int] = field(default_factory=list)


def loop_spills(disassembly: str) -> LoopSpills:
    """What a disassembled kernel stores to and loads from local memory, by depth of loops. Never raises."""
    stores: dict[int, int] = {}
    loads: dict[int, int] = {}
    for name, at, text, depth in loop_depths(disassembly):
        instruction = SassInstruction(name, at, text, 0, 0, 0)
        if size := instruction.local_bytes:
            kind = stores if instruction.opcode.startswith("STL") else loads
            kind[depth] = kind.get(depth, 0) + size
    return LoopSpills(dict(sorted(stores.items())), dict(sorted(loads.items())))


def loop_depths(disassembly: str) -> list[tuple[str, int, str, int]]:
    """(function, offset, instruction, how many loops lie around it) in order; empty for other text. Never raises."""
    blocks = sass_blocks(disassembly)
    depths = _depths(blocks) if len(blocks) <= _MAX_BLOCKS else [0] * len(blocks)
    return [(*i, depth) for block, depth in zip(blocks, depths, strict=True) for i in block.instructions]


def sass_blocks(disassembly: str) -> list[SassBlock]:
    """Basic blocks in the order of the text, with their edges; a block never spans two sections."""
    blocks: list[SassBlock] = []
    at_label: dict[str, int] = {}
    waiting: list[str] = []  # labels that stand before the next instruction
    jumps: list[tuple[int, str]] = []
    function, open_block, runs_on = "", False, False
    for line in disassembly.split("\n"):
        if m := _SECTION.match(line):
            function, open_block, runs_on = m[1], False, False
            waiting.clear()
        elif m := _LABEL.match(line):
            waiting.append(m[1])
            open_block = False
        elif m := _INSTRUCTION.match(line[:600]):
            if not open_block:
                blocks.append(SassBlock([]))
                if runs_on:
                    blocks[-2].successors.append(len(blocks) - 1)
                at_label.update(dict.fromkeys(waiting, len(blocks) - 1))
                waiting.clear()
                open_block = True
            text = m[2].strip()
            blocks[-1].instructions.append((function, int(m[1], 16), text))
            opcode = SassInstruction(function, 0, text, 0, 0, 0).opcode.split(".")[0]
            runs_on = True
            if opcode in _JUMPS or opcode in _ENDS:
                open_block = False
                runs_on = _is_conditional(text)
                if opcode in _JUMPS and (target := _TARGET.search(text)):
                    jumps.append((len(blocks) - 1, target[1]))
    for number, label in jumps:
        if label in at_label:
            blocks[number].successors.append(at_label[label])
    return blocks


def _is_conditional(text: str) -> bool:
    """Whether a jump may not be taken: it is guarded (`@P0 BRA`), or asks a predicate itself (`BRA.U UP0, …`)."""
    if text.startswith("@") and not text.startswith("@PT "):
        return True
    words = text.split(None, 1)
    operands = words[1] if len(words) == 2 else ""
    return bool(re.match(r"!?(?:UP|P|UR)[0-9]", operands, re.ASCII))


def _depths(blocks: list[SassBlock]) -> list[int]:
    """Loops around each block: how many different loop heads' natural loops hold it."""
    before: list[list[int]] = [[] for _ in blocks]
    for number, block in enumerate(blocks):
        for successor in block.successors:
            before[successor].append(number)
    dominators = _dominators(blocks, before)
    bodies: dict[int, set[int]] = {}
    for number, block in enumerate(blocks):
        for head in block.successors:
            if not dominators[number] >> head & 1:
                continue
            body = bodies.setdefault(head, {head})
            pending = [number]
            while pending:
                if (inner := pending.pop()) not in body:
                    body.add(inner)
                    pending += before[inner]
    depths = [0] * len(blocks)
    for body in bodies.values():
        for number in body:
            depths[number] += 1
    return depths


def _dominators(blocks: list[SassBlock], before: list[list[int]]) -> list[int]:
    """By block, the set (as bits) of blocks that every way to it passes, itself included."""
    everything = (1 << len(blocks)) - 1
    # Where a function begins, and what nothing leads to (code that is only called), is passed by itself alone.
    firsts = {b.instructions[0][0]: n for n, b in reversed(list(enumerate(blocks)))}
    roots = set(firsts.values()) | {n for n, sources in enumerate(before) if not sources}
    found = [1 << n if n in roots else everything for n in range(len(blocks))]
    changed = True
    while changed:
        changed = False
        for number, sources in enumerate(before):
            if number in roots:
                continue
            through = everything
            for source in sources:
                through &= found[source]
            through |= 1 << number
            if through != found[number]:
                found[number], changed = through, True
    return found

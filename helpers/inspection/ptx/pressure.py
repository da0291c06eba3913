"""Register demand of a PTX, point by point and by source line: an analysis that needs no successful compile.

ptxas reports one number when it succeeds and none when it dies. This module counts, from the PTX alone, how many
32-bit registers hold values that are still needed at each instruction: control-flow graph (cfg.py), units of values
with copies and packs seen through (values.py), backward dataflow, and an order like ptxas's inside each block
(order.py). An operand of several registers needs them adjacent: what is in it twice, or is a constant, takes a
register of its own all the same.

Three numbers must be kept apart: the *demand* at a point (this module), the *cap* of 255 (or fewer, for large CTAs),
and the *count* that ptxas reports. `PressureProfile.estimate` predicts the count from the demand by the rule of
`estimate_registers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from helpers.hardware import CAP, cap_for
from helpers.inspection.ptx.graph import Block, Function, read_functions
from helpers.inspection.ptx.late_order import late_order
from helpers.inspection.ptx.register_values import FREE, Values, read_values
from helpers.inspection.ptx.scan import SourceLine, ptx_header

__all__ = [
    "Held",
    "LineDemand",
    "Peak",
    "PressureProfile",
    "TupleDemand",
    "ValueGroup",
    "circles",
    "estimate_registers",
    "held_across",
    "live_sets",
    "members_of",
    "pressure_profile",
    "profile_and_held",
]

SLOPE, OFFSET = 0.91, 18.5
UNIFORM_ROOM = 32
"""Uniform values of a kernel with wgmma that find room in the uniform file: fitted, the file has 63 registers."""
# More uniform values than this above the file are computed again, not parked.
_MOST_PARKED = 80
_WIDE = 8
_MAX_LINES_SHOWN = 3
# Beyond this (blocks x units of values) the text is no kernel; it would take gigabytes of sets.
_MAX_WORK = 400_000_000
# Blocks that are looked at in search of the largest conditional region. Regions inside regions make that quadratic; the
# longest ones are tried first, and no kernel of a compiler's comes near.
_MAX_REACHED = 2_000_000


@dataclass(frozen=True)
class ValueGroup:
    """Values that are live together and were defined on the same source lines: how many, and registers they take.

    `lines` are (file, line), at most three; a value set in a loop and before it has both. Empty without line info.
    `opcode` is the commonest defining instruction, `line_no` the first of its lines in the PTX.
    """

    lines: tuple[SourceLine, ...]
    values: int
    registers: float
    opcode: str
    line_no: int


@dataclass(frozen=True)
class Peak:
    """The point of highest demand: registers in all, those an adjacent operand needs on top, and what is live."""

    line_no: int
    opcode: str
    source: SourceLine | None
    registers: int
    tuple_registers: int
    live: tuple[ValueGroup, ...]


@dataclass(frozen=True)
class TupleDemand:
    """An instruction with a wide operand: its width, how many of it are values of their own, and what lives beside it.

    `made` = `registers` - `supplied` have to be filled with copies or constants just for it. `beside` are registers
    that hold other values at that moment; `room` = `cap` - `registers` is what a thread has left for them.
    """

    line_no: int
    opcode: str
    source: SourceLine | None
    registers: int
    supplied: int
    beside: int
    cap: int = CAP

    @property
    def made(self) -> int:
        """Registers filled for this operand alone."""
        return self.registers - self.supplied

    @property
    def room(self) -> int:
        """Registers left for everything else while the operand is in place."""
        return self.cap - self.registers

    @property
    def demand(self) -> int:
        """Operand and everything beside it."""
        return self.registers + self.beside


@dataclass(frozen=True)
class LineDemand:
    """A source line: highest demand at any of its instructions, that instruction's PTX line, how many there are."""

    source: SourceLine
    registers: int
    line_no: int
    instructions: int


@dataclass(frozen=True)
class PressureProfile:
    """Register demand of one function, by program point.

    `points` are (PTX line, registers) in the order of the text; copies and packs have no point. `text_order_peak` is
    what the order of the text would need, `floor` what is left when every single integer operation from a live value is
    done again where it is used; `overflow` counts uniform values beyond the uniform file (wgmma only). `threads` per
    CTA as the PTX says, else None; `estimate` predicts ptxas's count.
    """

    function: str
    threads: int | None
    points: tuple[tuple[int, int], ...]
    lines: tuple[LineDemand, ...]
    peak: Peak | None
    tuples: tuple[TupleDemand, ...]
    text_order_peak: int
    floor: int
    overflow: int
    estimate: int

    @property
    def demand(self) -> int:
        """The highest demand, in registers."""
        return self.peak.registers if self.peak else 0

    @property
    def cap(self) -> int:
        """Most registers a thread can have in a CTA of so many threads."""
        return cap_for(self.threads)


@dataclass(frozen=True)
class Held:
    """What a conditional region finds occupied: values live across a forward branch around it.

    `registers` are live on both ways (into the region and around it); `entering` those live into the region. `groups`
    are those of `registers`. `instructions` is the size of the region.
    """

    line_no: int
    source: SourceLine | None
    instructions: int
    registers: float
    entering: float
    groups: tuple[ValueGroup, ...] = field(default=())


def estimate_registers(demand: int, overflow: int, threads: int | None) -> int:
    """ptxas's register count as predicted: 0.91 x demand + overflow + 18.5, up to the cap of the CTA's size.

    `overflow` are uniform values for which the uniform file has no room in a kernel that uses wgmma, whose descriptors
    all want to be there (`PressureProfile.overflow`); ptxas parks them in general registers.

    The constants are a least-squares fit of the relative error (0.909, 1.065, 18.5, rounded) on 117 compiles with 0
    spills and fewer than 255 registers. It is the second rule. The first, 0.6 x demand + 0.4 x floor + 16, was fitted
    on 61 of them and missed the target on its test set (79% within 15%, too low on wgmma); that set went into training.
    The second was written down here before the counts of its own, new test set were looked at, and has not been moved
    since (benchmarks/liveness_accuracy.py lists every set and measures them).
    """
    return min(cap_for(threads), round(SLOPE * demand + overflow + OFFSET)) if demand else 0


def pressure_profile(ptx: str) -> PressureProfile | None:
    """The profile of the first entry function (else the first function) of the text; None where there is none.

    Linear in the length of the text but for sets of live values; about a third of a second for 7,000 lines. Never
    raises, on any text.
    """
    live = _analysed(ptx)
    return None if live is None else live.profile(ptx_header(ptx).threads)


def held_across(ptx: str, branch: int | None = None) -> Held | None:
    """What is live across a conditional region: the one skipped by the jump at PTX line `branch`.

    By default the largest region that a branch inside a loop may skip: for the incident's kernel the tile-skip branch,
    `if work:`. None when there is no such branch.
    """
    live = _analysed(ptx)
    return None if live is None else live.held(branch)


def profile_and_held(ptx: str) -> tuple[PressureProfile | None, Held | None]:
    """`pressure_profile` and `held_across` of a text that is read and solved once."""
    live = _analysed(ptx)
    return (None, None) if live is None else (live.profile(ptx_header(ptx).threads), live.held(None))


def _analysed(ptx: str) -> _Liveness | None:
    functions = read_functions(ptx)
    function = next((f for f in functions if f.is_entry), functions[0] if functions else None)
    if function is None:
        return None
    live = _Liveness(function, read_values(function))
    return live if live.solve() else None


def members_of(live: int) -> list[int]:
    """The numbers of the bits set."""
    found, text = [], bin(live)[:1:-1]
    at = text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found


def _among(live: int, units: set[int]) -> set[int]:
    """Those of `units` whose bits are set; in the time of `units` and not of all that is live."""
    if not units:
        return set()
    octets = live.to_bytes(max(live.bit_length(), max(units) + 1) // 8 + 1, "little")
    return {unit for unit in units if octets[unit >> 3] >> (unit & 7) & 1}


def live_sets(
    blocks: Sequence[Block], defs: Sequence[Iterable[int]], uses: Sequence[Iterable[int]]
) -> tuple[list[int], list[int]]:
    """What lives at the beginning and at the end of each block, as bits, by backward dataflow.

    `defs` and `uses` are of every instruction, in the units that are asked about (registers, or values).
    """
    needed, written = [], []
    for block in blocks:
        above = own = 0
        for at in range(block.last - 1, block.first - 1, -1):
            for unit in defs[at]:
                own |= 1 << unit
                above &= ~(1 << unit)
            for unit in uses[at]:
                above |= 1 << unit
        needed.append(above)
        written.append(own)
    before: list[list[int]] = [[] for _ in blocks]
    for number, block in enumerate(blocks):
        for successor in block.successors:
            before[successor].append(number)
    live_in, live_out = [0] * len(blocks), [0] * len(blocks)
    waiting, queued = list(range(len(blocks))), [True] * len(blocks)
    while waiting:
        number = waiting.pop()
        queued[number] = False
        out = 0
        for successor in blocks[number].successors:
            out |= live_in[successor]
        live_out[number] = out
        live = needed[number] | (out & ~written[number])
        if live != live_in[number]:
            live_in[number] = live
            for other in before[number]:
                if not queued[other]:
                    queued[other] = True
                    waiting.append(other)
    return live_in, live_out


class _Weights:
    """What units take, in half registers: of one unit (`of`), and of all units whose bits are set."""

    def __init__(self, halves: Sequence[int]) -> None:
        self.of = halves
        octets = {weight: bytearray(len(halves) // 8 + 1) for weight in set(halves) if weight}
        for unit, weight in enumerate(halves):
            if weight:
                octets[weight][unit >> 3] |= 1 << (unit & 7)
        self._masks = [(weight, int.from_bytes(mask, "little")) for weight, mask in octets.items()]

    def all_of(self, live: int) -> int:
        return sum(weight * (live & mask).bit_count() for weight, mask in self._masks)


def _registers(halves: int) -> int:
    return (halves + 1) // 2


class _Liveness:
    """Uses, definitions and live sets of one function, in units."""

    def __init__(self, function: Function, values: Values) -> None:
        self.function, self.values = function, values
        self.uses: list[set[int]] = []
        self.defs: list[set[int]] = []
        self._read()
        self.weights = _Weights(values.halves)
        # What a block reads or writes: of all that lives through it, only that has to be looked at one by one.
        self.touched = [
            set().union(*self.uses[b.first : b.last], *self.defs[b.first : b.last]) for b in function.blocks
        ]

    def _read(self) -> None:
        units, instructions = self.values.units, self.function.instructions
        written: dict[int, int] = {}
        for instruction in instructions:
            for register in instruction.defs:
                for unit in units[register]:
                    written[unit] = written.get(unit, 0) + 1
        in_flight: set[int] = set()  # registers that wgmma still reads, until the next wait
        nothing: set[int] = set()
        for at, instruction in enumerate(instructions):
            if self.values.vanished[at]:
                self.uses.append(nothing)
                self.defs.append(nothing)
                continue
            uses = {u for r in instruction.uses for u in units[r] if u != FREE}
            defs = {u for r in instruction.defs for u in units[r] if u != FREE}
            if instruction.guard is not None:
                # What is not written when the guard is false stays; a single definition has nothing to stay.
                uses |= {u for u in defs if written[u] > 1}
            if instruction.opcode.startswith("wgmma.mma_async"):
                in_flight |= uses - defs
            elif instruction.opcode.startswith("wgmma.wait_group"):
                uses |= in_flight
                in_flight = set()
            self.uses.append(uses)
            self.defs.append(defs)

    def solve(self) -> bool:
        """Backward dataflow over the blocks; False for a text too large to be a kernel."""
        blocks = self.function.blocks
        if len(blocks) * max(1, len(self.values.halves)) > _MAX_WORK:
            return False
        self.live_in, self.live_out = live_sets(blocks, self.defs, self.uses)
        return True

    def weight(self, units: Sequence[int] | set[int]) -> int:
        halves = self.values.halves
        return sum(halves[u] for u in units)

    def made_for(self, at: int) -> int:
        """Half registers that adjacent operands need beyond the values in them: repeats, constants, uniforms."""
        instruction, units, extra = self.function.instructions[at], self.values.units, 0
        results = set(instruction.defs)
        for group in instruction.groups:
            if not results.issuperset(group) or instruction.opcode.startswith("wgmma"):
                parts = [u for r in group for u in units[r]]
                extra += max(0, 2 * len(parts) - self.weight({u for u in parts if u != FREE}))
        return 0 if instruction.opcode.startswith("mov") else extra

    def demands(self, number: int, order: Sequence[int], weights: _Weights | None = None) -> list[int]:
        """Half registers needed at each place of a block's `order`, walked backwards from what is live at its end.

        With other weights than the units' own, adjacent operands are left out.
        """
        adjacent = weights is None
        weights = self.weights if weights is None else weights
        halves = weights.of
        live = _among(self.live_out[number], self.touched[number])
        now = weights.all_of(self.live_out[number])
        found = [0] * len(order)
        for place in range(len(order) - 1, -1, -1):
            at = order[place]
            uses, defs = self.uses[at], self.defs[at]
            after = now + sum(halves[u] for u in defs if u not in live)
            for unit in defs:
                if unit in live and unit not in uses:
                    live.discard(unit)
                    now -= halves[unit]
            for unit in uses:
                if unit not in live:
                    live.add(unit)
                    now += halves[unit]
            made = self.made_for(at) if adjacent and self.function.instructions[at].groups else 0
            found[place] = max(after, now + made)
        return found

    def order(self, number: int) -> list[int]:
        return late_order(
            self.function.blocks[number], self.function.instructions, uses=self.uses, defs=self.defs,
            skip=self.values.vanished, live_out=_among(self.live_out[number], self.touched[number]),
            halves=self.values.halves,
        )  # fmt: skip

    def live_at(self, number: int, order: Sequence[int], place: int) -> tuple[set[int], set[int]]:
        """(units live before, units live after) the instruction at `place` of a block's order."""
        live = set(members_of(self.live_out[number]))
        for at in reversed(order[place + 1 :]):
            live -= self.defs[at] - self.uses[at]
            live |= self.uses[at]
        at = order[place]
        return (live - self.defs[at]) | self.uses[at], live | self.defs[at]

    def profile(self, threads: int | None) -> PressureProfile:
        instructions, blocks = self.function.instructions, self.function.blocks
        points: dict[int, int] = {}
        top: tuple[int, int, int, list[int]] | None = None
        text_peak = uniform_peak = 0
        pairs = zip(self.values.uniform, self.values.predicate, strict=True)
        uniform = _Weights([2 if u and not p else 0 for u, p in pairs])
        tuples: list[TupleDemand] = []
        for number, block in enumerate(blocks):
            kept = [at for at in range(block.first, block.last) if not self.values.vanished[at]]
            text_peak = max([text_peak, *self.demands(number, kept)])
            order = self.order(number)
            found = self.demands(number, order)
            uniform_peak = max([uniform_peak, *self.demands(number, order, uniform)])
            for place, at in enumerate(order):
                points[at] = found[place]
                if top is None or found[place] > top[0]:
                    top = (found[place], number, place, order)
            tuples += self._tuples(number, order, cap_for(threads))
        by_line: dict[SourceLine, list[int]] = {}
        for at in points:
            if (source := instructions[at].source) is not None and source[1]:
                by_line.setdefault(source, []).append(at)
        lines = []
        for source, places in by_line.items():
            worst = max(places, key=points.__getitem__)
            lines.append(LineDemand(source, _registers(points[worst]), instructions[worst].line_no, len(places)))
        lines.sort(key=lambda line: (-line.registers, line.source))
        peak = None if top is None else self._peak(*top)
        overflow = 0
        if any(i.opcode.startswith("wgmma.mma_async") for i in instructions):
            overflow = min(_MOST_PARKED, max(0, _registers(uniform_peak) - UNIFORM_ROOM))
        tuples.sort(key=lambda t: -t.demand)
        return PressureProfile(
            function=self.function.name,
            threads=threads,
            points=tuple((instructions[at].line_no, _registers(points[at])) for at in sorted(points)),
            lines=tuple(lines),
            peak=peak,
            tuples=tuple(tuples),
            text_order_peak=_registers(text_peak),
            floor=_registers(_floor(self.function)),
            overflow=overflow,
            estimate=estimate_registers(peak.registers if peak else 0, overflow, threads),
        )

    def _peak(self, halves: int, number: int, place: int, order: list[int]) -> Peak:
        at = order[place]
        before, after = self.live_at(number, order, place)
        made = self.made_for(at)
        live = before if self.weight(before) + made >= self.weight(after) else after
        instruction = self.function.instructions[at]
        made = _registers(made) if live is before else 0
        return Peak(
            instruction.line_no, instruction.opcode, instruction.source, _registers(halves), made, self.groups(live)
        )

    def _tuples(self, number: int, order: Sequence[int], cap: int) -> list[TupleDemand]:
        """The instructions of a block with a wide operand, in its order, with what lives beside each."""
        instructions, halves = self.function.instructions, self.values.halves
        if not any(len(group) >= _WIDE for at in order for group in instructions[at].groups):
            return []
        live = _among(self.live_out[number], self.touched[number])
        now = self.weights.all_of(self.live_out[number])
        found = []
        for at in reversed(order):
            uses, defs = self.uses[at], self.defs[at]
            after = live | defs if any(len(group) >= _WIDE for group in instructions[at].groups) else live
            weight_after = now + sum(halves[u] for u in defs if u not in live)
            for unit in (defs & live) - uses:
                now -= halves[unit]
            for unit in uses - live:
                now += halves[unit]
            live = (live - defs) | uses if after is not live else self._stepped(live, defs, uses)
            if not any(len(group) >= _WIDE for group in instructions[at].groups):
                continue
            instruction = instructions[at]
            widest = max(instruction.groups, key=len)
            registers = len([u for r in widest for u in self.values.units[r]])
            units = {u for r in widest for u in self.values.units[r] if u != FREE}
            made_here = set(widest) <= set(instruction.defs)
            beside = (weight_after if made_here else now) - self.weight(units & (after if made_here else live))
            found.append(
                TupleDemand(
                    instruction.line_no, instruction.opcode, instruction.source, registers,
                    min(registers, _registers(self.weight(units))), _registers(beside), cap,
                )
            )  # fmt: skip
        return found[::-1]

    @staticmethod
    def _stepped(live: set[int], defs: set[int], uses: set[int]) -> set[int]:
        """`live` before an instruction, in place."""
        live -= defs - uses
        live |= uses
        return live

    def groups(self, live: set[int]) -> tuple[ValueGroup, ...]:
        """The live values that take registers, by the source lines that define them, largest first."""
        found: dict[tuple[SourceLine, ...], list[int]] = {}
        origins = self.values.origins
        instructions = self.function.instructions
        for unit in live:
            if self.values.halves[unit]:
                sources = dict.fromkeys(s for at in origins[unit] if (s := instructions[at].source) is not None)
                lines = tuple(sorted(s for s in sources if s[1]) or sorted(sources))[:_MAX_LINES_SHOWN]
                found.setdefault(lines, []).append(unit)
        groups = []
        for lines, units in found.items():
            opcodes: dict[str, int] = {}
            for unit in units:
                for at in origins[unit][:1]:
                    opcodes[instructions[at].opcode] = opcodes.get(instructions[at].opcode, 0) + 1
            first = min((instructions[at].line_no for u in units for at in origins[u][:1]), default=0)
            commonest = max(opcodes, key=opcodes.__getitem__, default="")
            groups.append(ValueGroup(lines, len(units), self.weight(units) / 2, commonest, first))
        return tuple(sorted(groups, key=lambda g: (-g.registers, g.lines)))

    def held(self, branch: int | None) -> Held | None:
        blocks, instructions = self.function.blocks, self.function.instructions
        best: tuple[int, int, int, int] | None = None
        reached = 0
        for number, turn, join, entry in self._forks(branch):
            if reached > _MAX_REACHED:
                break
            region = self._reach(entry, stop=join)
            reached += len(region)
            if number in region:
                continue  # a loop's back edge skips nothing
            if join not in {s for b in region for s in blocks[b].successors}:
                continue
            size = sum(blocks[b].last - blocks[b].first for b in region)
            # Of regions of one size, the first in the text.
            if best is None or (size, -number, -turn) > (
                best[0],
                -best[1],
                -(blocks[best[1]].successors[0] != best[2]),
            ):
                best = (size, number, join, entry)
        if best is None:
            return None
        size, number, join, entry = best
        tail = instructions[blocks[number].last - 1]
        both = set(members_of(self.live_in[join] & self.live_in[entry]))
        entering = self.weight(members_of(self.live_in[entry]))
        return Held(tail.line_no, tail.source, size, self.weight(both) / 2, entering / 2, self.groups(both))

    def _forks(self, branch: int | None) -> list[tuple[int, int, int, int]]:
        """(block, which way round, where it may jump to, where the region begins) of each fork, the longest first.

        With a `branch`, those of that PTX line; without one, those inside a loop: from where it jumps to, the fork can
        be reached again.
        """
        blocks, instructions = self.function.blocks, self.function.instructions
        circle = circles([block.successors for block in blocks])
        found = []
        for number, block in enumerate(blocks):
            if len(block.successors) != 2 or (branch is not None and instructions[block.last - 1].line_no != branch):
                continue
            for turn, (join, entry) in enumerate((block.successors, block.successors[::-1])):
                if join not in (number, entry) and (branch is not None or circle[join] == circle[number]):
                    found.append((number, turn, join, entry))
        return sorted(found, key=lambda fork: (-abs(blocks[fork[2]].first - blocks[fork[3]].first), fork[0], fork[1]))

    def _reach(self, start: int, *, stop: int) -> set[int]:
        """Blocks reached from `start` without going through `stop`."""
        seen, waiting = {start}, [start]
        while waiting:
            for successor in self.function.blocks[waiting.pop()].successors:
                if successor != stop and successor not in seen:
                    seen.add(successor)
                    waiting.append(successor)
        return seen


def circles(successors: Sequence[Sequence[int]]) -> list[int]:
    """A number for each node, the same for nodes that can reach each other (Tarjan's algorithm, without recursion)."""
    count = len(successors)
    index, low, circle = [-1] * count, [0] * count, [-1] * count
    path: list[int] = []
    seen = found = 0
    for root in range(count):
        if index[root] >= 0:
            continue
        work = [(root, 0)]
        while work:
            node, at = work.pop()
            if at == 0:
                index[node] = low[node] = seen
                seen += 1
                path.append(node)
            elif at > 0:
                low[node] = min(low[node], low[successors[node][at - 1]])
            for place in range(at, len(successors[node])):
                after = successors[node][place]
                if index[after] < 0:
                    work += [(node, place + 1), (after, 0)]
                    break
                if circle[after] < 0:
                    low[node] = min(low[node], index[after])
            else:
                if low[node] == index[node]:
                    while True:
                        last = path.pop()
                        circle[last] = found
                        if last == node:
                            break
                    found += 1
    return circle


def _floor(function: Function) -> int:
    """Half registers at the peak when derived integers cost nothing."""
    live = _Liveness(function, read_values(function, rederive=True))
    if not live.solve():
        return 0
    return max((max(live.demands(n, live.order(n)), default=0) for n in range(len(function.blocks))), default=0)

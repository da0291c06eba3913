"""What a register of PTX stands for: 32-bit units of values, copies and packs seen through, cheap values told apart.

PTX names far more registers than values. `mov.b64 %rd, {%lo, %hi}` makes no value, it says that two registers are
neighbours; so do the `cvt`, `shl` and `or` by which older Tritons spell the same. Here every register becomes a tuple
of units, one per 32 bits, and such instructions vanish. A unit costs no register of the general file when it is a
constant or a kernel parameter (read where it is used) or uniform (the same in all threads of a warp: ptxas keeps those
in the uniform file).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from helpers.inspection.ptx.graph import Function, Instruction

__all__ = ["FREE", "Values", "read_values"]

FREE = -1
"""The unit of everything that needs no register: zero halves, immediates, parameters."""

_WORD = re.compile(r"%?[A-Za-z_$][\w$]*(?:\.[a-z]+)?|_", re.ASCII)
_IMMEDIATE = re.compile(r"-?[0-9][\w.]*$", re.ASCII)
# Special registers that differ between the threads of a warp, or between two reads.
_PER_THREAD = ("%tid", "%laneid", "%lanemask", "%warpid", "%smid", "%clock", "%globaltimer", "%pm", "%total_smem")
# Pure integer work that the uniform data path can do. Division, conversion to float and memory are not on it.
_UNIFORM_OPS = frozenset(
    "mov add sub mul mad shl shr and or xor not neg min max abs cvt cvta selp bfe bfi lop3".split()
)
_FLOATS = re.compile(r"\.b?f[0-9]|x2\b")
_DERIVING = frozenset("add sub or xor and shl shr mul mad bfe".split())
_COPIES = frozenset("mov.b32 mov.u32 mov.s32 mov.f32 mov.b64 mov.u64 mov.s64 mov.f64 mov.b16 mov.u16".split())

# What a register is of which others: one of `_UNITS_OF_ONE`, `pack` (two halves side by side) or `or` (one fills the
# other's empty half).
Alias = tuple[str, tuple[int, ...]]
# opcode -> (what its result is of its source, bits that the source must have)
_CONVERSIONS = {
    "cvt.u64.u32": ("widen", 32),
    "cvt.u32.u64": ("low", 64), "cvt.s32.s64": ("low", 64), "cvt.u32.s64": ("low", 64),
}  # fmt: skip
# Shifts by 32 bits.
_SHIFTS = {"shl.b64": "shift_up", "shr.u64": "shift_down"}
# What a register is of one other -> its units from the other's; () where those do not fit.
_UNITS_OF_ONE: dict[str, Callable[[tuple[int, ...]], tuple[int, ...]]] = {
    "copy": lambda units: units,
    "low": lambda units: units[:1],
    "high": lambda units: units[1:2],
    "widen": lambda units: (units[0], FREE) if units else (),
    "shift_up": lambda units: (FREE, units[0]) if units else (),
    "shift_down": lambda units: (units[1], FREE) if len(units) == 2 else (),
}


@dataclass(slots=True)
class Values:
    """Units by register, and by unit: half registers it takes, whether it is uniform, the instructions defining it.

    `units[r]` are the units of register r; `vanished` the instructions that only rename. A predicate is one unit with
    `halves` 0; it is counted apart (`predicate`). `uniform` units have `halves` 0 as well.
    """

    units: list[tuple[int, ...]]
    halves: list[int]
    predicate: list[bool]
    uniform: list[bool]
    origins: list[list[int]]
    vanished: list[bool]


def read_values(function: Function, *, rederive: bool = False) -> Values:
    """The `Values` of a function's registers; linear in its length.

    With `rederive`, an integer computed in one instruction from one varying value (an address plus an offset) is that
    value: the least that any compiler could keep, if it did the arithmetic again at each use.
    """
    instructions, bits = function.instructions, function.bits
    defined: list[list[int]] = [[] for _ in bits]
    used: list[list[int]] = [[] for _ in bits]
    for at, instruction in enumerate(instructions):
        for register in dict.fromkeys(instruction.defs):
            defined[register].append(at)
        for register in instruction.uses:
            used[register].append(at)
    single = [len(places) == 1 for places in defined]
    constant, uniform = _constants(function, defined), _uniforms(function, defined)
    plan = _Plan(function, single, defined, constant, used, uniform, rederive)
    units, vanished = plan.resolve()
    count = plan.fresh
    halves, predicate, even = [0] * count, [False] * count, [False] * count
    origins: list[list[int]] = [[] for _ in range(count)]
    for register, own in enumerate(plan.own):
        for unit in own:
            width = bits[register]
            predicate[unit] = width == 1
            even[unit] = uniform[register]
            origins[unit] = defined[register]
            if width > 1 and not uniform[register]:
                halves[unit] = 1 if width == 16 and _only_packed(register, used, instructions) else 2
    return Values(units, halves, predicate, even, origins, vanished)


def _only_packed(register: int, used: list[list[int]], instructions: list[Instruction]) -> bool:
    """Whether a 16-bit register only ever becomes half of a wider operand."""
    places = used[register]
    return bool(places) and all(any(register in group for group in instructions[at].groups) for at in places)


def _constants(function: Function, defined: list[list[int]]) -> list[bool]:
    """Registers that hold an immediate, an address of a variable or a parameter, whichever way they were set."""
    constant = [False] * len(function.bits)
    for register, places in enumerate(defined):
        if len(places) != 1 or function.bits[register] == 1:
            continue
        instruction = function.instructions[places[0]]
        if instruction.guard is not None or instruction.uses:
            continue
        first = instruction.opcode.partition(".")[0]
        operand = instruction.operands[1] if len(instruction.operands) == 2 else "%"
        if (first == "mov" and "%" not in operand) or (first == "ld" and ".param" in instruction.opcode):
            constant[register] = True
    return constant


def _uniforms(function: Function, defined: list[list[int]]) -> list[bool]:
    """Registers equal in all threads of a warp as far as integer arithmetic shows: from constants and CTA numbers.

    Taken for true until a definition says otherwise, so that loop counters are uniform when what they count by is.
    """
    bits = function.bits
    uniform = [bool(places) for places in defined]
    users: list[list[int]] = [[] for _ in bits]
    work: list[int] = []
    for at, instruction in enumerate(function.instructions):
        for register in instruction.uses:
            users[register].append(at)
        if instruction.defs and not _may_be_uniform(instruction):
            work += instruction.defs
    work += [register for register, places in enumerate(defined) if not places]
    for register in work:
        uniform[register] = False
    seen = [False] * len(function.instructions)  # of what one varying value has reached, nothing is left to say
    while work:
        for at in users[work.pop()]:
            if seen[at]:
                continue
            seen[at] = True
            for register in function.instructions[at].defs:
                if uniform[register]:
                    uniform[register] = False
                    work.append(register)
    return uniform


def _may_be_uniform(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    words = opcode.split(".")
    if words[0] == "setp":
        return words[-1][:1] not in "f"
    if words[0] == "ld":
        return ".param" in opcode
    if words[0] not in _UNIFORM_OPS or _FLOATS.search(opcode):
        return False
    return not any(operand.startswith(_PER_THREAD) for operand in instruction.operands[1:])


def _filled(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    """The units of an or of two pairs, of which at most one is taken at each place."""
    if len(one) != 2 or len(other) != 2 or any(FREE not in pair for pair in zip(one, other, strict=True)):
        return None
    return tuple(b if a == FREE else a for a, b in zip(one, other, strict=True))


class _Plan:
    """Works out the units register by register, definitions first, without recursion."""

    def __init__(
        self, function: Function, single: list[bool], defined: list[list[int]], constant: list[bool],
        used: list[list[int]], uniform: list[bool], rederive: bool,
    ) -> None:  # fmt: skip
        self.uniform, self.rederive = uniform, rederive
        self.function, self.single, self.defined, self.constant, self.used = function, single, defined, constant, used
        self.units: list[tuple[int, ...] | None] = [None] * len(function.bits)
        self.own: list[tuple[int, ...]] = [()] * len(function.bits)
        self.fresh = 0
        self.aliases = self._aliases()

    def resolve(self) -> tuple[list[tuple[int, ...]], list[bool]]:
        instructions = self.function.instructions
        for start in range(len(self.units)):
            stack, open_ = [start], set()
            while stack:
                register = stack[-1]
                if self.units[register] is not None:
                    stack.pop()
                    continue
                alias = self.aliases.get(register)
                missing = [] if alias is None else [s for s in alias[1] if self.units[s] is None]
                if missing and register not in open_ and not any(s in open_ for s in missing):
                    open_.add(register)
                    stack += missing
                    continue
                # A cycle of copies is no PTX of a compiler's; its first member becomes a value of its own.
                self.units[register] = None if missing else self._follow(alias)
                if self.units[register] is None:
                    self._make(register)
                stack.pop()
        vanished = [
            bool(i.defs) and all(not self.own[d] and self.single[d] for d in i.defs) and i.guard is None
            and all(d in self.aliases or self.constant[d] for d in i.defs)
            for i in instructions
        ]  # fmt: skip
        return [u or () for u in self.units], vanished

    def _make(self, register: int) -> None:
        count = max(1, (self.function.bits[register] + 31) // 32)
        if self.constant[register]:
            self.units[register] = (FREE,) * count
            return
        self.units[register] = self.own[register] = tuple(range(self.fresh, self.fresh + count))
        self.fresh += count

    def _follow(self, alias: Alias | None) -> tuple[int, ...] | None:
        """The units of a register that only renames others; None where theirs do not fit what is said of them."""
        if alias is None:
            return None
        how, sources = alias
        parts = [self.units[s] or () for s in sources]
        if how in _UNITS_OF_ONE:
            return _UNITS_OF_ONE[how](parts[0] if parts else ()) or None
        if how == "pack":
            return (parts[0][0], parts[1][0]) if all(len(p) == 1 for p in parts) else None
        return _filled(*parts)

    def _aliases(self) -> dict[int, Alias]:
        found: dict[int, Alias] = {}
        for instruction in self.function.instructions:
            if instruction.guard is None and instruction.defs and instruction.uses:
                found.update(self._alias(instruction))
        return found

    def _alias(self, i: Instruction) -> dict[int, Alias]:
        """The registers that an instruction only renames, each with what it is of which others."""
        if not all(self.single[r] for r in i.defs) or not all(self.single[r] or self.uniform[r] for r in i.uses):
            return {}
        if i.opcode in _COPIES and len(i.operands) == 2:
            return self._unpack(i) if i.operands[0].startswith("{") else self._moved(i)
        alias = self._computed(i) if len(i.defs) == 1 else None
        return {} if alias is None else {i.defs[0]: alias}

    def _moved(self, i: Instruction) -> dict[int, Alias]:
        """Of a mov into one register: a copy, or two halves side by side."""
        bits, target = self.function.bits, i.defs[0]
        if not i.operands[1].startswith("{"):
            return {target: ("copy", i.uses)} if bits[target] == bits[i.uses[0]] else {}
        halves = i.groups[-1] if i.groups and bits[target] == 64 else ()
        pair = len(halves) == 2 and i.operands[1].count(",") == 1 and all(bits[r] == 32 for r in halves)
        return {target: ("pack", halves)} if pair else {}

    def _computed(self, i: Instruction) -> Alias | None:
        """Of an instruction with one result: what that is of its source, where the instruction makes no new value."""
        bits, opcode, sources, target = self.function.bits, i.opcode, i.uses, i.defs[0]
        if opcode in _CONVERSIONS:
            how, source_bits = _CONVERSIONS[opcode]
            return (how, sources) if bits[sources[0]] == source_bits else None
        if opcode.startswith("cvta."):
            return ("copy", sources) if len(sources) == 1 and bits[target] == bits[sources[0]] else None
        if opcode in _SHIFTS and len(i.operands) == 3 and i.operands[2] == "32" and len(sources) == 1:
            return (_SHIFTS[opcode], sources)
        if opcode == "or.b64" and len(sources) == 2:
            return ("or", sources)
        if opcode in ("add.s64", "add.s32") and len(sources) == 1 and _IMMEDIATE.match(i.operands[-1]):
            # Folded into the address it is used for: [register + immediate].
            if self.used[target] and all(self._is_address(target, place) for place in self.used[target]):
                return ("copy", sources)
        return self._derived(i) if self.rederive else None

    def _derived(self, i: Instruction) -> Alias | None:
        """An integer made in one step from one varying value: that value, as it could be computed again."""
        if i.opcode.partition(".")[0] not in _DERIVING or _FLOATS.search(i.opcode):
            return None
        bits = self.function.bits
        varying = tuple(r for r in i.uses if not (self.constant[r] or self.uniform[r]))
        fits = len(varying) == 1 and bits[i.defs[0]] >= 32 and bits[varying[0]] >= 32
        return ("copy", varying) if fits else None

    def _is_address(self, register: int, at: int) -> bool:
        name = self.function.names[register]
        return any(
            op.startswith(f"[{name}") or op.startswith(f"[ {name}") for op in self.function.instructions[at].operands
        )

    def _unpack(self, i: Instruction) -> dict[int, Alias]:
        bits, sources = self.function.bits, i.uses
        words = _WORD.findall(i.operands[0])
        if len(words) != 2 or len(sources) != 1:
            return {}
        kind = ("copy", "copy") if bits[sources[0]] == 32 else ("low", "high")
        names = {self.function.names[r]: r for r in i.defs}
        return {names[w]: (how, sources) for w, how in zip(words, kind, strict=True) if w in names}

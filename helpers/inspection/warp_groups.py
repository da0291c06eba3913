"""Registers by warp group: what each group asks for with `setmaxnreg`, whether that adds up, and what each one needs.

A CTA begins with as many registers a thread as the kernel was compiled for, the same for all its threads. Groups of
four warps then give some back (`setmaxnreg.dec`) or ask for more (`.inc`), and an `.inc` waits until the CTA's pool has
them (PTX ISA, "setmaxnreg"): what all groups have at once must fit the pool, or they wait for ever. Which instruction
runs under which size follows from the control flow, in a PTX that fails as well as in SASS; which warps take which way
does not stand in the text, so that a sum is given as the lowest and the highest that the text allows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from helpers.hardware import REGISTER_UNIT_PER_WARP, REGISTERS_PER_SM, WARP_SIZE, cap_for
from helpers.inspection.binary.sass import SassInstruction
from helpers.inspection.binary.sass_loops import sass_blocks
from helpers.inspection.ptx.graph import Function, read_functions
from helpers.inspection.ptx.pressure import PressureProfile, pressure_profile
from helpers.inspection.ptx.scan import PtxHeader, SourceLine, ptx_header

THREADS_OF_A_GROUP = 128
ENTRY = -1
# Tried with ptxas 12.8.93 and 13.4.59, on a kernel of ours and on small ones, with one directive after the other taken
# out: .maxnreg alone suffices, and so do threads with .minnctapersm; threads alone only in a kernel with wgmma.
_UNKNOWN_AT_ENTRY = (
    "the PTX does not fix how many registers a thread has at entry (it has no .maxnreg, and not both the threads of a "
    "CTA and .minnctapersm): ptxas then ignores setmaxnreg (C7508)"
)
_THREADS_SUFFICE = ("wgmma", "tcgen05")
# More groups than a CTA can have (1,024 threads), and more ways to deal sizes to them than are worth counting.
_MOST_GROUPS, _MOST_SITES = 8, 64
_SETMAXNREG = re.compile(r"^setmaxnreg\.(inc|dec)\b")
_USETMAXREG = re.compile(r"\bUSETMAXREG\.(DEALLOC|TRY_ALLOC)\.\S+\s+(?:UP\w+,\s*)?(0x[0-9a-f]{1,4})", re.IGNORECASE)


@dataclass(frozen=True)
class Region:
    """The instructions that run while a thread has `registers` of them: as many as it asked for last.

    `registers` is None for those before any `setmaxnreg`. `asked_at` are the lines of the PTX (offsets, in SASS) that
    ask so. `demand` is the most that any instruction here needs by `ptx/pressure.py`'s estimate, at `peak_line_no`;
    None in SASS, where the bytes that spills store and load are counted instead (each instruction once).
    """

    registers: int | None
    asked_at: tuple[int, ...]
    instructions: int
    demand: int | None = None
    peak_line_no: int | None = None
    peak_source: SourceLine | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None

    @property
    def over(self) -> int | None:
        """Registers needed beyond what is asked for, 0 where they fit; None where one of the two is not known."""
        if self.registers is None or self.demand is None:
            return None
        return max(0, self.demand - self.registers)


@dataclass(frozen=True)
class WarpGroups:
    """The register split of one kernel. `at_entry` is None where the text does not fix how many a thread begins with.

    `roles` are the sizes that groups work with, as the text shows them: what a group asks first, or, where the same
    warps ask again, what they ask then (a return to the first size is no role). `sums` is the lowest and the highest
    sum over all groups, in registers a thread of each; None where there are more sizes than groups, or none.
    `dropped` says why ptxas will not obey `setmaxnreg`; "" where nothing in the text speaks for that.
    """

    function: str
    threads: int | None
    at_entry: int | None
    regions: tuple[Region, ...]
    roles: tuple[int, ...]
    sums: tuple[int, int] | None
    dropped: str = ""

    @property
    def groups(self) -> int | None:
        """How many groups of four warps the CTA has; None where its threads are not known."""
        return -(-self.threads // THREADS_OF_A_GROUP) if self.threads else None

    @property
    def pool(self) -> int | None:
        """What the groups share, in registers a thread of each group: those that the CTA begins with."""
        return self.groups * self.at_entry if self.groups and self.at_entry else None

    @property
    def fits(self) -> bool | None:
        """Whether every way to deal the roles to the groups fits the pool (False: none does); None where it depends."""
        if self.sums is None or self.pool is None:
            return None
        if self.sums[1] <= self.pool:
            return True
        return False if self.sums[0] > self.pool else None


def ptx_warp_groups(ptx: str, profile: PressureProfile | None = None) -> WarpGroups | None:
    """The split of the first entry function of a PTX; None where it has no `setmaxnreg`, or is no PTX. Never raises.

    `profile` is `pressure_profile(ptx)`, where it is at hand already.
    """
    if "setmaxnreg" not in ptx:
        return None
    functions = read_functions(ptx)
    function = next((f for f in functions if f.is_entry), functions[0] if functions else None)
    if function is None:
        return None
    sites = _ptx_sites(function)
    if not sites:
        return None
    blocks = [range(block.first, block.last) for block in function.blocks]
    states = _states(blocks, [block.successors for block in function.blocks], sites)
    profile = profile or pressure_profile(ptx)
    demand = dict(profile.points) if profile else {}
    regions = []
    for size, places in _by_size(sites, states).items():
        lines = [function.instructions[at].line_no for at in places]
        peak = max((n for n in lines if n in demand), key=demand.__getitem__, default=None)
        at_peak = next((at for at in places if function.instructions[at].line_no == peak), None)
        regions.append(
            Region(
                size,
                tuple(function.instructions[at].line_no for at, asked in sites.items() if asked == size),
                len(places),
                demand[peak] if peak is not None else None,
                peak,
                function.instructions[at_peak].source if at_peak is not None else None,
            )
        )
    header, roles = ptx_header(ptx), _roles(sites, states)
    return WarpGroups(
        function.name,
        header.threads,
        _at_entry(header) if _is_fixed(header, function) else None,
        tuple(regions),
        roles,
        _sums(roles, header.threads),
        "" if _is_fixed(header, function) else _UNKNOWN_AT_ENTRY,
    )


def sass_warp_groups(disassembly: str, threads: int | None = None, registers: int | None = None) -> WarpGroups | None:
    """The split of the first kernel that `nvdisasm -c` prints, with what each region spills; None where there is none.

    `threads` of a CTA and `registers` at entry stand in the binary's other sections. Never raises, on any text.
    """
    if "USETMAXREG" not in disassembly:
        return None
    read = sass_blocks(disassembly)
    flat = [instruction for block in read for instruction in block.instructions]
    sites = {at: int(m[2], 16) for at, (_f, _o, text) in enumerate(flat) if (m := _USETMAXREG.search(text))}
    if not sites:
        return None
    ends = list(itertools.accumulate(len(block.instructions) for block in read))
    blocks = [range(end - len(block.instructions), end) for block, end in zip(read, ends, strict=True)]
    states = _states(blocks, [block.successors for block in read], sites)
    regions = []
    for size, places in _by_size(sites, states).items():
        moved = [SassInstruction(*flat[at], 0, 0, 0) for at in places]
        regions.append(
            Region(
                size,
                tuple(flat[at][1] for at, asked in sites.items() if asked == size),
                len(places),
                spill_store_bytes=sum(i.local_bytes for i in moved if i.opcode.startswith("STL")),
                spill_load_bytes=sum(i.local_bytes for i in moved if i.opcode.startswith("LDL")),
            )
        )
    roles = _roles(sites, states)
    return WarpGroups(flat[0][0], threads, registers, tuple(regions), roles, _sums(roles, threads))


def _ptx_sites(function: Function) -> dict[int, int]:
    """Which instructions change the size, and to what."""
    found = {}
    for at, instruction in enumerate(function.instructions):
        if _SETMAXNREG.match(instruction.opcode) and instruction.operands[:1]:
            word = instruction.operands[0].strip()
            if word.isdecimal() and len(word) <= 4:
                found[at] = int(word)
    return dict(list(found.items())[:_MOST_SITES])


def _states(
    blocks: Sequence[range], successors: Sequence[Sequence[int]], sites: dict[int, int]
) -> dict[int, frozenset[int]]:
    """Before each instruction: the instructions that may have changed the size last (`ENTRY`: none has)."""
    nothing: frozenset[int] = frozenset()
    arriving = [nothing for _ in blocks]
    if not blocks:
        return {}
    arriving[0] = frozenset({ENTRY})
    waiting = [0]
    last = [next((at for at in reversed(block) if at in sites), None) for block in blocks]
    while waiting:
        number = waiting.pop()
        change = last[number]
        leaving = arriving[number] if change is None else frozenset({change})
        for successor in successors[number]:
            if not leaving <= arriving[successor]:
                arriving[successor] |= leaving
                waiting.append(successor)
    found = {}
    for number, block in enumerate(blocks):
        now = arriving[number]
        for at in block:
            found[at] = now
            if at in sites:
                now = frozenset({at})
    return found


def _by_size(sites: dict[int, int], states: dict[int, frozenset[int]]) -> dict[int | None, list[int]]:
    """The instructions that run under each size, in order; one that several sizes reach is in each of them."""
    found: dict[int | None, list[int]] = {}
    for at, before in states.items():
        for size in {sites.get(site) for site in before}:
            found.setdefault(size, []).append(at)
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def _roles(sites: dict[int, int], states: dict[int, frozenset[int]]) -> tuple[int, ...]:
    """The sizes that groups work with: see `WarpGroups.roles`."""
    before = {site: states.get(site, frozenset()) for site in sites}
    firsts = [site for site in sites if ENTRY in before[site]]
    found: list[int] = []
    for first in firsts:
        chain, pending = {first}, [first]
        while pending:
            at = pending.pop()
            for site in sites:
                if at in before[site] and site not in chain and site not in firsts:
                    chain.add(site)
                    pending.append(site)
        later = [site for site in sites if site in chain and sites[site] != sites[first]]
        found += [sites[site] for site in later] or [sites[first]]
    return tuple(found)


def _sums(roles: Sequence[int], threads: int | None) -> tuple[int, int] | None:
    """The lowest and highest sum where each of so many groups has one of the roles, and each role has a group.

    Where the text asks at more places than there are groups, several places are one group's: then each size has one.
    """
    groups = -(-threads // THREADS_OF_A_GROUP) if threads else 0
    if len(roles) > groups:
        roles = tuple(dict.fromkeys(roles))
    if not roles or not len(roles) <= groups <= _MOST_GROUPS:
        return None
    spare, base = groups - len(roles), sum(roles)
    return base + spare * min(roles), base + spare * max(roles)


def _is_fixed(header: PtxHeader, function: Function) -> bool:
    """Whether ptxas knows the registers at entry; true as well where that was not tried (tcgen05)."""
    if header.maxnreg or (header.threads and header.minnctapersm):
        return True
    return bool(header.threads) and any(i.opcode.startswith(_THREADS_SUFFICE) for i in function.instructions)


def _at_entry(header: PtxHeader) -> int | None:
    """How many registers a thread begins with: what the PTX says, or its share with so many CTAs on an SM."""
    if header.maxnreg or not header.threads:
        return header.maxnreg
    share = REGISTERS_PER_SM // (header.threads * (header.minnctapersm or 1))
    unit = REGISTER_UNIT_PER_WARP // WARP_SIZE
    return min(cap_for(header.threads), share // unit * unit)


def describe(split: WarpGroups) -> Iterable[str]:
    """The split in sentences: the pool, each region, whether the sum fits."""
    if split.dropped:
        yield split.dropped
    if split.pool:
        yield (
            f"{split.groups} groups of 4 warps begin with {split.at_entry} registers a thread: together "
            f"{split.pool}, counted as one thread of each group"
        )
    for region in split.regions:
        name = "before any setmaxnreg" if region.registers is None else f"with {region.registers} registers"
        needs = ""
        if region.demand is not None:
            needs = f", estimated to need {region.demand} at PTX line {region.peak_line_no}"
            needs += f", {region.over} more than there are" if region.over else ""
        if region.spill_store_bytes is not None:
            needs = f", spills: {region.spill_store_bytes} B stored, {region.spill_load_bytes} B loaded"
        yield f"{name}: {region.instructions} instructions{needs}"
    if split.sums is None:
        roles = ", ".join(map(str, split.roles)) or "none"
        yield f"which groups have which size cannot be told from the text (sizes at work: {roles}), so no sum is given"
    else:
        low, high = split.sums
        between = f"{low}" if low == high else f"{low} to {high}, by how many groups have which"
        yield f"the sizes at work are {', '.join(map(str, split.roles))}; the groups' sum is {between}"
        if split.fits is not None:
            yield (
                "it fits the pool"
                if split.fits
                else "it does not fit the pool: a group that asks for more waits for ever"
            )
        elif split.pool:
            yield "it fits the pool only where more of the groups have the smaller size"

"""Registers that are needed along one turn of a kernel's first loop, in the order in which it runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.inspection.ptx.graph import Block, read_functions
from helpers.inspection.ptx.pressure import circles, pressure_profile
from helpers.workbook.schematics.drawing import FAILED, OLD, Canvas, Picture

# A loop with fewer instructions than this share of the kernel only waits for something.
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Turn:
    """One turn of a loop: registers needed at each instruction, and the most that a thread can have."""

    demands: tuple[int, ...]
    cap: int

    @property
    def highest(self) -> int:
        return max(self.demands)

    @property
    def over(self) -> int:
        """At how many instructions more is needed than there is."""
        return sum(demand > self.cap for demand in self.demands)


def first_turn(ptx: str) -> Turn:
    """A turn of the first large loop of a PTX; raises ValueError for a PTX without one."""
    profile = pressure_profile(ptx)
    function = next((f for f in read_functions(ptx) if profile and f.name == profile.function), None)
    if profile is None or function is None:
        raise ValueError("this text holds no kernel")
    blocks, at = function.blocks, dict(profile.points)
    circle = circles([block.successors for block in blocks])
    loops: dict[int, list[int]] = {}
    for number, name in enumerate(circle):
        loops.setdefault(name, []).append(number)
    least = _LEAST_SHARE * len(function.instructions)
    large = [
        m for m in loops.values() if sum(blocks[n].last - blocks[n].first for n in m) > least and _turns(blocks, m)
    ]
    if not large:
        raise ValueError("this kernel has no loop")
    lines = [
        function.instructions[place].line_no
        for number in as_run(blocks, large[0])
        for place in range(blocks[number].first, blocks[number].last)
    ]
    return Turn(tuple(at[line] for line in lines if line in at), profile.cap)


def _turns(blocks: Sequence[Block], members: list[int]) -> bool:
    return len(members) > 1 or members[0] in blocks[members[0]].successors


def as_run(blocks: Sequence[Block], members: list[int]) -> list[int]:
    """The blocks of a loop from the one that is entered from outside, each after those that lead to it."""
    inside = set(members)
    entered = [n for n in members if any(n in b.successors for at, b in enumerate(blocks) if at not in inside)]
    order: list[int] = []
    seen: set[int] = set()
    work = [(entered[0] if entered else members[0], 0)]
    seen.add(work[0][0])
    while work:
        node, place = work.pop()
        after = [n for n in blocks[node].successors if n in inside]
        if place < len(after):
            work.append((node, place + 1))
            if after[place] not in seen:
                seen.add(after[place])
                work.append((after[place], 0))
        else:
            order.append(node)
    return order[::-1]


def binned(demands: Sequence[int], count: int) -> list[int]:
    """The highest demand in each of `count` stretches of equal length, or each demand where there are fewer."""
    if len(demands) <= count:
        return list(demands)
    edges = [len(demands) * n // count for n in range(count + 1)]
    return [max(demands[a:b]) for a, b in itertools.pairwise(edges)]


def loop_demand_picture(kernels: Mapping[str, str]) -> Picture:
    """A panel for each kernel (name -> PTX): the demand along a turn of its first loop, dark above the limit."""
    turns = {name: first_turn(ptx) for name, ptx in kernels.items()}
    words = "Registers needed along one turn of the kernel's first loop. " + " ".join(
        f"{name}: {turn.highest} at most, over {turn.cap} at {turn.over} of {len(turn.demands)} instructions."
        for name, turn in turns.items()
    )
    under = [name for name, turn in turns.items() if not turn.over]
    title = f"Never over the limit: {', '.join(under)}" if under else "Each of them goes over the limit"

    def draw(canvas: Canvas) -> None:
        columns = 2 if canvas.wide else 1
        wide = (canvas.width - 4 - 24 * (columns - 1)) / columns
        top = max(turn.highest for turn in turns.values())
        high = 100.0
        for number, (name, turn) in enumerate(turns.items()):
            x, y = 2 + number % columns * (wide + 24), number // columns * (high + 68)
            _panel(canvas, x, y, wide, high / top, name, turn, top)
        canvas.legend(2, canvas.bottom + 8, [(OLD, "fits"), (FAILED, "over the limit")])

    return Picture(title, words, draw)


def _panel(
    canvas: Canvas, x: float, y: float, wide: float, scale: float, name: str, turn: Turn, top: int
) -> None:  # fmt: skip
    canvas.text(x, y + 14, f"{name}: {turn.highest} at most", bold=True)
    bottom = y + 26 + top * scale
    bars = binned(turn.demands, int(wide / 2))
    step = wide / len(bars)
    for fill, low, rows in ((FAILED, turn.cap, bars), (OLD, 0, [min(bar, turn.cap) for bar in bars])):
        outline = [(x, bottom - low * scale)]
        for at, bar in enumerate(rows):
            level = bottom - max(bar, low) * scale
            outline += [(x + at * step, level), (x + (at + 1) * step, level)]
        canvas.area([*outline, (x + wide, bottom - low * scale)], fill)
    limit = bottom - turn.cap * scale
    canvas.line(x, limit, x + wide, limit, thick=1.5, dashed=True)
    canvas.line(x, bottom, x + wide, bottom)
    canvas.text(x, bottom + 15, f"a turn of {len(turn.demands):,} instructions; dashed: {turn.cap} registers")

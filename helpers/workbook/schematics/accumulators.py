"""What a thread holds, on a ruler that ends at the limit: two accumulators, and then everything beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from helpers.attention.choice import Choice
from helpers.inspection.ptx.pressure import ValueGroup, profile_and_held
from helpers.workbook.prose import source_text
from helpers.workbook.register_sum import RegisterSum, register_sum
from helpers.workbook.schematics.drawing import FINE, IDLE, NEW, OLD, OTHER, Canvas, Picture

_FEWEST = 8
"""Groups of fewer registers are drawn as one."""


def sum_words(name: str, found: RegisterSum) -> str:
    """What a row of the picture shows, in a sentence."""
    both = f"{name}: the old accumulator takes {found.registers} registers and the new product {found.registers}"
    left = found.cap - found.twice
    if left < 0:
        return f"{both}, which is {-left} more than the limit of {found.cap}, and everything else comes on top."
    return f"{both}, which leaves {left} of {found.cap} for everything else."


def sum_picture(choices: Mapping[str, Choice]) -> Picture:
    """A row for each configuration by name: its two accumulators against the limit, as a drawing with its words.

    Raises UserError for a configuration that cannot be.
    """
    sums = {name: register_sum(choice) for name, choice in choices.items()}
    words = " ".join(sum_words(name, found) for name, found in sums.items())
    over = [name for name, found in sums.items() if not found.fits]
    title = (
        f"Two accumulators do not fit into a thread's registers: {', '.join(over)}" if over else "Two accumulators fit"
    )

    def draw(canvas: Canvas) -> None:
        cap = max(found.cap for found in sums.values())
        longest = max(cap * 1.12, *(found.twice for found in sums.values()))
        scale = (canvas.width - 4) / longest
        y = 0.0
        for name, found in sums.items():
            y = _two(canvas, y, scale, name, found)
        canvas.line(2 + cap * scale, 8, 2 + cap * scale, y, thick=2)
        y = _ruler(canvas, y, scale, cap)
        canvas.text(2 + cap * scale, y, f"{cap} registers of a thread, the limit", anchor="end")

    return Picture(title, words, draw)


def _ruler(canvas: Canvas, y: float, scale: float, cap: int) -> float:
    """A ruler of registers below the rows, which are drawn to it; the base line of what may stand below it."""
    canvas.line(2, y, 2 + cap * scale, y)
    for at in (*range(0, cap - 31, 64), cap):
        canvas.line(2 + at * scale, y - 4, 2 + at * scale, y + 4)
        anchor = "start" if not at else "end" if at == cap else "middle"
        canvas.text(2 + at * scale, y + 6 + canvas.size, str(at), anchor=anchor)
    return y + 8 + canvas.size + canvas.leading


def _two(canvas: Canvas, y: float, scale: float, name: str, found: RegisterSum) -> float:
    wide, left = found.registers * scale, found.cap - found.twice
    canvas.text(2, y + 16, f"{name}: 2 x {found.registers} = {found.twice}", bold=True)
    canvas.box(2, y + 23, wide, 26, OLD, f"old, {found.registers}")
    canvas.box(2 + wide, y + 23, wide, 26, NEW, f"new, {found.registers}")
    if left < 0:
        # How much there is of everything else, this picture does not say: the box has no end.
        for edge in (y + 23, y + 49):
            canvas.line(2 + 2 * wide, edge, canvas.width - 2, edge, dashed=True)
    # Short enough to end before the line of the limit.
    on_top = "everything else (the open end, not to scale) comes on top" if canvas.wide else "everything else: open end"
    said = on_top if left < 0 else f"{left} left for everything else"
    canvas.text(2, y + 65, said)
    return y + 76


@dataclass(frozen=True)
class Part:
    """So many registers of one thread, and what is in them."""

    registers: int
    name: str
    fill: str


@dataclass(frozen=True)
class Stack:
    """Everything that a thread needs while it loads the new product: parts in the order in which they are stacked."""

    found: RegisterSum
    parts: tuple[Part, ...]
    branch: bool

    @property
    def total(self) -> int:
        return sum(part.registers for part in self.parts)


def name_of(group: ValueGroup) -> str:
    """What the source calls the values of a group: the variable that its line sets, or whose values they are."""
    names = [found[1] for line in group.lines if (found := re.match(r"(\w+) = ", source_text(*line).strip()))]
    if "acc" in names:
        return "acc"
    if names:
        return names[0]
    if any("for " in source_text(*line) for line in group.lines):
        return "the loop's head"
    return "the compiler's own"


def stack_of(choice: Choice, ptx: str) -> Stack:
    """What stands beside the widest load of a PTX, by the lines that made it where a branch holds just that.

    Raises ValueError for a PTX that loads nothing from tensor memory.
    """
    profile, held = profile_and_held(ptx)
    loads = [move for move in profile.tuples if ".ld." in move.opcode] if profile else []
    if not loads:
        raise ValueError("this PTX loads nothing from tensor memory")
    widest = max(loads, key=lambda move: (move.registers, move.beside))
    found = register_sum(choice)
    fused = choice.accumulate == "fused"
    product = Part(widest.registers, "acc, one load" if fused else "the new product, one load", NEW)
    if held is None or round(held.registers) != widest.beside:
        return Stack(found, (product, Part(widest.beside, "everything beside it", OTHER)), branch=False)
    groups = {"acc": 0}
    small = 0
    for group in held.groups:
        name = name_of(group)
        if name != "acc" and group.registers < _FEWEST:
            small += round(group.registers)
        else:
            groups[name] = groups.get(name, 0) + round(group.registers)
    # Its lines make a few numbers of a row as well: what is more than the accumulator goes to the rest.
    acc = groups.pop("acc")
    small += max(0, acc - found.registers)
    old = Part(min(acc, found.registers), "acc, the old accumulator", OLD)
    others = [Part(count, name, OTHER if at % 2 == 0 else FINE) for at, (name, count) in enumerate(groups.items())]
    rest = [Part(small, "the rest", IDLE)] if small else []
    return Stack(found, tuple(part for part in (old, product, *others, *rest) if part.registers), branch=True)


def accumulator_picture(choice: Choice, ptx: str) -> Picture:
    """The accumulator cut among the threads, and one thread's registers at the load of the new product."""
    stack = stack_of(choice, ptx)
    found = stack.found
    listed = ", ".join(f"{part.registers} of {part.name}" for part in stack.parts)
    over = stack.total - found.cap
    words = (
        f"An accumulator of {found.rows} rows x {found.columns} columns has {found.numbers:,} numbers, which "
        f"{found.threads} threads share: {found.registers} registers in each. While the new product is loaded, a "
        f"thread needs {stack.total} registers: {listed}. The limit is {found.cap}."
    )
    title = (
        f"{stack.total} registers are needed where {found.cap} are allowed"
        if over > 0
        else f"{stack.total} registers are needed, and {found.cap} are allowed"
    )

    def draw(canvas: Canvas) -> None:
        y = _sheet(canvas, found)
        _stacked(canvas, y + 6, stack)

    return Picture(title, words, draw)


def _sheet(canvas: Canvas, found: RegisterSum) -> float:
    """All numbers of the accumulator as a sheet, with one thread's share in it; the y below."""
    scale = 1.5 if canvas.wide else 0.8
    wide, high = found.columns * scale, found.rows * scale / 2
    y = canvas.paragraph(2, 14, f"one accumulator: {found.rows} rows x {found.columns} columns = {found.numbers:,}") - 8
    canvas.box(2, y, wide, high, OLD)
    share = min(found.registers, found.columns)
    canvas.box(2, y + high / 2, share * scale, 5, NEW)
    x = 2 + wide + 8
    canvas.line(2 + share * scale, y + high / 2 + 2, x, y + high / 2 + 2, ink="#333333")
    said = f"one of {found.threads} threads: {found.numbers:,} / {found.threads} = {found.registers} numbers"
    canvas.paragraph(x, y + high / 2 - canvas.leading * (0 if canvas.wide else 1) + 6, said)
    return max(y + high, canvas.bottom) + 6


def _stacked(canvas: Canvas, y: float, stack: Stack) -> None:
    """One thread's registers, part upon part: the first ones alone, then all; the limit through both."""
    cap = stack.found.cap
    scale = (canvas.width - 4) / max(stack.total, cap)
    limit = 2 + cap * scale
    first = [part for part in stack.parts if part.fill in (OLD, NEW)]
    rows = [("the accumulators of one thread", first), ("with all that is alive beside them", list(stack.parts))]
    for said, parts in rows if len(first) > 1 else rows[1:]:
        total = sum(part.registers for part in parts)
        canvas.text(2, y + 14, f"{said}: {total}")
        x = 2.0
        for part in parts:
            wide = part.registers * scale
            canvas.box(x, y + 20, wide, 30, part.fill, str(part.registers) if wide > 26 else "")
            x += wide
        canvas.line(limit, y + 16, limit, y + 54, thick=3)
        y += 58
    low = limit + 200 > canvas.width
    canvas.text(limit + (-5 if low else 0), y + 16, f"{cap}, the limit", anchor="end" if low else "middle", bold=True)
    canvas.legend(2, y + 26, [(part.fill, f"{part.registers} {part.name}") for part in stack.parts])

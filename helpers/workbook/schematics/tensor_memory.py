"""Tensor memory as a sheet, what one load takes from it, and where that lands in a thread's registers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.attention.choice import Choice
from helpers.hardware import TMEM_LANES, WARP_SIZE, get_arch
from helpers.inspection.ptx.scan import wide_operands
from helpers.workbook.register_sum import RegisterSum, register_sum
from helpers.workbook.schematics.drawing import FINE, IDLE, NEW, OLD, Canvas, Picture

# Registers of a thread are 32 bits wide, and so is a place of the sheet.
_LOAD = re.compile(r"tcgen05\.ld\.sync\.aligned\.32x32b\.x(\d+)\.b32")


@dataclass(frozen=True)
class Sheet:
    """The tensor memory of one multiprocessor, an accumulator in it, and how wide one load of a warp is."""

    lanes: int
    columns: int
    found: RegisterSum
    widths: tuple[int, ...]

    def loads(self, width: int) -> int:
        """How many loads of so many columns bring a thread its share of the accumulator."""
        return -(-self.found.registers // width)

    def room(self, width: int) -> int:
        """What a load of this width leaves of a thread's registers while it is in place."""
        return self.found.cap - width


def sheet_of(choice: Choice, ptx: str, others: Sequence[int] = ()) -> Sheet:
    """The sheet of a choice's chip, with the widest load of its PTX first and then the widths `others`.

    Raises ValueError for a chip without tensor memory and for a PTX whose loads are none of 32 lanes by 32 bits.
    """
    arch = get_arch(choice.arch)
    loads = [int(m[1]) for move in wide_operands(ptx) if (m := _LOAD.fullmatch(move.opcode))]
    if not arch.tmem_columns or not loads:
        raise ValueError(f"{arch.name} and this PTX: no load from tensor memory by 32 lanes")
    return Sheet(TMEM_LANES, arch.tmem_columns, register_sum(choice), (max(loads), *others))


def tensor_memory_picture(choice: Choice, ptx: str, others: Sequence[int] = (), beside: str = "sm_90a") -> Picture:
    """The sheet with the accumulator and one warp's load on it, and the registers of one thread for each width.

    `beside` is a chip whose tensor cores leave their results in registers, for the last row.
    """
    sheet, other = sheet_of(choice, ptx, others), get_arch(beside)
    found = sheet.found
    told = "; ".join(
        f"x{width}: {sheet.loads(width)} load{'s' * (sheet.loads(width) > 1)} into {width} adjacent registers, beside "
        f"which {sheet.room(width)} of {found.cap} are left"
        for width in sheet.widths
    )
    words = (
        f"Tensor memory is a sheet of {sheet.lanes} lanes x {sheet.columns} columns. The accumulator takes "
        f"{found.rows} x {found.columns} of it. A load of one warp reads {WARP_SIZE} lanes, a lane for each "
        f"thread. {told}. On {other.product} the tensor cores ({other.tensor_core_path}) leave the same "
        f"{found.registers} numbers in registers at once, so there is nothing to load."
    )

    def draw(canvas: Canvas) -> None:
        y = _sheet(canvas, sheet)
        for width in sheet.widths:
            y = _thread(canvas, y, sheet, width)
        _registers_at_once(canvas, y, sheet, f"{other.product}, {other.tensor_core_path}")

    first = sheet.widths[0]
    return Picture(f"One load takes {first} columns of the sheet into {first} registers of each thread", words, draw)


def _sheet(canvas: Canvas, sheet: Sheet) -> float:
    """The sheet with the accumulator at its left, since where it lies the compiler chooses; the y below."""
    scale, high, top = (canvas.width - 4) / sheet.columns, 112.0, 24.0
    quarter = high * WARP_SIZE / sheet.lanes
    found, width = sheet.found, sheet.widths[0]
    canvas.text(2, 14, f"tensor memory: {sheet.lanes} lanes x {sheet.columns} columns")
    canvas.box(2, top, canvas.width - 4, high, IDLE)
    canvas.box(2, top, found.columns * scale, high * found.rows / sheet.lanes, OLD)
    canvas.box(2, top + quarter, width * scale, quarter, NEW, f"x{width}")
    for at in range(1, sheet.lanes // WARP_SIZE):
        canvas.line(2, top + at * quarter, canvas.width - 2, top + at * quarter, dashed=True, ink="#777777")
    entries = [(OLD, f"the accumulator, {found.rows} x {found.columns}"),
               (NEW, f"one load of one warp: {WARP_SIZE} lanes x {width} columns")]  # fmt: skip
    return canvas.legend(2, top + high + 8, entries) + 8


def _ruler(canvas: Canvas, sheet: Sheet) -> float:
    return (canvas.width - 4) / (sheet.found.cap * 1.06)


def _thread(canvas: Canvas, y: float, sheet: Sheet, width: int) -> float:
    """One thread's registers while one load of this width is in place."""
    count, cap, scale = sheet.loads(width), sheet.found.cap, _ruler(canvas, sheet)
    said = f"x{width}, {count} load{'s' * (count > 1)}: {width} adjacent registers, {sheet.room(width)} left"
    canvas.text(2, y + 14, said)
    canvas.box(2, y + 20, cap * scale, 24, FINE)
    canvas.box(2, y + 20, width * scale, 24, NEW, f"load of {width}" if width * scale > 70 else str(width))
    canvas.line(2 + cap * scale, y + 16, 2 + cap * scale, y + 48, thick=3)
    canvas.text(2 + cap * scale, y + 14, str(cap), anchor="middle")
    return y + 54


def _registers_at_once(canvas: Canvas, y: float, sheet: Sheet, name: str) -> None:
    scale, found = _ruler(canvas, sheet), sheet.found
    canvas.text(2, y + 14, f"{name}: no load")
    canvas.box(2, y + 20, found.cap * scale, 24, FINE)
    canvas.box(2, y + 20, found.registers * scale, 24, OLD, "the accumulator")
    canvas.line(2 + found.cap * scale, y + 16, 2 + found.cap * scale, y + 48, thick=3)
    canvas.text(2 + found.cap * scale, y + 14, str(found.cap), anchor="middle")

"""The register file of one multiprocessor, divided: what a thread may have with 4, 8 and 16 warps, and what it got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.compiler.report import Evidence
from helpers.hardware import CAP, REGISTERS_PER_SM, WARP_SIZE, cap_for
from helpers.workbook.schematics.drawing import FAILED, FINE, IDLE, NEW, OLD, Canvas, Picture

_NAME_BITS = CAP.bit_length()


@dataclass(frozen=True)
class Share:
    """A thread's share of the register file in a CTA of so many warps, and what ptxas took of it if that is known."""

    warps: int
    taken: int | None = None
    died: bool = False

    @property
    def threads(self) -> int:
        return self.warps * WARP_SIZE

    @property
    def even(self) -> int:
        """The whole file divided among the threads of one CTA."""
        return REGISTERS_PER_SM // self.threads

    @property
    def allowed(self) -> int:
        return cap_for(num_warps=self.warps)

    @property
    def ctas(self) -> int:
        """How many CTAs of this kind the register file holds, with what was taken or else with what is allowed."""
        return REGISTERS_PER_SM // (self.threads * (self.taken or self.allowed))

    def sentence(self) -> str:
        said = (
            f"{self.warps} warps are {self.threads} threads: {REGISTERS_PER_SM:,} / {self.threads} = {self.even} "
            f"registers each, and a thread can use {self.allowed} of them"
        )
        if self.taken:
            said += (
                f"; ptxas took {self.taken}, so that {self.ctas} such {'CTA fits' if self.ctas == 1 else 'CTAs fit'}"
            )
        return f"{said}; ptxas died." if self.died else f"{said}."


def shares(warps: Sequence[int], compiled: Sequence[Evidence] = ()) -> list[Share]:
    """A share for each number of warps, with what ptxas chose by itself where a compile is given in the same place."""
    found = [*compiled, *[None] * (len(warps) - len(compiled))]
    return [
        Share(count, item.report.regs_per_thread, item.report.crashed) if item else Share(count)
        for count, item in zip(warps, found, strict=True)
    ]


def register_file_picture(warps: Sequence[int] = (4, 8, 16), compiled: Sequence[Evidence] = ()) -> Picture:
    """A row for each number of warps: the file divided, the limit of a thread, and ptxas's own target if compiled."""
    rows = shares(warps, compiled)
    names = 2**_NAME_BITS
    origin = (
        f"An instruction names a register with {_NAME_BITS} bits, which makes {names} names; one of them means zero, "
        f"so {CAP} is the most that a thread can use."
    )
    words = f"The register file of one multiprocessor has {REGISTERS_PER_SM:,} registers. " + " ".join(
        row.sentence() for row in rows
    )
    chosen = [row for row in rows if row.taken and row.taken < row.allowed]
    title = (
        "ptxas takes less than it may: " + ", ".join(f"{r.taken} of {r.allowed} with {r.warps} warps" for r in chosen)
        if chosen
        else f"{REGISTERS_PER_SM:,} registers, shared by the threads that run at the same time"
    )

    def draw(canvas: Canvas) -> None:
        y = canvas.paragraph(2, 14, f"One multiprocessor: {REGISTERS_PER_SM:,} registers", bold=True)
        for row in rows:
            y = _row(canvas, y + 8, row)
        if any(row.taken for row in rows):
            y = canvas.legend(2, y + 2, [(OLD, "taken by ptxas"), (NEW, "allowed, not taken"), (FAILED, "ptxas died")])
        _field(canvas, y + 10, origin)

    return Picture(title, f"{words} {origin}", draw)


def _row(canvas: Canvas, y: float, row: Share) -> float:
    """One number of warps: the file with the CTAs in it, and below it one thread's ruler; the y below both."""
    whole = canvas.width - 4
    y = canvas.paragraph(
        2, y + 10, f"{row.warps} warps: {REGISTERS_PER_SM:,} / {row.threads} threads = {row.even} each"
    )
    y -= canvas.size - 1
    each = row.taken or row.allowed
    wide = whole * each * row.threads / REGISTERS_PER_SM
    canvas.box(2, y, whole, 26, IDLE)
    for at in range(row.ctas):
        canvas.box(2 + at * wide, y, wide, 26, OLD, f"{row.threads} x {each}" if wide > 80 else "")
    y += 26 + canvas.size + 3
    if row.died:
        said = f"one thread: {row.allowed} allowed, and ptxas died"
    elif row.taken:
        said = f"one thread: {row.allowed} allowed, ptxas took {row.taken}; {row.ctas} CTA{'s' * (row.ctas > 1)} fit"
    else:
        said = f"one thread: {row.allowed} allowed" + (f", not {row.even}" if row.even > row.allowed else "")
    canvas.text(2, y, said)
    y += 6
    scale = whole / max(256, CAP)
    canvas.box(2, y, row.allowed * scale, 14, NEW if row.taken else FINE)
    if row.taken:
        canvas.box(2, y, row.taken * scale, 14, OLD)
    if row.died:
        canvas.box(2, y, row.allowed * scale, 14, FAILED)
    canvas.line(2 + CAP * scale, y - 4, 2 + CAP * scale, y + 18, thick=2)
    canvas.text(2 + CAP * scale - 4, y - 6, str(CAP), anchor="end")
    return y + 26


def _field(canvas: Canvas, y: float, origin: str) -> None:
    """Where the limit comes from: the field of an instruction that names a register, one box a bit."""
    for bit in range(_NAME_BITS):
        canvas.box(2 + bit * 22, y, 22, 22, FINE, "1")
    canvas.text(2 + _NAME_BITS * 22 + 10, y + 15, f"= {2**_NAME_BITS - 1}, which means zero")
    canvas.paragraph(2, y + 24 + canvas.size, origin)

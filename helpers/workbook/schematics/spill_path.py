"""Where spilled bytes go: from the registers through the caches to the GPU's memory and back, turn after turn."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.compiler.disassemble import report_loop_spills
from helpers.compiler.report import CompileReport, Evidence
from helpers.hardware import WARP_SIZE
from helpers.inspection.binary.sass_loops import LoopSpills
from helpers.workbook.schematics.drawing import FINE, IDLE, LOCAL, OLD, OTHER, Canvas, Picture


@dataclass(frozen=True)
class Spilled:
    """Bytes of one thread that go to local memory and come back: in all, and those inside loops where that is known."""

    registers: int
    threads: int
    frame: int
    stores: int
    loads: int
    in_loops: tuple[int, int] | None

    @property
    def a_turn(self) -> int | None:
        """Bytes of all threads of a CTA that move when each loop makes one turn; None where it is not known."""
        return None if self.in_loops is None else sum(self.in_loops) * self.threads


def spilled_by(report: CompileReport, loops: LoopSpills | None) -> Spilled:
    """The spills of a compile; raises ValueError for one that did not end with a kernel."""
    if not report.compiled or not report.num_warps:
        raise ValueError(f"no kernel, so no spills: {report.verdict()}")
    inside = None
    if loops is not None:
        found = [sum(size for depth, size in side.items() if depth) for side in (loops.stores, loops.loads)]
        inside = (found[0], found[1])
    return Spilled(
        report.regs_per_thread or 0, report.num_warps * WARP_SIZE, report.stack_frame_bytes or 0,
        report.spill_store_bytes or 0, report.spill_load_bytes or 0, inside,
    )  # fmt: skip


def spill_path_picture(compiled: Evidence) -> Picture:
    """The way of a compile's spills with its bytes; those inside loops are read from its machine code."""
    return picture_of(spilled_by(compiled.report, report_loop_spills(compiled.report)))


def picture_of(spilled: Spilled) -> Picture:
    """The way of these spills, as a picture."""
    counts = f"{spilled.stores:,} B stored and {spilled.loads:,} B loaded by each thread"
    turn = "How much of that is inside loops is not known here."
    if spilled.in_loops is not None:
        stored, loaded = spilled.in_loops
        turn = (
            f"Inside the loops {stored:,} B are stored and {loaded:,} B loaded, again on every turn. With "
            f"{spilled.threads} threads that is {spilled.a_turn:,} B of a CTA."
        )
    words = (
        f"A thread has {spilled.registers} registers. What does not fit goes through the L1 and L2 caches to local "
        f"memory, {spilled.frame:,} B for each thread, and comes back: {counts}. {turn}"
    )
    title = (
        f"Each thread stores {spilled.stores:,} B outside of its registers" if spilled.stores else "Nothing is spilled"
    )

    def draw(canvas: Canvas) -> None:
        _draw(canvas, spilled, turn)

    return Picture(title, words, draw)


def _draw(canvas: Canvas, spilled: Spilled, turn: str) -> None:
    stops = (
        ("registers", f"{spilled.registers} of a thread", OLD),
        ("L1 cache", "in the multiprocessor", FINE),
        ("L2 cache", "of the whole chip", OTHER),
        ("local memory", f"{spilled.frame:,} B of a thread", LOCAL),
    )
    stored, loaded = f"stored: {spilled.stores:,} B", f"loaded: {spilled.loads:,} B"
    if canvas.wide:
        wide, gap, high = 136.0, (canvas.width - 4 - 4 * 136.0) / 3, 40.0
        for at, (name, words, fill) in enumerate(stops):
            x = 2 + at * (wide + gap)
            canvas.box(x, 28, wide, high, fill, name, bold=True)
            canvas.text(x + wide / 2, 28 + high + 18, words, anchor="middle")
            if at:
                canvas.arrow(x - gap + 3, 40, x - 3, 40)
                canvas.arrow(x - 3, 56, x - gap + 3, 56)
        canvas.text(2 + wide + gap / 2, 18, stored, anchor="middle")
        canvas.text(2 + wide + gap / 2, 112, loaded, anchor="middle")
        canvas.line(2 + wide + gap / 2, 60, 2 + wide + gap / 2, 98, dashed=True)
        y = 140.0
    else:
        wide, gap, high, y = 130.0, 30.0, 28.0, 2.0
        for at, (name, words, fill) in enumerate(stops):
            y = 2 + at * (high + gap)
            canvas.box(2, y, wide, high, fill, name, bold=True)
            canvas.text(2 + wide + 10, y + 18, words)
            if at:
                canvas.arrow(2 + wide / 2 - 14, y - gap + 2, 2 + wide / 2 - 14, y - 2)
                canvas.arrow(2 + wide / 2 + 14, y - 2, 2 + wide / 2 + 14, y - gap + 2)
        canvas.text(2 + wide + 10, 2 + high + 14, stored)
        canvas.text(2 + wide + 10, 2 + high + 28, loaded)
        y += high + 20
    if spilled.a_turn is not None:
        stored_, loaded_ = spilled.in_loops or (0, 0)
        scale = (canvas.width - 4) / max(1, spilled.stores + spilled.loads)
        canvas.text(2, y, f"on every turn of a loop, {stored_ + loaded_:,} of {spilled.stores + spilled.loads:,} B:")
        canvas.box(2, y + 7, canvas.width - 4, 18, IDLE)
        canvas.box(2, y + 7, (stored_ + loaded_) * scale, 18, LOCAL)
        y += 25 + canvas.leading + 2
    canvas.paragraph(2, y, turn)

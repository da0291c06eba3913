"""Warps that only load beside groups of warps that only compute, as lanes over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from helpers.workbook.schematics.drawing import NEW, OLD, OTHER, Canvas, Picture

# Four warps issue the tensor-core instructions of Hopper together.
_GROUP = 4


@dataclass(frozen=True)
class Box:
    """Something that a lane does: from which slot of time, for how many, what, and in which colour."""

    start: int
    length: int
    words: str
    fill: str


def loading(blocks: int) -> list[Box]:
    """The loader's lane: the keys of a block come with the values of the one before, which are needed later."""
    return [Box(0, 1, "K0", NEW)] + [Box(2 * j - 1, 2, f"K{j} V{j - 1}", NEW) for j in range(1, blocks)]


def computing(blocks: int, late: int) -> list[Box]:
    """A group's lane, `late` slots behind: scores of a block with the product of the one before, then its softmax."""
    boxes = []
    for j in range(blocks):
        boxes.append(Box(1 + late + 2 * j, 1, f"S{j} P{j - 1}" if j else "S0", OLD))
        boxes.append(Box(2 + late + 2 * j, 1, f"soft {j}", OTHER))
    return boxes


def two_lanes_picture(budget: Mapping[str, int]) -> Picture:
    """The lanes of one head dim, from its row of `warp_group_registers`: who does what in which order, not to scale."""
    groups = max(1, int(budget["computing warps"]) // _GROUP)
    loader = f"{budget['loading warps']} loading warps, {budget['registers a loading thread']} registers a thread"
    names = [
        f"group {n + 1}: {_GROUP} computing warps, {budget['registers a computing thread']} registers a thread"
        for n in range(groups)
    ]
    words = (
        f"{loader}: they fetch K0, then K1 with V0, K2 with V1, and never compute. "
        + "; ".join(names)
        + ". Each group multiplies queries with keys (S) and weights with values (P) on the tensor cores, and then "
        "does its softmax. While one group does its softmax, another has the tensor cores. The order is shown, not "
        "how long anything takes."
    )

    def draw(canvas: Canvas) -> None:
        slots = 13 if canvas.wide else 7
        wide = (canvas.width - 4) / slots
        lanes = [(loader, loading(slots))] + [(name, computing(slots, n % 2)) for n, name in enumerate(names)]
        y = 0.0
        for name, boxes in lanes:
            canvas.text(2, y + 14, name, bold=True)
            canvas.line(2, y + 48, canvas.width - 2, y + 48)
            for box in boxes:
                if box.start + box.length <= slots:
                    canvas.box(2 + box.start * wide, y + 21, box.length * wide, 26, box.fill, box.words)
            y += 58
        entries = [(NEW, "loads keys K, values V"), (OLD, "tensor cores: scores S, products P"), (OTHER, "softmax")]
        y = canvas.legend(2, y, entries)
        canvas.arrow(2, y + 10, 60, y + 10)
        canvas.text(66, y + 14, "time, in order and not to scale")

    return Picture(f"{groups} group{'s' * (groups > 1)} compute while the loading warps fetch", words, draw)

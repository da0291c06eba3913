"""What half the rows cost: the same keys and values, walked over by one block of queries or by two."""

from __future__ import annotations

from dataclasses import dataclass

from helpers.attention.choice import Choice
from helpers.attention.tiles import parse_tile
from helpers.hardware import get_arch
from helpers.workbook.schematics.drawing import NEW, OLD, Canvas, Picture


@dataclass(frozen=True)
class Reads:
    """How often so many new tokens read each key and value with a tile of these rows."""

    rows: int
    keys: int
    tokens: int

    @property
    def blocks(self) -> int:
        """Blocks of queries; each walks over the keys and values anew."""
        return -(-self.tokens // self.rows)


def reads_with(choice: Choice, tokens: int) -> Reads:
    """The reads of a choice's tile; raises UserError for a choice that cannot be."""
    tile = parse_tile(choice.tile, capability=get_arch(choice.arch).capability, head_dim=choice.head_dim)
    return Reads(tile.block_m, tile.block_n, tokens)


def halved_tile_picture(before: Choice, after: Choice, tokens: int = 4_096) -> Picture:
    """As many queries as the larger tile has, once as its one block, once as blocks of the smaller tile."""
    large, small = sorted((reads_with(c, tokens) for c in (before, after)), key=lambda reads: -reads.rows)
    times = -(-large.rows // small.rows)
    words = (
        f"{large.rows} queries are one block of {large.rows} rows, which walks over the tiles of {large.keys} keys and "
        f"values once, or {times} block{'s' * (times > 1)} of {small.rows} rows, each of which walks over all of them. "
        f"{tokens:,} new tokens are {large.blocks} blocks and read a key or value at most {large.blocks} times, or "
        f"{small.blocks} blocks and read it {small.blocks} times."
    )

    def draw(canvas: Canvas) -> None:
        y = _walks(canvas, 0, large, 1)
        _walks(canvas, y + 14, small, times)

    return Picture(
        f"{times} blocks read what one block read" if times > 1 else "The same number of blocks", words, draw
    )


def _walks(canvas: Canvas, y: float, reads: Reads, blocks: int) -> float:
    """Blocks of one tile, each with the keys and values that it walks over; the y below."""
    block, gap, cells = 96.0, 34.0, 8 if canvas.wide else 4
    left = 2 + block + gap
    wide, high = (canvas.width - 2 - left) / (cells + 1), 64.0 / blocks
    canvas.text(2, y + 14, f"tile of {reads.rows} queries x {reads.keys} keys", bold=True)
    y += 22
    for _ in range(blocks):
        canvas.box(2, y, block, high, OLD, f"{reads.rows} queries")
        canvas.arrow(left - 4, y + high / 2, 2 + block + 3, y + high / 2)
        for cell in range(cells):
            canvas.box(left + cell * wide, y, wide, high, NEW, f"{reads.keys} keys" if canvas.wide else str(reads.keys))
        canvas.text(left + cells * wide + 8, y + high / 2 + 4, "…")
        y += high + 6
    said = f"{reads.tokens:,} new tokens: {reads.blocks} blocks, so at most {reads.blocks} reads of a key"
    return canvas.paragraph(2, y + 12, said)

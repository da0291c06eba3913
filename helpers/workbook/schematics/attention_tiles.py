"""Which tiles the incident's kernel works on, which it tests and skips, and which it never comes to, as a drawing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from helpers.workbook.schematics.drawing import IDLE, NEW, OLD, Canvas, Picture

WORK, SKIPPED, NEVER = "work", "tested and skipped", "never visited"
FILLS = {WORK: NEW, SKIPPED: OLD, NEVER: IDLE}


@dataclass(frozen=True)
class Scene:
    """A sequence of `prefix` cached and `new` tokens, cut into tiles of `block_m` queries by `block_n` keys."""

    prefix: int = 2048
    new: int = 512
    block_m: int = 128
    block_n: int = 64
    window: int = 1024

    def state(self, block: int, start: int, *, cached: bool) -> str:
        """What becomes of one block's tile whose keys begin at `start`, of the cached ones or of the new ones."""
        if not cached and start >= min(self.new, (block + 1) * self.block_m):
            return NEVER
        length = self.prefix if cached else self.new
        first_key = start if cached else self.prefix + start
        last_key = first_key + min(self.block_n, length - start) - 1
        first_row = self.prefix + block * self.block_m
        last_row = min(first_row + self.block_m, self.prefix + self.new) - 1
        # Some row sees some key: the last row reaches forward furthest, the first one backward.
        seen = first_key <= last_row and last_key >= first_row - (self.window - 1)
        return WORK if seen else SKIPPED

    def rows(self) -> list[list[str]]:
        """For each block of queries the states of its tiles, the prefix first."""
        blocks = range(-(-self.new // self.block_m))
        return [
            [self.state(block, start, cached=True) for start in range(0, self.prefix, self.block_n)]
            + [self.state(block, start, cached=False) for start in range(0, self.new, self.block_n)]
            for block in blocks
        ]

    def edges(self) -> dict[str, list[tuple[int, int]]]:
        """Where the window begins and where the causal edge lies: the key, of the first and of the last new token."""
        first, last = self.prefix, self.prefix + self.new - 1
        return {
            "window": [(max(0, first - self.window + 1), 0), (max(0, last - self.window + 1), self.new)],
            "causal": [(first, 0), (last + 1, self.new)],
        }


def tiles_picture(scene: Scene | None = None) -> Picture:
    """Blocks of queries down, tiles of keys across, each in the colour of what becomes of it, with a legend.

    Two slanted lines are the edges of what is seen: keys left of the window's are too old, right of the causal one too
    new.
    """
    scene = scene or Scene()
    rows = scene.rows()
    counts = Counter(state for row in rows for state in row)
    words = (
        f"{len(rows)} blocks of {scene.block_m} queries against {len(rows[0])} tiles of {scene.block_n} keys. "
        f"{counts[WORK]} tiles are worked on, {counts[SKIPPED]} are tested and skipped, "
        f"{counts[NEVER]} are never visited. A query sees the keys between two slanted lines: the last "
        f"{scene.window:,} tokens, and none after itself."
    )
    tested = counts[WORK] + counts[SKIPPED]

    def draw(canvas: Canvas) -> None:
        _draw(canvas, scene, rows, counts)

    return Picture(f"{counts[WORK]} of {tested} tiles that the kernel visits have work in them", words, draw)


def _draw(canvas: Canvas, scene: Scene, rows: list[list[str]], counts: Counter[str]) -> None:
    left, top, high = 2.0, 46.0, 34.0 if canvas.wide else 26.0
    columns, cached = len(rows[0]), -(-scene.prefix // scene.block_n)
    wide = (canvas.width - 2 * left) / columns
    border, bottom = left + cached * wide, top + len(rows) * high
    canvas.text(left, 14, f"{scene.prefix:,} tokens of the prefix")
    canvas.text(canvas.width - left, 14, f"{scene.new} new", anchor="end")
    for y, row in enumerate(rows):
        for x, state in enumerate(row):
            canvas.box(left + x * wide, top + y * high, wide, high, FILLS[state])
    canvas.line(border, 4, border, bottom, thick=2)
    for name, ((key, _), (other, _)) in scene.edges().items():
        x1, x2 = left + key / scene.block_n * wide, left + other / scene.block_n * wide
        canvas.line(x1, top, min(x2, canvas.width - left), bottom, thick=2.5, ink="#111111")
        words = "first key in the window" if name == "window" else "causal"
        canvas.text(x1, top - 6, words, anchor="middle" if name == "window" else "start")
    below = canvas.legend(left, bottom + 10, [(FILLS[state], f"{counts[state]} {state}") for state in FILLS])
    canvas.paragraph(left, below + 12, f"A row is a CTA with {scene.block_m} queries, a column {scene.block_n} keys.")

"""Which tiles the incident's kernel works on, which it tests and skips, and which it never comes to, as a drawing."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML

WORK, SKIPPED, NEVER = "work", "tested and skipped", "never visited"
FILLS = {WORK: "#F3C27A", SKIPPED: "#9CC9E8", NEVER: "none"}
WIDTH, LEFT, TOP, HIGH = 420, 8, 34, 22


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


def tiles_picture(scene: Scene | None = None) -> HTML:
    """Blocks of queries down, tiles of keys across, each in the colour of what becomes of it, with a legend."""
    from IPython.display import HTML

    scene = scene or Scene()
    rows = scene.rows()
    columns, cached = len(rows[0]), -(-scene.prefix // scene.block_n)
    wide = (WIDTH - 2 * LEFT) / columns
    cells = "".join(
        f'<rect x="{LEFT + x * wide:.1f}" y="{TOP + y * HIGH}" width="{wide:.1f}" height="{HIGH}" '
        f'fill="{FILLS[state]}" stroke="currentColor" stroke-width=".5"/>'
        for y, row in enumerate(rows)
        for x, state in enumerate(row)
    )
    border, bottom = LEFT + cached * wide, TOP + len(rows) * HIGH
    counts = Counter(state for row in rows for state in row)
    words = (
        f"{len(rows)} blocks of {scene.block_m} queries against {columns} tiles of {scene.block_n} keys. "
        f"{counts[WORK]} tiles are worked on, {counts[SKIPPED]} are tested and skipped, "
        f"{counts[NEVER]} are never visited."
    )
    legend = "".join(
        f'<rect x="{x}" y="{bottom + 12}" width="14" height="14" fill="{FILLS[state]}" stroke="currentColor"/>'
        f'<text x="{x + 20}" y="{bottom + 24}" fill="currentColor">{counts[state]} {state}</text>'
        for x, state in ((LEFT, WORK), (LEFT + 90, SKIPPED), (LEFT + 260, NEVER))
    )
    return HTML(
        f'<svg viewBox="0 0 {WIDTH} {bottom + 34}" role="img" aria-label="{html.escape(words)}" '
        'style="max-width:40rem;width:100%;font:11px system-ui,sans-serif">'
        f'<text x="{LEFT}" y="24" fill="currentColor">{scene.prefix:,} tokens of the prefix</text>'
        f'<text x="{WIDTH - LEFT}" y="24" text-anchor="end" fill="currentColor">{scene.new} new</text>{cells}'
        f'<line x1="{border:.1f}" x2="{border:.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="currentColor" '
        f'stroke-width="2"/>{legend}</svg>'
    )

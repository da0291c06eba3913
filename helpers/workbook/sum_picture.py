"""The sum that decides, drawn: the old accumulator and the new product on a ruler that ends at the limit."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.hardware import CAP
from helpers.workbook.register_sum import RegisterSum, register_sum

if TYPE_CHECKING:
    from IPython.display import HTML

# The picture is as wide as a telephone; the page shows it larger where there is room.
WIDTH, LEFT, SCALE, ROW = 420, 8, 1.42, 78
OLD, NEW, INK = "#9CC9E8", "#F3C27A", "#111111"


def sum_words(name: str, found: RegisterSum) -> str:
    """What a row of the picture shows, in a sentence."""
    both = f"{name}: the old accumulator takes {found.registers} registers and the new product {found.registers}"
    left = found.cap - found.twice
    if left < 0:
        return f"{both}, which is {-left} more than the limit of {found.cap}, and everything else comes on top."
    return f"{both}, which leaves {left} of {found.cap} for everything else."


def sum_picture(choices: Mapping[str, Choice]) -> HTML:
    """A row for each configuration by name: its two accumulators against the limit, as a drawing with its words.

    Raises UserError for a configuration that cannot be.
    """
    from IPython.display import HTML

    sums = {name: register_sum(choice) for name, choice in choices.items()}
    height = ROW * len(sums) + 30
    limit = LEFT + CAP * SCALE
    rows = "".join(_row(12 + ROW * at, name, found) for at, (name, found) in enumerate(sums.items()))
    words = " ".join(sum_words(name, found) for name, found in sums.items())
    return HTML(
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(words)}" '
        'style="max-width:36rem;width:100%;font:12px system-ui,sans-serif">'
        f'{rows}<line x1="{limit:g}" x2="{limit:g}" y1="10" y2="{height - 22}" stroke="currentColor" '
        f'stroke-width="2"/><text x="{limit:g}" y="{height - 8}" text-anchor="end" fill="currentColor">'
        f"{CAP} registers, the limit</text></svg>"
    )


def _row(top: float, name: str, found: RegisterSum) -> str:
    width = found.registers * SCALE
    left = found.cap - found.twice
    words = "everything else (the broken box) comes on top" if left < 0 else f"{left} left for everything else"
    return (
        f'<text x="{LEFT}" y="{top + 12}" font-weight="700" fill="currentColor">{html.escape(name)}: 2 x '
        f"{found.registers} = {found.twice}</text>"
        + _bar(LEFT, top + 20, width, OLD, f"old, {found.registers}")
        + _bar(LEFT + width, top + 20, width, NEW, f"new, {found.registers}")
        + (_overflow(LEFT + 2 * width, top + 20) if left < 0 else "")
        + f'<text x="{LEFT}" y="{top + 60}" fill="currentColor">{words}</text>'
    )


def _overflow(x: float, y: float) -> str:
    """A box with a broken edge for what else has to be held; how much that is, it does not say."""
    return (
        f'<rect stroke-dasharray="3 3" x="{x:g}" y="{y:g}" width="{WIDTH - LEFT - x:g}" height="24" fill="none" '
        'stroke="currentColor"/>'
    )


def _bar(x: float, y: float, width: float, fill: str, words: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="24" fill="{fill}" stroke="currentColor"/>'
        f'<text x="{x + width / 2:g}" y="{y + 16:g}" text-anchor="middle" fill="{INK}">{words}</text>'
    )

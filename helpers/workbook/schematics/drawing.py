"""Drawings in SVG for the pages: a narrow and a wide layout of one picture, right on a light ground and on a dark one.

Lines and words outside of boxes take the colour of the page; a filled box has the ink that stands out on its fill.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from helpers.show.style import BEFORE_COLOUR, FAILED_MARK, STATUS_COLOURS
from helpers.show.verdicts import DARK, NO_SPILLS, NOT_ASKED, PALE, ink_on

# A telephone's column, and a desk's; both are drawn at about their own size, so letters are as large as they say.
NARROW, WIDE = 368, 760
_LETTERS = {NARROW: 12, WIDE: 13}
_LARGEST = {NARROW: 460, WIDE: 860}
_FONT = 'system-ui,-apple-system,"Segoe UI","Liberation Sans",sans-serif'
_CODE_FONT = 'ui-monospace,Menlo,"DejaVu Sans Mono",monospace'
# One colour a meaning, on every schematic: what was there, what comes, what fits, what is in the way, what failed.
OLD, NEW, FINE, OTHER, FAILED, IDLE = (
    "#9CC9E8",
    "#F3C27A",
    NO_SPILLS,
    PALE,
    STATUS_COLOURS["register_exhausted"],
    NOT_ASKED,
)
OVER, LOCAL = BEFORE_COLOUR, DARK
_EDGE = "#444444"
# The width of letters as a share of the font's size, of a wide typeface; the others need no more.
_THIN, _BROAD = frozenset("fijlrtI!'()[],.-/:;| "), frozenset("mwMW@%+<>=#~&")
# JupyterLab drops style sheets and SVG of a notebook that it does not trust, and keeps styles of elements: the words
# are there at first, and the sheet puts the drawing in their place.
HIDDEN = ' style="display:none"'
_STYLE = (
    "<style>.rc-schematic{container-type:inline-size;width:100%;color:inherit;margin:.4em 0}"
    ".rc-schematic svg{display:block;width:100%;height:auto;background:none}"
    ".rc-schematic .words{display:none}.rc-schematic .narrow{display:block!important}"
    "@container (min-width:700px){.rc-schematic .narrow{display:none!important}"
    ".rc-schematic .wide{display:block!important}}</style>"
)


def width_of(words: str, size: float, *, bold: bool = False, code: bool = False) -> float:
    """How wide the words are drawn at most, in the units of the drawing."""
    if code:
        return 0.61 * size * len(words)
    share = sum(0.38 if c in _THIN else 0.96 if c in _BROAD else 0.72 if c.isupper() else 0.635 for c in words)
    return share * size * (1.11 if bold else 1.0)


def wrapped(words: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """The words in lines no wider than `width`; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in words.split():
        if lines and width_of(f"{lines[-1]} {word}", size, bold=bold) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


class Canvas:
    """A drawing so wide (NARROW or WIDE) that grows downwards; a `y` of words is that of their base line."""

    def __init__(self, width: int) -> None:
        self.width, self.size = width, _LETTERS[width]
        self.parts: list[str] = []
        self.bottom = 0.0

    @property
    def wide(self) -> bool:
        return self.width == WIDE

    @property
    def leading(self) -> float:
        """From one line of words to the next."""
        return self.size + 4

    def _add(self, part: str, bottom: float) -> None:
        self.parts.append(part)
        self.bottom = max(self.bottom, bottom)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", ink: str = "currentColor", bold: bool = False,
        code: bool = False,
    ) -> None:  # fmt: skip
        """One line of words that begins (`start`), has its middle (`middle`) or ends (`end`) at x; nothing for none."""
        if not words:
            return
        more = ' font-weight="700"' * bold + f" font-family='{_CODE_FONT}' font-size=\"{self.size - 0.5:g}\"" * code
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._add(f'<text x="{x:.5g}" y="{y:.5g}"{at}{more} fill="{ink}">{html.escape(words)}</text>', y + 4)

    def paragraph(
        self, x: float, y: float, words: str, width: float = 0, *, anchor: str = "start", bold: bool = False
    ) -> float:
        """Words in lines from the base line y down; the base line of what may stand below them."""
        for line in wrapped(words, width or self.width - x, self.size, bold=bold):
            self.text(x, y, line, anchor=anchor, bold=bold)
            y += self.leading
        return y

    def box(
        self, x: float, y: float, width: float, height: float, fill: str = "none", words: str = "", *,
        dashed: bool = False, bold: bool = False, plain: bool = False,
    ) -> None:  # fmt: skip
        """A box, its words wrapped and in the middle of it; `plain` without an edge."""
        # A light fill needs a dark edge on either ground; a dark one, the page's own.
        ink = _EDGE if fill != "none" and ink_on(fill) == "black" else "currentColor"
        edge = "" if plain else f' stroke="{ink}"' + ' stroke-dasharray="4 3"' * dashed
        self._add(
            f'<rect x="{x:.5g}" y="{y:.5g}" width="{width:.5g}" height="{height:.5g}" fill="{fill}"{edge}/>', y + height
        )
        lines = wrapped(words, width - 4, self.size, bold=bold)
        first = y + height / 2 - self.leading * (len(lines) - 1) / 2 + self.size * 0.36
        ink = ink_on(fill) if fill != "none" else "currentColor"
        for at, line in enumerate(lines):
            self.text(x + width / 2, first + at * self.leading, line, anchor="middle", ink=ink, bold=bold)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, thick: float = 1, dashed: bool = False,
        ink: str = "currentColor",
    ) -> None:  # fmt: skip
        dash = ' stroke-dasharray="4 3"' * dashed
        self._add(
            f'<line x1="{x1:.5g}" y1="{y1:.5g}" x2="{x2:.5g}" y2="{y2:.5g}" stroke="{ink}" '
            f'stroke-width="{thick:g}"{dash}/>',
            max(y1, y2),
        )

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A line with a head at its end, along one axis."""
        self.line(x1, y1, x2, y2)
        back = 6 if x2 + y2 > x1 + y1 else -6
        sides = ((-back, -4), (-back, 4)) if y1 == y2 else ((-4, -back), (4, -back))
        points = " ".join(f"{x2 + dx:.5g},{y2 + dy:.5g}" for dx, dy in ((0, 0), *sides))
        self._add(f'<polygon points="{points}" fill="currentColor"/>', y2)

    def area(self, points: Sequence[tuple[float, float]], fill: str) -> None:
        """A filled shape between points."""
        drawn = " ".join(f"{x:.5g},{y:.5g}" for x, y in points)
        self._add(
            f'<polygon points="{drawn}" fill="{fill}" stroke="currentColor" stroke-width=".7"/>',
            max(y for _, y in points),
        )

    def bracket(self, x1: float, x2: float, y: float, words: str = "", *, below: bool = True) -> None:
        """A bracket over or under a stretch, its words beyond it."""
        turn = -5 if below else 5
        self._add(
            f'<path d="M{x1:.5g} {y + turn:.5g}V{y:.5g}H{x2:.5g}V{y + turn:.5g}" fill="none" stroke="currentColor"/>', y
        )
        if words:
            self.text((x1 + x2) / 2, y + self.size + 2 if below else y - 5, words, anchor="middle")

    def cross(self, x: float, y: float, words: str) -> None:
        """The mark of what failed, with its words, in a box of its own whose middle is (x, y)."""
        wide = width_of(f"{FAILED_MARK} {words}", self.size, bold=True) + 14
        self.box(x - wide / 2, y - 12, wide, 24, FAILED, f"{FAILED_MARK} {words}", bold=True)

    def legend(self, x: float, y: float, entries: Sequence[tuple[str, str]]) -> float:
        """Boxes of (fill, words), as many in a line as there is room; the y below them."""
        at = x
        for fill, words in entries:
            need = 22 + width_of(words, self.size)
            if at > x and at + need > self.width - x:
                at, y = x, y + self.leading + 4
            self.box(at, y, 14, 14, fill)
            self.text(at + 20, y + 11.5, words)
            at += need + 16
        return y + 14 + 4

    def svg(self, title: str, words: str) -> str:
        """The drawing as one SVG with its title and its words."""
        high = self.bottom + 6
        return (
            f'<svg viewBox="0 0 {self.width} {high:.5g}" role="img" style=\'max-width:{_LARGEST[self.width]}px;'
            f"font:{self.size}px {_FONT}'><title>{html.escape(title)}</title><desc>{html.escape(words)}</desc>"
            f"{''.join(self.parts)}</svg>"
        )


@dataclass(frozen=True, repr=False)
class Picture:
    """A schematic for a page: its claim, what is seen on it in words, and what draws it on a canvas of either width.

    A page shows the claim and the layout that its width has room for; text shows the words.
    """

    title: str
    words: str
    draw: Callable[[Canvas], None]

    def svg(self, width: int = NARROW) -> str:
        """The picture in one layout."""
        canvas = Canvas(width)
        self.draw(canvas)
        return canvas.svg(self.title, self.words)

    def __repr__(self) -> str:
        return f"{self.title}. {self.words}"

    def _repr_html_(self) -> str:
        words = html.escape(f"{self.words} (Run the cell to see the drawing.)")
        return (
            f'{_STYLE}<div class="rc-schematic"><div style="font-weight:600;margin:0 0 .4em">{html.escape(self.title)}'
            f'</div><p class="words">{words}</p><div class="narrow"{HIDDEN}>{self.svg(NARROW)}</div>'
            f'<div class="wide"{HIDDEN}>{self.svg(WIDE)}</div></div>'
        )

"""The decision tree "my kernel died": from the words of a log to the kinds of failure, as a picture and as text.

Every kind of the catalogue (`helpers.diagnosis.kinds`) is one leaf. The questions in front of them are written here,
one for each family of kinds; a kind that is added to a family appears in the tree by itself.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from helpers.diagnosis.kinds import CATALOGUE
from helpers.show.html import folded
from helpers.workbook.schematics.drawing import HIDDEN

TITLE = "My kernel died"
FIRST = "What does the log say?"
REST = "If no question fits, the kind of failure is unknown: attach the whole log to your report."


@dataclass(frozen=True)
class Leaf:
    """A kind of failure at the end of a branch: its name in the catalogue, and its title."""

    kind: str
    title: str


@dataclass(frozen=True)
class Question:
    """One question to a log: what it asks, words by which a yes is known, and the kinds that a yes leads to."""

    ask: str
    signs: tuple[str, ...]
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class Branch:
    """Questions about one stage of a kernel's life, under one heading."""

    heading: str
    questions: tuple[Question, ...]


# Heading -> (family of kinds, question, words in a log). The order is the order in which to ask.
_STAGES: tuple[tuple[str, tuple[tuple[str, str, tuple[str, ...]], ...]], ...] = (
    (
        "A compiler stopped before ptxas ran",
        (
            ("mlir", "Did the front end fail?", ("PassManager::run failed", "Cannot select", "UNREACHABLE executed")),
            ("other_compilers", "Is the compiler AMD's?", ("ran out of registers during register allocation",)),
            ("slow", "Does the compile take minutes?", ()),
        ),
    ),
    (
        "A limit of the chip is exceeded",
        (
            (
                "registers",
                "Are registers named?",
                ("Register allocation failed", "Insufficient registers", "C7600", "C7602"),
            ),
            ("memory", "Are bytes of memory named?", ("out of resource: shared memory", "uses too much shared data")),
        ),
    ),
    (
        "ptxas refuses the PTX, or dies",
        (
            ("chip_lacks", "Is a feature missing?", ("requires .target",)),
            ("toolchain", "Do chip and toolchain differ?", ("is not defined for option",)),
            ("ptxas_died", "Did ptxas end without a word?", ("died due to signal", "failed with error code -")),
        ),
    ),
    (
        "It compiled, and the launch or the result is wrong",
        (
            ("launch", "Does the launch fail?", ("too many resources requested for launch",)),
            ("trapped", "Does it trap at once?", ()),
            ("known_ptxas_faults", "Are the numbers wrong?", ()),
        ),
    ),
    (
        "Perhaps nothing failed",
        (
            ("advice", "Is it only advice or a warning?", ("Potential Performance Loss",)),
            ("autotuner", "Did an autotuner go on?", ()),
            ("builds", "Did the build fail beside ptxas?", ("ninja: build stopped",)),
        ),
    ),
)  # fmt: skip
# A kind that the tree asks for apart from its family.
_APART = ("trapped",)


def _group(kind: str) -> str:
    return kind if kind in _APART else CATALOGUE[kind].explain.__module__.rpartition(".")[2]


def branches() -> tuple[Branch, ...]:
    """The tree: branches, their questions, and all kinds of the catalogue, each once.

    Raises LookupError for a family of kinds that no question leads to.
    """
    groups: dict[str, list[Leaf]] = {}
    for name, kind in CATALOGUE.items():
        title = kind.title.removeprefix("no failure: ")
        groups.setdefault(_group(name), []).append(Leaf(name, title))
    tree = tuple(
        Branch(heading, tuple(Question(ask, signs, tuple(groups.pop(group))) for group, ask, signs in questions))
        for heading, questions in _STAGES
    )
    if groups:
        raise LookupError(f"no question of the decision tree leads to {', '.join(groups)}")
    return tree


def tree_text(mine: str = "") -> str:
    """The tree as indented lines of text; the leaf of the kind `mine` (a name of the catalogue) is marked."""
    lines = [f"{TITLE}. {FIRST}"]
    for number, branch in enumerate(branches(), 1):
        lines += ["", f"{number}. {branch.heading}"]
        for question in branch.questions:
            signs = " or ".join(f'"{sign}"' for sign in question.signs)
            lines.append(f"   {question.ask}" + (f" Look for {signs}." if signs else ""))
            for leaf in question.leaves:
                lines.append(f"     {'=> ' if leaf.kind == mine else '-> '}{leaf.title}" + _yours(leaf, mine))
    lines += ["", REST]
    return "\n".join(lines)


def _yours(leaf: Leaf, mine: str) -> str:
    return "  (yours)" if leaf.kind == mine else ""


# --- the picture ------------------------------------------------------------------------------------------

COLUMN, GAP, PAD = 380, 22, 10
# Letters of 13 units: at a telephone's 420 pixels, with margins, a column is drawn at about its own size.
FONT, LINE = 13, 18
_LETTERS = {"heading": 44, "ask": 44, "sign": 44, "leaf": 43}
_STYLE = """<style>
.rc-tree{color:inherit;margin:.4em 0}
.rc-tree svg{display:block;width:100%;height:auto}
.rc-tree svg{font:13px system-ui,-apple-system,"Segoe UI","Liberation Sans",sans-serif}
.rc-tree svg text{fill:currentColor}
.rc-tree .words{display:none}
.rc-tree .narrow{display:block!important;max-width:460px}
.rc-tree .wide{max-width:900px}
@media (min-width:1000px){.rc-tree .narrow{display:none!important}.rc-tree .wide{display:block!important}}
.rc-tree .h{font-weight:700}.rc-tree .q{font-weight:600}
.rc-tree .s{font-family:ui-monospace,Menlo,"DejaVu Sans Mono",monospace;font-size:11.5px;opacity:.85}
.rc-tree .l{stroke:currentColor;stroke-width:1.2;fill:none;opacity:.55}
.rc-tree .box{fill:#0072B2;fill-opacity:.1;stroke:#0072B2;stroke-width:1.2}
.rc-tree .root{fill:#8B1A1A;fill-opacity:.16;stroke:#B5473F;stroke-width:1.6}
.rc-tree .dot{fill:currentColor;opacity:.7}
.rc-tree .mine{fill:#E69F00;fill-opacity:.3;stroke:#E69F00;stroke-width:2}
.rc-tree .y{font-weight:700}
</style>"""


@dataclass(frozen=True)
class _Drawn:
    """A branch drawn with its top at 0: SVG parts, and its height."""

    parts: tuple[str, ...]
    height: float


def _text(x: float, y: float, words: str, css: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{f" class={css!r}" if css else ""}>{html.escape(words)}</text>'.replace("'", '"')


def _draw(branch: Branch, mine: str) -> _Drawn:
    """A branch as a box with its heading, below it its questions on a trunk, and their leaves."""
    parts: list[str] = []
    heading = textwrap.wrap(branch.heading, _LETTERS["heading"])
    y = LINE * len(heading) + 10
    parts.append(f'<rect class="box" x="0" y="0" width="{COLUMN}" height="{y}" rx="6"/>')
    parts += [_text(PAD, LINE * (i + 1) + 1, line, "h") for i, line in enumerate(heading)]
    trunk, last = y, y
    for question in branch.questions:
        y += 24
        parts.append(f'<path class="l" d="M8 {y - 4}H20"/>')
        last = y - 4
        parts.append(_text(24, y, question.ask, "q"))
        for sign in question.signs:
            for line in textwrap.wrap(f"“{sign}”", _LETTERS["sign"]):
                y += LINE - 1
                parts.append(_text(24, y, line, "s"))
        for leaf in question.leaves:
            lines = textwrap.wrap(leaf.title, _LETTERS["leaf"])
            is_mine = leaf.kind == mine
            if is_mine:
                high = LINE * (len(lines) + 1)
                parts.append(f'<rect class="mine" x="28" y="{y + 4}" width="{COLUMN - 30}" height="{high}" rx="4"/>')
            parts.append(f'<circle class="dot" cx="37" cy="{y + LINE - 4.5}" r="2.6"/>')
            for line in [*lines, *["this is yours"] * is_mine]:
                y += LINE
                parts.append(_text(46, y, line, "y" if is_mine else ""))
            y += 4 * is_mine
        y += 4
    parts.insert(0, f'<path class="l" d="M8 {trunk}V{last}"/>')
    return _Drawn(tuple(parts), y + 6)


def _columns(drawn: Sequence[_Drawn], count: int) -> list[list[_Drawn]]:
    """The branches in `count` columns, in their order, so that the tallest column is as low as it can be."""
    if count == 1 or len(drawn) <= 1:
        return [list(drawn)]

    def tallest(columns: list[list[_Drawn]]) -> float:
        return max(sum(d.height + GAP for d in column) for column in columns)

    splits = ([list(drawn[:at]), *_columns(drawn[at:], count - 1)] for at in range(1, len(drawn) - count + 2))
    return min(splits, key=tallest)


def tree_svg(columns: int = 1, mine: str = "") -> str:
    """The tree as one SVG of so many columns; text and lines take the colour of the page, light or dark."""
    laid = _columns([_draw(branch, mine) for branch in branches()], columns)
    top = 62
    width = COLUMN * len(laid) + GAP * (len(laid) - 1) + 20
    parts: list[str] = []
    height = 0.0
    for number, column in enumerate(laid):
        x, y = 10 + number * (COLUMN + GAP), top + 26.0
        # From the root down to the column's first branch, and along its left edge to those below.
        parts.append(f'<path class="l" d="M{x + 30 if number else 40} {top - 12}V{top - 2}H{x - 6}V{y + 14}H{x}"/>')
        for place, branch in enumerate(column):
            if place:
                parts.append(f'<path class="l" d="M{x - 6} {top + 26}V{y + 14}H{x}"/>')
            parts.append(f'<g transform="translate({x} {y:g})">{"".join(branch.parts)}</g>')
            y += branch.height + GAP
        height = max(height, y)
    if len(laid) > 1:
        reach = 10 + (len(laid) - 1) * (COLUMN + GAP) + 30
        parts.append(f'<path class="l" d="M40 {top - 12}H{reach}"/>')
    root = f'<rect class="root" x="4" y="4" width="{COLUMN}" height="46" rx="8"/>'
    words = _text(16, 24, TITLE, "h") + _text(16, 42, FIRST)
    return (
        f'<svg viewBox="0 0 {width} {height:g}" role="img" aria-label="{html.escape(_alt(mine), quote=True)}">'
        f"{''.join(parts)}{root}{words}</svg>"
    )


def _alt(mine: str) -> str:
    """The alternative text: what the picture shows, branch by branch, and which leaf is the reader's."""
    named = "; ".join(
        f"{branch.heading}: {', '.join(question.ask for question in branch.questions)}" for branch in branches()
    )
    yours = f" Marked as yours: {CATALOGUE[mine].title}." if mine in CATALOGUE else ""
    return f'Decision tree "{TITLE}", from the words of a log to {len(CATALOGUE)} kinds of failure. {named}.{yours}'


_UNDRAWN = "Run the cell to see the tree as a drawing. It stands below as text."


@dataclass(frozen=True, repr=False)
class DecisionTree:
    """The tree for a page: the picture in HTML, one column wide on a telephone and two on a desk; text elsewhere."""

    mine: str = ""

    def text(self) -> str:
        """The tree as text."""
        return tree_text(self.mine)

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        narrow, wide = tree_svg(1, self.mine), tree_svg(2, self.mine)
        return (
            f'{_STYLE}<div class="rc-tree"><p class="words">{_UNDRAWN}</p><div class="narrow"{HIDDEN}>{narrow}</div>'
            f'<div class="wide"{HIDDEN}>{wide}</div>'
            f"{folded('The same tree as text', _as_list(self.mine))}</div>"
        )


def _as_list(mine: str) -> str:
    """The tree as nested lists in HTML, which a narrow page wraps by itself."""
    parts = []
    for branch in branches():
        asked = []
        for question in branch.questions:
            signs = " or ".join(f"<code>{html.escape(sign)}</code>" for sign in question.signs)
            look = f" Look for {signs}." if signs else ""
            leaves = "".join(f"<li>{_marked(leaf, mine)}</li>" for leaf in question.leaves)
            asked.append(f"<li>{html.escape(question.ask)}{look}<ul>{leaves}</ul></li>")
        parts.append(f"<li><b>{html.escape(branch.heading)}</b><ul>{''.join(asked)}</ul></li>")
    return f"<p>{FIRST}</p><ol>{''.join(parts)}</ol><p>{REST}</p>"


def _marked(leaf: Leaf, mine: str) -> str:
    title = html.escape(leaf.title)
    return f"<b>{title} (yours)</b>" if leaf.kind == mine else title

"""An explorer without a kernel: the recorded answers to its controls, as plain data that a page operates by itself.

The widget carries the data in its output under a MIME type of its own, which JupyterLab and code hosts pass over.
`pages.py` writes it into the exported page, and `knobs.js` builds the controls and shows the answers. What was not
recorded is said to be so, beside the command that compiles it.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from helpers.attention.choice import COMMAND, Choice
from helpers.show.style import status_colour
from helpers.show.verdicts import LEGEND, NOT_ASKED, Cell, ink_on
from helpers.workbook.explorer.frame import plain_value

if TYPE_CHECKING:
    import ipywidgets as w

_LAST = ("evidence", "demand counted", "and")
"""Facts that stand below the others."""
LETTERS = string.digits + string.ascii_letters
UNRECORDED = "This was not recorded. The command below compiles it on your machine."


@dataclass(frozen=True)
class Knob:
    """A control as a page shows it: labels of its options, their values, and what each adds to the command."""

    name: str
    label: str
    means: str
    options: tuple[str, ...]
    values: tuple[object, ...]
    words: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: its length as a number (None: it has none), its colour, what stands behind it."""

    label: str
    value: float | None
    colour: str
    words: str
    hatched: bool = False


@dataclass(frozen=True)
class Answer:
    """What was recorded for one setting of the controls: a verdict, facts by name, a cell of the map, pictures.

    `profile` is the demand on registers along the PTX, part by part, to be drawn against `cap`; `bars` are drawn up
    to the largest of them or to the scale of the page.
    """

    status: str
    said: str
    facts: Mapping[str, object] = field(default_factory=dict)
    cell: Cell | None = None
    profile: tuple[int, ...] = ()
    cap: int = 0
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Scale:
    """What the bars are measured by: the words of the axis, where it ends at least, marks with their words."""

    axis: str = ""
    end: float | None = None
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class OnPage:
    """The recorded answers of one explorer, by the values of its knobs in their order.

    `grid` names the two knobs (rows, columns) that the map is drawn over. `command` are the words of the command: text,
    or the name of the knob whose word stands there.
    """

    name: str
    title: str
    knobs: tuple[Knob, ...]
    answers: Mapping[tuple, Answer]
    command: tuple[str, ...]
    grid: tuple[str, str] | None = None
    grid_note: str = ""
    scale: Scale = Scale()
    unrecorded: str = UNRECORDED

    def payload(self) -> dict:
        """Everything as JSON: texts and answers once each, answers by the numbers of the options chosen."""
        texts: dict[str, int] = {}
        statuses: dict[str, int] = {}
        grounds: dict[tuple, int] = {}
        bars: dict[Bar, int] = {}
        kept: dict[str, int] = {}
        told = {values: _told(answer.facts) for values, answer in self.answers.items()}
        heads = list(dict.fromkeys(name for facts in told.values() for name in facts))
        heads.sort(key=_LAST.__contains__)
        packed: list[list] = []

        def number(table: dict, key: object) -> int:
            return table.setdefault(key, len(table))

        states = {}
        for values, answer in self.answers.items():
            places = _places(self.knobs, values)
            cell = answer.cell
            row = [
                number(statuses, answer.status),
                number(texts, answer.said),
                [number(grounds, (cell.ground, cell.hatched)), cell.words] if cell else 0,
                [number(texts, told[values][h]) if h in told[values] else -1 for h in heads],
                [answer.cap, *answer.profile] if answer.profile else 0,
                [number(bars, bar) for bar in answer.bars],
            ]
            key = repr(row)
            if key not in kept:
                packed.append(row)
            states[places] = number(kept, key)
        names = [knob.name for knob in self.knobs]
        return {
            "name": self.name,
            "title": self.title,
            "knobs": [
                {"label": k.label, "means": k.means, "options": k.options, "words": k.words, "at": k.at}
                for k in self.knobs
            ],
            "command": [names.index(word) if word in names else word for word in self.command],
            "letters": LETTERS,
            "grid": [names.index(name) for name in self.grid] if self.grid else None,
            "gridNote": self.grid_note,
            "heads": heads,
            "texts": list(texts),
            "statuses": [_colours(status_colour(status)) for status in statuses],
            "grounds": [[*_colours(ground), int(hatched)] for ground, hatched in grounds],
            "legend": [[words, ground, int(hatched)] for words, ground, hatched in LEGEND] if self.grid else [],
            "bars": [[b.label, b.value, b.colour, b.words, int(b.hatched)] for b in bars],
            "axis": self.scale.axis,
            "end": self.scale.end,
            "marks": self.scale.marks,
            "unrecorded": [self.unrecorded, *_colours(NOT_ASKED)],
            "answers": packed,
            "states": states,
        }


def _told(facts: Mapping[str, object]) -> dict[str, str]:
    """The facts that say something, as plain text: a page sets it as it is, so Markdown's marks go."""
    return {name: str(value).replace("`", "") for name, value in facts.items() if value is not None and value != ""}


def _colours(ground: str) -> list[str]:
    return [ground, ink_on(ground)]


def _places(knobs: Sequence[Knob], values: Sequence[object]) -> str:
    """The key of a setting: a letter for the option of each knob, by its place in the list."""
    return "".join(LETTERS[knob.values.index(value)] for knob, value in zip(knobs, values, strict=True))


def knobs_of(controls: Mapping[str, w.Dropdown], words: Mapping[str, Mapping[object, str]]) -> tuple[Knob, ...]:
    """The controls of an explorer as knobs; `words[name][value]` is what an option adds to the command."""
    found = []
    for name, control in controls.items():
        labels, values = zip(*control.options, strict=True)
        values = tuple(plain_value(value) for value in values)
        added = words.get(name, {})
        found.append(
            Knob(name, control.description, control.tooltip or "", labels, values,
                 tuple(added.get(value, "") for value in values), control.index)
        )  # fmt: skip
    return tuple(found)


def choice_words(base: Choice, controls: Mapping[str, w.Dropdown]) -> dict[str, dict[object, str]]:
    """What each option of these controls adds to the command that compiles `base`."""
    found: dict[str, dict[object, str]] = {}
    for name, control in controls.items():
        values = [plain_value(value) for _, value in control.options]
        if hasattr(base, name):
            found[name] = {v: _with(base, name, v).command_words().get(name, "") for v in values}
    return found


def _with(base: Choice, name: str, value: Any) -> Choice:
    changed: dict[str, Any] = {name: value}
    return replace(base, **changed)


def choice_command(base: Choice, names: Sequence[str]) -> tuple[str, ...]:
    """The command that compiles `base` with places for the knobs of these names, each where `Choice` has its field."""
    words = base.command_words()
    return (COMMAND, *(n if n in names else words[n] for n in vars(base) if n in names or n in words))

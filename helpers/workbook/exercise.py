"""The exercise: a question, a guess of the reader's, and the answer computed from values, below a fold.

It has one form everywhere. In JupyterLab it is a widget. In an exported page `pages.js` builds the same form from the
attributes of the HTML, without a kernel. In a code host's preview only question and fold are left.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import ipywidgets as w

from helpers.workbook.explorer.frame import OWN_KEYS, gone_notice
from helpers.workbook.prose import as_html, paragraphs

CLASS = "rc-exercise"
CLOSE = 0.1
"""A guess this near to the answer, as a share of it, counts as right."""
_BOX = "border:1px solid #8888;border-radius:6px;padding:.5em .9em;margin:.4em 0"


@dataclass(frozen=True)
class Asked:
    """An exercise as plain data. Either `choices` are given and the answer is one of them, or it is a number in `unit`.

    `because` is Markdown's `code` and **bold**, in paragraphs. Raises ValueError where the answer cannot be guessed.
    """

    question: str
    answer: str | float
    because: str
    unit: str = ""
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.choices and self.answer not in self.choices:
            raise ValueError(f"the answer {self.answer!r} is not among the choices {', '.join(self.choices)}")
        if not self.choices and (isinstance(self.answer, str) or not math.isfinite(self.answer)):
            raise ValueError(f"the answer {self.answer!r} is no number, and there are no choices")

    @property
    def said(self) -> str:
        """The answer in words: `228 registers`, `it spills`."""
        if isinstance(self.answer, str):
            return self.answer
        number = f"{self.answer:,.0f}" if float(self.answer).is_integer() else f"{self.answer:,.3g}"
        return f"{number} {self.unit}".strip()

    @property
    def replies(self) -> dict[str, str]:
        """What is said to a guess, by how it compares: `right`, and `wrong` of a choice, `low` and `high` of a number.

        `{guess}` stands for what the reader gave.
        """
        if self.choices:
            return {
                "right": f"You are right: {self.said}.",
                "wrong": f"You said: {{guess}}. The answer is: {self.said}.",
            }
        return {
            "right": f"You are right, or within {CLOSE:.0%}: you said {{guess}}, and the answer is {self.said}.",
            "low": f"Your guess of {{guess}} is too low. The answer is {self.said}.",
            "high": f"Your guess of {{guess}} is too high. The answer is {self.said}.",
        }

    def compared(self, guess: str | float) -> str:
        """The reply to a guess."""
        if isinstance(self.answer, str) or isinstance(guess, str):
            which = "right" if guess == self.answer else "wrong"
        elif abs(guess - self.answer) <= CLOSE * abs(self.answer):
            which = "right"
        else:
            which = "low" if guess < self.answer else "high"
        return self.replies[which].replace("{guess}", guess if isinstance(guess, str) else f"{guess:g}")

    def to_html(self) -> str:
        """Question and folded answer, with what a page needs to take a guess in its attributes."""
        facts = {"answer": self.answer, "unit": self.unit, "choices": self.choices, "close": CLOSE,
                 "replies": self.replies}  # fmt: skip
        return (
            f'<div class="{CLASS}" role="group" aria-label="Exercise" style="{_BOX}" '
            f'data-exercise="{html.escape(json.dumps(facts))}">{self._question()}{self.folded()}</div>'
        )

    def _question(self) -> str:
        return "".join(f'<p class="rc-question"><b>{as_html(part)}</b></p>' for part in paragraphs(self.question))

    def folded(self, *, open_: bool = False) -> str:
        """The answer and its reason below a line that a click opens."""
        because = "".join(f"<p>{as_html(part)}</p>" for part in paragraphs(self.because))
        return (
            f'<details class="rc-answer"{" open" * open_}><summary style="cursor:pointer">Show the answer</summary>'
            f"<p><b>The answer is: {html.escape(self.said)}.</b></p>{because}</details>"
        )


class ExerciseForm(w.VBox):
    """The exercise as a widget: a control for the guess, a button that compares, the reply, the folded answer."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        if asked.choices:
            self.guess = w.RadioButtons(options=list(asked.choices), index=None, description="Your guess")
        else:
            self.guess = w.FloatText(description="Your guess", layout=w.Layout(width="220px"))
        self.compare = w.Button(description="Compare", tooltip="compare my guess with the answer")
        self.compare.on_click(lambda _button: self.reply())
        # A click overtakes a change of the guess that JupyterLab still holds back while the kernel is busy, so what
        # was said first may answer the guess before. The reply follows the guess.
        self.guess.observe(self._follow, names="value")
        self.said = w.HTML()
        self.folded = w.HTML(asked.folded())
        unit = [w.Label(asked.unit)] if asked.unit and not asked.choices else []
        asking = w.HBox([self.guess, *unit, self.compare, w.HTML(OWN_KEYS)])
        super().__init__([w.HTML(asked._question()), asking, self.said, self.folded, gone_notice()])
        self.add_class(CLASS)
        self.layout.border = "1px solid #8888"
        self.layout.padding = "6px 12px"

    def _follow(self, _change: object) -> None:
        if self.said.value:
            self.reply()

    def reply(self) -> None:
        """Compare the guess with the answer, and open the fold; where nothing was guessed, ask for a guess."""
        if self.guess.value is None:
            self.said.value = '<span role="status">Choose one of them first.</span>'
            return
        self.said.value = f'<span role="status">{html.escape(self.asked.compared(self.guess.value))}</span>'
        self.folded.value = self.asked.folded(open_=True)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        told = {"text/html": self.asked.to_html(), "text/plain": f"Exercise: {self.asked.question}"}
        return {**(data or {}), **told}, metadata


def exercise(
    question: str, *, answer: str | float, because: str, unit: str = "", choices: Sequence[str] = ()
) -> ExerciseForm:
    """An exercise to show in a cell: the reader guesses a number (in `unit`), or one of `choices`, and compares.

    Give `answer` and `because` from values, so that they cannot drift. Raises ValueError for an answer that no guess
    can meet.
    """
    return ExerciseForm(Asked(question, answer, because, unit, tuple(choices)))

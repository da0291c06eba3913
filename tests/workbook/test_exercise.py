"""The exercise: the answer stays below its fold, a guess is compared in the same words with and without a kernel."""

from __future__ import annotations

import html
import json
import re

import nbformat
import pytest

from helpers.workbook.exercise import Asked, exercise
from helpers.workbook.pages import WIDGET_VIEW, PageEntry, notebook_page, without_widget_views
from helpers.workbook.prose import tells_prose

REGISTERS = Asked("How many `regs`, a < b?", 228, "**Spills** come too.\n\nBecause <script>.", unit="registers")
FATE = Asked("What becomes of it?", "it spills", "So it is.", choices=("it dies", "it spills", "it fits"))


def shown_first(text: str) -> str:
    """What a reader sees before the fold is opened: no attributes, nothing of the fold but its summary."""
    return re.sub(r"<[^>]*>", "", re.sub(r"</summary>.*?</details>", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("asked", [REGISTERS, FATE], ids=["a number", "a choice"])
def test_the_answer_is_folded_and_everything_is_escaped(asked: Asked):
    text = asked.to_html()
    assert asked.said not in shown_first(text) and "228" not in shown_first(text)
    assert f"The answer is: {asked.said}." in text and "<details" in text and " open" not in text
    assert "<script>" not in html.unescape(text).split("</p>")[0]
    assert "&lt;script&gt;" in REGISTERS.to_html() and "<code>regs</code>, a &lt; b?" in REGISTERS.to_html()


@pytest.mark.parametrize(
    ("asked", "guess", "which"),
    [
        (REGISTERS, 228, "right"),
        (REGISTERS, 206, "right"),
        (REGISTERS, 250.0, "right"),
        (REGISTERS, 205, "low"),
        (REGISTERS, 251, "high"),
        (FATE, "it spills", "right"),
        (FATE, "it dies", "wrong"),
    ],
)
def test_a_guess_is_compared(asked: Asked, guess: str | float, which: str):
    said = asked.compared(guess)
    assert said == asked.replies[which].replace("{guess}", str(guess).removesuffix(".0"))
    assert asked.said in said


def test_no_number_is_near_zero_but_zero():
    nothing = Asked("How many bytes?", 0, "None.", unit="bytes")
    assert nothing.compared(0) == nothing.replies["right"].replace("{guess}", "0") and nothing.said == "0 bytes"
    assert nothing.compared(1) == nothing.replies["high"].replace("{guess}", "1")


def test_numbers_are_said_with_their_unit():
    assert Asked("?", 7428, "", unit="bytes").said == "7,428 bytes"
    assert Asked("?", 1.34, "", unit="percent").said == "1.34 percent"


@pytest.mark.parametrize("answer", ["many", float("nan"), float("inf")])
def test_an_answer_that_no_guess_meets_is_refused(answer):
    with pytest.raises(ValueError, match="answer"):
        Asked("?", answer, "")
    with pytest.raises(ValueError, match="not among the choices a, b"):
        Asked("?", answer, "", choices=("a", "b"))


def test_the_widget_takes_a_guess_and_opens_the_answer():
    form = exercise("How many?", answer=12, because="So.", unit="warps")
    form.guess.value = 5
    form.compare.click()
    assert form.asked.compared(5) in form.said.value and 'role="status"' in form.said.value
    assert "<details" in form.folded.value and " open>" in form.folded.value


def test_the_reply_follows_a_guess_that_the_click_overtook():
    form = exercise("What?", answer="b", because="So.", choices=["a", "b"])
    form.guess.value = "a"
    assert form.said.value == ""
    form.compare.click()
    form.guess.value = "b"
    assert form.asked.compared("b") in form.said.value and form.asked.compared("a") not in form.said.value


def test_the_widget_asks_for_a_choice_where_none_was_made():
    form = exercise("What?", answer="a", because="So.", choices=["a", "b"])
    assert form.guess.value is None
    form.compare.click()
    assert "Choose one" in form.said.value and " open>" not in form.folded.value
    form.guess.value = "a"
    form.compare.click()
    assert form.asked.replies["right"] in form.said.value


def test_what_is_kept_of_it_reads_without_a_kernel():
    data, _ = exercise("How many?", answer=12, because="So.", unit="warps")._repr_mimebundle_()
    assert {WIDGET_VIEW, "text/html", "text/plain"} <= set(data)
    output = nbformat.v4.new_output("execute_result", data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("rc.exercise()", outputs=[output])])
    kept = without_widget_views(notebook).cells[0].outputs[0].data
    assert set(kept) == {"text/html", "text/plain"}
    page = notebook_page(notebook, entry=PageEntry("01_x", "x", 0.0))
    facts = json.loads(html.unescape(re.search(r"""data-exercise=(["'])(.*?)\1""", page)[2]))
    assert facts["answer"] == 12 and set(facts["replies"]) == {"right", "low", "high"} and facts["close"] == 0.1


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("rc.say(f'{x}')", True),
        ("x = 1\nassert x\nrc.exercise('?', answer=x, because='')", True),
        ("rc.report_summary(x)\nrc.say('x')\nassert x", True),
        ("rc.plot_registers(rows)", False),
        ("say('x')", False),
        ("words = rc.say", False),
        ("# rc.say('x')", False),
        ("other.say('x')", False),
        ("rc.say(", False),
    ],
)
def test_the_code_of_sentences_is_what_jupyterlab_hides(source: str, told: bool):
    assert tells_prose(source) == told

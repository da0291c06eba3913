"""The decision tree: every kind once, words that real logs have, a picture that fits a telephone and can be heard."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.kinds import CATALOGUE
from helpers.workbook.your_own_crash import decision_tree as tree

LOGS = Path(__file__).parents[1] / "fixtures" / "diagnosis"
QUESTIONS = [question for branch in tree.branches() for question in branch.questions]


def test_every_kind_of_the_catalogue_is_one_leaf():
    leaves = [leaf.kind for question in QUESTIONS for leaf in question.leaves]
    assert sorted(leaves) == sorted(CATALOGUE) and all(question.leaves for question in QUESTIONS)


def test_a_family_without_a_question_is_refused(monkeypatch):
    monkeypatch.setattr(tree, "_STAGES", tree._STAGES[1:])
    with pytest.raises(LookupError, match=r"mlir"):
        tree.branches()


@pytest.mark.parametrize("question", [q for q in QUESTIONS if q.signs], ids=lambda q: q.ask)
def test_each_word_to_look_for_stands_in_a_real_log_that_ends_there(question):
    kinds = {leaf.kind for leaf in question.leaves}
    logs = [path.read_text(errors="replace") for path in sorted(LOGS.glob("*.log"))]
    for sign in question.signs:
        found = [f.kind for text in logs if sign in text if (f := diagnose(text).failure)]
        assert kinds & set(found), (sign, found)


@pytest.mark.parametrize("mine", ["", "register_exhaustion", "advice_only"])
def test_picture_and_text_say_the_same_and_mark_the_same_leaf(mine):
    text = tree.tree_text(mine)
    assert text.count("(yours)") == bool(mine) and tree.REST in text
    for columns in (1, 2, 3):
        drawn = ET.fromstring(tree.tree_svg(columns, mine))
        said = " ".join("".join(element.itertext()) for element in drawn.iter("text"))
        for leaf in [leaf for question in QUESTIONS for leaf in question.leaves]:
            assert leaf.title in said and leaf.title in text
        assert said.count("this is yours") == bool(mine)


def test_the_picture_has_words_for_who_cannot_see_it():
    drawn = ET.fromstring(tree.tree_svg(1, "register_exhaustion"))
    words = drawn.get("aria-label")
    assert drawn.get("role") == "img" and all(question.ask in words for question in QUESTIONS)
    assert CATALOGUE["register_exhaustion"].title in words


def test_one_column_fits_a_telephone_and_no_text_leaves_its_column():
    drawn = ET.fromstring(tree.tree_svg(1))
    assert float(drawn.get("viewBox").split()[2]) <= 400
    for element in drawn.iter("text"):
        size = 7.0 if element.get("class") == "s" else 7.6
        assert float(element.get("x")) + size * len(element.text) <= tree.COLUMN, element.text


def test_the_page_switches_pictures_and_takes_its_own_ink():
    page = tree.DecisionTree("advice_only")._repr_html_()
    assert page.count("<svg") == 2 and page.count("<details") == 1
    assert page.count("(yours)") == 1 and "<b>ptxas advises (yours)</b>" in page
    assert "currentColor" in page and "@media (min-width" in page
    assert not re.search(r'fill="#(000|fff)', page) and "data:" not in page
    assert repr(tree.DecisionTree()) == tree.tree_text()

"""Small pieces of HTML: whatever comes from outside is escaped, and what is not there leaves nothing behind."""

from __future__ import annotations

import pytest

from helpers.compiler.report import STATUSES
from helpers.show.html import (
    alert,
    banner,
    cells_html,
    difference_html,
    entry,
    facts_html,
    folded,
    list_html,
    note,
    paragraph,
    picture,
)
from helpers.show.style import status_colour
from tests.show.test_verdicts import contrast

EVIL = "<script>alert('1')</script>"


@pytest.mark.parametrize(
    "page",
    [
        banner("ok", EVIL), alert(EVIL, EVIL), note(EVIL), paragraph(EVIL, label=EVIL), entry(EVIL, EVIL, EVIL),
        folded(EVIL, ""), facts_html({EVIL: EVIL}), picture(b"png", EVIL),
        difference_html({EVIL: EVIL}, {}, (EVIL, "")),
        cells_html([EVIL], [[EVIL]], caption=EVIL, code_columns={0}),
    ],
)  # fmt: skip
def test_text_from_outside_is_escaped(page: str):
    assert "<script" not in page and "&lt;script" in page


@pytest.mark.parametrize("status", STATUSES)
def test_the_words_of_a_banner_can_be_read(status: str):
    ink = "#000000" if "color:black" in banner(status, "x") else "#FFFFFF"
    assert contrast(ink, status_colour(status)) >= 4.5


def test_the_difference_names_what_differs_only():
    page = difference_html({"a": 1, "b": "<i>", "c": 3}, {"a": 1, "b": 2, "c": None}, ("x", "<y>"))
    assert ">a<" not in page and "&lt;i&gt;" in page and "&lt;y&gt;" in page and "–" in page
    assert "The same" in difference_html({"a": 1}, {"a": 1}, ("x", "y"))


def test_what_is_not_there_leaves_nothing_behind():
    assert list_html([]) == cells_html(["a"], []) == picture(b"", "words") == ""
    assert "<th" not in facts_html({"a": None, "b": ""}) and ">0<" in facts_html({"a": 0})


def test_lists_are_numbered_or_not_and_a_fold_is_closed_unless_told():
    assert list_html(["a", "b"], numbered=True).startswith("<ol") and list_html(["a"]).startswith("<ul")
    assert "open" not in folded("s", "body") and folded("s", "body", open_=True).startswith("<details open>")

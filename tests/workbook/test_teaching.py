"""Glossary links and folds: the first mention is linked and nothing else; an answer waits below its fold, escaped."""

from __future__ import annotations

import pytest

from helpers.workbook.glossary import HOME, TERMS, glossary_markdown, link_terms, unlinked_terms
from helpers.workbook.prose import fold


def names(sources: list[str]) -> list[str]:
    return [term.name for term in unlinked_terms(sources)]


def test_the_first_mention_is_linked_and_only_that():
    sources = ["# About ptxas\n\nHere `ptxas` dies.", "Then ptxas dies again."]
    assert names(sources) == ["ptxas"]
    linked = link_terms(sources)
    assert linked == [f"# About ptxas\n\nHere [`ptxas`]({HOME}#ptxas) dies.", "Then ptxas dies again."]
    assert names(linked) == [] and link_terms(linked) == linked


@pytest.mark.parametrize(
    "source",
    [
        "# ptxas in a heading",
        "```\nptxas in a block\n```",
        "[a link to ptxas](https://example.org/ptxas)",
        "a run of `register-cliff ptxas`, a flag --ptxas, path/ptxas, ptxas-like",
    ],
)
def test_what_is_not_prose_is_left_alone(source: str):
    assert "ptxas" not in names([source])
    assert f"{HOME}#ptxas" not in link_terms([source])[0]


def test_a_link_that_comes_after_the_first_mention_does_not_count():
    assert names(["ptxas here.", f"And [ptxas]({HOME}#ptxas) there."]) == ["ptxas"]


def test_a_term_within_the_words_of_another_goes_with_it():
    linked = link_terms(["An fp8 cache."])
    assert linked == [f"An [fp8 cache]({HOME}#KV-cache)."] and names(linked) == []


def test_other_forms_lead_to_the_same_entry():
    assert f"[spilled]({HOME}#spill)" in link_terms(["It spilled."])[0]
    assert f"[`sm_120a`]({HOME}#sm_100a)" in link_terms(["On `sm_120a` it does not."])[0]


def test_the_glossary_has_a_heading_for_every_anchor_and_no_two_alike():
    text = glossary_markdown()
    anchors = [term.anchor for term in TERMS]
    assert len(set(anchors)) == len(anchors) >= 20
    headings = [line[4:].replace(" ", "-") for line in text.splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(anchors)


def test_a_fold_hides_its_answer_and_escapes_both():
    shown = fold("How many `regs`, a < b?", "**228**, not 255.\n\nBecause <script>.").data
    summary, _, rest = shown.partition("</summary>")
    assert shown.startswith("<details") and " open" not in shown.partition(">")[0]
    assert "228" not in summary and "<p><b>228</b>, not 255.</p><p>Because &lt;script&gt;.</p></details>" in rest
    assert "<code>regs</code>, a &lt; b?" in summary

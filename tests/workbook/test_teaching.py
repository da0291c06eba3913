"""Glossary links: the first mention of a term is linked, and nothing else."""

from __future__ import annotations

import pytest

from helpers.workbook.glossary import HOME, SUBJECTS, TERMS, glossary_markdown, link_terms, unlinked_terms


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
        '`signature="ptxas, *ptxas:16"`, `ptxas -v`',
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
    headings = [line[5:].replace(" ", "-") for line in text.splitlines() if line.startswith("#### ")]
    assert sorted(headings) == sorted(anchors)
    subjects = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    assert subjects == list(SUBJECTS) and len(subjects) >= 4


def test_the_glossary_knows_what_a_first_reader_asks_for():
    asked = """w s g hd stages|shared memory|local memory|tensor memory|wgmma|mma.sync|tcgen05|occupancy|demand|extend|
    pack|spill|the cap|branch|Hopper|hopper tile|Gluon kernel|merged row|loop bounds|fused accumulation|
    register target"""
    words = asked.split("|")
    known = {term.name for term in TERMS}
    assert {*words[0].split(), *(word.strip() for word in words[1:])} <= known


def test_no_term_is_explained_twice():
    names = [term.name.lower() for term in TERMS]
    assert len(set(names)) == len(names)
    forms = [form for term in TERMS for form in (term.written or (term.name,))]
    assert len(set(forms)) == len(forms)


def test_what_a_term_means_is_a_sentence():
    for term in TERMS:
        assert term.means[0].isupper() or term.means[0].isdigit(), term.name
        assert term.means.endswith("."), term.name
        assert len(term.means.split()) <= 60, term.name

"""Every word of the field that stands on a page has an entry in the glossary, and a page explains it where it is met.

What is read: the prose of each notebook, the sentences and tables that its cells computed, and the words for those who
cannot see a picture. What is not read: source code and what a compiler wrote.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import nbformat
import pytest

from helpers.workbook.glossary import HOME, TERMS, Term, link_terms, unlinked_terms
from helpers.workbook.pages import PageEntry, notebook_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))

# The field's words, as one would look for them. A page that uses one owes its reader an entry.
FIELD = """
attention query queries key value score softmax weights head token prompt prefill prefix decode decoding causal window
paged page cache mask layer dtype bf16 fp8 e4m3 e5m2 NVFP4 NaN tile accumulator acc branch stages rotary extend
kernel thread warp CTA block multiprocessor SM register registers occupancy roofline lane lanes spill spills spilling
TTIR TTGIR LLIR LLVM PTX SASS ptxas cubin constexpr demand live pack packs trap trapped interpreter spec specs CUDA
Triton Gluon cuTile nvdisasm setmaxnreg maxnreg C7600 C7602 tcgen05 wgmma Hopper Blackwell scratch VGPRs SGPRs
TFLOP FlashAttention FlashInfer sglang vLLM engine chooser capability x128 x64 upcast hoisted
""".split()
_WHERE = {
    "key": "key and value", "value": "key and value", "queries": "query", "cache": "KV cache", "page": "paged cache",
    "mask": "custom mask", "window": "sliding window", "block": "CTA", "live": "live registers", "e4m3": "fp8",
    "rotary": "rotary part", "TFLOP": "TFLOP/s", "extend": "extend", "hoisted": "q cast", "stages": "stages",
}  # fmt: skip
"""The entry that explains a word of `FIELD` whose own form no entry is written in."""

# Names that a reader who knows Python and what a GPU is knows, or that stand beside their own explanation.
_KNOWN = {"GPU", "CPU", "CI", "AMD", "NVIDIA", "JupyterLab", "KiB", "MiB", "PyPI", "MINE"}
_QUOTED = re.compile(
    r"[\s(=/:\[]|^register-cliff|^report$|^--withhold|^python |\.(?:csv|md|zip|py)$|→|^(?:cute|cutile)$|do_bench"
)
"""Pieces of code, commands, files and extras: they are quoted, not used as words."""
_CODE = re.compile(r"`([^`\n]+)`")
_ACRONYM = re.compile(r"\b[A-Za-z]*[A-Z][A-Za-z]*[A-Z0-9][A-Za-z0-9]*\b")


def _entry(word: str) -> Term | None:
    """The entry for a word, as prose or as inline code."""
    name = _WHERE.get(word, word)
    return next((t for t in TERMS if t.name == name or any(t.pattern.fullmatch(w) for w in (word, f"`{word}`"))), None)


def _prose(notebook: nbformat.NotebookNode) -> list[str]:
    """The Markdown that a reader sees, links as their words: cells, and what `rc.say` said."""
    texts = [c.source for c in notebook.cells if c.cell_type == "markdown" and not c.source.startswith("## Glossary")]
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    texts += ["".join(data["text/markdown"]) for data in outputs if "text/markdown" in data]
    return [re.sub(r"\]\([^)]*\)", "]", re.sub(r"```.*?```", "", text, flags=re.DOTALL)) for text in texts]


def _tables(notebook: nbformat.NotebookNode) -> list[str]:
    """The words of tables and drawings."""
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    small = [
        "".join(d["text/html"]) for d in outputs if len("".join(d.get("text/html", ""))) < 100_000 and "text/html" in d
    ]
    bare = [re.sub(r"<(style|script|code|pre)\b.*?</\1>", " ", text, flags=re.DOTALL) for text in small]
    return [html.unescape(re.sub(r"<[^>]*>", " ", text)) for text in bare]


def strangers(notebook: nbformat.NotebookNode) -> set[str]:
    """The words of a notebook that an entry of the glossary is owed and has none."""
    prose = _prose(notebook)
    code = {word for text in prose for word in _CODE.findall(text) if not _QUOTED.search(word)} - _KNOWN
    plain = [_CODE.sub(" ", text) for text in prose]
    left = plain
    for term in TERMS:
        left = [term.pattern.sub(" ", text) for text in left]
    acronyms = {word for text in left for word in _ACRONYM.findall(text)} - _KNOWN
    said = " ".join([*plain, *_tables(notebook)])
    field = {word for word in FIELD if re.search(rf"(?<![\w-]){word}(?![\w-])", said)}
    return {word for word in code | acronyms | field if _entry(word) is None}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_every_word_of_the_field_on_a_page_has_an_entry(path: Path):
    assert strangers(nbformat.read(path, 4)) == set()


@pytest.mark.parametrize(
    ("source", "stranger"),
    [
        ("A kernel with `cp.async` loads.", "cp.async"),
        ("It goes through the TMA.", "TMA"),
        ("No page says `ld.global` yet.", "ld.global"),
    ],
)
def test_a_word_without_an_entry_is_found(source: str, stranger: str):
    assert strangers(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)])) == {stranger}


def test_a_word_that_only_a_drawing_or_a_sentence_of_a_cell_has_is_found(monkeypatch):
    cell = nbformat.v4.new_code_cell("x", outputs=[
        nbformat.v4.new_output("display_data", {"text/html": "<b>TTIR</b> <code>LLIR</code>"}),
        nbformat.v4.new_output("display_data", {"text/markdown": "Its softmax."}),
    ])  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert strangers(notebook) == set()
    left = tuple(t for t in TERMS if t.name not in ("TTIR", "LLIR", "softmax", "online softmax"))
    monkeypatch.setitem(globals(), "TERMS", left)
    assert strangers(notebook) == {"TTIR", "softmax"}


def test_each_anchor_is_one_entry():
    anchors = [term.anchor for term in TERMS]
    assert len(anchors) == len(set(anchors))


def test_the_longer_term_is_linked_and_not_the_word_inside_it():
    linked = link_terms(["An online softmax of extend attention, then attention."])[0]
    assert f"[online softmax]({HOME}#online-softmax)" in linked and f"[extend attention]({HOME}#extend)" in linked
    assert f"then [attention]({HOME}#attention)" in linked
    assert unlinked_terms([linked]) == []


def test_a_page_explains_a_term_that_a_sentence_of_a_cell_meets_first():
    cell = nbformat.v4.new_code_cell("rc.say('x')", execution_count=1, outputs=[
        nbformat.v4.new_output("display_data", {"text/markdown": "It needs a cubin."}),
    ])  # fmt: skip
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 05 A page"), cell])
    before = json.dumps(notebook)
    page = notebook_page(
        notebook, entry=PageEntry("05_a", "05 A page", 1.0), titles={"00_start_here": "00", "05_a": "05"}
    )
    assert re.search(r'<a class="term" title="The binary file[^"]*" href="00_start_here\.html#cubin">cubin</a>', page)
    assert json.dumps(notebook) == before


# --- how much there is to read -------------------------------------------------------------------------------------

FIRST_HOUR = ("00", "01", "02", "03")
WORDS_OF_PAGE_02 = 2700
WORDS_OF_THE_FIRST_HOUR = 6700
"""At 220 words a minute that is half an hour for 00 to 03; the other half is for pictures, code and exercises."""


def words_in_view(notebook: nbformat.NotebookNode) -> int:
    """The words that a reader of the page sees when it opens: prose, computed sentences, tables that are not folded."""
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    told = [re.sub(r"<details\b.*?</details>", " ", "".join(d.get("text/html", "")), flags=re.DOTALL) for d in outputs]
    told = [text.replace("<wbr>", "") for text in told]  # where a word may break it is still one word
    tables = [html.unescape(re.sub(r"<[^>]*>", " ", table)) for text in told if len(text) < 100_000
              for table in re.findall(r"<table\b.*?</table>", text, flags=re.DOTALL)]  # fmt: skip
    return sum(len(text.split()) for text in [*_prose(notebook), *tables])


def test_the_pages_of_the_first_hour_can_be_read_in_it():
    words = {p.name[:2]: words_in_view(nbformat.read(p, 4)) for p in PAGES if p.name[:2] in FIRST_HOUR}
    assert tuple(words) == FIRST_HOUR
    assert words["02"] <= WORDS_OF_PAGE_02 and sum(words.values()) <= WORDS_OF_THE_FIRST_HOUR, words


def test_a_folded_table_is_not_in_view_and_an_open_one_is():
    def read(text: str) -> int:
        output = nbformat.v4.new_output("display_data", {"text/html": text})
        return words_in_view(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])]))

    table = "<table><tr><td>two words</td></tr></table>"
    assert read(table) == 2 and read(f"<details><summary>more</summary>{table}</details>") == 0

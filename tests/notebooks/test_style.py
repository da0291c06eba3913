"""The style checks bite: one flaw in a clean notebook is one complaint, and `--fix` mends what it says it mends."""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
import pytest
import style
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FIRST = "# 01 A question\n\n**Question.** Why? **Answer.** So. **GPU needed:** no. **Run time:** short.\n\n### Exercise"
HIDDEN = {"jupyter": {"source_hidden": True}}
LAST = "## What follows, and what was not shown\n\nNothing."


def picture(**metadata: str) -> nbformat.NotebookNode:
    return new_output("display_data", {"image/png": "AAAA", "text/plain": "a figure"}, metadata={"image/png": metadata})


def clean() -> nbformat.NotebookNode:
    cells = [
        new_markdown_cell(FIRST),
        new_code_cell("rc.exercise('How many?', answer=6 * 7)", execution_count=1, metadata=dict(HIDDEN)),
        new_markdown_cell("A figure comes."),
        new_code_cell("rc.plot()", execution_count=2, outputs=[picture(evidence="recorded")]),
        new_markdown_cell(LAST),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata={"kernelspec": style.KERNEL})


def complaints(notebook: nbformat.NotebookNode, folder: Path, name: str = "01_a_question.ipynb") -> list[str]:
    path = folder / name
    nbformat.write(notebook, path)
    return style.problems(path)


def test_a_clean_notebook_is_clean(tmp_path: Path):
    assert complaints(clean(), tmp_path) == []


def _spoil(**changes):
    def spoil(notebook):
        for at, change in changes.items():
            notebook.cells[int(at[1:])].update(change)

    return spoil


def _shows(*args, **kwargs):
    """The clean notebook's figure replaced by another output."""
    return _spoil(_3={"outputs": [new_output(*args, **kwargs)]})


def _code_after_code(notebook):
    notebook.cells[2] = new_code_cell("rc.other()", execution_count=2)
    notebook.cells[3].execution_count = 3


FLAWS = {
    "no heading": (_spoil(_0={"source": FIRST[2:]}), "must be markdown and begin"),
    "no run time": (_spoil(_0={"source": FIRST.replace("Run time", "Time")}), "must state run time"),
    "no limits": (_spoil(_4={"source": "## The end"}), "must say what was not shown"),
    "a function": (_spoil(_3={"source": "def f():\n    pass"}), "defines a function"),
    "a regular expression": (_spoil(_3={"source": "import re"}), "imports re"),
    "pip": (_spoil(_3={"source": "%pip install x"}), "calls pip"),
    "a long cell": (_spoil(_3={"source": "a = 1\n" * 13}), "13 lines of code"),
    "a long line": (_spoil(_3={"source": f"a = '{'x' * 130}'"}), "a line of 136 characters"),
    "a wall of text": (_spoil(_2={"source": " ".join(["word"] * 201)}), "201 words at one go"),
    "a picture as text": (_spoil(_2={"source": "![x](data:image/png;base64,AA)"}), "holds a picture as text"),
    "TeX": (_spoil(_2={"source": "So $x^2$ it is."}), "holds TeX"),
    "an unlinked term": (_spoil(_2={"source": "Now ptxas comes."}), "where they first appear: ptxas (--fix)"),
    "spaces": (_spoil(_2={"source": "Spaces. \nMore."}), "spaces at the end"),
    "another order": (_spoil(_1={"execution_count": 5}), "are not 1..2"),
    "an error": (_shows("error", ename="E", evalue="", traceback=[]), "shows an error: E"),
    "a path": (_shows("stream", text="in /home/someone/x"), "shows a path of the machine"),
    "stderr": (_shows("stream", name="stderr", text="warned"), "written to stderr: warned"),
    "a long print": (_shows("stream", text="x\n" * 61), "prints 61 lines"),
    "a huge output": (_shows("stream", text="x" * 1_100_000), "an output of 1.1 MB"),
    "a widget view": (
        _shows("display_data", {style.WIDGET_VIEW: {}, "text/html": "<b>x</b>"}),
        "keeps a widget view",
    ),
    "a figure without a source": (_spoil(_3={"outputs": [picture()]}), "1 figures do not say"),
    "no exercise": (_spoil(_1={"source": "rc.say('x')"}), "no exercise (rc.exercise)"),
    "another name": (_spoil(_0={"source": FIRST.replace("### Exercise", "### Your turn")}), "the word Exercise"),
    "its formula in sight": (_spoil(_1={"metadata": {}}), "its code says sentences and is not hidden"),
    "hidden without a reason": (_spoil(_3={"metadata": dict(HIDDEN)}), "metadata of no use: jupyter"),
    "code after code": (
        _code_after_code,
        "the third code cell in a row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_the_one_complaint(flaw: str, tmp_path: Path):
    spoil, said = FLAWS[flaw]
    notebook = clean()
    spoil(notebook)
    found = complaints(notebook, tmp_path)
    assert len(found) == 1 and said in found[0]


def test_prose_as_output_is_prose(tmp_path: Path):
    notebook = clean()
    notebook.cells[2] = new_code_cell("rc.say('so')", execution_count=2, metadata=dict(HIDDEN))
    notebook.cells[2].outputs = [new_output("display_data", {"text/markdown": "so"})]
    notebook.cells[3].execution_count = 3
    assert complaints(notebook, tmp_path) == []


@pytest.mark.parametrize(
    "flaw", ["an unlinked term", "spaces", "a widget view", "its formula in sight", "hidden without a reason"]
)
def test_fix_mends_it_and_a_second_time_changes_nothing(flaw: str, tmp_path: Path):
    notebook = clean()
    FLAWS[flaw][0](notebook)
    mended = style.fixed(notebook, "01_a_question.ipynb")
    assert complaints(mended, tmp_path) == []
    assert style.fixed(copy.deepcopy(mended), "01_a_question.ipynb") == mended


def test_fix_writes_the_glossary_into_its_home(tmp_path: Path):
    notebook = clean()
    notebook.cells[2].source = "## Glossary\n\nof last year"
    assert "the glossary is not that of" in complaints(notebook, tmp_path, style.HOME)[0]
    assert complaints(style.fixed(notebook, style.HOME), tmp_path, style.HOME) == []

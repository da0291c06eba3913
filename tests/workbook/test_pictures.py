"""A kept picture is drawn anew when code behind it changes, and only then."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from helpers.show.plots import plot_registers
from helpers.workbook.explorer import pictures
from helpers.workbook.explorer.pictures import kept_drawing, modules_behind


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch) -> Path:
    """helpers/draw.py -> colours, words (inside a function); `unused` only for type hints, `other` not at all."""
    folder = tmp_path / "helpers"
    folder.mkdir()
    (folder / "draw.py").write_text(
        "import os\nfrom typing import TYPE_CHECKING\nfrom helpers.colours import RED\n"
        "if TYPE_CHECKING:\n    from helpers.unused import Type\n"
        "def draw():\n    from helpers import words\n"
    )
    (folder / "colours.py").write_text("RED = 1\n")
    (folder / "words.py").write_text("import helpers.draw\nimport helpers.deep\n")  # a circle ends
    for name in ("deep", "unused", "other"):
        (folder / f"{name}.py").write_text("")
    monkeypatch.setattr(pictures, "ROOT", tmp_path)
    pictures.code_digest.cache_clear()
    yield folder
    pictures.code_digest.cache_clear()


def digest() -> str:
    pictures.code_digest.cache_clear()
    return pictures.code_digest("helpers.draw")


def test_what_is_imported_counts_however_deep_and_nothing_else(small_project):
    assert modules_behind("helpers.draw") == ("helpers.colours", "helpers.deep", "helpers.draw", "helpers.words")
    before = digest()
    for name in ("unused", "other"):
        (small_project / f"{name}.py").write_text("changed = True\n")
        assert digest() == before
    for name in ("deep", "colours", "draw", "words"):
        file = small_project / f"{name}.py"
        file.write_text(file.read_text() + "# changed\n")
        assert digest() != before
        before = digest()


def test_the_registers_figure_depends_on_its_colours_and_no_compiler_run():
    modules = modules_behind(plot_registers.__module__)
    assert {"helpers.show.style", "helpers.show.verdicts", "helpers.compiler.report"} <= set(modules)
    assert not any(name.startswith(("helpers.workbook", "helpers.compiler.worker")) for name in modules)


def test_a_picture_is_drawn_once_for_the_same_parts(isolated_cache):
    drawn = []

    def draw(title: str):
        import matplotlib.pyplot as plt

        drawn.append(title)
        figure, _ = plt.subplots()
        plt.close(figure)
        return figure

    draw.__module__ = "helpers.show.plots"
    first = kept_drawing(partial(draw, "a"), figure="test", title="a")
    assert first.startswith(b"<svg ") and kept_drawing(partial(draw, "a"), figure="test", title="a") == first
    kept_drawing(partial(draw, "b"), figure="test", title="b")
    assert drawn == ["a", "b"]

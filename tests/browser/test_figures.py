"""Figures are drawings: on exported pages at every width, and in a notebook that JupyterLab does not trust."""

from __future__ import annotations

import shutil
from pathlib import Path

import driving
import pytest

NAMES = sorted(p.stem for p in (driving.ROOT / "notebooks").glob("[0-9]*.ipynb"))
NOTEBOOK = "07_your_own_crash"
MOST_BYTES = 1_100_000

pytestmark = pytest.mark.slow

# Letters as large as they are drawn: a figure that shrinks shrinks them.
_FIGURES = """() => [...document.querySelectorAll('main img.rc-drawing')].filter(i => i.checkVisibility()).map(i => {
    const box = i.closest('.output_subarea'), svg = atob(i.src.split(',')[1]);
    const scale = i.getBoundingClientRect().width / Number(/viewBox="0 0 ([\\d.]+)/.exec(svg)[1]);
    const sizes = [...svg.matchAll(/font-size:([\\d.]+)px/g)].map(m => Number(m[1]) * scale);
    const note = box.previousElementSibling, wide = box.scrollWidth > box.clientWidth + 1;
    return {alt: i.alt, letters: Math.min(...sizes), wide,
            said: !!note?.matches('.scroll-note') && note.checkVisibility(), reached: box.tabIndex === 0};
})"""


@pytest.mark.parametrize("width", [1280, 1000, 420])
def test_every_figure_can_be_read_or_scrolls_in_its_box_and_says_so(width: int, built_pages: Path, browser):
    faults, seen = [], 0
    with driving.opened(browser) as (page, _):
        page.set_viewport_size({"width": width, "height": 900})
        for name in NAMES:
            page.goto((built_pages / f"{name}.html").as_uri())
            for figure in page.evaluate(_FIGURES):
                seen += 1
                if figure["letters"] < 9:
                    faults.append(f"{name}: letters of {figure['letters']:.1f} px: {figure['alt'][:60]}")
                if figure["wide"] != figure["said"] or (figure["wide"] and not figure["reached"]):
                    faults.append(f"{name}: scrolls {figure['wide']}, says so {figure['said']}: {figure['alt'][:60]}")
    assert faults == [] and seen > 20


def test_pages_are_light_and_their_figures_are_drawings(built_pages: Path):
    for name in NAMES:
        text = (built_pages / f"{name}.html").read_text()
        assert "data:image/png" not in text, name
        assert len(text.encode()) < MOST_BYTES, name


def test_a_notebook_that_is_not_trusted_shows_its_figures_and_its_tree_as_words(
    built_pages: Path, lab: driving.Lab, browser, pictures: driving.Pictures
):
    executed = lab.folder / "executed_elsewhere.ipynb"
    shutil.copy(built_pages / f"{NOTEBOOK}.ipynb", executed)
    with driving.opened(browser, own=lab.url) as (page, heard):
        driving.open_notebook(page, lab, executed.name)
        page.set_viewport_size({**driving.VIEWPORT, "height": driving.TALLEST})
        page.locator("img.rc-drawing").first.wait_for(timeout=30_000)
        trusted = "() => [...window.jupyterapp.shell.currentWidget.content.model.cells].some(cell => cell.trusted)"
        drawn = page.locator("img.rc-drawing").evaluate_all(
            "all => all.map(i => [i.alt.length > 20, i.complete && i.naturalWidth > 300, i.checkVisibility()])"
        )
        tree = page.locator(".rc-tree").first
        tree.wait_for(timeout=30_000)
        said = tree.inner_text()
        pictures.take(page, "not_trusted.png", full_page=False)
        assert not page.evaluate(trusted)
        assert heard.problems() == []
    assert drawn and all(all(facts) for facts in drawn)
    assert "Run the cell to see the tree as a drawing" in said and "The same tree as text" in said
    assert "Does it trap at once?" not in said, "words of the drawing without the drawing"

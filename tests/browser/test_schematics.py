"""The schematics in a browser: words inside, apart from each other and large enough, on a telephone and on a desk."""

from __future__ import annotations

from pathlib import Path

import driving
import nbformat
import pytest
from nbformat import v4

from tests.workbook.schematic_examples import EXAMPLES

PAGES_CSS = driving.ROOT / "helpers" / "workbook" / "pages.css"
_FAULTS = """() => {
    const found = [];
    for (const svg of document.querySelectorAll('.rc-schematic svg')) {
        const box = svg.getBoundingClientRect(), name = svg.querySelector('title').textContent;
        if (!box.width) continue;
        const scale = box.width / svg.viewBox.baseVal.width;
        const words = [...svg.querySelectorAll('text')].map(t => ({
            at: t.getBoundingClientRect(), said: t.textContent,
            size: parseFloat(getComputedStyle(t).fontSize) * scale}));
        for (const {at, said, size} of words) {
            if (at.left < box.left - 1 || at.right > box.right + 1 || at.bottom > box.bottom + 1)
                found.push(`${name}: ${said} leaves the drawing`);
            if (size < 11) found.push(`${name}: ${said} is ${size} px high`);
        }
        words.forEach((one, i) => words.slice(i + 1).forEach(other => {
            const a = one.at, b = other.at;
            if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
                found.push(`${name}: ${one.said} lies on ${other.said}`);
        }));
    }
    return found;
}"""


@pytest.fixture(scope="module")
def page_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page with every example, in the style of the pages."""
    path = tmp_path_factory.mktemp("schematics") / "all.html"
    body = "".join(f"<h2>{name}</h2>{make()._repr_html_()}" for name, make in EXAMPLES.items())
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>schematics</title><style>{PAGES_CSS.read_text()}</style><main><h1>All</h1>{body}</main></html>"
    )
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "layout"), [(1280, "wide"), (420, "narrow")])
def test_every_schematic_can_be_read(
    width: int, layout: str, scheme: str, page_of_all: Path, browser, pictures: driving.Pictures
):
    with driving.opened(browser, color_scheme=scheme) as (page, heard):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(page_of_all.as_uri())
        pictures.take(page, f"schematics_{width}_{scheme}.png")
        shown = page.evaluate(
            "() => [...document.querySelectorAll('.rc-schematic svg')].filter(s => s.getBoundingClientRect().width)"
            ".map(s => s.parentElement.className)"
        )
        faults = page.evaluate(_FAULTS)
        aside = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert heard.problems() == []
    assert shown == [layout] * len(EXAMPLES)
    assert faults == [] and aside <= 0


def test_axe_finds_no_fault(page_of_all: Path, browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    with driving.opened(browser) as (page, _):
        page.goto(page_of_all.as_uri())
        found = axe.Axe().run(page).response["violations"]
    assert [f"{fault['id']}: {node['html'][:150]}" for fault in found for node in fault["nodes"]] == []


_SHOWN = """() => [...document.querySelectorAll('.rc-schematic svg, .rc-schematic .words')]
    .map(e => [e.closest('.narrow, .wide, .words').className, Math.round(e.getBoundingClientRect().width)])
    .filter(found => found[1])"""


@pytest.mark.slow
def test_jupyterlab_shows_words_at_first_and_then_the_layout_that_fits(lab, browser, pictures: driving.Pictures):
    """A notebook from elsewhere is not trusted: its drawings are dropped until their cells are run."""
    with driving.opened(browser, own=lab.url) as (page, heard):
        name = lab.add_notebook("schematic.ipynb", ["import helpers as rc\nrc.register_file_picture()"])
        path = lab.folder / name
        written = nbformat.read(path, 4)
        html = EXAMPLES["register file"]()._repr_html_()
        data = {"text/html": html, "text/plain": "words"}
        written.cells[0].outputs = [v4.new_output("execute_result", data, execution_count=1)]
        nbformat.write(written, path)
        driving.open_notebook(page, lab, name)
        page.locator(".rc-schematic").first.wait_for(state="attached", timeout=30_000)
        assert [kind for kind, _ in page.evaluate(_SHOWN)] == ["words"]
        said = page.locator(".rc-schematic").first.inner_text()
        assert "(Run the cell to see the drawing.)" in said and "512 x 128" not in said
        driving.run_all_cells(page)
        page.locator(".rc-schematic svg:visible").first.wait_for(timeout=30_000)
        for width, layout in ((1280, "wide"), (850, "narrow")):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(500)
            (shown,) = page.evaluate(_SHOWN)
            assert shown[0] == layout and shown[1] >= 330
            pictures.take(page, f"schematic_in_jupyterlab_{width}.png", full_page=False)
        assert heard.problems() == []

"""The exported pages in a browser, opened from disk: nothing fetched, light and dark, every figure says its source."""

from __future__ import annotations

import json
from pathlib import Path

import driving
import pytest

from helpers.workbook.exercise import Asked
from helpers.workbook.glossary import TERMS

NAMES = [*sorted(p.stem for p in (driving.ROOT / "notebooks").glob("[0-9]*.ipynb")), "index"]

IN_DARK = ("00", "02", "06", "10", "in")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(built_pages) -> Path:
    """The folder that `make workbook` leaves; whether each notebook ran, tests/notebooks/test_notebooks.py says."""
    return built_pages


def _luminance(colour: str) -> float:
    red, green, blue = (int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    """WCAG's contrast of two `rgb(…)` colours, 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


_SEEN = """() => {
    const style = getComputedStyle(document.body);
    const pictures = [...document.querySelectorAll('main img')];
    return {
        ink: style.color, ground: style.backgroundColor,
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        undrawn: pictures.filter(i => !i.complete || !i.naturalWidth).length,
        silent: pictures.filter(i => !i.alt || i.alt.startsWith('No description')).length,
        sourceless: pictures.filter(i => {
            let next = i.closest('.output_area, div.output_png, .picture')?.parentElement;
            return !next?.querySelector('.evidence') && !next?.nextElementSibling?.querySelector?.('.evidence');
        }).length,
        evidence: [...document.querySelectorAll('.evidence')].map(e => e.innerText),
        card: pictures.length ? getComputedStyle(pictures[0]).backgroundColor : null,
    };
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_stands_alone(name: str, scheme: str, pages: Path, browser, pictures):
    with driving.opened(browser, color_scheme=scheme) as (page, heard):
        page.goto((pages / f"{name}.html").as_uri())
        pictures.take(page, f"page_{name}_{scheme}.png")
        asked = [url for url in heard.requested if not url.startswith(("data:", "blob:"))]
        assert asked == [(pages / f"{name}.html").as_uri()]
        assert heard.problems() == []
        seen = page.evaluate(_SEEN)
    assert _contrast(seen["ink"], seen["ground"]) >= 7
    assert (_luminance(seen["ground"]) < 0.1) == (scheme == "dark")
    assert seen["undrawn"] == 0
    assert seen["wide"] <= 0, "the page scrolls sideways"
    # A figure is drawn in dark ink on white: on a dark page it brings its own ground.
    assert seen["card"] in (None, "rgb(255, 255, 255)")
    assert seen["silent"] == 0, "a figure without words for those who cannot see it"
    assert seen["sourceless"] == 0 and not [said for said in seen["evidence"] if "not stated" in said]


# Every page in its light colours; those with the most kinds of figures and tables in dark ones too (ten seconds each).
@pytest.mark.parametrize(
    ("name", "scheme"),
    [*((name, "light") for name in NAMES), *((name, "dark") for name in NAMES if name[:2] in IN_DARK)],
)
def test_axe_finds_no_serious_fault(name: str, scheme: str, pages: Path, browser):
    with driving.opened(browser, color_scheme=scheme) as (page, _):
        page.goto((pages / f"{name}.html").as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert driving.serious_faults(page) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_its_window_and_keeps_its_contents_in_view(name: str, pages: Path, browser, pictures):
    with driving.opened(browser) as (page, _):
        for width in (1280, 1000, 420):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto((pages / f"{name}.html").as_uri())
            pictures.take(page, f"page_{name}_{width}.png")
            seen = page.evaluate(
                """() => {
                const root = document.documentElement, list = document.querySelector('nav.contents');
                window.scrollTo(0, root.scrollHeight / 2);
                const box = list?.getBoundingClientRect();
                return {wide: root.scrollWidth - root.clientWidth, listed: !!list, open: list?.firstChild.open,
                        inView: box && box.top >= 0 && box.top < innerHeight};
            }"""
            )
            assert seen["wide"] <= 0, f"at {width} the page scrolls sideways"
            if name != "index":
                assert seen["listed"] and seen["open"] == (width >= 1152) == seen["inView"], width


def test_no_page_shows_a_sentence_and_its_formula_both(pages: Path, browser):
    with driving.opened(browser) as (page, _):
        for name in NAMES:
            page.goto((pages / f"{name}.html").as_uri())
            shown = page.locator(".input_area").evaluate_all("all => all.filter(e => e.checkVisibility()).length")
            assert shown == 0, name
        toggle = page.get_by_role("button", name="Show all code")
        assert toggle.count() == 0  # the index has no code
        page.goto((pages / f"{NAMES[0]}.html").as_uri())
        toggle.click()
        assert page.locator(".input_area").first.is_visible()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "index"])
def test_an_exercise_hides_its_answer_takes_a_guess_and_compares_it(name: str, pages: Path, browser):
    with driving.opened(browser) as (page, heard):
        page.goto((pages / f"{name}.html").as_uri())
        boxes = page.locator("[data-exercise]")
        assert boxes.count() >= 1
        for at in range(boxes.count()):
            box = boxes.nth(at)
            facts = json.loads(box.get_attribute("data-exercise") or "")
            asked = Asked("", facts["answer"], "", facts["unit"], tuple(facts["choices"]))
            assert "The answer is" not in box.inner_text() and not box.locator(".rc-said").inner_text()
            if asked.choices:
                box.get_by_role("button", name="Compare").click()
                assert "Choose one" in box.locator(".rc-said").inner_text()
            guesses = asked.choices or (asked.answer, float(asked.answer) / 3 - 1, float(asked.answer) * 3 + 1)
            for guess in guesses:
                if asked.choices:
                    box.get_by_label(str(guess), exact=True).check()
                else:
                    box.get_by_label("Your guess").fill(f"{guess:g}")
                    guess = float(f"{guess:g}")
                box.get_by_role("button", name="Compare").click()
                assert box.locator(".rc-said").inner_text() == asked.compared(guess)
            assert f"The answer is: {asked.said}" in box.inner_text()
        assert heard.problems() == []


def test_a_term_is_explained_at_the_pointer_and_at_the_focus(pages: Path, browser):
    with driving.opened(browser) as (page, _):
        page.goto((pages / "01_reproduce_the_crash.html").as_uri())
        term, tip = page.locator('a.term[href$="#ptxas"]').first, page.get_by_role("tooltip")
        means = next(t.plain for t in TERMS if t.name == "ptxas")
        assert not tip.is_visible() and term.get_attribute("title") is None
        term.hover()
        assert tip.inner_text() == means
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        page.mouse.move(0, 0)
        term.focus()
        assert tip.inner_text() == means and term.get_attribute("aria-describedby") == tip.get_attribute("id")
        inside = tip.bounding_box()
        assert inside and inside["x"] >= 0 and inside["x"] + inside["width"] <= driving.VIEWPORT["width"]


def test_a_page_leads_back_to_its_top_and_on_by_title(pages: Path, browser):
    with driving.opened(browser) as (page, _):
        page.goto((pages / "00_start_here.html").as_uri())
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        page.get_by_role("link", name="Back to the top").click()
        page.wait_for_function("window.scrollY === 0")
        page.get_by_role("link", name="01 Reproduce the crash →").first.click()
        assert page.url.endswith("01_reproduce_the_crash.html")


def test_the_index_leads_to_every_page_and_holds_the_verdict(pages: Path, browser):
    with driving.opened(browser) as (page, heard):
        page.goto((pages / "index.html").as_uri())
        assert "C7600" in page.locator("main").inner_text()
        assert page.locator("main table").first.locator("tbody tr").count() >= 8
        links = page.locator('main a[href$=".html"]').evaluate_all("all => all.map(a => a.getAttribute('href'))")
        assert links == [f"{name}.html" for name in NAMES if name != "index"]
        for link in links:
            page.goto((pages / link).as_uri())
            page.get_by_role("link", name="Register Cliff").first.click()
            assert page.url.endswith("index.html")
        assert heard.problems() == []


def test_no_link_inside_the_pages_leads_nowhere(pages: Path, browser):
    with driving.opened(browser) as (page, _):
        targets, ids = {}, {}
        for name in NAMES:
            page.goto((pages / f"{name}.html").as_uri())
            targets[name] = page.locator("a[href]").evaluate_all("all => all.map(a => a.getAttribute('href'))")
            ids[f"{name}.html"] = set(page.locator("[id]").evaluate_all("all => all.map(e => e.id)"))
    dead = []
    for name, links in targets.items():
        for link in links:
            file, _, anchor = link.partition("#")
            file = file or f"{name}.html"
            if "://" in link or not file.endswith(".html"):
                continue
            if file not in ids or (anchor and anchor not in ids[file]):
                dead.append(f"{name}: {link}")
    assert dead == []

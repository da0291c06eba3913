"""Explorers on exported pages, from disk, without a kernel or network: every control, by mouse and keyboard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import driving
import nbformat
import pytest

import helpers as rc
from helpers.workbook.explorer.frame import MAKING_PAGES
from helpers.workbook.pages import PageEntry, network_loads, notebook_page

pytestmark = pytest.mark.slow


def page_of(widget, folder: Path, name: str) -> Path:
    """An exported page with this one explorer on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MAKING_PAGES, "1")
        data, metadata = widget._repr_mimebundle_()
    return written(folder, name, data, metadata)


def written(folder: Path, name: str, data: dict, metadata: dict) -> Path:
    """An exported page with one output on it."""
    output = nbformat.v4.new_output("execute_result", data, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorer", outputs=[output], execution_count=1)
    heading = nbformat.v4.new_markdown_cell("# A page\n\n## A part")
    text = notebook_page(nbformat.v4.new_notebook(cells=[heading, cell]), entry=PageEntry(name, name, 1.0))
    assert network_loads(text) == []
    path = folder / f"{name}.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def cliff(tmp_path_factory: pytest.TempPathFactory, toolchain_351) -> Path:
    return page_of(rc.cliff_map(), tmp_path_factory.mktemp("cliff"), "cliff")


def verdict(live) -> str:
    return live.locator(".rc-verdict").inner_text()


def facts(live) -> str:
    return live.locator(".rc-facts").inner_text()


def test_the_cliff_map_takes_every_knob_from_disk_without_network(cliff: Path, browser, pictures):
    with driving.opened(browser) as (page, heard):
        page.goto(cliff.as_uri())
        live = page.locator(".rc-live")
        assert "dies (C7600)" in verdict(live) and not page.locator(".rc-still").is_visible()
        assert live.locator(".rc-verdict").get_attribute("aria-live") == "polite"
        cells = live.locator(".rc-cell")
        first = cells.all_inner_texts()
        assert len(first) == 21 and sum("C7600" in words for words in first) == 3
        seen = {tuple(first)}
        for control, option in (("KV dtype", "bf16"), ("head dim", "512"), ("window", "none")):
            live.get_by_label(control, exact=True).select_option(label=_label(live, control, option))
            seen.add(tuple(cells.all_inner_texts()))
        assert len(seen) >= 3 and "head dim 512, bf16 cache" in verdict(live)
        live.get_by_label("warps", exact=True).select_option(label="16 warps")
        assert "16 warps" in verdict(live)
        pictures.take(page, "page_cliff_map.png")
        assert heard.problems() == [] and [u for u in heard.requested if not u.startswith("data:")] == [cliff.as_uri()]


def _label(live, control: str, option: str) -> str:
    """The label of the control's option of this name, recorded or not."""
    found = live.get_by_label(control, exact=True).locator("option").all_inner_texts()
    return next(label for label in found if label.split(" (")[0] == option)


def test_a_cell_of_the_map_opens_by_mouse_and_by_key_with_report_and_profile(cliff: Path, browser):
    with driving.opened(browser) as (page, heard):
        page.goto(cliff.as_uri())
        live = page.locator(".rc-live")
        before = verdict(live), facts(live), live.locator(".rc-figure svg").get_attribute("aria-label")
        live.get_by_role("button", name="64x64, 8 warps").click()
        after = verdict(live), facts(live), live.locator(".rc-figure svg").get_attribute("aria-label")
        assert all(new != old for new, old in zip(after, before, strict=True))
        assert "582 at the highest, the cap is 255" in before[2] and "registers at the worst point" in after[1]
        assert live.get_by_label("tile", exact=True).input_value() == "2"
        page.keyboard.press("ArrowDown")
        assert "tile 64x128, 8 warps" in verdict(live)
        page.keyboard.press("ArrowRight")
        assert "tile 64x128, 16 warps" in verdict(live)
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        command = live.get_by_label("the command that compiles this").input_value()
        assert command.startswith("register-cliff compile") and "--tile 64x128 --num-warps 16" in command
        live.get_by_role("button", name="128x64, 8 warps").focus()
        page.keyboard.press("Enter")
        assert verdict(live) == before[0]
        assert heard.problems() == []


def test_what_was_not_recorded_is_grey_and_shows_its_command(cliff: Path, browser):
    with driving.opened(browser) as (page, heard):
        page.goto(cliff.as_uri())
        live = page.locator(".rc-live")
        live.get_by_label("head dim", exact=True).select_option(label="64 (not recorded)")
        assert verdict(live).startswith("This was not recorded.")
        assert set(live.locator(".rc-cell").all_inner_texts()) == {"not recorded"}
        command = live.get_by_label("the command that compiles this").input_value()
        assert "--head-dim 64" in command and not facts(live).strip() and live.locator("svg").count() == 0
        live.get_by_label("head dim", exact=True).select_option(label="256")
        assert "dies (C7600)" in verdict(live)
        assert heard.problems() == []


def test_without_javascript_the_picture_of_the_first_view_stays(cliff: Path, browser):
    with driving.opened(browser, java_script_enabled=False) as (page, _):
        page.goto(cliff.as_uri())
        assert page.locator(".rc-still img").is_visible() and page.locator(".rc-still .evidence").is_visible()
        assert page.locator(".rc-live").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_cut_without_a_sign(cliff: Path, scheme: str, browser, pictures):
    with driving.opened(browser, color_scheme=scheme) as (page, _):
        page.set_viewport_size({"width": 420, "height": 900})
        page.goto(cliff.as_uri())
        pictures.take(page, f"page_cliff_map_420_{scheme}.png")
        assert _faults(page) == []


@dataclass(frozen=True)
class Case:
    """An explorer, what its page says at first, and controls with options to choose, each of which changes the page."""

    make: str
    first: str
    choose: tuple[tuple[str, str], ...]
    unrecorded: tuple[str, str] | None = None


CASES = (
    Case("explorer", "register_exhausted",
         (("tile", "64x64"), ("KV dtype", "bf16"), ("num_warps", "4"), ("arch", "sm_90a")), ("head dim", "80")),
    Case("landscape_explorer", "582 registers needed at once",
         (("tile", "64x64"), ("num_warps", "16"), ("KV dtype", "bf16")), ("figure", "wide operands")),
    Case("tile_explorer", "128x64 becomes 64x64",
         (("KV dtype", "bf16"), ("head dim", "512"), ("arch", "sm_90a")), ("head dim", "16")),
    Case("root_cause_explorer", "dies (C7600)",
         (("Triton", "3.8.0"), ("ptxas", "13.0.88"), ("tile skip", "bounds")), ("q cast", "hoisted")),
    Case("throughput_explorer", "is highest", (("metric", "time"), ("case", "global"), ("variants", "lean"))),
)  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.make)
def case_page(request, tmp_path_factory: pytest.TempPathFactory, toolchain_351):
    """(the case, its page)"""
    case = request.param
    return case, page_of(getattr(rc, case.make)(), tmp_path_factory.mktemp("page"), case.make)


def _read(live) -> str:
    return "\n".join([verdict(live), facts(live), driving.shown_text(live.locator(".rc-figure"))])


def test_every_explorer_answers_from_the_recorded_rows_by_keyboard(case_page, browser, pictures):
    case, path = case_page
    with driving.opened(browser) as (page, heard):
        page.goto(path.as_uri())
        live = page.locator(".rc-live")
        assert case.first in verdict(live) and not page.locator(".rc-still").is_visible()
        assert "recorded" in facts(live) or "counted" in facts(live)
        for control, option in case.choose:
            box = live.get_by_label(control, exact=True)
            start, before = box.input_value(), _read(live)
            box.select_option(label=_label(live, control, option))
            assert _read(live) != before and "not recorded" not in verdict(live), f"{control} {option}"
            box.select_option(value=start)
            assert _read(live) == before, f"back from {control} {option}"
        if case.unrecorded:
            control, option = case.unrecorded
            live.get_by_label(control, exact=True).select_option(label=f"{option} (not recorded)")
            assert "was not recorded" in verdict(live)
            assert live.get_by_label("the command that compiles this").input_value().startswith("register-cliff ")
        pictures.take(page, f"page_knobs_{case.make}.png")
        box = live.locator("select").first
        box.focus()
        assert live.locator(".rc-means").inner_text() and box.get_attribute("aria-describedby")
        assert heard.problems() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_explorer_fits_a_telephone_and_axe_finds_nothing_serious(case_page, scheme: str, browser, pictures):
    case, path = case_page
    with driving.opened(browser, color_scheme=scheme) as (page, _):
        page.set_viewport_size({"width": 420, "height": 900})
        page.goto(path.as_uri())
        pictures.take(page, f"page_knobs_{case.make}_420_{scheme}.png")
        assert _faults(page) == []


def _faults(page) -> list[str]:
    """What is cut without a sign, what makes the page scroll sideways, and what axe finds serious."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    cut = page.evaluate(_CUT)
    return [
        *(["scrolls sideways"] if wide > 0 else []),
        *(f"cut: {name}" for name in cut),
        *driving.serious_faults(page),
    ]


_CUT = """() => [...document.querySelectorAll('.rc-live *')].filter(e => {
    const style = getComputedStyle(e);
    if (e.tagName === 'INPUT' || e.tagName === 'SELECT' || e.closest('svg')) { return false; }
    if (e.scrollWidth <= e.clientWidth + 1 || style.overflowX === 'visible') { return false; }
    const note = e.nextElementSibling;
    return !(note && note.matches('.scroll-note') && !note.hidden);
}).map(e => e.className)"""


def test_side_by_side_one_pane_at_a_time_where_there_is_no_room(tmp_path: Path, browser, pictures, toolchain_351):
    sides = rc.side_by_side(rc.INCIDENT_CHOICE, replace(rc.INCIDENT_CHOICE, tile="64x64"))
    path = written(tmp_path, "sides", {"text/html": sides._repr_html_()}, {})
    with driving.opened(browser) as (page, heard):
        page.goto(path.as_uri())
        panes, which = page.locator(".rc-sbs-pane:visible"), page.get_by_label("pane to show")
        assert panes.count() == 3 and not which.is_visible()
        page.set_viewport_size({"width": 420, "height": 900})
        assert panes.count() == 1 and which.is_visible()
        seen = []
        for label in which.locator("option").all_inner_texts():
            which.select_option(label=label)
            assert panes.count() == 1
            seen.append(panes.first.get_attribute("aria-label"))
            assert panes.first.bounding_box()["width"] > 300
        assert seen == ["source", "TTGIR A", "PTX A", "SASS A", "TTGIR B", "PTX B", "SASS B"]
        pictures.take(page, "page_side_by_side_420.png", full_page=False)
        page.set_viewport_size({"width": 1280, "height": 900})
        assert panes.count() == 3
        assert heard.problems() == []


def test_a_figure_is_fine_on_every_screen_and_dark_on_a_dark_page(tmp_path: Path, browser, cliff: Path):
    with driving.opened(browser, color_scheme="dark", java_script_enabled=False) as (page, _):
        page.goto(cliff.as_uri())
        told = page.locator(".rc-still img")
        shown = told.evaluate("i => [i.naturalWidth, i.width - 13, getComputedStyle(i).filter]")
    assert shown[0] >= 1.4 * shown[1] and shown[2].startswith("invert(0.92)")

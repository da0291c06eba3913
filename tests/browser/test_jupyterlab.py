"""Every notebook in a real JupyterLab in a real browser: runs to its end, shows no error, leaves a clean console."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import driving
import pytest

NOTEBOOKS = sorted(p for p in (driving.ROOT / "notebooks").glob("*.ipynb") if not p.name.startswith("."))

DESK = "desk.ipynb"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def desk(lab, browser):
    """(page, heard) of a JupyterLab at a notebook of one cell, where one test after another shows something."""
    with driving.opened(browser, own=lab.url) as (page, heard):
        driving.open_notebook(page, lab, lab.add_notebook(DESK, ["import helpers as rc"]))
        yield page, heard
        driving.show_notebook(page, DESK)
        driving.put_away(page)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_in_the_browser(path: Path, desk, pictures, toolchain_351):
    page, heard = desk
    heard.forget()
    driving.show_notebook(page, path.name)
    driving.clear_outputs(page)
    driving.run_all_cells(page)
    driving.all_in_sight(page)
    pictures.take_notebook(page, f"notebook_{path.stem}.png")
    assert driving.errors_shown(page) == []
    assert heard.problems() == []
    driving.put_away(page)


@dataclass(frozen=True)
class Case:
    """One explorer: the call that shows it, its class, and a control to change by keyboard with the key to press."""

    call: str
    css: str
    control: str
    key: str = "ArrowDown"


EXPLORERS = {
    "compile": Case("explorer()", "rc-compile", "window", "ArrowUp"),
    "landscape": Case("landscape_explorer()", "rc-landscape", "figure"),
    "tile": Case("tile_explorer()", "rc-tile", "KV dtype", "ArrowUp"),
    "numerics": Case("numerics_explorer()", "rc-numerics", "KV dtype"),
    "throughput": Case("throughput_explorer()", "rc-throughput", "case"),
    "root_cause": Case("root_cause_explorer()", "rc-root-cause", "window", "ArrowUp"),
}


def reading(explorer) -> str:
    """What an explorer says and draws now."""
    return "\n".join(driving.shown_text(explorer.locator(part)) for part in (".rc-verdict", ".rc-figure"))


def wait_for_change(explorer, before: str, *, timeout_s: float = 60) -> str:
    """What it reads once that is an answer and no longer `before`."""
    deadline = time.monotonic() + timeout_s
    while (now := reading(explorer)) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert now != before, "operated, and it reads as before"
    wait_for_answer(explorer)
    return reading(explorer)


def wait_for_answer(explorer) -> None:
    """Until nothing is under way: neither a progress bar nor the button that cancels is in sight."""
    explorer.locator(".rc-cancel").wait_for(state="hidden", timeout=120_000)


EMPTY_BASKET = "from helpers.workbook.explorer import basket\nbasket.basket.clear()"


def on_the_desk(desk, source: str):
    """(page, heard) of the desk once its cell has run this source without an error."""
    page, heard = desk
    heard.forget()
    driving.show_notebook(page, DESK)
    driving.write_cell(page, source)
    driving.run_all_cells(page)
    assert driving.errors_shown(page) == []
    return page, heard


def shown(desk, call: str, css: str):
    """(page, explorer, heard) of this one explorer on the desk, run and answered, with an empty basket."""
    page, heard = on_the_desk(desk, f"{EMPTY_BASKET}\nimport helpers as rc\nrc.{call}")
    explorer = page.locator(f".{css}")
    explorer.wait_for(timeout=30_000)
    wait_for_answer(explorer)
    return page, explorer, heard


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_answers_the_keyboard(name: str, desk, pictures, toolchain_351):
    case = EXPLORERS[name]
    page, explorer, heard = shown(desk, case.call, case.css)
    pictures.take_notebook(page, f"explorer_{name}_1.png")
    before = reading(explorer)
    assert explorer.locator(".rc-verdict").inner_text().strip() and explorer.locator(".rc-figure").is_visible()
    assert explorer.locator(".rc-verdict").get_attribute("aria-live") == "polite"
    command = explorer.locator(".rc-command input").input_value()
    control = explorer.locator(f'.widget-dropdown:has(label:text-is("{case.control}")) select')
    control.focus()
    page.keyboard.press(case.key)
    assert wait_for_change(explorer, before).strip() != before
    if case.control == "window":  # one key further stands "none", whose value is None
        between = reading(explorer)
        page.keyboard.press(case.key)
        wait_for_change(explorer, between)
    assert control.evaluate("box => box.selectedOptions[0]?.text"), "the box is empty"
    assert "Traceback" not in explorer.inner_text()
    assert command.startswith(("register-cliff ", "python benchmarks/"))
    page.keyboard.press("Tab")
    assert page.evaluate("css => !!document.activeElement.closest(`.${css}`)", case.css), "Tab left the explorer"
    explorer.locator(".rc-add-to-report").click()
    page.wait_for_function("css => document.querySelector(`.${css} .rc-noted`).innerText.trim()", arg=case.css)
    pictures.take_notebook(page, f"explorer_{name}_2.png")
    assert heard.problems() == []


def test_a_cell_of_the_cliff_map_opens_by_mouse_and_by_key(desk, pictures, toolchain_351):
    page, explorer, heard = shown(desk, "cliff_map()", "rc-cliff-map")
    pictures.take_notebook(page, "explorer_cliff_map_1.png")
    cells = explorer.locator(".rc-cell")
    words = cells.all_inner_texts()
    assert len(words) >= 12 and len({word for word in words if word != "…"}) >= 3
    before = reading(explorer)
    crashed = next(i for i, word in enumerate(words) if "C7600" in word)
    passing = next(i for i, word in enumerate(words) if i != crashed and "C7600" not in word and word != "…")
    cells.nth(passing).click()
    opened = wait_for_change(explorer, before)
    cells.nth(crashed).focus()
    page.keyboard.press("Enter")
    wait_for_change(explorer, opened)
    assert "C7600" in explorer.locator(".rc-below").inner_text()
    assert "entry" in (explorer.locator(".rc-below details pre").first.text_content() or "")
    pictures.take_notebook(page, "explorer_cliff_map_2.png")
    assert heard.problems() == []


def test_a_cell_of_the_version_matrix_sets_both_lists(desk, toolchain_351):
    page, explorer, heard = shown(desk, "root_cause_explorer()", "rc-root-cause")
    before = reading(explorer)
    explorer.get_by_role("button", name=re.compile("^3.8.0, 12.9.86:")).click()
    wait_for_change(explorer, before)
    explorer.locator(".rc-verdict", has_text="Triton 3.8.0, ptxas 12.9.86").wait_for(timeout=15_000)
    lists = explorer.locator(".widget-dropdown select").evaluate_all("all => all.map(s => s.value)")
    assert lists[:2] == ["3.8.0", "12.9.86"]
    explorer.get_by_role("button", name=re.compile("^3.5.1, bundled:")).focus()
    page.keyboard.press("Enter")
    explorer.locator(".rc-verdict", has_text="Triton 3.5.1, ptxas bundled").wait_for(timeout=15_000)
    assert heard.problems() == []


def test_after_a_restart_an_explorer_says_by_itself_to_run_the_cell_again(desk, pictures):
    page, explorer, _ = shown(desk, "throughput_explorer()", "rc-throughput")
    notice = explorer.locator(".rc-gone")
    assert not notice.is_visible() and explorer.locator(".rc-verdict").is_visible()
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Restart Kernel…")).click()
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    notice.wait_for(timeout=30_000)
    assert "run this cell again" in notice.inner_text()
    above = notice.bounding_box()["y"] <= explorer.locator(".rc-verdict").bounding_box()["y"]
    assert above, "the sentence stands above what it is about"
    pictures.take_notebook(page, "explorer_after_a_restart.png")


def test_the_basket_is_shown_and_a_state_is_taken_out_again(desk, pictures):
    page, explorer, heard = shown(desk, "throughput_explorer()", "rc-throughput")
    basket = explorer.locator(".rc-basket")
    assert not basket.is_visible()
    explorer.locator(".rc-show-basket").click()
    basket.get_by_text("The basket is empty.").wait_for(timeout=15_000)
    explorer.locator(".rc-add-to-report").click()
    basket.get_by_text("In the basket: 1.").wait_for(timeout=15_000)
    assert "register-cliff bench" in basket.inner_text()
    pictures.take_notebook(page, "explorer_basket.png")
    basket.get_by_role("button", name="Remove").click()
    basket.get_by_text("The basket is empty.").wait_for(timeout=15_000)
    explorer.locator(".rc-show-basket").click()
    basket.wait_for(state="hidden", timeout=15_000)
    assert heard.problems() == []


SIDES = """from dataclasses import replace
import helpers as rc
rc.side_by_side(rc.INCIDENT_CHOICE, replace(rc.INCIDENT_CHOICE, tile="64x64"))"""


def test_the_stages_side_by_side_follow_a_line_and_a_list(desk, pictures, toolchain_351):
    page, heard = on_the_desk(desk, SIDES)
    sides = page.locator(".rc-side-by-side")
    said = sides.locator(".rc-sbs-said")
    said.wait_for(timeout=30_000)
    first = said.inner_text()
    lines = sides.locator('.rc-sbs-pane [role="button"]')
    lines.first.focus()
    page.keyboard.press("Enter")
    by_key = said.inner_text()
    lines.nth(3).click()
    assert len({first, by_key, said.inner_text()}) == 3
    assert sides.locator(".rc-sbs-run.on").count() >= 2, "a line of the source and what became of it"
    before = sides.locator(".rc-sbs-pane:visible").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    sides.get_by_label("stage to compare").focus()
    page.keyboard.press("ArrowDown")
    after = sides.locator(".rc-sbs-pane:visible").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert before != after and any("SASS" in label for label in after)
    pictures.take_notebook(page, "explorer_side_by_side.png")
    assert heard.problems() == []


def test_a_word_leads_to_its_entry_in_the_glossary(lab, browser):
    front = ".jp-NotebookPanel:not(.lm-mod-hidden)"
    with driving.opened(browser, own=lab.url) as (page, heard):
        driving.open_notebook(page, lab, "01_reproduce_the_crash.ipynb")
        word = page.locator(f'{front} .jp-Notebook a[href*="00_start_here.ipynb"][href$="#ptxas"]').first
        heading = page.locator(f"{front} h4", has_text=re.compile("^ptxas"))
        word.click()
        heading.wait_for(state="attached", timeout=30_000)
        # A notebook that was closed opens at its top in this JupyterLab; from then on a link leads to the entry.
        page.locator(".lm-TabBar-tab", has_text="01_reproduce").click()
        word.click()
        page.wait_for_function(
            "e => { const y = e.getBoundingClientRect().y; return y > 0 && y < innerHeight; }",
            arg=heading.element_handle(),
            timeout=15_000,
        )
        assert heard.problems() == []


def test_a_pasted_log_is_answered(desk, pictures):
    own = "import helpers.workbook.your_own_crash.paste_box as box"
    page, heard = on_the_desk(desk, f"{own}\nbox.paste_box(box.example_log())")
    answer = page.locator(".register-cliff-answer")
    answer.wait_for(timeout=30_000)
    assert "register exhaustion" in answer.inner_text()
    for log, told in {
        "out of resource: shared memory, Required: 106496, Hardware limit: 101376.": "not of registers",
        "<img src=x onerror=alert(1)> Tuesday": "unknown",
    }.items():
        page.locator("textarea").first.fill(log)
        page.get_by_role("button", name="Diagnose").press("Enter")
        answer.filter(has_text=told).wait_for(timeout=30_000)
    assert answer.locator("img").count() == 0
    pictures.take_notebook(page, "explorer_paste.png")
    assert heard.problems() == []

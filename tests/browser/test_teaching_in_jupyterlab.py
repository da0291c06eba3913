"""In JupyterLab: an exercise takes a guess by keyboard, and the code of sentences is folded away."""

from __future__ import annotations

import driving
import pytest

from helpers.workbook.exercise import Asked

NOTEBOOK = driving.ROOT / "notebooks" / "00_start_here.ipynb"
ASKED = Asked("How many?", 228, "So.", unit="registers")
CHOSEN = Asked("What then?", "it spills", "So.", choices=("it dies", "it spills"))
CELLS = [
    "import helpers as rc\nrc.exercise('How many?', answer=228, because='So.', unit='registers')",
    "rc.exercise('What then?', answer='it spills', because='So.', choices=('it dies', 'it spills'))",
]

pytestmark = pytest.mark.slow


def test_an_exercise_takes_a_guess_by_keyboard(lab, browser, pictures):
    notebook = lab.add_notebook("exercise.ipynb", CELLS)
    with driving.opened(browser, own=lab.url) as (page, heard):
        driving.open_notebook(page, lab, notebook)
        driving.run_all_cells(page)
        assert driving.errors_shown(page) == []
        number, choice = page.locator(".rc-exercise").nth(0), page.locator(".rc-exercise").nth(1)
        choice.wait_for(timeout=30_000)
        assert "The answer is" not in number.inner_text()
        number.locator("input").fill("")
        number.locator("input").press_sequentially("100")
        page.keyboard.press("Tab")
        number.get_by_role("button", name="Compare").press("Enter")
        # The click may overtake the guess on its way to the kernel; the reply is the guess's in the end.
        number.get_by_role("status").filter(has_text=ASKED.compared(100)).wait_for(timeout=15_000)
        assert "The answer is: 228 registers." in number.inner_text()
        choice.locator("input").first.focus()
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
        choice.get_by_role("button", name="Compare").press("Enter")
        choice.get_by_role("status").filter(has_text=CHOSEN.compared("it spills")).wait_for(timeout=15_000)
        pictures.take_notebook(page, "exercise_in_jupyterlab.png")
        assert heard.problems() == []
        driving.put_away(page)


def test_the_code_of_sentences_is_hidden_and_other_code_is_not(lab, browser):
    with driving.opened(browser, own=lab.url) as (page, _):
        driving.open_notebook(page, lab, NOTEBOOK.name)
        driving.all_in_sight(page)
        seen = page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets.filter(w => w.model.type === 'code')
                .map(w => [w.model.sharedModel.getSource(), w.inputHidden])"""
        )
    assert len(seen) > 5
    assert all(hidden == ("rc.say(" in source or "rc.exercise(" in source) for source, hidden in seen)

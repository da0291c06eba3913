"""The frame of the explorers: shows what is chosen, says errors in sentences, can be cancelled, reads as a picture."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import replace

import ipywidgets as w
import pytest

import helpers as rc
from helpers.compiler.report import LIVE, Evidence
from helpers.show.html import command_html
from helpers.workbook.explorer import basket as basket_module
from helpers.workbook.explorer.choices import verdict_html
from helpers.workbook.explorer.frame import ExplorerFrame, View

WAIT_S = 120


@pytest.fixture(scope="module")
def explorer():
    return rc.explorer(rc.INCIDENT_CHOICE)


@pytest.fixture
def empty_basket(monkeypatch):
    monkeypatch.setattr(basket_module, "basket", [])
    return basket_module


def _made(answer, **more) -> ExplorerFrame:
    """A frame with one control, `n`, and this answer."""
    return ExplorerFrame("made", {"n": w.Dropdown(options=[0, 1, 2, 3], value=0, description="n")}, answer, **more)


def _plain(state, _work) -> View:
    return View(
        f"<b>{state['n']}</b>", f"n is {state['n']}", f"register-cliff compile --n {state['n']}", drawing=b"<svg>"
    )


def test_it_opens_on_the_incident_with_a_picture_for_pages_without_widgets(explorer):
    data, _ = explorer._repr_mimebundle_()
    drawn = data["text/html"].partition(";base64,")[2].partition('"')[0]
    assert base64.b64decode(drawn).startswith(b"<svg ") and "alt=" in data["text/html"]
    assert "register-cliff compile" in data["text/plain"] and "application/vnd.jupyter.widget-view+json" in data
    assert "register_exhausted" in explorer.verdict.value and explorer.view.data.report.crashed
    assert {"rc-explorer", "rc-compile"} <= set(explorer._dom_classes)


def test_every_control_shows_what_is_chosen_also_where_that_is_nothing(explorer):
    assert all(control.label and control.description for control in explorer.controls.values())
    assert explorer.controls["num_warps"].label == "as the engine"
    # Also where it is chosen again, by the label, as the browser does.
    for name, label, other in (("num_warps", "as the engine", "4"), ("window", "none", "512")):
        control = explorer.controls[name]
        before = control.label
        for chosen in (other, label):
            control.label = chosen
            assert control.label == chosen and (explorer.state[name] is None) == (chosen == label)
        control.label = before
    assert explorer.wait(WAIT_S)
    windowless = rc.explorer(replace(rc.INCIDENT_CHOICE, window=None))
    assert windowless.controls["window"].label == "none" and windowless.view.choice.window is None


def test_every_control_changes_the_choice_and_operating_one_changes_the_view(explorer, toolchain_351):
    before = explorer.verdict.value, explorer.figure.value, explorer.command.value
    explorer.controls["tile"].value = "64x64"
    try:
        assert explorer.wait(WAIT_S) and explorer.view.choice.tile == "64x64" and explorer.view.data.report.compiled
        after = explorer.verdict.value, explorer.figure.value, explorer.command.value
        assert all(new != old for new, old in zip(after, before, strict=True))
        for name in explorer.controls:
            assert getattr(explorer.view.choice, name) == explorer.state[name]
    finally:
        explorer.controls["tile"].value = "hopper"
    assert explorer.wait(WAIT_S) and explorer.view.data.report.crashed


def test_an_impossible_configuration_is_a_sentence_without_a_figure():
    def impossible(_state, _work):
        raise rc.UserError("no <b>such</b> thing")

    frame = _made(impossible)
    assert "Not a possible configuration" in frame.verdict.value and "&lt;b&gt;such" in frame.verdict.value
    assert frame.figure.layout.display == "none" and frame.add_button.disabled and frame.view is None


def test_a_fault_of_ours_is_a_sentence_too_and_keeps_its_exception():
    def faulty(_state, _work):
        raise ZeroDivisionError("division <by> zero")

    frame = _made(faulty)
    assert "ZeroDivisionError: division &lt;by&gt; zero" in frame.verdict.value
    assert "Traceback" not in frame.verdict.value and isinstance(frame.problem, ZeroDivisionError)


class _Slow:
    """An answer that waits for `go` (or for the end) when n is not 0, and remembers what ended."""

    def __init__(self) -> None:
        self.go, self.begun, self.ended = threading.Event(), threading.Event(), []

    def __call__(self, state, work) -> View:
        if state["n"]:
            work.say(1, 3, "<slowly>")
            self.begun.set()
            while not (self.go.wait(0.02) or work.cancelled):
                pass
            self.ended.append((state["n"], work.cancelled))
        return _plain(state, work)


def test_a_slow_answer_shows_progress_and_can_be_cancelled_and_tried_again():
    slow = _Slow()
    frame = _made(slow)
    assert frame.cancel_button.layout.display == "none"
    frame.controls["n"].value = 1
    work = frame._work
    assert "&lt;slowly&gt;" in frame.progress.value and 'value="1" max="3"' in frame.progress.value
    assert "rc-busy" in frame._dom_classes
    assert frame.cancel_button.layout.display is None and frame.progress.layout.display is None
    frame.cancel_button.click()
    assert work.done.wait(WAIT_S) and slow.ended == [(1, True)]
    assert "Cancelled" in frame.verdict.value and frame.view is None and "rc-busy" not in frame._dom_classes
    assert frame.cancel_button.layout.display == "none" and frame.again_button.layout.display is None
    slow.go.set()
    frame.again_button.click()
    assert frame.wait(WAIT_S) and frame.view.title == "n is 1" and frame.again_button.layout.display == "none"


def test_the_latest_change_wins_and_ends_the_one_before():
    slow = _Slow()
    frame = _made(slow)
    frame.controls["n"].value = 1
    first = frame._work
    frame.controls["n"].value = 2
    slow.go.set()
    assert first.done.wait(WAIT_S) and frame.wait(WAIT_S)
    assert slow.ended[0] == (1, True) and frame.view.title == "n is 2" and "<b>2</b>" in frame.verdict.value


def test_a_state_seen_before_is_not_asked_again_unless_its_answer_was_not_final():
    asked = []

    def counted(state, work):
        asked.append(state["n"])
        return replace(_plain(state, work), final=state["n"] != 2)

    frame = _made(counted)
    for n in (1, 0, 1, 2, 0, 2):
        frame.controls["n"].value = n
        assert frame.wait(WAIT_S) and frame.view.title == f"n is {n}"
    assert asked == [0, 1, 2, 2]


def test_cancelling_ends_the_compile_itself(isolated_cache, toolchain_351):
    frame = rc.explorer(rc.INCIDENT_CHOICE)
    frame.controls["head_dim"].value = 512
    work = frame._work
    if work is None:
        pytest.fail("a compile in an empty cache was answered at once")
    frame.cancel()
    # Two stages of a compile take over two seconds; what was killed is over long before a time limit would end it.
    assert work.done.wait(WAIT_S) and "Cancelled" in frame.verdict.value
    frame.again_button.click()
    assert frame.wait(WAIT_S) and frame.view.data.report.status == "spills"


def test_messages_of_a_compiler_are_escaped():
    report = replace(rc.compile_one(rc.INCIDENT_CHOICE).report, message="<script>alert(1)</script>", label="<i>x</i>")
    page = verdict_html(Evidence(report, LIVE))
    assert "<script>" not in page and "<i>" not in page and "&lt;script&gt;" in page


def test_registers_of_a_kernel_that_finds_no_shared_memory_are_told(ok):
    full = replace(ok, status="out_of_shared_memory", regs_per_thread=40, spill_store_bytes=19_586)
    assert "40 registers, 19586 B spill stores" in verdict_html(Evidence(full, LIVE))
    assert "were there room" not in verdict_html(Evidence(ok, LIVE))


def test_the_command_is_a_field_to_select_and_a_button_to_copy():
    page = command_html('x "<b>')
    assert 'value="x &quot;&lt;b&gt;"' in page and "readonly" in page and "Copy command" in page


def test_add_to_report_keeps_a_state_once_and_the_basket_is_written_as_specs(empty_basket, tmp_path, explorer):
    explorer.add_button.click()
    explorer.add_button.click()
    assert len(empty_basket.basket) == 1 and "1 in the basket" in explorer.noted.value
    written = rc.report_basket(tmp_path / "out", bundles=False)
    saved = json.loads(written[1].read_text())
    assert saved["command"] == explorer.view.command and saved["arch"] == "sm_100a"
    assert rc.KernelSpec.from_json(json.dumps(saved["spec"])).label == explorer.view.data.report.label
    assert saved["command"] in written[0].read_text()
    everything = "".join(path.read_text() for path in written)
    assert str(tmp_path) not in everything and '"path": "kernels/extend_attention.py"' in everything


def test_the_basket_can_be_looked_into_and_a_state_taken_out(empty_basket):
    frame = _made(_plain)

    def says() -> str:
        return frame.basket.children[0].value

    assert frame.basket.layout.display == "none" and frame.basket_button.description == "Show the basket"
    frame.basket_button.click()
    assert frame.basket.layout.display is None and "The basket is empty" in says()
    for n in (0, 1, 2):
        frame.controls["n"].value = n
        assert frame.wait(WAIT_S)
        frame.add_button.click()
    lines = frame.basket.children[1:]
    assert "In the basket: 3." in says()
    assert all(f"n is {n}" in line.children[1].value for n, line in enumerate(lines))
    assert "register-cliff compile --n 1" in lines[1].children[1].value
    lines[1].children[0].click()
    assert [item.title for item in empty_basket.basket] == ["n is 0", "n is 2"] and "In the basket: 2." in says()
    lines[1].children[0].click()  # a list that has not heard yet that it is out
    assert len(empty_basket.basket) == 2
    frame.basket_button.click()
    assert frame.basket.layout.display == "none"


def test_what_stands_in_the_basket_is_escaped(empty_basket):
    frame = _made(lambda state, work: replace(_plain(state, work), title="<b>bold</b>", command="x <y>"))
    frame.add_button.click()
    frame.basket_button.click()
    words = frame.basket.children[1].children[1].value
    assert "<b>" not in words and "&lt;b&gt;" in words and "&lt;y&gt;" in words


def test_the_sentence_of_a_restart_is_there_and_unseen_until_the_kernel_is_gone():
    from helpers.workbook.exercise import Asked, ExerciseForm
    from helpers.workbook.your_own_crash.paste_box import PasteBox

    for widget in (_made(_plain), ExerciseForm(Asked("?", 1, ".")), PasteBox()):
        last = widget.children[-1]
        assert "rc-gone" in last._dom_classes and "run this cell again" in last.value
        assert ".rc-gone{display:none}" in last.value
        assert ".rc-gone.jupyter-widgets-disconnected{display:block" in last.value


def test_an_empty_basket_and_a_full_folder_are_refused(empty_basket, tmp_path, explorer):
    with pytest.raises(rc.UserError, match="basket is empty"):
        rc.report_basket(tmp_path / "out")
    explorer.add_button.click()
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(rc.UserError, match="not empty"):
        rc.report_basket(tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.slow
def test_the_basket_has_a_bundle_of_what_failed_and_the_reason_where_there_is_none(
    empty_basket, tmp_path, explorer, toolchain_351
):
    explorer.add_button.click()
    explorer.controls["tile"].value = "64x64"
    assert explorer.wait(WAIT_S)
    explorer.add_button.click()
    explorer.controls["tile"].value = "hopper"
    assert explorer.wait(WAIT_S)
    written = [path.name for path in rc.report_basket(tmp_path / "out")]
    assert written[:3] == ["README.md", "01-compile.json", "01-compile.zip"] and "02-compile.json" in written
    index = (tmp_path / "out" / "README.md").read_text()
    assert "01-compile.zip reproduces it" in index and str(tmp_path) not in index
    assert "02-compile.zip" not in written and "No bundle: this compiles" in index

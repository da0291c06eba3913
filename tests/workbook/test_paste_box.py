"""The paste box: text, upload and button give a diagnosis, errors are sentences, and the page reads without widgets."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

import helpers as rc
from helpers.diagnosis.diagnose import diagnose
from helpers.workbook.your_own_crash import paste_box as paste_widget

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"


def uploaded(name: str, content: bytes) -> tuple[dict]:
    return ({"name": name, "type": "text/plain", "size": len(content), "content": memoryview(content),
             "last_modified": datetime.datetime.now(datetime.UTC)},)  # fmt: skip


@pytest.fixture
def box():
    return rc.paste_box(paste_widget.example_log())


def test_the_log_in_the_package_is_the_comment(box):
    assert paste_widget.example_log() == (LOGS / "pr22079_comment.log").read_text()
    assert box.diagnosis.kind == "register_exhaustion" and "C7600" in box.answer.value


def test_a_page_without_widgets_shows_the_first_diagnosis(box):
    data, _ = box._repr_mimebundle_()
    assert "register exhaustion" in data["text/plain"] and "#22079" in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data
    empty, _ = rc.paste_box()._repr_mimebundle_()
    assert "Nothing pasted yet" in empty["text/html"]


def test_the_button_diagnoses_what_is_in_the_box(box):
    before = box.answer.value
    box.text.value = (LOGS / "c7602.log").read_text()
    assert box.answer.value == before, "typing alone does nothing"
    box.button.click()
    assert box.diagnosis.kind == "register_cap_too_low" and box.answer.value != before
    box.text.value = "  \n"
    box.button.click()
    assert box.diagnosis is None and "empty" in box.answer.value


def test_an_upload_is_read_in_whatever_encoding_it_came(box):
    text = (LOGS / "sm103a_ptxas128.log").read_text()
    for content in (text.encode(), text.encode("utf-16")):
        box.upload.value = ()
        box.upload.value = uploaded("log.txt", content)
        assert box.diagnosis.kind == "unsupported_arch"
    box.upload.value = uploaded("rubbish", bytes(range(256)) * 100)
    assert box.diagnosis.kind == "unknown" and "not text" in box.answer.value


def test_too_large_an_upload_is_a_sentence_with_the_command(box, monkeypatch):
    monkeypatch.setattr(paste_widget, "MAX_UPLOAD_BYTES", 1_000)
    box.upload.value = uploaded("<b>big</b>.log", b"x" * 2_000)
    assert box.diagnosis is None and "register-cliff diagnose" in box.answer.value
    assert "<b>big" not in box.answer.value and "&lt;b&gt;big" in box.answer.value


def test_an_error_is_a_sentence_and_hostile_text_stays_text(box, monkeypatch):
    box.text.value = "<script>alert(1)</script>\nptxas fatal   : <img src=x> (C7600)\n"
    box.button.click()
    assert "<script>" not in box.answer.value and "<img" not in box.answer.value

    def refuse(_text):
        raise rc.UserError("no <i>such</i> thing")

    monkeypatch.setattr(paste_widget, "diagnose", refuse)
    box.button.click()
    assert "no &lt;i&gt;such" in box.answer.value
    assert diagnose("x").kind == "unknown"

"""The explorer changes what it shows, turns errors into sentences, and reads as a picture without widgets."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

import helpers as rc
from helpers.reporting.records import LIVE, Evidence
from helpers.reporting.widgets import verdict_html


@pytest.fixture(scope="module")
def explorer():
    return rc.explorer(rc.INCIDENT_CHOICE)


def test_it_opens_on_the_incident_with_a_picture_for_pages_without_widgets(explorer):
    data, _ = explorer._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "python -m helpers compile" in data["text/plain"] and "application/vnd.jupyter.widget-view+json" in data
    assert "register_exhausted" in explorer._text.value and explorer.evidence.report.crashed


def test_every_control_shows_what_is_chosen_also_where_that_is_nothing(explorer):
    assert all(control.label for control in explorer.controls.values())
    assert explorer.controls["num_warps"].label == "as the engine"
    windowless = rc.explorer(replace(rc.INCIDENT_CHOICE, window=None))
    assert windowless.controls["window"].label == "none" and windowless.choice.window is None


def test_every_control_changes_the_choice_and_operating_one_changes_the_view(explorer, toolchain_351):
    before_text, before_image = explorer._text.value, explorer._image.value
    explorer.controls["tile"].value = "64x64"
    try:
        assert explorer.choice.tile == "64x64" and explorer.evidence.report.compiled
        assert explorer._text.value != before_text and explorer._image.value != before_image
        for name, control in explorer.controls.items():
            assert getattr(explorer.choice, name) == control.value
    finally:
        explorer.controls["tile"].value = "hopper"
    assert explorer.evidence.report.crashed


def test_an_impossible_configuration_is_a_sentence(explorer, monkeypatch):
    def impossible(_choice):
        raise rc.UserError("no <b>such</b> thing")

    monkeypatch.setattr("helpers.reporting.widgets.compile_one", impossible)
    explorer._show()
    assert "Not a possible configuration" in explorer._text.value and "&lt;b&gt;such" in explorer._text.value
    assert explorer._image.layout.display == "none"


def test_messages_of_a_compiler_are_escaped():
    report = replace(rc.compile_one(rc.INCIDENT_CHOICE).report, message="<script>alert(1)</script>", label="<i>x</i>")
    page = verdict_html(Evidence(report, LIVE), rc.INCIDENT_CHOICE)
    assert "<script>" not in page and "<i>" not in page and "&lt;script&gt;" in page

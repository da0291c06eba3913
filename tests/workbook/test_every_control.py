"""Every control of every explorer: each option can be chosen and chosen back, and each control says what it means."""

from __future__ import annotations

import re

import pytest

import helpers as rc
from helpers.compiler.report import LIVE, CompileReport, Evidence
from helpers.workbook.explorer import choices as choices_module
from helpers.workbook.explorer import work as work_module
from helpers.workbook.explorer.frame import ExplorerFrame

EXPLORERS = ("explorer", "cliff_map", "landscape_explorer", "tile_explorer", "root_cause_explorer", "numerics_explorer",
             "throughput_explorer")  # fmt: skip
WAIT_S = 60


def _compiled_at_once(choices, *, executor=None, progress=None) -> list[Evidence]:
    """Evidence that names every field of its configuration, so that two states never read alike."""
    made = []
    for choice in choices:
        said = ", ".join(f"{name}={value}" for name, value in vars(choice).items())
        report = CompileReport(
            "spills", choice.arch, choice.triton, "12.8.93", label=choice.request().spec.label, num_warps=8,
            regs_per_thread=255, spill_store_bytes=8, smem_bytes=1024, message=said,
        )  # fmt: skip
        made.append(Evidence(report, LIVE))
    return made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled and nothing drawn: this is about controls."""
    monkeypatch.setattr(work_module, "compile_choices", _compiled_at_once)
    for module in ("reproduce_the_crash", "sm100_branch", "root_cause.explorer", "numerics", "throughput"):
        monkeypatch.setattr(f"helpers.workbook.{module}.kept_drawing", lambda *_args, **_parts: b"<svg>")


def _answered(frame: ExplorerFrame) -> str:
    assert frame.wait(WAIT_S)
    assert frame.view is not None or "Not a possible configuration" in frame.verdict.value, frame.verdict.value
    return frame.verdict.value


@pytest.mark.parametrize("make", EXPLORERS)
def test_every_option_can_be_chosen_and_chosen_back(make: str, at_once):
    frame = getattr(rc, make)()
    first, state = _answered(frame), dict(frame.state)
    for name, control in frame.controls.items():
        before, words = control.index, control.label
        for index, (label, _) in enumerate(control.options):
            # By its place in the list: that is what the browser sends.
            control.index = index
            told = _answered(frame)
            assert (control.index, control.label) == (index, label), f"{name} shows {control.label!r} for {label!r}"
            assert index == before or frame.state[name] != state[name], f"{name}: {label} is what it was before"
            about = frame.view.choice if frame.view else None
            if index != before and about is not None and hasattr(about, name):
                assert getattr(about, name) == frame.state[name] or make == "tile_explorer", f"{name}: {label}"
            elif index != before and make in ("numerics_explorer", "throughput_explorer"):
                assert told != first, f"{name}: {label}"
            control.index = before
            assert _answered(frame) == first and control.label == words, f"{name}: back from {label}"
            assert frame.state == state
    assert len(frame.controls) >= 3


@pytest.mark.parametrize("make", EXPLORERS)
def test_every_control_says_what_it_means(make: str, at_once):
    frame = getattr(rc, make)()
    for name, control in frame.controls.items():
        assert control.tooltip == choices_module.MEANS[name], name
        assert re.fullmatch(r"[A-Z][^.]{20,}\.", control.tooltip), name


def test_the_table_of_meanings_explains_no_control_that_is_not_there(at_once):
    used = {name for make in EXPLORERS for name in getattr(rc, make)().controls}
    assert used == set(choices_module.MEANS)

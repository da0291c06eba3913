"""A stranger's characters in whatever becomes HTML: tables, verdicts, banners, a diagnosis, a page of grids."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.commands.cross import cross_html
from helpers.diagnosis.diagnose import diagnose
from helpers.show import html as pieces
from helpers.show.display import table_html
from helpers.show.verdicts import Cell, grid_html, grid_of

EVIL = "x\x1b]0;t\x07\u202e\u200b</td><script>alert('owned')</script>\" onload=\"y"
LOG = f"Traceback (most recent call last):\n  File \"{EVIL}.py\", line 3, in {EVIL}\nRuntimeError: {EVIL}\n" \
      f"ptxas fatal   : (C7600) Register allocation failed with register count of '255' {EVIL}\n"  # fmt: skip


def shown() -> dict[str, str]:
    grid = grid_of((EVIL,), (EVIL,), lambda *_place: Cell(EVIL, "#ffffff", hover=EVIL), row_title=EVIL)
    return {
        "banner": pieces.banner("ok", EVIL), "alert": pieces.alert(EVIL, EVIL), "note": pieces.note(EVIL),
        "paragraph": pieces.paragraph(EVIL, label=EVIL), "entry": pieces.entry(EVIL, EVIL, EVIL),
        "folded": pieces.folded(EVIL, ""), "cells": pieces.cells_html((EVIL,), [(EVIL,)], caption=EVIL),
        "difference": pieces.difference_html({EVIL: EVIL}, {EVIL: 1}, (EVIL, EVIL)),
        "facts": pieces.facts_html({EVIL: EVIL}), "command": pieces.command_html(EVIL),
        "picture": pieces.picture(b"png", EVIL), "grid": grid_html(grid, EVIL),
        "diagnosis": diagnose(LOG)._repr_html_(),
        "table": table_html(pd.DataFrame({EVIL: [EVIL]})),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(shown()))
def test_nothing_of_a_strangers_is_markup_or_unseen(name):
    text = shown()[name]
    assert "owned" in text or name == "diagnosis"  # which takes colours and tags out of a log
    assert not set(text) & set("\x1b\x07\u202e\u200b"), name
    assert "<script" not in text and "</td><script" not in text and '" onload="y' not in text


def test_a_page_of_grids(monkeypatch):
    from helpers.commands import cross as module

    monkeypatch.setattr(module, "crossed_dict", lambda _found: {"sentences": [EVIL]})
    monkeypatch.setattr(module, "cross_grids", lambda _found: {})
    monkeypatch.setattr(module, "adjustment_lines", lambda _found: [EVIL])
    found = type("Found", (), {"label": EVIL, "arch": EVIL})()
    page = cross_html(found)
    assert page.count("owned") >= 3 and not set(page) & set("\x1b\x07\u202e\u200b") and "<script" not in page

"""The tile explorer: what the tile chooser answers for an arch and a head dim, before and after the fix, compiled."""

from __future__ import annotations

import math
from dataclasses import replace

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.attention.tiles import TileConfig, choose_tile, tile_row
from helpers.compiler.report import Evidence
from helpers.hardware import get_arch
from helpers.show.html import banner, facts_html
from helpers.show.plots import plot_before_after
from helpers.show.reports import ctas_per_sm
from helpers.show.verdicts import _short
from helpers.workbook.explorer.choices import choice_controls, choice_of, evidence_words, is_final, note
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop, kept_png, reports_key
from helpers.workbook.explorer.work import Work

FIELDS = ("arch", "head_dim", "kv_dtype", "window", "triton")
AFTER = (("after the fix", "after_fix"), ("release 0.5.15", "release_0_5_15"))
EXTEND_LEN = 4096


def _at(choice: Choice, chooser: str) -> tuple[Choice, TileConfig, str]:
    """The choice with the chooser's tile, the tile, and the rule it came from."""
    capability = get_arch(choice.arch).capability
    tile = choose_tile(capability, choice.head_dim, chooser=chooser)
    return replace(choice, tile=str(tile), num_warps=tile.num_warps), tile, tile_row(capability, chooser).rule


def _words(tile: TileConfig, rule: str, evidence: Evidence) -> str:
    report = evidence.report
    ctas = ctas_per_sm(report)
    reads = math.ceil(EXTEND_LEN / tile.block_m)
    path = f", {report.tensor_core_path}" if report.instructions else ""
    return f"{tile} ({rule}): {report.verdict()}{path}; {reads} reads of each key and value" + (
        f", {ctas} CTA{'' if ctas == 1 else 's'} per SM" if ctas is not None else ""
    )


def _view(base: Choice, state: dict, work: Work) -> View:
    choice = choice_of(base, state)
    (old_choice, old, old_rule), (new_choice, new, new_rule) = _at(choice, "before_fix"), _at(choice, state["after"])
    before, after = work.compile([old_choice, new_choice])
    status = after.report.status
    name = f"{choice.arch}, head dim {choice.head_dim}, {choice.kv_dtype} cache"
    if old == new:
        said = f"nothing changed for {name}: {old} before and after"
    else:
        said = f"{name}: {old} becomes {new}; {_short(before.report)} becomes {_short(after.report)}"
    title = f"{old} stays" if old == new else f"{old} → {new}: {_short(before.report)} → {_short(after.report)}"
    rows = {
        "before": _words(old, old_rule, before),
        "after": _words(new, new_rule, after),
        "evidence": "; ".join(dict.fromkeys([evidence_words(before), evidence_words(after)])),
    }
    return View(
        verdict=banner(status, said)
        + facts_html(rows)
        + note(f"Reads are arithmetic, for {EXTEND_LEN:,} new tokens: one per block of rows."),
        title=said,
        command=new_choice.command(),
        png=kept_png(
            lambda: plot_before_after([before], [after], [f"hd{choice.head_dim}"], title),
            figure="before and after",
            title=title,
            head_dim=choice.head_dim,
            reports=reports_key([before, after]),
        ),
        choice=new_choice,
        data=(before, after),
        final=is_final([before, after]),
    )


def tile_explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of the tile chooser before and after the fix; `view.data` is the pair of Evidence."""
    controls = {**choice_controls(choice, FIELDS), "after": drop("compare with", AFTER, "after_fix")}
    return ExplorerFrame("tile", controls, lambda state, work: _view(choice, state, work))

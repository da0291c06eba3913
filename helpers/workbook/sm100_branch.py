"""Notebook 03: what the tile chooser answers before and after the fix, what that costs, and an explorer of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import GEMMA4_LAYERS, INCIDENT_CHOICE
from helpers.attention.tiles import SM100_BRANCH, TileConfig, TileRow, choose_tile, tile_row
from helpers.compiler.report import Evidence
from helpers.hardware import ARCHS, get_arch
from helpers.show.html import banner, facts_html, note
from helpers.show.plots import cap_line, compile_time_words, conditions, status_bar
from helpers.show.reports import counts_frame, ctas_per_sm
from helpers.show.style import AFTER_COLOUR, BEFORE_COLOUR, claim, use_house_style
from helpers.show.verdicts import words_in_sentence
from helpers.workbook.explorer.choices import MEANS, choice_controls, choice_of, evidence_words, is_final
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop
from helpers.workbook.explorer.on_page import Answer, OnPage, choice_command, choice_words, knobs_of
from helpers.workbook.explorer.pictures import kept_drawing, reports_key
from helpers.workbook.explorer.recorded_choices import (
    REGISTERS,
    compile_answer,
    configuration,
    recorded_bases,
    recorded_compiles,
)
from helpers.workbook.explorer.work import Work

if TYPE_CHECKING:
    import ipywidgets as w
    import pandas as pd
    from matplotlib.figure import Figure

CHOOSER_FIELDS = ("arch", "head_dim", "kv_dtype", "window", "triton")
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
    return f"{tile} ({rule}): {report.verdict()}{path}; at most {reads} reads of a key or value" + (
        f", {ctas} CTA{'' if ctas == 1 else 's'} per SM" if ctas is not None else ""
    )


def _told(choice: Choice, chooser: str, before: Evidence, after: Evidence) -> tuple[str, str, dict[str, str]]:
    """(the verdict in a sentence, the title of the figure, what is said of both tiles) of a pair of compiles."""
    (_, old, old_rule), (_, new, new_rule) = _at(choice, "before_fix"), _at(choice, chooser)
    name = f"{choice.arch}, head dim {choice.head_dim}, {choice.kv_dtype} cache"
    was, becomes = words_in_sentence(before.report), words_in_sentence(after.report)
    if old == new:
        said, title = f"nothing changed for {name}: {old} before and after", f"{old} stays"
    else:
        said = f"{name}: {old} becomes {new}; {was} becomes {becomes}"
        title = f"{old} → {new}: {was} → {becomes}"
    return said, title, {"before": _words(old, old_rule, before), "after": _words(new, new_rule, after)}


READS = f"Reads are arithmetic, for {EXTEND_LEN:,} new tokens: one per block of rows."


def _view(base: Choice, state: dict, work: Work) -> View:
    choice = choice_of(base, state)
    old_choice, new_choice = _at(choice, "before_fix")[0], _at(choice, state["after"])[0]
    before, after = work.compile([old_choice, new_choice])
    said, title, rows = _told(choice, state["after"], before, after)
    rows["evidence"] = "; ".join(dict.fromkeys([evidence_words(before), evidence_words(after)]))
    return View(
        verdict=banner(after.report.status, said) + facts_html(rows) + note(READS),
        title=said,
        command=new_choice.command(),
        drawing=kept_drawing(
            partial(plot_before_after, [before], [after], [f"hd{choice.head_dim}"], title),
            figure="before and after",
            title=title,
            head_dim=choice.head_dim,
            reports=reports_key([before, after]),
        ),
        choice=new_choice,
        data=(before, after),
        final=is_final([before, after]),
    )


def tile_page(base: Choice, controls: Mapping[str, w.Dropdown]) -> dict:
    """What was recorded of the tiles before and after the fix, for a page without a kernel."""
    knobs = knobs_of(controls, choice_words(base, controls))
    fields, compiles, answers = knobs[:-1], recorded_compiles(), {}
    for _, values in recorded_bases(base, fields, (rest for *_, rest in compiles)):
        choice = choice_of(base, values)
        before = compiles.get(configuration(_at(choice, "before_fix")[0]))
        for _, chooser in AFTER:
            after = compiles.get(configuration(_at(choice, chooser)[0]))
            if before is not None and after is not None:
                setting = (*(getattr(choice, knob.name) for knob in fields), chooser)
                answers[setting] = _answer(choice, chooser, before, after)
    # The command names the tile that the later table has, which no single word of a knob can say.
    return OnPage(
        name="tile",
        title="The tile before and after the fix: choose a chip and a layer",
        knobs=knobs,
        answers=answers,
        command=choice_command(replace(base, tile="auto"), [knob.name for knob in fields]),
        scale=REGISTERS,
        unrecorded="This was not recorded. The command below compiles the tile that the merged fix chooses.",
    ).payload()


def _answer(choice: Choice, chooser: str, before: Evidence, after: Evidence) -> Answer:
    said, _, rows = _told(choice, chooser, before, after)
    pair = {"before": compile_answer(before), "after": compile_answer(after)}
    sources = "; ".join(dict.fromkeys([before.source, after.source]))
    return Answer(
        status=after.report.status,
        said=said,
        facts=rows | {"reads": READS, "evidence": sources},
        bars=tuple(replace(answer.bars[0], label=when) for when, answer in pair.items()),
    )


def tile_explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of the tile chooser before and after the fix; `view.data` is the pair of Evidence."""
    controls = {
        **choice_controls(choice, CHOOSER_FIELDS),
        "after": drop("compare with", AFTER, "after_fix", MEANS["after"]),
    }
    return ExplorerFrame(
        "tile",
        controls,
        lambda state, work: _view(choice, state, work),
        page=lambda made: tile_page(choice, made),
    )


def layer_words(choice: Choice) -> str:
    """A Gemma 4 layer in words: its kind and the cache's dtype."""
    kind = next(layer.shape.name for layer in GEMMA4_LAYERS if layer.shape.head_dim == choice.head_dim)
    return f"{kind.rpartition(' ')[2]}, {choice.kv_dtype} cache"


def chooser_table(head_dims: Sequence[int] = (128, 256, 512)) -> pd.DataFrame:
    """What the tile chooser answers per chip and head dim, queries x keys; two where the fix changed it."""
    rows = []
    for arch in ARCHS.values():
        row: dict[str, object] = {"chip": arch.name, "product": arch.product}
        for head_dim in head_dims:
            before = choose_tile(arch.capability, head_dim, chooser="before_fix")
            after = choose_tile(arch.capability, head_dim, chooser="after_fix")
            row[f"head dim {head_dim}"] = str(after) if before == after else f"{before} → {after}"
        row["row that applies"] = _row_words(tile_row(arch.capability, "after_fix"))
        rows.append(row)
    return counts_frame(rows)


def _row_words(row: TileRow) -> str:
    """Which capabilities a row of the chooser's table covers; the merged fix's own is called what the pages call it."""
    return "the merged row" if row == SM100_BRANCH else row.rule.partition(",")[0]


def fix_table(before: Sequence[Evidence], after: Sequence[Evidence], names: Sequence[str]) -> pd.DataFrame:
    """Verdicts before and after the fix, one row a layer and KV dtype."""
    return counts_frame(
        [
            {"layer": name, "before, per thread": b.report.verdict(), "after, per thread": a.report.verdict(),
             "tensor cores by, before": b.report.tensor_core_path, "and after": a.report.tensor_core_path}
            for name, b, a in zip(names, before, after, strict=True)
        ]
    )  # fmt: skip


def cost_table(
    before: Sequence[Evidence], after: Sequence[Evidence], choices: Sequence[Choice], extend_len: int = 4096
) -> pd.DataFrame:
    """What the smaller tiles cost: CTAs, how often keys and values are read, occupancy, tensor-core path.

    Compile-time arithmetic for a prefill of `extend_len` new tokens of one sequence; `kv_reads` is the number of
    query blocks, each of which walks the keys and values anew. CTAs per SM are None where there is no binary.
    """
    rows = []
    for choice, old, new in zip(choices, before, after, strict=True):
        for when, item, chooser in (("before", old, "before_fix"), ("after", new, "after_fix")):
            report, arch = item.report, get_arch(choice.arch)
            tile = choose_tile(arch.capability, choice.head_dim, chooser=chooser)
            blocks = math.ceil(extend_len / tile.block_m)
            rows.append(
                {"layer": layer_words(choice), "when": when, "tile": str(tile), "kv_reads": blocks,
                 "ctas": blocks * choice.num_q_heads, "ctas_per_sm": ctas_per_sm(report),
                 "tensor_core_path": report.tensor_core_path,
                 "smem_bytes": report.smem_bytes, "verdict": report.verdict()}
            )  # fmt: skip
    return counts_frame(rows)


def cost_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A `cost_table` for a reader: headings that say what is counted and in what unit."""
    names = {
        "layer": "layer",
        "when": "when",
        "tile": "tile, queries x keys",
        "kv_reads": "reads of a key or value, at most",
        "ctas": "CTAs",
        "ctas_per_sm": "CTAs at once on an SM",
        "smem_bytes": "shared memory, bytes per CTA",
        "verdict": "per thread",
    }
    return table[list(names)].rename(columns=names)


def triton_table(evidence: Sequence[Evidence], choices: Sequence[Choice]) -> pd.DataFrame:
    """Compiles of one layer under several Tritons: cache, versions, registers and spill stores of a thread."""
    return counts_frame(
        [
            {"cache": choice.kv_dtype, "Triton": item.report.triton_version, "ptxas": item.report.ptxas_version,
             "registers per thread": item.report.regs_per_thread,
             "spill stores, bytes per thread": item.report.spill_store_bytes}
            for choice, item in zip(choices, evidence, strict=True)
        ]
    )  # fmt: skip


def fix_findings(before: Sequence[Evidence], after: Sequence[Evidence]) -> dict[str, int]:
    """How many configurations die before and after the fix, and the spill stores of those that compile, summed."""
    return {
        f"{what}_{when}": value
        for when, items in (("before", before), ("after", after))
        for what, value in (
            ("fatal", sum(item.report.crashed for item in items)),
            ("spilled", sum(item.report.spill_store_bytes or 0 for item in items)),
        )
    }


def cost_findings(table: pd.DataFrame) -> dict[str, object]:
    """Of a `cost_table`, after the fix: each layer's tensor-core path, the layers on mma.sync, CTAs per SM."""
    after = table[table["when"] == "after"]
    paths = dict(zip(after["layer"], after["tensor_core_path"], strict=True))
    return {"paths": paths, "mma.sync": [layer for layer, path in paths.items() if path == "mma.sync"],
            "ctas_per_sm": after["ctas_per_sm"].tolist()}  # fmt: skip


def plot_before_after(
    before: Sequence[Evidence], after: Sequence[Evidence], names: Sequence[str], title: str
) -> Figure:
    """Pairs of bars, before over after the fix, one pair a layer and KV dtype."""
    import matplotlib.pyplot as plt

    use_house_style()
    fig, ax = plt.subplots(figsize=(8.5, 1.4 + 0.82 * len(names)))
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        status_bar(ax, 2.3 * i, old.report, height=0.85)
        status_bar(ax, 2.3 * i + 1, new.report, height=0.85)
        for y, word, colour in ((2.3 * i, "before", BEFORE_COLOUR), (2.3 * i + 1, "after", AFTER_COLOUR)):
            ax.text(-3, y, word, ha="right", va="center", fontsize=8, color=colour)
    ax.set_yticks([2.3 * i + 0.5 for i in range(len(names))], names, fontsize=9)
    ax.tick_params(axis="y", pad=42, length=0)
    ax.set_ylim(2.3 * len(names) - 0.6, -1.0)
    cap_line(ax)
    claim(ax, title, conditions([*before, *after]))
    plt.close(fig)
    return fig


def plot_cost(table: pd.DataFrame, title: str, subtitle: str) -> Figure:
    """How often a prefill reads each key and value, before and after, a pair of bars a layer; takes a `cost_table`."""
    import matplotlib.pyplot as plt

    use_house_style()
    layers = list(dict.fromkeys(table["layer"]))
    fig, ax = plt.subplots(figsize=(8.5, 1.4 + 0.7 * len(layers)))
    for i, layer in enumerate(layers):
        for offset, (when, colour) in enumerate((("before", BEFORE_COLOUR), ("after", AFTER_COLOUR))):
            row = table[(table["layer"] == layer) & (table["when"] == when)].iloc[0]
            y = 2.3 * i + offset
            ax.barh(y, row["kv_reads"], 0.85, color=colour, hatch=None if when == "after" else "///", edgecolor="white")
            ax.text(
                row["kv_reads"],
                y,
                f"  {row['kv_reads']}×  ({when}: {row['tile']}, {row['tensor_core_path']})",
                va="center",
                fontsize=9,
            )
    ax.set_yticks([2.3 * i + 0.5 for i in range(len(layers))], layers, fontsize=9)
    ax.set_ylim(2.3 * len(layers) - 0.6, -0.9)
    ax.set_xlim(0, table["kv_reads"].max() * 1.6)
    ax.set_xlabel("times that the blocks of new tokens read one key or value, at most")
    claim(ax, title, compile_time_words(subtitle))
    plt.close(fig)
    return fig

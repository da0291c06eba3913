"""Notebook 01: the crash beside the release's kernel, Gemma 4's layers, and an explorer of single compiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import GEMMA4_LAYERS, INCIDENT_CHOICE
from helpers.attention.tiles import TileConfig, parse_tile
from helpers.compiler.report import Evidence
from helpers.hardware import get_arch
from helpers.show.plots import plot_registers
from helpers.show.reports import counts_frame
from helpers.show.verdicts import words_in_sentence
from helpers.workbook.explorer.choices import (
    INGREDIENT_FIELDS,
    choice_controls,
    choice_of,
    is_final,
    one_line,
    verdict_html,
)
from helpers.workbook.explorer.frame import ExplorerFrame, View
from helpers.workbook.explorer.on_page import OnPage, choice_command, choice_words, knobs_of
from helpers.workbook.explorer.pictures import kept_drawing, reports_key
from helpers.workbook.explorer.recorded_choices import (
    REGISTERS,
    compile_answer,
    recorded_compiles,
    recorded_settings,
)
from helpers.workbook.explorer.work import Work

if TYPE_CHECKING:
    import ipywidgets as w
    import pandas as pd

COMPILE_FIELDS = (
    "arch",
    "head_dim",
    "kv_dtype",
    "window",
    "tile",
    "num_warps",
    "num_stages",
    "triton",
    "ptxas",
    *INGREDIENT_FIELDS,
)


DIFFERENCE, AGREE = "difference, bytes", "both die, or neither"


def compile_view(base: Choice, state: dict, work: Work) -> View:
    """The view of one configuration: compiled, or recorded where its toolchain is missing."""
    choice = choice_of(base, state)
    evidence = work.compile_one(choice)
    report = evidence.report
    return View(
        verdict=verdict_html(evidence),
        title=one_line(report),
        command=choice.command(),
        drawing=kept_drawing(
            partial(plot_registers, [evidence], report.verdict(), labels=[report.arch]),
            figure="registers",
            reports=reports_key([evidence]),
        ),
        choice=choice,
        data=evidence,
        final=is_final([evidence]),
    )


def explorer(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """An explorer of single compiles that starts at `choice` (default: the incident); `view.data` is the Evidence."""
    return ExplorerFrame(
        "compile",
        choice_controls(choice, COMPILE_FIELDS),
        lambda state, work: compile_view(choice, state, work),
        page=lambda controls: compile_page(choice, controls),
    )


def compile_page(base: Choice, controls: Mapping[str, w.Dropdown]) -> dict:
    """The recorded compiles around `base` for a page without a kernel."""
    knobs = knobs_of(controls, choice_words(base, controls))
    found = {key: compile_answer(evidence) for key, evidence in recorded_compiles().items()}
    return OnPage(
        name="compile",
        title="One compile of the kernel: choose its configuration",
        knobs=knobs,
        answers=dict(recorded_settings(base, knobs, found)),
        command=choice_command(base, list(controls)),
        scale=REGISTERS,
    ).payload()


def against_reference(evidence: Sequence[Evidence], reference: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """This project's kernel beside the release kernel's recorded rows, in the same order, with the difference in bytes.

    `names` are the rows' names. The last column compares crash with crash: the claim under test. Raises ValueError when
    the rows do not pair up.
    """
    rows = []
    for name, item, ref in zip(names, evidence, reference.to_dict("records"), strict=True):
        report = item.report
        if f"hd{ref['head_dim']} {ref['kv_dtype']}" not in report.label or ref["tile"] not in report.label:
            raise ValueError(f"row {report.label!r} is compared with {ref}")
        crash_there = ref["status"] == "register_exhausted"
        spill_there = None if crash_there else int(ref["spill_store_bytes"])
        spill_here = report.spill_store_bytes
        rows.append(
            {
                "configuration": name,
                "0.5.10 kernel (recorded)": words_in_sentence(
                    {**ref, "ptxas_code": ref["note"] if crash_there else None}
                ),
                "this kernel": words_in_sentence(report),
                DIFFERENCE: None if spill_there is None or spill_here is None else spill_here - spill_there,
                AGREE: crash_there == report.crashed,
            }
        )
    return counts_frame(rows)


def layers_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A `layer_table` for a reader: outcomes in words, headings that say what they count."""
    names = {
        "layer": "kind of layer",
        "layers": "how many",
        "head_dim": "head dim",
        "kv_dtype": "cache",
        "tile": "tile, queries x keys",
        "outcome": "outcome",
        "tensor_core_path": "tensor cores by",
        "evidence": "evidence",
    }
    return table[list(names)].rename(columns=names)


def choice_tile(choice: Choice) -> TileConfig:
    """The tile a choice comes to on its arch."""
    return parse_tile(choice.tile, capability=get_arch(choice.arch).capability, head_dim=choice.head_dim)


def layer_table(evidence: Sequence[Evidence], choices: Sequence[Choice]) -> pd.DataFrame:
    """One row a Gemma 4 layer kind and KV dtype: how many layers, the tile, and ptxas's verdict."""
    counts = {layer.shape.head_dim: layer for layer in GEMMA4_LAYERS}
    return counts_frame(
        [
            {
                "layer": counts[choice.head_dim].shape.name,
                "layers": counts[choice.head_dim].count,
                "head_dim": choice.head_dim,
                "kv_dtype": choice.kv_dtype,
                "tile": str(choice_tile(choice)),
                "status": item.report.status,
                "outcome": words_in_sentence(item.report),
                "regs_per_thread": item.report.regs_per_thread,
                "spill_store_bytes": item.report.spill_store_bytes,
                "tensor_core_path": item.report.tensor_core_path,
                "evidence": "live" if item.live else "recorded",
            }
            for item, choice in zip(evidence, choices, strict=True)
        ]
    )


def reference_findings(table: pd.DataFrame) -> dict[str, int]:
    """Of an `against_reference` table: how many `rows` there are, and in how many the verdicts `agree`.

    `least` and `most` are the differences in bytes of spill stores, over the rows where both kernels compile.
    """
    differences = table[DIFFERENCE].dropna()
    return {"rows": len(table), "agree": int(table[AGREE].sum()), "least": int(differences.min()),
            "most": int(differences.max())}  # fmt: skip


def dying_layers(table: pd.DataFrame) -> dict[str, object]:
    """Of a `layer_table`: how many `layers` die, and the head dims and KV dtypes of those that do."""
    dead = table[table["status"] == "register_exhausted"]
    return {"layers": int(dead["layers"].sum()), "head_dims": set(dead["head_dim"]), "kv_dtypes": set(dead["kv_dtype"])}

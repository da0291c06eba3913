"""Controls for the fields of a Choice, and the words that every explorer of compiles says about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import ipywidgets as w

from helpers.attention.choice import Choice
from helpers.attention.shapes import HEAD_DIMS, KV_DTYPES
from helpers.attention.spec import CHOICES
from helpers.compiler.report import EXPLANATIONS, CompileReport, Evidence
from helpers.compiler.toolchain import BUNDLED, installed_ptxas, installed_tritons
from helpers.hardware import ARCHS
from helpers.show.html import banner, facts_html
from helpers.workbook.explorer.frame import drop

if TYPE_CHECKING:
    import pandas as pd

TILES = (
    "auto",
    "hopper",
    "sm100",
    "16x64",
    "32x32",
    "32x64",
    "64x32",
    "64x64",
    "64x128",
    "128x32",
    "128x64",
    "128x128",
)
INGREDIENT_FIELDS = tuple(CHOICES)
MEANS = {
    "arch": "The chip that the kernel is compiled for, by its name in ptxas.",
    "head_dim": "How many numbers a query, a key or a value has in one attention head.",
    "kv_dtype": "The type in which the cache holds the keys and values of earlier tokens.",
    "window": "How many tokens back a query may look; none means back to the first.",
    "tile": "How many queries by how many keys one CTA works on at once; a name picks the tile of a table.",
    "num_warps": "How many warps of 32 threads share the work, and the registers, of one CTA.",
    "num_stages": "In how many stages Triton overlaps loading with computing; 1 is no overlap.",
    "triton": "The release of Triton that writes the PTX.",
    "ptxas": "The release of NVIDIA's assembler that turns the PTX into a binary.",
    "tile_skip": "How a tile without visible keys is left out: by a branch inside the loop, or by the loop's bounds.",
    "accumulate": "Whether a product is added to the accumulator in a separate step, or by the multiplication itself.",
    "kv_operands": "Whether fp8 keys and values are multiplied as they are stored, or turned into 16 bits first.",
    "q_cast": "Where the query is turned into the cache's type: in every tile, or once before the loop.",
    "v_scale": "Whether each product with the values is multiplied by the cache's scale.",
    "figure": "What is drawn: the registers needed along the PTX, or the instructions that move many at once.",
    "after": "Which later table of tiles stands beside the one of the crash.",
    "tile_table": "Which table of tiles the case takes its tile from.",
    "mask": "Which tokens a custom mask covers; none means that there is no such mask.",
    "option": "Shows only the cases in which this part of attention is switched on.",
    "case": "The attention layer and the lengths that were timed.",
    "variants": "Shows only the kernels whose name begins like this.",
    "metric": "The number that the bars show.",
}
"""What each control of an explorer means, in a sentence: its tooltip in JupyterLab, its explanation in a page."""


def _same(values: Sequence[object]) -> list[tuple[str, object]]:
    return [(str(v), v) for v in values]


def choice_controls(choice: Choice, names: Sequence[str]) -> dict[str, w.Dropdown]:
    """Drop-down lists, in this order, for the named fields of Choice, set to what `choice` has."""
    options = {
        "arch": lambda: [(f"{a.name} ({a.product.split(' / ')[0]})", a.name) for a in ARCHS.values()],
        "head_dim": lambda: _same(HEAD_DIMS),
        "kv_dtype": lambda: _same(KV_DTYPES),
        "window": lambda: [("none", None), *_same((512, 1024, 4096))],
        "tile": lambda: _same(TILES),
        "num_warps": lambda: [("as the engine", None), *_same((4, 8, 16))],
        "num_stages": lambda: [("1 (as the engine)", None), *_same((2, 3))],
        "triton": lambda: _same(installed_tritons()),
        "ptxas": lambda: [("bundled", BUNDLED), *_same(installed_ptxas())],
        **{name: (lambda values=values: _same(values)) for name, values in CHOICES.items()},
    }
    labels = {"head_dim": "head dim", "kv_dtype": "KV dtype", "triton": "Triton", "num_warps": "num_warps",
              "num_stages": "num_stages"}  # fmt: skip
    return {
        name: drop(labels.get(name, name.replace("_", " ")), options[name](), getattr(choice, name), MEANS[name])
        for name in names
    }


def choice_of(base: Choice, state: Mapping[str, object]) -> Choice:
    """`base` with every field of Choice that `state` has."""
    return replace(base, **{name: value for name, value in state.items() if hasattr(base, name)})


def status_banner(report: CompileReport) -> str:
    """The status of a report with its explanation, in its colour."""
    return banner(report.status, status_words(report))


def status_words(report: CompileReport) -> str:
    """The status of a report and what it means."""
    return f"{report.status}: {EXPLANATIONS[report.status]}"


def evidence_words(evidence: Evidence) -> str:
    """Where a report comes from, and what it took."""
    report = evidence.report
    return f"{evidence.source}{', cached' if report.cached else ''} ({report.wall_s:.1f} s to compile)"


def verdict_html(evidence: Evidence) -> str:
    """The verdict and the numbers of one compile as a small HTML block; all text escaped."""
    return status_banner(evidence.report) + facts_html(report_rows(evidence))


def report_rows(evidence: Evidence) -> dict[str, object]:
    """The numbers of one compile by name, for `facts_html`."""
    report = evidence.report
    return {
        "spec": report.label,
        "toolchain": f"Triton {report.triton_version}, ptxas {report.ptxas_version or 'not reached'}",
        "ptxas": report.verdict(),
        "registers": _registers_words(report),
        "memory": _memory_words(report),
        "tensor cores": report.tensor_core_path if report.instructions else None,
        "message": report.message[:400],
        "evidence": evidence_words(evidence),
    }


def _registers_words(report: CompileReport) -> str | None:
    """What ptxas counted for a kernel that compiled and cannot be launched; the verdict tells that of the others."""
    if report.status != "out_of_shared_memory" or report.regs_per_thread is None:
        return None
    return (
        f"{report.regs_per_thread} registers, {report.spill_store_bytes} B spill stores, were there room to launch it"
    )


def _memory_words(report: CompileReport) -> str | None:
    if report.smem_bytes is None:
        return None
    return f"{report.smem_bytes} B shared memory per CTA, {report.tmem_columns or 0} tensor-memory columns"


def one_line(report: CompileReport) -> str:
    """A report in one line of plain words."""
    return f"{report.label} on {report.arch}, Triton {report.triton_version}: {report.verdict()}"


def is_final(evidence: Sequence[Evidence]) -> bool:
    """Whether these reports will be the same next time: not those of a timeout, a killed ptxas, an ill machine …"""
    passing = ("toolchain_missing", "timeout", "ptxas_signal", "environment_error")
    return all(e.report.status not in passing for e in evidence)


ANY = "any"


def values_of(table: pd.DataFrame, column: str) -> list[tuple[str, object]]:
    found = sorted(table[column].dropna().unique(), key=str if table[column].dtype.kind not in "if" else None)
    return [(ANY, ANY), *((str(v), v) for v in found)]

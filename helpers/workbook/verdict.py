"""The workbook's verdict: is the crash reproduced, and what does the merged row change; computed, never remembered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.attention.studies.incident import GEMMA4_LAYERS, INCIDENT_CHOICE, gemma4_choices
from helpers.workbook.evidence import compile_choices, compile_one, evidence_line
from helpers.workbook.reproduce_the_crash import layer_table, layers_in_words

if TYPE_CHECKING:
    import pandas as pd

    from helpers.attention.choice import Choice


@dataclass(frozen=True)
class Verdict:
    """`lines`: two sentences. `table`: Gemma 4's layers before and after. `reproduced`: the crash was, in this run."""

    lines: list[str]
    table: pd.DataFrame
    reproduced: bool
    evidence: str


def _words(choice: Choice) -> str:
    """A configuration as a reader says it, without the short label of tables."""
    spec = choice.request().spec
    sizes = dict(spec.constexprs)
    tile = f"{sizes['BLOCK_M']} queries by {sizes['BLOCK_N']} keys"
    window = f", window {choice.window:,}" if choice.window else ""
    return f"head dim {choice.head_dim}, {choice.kv_dtype} cache{window}, {tile}, {spec.num_warps} warps"


def workbook_verdict() -> Verdict:
    """The verdict from compiles of this machine (or its cache); recorded rows stand in where a toolchain is missing."""
    import pandas as pd

    incident = compile_one(INCIDENT_CHOICE)
    before_choices, after_choices = gemma4_choices(tile="hopper"), gemma4_choices(tile="sm100")
    before, after = compile_choices(before_choices), compile_choices(after_choices)
    report = incident.report
    if report.crashed:
        how = "Crash reproduced" if incident.live else "Crash not run here (its toolchain is missing), but recorded"
        toolchain = f"Triton {report.triton_version}, ptxas {report.ptxas_version}"
        first = f"{how}: the kernel of the sliding layers ({_words(INCIDENT_CHOICE)}) dies on {report.arch} with "
        first += f"{report.ptxas_code}, under {toolchain}."
    else:
        first = f"Crash NOT reproduced: {report.label} on {report.arch} gave {report.verdict()}: {report.message[:160]}"
    table_before, table_after = layer_table(before, before_choices), layer_table(after, after_choices)
    count = {layer.shape.head_dim: layer.count for layer in GEMMA4_LAYERS}
    total = sum(count.values())
    fp8 = [
        (c, b.report, a.report)
        for c, b, a in zip(before_choices, before, after, strict=True)
        if c.kv_dtype.startswith("fp8")
    ]
    died = sum(count[c.head_dim] for c, b, _ in fp8 if b.crashed)
    alive = sum(count[c.head_dim] for c, _, a in fp8 if a.compiled)
    spilled = sum(b.spill_store_bytes or 0 for _, b, _ in fp8)
    second = (
        f"The merged row: with an fp8 cache, layers whose kernel dies go from {died} of {total} to {total - alive}; "
        f"spill stores of those that compiled before go from {spilled} B to "
        f"{sum(a.spill_store_bytes or 0 for _, b, a in fp8 if b.compiled)} B."
    )
    parts = {"before the fix": table_before, "after the fix": table_after}
    table = pd.concat([layers_in_words(part).assign(tiles=when) for when, part in parts.items()], ignore_index=True)
    table = table[["tiles", *(name for name in table if name not in ("tiles", "head dim", "evidence"))]]
    return Verdict([first, second], table, report.crashed and incident.live, evidence_line([incident, *before, *after]))

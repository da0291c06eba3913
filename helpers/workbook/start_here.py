"""Notebook 00: the cures of the incident's kernel side by side, each compiled, with what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.attention.tiles import parse_tile
from helpers.compiler.report import Evidence
from helpers.hardware import get_arch
from helpers.workbook.evidence import compile_choices

if TYPE_CHECKING:
    import pandas as pd

NEW_TOKENS = 4096
NEWER_TRITON = "3.7.1"
CURES: dict[str, tuple[Choice, str]] = {
    "none: the incident": (INCIDENT_CHOICE, "nothing"),
    "half the rows": (replace(INCIDENT_CHOICE, tile="sm100"), "one row in the engine's table of tiles"),
    "loop bounds and fused accumulation": (
        replace(INCIDENT_CHOICE, tile_skip="bounds", accumulate="fused"),
        "the kernel's source",
    ),
    "a newer compiler": (replace(INCIDENT_CHOICE, triton=NEWER_TRITON), f"Triton {INCIDENT_CHOICE.triton} becomes "
                         f"{NEWER_TRITON}, with its own ptxas"),
}  # fmt: skip
"""By name: the configuration with that cure, and what has to be changed for it."""


def reads_of_each_key(choice: Choice, new_tokens: int = NEW_TOKENS) -> int:
    """How often a prefill of so many new tokens reads a key or value at most: once for each block of rows.

    Every block sees all keys of a prefix without a window. A window or causality hides some keys from some blocks.
    """
    tile = parse_tile(choice.tile, capability=get_arch(choice.arch).capability, head_dim=choice.head_dim)
    return math.ceil(new_tokens / tile.block_m)


def compile_cures() -> list[Evidence]:
    """The incident and its cures compiled, in the order of `CURES`."""
    return compile_choices([choice for choice, _ in CURES.values()])


def cures_table(compiled: Sequence[Evidence]) -> pd.DataFrame:
    """The incident and its cures: what changes, what ptxas says, what it costs; takes what `compile_cures` gives."""
    import pandas as pd

    rows = []
    for (name, (choice, changes)), item in zip(CURES.items(), compiled, strict=True):
        rows.append(
            {
                "cure": name,
                "what changes": changes,
                "per thread": item.report.verdict(),
                "reads of a key or value, at most": reads_of_each_key(choice),
            }
        )
    return pd.DataFrame(rows)

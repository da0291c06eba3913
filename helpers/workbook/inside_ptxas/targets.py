"""How many registers ptxas aims for: fewer than it may, in some launches, and more where it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.report import Evidence
from helpers.hardware import REGISTERS_PER_SM, WARP_SIZE, cap_for

if TYPE_CHECKING:
    import pandas as pd

TARGET_WARPS = (4, 8, 16)


def target_choices(base: Choice = INCIDENT_CHOICE) -> list[Choice]:
    """The kernel with 4, 8 and 16 warps, each as ptxas chooses and then with the cap named as the target."""
    return [
        replace(base, num_warps=warps, maxnreg=named)
        for warps in TARGET_WARPS
        for named in (None, cap_for(num_warps=warps))
    ]


def ctas_that_fit(registers: int, warps: int) -> int:
    """How many CTAs of so many warps the register file of one multiprocessor holds at so many registers a thread."""
    return REGISTERS_PER_SM // (registers * warps * WARP_SIZE)


def target_table(choices: Sequence[Choice], compiled: Sequence[Evidence]) -> pd.DataFrame:
    """What a thread may have and what ptxas took, a row a launch; numbers are None where it died."""
    import pandas as pd

    rows = [
        {
            "warps": choice.num_warps,
            "allowed, registers per thread": cap_for(num_warps=choice.num_warps),
            "target": "chosen by ptxas" if choice.maxnreg is None else f"named: {choice.maxnreg}",
            "used, registers per thread": item.report.regs_per_thread,
            "spill stores, bytes per thread": item.report.spill_store_bytes,
            "outcome": item.report.verdict() if not item.report.compiled else "compiles",
        }
        for choice, item in zip(choices, compiled, strict=True)
    ]
    return pd.DataFrame(rows).convert_dtypes()

"""The recorded rows of other compilers (data/front_ends.csv) as tables, findings and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.hardware import get_arch
from helpers.show.style import claim, status_colour, use_house_style
from helpers.show.verdicts import verdict_symbol

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LANGUAGES = ("Triton", "Gluon", "CuTe DSL", "cuTile")
_SHOWN = {
    "front_end": "language", "kernel": "kernel", "arch": "chip", "tile": "tile", "status": "verdict",
    "regs_per_thread": "registers", "stack_frame_bytes": "stack frame, B", "spill_store_bytes": "spill stores, B",
    "tensor_core_path": "tensor cores",
}  # fmt: skip

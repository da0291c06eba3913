"""Reports and rows as pandas tables, in the order and with the names people compare by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from helpers.compiler.report import CompileReport

if TYPE_CHECKING:
    import pandas as pd

SHORT_COLUMNS = (
    "label", "arch", "triton_version", "ptxas_version", "status", "regs_per_thread", "spill_store_bytes",
    "spill_load_bytes", "smem_bytes", "tensor_core_path", "ptxas_code",
)  # fmt: skip
_WHOLE_NUMBERS = (
    "num_warps", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes", "smem_bytes",
    "tmem_columns", "barriers", "register_count_asked", "ptx_lines",
)  # fmt: skip


def report_row(report: CompileReport) -> dict:
    """One report as a flat row: the fields, with `instructions` spread into `n_…` columns."""
    row = report.to_dict()
    counts = row.pop("instructions")
    return {**row, **{f"n_{name}": counts.get(name) for name in sorted(counts)}}


def reports_table(reports: Iterable[CompileReport], columns: Sequence[str] | None = SHORT_COLUMNS) -> pd.DataFrame:
    """A table, one row a report; all columns when `columns` is None. Whole numbers stay whole where some are missing."""
    import pandas as pd

    table = pd.DataFrame([report_row(r) for r in reports])
    for name in _WHOLE_NUMBERS:
        if name in table:
            table[name] = table[name].astype("Int64")
    return table if columns is None or table.empty else table[[c for c in columns if c in table]]

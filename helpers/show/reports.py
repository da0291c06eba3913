"""Reports and rows as pandas tables, in the order and with the names people compare by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from helpers.compiler.report import CompileReport
from helpers.hardware import get_arch
from helpers.inspection.binary.occupancy import occupancy

if TYPE_CHECKING:
    import pandas as pd

SHORT_COLUMNS = (
    "label", "arch", "triton_version", "ptxas_version", "status", "regs_per_thread", "spill_store_bytes",
    "spill_load_bytes", "smem_bytes", "tensor_core_path", "ptxas_code",
)  # fmt: skip
AMD_COLUMNS = ("vgprs", "agprs", "sgprs", "scratch_bytes", "vgpr_spills", "sgpr_spills", "lds_bytes", "waves_per_simd")
_WHOLE_NUMBERS = (
    *AMD_COLUMNS,
    "num_warps", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes", "smem_bytes",
    "tmem_columns", "barriers", "register_count_asked", "ptx_lines",
)  # fmt: skip


def report_row(report: CompileReport) -> dict:
    """One report as a flat row: the fields, those of an AMD chip too, with `instructions` spread into `n_…` columns."""
    row = report.to_dict()
    counts, amd = row.pop("instructions"), row.pop("amd") or {}
    return {**row, **amd, **{f"n_{name}": counts.get(name) for name in sorted(counts)}}


def reports_table(reports: Iterable[CompileReport], columns: Sequence[str] | None = SHORT_COLUMNS) -> pd.DataFrame:
    """A table, one row a report; all columns when `columns` is None. Whole numbers stay whole.

    Columns of NVIDIA's or AMD's figures that no row has are left out of the short form.
    """
    import pandas as pd

    reports = list(reports)
    if columns is SHORT_COLUMNS and any(r.amd for r in reports):
        theirs = SHORT_COLUMNS[3:4] + SHORT_COLUMNS[5:9] + SHORT_COLUMNS[10:]
        own = (*SHORT_COLUMNS[:5], *AMD_COLUMNS, *SHORT_COLUMNS[5:])
        columns = [c for c in own if c not in theirs] if all(r.amd for r in reports) else own
    table = pd.DataFrame([report_row(r) for r in reports])
    for name in table:
        if name in _WHOLE_NUMBERS or name.startswith("n_"):
            table[name] = table[name].astype("Int64")
    return table if columns is None or table.empty else table[[c for c in columns if c in table]]


def counts_frame(rows: list[dict]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows)
    for name in table:
        values = [row[name] for row in rows if row[name] is not None]
        if values and all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            table[name] = table[name].astype("Int64")
    return table


def ctas_per_sm(report: CompileReport) -> int | None:
    """How many CTAs of a compiled kernel fit one SM of its arch; None where there is no binary."""
    if not report.compiled:
        return None
    if report.regs_per_thread is None or report.smem_bytes is None or report.num_warps is None:
        return None
    return occupancy(
        regs_per_thread=report.regs_per_thread,
        smem_bytes=report.smem_bytes,
        num_warps=report.num_warps,
        tmem_columns=report.tmem_columns or 0,
        limits=get_arch(report.arch),
    ).ctas_per_sm

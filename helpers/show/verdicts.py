"""Verdicts in few words and in colour, and grids of them."""

from __future__ import annotations

from typing import Any

from helpers.compiler.report import COMPILED, CompileReport
from helpers.show.style import FAILED_MARK


def matrix_words(row: dict) -> str:
    if row["status"] in COMPILED:
        return f"{int(row['spill_store_bytes'])} B"
    if row["status"] == "register_exhausted":
        return str(row["ptxas_code"])
    if row["status"] == "unsupported_ptx_version":
        return f"cannot read {row['ptx_version']}"
    return str(row["status"]).replace("_", " ")


def failure_words(report: CompileReport) -> str:
    words = {"register_exhausted": report.ptxas_code or "exhausted", "out_of_shared_memory": "shared\nmemory",
             "out_of_tensor_memory": "tensor\nmemory", "trapped": "trap"}  # fmt: skip
    return f"{FAILED_MARK} {words.get(report.status, report.status.replace('_', chr(10)))}"


def short_words(report: CompileReport) -> str:
    if report.compiled:
        return f"{report.spill_store_bytes:,} B of spill stores" if report.spill_store_bytes else "no spills"
    return f"fatal {report.ptxas_code}" if report.crashed else report.status.replace("_", " ")


# Words for failures that are not the compiler's registers; the launch or the target fails.
_FAILURE_WORDS = {"out_of_shared_memory": "smem", "out_of_tensor_memory": "tmem", "trapped": "trap",
                  "unsupported_target": "target", "toolchain_missing": "absent"}  # fmt: skip


def whole_number(value: Any) -> int | None:
    return None if value is None or value != value else int(value)


def cell_words(row: dict) -> str:
    """What a cell says: registers when it is spill-free, `1008 B` of spill stores, `✕ C7600`, or another failure."""
    if row["status"] == "ok":
        return str(whole_number(row["regs_per_thread"]))
    if row["status"] == "spills":
        return f"{whole_number(row['spill_store_bytes'])} B"
    code = row.get("ptxas_code")
    if row["status"] == "register_exhausted":
        return f"{FAILED_MARK} {code if isinstance(code, str) else 'registers'}"
    return f"{FAILED_MARK} {_FAILURE_WORDS.get(row['status'], row['status'].replace('_', ' '))}"


def family_words(row: dict) -> str:
    if row["status"] in COMPILED:
        return f"compiles, {row['spill_store_bytes']:.0f} B of spill stores"
    if row["status"] == "register_exhausted":
        return f"dies, {row['ptxas_code']}"
    return str(row["status"]).replace("_", " ")

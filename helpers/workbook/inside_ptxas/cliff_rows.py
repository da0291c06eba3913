"""The recorded rows of the cliff map: what ptxas said of each cell, and the demand along each cell's PTX."""

from __future__ import annotations

from functools import lru_cache

from helpers.compiler.report import CompileReport
from helpers.errors import MachineError, UserError
from helpers.inspection.ptx.scan import TENSOR_CORE_PATHS
from helpers.recorded import provenance, read_rows

ASKED = ("arch", "head_dim", "kv_dtype", "window", "tile", "num_warps", "triton")
"""The fields of `Choice` that tell one recorded cell from another, in the order of its key."""


@lru_cache(maxsize=1)
def recorded_reports() -> tuple[dict[tuple, CompileReport], str]:
    """(reports by what was asked, their provenance); nothing where the file is not there."""
    try:
        table = read_rows("cliff_map")
    except MachineError:
        raise
    except UserError:
        return {}, ""
    found = {}
    whole = ("window", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "smem_bytes", "tmem_columns")
    for raw in table.to_dict("records"):
        row = {k: (None if v != v else v) for k, v in raw.items()}
        row |= {k: int(row[k]) for k in whole if row[k] is not None}
        key = tuple(row.pop(k) for k in ASKED)
        path = row.pop("tensor_core_path")
        counts = {TENSOR_CORE_PATHS.get(path, "other"): 1}
        row["message"] = row["message"] or ""
        label = f"hd{key[1]} {key[2]} {key[4]} w{key[5]}"
        found[key] = CompileReport(
            **row, arch=key[0], triton_version=key[-1], num_warps=key[5], label=label, instructions=counts
        )
    return found, provenance(table)


@lru_cache(maxsize=1)
def recorded_profiles() -> tuple[dict[tuple, dict], str]:
    """(facts by what was asked, their provenance): those of `pressure_facts`, and `profile`, one number a part.

    `lines` are (line of the kernel, registers). Nothing where the file is not there.
    """
    try:
        table = read_rows("cliff_profiles")
    except MachineError:
        raise
    except UserError:
        return {}, ""
    found = {}
    for raw in table.to_dict("records"):
        row = {k: (None if v != v else v) for k, v in raw.items()}
        row["window"] = None if row["window"] is None else int(row["window"])
        key = tuple(row.pop(name) for name in ASKED)
        row["profile"] = tuple(int(n) for n in str(row["profile"] or "").split())
        row["lines"] = [tuple(map(int, pair.split(":"))) for pair in str(row["lines"] or "").split()]
        found[key] = row
    return found, provenance(table)

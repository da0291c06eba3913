"""The recorded rows of the cliff map: what ptxas said of each cell, and the demand along each cell's PTX."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

from helpers.attention.choice import Choice
from helpers.compiler.report import CompileReport
from helpers.errors import MachineError, UserError
from helpers.recorded import provenance, read_rows
from helpers.workbook.explorer.recorded_choices import report_of_row

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
    for row in table.to_dict("records"):
        asked = _asked(row)
        found[tuple(asked.values())] = report_of_row(row, Choice(**asked))
    return found, provenance(table)


def _asked(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """What a row was asked, by field of `Choice`."""
    asked: dict[str, Any] = {name: row[name] for name in ASKED}
    window = asked["window"]
    return asked | {"window": None if window != window else int(window)}


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
        row: dict[str, Any] = {str(k): (None if v != v else v) for k, v in raw.items() if k not in ASKED}
        row["profile"] = tuple(int(n) for n in str(row["profile"] or "").split())
        row["lines"] = [tuple(map(int, pair.split(":"))) for pair in str(row["lines"] or "").split()]
        found[tuple(_asked(raw).values())] = row
    return found, provenance(table)

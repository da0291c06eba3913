"""Cross the incident's stages between releases of Triton and write data/crossing.csv, a cell a row.

    python benchmarks/record_crossing.py

`register-cliff cross` on the incident, for the releases below that are here; without a cache 143 s of CPU
and 96 s by the clock on two idle cores, of which 58 s of CPU are what Triton 3.9.0 spends between TTGIR and LLIR, 13 of
14 s each time in LLVM's optimiser. `--turns-only` crosses what the answer rests on: 47 s of CPU, 29 s by the clock.
"""

from __future__ import annotations

import datetime
import platform
import sys

from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.toolchain import installed_tritons
from helpers.files import write_text_atomically
from helpers.recorded import DATA
from helpers.search.cross import Crossed, cross
from helpers.search.cross_answer import crossed_dict

RECORDED = "crossing"
RELEASES = ("3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.9.0")


def rows_of(found: Crossed) -> list[dict]:
    """One row a cell: who made the text, who went on, and how it ended; the releases' own compiles as well."""
    result = crossed_dict(found)
    told = {r["release"]: r for r in result["releases"]}
    rows = []
    for cell in result["cells"]:
        reader = told[cell["done_by"]]
        rows.append({
            "step": cell["step"], "text_by": cell["text_by"], "done_by": cell["done_by"],
            "status": cell["status"] or ("cannot_read" if cell["unreadable"] else "no_text"),
            "ptxas_code": cell["ptxas_code"], "regs_per_thread": cell["regs_per_thread"],
            "spill_store_bytes": cell["spill_store_bytes"], "llvm_release": reader["llvm_release"],
            "llvm_revision": reader["llvm_revision"], "ptxas": reader["ptxas"],
            "changed_first": "; ".join(cell["adjustments"]), "unreadable": cell["unreadable"],
        })  # fmt: skip
    return rows


def main() -> int:
    """Write the rows; 1 when a release was missing."""
    import pandas as pd

    here = [v for v in RELEASES if v in installed_tritons()]
    if missing := [v for v in RELEASES if v not in here]:
        print(f"not here: {', '.join(missing)}", file=sys.stderr)
    table = pd.DataFrame(rows_of(cross(INCIDENT_CHOICE.request().spec, INCIDENT_CHOICE.arch, versions=here)))
    for name in ("regs_per_thread", "spill_store_bytes"):
        table[name] = table[name].astype("Int64")
    head = (
        f"# {len(table)} cells by `python benchmarks/record_crossing.py` on {datetime.date.today()}: the incident spec "
        f"for sm_100a, Triton {', '.join(here)}, {platform.system()} {platform.machine()}, no GPU; compile-time only.\n"
        "# The text that enters `step` was made by `text_by`; `done_by` does this step and all after it, under its own "
        "ptxas and flags. `llvm_release`, `llvm_revision` and `ptxas` are of `done_by`.\n"
    )
    write_text_atomically(DATA / f"{RECORDED}.csv", head + table.to_csv(index=False))
    print(pd.crosstab([table["step"], table["text_by"]], table["status"]).to_string())
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())

"""Measure the demand on registers along the PTX of every cell of the register cliff map: data/cliff_profiles.csv.

    python benchmarks/record_cliff_profiles.py

The exported pages show it where a cell is chosen. Needs Triton 3.5.1; ten minutes cold on two cores, a few minutes from
the cache. It is a reading of text: nothing is run on a GPU, and ptxas has no part in it. Rows hold no paths.
"""

from __future__ import annotations

import datetime
import platform
import sys
from pathlib import Path

import helpers as rc
from helpers.attention.studies.cliff_map import cliff_choices, recorded_maps
from helpers.files import write_text_atomically
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.recorded import DATA
from helpers.workbook.inside_ptxas.cliff_rows import ASKED
from helpers.workbook.inside_ptxas.demand import pressure_facts

PARTS = 64
"""A profile has this many numbers: the highest demand in each of as many parts of the text."""


def profile_of(ptx: str) -> list[int]:
    """The highest demand in each of PARTS parts of the text, equal in instructions; [] where there is none to count."""
    profile = pressure_profile(ptx)
    points = profile.points if profile else ()
    highest = [0] * PARTS
    for number, (_, registers) in enumerate(points):
        part = number * PARTS // len(points)
        highest[part] = max(highest[part], int(registers))
    return highest if any(highest) else []


def row_of(choice: rc.Choice, ptx: str) -> dict:
    """One cell as a row: what was asked, the telling numbers, the profile."""
    facts = pressure_facts(ptx)
    return {
        **{name: getattr(choice, name) for name in ASKED},
        "ptx_lines": ptx.count("\n"),
        "demand": facts["demand"],
        "cap": facts["cap"],
        "estimate": facts["estimate"],
        "peak": facts["peak"],
        "held": facts["held"],
        "wide": facts["wide"],
        "lines": " ".join(f"{line}:{registers}" for line, registers, _ in facts["lines"]),
        "profile": " ".join(str(n) for n in profile_of(ptx)),
    }


def main() -> int:
    """Write the rows; 1 when a cell left no PTX, for then there would be a gap."""
    import pandas as pd

    choices = [cell for base in recorded_maps() for cell in cliff_choices(base)]
    reports = rc.compile_matrix([c.request() for c in choices])
    rows = []
    for choice, report in zip(choices, reports, strict=True):
        if not report.ptx_path:
            print(f"not recorded: {report.label}: {report.verdict()}", file=sys.stderr)
            return 1
        rows.append(row_of(choice, Path(report.ptx_path).read_text()))
        print(f"{len(rows)}/{len(choices)} {report.label} {report.arch}", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    table["window"] = table["window"].astype("Int64")
    head = (
        f"# {len(table)} texts by `python benchmarks/record_cliff_profiles.py` on {datetime.date.today()}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; counted from the PTX alone.\n"
    )
    write_text_atomically(DATA / "cliff_profiles.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compile the extend kernel for AMD's chips with the engine's tiles and write data/amd_extend.csv; no GPU is needed.

    python benchmarks/record_amd.py [--triton 3.5.1,3.6.0,3.7.1,3.8.0,3.9.0]

About ten minutes cold on two cores. Each row's figures are read from the assembly and compared with the note in the
binary (`note_agrees`). The last rows of gfx950 are sglang #34741: head dim 576 with values of 512, by both its tiles.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys

from helpers.attention.studies.amd_audit import AMD_TRITONS, amd_choices, amd_row
from helpers.compiler.compile import compile_matrix
from helpers.files import write_text_atomically
from helpers.recorded import DATA
from helpers.show.reports import AMD_COLUMNS


def main() -> int:
    """Write the rows; exit code 1 where a binary's note says otherwise than its assembly."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triton", default=",".join(AMD_TRITONS), help="Triton versions, comma-separated")
    asked = amd_choices(tritons=parser.parse_args().triton.split(","))
    reports = compile_matrix([choice.request() for choice in asked])
    rows = [amd_row(choice, report) for choice, report in zip(asked, reports, strict=True)]
    table = pd.DataFrame(rows)
    table[[*AMD_COLUMNS, "mfma"]] = table[[*AMD_COLUMNS, "mfma"]].astype("Int64")
    head = (
        f"# {len(table)} compiles of the extend kernel for AMD's chips by `python benchmarks/record_amd.py` on "
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, no GPU; compile-time only.\n"
    )
    write_text_atomically(DATA / "amd_extend.csv", head + table.to_csv(index=False))
    print(table.groupby(["arch", "triton"])["status"].value_counts().unstack(fill_value=0).to_string())
    return int(any(row["note_agrees"] is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())

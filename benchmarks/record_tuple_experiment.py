"""Split and join the wide tensor-memory moves of the crash's PTX, assemble every edit, write data/tuple_experiment.csv.

    python benchmarks/record_tuple_experiment.py

The three Tritons whose PTX dies, each under every ptxas on this machine that reads it; ten edits a pair, about 15 s of
CPU. What is not installed is left out and said on stderr.
"""

from __future__ import annotations

import datetime
import platform
import sys

from helpers.compiler.toolchain import ToolchainMissing, installed_ptxas, version_key
from helpers.files import write_text_atomically
from helpers.recorded import DATA, read_rows
from helpers.workbook.root_cause.versions import version_findings
from helpers.workbook.root_cause.wide_moves import RECORDED, tuple_rows


def main() -> int:
    """Write the rows; 1 when a Triton was missing."""
    import pandas as pd

    matrix = read_rows("version_matrix")
    found, missing = [], 0
    for triton in version_findings(matrix)["dying"]:
        own = matrix[(matrix["triton"] == triton) & (matrix["ptx_written_for"] == "its own")]
        readable = set(own.loc[own["status"] == "register_exhausted", "ptxas_version"])
        bundled = own.loc[own["ptxas_asked"] == "bundled", "ptxas_version"].iloc[0]
        for release in sorted(readable & set(installed_ptxas()), key=version_key):
            try:
                found += [{**row, "bundled": release == bundled} for row in tuple_rows(triton, release)]
                print(f"Triton {triton} under ptxas {release}: {len(found)} rows so far", flush=True)
            except ToolchainMissing as exc:
                print(exc, file=sys.stderr)
                missing = 1
    table = pd.DataFrame(found)
    table["spill_store_bytes"] = table["spill_store_bytes"].astype("Int64")
    head = (
        f"# {len(table)} assemblies by `python benchmarks/record_tuple_experiment.py` on {datetime.date.today()}: the "
        f"incident spec for sm_100a, PTX of Triton {', '.join(dict.fromkeys(table['triton']))}, "
        f"{platform.system()} {platform.machine()}, no GPU; compile-time only.\n"
        "# `predicted` is what follows if the width of loads from tensor memory decides (`open`: nothing does); "
        "`bundled`: the ptxas that this Triton would use itself.\n"
    )
    write_text_atomically(DATA / f"{RECORDED}.csv", head + table.to_csv(index=False))
    print(pd.crosstab([table["ptx"], table["edit"]], table["found"]).to_string())
    return missing


if __name__ == "__main__":
    sys.exit(main())

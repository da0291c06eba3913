"""What else could have decided: allocation levels of ptxas, spilling to shared memory. Writes data/cause_checks.csv.

python benchmarks/record_cause_checks.py

On the PTX of Triton 3.5.1 that dies and on 3.7.1's that compiles: `--regAllocOptLevel` 0 to 4, and the directive that
lets ptxas spill to shared memory. Needs both Tritons, and ptxas 13.1.80 and the newest on this machine; compile-time.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import platform
import sys
from dataclasses import replace
from pathlib import Path

import helpers as rc
from helpers.compiler.compile import usable_cores
from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import installed_ptxas, resolve_ptxas
from helpers.files import write_text_atomically
from helpers.recorded import DATA

TRITONS = ("3.5.1", "3.7.1")
LEVELS_ON = "13.1.80"
SHARED_SPILLS = '.pragma "enable_smem_spilling";'


def with_pragma(ptx: str) -> str:
    """The PTX with the directive as the first line of its kernel."""
    lines = ptx.split("\n")
    body = next(n for n, line in enumerate(lines) if line.strip() == "{")
    return "\n".join([*lines[: body + 1], SHARED_SPILLS, *lines[body + 1 :]])


def main() -> int:
    """Write the rows."""
    import pandas as pd

    reports = rc.compile_matrix([replace(rc.INCIDENT_CHOICE, triton=triton).request() for triton in TRITONS])
    texts = {triton: Path(str(report.ptx_path)).read_text() for triton, report in zip(TRITONS, reports, strict=True)}
    newest = list(installed_ptxas())[-1]
    plan = [(t, LEVELS_ON, f"--regAllocOptLevel={n}", texts[t], (f"--regAllocOptLevel={n}",))
            for t in TRITONS for n in range(5)]  # fmt: skip
    plan += [(t, LEVELS_ON, "as Triton wrote it, no level given", texts[t], ()) for t in TRITONS]
    plan += [(t, newest, "spilling to shared memory allowed", with_pragma(texts[t]), ()) for t in TRITONS]

    def one(job: tuple) -> dict:
        triton, release, words, text, flags = job
        run = run_ptxas(resolve_ptxas(release).path, text, gpu_name=rc.INCIDENT_CHOICE.arch, flags=flags)
        said = "" if run.compiled or run.ptxas_code else " ".join(run.fatal or ())[:160]
        return {"triton": triton, "ptxas": release, "change": words, "status": run.verdict,
                "ptxas_code": run.ptxas_code, "spill_store_bytes": run.spill_store_bytes, "said": said}  # fmt: skip

    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        table = pd.DataFrame(list(pool.map(one, plan)))
    table["spill_store_bytes"] = table["spill_store_bytes"].astype("Int64")
    head = (
        f"# {len(table)} assemblies by `python benchmarks/record_cause_checks.py` on {datetime.date.today()}: the "
        f"incident's PTX of two Tritons, sm_100a, {platform.system()} {platform.machine()}, no GPU; compile-time.\n"
    )
    write_text_atomically(DATA / "cause_checks.csv", head + table.to_csv(index=False))
    print(table.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())

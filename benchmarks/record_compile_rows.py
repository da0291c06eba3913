"""Compile everything notebooks 01-03 show and write data/compile_rows.csv, the stand-in for missing toolchains.

    python benchmarks/record_compile_rows.py

Needs Triton 3.5.1 and the environment's own (3.7.1); takes about two minutes cold on two cores. Rows hold no paths
and no host name: what a compile says depends on neither.
"""

from __future__ import annotations

import datetime
import gzip
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path

import helpers as rc
from helpers.files import write_bytes_atomically, write_text_atomically
from helpers.recorded import DATA
from helpers.show.reports import report_row

LEFT_OUT = {"cached", "tensor_core_path", "verdict", "spec_key", "ptxas_command", "failed_stage"}


def choices() -> list[rc.Choice]:
    """Every configuration of the notebooks that recorded rows may stand in for: bundled ptxas, no extra flags."""
    sweep = rc.tile_chooser_choices(("sm_103a", "sm_120a", "sm_121a"))
    found = [
        *rc.incident_rows(),
        *rc.gemma4_choices(tile="hopper"),
        *rc.gemma4_choices(tile="sm100"),
        *rc.inside_ptxas_choices(),
        *sweep,
        *(replace(sweep[2], triton=t, kv_dtype=d) for t in ("3.5.1", "3.7.1") for d in ("fp8_e4m3", "bf16")),
        replace(sweep[2], kv_dtype="bf16", maxnreg=255),
        replace(rc.INCIDENT_CHOICE, arch="sm_120a", tile="hopper"),
        *(replace(rc.INCIDENT_CHOICE, ptxas_flags=(flag,)) for flag in rc.PTXAS_FLAGS_TRIED),
    ]
    return list(dict.fromkeys(found))


def without_machine_paths(ptx: str) -> str:
    """The PTX with bare file names in `.file` and without the DWARF sections behind the code, which spell folders out.

    Instructions, `.loc` and line numbers stay; ptxas dies of it as before.
    """
    code = re.split(r"^\s*\.section\s+\.debug", ptx, maxsplit=1, flags=re.MULTILINE)[0]
    return re.sub(r'(?m)^(\s*\.file\s+\d+\s+").*/([^/"]+")', r"\1\2", code)


def main() -> int:
    """Write the rows; 1 when a toolchain was missing, for then the record would hold a gap."""
    import pandas as pd

    wanted = choices()
    reports = rc.compile_matrix([c.request() for c in wanted])
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing:
        print(f"not recorded: {missing[0].message}", file=sys.stderr)
        return 1
    rows = [
        {"ptxas_flags": " ".join(c.ptxas_flags)}
        | {k: v for k, v in report_row(r).items() if k not in LEFT_OUT and not k.endswith("_path")}
        for c, r in zip(wanted, reports, strict=True)
    ]
    table = pd.DataFrame(rows).drop_duplicates(["label", "arch", "triton_version", "ptxas_flags"])
    incident = Path(reports[0].ptx_path).read_text()
    write_bytes_atomically(
        DATA / "incident.ptx.gz", gzip.compress(without_machine_paths(incident).encode(), 9, mtime=0)
    )
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_compile_rows.py` on {datetime.date.today()}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, no GPU; compile-time only.\n"
    )
    counts = [c for c in table if c.startswith("n_")] + ["num_warps", "regs_per_thread", "spill_store_bytes",
              "spill_load_bytes", "stack_frame_bytes", "smem_bytes", "tmem_columns", "barriers",
              "register_count_asked", "ptx_lines"]  # fmt: skip
    table[counts] = table[counts].astype("Int64")
    table["wall_s"] = table["wall_s"].round(2)
    write_text_atomically(DATA / "compile_rows.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows: {table['status'].value_counts().to_dict()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

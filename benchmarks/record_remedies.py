"""Compile the incident under everything people try against it and write data/remedies.csv, what `diagnose` cites.

    python benchmarks/record_remedies.py

One remedy a row, every release of the family that dies of it (3.5.0, 3.5.1, 3.6.0) and, for the remedy "a newer
Triton", the others. Needs those Tritons; about four minutes cold on two cores. Compile-time only.
"""

from __future__ import annotations

import datetime
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path

import helpers as rc
from helpers.compiler.wheel_facts import switch_environment, wheel_facts
from helpers.files import write_text_atomically
from helpers.recorded import DATA

DYING = ("3.5.0", "3.5.1", "3.6.0")
OTHERS = ("3.4.0", "3.7.1", "3.8.0", "3.9.0")
# remedy -> what it changes in the incident's Choice
REMEDIES: dict[str, dict[str, object]] = {
    "nothing": {},
    "tile 64x64": {"tile": "64x64"},
    "tile 128x32": {"tile": "128x32"},
    "tile 64x128": {"tile": "64x128"},
    "num_warps 4": {"num_warps": 4},
    "num_warps 16": {"num_warps": 16},
    "num_stages 2": {"num_stages": 2},
    "bf16 KV cache": {"kv_dtype": "bf16"},
    "loop bounds instead of the tile-skip branch": {"tile_skip": "bounds"},
    "accumulate inside the dot": {"accumulate": "fused"},
    "bounds and fused": {"tile_skip": "bounds", "accumulate": "fused"},
    "fp8 up-cast before the dots": {"kv_operands": "upcast"},
    "maxnreg=255 as a launch option": {"maxnreg": 255},
    "maxnreg=250 as a launch option": {"maxnreg": 250},
    "maxnreg=248 as a launch option": {"maxnreg": 248},
    "maxnreg=168 as a launch option": {"maxnreg": 168},
    "maxnreg=128 as a launch option": {"maxnreg": 128},
    "--maxrregcount=255": {"ptxas_flags": ("--maxrregcount=255",)},
    "--maxrregcount=250": {"ptxas_flags": ("--maxrregcount=250",)},
    "--maxrregcount=168": {"ptxas_flags": ("--maxrregcount=168",)},
    "--maxrregcount=128": {"ptxas_flags": ("--maxrregcount=128",)},
    "-O2": {"ptxas_flags": ("-O2",)},
    "-O1": {"ptxas_flags": ("-O1",)},
    "-O0": {"ptxas_flags": ("-O0",)},
    "--regAllocOptLevel=2": {"ptxas_flags": ("--regAllocOptLevel=2",)},
    "--regAllocOptLevel=4": {"ptxas_flags": ("--regAllocOptLevel=4",)},
}
# A switch of LLVM's, in the environment of the compile alone; recorded on every Triton whose LLVM knows it.
SWITCH = "nvptx-no-f32x2"
SWITCH_REMEDY = f"DISABLE_LLVM_OPT={SWITCH}"
# What the releases that live are asked beside nothing: what costs them fewer spills.
ASKED_OF_ALL = ("nothing", "--regAllocOptLevel=4")


def widest_tmem_access(ptx: str) -> int | None:
    """Registers that the widest tcgen05.ld/st of a PTX moves as one operand (its .xN), None without any."""
    return max((int(n) for n in re.findall(r"tcgen05\.(?:ld|st)\.\S{0,60}?\.x([0-9]{1,3})", ptx)), default=None)


def main() -> int:
    """Write the rows; 1 when a toolchain was missing, for then the record would hold a gap."""
    import pandas as pd

    plan = [
        (remedy, replace(rc.INCIDENT_CHOICE, triton=triton, **fields))
        for remedy, fields in REMEDIES.items()
        for triton in ((*DYING, *OTHERS) if remedy in ASKED_OF_ALL else DYING)
    ]
    requests = [choice.request() for _, choice in plan]
    for triton in (*DYING, *OTHERS):
        choice = replace(rc.INCIDENT_CHOICE, triton=triton)
        tool = choice.request().toolchain.resolve().triton
        if wheel_facts(tool).knows(SWITCH):
            plan.append((SWITCH_REMEDY, choice))
            requests.append(replace(choice.request(), environment=switch_environment([SWITCH], tool)))
    reports = rc.compile_matrix(requests)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing:
        print(f"not recorded: {missing[0].message}", file=sys.stderr)
        return 1
    rows = [
        {
            "remedy": remedy,
            "arch": report.arch,
            "triton": report.triton_version,
            "ptxas": report.ptxas_version,
            "status": report.status,
            "ptxas_code": report.ptxas_code,
            "register_count_asked": report.register_count_asked,
            "regs_per_thread": report.regs_per_thread,
            "spill_store_bytes": report.spill_store_bytes,
            "tensor_core_path": report.tensor_core_path,
            "widest_tmem_access": widest_tmem_access(Path(report.ptx_path).read_text()) if report.ptx_path else None,
            "message": report.message[:160],
            "command": choice.command() + (f" --llvm {SWITCH}" if remedy == SWITCH_REMEDY else ""),
        }
        for (remedy, choice), report in zip(plan, reports, strict=True)
    ]
    table = pd.DataFrame(rows)
    counts = ["register_count_asked", "regs_per_thread", "spill_store_bytes", "widest_tmem_access"]
    table[counts] = table[counts].astype("Int64")
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_remedies.py` on {datetime.date.today()}: the incident "
        f"({rc.INCIDENT_CHOICE.request().spec.label}, sm_100a) with one thing changed, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}, no GPU; compile-time only.\n"
    )
    write_text_atomically(DATA / "remedies.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows: {table['status'].value_counts().to_dict()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

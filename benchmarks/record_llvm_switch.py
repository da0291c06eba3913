"""Does LLVM's switch against pairs of floats change what a kernel computes? The operations of both texts, counted.

python benchmarks/record_llvm_switch.py

`DISABLE_LLVM_OPT=nvptx-no-f32x2` cures the incident on Triton 3.6.0. The kernel cannot be run here, since it needs a
B200. What can be compared is the PTX with and without the switch: by the PTX ISA an operation on a pair is that
operation on each half, so if the counts by opcode agree (a pair counted as two), the switch added, dropped and merged
no operation on floats. A difference in one count would falsify it: a multiplication and an addition merged into an
fma, for instance, round once where they rounded twice. For chips without pairs the two texts must be the same byte
for byte.
Writes data/llvm_switch.csv; compile-time only, some two minutes on two cores.
"""

from __future__ import annotations

import datetime
import platform
import sys
from dataclasses import replace
from pathlib import Path

import helpers as rc
from helpers.compiler.wheel_facts import switch_environment, wheel_facts
from helpers.files import write_text_atomically
from helpers.inspection.ptx.float_ops import float_operations
from helpers.recorded import DATA

SWITCH = "nvptx-no-f32x2"
TRITONS = ("3.6.0", "3.7.1", "3.8.0", "3.9.0")
CASES = {
    "incident": {},
    "bounds and fused": {"tile_skip": "bounds", "accumulate": "fused"},
    "bf16 window": {"kv_dtype": "bf16"},
    "fp8 no window": {"window": None},
    "tile 64x64": {"tile": "64x64"},
    "head dim 512": {"head_dim": 512, "window": None, "tile": "16x64"},
    "incident for sm_90a": {"arch": "sm_90a"},
    "incident for sm_120a": {"arch": "sm_120a"},
}


def row_of(case: str, triton: str, reports: list, texts: list[str]) -> dict:
    """One row: both verdicts, the operations that are paired, and whether the counts and the texts agree."""
    plain, switched = (float_operations(text) for text in texts)
    return {
        "case": case, "arch": reports[0].arch, "triton": triton, "ptxas": reports[0].ptxas_version,
        "status": reports[0].status, "spill_store_bytes": reports[0].spill_store_bytes,
        "status_with_switch": reports[1].status, "spill_store_bytes_with_switch": reports[1].spill_store_bytes,
        "operations": sum(plain.values()), "operations_with_switch": sum(switched.values()),
        "pairs": texts[0].count(".f32x2"), "pairs_with_switch": texts[1].count(".f32x2"),
        "same_operations": plain == switched, "same_text": texts[0] == texts[1],
        "differing": "; ".join(f"{name} {plain[name]} -> {switched[name]}" for name in sorted(plain | switched)
                               if plain[name] != switched[name]),
    }  # fmt: skip


def main() -> int:
    """Write the rows; 1 when a Triton is missing, for then the record would hold a gap."""
    import pandas as pd

    rows = []
    for triton in TRITONS:
        base = replace(rc.INCIDENT_CHOICE, triton=triton)
        tool = base.request().toolchain.resolve().triton
        assert wheel_facts(tool).knows(SWITCH), f"the LLVM of Triton {triton} does not know the switch"
        environment = switch_environment([SWITCH], tool)
        asked = []
        for fields in CASES.values():
            request = replace(base, **fields).request()
            asked += [request, replace(request, environment=environment)]
        reports = rc.compile_matrix(asked)
        for number, case in enumerate(CASES):
            both = reports[2 * number : 2 * number + 2]
            rows.append(row_of(case, triton, both, [Path(r.ptx_path).read_text() for r in both]))
    table = pd.DataFrame(rows)
    for name in ("spill_store_bytes", "spill_store_bytes_with_switch"):
        table[name] = table[name].astype("Int64")
    head = (
        f"# {len(table)} pairs of compiles by `python benchmarks/record_llvm_switch.py` on {datetime.date.today()}: "
        f"the extend kernel with and without {SWITCH}, {platform.system()} {platform.machine()}, no GPU; "
        "compile-time only.\n"
        "# `operations`: on 32-bit floats, an instruction on a pair counted as two; `pairs`: such instructions.\n"
    )
    write_text_atomically(DATA / "llvm_switch.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows, {int(table['same_operations'].sum())} with the same operations")
    return 0


if __name__ == "__main__":
    sys.exit(main())

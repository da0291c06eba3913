"""Our line of highest register demand beside nvdisasm's on ten kernels it was not made with: data/peak_lines.csv.

    python benchmarks/peak_lines.py [--triton 3.7.1]

The kernels are those of peak_kernels.py, written for this and first compiled after the analysis was fixed; whatever
comes out is published. A row a kernel and arch; rows that spill or reach the cap are kept, with `counts` false.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from liveness_accuracy import ARCHS, NEAR, compare_peaks
from peak_kernels import NOT_DIVISIBLE, SPECS

from helpers.compiler.compile import CompileRequest, compile_matrix
from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.toolchain import Toolchain
from helpers.files import write_text_atomically
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.recorded import DATA

HERE = Path(__file__).resolve().parent
COUNTED = ("peak_agrees", "peak_exact")


def spec_of(name: str) -> KernelSpec:
    """The KernelSpec of one of the ten kernels, as a launch on aligned tensors would specialise it."""
    types, constexprs, num_warps = SPECS[name]
    return KernelSpec(
        kernel=KernelRef(path=str(HERE / "peak_kernels.py"), name=name, import_root=str(HERE)),
        signature=(*types.items(), *((c, "constexpr") for c in constexprs)),
        constexprs=tuple(constexprs.items()),
        divisible_by_16=tuple(n for n, t in types.items() if n not in NOT_DIVISIBLE and t != "fp32"),
        options=(("num_warps", num_warps),),
        label=f"{name} {' '.join(f'{k}={v}' for k, v in constexprs.items())} w{num_warps}",
    )


def main() -> int:
    """Compile, compare, write; 1 when a kernel did not compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triton", default="3.7.1", help="Triton version (default %(default)s)")
    triton = parser.parse_args().triton
    cells = [(name, arch) for name in SPECS for arch in ARCHS]
    reports = compile_matrix([CompileRequest(spec_of(name), arch, Toolchain(triton)) for name, arch in cells])
    rows = []
    for (name, arch), report in zip(cells, reports, strict=True):
        row = {"kernel": name, "arch": arch, "triton_version": report.triton_version,
               "ptxas_version": report.ptxas_version, "label": report.label, "status": report.status,
               "counts": report.status == "ok" and report.regs_per_thread < CAP,
               "tensor_core_path": report.tensor_core_path, "regs_per_thread": report.regs_per_thread,
               "spill_store_bytes": report.spill_store_bytes}  # fmt: skip
        if report.ptx_path and report.cubin_path:
            profile = pressure_profile(Path(report.ptx_path).read_text())
            error = profile.estimate / report.regs_per_thread - 1
            row |= {"demand": profile.demand, "estimate": profile.estimate, "error": round(error, 4),
                    "within_15_percent": abs(error) <= NEAR}  # fmt: skip
            row |= compare_peaks(profile, report)
        rows.append(row)
        print(name, arch, row["status"], row["regs_per_thread"], row.get("estimate"), row.get("peak_line"),
              row.get("sass_peak_lines"), row.get("peak_share"))  # fmt: skip
    counting = [r for r in rows if r["counts"]]
    agree, exact = (sum(bool(r[name]) for r in counting) for name in COUNTED)
    everywhere = sum(all(r["peak_agrees"] for r in counting if r["kernel"] == name) for name in SPECS)
    near = sum(r["within_15_percent"] for r in counting)
    said = (
        f"peak lines: {agree}/{len(counting)} agree with nvdisasm, {exact} name its very line; {everywhere} of "
        f"{len(SPECS)} kernels agree on every arch. Estimates within 15%: {near}/{len(counting)}."
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for r in rows for k in r)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    head = (
        f"# {len(rows)} compiles by `python benchmarks/peak_lines.py` on {datetime.date.today()}, {platform.system()} "
        f"{platform.machine()}, no GPU; compile-time only. {said}\n"
    )
    write_text_atomically(DATA / "peak_lines.csv", head + text.getvalue())
    print(said)
    return 0 if all(r["status"] in ("ok", "spills") for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""How well the register estimate of helpers/inspection/ptx/pressure.py meets ptxas's count: data/liveness_accuracy.csv.

    python benchmarks/liveness_accuracy.py [--train]

Needs Triton 3.5.1, 3.6.0 and 3.7.1. TRAINING are the specs whose counts were looked at while the rule was made; TEST
was listed before, and its counts were first looked at after the rule's constants had been written down. There were two
rounds: FIRST_TEST was the test of a first rule, which 53 of its 67 estimates (79%) met; what it taught (wgmma's uniform
values) is in the second rule, so it is training now, and TEST is new. Only compiles with 0 spills and fewer than 255
registers count (elsewhere ptxas's number is the cap); the others are rows all the same, with `counts` false.

For test rows the peak line is compared with nvdisasm's: `peak_share` is the live registers nvdisasm sees on the line we
name, over its highest; the peak agrees at 0.95 or more, and `peak_exact` means the very line. The ten kernels of the
published claim are every n-th counting test row (`in_ten`). `--train` measures the training sets and writes nothing.
"""

from __future__ import annotations

import csv
import datetime
import io
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.lean import LeanTile, build_lean_spec
from helpers.attention.shapes import AttentionShape
from helpers.compiler.compile import CompileRequest, compile_matrix
from helpers.compiler.disassemble import sass_pressure
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import Toolchain
from helpers.files import write_text_atomically
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.recorded import DATA

ARCHS = ("sm_90a", "sm_100a", "sm_120a")
NEAR, PEAK_NEAR, PEAK_KERNELS = 0.15, 0.95, 10

# (head_dim, KV dtype, window, tile, num_warps, Triton), each on all three archs.
EXTEND_TRAINING = (
    (64, "bf16", None, "64x64", None, "3.5.1"), (64, "fp8_e4m3", None, "64x64", None, "3.5.1"),
    (64, "bf16", 1024, "128x64", None, "3.5.1"), (64, "bf16", None, "128x64", 8, "3.7.1"),
    (64, "fp8_e4m3", 1024, "64x128", None, "3.7.1"), (64, "bf16", None, "32x64", None, "3.7.1"),
    (128, "bf16", None, "64x64", None, "3.5.1"), (128, "fp8_e4m3", None, "64x64", None, "3.5.1"),
    (128, "bf16", 1024, "64x128", None, "3.5.1"), (128, "fp8_e4m3", 1024, "128x64", None, "3.7.1"),
    (128, "bf16", None, "32x64", 4, "3.7.1"), (128, "fp8_e4m3", None, "16x64", 4, "3.7.1"),
    (128, "bf16", None, "32x32", None, "3.5.1"), (64, "bf16", 1024, "64x64", None, "3.7.1"),
    (128, "bf16", 1024, "32x64", None, "3.5.1"), (64, "bf16", None, "64x32", 4, "3.6.0"),
    (128, "fp8_e4m3", None, "64x32", 4, "3.7.1"), (64, "fp8_e4m3", None, "16x32", 4, "3.5.1"),
    (128, "bf16", None, "128x32", 8, "3.7.1"), (128, "fp8_e4m3", 1024, "32x32", 4, "3.6.0"),
    (288, "bf16", None, "16x32", 8, "3.5.1"), (512, "bf16", None, "16x32", 8, "3.7.1"),
    (512, "fp8_e4m3", None, "16x64", 8, "3.5.1"),
)  # fmt: skip
EXTEND_FIRST_TEST = (
    (256, "bf16", None, "64x64", None, "3.5.1"), (256, "bf16", None, "32x64", None, "3.5.1"),
    (256, "fp8_e4m3", None, "32x32", None, "3.5.1"), (256, "fp8_e4m3", 1024, "16x64", None, "3.6.0"),
    (192, "bf16", None, "64x64", None, "3.6.0"), (192, "fp8_e4m3", None, "32x64", None, "3.7.1"),
    (256, "bf16", None, "16x64", None, "3.7.1"), (256, "fp8_e4m3", None, "64x64", None, "3.7.1"),
    (80, "bf16", None, "64x64", None, "3.6.0"), (96, "fp8_e4m3", 1024, "64x64", None, "3.7.1"),
    (96, "bf16", None, "128x64", None, "3.5.1"), (80, "fp8_e4m3", None, "32x64", None, "3.5.1"),
    (128, "bf16", 1024, "64x64", None, "3.6.0"), (64, "fp8_e4m3", 1024, "64x64", 8, "3.6.0"),
    (96, "bf16", 1024, "32x32", 4, "3.7.1"), (192, "bf16", 1024, "16x64", None, "3.5.1"),
)  # fmt: skip
# (head_dim, KV dtype, window, (BLOCK_M, BLOCK_N, warps, stages, group pack), Triton); 32 query heads on 8 KV heads.
LEAN_TRAINING = (
    (64, "bf16", 1024, (32, 64, 4, 2, 1), "3.7.1"), (128, "fp8_e4m3", None, (64, 32, 4, 2, 1), "3.5.1"),
    (128, "bf16", None, (128, 64, 8, 2, 1), "3.7.1"), (512, "bf16", None, (32, 32, 8, 1, 1), "3.6.0"),
)  # fmt: skip
LEAN_FIRST_TEST = (
    (64, "bf16", None, (64, 64, 4, 2, 1), "3.7.1"), (64, "fp8_e4m3", None, (128, 64, 8, 1, 4), "3.6.0"),
    (128, "bf16", None, (64, 64, 4, 2, 1), "3.6.0"), (128, "fp8_e4m3", 1024, (64, 64, 8, 1, 4), "3.7.1"),
    (128, "bf16", 1024, (128, 64, 8, 2, 4), "3.7.1"), (256, "bf16", 1024, (64, 32, 8, 1, 2), "3.6.0"),
    (256, "fp8_e4m3", None, (64, 64, 8, 1, 1), "3.7.1"), (96, "bf16", None, (64, 64, 4, 1, 1), "3.5.1"),
    (256, "bf16", None, (32, 32, 8, 1, 2), "3.7.1"), (128, "bf16", None, (32, 32, 4, 1, 4), "3.5.1"),
)  # fmt: skip
EXTEND_TEST = (
    (256, "bf16", None, "32x64", None, "3.7.1"), (256, "fp8_e4m3", 1024, "64x32", None, "3.7.1"),
    (256, "bf16", 1024, "32x32", None, "3.6.0"), (192, "fp8_e4m3", None, "64x64", None, "3.5.1"),
    (192, "bf16", None, "32x64", None, "3.7.1"), (96, "fp8_e4m3", None, "64x64", None, "3.6.0"),
    (96, "bf16", None, "64x64", None, "3.7.1"), (80, "fp8_e4m3", 1024, "64x64", None, "3.5.1"),
    (80, "bf16", None, "32x64", None, "3.7.1"), (64, "bf16", 1024, "64x64", 8, "3.5.1"),
    (128, "bf16", None, "64x64", None, "3.7.1"), (128, "fp8_e4m3", 1024, "32x64", None, "3.5.1"),
    (64, "bf16", None, "64x128", 8, "3.6.0"), (128, "bf16", None, "128x64", None, "3.5.1"),
    (256, "fp8_e4m3", None, "16x64", None, "3.5.1"), (256, "bf16", None, "64x64", None, "3.6.0"),
    (256, "bf16", 1024, "16x64", None, "3.5.1"),
)  # fmt: skip
LEAN_TEST = (
    (256, "bf16", None, (64, 64, 8, 2, 2), "3.7.1"), (256, "fp8_e4m3", 1024, (64, 32, 8, 1, 2), "3.5.1"),
    (128, "bf16", None, (64, 32, 8, 2, 4), "3.7.1"), (64, "bf16", None, (64, 32, 4, 2, 4), "3.5.1"),
    (64, "fp8_e4m3", 1024, (64, 64, 4, 2, 1), "3.6.0"), (192, "bf16", None, (64, 32, 8, 1, 1), "3.7.1"),
    (96, "fp8_e4m3", None, (64, 32, 4, 1, 1), "3.6.0"), (128, "fp8_e4m3", None, (32, 64, 8, 1, 4), "3.6.0"),
    (80, "bf16", 1024, (32, 32, 4, 2, 1), "3.7.1"), (256, "bf16", 1024, (128, 64, 8, 2, 2), "3.7.1"),
)  # fmt: skip


def extend_requests(rows: tuple) -> list[CompileRequest]:
    """The extend kernel's requests of a list, each on every arch."""
    return [
        replace(
            Choice(), head_dim=dim, kv_dtype=dtype, window=window, tile=tile, num_warps=warps, triton=triton, arch=arch
        ).request()
        for dim, dtype, window, tile, warps, triton in rows
        for arch in ARCHS
    ]


def lean_requests(rows: tuple) -> list[CompileRequest]:
    """The lean kernel's requests of a list, each on every arch."""
    return [
        CompileRequest(
            spec=build_lean_spec(
                AttentionShape(num_q_heads=32, num_kv_heads=8, head_dim=dim, kv_dtype=dtype, model_window=window),
                LeanTile(*tile),
            ),
            arch=arch,
            toolchain=Toolchain(triton),
        )
        for dim, dtype, window, tile, triton in rows
        for arch in ARCHS
    ]


def measure(name: str, requests: list[CompileRequest], *, sass: bool) -> list[dict]:
    """One row a compile: ptxas's count, the estimate and what it is made of; with `sass`, the peak lines compared."""
    rows = []
    for request, report in zip(requests, compile_matrix(requests), strict=True):
        if report.ptx_path is None or report.regs_per_thread is None:
            continue
        ptx = Path(report.ptx_path).read_text()
        started = time.perf_counter()
        profile = pressure_profile(ptx)
        spent = time.perf_counter() - started
        counts = report.status == "ok" and report.regs_per_thread < CAP
        error = profile.estimate / report.regs_per_thread - 1
        row = {
            "set": name, "kernel": request.spec.kernel.name, "arch": report.arch,
            "triton_version": report.triton_version, "ptxas_version": report.ptxas_version, "label": report.label,
            "counts": counts, "regs_per_thread": report.regs_per_thread,
            "spill_store_bytes": report.spill_store_bytes, "estimate": profile.estimate, "error": round(error, 4),
            "within_15_percent": abs(error) <= NEAR if counts else "", "demand": profile.demand,
            "overflow": profile.overflow,
            "floor": profile.floor, "text_order_peak": profile.text_order_peak, "ptx_lines": report.ptx_lines,
            "analysis_s": round(spent, 3),
        }  # fmt: skip
        rows.append(row | (compare_peaks(profile, report) if sass and counts else {}))
    return rows


def compare_peaks(profile, report: CompileReport) -> dict:
    """Our peak line beside nvdisasm's: names, live registers there, and whether they agree."""
    sass = sass_pressure(report.cubin_path, report.ptxas_version)
    at = {(Path(line.source[0]).name, line.source[1]): line.gprs for line in sass.lines}
    top = max(at.values())
    source = profile.peak.source or ("", 0)
    own = (Path(source[0]).name, source[1])
    return {
        "peak_line": f"{own[0]}:{own[1]}", "sass_peak_gprs": top, "sass_gprs_at_peak_line": at.get(own, 0),
        "sass_peak_lines": " ".join(f"{file}:{line}" for (file, line), gprs in at.items() if gprs == top),
        "peak_exact": at.get(own) == top, "peak_share": round(at.get(own, 0) / top, 4),
        "peak_agrees": at.get(own, 0) >= PEAK_NEAR * top,
    }  # fmt: skip


def summary(name: str, rows: list[dict]) -> str:
    """A sentence on a set: how many count, how many are near, the distribution of errors, the misses."""
    counting = [r for r in rows if r["counts"]]
    errors = sorted(r["error"] for r in counting)
    near = sum(r["within_15_percent"] for r in counting)
    per_arch = ", ".join(
        f"{arch} {sum(r['within_15_percent'] for r in counting if r['arch'] == arch)}/"
        f"{sum(r['arch'] == arch for r in counting)}"
        for arch in ARCHS
    )
    deciles = statistics.quantiles(errors, n=10)
    naive = statistics.median(r["text_order_peak"] / r["regs_per_thread"] for r in counting)
    return (
        f"{name}: {near}/{len(counting)} ({near / len(counting):.0%}) within 15% ({per_arch}); error deciles "
        f"{' '.join(f'{d:+.2f}' for d in deciles)}, worst {errors[0]:+.2f} {errors[-1]:+.2f}; "
        f"text order/count {naive:.2f}"
    )


def main() -> int:
    """Measure both sets and write the csv; 1 when the target (80% of the test estimates) is missed."""
    training = measure("training", extend_requests(EXTEND_TRAINING) + lean_requests(LEAN_TRAINING), sass=False)
    first = extend_requests(EXTEND_FIRST_TEST) + lean_requests(LEAN_FIRST_TEST)
    training += measure("training (first test)", first, sass=False)
    print(summary("training", training))
    if "--train" in sys.argv[1:]:
        return 0
    test = measure("test", extend_requests(EXTEND_TEST) + lean_requests(LEAN_TEST), sass=True)
    counting = [r for r in test if r["counts"]]
    step = len(counting) / PEAK_KERNELS
    ten = {id(counting[int(n * step)]) for n in range(PEAK_KERNELS)}
    for row in counting:
        row["in_ten"] = id(row) in ten
    sentences = [summary("training", training), summary("test", test)]
    for what, rows in (("ten kernels", [r for r in counting if r["in_ten"]]), ("all test kernels", counting)):
        agree, exact = sum(r["peak_agrees"] for r in rows), sum(r["peak_exact"] for r in rows)
        sentences.append(f"peak lines, {what}: {agree}/{len(rows)} agree with nvdisasm, {exact} name its very line")
    print("\n".join(sentences[1:]))
    columns = list(dict.fromkeys(key for row in (*test, *training) for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*training, *test])
    head = (
        f"# {len(training) + len(test)} compiles by `python benchmarks/liveness_accuracy.py` on "
        f"{datetime.date.today()}, {platform.system()} {platform.machine()}, no GPU; compile-time only. "
    )
    write_text_atomically(
        DATA / "liveness_accuracy.csv", head + " ".join(f"{s}." for s in sentences) + "\n" + text.getvalue()
    )
    near = sum(r["within_15_percent"] for r in counting)
    return 0 if near >= 0.8 * len(counting) else 1


if __name__ == "__main__":
    sys.exit(main())

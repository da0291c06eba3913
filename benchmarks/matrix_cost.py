"""What a compile matrix costs: 60 cold specs through `compile_matrix` against bare `triton.compile` calls.

Both sides compile the same specs with the same Triton, each in processes of its own with empty caches. CPU
time counts the process and all its children (workers, ptxas); wall time runs from before Triton is imported
to the last result. CPU time is the robust figure; wall time depends on how busy the machine is.

    python benchmarks/matrix_cost.py                 # about five minutes on two cores; prints a table
    python benchmarks/matrix_cost.py --csv data/compile_benchmark.csv
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO_ROOT))

from helpers.attention.choice import Choice, product  # noqa: E402
from helpers.compiler.compile import compile_matrix, usable_cores  # noqa: E402
from helpers.compiler.toolchain import resolve_triton, toolchains_root  # noqa: E402
from helpers.compiler.worker.pool import POOL, worker_environment  # noqa: E402
from helpers.files import CACHE_ENV, write_text_atomically  # noqa: E402
from helpers.recorded import rows_of  # noqa: E402

TARGETS = {"cpu_ratio": 1.1, "wall_ratio": 1.7, "again_share": 0.02}
AXES = {
    "head_dim": [64, 96, 128, 256, 512],
    "kv_dtype": ["bf16", "fp8_e4m3"],
    "window": [None, 1024],
    "tile": ["16x64", "64x64", "128x64"],
}
# Runs with nothing of this project on its path: what a person would write who knows Triton.
BARE = """
import importlib.util, json, resource, sys, time
started = time.perf_counter()
work = json.load(sys.stdin)
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
spec = importlib.util.spec_from_file_location(work["module"], work["path"])
module = importlib.util.module_from_spec(spec)
sys.modules[work["module"]] = module
spec.loader.exec_module(module)
fn = getattr(module, work["name"])
index = {name: i for i, name in enumerate(fn.arg_names)}
failed = 0
for item in work["specs"]:
    src = ASTSource(
        fn,
        signature=dict(item["signature"]),
        constexprs={(index[name],): value for name, value in item["constexprs"]},
        attrs={(index[name],): [["tt.divisibility", 16]] for name in item["divisible_by_16"]},
    )
    try:
        triton.compile(src, target=GPUTarget("cuda", work["capability"], 32), options=dict(item["options"]))
    except Exception:
        failed += 1
wall_s = time.perf_counter() - started
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
cpu_s = sum(u.ru_utime + u.ru_stime for u in used)
json.dump({"wall_s": wall_s, "cpu_s": cpu_s, "failed": failed}, open(sys.argv[1], "w"))
"""


def benchmark_requests(triton: str) -> list:
    """The 60 requests, heavy and light ones mixed as a person's product of choices mixes them."""
    return [choice.request() for choice in product(AXES, Choice(triton=triton, arch="sm_100a"))]


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def matrix_side(triton: str, out: Path) -> None:
    """Run in a process of its own: the matrix cold, then again; figures as JSON into `out`."""
    started = time.perf_counter()
    reports = compile_matrix(benchmark_requests(triton))
    wall_s = time.perf_counter() - started
    POOL.close()  # so that the workers' time is counted
    cpu_s = _cpu_s()
    started = time.perf_counter()
    again = compile_matrix(benchmark_requests(triton))
    again_s = time.perf_counter() - started
    figures = {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "again_s": again_s,
        "failed": sum(r.cubin_path is None for r in reports),
        "cached_cold": sum(r.cached for r in reports),
        "cached_again": sum(r.cached for r in again),
        "ptxas": "+".join(sorted({r.ptxas_version for r in reports if r.ptxas_version})),
    }
    out.write_text(json.dumps(figures))


def run_matrix(triton: str) -> dict:
    """Figures of the matrix side, from an empty compile cache."""
    with tempfile.TemporaryDirectory(prefix="matrix-cost-") as scratch:
        cache = Path(scratch) / "cache"
        cache.mkdir()
        (cache / "toolchains").symlink_to(toolchains_root())
        out = Path(scratch) / "figures.json"
        argv = [sys.executable, __file__, "--triton", triton, "--side", str(out)]
        subprocess.run(argv, check=True, env={**os.environ, CACHE_ENV: str(cache)})
        first = json.loads(out.read_text())
        # The same again from a process that has just started, as on the next day.
        subprocess.run(argv, check=True, env={**os.environ, CACHE_ENV: str(cache)})
        second = json.loads(out.read_text())
    if first["cached_cold"] or first["cached_again"] != second["cached_cold"]:
        raise SystemExit(f"the cold run was not cold or the second not cached: {first}, {second}")
    return {**first, "next_day_s": second["wall_s"]}


def run_bare(triton: str) -> dict:
    """Figures of the bare side: one process, one compile after the other, an empty Triton cache."""
    requests = benchmark_requests(triton)
    kernel = requests[0].spec.kernel
    work = {
        "path": kernel.path,
        "module": "kernels.extend_attention",
        "name": kernel.name,
        "capability": 100,
        "specs": [
            {
                "signature": r.spec.signature,
                "constexprs": r.spec.constexprs,
                "divisible_by_16": r.spec.divisible_by_16,
                "options": r.spec.options,
            }
            for r in requests
        ],
    }
    with tempfile.TemporaryDirectory(prefix="matrix-cost-") as scratch:
        script, out = Path(scratch) / "bare.py", Path(scratch) / "figures.json"
        script.write_text(BARE)
        env = worker_environment(resolve_triton(triton).path)
        env["TRITON_CACHE_DIR"] = str(Path(scratch) / "triton")
        with open(Path(scratch) / "printed", "wb") as printed:  # Triton prints the PTX of every failure
            subprocess.run(
                [sys.executable, str(script), str(out)],
                input=json.dumps(work).encode(),
                stdout=printed,
                stderr=printed,
                check=True,
                env=env,
            )
        return json.loads(out.read_text())


def cpu_model() -> str:
    """The processor's own name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def figures_row(matrix: dict, bare: dict, triton: str, load_before: float) -> dict:
    """One row: both sides, the ratios, and what they were measured on."""
    if matrix["failed"] != bare["failed"]:
        raise SystemExit(f"not the same work: {matrix['failed']} specs failed in the matrix, {bare['failed']} bare")
    return {
        "date": datetime.date.today().isoformat(),
        "specs": len(benchmark_requests(triton)),
        "arch": "sm_100a",
        "triton": triton,
        "ptxas": matrix["ptxas"],
        "bare_cpu_s": round(bare["cpu_s"], 1),
        "bare_wall_s": round(bare["wall_s"], 1),
        "matrix_cpu_s": round(matrix["cpu_s"], 1),
        "matrix_wall_s": round(matrix["wall_s"], 1),
        "again_s": round(matrix["again_s"], 3),
        "next_day_s": round(matrix["next_day_s"], 3),
        "cpu_ratio": round(matrix["cpu_s"] / bare["cpu_s"], 3),
        "wall_ratio": round(bare["wall_s"] / matrix["wall_s"], 2),
        "again_share": round(matrix["again_s"] / matrix["wall_s"], 4),
        "failed_compiles": matrix["failed"],
        "cores": usable_cores(),
        "load_before": load_before,
        "cpu": cpu_model(),
        "python": platform.python_version(),
        "command": "python benchmarks/matrix_cost.py",
    }


def append_row(path: Path, row: dict) -> None:
    """Add the row to the CSV file at `path`, which keeps its leading `#` lines and earlier rows."""
    old = path.read_text().splitlines() if path.is_file() else []
    notes = [line for line in old if line.startswith("#")] or [
        "# 60 cold compiles of the extend kernel for sm_100a, no GPU: compile_matrix, bare triton.compile.",
        "# A row is one run of benchmarks/matrix_cost.py on the machine named; CPU time has all children.",
    ]
    rows = [*(rows_of(path) if old else ()), row]
    lines = []
    for entry in [list(row), *([str(r.get(name, "")) for name in row] for r in rows)]:
        lines.append(",".join(f'"{word}"' if "," in word else word for word in entry))
    write_text_atomically(path, "\n".join([*notes, *lines]) + "\n")


def main() -> None:
    """Measure, print, and add a row to a CSV file when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--triton", default="3.5.1")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        matrix_side(options.triton, options.side)
        return
    # What else the machine was doing: with a load above about 0.5 the wall times mean little.
    load = round(os.getloadavg()[0], 2)
    row = figures_row(run_matrix(options.triton), run_bare(options.triton), options.triton, load)
    for name, value in row.items():
        print(f"{name + ':':<24}{value}")
    print("targets:                cpu_ratio <= 1.1, wall_ratio >= 1.7 on two cores, again_share < 0.02")
    if options.csv:
        append_row(options.csv, row)


if __name__ == "__main__":
    main()

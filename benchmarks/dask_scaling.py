"""A compile matrix on a local Dask cluster of one worker, then of two: rows appended to data/dask_scaling.csv.

    python benchmarks/dask_scaling.py [--specs 24] [--repeats 2] [--workers 1,2] [--out FILE]

Every run has workers of one thread each, in processes of their own, and an empty compile cache; the clock runs from the
first `submit` to the last report, after the workers are up. What a worker then starts (its Triton process) is part of
the time, once per worker. Other work on the machine is not kept away: the load average before each run is in its row.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import platform
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.attention.choice import Choice, product
from helpers.compiler.compile import CompileRequest, compile_matrix, usable_cores
from helpers.compiler.toolchain import resolve_triton, toolchains_root
from helpers.errors import UserError
from helpers.files import CACHE_ENV, write_text_atomically
from helpers.recorded import rows_of

if TYPE_CHECKING:
    import pandas as pd

AXES = {
    "head_dim": [64, 128, 256],
    "kv_dtype": ["bf16", "fp8_e4m3"],
    "window": [None, 1024],
    "tile": ["64x64", "32x64"],
}
HEAD = (
    "# One compile matrix on a local Dask cluster, cold cache, rows appended by `python benchmarks/dask_scaling.py`; "
    "versions, machine and load average before the run in each row.\n"
)
DEFAULT_OUT = Path(__file__).resolve().parents[1] / "data" / "dask_scaling.csv"


def requests_to_compile(count: int, triton: str) -> list[CompileRequest]:
    """The first `count` requests of the matrix, for sm_100a."""
    return [choice.request() for choice in product(AXES, Choice(triton=triton))][:count]


def scaling_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a number of workers: runs, median seconds for the matrix, and how many times faster than one worker.

    `speedup` compares each run with the one-worker run just before it, on the machine as busy as it then was (`load`,
    the highest before any of the runs), and takes the median. Raises UserError without a one-worker run.
    """
    import pandas as pd

    alone, faster = None, []
    for row in table.to_dict("records"):
        if row["workers"] == 1:
            alone = row
        faster.append(alone["wall_s"] / row["wall_s"] if alone and alone["specs"] == row["specs"] else None)
    if alone is None:
        raise UserError("these rows hold no run of one worker to compare with: python benchmarks/dask_scaling.py")
    runs = table.assign(speedup=faster).groupby("workers")
    return pd.DataFrame(
        {
            "runs": runs.size(),
            "specs": runs["specs"].median(),
            "wall_s": runs["wall_s"].median(),
            "speedup": runs["speedup"].median(),
            "lowest": runs["speedup"].min(),
            "highest": runs["speedup"].max(),
            "load": runs["load_before"].max(),
            "cores": runs["cores"].max(),
        }
    ).reset_index()


def measure(requests: list[CompileRequest], workers: int) -> dict:
    """Wall and CPU seconds of the matrix on `workers` cold workers; raises UserError when a report has no verdict."""
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory(prefix="register-cliff-dask-") as folder:
        cache = Path(folder) / "cache"
        cache.mkdir()
        (cache / "toolchains").symlink_to(toolchains_root().resolve(), target_is_directory=True)
        load = os.getloadavg()[0]
        before = os.environ.get(CACHE_ENV)
        os.environ[CACHE_ENV] = str(cache)  # the workers inherit it
        try:
            with (
                LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
                    local_directory=folder,
                ) as cluster,
                Client(cluster) as client,
            ):  # fmt: skip
                client.wait_for_workers(workers)
                started = time.perf_counter()
                reports = compile_matrix(requests, executor=client.get_executor())
                wall = time.perf_counter() - started
        finally:
            os.environ.pop(CACHE_ENV)
            if before is not None:
                os.environ[CACHE_ENV] = before
    cached = sum(r.cached for r in reports)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing or cached:
        raise UserError(
            missing[0].message if missing else f"{cached} compiles came out of a cache: nothing is measured"
        )
    return {
        "workers": workers, "threads_per_worker": 1, "specs": len(requests), "wall_s": round(wall, 2),
        "compile_s": round(sum(r.wall_s for r in reports), 2), "failed": sum(not r.compiled for r in reports),
        "load_before": round(load, 2),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure, print and append; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specs", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=2, help="runs of each number of workers, in turn")
    parser.add_argument("--workers", default="1,2", help="numbers of workers, comma-separated")
    parser.add_argument("--triton", default="3.5.1")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args(argv)
    requests = requests_to_compile(options.specs, options.triton)
    words = [word if word != str(options.out) else options.out.name for word in argv]
    facts = {
        "triton": resolve_triton(options.triton).version, "cores": usable_cores(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "command": " ".join(["python benchmarks/dask_scaling.py", shlex.join(words)]).strip(),
    }  # fmt: skip
    rows = []
    for _ in range(options.repeats):
        for workers in (int(word) for word in options.workers.split(",")):
            row = measure(requests, workers)
            rows.append(row | facts | {"date_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})
            print(f"{workers} workers: {row['wall_s']} s for {row['specs']} specs, load before {row['load_before']}")
    append(options.out, rows)
    best = {n: min(r["wall_s"] for r in rows if r["workers"] == n) for n in {r["workers"] for r in rows}}
    if {1, 2} <= set(best):
        print(f"two workers against one, best of {options.repeats}: {best[1] / best[2]:.2f}x")
    return 0


def append(path: Path, rows: list[dict]) -> None:
    """Add rows to a CSV file, written whole through a temporary name."""
    there = rows_of(path) if path.is_file() else []
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in [*there, *rows] for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows([*there, *rows])
    write_text_atomically(path, HEAD + text.getvalue())


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except UserError as exc:
        print(f"error: {exc}", file=sys.stderr)
        raise SystemExit(2) from None

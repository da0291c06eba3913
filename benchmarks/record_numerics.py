"""Record the kernel's numbers on this machine: option matrix, fp8 study, tile study, one CSV row each.

    python benchmarks/record_numerics.py --out data/numerics_h200.csv

Needs torch, Triton and, for `--backend cuda`, a GPU; about two minutes on an H200, most of it compiling. A
case that fails is a row with its message and does not end the run. Rows are written as they come. Exit code 0
when rows were recorded, 2 on bad input; whether they are all ok is in the counts it prints.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.attention.correctness.cases import gpu_cases, hopper_cases, interpreter_cases, lean_cases
from helpers.attention.correctness.fp8_and_tiles import fp8_rows, fp8_shapes, run_study, tile_rows, tile_shapes
from helpers.attention.correctness.numerics import (
    NumericsRow,
    resolve_backend,
    run_cases,
    summarise,
    write_rows,
)
from helpers.attention.correctness.processes import KernelProcesses, default_workers
from helpers.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run the parts asked for and write their rows; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="CSV file to write")
    parser.add_argument("--backend", default="auto", help="auto, cuda or interpreter (auto: a GPU when there is one)")
    parser.add_argument("--workers", type=int, default=default_workers(), help="processes that compile and run at once")
    parser.add_argument("--parts", default="matrix,fp8,tiles", help="which of matrix, fp8 and tiles, comma-separated")
    options = parser.parse_args(argv)
    # The recorded command names the file, not the folder of the machine it was written on.
    words = [w if w != str(options.out) else options.out.name for w in (argv if argv is not None else sys.argv[1:])]
    command = "python benchmarks/record_numerics.py " + shlex.join(words)
    started = time.perf_counter()
    try:
        backend = resolve_backend(options.backend)
        parts = options.parts.split(",")
        if unknown := set(parts) - {"matrix", "fp8", "tiles"}:
            raise UserError(f"unknown part {', '.join(sorted(unknown))}: choose from matrix, fp8, tiles")
        rows = _record(options, parts=parts, backend=backend, command=command)
    except UserError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    for study in sorted({row.study for row in rows}):
        counts = summarise(row for row in rows if row.study == study)
        print(f"{study}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    for row in rows:
        if not row.ok:
            what = f"{row.study}, {row.variant}, hd{row.head_dim} {row.kv_dtype}"
            print(f"  {row.status}: {what}: {row.message[:300]}")
    print(f"{len(rows)} rows in {options.out}, {time.perf_counter() - started:.0f} s")
    return 0 if rows else 1


def hopper_here() -> bool:
    """Whether this machine's GPU is one the Hopper kernel was written for."""
    import torch

    return torch.cuda.get_device_capability() == (9, 0)


def _record(options: argparse.Namespace, *, parts: list[str], backend: str, command: str) -> list[NumericsRow]:
    rows: list[NumericsRow] = []
    size = "large" if backend == "cuda" else "small"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(options.out, [])

    def keep(_done: int, _total: int, row: NumericsRow) -> None:
        rows.append(row)
        write_rows(options.out, [row], append=True)
        what = f"{row.study} {row.variant} hd{row.head_dim} {row.kv_dtype} {row.tile} {row.ingredients}"
        print(f"{row.status:>9}  {what}  {row.wall_s or 0:.1f} s", flush=True)

    with KernelProcesses(interpret=backend == "interpreter", workers=options.workers) as processes:
        common = {"processes": processes, "progress": keep, "command": command}
        if "matrix" in parts:
            cases = gpu_cases() if backend == "cuda" else interpreter_cases()
            # Gluon has no interpreter.
            gluon = hopper_cases() if backend == "cuda" and hopper_here() else []
            run_cases([*cases, *lean_cases(cases), *gluon], backend, **common)
        if "fp8" in parts:
            run_study(fp8_rows, fp8_shapes(size), backend, **common)
        if "tiles" in parts:
            run_study(tile_rows, tile_shapes(size), backend, **common)
    return rows


if __name__ == "__main__":
    raise SystemExit(main())

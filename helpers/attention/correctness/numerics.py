"""Is the kernel right, and what does each cast cost? Cases in, rows out: errors beside derived tolerances.

**The tolerance.** Both the kernel and a low-precision reference are compared with float64. The reference
rounds the same operands to the same dtypes (reference.attention_low_precision) and nothing else, so its error
is what the data path must cost; rounding the output costs one more half-ulp, u = 2**-8 of bf16 or 2**-11 of
fp16. The kernel differs from that reference in what is not an error of the algorithm: tiles round p against a
running maximum instead of the final one, and sums go in another order. Twice the two together is what it may
have:

    error <= 2 * (error of the low-precision reference + u * size of the answer)

That holds twice over, in two measures. `max_abs` is the largest difference of any element. `row_rel` is the
worst row's (one token, one head) L2 difference over the L2 norm of its answer: a single wrong key in one row
shows there even when all its values are small. A row whose answer is zero must be zero exactly. A NaN is
never within anything.
"""

from __future__ import annotations

import csv
import math
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from helpers.attention.correctness.cases import INGREDIENT_SETS, Case
from helpers.attention.correctness.inputs import Problem, fence_intact, make_problem
from helpers.attention.correctness.processes import KernelProcesses, WorkerFailed
from helpers.attention.correctness.reference import attention_float64, attention_low_precision
from helpers.attention.hopper import HopperTile, prepare_hopper
from helpers.attention.launch import prepare_launch
from helpers.attention.lean import LeanTile, prepare_lean
from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import INCIDENT, Ingredients
from helpers.attention.tiles import TileConfig
from helpers.errors import UserError
from helpers.recorded import rows_of

# Half the distance from 1 to the next number: the most that rounding to nearest moves a value, relative to
# it.
UNIT_ROUNDOFF = {"bf16": 2.0**-8, "fp16": 2.0**-11}
TOLERANCE_FACTOR = 2.0
BACKENDS = ("auto", "cuda", "interpreter")


@dataclass(frozen=True, kw_only=True)
class NumericsRow:
    """One observation, with where it comes from. Errors are against float64; None where the case did not get
    there.

    `status`: ok, too_large, nan, wrote_outside, or failed (compile, launch or process; `message` says). `rel`
    is the Frobenius norm of the difference over that of the answer; `max_ulps` is `max_abs` in units of the
    spacing of the output's dtype at the answer's largest element.
    """

    study: str
    variant: str
    status: str
    backend: str
    device: str
    arch: str
    head_dim: int
    v_head_dim: int
    num_q_heads: int
    num_kv_heads: int
    q_dtype: str
    kv_dtype: str
    model_window: int | None
    causal: bool
    logit_cap: float
    mask: str
    sinks: bool
    prefix_len: str
    extend_len: str
    tile: str
    tile_table: str
    num_warps: int | None
    num_stages: int | None
    ingredients: str
    seed: int
    k_scale: float | None = None
    v_scale: float | None = None
    max_abs: float | None = None
    max_abs_tolerance: float | None = None
    row_rel: float | None = None
    row_rel_tolerance: float | None = None
    rel: float | None = None
    max_ulps: float | None = None
    answer_max_abs: float | None = None
    bitwise_equal_fraction: float | None = None
    wall_s: float | None = None
    message: str = ""
    torch_version: str = ""
    triton_version: str = ""
    python_version: str = ""
    driver: str = ""
    command: str = ""
    time_utc: str = ""

    @property
    def ok(self) -> bool:
        """Within tolerance."""
        return self.status == "ok"


@dataclass(frozen=True)
class Errors:
    """Distances of a result from the float64 answer."""

    max_abs: float
    row_rel: float
    rel: float


# --- measuring --------------------------------------------------------------------------------------------


def errors_against(result: torch.Tensor, answer: torch.Tensor) -> Errors:
    """How far `result` is from the float64 `answer`, both `[tokens, heads, dim]`; NaN when the result holds
    one."""
    if not answer.numel():
        return Errors(0.0, 0.0, 0.0)
    difference = result.double() - answer
    size = answer.norm(dim=-1)
    distance = difference.norm(dim=-1)
    # A row that is zero by definition is wrong by any amount, and right only at zero.
    rows = torch.where(size > 0, distance / size.clamp_min(1e-300), torch.where(distance > 0, math.inf, distance))
    whole = float(answer.norm())
    return Errors(
        max_abs=float(difference.abs().max()),
        row_rel=float(rows.max()),
        rel=float(difference.norm()) / whole if whole else float(difference.norm()),
    )


def tolerance(problem: Problem, answer: torch.Tensor, ingredients: Ingredients) -> Errors:
    """What each error may be at most: the derivation is in this module's docstring."""
    reference = attention_low_precision(problem, kv_operands=ingredients.kv_operands)
    fair = errors_against(reference, answer)
    u = UNIT_ROUNDOFF[problem.shape.q_dtype]
    largest = float(answer.abs().max()) if answer.numel() else 0.0
    return Errors(
        max_abs=TOLERANCE_FACTOR * (fair.max_abs + u * largest),
        row_rel=TOLERANCE_FACTOR * (fair.row_rel + u),
        rel=TOLERANCE_FACTOR * (fair.rel + u),
    )


def judge(errors: Errors, allowed: Errors, *, fenced: bool = True) -> str:
    """The status these errors deserve: ok, too_large, nan or wrote_outside."""
    if not fenced:
        return "wrote_outside"
    if any(math.isnan(x) for x in (errors.max_abs, errors.row_rel, errors.rel, allowed.max_abs, allowed.row_rel)):
        return "nan"
    within = errors.max_abs <= allowed.max_abs and errors.row_rel <= allowed.row_rel
    return "ok" if within else "too_large"


def run_kernel(
    problem: Problem, *, tile: TileConfig | LeanTile | HopperTile, ingredients: Ingredients, kernel: Any = None
) -> torch.Tensor:
    """The kernel's output for this problem, on the problem's device, from an output tensor full of NaN.

    A LeanTile launches the lean kernel, a HopperTile the Hopper kernel.
    """
    output = problem.new_output()
    prepare = {LeanTile: prepare_lean, HopperTile: prepare_hopper}.get(type(tile), prepare_launch)
    prepare(**problem.tensors(), o=output, **problem.options(), tile=tile, ingredients=ingredients, kernel=kernel).run()
    return output


def run_each_alone(problem: Problem, *, tile: TileConfig, ingredients: Ingredients) -> torch.Tensor:
    """The kernel's output when every sequence of the problem is launched by itself, packed as in the
    batch."""
    parts = [problem.sequence(i) for i in range(len(problem.shape.extend_len))]
    return torch.cat([run_kernel(part, tile=tile, ingredients=ingredients) for part in parts])


def launchable_device() -> str:
    """Where this process can launch kernels: `cpu` in an interpreter process or without a GPU, else
    `cuda`."""
    return "cuda" if torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1" else "cpu"


def raise_if_poisoned(error: Exception, device: str) -> None:
    """Raise `error` again when the CUDA context did not survive it: only a fresh process can go on."""
    if device.startswith("cuda"):
        try:
            torch.cuda.synchronize()
        except Exception:
            raise error from None


def check_case(case: Case, kernel_path: str | None = None, device: str | None = None) -> NumericsRow:
    """The row of one case, run in this process, where kernels must be launchable; failures are rows as well.

    `kernel_path` is a file to take `extend_attention_kernel` from, instead of the project's.
    """
    started = time.perf_counter()
    device = device or launchable_device()
    blank = blank_row(case, study="matrix", variant=_option_words(case.shape), device=device)
    try:
        problem = make_problem(case.shape, seed=case.seed, device=device, k_scale=case.k_scale, v_scale=case.v_scale)
        output = run_kernel(
            problem,
            tile=case.tile,
            ingredients=case.ingredients,
            kernel=_kernel_from(kernel_path) if kernel_path else None,
        )
        answer = attention_float64(problem)
        errors = errors_against(output, answer)
        allowed = tolerance(problem, answer, case.ingredients)
        status = judge(errors, allowed, fenced=fence_intact(output))
    except Exception as exc:  # a compile that fails is an observation; the row says which
        raise_if_poisoned(exc, device)
        return replace(
            blank,
            status="failed",
            message=f"{type(exc).__name__}: {exc}"[:600],
            wall_s=time.perf_counter() - started,
        )
    return replace(
        with_errors(blank, errors, answer),
        status=status,
        k_scale=problem.k_scale,
        v_scale=problem.v_scale,
        max_abs_tolerance=allowed.max_abs,
        row_rel_tolerance=allowed.row_rel,
        wall_s=time.perf_counter() - started,
    )


def run_cases(
    cases: Iterable[Case],
    backend: str = "auto",
    *,
    workers: int | None = None,
    kernel_path: str | None = None,
    processes: KernelProcesses | None = None,
    progress: Callable[[int, int, NumericsRow], None] | None = None,
    command: str = "helpers.attention.correctness.numerics.run_cases",
) -> list[NumericsRow]:
    """The rows of `cases`, in order, run in worker processes on a CUDA GPU or in Triton's interpreter.

    `backend` is auto (a GPU when there is one), cuda or interpreter. `processes` reuses workers that are
    open. `progress` is called with (done, total, row) as each arrives. Raises UserError for a backend that is
    not there.
    """
    return run_tasks(
        [
            (
                check_case,
                (case, kernel_path),
                blank_row(case, study="matrix", variant=_option_words(case.shape)),
            )
            for case in cases
        ],
        backend,
        workers=workers,
        processes=processes,
        progress=progress,
        command=command,
    )


def resolve_backend(backend: str) -> str:
    """cuda or interpreter; raises UserError for another word, and for cuda without a GPU."""
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    if backend == "cuda" and not torch.cuda.is_available():
        raise UserError("backend cuda: no CUDA device here; use auto or interpreter")
    if backend == "auto":
        return "cuda" if torch.cuda.is_available() else "interpreter"
    return backend


def write_rows(path: str | Path, rows: Iterable[NumericsRow], *, append: bool = False) -> None:
    """Write rows as CSV with a header, or add them to such a file; None is an empty field."""
    with open(path, "a" if append else "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not append:
            writer.writerow([field.name for field in fields(NumericsRow)])
        writer.writerows(astuple(row) for row in rows)


def read_rows(path: str | Path) -> list[NumericsRow]:
    """The rows of a file that `write_rows` wrote; raises UserError when it is not there or not such a
    file."""
    kinds = {field.name: str(field.type).removesuffix(" | None") for field in fields(NumericsRow)}
    convert = {"int": int, "float": float, "str": str, "bool": lambda text: text == "True"}
    try:
        table = rows_of(Path(path))
    except OSError as exc:
        raise UserError(
            f"cannot read {path}: {exc.strerror or exc}; benchmarks/record_numerics.py --out writes one"
        ) from exc
    if table and set(table[0]) != set(kinds):
        raise UserError(f"{path} has other columns than a numerics record: write it with benchmarks/record_numerics.py")
    return [
        NumericsRow(**{k: None if v == "" and kinds[k] != "str" else convert[kinds[k]](v) for k, v in line.items()})
        for line in table
    ]


def summarise(rows: Iterable[NumericsRow]) -> dict[str, int]:
    """Counts by status, with `total` first: {"total": 40, "ok": 40}."""
    rows = list(rows)
    return {"total": len(rows), **dict(sorted(Counter(row.status for row in rows).items()))}


# --- running and rows -------------------------------------------------------------------------------------


def run_tasks(
    tasks: list[tuple[Callable, tuple, NumericsRow]],
    backend: str,
    *,
    workers: int | None = None,
    processes: KernelProcesses | None = None,
    progress: Callable[[int, int, NumericsRow], None] | None = None,
    command: str,
) -> list[NumericsRow]:
    """The rows of tasks (function, arguments, the row should its process fail), in order; see `run_cases`."""
    interpret = resolve_backend(backend) == "interpreter"
    if processes is not None and processes.interpret != interpret:
        raise UserError(
            f"the processes given do {'' if processes.interpret else 'not '}interpret; backend is {backend}"
        )
    own = None if processes is not None else KernelProcesses(interpret=interpret, workers=workers)
    pool = processes or own
    try:
        futures = [pool.submit(function, *args) for function, args, _ in tasks]
        results: list[list[NumericsRow]] = []
        for done, (future, (_, _, blank)) in enumerate(zip(futures, tasks, strict=True), start=1):
            try:
                answer = future.result()
            except WorkerFailed as exc:
                where = _environment("cpu" if interpret else "cuda")
                answer = replace(blank, **where, status="failed", message=str(exc)[-600:])
            rows = [replace(row, command=command) for row in (answer if isinstance(answer, list) else [answer])]
            results.append(rows)
            if progress is not None:
                for row in rows:
                    progress(done, len(tasks), row)
        return [row for rows in results for row in rows]
    finally:
        if own is not None:
            own.close()


def blank_row(case: Case, *, study: str, variant: str, device: str = "cpu") -> NumericsRow:
    shape = case.shape
    differing = INCIDENT.difference(case.ingredients)
    named = next((name for name, value in INGREDIENT_SETS.items() if value == case.ingredients), None)
    return NumericsRow(
        study=study,
        variant=variant,
        status="failed",
        **_environment(device),
        head_dim=shape.head_dim,
        v_head_dim=shape.v_head_dim,
        num_q_heads=shape.num_q_heads,
        num_kv_heads=shape.num_kv_heads,
        q_dtype=shape.q_dtype,
        kv_dtype=shape.kv_dtype,
        model_window=shape.model_window,
        causal=shape.causal,
        logit_cap=shape.logit_cap,
        mask="none" if not shape.custom_mask else "prefix" if shape.mask_prefix else "new_only",
        sinks=shape.sinks,
        prefix_len=" ".join(map(str, shape.prefix_len)),
        extend_len=" ".join(map(str, shape.extend_len)),
        tile=str(case.tile),
        tile_table=case.tile_table,
        num_warps=case.tile.num_warps,
        num_stages=getattr(case.tile, "num_stages", None),
        ingredients=named or " ".join(f"{k}={v}" for k, v in differing.items()),
        seed=case.seed,
        time_utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def with_errors(row: NumericsRow, errors: Errors, answer: torch.Tensor) -> NumericsRow:
    largest = float(answer.abs().max()) if answer.numel() else 0.0
    spacing = 2.0 * UNIT_ROUNDOFF[row.q_dtype] * 2.0 ** math.floor(math.log2(largest)) if largest else 0.0
    return replace(
        row,
        max_abs=errors.max_abs,
        row_rel=errors.row_rel,
        rel=errors.rel,
        answer_max_abs=largest,
        max_ulps=errors.max_abs / spacing if spacing else 0.0,
    )


def equal_fraction(a: torch.Tensor, b: torch.Tensor) -> float:
    """Fraction of elements equal to the bit (as numbers: NaN equals nothing)."""
    return float((a == b).double().mean()) if a.numel() else 1.0


def _option_words(shape: AttentionShape) -> str:
    words = [f"window {shape.model_window}" if shape.model_window else "", "cap" if shape.logit_cap else ""]
    words += [
        "mask" if shape.custom_mask else "",
        "sinks" if shape.sinks else "",
        "" if shape.causal else "non-causal",
    ]
    return ", ".join(word for word in words if word) or "plain"


@lru_cache(maxsize=8)
def _environment(device: str) -> dict[str, str]:
    import triton

    on_gpu = device.startswith("cuda")
    arch, name = "none", f"CPU {platform.machine()}"
    if on_gpu:
        major, minor = torch.cuda.get_device_capability(device)
        arch = f"sm_{major}{minor}" + ("a" if major >= 9 else "")
        name = torch.cuda.get_device_name(device)
    return {
        "backend": "cuda" if on_gpu else "interpreter",
        "device": name,
        "arch": arch,
        "torch_version": torch.__version__,
        "triton_version": triton.__version__,
        "python_version": platform.python_version(),
        "driver": _driver() if on_gpu else "",
    }


def _driver() -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.split("\n")[0].strip() or "unknown"


@lru_cache(maxsize=32)
def _kernel_from(path: str) -> Any:
    """`extend_attention_kernel` as the file at `path` defines it."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"kernel_variant_{abs(hash(path))}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.extend_attention_kernel

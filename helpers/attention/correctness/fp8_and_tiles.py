"""Two studies: what each fp8 cast costs, and whether the tile or the batch shows in the numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from helpers.attention.correctness.cases import SMALL_TILES, Case
from helpers.attention.correctness.inputs import fence_intact, make_problem
from helpers.attention.correctness.numerics import (
    Errors,
    NumericsRow,
    blank_row,
    equal_fraction,
    errors_against,
    judge,
    launchable_device,
    raise_if_poisoned,
    run_each_alone,
    run_kernel,
    run_tasks,
    tolerance,
    with_errors,
)
from helpers.attention.correctness.processes import KernelProcesses
from helpers.attention.correctness.reference import attention_float64, attention_low_precision
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, AttentionShape
from helpers.attention.spec import INCIDENT, LEAN
from helpers.attention.tiles import TileConfig, parse_tile
from helpers.errors import UserError

_NO_LIMIT = Errors(math.inf, math.inf, math.inf)


def fp8_shapes(size: str = "small") -> list[AttentionShape]:
    """Shapes of the fp8 study: `small` for the interpreter, `large` for a GPU (Gemma 4's two layers,
    fp8_e4m3)."""
    if size == "large":
        return [
            replace(GEMMA4_31B_SLIDING, kv_dtype="fp8_e4m3").with_lengths(1024, 4096),
            replace(GEMMA4_31B_GLOBAL, kv_dtype="fp8_e4m3").with_lengths(8192, 2048),
        ]
    if size != "small":
        raise UserError(f"unknown size {size!r}: choose small or large")
    base = AttentionShape(num_q_heads=2, num_kv_heads=1, head_dim=64, kv_dtype="fp8_e4m3", model_window=96)
    return [
        base.with_lengths(160, 32),
        replace(base, model_window=None, head_dim=128, v_head_dim=128).with_lengths(192, 32),
    ]


FP8_VARIANTS = (
    "cache rounding alone",
    "q cast alone",
    "p cast alone",
    "kernel, as_stored",
    "kernel, upcast",
)


def fp8_rows(shape: AttentionShape, *, seed: int = 0, device: str | None = None) -> list[NumericsRow]:
    """What fp8 costs, source by source, one row each (FP8_VARIANTS); run it where kernels are launchable.

    `cache rounding alone` compares float64 attention over the rounded cache with the same over the exact one:
    what an fp8 cache costs whatever the kernel does. All others are against float64 over the rounded cache,
    so they are what the kernel adds: q or p cast to fp8 and float32 for everything else but the new tokens' p
    (computed by the low-precision reference), then the kernel itself with both casts (as_stored) and with
    neither (upcast). Only the kernel's rows have a tolerance. Read `rel`; independent errors add up as
    squares.
    """
    device = device or launchable_device()
    tile = _table_tile("sm100", shape, device)
    problem = make_problem(shape, seed=seed, device=device, q_gain=1.0, keep_exact=True)
    answer = attention_float64(problem)
    rows: list[NumericsRow] = []
    for variant in FP8_VARIANTS:
        ingredients = replace(INCIDENT, kv_operands="upcast") if variant.endswith("upcast") else INCIDENT
        case = Case(shape=shape, tile=tile, tile_table="sm100", ingredients=ingredients, seed=seed)
        blank = blank_row(case, study="fp8", variant=variant, device=device)
        if not variant.startswith("kernel"):
            blank = replace(blank, tile="", tile_table="", num_warps=None, num_stages=None, ingredients="")
        blank = replace(blank, k_scale=problem.k_scale, v_scale=problem.v_scale)
        with _failure_is_a_row(rows, blank):
            allowed, against = _NO_LIMIT, answer
            if variant == "cache rounding alone":
                result, against = answer, attention_float64(problem, exact_cache=True)
            elif variant == "q cast alone":
                result = attention_low_precision(problem, q_dtype=shape.kv_dtype, p_dtype="fp32")
            elif variant == "p cast alone":
                result = attention_low_precision(problem, q_dtype="fp32", p_dtype=shape.kv_dtype)
            else:
                result = run_kernel(problem, tile=tile, ingredients=ingredients)
                allowed = tolerance(problem, answer, ingredients)
            errors = errors_against(result, against)
            row = replace(with_errors(blank, errors, against), status=judge(errors, allowed))
            if allowed is not _NO_LIMIT:
                row = replace(row, max_abs_tolerance=allowed.max_abs, row_rel_tolerance=allowed.row_rel)
            rows.append(row)
    return rows


TILE_VARIANTS = (
    ("Hopper tile, incident", "hopper", INCIDENT),
    ("branch tile, incident", "sm100", INCIDENT),
    ("Hopper tile, lean", "hopper", LEAN),
    ("branch tile, lean", "sm100", LEAN),
    ("other BLOCK_N, incident", "other_block_n", INCIDENT),
)


def tile_rows(shape: AttentionShape, *, seed: int = 0, device: str | None = None) -> list[NumericsRow]:
    """Whether the tile, the ingredients or the rest of the batch show in the numbers; one row per comparison.

    `X against float64` is how far variant X is from the answer, with its tolerance. `X against Hopper tile`
    compares X with the output of the Hopper tile and the incident's ingredients: `bitwise_equal_fraction` is
    the share of equal elements, and the differences are within the sum of both tolerances, or the row is not
    ok. `Hopper tile, again` and `alone against in batch` (each sequence launched by itself) are ok only when
    every bit is equal. BLOCK_M decides which rows share a CTA and leaves a row's arithmetic alone, and the
    two tables agree on BLOCK_N: so `other BLOCK_N` is there to show what a tile can change. It sets where p
    is rounded relative to the maximum so far.
    """
    device = device or launchable_device()
    problem = make_problem(shape, seed=seed, device=device)
    answer = attention_float64(problem)
    rows: list[NumericsRow] = []
    first, first_allowed = None, None
    for variant, table, ingredients in TILE_VARIANTS:
        tile = _table_tile(table, shape, device)
        case = Case(shape=shape, tile=tile, tile_table=table, ingredients=ingredients, seed=seed)
        blank = blank_row(case, study="tiles", variant=variant, device=device)
        blank = replace(blank, k_scale=problem.k_scale, v_scale=problem.v_scale)
        with _failure_is_a_row(rows, blank):
            output = run_kernel(problem, tile=tile, ingredients=ingredients)
            allowed = tolerance(problem, answer, ingredients)
            errors = errors_against(output, answer)
            rows.append(
                replace(
                    with_errors(blank, errors, answer),
                    variant=f"{variant} against float64",
                    status=judge(errors, allowed, fenced=fence_intact(output)),
                    max_abs_tolerance=allowed.max_abs,
                    row_rel_tolerance=allowed.row_rel,
                )
            )
            if first is None:
                first, first_allowed = output, allowed
                continue
            both = Errors(allowed.max_abs + first_allowed.max_abs, math.inf, math.inf)
            rows.append(_comparison(blank, output, first, both, f"{variant} against Hopper tile"))
    if first is not None:
        tile = _table_tile("hopper", shape, device)
        case = Case(shape=shape, tile=tile, tile_table="hopper", seed=seed)
        blank = blank_row(case, study="tiles", variant="", device=device)
        exactly = Errors(0.0, 0.0, 0.0)
        for variant, run in (("Hopper tile, again", run_kernel), ("alone against in batch", run_each_alone)):
            with _failure_is_a_row(rows, replace(blank, variant=variant)):
                output = run(problem, tile=tile, ingredients=INCIDENT)
                rows.append(_comparison(blank, output, first, exactly, variant))
    return rows


def _comparison(blank: NumericsRow, output, first, allowed: Errors, variant: str) -> NumericsRow:
    errors = errors_against(output, first.double())
    return replace(
        with_errors(blank, errors, first),
        variant=variant,
        status=judge(errors, allowed),
        max_abs_tolerance=allowed.max_abs,
        bitwise_equal_fraction=equal_fraction(output, first),
    )


@contextmanager
def _failure_is_a_row(rows: list[NumericsRow], blank: NumericsRow) -> Iterator[None]:
    """A variant that does not compile or launch becomes a row; the others are still worth having."""
    started, before = time.perf_counter(), len(rows)
    try:
        yield
    except Exception as exc:
        raise_if_poisoned(exc, "cuda" if blank.backend == "cuda" else "cpu")
        rows.append(replace(blank, status="failed", message=f"{type(exc).__name__}: {exc}"[:600]))
    for i in range(before, len(rows)):
        rows[i] = replace(rows[i], wall_s=time.perf_counter() - started)


def _table_tile(table: str, shape: AttentionShape, device: str) -> TileConfig:
    """The table's own tile on a GPU, a small stand-in elsewhere; `other_block_n`: Hopper's with another
    BLOCK_N."""
    if table == "other_block_n":
        hopper = _table_tile("hopper", shape, device)
        return replace(hopper, block_n=hopper.block_n // 2 if hopper.block_n > 16 else 32)
    if device.startswith("cuda"):
        return parse_tile(table, capability=90, head_dim=shape.head_dim)
    return SMALL_TILES[table]


def tile_shapes(size: str = "small") -> list[AttentionShape]:
    """Shapes of the tile-invariance study: `small` for the interpreter, `large` for a GPU."""
    if size == "large":
        lengths = ((1024, 37, 0), (512, 1000, 300))
        return [
            replace(GEMMA4_31B_SLIDING, kv_dtype=kv_dtype).with_lengths(*lengths) for kv_dtype in ("bf16", "fp8_e4m3")
        ] + [replace(GEMMA4_31B_GLOBAL, kv_dtype="fp8_e4m3").with_lengths(*lengths)]
    if size != "small":
        raise UserError(f"unknown size {size!r}: choose small or large")
    base = AttentionShape(num_q_heads=2, num_kv_heads=1, head_dim=64, model_window=40)
    return [replace(base, kv_dtype=kv_dtype).with_lengths((70, 9, 0), (33, 20, 5)) for kv_dtype in ("bf16", "fp8_e4m3")]


def run_study(
    study: Callable[[AttentionShape], list[NumericsRow]],
    shapes: Iterable[AttentionShape],
    backend: str = "auto",
    *,
    processes: KernelProcesses | None = None,
    progress: Callable[[int, int, NumericsRow], None] | None = None,
    command: str = "helpers.attention.correctness.fp8_and_tiles.run_study",
) -> list[NumericsRow]:
    """The rows of `fp8_rows` or `tile_rows` over these shapes, run in worker processes like `run_cases`."""
    tasks = []
    for shape in shapes:
        case = Case(shape=shape, tile=SMALL_TILES["hopper"])
        tasks.append(
            (
                study,
                (shape,),
                replace(
                    blank_row(case, study=study.__name__.removesuffix("_rows"), variant="whole study"),
                    tile="",
                ),
            )
        )
    return run_tasks(tasks, backend, processes=processes, progress=progress, command=command)

"""How fast, honestly: one row per (case, variant), failures and skips included, correctness checked in the same run.

**Time**: CUDA events through `triton.testing.do_bench`, median with p20 and p80. do_bench overwrites a 256 MB buffer
before each repetition, so L2 (50 MB on an H200) holds none of the inputs. Inputs are standard normal and seeded. With
rounds, every variant of a case has a turn a round, in another order each time, because a card that is limited by power
slows down as it works; a round's figure is the median of its repetitions, what is recorded the median of the rounds.
**Energy**: what the card's own counter (NVML) says a call costs when it runs back to back, the whole card's draw.
**FLOPs**: `AttentionShape.flops()`, visible (query, key) pairs only; hidden pairs an implementation computes count for
nothing. **Bytes**: what the problem needs, each visible input read once and the output written once, in the dtypes of
the problem, whatever an implementation reads. **Roofline**: min(matmul ceiling, intensity x copy ceiling), both
measured in the same run. **Error**: against float64 on a sample of tokens (every head); the tolerance is
numerics.tolerance's, with the reference rounded as the variant's own data path rounds.
"""

from __future__ import annotations

import csv
import ctypes
import itertools
import math
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from helpers.attention.correctness.inputs import TORCH_DTYPES, Problem
from helpers.attention.correctness.numerics import TOLERANCE_FACTOR, UNIT_ROUNDOFF, Errors, errors_against, judge
from helpers.attention.correctness.reference_sampled import packed_rows, sampled_attention, sampled_tokens
from helpers.attention.peers import Prepared, Variant, default_variants, prepare
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, LLAMA_LIKE, AttentionShape
from helpers.errors import UserError

BYTES_PER_ELEMENT = {"bf16": 2, "fp16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1}
INDEX_BYTES = 8
WARMUP_MS, REP_MS = 25, 100
LEAST_REPETITIONS = 7
SAMPLED_TOKENS = 48
CACHE_STATE = "do_bench overwrites 256 MB before each repetition"
MATMUL_SIZE = 8192
COPY_BYTES = 4 * 2**30
GROUPS = ("table", "head_dims", "server", "ragged", "prefix_sweep", "extend_sweep")
# Groups whose rounds are done twice, so that the two halves tell how far to trust a figure.
REPEATED_GROUPS = ("table", "head_dims", "server")
ROUND_WARMUP_MS, ROUND_REP_MS = 10, 40
ENERGY_MS, ENERGY_TURN_MS = 1200, 15
# A batch as a server sees it: new tokens and cached prefix of 16 sequences.
SERVER_EXTEND = (200, 4000, 1100, 640, 2500, 320, 3300, 900, 1800, 410, 3700, 250, 1450, 2900, 530, 2200)
SERVER_PREFIX = (16000, 0, 7000, 12000, 1000, 15000, 300, 9000, 4000, 0, 2000, 14000, 5500, 0, 11000, 8000)
STATUSES = ("ok", "wrong", "failed", "skipped")


@dataclass(frozen=True, kw_only=True)
class BenchCase:
    """A shape with lengths to time, and the part of the report it belongs to (GROUPS)."""

    name: str
    group: str
    shape: AttentionShape


@dataclass(frozen=True, kw_only=True)
class ThroughputRow:
    """One observation. `status`: ok; wrong (ran, beyond tolerance, time kept); failed; skipped (`reason` says why).

    `error_vs_reference` is the Frobenius norm of the difference over that of the answer, on `reference_rows` sampled
    (token, head) rows. `triton_n_spills` is Triton's `n_spills` of the loaded binary (local memory), not ptxas's.
    `host_us` is what enqueueing once costs the CPU: a median near it is launch-bound, not a kernel's time. With
    `rounds`, p20 and p80 are of the rounds' medians and the two halves the medians of the first rounds and of the last.
    """

    case: str
    group: str
    variant: str
    kernel: str = ""
    status: str = "ok"
    reason: str = ""
    note: str = ""
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    repetitions: int | None = None
    rounds: int | None = None
    first_half_ms: float | None = None
    second_half_ms: float | None = None
    millijoules: float | None = None
    tflops: float | None = None
    gbytes_per_s: float | None = None
    error_vs_reference: float | None = None
    error_row_rel: float | None = None
    error_row_rel_tolerance: float | None = None
    error_max_abs: float | None = None
    error_max_abs_tolerance: float | None = None
    tolerance_ok: bool | None = None
    data_path: str = ""
    reference_rows: int | None = None
    tile: str = ""
    num_warps: int | None = None
    num_stages: int | None = None
    regs_per_thread: int | None = None
    triton_n_spills: int | None = None
    smem_bytes: int | None = None
    q_dtype: str = ""
    kv_dtype: str = ""
    num_q_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    v_head_dim: int | None = None
    model_window: int | None = None
    prefix_len: str = ""
    extend_len: str = ""
    flops: int | None = None
    bytes_moved: int | None = None
    flops_per_byte: float | None = None
    matmul_ceiling_tflops: float | None = None
    copy_ceiling_gbytes_per_s: float | None = None
    roofline_tflops: float | None = None
    roofline_fraction: float | None = None
    host_us: float | None = None
    cache_state: str = CACHE_STATE
    gpu: str = ""
    driver: str = ""
    torch: str = ""
    triton: str = ""
    cuda: str = ""
    date_utc: str = ""
    command: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Ceilings:
    """What this GPU did on a large bf16 matmul (TFLOP/s) and a large copy (GB/s, read and write both counted)."""

    matmul_tflops: float
    copy_gbytes_per_s: float

    def roofline_tflops(self, flops_per_byte: float) -> float:
        """The most that either ceiling allows at this arithmetic intensity."""
        return min(self.matmul_tflops, flops_per_byte * self.copy_gbytes_per_s / 1e3)


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over so many."""

    median_ms: float
    p20_ms: float
    p80_ms: float
    repetitions: int


# --- what is timed ----------------------------------------------------------------------------------------


def bench_cases(names: Iterable[str] | None = None, *, quick: bool = False) -> list[BenchCase]:
    """The table's five cases first, then ragged batches and sweeps; `quick`: the table's alone.

    `names` picks cases or groups by name; raises UserError for one there is not.
    """
    sliding, whole, narrow = GEMMA4_31B_SLIDING, GEMMA4_31B_GLOBAL, LLAMA_LIKE
    fp8 = {"kv_dtype": "fp8_e4m3"}
    layers = {"sliding": (sliding, 1024, 4096), "global": (whole, 8192, 2048), "hd128": (narrow, 4096, 4096)}
    cases = [
        BenchCase(name=name, group="table", shape=shape.with_lengths(prefix, extend))
        for name, (shape, prefix, extend) in layers.items()
    ]
    cases += [
        BenchCase(name=f"{name} fp8", group="table", shape=replace(shape, **fp8).with_lengths(prefix, extend))
        for name, (shape, prefix, extend) in list(layers.items())[:2]
    ]
    cases += [
        BenchCase(
            name=name, group="head_dims", shape=replace(narrow, head_dim=d, v_head_dim=dv).with_lengths(4096, 4096)
        )
        for name, d, dv in (("hd64", 64, 64), ("hd192/128", 192, 128))
    ]
    served = {"sliding": sliding, "hd128": narrow}
    cases += [
        BenchCase(name=f"{name} server", group="server", shape=shape.with_lengths(SERVER_PREFIX, SERVER_EXTEND))
        for name, shape in served.items()
    ]
    ragged = ((1024, 0, 3000, 517, 4096), (700, 2048, 129, 1, 1500))
    cases += [
        BenchCase(name=f"{name} ragged", group="ragged", shape=shape.with_lengths(*ragged))
        for name, shape in (("sliding", sliding), ("global", whole))
    ]
    prefixes = {"sliding": (0, 4096, 16384), "global": (0, 2048, 16384)}
    extends = {"sliding": (1024, 2048, 8192), "global": (512, 1024, 4096)}
    for name, (shape, prefix, extend) in list(layers.items())[:2]:
        for group, lengths in (
            ("prefix_sweep", [(p, extend) for p in prefixes[name]]),
            ("extend_sweep", [(prefix, e) for e in extends[name]]),
        ):
            cases += [
                BenchCase(name=f"{name} prefix {p} new {e}", group=group, shape=shape.with_lengths(p, e))
                for p, e in lengths
            ]
    if names is not None:
        wanted = list(names)
        known = {case.name for case in cases} | {case.group for case in cases}
        if unknown := [name for name in wanted if name not in known]:
            raise UserError(f"unknown case {', '.join(unknown)}: choose from {', '.join(sorted(known))}")
        return [case for case in cases if case.name in wanted or case.group in wanted]
    return [case for case in cases if case.group == "table"] if quick else cases


def pairs_to_time(cases: Sequence[BenchCase], variants: Sequence[Variant]) -> list[tuple[BenchCase, Variant]]:
    """Every (case, variant) that gets a row, in order: variants for the table only stay out of the sweeps."""
    return [(c, v) for c in cases for v in variants if c.group == "table" or not v.table_only]


def bench_problem(shape: AttentionShape, *, seed: int = 0, device: str = "cuda") -> Problem:
    """A problem of standard normal numbers made on `device`: slots in random order, NaN in the unused ones.

    A 16-bit cache has scale 1, as engines serve it; an fp8 cache is calibrated (largest value to largest code).
    """
    if not shape.extend_len:
        raise UserError("this shape has no sequences: give it lengths with shape.with_lengths(prefix_len, extend_len)")
    random = torch.Generator(device=device).manual_seed(seed)
    new, cached = sum(shape.extend_len), sum(shape.prefix_len)
    slots = cached + max(64, cached // 16)
    new_dtype, cache_dtype = TORCH_DTYPES[shape.q_dtype], TORCH_DTYPES[shape.kv_dtype]

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=random, device=device)

    indices = torch.randperm(slots, generator=random, device=device)[:cached].contiguous()
    buffers, scales = [], []
    for dim in (shape.head_dim, shape.v_head_dim):
        values = normal(cached, shape.num_kv_heads, dim)
        calibrate = shape.kv_dtype.startswith("fp8") and values.numel()
        scale = float(values.abs().max()) / torch.finfo(cache_dtype).max if calibrate else 1.0
        whole = torch.full((slots, shape.num_kv_heads, dim), math.nan, device=device)
        whole[indices] = values / scale
        buffers.append(whole.to(cache_dtype))
        scales.append(scale)

    def offsets(lengths: tuple[int, ...]) -> torch.Tensor:
        return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)

    return Problem(
        shape=shape,
        seed=seed,
        q=normal(new, shape.num_q_heads, shape.head_dim).to(new_dtype),
        k=normal(new, shape.num_kv_heads, shape.head_dim).to(new_dtype),
        v=normal(new, shape.num_kv_heads, shape.v_head_dim).to(new_dtype),
        k_buffer=buffers[0],
        v_buffer=buffers[1],
        qo_indptr=offsets(shape.extend_len),
        kv_indptr=offsets(shape.prefix_len),
        kv_indices=indices,
        mask=None,
        mask_indptr=None,
        sinks=None,
        sm_scale=shape.head_dim**-0.5,
        k_scale=scales[0],
        v_scale=scales[1],
    )


def bytes_moved(shape: AttentionShape) -> int:
    """Bytes the problem needs: q, and each key and value that some query sees, read once; the output written once.

    A prefix token costs its slot number too. Prefix tokens that lie outside every window cost nothing.
    """
    new, cached = BYTES_PER_ELEMENT[shape.q_dtype], BYTES_PER_ELEMENT[shape.kv_dtype]
    kv_elements = shape.num_kv_heads * (shape.head_dim + shape.v_head_dim)
    total = 0
    for prefix, extend in zip(shape.prefix_len, shape.extend_len, strict=True):
        if not extend:
            continue
        # The first new token reaches back furthest, to window_left tokens before itself.
        seen = prefix if shape.window_left < 0 else min(prefix, shape.window_left)
        total += extend * shape.num_q_heads * (shape.head_dim + shape.v_head_dim) * new
        total += extend * kv_elements * new + seen * (kv_elements * cached + INDEX_BYTES)
    return total


# --- measuring --------------------------------------------------------------------------------------------


def time_call(run: Callable[[], Any]) -> Timing:
    """Median, p20 and p80 of `run` by triton.testing.do_bench, for REP_MS or LEAST_REPETITIONS if that is longer."""
    from triton.testing import do_bench

    run()
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    once_ms = (time.perf_counter() - started) * 1e3
    return _timing(do_bench(run, warmup=WARMUP_MS, rep=max(REP_MS, LEAST_REPETITIONS * once_ms), return_mode="all"))


def round_time(run: Callable[[], Any]) -> float:
    """Milliseconds of one turn: the median of a few calls by triton.testing.do_bench."""
    from triton.testing import do_bench

    return do_bench(run, warmup=ROUND_WARMUP_MS, rep=ROUND_REP_MS, return_mode="median")


def millijoules(run: Callable[[], Any], milliseconds: float) -> float | None:
    """Energy of one call when it runs back to back, by the card's own counter; None where there is none.

    The counter moves in steps of tens of milliseconds: what is read is the energy between two of its steps, at least
    ENERGY_MS apart, over the calls that were done between them.
    """
    counter = energy_counter()
    if counter is None:
        return None
    calls_a_turn = max(1, round(ENERGY_TURN_MS / milliseconds))
    started, calls, seen = time.monotonic(), 0, counter()
    first: tuple[int, int] | None = None
    while (elapsed := 1e3 * (time.monotonic() - started)) < 3 * ENERGY_MS:
        for _ in range(calls_a_turn):
            run()
        torch.cuda.synchronize()
        calls += calls_a_turn
        if (now := counter()) == seen:
            continue
        seen = now
        # The first steps belong to a card that is still changing its pace.
        if first is None and elapsed > ENERGY_MS / 4:
            first, started = (now, calls), time.monotonic()
        elif first is not None and elapsed > ENERGY_MS:
            return (now - first[0]) / (calls - first[1])
    return None


@lru_cache(maxsize=1)
def energy_counter() -> Callable[[], int] | None:
    """What NVML says this process's GPU has used so far, in millijoules; None where NVML does not say."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        handle, used = ctypes.c_void_p(), ctypes.c_ulonglong()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
            return None
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used)):
            return None
    except (OSError, AttributeError, RuntimeError, AssertionError):
        return None

    def read() -> int:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(used))
        return used.value

    return read


def host_microseconds(run: Callable[[], Any], *, calls: int = 3) -> float:
    """What enqueueing one call costs the CPU, the GPU idle before: the least of a few."""
    best = math.inf
    for _ in range(calls):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    torch.cuda.synchronize()
    return best * 1e6


def measure_ceilings() -> Ceilings:
    """This GPU's ceilings: an 8192^3 bf16 matmul on random data, and a copy of 4 GiB."""
    left, right = (torch.randn(MATMUL_SIZE, MATMUL_SIZE, device="cuda").to(torch.bfloat16) for _ in range(2))
    product = torch.empty_like(left)
    matmul = time_call(lambda: torch.mm(left, right, out=product))
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    copy = time_call(lambda: target.copy_(source))
    return Ceilings(2 * MATMUL_SIZE**3 / matmul.median_ms / 1e9, 2 * COPY_BYTES / copy.median_ms / 1e6)


@dataclass(frozen=True)
class Expected:
    """The float64 answer on the sampled rows of a problem, and the tolerance each data path earns, on demand."""

    problem: Problem
    tokens: tuple[tuple[int, ...], ...]
    answer: torch.Tensor

    @classmethod
    def of(cls, problem: Problem, total: int = SAMPLED_TOKENS) -> Expected:
        """The answer on about `total` tokens of the problem."""
        tokens = sampled_tokens(problem.shape, total)
        return cls(problem, tokens, sampled_attention(problem, tokens))

    def judge(self, output: torch.Tensor, data_path: str) -> tuple[str, Errors, Errors]:
        """(ok, too_large or nan; errors; tolerances) of a whole output `[tokens, heads, v_head_dim]`."""
        errors = errors_against(output[packed_rows(self.problem, self.tokens)], self.answer)
        allowed = self.tolerance(data_path)
        # Unsampled rows are at least written: outputs begin as NaN.
        if not bool(torch.isfinite(output).all()):
            return "nan", errors, allowed
        return judge(errors, allowed), errors, allowed

    def tolerance(self, data_path: str) -> Errors:
        """numerics.tolerance, on the sampled rows."""
        fair = errors_against(sampled_attention(self.problem, self.tokens, path=data_path), self.answer)
        u = UNIT_ROUNDOFF[self.problem.shape.q_dtype]
        largest = float(self.answer.abs().max())
        return Errors(
            TOLERANCE_FACTOR * (fair.max_abs + u * largest),
            TOLERANCE_FACTOR * (fair.row_rel + u),
            TOLERANCE_FACTOR * (fair.rel + u),
        )


def checked(
    case: BenchCase, variant: Variant, problem: Problem, *, expected: Expected, ceilings: Ceilings
) -> tuple[ThroughputRow, Prepared | None]:
    """(the row without times, what is ready to be timed, or None where it is not to be).

    What a variant raises becomes the row; only an error that broke the CUDA context is raised again.
    """
    row = blank_row(case, variant, ceilings)
    if reason := variant.why_not(case.shape):
        return replace(row, status="skipped", reason=reason), None
    output = torch.full(
        (*problem.q.shape[:2], case.shape.v_head_dim), math.nan, dtype=problem.q.dtype, device=problem.q.device
    )
    try:
        prepared = prepare(variant, problem, output)
        # A launcher may have run while it was prepared; the check is of one run on a fresh output.
        output.fill_(math.nan)
        returned = prepared.run()
        result = prepared.output(returned) if prepared.output else output
        verdict, errors, allowed = expected.judge(result, variant.data_path)
        row = with_launch(replace(row, note=_joined(variant.note, prepared.note)), prepared, returned)
        del result
    except Exception as exc:
        return _failed(row, exc, problem), None
    return replace(
        row,
        status="ok" if verdict == "ok" else "wrong",
        reason="" if verdict == "ok" else f"error {verdict.replace('_', ' ')} against float64",
        error_vs_reference=errors.rel,
        error_row_rel=errors.row_rel,
        error_row_rel_tolerance=allowed.row_rel,
        error_max_abs=errors.max_abs,
        error_max_abs_tolerance=allowed.max_abs,
        tolerance_ok=verdict == "ok",
        reference_rows=expected.answer.shape[0] * expected.answer.shape[1],
    ), prepared


def measure(
    case: BenchCase,
    variant: Variant,
    problem: Problem,
    *,
    expected: Expected,
    ceilings: Ceilings,
    timer: Callable[[Callable[[], Any]], Timing] = time_call,
    host_timer: Callable[[Callable[[], Any]], float] = host_microseconds,
) -> ThroughputRow:
    """One row, checked and timed by itself; errors as `checked`."""
    row, prepared = checked(case, variant, problem, expected=expected, ceilings=ceilings)
    if prepared is None:
        return row
    try:
        return replace(with_timing(row, timer(prepared.run), ceilings), host_us=host_timer(prepared.run))
    except Exception as exc:
        return _failed(blank_row(case, variant, ceilings), exc, problem)


def measure_in_rounds(
    case: BenchCase,
    variants: Sequence[Variant],
    problem: Problem,
    *,
    expected: Expected,
    ceilings: Ceilings,
    rounds: int,
    starting: Callable[[BenchCase, Variant], None] = lambda case, variant: None,
    timer: Callable[[Callable[[], Any]], float] = round_time,
    host_timer: Callable[[Callable[[], Any]], float] = host_microseconds,
    energy: Callable[[Callable[[], Any], float], float | None] = millijoules,
) -> list[ThroughputRow]:
    """A row a variant, in their order: all are checked, then timed in turns, `rounds` times; errors as `checked`.

    `timer` gives the milliseconds of one turn. Groups that are repeated have twice the rounds.
    """
    rows: dict[str, ThroughputRow] = {}
    ready: dict[str, Prepared] = {}
    for variant in variants:
        starting(case, variant)
        rows[variant.name], prepared = checked(case, variant, problem, expected=expected, ceilings=ceilings)
        if prepared is not None:
            ready[variant.name] = prepared
    by_name = {variant.name: variant for variant in variants}
    repeated = case.group in REPEATED_GROUPS
    times: dict[str, list[float]] = {name: [] for name in ready}
    for number in range(2 * rounds if repeated else rounds):
        order = list(times)
        random.Random(number).shuffle(order)
        for name in order:
            starting(case, by_name[name])
            try:
                times[name].append(timer(ready[name].run))
            except Exception as exc:
                rows[name] = _failed(blank_row(case, by_name[name], ceilings), exc, problem)
                del times[name]
    for name, turns in times.items():
        starting(case, by_name[name])
        half = len(turns) // 2
        rows[name] = replace(
            with_timing(rows[name], _timing(turns), ceilings),
            rounds=len(turns),
            first_half_ms=statistics.median(turns[:half]) if repeated else None,
            second_half_ms=statistics.median(turns[half:]) if repeated else None,
            host_us=host_timer(ready[name].run),
            millijoules=energy(ready[name].run, statistics.median(turns)) if repeated else None,
        )
    return list(rows.values())


def _timing(milliseconds: Sequence[float]) -> Timing:
    p20, median, p80 = (
        torch.tensor(milliseconds, dtype=torch.float64).quantile(torch.tensor([0.2, 0.5, 0.8]).double()).tolist()
    )
    return Timing(median, p20, p80, len(milliseconds))


def _failed(row: ThroughputRow, error: Exception, problem: Problem) -> ThroughputRow:
    raise_if_context_is_lost(error, problem.q.device)
    return replace(row, status="failed", reason=_one_line(error))


def raise_if_context_is_lost(error: Exception, device: torch.device) -> None:
    """Raise ContextLost when the GPU no longer answers after `error`: only a fresh process can go on."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except Exception:
            raise ContextLost(_one_line(error)) from error


class ContextLost(RuntimeError):
    """The CUDA context did not survive a variant."""


def require_gpu() -> None:
    """Raise UserError where this process has no CUDA GPU."""
    if not torch.cuda.is_available():
        raise UserError("the benchmark needs a CUDA GPU and this process sees none; recorded rows are in data/")


def main_rows(
    cases: Sequence[BenchCase] | None = None,
    variants: Sequence[Variant] | None = None,
    *,
    peers: Path | None = None,
    seed: int = 0,
    command: str = "",
    rounds: int = 1,
    deadline: float | None = None,
    done: Iterable[tuple[str, str]] = (),
    starting: Callable[[BenchCase, Variant], None] | None = None,
    emit: Callable[[ThroughputRow], None] | None = None,
) -> list[ThroughputRow]:
    """Rows of all pairs on this process's GPU, each handed to `emit` as it comes.

    With `rounds` above 1, the variants of a case are timed in turns (`measure_in_rounds`). `deadline` is a
    time.monotonic() after which what is left becomes skipped rows. `done` pairs are left out; `starting` hears of each
    pair before it runs, so that a parent knows what a crash was about. Raises UserError without a GPU and ContextLost
    when a variant broke it.
    """
    require_gpu()
    cases = bench_cases() if cases is None else list(cases)
    variants = default_variants(peers) if variants is None else list(variants)
    finished, rows = set(done), []
    ceilings = measure_ceilings()
    facts = gpu_facts()

    def keep(row: ThroughputRow) -> None:
        row = replace(row, **facts, date_utc=_now(), command=command, seed=seed)
        rows.append(row)
        if emit:
            emit(row)

    for row in ceiling_rows(ceilings):
        if (row.case, row.variant) not in finished:
            keep(row)
    for case, pairs in itertools.groupby(pairs_to_time(cases, variants), key=lambda pair: pair[0]):
        left = [variant for _, variant in pairs if (case.name, variant.name) not in finished]
        problem = expected = None
        together: list[Variant] = []
        for variant in left:
            reason = variant.why_not(case.shape)
            if not reason and deadline is not None and time.monotonic() > deadline:
                reason = "the run's time limit was reached before it"
            if reason:
                keep(replace(blank_row(case, variant, ceilings), status="skipped", reason=reason))
                continue
            if problem is None:
                try:
                    problem = bench_problem(case.shape, seed=seed)
                    expected = Expected.of(problem)
                except torch.OutOfMemoryError as exc:
                    problem = None
                    keep(
                        replace(blank_row(case, variant, ceilings), status="failed", reason=f"inputs: {_one_line(exc)}")
                    )
                    continue
            if rounds > 1:
                together.append(variant)
                continue
            if starting:
                starting(case, variant)
            keep(measure(case, variant, problem, expected=expected, ceilings=ceilings))
            torch.cuda.empty_cache()
        if together:
            hear = {"starting": starting} if starting else {}
            for row in measure_in_rounds(
                case, together, problem, expected=expected, ceilings=ceilings, rounds=rounds, **hear
            ):
                keep(row)
            torch.cuda.empty_cache()
    return rows


def compile_ahead(
    cases: Sequence[BenchCase], variants: Sequence[Variant], *, shard: int = 0, shards: int = 1
) -> list[tuple[str, str, str]]:
    """Compile and launch once what the cases need, this shard's share of it; (case, variant, error) of failures.

    A kernel is compiled per dtype, head layout and window, not per length: lengths are cut to a block's worth
    unless the variant needs the exact ones.
    """
    failures = []
    for case, variant in ahead_pairs(cases, variants)[shard::shards]:
        shape = case.shape
        if variant.precompile == "any":
            shape = shape.with_lengths((64,) * len(shape.prefix_len), (64,) * len(shape.extend_len))
        try:
            problem = bench_problem(shape)
            prepare(variant, problem, torch.empty_like(problem.q[..., : shape.v_head_dim])).run()
            torch.cuda.synchronize()
        except Exception as exc:
            failures.append((case.name, variant.name, _one_line(exc)))
    return failures


def ahead_pairs(cases: Sequence[BenchCase], variants: Sequence[Variant]) -> list[tuple[BenchCase, Variant]]:
    """One pair per thing to compile, the widest head dimensions (the slowest to compile) first."""
    picked: dict[Any, tuple[BenchCase, Variant]] = {}
    for case, variant in pairs_to_time(cases, variants):
        if variant.precompile == "none" or variant.why_not(case.shape):
            continue
        shape = case.shape
        if variant.precompile == "any":
            # One sequence or several: an integer argument of 1 is compiled in.
            several = min(2, len(shape.extend_len))
            shape = replace(shape, prefix_len=(64,) * several, extend_len=(64,) * several)
        picked.setdefault((variant.name, shape), (case, variant))
    return sorted(picked.values(), key=lambda pair: -pair[0].shape.head_dim)


# --- rows -------------------------------------------------------------------------------------------------


def blank_row(case: BenchCase, variant: Variant, ceilings: Ceilings | None = None) -> ThroughputRow:
    """What is known of a pair before it runs."""
    shape = case.shape
    flops, moved = shape.flops(), bytes_moved(shape)
    intensity = flops / moved if moved else None
    return ThroughputRow(
        case=case.name,
        group=case.group,
        variant=variant.name,
        kernel=variant.kernel,
        note=variant.note,
        data_path=variant.data_path,
        q_dtype=shape.q_dtype,
        kv_dtype=shape.kv_dtype,
        num_q_heads=shape.num_q_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        v_head_dim=shape.v_head_dim,
        model_window=shape.model_window,
        prefix_len=" ".join(map(str, shape.prefix_len)),
        extend_len=" ".join(map(str, shape.extend_len)),
        flops=flops,
        bytes_moved=moved,
        flops_per_byte=intensity,
        matmul_ceiling_tflops=ceilings.matmul_tflops if ceilings else None,
        copy_ceiling_gbytes_per_s=ceilings.copy_gbytes_per_s if ceilings else None,
        roofline_tflops=ceilings.roofline_tflops(intensity) if ceilings and intensity else None,
    )


def with_timing(row: ThroughputRow, timing: Timing, ceilings: Ceilings) -> ThroughputRow:
    """The row with times and what follows from them."""
    tflops = row.flops / timing.median_ms / 1e9
    return replace(
        row,
        **asdict(timing),
        tflops=tflops,
        gbytes_per_s=row.bytes_moved / timing.median_ms / 1e6,
        roofline_fraction=tflops / row.roofline_tflops if row.roofline_tflops else None,
    )


def with_launch(row: ThroughputRow, prepared: Prepared, returned: Any) -> ThroughputRow:
    """The row with tile, registers and spills, as far as the variant knows them."""
    compiled = prepared.compiled(returned) if prepared.compiled else None
    metadata = getattr(compiled, "metadata", None)
    return replace(
        row,
        tile=prepared.tile,
        num_warps=prepared.num_warps or getattr(metadata, "num_warps", None),
        num_stages=prepared.num_stages or getattr(metadata, "num_stages", None),
        regs_per_thread=getattr(compiled, "n_regs", None),
        triton_n_spills=getattr(compiled, "n_spills", None),
        smem_bytes=getattr(metadata, "shared", None),
    )


def ceiling_rows(ceilings: Ceilings) -> list[ThroughputRow]:
    """The two ceilings as rows of their own."""
    n = MATMUL_SIZE
    flops, copied = 2 * n**3, 2 * COPY_BYTES
    matmul_ms = flops / ceilings.matmul_tflops / 1e9
    copy_ms = copied / ceilings.copy_gbytes_per_s / 1e6
    return [
        ThroughputRow(
            case="ceiling", group="ceiling", variant=f"matmul {n}^3", kernel="torch.mm", q_dtype="bf16",
            median_ms=matmul_ms, tflops=ceilings.matmul_tflops, flops=flops, bytes_moved=3 * 2 * n * n,
            gbytes_per_s=3 * 2 * n * n / matmul_ms / 1e6, note="standard normal data",
        ),
        ThroughputRow(
            case="ceiling", group="ceiling", variant=f"copy {COPY_BYTES >> 30} GiB", kernel="torch copy_",
            median_ms=copy_ms, gbytes_per_s=ceilings.copy_gbytes_per_s, flops=0, bytes_moved=copied,
            note="bytes read and bytes written both counted; random bytes",
        ),
    ]  # fmt: skip


COLUMNS = tuple(field.name for field in fields(ThroughputRow))


def write_rows(
    path: Path, rows: Iterable[ThroughputRow], *, append: bool = False, comments: Sequence[str] = ()
) -> None:
    """Write rows as CSV, `# ` comment lines and a header first, or append them; flushed when this returns."""
    with path.open("a" if append else "w", newline="", encoding="utf-8") as out:
        if not append:
            out.writelines(f"# {line}\n" for line in comments)
        writer = csv.writer(out, lineterminator="\n")
        if not append:
            writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_cell(value) for value in asdict(row).values()])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `write_rows` wrote, as text by column."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def summary_table(rows: Sequence[dict[str, str]]) -> str:
    """A short table of rows as read_csv gives them: case, variant, TFLOP/s, ratio to the incident, error, status."""
    base = {row["case"]: row["tflops"] for row in rows if row["variant"] == "incident, hopper tile" and row["tflops"]}
    lines = [f"{'case':<28}{'variant':<24}{'TFLOP/s':>8}{'x inc.':>8}{'roof':>6}{'error':>10}  status"]
    for row in rows:
        if row["case"] == "ceiling":
            rate = f"{float(row['tflops']):.0f} TFLOP/s" if row["tflops"] else f"{float(row['gbytes_per_s']):.0f} GB/s"
            lines.append(f"{row['case']:<28}{row['variant']:<24}{rate}")
            continue
        speed = f"{float(row['tflops']):.1f}" if row["tflops"] else "-"
        known = row["tflops"] and row["case"] in base
        ratio = f"{float(row['tflops']) / float(base[row['case']]):.2f}" if known else "-"
        roof = f"{float(row['roofline_fraction']):.0%}" if row["roofline_fraction"] else "-"
        error = f"{float(row['error_vs_reference']):.1e}" if row["error_vs_reference"] else "-"
        status = row["status"] + (f": {row['reason'][:70]}" if row["reason"] else "")
        lines.append(f"{row['case']:<28}{row['variant']:<24}{speed:>8}{ratio:>8}{roof:>6}{error:>10}  {status}")
    return "\n".join(lines)


@lru_cache(maxsize=1)
def gpu_facts() -> dict[str, str]:
    """GPU, driver and versions, as columns."""
    import triton

    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.split("\n")[0].strip()
    except (OSError, subprocess.TimeoutExpired):
        driver = ""
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "driver": driver or "unknown",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda or "",
    }


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

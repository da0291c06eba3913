"""Everything the benchmark times: our kernels and what others ship, each ready to run or saying why it cannot.

A peer is used only from what is installed or what `benchmarks/fetch_peers.py` put into `.peers/`; nothing of another
project lives here. A Variant that does not apply to a shape, or is not at hand, gives a reason instead of a number.
torch is imported when something is built, so that listing variants needs none.
"""

from __future__ import annotations

import importlib.util
import inspect
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import INCIDENT
from helpers.attention.tiles import parse_tile
from helpers.compiler.bring.wheels import copy_bounded, find_definition, load_from_wheel
from helpers.errors import UserError
from helpers.processes import session_folder

if TYPE_CHECKING:
    import torch

    from helpers.attention.correctness.inputs import Problem

FETCH = "python benchmarks/fetch_peers.py"
FA3_LIBRARY = "_vllm_fa3_C.abi3.so"
# What a decompressed FA3 library may be at most: 153 MB in vllm 0.22.1.
FA3_MAX_BYTES = 600 * 2**20
FA4_ARCHIVE = "fa4.tar.xz"
# FlexAttention's tile at head dim 512: 64 rows by 32 keys.
FLEX_WIDE = {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 8, "num_stages": 1}
# What it may unpack to at most: 254 MB for 4.0.0b36.
FA4_MAX_BYTES = 600 * 2**20
FLASHINFER_REASON = "not fetched: flashinfer-python 0.7.2 needs nine packages more and a CUDA toolkit on first use"
VLLM_FA4_REASON = "vLLM's fork of FlashAttention-4, which has head dim 512, is not on the package index"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Something ready to be timed. `run` enqueues the work once; `output` reads `[tokens, heads, v_head_dim]` from
    what `run` returned, or None when it was written to the `o` that `build` was given."""

    run: Callable[[], Any]
    output: Callable[[Any], torch.Tensor] | None = None
    compiled: Callable[[Any], Any] | None = None
    tile: str = ""
    num_warps: int | None = None
    num_stages: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One implementation: `build(problem, o)` makes it ready (a Prepared, a Launch-like object with `run`, or a
    plain callable that writes `o`). `why_not(shape)` is a reason, or empty when it applies."""

    name: str
    kernel: str
    build: Callable[[Problem, torch.Tensor], Any]
    why_not: Callable[[AttentionShape], str] = lambda shape: ""
    # Which operands are rounded, so that the error is held against the right tolerance (sampled.PATHS).
    data_path: str = "upcast"
    # Which groups of cases it runs in: the table's alone, or the sweeps and ragged batches as well.
    table_only: bool = False
    # Triton kernels compile ahead, in parallel: "any" length will do, "exact" ones are needed, or "none".
    precompile: str = "any"
    note: str = ""


def unavailable(name: str, kernel: str, reason: str, *, table_only: bool = True) -> Variant:
    """A variant that is only its reason."""

    def build(problem: Problem, o: torch.Tensor) -> Any:
        raise UserError(reason)

    return Variant(
        name=name, kernel=kernel, build=build, why_not=lambda shape: reason, precompile="none", table_only=table_only
    )


def prepare(variant: Variant, problem: Problem, o: torch.Tensor) -> Prepared:
    """What `variant` built, in one form whatever its builder returned."""
    built = variant.build(problem, o)
    if isinstance(built, Prepared):
        return built
    if callable(getattr(built, "run", None)):
        arguments, options = getattr(built, "arguments", {}), getattr(built, "options", {})
        # What is launched, not what was asked for: a builder may have changed the tile.
        tile = f"{arguments['BLOCK_M']}x{arguments['BLOCK_N']}" if "BLOCK_M" in arguments else ""
        if arguments.get("GROUP_PACK", 1) > 1:
            tile += f" pack {arguments['GROUP_PACK']}"
        kept = getattr(built, "workspace_bytes", 0)
        return Prepared(
            run=built.run,
            compiled=lambda returned: returned,
            note=f"converts the visible prefix first, into {kept / 2**20:.0f} MiB; timed as well" if kept else "",
            tile=tile,
            num_warps=options.get("num_warps"),
            num_stages=options.get("num_stages"),
        )
    return Prepared(run=built, compiled=lambda returned: returned)


def select_variants(words: str | None, peers: Path | None = None) -> list[Variant]:
    """The variants whose name contains one of the comma-separated words (all for None); raises UserError for none."""
    if peers is not None and not peers.is_dir():
        raise UserError(f"{peers} is no folder: run python benchmarks/fetch_peers.py, or leave --peers out")
    variants = default_variants(peers)
    if not words:
        return variants
    wanted = [word.strip().lower() for word in words.split(",")]
    picked = [v for v in variants if any(word in v.name.lower() for word in wanted)]
    if not picked:
        raise UserError(f"no variant's name contains {words!r}: choose from {', '.join(v.name for v in variants)}")
    return picked


def default_variants(peers: Path | None = None) -> list[Variant]:
    """Everything compared, ours first; `peers` is the folder that fetch_peers.py filled, None for none."""
    return [
        *incident_variants(),
        lean_variant(),
        hopper_variant(),
        *sglang_variants(peers),
        *fa3_variants(peers),
        *sdpa_variants(),
        flex_variant(),
        *fa4_variants(peers),
        unavailable("FA4 of vLLM", "vllm-project/flash-attention", VLLM_FA4_REASON),
        unavailable("FlashInfer", "flashinfer", FLASHINFER_REASON),
    ]


# --- ours --------------------------------------------------------------------------------------------------


def incident_variants() -> list[Variant]:
    """The incident's kernel with the Hopper table's tile and with the sm_100 branch's."""

    def builder(table: str) -> Callable[[Problem, torch.Tensor], Any]:
        def build(problem: Problem, o: torch.Tensor) -> Any:
            from helpers.attention.launch import prepare_launch

            tile = parse_tile(table, capability=90, head_dim=problem.shape.head_dim)
            return prepare_launch(**problem.tensors(), o=o, **problem.options(), tile=tile, ingredients=INCIDENT)

        return build

    return [
        Variant(
            name=f"incident, {table} tile",
            kernel="kernels/extend_attention.py",
            build=builder(table),
            data_path="as_stored",
        )
        for table in ("hopper", "sm100")
    ]


def lean_variant(tile: Any = None, name: str = "lean") -> Variant:
    """The lean kernel with its own tile table, or with the tile given."""

    def build(problem: Problem, o: torch.Tensor) -> Any:
        from helpers.attention.lean import prepare_lean

        return prepare_lean(**problem.tensors(), o=o, **problem.options(), tile=tile)

    def why_not(shape: AttentionShape) -> str:
        here = importlib.util.find_spec("helpers.attention.lean") is not None
        return "" if here else "helpers/attention/lean.py is not there"

    return Variant(name=name, kernel="kernels/lean_attention.py", build=build, why_not=why_not)


def hopper_variant() -> Variant:
    """The Hopper kernel, Gluon's schedule on sm_90a, with its own tiles."""
    from helpers.attention.hopper import prepare_hopper, why_not

    def build(problem: Problem, o: torch.Tensor) -> Any:
        return prepare_hopper(**problem.tensors(), o=o, **problem.options())

    return Variant(name="hopper, Gluon", kernel="kernels/hopper_attention.py", build=build, why_not=why_not)


# --- sglang's kernel, from a wheel --------------------------------------------------------------------------


def sglang_variants(peers: Path | None) -> list[Variant]:
    """One variant per `sglang-*` archive in `peers`, or one that says how to fetch them."""
    archives = sorted([*peers.glob("sglang-*.whl"), *peers.glob("sglang-*.zip")]) if peers else []
    if not archives:
        return [unavailable("sglang", "sglang wheel", f"no sglang-*.whl or .zip in the peers folder: run {FETCH}")]
    return [_sglang_variant(archive) for archive in archives]


def _sglang_variant(archive: Path) -> Variant:
    version = archive.name.removesuffix(archive.suffix).split("-")[1]

    def build(problem: Problem, o: torch.Tensor) -> Prepared:
        module = load_sglang(archive)
        recorder = module._fwd_kernel
        values = sglang_arguments(problem, o)
        call = bind_by_name(module.extend_attention_fwd, values)
        if "window_kv_offsets" in call:
            call["window_kv_offsets"] = None

        def run() -> Any:
            module.extend_attention_fwd(**call)
            return recorder.last

        def describe() -> dict[str, Any]:
            run()
            asked = recorder.options
            return {
                "tile": f"{asked.get('BLOCK_M', '')}x{asked.get('BLOCK_N', '')}",
                "num_warps": asked.get("num_warps"),
                "num_stages": asked.get("num_stages"),
            }

        prepared = Prepared(run=run, compiled=lambda returned: returned, note="timed through its own launcher")
        return replace(prepared, **describe())

    return Variant(
        name=f"sglang {version}", kernel=f"extend_attention.py of {archive.name}", build=build, data_path="as_stored"
    )


class KernelRecorder:
    """Takes a Triton kernel's place in its module: launches it, and keeps what came back and what was asked."""

    def __init__(self, kernel: Any) -> None:
        self._kernel, self.last, self.options = kernel, None, {}

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        launcher = self._kernel[grid]

        def launch(*args: Any, **kwargs: Any) -> Any:
            self.options = kwargs
            self.last = launcher(*args, **kwargs)
            return self.last

        return launch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)


@lru_cache(maxsize=8)
def load_sglang(archive: Path) -> Any:
    """The module of a wheel's extend attention, its kernel behind a KernelRecorder; raises UserError."""
    import torch

    member = find_definition(archive, "extend_attention.py", "extend_attention_fwd")
    truths = {"is_cuda": torch.cuda.is_available() and torch.version.hip is None}
    module = load_from_wheel(archive, member, _scratch_folder() / archive.stem, truths=truths)
    if not hasattr(module, "_fwd_kernel"):
        raise UserError(f"{member} of {archive.name} has no _fwd_kernel: this version is laid out differently")
    module._fwd_kernel = KernelRecorder(module._fwd_kernel)
    return module


def sglang_arguments(problem: Problem, o: torch.Tensor) -> dict[str, Any]:
    """What sglang's launcher may ask for, by the names it has used (0.5.10 to 0.5.23)."""
    shape = problem.shape
    return {
        "q_extend": problem.q,
        "k_extend": problem.k,
        "v_extend": problem.v,
        "o_extend": o,
        "k_buffer": problem.k_buffer,
        "v_buffer": problem.v_buffer,
        "qo_indptr": problem.qo_indptr,
        "kv_indptr": problem.kv_indptr,
        "kv_indices": problem.kv_indices,
        "custom_mask": None,
        "is_causal": True,
        "mask_indptr": None,
        "max_len_extend": max(shape.extend_len, default=0),
        "k_scale": problem.k_scale,
        "v_scale": problem.v_scale,
        "sm_scale": problem.sm_scale,
        "logit_cap": 0.0,
        "sliding_window_size": shape.window_left,
        "sinks": None,
    }


def bind_by_name(function: Callable, values: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call of `function`: those of `values` it knows; raises UserError naming what it
    needs and nobody has, or a value that would silently go unused."""
    parameters = inspect.signature(function).parameters
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in values
    ]
    if missing:
        raise UserError(f"{function.__name__} asks for {', '.join(missing)}, which this benchmark does not know")
    unused = [name for name, value in values.items() if name not in parameters and value is not None]
    if unused:
        raise UserError(f"{function.__name__} has no parameter {', '.join(unused)}: its meaning may have changed")
    return {name: value for name, value in values.items() if name in parameters}


# --- FlashAttention-3 ---------------------------------------------------------------------------------------


def fa3_variants(peers: Path | None) -> list[Variant]:
    """FA3 over dense keys, over pages of 64 and of 1 (the layout of our cache), and all in fp8 over pages of 64.

    Its pool holds prefix and new tokens alike; writing the new ones into it is not timed.
    """
    packed = peers / f"{FA3_LIBRARY}.xz" if peers else None
    kernel = "FlashAttention-3 of vllm 0.22.1"
    names = ("FA3 dense", "FA3 paged 64", "FA3 paged 1", "FA3 paged 64, all fp8")
    if packed is None or not packed.is_file():
        reason = f"no {FA3_LIBRARY}.xz in the peers folder: run {FETCH}"
        return [unavailable(name, kernel, reason) for name in names]

    def variant(name: str, page: int | None, *, fp8: bool = False) -> Variant:
        return Variant(
            name=name,
            kernel=kernel,
            build=lambda problem, o: _build_fa3(packed, problem, o, page=page, fp8=fp8),
            why_not=lambda shape: fa3_why_not(shape, fp8=fp8),
            data_path="all_cached" if fp8 else "upcast",
            precompile="none",
        )

    pages = (None, 64, 1, 64)
    return [variant(n, page, fp8=n.endswith("fp8")) for n, page in zip(names, pages, strict=True)]


def fa3_why_not(shape: AttentionShape, *, fp8: bool = False) -> str:
    """Why FA3 cannot take this shape, or nothing."""
    if max(shape.head_dim, shape.v_head_dim) > 256:
        return f"FlashAttention-3 has no kernel for head dim {max(shape.head_dim, shape.v_head_dim)} (256 at most)"
    if fp8 and shape.kv_dtype != "fp8_e4m3":
        return "the all-fp8 variant is for cases with an fp8_e4m3 cache"
    if not fp8 and shape.kv_dtype != shape.q_dtype:
        return f"FlashAttention-3 wants q and cache of one dtype, here {shape.q_dtype} and {shape.kv_dtype}"
    return ""


def load_fa3(packed: Path) -> Any:
    """torch's operator namespace of the FA3 library, unpacked to a temporary folder of this process."""
    import torch

    _load_library(packed)
    return torch.ops._vllm_fa3_C


@lru_cache(maxsize=2)
def _load_library(packed: Path) -> Path:
    import torch

    target = unpack_xz(packed, _scratch_folder() / FA3_LIBRARY, max_bytes=FA3_MAX_BYTES)
    try:
        torch.ops.load_library(str(target))
    except OSError as exc:
        raise UserError(f"{packed.name} does not load with torch {torch.__version__}: {exc}") from None
    return target


def unpack_xz(packed: Path, target: Path, *, max_bytes: int) -> Path:
    """`target`, unpacked; raises UserError when the file is no xz, is cut short or unpacks to more than allowed."""
    try:
        with lzma.open(packed) as source:
            copy_bounded(source, target, max_bytes, too_large=f"{packed.name} unpacks to more than {max_bytes} bytes")
    except (OSError, lzma.LZMAError, EOFError) as exc:
        target.unlink(missing_ok=True)
        raise UserError(f"{packed.name} cannot be unpacked: {exc}; run {FETCH} again") from None
    return target


def _build_fa3(packed: Path, problem: Problem, o: torch.Tensor, *, page: int | None, fp8: bool) -> Prepared:
    import torch

    ops = load_fa3(packed)
    shape = problem.shape
    device = problem.q.device
    sequences = len(shape.extend_len)
    q, scale_k, scale_v = problem.q, None, None
    if fp8:
        q = q.to(torch.float8_e4m3fn)
        scale_k, scale_v = (
            torch.full((sequences, shape.num_kv_heads), s, device=device) for s in (problem.k_scale, problem.v_scale)
        )
    one = torch.ones((sequences, shape.num_kv_heads), device=device) if fp8 else None
    lengths = [p + e for p, e in zip(shape.prefix_len, shape.extend_len, strict=True)]
    keys, values = dense_kv(problem, quantised=fp8)
    used = table = key_offsets = None
    if page is None:
        key_offsets = torch.tensor([0, *_running(lengths)], dtype=torch.int32, device=device)
    else:
        keys, values, table = paged_kv(keys, values, lengths, page)
        used = torch.tensor(lengths, dtype=torch.int32, device=device)
    arguments = (
        q, keys, values, None, None, None, o, problem.qo_indptr, key_offsets, None, None, used,
        max(shape.extend_len), max(lengths), table, None, None, None, None, None, one, scale_k, scale_v,
        problem.sm_scale, True, shape.window_left, 0 if shape.model_window else -1, 0.0, True, None, 0, None, 0,
        None, 1, 0, None,
    )  # fmt: skip
    where = "dense, packed keys" if page is None else f"page size {page}, pages scattered"
    return Prepared(run=lambda: ops.fwd(*arguments), compiled=None, note=f"{where}; num_splits 0 (its heuristic)")


def dense_kv(problem: Problem, *, quantised: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Prefix and new keys (values) of each sequence, one after another: `[tokens, kv_heads, dim]`.

    In q's dtype and without scales; `quantised`: in the cache's dtype, divided by its scale.
    """
    import torch

    from helpers.attention.correctness.reference_sampled import cached_rows

    shape = problem.shape
    results = []
    for buffer, fresh, scale in (
        (problem.k_buffer, problem.k, problem.k_scale),
        (problem.v_buffer, problem.v, problem.v_scale),
    ):
        parts = []
        for seq, (prefix, extend) in enumerate(zip(shape.prefix_len, shape.extend_len, strict=True)):
            first = sum(shape.prefix_len[:seq])
            start = sum(shape.extend_len[:seq])
            cached = cached_rows(buffer, problem.kv_indices[first : first + prefix])
            new = fresh[start : start + extend]
            if quantised:
                # Saturated, as an engine's quantiser does: torch makes NaN of what lies beyond fp8's largest value.
                most = torch.finfo(buffer.dtype).max
                parts += [cached, (new.float() / scale).clamp(-most, most).to(buffer.dtype)]
            else:
                parts += [(cached.float() * scale).to(fresh.dtype), new]
        # Joined as bytes: not every build of torch concatenates fp8.
        results.append(torch.cat([part.view(torch.uint8) for part in parts]).view(parts[0].dtype))
    return results[0], results[1]


def paged_kv(
    keys: torch.Tensor, values: torch.Tensor, lengths: list[int], page: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(key pool, value pool, page table): pools `[pages, page, kv_heads, dim]` in random page order, zeros where
    unused; table int32 `[sequences, most pages of a sequence]`."""
    import torch

    device = keys.device
    counts = [-(-length // page) for length in lengths]
    total = sum(counts)
    generator = torch.Generator().manual_seed(total)
    order = torch.randperm(total, generator=generator).to(device)
    table = torch.zeros((len(lengths), max(counts)), dtype=torch.int32, device=device)
    pools = [torch.zeros((total * page, *x.shape[1:]), dtype=x.dtype, device=device) for x in (keys, values)]
    first_page = start = 0
    for seq, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        pages = order[first_page : first_page + count]
        table[seq, :count] = pages.to(torch.int32)
        token = torch.arange(length, device=device)
        slots = pages[token // page] * page + token % page
        for pool, source in zip(pools, (keys, values), strict=True):
            pool.view(torch.uint8)[slots] = source[start : start + length].view(torch.uint8)
        first_page, start = first_page + count, start + length
    key_pool, value_pool = (pool.view(total, page, *pool.shape[1:]) for pool in pools)
    return key_pool, value_pool, table


# --- what torch ships ---------------------------------------------------------------------------------------


def dense_why_not(shape: AttentionShape, *, window: bool = False, max_head_dim: int | None = None) -> str:
    """Why a dense, one-sequence, 16-bit peer cannot take this shape, or nothing."""
    if shape.kv_dtype != shape.q_dtype:
        return f"runs on 16-bit tensors of one dtype, here the cache is {shape.kv_dtype}"
    if len(shape.extend_len) != 1:
        return "timed on single sequences only: a ragged batch is no dense tensor"
    if shape.model_window is not None and not window:
        return "has no sliding window"
    if max_head_dim and shape.head_dim != shape.v_head_dim:
        return f"has no kernel for keys of {shape.head_dim} and values of {shape.v_head_dim}"
    if max_head_dim and max(shape.head_dim, shape.v_head_dim) > max_head_dim:
        return f"has no kernel for head dim {shape.head_dim} ({max_head_dim} at most)"
    return ""


def _as_batch(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    keys, values = dense_kv(problem)
    return tuple(x.transpose(0, 1).unsqueeze(0).contiguous() for x in (problem.q, keys, values))


def _from_batch(out: torch.Tensor) -> torch.Tensor:
    return out[0].transpose(0, 1)


def sdpa_variants() -> list[Variant]:
    """torch's scaled_dot_product_attention by FlashAttention-2 and by cuDNN, on the dense equivalent."""

    def build(problem: Problem, backend: str) -> Prepared:
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.attention.bias import causal_lower_right
        from torch.nn.functional import scaled_dot_product_attention

        q, k, v = _as_batch(problem)
        options: dict[str, Any] = {"scale": problem.sm_scale, "enable_gqa": problem.shape.kv_group_num > 1}
        queries, keys = q.shape[2], k.shape[2]
        note = "dense keys; new tokens at the end (lower-right causal)"
        if queries == keys:
            options["is_causal"] = True
        elif backend == "FLASH_ATTENTION":
            options["attn_mask"] = causal_lower_right(queries, keys)
        else:
            # torch's cuDNN path aligns causality upper-left, so the prefix needs a mask that is read and computed.
            visible = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
            options["attn_mask"] = visible[None, None]
            note = "dense keys; explicit boolean mask, so hidden pairs are computed too"

        def run() -> torch.Tensor:
            with sdpa_kernel(getattr(SDPBackend, backend)):
                return scaled_dot_product_attention(q, k, v, **options)

        return Prepared(run=run, output=_from_batch, note=note)

    return [
        Variant(
            name=f"SDPA {name}",
            kernel=f"torch scaled_dot_product_attention, {backend}",
            build=lambda problem, o, backend=backend: build(problem, backend),
            why_not=lambda shape: dense_why_not(shape, max_head_dim=256),
            precompile="none",
            table_only=backend == "CUDNN_ATTENTION",
        )
        for name, backend in (("flash", "FLASH_ATTENTION"), ("cuDNN", "CUDNN_ATTENTION"))
    ]


def flex_variant() -> Variant:
    """FlexAttention, compiled, with a block mask for causality and window."""

    def build(problem: Problem, o: torch.Tensor) -> Prepared:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        q, k, v = _as_batch(problem)
        prefix, window = problem.shape.prefix_len[0], problem.shape.model_window

        def visible(batch: Any, head: Any, query: Any, key: Any) -> Any:
            causal = key <= query + prefix
            return causal if window is None else causal & (query + prefix - key < window)

        mask = create_block_mask(visible, None, None, q.shape[2], k.shape[2], device=q.device)
        compiled = torch.compile(flex_attention, dynamic=False)
        options: dict[str, Any] = {"scale": problem.sm_scale, "enable_gqa": problem.shape.kv_group_num > 1}
        chosen = "default kernel options"
        if problem.shape.head_dim > 256:
            # The default tile needs more shared memory than there is.
            options["kernel_options"] = FLEX_WIDE
            chosen = f"kernel options {FLEX_WIDE}"
        return Prepared(
            run=lambda: compiled(q, k, v, block_mask=mask, **options),
            output=_from_batch,
            note=f"dense keys; torch.compile with {chosen}; block mask built outside the timing",
        )

    return Variant(
        name="FlexAttention",
        kernel="torch flex_attention",
        build=build,
        why_not=lambda shape: dense_why_not(shape, window=True),
        precompile="exact",
        table_only=True,
    )


def fa4_variants(peers: Path | None) -> list[Variant]:
    """FlashAttention-4 (`flash_attn.cute`) over dense keys, over pages of 128 and of 1; installed, or from `peers`.

    Its pool holds prefix and new tokens alike, as FlashAttention-3's; writing the new ones into it is not timed.
    """

    def why_not(shape: AttentionShape) -> str:
        if reason := _why_no_fa4(peers):
            return reason
        if max(shape.head_dim, shape.v_head_dim) > 256:
            return f"flash_attn.cute has no kernel for head dim {max(shape.head_dim, shape.v_head_dim)} on sm_90"
        return "" if shape.kv_dtype == shape.q_dtype else f"wants one dtype, here the cache is {shape.kv_dtype}"

    return [
        Variant(
            name=name,
            kernel="flash_attn.cute of flash-attn-4 4.0.0b36",
            build=lambda problem, o, page=page: _build_fa4(problem, page=page),
            why_not=why_not,
            table_only=page == 128,
        )
        for name, page in (("FA4 dense", None), ("FA4 paged 128", 128), ("FA4 paged 1", 1))
    ]


def _build_fa4(problem: Problem, *, page: int | None) -> Prepared:
    import torch
    from flash_attn.cute import flash_attn_varlen_func

    shape, device = problem.shape, problem.q.device
    lengths = [p + e for p, e in zip(shape.prefix_len, shape.extend_len, strict=True)]
    keys, values = dense_kv(problem)
    where: dict[str, Any] = {"cu_seqlens_k": torch.tensor([0, *_running(lengths)], dtype=torch.int32, device=device)}
    if page is not None:
        keys, values, table = paged_kv(keys, values, lengths, page)
        where = {"page_table": table, "seqused_k": torch.tensor(lengths, dtype=torch.int32, device=device)}
    options = {
        "cu_seqlens_q": problem.qo_indptr,
        "max_seqlen_q": max(shape.extend_len),
        "max_seqlen_k": max(lengths),
        "softmax_scale": problem.sm_scale,
        "causal": True,
        "window_size": (shape.window_left, 0) if shape.model_window else (None, None),
    }
    return Prepared(
        run=lambda: flash_attn_varlen_func(problem.q, keys, values, **where, **options),
        output=lambda out: out[0] if isinstance(out, tuple) else out,
        note="dense, packed keys" if page is None else f"page size {page}, pages scattered",
    )


@lru_cache(maxsize=4)
def _why_no_fa4(peers: Path | None) -> str:
    """Why `flash_attn.cute` cannot be imported, or nothing; what fetch_peers.py packed is put on the path first."""
    if peers is not None and (peers / FA4_ARCHIVE).is_file():
        site = unpack_fa4(peers)
        # Where its wheels' .pth file would put the compiler's modules.
        sys.path[:0] = [str(site), str(site / "nvidia_cutlass_dsl" / "dsl_packages")]
    try:
        import flash_attn.cute  # noqa: F401
    except Exception as exc:  # its compiler looks for a GPU, a driver and CUDA's libraries as it is imported
        return f"flash_attn.cute cannot be imported ({type(exc).__name__}: {str(exc)[:120]}): run {FETCH}"
    return ""


def unpack_fa4(peers: Path) -> Path:
    """The folder beside the archive that holds its modules, unpacked once; raises UserError for a damaged one."""
    site = peers / FA4_ARCHIVE.removesuffix(".tar.xz")
    if site.is_dir():
        return site
    part = Path(tempfile.mkdtemp(prefix=".fa4-", dir=peers))
    try:
        with tarfile.open(peers / FA4_ARCHIVE) as source:
            size = 0
            for member in source:
                size += member.size
                if size > FA4_MAX_BYTES:
                    raise UserError(f"{FA4_ARCHIVE} unpacks to more than {FA4_MAX_BYTES} bytes; run {FETCH} again")
                source.extract(member, part, filter="data")
        os.replace(part, site)
    except (OSError, tarfile.TarError, lzma.LZMAError, EOFError) as exc:
        if site.is_dir():  # another process was faster
            return site
        raise UserError(f"{FA4_ARCHIVE} cannot be unpacked: {exc}; run {FETCH} again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return site


# --- odds ---------------------------------------------------------------------------------------------------


def _scratch_folder() -> Path:
    """A temporary folder of this process, gone when it ends."""
    return session_folder("peers")


def _running(lengths: list[int]) -> list[int]:
    total, sums = 0, []
    for length in lengths:
        total += length
        sums.append(total)
    return sums

"""Seeded attention problems that punish a wrong read: ragged, paged, scattered, and poisoned with NaN."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields, replace

import torch

from helpers.attention.shapes import AttentionShape
from helpers.errors import UserError

TORCH_DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
# Rows before and after each packed tensor: NaN for what is read, and for the output a fence that must stay
# NaN. As many as the tallest tile of the tables has, so that a store without its row mask lands on the fence.
GUARD_ROWS = 128
# 16-bit caches are served with scale 1; a test must not use 1, or a forgotten scale would go unseen.
DEFAULT_16_BIT_SCALES = (0.75, 1.25)
MASK_DENSITY = 0.7


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Tensors of one extend-attention call, laid out as kernels/extend_attention.py describes.

    Unused slots of the cache and the rows around `q`, `k`, `v` hold NaN. `k_exact` and `v_exact` are, when
    asked for, the float32 cache entries before they were rounded to the cache's dtype, `[slots, kv_heads,
    dim]`, unscaled.
    """

    shape: AttentionShape
    seed: int
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    k_buffer: torch.Tensor
    v_buffer: torch.Tensor
    qo_indptr: torch.Tensor
    kv_indptr: torch.Tensor
    kv_indices: torch.Tensor
    mask: torch.Tensor | None
    mask_indptr: torch.Tensor | None
    sinks: torch.Tensor | None
    sm_scale: float
    k_scale: float
    v_scale: float
    k_exact: torch.Tensor | None = None
    v_exact: torch.Tensor | None = None

    def new_output(self) -> torch.Tensor:
        """An output of NaN, `[tokens, num_q_heads, v_head_dim]`, with a fence for `fence_intact`."""
        tokens, heads = self.q.shape[0], self.q.shape[1]
        whole = torch.full(
            (tokens + 2 * GUARD_ROWS, heads, self.shape.v_head_dim),
            math.nan,
            dtype=self.q.dtype,
            device=self.q.device,
        )
        return whole[GUARD_ROWS : GUARD_ROWS + tokens]

    def tensors(self) -> dict[str, torch.Tensor | None]:
        """The positional tensors of `extend_attention_fwd` by name, without the output."""
        names = ("q", "k", "v", "k_buffer", "v_buffer", "qo_indptr", "kv_indptr", "kv_indices")
        return {name: getattr(self, name) for name in names}

    def options(self) -> dict[str, object]:
        """The keyword arguments of `extend_attention_fwd` that this problem fixes."""
        return {
            "sm_scale": self.sm_scale,
            "k_scale": self.k_scale,
            "v_scale": self.v_scale,
            "model_window": self.shape.model_window,
            "causal": self.shape.causal,
            "logit_cap": self.shape.logit_cap,
            "mask": self.mask,
            "mask_indptr": self.mask_indptr,
            "mask_prefix": self.shape.mask_prefix,
            "sinks": self.sinks,
            "max_extend_len": max(self.shape.extend_len, default=0),
        }

    def sequence(self, index: int) -> Problem:
        """The same cache with sequence `index` alone; its numbers are the same, to the bit."""
        if not 0 <= index < len(self.shape.extend_len):
            raise UserError(f"sequence {index} of a problem with {len(self.shape.extend_len)} sequences")
        rows = slice(*self.qo_indptr[index : index + 2].tolist())
        slots = slice(*self.kv_indptr[index : index + 2].tolist())
        prefix, extend = self.shape.prefix_len[index], self.shape.extend_len[index]
        changed: dict[str, object] = {
            "shape": self.shape.with_lengths(prefix, extend),
            "qo_indptr": _offsets((extend,), torch.int32, self.q.device),
            "kv_indptr": _offsets((prefix,), torch.int32, self.q.device),
            # A copy: a slice of an int64 list need not begin on 16 bytes, and launches should be alike.
            "kv_indices": self.kv_indices[slots].clone(),
            **{name: _fenced(getattr(self, name)[rows]) for name in ("q", "k", "v")},
        }
        if self.mask is not None:
            part = slice(*self.mask_indptr[index : index + 2].tolist())
            changed["mask"] = self.mask[part].clone()
            changed["mask_indptr"] = _offsets((extend * (prefix + extend),), torch.int64, self.q.device)
        return replace(self, **changed)

    def to(self, device: str | torch.device) -> Problem:
        """The same problem on another device, fences included."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                moved[field.name] = _fenced(value.to(device)) if field.name in ("q", "k", "v") else value.to(device)
        return replace(self, **moved)


def fence_intact(output: torch.Tensor) -> bool:
    """Whether the rows around an output made by `Problem.new_output` are still NaN: nothing wrote outside."""
    row = output.stride(0)
    whole = output.as_strided((output.shape[0] + 2 * GUARD_ROWS, row), (row, 1), 0)
    fence = torch.cat([whole[:GUARD_ROWS], whole[-GUARD_ROWS:]])
    return bool(torch.isnan(fence).all())


def make_problem(
    shape: AttentionShape,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    k_scale: float | None = None,
    v_scale: float | None = None,
    q_gain: float = 2.0,
    keep_exact: bool = False,
) -> Problem:
    """The problem of this shape and seed; the same numbers on every device, made on the CPU.

    K, V and q are normal, q with standard deviation `q_gain`, so that logits spread by about `q_gain` and a
    soft cap of that size bites. Scales left out: for fp8, the largest magnitude of the data over the dtype's
    largest finite value, as engines calibrate; for 16-bit, something that is not 1. With a custom mask, the
    first new token of the first sequence that has one sees nothing at all (unless the mask spares the
    prefix). Raises UserError when the shape has no lengths or a scale is not a positive finite number.
    """
    if not shape.extend_len:
        raise UserError("this shape has no sequences: give it lengths with shape.with_lengths(prefix_len, extend_len)")
    for name, scale in (("k_scale", k_scale), ("v_scale", v_scale)):
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise UserError(f"{name} {scale} must be a positive finite number")
    random = torch.Generator().manual_seed(seed)
    new_tokens, cached_tokens = sum(shape.extend_len), sum(shape.prefix_len)

    def normal(tokens: int, heads: int, dim: int) -> torch.Tensor:
        return torch.randn((tokens, heads, dim), generator=random)

    new_dtype = TORCH_DTYPES[shape.q_dtype]
    q = q_gain * normal(new_tokens, shape.num_q_heads, shape.head_dim)
    k = normal(new_tokens, shape.num_kv_heads, shape.head_dim)
    v = normal(new_tokens, shape.num_kv_heads, shape.v_head_dim)

    slots = cached_tokens + max(8, cached_tokens // 4)
    kv_indices = torch.randperm(slots, generator=random)[:cached_tokens]
    buffers, exact, scales = [], [], []
    for dim, asked, default in (
        (shape.head_dim, k_scale, DEFAULT_16_BIT_SCALES[0]),
        (shape.v_head_dim, v_scale, DEFAULT_16_BIT_SCALES[1]),
    ):
        values = normal(cached_tokens, shape.num_kv_heads, dim)
        scale = asked if asked is not None else _calibrated(values, shape.kv_dtype, default)
        whole = torch.full((slots, shape.num_kv_heads, dim), math.nan)
        whole[kv_indices] = values
        exact.append(whole)
        buffers.append((whole / scale).to(TORCH_DTYPES[shape.kv_dtype]))
        scales.append(scale)

    mask = mask_indptr = None
    if shape.custom_mask:
        sizes = [e * (p + e) for p, e in zip(shape.prefix_len, shape.extend_len, strict=True)]
        mask = (torch.rand(sum(sizes), generator=random) < MASK_DENSITY).to(torch.uint8)
        mask_indptr = _offsets(sizes, torch.int64)
        first = next((i for i, extend in enumerate(shape.extend_len) if extend), None)
        if first is not None:
            start = int(mask_indptr[first])
            mask[start : start + shape.prefix_len[first] + shape.extend_len[first]] = 0
    return Problem(
        shape=shape,
        seed=seed,
        q=_fenced(q.to(new_dtype)),
        k=_fenced(k.to(new_dtype)),
        v=_fenced(v.to(new_dtype)),
        k_buffer=buffers[0],
        v_buffer=buffers[1],
        qo_indptr=_offsets(shape.extend_len, torch.int32),
        kv_indptr=_offsets(shape.prefix_len, torch.int32),
        kv_indices=kv_indices,
        mask=mask,
        mask_indptr=mask_indptr,
        sinks=torch.randn(shape.num_q_heads, generator=random) + 1 if shape.sinks else None,
        sm_scale=shape.head_dim**-0.5,
        k_scale=scales[0],
        v_scale=scales[1],
        k_exact=exact[0] if keep_exact else None,
        v_exact=exact[1] if keep_exact else None,
    ).to(device)


def _calibrated(values: torch.Tensor, dtype: str, default: float) -> float:
    if not dtype.startswith("fp8") or not values.numel():
        return default
    return float(values.abs().max()) / torch.finfo(TORCH_DTYPES[dtype]).max


def _offsets(sizes, dtype: torch.dtype, device: str | torch.device = "cpu") -> torch.Tensor:
    return torch.tensor([0, *itertools.accumulate(sizes)], dtype=dtype, device=device)


def _fenced(rows: torch.Tensor) -> torch.Tensor:
    """The same rows as a view between GUARD_ROWS rows of NaN on either side."""
    whole = torch.full(
        (rows.shape[0] + 2 * GUARD_ROWS, *rows.shape[1:]), math.nan, dtype=rows.dtype, device=rows.device
    )
    inner = whole[GUARD_ROWS : GUARD_ROWS + rows.shape[0]]
    inner.copy_(rows)
    return inner

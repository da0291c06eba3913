"""The answer on a sample of rows, for shapes whose whole answer in float64 would take longer than the benchmark.

The same meaning as reference.py, vectorised over the sampled tokens of a sequence; tests hold the two against
each other. Every query head of a sampled token is computed.
"""

from __future__ import annotations

import torch

from helpers.attention.correctness.inputs import TORCH_DTYPES, Problem
from helpers.attention.shapes import AttentionShape
from helpers.errors import UserError

# float64: the answer. The others round operands as a kernel's data path does: `upcast` and `as_stored` are
# reference.attention_low_precision's; `all_cached` quantises q, p and the new keys and values like the cache.
PATHS = ("float64", "upcast", "as_stored", "all_cached")


def sampled_tokens(shape: AttentionShape, total: int = 48) -> tuple[tuple[int, ...], ...]:
    """Token numbers per sequence, about `total` in all: the first, the last and evenly spread between."""
    sequences = max(1, sum(1 for n in shape.extend_len if n))
    each = max(2, total // sequences)
    picked = []
    for extend in shape.extend_len:
        count = min(extend, each)
        picked.append(tuple(sorted({round(i * (extend - 1) / max(1, count - 1)) for i in range(count)})))
    return tuple(picked)


def packed_rows(problem: Problem, tokens: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    """Where the sampled tokens stand in the packed tensors, int64 on the problem's device."""
    starts = problem.qo_indptr.tolist()
    rows = [start + t for start, chosen in zip(starts, tokens, strict=False) for t in chosen]
    return torch.tensor(rows, dtype=torch.int64, device=problem.q.device)


def cached_rows(buffer: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """`buffer[slots]` for any dtype: bytes are gathered, because not every build of torch indexes fp8."""
    return buffer.view(torch.uint8)[slots].view(buffer.dtype)


def sampled_attention(problem: Problem, tokens: tuple[tuple[int, ...], ...], *, path: str = "float64") -> torch.Tensor:
    """Attention of the sampled tokens, `[sampled, num_q_heads, v_head_dim]`, float64 or, rounded, float32.

    Raises UserError for custom masks, sinks, non-causal problems and logit caps: the benchmark has none.
    """
    shape = problem.shape
    if path not in PATHS:
        raise UserError(f"unknown path {path!r}: choose one of {', '.join(PATHS)}")
    if shape.custom_mask or shape.sinks or not shape.causal or shape.logit_cap:
        raise UserError("the sampled reference knows causal attention with or without a window only")
    parts = [_sequence(problem, seq, chosen, path) for seq, chosen in enumerate(tokens) if chosen]
    return torch.cat(parts) if parts else problem.q.new_zeros(0, shape.num_q_heads, shape.v_head_dim).double()


def _sequence(problem: Problem, seq: int, tokens: tuple[int, ...], path: str) -> torch.Tensor:
    shape = problem.shape
    prefix, extend = shape.prefix_len[seq], shape.extend_len[seq]
    start, first_slot = int(problem.qo_indptr[seq]), int(problem.kv_indptr[seq])
    slots = problem.kv_indices[first_slot : first_slot + prefix]
    device = problem.q.device
    exact = path == "float64"
    work = torch.float64 if exact else torch.float32
    new_dtype, cache_dtype = TORCH_DTYPES[shape.q_dtype], TORCH_DTYPES[shape.kv_dtype]
    prefix_dtype = new_dtype if path == "upcast" else cache_dtype
    fresh_dtype = cache_dtype if path == "all_cached" else new_dtype

    def rounded(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if exact:
            return x.to(work)
        if dtype.itemsize == 1:
            # Saturated, as an engine's quantiser does: torch makes NaN of what lies beyond fp8's largest value.
            most = torch.finfo(dtype).max
            x = x.float().clamp(-most, most)
        return x.to(dtype).to(work)

    token = torch.tensor(tokens, device=device)
    rows = slice(start, start + extend)
    q = problem.q[start + token]
    # Scales go where the kernel puts them: on logits and on sums, never into a rounded operand.
    new_k, new_v, k_back, v_back = problem.k[rows], problem.v[rows], 1.0, 1.0
    if path == "all_cached":
        new_k, new_v = new_k.float() / problem.k_scale, new_v.float() / problem.v_scale
        k_back, v_back = problem.k_scale, problem.v_scale
    halves = (
        (
            cached_rows(problem.k_buffer, slots),
            cached_rows(problem.v_buffer, slots),
            prefix_dtype,
            problem.k_scale,
            problem.v_scale,
        ),
        (new_k, new_v, fresh_dtype, k_back, v_back),
    )
    group, kv_heads = shape.kv_group_num, shape.num_kv_heads
    logits = []
    for keys, _values, dtype, k_scale, _v_scale in halves:
        k = rounded(keys, dtype).permute(1, 2, 0)
        grouped = rounded(q, dtype).view(len(tokens), kv_heads, group, shape.head_dim).transpose(0, 1)
        flat = grouped.reshape(kv_heads, len(tokens) * group, shape.head_dim)
        logits.append((flat @ k).view(kv_heads, len(tokens), group, -1) * (problem.sm_scale * k_scale))
    scores = torch.cat(logits, dim=-1)

    key = torch.arange(prefix + extend, device=device)
    query = (prefix + token)[:, None]
    visible = key[None, :] <= query
    if shape.model_window is not None:
        visible &= query - key[None, :] < shape.model_window
    scores = scores.masked_fill(~visible[None, :, None, :], -torch.inf)
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    total = weights.sum(dim=-1, keepdim=True)

    out = 0.0
    for (_keys, values, dtype, _k_scale, v_scale), part in zip(
        halves, weights.split([prefix, extend], dim=-1), strict=True
    ):
        p = rounded(part, dtype).reshape(kv_heads, len(tokens) * group, -1)
        out = out + (p @ rounded(values, dtype).transpose(0, 1)) * v_scale
    out = out.view(kv_heads, len(tokens), group, shape.v_head_dim) / total
    return out.transpose(0, 1).reshape(len(tokens), shape.num_q_heads, shape.v_head_dim)

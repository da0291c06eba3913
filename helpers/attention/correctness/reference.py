"""What the answer is: eager float64 attention; and the same in the kernel's dtypes, for a fair error's size.

Written for reading. It shares no code with the kernel or with launch.py, and takes its meaning from the
kernel's docstring alone: positions, who sees whom, where the scales go.
"""

from __future__ import annotations

import torch

from helpers.attention.correctness.inputs import TORCH_DTYPES, Problem
from helpers.errors import UserError


def attention_float64(problem: Problem, *, exact_cache: bool = False) -> torch.Tensor:
    """The answer in float64, `[tokens, num_q_heads, v_head_dim]`, on the problem's device.

    With `exact_cache` the prefix is read before it was rounded to the cache's dtype: what an ideal cache
    would give. Raises UserError when the problem was made without `keep_exact`.
    """
    if exact_cache and problem.k_exact is None:
        raise UserError("this problem does not hold the unrounded cache: make it with make_problem(keep_exact=True)")
    out = problem.q.new_zeros(*problem.q.shape[:2], problem.shape.v_head_dim, dtype=torch.float64)
    for seq in range(len(problem.shape.extend_len)):
        rows, slots = _rows_and_slots(problem, seq)
        if exact_cache:
            cached_k = problem.k_exact[slots].double()
            cached_v = problem.v_exact[slots].double()
        else:
            cached_k = problem.k_buffer.double()[slots] * problem.k_scale
            cached_v = problem.v_buffer.double()[slots] * problem.v_scale
        keys = torch.cat([cached_k, problem.k[rows].double()])
        values = torch.cat([cached_v, problem.v[rows].double()])
        visible = visibility(problem, seq)
        for head in range(problem.shape.num_q_heads):
            kv_head = head // problem.shape.kv_group_num
            logits = problem.sm_scale * (problem.q[rows, head].double() @ keys[:, kv_head].T)
            weights, total = _softmax_terms(problem, head, logits, visible)
            out[rows, head] = (weights @ values[:, kv_head]) / total
    return out


def attention_low_precision(
    problem: Problem,
    *,
    kv_operands: str = "as_stored",
    q_dtype: str | None = None,
    p_dtype: str | None = None,
) -> torch.Tensor:
    """The answer with every operand of both dots rounded as the kernel's data path does, float32 otherwise.

    `as_stored` rounds q and p to the cache's dtype for the prefix; `upcast` rounds the cache to q's dtype
    instead. `q_dtype` and `p_dtype` override one of the two for the prefix ("fp32": not rounded), to tell
    them apart. No tiles and no online rescaling, and the output is float32: the caller adds the rounding of
    the output.
    """
    new_dtype = TORCH_DTYPES[problem.shape.q_dtype]
    cache_dtype = TORCH_DTYPES[problem.shape.kv_dtype] if kv_operands == "as_stored" else new_dtype
    dtypes = {**TORCH_DTYPES, "fp32": torch.float32}
    prefix_q_dtype = dtypes[q_dtype] if q_dtype else cache_dtype
    prefix_p_dtype = dtypes[p_dtype] if p_dtype else cache_dtype

    def rounded(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return x.to(dtype).float()

    out = problem.q.new_zeros(*problem.q.shape[:2], problem.shape.v_head_dim, dtype=torch.float32)
    for seq in range(len(problem.shape.extend_len)):
        rows, slots = _rows_and_slots(problem, seq)
        cached_k = rounded(problem.k_buffer.float()[slots], cache_dtype)
        cached_v = rounded(problem.v_buffer.float()[slots], cache_dtype)
        new_k, new_v = problem.k[rows].float(), problem.v[rows].float()
        visible = visibility(problem, seq)
        prefix = cached_k.shape[0]
        for head in range(problem.shape.num_q_heads):
            kv_head = head // problem.shape.kv_group_num
            q = problem.q[rows, head]
            logits = torch.cat(
                [
                    rounded(q, prefix_q_dtype) @ cached_k[:, kv_head].T * (problem.sm_scale * problem.k_scale),
                    q.float() @ new_k[:, kv_head].T * problem.sm_scale,
                ],
                dim=1,
            )
            weights, total = _softmax_terms(problem, head, logits, visible)
            from_prefix = rounded(weights[:, :prefix], prefix_p_dtype) @ cached_v[:, kv_head] * problem.v_scale
            from_new = rounded(weights[:, prefix:], new_dtype) @ new_v[:, kv_head]
            out[rows, head] = (from_prefix + from_new) / total
    return out


def visibility(problem: Problem, seq: int) -> torch.Tensor:
    """Who sees whom in one sequence: bool `[extend_len, prefix_len + extend_len]`."""
    shape = problem.shape
    prefix, extend = shape.prefix_len[seq], shape.extend_len[seq]
    device = problem.q.device
    query = prefix + torch.arange(extend, device=device)[:, None]
    key = torch.arange(prefix + extend, device=device)[None, :]
    visible = torch.ones(extend, prefix + extend, dtype=torch.bool, device=device)
    if shape.causal:
        visible &= key <= query
    if shape.model_window is not None:
        # A window of n tokens counts the query itself.
        visible &= query - key < shape.model_window
    if problem.mask is not None:
        start = int(problem.mask_indptr[seq])
        custom = problem.mask[start : start + extend * (prefix + extend)].view(extend, prefix + extend).bool()
        if not shape.mask_prefix:
            custom = custom | (key < prefix)
        visible &= custom
    return visible


def _rows_and_slots(problem: Problem, seq: int) -> tuple[slice, torch.Tensor]:
    rows = slice(int(problem.qo_indptr[seq]), int(problem.qo_indptr[seq + 1]))
    slots = problem.kv_indices[int(problem.kv_indptr[seq]) : int(problem.kv_indptr[seq + 1])]
    return rows, slots


def _softmax_terms(
    problem: Problem, head: int, logits: torch.Tensor, visible: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(numerators, denominators) of the softmax, in the logits' dtype; (0, 1) for a row that sees nothing."""
    cap = problem.shape.logit_cap
    if cap:
        logits = cap * torch.tanh(logits / cap)
    logits = logits.masked_fill(~visible, -torch.inf)
    if logits.shape[1]:
        largest = logits.amax(dim=1, keepdim=True)
    else:
        largest = logits.new_full((logits.shape[0], 1), -torch.inf)
    largest = torch.where(torch.isinf(largest), 0.0, largest)
    weights = torch.exp(logits - largest)
    total = weights.sum(dim=1, keepdim=True)
    if problem.sinks is not None:
        # The sink takes weight and brings no value.
        total = total + torch.exp(problem.sinks[head].to(logits.dtype) - largest)
    return weights, torch.where(total > 0, total, 1.0)

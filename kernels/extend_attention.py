"""Extend attention: prefill of new tokens over a paged, possibly fp8, cached prefix.

One kernel carries the incident and its cures. What the crash turned on is a constexpr, so that every
ablation is one flag and not another copy of the code:

=============  ======================  ==========================================================
constexpr      incident                alternative
=============  ======================  ==========================================================
TILE_SKIP      ``"branch"``            ``"bounds"``: start and end of the loop computed, no branch
ACCUMULATE     ``"separate"``          ``"fused"``: the dot adds into ``acc``; one v_scale at the end
KV_OPERANDS    ``"as_stored"``         ``"upcast"``: cached K/V become 16-bit, q and p stay 16-bit
Q_CAST         ``"in_tile"``           ``"hoisted"``: q becomes fp8 once, before the prefix loop
V_SCALE        ``"applied"``           ``"absent"``: for ablation; wrong unless v_scale is 1
=============  ======================  ==========================================================

Layouts (all row-major, last dimension contiguous):

* ``q, o``: ``[tokens, num_q_heads, head_dim]``; ``k, v``: ``[tokens, num_kv_heads, head_dim]``, the new
  tokens of all sequences packed, sequence ``s`` owning rows ``qo_indptr[s] : qo_indptr[s + 1]``.
* ``k_buffer, v_buffer``: ``[slots, num_kv_heads, head_dim]``; the prefix of sequence ``s`` lives in slots
  ``kv_indices[kv_indptr[s] : kv_indptr[s + 1]]``, one slot per token (page size 1).
* ``mask``: uint8, flat; sequence ``s`` starts at ``mask_indptr[s]`` with one row of
  ``prefix_len + extend_len`` entries per new token. ``sinks``: one float32 logit per query head.

A query at position ``q_pos`` sees a key at ``k_pos`` when ``q_pos <= k_pos + WINDOW_LEFT`` (no limit when
negative), when ``k_pos <= q_pos`` if causal, and when the mask says so. Rows that see nothing get zeros
(with a sink: the sink takes all the weight, which is zeros as well).
"""

import triton
import triton.language as tl


@triton.jit
def _scores(q, k, q_pe, k_pe, scale, logit_cap: tl.constexpr, visible, HAS_PE: tl.constexpr):
    """Scaled, capped, masked logits of one tile, float32 [BLOCK_M, BLOCK_N]."""
    qk = tl.dot(q, k)
    if HAS_PE:
        qk += tl.dot(q_pe, k_pe)
    qk *= scale
    if logit_cap > 0:
        # tanh through the sigmoid: libdevice's tanh is a call, this is two instructions.
        qk = logit_cap * (2 * tl.sigmoid(2 * qk / logit_cap) - 1)
    return tl.where(visible, qk, float("-inf"))


@triton.jit
def _softmax_step(qk, row_max, row_sum):
    """One step of the online softmax: (p, rescale of what is accumulated, new max, new sum)."""
    new_max = tl.maximum(tl.max(qk, 1), row_max)
    # A row that has seen nothing yet has a maximum of -inf, and -inf - -inf is NaN.
    finite_max = tl.where(new_max == float("-inf"), 0.0, new_max)
    rescale = tl.exp(row_max - finite_max)
    p = tl.exp(qk - finite_max[:, None])
    return p, rescale, new_max, row_sum * rescale + tl.sum(p, 1)


@triton.jit
def extend_attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    k_buffer_ptr,
    v_buffer_ptr,
    qo_indptr,
    kv_indptr,
    kv_indices,
    mask_ptr,
    mask_indptr,
    sinks_ptr,
    sm_scale,
    k_scale,
    v_scale,
    kv_group_num,
    stride_q_token,
    stride_q_head,
    stride_k_token,
    stride_k_head,
    stride_v_token,
    stride_v_head,
    stride_o_token,
    stride_o_head,
    stride_kb_slot,
    stride_kb_head,
    stride_vb_slot,
    stride_vb_head,
    HEAD_DIM: tl.constexpr,
    V_HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_DMODEL: tl.constexpr,
    BLOCK_DPE: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    WINDOW_LEFT: tl.constexpr,
    LOGIT_CAP: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    MASK_PREFIX: tl.constexpr,
    TILE_SKIP: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    KV_OPERANDS: tl.constexpr,
    Q_CAST: tl.constexpr,
    V_SCALE: tl.constexpr,
):
    """Attention of one BLOCK_M block of new tokens of one sequence and query head; grid (seq, head, block)."""
    HAS_PE: tl.constexpr = BLOCK_DPE > 0
    HAS_WINDOW: tl.constexpr = WINDOW_LEFT >= 0
    HAS_MASK: tl.constexpr = mask_ptr is not None
    # head_dim 80 or 96 live in a block of 128; a full block needs no mask along the head dimension.
    PAD_QK: tl.constexpr = BLOCK_DMODEL + BLOCK_DPE > HEAD_DIM
    PAD_V: tl.constexpr = BLOCK_DV > V_HEAD_DIM

    seq = tl.program_id(0)
    head = tl.program_id(1)
    block = tl.program_id(2)
    kv_head = head // kv_group_num

    token_start = tl.load(qo_indptr + seq)
    extend_len = (tl.load(qo_indptr + seq + 1) - token_start).to(tl.int32)
    slot_start = tl.load(kv_indptr + seq)
    prefix_len = (tl.load(kv_indptr + seq + 1) - slot_start).to(tl.int32)
    if HAS_MASK:
        mask_base = mask_ptr + tl.load(mask_indptr + seq)

    offs_m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_DMODEL)
    offs_dv = tl.arange(0, BLOCK_DV)
    row_ok = offs_m < extend_len
    d_ok = offs_d < HEAD_DIM
    dv_ok = offs_dv < V_HEAD_DIM

    q_rows = q_ptr + (token_start + offs_m)[:, None] * stride_q_token + head * stride_q_head
    if PAD_QK:
        q = tl.load(q_rows + offs_d[None, :], mask=row_ok[:, None] & d_ok[None, :], other=0.0)
    else:
        q = tl.load(q_rows + offs_d[None, :], mask=row_ok[:, None], other=0.0)
    if HAS_PE:
        offs_pe = BLOCK_DMODEL + tl.arange(0, BLOCK_DPE)
        q_pe = tl.load(q_rows + offs_pe[None, :], mask=row_ok[:, None], other=0.0)
    else:
        offs_pe = offs_d
        q_pe = q

    acc = tl.zeros([BLOCK_M, BLOCK_DV], dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)

    # --- stage 1: the cached prefix -------------------------------------------------------------------
    q_prefix = q
    q_pe_prefix = q_pe
    if KV_OPERANDS == "as_stored" and Q_CAST == "hoisted":
        q_prefix = q.to(k_buffer_ptr.dtype.element_ty)
        q_pe_prefix = q_pe.to(k_buffer_ptr.dtype.element_ty)
    qk_scale_prefix = sm_scale * k_scale

    first_n = 0
    if TILE_SKIP == "bounds" and HAS_WINDOW:
        # The block's first row reaches back furthest.
        first_n = tl.maximum(prefix_len + block * BLOCK_M - WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
    for start_n in range(first_n, prefix_len, BLOCK_N):
        start_n = tl.multiple_of(start_n, BLOCK_N)
        key = start_n + offs_n
        key_ok = key < prefix_len
        visible = row_ok[:, None] & key_ok[None, :]
        if HAS_WINDOW:
            visible &= (prefix_len + offs_m)[:, None] <= key[None, :] + WINDOW_LEFT
        if HAS_MASK and MASK_PREFIX:
            mask_row = offs_m[:, None].to(tl.int64) * (prefix_len + extend_len)
            visible &= tl.load(mask_base + mask_row + key[None, :], mask=visible, other=0) != 0

        work = True
        if TILE_SKIP == "branch" and (HAS_WINDOW or (HAS_MASK and MASK_PREFIX)):
            work = tl.max(tl.max(visible.to(tl.int32), 1), 0) != 0
        if work:
            slot = tl.load(kv_indices + slot_start + key, mask=key_ok, other=0)
            k_cols = k_buffer_ptr + slot[None, :] * stride_kb_slot + kv_head * stride_kb_head
            if PAD_QK:
                k = tl.load(k_cols + offs_d[:, None], mask=key_ok[None, :] & d_ok[:, None], other=0.0)
            else:
                k = tl.load(k_cols + offs_d[:, None], mask=key_ok[None, :], other=0.0)
            k_pe = k
            if HAS_PE:
                k_pe = tl.load(k_cols + offs_pe[:, None], mask=key_ok[None, :], other=0.0)
            if KV_OPERANDS == "upcast":
                k = k.to(q.dtype)
                k_pe = k_pe.to(q.dtype)
            # Written here, under the branch, the cast cannot be hoisted by the compiler: the 16-bit q stays
            # live in registers through the whole prefix loop, which is part of the incident's demand.
            qk = _scores(
                q_prefix.to(k.dtype), k, q_pe_prefix.to(k_pe.dtype), k_pe, qk_scale_prefix, LOGIT_CAP, visible, HAS_PE
            )
            p, rescale, row_max, row_sum = _softmax_step(qk, row_max, row_sum)

            v_rows = v_buffer_ptr + slot[:, None] * stride_vb_slot + kv_head * stride_vb_head
            if PAD_V:
                v = tl.load(v_rows + offs_dv[None, :], mask=key_ok[:, None] & dv_ok[None, :], other=0.0)
            else:
                v = tl.load(v_rows + offs_dv[None, :], mask=key_ok[:, None], other=0.0)
            if KV_OPERANDS == "upcast":
                v = v.to(q.dtype)
            p = p.to(v.dtype)
            if ACCUMULATE == "fused":
                acc = tl.dot(p, v, acc * rescale[:, None])
            elif V_SCALE == "applied":
                acc = acc * rescale[:, None] + tl.dot(p, v) * v_scale
            else:
                acc = acc * rescale[:, None] + tl.dot(p, v)
    if ACCUMULATE == "fused" and V_SCALE == "applied":
        # Everything accumulated so far came from the cache, so one multiply does for all of it.
        acc *= v_scale

    # --- stage 2: the new tokens, 16-bit, no scales ---------------------------------------------------
    first_n = 0
    if TILE_SKIP == "bounds" and HAS_WINDOW:
        first_n = tl.maximum(block * BLOCK_M - WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
    last_n = extend_len
    if IS_CAUSAL:
        last_n = tl.minimum(extend_len, (block + 1) * BLOCK_M)
    for start_n in range(first_n, last_n, BLOCK_N):
        start_n = tl.multiple_of(start_n, BLOCK_N)
        key = start_n + offs_n
        key_ok = key < extend_len
        visible = row_ok[:, None] & key_ok[None, :]
        if IS_CAUSAL:
            visible &= key[None, :] <= offs_m[:, None]
        if HAS_WINDOW:
            visible &= offs_m[:, None] <= key[None, :] + WINDOW_LEFT
        if HAS_MASK:
            mask_row = offs_m[:, None].to(tl.int64) * (prefix_len + extend_len) + prefix_len
            visible &= tl.load(mask_base + mask_row + key[None, :], mask=visible, other=0) != 0

        work = True
        if TILE_SKIP == "branch" and (HAS_WINDOW or HAS_MASK):
            work = tl.max(tl.max(visible.to(tl.int32), 1), 0) != 0
        if work:
            k_cols = k_ptr + (token_start + key)[None, :] * stride_k_token + kv_head * stride_k_head
            if PAD_QK:
                k = tl.load(k_cols + offs_d[:, None], mask=key_ok[None, :] & d_ok[:, None], other=0.0)
            else:
                k = tl.load(k_cols + offs_d[:, None], mask=key_ok[None, :], other=0.0)
            k_pe = k
            if HAS_PE:
                k_pe = tl.load(k_cols + offs_pe[:, None], mask=key_ok[None, :], other=0.0)
            qk = _scores(q, k, q_pe, k_pe, sm_scale, LOGIT_CAP, visible, HAS_PE)
            p, rescale, row_max, row_sum = _softmax_step(qk, row_max, row_sum)

            v_rows = v_ptr + (token_start + key)[:, None] * stride_v_token + kv_head * stride_v_head
            if PAD_V:
                v = tl.load(v_rows + offs_dv[None, :], mask=key_ok[:, None] & dv_ok[None, :], other=0.0)
            else:
                v = tl.load(v_rows + offs_dv[None, :], mask=key_ok[:, None], other=0.0)
            p = p.to(v.dtype)
            if ACCUMULATE == "fused":
                acc = tl.dot(p, v, acc * rescale[:, None])
            else:
                acc = acc * rescale[:, None] + tl.dot(p, v)

    # --- epilogue ------------------------------------------------------------------------------------
    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + head).to(tl.float32)
        new_max = tl.maximum(row_max, sink)
        rescale = tl.exp(row_max - new_max)
        acc *= rescale[:, None]
        row_sum = row_sum * rescale + tl.exp(sink - new_max)
    out = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
    o_rows = o_ptr + (token_start + offs_m)[:, None] * stride_o_token + head * stride_o_head
    tl.store(o_rows + offs_dv[None, :], out.to(o_ptr.dtype.element_ty), mask=row_ok[:, None] & dv_ok[None, :])

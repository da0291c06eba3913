"""The lean extend kernel: the same function as extend_attention.py, structured for speed and for few live registers.

What it changes, each for a reason that was measured (data/kernel_log.md):

* loop bounds from window and causality, no tile-skip branch, the dot accumulates in place (the cure of the incident);
* key blocks that need masking and those that do not run in loops of their own, so that most iterations compare nothing;
* exp2 with log2(e) folded into the scale, one multiply less an element;
* the cached K and V are up-cast to the 16-bit dtype of q: fp8 costs memory, not accuracy;
* query heads that share a KV head may be packed into one block (GROUP_PACK), so that each K and V tile serves them all;
* blocks that walk most keys start first (REVERSE_BLOCKS), which shortens the tail of a causal launch.

Layouts and visibility are those of extend_attention.py. Custom masks are honoured, always by the masked loop.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load_rows(base, offsets, valid, dims, PAD: tl.constexpr, DIM: tl.constexpr, MASKED: tl.constexpr):
    """[rows, dims] elements at base + offsets[:, None] + dims[None, :]; zeros where a row is not valid."""
    ptrs = base + offsets[:, None] + dims[None, :]
    if PAD:
        return tl.load(ptrs, mask=valid[:, None] & (dims < DIM)[None, :], other=0.0)
    if MASKED:
        return tl.load(ptrs, mask=valid[:, None], other=0.0)
    return tl.load(ptrs)


@triton.jit
def _attend(
    acc, row_sum, row_max, q, q_pe,
    k_base, v_base, slots, k_stride, v_stride,
    start, stop, gap_at, gap_len, key_len,
    q_pos, key_offset, row_ok, mask_rows, mask_base,
    qk_scale, logit_cap: tl.constexpr, score_scale,
    MASKED: tl.constexpr, PAGED: tl.constexpr, HAS_MASK: tl.constexpr, IS_CAUSAL: tl.constexpr,
    WINDOW_LEFT: tl.constexpr, HEAD_DIM: tl.constexpr, V_HEAD_DIM: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_DMODEL: tl.constexpr, BLOCK_DPE: tl.constexpr, BLOCK_DV: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Online softmax over the key blocks from start to stop; those from `gap_at` on lie `gap_len` further."""
    PAD_QK: tl.constexpr = BLOCK_DMODEL > HEAD_DIM
    PAD_PE: tl.constexpr = BLOCK_DMODEL + BLOCK_DPE > HEAD_DIM
    PAD_V: tl.constexpr = BLOCK_DV > V_HEAD_DIM
    offs_n = tl.arange(0, BLOCK_N)
    offs_d = tl.arange(0, BLOCK_DMODEL)
    offs_dv = tl.arange(0, BLOCK_DV)
    for block_start in tl.range(start, stop, BLOCK_N, num_stages=STAGES):
        begin = block_start
        if MASKED:
            # Masked blocks lie at both ends of the visible range; one loop walks both, jumping over the middle.
            begin = tl.where(block_start < gap_at, block_start, block_start + gap_len)
        key = begin + offs_n
        valid = key < key_len
        if PAGED:
            if MASKED:
                row = tl.load(slots + key, mask=valid, other=0)
            else:
                row = tl.load(slots + key)
        else:
            row = key
        k = _load_rows(k_base, row * k_stride, valid, offs_d, PAD_QK, HEAD_DIM, MASKED).to(q.dtype)
        qk = tl.dot(q, k.T)
        if BLOCK_DPE > 0:
            offs_pe = BLOCK_DMODEL + tl.arange(0, BLOCK_DPE)
            k_pe = _load_rows(k_base, row * k_stride, valid, offs_pe, PAD_PE, HEAD_DIM, MASKED).to(q.dtype)
            qk += tl.dot(q_pe, k_pe.T)
        if logit_cap > 0:
            capped = logit_cap * (2 * tl.sigmoid(2 * qk * score_scale / logit_cap) - 1)
            qk = capped * LOG2_E
        else:
            qk *= qk_scale
        if MASKED:
            visible = row_ok[:, None] & valid[None, :]
            k_pos = key + key_offset
            if IS_CAUSAL:
                visible &= k_pos[None, :] <= q_pos[:, None]
            if WINDOW_LEFT >= 0:
                visible &= q_pos[:, None] <= k_pos[None, :] + WINDOW_LEFT
            if HAS_MASK:
                visible &= tl.load(mask_base + mask_rows[:, None] + k_pos[None, :], mask=visible, other=0) != 0
            qk = tl.where(visible, qk, float("-inf"))
        new_max = tl.maximum(row_max, tl.max(qk, 1))
        if MASKED:
            safe_max = tl.where(new_max == float("-inf"), 0.0, new_max)
        else:
            safe_max = new_max
        rescale = tl.exp2(row_max - safe_max)
        p = tl.exp2(qk - safe_max[:, None])
        row_sum = row_sum * rescale + tl.sum(p, 1)
        row_max = new_max
        acc *= rescale[:, None]
        v = _load_rows(v_base, row * v_stride, valid, offs_dv, PAD_V, V_HEAD_DIM, MASKED).to(q.dtype)
        acc = tl.dot(p.to(q.dtype), v, acc)
    return acc, row_sum, row_max


@triton.jit
def lean_attention_kernel(
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
    GROUP_PACK: tl.constexpr,
    REVERSE_BLOCKS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """BLOCK_M rows (tokens, times GROUP_PACK heads) of one sequence; grid (blocks, heads / GROUP_PACK, sequences)."""
    HAS_MASK: tl.constexpr = mask_ptr is not None
    HAS_WINDOW: tl.constexpr = WINDOW_LEFT >= 0
    TOKENS: tl.constexpr = BLOCK_M // GROUP_PACK
    PAD_QK: tl.constexpr = BLOCK_DMODEL > HEAD_DIM
    PAD_PE: tl.constexpr = BLOCK_DMODEL + BLOCK_DPE > HEAD_DIM

    block = tl.program_id(0)
    if REVERSE_BLOCKS:
        block = tl.num_programs(0) - 1 - block
    head0 = tl.program_id(1) * GROUP_PACK
    seq = tl.program_id(2)
    kv_head = head0 // kv_group_num

    token_start = tl.load(qo_indptr + seq)
    extend_len = tl.load(qo_indptr + seq + 1) - token_start
    first_token = block * TOKENS
    if first_token >= extend_len:
        return
    slot_start = tl.load(kv_indptr + seq)
    prefix_len = tl.load(kv_indptr + seq + 1) - slot_start

    rows = tl.arange(0, BLOCK_M)
    token = first_token + rows // GROUP_PACK
    head = head0 + rows % GROUP_PACK
    row_ok = token < extend_len
    q_pos = prefix_len + token
    offs_d = tl.arange(0, BLOCK_DMODEL)
    offs_dv = tl.arange(0, BLOCK_DV)

    q_rows = (token_start + token).to(tl.int64) * stride_q_token + head * stride_q_head
    q = _load_rows(q_ptr, q_rows, row_ok, offs_d, PAD_QK, HEAD_DIM, True)
    q_pe = q
    if BLOCK_DPE > 0:
        q_pe = _load_rows(q_ptr, q_rows, row_ok, BLOCK_DMODEL + tl.arange(0, BLOCK_DPE), PAD_PE, HEAD_DIM, True)

    acc = tl.zeros([BLOCK_M, BLOCK_DV], dtype=tl.float32)
    row_sum = tl.zeros([BLOCK_M], dtype=tl.float32)
    row_max = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    mask_base = q_ptr
    mask_rows = rows
    if HAS_MASK:
        mask_base = mask_ptr + tl.load(mask_indptr + seq)
        mask_rows = token.to(tl.int64) * (prefix_len + extend_len)
    last_token = tl.minimum(first_token + TOKENS, extend_len) - 1

    # --- the cached prefix ----------------------------------------------------------------------------
    # Visible to somebody: [low, prefix_len). Visible to everybody: [full_low, full_high), in whole key blocks.
    low = 0
    full_low = 0
    if HAS_WINDOW:
        low = tl.maximum(prefix_len + first_token - WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
        full_low = tl.maximum(prefix_len + last_token - WINDOW_LEFT, 0)
        full_low = (full_low + BLOCK_N - 1) // BLOCK_N * BLOCK_N
    full_high = prefix_len // BLOCK_N * BLOCK_N
    if HAS_MASK and MASK_PREFIX:
        full_high = low
    full_low = tl.maximum(tl.minimum(full_low, full_high), low)
    full_high = tl.maximum(full_high, full_low)
    k_base = k_buffer_ptr + kv_head * stride_kb_head
    v_base = v_buffer_ptr + kv_head * stride_vb_head
    scale = sm_scale * k_scale
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_pe, k_base, v_base, kv_indices + slot_start, stride_kb_slot, stride_vb_slot,
        full_low, full_high, 0, 0, prefix_len, q_pos, 0, row_ok, mask_rows, mask_base,
        scale * LOG2_E, LOGIT_CAP, scale, False, True, False, IS_CAUSAL, WINDOW_LEFT, HEAD_DIM, V_HEAD_DIM,
        BLOCK_N, BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, STAGES,
    )  # fmt: skip
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_pe, k_base, v_base, kv_indices + slot_start, stride_kb_slot, stride_vb_slot,
        low, prefix_len - (full_high - full_low), full_low, full_high - full_low, prefix_len, q_pos, 0, row_ok,
        mask_rows, mask_base, scale * LOG2_E, LOGIT_CAP, scale, True, True, HAS_MASK and MASK_PREFIX, IS_CAUSAL,
        WINDOW_LEFT, HEAD_DIM, V_HEAD_DIM, BLOCK_N, BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, 1,
    )  # fmt: skip
    acc *= v_scale

    # --- the new tokens -------------------------------------------------------------------------------
    low = 0
    full_low = 0
    if HAS_WINDOW:
        low = tl.maximum(first_token - WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
        full_low = (tl.maximum(last_token - WINDOW_LEFT, 0) + BLOCK_N - 1) // BLOCK_N * BLOCK_N
    high = extend_len
    full_high = extend_len // BLOCK_N * BLOCK_N
    if IS_CAUSAL:
        high = last_token + 1
        full_high = (first_token + 1) // BLOCK_N * BLOCK_N
    if HAS_MASK:
        full_high = low
    full_low = tl.maximum(tl.minimum(full_low, full_high), low)
    full_high = tl.maximum(full_high, full_low)
    k_base = k_ptr + token_start.to(tl.int64) * stride_k_token + kv_head * stride_k_head
    v_base = v_ptr + token_start.to(tl.int64) * stride_v_token + kv_head * stride_v_head
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_pe, k_base, v_base, kv_indices, stride_k_token, stride_v_token,
        full_low, full_high, 0, 0, extend_len, q_pos, prefix_len, row_ok, mask_rows, mask_base,
        sm_scale * LOG2_E, LOGIT_CAP, sm_scale, False, False, False, IS_CAUSAL, WINDOW_LEFT, HEAD_DIM, V_HEAD_DIM,
        BLOCK_N, BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, STAGES,
    )  # fmt: skip
    acc, row_sum, row_max = _attend(
        acc, row_sum, row_max, q, q_pe, k_base, v_base, kv_indices, stride_k_token, stride_v_token,
        low, high - (full_high - full_low), full_low, full_high - full_low, extend_len, q_pos, prefix_len, row_ok,
        mask_rows, mask_base, sm_scale * LOG2_E, LOGIT_CAP, sm_scale, True, False, HAS_MASK, IS_CAUSAL,
        WINDOW_LEFT, HEAD_DIM, V_HEAD_DIM, BLOCK_N, BLOCK_DMODEL, BLOCK_DPE, BLOCK_DV, 1,
    )  # fmt: skip

    if sinks_ptr is not None:
        sink = tl.load(sinks_ptr + head).to(tl.float32) * LOG2_E
        new_max = tl.maximum(row_max, sink)
        rescale = tl.exp2(row_max - new_max)
        acc *= rescale[:, None]
        row_sum = row_sum * rescale + tl.exp2(sink - new_max)
    out = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
    o_rows = (token_start + token).to(tl.int64) * stride_o_token + head * stride_o_head
    o_ptrs = o_ptr + o_rows[:, None] + offs_dv[None, :]
    tl.store(o_ptrs, out.to(o_ptr.dtype.element_ty), mask=row_ok[:, None] & (offs_dv < V_HEAD_DIM)[None, :])

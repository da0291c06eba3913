"""The Hopper kernel: the lean kernel's function with its schedule written by hand, in Gluon. sm_90a only.

Plain Triton waits for a dot where it is issued. Here the scores of the next key block and the product of the last one
are both under way on the tensor cores while the softmax between them runs (`_walk`), and at head dim 512, where two
buffers of K and V do not fit, K and V have one each and are loaded while the other is used (`_walk_wide`).

It takes what it was written for: K, V and cache in the 16-bit dtype of q, head dims 64, 128, 256 and 512, causal or
not, with or without a window. No custom mask, sinks or soft cap: the lean kernel has those.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    warpgroup_mma,
    warpgroup_mma_wait,
)

LOG2_E = gl.constexpr(1.4426950408889634)


@gluon.jit
def _slots(slots, key, key_len, PAGED: gl.constexpr):
    """The row of each key in its buffer: its slot in the cache, or itself among the new tokens."""
    if PAGED:
        return gl.load(slots + key, mask=key < key_len, other=0).to(gl.int32)
    return key


@gluon.jit
def _span(
    first_token, last_token, prefix_len, extend_len,
    PREFIX: gl.constexpr, MASKED: gl.constexpr, IS_CAUSAL: gl.constexpr, WINDOW_LEFT: gl.constexpr,
    BLOCK_N: gl.constexpr,
):  # fmt: skip
    """(start, steps, gap_at, gap_len, key_len) of the key blocks to walk, those that need masking or those that do not.

    Visible to somebody: [low, high). Visible to everybody: [full_low, full_high), in whole key blocks. The masked
    walk goes over both ends of the former and jumps over the latter.
    """
    query = prefix_len if PREFIX else 0  # where the new tokens begin, counted in this part's keys
    low = 0
    full_low = 0
    high = prefix_len if PREFIX else extend_len
    full_high = high // BLOCK_N * BLOCK_N
    if WINDOW_LEFT >= 0:
        low = gl.maximum(query + first_token - WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
        full_low = (gl.maximum(query + last_token - WINDOW_LEFT, 0) + BLOCK_N - 1) // BLOCK_N * BLOCK_N
    if IS_CAUSAL and not PREFIX:
        high = last_token + 1
        full_high = (first_token + 1) // BLOCK_N * BLOCK_N
    full_low = gl.maximum(gl.minimum(full_low, full_high), low)
    full_high = gl.maximum(full_high, full_low)
    if MASKED:
        start = low
        stop = high - (full_high - full_low)
        gap_at = full_low
        gap_len = full_high - full_low
    else:
        start = full_low
        stop = full_high
        gap_at = full_high
        gap_len = 0
    steps = gl.maximum(stop - start + BLOCK_N - 1, 0) // BLOCK_N
    return start, steps, gap_at, gap_len, high


@gluon.jit
def _begin(step, start, gap_at, gap_len, BLOCK_N: gl.constexpr):
    """First key of the step-th block; blocks from gap_at on lie gap_len further."""
    block_start = start + step * BLOCK_N
    return gl.where(block_start < gap_at, block_start, block_start + gap_len)


@gluon.jit
def _copy(tile, base, row, stride, valid, DIM: gl.constexpr, LAYOUT: gl.constexpr, MASKED: gl.constexpr):
    """Start copying [rows, DIM] elements into shared memory; rows that are not valid become zeros."""
    dims = gl.arange(0, DIM, layout=gl.SliceLayout(0, LAYOUT))
    pointers = base + (row.to(gl.int64) * stride)[:, None] + dims[None, :]
    if MASKED:
        mask = valid[:, None] & (dims < DIM)[None, :]
        async_copy.async_copy_global_to_shared(tile, pointers, mask=mask)
    else:
        async_copy.async_copy_global_to_shared(tile, pointers)
    async_copy.commit_group()


@gluon.jit
def _softmax(
    s, row_sum, row_max, begin, key_len, key_offset, q_pos, row_ok, scale,
    MASKED: gl.constexpr, IS_CAUSAL: gl.constexpr, WINDOW_LEFT: gl.constexpr, BLOCK_N: gl.constexpr,
):  # fmt: skip
    """(p in fp32, factor for what was accumulated so far, row sums, row maxima) of one block of raw scores."""
    LAYOUT: gl.constexpr = s.type.layout
    if MASKED:
        key = begin + gl.arange(0, BLOCK_N, layout=gl.SliceLayout(0, LAYOUT))
        k_pos = key + key_offset
        visible = row_ok[:, None] & (key < key_len)[None, :]
        if IS_CAUSAL:
            visible = visible & (k_pos[None, :] <= q_pos[:, None])
        if WINDOW_LEFT >= 0:
            visible = visible & (q_pos[:, None] <= k_pos[None, :] + WINDOW_LEFT)
        s = gl.where(visible, s, float("-inf"))
    new_max = gl.maximum(row_max, gl.max(s, 1) * scale)
    safe_max = new_max
    if MASKED:
        safe_max = gl.where(new_max == float("-inf"), 0.0, new_max)
    rescale = gl.exp2(row_max - safe_max)
    p = gl.exp2(s * scale - safe_max[:, None])
    row_sum = row_sum * rescale + gl.sum(p, 1)
    return p, rescale, row_sum, new_max


@gluon.jit
def _walk(
    acc, row_sum, row_max, q_tile, k_tiles, v_tiles,
    k_base, v_base, slots, k_stride, v_stride,
    start, steps, gap_at, gap_len, key_len, key_offset, q_pos, row_ok, scale,
    COPY: gl.constexpr, SCORES: gl.constexpr, MASKED: gl.constexpr, PAGED: gl.constexpr, IS_CAUSAL: gl.constexpr,
    WINDOW_LEFT: gl.constexpr, BLOCK_N: gl.constexpr, DIM: gl.constexpr, DTYPE: gl.constexpr,
):  # fmt: skip
    """Online softmax over `steps` key blocks, two buffers each of K and V.

    While the softmax of block j runs, the tensor cores do block j-1's product with V; block j's scores were issued
    before it, so that the wait for them lets that product go on.
    """
    OUT: gl.constexpr = acc.type.layout
    OPERAND: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=OUT, k_width=2)
    ROW_OUT: gl.constexpr = gl.SliceLayout(1, OUT)
    offs = gl.arange(0, BLOCK_N, layout=gl.SliceLayout(1, COPY))
    if steps > 0:
        key = _begin(0, start, gap_at, gap_len, BLOCK_N) + offs
        row = _slots(slots, key, key_len, PAGED)
        _copy(k_tiles.index(0), k_base, row, k_stride, key < key_len, DIM, COPY, MASKED)
        _copy(v_tiles.index(0), v_base, row, v_stride, key < key_len, DIM, COPY, MASKED)
        next_key = _begin(1, start, gap_at, gap_len, BLOCK_N) + offs
        next_row = _slots(slots, next_key, key_len * (steps > 1).to(gl.int32), PAGED)
        ahead = (next_key < key_len) & (steps > 1)
        _copy(k_tiles.index(1), k_base, next_row, k_stride, ahead, DIM, COPY, True)
        async_copy.wait_group(2)
        fence_async_shared()
        s = gl.zeros([q_pos.shape[0], BLOCK_N], gl.float32, layout=SCORES)
        s = warpgroup_mma(q_tile, k_tiles.index(0).permute((1, 0)), s, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(0, deps=(s,))
        p, rescale, row_sum, row_max = _softmax(
            s, row_sum, row_max, _begin(0, start, gap_at, gap_len, BLOCK_N), key_len, key_offset, q_pos, row_ok, scale,
            MASKED, IS_CAUSAL, WINDOW_LEFT, BLOCK_N,
        )  # fmt: skip
        acc = acc * gl.convert_layout(rescale, ROW_OUT)[:, None]
        p_operand = gl.convert_layout(p.to(DTYPE), OPERAND)
        for j in range(1, steps):
            here, other = j % 2, (j + 1) % 2
            key = next_key
            row = next_row
            _copy(v_tiles.index(here), v_base, row, v_stride, key < key_len, DIM, COPY, MASKED)
            next_key = _begin(j + 1, start, gap_at, gap_len, BLOCK_N) + offs
            more = j + 1 < steps
            next_row = _slots(slots, next_key, key_len * more.to(gl.int32), PAGED)
            async_copy.wait_group(1)
            fence_async_shared()
            s = gl.zeros([q_pos.shape[0], BLOCK_N], gl.float32, layout=SCORES)
            s = warpgroup_mma(q_tile, k_tiles.index(here).permute((1, 0)), s, use_acc=False, is_async=True)
            acc = warpgroup_mma(p_operand, v_tiles.index(other), acc, is_async=True)
            s = warpgroup_mma_wait(1, deps=(s,))
            _copy(k_tiles.index(other), k_base, next_row, k_stride, (next_key < key_len) & more, DIM, COPY, True)
            p, rescale, row_sum, row_max = _softmax(
                s, row_sum, row_max, _begin(j, start, gap_at, gap_len, BLOCK_N), key_len, key_offset, q_pos, row_ok,
                scale, MASKED, IS_CAUSAL, WINDOW_LEFT, BLOCK_N,
            )  # fmt: skip
            acc = warpgroup_mma_wait(0, deps=(acc,))
            acc = acc * gl.convert_layout(rescale, ROW_OUT)[:, None]
            p_operand = gl.convert_layout(p.to(DTYPE), OPERAND)
        async_copy.wait_group(0)
        fence_async_shared()
        acc = warpgroup_mma(p_operand, v_tiles.index((steps - 1) % 2), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=(acc,))
    return acc, row_sum, row_max


@gluon.jit
def _walk_wide(
    acc, row_sum, row_max, q_tile, k_tile, v_tile, p_tile,
    k_base, v_base, slots, k_stride, v_stride,
    start, steps, gap_at, gap_len, key_len, key_offset, q_pos, row_ok, scale,
    COPY: gl.constexpr, SCORES: gl.constexpr, MASKED: gl.constexpr, PAGED: gl.constexpr, IS_CAUSAL: gl.constexpr,
    WINDOW_LEFT: gl.constexpr, BLOCK_N: gl.constexpr, DIM: gl.constexpr, DTYPE: gl.constexpr,
):  # fmt: skip
    """The same with one buffer of K, one of V: K's next block is loaded during softmax and product, V's during scores.

    Both warp groups share the 64 rows: each has half the keys' scores and half the columns of V, so p goes through
    shared memory.
    """
    ROW_OUT: gl.constexpr = gl.SliceLayout(1, acc.type.layout)
    offs = gl.arange(0, BLOCK_N, layout=gl.SliceLayout(1, COPY))
    if steps > 0:
        key = _begin(0, start, gap_at, gap_len, BLOCK_N) + offs
        row = _slots(slots, key, key_len, PAGED)
        _copy(k_tile, k_base, row, k_stride, key < key_len, DIM, COPY, MASKED)
        _copy(v_tile, v_base, row, v_stride, key < key_len, DIM, COPY, MASKED)
        for j in range(0, steps):
            more = j + 1 < steps
            next_key = _begin(j + 1, start, gap_at, gap_len, BLOCK_N) + offs
            next_row = _slots(slots, next_key, key_len * more.to(gl.int32), PAGED)
            ahead = (next_key < key_len) & more
            async_copy.wait_group(1)
            fence_async_shared()
            s = gl.zeros([q_pos.shape[0], BLOCK_N], gl.float32, layout=SCORES)
            s = warpgroup_mma(q_tile, k_tile.permute((1, 0)), s, use_acc=False, is_async=True)
            s = warpgroup_mma_wait(0, deps=(s,))
            _copy(k_tile, k_base, next_row, k_stride, ahead, DIM, COPY, True)
            p, rescale, row_sum, row_max = _softmax(
                s, row_sum, row_max, _begin(j, start, gap_at, gap_len, BLOCK_N), key_len, key_offset, q_pos, row_ok,
                scale, MASKED, IS_CAUSAL, WINDOW_LEFT, BLOCK_N,
            )  # fmt: skip
            p_tile.store(p.to(DTYPE))
            acc = acc * gl.convert_layout(rescale, ROW_OUT)[:, None]
            async_copy.wait_group(1)
            fence_async_shared()
            acc = warpgroup_mma(p_tile, v_tile, acc, is_async=True)
            acc = warpgroup_mma_wait(0, deps=(acc,))
            _copy(v_tile, v_base, next_row, v_stride, ahead, DIM, COPY, True)
        async_copy.wait_group(0)
    return acc, row_sum, row_max


@gluon.jit
def hopper_attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    k_buffer_ptr,
    v_buffer_ptr,
    qo_indptr,
    kv_indptr,
    kv_indices,
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
    HEAD_DIM: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    WINDOW_LEFT: gl.constexpr,
    IS_CAUSAL: gl.constexpr,
    GROUP_PACK: gl.constexpr,
    num_warps: gl.constexpr,
):
    """BLOCK_M rows (tokens, times GROUP_PACK heads) of one sequence; grid (blocks, heads / GROUP_PACK, sequences)."""
    TOKENS: gl.constexpr = BLOCK_M // GROUP_PACK
    WIDE: gl.constexpr = HEAD_DIM > 256
    DTYPE: gl.constexpr = q_ptr.dtype.element_ty
    # Warp groups side by side over the rows, or (wide) over the columns.
    WARPS: gl.constexpr = [4, num_warps // 4] if WIDE else [num_warps, 1]
    COLUMNS: gl.constexpr = num_warps // 4 if WIDE else 1
    OUT_N: gl.constexpr = HEAD_DIM // COLUMNS if HEAD_DIM // COLUMNS < 256 else 256
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], WARPS, [16, BLOCK_N // COLUMNS, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], WARPS, [16, OUT_N, 16])
    # 16 bytes a thread, whole rows a warp where they are long enough.
    ACROSS: gl.constexpr = HEAD_DIM // 8 if HEAD_DIM < 256 else 32
    COPY: gl.constexpr = gl.BlockedLayout([1, 8], [32 // ACROSS, ACROSS], [num_warps, 1], [1, 0])
    TILE: gl.constexpr = gl.NVMMASharedLayout(128, 16, 2)
    ROW: gl.constexpr = gl.SliceLayout(1, SCORES)

    block = gl.num_programs(0) - 1 - gl.program_id(0)  # the heaviest blocks first
    head0 = gl.program_id(1) * GROUP_PACK
    seq = gl.program_id(2)
    kv_head = head0 // kv_group_num

    token_start = gl.load(qo_indptr + seq)
    extend_len = gl.load(qo_indptr + seq + 1) - token_start
    first_token = block * TOKENS
    if first_token >= extend_len:
        return
    slot_start = gl.load(kv_indptr + seq)
    prefix_len = gl.load(kv_indptr + seq + 1) - slot_start
    last_token = gl.minimum(first_token + TOKENS, extend_len) - 1

    rows = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, COPY))
    token = first_token + rows // GROUP_PACK
    dims = gl.arange(0, HEAD_DIM, layout=gl.SliceLayout(0, COPY))
    q_rows = (token_start + token).to(gl.int64) * stride_q_token + (head0 + rows % GROUP_PACK) * stride_q_head
    q_mask = (token < extend_len)[:, None] & (dims < HEAD_DIM)[None, :]
    q = gl.load(q_ptr + q_rows[:, None] + dims[None, :], mask=q_mask, other=0.0)
    q_tile = gl.allocate_shared_memory(DTYPE, [BLOCK_M, HEAD_DIM], TILE, q)

    score_rows = gl.arange(0, BLOCK_M, layout=ROW)
    row_ok = first_token + score_rows // GROUP_PACK < extend_len
    q_pos = prefix_len + first_token + score_rows // GROUP_PACK
    acc = gl.zeros([BLOCK_M, HEAD_DIM], gl.float32, layout=OUT)
    row_sum = gl.zeros([BLOCK_M], gl.float32, layout=ROW)
    row_max = gl.full([BLOCK_M], float("-inf"), gl.float32, layout=ROW)
    BUFFERS: gl.constexpr = 1 if WIDE else 2
    k_tiles = gl.allocate_shared_memory(DTYPE, [BUFFERS, BLOCK_N, HEAD_DIM], TILE)
    v_tiles = gl.allocate_shared_memory(DTYPE, [BUFFERS, BLOCK_N, HEAD_DIM], TILE)
    if WIDE:
        P_TILE: gl.constexpr = gl.NVMMASharedLayout(128 if BLOCK_N >= 64 else BLOCK_N * 2, 16, 2)
        p_tile = gl.allocate_shared_memory(DTYPE, [BLOCK_M, BLOCK_N], P_TILE)

    # The cached prefix, then the new tokens; of each the blocks that everybody sees, then those that need masking.
    for walk in gl.static_range(4):
        start, steps, gap_at, gap_len, key_len = _span(
            first_token, last_token, prefix_len, extend_len, walk < 2, walk % 2 == 1, IS_CAUSAL, WINDOW_LEFT, BLOCK_N
        )
        if walk < 2:
            k_base = k_buffer_ptr + kv_head * stride_kb_head
            v_base = v_buffer_ptr + kv_head * stride_vb_head
            k_stride = stride_kb_slot
            v_stride = stride_vb_slot
            key_offset = 0
            scale = sm_scale * k_scale * LOG2_E
        else:
            k_base = k_ptr + token_start.to(gl.int64) * stride_k_token + kv_head * stride_k_head
            v_base = v_ptr + token_start.to(gl.int64) * stride_v_token + kv_head * stride_v_head
            k_stride = stride_k_token
            v_stride = stride_v_token
            key_offset = prefix_len
            scale = sm_scale * LOG2_E
        if walk == 2:
            acc = acc * v_scale
        if WIDE:
            acc, row_sum, row_max = _walk_wide(
                acc, row_sum, row_max, q_tile, k_tiles.index(0), v_tiles.index(0), p_tile,
                k_base, v_base, kv_indices + slot_start, k_stride, v_stride,
                start, steps, gap_at, gap_len, key_len, key_offset, q_pos, row_ok, scale,
                COPY, SCORES, walk % 2 == 1, walk < 2, IS_CAUSAL, WINDOW_LEFT, BLOCK_N, HEAD_DIM, DTYPE,
            )  # fmt: skip
        else:
            acc, row_sum, row_max = _walk(
                acc, row_sum, row_max, q_tile, k_tiles, v_tiles,
                k_base, v_base, kv_indices + slot_start, k_stride, v_stride,
                start, steps, gap_at, gap_len, key_len, key_offset, q_pos, row_ok, scale,
                COPY, SCORES, walk % 2 == 1, walk < 2, IS_CAUSAL, WINDOW_LEFT, BLOCK_N, HEAD_DIM, DTYPE,
            )  # fmt: skip

    total = gl.where(row_sum > 0, row_sum, 1.0)
    out = acc / gl.convert_layout(total, gl.SliceLayout(1, OUT))[:, None]
    o_rows = gl.arange(0, BLOCK_M, layout=gl.SliceLayout(1, OUT))
    o_token = first_token + o_rows // GROUP_PACK
    o_dims = gl.arange(0, HEAD_DIM, layout=gl.SliceLayout(0, OUT))
    o_base = (token_start + o_token).to(gl.int64) * stride_o_token + (head0 + o_rows % GROUP_PACK) * stride_o_head
    o_mask = (o_token < extend_len)[:, None] & (o_dims < HEAD_DIM)[None, :]
    gl.store(o_ptr + o_base[:, None] + o_dims[None, :], out.to(o_ptr.dtype.element_ty), mask=o_mask)

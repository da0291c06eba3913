"""The Hopper kernel at head dim 512, where the output of 64 rows alone is half of an SM's registers. sm_90a only.

The same programs, items, loader and barriers as hopper_attention.py, and two things are different. Both computing
groups work on the same 64 rows: each has half of a block's keys for the scores and half of V's columns for the product,
so p goes through shared memory. And there is room for one tile of K and one of V, no more, so each is loaded while the
other is used:

    loader     K0  V0      K1                V1      K2          ...
    groups        S0 |softmax 0| p |P0      |S1 |softmax 1| p |P1 ...

K1 is loaded during softmax 0 and P0, V1 during S1 and softmax 1. What limits it is how fast the L2 cache gives K and V
out: every block of 64 rows reads all of them again.
"""

from typing import NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from kernels.hopper_softmax import last_factor, scales_of, softmax, visible
from kernels.hopper_walk import (
    Batch,
    Board,
    Factors,
    Memory,
    Ring,
    Rows,
    announce,
    copy_layout,
    fill,
    first_draw,
    hand_out,
    in_prefix,
    item_of,
    load_q,
    locate,
    new_board,
    new_ring,
    next_draw,
    pointers_of,
    put_back,
    read_number,
    release,
    rows_of,
    slot_offsets,
    source_of,
    steps_of,
    wait_full,
)


class Tiles(NamedTuple):
    """What the groups share: q, K, V (one tile each), p of one block, the board."""

    q: Ring
    k: Ring
    v: Ring
    p: gl.shared_memory_descriptor
    board: Board


class State(NamedTuple):
    """What the computing groups carry from block to block."""

    acc: gl.tensor
    row_sum: gl.tensor
    row_max: gl.tensor
    count: gl.tensor  # key blocks done so far, over all items


@gluon.jit
def _load(q, keys, values, kv_group_num, batch, tiles, WIDE: gl.constexpr):
    """The loading group: slots are read a block ahead, pointers made before the wait for a tile to be empty."""
    COPY: gl.constexpr = copy_layout()
    ROWS: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(2, COPY))
    offsets = slot_offsets(batch.BLOCK_N)
    q_rows = gl.arange(0, 64, layout=ROWS)
    dims = gl.arange(0, 64, layout=gl.SliceLayout(0, gl.SliceLayout(1, COPY)))
    count = 0
    items = 0
    number = first_draw(batch)
    announce(tiles.board, items, number)
    while number >= 0:
        _, item = item_of(number, batch)
        steps, _ = steps_of(item)
        kv_head = item.first_head // kv_group_num
        k = source_of(keys, item, kv_head)
        v = source_of(values, item, kv_head)
        of_prefix, slots = rows_of(0, item, batch, offsets)
        load_q(q, item, batch, tiles.q, items, q_rows, dims)
        for j in range(0, steps):
            row = hand_out(slots, batch.BLOCK_N)
            k_pointers = pointers_of(k, of_prefix, row, dims, WIDE)
            v_pointers = pointers_of(v, of_prefix, row, dims, WIDE)
            of_prefix, slots = rows_of(gl.minimum(j + 1, steps - 1), item, batch, offsets)
            fill(tiles.k, count, k_pointers)
            fill(tiles.v, count, v_pointers)
            count += 1
        items += 1
        number = next_draw(batch)
        announce(tiles.board, items, number)
    put_back(batch)


@gluon.jit
def _steps(first, stop, state, tiles, item, q_pos, batch, scales, MASKED: gl.constexpr):
    """Blocks `first` to `stop` of the walk."""
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 2], [16, batch.BLOCK_N // 2, 16])
    OUT: gl.constexpr = state.acc.type.layout
    for j in range(first, stop):
        count = state.count
        wait_full(tiles.k, count, True)
        fence_async_shared()
        s = gl.zeros([64, batch.BLOCK_N], gl.float32, layout=SCORES)
        k = tiles.k.tiles.index(0).permute((1, 0))
        s = warpgroup_mma(tiles.q.tiles.index(0), k, s, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(0, deps=(s,))
        release(tiles.k, count)
        seen = 0
        if MASKED:
            of_prefix, begin, key_len = locate(j, item, batch.BLOCK_N)
            seen = visible(s, begin, key_len, q_pos - gl.where(of_prefix, 0, item.prefix_len), batch)
        else:
            of_prefix = in_prefix(j, item)
        p, rescale, row_sum, row_max = softmax(
            s, state.row_sum, state.row_max, of_prefix, seen, scales, MASKED, batch.LOGIT_CAP
        )
        tiles.p.store(p.to(tiles.p.dtype))
        acc = state.acc * gl.convert_layout(rescale, gl.SliceLayout(1, OUT))[:, None]
        wait_full(tiles.v, count, True)
        fence_async_shared()
        acc = warpgroup_mma(tiles.p, tiles.v.tiles.index(0), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=(acc,))
        release(tiles.v, count)
        state = State(acc, row_sum, row_max, count + 1)
    return state


@gluon.jit
def _compute(o, factors, batch, tiles, HAS_SINKS: gl.constexpr):
    """Both computing groups, as one of eight warps."""
    DTYPE: gl.constexpr = tiles.q.tiles.dtype
    DIM: gl.constexpr = tiles.v.tiles.shape[2]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 2], [16, batch.BLOCK_N // 2, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 2], [16, DIM // 2, 16])
    ROW: gl.constexpr = gl.SliceLayout(1, SCORES)
    # Four lanes of each group share a row of the scores: [64 rows, 8], one number a thread and row.
    LANES: gl.constexpr = gl.DistributedLinearLayout(
        [[8, 0]], [[0, 1], [0, 2], [1, 0], [2, 0], [4, 0]], [[16, 0], [32, 0], [0, 4]], [], [64, 8]
    )
    scales = scales_of(factors.sm_scale, factors.k_scale, factors.v_scale, batch.LOGIT_CAP, DTYPE)
    rows = gl.arange(0, 64, layout=ROW)
    count = 0
    items = 0
    number = read_number(tiles.board, items, 8)
    while number >= 0:
        _, item = item_of(number, batch)
        steps, masked = steps_of(item)
        q_pos = item.prefix_len + item.first_token + rows // batch.PACK
        row_sum = gl.zeros([64, 8], gl.float32, layout=LANES)
        row_max = gl.full([64], float("-inf"), gl.float32, layout=ROW)
        acc = gl.zeros([64, DIM], gl.float32, layout=OUT)
        mbarrier.wait(tiles.q.full.index(0), items & 1)
        state = State(acc, row_sum, row_max, count)
        state = _steps(0, masked, state, tiles, item, q_pos, batch, scales, True)
        state = _steps(masked, steps, state, tiles, item, q_pos, batch, scales, False)
        count = state.count
        release(tiles.q, 0)
        heads = item.first_head + rows % batch.PACK
        factor = last_factor(state.row_sum, state.row_max, factors.sinks, heads, scales, HAS_SINKS)
        out = (state.acc * gl.convert_layout(factor, gl.SliceLayout(1, OUT))[:, None]).to(DTYPE)
        row = gl.arange(0, 64, layout=gl.SliceLayout(1, OUT))
        dims = gl.arange(0, DIM, layout=gl.SliceLayout(0, OUT))
        token = item.first_token + row // batch.PACK
        offset = (item.token_start + token).to(gl.int64) * o.token_stride
        offset += (item.first_head + row % batch.PACK) * o.head_stride
        mask = (token < item.extend_len)[:, None] & (dims < DIM)[None, :]
        gl.store(o.base + offset[:, None] + dims[None, :], out, mask=mask)
        items += 1
        number = read_number(tiles.board, items, 8)


@gluon.jit(do_not_specialize=["kv_group_num", "num_blocks", "head_groups", "sequences", "section"])
def hopper_attention_wide_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    k_buffer_ptr,
    v_buffer_ptr,
    qo_indptr,
    kv_indptr,
    kv_indices,
    sinks_ptr,
    counter_ptr,
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
    num_blocks,
    head_groups,
    sequences,
    section,
    HEAD_DIM: gl.constexpr,
    V_HEAD_DIM: gl.constexpr,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    WINDOW_LEFT: gl.constexpr,
    LOGIT_CAP: gl.constexpr,
    IS_CAUSAL: gl.constexpr,
    GROUP_PACK: gl.constexpr,
    STAGES: gl.constexpr,
    COMPUTE_REGISTERS: gl.constexpr,
    LOAD_REGISTERS: gl.constexpr,
    WIDE_OFFSETS: gl.constexpr,
):
    """Grid (programs,), launched with 8 warps, which compute; the loader's 4 are started inside. BLOCK_M is 64 and
    STAGES 1; the computing warps have what LOAD_REGISTERS leaves, so COMPUTE_REGISTERS only says it."""
    DTYPE: gl.constexpr = q_ptr.dtype.element_ty
    HAS_SINKS: gl.constexpr = sinks_ptr is not None
    batch = Batch(
        qo_indptr, kv_indptr, kv_indices, counter_ptr, num_blocks, head_groups, sequences, section,
        BLOCK_M, GROUP_PACK, BLOCK_N, WINDOW_LEFT, IS_CAUSAL, LOGIT_CAP,
    )  # fmt: skip
    keys = Memory(k_buffer_ptr, stride_kb_slot, stride_kb_head, k_ptr, stride_k_token, stride_k_head)
    values = Memory(v_buffer_ptr, stride_vb_slot, stride_vb_head, v_ptr, stride_v_token, stride_v_head)
    tiles = Tiles(
        new_ring(DTYPE, 1, BLOCK_M, HEAD_DIM, 1),
        new_ring(DTYPE, STAGES, BLOCK_N, HEAD_DIM, 1),
        new_ring(DTYPE, STAGES, BLOCK_N, V_HEAD_DIM, 1),
        gl.allocate_shared_memory(DTYPE, [BLOCK_M, BLOCK_N], gl.NVMMASharedLayout(128, 16, 2)),
        new_board(),
    )
    fence_async_shared()
    q = Rows(q_ptr, stride_q_token, stride_q_head)
    o = Rows(o_ptr, stride_o_token, stride_o_head)
    factors = Factors(sm_scale, k_scale, v_scale, sinks_ptr)
    gl.warp_specialize(
        [
            (_compute, (o, factors, batch, tiles, HAS_SINKS)),
            (_load, (q, keys, values, kv_group_num, batch, tiles, WIDE_OFFSETS)),
        ],
        [4],
        [LOAD_REGISTERS],
    )

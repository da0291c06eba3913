"""The Hopper kernel: the lean kernel's function with its schedule and its registers dealt out by hand, in Gluon.

sm_90a only; head dims 64, 128, 256, and 192 with values of 128. Head dim 512 needs another structure:
hopper_attention_wide.py.

One program an SM, 12 or 16 warps, which stay for all its work items (hopper_walk.py). Four warps only load, the others
only compute, 64 rows a group of four. Each takes the registers it needs (`setmaxnreg`): a loading thread few, a
computing thread most. The groups meet at barriers in shared memory, so each keeps a pace of its own:

    loader     K0  q  K1 V0  K2 V1  K3 V2  ...                            next item: K0  q ...
    group 1       S0 |softmax 0| S1 P0 |softmax 1| S2 P1 |softmax 2| ... Pn |store|
    group 2          S0 |softmax 0| S1 P0 |softmax 1| S2 P1 |softmax 2| ... Pn |store|

    Kj, Vj      key block j comes into shared memory, row by row, each row from its slot
    Sj, Pj      scores q Kj, product pj Vj: on the tensor cores, issued and not waited for

A group issues Sj and P(j-1) together. Softmax j waits for Sj alone, so that P(j-1) is done under it, and while one
group does its softmax the other has the tensor cores.

It takes K, V and cache in the 16-bit dtype of q (an fp8 cache is up-cast before: gather_upcast.py), causal or not, with
or without window, sinks and soft cap. No custom mask: the lean kernel has that.
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
    """What the groups share: q (one tile a computing group), the rings of K and V, the board."""

    q: Ring
    k: Ring
    v: Ring
    board: Board


class State(NamedTuple):
    """What a computing group carries from block to block."""

    p: gl.tensor  # of the block before, packed
    acc: gl.tensor
    row_sum: gl.tensor
    row_max: gl.tensor
    count: gl.tensor  # key blocks done so far, over all items


# --- loading --------------------------------------------------------------------------------------------------------


@gluon.jit
def _load(q, keys, values, kv_group_num, batch, tiles, WIDE: gl.constexpr):
    """The loading group. Slots are read a block ahead, and pointers made before the wait for a tile to be empty, so
    that after the wait only copies are issued."""
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
        row = hand_out(slots, batch.BLOCK_N)
        k_pointers = pointers_of(k, of_prefix, row, dims, WIDE)
        v_pointers = pointers_of(v, of_prefix, row, dims, WIDE)
        of_prefix, slots = rows_of(gl.minimum(1, steps - 1), item, batch, offsets)
        fill(tiles.k, count, k_pointers)
        load_q(q, item, batch, tiles.q, items, q_rows, dims)
        for j in range(1, steps):
            # K of block j, then V of block j - 1: the order in which they are needed and their tiles fall free.
            row = hand_out(slots, batch.BLOCK_N)
            k_pointers = pointers_of(k, of_prefix, row, dims, WIDE)
            next_of_prefix, slots = rows_of(gl.minimum(j + 1, steps - 1), item, batch, offsets)
            fill(tiles.k, count + 1, k_pointers)
            fill(tiles.v, count, v_pointers)
            v_pointers = pointers_of(v, of_prefix, row, dims, WIDE)
            of_prefix = next_of_prefix
            count += 1
        # Before the last tile, which must wait for the groups: a draw takes as long as a block.
        number = next_draw(batch)
        items += 1
        announce(tiles.board, items, number)
        fill(tiles.v, count, v_pointers)
        count += 1
    put_back(batch)


# --- computing ------------------------------------------------------------------------------------------------------


@gluon.jit
def _pack(p, DTYPE: gl.constexpr):
    """Pairs of p as 16-bit numbers in one int32 each. Carried round a loop as 16-bit numbers, ptxas would swap their
    halves twice, 64 instructions a block."""
    even, odd = gl.split(p.reshape([p.shape[0], p.shape[1] // 2, 2]))
    ASM: gl.constexpr = "cvt.rn.bf16x2.f32 $0, $2, $1;" if DTYPE == gl.bfloat16 else "cvt.rn.f16x2.f32 $0, $2, $1;"
    return gl.inline_asm_elementwise(ASM, "=r,r,r", [even, odd], dtype=gl.int32, is_pure=True, pack=1)


@gluon.jit
def _unpack(packed, OUT: gl.constexpr, DTYPE: gl.constexpr):
    """The product's left operand, in the registers where _pack left it."""
    low = packed.to(gl.int16).to(DTYPE, bitcast=True)
    high = (packed >> 16).to(gl.int16).to(DTYPE, bitcast=True)
    OPERAND: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=OUT, k_width=2)
    return gl.convert_layout(gl.join(low, high).reshape([packed.shape[0], packed.shape[1] * 2]), OPERAND)


@gluon.jit
def _scores(tiles, group, count, BLOCK_N: gl.constexpr):
    """q K of this group's rows, issued and not waited for."""
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    stage = count % tiles.k.STAGES
    s = gl.zeros([64, BLOCK_N], gl.float32, layout=SCORES)
    k = tiles.k.tiles.index(stage).permute((1, 0))
    s = warpgroup_mma(tiles.q.tiles.index(group), k, s, use_acc=False, is_async=True)
    if tiles.k.REST:
        k = tiles.k.rest.index(stage).permute((1, 0))
        s = warpgroup_mma(tiles.q.rest.index(group), k, s, is_async=True)
    return s


@gluon.jit
def _softmax_of(s, state, j, item, q_pos, batch, scales, MASKED: gl.constexpr):
    """softmax() of block j of the walk."""
    seen = 0
    if MASKED:
        of_prefix, begin, key_len = locate(j, item, batch.BLOCK_N)
        pos = q_pos - gl.where(of_prefix, 0, item.prefix_len)
        seen = visible(s, begin, key_len, pos, batch)
    else:
        of_prefix = in_prefix(j, item)
    return softmax(s, state.row_sum, state.row_max, of_prefix, seen, scales, MASKED, batch.LOGIT_CAP)


@gluon.jit
def _steps(
    first, stop, steps, state, tiles, group, item, q_pos, batch, scales, MASKED: gl.constexpr
):  # fmt: skip
    """Blocks `first` to `stop` of the walk's `steps`: scores of block j, product of block j - 1 in flight together."""
    DTYPE: gl.constexpr = tiles.q.tiles.dtype
    OUT: gl.constexpr = state.acc.type.layout
    for j in range(first, stop):
        count = state.count + 1
        p = _unpack(state.p, OUT, DTYPE)
        s = _scores(tiles, group, count, batch.BLOCK_N)
        acc = warpgroup_mma(p, tiles.v.tiles.index(state.count % tiles.v.STAGES), state.acc, is_async=True)
        s = warpgroup_mma_wait(1, deps=(s,))
        release(tiles.k, count)
        p, rescale, row_sum, row_max = _softmax_of(s, state, j, item, q_pos, batch, scales, MASKED)
        # What the next turn needs is waited for here. These waits are branches: ptxas cannot move the wait for the
        # product above the softmax, as it would. The fence costs nothing while the product runs.
        wait_full(tiles.k, count + 1, j + 1 < steps)
        wait_full(tiles.v, count, True)
        fence_async_shared()
        acc = warpgroup_mma_wait(0, deps=(acc,))
        release(tiles.v, state.count)
        # Packed after the wait, when the registers of the last p are free: before it, 32 moves would follow.
        p = _pack(p, DTYPE)
        acc = acc * gl.convert_layout(rescale, gl.SliceLayout(1, OUT))[:, None]
        state = State(p, acc, row_sum, row_max, count)
    return state


@gluon.jit
def _store(out, o, item, batch, group):
    """Write the group's rows; four lanes of a row trade first, so that each writes 16 bytes of it."""
    DIM: gl.constexpr = out.shape[1]
    WIDER: gl.constexpr = [[0, 32], [0, 64], [0, 128]] if DIM == 256 else [[0, 32], [0, 64]]
    REGISTERS: gl.constexpr = [[0, 1], [0, 2], [0, 4], [8, 0]] + (WIDER if DIM > 64 else [[0, 32]])
    STORE: gl.constexpr = gl.DistributedLinearLayout(
        REGISTERS, [[0, 8], [0, 16], [1, 0], [2, 0], [4, 0]], [[16, 0], [32, 0]], [], [64, DIM]
    )
    out = gl.convert_layout(out, STORE)
    row = gl.arange(0, 64, layout=gl.SliceLayout(1, STORE)) + group * 64
    dims = gl.arange(0, DIM, layout=gl.SliceLayout(0, STORE))
    token = item.first_token + row // batch.PACK
    offset = (item.token_start + token).to(gl.int64) * o.token_stride
    offset += (item.first_head + row % batch.PACK) * o.head_stride
    mask = (token < item.extend_len)[:, None] & (dims < DIM)[None, :]
    gl.store(o.base + offset[:, None] + dims[None, :], out, mask=mask)


@gluon.jit
def _compute(o, factors, batch, tiles, group, HAS_SINKS: gl.constexpr):
    """A computing group: rows 64 * group and on of every item."""
    DTYPE: gl.constexpr = tiles.q.tiles.dtype
    BLOCK_N: gl.constexpr = batch.BLOCK_N
    DIM: gl.constexpr = tiles.v.tiles.shape[2]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DIM, 16])
    ROW: gl.constexpr = gl.SliceLayout(1, SCORES)
    # Four lanes share a row of the scores: [64 rows, 4 lanes], one number a thread and row.
    LANES: gl.constexpr = gl.DistributedLinearLayout(
        [[8, 0]], [[0, 1], [0, 2], [1, 0], [2, 0], [4, 0]], [[16, 0], [32, 0]], [], [64, 4]
    )
    scales = scales_of(factors.sm_scale, factors.k_scale, factors.v_scale, batch.LOGIT_CAP, DTYPE)
    rows = gl.arange(0, 64, layout=ROW) + group * 64
    count = 0
    items = 0
    number = read_number(tiles.board, items, 4)
    while number >= 0:
        _, item = item_of(number, batch)
        steps, masked = steps_of(item)
        q_pos = item.prefix_len + item.first_token + rows // batch.PACK
        row_sum = gl.zeros([64, 4], gl.float32, layout=LANES)
        row_max = gl.full([64], float("-inf"), gl.float32, layout=ROW)
        acc = gl.zeros([64, DIM], gl.float32, layout=OUT)
        mbarrier.wait(tiles.q.full.index(group), items & 1)
        wait_full(tiles.k, count, True)
        fence_async_shared()
        s = warpgroup_mma_wait(0, deps=(_scores(tiles, group, count, BLOCK_N),))
        release(tiles.k, count)
        state = State(0, acc, row_sum, row_max, count)
        p, _, row_sum, row_max = _softmax_of(s, state, 0, item, q_pos, batch, scales, True)
        p = _pack(p, DTYPE)
        wait_full(tiles.k, count + 1, steps > 1)
        wait_full(tiles.v, count, True)
        fence_async_shared()
        state = State(p, acc, row_sum, row_max, count)
        middle = gl.maximum(masked, 1)
        state = _steps(1, middle, steps, state, tiles, group, item, q_pos, batch, scales, True)
        state = _steps(middle, steps, steps, state, tiles, group, item, q_pos, batch, scales, False)
        release(tiles.q, group)
        p = _unpack(state.p, OUT, DTYPE)
        acc = warpgroup_mma(p, tiles.v.tiles.index(state.count % tiles.v.STAGES), state.acc, is_async=True)
        heads = item.first_head + rows % batch.PACK
        factor = last_factor(state.row_sum, state.row_max, factors.sinks, heads, scales, HAS_SINKS)
        acc = warpgroup_mma_wait(0, deps=(acc,))
        release(tiles.v, state.count)
        factor = gl.convert_layout(factor, gl.SliceLayout(1, OUT))
        _store((acc * factor[:, None]).to(DTYPE), o, item, batch, group)
        count = state.count + 1
        items += 1
        number = read_number(tiles.board, items, 4)


# --- the kernel -----------------------------------------------------------------------------------------------------


# The numbers that are new with every batch: compiled neither for a value of 1 nor for multiples of 16.
@gluon.jit(do_not_specialize=["kv_group_num", "num_blocks", "head_groups", "sequences", "section"])
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
    """Grid (programs,), launched with 4 warps; the other groups are started inside. See the module's docstring."""
    DTYPE: gl.constexpr = q_ptr.dtype.element_ty
    GROUPS: gl.constexpr = BLOCK_M // 64
    HAS_SINKS: gl.constexpr = sinks_ptr is not None
    batch = Batch(
        qo_indptr, kv_indptr, kv_indices, counter_ptr, num_blocks, head_groups, sequences, section,
        BLOCK_M, GROUP_PACK, BLOCK_N, WINDOW_LEFT, IS_CAUSAL, LOGIT_CAP,
    )  # fmt: skip
    keys = Memory(k_buffer_ptr, stride_kb_slot, stride_kb_head, k_ptr, stride_k_token, stride_k_head)
    values = Memory(v_buffer_ptr, stride_vb_slot, stride_vb_head, v_ptr, stride_v_token, stride_v_head)
    tiles = Tiles(
        new_ring(DTYPE, GROUPS, 64, HEAD_DIM, 1),
        new_ring(DTYPE, STAGES, BLOCK_N, HEAD_DIM, GROUPS),
        new_ring(DTYPE, STAGES, BLOCK_N, V_HEAD_DIM, GROUPS),
        new_board(),
    )
    fence_async_shared()
    q = Rows(q_ptr, stride_q_token, stride_q_head)
    o = Rows(o_ptr, stride_o_token, stride_o_head)
    factors = Factors(sm_scale, k_scale, v_scale, sinks_ptr)
    if GROUPS == 2:
        gl.warp_specialize(
            [
                (_compute, (o, factors, batch, tiles, 0, HAS_SINKS)),
                (_compute, (o, factors, batch, tiles, 1, HAS_SINKS)),
                (_load, (q, keys, values, kv_group_num, batch, tiles, WIDE_OFFSETS)),
            ],
            [4, 4],
            [COMPUTE_REGISTERS, LOAD_REGISTERS],
        )
    else:
        gl.warp_specialize(
            [
                (_compute, (o, factors, batch, tiles, 0, HAS_SINKS)),
                (_compute, (o, factors, batch, tiles, 1, HAS_SINKS)),
                (_compute, (o, factors, batch, tiles, 2, HAS_SINKS)),
                (_load, (q, keys, values, kv_group_num, batch, tiles, WIDE_OFFSETS)),
            ],
            [4, 4, 4],
            [COMPUTE_REGISTERS, COMPUTE_REGISTERS, LOAD_REGISTERS],
        )

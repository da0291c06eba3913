"""Gather the visible part of a cached prefix into a workspace, in the 16-bit dtype of q, for the Hopper kernels.

Those copy K and V as they are (`cp.async` cannot convert), and every block of query rows reads them again: converted
once, before, an fp8 cache costs one pass over the prefix. With a window only its reach is gathered.
"""

import triton
import triton.language as tl


@triton.jit
def _row(source, target, slot, row, head, valid, stride_slot, stride_head, heads, DIM: tl.constexpr, PAD: tl.constexpr):
    """One head of some rows, from the cache to the workspace (`[rows, heads, DIM]`, contiguous)."""
    dims = tl.arange(0, PAD)
    mask = valid[:, None] & (dims < DIM)[None, :]
    values = tl.load(source + slot[:, None] * stride_slot + head * stride_head + dims[None, :], mask=mask, other=0.0)
    places = target + (row[:, None] * heads + head) * DIM + dims[None, :]
    tl.store(places, values.to(target.dtype.element_ty), mask=mask)


@triton.jit
def gather_upcast_kernel(
    k_buffer_ptr,
    v_buffer_ptr,
    k_out_ptr,
    v_out_ptr,
    rows_ptr,
    kv_indptr,
    kv_indices,
    kv_heads,
    reach,
    total,
    stride_kb_slot,
    stride_kb_head,
    stride_vb_slot,
    stride_vb_head,
    HEAD_DIM: tl.constexpr,
    V_HEAD_DIM: tl.constexpr,
    PAD_K: tl.constexpr,
    PAD_V: tl.constexpr,
    WINDOWED: tl.constexpr,
    WINDOW_LEFT: tl.constexpr,
    BLOCK_N: tl.constexpr,
    ROWS: tl.constexpr,
):
    """ROWS keys of one head; grid (blocks of keys, heads, sequences).

    Workspace row of a key: its number in `kv_indices`; WINDOWED: counted from the first key block that a window
    reaches, `reach` rows a sequence. `rows_ptr` receives that number for every key, as the kernel's new `kv_indices`.
    """
    head = tl.program_id(1)
    sequence = tl.program_id(2).to(tl.int64)
    if WINDOWED:
        slot_start = tl.load(kv_indptr + sequence)
        prefix_len = tl.load(kv_indptr + sequence + 1) - slot_start
        first = tl.maximum(prefix_len - WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N
        key = first + tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        valid = key < prefix_len
        place = slot_start + key
        row = sequence * reach + (key - first)
    else:
        place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        valid = place < total
        row = place.to(tl.int64)
    slot = tl.load(kv_indices + place, mask=valid, other=0)
    _row(k_buffer_ptr, k_out_ptr, slot, row, head, valid, stride_kb_slot, stride_kb_head, kv_heads, HEAD_DIM, PAD_K)
    _row(v_buffer_ptr, v_out_ptr, slot, row, head, valid, stride_vb_slot, stride_vb_head, kv_heads, V_HEAD_DIM, PAD_V)
    if head == 0:
        tl.store(rows_ptr + place, row, mask=valid)

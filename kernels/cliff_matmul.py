"""A plain matrix product, C = A B, with nothing special in it: notebook 07 pushes it over the cliff by its launch.

Device code only, importable with Triton alone. Every run-time integer is a stride or an extent in elements.
"""

import triton
import triton.language as tl


@triton.jit
def cliff_matmul_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    m,
    n,
    k,
    stride_a_row,
    stride_b_row,
    stride_c_row,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One CTA makes one BLOCK_M x BLOCK_N tile of C (fp32 sums, stored as C's type); rows are contiguous."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    depth = tl.arange(0, BLOCK_K)
    total = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        inside = start + depth < k
        a = tl.load(
            a_ptr + rows[:, None] * stride_a_row + (start + depth)[None, :],
            mask=(rows < m)[:, None] & inside[None, :],
            other=0.0,
        )
        b = tl.load(
            b_ptr + (start + depth)[:, None] * stride_b_row + columns[None, :],
            mask=inside[:, None] & (columns < n)[None, :],
            other=0.0,
        )
        total = tl.dot(a, b, total)
    tl.store(
        c_ptr + rows[:, None] * stride_c_row + columns[None, :],
        total.to(c_ptr.dtype.element_ty),
        mask=(rows < m)[:, None] & (columns < n)[None, :],
    )

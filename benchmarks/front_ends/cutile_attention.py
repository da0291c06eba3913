"""An attention in cuTile, compiled by tileiras without a GPU into ./kernel.cubin.

    python cutile_attention.py sm_90 BLOCK_M BLOCK_N HEAD_DIM WINDOW    (0: no window)

Run by benchmarks/record_front_ends.py. Causal, bf16, one head and BLOCK_M queries a program, dense keys and values.
"""

from __future__ import annotations

import math
import sys

import cuda.tile as ct
from cuda.tile.compilation import ArrayConstraint, CallingConvention, KernelSignature, ScalarConstraint, export_kernel

Int = ct.Constant[int]


@ct.kernel
def attention(q, k, v, out, keys, scale: ct.Constant[float], m: Int, n: Int, d: Int, window: Int):
    """Write softmax(scale * q k^T) v, in base 2, of m queries; arrays are (heads, rows, d)."""
    head, block = ct.bid(1), ct.bid(0)
    query = ct.load(q, index=(head, block, 0), shape=(1, m, d)).reshape((m, d))
    row = block * m + ct.arange(m, dtype=ct.int32)[:, None]
    highest = ct.full((m, 1), -math.inf, dtype=ct.float32)
    total = ct.full((m, 1), 0.0, dtype=ct.float32)
    acc = ct.full((m, d), 0.0, dtype=ct.float32)
    for j in range(0, ct.cdiv(keys, n)):
        key = ct.load(k, index=(head, 0, j), shape=(1, d, n), order=(0, 2, 1)).reshape((d, n))
        score = ct.mma(query, key, ct.full((m, n), 0.0, dtype=ct.float32)) * scale
        column = j * n + ct.arange(n, dtype=ct.int32)[None, :]
        seen = (column <= row) & (column < keys)
        if window > 0:
            seen = seen & (row - column < window)
        score = ct.where(seen, score, -1.0e30)
        higher = ct.maximum(highest, ct.max(score, axis=-1, keepdims=True))
        p = ct.exp2(score - higher)
        factor = ct.exp2(highest - higher)
        total = total * factor + ct.sum(p, axis=-1, keepdims=True)
        highest = higher
        value = ct.load(v, index=(head, j, 0), shape=(1, n, d)).reshape((n, d))
        acc = ct.mma(p.astype(q.dtype), value, acc * factor)
    ct.store(out, index=(head, block, 0), tile=(acc / total).astype(out.dtype).reshape((1, m, d)))


def main(arch: str, block_m: int, block_n: int, head_dim: int, window: int) -> None:
    """Export one configuration; arrays are aligned to 16 elements, their last axis is contiguous."""
    array = ArrayConstraint(
        ct.bfloat16, 3, index_dtype=ct.int32, stride_lower_bound_incl=0, alias_groups=[], may_alias_internally=False,
        stride_constant=(None, None, 1), stride_divisible_by=(16, 16, 1), shape_divisible_by=(1, 1, 16),
        base_addr_divisible_by=16,
    )  # fmt: skip
    scale = math.log2(math.e) / math.sqrt(head_dim)
    parameters = [array, array, array, array, ScalarConstraint(ct.int32), scale, block_m, block_n, head_dim, window]
    signature = KernelSignature(parameters, CallingConvention.cutile_python_v1(), symbol="attention")
    export_kernel(attention, [signature], "kernel.cubin", gpu_code=arch, output_format="cubin")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

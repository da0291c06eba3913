"""A matrix product in CuTe DSL, compiled without a GPU; its PTX and cubin are left in the current folder.

    python cute_gemm.py sm_90a BLOCK_M BLOCK_N WARPS LEAST

Run by benchmarks/record_front_ends.py. bf16 operands straight from global memory to registers, f32 accumulators:
BLOCK_M * BLOCK_N / (32 * WARPS) registers a thread for these alone. LEAST is how many CTAs an SM shall hold at least
(`.minnctapersm` of the PTX), 0 to leave that open.
"""

from __future__ import annotations

import os
import sys

import cutlass
import cutlass.cute as cute
from cutlass.cute.runtime import make_fake_compact_tensor

BLOCK_K = 32
BF16, F32 = cutlass.BFloat16, cutlass.Float32


@cute.kernel
def product(a: cute.Tensor, b: cute.Tensor, c: cute.Tensor, tiled: cute.TiledMma, tile: cutlass.Constexpr):
    """c = a b^T of one tile; a is (m, k), b is (n, k), c is (m, n), all multiples of the tile."""
    m, n, _ = cute.arch.block_idx()
    thread, _, _ = cute.arch.thread_idx()
    mine = tiled.get_slice(thread)
    part_a = mine.partition_A(cute.local_tile(a, (tile[0], BLOCK_K), (m, None)))
    part_b = mine.partition_B(cute.local_tile(b, (tile[1], BLOCK_K), (n, None)))
    part_c = mine.partition_C(cute.local_tile(c, tile, (m, n)))
    own_a = tiled.make_fragment_A(part_a[None, None, None, 0])
    own_b = tiled.make_fragment_B(part_b[None, None, None, 0])
    acc = tiled.make_fragment_C(part_c)
    acc.fill(0.0)
    for k in range(cute.size(part_a, mode=[3])):
        cute.autovec_copy(part_a[None, None, None, k], own_a)
        cute.autovec_copy(part_b[None, None, None, k], own_b)
        cute.gemm(tiled, acc, own_a, own_b, acc)
    rounded = cute.make_fragment_like(acc, BF16)
    rounded.store(acc.load().to(BF16))
    cute.autovec_copy(rounded, part_c)


@cute.jit
def launch(
    a: cute.Tensor, b: cute.Tensor, c: cute.Tensor,
    tile: cutlass.Constexpr, warps: cutlass.Constexpr, least: cutlass.Constexpr,
):  # fmt: skip
    """One CTA of `warps` warps, side by side along m, a tile."""
    tiled = cute.make_tiled_mma(cute.nvgpu.warp.MmaF16BF16Op(BF16, F32, (16, 8, 16)), (warps, 1, 1))
    grid = (cute.size(c, mode=[0]) // tile[0], cute.size(c, mode=[1]) // tile[1], 1)
    product(a, b, c, tiled, tile).launch(grid=grid, block=(32 * warps, 1, 1), min_blocks_per_mp=least)


def main(arch: str, block_m: int, block_n: int, warps: int, least: int) -> None:
    """Compile one tile for matrices of 4096 by 4096."""
    matrix = [make_fake_compact_tensor(BF16, (4096, 4096), stride_order=(1, 0), assumed_align=16) for _ in range(3)]
    cute.compile(launch, *matrix, (block_m, block_n), warps, least)


if __name__ == "__main__":
    assert os.environ.get("CUTE_DSL_ARCH") == sys.argv[1], "CUTE_DSL_ARCH says the chip: set it before CuTe DSL starts"
    main(sys.argv[1], *map(int, sys.argv[2:]))

"""Occupancy against numbers that NVIDIA published, and against derivations by hand from its published rules.

Beside these, 6,000 random cases over sm_80 to sm_121 were compared once with ``cuda_occupancy.h`` itself
(CUDA 13.0, compiled with g++, largest carve-out, opt-in shared memory): no difference.
"""

from dataclasses import dataclass, replace

import pytest

from helpers.errors import UserError
from helpers.inspection.binary.occupancy import occupancy

KIB = 1024


@dataclass(frozen=True)
class Limits:
    """The fields `occupancy` reads, with sm_100a's values: this test must not depend on the arch table."""

    regs_per_sm: int = 65_536
    max_regs_per_thread: int = 255
    reg_alloc_unit_per_warp: int = 256
    smem_per_sm_bytes: int = 228 * KIB
    smem_per_block_max_bytes: int = 227 * KIB
    smem_reserved_per_block_bytes: int = 1024
    max_warps_per_sm: int = 64
    max_ctas_per_sm: int = 32
    tmem_columns: int = 512


SM100 = Limits()
SM86 = Limits(
    smem_per_sm_bytes=100 * KIB,
    smem_per_block_max_bytes=99 * KIB,
    max_warps_per_sm=48,
    max_ctas_per_sm=16,
    tmem_columns=0,
)


def test_the_best_practices_guides_own_example():
    """CUDA C++ Best Practices Guide, "Calculating Occupancy": 65,536 registers and 64 warps per SM.

    37 registers per thread: 128-thread blocks give 12 blocks (75 %), 320-thread blocks only 4 (63 %).
    Derivation: 37 * 32 = 1,184 registers per warp, rounded up to 1,280; a sub-partition of 16,384 holds 12
    warps, an SM 48; 48 // 4 = 12 and 48 // 10 = 4. (Without sub-partitions: 51 warps, and 5 blocks of 10.)
    """
    small = occupancy(regs_per_thread=37, smem_bytes=0, num_warps=4, limits=SM100)
    assert (small.ctas_per_sm, small.limited_by, small.warps_per_sm) == (12, "registers", 48)
    large = occupancy(regs_per_thread=37, smem_bytes=0, num_warps=10, limits=SM100)
    assert (large.ctas_per_sm, large.limited_by, large.warps_per_sm) == (4, "registers", 40)


def test_255_registers_and_8_warps_leave_one_cta():
    """255 * 32 = 8,160 -> 8,192 per warp; 16,384 // 8,192 = 2 per sub-partition, 8 per SM: one CTA of 8.

    Shared memory would allow two: 114,696 + 1,024 = 115,720 -> 905 * 128 = 115,840; 233,472 // 115,840 = 2.
    """
    got = occupancy(regs_per_thread=255, smem_bytes=114_696, num_warps=8, tmem_columns=256, limits=SM100)
    assert (got.ctas_per_sm, got.limited_by, got.warps_per_sm) == (1, "registers", 8)
    assert got.ctas_by_resource == {
        "registers": 1, "shared_memory": 2, "tensor_memory": 2, "warps": 8, "ctas": 32
    }  # fmt: skip


def test_registers_are_handed_out_by_quarters_of_the_sm():
    """200 * 32 = 6,400 per warp; 16,384 // 6,400 = 2, so 8 warps on the SM although 65,536 // 6,400 = 10."""
    assert occupancy(regs_per_thread=200, smem_bytes=0, num_warps=2, limits=SM100).ctas_per_sm == 4


def test_register_rounding_has_steps_of_eight():
    """256 registers a warp are 8 a thread: 121 to 128 cost 4,096 (4 warps a quarter), 129 costs 4,352 (3)."""
    for regs, ctas in ((121, 4), (128, 4), (129, 3)):
        assert occupancy(regs_per_thread=regs, smem_bytes=0, num_warps=4, limits=SM100).ctas_per_sm == ctas


def test_shared_memory_counts_the_drivers_kibibyte():
    """sm_86 has 100 KiB an SM: two CTAs of 49 KiB and 1 KiB reserved fill it; one byte more, and one fits."""
    two = occupancy(regs_per_thread=32, smem_bytes=49 * KIB, num_warps=4, limits=SM86)
    assert (two.ctas_per_sm, two.limited_by) == (2, "shared_memory")
    assert occupancy(regs_per_thread=32, smem_bytes=49 * KIB + 1, num_warps=4, limits=SM86).ctas_per_sm == 1
    assert occupancy(regs_per_thread=32, smem_bytes=99 * KIB, num_warps=4, limits=SM86).ctas_per_sm == 1
    none = occupancy(regs_per_thread=32, smem_bytes=99 * KIB + 1, num_warps=4, limits=SM86)
    assert (none.ctas_per_sm, none.limited_by, none.warps_per_sm) == (0, "shared_memory", 0)


@pytest.mark.parametrize(
    ("columns", "ctas"), [(0, 8), (1, 8), (32, 8), (128, 4), (129, 2), (256, 2), (257, 1), (512, 1), (544, 0)]
)
def test_tensor_memory_goes_by_powers_of_two(columns, ctas):
    """512 columns an SM: 129 take 256, 544 (the tile that Triton turns into a trap) never fit."""
    got = occupancy(regs_per_thread=32, smem_bytes=0, num_warps=8, tmem_columns=columns, limits=SM100)
    assert got.ctas_per_sm == ctas
    assert (got.limited_by == "tensor_memory") == (ctas < 8)


def test_warps_and_ctas_limit_small_kernels():
    """24 registers: 768 a warp, 21 warps a sub-partition, 84 an SM; the SM's 64 warps come first."""
    warps = occupancy(regs_per_thread=24, smem_bytes=0, num_warps=8, limits=SM100)
    assert (warps.ctas_per_sm, warps.limited_by, warps.warps_per_sm) == (8, "warps", 64)
    ctas = occupancy(regs_per_thread=24, smem_bytes=0, num_warps=1, limits=SM86)
    assert (ctas.ctas_per_sm, ctas.limited_by, ctas.warps_per_sm) == (16, "ctas", 16)


def test_what_cannot_be_launched():
    """129 registers are 4,352 a warp, so 16 warps need 69,632 of 65,536; 5 warps are checked as 8."""
    assert occupancy(regs_per_thread=129, smem_bytes=0, num_warps=16, limits=SM100).ctas_per_sm == 0
    assert occupancy(regs_per_thread=128, smem_bytes=0, num_warps=16, limits=SM100).ctas_per_sm == 1
    assert occupancy(regs_per_thread=255, smem_bytes=0, num_warps=5, limits=SM100).ctas_per_sm == 1
    assert occupancy(regs_per_thread=256, smem_bytes=0, num_warps=1, limits=SM100).limited_by == "registers"
    without = replace(SM100, tmem_columns=0)
    no_tmem = occupancy(regs_per_thread=32, smem_bytes=0, num_warps=4, tmem_columns=32, limits=without)
    assert (no_tmem.ctas_per_sm, no_tmem.limited_by) == (0, "tensor_memory")


@pytest.mark.parametrize(
    "bad",
    [{"regs_per_thread": 0}, {"regs_per_thread": None}, {"smem_bytes": -1}, {"num_warps": 0},
     {"num_warps": 33}, {"tmem_columns": -32}, {"num_warps": 4.5}],
)  # fmt: skip
def test_bad_input_is_named(bad):
    good = {"regs_per_thread": 32, "smem_bytes": 0, "num_warps": 4, "tmem_columns": 0}
    with pytest.raises(UserError, match=next(iter(bad))):
        occupancy(**{**good, **bad}, limits=SM100)

"""How many CTAs of a kernel fit on one SM, and which resource says so.

The rules are the ones NVIDIA publishes in ``cuda_occupancy.h`` (read in CUDA 13.0's, which knows compute
capabilities up to 12.1; its cases for 8.x to 12.x agree in everything used here):

* registers are given to warps, ``regs_per_thread * 32`` rounded up to 256, and each of an SM's four
  sub-partitions hands out a quarter of the register file: a warp cannot straddle two of them;
* a launch is checked as if its warps came in multiples of four;
* shared memory is the kernel's plus what the driver reserves per CTA, rounded up to 128 bytes;
* tensor memory is not in that header. The PTX ISA (``tcgen05.alloc``) hands it out in powers of two, 32
  columns at least, 512 columns to an SM; a CTA that finds none free waits, so for residency it limits like
  the others.

The largest shared-memory carve-out is assumed, as CUDA chooses for a kernel that asks for it.
"""

from dataclasses import dataclass

from helpers.errors import UserError
from helpers.hardware import MAX_THREADS_PER_CTA, SUB_PARTITIONS_PER_SM, WARP_SIZE, GpuArch

__all__ = ["Occupancy", "occupancy"]

MAX_WARPS_PER_CTA = MAX_THREADS_PER_CTA // WARP_SIZE
SMEM_ALLOC_UNIT_BYTES = 128
TMEM_MIN_ALLOC_COLUMNS = 32


@dataclass(frozen=True)
class Occupancy:
    """CTAs per SM (0: cannot be launched), the resource that limits them, and the warps that makes resident.

    `limited_by` is one of registers, shared_memory, tensor_memory, warps, ctas; of several equal limits the
    first in that order. `ctas_by_resource` has the CTAs each of them would allow alone (a resource not used
    is left out).
    """

    ctas_per_sm: int
    limited_by: str
    warps_per_sm: int
    ctas_by_resource: dict[str, int]


def occupancy(
    *, regs_per_thread: int, smem_bytes: int, num_warps: int, tmem_columns: int = 0, limits: GpuArch
) -> Occupancy:
    """The `Occupancy` of a kernel on one SM of `limits`.

    Registers per thread as ptxas reports them, shared memory in bytes per CTA (static and dynamic together,
    without the driver's share), warps per CTA, tensor-memory columns per CTA. Raises UserError for a count
    below its minimum or a CTA of more than 32 warps.
    """
    _check("regs_per_thread", regs_per_thread, 1)
    _check("smem_bytes", smem_bytes, 0)
    _check("num_warps", num_warps, 1)
    _check("tmem_columns", tmem_columns, 0)
    if num_warps > MAX_WARPS_PER_CTA:
        raise UserError(
            f"num_warps is {num_warps}: a CTA holds at most {MAX_WARPS_PER_CTA} warps (1,024 threads). Use fewer warps."
        )

    allowed = {
        "registers": _by_registers(regs_per_thread, num_warps, limits),
        "shared_memory": _by_shared_memory(smem_bytes, limits),
    }
    if tmem_columns:
        columns = max(TMEM_MIN_ALLOC_COLUMNS, 1 << (tmem_columns - 1).bit_length())
        allowed["tensor_memory"] = limits.tmem_columns // columns
    allowed["warps"] = limits.max_warps_per_sm // num_warps
    allowed["ctas"] = limits.max_ctas_per_sm

    limited_by = min(allowed, key=allowed.__getitem__)
    ctas = allowed[limited_by]
    return Occupancy(ctas_per_sm=ctas, limited_by=limited_by, warps_per_sm=ctas * num_warps, ctas_by_resource=allowed)


def _by_registers(regs_per_thread: int, num_warps: int, limits: GpuArch) -> int:
    if regs_per_thread > limits.max_regs_per_thread:
        return 0
    regs_per_warp = _round_up(regs_per_thread * WARP_SIZE, limits.reg_alloc_unit_per_warp)
    # The launch check; on every architecture here a CTA may use the whole register file.
    if regs_per_warp * _round_up(num_warps, SUB_PARTITIONS_PER_SM) > limits.regs_per_sm:
        return 0
    warps_per_sub_partition = limits.regs_per_sm // SUB_PARTITIONS_PER_SM // regs_per_warp
    return warps_per_sub_partition * SUB_PARTITIONS_PER_SM // num_warps


def _by_shared_memory(smem_bytes: int, limits: GpuArch) -> int:
    if smem_bytes > limits.smem_per_block_max_bytes:
        return 0
    taken = _round_up(smem_bytes + limits.smem_reserved_per_block_bytes, SMEM_ALLOC_UNIT_BYTES)
    # Nothing asked for and nothing reserved: shared memory sets no limit, the number of CTAs does.
    return limits.smem_per_sm_bytes // taken if taken else limits.max_ctas_per_sm


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _check(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or value < minimum:
        raise UserError(f"{name} is {value!r}: occupancy needs a whole number of at least {minimum}.")

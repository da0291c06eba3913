"""GPU architectures the workbook can compile for, and the hardware limits its verdicts are measured against.

Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (registers, shared
memory, warps and CTAs per SM); the Hopper, Blackwell and RTX Blackwell tuning guides (shared memory per block
and the 1 KiB the system reserves in each); PTX ISA, "Tensor Memory" (512 columns of 128 lanes on sm_100/103).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers.errors import UserError

# Everything below is the same on every architecture listed here.
# Registers an instruction can name: its register number has 8 bits, and R255 is hard-wired to zero.
CAP = 255
# The register file of one SM, in 32-bit registers: 64 Ki, a quarter in each of the four sub-partitions.
REGISTERS_PER_SM = 65_536
WARP_SIZE = 32
SUB_PARTITIONS_PER_SM = 4
MAX_THREADS_PER_CTA = 1_024
# A warp is given registers in units of 256, so a thread in units of 8.
REGISTER_UNIT_PER_WARP = 256


def cap_for(threads: int | None = None, *, num_warps: int | None = None) -> int:
    """Most registers a thread can have in a CTA of so many threads (or warps): 255, or its share of the SM's file.

    256 threads: 255. 384: 168. 512: 128. 1,024: 64. Not known (None or 0): 255. Warps count in fours, one for each
    sub-partition of the SM, so 288 threads have what 384 have. ptxas counts so: it dies at these numbers when an
    edited `.reqntid` asks for 256 to 1,024 threads (ptxas 12.8.93, tests/test_hardware.py). `threads` beyond 1,024,
    which no CTA can have, count as 1,024.
    """
    warps = num_warps if num_warps is not None else -(-(threads or 0) // WARP_SIZE)
    if warps <= 0:
        return CAP
    per_partition = -(-min(warps, MAX_THREADS_PER_CTA // WARP_SIZE) // SUB_PARTITIONS_PER_SM)
    unit = REGISTER_UNIT_PER_WARP // WARP_SIZE
    return min(CAP, REGISTERS_PER_SM // (per_partition * SUB_PARTITIONS_PER_SM * WARP_SIZE) // unit * unit)


@dataclass(frozen=True)
class GpuArch:
    """Limits of one compile target; sizes in bytes unless the name says otherwise."""

    name: str
    capability: int
    product: str
    smem_per_sm_bytes: int
    smem_per_block_max_bytes: int
    max_warps_per_sm: int
    max_ctas_per_sm: int
    tmem_columns: int
    tensor_core_path: str
    regs_per_sm: int = REGISTERS_PER_SM
    max_regs_per_thread: int = CAP
    reg_alloc_unit_per_warp: int = REGISTER_UNIT_PER_WARP
    smem_reserved_per_block_bytes: int = 1024


def _kib(n: int) -> int:
    return n * 1024


ARCHS: dict[str, GpuArch] = {
    a.name: a
    for a in (
        GpuArch("sm_80", 80, "A100", _kib(164), _kib(163), 64, 32, 0, "mma.sync"),
        GpuArch("sm_86", 86, "RTX 30 / A10", _kib(100), _kib(99), 48, 16, 0, "mma.sync"),
        GpuArch("sm_89", 89, "RTX 40 / L4 / L40S", _kib(100), _kib(99), 48, 24, 0, "mma.sync"),
        GpuArch("sm_90a", 90, "H100 / H200", _kib(228), _kib(227), 64, 32, 0, "wgmma"),
        GpuArch("sm_100a", 100, "B200 / GB200", _kib(228), _kib(227), 64, 32, 512, "tcgen05"),
        GpuArch("sm_103a", 103, "B300 / GB300", _kib(228), _kib(227), 64, 32, 512, "tcgen05"),
        GpuArch("sm_120a", 120, "RTX 50 / RTX PRO 6000", _kib(100), _kib(99), 48, 24, 0, "mma.sync"),
        GpuArch("sm_121a", 121, "DGX Spark (GB10)", _kib(100), _kib(99), 48, 24, 0, "mma.sync"),
    )
}


def get_arch(name: str | int | GpuArch) -> GpuArch:
    """The architecture called `sm_100a`, `sm_100`, `100`, `10.0` or 100; raises UserError for any other."""
    if isinstance(name, GpuArch):
        return name
    text = str(name).strip()
    if found := re.fullmatch(r"(?:sm_?)?([0-9]{1,2})\.?([0-9])[af]?", text, re.IGNORECASE):
        for arch in ARCHS.values():
            if "".join(found.groups()) == str(arch.capability):
                return arch
    raise UserError(f"unknown arch {text[:40]!r}: choose one of {', '.join(ARCHS)}")


POWERS = (1, 2, 4, 8, 16, 32)


def warps_of_cap(cap: int) -> tuple[int, ...]:
    """The `num_warps` (Triton takes powers of two) that leave exactly `cap` registers a thread; () for none."""
    return tuple(n for n in POWERS if cap_for(num_warps=n) == cap) if cap < CAP else ()


def archs_of_limit(limit_bytes: int) -> tuple[GpuArch, ...]:
    """The architectures whose largest shared memory per CTA is exactly that."""
    return tuple(a for a in ARCHS.values() if a.smem_per_block_max_bytes == limit_bytes)

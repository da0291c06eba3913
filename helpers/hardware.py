"""GPU architectures the workbook can compile for, and the hardware limits its verdicts are measured against.

Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (registers, shared
memory, warps and CTAs per SM); the Hopper, Blackwell and RTX Blackwell tuning guides (shared memory per block
and the 1 KiB the system reserves in each); PTX ISA, "Tensor Memory" (512 columns of 128 lanes on sm_100/103).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from helpers.errors import UserError

# Everything below is the same on every architecture listed here: 64 Ki 32-bit registers per SM, an 8-bit
# register number in the instruction encoding with R255 hard-wired to zero (hence 255), allocation in
# units of 256 registers per warp (8 per thread), 32 threads per warp, 1 KiB reserved per block.
MAX_REGS_PER_THREAD = 255


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
    regs_per_sm: int = 65536
    max_regs_per_thread: int = MAX_REGS_PER_THREAD
    reg_alloc_unit_per_warp: int = 256
    smem_reserved_per_block_bytes: int = 1024
    warp_size: int = 32

    def register_cap(self, num_warps: int) -> int:
        """Most registers a thread can have when one CTA of `num_warps` must fit an SM: min(255, file / threads)."""
        per_thread = self.regs_per_sm // (num_warps * self.warp_size)
        return min(self.max_regs_per_thread, per_thread // 8 * 8 if per_thread < 256 else self.max_regs_per_thread)


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


def register_share(num_warps: int) -> int:
    """Registers a thread can have when `num_warps` share the SM's file; the same on every arch listed here."""
    return ARCHS["sm_100a"].register_cap(num_warps)


def warps_of_cap(cap: int) -> tuple[int, ...]:
    """The `num_warps` (Triton takes powers of two) that leave exactly `cap` registers a thread; () for none."""
    return tuple(n for n in POWERS if register_share(n) == cap) if cap < MAX_REGS_PER_THREAD else ()


def archs_of_limit(limit_bytes: int) -> tuple[GpuArch, ...]:
    """The architectures whose largest shared memory per CTA is exactly that."""
    return tuple(a for a in ARCHS.values() if a.smem_per_block_max_bytes == limit_bytes)

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
# Rows of tensor memory, where a chip has any; a warp reaches a quarter of them, a thread one.
TMEM_LANES = 128
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


# Products by the arch they are of, as people and nvidia-smi write them ("NVIDIA H100 80GB HBM3", "RTX 5090 Laptop").
# Sources: NVIDIA's list of CUDA GPUs and compute capabilities (developer.nvidia.com/cuda-gpus); H800, H20, A800 and L20
# are the same chips with other limits. "RTX 6000" alone is a Turing card (7.5): it needs the word Ada, or PRO.
_PRODUCTS: dict[str, str] = {
    "sm_80": r"A100|A800|A30",
    "sm_86": r"A10G?|A16|A2|A40|RTX A\d000|RTX 30[5-9]0",
    "sm_89": r"L4|L20|L40S?|RTX 40[5-9]0|RTX \d000 ADA",
    "sm_90a": r"H100|H200|H800|H20|GH200",
    "sm_100a": r"B100|B200|GB200",
    "sm_103a": r"B300|GB300",
    "sm_120a": r"RTX 50[5-9]0|RTX PRO [2456][05]00",
    "sm_121a": r"GB10|DGX SPARK",
}
_MAKER = re.compile(r"^(?:NVIDIA |GEFORCE |TESLA )+")
# What may follow a product's name and changes nothing of the arch: memory, form factor, edition.
_EDITION = (
    r"(?: (?:TI|SUPER|D|PCIE|SXM\d?|NVL\d*|HBM\d?E?|\d+ ?GB|LAPTOP|GPU|MAX Q|BLACKWELL|SERVER|WORKSTATION|EDITION"
    r"|GENERATION))*"
)


def _product_words(text: str) -> str:
    """A product's name in capitals, without its maker, one blank between its words; `5090` is an `RTX 5090`."""
    words = _MAKER.sub("", re.sub(r"[\s_-]+", " ", text[:80]).strip().upper())
    return re.sub(r"^(RTX|GTX) ?(?=\d)|^(?=[345]0[5-9]0\b)", lambda m: f"{m[1] or 'RTX'} ", words)


def _arch_of_product(text: str) -> str | None:
    """The arch of a product such as `B200`, `RTX 5090` or `NVIDIA A100-SXM4-80GB`; None for a name not known here."""
    words = _product_words(text)
    for arch, products in _PRODUCTS.items():
        if re.fullmatch(f"(?:{products}){_EDITION}", words):
            return arch
    return None


def get_arch(name: str | int | GpuArch) -> GpuArch:
    """The architecture called `sm_100a`, `sm_100`, `100`, `10.0`, 100 or, by a product, `B200`; raises UserError."""
    if isinstance(name, GpuArch):
        return name
    text = str(name).strip()
    if found := re.fullmatch(r"(?:sm_?)?([0-9]{1,2})\.?([0-9])[af]?", text, re.IGNORECASE):
        for arch in ARCHS.values():
            if "".join(found.groups()) == str(arch.capability):
                return arch
    if product := _arch_of_product(text):
        return ARCHS[product]
    raise UserError(f"{_why_not(text)}: choose one of {', '.join(ARCHS)}, or name a product (B200, RTX 5090)")


# --- AMD's chips --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AmdArch:
    """Limits of one of AMD's compile targets, where registers are counted otherwise than on NVIDIA's.

    A thread of a wave has `vgprs_per_thread_max` vector registers of 32 bits, VGPRs and AGPRs together, given in units
    of `vgpr_unit`. A SIMD has as many for each lane, which its waves share, so that a thread with 256 leaves room for
    two waves. LDS is the shared memory of a workgroup. `tensor_core_path` is the fastest one there is.
    """

    name: str
    product: str
    lds_bytes: int
    wave_size: int = 64
    vgprs_per_thread_max: int = 512
    vgpr_unit: int = 8
    max_waves_per_simd: int = 8
    simds_per_cu: int = 4
    tensor_core_path: str = "mfma"

    def cap_for(self, *, num_warps: int) -> int:
        """Most vector registers a thread can have in a workgroup of so many waves, which share the SIMDs of one CU."""
        waves = -(-num_warps // self.simds_per_cu)
        return self.vgprs_per_thread_max // max(waves, 1) // self.vgpr_unit * self.vgpr_unit

    def waves_per_simd(self, *, vgprs: int, lds_bytes: int, num_warps: int) -> int:
        """How many waves of such a kernel one SIMD holds at a time: bounded by registers, LDS, and the chip's limit."""
        by_registers = self.vgprs_per_thread_max // (-(-max(vgprs, 1) // self.vgpr_unit) * self.vgpr_unit)
        by_lds = self.lds_bytes // lds_bytes * num_warps // self.simds_per_cu if lds_bytes else self.max_waves_per_simd
        return min(self.max_waves_per_simd, by_registers, by_lds)


# Sources: LLVM's AMDGPU usage guide and its target description of gfx90a and later (512 vector registers a lane of a
# SIMD, in units of 8, AGPRs among them; 8 waves a SIMD; 4 SIMDs a compute unit); AMD's CDNA 3 and CDNA 4 ISA guides
# (LDS 64 KiB and 160 KiB).
AMD_ARCHS: dict[str, AmdArch] = {
    a.name: a for a in (AmdArch("gfx942", "MI300X / MI325X", _kib(64)), AmdArch("gfx950", "MI350X / MI355X", _kib(160)))
}
_AMD_PRODUCTS = {"gfx942": r"MI300[AX]?|MI308X?|MI325X?", "gfx950": r"MI350X?|MI355X?"}


def get_target(name: str | int | GpuArch | AmdArch) -> GpuArch | AmdArch:
    """`get_arch`, or one of AMD's: `gfx942`, or by a product, `MI300X`; raises UserError."""
    if isinstance(name, AmdArch):
        return name
    if isinstance(name, str):
        words = re.sub(r"^(?:AMD |INSTINCT )+", "", re.sub(r"[\s_-]+", " ", name[:80]).strip().upper())
        for arch, products in _AMD_PRODUCTS.items():
            if re.fullmatch(products, words) or words == arch.upper():
                return AMD_ARCHS[arch]
    return get_arch(name)


# Products of chips that `diagnose` knows and that nothing here is compiled for, and of other makers.
_OTHERS: dict[str, str] = {
    "sm_75 (Turing)": r"T4G?|T1000|T2000|TITAN RTX|RTX 20\d0|GTX 16\d0|RTX [345678]000",
    "sm_70 (Volta)": r"V100|TITAN V|GV100",
    "sm_61 (Pascal)": r"P4|P40|GTX 10\d0",
    "sm_60 (Pascal)": r"P100|GP100",
}
_OF_AMD = r"(?:AMD |INSTINCT |RADEON )*(?:MI\d{2,3}[AX]?|GFX\w+|RX \d{4}|AI MAX.*)"


def _why_not(text: str) -> str:
    """What is wrong with a name that is no arch here: a chip that nothing here is compiled for, or one not known."""
    words = _product_words(text)
    if re.fullmatch(_OF_AMD, words):
        takes = f"compile, matrix, gate and audit take {' and '.join(AMD_ARCHS)}, and the other verbs none"
        return f"{text[:40]} is one of AMD's chips, of which {takes}"
    for chip, products in _OTHERS.items():
        if re.fullmatch(f"(?:{products}){_EDITION}", words):
            return f"{text[:40]} is {chip}; the verbs that compile do not compile for it"
    old = known_chip(text if "_" in text else f"sm_{text.replace('.', '')}")
    if old is not None:
        return f"{text[:40]} ({old.generation}) is known to diagnose; the verbs that compile do not compile for it"
    return f"unknown arch {text[:40]!r}"


POWERS = (1, 2, 4, 8, 16, 32)


def warps_of_cap(cap: int) -> tuple[int, ...]:
    """The `num_warps` (Triton takes powers of two) that leave exactly `cap` registers a thread; () for none."""
    return tuple(n for n in POWERS if cap_for(num_warps=n) == cap) if cap < CAP else ()


def archs_of_limit(limit_bytes: int) -> tuple[GpuArch, ...]:
    """The architectures whose largest shared memory per CTA is exactly that."""
    return tuple(a for a in ARCHS.values() if a.smem_per_block_max_bytes == limit_bytes)


# --- every chip a log can name ----------------------------------------------------------------------------


@dataclass(frozen=True)
class KnownChip:
    """A chip that ptxas knows or knew, whether or not this project compiles for it.

    `first_cuda` is the release whose ptxas first took the name, `last_cuda` the last that does (None: still does).
    Sizes in bytes; `smem_per_block_max_bytes` needs the opt-in above 48 KiB of dynamic shared memory.
    """

    name: str
    capability: int
    generation: str
    product: str
    smem_per_block_max_bytes: int
    max_warps_per_sm: int
    first_cuda: str
    last_cuda: str | None = None
    regs_per_block: int = 65536
    regs_per_sm: int = 65536


# Sources: CUDA C++ Programming Guide, technical specifications per compute capability; CUDA release notes (12.8, 12.9
# and 13.0 for what came and went: 13.0 dropped everything before sm_75 and calls sm_101 sm_110).
_LAST_BEFORE_TURING = "12.9"
CHIPS: dict[int, KnownChip] = {
    c.capability: c
    for c in (
        KnownChip("sm_50", 50, "Maxwell", "GTX 750, Quadro K", _kib(48), 64, "6.0", _LAST_BEFORE_TURING),
        KnownChip("sm_52", 52, "Maxwell", "GTX 900, Tesla M40", _kib(48), 64, "6.5", _LAST_BEFORE_TURING),
        KnownChip("sm_53", 53, "Maxwell", "Jetson TX1", _kib(48), 64, "7.0", _LAST_BEFORE_TURING, 32768),
        KnownChip("sm_60", 60, "Pascal", "Tesla P100", _kib(48), 64, "8.0", _LAST_BEFORE_TURING),
        KnownChip("sm_61", 61, "Pascal", "GTX 10, Tesla P40", _kib(48), 64, "8.0", _LAST_BEFORE_TURING),
        KnownChip("sm_62", 62, "Pascal", "Jetson TX2", _kib(48), 64, "8.0", _LAST_BEFORE_TURING, 32768),
        KnownChip("sm_70", 70, "Volta", "Tesla V100", _kib(96), 64, "9.0", _LAST_BEFORE_TURING),
        KnownChip("sm_72", 72, "Volta", "Jetson Xavier", _kib(96), 64, "9.2", _LAST_BEFORE_TURING),
        KnownChip("sm_75", 75, "Turing", "Tesla T4, RTX 20, GTX 16", _kib(64), 32, "10.0"),
        KnownChip("sm_80", 80, "Ampere", "A100, A30", _kib(163), 64, "11.0"),
        KnownChip("sm_86", 86, "Ampere", "RTX 30, A10, A40", _kib(99), 48, "11.1"),
        KnownChip("sm_87", 87, "Ampere", "Jetson Orin", _kib(163), 48, "11.4"),
        KnownChip("sm_89", 89, "Ada", "RTX 40, L4, L40S", _kib(99), 48, "11.8"),
        KnownChip("sm_90", 90, "Hopper", "H100, H200, GH200", _kib(227), 64, "11.8"),
        KnownChip("sm_100", 100, "Blackwell", "B200, GB200", _kib(227), 64, "12.8"),
        KnownChip("sm_101", 101, "Blackwell", "Thor (called sm_110 from CUDA 13.0 on)", _kib(227), 48, "12.8", "12.9"),
        KnownChip("sm_103", 103, "Blackwell", "B300, GB300", _kib(227), 64, "12.9"),
        KnownChip("sm_110", 110, "Blackwell", "Thor", _kib(227), 48, "13.0"),
        KnownChip("sm_120", 120, "Blackwell", "RTX 50, RTX PRO 6000 Blackwell", _kib(99), 48, "12.8"),
        KnownChip("sm_121", 121, "Blackwell", "DGX Spark (GB10)", _kib(99), 48, "12.9"),
    )
}


def known_chip(name: str) -> KnownChip | None:
    """The chip called `sm_75`, `sm_90a` or `compute_120`; None for a name that is in no table."""
    found = re.fullmatch(r"(?:sm|compute)_([0-9]{2,3})[af]?", name)
    return CHIPS.get(int(found[1])) if found else None


def chips_of_limit(limit_bytes: int) -> tuple[KnownChip, ...]:
    """The chips whose largest shared memory per block is exactly that; one entry where a chip has two names."""
    return tuple(c for c in CHIPS.values() if c.smem_per_block_max_bytes == limit_bytes and c.capability != 101)

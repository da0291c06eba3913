"""matmul_spec: the plain matrix product of kernels/cliff_matmul.py as a KernelSpec, by default one that dies in ptxas.

The default is bf16, 256x256x64, 16 warps, 2 stages: on sm_90a with Triton 3.5.1, 512 threads leave 65536 / 512 = 128
registers each, a wgmma whose accumulator alone takes 128 does not fit beside anything else, and ptxas ends in C7602.
The same tile with 8 warps compiles and spills; a 128x256 tile with 16 warps compiles without spills.
"""

from __future__ import annotations

from helpers.compiler.compile import CompileRequest
from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.toolchain import INCIDENT_TRITON, Toolchain
from helpers.errors import UserError
from helpers.files import ROOT
from helpers.hardware import CAP

MATMUL_KERNEL = KernelRef(str(ROOT / "kernels" / "cliff_matmul.py"), "cliff_matmul_kernel", str(ROOT))
CLIFF_ARCH = "sm_90a"
_POINTERS = {"bf16": "*bf16", "fp16": "*fp16", "fp8_e4m3": "*fp8e4nv", "fp8_e5m2": "*fp8e5"}
_INTEGERS = ("m", "n", "k", "stride_a_row", "stride_b_row", "stride_c_row")


def matmul_spec(
    block_m: int = 256,
    block_n: int = 256,
    block_k: int = 64,
    *,
    num_warps: int = 16,
    num_stages: int = 2,
    dtype: str = "bf16",
    maxnreg: int | None = None,
) -> KernelSpec:
    """The spec of a product of two contiguous matrices whose extents are multiples of 16; C is bf16.

    `dtype` is that of A and B: bf16, fp16, fp8_e4m3 or fp8_e5m2. Raises UserError for another, for a block that is not
    a power of two from 16 to 1024, and for a cap on registers outside 16 to 255.
    """
    if dtype not in _POINTERS:
        raise UserError(f"dtype {dtype!r}: choose one of {', '.join(_POINTERS)}")
    for name, block in (("block_m", block_m), ("block_n", block_n), ("block_k", block_k)):
        if type(block) is not int or not 16 <= block <= 1024 or block & (block - 1):
            raise UserError(f"{name} {str(block)[:40]} must be a power of two from 16 to 1024")
    if maxnreg is not None and not 16 <= maxnreg <= CAP:
        raise UserError(f"maxnreg {maxnreg} must be from 16 to {CAP}")
    pointers = {"a_ptr": _POINTERS[dtype], "b_ptr": _POINTERS[dtype], "c_ptr": "*bf16"}
    blocks = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k}
    options = {"num_warps": num_warps, "num_stages": num_stages, "maxnreg": maxnreg}
    return KernelSpec(
        kernel=MATMUL_KERNEL,
        signature=(
            *pointers.items(),
            *((name, "i32") for name in _INTEGERS),
            *((name, "constexpr") for name in blocks),
        ),
        constexprs=tuple(blocks.items()),
        divisible_by_16=(*pointers, *_INTEGERS),
        options=tuple((k, v) for k, v in options.items() if v is not None),
        label=f"matmul {dtype} {block_m}x{block_n}x{block_k} w{num_warps} s{num_stages}"
        + (f" maxnreg {maxnreg}" if maxnreg else ""),
    )


def cliff_request() -> CompileRequest:
    """The product that dies: the default `matmul_spec` for sm_90a by the incident's Triton."""
    return CompileRequest(matmul_spec(), CLIFF_ARCH, Toolchain(INCIDENT_TRITON))

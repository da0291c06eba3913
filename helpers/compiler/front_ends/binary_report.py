"""A CompileReport of a cubin that some compiler made, from the binary and, where there is one, its PTX."""

from __future__ import annotations

from pathlib import Path

from helpers.compiler.disassemble import code_text, nvdisasm_programs
from helpers.compiler.report import CompileReport
from helpers.errors import UserError
from helpers.hardware import WARP_SIZE, get_arch
from helpers.inspection.binary.device_elf import read_device_elf
from helpers.inspection.binary.sass_kernels import functions_of, sass_kernel
from helpers.inspection.ptx.scan import count_instructions, ptx_header

__all__ = ["binary_report"]


def binary_report(cubin: Path, *, arch: str, label: str = "", ptx: Path | None = None) -> CompileReport:
    """What the kernel of a cubin takes: registers and frame as the cubin states them, spills as its code has them.

    Of several kernels it is the one with the most registers.
    `spill_store_bytes` and `spill_load_bytes` are of the instructions that reach local memory, per thread: that is what
    ptxas calls spills, unless the kernel keeps an array there. Instructions are counted in the PTX where there is one;
    else those of the tensor cores alone are, in the SASS. Raises UserError for what is no cubin with a kernel, and
    where no nvdisasm on hand reads it.
    """
    content = cubin.read_bytes()
    elf = read_device_elf(content)
    kernel = max(elf.kernels, key=lambda function: function.registers or 0, default=None)
    if kernel is None:
        raise UserError(f"there is no kernel in {cubin.name}")
    sass, problem = code_text(content, nvdisasm_programs(elf.ptxas_version))
    if problem:
        raise UserError(f"no nvdisasm on hand reads {cubin.name}: {problem}")
    code = next(sass_kernel(text) for name, text in functions_of(sass) if name == kernel.name)
    text = ptx.read_text() if ptx is not None else ""
    return CompileReport(
        status="spills" if code.spills.total else "ok",
        arch=get_arch(arch).name,
        triton_version=None,
        ptxas_version=elf.ptxas_version,
        label=label,
        kernel_name=kernel.name,
        num_warps=-(-kernel.max_threads // WARP_SIZE) if kernel.max_threads else None,
        regs_per_thread=kernel.registers,
        spill_store_bytes=sum(code.spills.stores.values()),
        spill_load_bytes=sum(code.spills.loads.values()),
        stack_frame_bytes=kernel.stack_frame_bytes,
        smem_bytes=kernel.shared_bytes,
        barriers=kernel.barriers,
        instructions=count_instructions(text) if text else code.counts,
        ptx_version=ptx_header(text).version if text else None,
        ptx_lines=text.count("\n") or None,
        ptx_path=str(ptx) if ptx is not None else None,
        cubin_path=str(cubin),
    )

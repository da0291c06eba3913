"""A CompileReport of a cubin that some compiler made, from the binary and, where there is one, its PTX."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

from helpers.compiler.disassemble import TIMEOUT_S, disassemble, nvdisasm_programs
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import ToolchainMissing, installed_tritons, resolve_triton
from helpers.errors import UserError
from helpers.hardware import WARP_SIZE, get_arch
from helpers.inspection.binary.sass_loops import loop_depths, loop_spills
from helpers.inspection.ptx.scan import count_instructions, ptx_header

__all__ = ["binary_report", "tensor_instructions"]

_USAGE = re.compile(r"^ Function (\S+):\n\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)\b", re.ASCII | re.MULTILINE)
_RELEASE = re.compile(rb"Cuda compilation tools, release [\d.]{1,8}, V(\d{1,3}\.\d{1,3}\.\d{1,4})")
# The opcodes of each tensor-core path; letters before MMA name the data type.
_TENSOR_OPCODES = {
    "tcgen05_mma": re.compile(r"UTC[A-Z]*MMA"), "wgmma": re.compile(r"[HIQB]GMMA"), "mma_sync": re.compile(r"[A-Z]?MMA")
}  # fmt: skip


def tensor_instructions(sass: str) -> dict[str, int]:
    """How many tensor-core instructions a disassembled kernel has, under the names that counts of PTX use."""
    counts = dict.fromkeys(_TENSOR_OPCODES, 0)
    for _function, _at, text, _depth in loop_depths(sass):
        words = text.split()
        opcode = next((w for w in words if not w.startswith(("@", "{"))), "").split(".")[0]
        for name, pattern in _TENSOR_OPCODES.items():
            counts[name] += pattern.fullmatch(opcode) is not None
    return counts


def binary_report(cubin: Path, *, arch: str, label: str = "", ptx: Path | None = None) -> CompileReport:
    """What a cubin of one kernel takes: registers and stack frame as it states them, spills as its code has them.

    `spill_store_bytes` and `spill_load_bytes` are of the instructions that reach local memory, per thread: that is what
    ptxas calls spills, unless the kernel keeps an array there. Instructions are counted in the PTX where there is one;
    else those of the tensor cores alone are, in the SASS. Raises UserError where no program on hand reads the cubin.
    """
    content = cubin.read_bytes()
    release = _RELEASE.search(content)
    version = release[1].decode() if release else None
    done = disassemble(content, nvdisasm_programs(version))
    if done.problem:
        raise UserError(f"no nvdisasm on hand reads {cubin.name}: {done.problem}")
    spills = loop_spills(done.life_ranges)
    kernel, registers, frame, shared = _usage(cubin)
    text = ptx.read_text() if ptx is not None else ""
    header = ptx_header(text) if text else None
    return CompileReport(
        status="spills" if spills.total else "ok",
        arch=get_arch(arch).name,
        triton_version=None,
        ptxas_version=version,
        label=label,
        kernel_name=kernel,
        num_warps=header.threads // WARP_SIZE if header and header.threads else None,
        regs_per_thread=registers,
        spill_store_bytes=sum(spills.stores.values()),
        spill_load_bytes=sum(spills.loads.values()),
        stack_frame_bytes=frame,
        smem_bytes=shared,
        instructions=count_instructions(text) if text else tensor_instructions(done.life_ranges),
        ptx_version=header.version if header else None,
        ptx_lines=text.count("\n") or None,
        ptx_path=str(ptx) if ptx is not None else None,
        cubin_path=str(cubin),
    )


def _usage(cubin: Path) -> tuple[str, int, int, int]:
    """(name, registers, bytes of stack frame, bytes of static shared memory) of the largest kernel of a cubin.

    By `cuobjdump -res-usage` of the newest Triton that has it and reads the cubin.
    """
    problems = []
    for program in _cuobjdump_programs():
        done = subprocess.run(
            [str(program), "-res-usage", cubin.name], cwd=cubin.parent, capture_output=True, text=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if found := _USAGE.findall(done.stdout):
            name, *numbers = max(found, key=lambda kernel: int(kernel[1]))
            return name, *map(int, numbers)
        problems.append((done.stderr or done.stdout).strip()[-300:])
    raise UserError(f"no cuobjdump on hand reads {cubin.name}: {'; '.join(dict.fromkeys(problems)) or 'there is none'}")


def _cuobjdump_programs() -> list[Path]:
    programs = []
    for version in reversed(installed_tritons()):
        with contextlib.suppress(ToolchainMissing):
            programs.append(resolve_triton(version).program("cuobjdump"))
    return [program for program in programs if program.is_file()]

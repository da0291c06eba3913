"""What the code of each kernel of a cubin says: spilled bytes by loops, tensor cores, register split, tensor memory.

Pure text: reads what `nvdisasm -c` prints, one function at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from helpers.inspection.binary.sass import _INSTRUCTION, _SECTION, SassInstruction
from helpers.inspection.binary.sass_loops import LoopSpills, loop_spills
from helpers.inspection.ptx.scan import tensor_core_path

__all__ = ["SassKernel", "functions_of", "sass_kernel"]

# Families of tensor-core opcodes, by the PTX instruction that they are made of; letters before MMA name the data type.
_TENSOR = re.compile(r"(?:(UTC)|([HIQB]G))[A-Z]*MMA|(?:[HIDBQO])MMA", re.ASCII)
_SET_REGISTERS = re.compile(r"^USETMAXREG\.\S+\s+(?:UP\w+,\s*)?0x([0-9a-f]{1,4})$", re.ASCII)
_ALLOCATE = re.compile(r"^UTCATOMSWS(?:\.2CTA)?\.FIND_AND_SET\S*\s+UP\w+,\s*UR\w+,\s*(UR\d+)", re.ASCII)
_CONSTANT = re.compile(r"^UMOV\s+(UR\d+),\s*0x([0-9a-f]{1,8})$", re.ASCII)
_WRITES_UNIFORM = re.compile(r"^\S+\s+(?:UP\w+,\s*)*(UR\d+)\b", re.ASCII)
_GUARD = re.compile(r"^@!?U?P\w+\s+", re.ASCII)
# The allocator of tensor memory counts in units of 32 columns.
_COLUMNS = 32


@dataclass(frozen=True)
class SassKernel:
    """A function's code: instructions, bytes moved to and from local memory, tensor-core instructions by path.

    `setmaxnreg` has the registers that warps ask for, each once, in order of size; `tmem_columns` the most columns that
    one allocation asks for, None where the code does not say.
    """

    instructions: int
    spills: LoopSpills
    counts: dict[str, int]
    setmaxnreg: tuple[int, ...]
    tmem_columns: int | None

    @property
    def tensor_core_path(self) -> str:
        """tcgen05, wgmma, mma.sync or none."""
        return tensor_core_path(self.counts)


def functions_of(disassembly: str) -> Iterator[tuple[str, str]]:
    """(name, text with its section line) of each function, in order."""
    name, begin = "", 0
    at = disassembly.find("//-")
    while at >= 0:
        end = disassembly.find("\n", at)
        line = disassembly[at : end if end >= 0 else len(disassembly)]
        if (at == 0 or disassembly[at - 1] == "\n") and (m := _SECTION.match(line)):
            if name:
                yield name, disassembly[begin:at]
            name, begin = m[1], at
        at = disassembly.find("//-", at + len(line))
    if name:
        yield name, disassembly[begin:]


def sass_kernel(function: str) -> SassKernel:
    """The `SassKernel` of one function's text. Never raises."""
    counts = {"tcgen05_mma": 0, "wgmma": 0, "mma_sync": 0}
    asked: set[int] = set()
    constants: dict[str, int] = {}
    columns: list[int] = []
    number = 0
    local = False
    for line in function.split("\n"):
        m = _INSTRUCTION.match(line[:600])
        if m is None:
            continue
        number += 1
        text = _GUARD.sub("", m[2].strip())
        opcode = SassInstruction("", 0, text, 0, 0, 0).opcode.split(".")[0]
        if found := _TENSOR.fullmatch(opcode):
            counts["tcgen05_mma" if found[1] else "wgmma" if found[2] else "mma_sync"] += 1
        elif opcode in ("LDL", "STL"):
            local = True
        elif set_to := _SET_REGISTERS.match(text):
            asked.add(int(set_to[1], 16))
        elif (allocates := _ALLOCATE.match(text)) and allocates[1] in constants:
            columns.append(constants[allocates[1]] * _COLUMNS)
        if text[:1] == "U" or ", UR" in text[:60] or " UR" in text[:40]:
            if constant := _CONSTANT.match(text):
                constants[constant[1]] = int(constant[2], 16)
            elif written := _WRITES_UNIFORM.match(text):
                constants.pop(written[1], None)
    spills = loop_spills(function) if local else LoopSpills()
    return SassKernel(number, spills, counts, tuple(sorted(asked)), max(columns, default=None))

"""Cubins taken out of what holds them, and how many registers cuobjdump says that each kernel takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from helpers.compiler.run_program import MAX_WRITTEN_BYTES, nvidia_programs, run_program
from helpers.errors import UserError
from helpers.inspection.binary.fatbin import as_fatbin

__all__ = ["Usage", "cuobjdump_programs", "extract", "resource_usage"]

CUOBJDUMP_TIMEOUT_S = 120.0
_FUNCTION = re.compile(r"^ Function (\S+):\n\s+REG:(\d+) STACK:(\d+|UNKNOWN) SHARED:(\d+)\b", re.ASCII | re.MULTILINE)
# (registers, bytes of stack, bytes of static shared memory); None where cuobjdump does not know the stack.
Usage = tuple[int, int | None, int]


def cuobjdump_programs() -> list[Path]:
    """The cuobjdump of every Triton on hand, the newest first: it unpacks what older ones do not know."""
    return nvidia_programs("cuobjdump")[::-1]


def extract(entry: bytes, programs: Sequence[Path], folder: Path, *, what: str = "elf") -> Path:
    """The file in `folder` with the cubin (`what="ptx"`: the PTX) of one entry of a fatbin, unpacked.

    `folder` is empty, and of this call alone. Raises UserError where no program on hand unpacks the entry.
    """
    (folder / "one.fatbin").write_bytes(as_fatbin(entry))
    problems = []
    for program in programs:
        _text, problem = run_program([str(program), f"-x{what}", "all", "one.fatbin"], folder, CUOBJDUMP_TIMEOUT_S)
        found = [path for path in folder.iterdir() if path.suffix in (".cubin", ".ptx")]
        if len(found) == 1 and not problem and found[0].stat().st_size <= MAX_WRITTEN_BYTES:
            (folder / "one.fatbin").unlink()
            return found[0]
        problems.append(problem or f"{program.name} takes {len(found)} files out of it")
        for path in found:
            path.unlink()
    (folder / "one.fatbin").unlink()
    raise UserError("; ".join(dict.fromkeys(problems)) or _NO_PROGRAM)


_NO_PROGRAM = "there is no cuobjdump here, which unpacks it: register-cliff toolchains install 3.7.1"


def resource_usage(cubin: Path, programs: Sequence[Path]) -> dict[str, Usage] | None:
    """What `cuobjdump -res-usage` says of each function of a cubin; None where no program on hand reads it."""
    for program in programs:
        text, problem = run_program([str(program), "-res-usage", cubin.name], cubin.parent, CUOBJDUMP_TIMEOUT_S)
        if not problem:
            return parse_usage(text)
    return None


def parse_usage(text: str) -> dict[str, Usage]:
    """The functions of the text of `cuobjdump -res-usage`, of one cubin."""
    return {m[1]: (int(m[2]), None if m[3] == "UNKNOWN" else int(m[3]), int(m[4])) for m in _FUNCTION.finditer(text)}

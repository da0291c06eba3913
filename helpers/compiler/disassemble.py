"""nvdisasm, run within limits, and what it tells of a compile: its SASS, its spills weighed by the loops around them.

Life ranges and line numbers cannot be had in one run (`-lrm` ignores `-g`), so there are two, joined by instruction
offset in sass.py. Formats differ between releases: a cubin of ptxas 12.x is read by 12.8's nvdisasm, one of 13.x by
13.1's; `disassemble` takes the first program that can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.compiler import machine
from helpers.compiler.report import CompileReport
from helpers.compiler.run_program import nvidia_programs, run_program
from helpers.errors import UserError, cannot_read
from helpers.inspection.binary.cubin import readable_copy
from helpers.inspection.binary.sass import SassProfile, sass_profile
from helpers.inspection.binary.sass_loops import LoopSpills, loop_spills
from helpers.processes import scratch_folder

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Disassembly:
    """What nvdisasm said of a cubin: text with life ranges, text with line numbers, and the program that read it.

    `problem` is empty, or one sentence on why there is no text.
    """

    life_ranges: str
    lines: str
    program: str
    problem: str = ""


def disassemble(cubin: bytes, programs: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> Disassembly:
    """The disassembly by the first of `programs` (nvdisasm releases) that reads the cubin; at most two runs each.

    What went wrong is in `problem`; MachineError is raised where the machine is the reason.
    """
    texts, program, problem = _by_the_first(cubin, programs, (("-lrm", "count", "-c"), ("-g", "-c")), timeout_s)
    return Disassembly("", "", "", problem) if problem else Disassembly(texts[0], texts[1], program)


def code_text(cubin: bytes, programs: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> tuple[str, str]:
    """(the instructions of every function as the first of `programs` that reads the cubin prints them, problem)."""
    texts, _program, problem = _by_the_first(cubin, programs, (("-c",),), timeout_s)
    return ("", problem) if problem else (texts[0], "")


def _by_the_first(
    cubin: bytes, programs: Sequence[Path], runs: Sequence[Sequence[str]], timeout_s: float
) -> tuple[list[str], str, str]:
    """(output of each run, program, problem) of the first program for which all runs end well."""
    problems = []
    with scratch_folder("sass") as folder:
        path = folder / "kernel.cubin"
        path.write_bytes(readable_copy(cubin))
        for program in programs:
            texts = []
            for words in runs:
                text, problem = run_program([str(program), *words, path.name], folder, timeout_s)
                if problem:
                    problems.append(problem)
                    break
                texts.append(text)
            else:
                return texts, str(program), ""
    return [], "", "; ".join(dict.fromkeys(problems)) or "no nvdisasm was given"


def report_loop_spills(report: CompileReport) -> LoopSpills | None:
    """Bytes spilled by depth of loops; None where that cannot be told (no cubin, no nvdisasm on hand that reads it).

    A kernel that spills nothing is not disassembled. Local memory that is no spill (an array that ptxas could not
    keep in registers) counts too: SASS does not tell them apart.
    """
    if not report.compiled:
        return None
    if not (report.spill_store_bytes or report.spill_load_bytes):
        return LoopSpills()
    try:
        cubin = Path(report.cubin_path or "").read_bytes()
    except OSError as exc:
        if machine.from_machine(exc):
            raise cannot_read(f"the cubin {report.cubin_path}", exc) from exc
        return None
    done = disassemble(cubin, nvdisasm_programs(report.ptxas_version))
    return None if done.problem else loop_spills(done.life_ranges)


def spill_weight(report: CompileReport) -> float | None:
    """Spilled bytes, each counted ten times for every loop around it (`LOOP_TRIPS`); None as `report_loop_spills`."""
    found = report_loop_spills(report)
    return None if found is None else float(found.weighted)


def nvdisasm_programs(ptxas_version: str | None) -> list[Path]:
    """The nvdisasm of every Triton on hand, the one most likely to read a cubin of this ptxas first."""
    found = nvidia_programs("nvdisasm")
    # Older Tritons bring 12.8's, which reads cubins of 12.x; newer ones 13.1's, which reads those of 13.x.
    return found[::-1] if (ptxas_version or "").startswith("13.") else found


def sass_pressure(cubin_path: str | Path, ptxas_version: str | None = None) -> SassProfile:
    """The SASS side of a compile that succeeded; raises UserError when no nvdisasm on hand reads the cubin."""
    done = disassemble(Path(cubin_path).read_bytes(), nvdisasm_programs(ptxas_version))
    if done.problem:
        raise UserError(
            f"no nvdisasm on hand reads this cubin ({done.problem}); cubins of ptxas 12.x need Triton 3.6.0 or older, "
            "those of 13.x Triton 3.7.1 or newer: register-cliff toolchains install 3.7.1"
        )
    return sass_profile(done.life_ranges, done.lines)

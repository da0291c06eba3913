"""Spills of a compile weighed by the loops they sit in, from its SASS: what `gate` compares beside the bytes."""

from __future__ import annotations

from pathlib import Path

from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import ToolchainMissing, installed_tritons, resolve_triton
from helpers.errors import UserError
from helpers.inspection.binary.cubin import disassemble
from helpers.inspection.binary.sass import SassProfile, sass_profile
from helpers.inspection.binary.sass_loops import LoopSpills, loop_spills


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
    except OSError:
        return None
    done = disassemble(cubin, nvdisasm_programs(report.ptxas_version))
    return None if done.problem else loop_spills(done.life_ranges)


def spill_weight(report: CompileReport) -> float | None:
    """Spilled bytes, each counted ten times for every loop around it (`LOOP_TRIPS`); None as `report_loop_spills`."""
    found = report_loop_spills(report)
    return None if found is None else float(found.weighted)


def nvdisasm_programs(ptxas_version: str | None) -> list[Path]:
    """The nvdisasm of every Triton on hand, the one most likely to read a cubin of this ptxas first."""
    found: list[Path] = []
    for version in installed_tritons():
        try:
            program = resolve_triton(version).program("nvdisasm")
        except ToolchainMissing:
            continue
        if program.is_file():
            found.append(program)
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

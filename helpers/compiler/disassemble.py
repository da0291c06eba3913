"""Spills of a compile weighed by the loops they sit in, from its SASS: what `gate` compares beside the bytes."""

from __future__ import annotations

from pathlib import Path

from helpers.compiler.report import CompileReport
from helpers.diagnosis.pressure import nvdisasm_programs
from helpers.inspection.binary.cubin import disassemble
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

"""Every schematic with values of some kind, drawn without a compile: what the tests of all of them look at."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.report import LIVE, CompileReport, Evidence
from helpers.recorded import DATA
from helpers.workbook.schematics.accumulators import accumulator_picture, sum_picture
from helpers.workbook.schematics.attention_tiles import Scene, tiles_picture
from helpers.workbook.schematics.drawing import Picture
from helpers.workbook.schematics.pipeline import pipeline_picture
from helpers.workbook.schematics.register_file import register_file_picture

INCIDENT: Choice = INCIDENT_CHOICE
HALF = replace(INCIDENT, tile="sm100")


def compiled(status: str = "spills", **known: object) -> Evidence:
    """A compile that ended so; `known` is what else its report says."""
    given: dict = {"num_warps": 8, "ptx_lines": 6_468, **known}
    return Evidence(CompileReport(status, "sm_100a", "3.5.1", "12.8.93", **given), LIVE)


CRASH = compiled("register_exhausted", ptxas_code="C7600")
SPILLS = compiled(regs_per_thread=255, spill_store_bytes=684)


@functools.cache
def fatal_ptx() -> str:
    """The PTX of the crash, as recorded."""
    return gzip.decompress((DATA / "incident.ptx.gz").read_bytes()).decode()


@functools.cache
def fatal_accumulator() -> Picture:
    """The accumulator of the crash; its PTX is analysed once."""
    return accumulator_picture(INCIDENT, fatal_ptx())


EXAMPLES: Mapping[str, Callable[[], Picture]] = {
    "pipeline, dies": lambda: pipeline_picture(CRASH),
    "pipeline, compiles": lambda: pipeline_picture(SPILLS),
    "register file": register_file_picture,
    "register file, taken": lambda: register_file_picture(
        (4, 8, 16), [compiled(regs_per_thread=168), CRASH, compiled(regs_per_thread=64)]
    ),
    "sum": lambda: sum_picture({"the incident": INCIDENT, "half the rows": HALF}),
    "accumulator": fatal_accumulator,
    "attention tiles": tiles_picture,
    "attention tiles, few": lambda: tiles_picture(Scene(prefix=64, new=32, block_m=8, block_n=8, window=24)),
}

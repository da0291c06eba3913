"""Every schematic with values of some kind, drawn without a compile: what the tests of all of them look at."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.report import LIVE, CompileReport, Evidence
from helpers.inspection.ptx.packs import repacked
from helpers.recorded import DATA, read_rows
from helpers.workbook.schematics.accumulators import accumulator_picture, sum_picture
from helpers.workbook.schematics.attention_tiles import Scene, tiles_picture
from helpers.workbook.schematics.drawing import Picture
from helpers.workbook.schematics.halved_tile import halved_tile_picture
from helpers.workbook.schematics.hand_over import hand_over_picture
from helpers.workbook.schematics.loop_demand import loop_demand_picture
from helpers.workbook.schematics.packing import pack_picture
from helpers.workbook.schematics.pipeline import pipeline_picture
from helpers.workbook.schematics.register_file import register_file_picture
from helpers.workbook.schematics.spill_path import Spilled, picture_of
from helpers.workbook.schematics.tensor_memory import tensor_memory_picture
from helpers.workbook.schematics.timeline import timeline_picture
from helpers.workbook.schematics.two_lanes import two_lanes_picture

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


def loop_ptx(live: int, instructions: int = 60) -> str:
    """A kernel whose one loop keeps `live` floats alive from before it to after it."""
    before = "\n".join(f"\tld.global.f32 %f{n}, [%rd1+{4 * n}];" for n in range(live))
    work = "\n".join(f"\tadd.f32 %f{n % live}, %f{n % live}, %f{(n + 1) % live};" for n in range(instructions))
    after = "\n".join(f"\tst.global.f32 [%rd1+{4 * n}], %f{n};" for n in range(live))
    return (
        ".version 8.7\n.target sm_100a\n.address_size 64\n.visible .entry k(.param .u64 p)\n.reqntid 256\n{\n"
        f"\t.reg .pred %p<2>;\n\t.reg .b32 %r<3>;\n\t.reg .f32 %f<{live}>;\n\t.reg .b64 %rd<2>;\n"
        f"\tld.param.u64 %rd1, [p];\n\tmov.u32 %r1, 0;\n{before}\n$L1:\n{work}\n\tadd.s32 %r1, %r1, 1;\n"
        f"\tsetp.lt.s32 %p1, %r1, 9;\n\t@%p1 bra $L1;\n{after}\n\tret;\n}}\n"
    )


BUDGET = {
    "computing warps": 8,
    "registers a computing thread": 216,
    "loading warps": 4,
    "registers a loading thread": 72,
}
SPILLED = Spilled(registers=255, threads=256, frame=384, stores=464, loads=416, in_loops=(384, 372))

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
    "hand-over": lambda: hand_over_picture(read_rows("crossing"), "3.5.1", "3.7.1"),
    "halved tile": lambda: halved_tile_picture(INCIDENT, HALF),
    "loop demand": lambda: loop_demand_picture({"few": loop_ptx(40), "many": loop_ptx(300), "more": loop_ptx(280)}),
    "pack": lambda: pack_picture(fatal_ptx()),
    "pack, whole": lambda: pack_picture(repacked(fatal_ptx())),
    "spill path": lambda: picture_of(SPILLED),
    "spill path, loops unknown": lambda: picture_of(replace(SPILLED, in_loops=None)),
    "tensor memory": lambda: tensor_memory_picture(INCIDENT, fatal_ptx(), (64,)),
    "timeline": lambda: timeline_picture(read_rows("version_matrix"), read_rows("remedies")),
    "two lanes": lambda: two_lanes_picture(BUDGET),
    "two lanes, three groups": lambda: two_lanes_picture({**BUDGET, "computing warps": 12}),
}

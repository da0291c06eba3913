"""Registers by warp group: a real kernel of three groups as PTX and as SASS, and small texts with one thing changed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from helpers.compiler.run_ptxas import run_ptxas
from helpers.diagnosis.pressure import format_pressure, pressure_report
from helpers.inspection.warp_groups import describe, ptx_warp_groups, sass_warp_groups

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def hopper() -> str:
    return gzip.decompress((FIXTURES / "ptx" / "warp_groups_sm90a.ptx.gz").read_bytes()).decode()


def kernel(body: str, limits: str = ".reqntid 384\n.minnctapersm 1") -> str:
    """A PTX with a producer and consumers as CUTLASS writes them: one asks for less, the others for more."""
    return f""".version 8.6
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 p)
{limits}
{{
.reg .pred %p<4>;
.reg .b32 %r<40>;
.reg .b64 %rd<8>;
ld.param.u64 %rd1, [p];
mov.u32 %r1, %tid.x;
setp.lt.u32 %p1, %r1, 128;
{body}
}}
"""


CUTLASS = """@%p1 bra $PRODUCER;
setmaxnreg.inc.sync.aligned.u32 240;
ld.volatile.global.u32 %r2, [%rd1];
ld.volatile.global.u32 %r3, [%rd1+4];
ld.volatile.global.u32 %r4, [%rd1+8];
bar.sync 1, 256;
st.global.v2.u32 [%rd1], {%r2, %r3};
st.global.u32 [%rd1+8], %r4;
bra $DONE;
$PRODUCER:
setmaxnreg.dec.sync.aligned.u32 24;
st.global.u32 [%rd1], %r1;
$DONE:
ret;"""


def test_a_real_kernel_s_groups(hopper):
    split = ptx_warp_groups(hopper)
    assert (split.function, split.threads, split.groups) == ("hopper_attention_kernel", 384, 3)
    assert (split.at_entry, split.pool, split.fits) == (168, 504, True)
    assert (split.roles, split.sums) == ((232, 40, 232), (504, 504))
    by_size = {region.registers: region for region in split.regions}
    assert list(by_size) == [None, 256, 232, 40, 120] and by_size[232].instructions > 4 * by_size[40].instructions
    assert by_size[232].demand == max(r.demand for r in split.regions) == pressure_report(hopper)["demand"]
    assert by_size[232].over == by_size[232].demand - 232 > 0 and by_size[120].over == 0 and by_size[None].over is None
    assert by_size[232].peak_source[0].startswith("kernels/hopper") and len(by_size[256].asked_at) == 2
    lines = hopper.split("\n")
    for region in split.regions[1:]:
        assert all(f"{region.registers};" in lines[at - 1] for at in region.asked_at)


def test_what_each_group_spills_adds_up_to_what_ptxas_counts():
    text = gzip.decompress((FIXTURES / "sass" / "warp_groups_sm90a.txt.gz").read_bytes()).decode()
    split = sass_warp_groups(text, threads=384, registers=168)
    assert split.function == "hopper_attention_kernel" and split.fits is True
    assert (split.roles, split.sums) == ((232, 40, 232), (504, 504))
    spilled = {r.registers: (r.spill_store_bytes, r.spill_load_bytes) for r in split.regions}
    # ptxas 12.8.93 said: 112 bytes spill stores, 216 bytes spill loads.
    assert spilled == {None: (8, 0), 120: (0, 0), 232: (104, 196), 40: (0, 20), 256: (0, 0)}
    assert sass_warp_groups(text).sums is None


def test_one_producer_and_the_rest_consumers():
    split = ptx_warp_groups(kernel(CUTLASS))
    assert (split.roles, split.at_entry, split.pool) == ((240, 24), 168, 504)
    # Three groups, two sizes: 240 + 24 and one of both once more.
    assert split.sums == (288, 504) and split.fits is True
    assert {r.registers: r.demand for r in split.regions}[240] >= 3
    assert ptx_warp_groups(kernel(CUTLASS, ".reqntid 256\n.maxnreg 200")).sums == (264, 264)


@pytest.mark.parametrize(
    ("limits", "size", "at_entry", "fits"),
    [
        (".reqntid 384\n.minnctapersm 1", 248, 168, None),  # 24 + 248 + 248 is 520, 24 + 24 + 248 is 296, the pool 504
        (".reqntid 384\n.maxnreg 96", 240, 96, None),
        (".reqntid 384\n.maxnreg 88", 240, 88, False),
        (".maxntid 384, 1, 1\n.minnctapersm 2", 240, 80, False),
        (".maxntid 384\n.minnctapersm 1", 232, 168, True),
        (".reqntid 256\n.minnctapersm 1", 232, 255, True),
        (".reqntid 512\n.minnctapersm 1", 168, 128, None),
        (".reqntid 512\n.minnctapersm 1", 152, 128, True),
    ],
)
def test_the_pool_is_what_the_cta_begins_with(limits, size, at_entry, fits):
    split = ptx_warp_groups(kernel(CUTLASS.replace(" 240;", f" {size};"), limits))
    assert split.at_entry == at_entry and split.fits is fits
    said = "\n".join(describe(split))
    assert ("waits for ever" in said) == (fits is False) and ("only where more" in said) == (fits is None)


def test_registers_at_entry_that_nothing_fixes_are_c7508(toolchain_351):
    from helpers.compiler.toolchain import resolve_triton

    program = resolve_triton(toolchain_351.triton).program("ptxas")
    dropped = []
    for limits in ("", ".reqntid 384", ".maxntid 384", ".maxnreg 168", ".maxntid 384\n.minnctapersm 1"):
        text = kernel(CUTLASS, limits)
        split, run = ptx_warp_groups(text), run_ptxas(program, text, gpu_name="sm_90a")
        assert run.compiled and bool(split.dropped) == ("C7508" in run.log) == (split.at_entry is None)
        dropped.append(bool(split.dropped))
    assert dropped == [True, True, True, False, False]
    assert "C7508" in next(iter(describe(ptx_warp_groups(kernel(CUTLASS, "")))))


def test_with_wgmma_the_threads_suffice(hopper, toolchain_351):
    from helpers.compiler.toolchain import resolve_triton

    text = hopper.replace(".maxnreg 168", "")
    split = ptx_warp_groups(text)
    run = run_ptxas(resolve_triton(toolchain_351.triton).program("ptxas"), text, gpu_name="sm_90a")
    assert split.at_entry == run.regs_per_thread == 168 and not split.dropped and "C7508" not in run.log


def test_more_sizes_than_groups_give_no_sum():
    split = ptx_warp_groups(kernel(CUTLASS, ".reqntid 128"))
    assert split.sums is None and split.fits is None and "cannot be told" in "\n".join(describe(split))


def test_a_size_that_is_asked_for_at_many_places_is_one_size():
    asks = "\n".join(
        f"setp.eq.u32 %p2, %r1, {n};\n@%p2 bra $A{n};\nbra $B{n};\n$A{n}:\nsetmaxnreg.dec.sync.aligned.u32 64;\n"
        f"st.global.u32 [%rd1], %r1;\nbra $DONE;\n$B{n}:"
        for n in range(4)
    )
    split = ptx_warp_groups(kernel(f"{asks}\n{CUTLASS}"))
    assert sorted(split.roles) == [24, 64, 64, 64, 64, 240] and split.sums == (328, 328) and split.fits is True


def test_what_all_groups_run_counts_for_each():
    loads = "\n".join(f"ld.volatile.global.u32 %r{n}, [%rd1+{4 * n}];" for n in range(10, 30))
    stores = "\n".join(f"st.volatile.global.u32 [%rd1+{4 * n}], %r{n};" for n in range(10, 30))
    body = CUTLASS.replace("$DONE:\nret;", f"$DONE:\n{loads}\nbar.sync 2, 384;\n{stores}\nret;")
    by_size = {r.registers: r for r in ptx_warp_groups(kernel(body)).regions}
    assert by_size[24].demand == by_size[240].demand >= 20 and by_size[None].demand < 10


UNKNOWN_SIZE = kernel("setmaxnreg.inc.sync.aligned.u32 %r1;\nret;")


@pytest.mark.parametrize("text", ["", "setmaxnreg", kernel("ret;"), "setmaxnreg.inc 240;\n{", UNKNOWN_SIZE])
def test_other_texts_have_no_split(text):
    assert ptx_warp_groups(text) is None and sass_warp_groups(text) is None


def test_the_report_has_the_groups_and_no_cap_for_all(hopper):
    report = pressure_report(hopper)
    text = format_pressure(report)
    assert report["warp_groups"]["fits"] is True and "registers by warp group" in text
    assert "with 232 registers: " in text and "more than there are" in text and "the cap is" not in text
    assert "will spill" not in text
    other = pressure_report(gzip.decompress((FIXTURES / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode())
    assert other["warp_groups"] is None and "warp group" not in format_pressure(other)

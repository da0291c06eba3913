"""Loops of SASS: nesting by the jumps, waits out of line make none, and real kernels' spills add up to ptxas's."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inspection.binary.sass import sass_profile
from helpers.inspection.binary.sass_loops import LOOP_TRIPS, LoopSpills, loop_depths, loop_spills

SASS = Path(__file__).parents[1] / "fixtures" / "sass"


def read(name: str, kind: str) -> str:
    return gzip.decompress((SASS / f"{name}.{kind}.txt.gz").read_bytes()).decode()


def listing(*rows: str, name: str = "k") -> str:
    """A disassembly: rows ending in a colon are labels, all others instructions 16 bytes apart."""
    lines, offset = [f"//--------------------- .text.{name} --------------------------", f"{name}:"], 0
    for row in rows:
        if row.endswith(":"):
            lines.append(row + " " * 40 + "// |   |")
        else:
            lines.append(f"        /*{offset:04x}*/                   {row} ;    // |  4  |   1  |")
            offset += 16
    return "\n".join(lines)


def depths_of(disassembly: str) -> dict[tuple[str, int], int]:
    return {(name, at): depth for name, at, _, depth in loop_depths(disassembly)}


NESTED = listing(
    "STL [R1], R2",
    ".L_x_0:",
    "LDL.64 R2, [R1]",
    ".L_x_1:",
    "STL.128 [R1+0x10], R4",
    "@P0 BRA `(.L_x_1)",
    "BRA.U UP0, `(.L_x_0)",
    "LDL R2, [R1]",
    "EXIT",
)


def test_depth_counts_the_loops_around_an_instruction():
    assert list(depths_of(NESTED).values()) == [0, 1, 2, 2, 1, 0, 0]
    spills = loop_spills(NESTED)
    assert (spills.stores, spills.loads) == ({0: 4, 2: 16}, {0: 4, 1: 8})
    assert (spills.total, spills.inside) == (32, 24)
    assert spills.weighted == 8 + 8 * LOOP_TRIPS + 16 * LOOP_TRIPS**2
    assert LoopSpills().weighted == LoopSpills().total == 0


def test_a_wait_out_of_line_makes_no_loop_of_what_lies_between():
    text = listing(
        "SYNCS.PHASECHK.TRYWAIT P0, [UR4], R2",
        "@!P0 BRA `(.L_x_9)",
        ".L_x_8:",
        "STL [R1], R2",  # after the wait: between its way out and its way back
        "EXIT",
        ".L_x_9:",
        "SYNCS.PHASECHK.TRYWAIT P0, [UR4], R2",
        "@!P0 BRA `(.L_x_9)",
        "BRA `(.L_x_8)",
    )
    assert list(depths_of(text).values()) == [0, 0, 0, 0, 1, 1, 0]
    assert loop_spills(text).stores == {0: 4}


@pytest.mark.parametrize(
    ("jump", "depth"),
    [
        ("BRA `(.L_x_0)", 1), ("@!P3 BRA `(.L_x_0)", 1), ("@UP0 BRA `(.L_x_0)", 1), ("BRA P1, `(.L_x_0)", 1),
        ("BRA.U !UP1, `(.L_x_0)", 1), ("BRA.DIV UR4, `(.L_x_0)", 1), ("BRX R2 -0x10", 0), ("EXIT", 0),
        ("CALL.REL.NOINC `(.L_x_0)", 0), ("BSSY B0, `(.L_x_0)", 0), ("BRA `(.L_x_77)", 0),
    ],
)  # fmt: skip
def test_what_jumps_and_what_does_not(jump, depth):
    depths = list(depths_of(listing(".L_x_0:", "NOP", jump, "NOP", "EXIT")).values())
    assert depths == [depth, depth, 0, 0]


def test_a_loop_that_begins_the_function_and_two_functions():
    text = (
        listing(".L_x_0:", "STL [R1], R2", "@P0 BRA `(.L_x_0)", "EXIT") + "\n" + listing("LDL R2, [R1]", name="other")
    )
    assert depths_of(text) == {("k", 0): 1, ("k", 16): 1, ("k", 32): 0, ("other", 0): 0}
    assert loop_spills(text).weighted == 4 * LOOP_TRIPS + 4


@pytest.mark.parametrize("name", ["wgmma_sm90a", "spilling_sm120a"])
def test_both_listings_of_a_real_kernel_give_the_same_loops(name):
    life, lines = depths_of(read(name, "life")), depths_of(read(name, "lines"))
    assert life.items() <= lines.items()  # without life ranges nvdisasm shows the padding, too
    # Two loops, over the cache and over the new tokens, hold most of the kernel; neither lies in the other.
    counts = Counter(life.values())
    assert counts[1] > 0.5 * len(life) and counts[0] > 100
    profile = sass_profile(read(name, "life"))
    inside = [i for i in profile.instructions if i.opcode.startswith(("HGMMA", "HMMA"))]
    assert inside and all(life[i.function, i.offset] == 1 for i in inside)


def test_spills_of_a_real_kernel_before_and_after_its_loops():
    found = loop_spills(read("spilling_sm120a", "life"))
    assert (found.stores, found.loads, found.inside) == ({0: 16}, {0: 16}, 0)
    assert loop_spills(read("wgmma_sm90a", "life")) == LoopSpills()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [".L_x_0:", ".L_x_1:", "NOP", "@P0 BRA `(.L_x_0)", "BRA `(.L_x_1)", "STL [R1], R2", "EXIT", "/*"]
        ),
        max_size=40,
    ),
    st.text(max_size=40),
)
def test_no_text_raises(rows, noise):
    text = listing(*rows)
    for given_text in (text, noise, noise.join(text.split("\n")), text[: len(text) // 2]):
        found = loop_spills(given_text)
        assert found.total <= found.weighted
        assert all(depth >= 0 for depth in depths_of(given_text).values())

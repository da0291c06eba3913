"""The reader of nvdisasm's text, against what nvdisasm 12.8 and 13.1 really wrote (tests/fixtures/README.md)."""

import gzip
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inspection.binary.sass import SassInstruction, parse_life_ranges, parse_line_info, sass_profile

SASS = Path(__file__).parents[1] / "fixtures" / "sass"
KERNELS = ("wgmma_sm90a", "spilling_sm120a")


def read(name: str, kind: str) -> str:
    return gzip.decompress((SASS / f"{name}.{kind}.txt.gz").read_bytes()).decode()


@pytest.fixture(scope="module", params=KERNELS)
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("name", KERNELS)
def test_every_instruction_is_read_with_its_offset(name):
    text = read(name, "life")
    instructions = parse_life_ranges(text)
    by_grep = [int(m, 16) for m in re.findall(r"(?m)^\s+/\*([0-9a-f]{4,5})\*/", text)]
    assert [i.offset for i in instructions] == by_grep
    assert all(b - a == 16 for a, b in itertools.pairwise(by_grep))
    assert {i.function for i in instructions} == {"extend_attention_kernel"}


@pytest.mark.parametrize(
    ("name", "registers", "opcode"), [("wgmma_sm90a", 138, "HGMMA"), ("spilling_sm120a", 128, "HMMA")]
)
def test_live_registers_stay_within_what_the_kernel_was_given(name, registers, opcode):
    profile = sass_profile(read(name, "life"), read(name, "lines"))
    assert 0.85 * registers < profile.peak.gprs <= registers
    assert any(i.opcode.startswith(opcode) for i in profile.instructions)
    assert max(i.predicates for i in profile.instructions) <= 7
    assert max(i.uniforms for i in profile.instructions) > 0
    assert profile.lines[0].gprs == profile.peak.gprs
    assert profile.peak.source in profile.peak_lines


def test_lines_join_by_offset_and_cover_nearly_everything(name):
    profile = sass_profile(read(name, "life"), read(name, "lines"))
    known = [i for i in profile.instructions if i.source is not None]
    assert len(known) > 0.95 * len(profile.instructions)
    assert {Path(i.source[0]).name for i in known} == {"extend_attention.py", "standard.py"}
    assert sum(line.instructions for line in profile.lines) <= len(profile.instructions)
    assert sass_profile(read(name, "life")).lines == ()


@pytest.mark.parametrize(("name", "stores", "loads"), [("wgmma_sm90a", 0, 0), ("spilling_sm120a", 16, 16)])
def test_spilled_bytes_by_line_add_up_to_what_ptxas_said(name, stores, loads):
    profile = sass_profile(read(name, "life"), read(name, "lines"))
    assert sum(line.spill_store_bytes for line in profile.lines) == stores
    assert sum(line.spill_load_bytes for line in profile.lines) == loads


@pytest.mark.parametrize(
    ("text", "opcode", "local"),
    [
        ("STL [R1+0x4], R7", "STL", 4),
        ("@!P0 STL.128 [R1], R8", "STL.128", 16),
        ("LDL.LU.64 R2, [R1+0x8]", "LDL.LU.64", 8),
        ("LDL.U8 R2, [R1+0x8]", "LDL.U8", 1),
        ("@UP0 UMOV UR4, 0x1", "UMOV", 0),
        ("LDG.E.128 R4, desc[UR16][R4.64]", "LDG.E.128", 0),
        ("", "", 0),
    ],
)
def test_opcodes_and_local_bytes(text, opcode, local):
    instruction = SassInstruction("k", 0, text, 0, 0, 0)
    assert (instruction.opcode, instruction.local_bytes) == (opcode, local)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["//---- .text.k ----",
                 "/*0000*/ MOV R1, R2 ;", "// | 1 | 2 |", "// | GPR | PRED |", "|", "\n", "/*zz*/",
                 '//## File "a", line 3', '//## File "a", line x', "/*0010*/ FOO ; // |  9999999999 |"]
            ),
            st.text(max_size=8),
        ),
        max_size=30,
    ),
)  # fmt: skip
def test_no_text_raises(pieces):
    text = " ".join(pieces)
    parse_life_ranges(text)
    parse_line_info(text)
    sass_profile(text, text)


def test_text_that_is_no_disassembly_has_no_instructions():
    profile = sass_profile("nvdisasm fatal   : Invalid register count : '255'", "")
    assert profile.instructions == () and profile.peak is None and profile.peak_lines == ()

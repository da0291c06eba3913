"""Packs in a PTX: found in both forms, edited both ways, and nothing else touched."""

from __future__ import annotations

import gzip
from collections import Counter

from helpers.inspection.ptx.packs import OPEN, WHOLE, opened, packs, repacked
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.recorded import DATA
from helpers.search.minimize.check import check_valid

HEAD = """.version 8.7
.target sm_100a
.address_size 64
.visible .entry k(.param .u64 p)
{
	.reg .b32 %r<9>;
	.reg .b64 %rd<9>;
	mov.b32 	%r1, 0;
	mov.b32 	%r2, 1;
	mov.b64 	%rd8, 2;
"""
OPENED = """	cvt.u64.u32 	%rd1, %r1;
	cvt.u64.u32 	%rd2, %r2;
	shl.b64 	%rd3, %rd2, 32;
	or.b64 	%rd4, %rd1, %rd3;
"""
PACKED = "	mov.b64 	%rd4, {%r1, %r2};\n"
USED = "	mul.f32x2 	%rd5, %rd4, %rd8;\n	st.global.b64 	[%rd8], %rd5;\n	ret;\n}\n"


def incident() -> str:
    return gzip.decompress((DATA / "incident.ptx.gz").read_bytes()).decode()


def test_an_open_pack_becomes_one_instruction():
    (pack,) = packs(HEAD + OPENED + USED)
    assert (pack.form, pack.low, pack.high) == (OPEN, "%r1", "%r2")
    assert repacked(HEAD + OPENED + USED) == HEAD + PACKED + USED


def test_a_whole_pack_becomes_four():
    text = opened(HEAD + PACKED + USED)
    (pack,) = packs(text)
    assert (pack.form, pack.low, pack.high) == (OPEN, "%r1", "%r2") and check_valid(text) == []
    assert repacked(text).replace("\t.reg .b64 \t%opened<3>;\n", "") == HEAD + PACKED + USED


def test_halves_may_be_joined_in_either_order():
    swapped = HEAD + OPENED.replace("%rd1, %rd3;", "%rd3, %rd1;") + USED
    assert repacked(swapped) == HEAD + PACKED + USED


def test_a_part_that_something_else_reads_stays():
    text = HEAD + OPENED + USED.replace("	ret;", "	st.global.b64 	[%rd8], %rd2;\n	ret;")
    changed = repacked(text)
    assert "cvt.u64.u32 	%rd2" in changed and "shl.b64" not in changed and check_valid(changed) == []


def test_what_no_pair_of_floats_reads_is_no_pack():
    assert packs(HEAD + OPENED + USED.replace("mul.f32x2", "add.s64")) == ()


def test_a_part_that_is_written_twice_is_left_alone():
    text = HEAD + OPENED.replace("	or.b64", "	mov.b64 	%rd3, 7;\n	or.b64") + USED
    assert packs(text) == () and repacked(text) == text


def test_a_half_that_is_written_again_before_the_end_is_left_alone():
    text = HEAD + OPENED.replace("	or.b64", "	mov.b32 	%r1, 7;\n	or.b64") + USED
    assert repacked(text) == text


def test_the_incident_has_64_behind_each_wide_load():
    text = incident()
    counts = Counter((p.form, p.after_load) for p in packs(text))
    assert sorted(n for (form, _), n in counts.items() if form == OPEN)[-2:] == [64, 64]
    changed = repacked(text)
    assert check_valid(changed) == [] and not any(p.form == OPEN for p in packs(changed))
    assert {p.form for p in packs(changed)} == {WHOLE}


def test_only_the_chosen_are_edited():
    text = incident()
    chosen = {p.line for p in packs(text) if p.form == OPEN and p.after_load == 3}
    changed = Counter(p.form for p in packs(repacked(text, chosen)))
    before = Counter(p.form for p in packs(text))
    assert len(chosen) == 64 and before[OPEN] - changed[OPEN] == 64


def test_the_pressure_estimate_sees_packs_through():
    """A limit of the estimate: the text that dies and the one that compiles have one demand."""
    text = incident()
    demands = {pressure_profile(t).demand for t in (text, repacked(text))}
    assert len(demands) == 1


def test_a_shift_by_another_amount_makes_no_pack():
    assert packs(HEAD + OPENED.replace(", 32;", ", 16;") + USED) == ()


def test_a_text_without_a_body_on_lines_of_its_own_stays_as_it_is():
    loose = (HEAD + PACKED + USED).replace("\n{\n", " {\n")
    assert len(packs(loose)) == 1 and opened(loose) == loose

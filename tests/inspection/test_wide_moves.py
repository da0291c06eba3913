"""Wide moves of tensor memory split and joined: the same columns into the same registers, and nothing else touched."""

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inspection.ptx.wide_moves import join_moves, split_moves, wide_moves

PTX = Path(__file__).parents[1] / "fixtures" / "ptx"


@pytest.fixture(scope="module")
def crash() -> str:
    return gzip.decompress((PTX / "crash_sm100a.ptx.gz").read_bytes()).decode()


def columns(ptx: str) -> list[tuple[str, str, str, int]]:
    """(guard, kind, register, column) of every 32x32b move, read another way than the module reads it."""
    found = []
    for line in ptx.split("\n"):
        if ".32x32b." in line and "tcgen05" in line:
            guard = line.split("tcgen05")[0].strip()
            kind = re.search(r"tcgen05\.(ld|st)", line)[1]
            base, offset = re.search(r"\[(\S+) \+ (\d+)\]", line).groups()
            registers = re.findall(r"%r\d+", re.search(r"\{(.*)\}", line)[1])
            found += [(f"{guard}{base}", kind, r, int(offset) + i) for i, r in enumerate(registers)]
    return found


@pytest.mark.parametrize("width", [64, 32, 16, 1])
def test_the_same_columns_go_to_the_same_registers(crash, width):
    split = split_moves(crash, width)
    assert columns(split) == columns(crash) and len(columns(crash)) > 512
    assert max(w for _, _, w in wide_moves(split, 1)) == width
    rest = [line for line in crash.split("\n") if ".32x32b." not in line]
    assert [line for line in split.split("\n") if ".32x32b." not in line] == rest


def test_kinds_and_lines_choose_what_is_split(crash):
    wide = wide_moves(crash, 128)
    assert [kind for _, kind, _ in wide] == ["ld", "st", "ld", "st"]
    loads = split_moves(crash, kinds=("ld",))
    assert [(k, w) for _, k, w in wide_moves(loads)] == [("ld", 64)] * 2 + [("st", 128)] + [("ld", 64)] * 2 + [
        ("st", 128)
    ]
    one = split_moves(crash, lines=[wide[2][0]])
    assert [w for _, _, w in wide_moves(one)] == [128, 128, 64, 64, 128]
    assert split_moves(crash, 128) == crash
    with pytest.raises(ValueError, match="not 48"):
        split_moves(crash, 48)


def test_a_guard_stays_on_both_halves(crash):
    stores = [line for line in split_moves(crash).split("\n") if "tcgen05.st" in line and "x64" in line]
    assert len(stores) == 4 and all(line.startswith("\t@%p") or line.lstrip().startswith("@%p") for line in stores)


def test_joining_undoes_splitting(crash):
    again = join_moves(split_moves(crash))
    assert columns(again) == columns(crash)
    assert [(k, w) for _, k, w in wide_moves(again)] == [(k, w) for _, k, w in wide_moves(crash)]
    only = join_moves(split_moves(crash), kinds=("st",))
    assert [(k, w) for _, k, w in wide_moves(only)] == [("ld", 64)] * 2 + [("st", 128)] + [("ld", 64)] * 2 + [
        ("st", 128)
    ]


def move(registers: list[str], address: str, guard: str = "") -> str:
    return f"{guard}tcgen05.ld.sync.aligned.32x32b.x{len(registers)}.b32 {{{', '.join(registers)}}}, [{address}];"


@pytest.mark.parametrize(
    "lines",
    [
        [move(["%r1", "%r2"], "%r9 + 0"), move(["%r3", "%r4"], "%r9 + 4")],  # a gap
        [move(["%r1", "%r2"], "%r9 + 0"), move(["%r3", "%r4"], "%r8 + 2")],  # another address
        [move(["%r1", "%r2"], "%r9 + 0"), "add.s32 %r7, %r1, 1;", move(["%r3", "%r4"], "%r9 + 2")],  # used between
        [move(["%r1", "%r2"], "%r9 + 0", "@%p1 "), move(["%r3", "%r4"], "%r9 + 2", "@%p2 ")],  # another guard
        [move(["%r1", "%r9"], "%r9 + 0"), move(["%r3", "%r4"], "%r9 + 2")],  # the first sets the second's address
    ],
)
def test_what_is_no_pair_is_not_joined(lines):
    assert join_moves("\n".join(lines), 2) == "\n".join(lines)


def test_other_forms_are_left_alone():
    wide = ", ".join(f"%r{n}" for n in range(4))
    for line in (
        f"tcgen05.ld.sync.aligned.16x32bx2.x4.b32 {{{wide}}}, [%r9 + 0], 4;",
        f"tcgen05.ld.sync.aligned.32x32b.x4.pack::16b.b32 {{{wide}}}, [%r9 + 0];",
        f"tcgen05.ld.sync.aligned.32x32b.x8.b32 {{{wide}}}, [%r9 + 0];",  # says eight, holds four
        "tcgen05.ld.sync.aligned.32x32b.x4.b32 %r1;",
    ):
        assert split_moves(line, 2) == line and wide_moves(line, 1) == []
    assert split_moves(f"tcgen05.ld.sync.aligned.32x32b.x4.b32 {{{wide}}}, [%r9];", 2).endswith("[%r9 + 2];")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["tcgen05.ld.sync.aligned.32x32b.x2.b32 ", "{%r1,", "}", "[%r2 + 1]", ";", "\n", "@%p1 "]))
)
def test_no_text_raises(pieces):
    text = "".join(pieces)
    split_moves(text, 1)
    join_moves(text, 1)
    wide_moves(text, 1)

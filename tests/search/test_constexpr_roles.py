"""constexpr_roles: a tile and a problem extent are told apart by use, whatever they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.search.constexpr_roles import PROBLEM, TILE, UNKNOWN, constexpr_roles, roles_of

ROOT = Path(__file__).parents[2]


def roles(body: str, constexprs: str, arguments: str = "x, y, n, stride", extra: str = "") -> dict[str, str]:
    parameters = ", ".join(f"{name}: tl.constexpr" for name in constexprs.split())
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    source = f"import triton\nimport triton.language as tl\n{extra}\n\ndef k({arguments}, {parameters}):\n{lines}\n"
    return {name: role.role for name, role in constexpr_roles(source, "k").items()}


def test_pieces_moved_on_by_a_program_id_are_a_tile_and_a_covered_row_is_not():
    body = """
rows = tl.program_id(0) * piece + tl.arange(0, piece)
cols = tl.arange(0, WIDE)
v = tl.load(x + rows[:, None] * stride + cols[None, :])
tl.store(y + rows[:, None] * stride + cols[None, :], v)
"""
    assert roles(body, "piece WIDE") == {"piece": TILE, "WIDE": PROBLEM}


@pytest.mark.parametrize(
    "body",
    [
        "pid = tl.program_id(0)\nstart = pid * b\noffs = start + tl.arange(0, b)\ntl.store(y + offs, 0)",
        "for i in range(0, n, b):\n    tl.store(y + i + tl.arange(0, b), 0)",
        "for i in tl.range(0, tl.cdiv(n, b)):\n    tl.store(y + i * b + tl.arange(0, b), 0)",
        "r = tl.arange(0, b)\npid = tl.program_id(0) % 8\ntl.store(y + r + pid * b, 0)",
        "half: tl.constexpr = b // 2\nr = tl.arange(0, b)\ntl.store(y + tl.program_id(0) * half + r, 0)",
        "p = tl.make_block_ptr(x, (n,), (1,), (tl.program_id(0) * b,), (b,), (0,))\ntl.load(p)",
        "p = tl.make_block_ptr(x, (n,), (1,), offsets=(0,), block_shape=(b,), order=(0,))\n"
        "for _ in range(n):\n    tl.load(p)\n    p = tl.advance(p, (b,))",
        "x.store([tl.program_id(0) * b, 0], y.load([0, 0]))",
    ],
)
def test_ways_to_cut_the_work(body):
    assert roles(body, "b") == {"b": TILE}


@pytest.mark.parametrize(
    "body",
    [
        "r = tl.program_id(0) * 4 + tl.arange(0, 4)\ntl.store(y + r * d, 0)",
        "r = tl.arange(0, 64)\ntl.store(y + r, 0, mask=r < d)",
        "for i in range(0, d, 16):\n    tl.store(y + i, 0)",
        "for i in range(d):\n    tl.store(y + i, 0)",
        "p = tl.make_block_ptr(x, (n, d), (stride, 1), (0, 0), (16, 16), (1, 0))\ntl.load(p)",
        "p = tl.make_block_ptr(x, (n, 4), (d * 4, 1), (0, 0), (16, 16), (1, 0))\ntl.load(p)",
        "tl.store(y + tl.arange(0, d), 0)",
        "p = tl.make_block_ptr(x, (n, 4), (4, 1), (0, 0), (16, d), (1, 0))\ntl.load(p)",
    ],
)
def test_ways_to_be_an_extent_of_the_data(body):
    assert roles(body, "d") == {"d": PROBLEM}


def test_a_tile_that_is_also_a_rows_length_is_the_callers():
    body = (
        "r = tl.program_id(0) * b + tl.arange(0, b)\nc = tl.arange(0, b)\ntl.store(y + r[:, None] * b + c[None, :], 0)"
    )
    assert roles(body, "b") == {"b": PROBLEM}


def test_a_piece_whose_number_is_part_of_an_address_is_the_callers():
    body = """
count = tl.cdiv(n, b)
at = tl.program_id(1) * count
for i in range(count):
    tl.store(y + (at + i) * stride + tl.arange(0, 16), tl.load(x + i * b + tl.arange(0, b)))
"""
    assert roles(body, "b") == {"b": PROBLEM}
    assert roles(body.replace("tl.cdiv(n, b)", "(n + b - 1) // b"), "b") == {"b": PROBLEM}


def test_the_order_in_which_programs_take_tiles_does_not_make_them_the_callers():
    body = """
across = tl.cdiv(n, b)
group = 8 * across
first = tl.program_id(0) // group * 8
col = (tl.program_id(0) % group) // 8
tl.store(y + col * b + tl.arange(0, b), first)
"""
    assert roles(body, "b") == {"b": TILE}


def test_a_head_number_times_a_head_dim_is_no_piece_of_it():
    body = "base = x + tl.program_id(1) * d\ntl.store(y + tl.arange(0, d), tl.load(base + tl.arange(0, d)))"
    # base is a pointer to a head: nothing says that d cuts anything, and one range covers all of it.
    assert roles(body, "d")["d"] in (PROBLEM, TILE)


def test_data_is_no_offset():
    body = "r = tl.program_id(0) * 16 + tl.arange(0, 16)\ntl.store(y + r, tl.load(x + r) * cap)"
    assert roles(body, "cap") == {"cap": UNKNOWN}


def test_a_switch_is_unknown():
    assert roles("if FLAG:\n    tl.store(y, 0)", "FLAG") == {"FLAG": UNKNOWN}


def test_functions_of_the_same_file_are_followed_by_the_names_they_are_given():
    extra = """
def inner(p, q, at, size: tl.constexpr, row: tl.constexpr):
    for i in range(0, at, size):
        tl.store(p + (i + tl.arange(0, size)) * row, 0)
"""
    body = "inner(x, y, n, row=wide, size=step)"
    assert roles(body, "step wide", extra=extra) == {"step": TILE, "wide": PROBLEM}


def test_recursion_ends_and_what_cannot_be_read_says_nothing(tmp_path):
    assert roles("k(x, y, n, stride, b)", "b") == {"b": UNKNOWN}
    assert constexpr_roles("def k(:", "k") == {} and constexpr_roles("x = 1", "k") == {}
    assert constexpr_roles("x = " + "(" * 5000, "k") == {}
    assert roles_of(tmp_path / "none.py", "k") == {}


def test_why_names_the_use_and_its_line():
    source = "def k(y, b: tl.constexpr):\n    r = tl.program_id(0) * b + tl.arange(0, b)\n    tl.store(y + r, 0)\n"
    assert constexpr_roles(source, "k")["b"].why == "pieces of it are moved on by a program id or a loop (line 2)"


def test_the_projects_own_kernels():
    found = {n: r.role for n, r in roles_of(ROOT / "kernels/extend_attention.py", "extend_attention_kernel").items()}
    assert {n for n, r in found.items() if r == TILE} == {"BLOCK_M", "BLOCK_N"}
    assert found["HEAD_DIM"] == found["BLOCK_DMODEL"] == found["BLOCK_DV"] == PROBLEM
    assert found["LOGIT_CAP"] == found["TILE_SKIP"] == found["WINDOW_LEFT"] == UNKNOWN
    lean = {n: r.role for n, r in roles_of(ROOT / "kernels/lean_attention.py", "lean_attention_kernel").items()}
    assert lean["BLOCK_M"] == lean["BLOCK_N"] == TILE and lean["BLOCK_DV"] == PROBLEM
    matmul = {n: r.role for n, r in roles_of(ROOT / "kernels/cliff_matmul.py", "cliff_matmul_kernel").items()}
    assert set(matmul.values()) == {TILE} and len(matmul) == 3

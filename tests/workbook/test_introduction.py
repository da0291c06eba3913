"""What 00 and 02 teach: the sum, the cures, the algorithm beside the kernel's lines, ptxas's own register target."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import numpy as np
import pytest

import helpers as rc
from helpers.attention.spec import EXTEND_KERNEL
from helpers.compiler.report import LIVE, Evidence
from helpers.workbook.inside_ptxas.introduction import (
    CHANGES,
    LEAN_LOOP,
    STEPS,
    Excerpt,
    attention_by_tiles,
    before_after,
    beside_python,
    lean_loop,
)
from helpers.workbook.inside_ptxas.targets import TARGET_WARPS, ctas_that_fit, target_choices, target_table
from helpers.workbook.prose import source_lines_of
from helpers.workbook.register_sum import register_sum, sum_table
from helpers.workbook.start_here import CURES, cures_table, reads_of_each_key

INCIDENT = rc.INCIDENT_CHOICE


def test_the_sum_of_the_incident_is_one_more_than_there_is():
    whole = register_sum(INCIDENT)
    assert (whole.numbers, whole.threads, whole.registers, whole.twice, whole.cap) == (32_768, 256, 128, 256, 255)
    assert not whole.fits and register_sum(replace(INCIDENT, tile="sm100")).fits
    table = sum_table(INCIDENT)
    assert table["the sum"].tolist()[2:] == ["32,768 / 256", "2 x 128", "256 > 255"]
    assert sum_table(replace(INCIDENT, tile="sm100"))["the sum"].tolist()[-1] == "128 <= 255"


def test_the_sum_follows_values_and_warps():
    sixteen = register_sum(replace(INCIDENT, num_warps=16))
    assert (sixteen.threads, sixteen.registers, sixteen.cap) == (512, 64, 128) and sixteen.fits
    assert register_sum(replace(INCIDENT, v_head_dim=128)).columns == 128


def test_cures_are_told_in_their_order_with_what_the_smaller_tile_reads(ok, crash):
    compiled = [Evidence(crash, LIVE), *[Evidence(ok, LIVE)] * (len(CURES) - 1)]
    table = cures_table(compiled)
    assert table["cure"].tolist() == list(CURES) and table["per thread"][0] == crash.verdict()
    assert table["reads of a key or value, at most"].tolist() == [32, 64, 32, 32]
    assert reads_of_each_key(INCIDENT, new_tokens=129) == 2
    with pytest.raises(ValueError, match="zip"):
        cures_table(compiled[:2])


@pytest.mark.parametrize("block_n", [1, 3, 7, 64])
def test_the_plain_python_is_attention(block_n: int):
    draw = np.random.default_rng(0)
    q, keys, values = draw.normal(size=(5, 4)) * 4, draw.normal(size=(7, 4)), draw.normal(size=(7, 3))
    scores = q @ keys.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    wanted = weights / weights.sum(axis=1, keepdims=True) @ values
    np.testing.assert_allclose(attention_by_tiles(q, keys, values, block_n), wanted, rtol=1e-12)


def rows_of(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr><td>(.*?)</tr>", text)
    return [[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row.split("</td>")[:-1]] for row in rows]


def test_each_step_stands_beside_the_kernels_own_line():
    source = source_lines_of(EXTEND_KERNEL.path)
    rows = rows_of(beside_python().data)
    assert len(rows) == len(STEPS)
    for words, python, number, triton in rows:
        assert words.endswith(".") and source[int(number)].strip() == triton and python
    assert rows[-2][3].endswith("* v_scale")


@pytest.mark.parametrize("ingredient", CHANGES)
def test_before_and_after_are_lines_of_the_file_and_short(ingredient: str):
    source = source_lines_of(EXTEND_KERNEL.path)
    text = html.unescape(before_after(ingredient).data)
    shown = re.findall(r"^(?:<pre[^>]*>|.*<pre[^>]*>)? *(\d+)  (.*?)(?:</pre>.*)?$", text, re.MULTILINE)
    assert 4 <= len(shown) <= 24
    for number, line in shown:
        assert line.strip() == source[int(number)].strip()
    incident, other = {"tile_skip": ("if work:", "first_n = tl.maximum"), "accumulate": ("* v_scale", "acc *= v_scale"),
                       "kv_operands": ("p = p.to(v.dtype)", "v = v.to(q.dtype)")}[ingredient]  # fmt: skip
    halves = text.split("min-width:0")
    assert incident in halves[1] and other in halves[2]


def test_the_lean_loop_has_no_branch_and_adds_in_place():
    text = lean_loop().data
    assert "if " not in text and "acc = tl.dot(p.to(q.dtype), v, acc)" in text and len(LEAN_LOOP) == 3


def test_an_excerpt_that_is_gone_is_said():
    with pytest.raises(ValueError, match="begins with 'no such'"):
        Excerpt("no such", 1).lines(EXTEND_KERNEL.path)
    with pytest.raises(ValueError, match="begins with 'q_ptr'"):
        Excerpt("q_ptr", 1, after="# --- stage 1").lines(EXTEND_KERNEL.path)


def test_targets_are_asked_twice_each_and_told_beside_what_is_allowed(ok, crash):
    choices = target_choices()
    assert [(c.num_warps, c.maxnreg) for c in choices] == [
        (4, None),
        (4, 255),
        (8, None),
        (8, 255),
        (16, None),
        (16, 128),
    ]
    found = [Evidence(crash if i == 2 else ok, LIVE) for i in range(2 * len(TARGET_WARPS))]
    table = target_table(choices, found)
    assert table["allowed, registers per thread"].tolist() == [255, 255, 255, 255, 128, 128]
    assert table["target"].tolist()[4:] == ["chosen by ptxas", "named: 128"]
    assert table["outcome"].tolist().count("compiles") == 5 and table["outcome"][2] == crash.verdict()


@pytest.mark.parametrize(("registers", "warps", "fit"), [(64, 16, 2), (168, 4, 3), (255, 8, 1), (128, 16, 1)])
def test_ctas_that_fit_is_the_register_file_divided(registers: int, warps: int, fit: int):
    assert ctas_that_fit(registers, warps) == fit


def test_ptxas_takes_fewer_than_it_may_with_sixteen_warps(toolchain_351):
    chosen, named = (rc.compile_one(c).report for c in target_choices()[-2:])
    assert chosen.regs_per_thread == 64 < named.regs_per_thread == 128
    assert chosen.spill_store_bytes > named.spill_store_bytes > 0

"""The lean kernel: right answers in the interpreter, a spec that is the launch's, a table whose claims compile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.attention.correctness.cases import Case, interpreter_cases, lean_cases
from helpers.attention.correctness.inputs import make_problem
from helpers.attention.correctness.numerics import run_cases
from helpers.attention.lean import (
    LEAN_TABLE,
    LeanTile,
    build_lean_spec,
    choose_lean_tile,
    lean_row,
    prepare_lean,
)
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, LLAMA_LIKE, AttentionShape
from helpers.attention.spec import LEAN
from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.hardware import ARCHS

LAYERS = (GEMMA4_31B_SLIDING, GEMMA4_31B_GLOBAL, LLAMA_LIKE)


def test_every_pair_of_options_in_the_interpreter():
    cases = lean_cases(interpreter_cases())
    rows = run_cases(cases, "interpreter")
    assert len(rows) >= 30
    wrong = [(r.status, r.variant, r.head_dim, r.tile, r.message) for r in rows if not r.ok]
    assert not wrong, wrong


def test_the_cases_pack_heads_and_split_head_dims():
    cases = lean_cases(interpreter_cases())
    assert any(c.tile.group_pack > 1 for c in cases) and any(c.tile.group_pack == 1 for c in cases)
    assert any(c.shape.head_dim in (192, 576) for c in cases) and any(c.shape.custom_mask for c in cases)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda s: f"hd{s.head_dim}")
@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8_e4m3"])
def test_the_spec_is_the_launch(layer, kv_dtype):
    shape = replace(layer, kv_dtype=kv_dtype).with_lengths((40, 0), (33, 5))
    problem = make_problem(shape)
    tile = choose_lean_tile("sm_90a", shape)
    launch = prepare_lean(**problem.tensors(), o=problem.new_output(), **problem.options(), tile=tile, kernel=object())
    spec = build_lean_spec(shape, tile)
    assert [n for n, _ in spec.signature] == list(launch.arguments)
    for name, value in spec.constexprs:
        assert launch.arguments[name] == value and type(launch.arguments[name]) is type(value), name
    assert dict(spec.options) == launch.options
    tokens_per_block = tile.block_m // tile.group_pack
    assert launch.grid == (-(-33 // tokens_per_block), shape.num_q_heads // tile.group_pack, 2)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda s: f"hd{s.head_dim}")
def test_no_register_is_spilled_on_sm_100a_with_the_incidents_triton(layer, toolchain_351):
    for kv_dtype in ("bf16", "fp8_e4m3"):
        shape = replace(layer, kv_dtype=kv_dtype)
        report = compile_kernel(
            build_lean_spec(shape, choose_lean_tile("sm_100a", shape)), "sm_100a", Toolchain("3.5.1")
        )
        assert report.status == "ok", report.verdict()
        assert report.tensor_core_path == ("tcgen05" if shape.head_dim <= 256 else "mma.sync")


def test_a_narrow_rotary_part_is_padded_in_launch_and_spec_alike():
    # 32 columns of their own were wrong on a GPU (data/kernel_log.md).
    shape = AttentionShape(num_q_heads=2, num_kv_heads=2, head_dim=288, v_head_dim=256).with_lengths(8, 8)
    problem, tile = make_problem(shape), LeanTile(64, 32, 8, 1)
    launch = prepare_lean(**problem.tensors(), o=problem.new_output(), **problem.options(), tile=tile, kernel=object())
    constexprs = dict(build_lean_spec(shape, tile).constexprs)
    assert launch.arguments["BLOCK_DPE"] == constexprs["BLOCK_DPE"] == 64
    assert launch.arguments["BLOCK_DMODEL"] == constexprs["BLOCK_DMODEL"] == 256
    wide = dict(build_lean_spec(replace(shape, head_dim=192, v_head_dim=128), tile).constexprs)
    assert (wide["BLOCK_DMODEL"], wide["BLOCK_DPE"]) == (128, 64)
    assert dict(build_lean_spec(replace(shape, head_dim=256), tile).constexprs)["BLOCK_DPE"] == 0


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8_e4m3"])
def test_a_padded_rotary_part_is_right_in_the_interpreter(kv_dtype):
    shape = AttentionShape(num_q_heads=2, num_kv_heads=1, head_dim=288, v_head_dim=256, kv_dtype=kv_dtype)
    case = Case(
        shape=shape.with_lengths((20, 0), (17, 9)),
        tile=LeanTile(32, 16, 4, 1, 2),
        tile_table="lean kernel",
        ingredients=LEAN,
        seed=288,
    )
    (row,) = run_cases([case], "interpreter")
    assert row.ok, row.message


def test_a_row_for_every_arch_and_head_dim():
    for arch in ARCHS:
        for head_dim in (64, 96, 128, 192, 256, 288, 512, 576):
            for kv_dtype in ("bf16", "fp8_e5m2"):
                shape = AttentionShape(num_q_heads=8, num_kv_heads=2, head_dim=head_dim, kv_dtype=kv_dtype)
                assert lean_row(arch, shape) in LEAN_TABLE


def test_only_rows_for_hopper_claim_a_measurement():
    for row in LEAN_TABLE:
        assert ("measured" in row.chosen_by) <= (row.archs == ("sm_90a",))


@pytest.mark.parametrize(("group", "pack"), [(1, 1), (2, 2), (3, 1), (6, 2), (8, 4)])
def test_packing_is_fitted_to_the_group(group, pack):
    assert LeanTile(64, 64, 8, 2, 4).fitted(group).group_pack == pack


@pytest.mark.parametrize("bad", [(64, 48, 8, 1, 1), (64, 64, 8, 1, 3), (16, 64, 8, 1, 32), (64, 64, 8, 0, 1)])
def test_impossible_tiles_are_refused(bad):
    with pytest.raises(UserError):
        LeanTile(*bad)

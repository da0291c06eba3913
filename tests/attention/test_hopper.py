"""The Hopper kernel: what it takes and refuses, that it compiles for sm_90a, and, on a Hopper GPU, its answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.attention.correctness.cases import hopper_cases
from helpers.attention.correctness.inputs import make_problem
from helpers.attention.correctness.numerics import run_cases
from helpers.attention.hopper import FASTER_THAN_LEAN, TILES, HopperTile, build_hopper_spec, prepare_hopper, why_not
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, LLAMA_LIKE, AttentionShape
from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.hardware import get_arch


def shape_of(head_dim: int, **more) -> AttentionShape:
    return AttentionShape(num_q_heads=8, num_kv_heads=2, head_dim=head_dim, v_head_dim=head_dim, **more)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (shape_of(80), "head dims 80/80"),
        (replace(shape_of(128), v_head_dim=64), "keys as values"),
        (shape_of(128, kv_dtype="fp8_e4m3"), "fp8_e4m3 cache"),
        (shape_of(128, custom_mask=True), "custom mask"),
        (shape_of(128, sinks=True), "sinks"),
        (shape_of(128, logit_cap=30.0), "soft cap"),
    ],
)
def test_what_it_does_not_take_is_said_and_the_lean_kernel_named(shape, words):
    assert words in why_not(shape)
    problem = make_problem(shape.with_lengths((8,), (8,)))
    with pytest.raises(UserError, match="the lean kernel does"):
        prepare_hopper(**problem.tensors(), o=problem.new_output(), **problem.options(), kernel=object())


def test_only_hopper_runs_it():
    assert why_not(shape_of(128), capability=(9, 0)) == ""
    assert "10.0" in why_not(shape_of(128), capability=(10, 0)) and "12.0" in why_not(shape_of(128), capability=(12, 0))


def test_the_launch_gives_the_kernel_what_it_asks_for():
    from kernels.hopper_attention import hopper_attention_kernel

    shape = shape_of(128).with_lengths((40, 0), (33, 5))
    problem = make_problem(shape)
    launch = prepare_hopper(
        **problem.tensors(), o=problem.new_output(), **problem.options(), kernel=hopper_attention_kernel
    )
    asked = set(hopper_attention_kernel.arg_names)
    assert {*launch.arguments, *launch.options} == asked
    tile = TILES[128].fitted(4)
    assert launch.grid == (-(-33 // (tile.block_m // tile.group_pack)), 8 // tile.group_pack, 2)
    assert HopperTile(128, 64, 4).fitted(6).group_pack == 2


def test_the_cases_cover_every_head_dim_window_and_causality():
    cases = hopper_cases()
    assert len(cases) >= 12 and not any(why_not(case.shape) for case in cases)
    for values in ({c.shape.head_dim for c in cases}, {c.shape.model_window for c in cases}):
        assert len(values) >= 3
    assert {c.shape.causal for c in cases} == {True, False} and {c.shape.q_dtype for c in cases} == {"bf16", "fp16"}


def test_the_spec_is_the_launch():
    from kernels.hopper_attention import hopper_attention_kernel

    shape = shape_of(256, model_window=64).with_lengths((40, 0), (33, 5))
    problem = make_problem(shape)
    launch = prepare_hopper(
        **problem.tensors(), o=problem.new_output(), **problem.options(), kernel=hopper_attention_kernel
    )
    spec = build_hopper_spec(shape)
    assert [name for name, _ in spec.signature] == hopper_attention_kernel.arg_names
    passed = {**launch.arguments, **launch.options}
    for name, value in spec.constexprs:
        assert passed[name] == value and type(passed[name]) is type(value), name
    assert dict(spec.options) == launch.options


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", FASTER_THAN_LEAN)
def test_it_takes_the_road_of_every_spec_to_sm_90a(head_dim):
    # Gluon, through the same worker as Triton's kernels, by the environment's own release.
    report = compile_kernel(build_hopper_spec(shape_of(head_dim)), "sm_90a", Toolchain("environment"))
    assert report.compiled, report.message
    assert report.tensor_core_path == "wgmma" and report.instructions["cp_async"] > 0
    assert report.smem_bytes <= get_arch("sm_90a").smem_per_block_max_bytes


@pytest.mark.gpu
def test_every_pair_of_what_it_takes_on_a_hopper_gpu():
    import torch

    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("written for compute capability 9.0")
    rows = run_cases(hopper_cases(), "cuda")
    wrong = [(r.status, r.head_dim, r.tile, r.variant, r.message) for r in rows if not r.ok]
    assert len(rows) >= 12 and not wrong, wrong


@pytest.mark.gpu
@pytest.mark.parametrize("layer", [GEMMA4_31B_GLOBAL, LLAMA_LIKE], ids=lambda s: f"hd{s.head_dim}")
def test_it_gives_the_lean_kernels_answers_on_a_hopper_gpu(layer):
    import torch

    from helpers.attention.lean import prepare_lean

    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("written for compute capability 9.0")
    problem = make_problem(replace(layer, kv_dtype="bf16").with_lengths((1500, 0, 37), (200, 70, 1)), device="cuda")
    outputs = []
    for prepare in (prepare_lean, prepare_hopper):
        outputs.append(problem.new_output())
        prepare(**problem.tensors(), o=outputs[-1], **problem.options()).run()
    lean, hopper = (o.float() for o in outputs)
    assert (hopper - lean).norm() <= 2e-3 * lean.norm()

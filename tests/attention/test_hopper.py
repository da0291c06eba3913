"""The Hopper kernel: what it takes and refuses, that it compiles for sm_90a, and, on a Hopper GPU, its answers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.attention.cases import hopper_cases
from helpers.attention.hopper import FASTER_THAN_LEAN, TILES, HopperTile, prepare_hopper, why_not
from helpers.attention.inputs import make_problem
from helpers.attention.numerics import run_cases
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, LLAMA_LIKE, AttentionShape
from helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# Gluon's own road: the specs of helpers.compiler are Triton's.
COMPILE = """
import json, re, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.experimental.gluon._runtime import GluonASTSource
from kernels.hopper_attention import hopper_attention_kernel as kernel

head_dim, block_m, block_n, pack, window = json.loads(sys.argv[1])
given = dict(HEAD_DIM=head_dim, BLOCK_M=block_m, BLOCK_N=block_n, GROUP_PACK=pack, WINDOW_LEFT=window,
             IS_CAUSAL=True, num_warps=8)
kinds = {"qo_indptr": "*i32", "kv_indptr": "*i32", "kv_indices": "*i64", "kv_group_num": "i32"}
signature, attrs = {}, {}
for i, name in enumerate(kernel.arg_names):
    kind = kinds.get(name) or ("*bf16" if name.endswith("_ptr") else "fp32" if name.endswith("_scale") else "i32")
    signature[name] = "constexpr" if name in given else kind
    if kind[0] == "*" or name.startswith("stride"):
        attrs[(i,)] = [["tt.divisibility", 16]]
constexprs = {(kernel.arg_names.index(name),): value for name, value in given.items()}
source = GluonASTSource(kernel, signature, constexprs, attrs)
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8})
ptx = compiled.asm["ptx"]
print(json.dumps({"shared": compiled.metadata.shared, "wgmma": ptx.count("wgmma.mma_async"), "ptx": ptx}))
"""


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


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", FASTER_THAN_LEAN)
def test_it_compiles_for_sm_90a_within_its_shared_memory(head_dim, tmp_path):
    from helpers.compiler.arch import get_arch

    tile = TILES[head_dim]
    given = json.dumps([head_dim, tile.block_m, tile.block_n, tile.group_pack, -1])
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, given], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["wgmma"] > 0 and "cp.async" in result["ptx"]
    assert result["shared"] <= get_arch("sm_90a").smem_per_block_max_bytes


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

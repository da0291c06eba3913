"""The ahead-of-time spec is the launch's: signature, constants, attributes as Triton's launcher derives
them."""

from dataclasses import replace

import pytest
import torch

from helpers.attention.correctness.inputs import make_problem
from helpers.attention.launch import prepare_launch
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, AttentionShape
from helpers.attention.spec import INCIDENT, LEAN, build_spec
from helpers.attention.tiles import TileConfig, choose_tile
from kernels.extend_attention import extend_attention_kernel

SLIDING = replace(GEMMA4_31B_SLIDING, kv_dtype="fp8_e4m3")
GLOBAL = replace(GEMMA4_31B_GLOBAL, kv_dtype="fp8_e4m3")
SMALL = AttentionShape(num_q_heads=4, num_kv_heads=4, head_dim=64)
SHAPES = {
    "incident: Gemma 4 sliding, fp8": SLIDING,
    "Gemma 4 global, fp8": GLOBAL,
    "group 1": SMALL,
    "group 2": replace(SMALL, num_kv_heads=2),
    "group 16": AttentionShape(num_q_heads=32, num_kv_heads=2, head_dim=128),
    "head_dim 80": replace(SMALL, head_dim=80, v_head_dim=80, kv_dtype="fp8_e5m2"),
    "head_dim 16, fp16": AttentionShape(num_q_heads=1, num_kv_heads=1, head_dim=16, q_dtype="fp16", kv_dtype="fp16"),
    "mask": replace(SMALL, custom_mask=True),
    "mask, prefix skipped": replace(SMALL, custom_mask=True, mask_prefix=False),
    "sinks": replace(SMALL, sinks=True),
    "mask, sinks, cap, non-causal": replace(SMALL, custom_mask=True, sinks=True, logit_cap=30.0, causal=False),
    "split 576, values 512": AttentionShape(num_q_heads=16, num_kv_heads=1, head_dim=576, v_head_dim=512),
    "split 192, values 128": AttentionShape(num_q_heads=4, num_kv_heads=4, head_dim=192, v_head_dim=128),
}
LENGTHS = {"ragged": ((5, 0, 7), (3, 4, 2)), "nothing cached": ((0,), (3,))}


def launch_of(shape, tile, ingredients, device="cpu"):
    problem = make_problem(shape, device=device)
    return prepare_launch(
        **problem.tensors(),
        o=problem.new_output(),
        **problem.options(),
        tile=tile,
        ingredients=ingredients,
        kernel=extend_attention_kernel,
    )


def specialised_by_triton(launch):
    """(signature, constants, names divisible by 16, num_warps, num_stages), by the code a launch goes
    through."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    kernel = launch.kernel
    backend = make_backend(GPUTarget("cuda", 90, 32))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    keywords = {**launch.arguments, **launch.options}
    bound, specialization, extra = bind(**keywords)
    options, signature, constants, attributes = kernel._pack_args(backend, extra, bound, specialization, None)
    names = [parameter.name for parameter in kernel.params]
    assert all(value in ([], [["tt.divisibility", 16]]) for value in attributes.values())
    return (
        signature,
        {names[path[0]]: value for path, value in constants.items()},
        {names[path[0]] for path, value in attributes.items() if value},
        options.num_warps,
        options.num_stages,
    )


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("ingredients", [INCIDENT, LEAN], ids=["incident", "lean"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_spec_equals_tritons_own_specialisation(shape, ingredients, lengths):
    tile = choose_tile(90, shape.head_dim)
    launch = launch_of(shape.with_lengths(*lengths), tile, ingredients)
    signature, constants, divisible, num_warps, num_stages = specialised_by_triton(launch)
    spec = build_spec(shape, tile, ingredients)
    assert list(signature.items()) == list(spec.signature)
    ours = dict(spec.constexprs)
    assert constants == ours
    # 0 == False and 1 == True in Python, but not in generated code.
    assert {k: type(v) for k, v in constants.items()} == {k: type(v) for k, v in ours.items()}
    assert divisible == set(spec.divisible_by_16)
    assert (num_warps, num_stages) == (spec.option["num_warps"], spec.option["num_stages"])


def test_the_comparison_can_fail():
    """A misaligned view is specialised otherwise, so the equality above is not true of everything."""
    problem = make_problem(SMALL.with_lengths(5, 3))
    shifted = torch.zeros(problem.q.numel() + 1, dtype=problem.q.dtype)[1:].view_as(problem.q)
    launch = launch_of(SMALL.with_lengths(5, 3), TileConfig(64, 64), INCIDENT)
    launch.arguments["q_ptr"] = shifted
    _, _, divisible, _, _ = specialised_by_triton(launch)
    assert set(build_spec(SMALL, TileConfig(64, 64)).divisible_by_16) - divisible == {"q_ptr"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["incident: Gemma 4 sliding, fp8", "mask, sinks, cap, non-causal", "group 16"])
@pytest.mark.parametrize("ingredients", [INCIDENT, LEAN], ids=["incident", "lean"])
def test_ptx_of_a_launch_equals_the_ahead_of_time_compile(name, ingredients):
    from helpers.compiler.compile import compile_kernel
    from helpers.compiler.toolchain import Toolchain

    major, minor = torch.cuda.get_device_capability()
    shape = SHAPES[name]
    tile = TileConfig(64, 64) if shape.head_dim > 64 else TileConfig(64, 64, num_warps=4)
    compiled = launch_of(shape.with_lengths((5, 0, 7), (3, 4, 2)), tile, ingredients, device="cuda").run()
    torch.cuda.synchronize()
    suffix = "a" if major >= 9 else ""
    report = compile_kernel(
        build_spec(shape, tile, ingredients), f"sm_{major}{minor}{suffix}", Toolchain("environment")
    )
    assert report.status in ("ok", "spills"), report
    with open(report.ptx_path, encoding="utf-8") as file:
        assert compiled.asm["ptx"] == file.read()

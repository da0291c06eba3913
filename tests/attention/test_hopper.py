"""The Hopper kernel: what it takes and refuses, that it compiles for sm_90a, and, on a Hopper GPU, its answers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.attention import hopper
from helpers.attention.correctness.cases import hopper_cases
from helpers.attention.correctness.inputs import make_problem
from helpers.attention.correctness.numerics import run_cases
from helpers.attention.hopper import HEAD_DIMS, TILES, build_hopper_spec, prepare_hopper, why_not
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, LLAMA_LIKE, AttentionShape
from helpers.compiler.compile import compile_kernel
from helpers.compiler.disassemble import disassemble, nvdisasm_programs
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.hardware import get_arch
from kernels.hopper_attention import hopper_attention_kernel
from kernels.hopper_attention_wide import hopper_attention_wide_kernel

TRITON_TYPES = {torch.bfloat16: "bf16", torch.int32: "i32", torch.int64: "i64", torch.float32: "fp32"}


def shape_of(head_dim: int, **more) -> AttentionShape:
    return AttentionShape(num_q_heads=8, num_kv_heads=2, head_dim=head_dim, v_head_dim=head_dim, **more)


def launch_of(shape, tile=None, **more):
    """The launch on the CPU's tensors, with the kernel that would run."""
    problem = make_problem(shape)
    kernel = hopper_attention_wide_kernel if shape.head_dim == 512 else hopper_attention_kernel
    options = {**problem.options(), **more}
    return prepare_hopper(**problem.tensors(), o=problem.new_output(), **options, tile=tile, kernel=kernel)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (shape_of(80), "head dims 80/80"),
        (replace(shape_of(128), v_head_dim=64), "head dims 128/64"),
        (shape_of(128, custom_mask=True), "custom mask"),
    ],
)
def test_what_it_does_not_take_is_said_and_the_lean_kernel_named(shape, words):
    assert words in why_not(shape)
    problem = make_problem(shape.with_lengths((8,), (8,)))
    with pytest.raises(UserError, match="the lean kernel does"):
        prepare_hopper(**problem.tensors(), o=problem.new_output(), **problem.options(), kernel=object())
    with pytest.raises(UserError, match="the lean kernel does"):
        build_hopper_spec(shape)


@pytest.mark.parametrize(
    ("dtype", "scales", "words"),
    [
        ("bf16", {"v_scale": -1.0}, "positive v_scale"),
        ("bf16", {"k_scale": 0.0}, "positive k_scale"),
        ("fp16", {"v_scale": 1e-6}, "fp16"),
    ],
)
def test_scales_that_do_not_fit_the_softmax_are_refused(dtype, scales, words):
    shape = shape_of(128, q_dtype=dtype, kv_dtype=dtype).with_lengths((8,), (8,))
    with pytest.raises(UserError, match=words):
        launch_of(shape, **scales)
    assert launch_of(shape, v_scale=1e-3)


def test_only_hopper_runs_it():
    assert why_not(shape_of(128), capability=(9, 0)) == ""
    assert "10.0" in why_not(shape_of(128), capability=(10, 0)) and "12.0" in why_not(shape_of(128), capability=(12, 0))


@pytest.mark.parametrize(("head_dim", "v_head_dim"), HEAD_DIMS)
@pytest.mark.parametrize("more", [{}, {"kv_dtype": "fp8_e4m3", "model_window": 64, "sinks": True, "logit_cap": 30.0}])
def test_the_spec_is_the_launch(head_dim, v_head_dim, more):
    shape = replace(shape_of(head_dim), v_head_dim=v_head_dim, **more)
    launch, spec = launch_of(shape.with_lengths((400, 0), (33, 5))), build_hopper_spec(shape)
    names = [name for name, _ in spec.signature]
    assert names == launch.kernel.arg_names == list(launch.arguments)
    for name, value in spec.constexprs:
        assert launch.arguments[name] == value and type(launch.arguments[name]) is type(value), name
    kinds = dict(spec.signature)
    for name, value in launch.arguments.items():
        if isinstance(value, torch.Tensor):
            assert kinds[name] == f"*{TRITON_TYPES[value.dtype]}" and name in spec.divisible_by_16, name
        elif kinds[name] == "i32":
            # Numbers of the batch are never specialised; strides are, by what they are divisible by.
            assert (name in spec.divisible_by_16) == (name.startswith("stride_") and value % 16 == 0), name
    assert dict(spec.options) == launch.options


def test_one_program_an_sm_and_no_more_than_there_is_work():
    tile = TILES[128].fitted(4)
    small = launch_of(shape_of(128).with_lengths((40, 0), (33, 5)))
    blocks, groups = -(-33 // (tile.block_m // tile.group_pack)), 8 // tile.group_pack
    assert small.grid == (blocks * groups * 2, 1, 1)
    assert (small.arguments["num_blocks"], small.arguments["head_groups"]) == (blocks, groups)
    assert launch_of(shape_of(128).with_lengths((0,), (4096,))).grid == (132, 1, 1)
    assert launch_of(shape_of(128).with_lengths((8,), (0,))).grid == (0, 1, 1)
    assert tile.section_for(1) == tile.section and tile.section_for(2) < tile.section
    assert replace(tile, group_pack=4).fitted(6).group_pack == 2


def test_a_cache_in_another_dtype_is_gathered_first_and_only_what_a_window_reaches():
    whole = launch_of(shape_of(128, kv_dtype="fp8_e4m3").with_lengths((3000, 500), (33, 5)))
    near = launch_of(shape_of(128, kv_dtype="fp8_e4m3", model_window=64).with_lengths((3000, 500), (33, 5)))
    assert launch_of(shape_of(128).with_lengths((3000,), (33,))).before is None
    for launch, rows in ((whole, 3500), (near, 2 * (63 + TILES[128].block_n))):
        made = launch.arguments["k_buffer_ptr"]
        assert made.shape == (rows, 2, 128) and made.dtype == torch.bfloat16
        assert launch.before.arguments["rows_ptr"] is launch.arguments["kv_indices"]
        assert launch.workspace_bytes == 2 * made.numel() * 2 + 3500 * 8
    assert near.workspace_bytes < whole.workspace_bytes


def test_places_too_large_for_32_bits_are_found_by_64():
    assert not launch_of(shape_of(128).with_lengths((40,), (33,))).arguments["WIDE_OFFSETS"]
    far = torch.empty((2**23 + 1, 2, 128), dtype=torch.bfloat16, device="meta")
    assert hopper._beyond_32_bits({"k_buffer_ptr": far[:8], "v_buffer_ptr": far})
    assert not hopper._beyond_32_bits({"k_buffer_ptr": far[:8], "v_buffer_ptr": far[:100]})


def test_the_cases_meet_every_option():
    shapes = [case.shape for case in hopper_cases()]
    assert len(shapes) >= 24 and not any(why_not(shape) for shape in shapes)
    assert {(s.head_dim, s.v_head_dim) for s in shapes} == set(HEAD_DIMS)
    assert {s.kv_dtype for s in shapes} == {"bf16", "fp16", "fp8_e4m3", "fp8_e5m2"}
    for name in ("causal", "sinks"):
        assert {getattr(s, name) for s in shapes} == {True, False}
    assert {s.q_dtype for s in shapes} == {"bf16", "fp16"} and len({s.model_window for s in shapes}) >= 3
    assert {bool(s.logit_cap) for s in shapes} == {True, False}


def innermost_loops(disassembly: str, opcode: str) -> list[list[str]]:
    """The instructions of every loop that holds `opcode` and no smaller such loop: from a jump's target to the jump."""
    lines, at, loops = [], {}, []
    for line in disassembly.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            at[label[1]] = len(lines)
        elif found := re.match(r"\s*/\*[0-9a-f]+\*/\s+([^;]+);", line):
            lines.append(found[1])
            jump = re.search(r"BRA.*`\((\.L_x_\d+)\)", found[1])
            if jump and jump[1] in at:
                loops.append((at[jump[1]], len(lines)))
    holding = [(start, stop) for start, stop in loops if any(opcode in x for x in lines[start:stop])]
    smallest = [x for x in holding if not any(y != x and x[0] <= y[0] and y[1] <= x[1] for y in holding)]
    return [lines[start:stop] for start, stop in smallest]


def test_innermost_loops_are_told_from_what_lies_around_them():
    text = """.L_x_1:
        /*0000*/ LDL R1, [R1] ;
.L_x_2:
        /*0010*/ HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0020*/ @P0 BRA `(.L_x_2) ;
        /*0030*/ STL [R1], R2 ;
        /*0040*/ @P1 BRA `(.L_x_1) ;
    """
    assert [len(loop) for loop in innermost_loops(text, "HGMMA")] == [2]
    assert [len(loop) for loop in innermost_loops(text, "STL")] == [5] and not innermost_loops(text, "MUFU")


@pytest.mark.slow
@pytest.mark.parametrize("release", ["environment", "3.6.0"])
@pytest.mark.parametrize("head_dim", TILES)
def test_the_computing_loops_spill_nothing(head_dim, release):
    shape = replace(shape_of(head_dim), v_head_dim=128 if head_dim == 192 else head_dim)
    report = compile_kernel(build_hopper_spec(shape), "sm_90a", Toolchain(release))
    if report.status == "toolchain_missing":
        pytest.skip(report.message)
    assert report.compiled, report.message
    assert report.tensor_core_path == "wgmma" and report.instructions["cp_async"] > 0
    assert report.smem_bytes <= get_arch("sm_90a").smem_per_block_max_bytes
    log = Path(report.log_path).read_text() if report.log_path else ""
    # ptxas would do the tensor cores' work one after the other, or not give the groups their registers.
    assert not re.findall("C7508|C7510|C7512|C7513", log), log
    done = disassemble(Path(report.cubin_path).read_bytes(), nvdisasm_programs(report.ptxas_version))
    if done.problem:
        pytest.skip(done.problem)
    loops = innermost_loops(done.lines, "HGMMA")
    # A wait that ptxas moved behind the kernel's end jumps back, too, over fewer products than a block has.
    products = [sum("HGMMA" in line for line in loop) for loop in loops]
    blocks = [loop for loop, number in zip(loops, products, strict=True) if number == max(products)]
    # One with masks and one without, in each computing group.
    assert len(blocks) >= 2
    assert not [line for loop in blocks for line in loop if re.search(r"\b(LDL|STL)", line)]


@pytest.mark.gpu
def test_every_pair_of_what_it_takes_on_a_hopper_gpu():
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("written for compute capability 9.0")
    # Slots that nobody owns hold NaN: a row read from one would show.
    rows = run_cases(hopper_cases(), "cuda")
    wrong = [(r.status, r.head_dim, r.tile, r.variant, r.message) for r in rows if not r.ok]
    assert len(rows) >= 12 and not wrong, wrong


@pytest.mark.gpu
@pytest.mark.parametrize("layer", [GEMMA4_31B_GLOBAL, LLAMA_LIKE], ids=lambda s: f"hd{s.head_dim}")
def test_it_gives_the_lean_kernels_answers_on_a_hopper_gpu(layer):
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


@pytest.mark.gpu
def test_it_counts_its_items_anew_in_every_launch_on_a_hopper_gpu():
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("written for compute capability 9.0")
    problem = make_problem(
        replace(LLAMA_LIKE, model_window=200).with_lengths((1500, 0, 37), (900, 70, 1)), device="cuda"
    )
    outputs = [problem.new_output() for _ in range(2)]
    launches = [prepare_hopper(**problem.tensors(), o=o, **problem.options()) for o in outputs]
    launches[0].run()
    for _ in range(20):
        launches[1].run()
    assert torch.equal(*outputs)


@pytest.mark.gpu
def test_it_finds_rows_beyond_32_bits_on_a_hopper_gpu():
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("written for compute capability 9.0")
    near = make_problem(LLAMA_LIKE.with_lengths((300,), (64,)), device="cuda")
    rows = 2**31 // (8 * 128) + 1000
    if torch.cuda.mem_get_info()[0] < 4 * rows * 8 * 128 + 2**31:
        pytest.skip("needs 11 GB of free GPU memory")
    outputs = [near.new_output(), near.new_output()]
    prepare_hopper(**near.tensors(), o=outputs[0], **near.options()).run()
    far = {}
    for name in ("k_buffer", "v_buffer"):
        whole = torch.empty((rows, 8, 128), dtype=torch.bfloat16, device="cuda")
        whole[-near.k_buffer.shape[0] :] = getattr(near, name)
        far[name] = whole
    moved = replace(near, **far, kv_indices=near.kv_indices + rows - near.k_buffer.shape[0])
    launch = prepare_hopper(**moved.tensors(), o=outputs[1], **moved.options())
    assert launch.arguments["WIDE_OFFSETS"]
    launch.run()
    assert torch.equal(*outputs)

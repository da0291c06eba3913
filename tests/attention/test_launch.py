import re
from dataclasses import replace

import pytest
import torch

from helpers.attention.correctness.inputs import fence_intact, make_problem
from helpers.attention.correctness.numerics import errors_against, judge, launchable_device, run_kernel, tolerance
from helpers.attention.correctness.reference import attention_float64
from helpers.attention.launch import extend_attention_fwd, prepare_launch
from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import INCIDENT, LEAN
from helpers.attention.tiles import TileConfig
from helpers.errors import UserError

BASE = AttentionShape(num_q_heads=4, num_kv_heads=2, head_dim=16, v_head_dim=32)
TILE = TileConfig(16, 16, num_warps=4)


def prepare(problem, **changes):
    """A launch that is prepared and not run; positional tensors and options alike can be replaced."""
    arguments = {
        **problem.tensors(),
        "o": problem.new_output(),
        **problem.options(),
        "tile": TILE,
        "kernel": object(),
    }
    return prepare_launch(**{**arguments, **changes})


# --- what is refused ----------------------------------------------------------------------------------------

PROBLEM = make_problem(replace(BASE, custom_mask=True, sinks=True, model_window=9).with_lengths((5, 0, 7), (3, 4, 2)))
NARROW = PROBLEM.q[:, :, :8]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"q": None}, "q must be a torch tensor, got NoneType"),
        ({"k": PROBLEM.k.to("meta")}, "k is on meta, but q is on cpu"),
        ({"q": PROBLEM.q[0]}, "q must have 3 dimensions"),
        ({"q": PROBLEM.q.float()}, "q must be bfloat16 or float16, got [9, 4, 16] float32"),
        ({"o": PROBLEM.new_output().half()}, "o must have q's dtype torch.bfloat16, got [9, 4, 32] float16"),
        ({"o": PROBLEM.new_output()[:8]}, "o has shape [8, 4, 32], expected [9, 4, 32]"),
        ({"k": PROBLEM.k[:, :, :8]}, "k has shape [9, 2, 8], expected [9, 2, 16]"),
        ({"v": PROBLEM.v[:, :1]}, "v has shape [9, 1, 32], expected [9, 2, 32]"),
        (
            {"k": PROBLEM.k.transpose(0, 2).contiguous().transpose(0, 2)},
            "k must be contiguous along its last dimension",
        ),
        ({"k_buffer": PROBLEM.k_buffer[:, :1]}, "k_buffer has shape [20, 1, 16], expected [20, 2, 16]"),
        ({"v_buffer": PROBLEM.v_buffer[:9]}, "v_buffer has shape [9, 2, 32], expected [20, 2, 32]"),
        ({"k_buffer": PROBLEM.k_buffer.to(torch.uint8)}, "need .view(torch.float8_e4m3fn)"),
        ({"v_buffer": PROBLEM.v_buffer.half()}, "v_buffer must have k_buffer's dtype torch.bfloat16"),
        (
            {"qo_indptr": PROBLEM.qo_indptr.long()},
            "qo_indptr must be a contiguous vector of int32, got [4] int64",
        ),
        ({"qo_indptr": PROBLEM.qo_indptr[:0]}, "qo_indptr is empty"),
        ({"kv_indptr": PROBLEM.kv_indptr[:3]}, "kv_indptr has 3 entries, expected 4"),
        ({"kv_indices": PROBLEM.kv_indices.int()}, "kv_indices must be a contiguous vector of int64"),
        ({"kv_indices": torch.arange(24)[::2]}, "with strides (2,)"),
        ({"qo_indptr": torch.tensor([0, 3, 7, 8], dtype=torch.int32)}, "qo_indptr ends with 8, expected 9"),
        ({"qo_indptr": torch.tensor([1, 3, 7, 9], dtype=torch.int32)}, "qo_indptr must start with 0"),
        ({"qo_indptr": torch.tensor([0, 7, 3, 9], dtype=torch.int32)}, "qo_indptr[1:3] is 7, 3"),
        (
            {"kv_indptr": torch.tensor([0, 5, 5, 13], dtype=torch.int32)},
            "kv_indptr ends with 13, expected at most 12",
        ),
        ({"kv_indices": torch.full((12,), 20)}, "kv_indices holds slot 20, but k_buffer has slots 0 to 19"),
        ({"kv_indices": torch.full((12,), -1)}, "kv_indices holds slot -1"),
        ({"mask": None}, "mask and mask_indptr go together: mask is missing"),
        ({"mask": PROBLEM.mask.bool()}, "mask must be a contiguous vector of uint8"),
        ({"mask": PROBLEM.mask[:-1]}, "sequence 2 starts at mask_indptr[2] = 40 and needs 2 rows of 9"),
        ({"sinks": PROBLEM.sinks[:3]}, "sinks has 3 entries, expected 4"),
        ({"sinks": PROBLEM.sinks.double()}, "sinks must be a contiguous vector of float32"),
        ({"sinks": torch.full((4,), -torch.inf)}, "sinks must be finite"),
        ({"max_extend_len": 3}, "max_extend_len is 3, but qo_indptr holds a sequence of 4"),
        ({"window_left": 8}, "give model_window (9) or window_left (8), not both"),
        ({"k_scale": float("nan")}, "k_scale must be a finite number, got nan"),
        ({"v_scale": torch.ones(1)}, "v_scale must be a finite number"),
        ({"model_window": 0}, "window 0 must be at least 1"),
        ({"tile": "128by64"}, "cannot read tile '128by64'"),
        (
            {"q": NARROW, "k": PROBLEM.k[:, :, :8], "k_buffer": PROBLEM.k_buffer[:, :, :8]},
            "head_dim 8 is not one",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else " ".join(x),
)
def test_bad_arguments_are_named(changes, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        prepare(PROBLEM, **changes)


def test_offsets_past_32_bits_are_refused_before_they_wrap():
    problem = make_problem(BASE.with_lengths(0, 3)).to("meta")
    huge = torch.empty_strided((3, 4, 16), (2**30, 16, 1), dtype=torch.bfloat16, device="meta")
    with pytest.raises(UserError, match=r"q spans 3221225472 elements, more than .* split the batch"):
        prepare(problem, q=huge)


def test_head_counts_must_divide():
    problem = make_problem(BASE.with_lengths(2, 3))
    with pytest.raises(UserError, match="4 query heads cannot share 3 KV heads"):
        three = {name: getattr(problem, name)[:, :1].expand(-1, 3, -1) for name in ("k", "v", "k_buffer", "v_buffer")}
        prepare(problem, **three)


def test_check_false_does_not_read_the_indices():
    problem = make_problem(BASE.with_lengths(5, 3))
    prepare(problem, kv_indices=torch.full((5,), 999), check=False)
    with pytest.raises(UserError, match="slot 999"):
        prepare(problem, kv_indices=torch.full((5,), 999))


def test_cpu_tensors_in_a_compiling_process_get_a_sentence():
    with pytest.raises(UserError, match="interpreter process"):
        prepare(PROBLEM, kernel=None)


# --- what is passed on
# ----------------------------------------------------------------------------------------


def test_window_left_and_model_window_are_one_apart():
    plain = make_problem(BASE.with_lengths(5, 3))
    assert prepare(plain, model_window=1024).arguments["WINDOW_LEFT"] == 1023
    assert prepare(plain, window_left=1023).arguments["WINDOW_LEFT"] == 1023
    assert prepare(plain, window_left=-1).arguments["WINDOW_LEFT"] == -1
    assert prepare(plain).arguments["WINDOW_LEFT"] == -1


def test_defaults_grid_and_tables():
    launch = prepare(make_problem(BASE.with_lengths((5, 2), (3, 40))), sm_scale=None, max_extend_len=None)
    assert launch.arguments["sm_scale"] == 0.25
    assert launch.grid == (2, 4, 3)
    assert launch.options == {"num_warps": 4, "num_stages": 1}
    assert prepare(PROBLEM, tile="sm100").tile == TileConfig(64, 64, num_warps=4)
    assert prepare(PROBLEM, tile=None).tile == TileConfig(128, 64, num_warps=4)
    assert prepare(PROBLEM, ingredients=LEAN).arguments["ACCUMULATE"] == "fused"


# --- right answers at the edges
# -------------------------------------------------------------------------------

EDGES = {
    "no sequences": ((), ()),
    "no new tokens": ((4, 2), (0, 0)),
    "no prefix": ((0,), (19,)),
    "nothing cached in the batch": ((0, 0), (3, 5)),
    "one token": ((0,), (1,)),
    "one token over a prefix": ((33,), (1,)),
    "zero lengths between": ((7, 0, 0, 3), (0, 5, 0, 2)),
    "exactly one tile": ((16,), (16,)),
    "one past a tile": ((17,), (17,)),
}


def edge_status(shape, tile, ingredients):
    """The verdict on one launch in this process: its status by numerics.judge."""
    if not shape.extend_len:
        problem = make_problem(shape.with_lengths(1, 0))
        problem = replace(problem, qo_indptr=problem.qo_indptr[:1], kv_indptr=problem.kv_indptr[:1])
        output = problem.new_output()
        extend_attention_fwd(**problem.tensors(), o=output, tile=tile)
        return "ok" if output.numel() == 0 else "wrote"
    problem = make_problem(shape, device=launchable_device())
    output = run_kernel(problem, tile=tile, ingredients=ingredients)
    answer = attention_float64(problem)
    return judge(errors_against(output, answer), tolerance(problem, answer, ingredients), fenced=fence_intact(output))


@pytest.mark.parametrize("lengths", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("ingredients", [INCIDENT, LEAN], ids=["incident", "lean"])
def test_degenerate_batches(interpreter, lengths, ingredients):
    shape = replace(BASE, kv_dtype="fp8_e4m3", model_window=12, prefix_len=lengths[0], extend_len=lengths[1])
    for tile in (TILE, TileConfig(128, 64)):
        assert interpreter.call(edge_status, shape, tile, ingredients) == "ok"


def views_equal_copies(shape):
    """Whether q, k, v that are slices of one fused tensor give the bits of contiguous ones."""
    problem = make_problem(shape)
    fused = torch.cat([problem.q, problem.k, problem.v], dim=1)
    views = dict(zip("qkv", fused.split([4, 2, 2], dim=1), strict=True))
    outputs = []
    for tensors in ({}, views):
        output = problem.new_output()
        extend_attention_fwd(**{**problem.tensors(), **tensors}, o=output, **problem.options(), tile=TILE)
        outputs.append(output)
    return bool(torch.equal(*outputs)), not views["k"].is_contiguous()


def test_slices_of_a_fused_tensor_are_taken_as_they_are(interpreter):
    shape = replace(BASE, v_head_dim=16).with_lengths((9, 3), (5, 18))
    assert interpreter.call(views_equal_copies, shape) == (True, True)

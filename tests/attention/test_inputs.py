import math

import pytest
import torch

from helpers.attention.correctness.inputs import GUARD_ROWS, fence_intact, make_problem
from helpers.attention.shapes import AttentionShape
from helpers.errors import UserError

SHAPE = AttentionShape(
    num_q_heads=4,
    num_kv_heads=2,
    head_dim=16,
    v_head_dim=32,
    kv_dtype="fp8_e4m3",
    custom_mask=True,
    sinks=True,
).with_lengths((5, 0, 7), (3, 4, 0))


def test_same_seed_same_numbers_and_another_seed_others():
    first, same, other = make_problem(SHAPE, seed=3), make_problem(SHAPE, seed=3), make_problem(SHAPE, seed=4)
    for name in ("q", "kv_indices", "mask", "sinks"):
        assert torch.equal(getattr(first, name), getattr(same, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert first.k_scale == same.k_scale


def test_offsets_fit_the_lengths():
    problem = make_problem(SHAPE)
    assert problem.qo_indptr.tolist() == [0, 3, 7, 7]
    assert problem.kv_indptr.tolist() == [0, 5, 5, 12]
    assert problem.mask_indptr.tolist() == [0, 3 * 8, 3 * 8 + 4 * 4, 3 * 8 + 4 * 4]
    assert problem.mask.numel() == int(problem.mask_indptr[-1])


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp16", "fp8_e4m3", "fp8_e5m2"])
def test_used_slots_hold_numbers_and_all_others_nan(kv_dtype):
    problem = make_problem(
        AttentionShape(num_q_heads=1, num_kv_heads=1, head_dim=16, kv_dtype=kv_dtype).with_lengths(9, 1)
    )
    is_nan = problem.k_buffer.float().isnan()
    used = torch.zeros(problem.k_buffer.shape[0], dtype=torch.bool)
    used[problem.kv_indices] = True
    assert not is_nan[used].any()
    assert is_nan[~used].all()
    assert (~used).sum() >= 8
    assert problem.kv_indices.tolist() != sorted(problem.kv_indices.tolist()), "slots must be scattered"


def test_new_tokens_lie_between_rows_of_nan():
    problem = make_problem(SHAPE)
    row = problem.k.stride(0)
    whole = problem.k.as_strided((problem.k.shape[0] + 2 * GUARD_ROWS, row), (row, 1), 0)
    assert whole[:GUARD_ROWS].isnan().all() and whole[-GUARD_ROWS:].isnan().all()
    assert not problem.k.isnan().any()
    assert problem.k.data_ptr() % 16 == 0


def test_scales_of_an_fp8_cache_use_its_range_and_are_never_one():
    problem = make_problem(SHAPE)
    largest = problem.k_buffer.float().nan_to_num().abs().max()
    assert largest == torch.finfo(torch.float8_e4m3fn).max
    assert problem.k_scale != 1 and problem.v_scale != 1
    half = make_problem(AttentionShape(num_q_heads=1, num_kv_heads=1, head_dim=16).with_lengths(4, 4))
    assert half.k_scale != 1 and half.v_scale != 1


def test_exact_cache_is_what_was_rounded():
    problem = make_problem(SHAPE, keep_exact=True)
    stored = problem.k_buffer.double()[problem.kv_indices] * problem.k_scale
    exact = problem.k_exact.double()[problem.kv_indices]
    difference = (stored - exact).abs()
    assert difference.max() > 0
    # e4m3 has 3 mantissa bits: half an ulp is 2**-4 of the value, or half the smallest subnormal, 2**-10.
    assert bool((difference <= exact.abs() * 2**-4 + problem.k_scale * 2**-10).all())


def test_fence_notices_a_write_on_either_side():
    problem = make_problem(SHAPE)
    output = problem.new_output()
    assert output.isnan().all() and fence_intact(output)
    output.zero_()
    assert fence_intact(output)
    for row in (GUARD_ROWS - 1, GUARD_ROWS + output.shape[0]):
        damaged = problem.new_output()
        damaged.as_strided((1,), (1,), row * damaged.stride(0)).zero_()
        assert not fence_intact(damaged)


def test_one_sequence_alone_has_the_same_numbers():
    problem = make_problem(SHAPE)
    alone = problem.sequence(1)
    assert torch.equal(alone.q, problem.q[3:7])
    assert alone.qo_indptr.tolist() == [0, 4] and alone.kv_indptr.tolist() == [0, 0]
    assert torch.equal(alone.mask, problem.mask[24:40])
    with pytest.raises(UserError, match="sequence 3 of a problem with 3"):
        problem.sequence(3)


def test_bad_input_is_named():
    with pytest.raises(UserError, match="no sequences"):
        make_problem(AttentionShape(num_q_heads=1, num_kv_heads=1, head_dim=16))
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="v_scale"):
            make_problem(SHAPE, v_scale=bad)

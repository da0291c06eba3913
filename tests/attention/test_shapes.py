"""AttentionShape: what it refuses, and its arithmetic against counting pairs one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, AttentionShape, dtype_name
from helpers.errors import UserError


def shape(**fields):
    return AttentionShape(**{"num_q_heads": 4, "num_kv_heads": 2, "head_dim": 64, **fields})


def count_pairs(prefix, extend, window, causal):
    """Every (query, key) pair looked at, one by one."""
    seen = 0
    for q_pos in range(prefix, prefix + extend):
        for k_pos in range(prefix + extend):
            in_window = window is None or q_pos <= k_pos + window - 1
            seen += in_window and (k_pos <= q_pos or not causal)
    return seen


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3),
    window=st.none() | st.integers(1, 50),
    causal=st.booleans(),
)
def test_visible_pairs_and_flops_are_the_counted_ones(lengths, window, causal):
    prefix, extend = tuple(p for p, _ in lengths), tuple(e for _, e in lengths)
    problem = shape(model_window=window, causal=causal, prefix_len=prefix, extend_len=extend, v_head_dim=128)
    pairs = sum(count_pairs(p, e, window, causal) for p, e in lengths)
    assert problem.visible_pairs() == pairs
    assert problem.flops() == 2 * 4 * (64 + 128) * pairs


def test_gemma4_is_the_incident_s_model():
    sliding, full = GEMMA4_31B_SLIDING, GEMMA4_31B_GLOBAL
    assert (sliding.head_dim, sliding.model_window, sliding.window_left, sliding.kv_group_num) == (
        256,
        1024,
        1023,
        2,
    )
    assert (full.head_dim, full.window_left, full.kv_group_num) == (512, -1, 8)
    assert sliding.v_head_dim == 256


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("fp8", "fp8_e4m3"),
        ("torch.float8_e5m2", "fp8_e5m2"),
        ("BF16", "bf16"),
        ("half", "fp16"),
        ("fp8e4nv", "fp8_e4m3"),
    ],
)
def test_dtypes_have_the_names_people_paste(given, name):
    assert dtype_name(given) == name
    assert shape(kv_dtype=given).kv_dtype == name


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kv_dtype": "int4"}, "choose one of bf16, fp16, fp8_e4m3, fp8_e5m2"),
        ({"q_dtype": "fp8"}, "choose one of bf16, fp16"),
        ({"head_dim": 77}, "head_dim 77"),
        ({"head_dim": 0}, "head_dim 0"),
        ({"v_head_dim": 77}, "v_head_dim 77"),
        ({"num_kv_heads": 3}, "evenly"),
        ({"num_kv_heads": 0}, "evenly"),
        ({"num_q_heads": -4}, "evenly"),
        ({"model_window": 0}, "at least 1 token"),
        ({"model_window": -5}, "at least 1 token"),
        ({"logit_cap": -1.0}, "logit cap"),
        ({"logit_cap": float("nan")}, "logit cap"),
        ({"logit_cap": float("inf")}, "logit cap"),
        ({"prefix_len": (1,)}, "one of each per sequence"),
        ({"prefix_len": (-1,), "extend_len": (1,)}, "must not be negative"),
    ],
)
def test_what_cannot_be_is_refused(fields, said):
    with pytest.raises(UserError, match=said):
        shape(**fields)


def test_with_lengths_takes_one_sequence_or_many():
    assert shape().with_lengths(3, 4).extend_len == (4,)
    assert shape().with_lengths((1, 2), [3, 4]).visible_pairs() == sum(1 + i + 1 for i in range(3)) + sum(
        2 + i + 1 for i in range(4)
    )

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helpers.attention.correctness.inputs import make_problem
from helpers.attention.correctness.reference import attention_float64, attention_low_precision, visibility
from helpers.attention.shapes import AttentionShape
from helpers.errors import UserError

BASE = AttentionShape(num_q_heads=4, num_kv_heads=2, head_dim=32, v_head_dim=16)


def sdpa(problem, seq):
    """torch's own attention of one sequence in float64, and the mask it was given as data."""
    rows = slice(*problem.qo_indptr[seq : seq + 2].tolist())
    slots = problem.kv_indices[slice(*problem.kv_indptr[seq : seq + 2].tolist())]
    prefix, extend = problem.shape.prefix_len[seq], problem.shape.extend_len[seq]
    keys = torch.cat([problem.k_buffer[slots].double() * problem.k_scale, problem.k[rows].double()])
    values = torch.cat([problem.v_buffer[slots].double() * problem.v_scale, problem.v[rows].double()])
    may_see = torch.ones(extend, prefix + extend, dtype=torch.bool)
    if problem.shape.causal:
        may_see = may_see.tril(prefix)
    if problem.shape.model_window:
        may_see = may_see.triu(prefix - problem.shape.model_window + 1)
    if problem.mask is not None:
        own = problem.mask[slice(*problem.mask_indptr[seq : seq + 2].tolist())].view(extend, -1).bool().clone()
        if not problem.shape.mask_prefix:
            own[:, :prefix] = True
        may_see = may_see & own
    out = F.scaled_dot_product_attention(
        problem.q[rows].double().transpose(0, 1),
        keys.transpose(0, 1),
        values.transpose(0, 1),
        attn_mask=may_see,
        scale=problem.sm_scale,
        enable_gqa=True,
    )
    return out.transpose(0, 1).nan_to_num(), may_see


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model_window": 4},
        {"causal": False},
        {"causal": False, "model_window": 3},
        {"custom_mask": True},
        {"custom_mask": True, "mask_prefix": False, "model_window": 6},
        {"kv_dtype": "fp8_e4m3"},
        {"kv_dtype": "fp8_e5m2", "q_dtype": "fp16"},
    ],
    ids=str,
)
def test_equals_torch_sdpa(options):
    problem = make_problem(replace(BASE, **options).with_lengths((11, 0, 5), (7, 6, 1)))
    answer = attention_float64(problem)
    for seq, start, stop in ((0, 0, 7), (1, 7, 13), (2, 13, 14)):
        expected, may_see = sdpa(problem, seq)
        assert torch.equal(visibility(problem, seq), may_see)
        torch.testing.assert_close(answer[start:stop], expected, rtol=1e-12, atol=1e-12)


def test_a_sink_is_a_key_with_no_value():
    problem = make_problem(replace(BASE, sinks=True, v_head_dim=32).with_lengths(0, 6))
    answer = attention_float64(problem)
    for head in range(4):
        q, k, v = (
            problem.q[:, head].double(),
            problem.k[:, head // 2].double(),
            problem.v[:, head // 2].double(),
        )
        logits = (q @ k.T * problem.sm_scale).masked_fill(~torch.ones(6, 6, dtype=torch.bool).tril(), -torch.inf)
        with_sink = torch.cat([logits, problem.sinks[head].double().expand(6, 1)], dim=1).softmax(dim=1)
        torch.testing.assert_close(answer[:, head], with_sink[:, :6] @ v, rtol=1e-12, atol=1e-12)


def test_soft_cap_bounds_the_logits():
    shape = replace(BASE, num_q_heads=1, num_kv_heads=1, logit_cap=2.0).with_lengths(0, 5)
    problem = make_problem(shape)
    logits = 2.0 * torch.tanh(problem.q[:, 0].double() @ problem.k[:, 0].double().T * problem.sm_scale / 2.0)
    weights = logits.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf).softmax(dim=1)
    torch.testing.assert_close(
        attention_float64(problem)[:, 0], weights @ problem.v[:, 0].double(), rtol=1e-12, atol=1e-12
    )


def test_a_row_that_sees_nothing_is_zero():
    problem = make_problem(replace(BASE, custom_mask=True).with_lengths(4, 3))
    assert not problem.mask[:7].any()
    assert torch.equal(attention_float64(problem)[0], torch.zeros(4, 16, dtype=torch.float64))
    assert attention_float64(problem)[1:].abs().max() > 0


def test_no_sequence_no_prefix_no_new_tokens():
    assert attention_float64(make_problem(BASE.with_lengths((0, 4), (0, 0)))).shape == (0, 4, 16)


def test_low_precision_is_near_and_rounds_what_it_says():
    problem = make_problem(replace(BASE, kv_dtype="fp8_e4m3").with_lengths(64, 16))
    answer = attention_float64(problem)

    def error(**options):
        return float((attention_low_precision(problem, **options).double() - answer).norm() / answer.norm())

    both, q_alone, p_alone = error(), error(p_dtype="fp32"), error(q_dtype="fp32")
    neither, upcast = error(q_dtype="fp32", p_dtype="fp32"), error(kv_operands="upcast")
    assert both > max(q_alone, p_alone) > min(q_alone, p_alone) > 3 * upcast > upcast > neither > 0
    assert both == pytest.approx((q_alone**2 + p_alone**2) ** 0.5, rel=0.35)


def test_exact_cache_needs_to_be_kept():
    with pytest.raises(UserError, match="keep_exact"):
        attention_float64(make_problem(BASE.with_lengths(4, 4)), exact_cache=True)

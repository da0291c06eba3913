"""The softmax of one block of scores, for both Hopper kernels: masks, soft cap, row maxima and sums in base 2."""

from typing import NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

LOG2_E = gl.constexpr(1.4426950408889634)


class Scales(NamedTuple):
    """What the parts' scores and values are multiplied by.

    Scores times `*_qk` are exponents of 2 (with a soft cap: twice the argument of tanh, in base 2). The cache's value
    scale does not touch the accumulator: it goes into p, as 2 ** `prefix_log`, and is divided out of the row sums again
    (`prefix_inverse`). With fp16 operands p must stay in their range, so there both factors are at least 1 and `back`
    is what the output is multiplied by in the end.
    """

    prefix_qk: gl.tensor
    new_qk: gl.tensor
    prefix_log: gl.tensor
    prefix_inverse: gl.tensor
    new_log: gl.tensor
    new_inverse: gl.tensor
    back: gl.tensor


@gluon.jit
def scales_of(sm_scale, k_scale, v_scale, LOGIT_CAP: gl.constexpr, DTYPE: gl.constexpr):
    """The scales of a launch; all three numbers must be positive."""
    if LOGIT_CAP > 0:
        new_qk = sm_scale * (2 * LOG2_E / LOGIT_CAP)
    else:
        new_qk = sm_scale * LOG2_E
    if DTYPE == gl.float16:
        back = gl.minimum(v_scale, 1.0)
        return Scales(
            new_qk * k_scale, new_qk, gl.log2(v_scale / back), back / v_scale, gl.log2(1.0 / back), back, back
        )  # fmt: skip
    return Scales(new_qk * k_scale, new_qk, gl.log2(v_scale), 1.0 / v_scale, 0.0, 1.0, 1.0)


@gluon.jit
def visible(s, begin, key_len, pos, batch):
    """Of the scores s [rows, keys], which a row sees; `pos` is the row's own position among its part's keys."""
    LAYOUT: gl.constexpr = s.type.layout
    key = begin + gl.arange(0, s.shape[1], layout=gl.SliceLayout(0, LAYOUT))
    if batch.IS_CAUSAL:
        seen = key[None, :] < gl.minimum(pos + 1, key_len)[:, None]
    else:
        seen = (key < key_len)[None, :] & (pos[:, None] == pos[:, None])
    if batch.WINDOW_LEFT >= 0:
        seen = seen & (key[None, :] >= (pos - batch.WINDOW_LEFT)[:, None])
    return seen


@gluon.jit
def fold(x, LANES: gl.constexpr, MAX: gl.constexpr):
    """[rows, LANES] of [rows, columns]: maxima (sums) over the columns that one thread holds, as a tree.

    Of every 8 columns, a thread has two; LANES is 4, or 8 where two groups share a row. gl.max and gl.sum make a chain
    of dependent instructions a row of it.
    """
    ROWS: gl.constexpr = x.shape[0]
    GROUPS: gl.constexpr = LANES // 4
    a, b = gl.split(x.reshape([ROWS, GROUPS, x.shape[1] // GROUPS // 8, 4, 2]))
    x = gl.permute(gl.maximum(a, b) if MAX else a + b, (0, 1, 3, 2))
    LEVELS: gl.constexpr = 2 if x.shape[3] == 4 else 3 if x.shape[3] == 8 else 4
    for _level in gl.static_range(LEVELS):
        a, b = gl.split(x.reshape([ROWS, GROUPS, 4, x.shape[3] // 2, 2]))
        x = gl.maximum(a, b) if MAX else a + b
    return x.reshape([ROWS, LANES])


@gluon.jit
def softmax(s, row_sum, row_max, of_prefix, seen, scales, MASKED: gl.constexpr, LOGIT_CAP: gl.constexpr):
    """(p in fp32 times the value scale, the factor for what was accumulated so far, row sums, row maxima).

    `row_sum` is [rows, lanes], the partial sums of the lanes that share a row: added up at the end.
    """
    LANES: gl.constexpr = row_sum.shape[1]
    qk = gl.where(of_prefix, scales.prefix_qk, scales.new_qk)
    value_log = gl.where(of_prefix, scales.prefix_log, scales.new_log)
    value_inverse = gl.where(of_prefix, scales.prefix_inverse, scales.new_inverse)
    if LOGIT_CAP > 0:
        # cap * tanh(x) by exp2, which is exact to 1e-7; tanh.approx would be wrong by cap * 5e-4.
        CAP: gl.constexpr = LOGIT_CAP * LOG2_E
        s = CAP - (2 * CAP) / (1.0 + gl.exp2(s * qk))
        qk = 1.0
    if MASKED:
        s = gl.where(seen, s, float("-inf"))
    block_max = gl.convert_layout(gl.max(fold(s, LANES, True), 1), row_max.type.layout)
    new_max = gl.maximum(row_max, block_max * qk)
    safe_max = new_max
    if MASKED:
        safe_max = gl.where(new_max == float("-inf"), 0.0, new_max)
    rescale = gl.exp2(row_max - safe_max)
    p = gl.exp2(s * qk - (safe_max - value_log)[:, None])
    part = gl.convert_layout(fold(p, LANES, False), row_sum.type.layout)
    carried = row_sum * gl.convert_layout(rescale, gl.SliceLayout(1, row_sum.type.layout))[:, None]
    return p, rescale, carried + part * value_inverse, new_max


@gluon.jit
def last_factor(row_sum, row_max, sinks, heads, scales, HAS_SINKS: gl.constexpr):
    """What each row of the accumulator is multiplied by in the end; a sink is one more exponent in the row's sum."""
    total = gl.convert_layout(gl.sum(row_sum, 1), row_max.type.layout)
    factor = scales.back
    if HAS_SINKS:
        sink = gl.load(sinks + heads) * LOG2_E
        new_max = gl.maximum(row_max, sink)
        rescale = gl.exp2(row_max - new_max)
        total = total * rescale + gl.exp2(sink - new_max)
        factor = rescale * scales.back
    return factor / gl.where(total > 0, total, 1.0)

"""Ten Triton kernels of the usual kinds, which the liveness analysis never saw while it was made (peak_lines.py).

Device code and, per kernel, the specialisation a launch would compile: pointers and strides divisible by 16.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def matmul(a_ptr, b_ptr, c_ptr, M, N, K, stride_a, stride_b, stride_c, TILE_M: tl.constexpr, TILE_N: tl.constexpr,
           TILE_K: tl.constexpr):  # fmt: skip
    """C = A B in bf16, one tile a program."""
    rows = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    cols = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, TILE_K)
    total = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(0, K, TILE_K):
        left = K - start
        a = tl.load(a_ptr + rows[:, None] * stride_a + (start + inner)[None, :], mask=inner[None, :] < left, other=0.0)
        b = tl.load(b_ptr + (start + inner)[:, None] * stride_b + cols[None, :], mask=inner[:, None] < left, other=0.0)
        total = tl.dot(a, b, total)
    keep = (rows[:, None] < M) & (cols[None, :] < N)
    tl.store(c_ptr + rows[:, None] * stride_c + cols[None, :], total.to(tl.bfloat16), mask=keep)


@triton.jit
def matmul_int8_weights(
    x_ptr, w_ptr, scale_ptr, y_ptr, N, K, stride_x, stride_w, stride_y, TILE_M: tl.constexpr, TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
):  # fmt: skip
    """Y = X (W * scale) with int8 weights and a scale a column."""
    rows = tl.program_id(0) * TILE_M + tl.arange(0, TILE_M)
    cols = tl.program_id(1) * TILE_N + tl.arange(0, TILE_N)
    inner = tl.arange(0, TILE_K)
    total = tl.zeros((TILE_M, TILE_N), tl.float32)
    for start in range(0, K, TILE_K):
        x = tl.load(x_ptr + rows[:, None] * stride_x + (start + inner)[None, :])
        packed = tl.load(w_ptr + (start + inner)[:, None] * stride_w + cols[None, :])
        total += tl.dot(x, packed.to(tl.float16))
    scales = tl.load(scale_ptr + cols, mask=cols < N, other=1.0)
    answer = total * scales[None, :]
    gelu = 0.5 * answer * (1.0 + tl.erf(answer * 0.70710678))
    tl.store(y_ptr + rows[:, None] * stride_y + cols[None, :], gelu.to(tl.float16), mask=cols[None, :] < N)


@triton.jit
def softmax(x_ptr, y_ptr, stride, n_cols, WIDTH: tl.constexpr):
    """Softmax of a row that fits a program."""
    row = tl.program_id(0)
    at = tl.arange(0, WIDTH)
    x = tl.load(x_ptr + row * stride + at, mask=at < n_cols, other=float("-inf")).to(tl.float32)
    shifted = x - tl.max(x, axis=0)
    powers = tl.exp(shifted)
    total = tl.sum(powers, axis=0)
    tl.store(y_ptr + row * stride + at, powers / total, mask=at < n_cols)


@triton.jit
def layer_norm(x_ptr, w_ptr, b_ptr, y_ptr, stride, n_cols, eps, WIDTH: tl.constexpr):
    """Layer norm of a row, with weights and biases."""
    row = tl.program_id(0)
    at = tl.arange(0, WIDTH)
    keep = at < n_cols
    x = tl.load(x_ptr + row * stride + at, mask=keep, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / n_cols
    centred = tl.where(keep, x - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / n_cols
    scale = 1.0 / tl.sqrt(variance + eps)
    w = tl.load(w_ptr + at, mask=keep, other=1.0).to(tl.float32)
    b = tl.load(b_ptr + at, mask=keep, other=0.0).to(tl.float32)
    tl.store(y_ptr + row * stride + at, (centred * scale * w + b).to(tl.bfloat16), mask=keep)


@triton.jit
def layer_norm_backward(dy_ptr, x_ptr, w_ptr, mean_ptr, scale_ptr, dx_ptr, stride, n_cols, WIDTH: tl.constexpr):
    """The gradient of layer norm with respect to its input."""
    row = tl.program_id(0)
    at = tl.arange(0, WIDTH)
    keep = at < n_cols
    x = tl.load(x_ptr + row * stride + at, mask=keep, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + row * stride + at, mask=keep, other=0.0).to(tl.float32)
    w = tl.load(w_ptr + at, mask=keep, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr + row)
    normed = tl.where(keep, (x - tl.load(mean_ptr + row)) * scale, 0.0)
    weighted = tl.where(keep, w * dy, 0.0)
    along = tl.sum(normed * weighted, axis=0) / n_cols
    across = tl.sum(weighted, axis=0) / n_cols
    dx = (weighted - (normed * along + across)) * scale
    tl.store(dx_ptr + row * stride + at, dx.to(tl.bfloat16), mask=keep)


@triton.jit
def rotary(q_ptr, cos_ptr, sin_ptr, y_ptr, stride_token, stride_head, HEADS: tl.constexpr, HALF: tl.constexpr):
    """Rotary embedding of all heads of a token, halves rotated against each other."""
    token = tl.program_id(0)
    head = tl.arange(0, HEADS)
    at = tl.arange(0, HALF)
    cos = tl.load(cos_ptr + token * HALF + at)
    sin = tl.load(sin_ptr + token * HALF + at)
    place = token * stride_token + head[:, None] * stride_head + at[None, :]
    first = tl.load(q_ptr + place).to(tl.float32)
    second = tl.load(q_ptr + place + HALF).to(tl.float32)
    tl.store(y_ptr + place, (first * cos[None, :] - second * sin[None, :]).to(tl.bfloat16))
    tl.store(y_ptr + place + HALF, (second * cos[None, :] + first * sin[None, :]).to(tl.bfloat16))


@triton.jit
def cross_entropy(logits_ptr, target_ptr, loss_ptr, grad_ptr, stride, n_cols, WIDTH: tl.constexpr):
    """Loss and gradient of a row of logits, walked twice in pieces of WIDTH."""
    row = tl.program_id(0)
    base = logits_ptr + row * stride
    target = tl.load(target_ptr + row)
    highest = -float("inf")
    total = 0.0
    for start in range(0, n_cols, WIDTH):
        at = start + tl.arange(0, WIDTH)
        x = tl.load(base + at, mask=at < n_cols, other=-float("inf")).to(tl.float32)
        top = tl.maximum(highest, tl.max(x, axis=0))
        total = total * tl.exp(highest - top) + tl.sum(tl.exp(x - top), axis=0)
        highest = top
    tl.store(loss_ptr + row, tl.log(total) + highest - tl.load(base + target).to(tl.float32))
    for start in range(0, n_cols, WIDTH):
        at = start + tl.arange(0, WIDTH)
        x = tl.load(base + at, mask=at < n_cols, other=-float("inf")).to(tl.float32)
        share = tl.exp(x - highest) / total
        tl.store(grad_ptr + row * stride + at, tl.where(at == target, share - 1.0, share), mask=at < n_cols)


@triton.jit
def decode_attention(
    q_ptr, k_ptr, v_ptr, o_ptr, length, sm_scale, stride_kv, HEADS: tl.constexpr, DIM: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """One new token of HEADS grouped query heads over a dense cache."""
    head = tl.arange(0, HEADS)
    dim = tl.arange(0, DIM)
    q = tl.load(q_ptr + tl.program_id(0) * HEADS * DIM + head[:, None] * DIM + dim[None, :])
    acc = tl.zeros((HEADS, DIM), tl.float32)
    top = tl.full((HEADS,), -float("inf"), tl.float32)
    total = tl.zeros((HEADS,), tl.float32)
    for start in range(0, length, TILE):
        token = start + tl.arange(0, TILE)
        keep = token < length
        k = tl.load(k_ptr + token[None, :] * stride_kv + dim[:, None], mask=keep[None, :], other=0.0)
        scores = tl.where(keep[None, :], tl.dot(q, k) * sm_scale, -float("inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        rescale = tl.exp(top - new_top)
        p = tl.exp(scores - new_top[:, None])
        total = total * rescale + tl.sum(p, 1)
        v = tl.load(v_ptr + token[:, None] * stride_kv + dim[None, :], mask=keep[:, None], other=0.0)
        acc = acc * rescale[:, None] + tl.dot(p.to(tl.bfloat16), v)
        top = new_top
    answer = acc / total[:, None]
    tl.store(o_ptr + tl.program_id(0) * HEADS * DIM + head[:, None] * DIM + dim[None, :], answer.to(tl.bfloat16))


@triton.jit
def depthwise_conv(x_ptr, w_ptr, y_ptr, length, stride, TAPS: tl.constexpr, CHANNELS: tl.constexpr, TILE: tl.constexpr):
    """A causal convolution of TAPS taps along the tokens, a channel for itself, with SiLU."""
    token = tl.program_id(0) * TILE + tl.arange(0, TILE)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros((TILE, CHANNELS), tl.float32)
    for tap in tl.static_range(TAPS):
        at = token - (TAPS - 1) + tap
        x = tl.load(x_ptr + at[:, None] * stride + channel[None, :], mask=(at >= 0)[:, None], other=0.0)
        w = tl.load(w_ptr + tap * stride + channel)
        total += x.to(tl.float32) * w[None, :]
    silu = total / (1.0 + tl.exp(-total))
    tl.store(y_ptr + token[:, None] * stride + channel[None, :], silu.to(tl.bfloat16), mask=(token < length)[:, None])


@triton.jit
def linear_scan(gate_ptr, x_ptr, y_ptr, length, stride, CHANNELS: tl.constexpr, TILE: tl.constexpr):
    """A gated recurrence along the tokens, y = gate * y + x, by pieces, with each piece's running sum."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    state = tl.zeros((CHANNELS,), tl.float32)
    for start in range(0, length, TILE):
        token = start + tl.arange(0, TILE)
        place = token[:, None] * stride + channel[None, :]
        keep = (token < length)[:, None]
        gate = tl.load(gate_ptr + place, mask=keep, other=0.0).to(tl.float32)
        x = tl.load(x_ptr + place, mask=keep, other=0.0).to(tl.float32)
        decay = tl.cumsum(gate, axis=0)
        weighted = tl.cumsum(x * tl.exp(-decay), axis=0)
        y = tl.exp(decay) * (weighted + state[None, :])
        tl.store(y_ptr + place, y.to(tl.bfloat16), mask=keep)
        last = (tl.arange(0, TILE) == TILE - 1)[:, None]
        state = tl.sum(tl.where(last, y, 0.0), axis=0)


# kernel -> (parameter types in order, constexprs, num_warps); integers are divisible by 16 unless called so here.
SPECS: dict[str, tuple[dict[str, str], dict[str, int], int]] = {
    "matmul": (
        {"a_ptr": "*bf16", "b_ptr": "*bf16", "c_ptr": "*bf16", "M": "i32", "N": "i32", "K": "i32",
         "stride_a": "i32", "stride_b": "i32", "stride_c": "i32"},
        {"TILE_M": 128, "TILE_N": 64, "TILE_K": 64}, 4),
    "matmul_int8_weights": (
        {"x_ptr": "*fp16", "w_ptr": "*i8", "scale_ptr": "*fp32", "y_ptr": "*fp16", "N": "i32", "K": "i32",
         "stride_x": "i32", "stride_w": "i32", "stride_y": "i32"},
        {"TILE_M": 64, "TILE_N": 64, "TILE_K": 64}, 4),
    "softmax": ({"x_ptr": "*bf16", "y_ptr": "*fp32", "stride": "i32", "n_cols": "i32"}, {"WIDTH": 8192}, 8),
    "layer_norm": (
        {"x_ptr": "*bf16", "w_ptr": "*bf16", "b_ptr": "*bf16", "y_ptr": "*bf16", "stride": "i32", "n_cols": "i32",
         "eps": "fp32"},
        {"WIDTH": 8192}, 8),
    "layer_norm_backward": (
        {"dy_ptr": "*bf16", "x_ptr": "*bf16", "w_ptr": "*bf16", "mean_ptr": "*fp32", "scale_ptr": "*fp32",
         "dx_ptr": "*bf16", "stride": "i32", "n_cols": "i32"},
        {"WIDTH": 4096}, 4),
    "rotary": (
        {"q_ptr": "*bf16", "cos_ptr": "*fp32", "sin_ptr": "*fp32", "y_ptr": "*bf16", "stride_token": "i32",
         "stride_head": "i32"},
        {"HEADS": 32, "HALF": 64}, 4),
    "cross_entropy": (
        {"logits_ptr": "*bf16", "target_ptr": "*i64", "loss_ptr": "*fp32", "grad_ptr": "*fp32", "stride": "i32",
         "n_cols": "i32"},
        {"WIDTH": 4096}, 8),
    "decode_attention": (
        {"q_ptr": "*bf16", "k_ptr": "*bf16", "v_ptr": "*bf16", "o_ptr": "*bf16", "length": "i32", "sm_scale": "fp32",
         "stride_kv": "i32"},
        {"HEADS": 16, "DIM": 128, "TILE": 64}, 4),
    "depthwise_conv": (
        {"x_ptr": "*bf16", "w_ptr": "*fp32", "y_ptr": "*bf16", "length": "i32", "stride": "i32"},
        {"TAPS": 4, "CHANNELS": 64, "TILE": 64}, 4),
    "linear_scan": (
        {"gate_ptr": "*fp32", "x_ptr": "*bf16", "y_ptr": "*bf16", "length": "i32", "stride": "i32"},
        {"CHANNELS": 32, "TILE": 64}, 4),
}  # fmt: skip
NOT_DIVISIBLE = ("length", "n_cols", "M", "N", "K")

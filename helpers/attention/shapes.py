"""Attention problems: heads, head dimensions, dtypes, options, lengths; visible pairs and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from helpers.errors import UserError

KV_DTYPES = ("bf16", "fp16", "fp8_e4m3", "fp8_e5m2")
Q_DTYPES = ("bf16", "fp16")
# The head dimensions engines serve; 576, 288 and 192 are a main part plus a rotary part (see tiles.head_dim_blocks).
HEAD_DIMS = (16, 32, 64, 80, 96, 128, 192, 256, 288, 512, 576)
# Spellings people paste from engine command lines.
_DTYPE_ALIASES = {
    "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "fp8": "fp8_e4m3", "float8_e4m3fn": "fp8_e4m3",
    "fp8e4nv": "fp8_e4m3", "e4m3": "fp8_e4m3", "float8_e5m2": "fp8_e5m2", "fp8e5": "fp8_e5m2", "e5m2": "fp8_e5m2",
}  # fmt: skip


def dtype_name(name: str, allowed: tuple[str, ...] = KV_DTYPES) -> str:
    """The house's name of a dtype (`fp8` is `fp8_e4m3`); raises UserError listing what is possible."""
    text = str(name).strip().lower().removeprefix("torch.")
    text = _DTYPE_ALIASES.get(text, text)
    if text not in allowed:
        raise UserError(f"unknown dtype {name!r}: choose one of {', '.join(allowed)}")
    return text


@dataclass(frozen=True, kw_only=True)
class AttentionShape:
    """One attention layer as the extend kernel sees it.

    `model_window` is the model's sliding window in tokens (Gemma 4: 1024; None: no window); the kernel gets
    `window_left` = one less, because a query also sees itself. Lengths are per sequence and only matter to
    launches and FLOP counts, never to what is compiled.
    """

    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int | None = None
    q_dtype: str = "bf16"
    kv_dtype: str = "bf16"
    model_window: int | None = None
    causal: bool = True
    logit_cap: float = 0.0
    custom_mask: bool = False
    mask_prefix: bool = True
    sinks: bool = False
    prefix_len: tuple[int, ...] = ()
    extend_len: tuple[int, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "q_dtype", dtype_name(self.q_dtype, Q_DTYPES))
        object.__setattr__(self, "kv_dtype", dtype_name(self.kv_dtype))
        if self.v_head_dim is None:
            object.__setattr__(self, "v_head_dim", self.head_dim)
        for what in ("head_dim", "v_head_dim"):
            if getattr(self, what) not in HEAD_DIMS:
                known = ", ".join(map(str, HEAD_DIMS))
                raise UserError(f"{what} {getattr(self, what)} is not one the tile tables know: choose one of {known}")
        if self.num_q_heads < 1 or self.num_kv_heads < 1 or self.num_q_heads % self.num_kv_heads:
            raise UserError(
                f"{self.num_q_heads} query heads cannot share {self.num_kv_heads} KV heads evenly: "
                "the first must be a positive multiple of the second"
            )
        if self.model_window is not None and self.model_window < 1:
            raise UserError(f"window {self.model_window} must be at least 1 token, or none at all")
        if not 0 <= self.logit_cap < float("inf"):
            raise UserError(f"logit cap {self.logit_cap} must be a positive number, or 0 for none")
        if len(self.prefix_len) != len(self.extend_len):
            raise UserError(
                f"{len(self.prefix_len)} prefix lengths for {len(self.extend_len)} extend lengths: "
                "one of each per sequence"
            )
        if min(self.prefix_len + self.extend_len, default=0) < 0:
            raise UserError(f"lengths must not be negative: prefix {self.prefix_len}, extend {self.extend_len}")

    @property
    def window_left(self) -> int:
        """Keys to the left of itself a query sees; -1 for no limit."""
        return -1 if self.model_window is None else self.model_window - 1

    @property
    def kv_group_num(self) -> int:
        """Query heads per KV head."""
        return self.num_q_heads // self.num_kv_heads

    def with_lengths(self, prefix_len: int | tuple[int, ...], extend_len: int | tuple[int, ...]) -> AttentionShape:
        """The same layer over sequences of these lengths."""
        as_tuple = lambda n: (n,) if isinstance(n, int) else tuple(n)  # noqa: E731
        return replace(self, prefix_len=as_tuple(prefix_len), extend_len=as_tuple(extend_len))

    def visible_pairs(self) -> int:
        """(query, key) pairs that the causal triangle and the window leave, over all sequences, per head.

        A custom mask's own zeros are data, not shape, and are not subtracted.
        """
        total = 0
        for prefix, extend in zip(self.prefix_len, self.extend_len, strict=True):
            for i in range(extend):
                q_pos = prefix + i
                last = q_pos if self.causal else prefix + extend - 1
                first = 0 if self.window_left < 0 else max(0, q_pos - self.window_left)
                total += max(0, last - first + 1)
        return total

    def flops(self) -> int:
        """Multiply-adds of both dots counted as two each, on visible pairs only: 2 * heads * (d_qk + d_v) * pairs."""
        return 2 * self.num_q_heads * (self.head_dim + self.v_head_dim) * self.visible_pairs()


GEMMA4_31B_SLIDING = AttentionShape(
    name="Gemma 4 31B sliding", num_q_heads=32, num_kv_heads=16, head_dim=256, model_window=1024
)
GEMMA4_31B_GLOBAL = AttentionShape(name="Gemma 4 31B global", num_q_heads=32, num_kv_heads=4, head_dim=512)
GEMMA4_31B_SLIDING_LAYERS = 50
GEMMA4_31B_GLOBAL_LAYERS = 10
LLAMA_LIKE = AttentionShape(name="32/8 heads of 128", num_q_heads=32, num_kv_heads=8, head_dim=128)

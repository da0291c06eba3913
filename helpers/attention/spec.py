"""From (shape, tile, ingredients) to the KernelSpec that a real launch of the extend kernel would compile.

Triton specialises a launch on its arguments: pointers and integers divisible by 16 are marked so, integers equal
to 1 and arguments that are None become constants, floats stay plain. This module applies those rules to the
arguments `launch.py` would pass; tests hold the result against Triton's own specialisation code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from helpers.attention.shapes import AttentionShape
from helpers.attention.tiles import TileConfig, head_dim_blocks
from helpers.compiler.kernel_spec import KernelRef, KernelSpec, Scalar
from helpers.errors import UserError
from helpers.files import ROOT

EXTEND_KERNEL = KernelRef(
    path=str(ROOT / "kernels" / "extend_attention.py"),
    name="extend_attention_kernel",
    import_root=str(ROOT),
)
CHOICES = {
    "tile_skip": ("branch", "bounds"),
    "accumulate": ("separate", "fused"),
    "kv_operands": ("as_stored", "upcast"),
    "q_cast": ("in_tile", "hoisted"),
    "v_scale": ("applied", "absent"),
}


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What the incident turned on, one choice each (see kernels/extend_attention.py); defaults are the incident's."""

    tile_skip: str = "branch"
    accumulate: str = "separate"
    kv_operands: str = "as_stored"
    q_cast: str = "in_tile"
    v_scale: str = "applied"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(allowed)}")

    def difference(self, other: Ingredients) -> dict[str, str]:
        """What `other` sets differently, name to value."""
        return {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)}


INCIDENT = Ingredients()
LEAN = Ingredients(tile_skip="bounds", accumulate="fused", kv_operands="upcast")

_POINTER_TYPES = {"bf16": "*bf16", "fp16": "*fp16", "fp8_e4m3": "*fp8e4nv", "fp8_e5m2": "*fp8e5"}


def _pointers(shape: AttentionShape) -> dict[str, str | None]:
    """Triton type of each pointer parameter; None where the launch passes None."""
    new, cached = _POINTER_TYPES[shape.q_dtype], _POINTER_TYPES[shape.kv_dtype]
    return {
        "q_ptr": new,
        "k_ptr": new,
        "v_ptr": new,
        "o_ptr": new,
        "k_buffer_ptr": cached,
        "v_buffer_ptr": cached,
        "qo_indptr": "*i32",
        "kv_indptr": "*i32",
        "kv_indices": "*i64",
        "mask_ptr": "*u8" if shape.custom_mask else None,
        "mask_indptr": "*i64" if shape.custom_mask else None,
        "sinks_ptr": "*fp32" if shape.sinks else None,
    }


def contiguous_strides(shape: AttentionShape) -> dict[str, int]:
    """Element strides of packed `[tokens, heads, head_dim]` tensors, by kernel parameter name."""
    d, dv = shape.head_dim, shape.v_head_dim
    hq, hkv = shape.num_q_heads, shape.num_kv_heads
    return {
        "stride_q_token": hq * d,
        "stride_q_head": d,
        "stride_k_token": hkv * d,
        "stride_k_head": d,
        "stride_v_token": hkv * dv,
        "stride_v_head": dv,
        "stride_o_token": hq * dv,
        "stride_o_head": dv,
        "stride_kb_slot": hkv * d,
        "stride_kb_head": d,
        "stride_vb_slot": hkv * dv,
        "stride_vb_head": dv,
    }


def kernel_constexprs(shape: AttentionShape, tile: TileConfig, ingredients: Ingredients) -> dict[str, Scalar]:
    """The kernel's constexpr arguments, by name, in order; the launch passes exactly these."""
    block_dmodel, block_dpe = head_dim_blocks(shape.head_dim)
    block_dv = 1 << (shape.v_head_dim - 1).bit_length()
    return {
        "HEAD_DIM": shape.head_dim,
        "V_HEAD_DIM": shape.v_head_dim,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "BLOCK_DMODEL": block_dmodel,
        "BLOCK_DPE": block_dpe,
        "BLOCK_DV": block_dv,
        "WINDOW_LEFT": shape.window_left,
        "LOGIT_CAP": float(shape.logit_cap),
        "IS_CAUSAL": shape.causal,
        "MASK_PREFIX": shape.mask_prefix,
        **{name.upper(): value for name, value in asdict(ingredients).items()},
    }


def build_spec(
    shape: AttentionShape,
    tile: TileConfig,
    ingredients: Ingredients = INCIDENT,
    *,
    maxnreg: int | None = None,
    launch: Mapping[str, Scalar] | None = None,
) -> KernelSpec:
    """The KernelSpec of launching the extend kernel on contiguous, 16-byte aligned tensors of this shape.

    `launch` are further launch options, such as those that an engine adds for one maker's chips.
    """
    signature: dict[str, str] = {}
    constexprs: dict[str, Scalar] = {}
    divisible: list[str] = []
    for name, kind in _pointers(shape).items():
        if kind is None:
            signature[name], constexprs[name] = "constexpr", None
        else:
            signature[name] = kind
            divisible.append(name)
    signature |= {"sm_scale": "fp32", "k_scale": "fp32", "v_scale": "fp32"}
    for name, value in {"kv_group_num": shape.kv_group_num, **contiguous_strides(shape)}.items():
        if value == 1:
            signature[name], constexprs[name] = "constexpr", 1
            continue
        signature[name] = "i32"
        if value % 16 == 0:
            divisible.append(name)
    for name, value in kernel_constexprs(shape, tile, ingredients).items():
        signature[name], constexprs[name] = "constexpr", value
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages, "maxnreg": maxnreg, **(launch or {})}
    return KernelSpec(
        kernel=EXTEND_KERNEL,
        signature=tuple(signature.items()),
        constexprs=tuple(constexprs.items()),
        divisible_by_16=tuple(divisible),
        options=tuple((k, v) for k, v in options.items() if v is not None),
        label=describe(shape, tile, ingredients) + (f" maxnreg {maxnreg}" if maxnreg else ""),
    )


def describe(shape: AttentionShape, tile: TileConfig, ingredients: Ingredients = INCIDENT) -> str:
    """A short name, `hd256 fp8_e4m3 window 1024 128x64 w8 s1`, with what differs from the incident."""
    dims = f"hd{shape.head_dim}" + (f"/{shape.v_head_dim}" if shape.v_head_dim != shape.head_dim else "")
    words = [dims, shape.kv_dtype, f"window {shape.model_window}" if shape.model_window else "no window"]
    words += [
        name for name, on in (("mask", shape.custom_mask), ("sinks", shape.sinks), ("cap", shape.logit_cap)) if on
    ]
    words += [] if shape.causal else ["non-causal"]
    words += [] if shape.q_dtype == "bf16" else [f"{shape.q_dtype} queries"]
    words += (
        []
        if (shape.num_q_heads, shape.num_kv_heads) == (32, 16)
        else [f"{shape.num_q_heads}/{shape.num_kv_heads} heads"]
    )
    words += [str(tile), f"w{tile.num_warps}", f"s{tile.num_stages}"]
    words += [f"{name}={value}" for name, value in INCIDENT.difference(ingredients).items()]
    return " ".join(words)

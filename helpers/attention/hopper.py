"""The Hopper kernel's tiles and launch: the lean kernel's arguments, Gluon's schedule, sm_90a and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import LEAN, build_spec
from helpers.attention.tiles import TileConfig
from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.errors import UserError
from helpers.files import ROOT

if TYPE_CHECKING:
    from helpers.attention.launch import Launch

HOPPER_KERNEL = KernelRef(
    path=str(ROOT / "kernels" / "hopper_attention.py"), name="hopper_attention_kernel", import_root=str(ROOT)
)
# Of the extend kernel's parameters, those that this kernel does not have.
_NOT_TAKEN = ("mask_ptr", "mask_indptr", "sinks_ptr")
# Its constexprs, in the order of its parameters.
_CONSTEXPRS = ("HEAD_DIM", "BLOCK_M", "BLOCK_N", "WINDOW_LEFT", "IS_CAUSAL", "GROUP_PACK", "num_warps")
HEAD_DIMS = (64, 128, 256, 512)
# Where it is the faster of the two on an H200 (data/kernel_log.md); at 64 it was not timed.
FASTER_THAN_LEAN = (128, 512)


@dataclass(frozen=True)
class HopperTile:
    """BLOCK_M rows (tokens times `group_pack` heads) by BLOCK_N keys, by two groups of four warps."""

    block_m: int
    block_n: int
    group_pack: int = 1
    num_warps: int = 8

    def __str__(self) -> str:
        return f"{self.block_m}x{self.block_n}g{self.group_pack}"

    def fitted(self, kv_group_num: int) -> HopperTile:
        """This tile with `group_pack` lowered to what divides the number of query heads per KV head."""
        return replace(self, group_pack=math.gcd(self.group_pack, kv_group_num))


# By head dim; measured (data/kernel_log.md) but for 64, which was only checked for its answers.
TILES = {
    64: HopperTile(128, 128, 4),
    128: HopperTile(128, 128, 4),
    256: HopperTile(128, 64, 2),
    512: HopperTile(64, 64, 1),
}


def why_not(shape: AttentionShape, *, capability: tuple[int, int] | None = None) -> str:
    """Why the kernel does not take a shape (or a device's compute capability); empty when it does."""
    if capability is not None and capability != (9, 0):
        return f"written for compute capability 9.0, this device has {capability[0]}.{capability[1]}"
    if shape.head_dim not in HEAD_DIMS or shape.v_head_dim != shape.head_dim:
        return f"head dims {shape.head_dim}/{shape.v_head_dim}: it has {', '.join(map(str, HEAD_DIMS))}, keys as values"
    if shape.kv_dtype != shape.q_dtype:
        return f"a {shape.kv_dtype} cache: it copies K and V as they are, in the {shape.q_dtype} of q"
    for name, on in (("custom mask", shape.custom_mask), ("sinks", shape.sinks), ("soft cap", shape.logit_cap)):
        if on:
            return f"no {name}"
    return ""


def build_hopper_spec(shape: AttentionShape, tile: HopperTile | None = None) -> KernelSpec:
    """The KernelSpec of launching the Hopper kernel on contiguous, aligned tensors.

    Raises UserError, naming the lean kernel, for what this kernel does not take.
    """
    tile = _checked_tile(shape, tile)
    base = build_spec(shape, TileConfig(64, 64), LEAN)
    # Names in capitals are the extend kernel's constexprs; a stride or group size of 1 is a constexpr in both.
    shared = tuple((n, t) for n, t in base.signature if not n.isupper() and n not in _NOT_TAKEN)
    own = {**_tile_constexprs(tile), "num_warps": tile.num_warps}
    names = {n for n, _ in shared} | set(_CONSTEXPRS)
    return KernelSpec(
        kernel=HOPPER_KERNEL,
        signature=shared + tuple((n, "constexpr") for n in _CONSTEXPRS),
        constexprs=tuple({n: v for n, v in {**dict(base.constexprs), **own}.items() if n in names}.items()),
        divisible_by_16=tuple(n for n in base.divisible_by_16 if n in names),
        options=(("num_warps", tile.num_warps),),
        label=f"hopper hd{shape.head_dim} {shape.kv_dtype} {tile} w{tile.num_warps}",
    )


def _checked_tile(
    shape: AttentionShape, tile: HopperTile | None, capability: tuple[int, int] | None = None
) -> HopperTile:
    """The tile given, or the table's, fitted to the shape; raises UserError for what this kernel does not take."""
    if reason := why_not(shape, capability=capability):
        raise UserError(f"the Hopper kernel does not take this: {reason}; the lean kernel does")
    return (tile or TILES[shape.head_dim]).fitted(shape.kv_group_num)


def _tile_constexprs(tile: HopperTile) -> dict[str, int]:
    return {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "GROUP_PACK": tile.group_pack}


def prepare_hopper(*tensors: Any, tile: HopperTile | None = None, **options: Any) -> Launch:
    """The checked launch of the Hopper kernel: arguments and errors as `launch.prepare_launch`, whose checks it uses.

    `tile` defaults to the table's. Raises UserError, naming the lean kernel, for what this kernel does not take.
    """
    import torch

    from helpers.attention.launch import prepare_launch

    options.pop("ingredients", None)
    kernel = options.pop("kernel", None)
    base = prepare_launch(*tensors, tile=TileConfig(64, 64), ingredients=LEAN, kernel=kernel, **options)
    device = base.arguments["q_ptr"].device
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    tile = _checked_tile(base.shape, tile, capability)
    sequences, heads, _ = base.grid
    kernel = kernel or _hopper_kernel()
    arguments = {
        **{name: value for name, value in base.arguments.items() if name in kernel.arg_names},
        **_tile_constexprs(tile),
    }
    return replace(
        base,
        kernel=kernel,
        grid=(-(-base.max_extend_len // (tile.block_m // tile.group_pack)), heads // tile.group_pack, sequences),
        arguments=arguments,
        options={"num_warps": tile.num_warps},
    )


def _hopper_kernel() -> Any:
    from kernels.hopper_attention import hopper_attention_kernel

    return hopper_attention_kernel

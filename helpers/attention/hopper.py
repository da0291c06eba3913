"""The Hopper kernel's settings, spec and launch: the lean kernel's arguments, Gluon's schedule, sm_90a alone.

Head dim 512 has a kernel of its own (`kernels/hopper_attention_wide.py`). A cache in another dtype than q's is gathered
and converted first, into a workspace (`kernels/gather_upcast.py`); its launch goes `before` the kernel's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import LEAN, build_spec
from helpers.attention.tiles import TileConfig
from helpers.compiler.kernel_spec import KernelRef, KernelSpec, Scalar
from helpers.errors import UserError
from helpers.files import ROOT

if TYPE_CHECKING:
    import torch

    from helpers.attention.launch import Launch


def _reference(name: str) -> KernelRef:
    return KernelRef(path=str(ROOT / "kernels" / f"{name}.py"), name=f"{name}_kernel", import_root=str(ROOT))


HOPPER_KERNEL = _reference("hopper_attention")
HOPPER_WIDE_KERNEL = _reference("hopper_attention_wide")
# Of the extend kernel's parameters, those that this kernel does not have.
_NOT_TAKEN = ("mask_ptr", "mask_indptr")
# Its own parameters: numbers of the batch, never specialised (the kernel says so), and one array.
_BATCH = ("num_blocks", "head_groups", "sequences", "section")
# (keys, values) it has tiles for.
HEAD_DIMS = ((64, 64), (128, 128), (192, 128), (256, 256), (512, 512))
# What 32-bit offsets reach; beyond, rows are found by 64-bit ones, which is about 5% slower (data/kernel_log.md).
_INT32_MAX = 2**31 - 1
# A program an SM; where there is no GPU to ask, an H100's number.
_H100_SMS = 132
_GATHER_ROWS = 16


@dataclass(frozen=True)
class HopperTile:
    """One setting: rows (tokens times `group_pack` heads) by keys of a block, tiles in flight, registers a thread.

    `section` pairs of a sequence and a group of heads are done side by side, so that their K and V stay in L2; in a
    batch of several sequences, whose prefixes may be long, a quarter as many. 64 rows are a computing group of four
    warps (at head dim 512, 64 rows are two groups); four warps more load.
    """

    block_m: int
    block_n: int
    group_pack: int
    stages: int
    section: int
    compute_registers: int
    load_registers: int

    def __str__(self) -> str:
        return f"{self.block_m}x{self.block_n}g{self.group_pack}"

    def fitted(self, kv_group_num: int) -> HopperTile:
        """This tile with `group_pack` lowered to what divides the number of query heads per KV head."""
        return replace(self, group_pack=math.gcd(self.group_pack, kv_group_num))

    def section_for(self, sequences: int) -> int:
        """`section` for a batch of so many sequences."""
        return self.section if sequences == 1 else max(1, self.section // 4)

    @property
    def num_stages(self) -> int:
        """Tiles of K, and of V, in shared memory."""
        return self.stages

    @property
    def wide(self) -> bool:
        """Whether it is one of the kernel for head dim 512."""
        return self.block_m == 64

    @property
    def launch_warps(self) -> int:
        """The warps of the launch itself: the first computing group, or both at head dim 512."""
        return 8 if self.wide else 4

    @property
    def num_warps(self) -> int:
        """All warps of a program."""
        return 12 if self.wide else self.block_m // 16 + 4


# By head dim of the keys. Measured on an H100 (data/kernel_log.md, versions 12 on).
TILES = {
    64: HopperTile(192, 128, 4, 3, 4, 160, 32),
    128: HopperTile(128, 128, 4, 2, 4, 216, 72),
    192: HopperTile(128, 128, 4, 2, 4, 224, 56),
    256: HopperTile(128, 64, 2, 2, 2, 232, 40),
    512: HopperTile(64, 64, 1, 1, 8, 216, 72),
}


def why_not(shape: AttentionShape, *, capability: tuple[int, int] | None = None) -> str:
    """Why the kernel does not take a shape (or a device's compute capability); empty when it does."""
    if capability is not None and capability != (9, 0):
        return f"written for compute capability 9.0, this device has {capability[0]}.{capability[1]}"
    if (shape.head_dim, shape.v_head_dim) not in HEAD_DIMS:
        known = ", ".join(f"{d}/{dv}" for d, dv in HEAD_DIMS)
        return f"head dims {shape.head_dim}/{shape.v_head_dim}: it has {known} (keys/values)"
    if shape.custom_mask:
        return "no custom mask"
    return ""


def build_hopper_spec(shape: AttentionShape, tile: HopperTile | None = None) -> KernelSpec:
    """The KernelSpec of launching the Hopper kernel on contiguous, aligned tensors.

    For a cache in another dtype than q's: of the kernel itself, which reads the converted workspace. Raises UserError,
    naming the lean kernel, for what this kernel does not take.
    """
    tile = _checked_tile(shape, tile)
    base = build_spec(replace(shape, kv_dtype=shape.q_dtype), TileConfig(64, 64), LEAN)
    # Names in capitals are the extend kernel's constexprs. kv_group_num is never specialised here.
    pointers = tuple((n, t) for n, t in base.signature if n.endswith(("_ptr", "_indptr", "_indices")))
    scalars = tuple((n, t) for n, t in base.signature if n.startswith("stride_") or n.endswith("_scale"))
    own = _constexprs(shape, tile)
    signature = tuple((n, t) for n, t in pointers if n not in _NOT_TAKEN)
    signature += (("counter_ptr", "*i32"), *(s for s in scalars if s[0].endswith("_scale")), ("kv_group_num", "i32"))
    signature += tuple(s for s in scalars if s[0].startswith("stride_")) + tuple((n, "i32") for n in _BATCH)
    signature += tuple((n, "constexpr") for n in own)
    names = {n for n, _ in signature}
    inherited = {n: v for n, v in base.constexprs if n in names and n != "kv_group_num"}
    return KernelSpec(
        kernel=HOPPER_WIDE_KERNEL if tile.wide else HOPPER_KERNEL,
        signature=signature,
        constexprs=tuple({**inherited, **own}.items()),
        divisible_by_16=(*(n for n in base.divisible_by_16 if n in names and n != "kv_group_num"), "counter_ptr"),
        options=(("num_warps", tile.launch_warps),),
        label=f"hopper hd{shape.head_dim} {shape.kv_dtype} {tile} w{tile.num_warps}",
    )


def _checked_tile(
    shape: AttentionShape, tile: HopperTile | None, capability: tuple[int, int] | None = None
) -> HopperTile:
    """The tile given, or the table's, fitted to the shape; raises UserError for what this kernel does not take."""
    if reason := why_not(shape, capability=capability):
        raise UserError(f"the Hopper kernel does not take this: {reason}; the lean kernel does")
    return (tile or TILES[shape.head_dim]).fitted(shape.kv_group_num)


def _constexprs(shape: AttentionShape, tile: HopperTile, *, wide_offsets: bool = False) -> dict[str, Scalar]:
    """The kernel's constexprs, in the order of its parameters."""
    return {
        "HEAD_DIM": shape.head_dim,
        "V_HEAD_DIM": shape.v_head_dim,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "WINDOW_LEFT": shape.window_left,
        "LOGIT_CAP": float(shape.logit_cap),
        "IS_CAUSAL": shape.causal,
        "GROUP_PACK": tile.group_pack,
        "STAGES": tile.stages,
        "COMPUTE_REGISTERS": tile.compute_registers,
        "LOAD_REGISTERS": tile.load_registers,
        "WIDE_OFFSETS": wide_offsets,
    }


def prepare_hopper(*tensors: Any, tile: HopperTile | None = None, **options: Any) -> Launch:
    """The checked launch of the Hopper kernel: arguments and errors as `launch.prepare_launch`, whose checks it uses.

    `tile` defaults to the table's. What it returns counts its items in an array of its own, so it may run again and
    again, but not on two streams at once. Raises UserError, naming the lean kernel, for what this kernel does not take.
    """
    import torch

    from helpers.attention.launch import prepare_launch

    options.pop("ingredients", None)
    kernel = options.pop("kernel", None)
    base = prepare_launch(*tensors, tile=TileConfig(64, 64), ingredients=LEAN, kernel=kernel, **options)
    device = base.arguments["q_ptr"].device
    on_gpu = device.type == "cuda"
    tile = _checked_tile(base.shape, tile, torch.cuda.get_device_capability(device) if on_gpu else None)
    _check_scales(base)
    before, cache = None, {n: base.arguments[n] for n in ("k_buffer_ptr", "v_buffer_ptr", "kv_indices")}
    if base.shape.kv_dtype != base.shape.q_dtype:
        before, cache = _prepare_gather(base, tile)
    sequences, heads, _ = base.grid
    blocks = -(-base.max_extend_len // (tile.block_m // tile.group_pack))
    groups = heads // tile.group_pack
    sms = torch.cuda.get_device_properties(device).multi_processor_count if on_gpu else _H100_SMS
    kernel = kernel or _kernel(tile)
    known = {
        **base.arguments,
        **cache,
        **_cache_strides(cache),
        "counter_ptr": torch.zeros(2, dtype=torch.int32, device=device),
        "num_blocks": blocks,
        "head_groups": groups,
        "sequences": sequences,
        "section": tile.section_for(sequences),
        **_constexprs(base.shape, tile, wide_offsets=_beyond_32_bits(cache)),
    }
    return replace(
        base,
        kernel=kernel,
        grid=(min(sms, blocks * groups * sequences), 1, 1),
        arguments={name: known[name] for name in getattr(kernel, "arg_names", known) if name in known},
        options={"num_warps": tile.launch_warps},
        before=before,
        workspace_bytes=sum(x.numel() * x.element_size() for x in cache.values()) if before else 0,
    )


def _prepare_gather(base: Launch, tile: HopperTile) -> tuple[Launch, dict[str, torch.Tensor]]:
    """(the launch that converts what is visible of the prefix, the cache it makes of it, by parameter name)."""
    import torch

    from kernels.gather_upcast import gather_upcast_kernel

    shape, given = base.shape, base.arguments
    slots, device = given["kv_indices"], given["q_ptr"].device
    sequences, total = base.grid[0], slots.numel()
    # The first new token reaches furthest back, and its key block is walked from the block's first key.
    reach = shape.window_left + tile.block_n
    windowed = shape.window_left >= 0 and sequences * reach < total
    rows = sequences * reach if windowed else total
    made = {
        f"{name}_buffer_ptr": torch.empty((rows, shape.num_kv_heads, dim), dtype=given["q_ptr"].dtype, device=device)
        for name, dim in (("k", shape.head_dim), ("v", shape.v_head_dim))
    }
    made["kv_indices"] = torch.empty_like(slots)
    launch = replace(
        base,
        kernel=gather_upcast_kernel,
        grid=(-(-(reach if windowed else total) // _GATHER_ROWS), shape.num_kv_heads, sequences if windowed else 1),
        arguments={
            "k_buffer_ptr": given["k_buffer_ptr"],
            "v_buffer_ptr": given["v_buffer_ptr"],
            "k_out_ptr": made["k_buffer_ptr"],
            "v_out_ptr": made["v_buffer_ptr"],
            "rows_ptr": made["kv_indices"],
            "kv_indptr": given["kv_indptr"],
            "kv_indices": slots,
            "kv_heads": shape.num_kv_heads,
            "reach": reach,
            "total": total,
            **{name: given[name] for name in given if name.startswith(("stride_kb", "stride_vb"))},
            "HEAD_DIM": shape.head_dim,
            "V_HEAD_DIM": shape.v_head_dim,
            "PAD_K": 1 << (shape.head_dim - 1).bit_length(),
            "PAD_V": 1 << (shape.v_head_dim - 1).bit_length(),
            "WINDOWED": windowed,
            "WINDOW_LEFT": shape.window_left,
            "BLOCK_N": tile.block_n,
            "ROWS": _GATHER_ROWS,
        },
        options={"num_warps": 4},
    )
    return launch, made


def _cache_strides(cache: dict[str, torch.Tensor]) -> dict[str, int]:
    return {
        f"stride_{short}_{axis}": cache[f"{name}_buffer_ptr"].stride(dim)
        for name, short in (("k", "kb"), ("v", "vb"))
        for dim, axis in enumerate(("slot", "head"))
    }


def _beyond_32_bits(cache: dict[str, torch.Tensor]) -> bool:
    """Whether a row of the cache may lie further than a 32-bit offset reaches (new tokens never do: launch.py)."""
    buffers = (cache["k_buffer_ptr"], cache["v_buffer_ptr"])
    return any(x.shape[0] * x.stride(0) > _INT32_MAX for x in buffers)


def _check_scales(base: Launch) -> None:
    """Raise UserError for scales that the softmax cannot take into its exponents."""
    for name in ("sm_scale", "k_scale", "v_scale"):
        if base.arguments[name] <= 0:
            raise UserError(
                f"the Hopper kernel needs a positive {name}, got {base.arguments[name]}: row maxima are taken before "
                "the scale; the lean kernel takes any v_scale"
            )
    if base.shape.q_dtype == "fp16" and not 2.0**-15 <= base.arguments["v_scale"] <= 2.0**15:
        raise UserError(
            "with fp16 queries the Hopper kernel needs v_scale between 2^-15 and 2^15, "
            f"got {base.arguments['v_scale']}: it multiplies p, which must stay in fp16's range; the lean kernel takes "
            "any v_scale"
        )


def _kernel(tile: HopperTile) -> Any:
    if tile.wide:
        from kernels.hopper_attention_wide import hopper_attention_wide_kernel

        return hopper_attention_wide_kernel
    from kernels.hopper_attention import hopper_attention_kernel

    return hopper_attention_kernel

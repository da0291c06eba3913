"""The lean kernel's tiles, spec and launch: same arguments as the extend kernel, another structure.

A LeanTile says more than a TileConfig: how many query heads of one KV head share a block (`group_pack`). The table
is this project's own; each row says whether it was chosen by measurement on a GPU or by compile evidence alone
(0 spill stores, tensor-core path, shared memory; see data/lean_tiles.csv).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import CHOICES, LEAN, build_spec
from helpers.attention.tiles import TileConfig
from helpers.compiler.kernel_spec import KernelRef, KernelSpec, Scalar
from helpers.errors import UserError
from helpers.files import ROOT
from helpers.hardware import get_arch

if TYPE_CHECKING:
    from helpers.attention.launch import Launch

LEAN_KERNEL = KernelRef(
    path=str(ROOT / "kernels" / "lean_attention.py"), name="lean_attention_kernel", import_root=str(ROOT)
)
_INGREDIENT_NAMES = tuple(name.upper() for name in CHOICES)


@dataclass(frozen=True)
class LeanTile:
    """BLOCK_M rows (tokens times `group_pack` heads) by BLOCK_N keys; `num_warps` warps, `num_stages` loads ahead."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    group_pack: int = 1

    def __post_init__(self) -> None:
        TileConfig(self.block_m, self.block_n, self.num_warps, self.num_stages)  # its checks, its sentences
        if self.group_pack < 1 or self.group_pack & (self.group_pack - 1) or self.group_pack > self.block_m:
            raise UserError(f"group_pack {self.group_pack} must be a power of two from 1 to BLOCK_M ({self.block_m})")

    def __str__(self) -> str:
        return f"{self.block_m}x{self.block_n}g{self.group_pack}"

    def fitted(self, kv_group_num: int) -> LeanTile:
        """This tile with `group_pack` lowered to what divides the number of query heads per KV head."""
        return replace(self, group_pack=math.gcd(self.group_pack, kv_group_num))


@dataclass(frozen=True)
class LeanRow:
    """A row of the table: the tile for head dims up to `head_dim` on `archs`, and how it was chosen."""

    archs: tuple[str, ...]
    head_dim: int
    kv_bits: tuple[int, ...]
    tile: LeanTile
    chosen_by: str


_BOTH = (16, 8)
_MEASURED = "measured on an H200 (data/kernel_log.md)"
_COMPILED = "compile evidence: 0 spill stores, best tensor-core path (data/lean_tiles.csv)"
_HOPPER, _DATACENTER = ("sm_90a",), ("sm_100a", "sm_103a")
_SMALL_SMEM, _A100 = ("sm_86", "sm_89", "sm_120a", "sm_121a"), ("sm_80",)
LEAN_TABLE: tuple[LeanRow, ...] = (
    LeanRow(_HOPPER, 64, _BOTH, LeanTile(128, 64, 4, 3, 4), _COMPILED),
    LeanRow(_HOPPER, 128, _BOTH, LeanTile(128, 128, 8, 3, 4), _MEASURED),
    LeanRow(_HOPPER, 256, _BOTH, LeanTile(128, 64, 8, 2, 2), _MEASURED),
    LeanRow(_HOPPER, 1024, (16,), LeanTile(64, 32, 8, 2, 2), _MEASURED),
    LeanRow(_HOPPER, 1024, (8,), LeanTile(64, 64, 8, 1, 1), _MEASURED),
    LeanRow(_DATACENTER, 128, _BOTH, LeanTile(128, 64, 8, 2, 4), _COMPILED),
    LeanRow(_DATACENTER, 256, _BOTH, LeanTile(64, 64, 8, 2, 2), _COMPILED),
    LeanRow(_DATACENTER, 1024, _BOTH, LeanTile(32, 32, 8, 1, 8), _COMPILED),
    # Triton before 3.9 up-casts fp8_e5m2 with instructions that ptxas refuses on sm_80, but for these tiles.
    LeanRow(_A100, 128, (16,), LeanTile(64, 64, 8, 2, 4), _COMPILED),
    LeanRow(_A100, 128, (8,), LeanTile(32, 32, 4, 1, 4), _COMPILED),
    LeanRow(_A100, 256, (16,), LeanTile(64, 32, 8, 1, 2), _COMPILED),
    LeanRow(_A100, 256, (8,), LeanTile(32, 32, 4, 1, 2), _COMPILED),
    LeanRow(_A100, 1024, _BOTH, LeanTile(16, 32, 8, 1, 8), _COMPILED),
    LeanRow(_SMALL_SMEM, 128, _BOTH, LeanTile(64, 32, 8, 2, 4), _COMPILED),
    LeanRow(_SMALL_SMEM, 256, _BOTH, LeanTile(32, 32, 4, 2, 2), _COMPILED),
    LeanRow(_SMALL_SMEM, 1024, _BOTH, LeanTile(16, 16, 8, 1, 8), _COMPILED),
)


# Narrowest rotary part: with 32 columns (head dim 288) five of five cases were wrong or faulted on an H200 with Triton
# 3.6.0 (data/kernel_log.md), much like triton-lang/triton issue #11366; the part is padded with zeros to this width.
MIN_BLOCK_DPE = 64


def lean_row(arch: str, shape: AttentionShape) -> LeanRow:
    """The table's row for a shape on an arch."""
    name = get_arch(arch).name
    bits = 8 if shape.kv_dtype.startswith("fp8") else 16
    widest = max(shape.head_dim, shape.v_head_dim)
    for row in LEAN_TABLE:
        if name in row.archs and widest <= row.head_dim and bits in row.kv_bits:
            return row
    raise UserError(f"no lean tile for head dims {shape.head_dim}/{shape.v_head_dim} on {name}")


def choose_lean_tile(arch: str, shape: AttentionShape) -> LeanTile:
    """The table's tile for a shape on an arch, fitted to its query heads per KV head."""
    return lean_row(arch, shape).tile.fitted(shape.kv_group_num)


def lean_constexprs(tile: LeanTile) -> dict[str, Scalar]:
    """What the lean kernel takes beside the extend kernel's shape constexprs."""
    return {"GROUP_PACK": tile.group_pack, "REVERSE_BLOCKS": True, "STAGES": tile.num_stages}


def widened(name: str, value: Any) -> Any:
    """A shape constexpr as the lean kernel takes it: a narrow rotary part becomes MIN_BLOCK_DPE columns."""
    return max(value, MIN_BLOCK_DPE) if name == "BLOCK_DPE" and value else value


def build_lean_spec(shape: AttentionShape, tile: LeanTile) -> KernelSpec:
    """The KernelSpec of launching the lean kernel on contiguous, aligned tensors of this shape."""
    tile = tile.fitted(shape.kv_group_num)
    base = build_spec(shape, TileConfig(tile.block_m, tile.block_n, tile.num_warps, tile.num_stages), LEAN)
    extra = lean_constexprs(tile)
    return KernelSpec(
        kernel=LEAN_KERNEL,
        signature=tuple((n, t) for n, t in base.signature if n not in _INGREDIENT_NAMES)
        + tuple((n, "constexpr") for n in extra),
        constexprs=tuple((n, widened(n, v)) for n, v in base.constexprs if n not in _INGREDIENT_NAMES)
        + tuple(extra.items()),
        divisible_by_16=base.divisible_by_16,
        options=base.options,
        label=f"lean hd{shape.head_dim} {shape.kv_dtype} {tile} w{tile.num_warps} s{tile.num_stages}",
    )


def prepare_lean(*tensors: Any, tile: LeanTile | None = None, arch: str | None = None, **options: Any) -> Launch:
    """The checked launch of the lean kernel: arguments and errors as `launch.prepare_launch`, whose checks it uses.

    `tile` defaults to the table's for the device's arch (`arch` to name another, as an interpreter does).
    """
    from helpers.attention.launch import prepare_launch  # torch, which a spec or a table does not need

    options.pop("ingredients", None)
    kernel = options.pop("kernel", None)
    base = prepare_launch(*tensors, tile=TileConfig(64, 64), ingredients=LEAN, kernel=kernel, **options)
    if tile is None:
        tile = choose_lean_tile(arch or _device_arch(base.arguments["q_ptr"].device), base.shape)
    tile = tile.fitted(base.shape.kv_group_num)
    sequences, heads, _ = base.grid
    tokens_per_block = tile.block_m // tile.group_pack
    arguments = {n: widened(n, v) for n, v in base.arguments.items() if n not in _INGREDIENT_NAMES}
    arguments |= {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, **lean_constexprs(tile)}
    return replace(
        base,
        kernel=kernel or _lean_kernel(),
        grid=(-(-base.max_extend_len // tokens_per_block), heads // tile.group_pack, sequences),
        arguments=arguments,
        options={"num_warps": tile.num_warps, "num_stages": tile.num_stages},
    )


def _device_arch(device: Any) -> str:
    if device.type != "cuda":
        return "sm_90a"
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return get_arch(10 * major + minor).name


def _lean_kernel() -> Any:
    from kernels.lean_attention import lean_attention_kernel

    return lean_attention_kernel

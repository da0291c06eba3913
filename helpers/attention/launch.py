"""Launch the extend kernel on real tensors, after checking all that can be checked without running it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import INCIDENT, Ingredients, kernel_constexprs
from helpers.attention.tiles import TileConfig, choose_tile, parse_tile
from helpers.errors import UserError

_NAMES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float8_e4m3fn: "fp8_e4m3",
    torch.float8_e5m2: "fp8_e5m2",
}
# What the chooser is asked when there is no GPU to ask: the interpreter takes any tile.
INTERPRETER_CAPABILITY = 90
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Launch:
    """A checked launch, to run as often as wanted: `arguments` by kernel parameter name, in order.

    `before` is a launch that must run first, on the same stream; `workspace_bytes` what both keep beside the tensors
    given.
    """

    kernel: Any
    grid: tuple[int, int, int]
    arguments: dict[str, Any]
    options: dict[str, int]
    shape: AttentionShape
    tile: TileConfig
    ingredients: Ingredients
    max_extend_len: int
    before: Launch | None = None
    workspace_bytes: int = 0

    def run(self) -> Any:
        """Launch; returns what Triton does (on a GPU the compiled kernel), None when the grid is empty."""
        if 0 in self.grid:
            return None
        if self.before is not None:
            self.before.run()
        device = next(x.device for x in self.arguments.values() if isinstance(x, torch.Tensor))
        if device.type != "cuda":
            return self.kernel[self.grid](**self.arguments, **self.options)
        with torch.cuda.device(device):
            return self.kernel[self.grid](**self.arguments, **self.options)


def extend_attention_fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    k_buffer: torch.Tensor,
    v_buffer: torch.Tensor,
    qo_indptr: torch.Tensor,
    kv_indptr: torch.Tensor,
    kv_indices: torch.Tensor,
    **options: Any,
) -> torch.Tensor:
    """`o`, filled with the attention of the new tokens over the cached prefix and themselves.

    `options` are the keyword arguments of `prepare_launch`, which checks them all and raises UserError.
    """
    prepare_launch(q, k, v, o, k_buffer, v_buffer, qo_indptr, kv_indptr, kv_indices, **options).run()
    return o


def prepare_launch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    o: torch.Tensor,
    k_buffer: torch.Tensor,
    v_buffer: torch.Tensor,
    qo_indptr: torch.Tensor,
    kv_indptr: torch.Tensor,
    kv_indices: torch.Tensor,
    *,
    sm_scale: float | None = None,
    k_scale: float = 1.0,
    v_scale: float = 1.0,
    model_window: int | None = None,
    window_left: int | None = None,
    causal: bool = True,
    logit_cap: float = 0.0,
    mask: torch.Tensor | None = None,
    mask_indptr: torch.Tensor | None = None,
    mask_prefix: bool = True,
    sinks: torch.Tensor | None = None,
    max_extend_len: int | None = None,
    tile: TileConfig | str | None = None,
    ingredients: Ingredients = INCIDENT,
    check: bool = True,
    kernel: Any = None,
) -> Launch:
    """The checked launch of the extend kernel on these tensors (layouts: kernels/extend_attention.py), not
    yet run.

    `model_window` is the model's (Gemma 4: 1024), `window_left` the kernel's (1023): give one or neither.
    `sm_scale` defaults to 1/sqrt(head_dim). `tile` is a TileConfig, `128x64`, a table's name, or None for the
    engine's choice on this device. `max_extend_len`, when left out, is read from `qo_indptr`, which waits for
    the device, and so does `check`, which looks at the contents of the index arrays; `check=False` looks at
    shapes and dtypes only. `kernel` is another build of the kernel with the same parameters. Raises UserError
    naming the argument.
    """
    tensors = {"q": q, "k": k, "v": v, "o": o, "k_buffer": k_buffer, "v_buffer": v_buffer}
    indices = {"qo_indptr": qo_indptr, "kv_indptr": kv_indptr, "kv_indices": kv_indices}
    optional = {"mask": mask, "mask_indptr": mask_indptr, "sinks": sinks}
    _check_kinds({**tensors, **indices}, optional, q)
    _check_layouts(**tensors)
    _check_dtypes(**tensors)
    _check_index_arrays(**indices, **optional, num_q_heads=q.shape[1])
    if model_window is not None and window_left is not None:
        raise UserError(
            f"give model_window ({model_window}) or window_left ({window_left}), not both: "
            "window_left is the model's window minus one"
        )
    if window_left is not None and window_left >= 0:
        model_window = window_left + 1
    for name, value in (
        ("sm_scale", sm_scale),
        ("k_scale", k_scale),
        ("v_scale", v_scale),
        ("logit_cap", logit_cap),
    ):
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise UserError(f"{name} must be a finite number, got {value!r}")
    shape = AttentionShape(
        num_q_heads=q.shape[1],
        num_kv_heads=k.shape[1],
        head_dim=q.shape[2],
        v_head_dim=v.shape[2],
        q_dtype=_NAMES[q.dtype],
        kv_dtype=_NAMES[k_buffer.dtype],
        model_window=model_window,
        causal=bool(causal),
        logit_cap=float(logit_cap),
        custom_mask=mask is not None,
        mask_prefix=bool(mask_prefix),
        sinks=sinks is not None,
    )
    if check:
        longest = _check_contents(q=q, k_buffer=k_buffer, **indices, **optional)
        if max_extend_len is not None and max_extend_len < longest:
            raise UserError(
                f"max_extend_len is {max_extend_len}, but qo_indptr holds a sequence of {longest} new "
                "tokens: those past it would stay unwritten"
            )
    if max_extend_len is None:
        max_extend_len = int((qo_indptr[1:] - qo_indptr[:-1]).max()) if qo_indptr.numel() > 1 else 0
    chosen = _tile(tile, shape.head_dim, q.device)
    kernel = kernel if kernel is not None else _default_kernel(q.device)
    arguments = {
        "q_ptr": q,
        "k_ptr": k,
        "v_ptr": v,
        "o_ptr": o,
        "k_buffer_ptr": k_buffer,
        "v_buffer_ptr": v_buffer,
        **indices,
        "mask_ptr": mask,
        "mask_indptr": mask_indptr,
        "sinks_ptr": sinks,
        "sm_scale": float(sm_scale) if sm_scale is not None else shape.head_dim**-0.5,
        "k_scale": float(k_scale),
        "v_scale": float(v_scale),
        "kv_group_num": shape.kv_group_num,
        **{
            f"stride_{name}_{axis}": tensor.stride(dim)
            for name, tensor, axes in (
                ("q", q, ("token", "head")),
                ("k", k, ("token", "head")),
                ("v", v, ("token", "head")),
                ("o", o, ("token", "head")),
                ("kb", k_buffer, ("slot", "head")),
                ("vb", v_buffer, ("slot", "head")),
            )
            for dim, axis in enumerate(axes)
        },
        **kernel_constexprs(shape, chosen, ingredients),
    }
    return Launch(
        kernel=kernel,
        grid=(qo_indptr.numel() - 1, shape.num_q_heads, -(-max_extend_len // chosen.block_m)),
        arguments=arguments,
        options={"num_warps": chosen.num_warps, "num_stages": chosen.num_stages},
        shape=shape,
        tile=chosen,
        ingredients=ingredients,
        max_extend_len=max_extend_len,
    )


def _tile(tile: TileConfig | str | None, head_dim: int, device: torch.device) -> TileConfig:
    if isinstance(tile, TileConfig):
        return tile
    capability = INTERPRETER_CAPABILITY
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        capability = 10 * major + minor
    if tile is None:
        return choose_tile(capability, head_dim)
    return parse_tile(tile, capability=capability, head_dim=head_dim)


def _default_kernel(device: torch.device) -> Callable:
    from kernels.extend_attention import extend_attention_kernel

    interpreted = type(extend_attention_kernel).__name__ == "InterpretedFunction"
    if device.type == "cpu" and not interpreted:
        raise UserError(
            "q is on the CPU and this process compiles kernels for a GPU: move the tensors to a CUDA device, "
            "or run in an interpreter process (helpers.attention.correctness.processes)"
        )
    return extend_attention_kernel


# --- checks, each a sentence that names the argument -------------------------------------------------------


def _is(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def _check_kinds(required: dict[str, Any], optional: dict[str, Any], q: Any) -> None:
    for name, value in {**required, **optional}.items():
        if value is None and name in optional:
            continue
        if not isinstance(value, torch.Tensor):
            raise UserError(f"{name} must be a torch tensor, got {type(value).__name__}")
        if value.device != q.device:
            raise UserError(f"{name} is on {value.device}, but q is on {q.device}: all tensors must be on one device")
    if (optional["mask"] is None) != (optional["mask_indptr"] is None):
        missing = "mask_indptr" if optional["mask_indptr"] is None else "mask"
        raise UserError(f"mask and mask_indptr go together: {missing} is missing")


def _check_layouts(**tensors: torch.Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dim() != 3:
            raise UserError(f"{name} must have 3 dimensions (token or slot, head, head_dim), got {_is(tensor)}")
        if tensor.shape[2] > 1 and tensor.stride(2) != 1:
            raise UserError(
                f"{name} must be contiguous along its last dimension (stride 1), "
                f"its strides are {tuple(tensor.stride())}"
            )
        if min(tensor.stride()) < 0 or max(tensor.stride()[:2]) > _INT32_MAX:
            raise UserError(f"{name} has strides {tuple(tensor.stride())}; they must be from 0 to {_INT32_MAX}")
        # The kernel computes these offsets in 32 bits; slots of the cache are 64-bit numbers.
        if not name.endswith("buffer") and tensor.shape[0] * tensor.stride(0) > _INT32_MAX:
            raise UserError(
                f"{name} spans {tensor.shape[0] * tensor.stride(0)} elements, more than the {_INT32_MAX} "
                "that 32-bit offsets reach: split the batch"
            )
    q, k, v = tensors["q"], tensors["k"], tensors["v"]
    expected = {
        "k": [q.shape[0], k.shape[1], q.shape[2]],
        "v": [q.shape[0], k.shape[1], v.shape[2]],
        "o": [q.shape[0], q.shape[1], v.shape[2]],
        "k_buffer": [tensors["k_buffer"].shape[0], k.shape[1], q.shape[2]],
        "v_buffer": [tensors["k_buffer"].shape[0], k.shape[1], v.shape[2]],
    }
    for name, want in expected.items():
        if list(tensors[name].shape) != want:
            raise UserError(
                f"{name} has shape {list(tensors[name].shape)}, expected {want} to go with "
                f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)}"
            )


def _check_dtypes(**tensors: torch.Tensor) -> None:
    q, k_buffer = tensors["q"], tensors["k_buffer"]
    if q.dtype not in (torch.bfloat16, torch.float16):
        raise UserError(f"q must be bfloat16 or float16, got {_is(q)}")
    for name in ("k", "v", "o"):
        if tensors[name].dtype != q.dtype:
            raise UserError(f"{name} must have q's dtype {q.dtype}, got {_is(tensors[name])}")
    if k_buffer.dtype not in _NAMES:
        raise UserError(
            f"k_buffer must be bfloat16, float16, float8_e4m3fn or float8_e5m2, got {_is(k_buffer)}; "
            "bytes of an fp8 cache need .view(torch.float8_e4m3fn)"
        )
    if tensors["v_buffer"].dtype != k_buffer.dtype:
        raise UserError(f"v_buffer must have k_buffer's dtype {k_buffer.dtype}, got {_is(tensors['v_buffer'])}")


def _check_index_arrays(*, num_q_heads: int, **arrays: torch.Tensor | None) -> None:
    dtypes = {
        "qo_indptr": torch.int32,
        "kv_indptr": torch.int32,
        "kv_indices": torch.int64,
        "mask": torch.uint8,
        "mask_indptr": torch.int64,
        "sinks": torch.float32,
    }
    for name, dtype in dtypes.items():
        array = arrays[name]
        if array is None:
            continue
        if array.dim() != 1 or array.dtype != dtype or not array.is_contiguous():
            kind = str(dtype).removeprefix("torch.")
            strides = "" if array.is_contiguous() else f" with strides {tuple(array.stride())}"
            raise UserError(f"{name} must be a contiguous vector of {kind}, got {_is(array)}{strides}")
    sequences = arrays["qo_indptr"].numel() - 1
    if sequences < 0:
        raise UserError("qo_indptr is empty; it must hold one offset per sequence and one more, starting with 0")
    for name in ("kv_indptr", "mask_indptr"):
        if arrays[name] is not None and arrays[name].numel() != sequences + 1:
            raise UserError(
                f"{name} has {arrays[name].numel()} entries, expected {sequences + 1}: one more than the "
                f"{sequences} sequences of qo_indptr"
            )
    sinks = arrays["sinks"]
    if sinks is not None and sinks.numel() != num_q_heads:
        raise UserError(f"sinks has {sinks.numel()} entries, expected {num_q_heads}: one per query head")


def _check_contents(
    *,
    q: torch.Tensor,
    k_buffer: torch.Tensor,
    qo_indptr: torch.Tensor,
    kv_indptr: torch.Tensor,
    kv_indices: torch.Tensor,
    mask: torch.Tensor | None,
    mask_indptr: torch.Tensor | None,
    sinks: torch.Tensor | None,
) -> int:
    """The longest extend length; raises UserError for offsets and indices that would read out of bounds."""
    extend = _lengths("qo_indptr", qo_indptr, q.shape[0], "the rows of q")
    prefix = _lengths("kv_indptr", kv_indptr, kv_indices.numel(), "the entries of kv_indices", exact=False)
    used = kv_indices[: sum(prefix)]
    if used.numel():
        low, high = (int(x) for x in torch.aminmax(used))
        if low < 0 or high >= k_buffer.shape[0]:
            bad = low if low < 0 else high
            raise UserError(f"kv_indices holds slot {bad}, but k_buffer has slots 0 to {k_buffer.shape[0] - 1}")
    if mask is not None:
        starts = mask_indptr.tolist()
        for seq, (start, p, e) in enumerate(zip(starts, prefix, extend, strict=False)):
            if start < 0 or start + e * (p + e) > mask.numel():
                raise UserError(
                    f"mask has {mask.numel()} entries; sequence {seq} starts at mask_indptr[{seq}] = {start} "
                    f"and needs {e} rows of {p + e} (prefix {p} + new {e})"
                )
    if sinks is not None and not bool(torch.isfinite(sinks).all()):
        raise UserError("sinks must be finite: leave sinks out where no head has one")
    return max(extend, default=0)


def _lengths(name: str, offsets: torch.Tensor, total: int, of_what: str, *, exact: bool = True) -> list[int]:
    values = offsets.tolist()
    if values[0] != 0:
        raise UserError(f"{name} must start with 0, it starts with {values[0]}")
    lengths = [b - a for a, b in itertools.pairwise(values)]
    if min(lengths, default=0) < 0:
        at = next(i for i, length in enumerate(lengths) if length < 0)
        raise UserError(f"{name} must not decrease, but {name}[{at}:{at + 2}] is {values[at]}, {values[at + 1]}")
    if values[-1] != total if exact else values[-1] > total:
        raise UserError(f"{name} ends with {values[-1]}, expected {'' if exact else 'at most '}{total}: {of_what}")
    return lengths

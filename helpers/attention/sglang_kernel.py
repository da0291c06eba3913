"""sglang's own extend kernel, as its wheels ship it, under the configurations of this project's `Choice`.

Its parameters are matched by name, so that releases with more of them (0.5.10 to 0.5.23 are known) are served too; what
its launcher passes for the options that `Choice` does not have is what it passes by default.
"""

from __future__ import annotations

from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.spec import head_dim_blocks
from helpers.compiler.bring.from_file import spec_from_file
from helpers.compiler.bring.from_wheel import fetch_wheel
from helpers.compiler.bring.signature import kernel_source
from helpers.compiler.kernel_spec import KernelSpec, Scalar
from helpers.errors import UserError

INCIDENT_WHEEL = "sglang==0.5.10"
_KERNEL = "_fwd_kernel"
_TYPES = {"bf16": "*bf16:16", "fp16": "*fp16:16", "fp8_e4m3": "*fp8e4nv:16", "fp8_e5m2": "*fp8e5:16"}
# Which ingredients are the release's own: any other choice of them would be another kernel.
_FIXED = {"tile_skip": "branch", "accumulate": "separate", "kv_operands": "as_stored", "q_cast": "in_tile",
          "v_scale": "applied"}  # fmt: skip


def sglang_extend_spec(wheel: str | Path = INCIDENT_WHEEL, choice: Choice | None = None) -> KernelSpec:
    """The KernelSpec of the extend kernel of a sglang wheel (a requirement or a file), as `choice` would launch it.

    The default is the incident, in the release it happened in. Raises UserError for ingredients the release does not
    have, a wheel without the kernel, and a release that asks for what is not known here.
    """
    choice = choice or Choice()
    for name, value in _FIXED.items():
        if getattr(choice, name) != value:
            raise UserError(f"{name} {getattr(choice, name)!r}: sglang's own kernel is {value!r} and nothing else")
    folder = fetch_wheel(wheel)
    file = _file(folder)
    ours = choice.request().spec
    items = _items(choice, ours)
    wanted = kernel_source(file, _KERNEL).parameters
    unknown = [p.name for p in wanted if p.name not in items and not p.has_default]
    if unknown:
        raise UserError(f"{_KERNEL} of {folder.name} asks for {', '.join(unknown)}, which is not known here")
    return spec_from_file(
        file,
        _KERNEL,
        {p.name: items[p.name] for p in wanted if p.name in items},
        options=dict(ours.options),
        import_root=folder,
        label=f"{folder.name} {ours.label}",
    )


def _file(folder: Path) -> Path:
    found = [
        file
        for file in sorted(folder.rglob("extend_attention.py"))
        if f"def {_KERNEL}(" in file.read_text(errors="replace")
    ]
    if len(found) != 1:
        raise UserError(f"{folder.name} holds {len(found)} files extend_attention.py with {_KERNEL}; expected one")
    return found[0]


def _items(choice: Choice, ours: KernelSpec) -> dict[str, Scalar]:
    """Types and values by the kernel's parameter names; its launcher's defaults where `choice` says nothing."""
    new, cached = _TYPES[choice.q_dtype], _TYPES[choice.kv_dtype]
    values = dict(ours.constexprs)
    block_dmodel, block_dpe = head_dim_blocks(choice.head_dim)
    v_head_dim = choice.v_head_dim or choice.head_dim
    q, kv = choice.num_q_heads, choice.num_kv_heads
    strides = {
        "qbs": q * choice.head_dim, "qh": choice.head_dim,
        "kbs": kv * choice.head_dim, "kh": choice.head_dim,
        "vbs": kv * v_head_dim, "vh": v_head_dim,
        "obs": q * v_head_dim, "oh": v_head_dim,
        "buf_kbs": kv * choice.head_dim, "buf_kh": choice.head_dim,
        "buf_vbs": kv * v_head_dim, "buf_vh": v_head_dim,
        # A page is one token here, and no log-sum-exp is stored.
        "buf_kpage": kv * choice.head_dim, "buf_ktok": kv * choice.head_dim,
        "buf_vpage": kv * v_head_dim, "buf_vtok": kv * v_head_dim, "lse_bs": 0, "lse_h": 0,
    }  # fmt: skip
    return {
        "Q_Extend": new, "K_Extend": new, "V_Extend": new, "O_Extend": new,
        "K_Buffer": cached, "V_Buffer": cached, "LSE_Extend": None,
        "qo_indptr": "*i32:16", "kv_indptr": "*i32:16", "kv_indices": "*i64:16",
        "mask_ptr": "*u8:16" if choice.mask else None,
        "mask_indptr": "*i64:16" if choice.mask else None,
        "sink_ptr": "*fp32:16" if choice.sinks else None,
        "window_kv_offset_ptr": None,
        "sm_scale": "fp32", "k_scale": "fp32", "v_scale": "fp32",
        "kv_group_num": q // kv,
        **{f"stride_{name}": value for name, value in strides.items()},
        "compact_batch_size": "i32",
        "SLIDING_WINDOW_SIZE": values["WINDOW_LEFT"],
        "logit_cap": values["LOGIT_CAP"],
        "xai_temperature_len": -1,
        "Lq": choice.head_dim, "Lv": v_head_dim,
        "BLOCK_DMODEL": block_dmodel, "BLOCK_DPE": block_dpe, "BLOCK_DV": values["BLOCK_DV"],
        "BLOCK_M": values["BLOCK_M"], "BLOCK_N": values["BLOCK_N"], "BLOCK_N_PREFIX": values["BLOCK_N"],
        "USE_CUSTOM_MASK": choice.mask, "IS_CAUSAL": choice.causal, "SKIP_PREFIX_CUSTOM_MASK": True,
        "STORE_TRANSPOSE": False, "HAS_SINK": choice.sinks,
        "STORE_LSE": False, "SKIP_PREFIX": False, "SKIP_EXTEND": False, "USE_COMPACT_TILE_GRID": False,
        "USE_EXP2": False, "USE_FP8_PREFIX": False, "USE_FP8_EXTEND": False, "FP8_MAX": 1.0,
    }  # fmt: skip

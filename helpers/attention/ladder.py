"""The extend kernel's ladder: its ingredients, its problem and its launch as changes, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from helpers.attention.choice import Choice
from helpers.attention.spec import CHOICES, EXTEND_KERNEL
from helpers.compiler.kernel_spec import KernelSpec
from helpers.hardware import CAP
from helpers.search.ablate import Ablation, Limits, ablate
from helpers.search.changes import Change, Ladder, constexpr_change, generic_ladder, option_change

CHANGE_NAMES = (
    "kv_dtype", "window", "tile_skip", "accumulate", "v_scale", "kv_operands", "q_cast",
    "block_m", "block_n", "num_warps", "num_stages", "maxnreg",
)  # fmt: skip
# `problem` changes what is asked of the kernel (no cure for whoever needs it); the others change how it is done.
GROUP_OF = {
    "kv_dtype": "problem", "window": "problem", "v_scale": "problem",
    "tile_skip": "kernel", "accumulate": "kernel", "kv_operands": "kernel", "q_cast": "kernel",
    "block_m": "tile", "block_n": "tile", "num_warps": "launch", "num_stages": "launch",
    "maxnreg": "launch",
}  # fmt: skip
# A cure at the tile and launch that were asked for.
KEEP_TILE = ("tile", "launch")
# The same, and with the problem as it was asked: this cache, this window, this scale.
KEEP_ALL_BUT_KERNEL = ("tile", "launch", "problem")
MIN_BLOCK = 16
# What asks for another answer: of no use to whoever needs this one.
OTHER_ANSWERS = frozenset({"v_scale", "window"})
# What a change costs, where its group does not say it.
COSTS = {
    "block_n": "another number of columns a step: measure",
    "kv_dtype": "the KV cache takes twice the memory, unless it is converted",
    "kv_operands": "dots in 16 bits instead of fp8 (more accurate, half the peak rate)",
}
_CACHE_POINTERS = ("k_buffer_ptr", "v_buffer_ptr")


def is_extend_kernel(spec: KernelSpec) -> bool:
    """Whether a spec is of this project's extend kernel (by function and parameters, wherever its file lies)."""
    names = {name for name, _ in spec.signature}
    return spec.kernel.name == EXTEND_KERNEL.name and {name.upper() for name in CHOICES} | {*_CACHE_POINTERS} <= names


def attention_changes(spec: KernelSpec) -> list[Change]:
    """The ladder of an extend-kernel spec: a list of single changes; what the spec does not have is not taken away.

    `block_m` goes down to a quarter, `block_n` to half and double, warps to half and double; ingredients go to their
    alternative, whichever side the spec is on.
    """
    values, signature = dict(spec.constexprs), dict(spec.signature)
    changes = []
    if signature[_CACHE_POINTERS[0]] != signature["q_ptr"]:
        changes.append(_kv_dtype_change(signature[_CACHE_POINTERS[0]], signature["q_ptr"]))
    if values["WINDOW_LEFT"] >= 0:
        changes.append(
            Change(
                "window",
                f"window {values['WINDOW_LEFT'] + 1} → none",
                lambda s: s.with_constexprs(WINDOW_LEFT=-1),
                GROUP_OF["window"],
            )
        )
    for name in ("tile_skip", "accumulate", "v_scale", "kv_operands", "q_cast"):
        parameter = name.upper()
        changes += [
            constexpr_change(parameter, values[parameter], other, name=name, group=GROUP_OF[name])
            for other in CHOICES[name]
            if other != values[parameter]
        ]
    for name, factors in (("block_m", (0.5, 0.25)), ("block_n", (0.5, 2))):
        old = values[name.upper()]
        changes += [
            constexpr_change(name.upper(), old, int(old * f), name=name, group="tile")
            for f in factors
            if MIN_BLOCK <= old * f <= 256
        ]
    warps, stages = spec.num_warps, spec.option.get("num_stages", 1)
    changes += [option_change("num_warps", warps, n) for n in (warps // 2, warps * 2) if 1 <= n <= 32]
    changes.append(option_change("num_stages", stages, 2 if stages == 1 else 1))
    # At the hardware's own limit it should change nothing. It does: Triton, told of a limit, moves tensor memory in
    # smaller pieces (x64 instead of x128 on 3.5.1), which the same number as a ptxas flag does not bring about.
    capped = spec.option.get("maxnreg")
    changes.append(option_change("maxnreg", capped, CAP if capped is None else None))
    return changes


def _kv_dtype_change(cached: str, wide: str) -> Change:
    def apply(spec: KernelSpec) -> KernelSpec:
        return replace(spec, signature=tuple((n, wide if n in _CACHE_POINTERS else kind) for n, kind in spec.signature))

    return Change("kv_dtype", f"KV cache {cached.lstrip('*')} → {wide.lstrip('*')}", apply, GROUP_OF["kv_dtype"])


def ladder_of(spec: KernelSpec, arch: str) -> Ladder:
    """The ladder of any spec: this kernel's own where the spec is of it, else the generic one."""
    if is_extend_kernel(spec):
        return Ladder(
            tuple(attention_changes(spec)), KEEP_ALL_BUT_KERNEL, keeps_answer=True, no_cure=OTHER_ANSWERS, costs=COSTS
        )
    return generic_ladder(spec, arch)


def ablate_choice(
    choice: Choice, *, hold: Sequence[str] = KEEP_ALL_BUT_KERNEL, limits: Limits | None = None
) -> Ablation:
    """The ablation of one configuration of the extend kernel by its own ladder."""
    request = choice.request()
    return ablate(
        request.spec,
        request.arch,
        request.toolchain,
        changes=attention_changes(request.spec),
        hold=hold,
        limits=limits,
        ptxas_flags=request.ptxas_flags,
        timeout_s=request.timeout_s,
    )

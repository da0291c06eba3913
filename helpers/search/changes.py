"""Changes to try on any kernel: what its own source and launch options offer, found without knowing the kernel.

The source is parsed, never run. It tells which parameters are declared `tl.constexpr` and what they are compared
with: `if MODE == "branch"` and `if WINDOW >= 0` each name a value that would take the other way.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.compiler.kernel_spec import KernelSpec, Scalar
from helpers.compiler.source import read_source
from helpers.errors import UserError
from helpers.hardware import GpuArch, get_arch

TRITON_DEFAULT_STAGES = 3
MAXNREG_TRIED = (255, 128)
PTXAS_LEVELS = ("-O2", "-O1", "-O0")
MAX_ALTERNATIVES = 4
_NARROW_POINTERS = "*fp8"
_COMPARE = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Knob:
    """One change to a spec. Knobs of one `name` are alternatives: no set of changes holds two of them.

    `description` is the change in words (`BLOCK_M 128 → 64`), `group` a word by which many knobs can be held still.
    `ptxas_flags` are for changes that no spec can express, such as -O1.
    """

    name: str
    description: str
    apply: Callable[[KernelSpec], KernelSpec]
    group: str = "kernel"
    ptxas_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ladder:
    """The changes to try on one spec, and how they are to be read.

    `hold` names the groups that a search for a cure leaves as they are. `keeps_answer` says that every knob of this
    ladder is known to leave the kernel's answer as it is, so that a changed constexpr needs no warning.
    """

    knobs: tuple[Knob, ...]
    hold: tuple[str, ...]
    keeps_answer: bool = False


# (spec, arch) -> its ladder. A study that knows its kernel hands in one of its own.
LadderOf = Callable[[KernelSpec, str], Ladder]


def generic_ladder(spec: KernelSpec, arch: str) -> Ladder:
    """The ladder of any kernel: the generic knobs, with launch, ptxas and types held in the search for a cure."""
    knobs = tuple(generic_knobs(spec, arch))
    groups = {k.group for k in knobs}
    return Ladder(knobs, tuple(g for g in ("launch", "ptxas", "types") if g in groups))


def constexpr_knob(parameter: str, old: Scalar, new: Scalar, *, name: str = "", group: str = "constexpr") -> Knob:
    """The knob that sets a constexpr of the kernel to another value."""
    return Knob(
        name or parameter,
        f"{parameter} {old} → {new}",
        lambda spec: spec.with_constexprs(**{parameter: new}),
        group,
    )


def option_knob(option: str, old: object, new: object, *, group: str = "launch") -> Knob:
    """The knob that sets a launch option to another value (None: leaves it to Triton)."""
    words = f"{option} {'unset' if old is None else old} → {'unset' if new is None else new}"
    return Knob(option, words, lambda spec: spec.with_options(**{option: new}), group)


def generic_knobs(
    spec: KernelSpec, arch: str | GpuArch, *, alternatives: Mapping[str, Sequence[Scalar]] | None = None
) -> list[Knob]:
    """Knobs for any kernel: its constexprs, wider pointer types, num_warps, num_stages, maxnreg and ptxas -O levels.

    Integers are halved, switches flipped, numbers dropped to 0, and what the source compares a constexpr with is
    turned the other way; `alternatives` adds values of the caller's by constexpr name. Raises UserError for a name
    the kernel does not have.
    """
    values = dict(spec.constexprs)
    if stray := set(alternatives or {}) - set(values):
        raise UserError(f"{spec.kernel.name} has no constexpr {sorted(stray)[0]!r}; it has {', '.join(values)}")
    declared, compared = _read_source(spec)
    knobs = []
    for name, value in values.items():
        if declared is not None and name not in declared and name not in (alternatives or {}):
            continue  # an argument Triton made a constant (a stride of 1, a pointer of None): not the author's choice
        found = [*(alternatives or {}).get(name, ()), *_other_values(value, compared.get(name, ()))]
        distinct = {(type(v), v): v for v in found if (type(v), v) != (type(value), value)}
        knobs += [constexpr_knob(name, value, new) for new in list(distinct.values())[:MAX_ALTERNATIVES]]
    knobs += _pointer_knobs(spec)
    knobs += _launch_knobs(spec, get_arch(arch))
    return knobs


def _launch_knobs(spec: KernelSpec, arch: GpuArch) -> list[Knob]:
    warps, stages = spec.num_warps, spec.option.get("num_stages")
    knobs = [option_knob("num_warps", warps, n) for n in (warps // 2, warps * 2) if 1 <= n <= 32]
    depth = TRITON_DEFAULT_STAGES if stages is None else stages
    knobs.append(option_knob("num_stages", stages, 1 if depth > 1 else 2))
    capped = spec.option.get("maxnreg")
    if capped is None:
        knobs += [option_knob("maxnreg", None, n) for n in MAXNREG_TRIED if n <= arch.max_regs_per_thread]
    else:
        knobs.append(option_knob("maxnreg", capped, None))
    knobs += [Knob("ptxas_level", f"ptxas {flag}", lambda s: s, "ptxas", (flag,)) for flag in PTXAS_LEVELS]
    return knobs


def _pointer_knobs(spec: KernelSpec) -> list[Knob]:
    """One knob a narrow pointer type: all pointers of it become 16-bit, which changes what the kernel is given."""
    knobs = []
    for kind in dict.fromkeys(kind for _, kind in spec.signature if kind.startswith(_NARROW_POINTERS)):
        wide = "*fp16" if any(k == "*fp16" for _, k in spec.signature) else "*bf16"
        knobs.append(
            Knob(
                f"pointers {kind}",
                f"pointers {kind} → {wide}",
                lambda s, old=kind, new=wide: with_pointer_type(s, old, new),
                "types",
            )
        )
    return knobs


def with_pointer_type(spec: KernelSpec, old: str, new: str) -> KernelSpec:
    """The spec with every pointer of type `old` (`*fp8e4nv`) of type `new` instead."""
    return replace(spec, signature=tuple((n, new if kind == old else kind) for n, kind in spec.signature))


# --- values from the source -------------------------------------------------------------------------------


def _read_source(spec: KernelSpec) -> tuple[set[str] | None, dict[str, list[tuple[type, Scalar]]]]:
    """(parameters declared constexpr, None if that cannot be told; by parameter, the (operator, value) it meets)."""
    try:
        tree = ast.parse(read_source(Path(spec.kernel.path)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None, {}
    body = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == spec.kernel.name), None)
    if body is None:
        return None, {}
    arguments = [*body.args.posonlyargs, *body.args.args, *body.args.kwonlyargs]
    declared = {a.arg for a in arguments if a.annotation is not None and "constexpr" in ast.unparse(a.annotation)}
    compared: dict[str, list[tuple[type, Scalar]]] = {}
    for node in ast.walk(body):
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE):
            continue
        left, right = node.left, node.comparators[0]
        if isinstance(left, ast.Name) and left.id in declared:
            try:
                value = ast.literal_eval(right)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(value, Scalar):
                compared.setdefault(left.id, []).append((type(node.ops[0]), value))
    return declared, compared


def _other_values(value: Scalar, compared: Sequence[tuple[type, Scalar]]) -> list[Scalar]:
    """Values to put in place of `value`: a switch flipped, a whole number halved, and the ways not taken."""
    found: list[Scalar] = []
    if isinstance(value, bool):
        return [not value]
    literals = [v for _, v in compared if isinstance(v, str)]
    if isinstance(value, str):
        others = [v for v in dict.fromkeys(literals) if v != value]
        # Compared with nothing but its own value: any other word takes the other way.
        return others or ([f"not {value}"] if value in literals else [])
    if isinstance(value, (int, float)):
        if isinstance(value, int) and value > 1 and value % 2 == 0:
            found.append(value // 2)
        for op, other in compared:
            if isinstance(other, bool) or not isinstance(other, (int, float)):
                continue
            holds = _COMPARE[op](value, other)
            ways = (type(value)(other), type(value)(other - 1), type(value)(other + 1))
            found += [v for v in ways if _COMPARE[op](v, other) != holds][:1]
        if isinstance(value, float) and value != 0:
            found.append(0.0)
    return found

"""Changes to try on any kernel: what its own source and launch options offer, found without knowing the kernel.

The source is parsed, never run. It tells which parameters are declared `tl.constexpr` and what they are compared
with: `if MODE == "branch"` and `if WINDOW >= 0` each name a value that would take the other way.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from helpers.compiler.kernel_spec import KernelSpec, Scalar
from helpers.compiler.source import read_source
from helpers.compiler.toolchain import Toolchain
from helpers.compiler.wheel_facts import LLVM_SWITCHES, switch_environment, wheel_facts
from helpers.compiler.worker.pool import Environment
from helpers.errors import UserError
from helpers.hardware import GpuArch, get_arch

TRITON_DEFAULT_STAGES = 3
MAXNREG_TRIED = (255, 128)
PTXAS_LEVELS = ("-O2", "-O1", "-O0")
MAX_ALTERNATIVES = 4
# Triton 3.7 and newer always ask for level 2; ptxas's own default is another.
ALLOCATION, ALLOCATION_LEVELS = "--regAllocOptLevel", (0, 2, 4)
_NARROW_POINTERS = "*fp8"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One change to a spec. Changes of one `name` are alternatives: no set of changes holds two of them.

    `description` is the change in words (`BLOCK_M 128 → 64`), `group` a word by which many changes can be held still.
    `ptxas_flags` and `environment` (of the worker that generates code, nobody else's) are for changes that no spec can
    express, such as -O1 and a switch of LLVM's. One that is to be tried `alone` is never put together with others.
    """

    name: str
    description: str
    apply: Callable[[KernelSpec], KernelSpec]
    group: str = "kernel"
    ptxas_flags: tuple[str, ...] = ()
    environment: Environment = ()
    alone: bool = False


@dataclass(frozen=True)
class Ladder:
    """The changes to try on one spec, and how they are to be read.

    `hold` names the groups that a search for a cure leaves as they are. `keeps_answer` says that the changes of this
    ladder are known to leave the answer as it is, so that a changed constexpr needs no warning; `no_cure` names
    those that do not, which are never suggested. `costs` says what a change costs, by name, where its group does not.
    """

    changes: tuple[Change, ...]
    hold: tuple[str, ...]
    keeps_answer: bool = False
    no_cure: frozenset[str] = frozenset()
    costs: Mapping[str, str] = field(default_factory=dict)


# (spec, arch) -> its ladder. A study that knows its kernel hands in one of its own.
LadderOf = Callable[[KernelSpec, str], Ladder]


def generic_ladder(spec: KernelSpec, arch: str) -> Ladder:
    """The ladder of any kernel: the generic changes, with launch, ptxas and types held in the search for a cure."""
    changes = tuple(generic_changes(spec, arch))
    groups = {c.group for c in changes}
    return Ladder(changes, tuple(g for g in ("launch", "ptxas", "types") if g in groups))


def constexpr_change(parameter: str, old: Scalar, new: Scalar, *, name: str = "", group: str = "constexpr") -> Change:
    """The change that sets a constexpr of the kernel to another value."""
    return Change(
        name or parameter,
        f"{parameter} {old} → {new}",
        lambda spec: spec.with_constexprs(**{parameter: new}),
        group,
    )


def option_change(option: str, old: object, new: object, *, group: str = "launch") -> Change:
    """The change that sets a launch option to another value (None: leaves it to Triton)."""
    words = f"{option} {'unset' if old is None else old} → {'unset' if new is None else new}"
    return Change(option, words, lambda spec: spec.with_options(**{option: new}), group)


def generic_changes(
    spec: KernelSpec, arch: str | GpuArch, *, alternatives: Mapping[str, Sequence[Scalar]] | None = None
) -> list[Change]:
    """Changes for any kernel: its constexprs, wider pointer types, num_warps, num_stages, maxnreg and ptxas -O levels.

    Integers are halved, switches flipped, numbers dropped to 0, and what the source compares a constexpr with is
    turned the other way; `alternatives` adds values of the caller's by constexpr name. Raises UserError for a name
    the kernel does not have.
    """
    values = dict(spec.constexprs)
    if stray := set(alternatives or {}) - set(values):
        raise UserError(f"{spec.kernel.name} has no constexpr {sorted(stray)[0]!r}; it has {', '.join(values)}")
    declared, compared = _read_source(spec)
    changes = []
    for name, value in values.items():
        if declared is not None and name not in declared and name not in (alternatives or {}):
            continue  # an argument Triton made a constant (a stride of 1, a pointer of None): not the author's choice
        found = [*(alternatives or {}).get(name, ()), *_other_values(value, compared.get(name, ()))]
        distinct = {(type(v), v): v for v in found if (type(v), v) != (type(value), value)}
        changes += [constexpr_change(name, value, new) for new in list(distinct.values())[:MAX_ALTERNATIVES]]
    changes += _pointer_changes(spec)
    changes += _launch_changes(spec, get_arch(arch))
    return changes


def compiler_changes(toolchain: Toolchain) -> list[Change]:
    """Changes of the compiler itself: switches that this Triton's LLVM knows, and how hard ptxas allocates registers.

    None of them changes what the kernel computes. Raises ToolchainMissing where the Triton is not here.
    """
    tools = toolchain.resolve()
    facts = wheel_facts(tools.triton)
    changes = [
        Change(
            name,
            f"LLVM {name}: {what}",
            lambda s: s,
            "llvm",
            environment=switch_environment([name], tools.triton),
            alone=True,
        )
        for name, what in LLVM_SWITCHES.items()
        if facts.knows(name)
    ]
    flags = [f"{ALLOCATION}={level}" for level in ALLOCATION_LEVELS]
    changes += [
        Change("register_allocation", f"ptxas {flag}", lambda s: s, "ptxas", (flag,), alone=True) for flag in flags
    ]
    return changes


def _launch_changes(spec: KernelSpec, arch: GpuArch) -> list[Change]:
    warps, stages = spec.num_warps, spec.option.get("num_stages")
    changes = [option_change("num_warps", warps, n) for n in (warps // 2, warps * 2) if 1 <= n <= 32]
    depth = TRITON_DEFAULT_STAGES if stages is None else stages
    changes += [option_change("num_stages", stages, n) for n in ((1, 2) if depth > 2 else (1,) if depth > 1 else (2,))]
    capped = spec.option.get("maxnreg")
    if capped is None:
        changes += [option_change("maxnreg", None, n) for n in MAXNREG_TRIED if n <= arch.max_regs_per_thread]
    else:
        changes.append(option_change("maxnreg", capped, None))
    return [*changes, *ptxas_level_changes()]


def ptxas_level_changes() -> list[Change]:
    """ptxas -O2, -O1 and -O0 in place of its -O3: flags that no spec can express."""
    return [Change("ptxas_level", f"ptxas {flag}", lambda s: s, "ptxas", (flag,)) for flag in PTXAS_LEVELS]


def _pointer_changes(spec: KernelSpec) -> list[Change]:
    """A change for each narrow pointer type: all pointers of it become 16-bit, which is another problem."""
    changes = []
    for kind in dict.fromkeys(kind for _, kind in spec.signature if kind.startswith(_NARROW_POINTERS)):
        wide = "*fp16" if any(k == "*fp16" for _, k in spec.signature) else "*bf16"
        changes.append(
            Change(
                f"pointers {kind}",
                f"pointers {kind} → {wide}",
                partial(with_pointer_type, old=kind, new=wide),
                "types",
            )
        )
    return changes


def with_pointer_type(spec: KernelSpec, old: str, new: str) -> KernelSpec:
    """The spec with every pointer of type `old` (`*fp8e4nv`) of type `new` instead."""
    return replace(spec, signature=tuple((n, new if kind == old else kind) for n, kind in spec.signature))


# --- values from the source -------------------------------------------------------------------------------


def _read_source(spec: KernelSpec) -> tuple[set[str] | None, dict[str, list[tuple[type[ast.cmpop], Scalar]]]]:
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
    compared: dict[str, list[tuple[type[ast.cmpop], Scalar]]] = {}
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


def _other_values(value: Scalar, compared: Sequence[tuple[type[ast.cmpop], Scalar]]) -> list[Scalar]:
    """Values to put in place of `value`: a switch flipped, a whole number halved, and the ways not taken."""
    found: list[Scalar] = []
    if isinstance(value, bool):
        return [not value]
    literals = [v for _, v in compared if isinstance(v, str)]
    if isinstance(value, str):
        others: list[Scalar] = [v for v in dict.fromkeys(literals) if v != value]
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

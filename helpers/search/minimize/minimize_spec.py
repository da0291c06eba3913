"""minimize_spec: the smallest constexprs and fewest options with which a spec still fails in the same way."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest, compile_kernel, compile_matrix, usable_cores
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import NO_VERDICT, CompileReport, refuse_ill
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.hardware import get_arch
from helpers.search.changes import Change, constexpr_change, option_change

SPEC_TIME_LIMIT_S = 600.0
# Options that every launch has: never dropped, only made smaller.
_KEPT_OPTIONS = ("num_warps", "num_stages")


@dataclass(frozen=True)
class MinimizedSpec:
    """A spec made smaller by `changes`, in words and in order, that fails as the first one did.

    `needed` are the changes tried last on the result, each with the verdict it leads to: the failure ends, becomes
    another, or stays in a longer PTX.
    `complete` is False when the time limit ended the search.
    """

    spec: KernelSpec
    before: CompileReport
    after: CompileReport
    changes: tuple[str, ...]
    needed: tuple[str, ...]
    compiles: int
    complete: bool
    wall_s: float = field(compare=False)

    def to_dict(self) -> dict:
        """Ready for JSON: the spec as written by KernelSpec.to_json, verdicts, changes."""
        import json

        return {
            "spec": json.loads(self.spec.to_json()),
            "arch": self.before.arch,
            "triton_version": self.before.triton_version,
            "ptxas_version": self.before.ptxas_version,
            "verdict": self.after.verdict(),
            "register_count_asked": self.after.register_count_asked,
            "ptx_lines_before": self.before.ptx_lines,
            "ptx_lines_after": self.after.ptx_lines,
            "changes": list(self.changes),
            "needed": list(self.needed),
            "compiles": self.compiles,
            "complete": self.complete,
            "wall_s": round(self.wall_s, 1),
        }


def minimize_spec(
    spec: KernelSpec,
    arch: str,
    toolchain: Toolchain | None = None,
    *,
    ptxas_flags: tuple[str, ...] = (),
    time_limit_s: float = SPEC_TIME_LIMIT_S,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    executor: concurrent.futures.Executor | None = None,
    progress: Callable[[int, int, CompileReport], None] | None = None,
) -> MinimizedSpec:
    """The spec with whole numbers halved, switches off and options dropped as long as it fails with the same code.

    Same means status, C-code and register count asked. A step after which the PTX is longer is not taken: a number
    below the size of a tile brings masks. Knows no kernel: which numbers matter comes from compiling.
    Every compile goes through the cache. Raises UserError for a spec that compiles or that this toolchain cannot say
    anything about.
    """
    if not 0 < time_limit_s < float("inf"):
        raise UserError(f"time limit {time_limit_s} s: it must be more than 0 and finite")
    started = time.monotonic()
    base = CompileRequest(spec, get_arch(arch).name, toolchain or Toolchain(), ptxas_flags, timeout_s)
    before = compile_kernel(spec, base.arch, base.toolchain, ptxas_flags=ptxas_flags, timeout_s=timeout_s)
    refuse_ill([before])
    if before.compiled or before.status in NO_VERDICT:
        raise UserError(
            f"{spec.label or spec.kernel.name} does not fail on {base.arch} ({before.verdict()}), so there is nothing "
            f"to minimise{': ' + before.message[:200] if before.message else ''}"
        )
    best, after, changes, compiles = spec, before, [], 1
    refused: dict[str, None] = {}
    names = [("option", name) for name, _ in spec.options]
    names += [(what, name) for what in ("alike", "constexpr") for name, _ in spec.constexprs]
    taken = complete = False
    at = 0  # the first name not yet looked at in this round
    while not complete:
        candidates: list[tuple[int, Change]] = []
        ahead = at
        while ahead < len(names) and len(candidates) < 2 * usable_cores():
            candidates += [(ahead, change) for change in _smaller(best, *names[ahead])]
            ahead += 1
        if not candidates:
            complete, taken, at = not taken, False, 0
            if not complete:
                refused.clear()
            continue
        if time.monotonic() - started > time_limit_s:
            break
        trials = _applied(candidates, best)
        reports = compile_matrix([replace(base, spec=s) for _, _, s in trials], executor=executor, progress=progress)
        refuse_ill(reports)
        compiles += len(reports)
        at = ahead
        for (number, change, smaller), report in zip(trials, reports, strict=True):
            same = _same(before, report)
            if same and (report.ptx_lines or 0) <= (after.ptx_lines or 0):
                best, after, taken, at = smaller, report, True, number  # the same name again: it may go on shrinking
                changes.append(change.description)
                break
            refused[f"{change.description}: {'the same in a longer PTX' if same else report.verdict()}"] = None
    return MinimizedSpec(
        best, before, after, tuple(changes), tuple(refused), compiles, complete, time.monotonic() - started
    )


def _same(before: CompileReport, report: CompileReport) -> bool:
    ours = (before.status, before.ptxas_code, before.register_count_asked, before.failed_stage)
    return ours == (report.status, report.ptxas_code, report.register_count_asked, report.failed_stage)


def _smaller(spec: KernelSpec, what: str, name: str) -> Iterator[Change]:
    """What makes one option or constexpr smaller, the boldest first; nothing when it is as small as can be.

    `alike` halves all constexprs of one value together: a head dimension and the tile as wide as it.
    """
    if what == "alike":
        yield from _alike(spec, name)
        return
    make = option_change if what == "option" else constexpr_change
    values = spec.option if what == "option" else dict(spec.constexprs)
    value = values.get(name)
    if what == "option" and name in values and name not in _KEPT_OPTIONS:
        yield option_change(name, value, None)
    elif value is True:
        yield make(name, value, False)
    elif type(value) is int and value > 1:
        yield make(name, value, 1)
        if value > 3:
            yield make(name, value, value // 2)
    elif type(value) is float and value != 0.0:
        yield make(name, value, 0.0)


def _alike(spec: KernelSpec, name: str) -> Iterator[Change]:
    value = dict(spec.constexprs)[name]
    alike = [n for n, v in spec.constexprs if type(v) is int and v == value]
    if type(value) is int and value > 1 and len(alike) > 1 and alike[0] == name:
        halved = dict.fromkeys(alike, value // 2)
        words = f"{', '.join(alike)} {value} → {value // 2}"
        yield Change(name, words, lambda s: s.with_constexprs(**halved), "constexpr")


def _applied(candidates: list[tuple[int, Change]], spec: KernelSpec) -> list[tuple[int, Change, KernelSpec]]:
    trials = []
    for number, change in candidates:
        try:
            trials.append((number, change, change.apply(spec)))
        except UserError:  # a value the spec itself refuses
            continue
    return trials

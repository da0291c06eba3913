"""Ablation: change one thing at a time in a spec that dies or spills, then search for the smallest cure.

Nothing here knows a kernel: the changes are handed in (`helpers.search.changes`), the verdicts are ptxas's.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from helpers.compiler.compile import (
    DEFAULT_TIMEOUT_S,
    CompileRequest,
    compile_kernel,
    compile_matrix,
    usable_cores,
)
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import NO_VERDICT, CompileReport, refuse_ill
from helpers.compiler.toolchain import Toolchain
from helpers.compiler.wheel_facts import merged
from helpers.errors import UserError
from helpers.hardware import get_arch
from helpers.search.changes import Change, LadderOf, compiler_changes, generic_ladder
from helpers.search.same_failure import same_failure

# Called after each compile: how many are done, of how many, and the report.
Progress = Callable[[int, int, CompileReport], None]
COMPILES, NO_SPILLS = "compiles", "no spills"
# What `necessary` means, by what the baseline is.
MAKES_IT_COMPILE = "each alone makes it compile"
ENDS_SPILLS = "each alone ends the spills"
HALVES_SPILLS = "none alone ends the spills; each alone at least halves their bytes"
NOTHING_ALONE = "no change alone does"
NOTHING_TRIED_ALONE = "no change that the time sufficed for does alone"
NOTHING_WRONG = "it compiles with no spills: nothing to find"
# The effect of a change whose binary no SM can take: registers x threads of one CTA exceed the file.
NOT_KNOWN = "not known"
TOO_MANY = "too many registers to launch"


@dataclass(frozen=True)
class Limits:
    """Where the search for small sets stops: compiles asked for, seconds, changes per set.

    The seconds are for everything: single changes are not tried after them either, and no compile may last beyond.
    """

    max_compiles: int = 300
    max_seconds: float = 300.0
    max_size: int = 4

    def __post_init__(self) -> None:
        if self.max_compiles < 1 or self.max_size < 1 or not 0 < self.max_seconds < float("inf"):
            raise UserError(
                f"limits {self.max_compiles} compiles, {self.max_seconds} s, {self.max_size} changes: each must be "
                "at least 1 (seconds: more than 0)"
            )


@dataclass(frozen=True)
class Rung:
    """One set of changes (usually one change), what ptxas says of it, and what that is beside the baseline.

    `slower_path`: its tensor-core instructions are of a slower kind than the baseline's, or gone. `launchable`: one CTA
    fits the register file of an SM; a binary that does not is no cure (`maxnreg` allows what 32 warps cannot have).
    """

    changes: tuple[Change, ...]
    report: CompileReport
    effect: str
    slower_path: bool = False
    launchable: bool = True

    def reaches(self, goal: str) -> bool:
        """Whether it meets `compiles` or `no spills` and could be launched."""
        return self.launchable and reaches(goal, self.report)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the changes."""
        return tuple(c.name for c in self.changes)

    @property
    def description(self) -> str:
        """The changes in words."""
        return ", ".join(c.description for c in self.changes)

    def to_dict(self) -> dict:
        """A flat row, ready for JSON."""
        return {
            "name": " + ".join(self.names),
            "change": self.description,
            "group": " + ".join(dict.fromkeys(c.group for c in self.changes)),
            "effect": self.effect,
            "verdict": self.report.verdict(),
            "status": self.report.status,
            "ptxas_code": self.report.ptxas_code,
            "regs_per_thread": self.report.regs_per_thread,
            "spill_store_bytes": self.report.spill_store_bytes,
            "spill_load_bytes": self.report.spill_load_bytes,
            "tensor_core_path": self.report.tensor_core_path,
            "slower_path": self.slower_path,
            "launchable": self.launchable,
            "message": self.report.message[:300],
        }


@dataclass(frozen=True)
class SmallestSets:
    """The smallest sets of changes that reach a goal, none of them touching what was `held`; the best come first.

    All sets of that size are here when `complete`; `stopped` says why the search ended otherwise. No set: none of up
    to `searched_size` changes reaches the goal.
    """

    goal: str
    held: tuple[str, ...]
    sets: tuple[Rung, ...]
    searched_size: int
    tried: int
    complete: bool
    stopped: str = ""

    def to_dict(self) -> dict:
        """Ready for JSON; each set as the names of its changes and its row."""
        return {
            "goal": self.goal,
            "held": list(self.held),
            "sets": [{"names": list(r.names), **r.to_dict()} for r in self.sets],
            "searched_size": self.searched_size,
            "tried": self.tried,
            "complete": self.complete,
            "stopped": self.stopped,
        }


@dataclass(frozen=True)
class Ablation:
    """The ladder of a spec: the baseline, one rung a change, what is necessary (see `criterion`), smallest sets.

    `untried` are the single changes that the time did not suffice for: of these nothing is known.
    """

    label: str
    baseline: CompileReport
    rungs: tuple[Rung, ...]
    criterion: str
    necessary: tuple[str, ...]
    searches: tuple[SmallestSets, ...]
    compiles: int
    seconds: float = field(compare=False)
    untried: tuple[str, ...] = ()

    def smallest(self, goal: str = NO_SPILLS, held: Sequence[str] = ()) -> SmallestSets:
        """The search for `goal` with `held`; raises UserError when it was not made."""
        for search in self.searches:
            if search.goal == goal and search.held == tuple(held):
                return search
        made = "; ".join(f"{s.goal} holding {', '.join(s.held) or 'nothing'}" for s in self.searches)
        raise UserError(f"no search for {goal!r} holding {', '.join(held) or 'nothing'} was made; there is: {made}")

    def to_dict(self) -> dict:
        """Ready for JSON: `rungs`, `necessary` and the rest."""
        return {
            "label": self.label,
            "arch": self.baseline.arch,
            "triton_version": self.baseline.triton_version,
            "ptxas_version": self.baseline.ptxas_version,
            "baseline": Rung((), self.baseline, "baseline").to_dict(),
            "rungs": [r.to_dict() for r in self.rungs],
            "criterion": self.criterion,
            "necessary": list(self.necessary),
            "smallest": [s.to_dict() for s in self.searches],
            "compiles": self.compiles,
            "seconds": round(self.seconds, 1),
            "untried": list(self.untried),
        }


def spill_bytes(report: CompileReport) -> int | None:
    """Spill stores and loads together, in bytes per thread; None where there is no binary."""
    if not report.compiled:
        return None
    return (report.spill_store_bytes or 0) + (report.spill_load_bytes or 0)


def reaches(goal: str, report: CompileReport) -> bool:
    """Whether a report meets `compiles` or `no spills`."""
    return report.compiled if goal == COMPILES else spill_bytes(report) == 0


def effect_of(baseline: CompileReport, report: CompileReport) -> str:
    """What a change did, in a word or three: compiles, no spills, halves the spills, breaks it, no effect …"""
    before, after = spill_bytes(baseline), spill_bytes(report)
    if report.status in NO_VERDICT:
        return NOT_KNOWN
    if after is None:
        if before is not None:
            return "breaks it"
        return "same failure" if same_failure(baseline, report) else "another failure"
    if before is None:
        return "no spills" if after == 0 else "compiles"
    if report.ptx_sha256 == baseline.ptx_sha256 and after == before:
        return "no effect"
    if after == 0 < before:
        return "no spills"
    if after * 2 <= before and before:
        return "halves the spills"
    return "same spills" if after == before else "fewer spills" if after < before else "more spills"


def slower_path(baseline: CompileReport, report: CompileReport) -> bool:
    """Whether a report's tensor-core instructions are of a slower kind than the baseline's; False without PTX."""
    order = ("tcgen05", "wgmma", "mma.sync", "none")
    if not report.instructions:
        return False
    return order.index(report.tensor_core_path) > order.index(baseline.tensor_core_path)


def ablate(
    spec: KernelSpec,
    arch: str,
    toolchain: Toolchain | None = None,
    *,
    changes: Iterable[Change],
    hold: Sequence[str] = (),
    limits: Limits | None = None,
    ptxas_flags: tuple[str, ...] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
    executor: concurrent.futures.Executor | None = None,
    progress: Callable[[int, int, CompileReport], None] | None = None,
    found: Callable[[Rung], None] | None = None,
    baseline: CompileReport | None = None,
) -> Ablation:
    """The ablation of `spec` by `changes`: each alone, then the smallest sets that compile and that end the spills.

    `hold` are names or groups of changes; with it, the searches are made once with everything and once with those held
    still (a cure that keeps the tile, say). Every compile goes through the cache; `progress` is called as
    `compile_matrix` does, batch by batch, and `found` with each rung as soon as it is known.
    `baseline` is the report of the spec as it is, for a caller that has it already. Raises UserError for changes that
    do not apply, a `hold` that no change answers to, and a toolchain that is not here; MachineError where the machine
    failed a compile.
    """
    started = time.monotonic()
    limits = limits or Limits()
    changes = tuple(changes)
    _check(changes, hold)
    request = CompileRequest(spec, get_arch(arch).name, toolchain or Toolchain(), ptxas_flags, timeout_s)
    if baseline is None:
        baseline = compile_kernel(
            spec, request.arch, request.toolchain, ptxas_flags=request.ptxas_flags,
            timeout_s=min(request.timeout_s, limits.max_seconds),
        )  # fmt: skip
    if baseline.status == "toolchain_missing":
        raise UserError(baseline.message)
    refuse_ill([baseline])
    bench = _Bench(request, baseline, limits, started, executor=executor, progress=progress, found=found)
    tried, cut = bench.run([(change,) for change in changes], bounded=False)
    rungs = tuple(bench.rung(single) for single in tried)
    criterion, necessary = _necessary(baseline, rungs)
    if criterion == NOTHING_ALONE and len(rungs) < len(changes):
        criterion = NOTHING_TRIED_ALONE
    searches = []
    if not reaches(NO_SPILLS, baseline):
        for held in dict.fromkeys([(), tuple(hold)]):
            free = [r for r in rungs if not {r.changes[0].name, r.changes[0].group} & set(held)]
            goals = [NO_SPILLS] if baseline.compiled else [COMPILES, NO_SPILLS]
            searches += [_search(bench, free, goal=goal, held=held, cut=cut) for goal in goals]
    return Ablation(
        label=spec.label or spec.kernel.name,
        baseline=baseline,
        rungs=rungs,
        criterion=criterion,
        necessary=necessary,
        searches=tuple(searches),
        compiles=len(bench.reports) + 1,
        seconds=time.monotonic() - started,
        untried=tuple(change.description for change in changes if (change,) not in tried),
    )


def _check(changes: Sequence[Change], hold: Sequence[str]) -> None:
    if not changes:
        raise UserError("no change to try was given: an ablation needs at least one change")
    keys = [(c.name, c.description) for c in changes]
    if len(set(keys)) != len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise UserError(f"the change {twice[1]!r} of {twice[0]!r} is there twice")
    known = {c.name for c in changes} | {c.group for c in changes}
    for word in hold:
        if word not in known:
            raise UserError(f"cannot hold {word!r}: the changes and groups are {', '.join(sorted(known))}")


def _necessary(baseline: CompileReport, rungs: Sequence[Rung]) -> tuple[str, tuple[str, ...]]:
    """(what `necessary` means here, the names)."""

    def names(found: Iterable[Rung]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.changes[0].name for r in found))

    if not baseline.compiled:
        found = names(r for r in rungs if r.reaches(COMPILES))
        return (MAKES_IT_COMPILE if found else NOTHING_ALONE), found
    if reaches(NO_SPILLS, baseline):
        return NOTHING_WRONG, ()
    for criterion, effect in ((ENDS_SPILLS, "no spills"), (HALVES_SPILLS, "halves the spills")):
        if found := names(r for r in rungs if r.effect == effect):
            return criterion, found
    return NOTHING_ALONE, ()


class _Bench:
    """Compiles sets of changes, each once, within the limits."""

    def __init__(
        self,
        request: CompileRequest,
        baseline: CompileReport,
        limits: Limits,
        started: float,
        *,
        executor: concurrent.futures.Executor | None,
        progress: Callable[[int, int, CompileReport], None] | None,
        found: Callable[[Rung], None] | None,
    ) -> None:
        self.request, self.baseline, self.limits, self.started = request, baseline, limits, started
        self.executor, self.progress, self.found = executor, progress, found
        self.reports: dict[frozenset[tuple[str, str]], CompileReport] = {}
        self.cut_short = False

    @staticmethod
    def _key(changes: Sequence[Change]) -> frozenset[tuple[str, str]]:
        return frozenset((c.name, c.description) for c in changes)

    def _request(self, changes: Sequence[Change]) -> CompileRequest:
        spec, flags, environment = self.request.spec, self.request.ptxas_flags, self.request.environment
        for change in changes:
            spec, flags = change.apply(spec), flags + change.ptxas_flags
            environment = merged(environment, change.environment)
        words = ", ".join(c.description for c in changes)
        return replace(
            self.request,
            spec=replace(spec, label=f"{self.request.spec.label} [{words}]".strip()),
            ptxas_flags=flags,
            environment=environment,
        )

    def rung(self, changes: tuple[Change, ...]) -> Rung:
        """The rung of a set that has been run."""
        report = self.reports[self._key(changes)]
        effect, launchable = effect_of(self.baseline, report), report.launchable or not report.compiled
        return Rung(changes, report, effect if launchable else TOO_MANY, slower_path(self.baseline, report), launchable)

    def stop(self, pending: int) -> str:
        """Why no more may be compiled, with so many under way; empty while it may."""
        if len(self.reports) + pending >= self.limits.max_compiles:
            return f"{self.limits.max_compiles} compiles"
        return self.out_of_time()

    def out_of_time(self) -> str:
        """The limit of time in words where it is reached, else nothing."""
        return f"{self.limits.max_seconds:g} seconds" if self.cut_short or self.left_s() <= 0 else ""

    def left_s(self) -> float:
        """Seconds that are left."""
        return self.limits.max_seconds - (time.monotonic() - self.started)

    def run(self, sets: Iterable[tuple[Change, ...]], *, bounded: bool = True) -> tuple[list[tuple[Change, ...]], str]:
        """(the sets that now have a report, why it ended before all had). A set that contradicts itself is left out.

        Sets are drawn as they are needed: of 60 changes there are half a million sets of four. A compile that was
        stopped because the time for everything was up has no report: with more time it might have ended well.
        """
        done: list[tuple[Change, ...]] = []
        pending: list[tuple[tuple[Change, ...], CompileRequest]] = []
        batch = 2 * usable_cores() if self.executor is None else 64

        def flush() -> None:
            # Code generation and ptxas have the time each, and twice as many wait as run at once.
            limit_s = max(1.0, self.left_s() / 4)
            requests = [replace(r, timeout_s=min(r.timeout_s, limit_s)) for _, r in pending]
            reports = compile_matrix(requests, executor=self.executor, progress=self.progress)
            refuse_ill(reports)
            for (changes, request), report in zip(pending, reports, strict=True):
                if report.status == "timeout" and limit_s < request.timeout_s:
                    self.cut_short = True
                    continue
                self.reports[self._key(changes)] = report
                done.append(changes)
                if self.found is not None:
                    self.found(self.rung(changes))
            pending.clear()

        for changes in sets:
            if self._key(changes) in self.reports:
                done.append(changes)
                continue
            if reason := self.stop(len(pending)) if bounded else self.out_of_time():
                flush()
                return done, reason
            try:
                pending.append((changes, self._request(changes)))
            except UserError:
                if not bounded:  # a change that does not fit this spec at all
                    raise
            if len(pending) >= batch:
                flush()
        flush()
        return done, self.out_of_time() if self.cut_short else ""


def _search(bench: _Bench, singles: Sequence[Rung], *, goal: str, held: tuple[str, ...], cut: str = "") -> SmallestSets:
    """Breadth first over sets by size, the most promising singles first within a size.

    With `cut`, the reason why not even every single change was tried, those that were are all there is.
    """
    # Contradicting changes never combine; what compiles with few spills alone is likely to help in company.
    order = sorted(singles, key=lambda r: (not r.report.compiled, spill_bytes(r.report) or 0))
    tried, reason, size = 0, "", 0
    for size in range(1, bench.limits.max_size + 1):
        if size == 2:
            order = [r for r in order if not r.changes[0].alone]
        if size > len({r.changes[0].name for r in order}) and not cut:
            return SmallestSets(goal, held, (), size - 1, tried, True, "no larger sets of changes")
        sets = (
            tuple(r.changes[0] for r in chosen)
            for chosen in itertools.combinations(order, size)
            if len({r.changes[0].name for r in chosen}) == size
        )
        done, reason = bench.run(sets)
        tried += len(done)
        hits = tuple(r for r in map(bench.rung, done) if r.reaches(goal))
        reason = reason or cut
        if hits or reason:
            ranked = sorted(hits, key=lambda r: (r.slower_path, spill_bytes(r.report), r.report.regs_per_thread or 0))
            return SmallestSets(goal, held, tuple(ranked), size, tried, not reason, reason)
    if len({r.changes[0].name for r in order}) <= size:
        return SmallestSets(goal, held, (), size, tried, True, "no larger sets of changes")
    return SmallestSets(goal, held, (), size, tried, False, f"{bench.limits.max_size} changes a set")


def ablate_request(
    request: CompileRequest,
    *,
    hold: Sequence[str] | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
    ladder_of: LadderOf = generic_ladder,
) -> Ablation:
    """The ablation of any request by the ladder that `ladder_of` has for its spec; `hold` replaces the ladder's."""
    ladder = ladder_of(request.spec, request.arch)
    return ablate(
        request.spec,
        request.arch,
        request.toolchain,
        changes=(*ladder.changes, *compiler_changes(request.toolchain)),
        hold=(*ladder.hold, "llvm", "ptxas") if hold is None else hold,
        limits=limits,
        ptxas_flags=request.ptxas_flags,
        timeout_s=request.timeout_s,
        progress=progress,
    )

"""Try this: edits that make a failing (or spilling) compile pass, each one compiled before it is shown, ranked.

Ranking, in this order: an edit that cannot change the answer before one that may; no spills before spills; the
tensor-core path of the original kept; fewer spill bytes; the kernel's own form, its launch and its autotuner's own
configurations before its tile, that before types, ptxas flags (-O1 costs speed) and another Triton or ptxas (which
every kernel then gets); fewer changes; fewer registers. Tiles are told from extents of the problem by how the kernel
uses them (`constexpr_roles`). An extent is touched only where nothing else passed, since another value of it asks for
another sum. An edit that gives wrong answers is never tried; one whose registers no SM has is not shown.
"""

from __future__ import annotations

import concurrent.futures
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from helpers.compiler.bring.from_file import Configuration, configurations
from helpers.compiler.compile import CompileRequest, compile_matrix, compile_request, usable_cores
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import CompileReport, refuse_ill
from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.source import read_source
from helpers.compiler.toolchain import BUNDLED, ENVIRONMENT, Toolchain, installed_ptxas, installed_tritons
from helpers.errors import MachineError, UserError
from helpers.inspection.ptx.scan import count_instructions, ptx_header
from helpers.search.ablate import Limits, Progress, Rung, ablate, slower_path, spill_bytes
from helpers.search.autotune import configured
from helpers.search.changes import (
    PTXAS_LEVELS,
    Change,
    LadderOf,
    compiler_changes,
    generic_ladder,
    option_change,
    ptxas_level_changes,
)
from helpers.search.constexpr_roles import TILE, UNKNOWN, roles_of

DEFAULT_BUDGET = Limits(max_compiles=80, max_seconds=180.0, max_size=2)
MAX_SHOWN = 12
_ORDER = {
    "kernel": 0, "configuration": 1, "launch": 1, "tile": 2, "types": 3, "constexpr": 4, "llvm": 5, "ptxas": 5,
    "ptxas version": 6, "triton": 7, "extent": 8,
}  # fmt: skip
MAX_OWN_CONFIGURATIONS = 24
# Failures that come before ptxas has anything to do: no flag and no release of it changes them.
BEFORE_PTXAS = ("frontend_error", "trapped", "out_of_shared_memory", "out_of_tensor_memory")
# A compile that takes longer than this is slow: what makes the work smaller is then tried first.
SLOW_S = 15.0
_COSTS = {
    "tile": "a smaller tile re-uses each load less",
    "types": "more bytes to keep and to load",
    "launch": "another launch: measure",
    "ptxas": "the whole kernel is optimised less",
    "llvm": "every kernel of the process gets that switch: measure",
    "ptxas version": "every kernel of the process gets that ptxas",
    "triton": "every kernel of the process gets that Triton",
    "constexpr": "may change what the kernel computes: check its answers",
    "kernel": "the kernel's own code takes the other form",
    "configuration": "one of the kernel's own autotuner's configurations: measure",
    "extent": "asks for another problem",
}
_LAUNCH_COSTS = {
    "num_warps": "another number of threads a CTA: measure",
    "num_stages": "loads overlap less, or more shared memory: measure",
    "maxnreg": "Triton plans for a cap it is told: measure",
    "register_allocation": "an option of ptxas that its manual does not describe: measure",
}


@dataclass(frozen=True)
class TriedEdit:
    """One edit that was compiled and passes: what to change, how, what it costs, and ptxas's report on it.

    `keeps_answer` is False where the edit may change what the kernel computes (a constexpr nobody here knows).
    """

    kind: str
    change: str
    edit: str
    cost: str
    report: CompileReport
    size: int = 1
    keeps_tensor_core_path: bool = True
    keeps_tile: bool = True
    keeps_answer: bool = True

    def rank(self) -> tuple:
        """The key of the order the module's docstring states."""
        report = self.report
        return (
            not self.keeps_answer,
            report.status != "ok",
            not self.keeps_tensor_core_path,
            spill_bytes(report) or 0,
            max(_ORDER.get(kind, 4) for kind in self.kind.split(" + ")),
            self.size,
            report.regs_per_thread or 0,
            self.change,
        )

    def to_dict(self) -> dict:
        """A flat row, ready for JSON."""
        report = self.report
        return {
            "change": self.change,
            "edit": self.edit,
            "cost": self.cost,
            "kind": self.kind,
            "changes": self.size,
            "status": report.status,
            "regs_per_thread": report.regs_per_thread,
            "spill_store_bytes": report.spill_store_bytes,
            "spill_load_bytes": report.spill_load_bytes,
            "tensor_core_path": report.tensor_core_path,
            "keeps_tensor_core_path": self.keeps_tensor_core_path,
            "keeps_tile": self.keeps_tile,
            "keeps_answer": self.keeps_answer,
            "triton_version": report.triton_version,
            "ptxas_version": report.ptxas_version,
        }


def try_this(
    request: CompileRequest,
    *,
    budget: Limits | None = None,
    progress: Progress | None = None,
    ladder_of: LadderOf = generic_ladder,
    found: Callable[[TriedEdit], None] | None = None,
) -> list[TriedEdit]:
    """Edits of a failing or spilling request that pass, the best first; [] for one with nothing wrong.

    Tried: the kernel's own configurations, the changes that `ladder_of` has for the spec (tile, constexprs, num_warps,
    num_stages, maxnreg) one by one, then in the smallest sets that end the spills; ptxas -O2 to -O0; every other
    installed Triton and ptxas. `found` is called with each edit that passes as soon as it is known. The seconds of
    `budget` are for all of it, its other limits for the search for sets; for a slow compile what is cheap comes first.
    All compiles go through the cache. Raises UserError where the request's own toolchain is not here.
    """
    run = try_request(request, budget=budget, progress=progress, ladder_of=ladder_of, found=found)
    return list(run.edits)


@dataclass(frozen=True)
class TryRun:
    """What the request did as it is, and the edits of it that pass, the best first.

    `timed_out` are changes whose compile was stopped at its time limit, `untried` those that were not begun, or not
    ended, when the budget was spent: nothing is known of either.
    """

    baseline: CompileReport
    edits: tuple[TriedEdit, ...] = ()
    timed_out: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


def try_request(
    request: CompileRequest,
    *,
    budget: Limits | None = None,
    progress: Progress | None = None,
    ladder_of: LadderOf = generic_ladder,
    found: Callable[[TriedEdit], None] | None = None,
) -> TryRun:
    """`try_this` with the report of the request as it is, which a slow kernel should not have to give twice."""
    budget, started = budget or DEFAULT_BUDGET, time.monotonic()
    # No single compile takes more than a sixth of the time for all: a slow kernel then has its cheap changes tried.
    request = replace(request, timeout_s=min(request.timeout_s, max(1.0, budget.max_seconds / 6)))
    baseline = compile_request(request)
    if baseline.status == "toolchain_missing":
        raise UserError(baseline.message)
    refuse_ill([baseline])
    if baseline.status == "ok":
        return TryRun(baseline)
    search = _Search(request, baseline, budget, started, progress, found or (lambda _edit: None), ladder_of)
    edits = search.edits(search.sound)
    edits += search.versions()
    if not edits and search.extents:
        edits += search.edits(search.extents)
    ranked = tuple(sorted(edits, key=TriedEdit.rank))
    return TryRun(baseline, ranked, tuple(dict.fromkeys(search.timed_out)), tuple(dict.fromkeys(search.untried)))


class _Search:
    """One `try_this`: the changes it has, and what is left of its time."""

    def __init__(
        self,
        request: CompileRequest,
        baseline: CompileReport,
        budget: Limits,
        started: float,
        progress: Progress | None,
        found: Callable[[TriedEdit], None],
        ladder_of: LadderOf,
    ) -> None:
        self.request, self.baseline, self.budget, self.started = request, baseline, budget, started
        self.progress, self.found = progress, found
        self.timed_out: list[str] = []
        self.untried: list[str] = []
        spec = request.spec
        self.ladder = ladder_of(spec, request.arch)
        self.roles = {} if self.ladder.keeps_answer else roles_of(spec.kernel.path, spec.kernel.name)
        changes = [k for k in self.ladder.changes if k.name not in self.ladder.no_cure]
        if not any(k.name == "ptxas_level" for k in changes):
            changes += ptxas_level_changes()
        changes = [*_own_configurations(request), *changes, *compiler_changes(request.toolchain)]
        if baseline.status in BEFORE_PTXAS:
            changes = [k for k in changes if k.group not in ("llvm", "ptxas")]
        # What cannot change the answer is tried first, one by one and in sets: it may be all that there is time for.
        changes.sort(key=lambda k: _ORDER[self._kind(k)])
        if slow := baseline.status == "timeout" or (baseline.wall_s or 0) > SLOW_S:
            changes += _many_warps(spec)
        self.sound = [k for k in changes if self._kind(k) != "extent"]
        self.extents = [k for k in changes if self._kind(k) == "extent"]
        if slow:
            self.sound.sort(key=self._work)
            self.extents.sort(key=self._work)

    def left(self) -> float:
        """Seconds that are left of the budget."""
        return self.budget.max_seconds - (time.monotonic() - self.started)

    def edits(self, changes: Sequence[Change]) -> list[TriedEdit]:
        """The sets of these changes that pass."""
        if not changes or self.left() <= 0:
            self.untried += [change.description for change in changes]
            return []
        there = {k.name for k in changes} | {k.group for k in changes}
        told: set[frozenset[tuple[str, str]]] = set()

        def tell(rung: Rung) -> None:
            key = frozenset((k.name, k.description) for k in rung.changes)
            if key not in told and _helps(self.baseline, rung.report):
                told.add(key)
                self.found(self._of_rung(rung))

        request = self.request
        done = ablate(
            request.spec,
            request.arch,
            request.toolchain,
            changes=changes,
            hold=[name for name in self.ladder.hold if name in there],
            limits=replace(self.budget, max_seconds=max(1e-6, self.left())),
            ptxas_flags=request.ptxas_flags,
            timeout_s=request.timeout_s,
            progress=self.progress,
            found=tell,
            baseline=self.baseline,
        )
        self.untried += done.untried
        self.timed_out += [rung.description for rung in done.rungs if rung.report.status == "timeout"]
        sets = [*done.rungs, *(rung for search in done.searches for rung in search.sets)]
        rungs = {frozenset((k.name, k.description) for k in r.changes): r for r in sets}
        return [self._of_rung(r) for r in rungs.values() if _helps(self.baseline, r.report)]

    def versions(self) -> list[TriedEdit]:
        """What the other toolchains on this machine make of the same spec."""
        edits = _of_versions(self.request, self.baseline, self.progress, self.left)
        for edit in edits:
            self.found(edit)
        return edits

    def _kind(self, change: Change) -> str:
        role = self.roles.get(change.name)
        if change.group == "constexpr" and role is not None and role.role != UNKNOWN:
            return "tile" if role.role == TILE else "extent"
        kind = {"problem": "types"}.get(change.group, change.group)
        return kind if kind in _COSTS else "constexpr"

    def _work(self, change: Change) -> float:
        """About how many elements a thread works on under a change: what a slow compile takes longest over."""
        spec = change.apply(self.request.spec)
        extents = [v for n, v in spec.constexprs if n in self.roles and self.roles[n].role != UNKNOWN]
        whole = [v for v in extents if isinstance(v, int) and not isinstance(v, bool) and v > 0]
        return math.prod(whole) / (32 * (spec.num_warps or 4))

    def _of_rung(self, rung: Rung) -> TriedEdit:
        changes = rung.changes
        kinds = [self._kind(k) for k in changes]
        pairs = zip(changes, kinds, strict=True)
        known = {**_LAUNCH_COSTS, **self.ladder.costs}
        costs = list(dict.fromkeys(known.get(k.name, _COSTS[kind]) for k, kind in pairs))
        costs += [f"{k.name} is an extent of the data: {self.roles[k.name].why}" for k in changes if k in self.extents]
        if rung.slower_path:
            costs.insert(0, f"loses the tensor-core path ({rung.report.tensor_core_path} instead)")
        return TriedEdit(
            kind=" + ".join(dict.fromkeys(kinds)),
            change=rung.description,
            edit="; ".join(_edit(k) for k in changes),
            cost="; ".join(costs),
            report=rung.report,
            size=len(changes),
            keeps_tensor_core_path=not rung.slower_path,
            keeps_tile="tile" not in kinds,
            keeps_answer=self.ladder.keeps_answer or not {"constexpr", "extent"} & set(kinds),
        )


def _own_configurations(request: CompileRequest) -> list[Change]:
    """One change for each other configuration that the kernel's own autotuner lists; [] where it has none to read."""
    spec = request.spec
    try:
        source = read_source(Path(spec.kernel.path)).decode("utf-8", errors="replace")
        if "autotune" not in source:  # loading a file costs a worker's start
            return []
        listed = configurations(spec.kernel, request.toolchain.triton)
    except MachineError:
        raise
    except (OSError, UserError):
        return []
    changes = []
    for one in listed[:MAX_OWN_CONFIGURATIONS]:
        try:
            changed = configured(spec, one)
        except UserError:
            continue
        if words := _differences(spec, changed):
            apply = partial(_configured_alike, configuration=one)
            changes.append(Change("configuration", f"the kernel's own configuration: {words}", apply, "configuration"))
    return changes


def _differences(spec: KernelSpec, changed: KernelSpec) -> str:
    """`BV=32, num_warps=2`: what a configuration sets to another value than the spec has."""
    before = {**dict(spec.constexprs), **spec.option}
    after = {**dict(changed.constexprs), **changed.option}
    # An option at Triton's default is not in a spec.
    default = {"num_ctas": 1, "maxnreg": None}
    return ", ".join(f"{n}={v}" for n, v in after.items() if v != before.get(n, default.get(n)))


def _configured_alike(spec: KernelSpec, configuration: Configuration) -> KernelSpec:
    return replace(configured(spec, configuration), label=spec.label)


def _many_warps(spec: KernelSpec) -> list[Change]:
    """Four and eight times the warps: less work a thread, which is what a slow compile needs."""
    warps = spec.num_warps or 4
    return [option_change("num_warps", warps, warps * n) for n in (4, 8) if warps * n <= 32]


def _helps(baseline: CompileReport, report: CompileReport) -> bool:
    if not report.launchable:
        return False
    return not baseline.compiled or (spill_bytes(report) or 0) < (spill_bytes(baseline) or 0)


def _edit(change: Change) -> str:
    """What a person does to apply a change."""
    if change.group == "configuration":
        return "launch it so, or leave no other configuration in the autotuner's list"
    what, _, new = change.description.partition(" → ")
    if change.environment:
        words = " ".join(f"{name}={value}" for name, value in change.environment)
        return f"set {words} in the environment of the process that compiles (and clear Triton's cache)"
    if change.ptxas_flags:
        flag = " ".join(change.ptxas_flags)
        return f"give ptxas {flag}: ptx_options='{flag}' at the launch (Triton 3.4 and newer), or re-assemble with it"
    name = what.split(" ")[0]
    if change.group == "launch":
        return f"launch without {name}" if new == "unset" else f"launch with {name}={new}"
    if change.group in ("types", "problem"):
        return f"pass other element types: {change.description}"
    return f"set {name}={new if _is_number(new) else repr(new)}"


def _is_number(text: str) -> bool:
    return text in ("True", "False", "None") or text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _of_versions(
    request: CompileRequest, baseline: CompileReport, progress: Progress | None, left: Callable[[], float]
) -> list[TriedEdit]:
    """What the other toolchains on this machine make of the same spec, a few at a time while there is time left."""
    own, here = baseline.triton_version, request.toolchain
    chains = [Toolchain(version, BUNDLED) for version in installed_tritons() if version != own]
    others = () if baseline.status in BEFORE_PTXAS or here.triton == ENVIRONMENT else installed_ptxas()
    chains += [
        replace(here, ptxas=version, ptxas_for_codegen=False) for version in others if version != baseline.ptxas_version
    ]
    edits = []
    at_once = usable_cores()
    for batch in (chains[i : i + at_once] for i in range(0, len(chains), at_once)):
        if left() <= 0:
            break
        limited = replace(request, timeout_s=min(request.timeout_s, max(1.0, left() / 4)))
        reports = compile_matrix([replace(limited, toolchain=chain) for chain in batch], progress=progress)
        refuse_ill(reports)
        pairs = zip(batch, reports, strict=True)
        edits += [_of_version(chain, own, baseline, report) for chain, report in pairs if _helps(baseline, report)]
    return edits


def _of_version(chain: Toolchain, own: str | None, baseline: CompileReport, report: CompileReport) -> TriedEdit:
    slower = slower_path(baseline, report)
    if chain.triton != own:
        kind, change = "triton", f"Triton {own} → {chain.triton}"
        edit = f"install triton=={chain.triton} (its own ptxas is {report.ptxas_version})"
    else:
        kind, change = "ptxas version", f"ptxas {baseline.ptxas_version} → {chain.ptxas}"
        edit = f"point TRITON_PTXAS_PATH (TRITON_PTXAS_BLACKWELL_PATH on newer Tritons) at ptxas {chain.ptxas}"
    cost = (f"loses the tensor-core path ({report.tensor_core_path} instead); " if slower else "") + _COSTS[kind]
    return TriedEdit(kind, change, edit, cost, report, keeps_tensor_core_path=not slower)


# --- a PTX alone ------------------------------------------------------------------------------------------


def try_ptx(
    ptx: str,
    *,
    ptxas: Path,
    ptxas_version: str,
    arch: str,
    flags: Sequence[str] = (),
    timeout_s: float = 60.0,
) -> list[TriedEdit]:
    """What can be tried where only a PTX is known: ptxas -O2 to -O0 with the same ptxas; those that pass, ranked."""
    counts = count_instructions(ptx)
    threads = ptx_header(ptx).threads
    warps = min(32, -(-threads // 32)) if threads else None

    def assemble(level: str) -> CompileReport:
        words = (*[f for f in flags if not f.startswith(("-O", "--opt-level"))], level)
        run = run_ptxas(ptxas, ptx, gpu_name=arch, flags=words, timeout_s=timeout_s)
        return CompileReport(
            run.verdict,
            arch,
            None,
            ptxas_version,
            num_warps=warps,
            instructions=counts,
            regs_per_thread=run.regs_per_thread,
            spill_store_bytes=run.spill_store_bytes,
            spill_load_bytes=run.spill_load_bytes,
            stack_frame_bytes=run.stack_frame_bytes,
        )

    with concurrent.futures.ThreadPoolExecutor(max_workers=usable_cores()) as threads_at_work:
        reports = list(threads_at_work.map(assemble, PTXAS_LEVELS))
    return sorted(
        (
            TriedEdit("ptxas", f"ptxas {level}", f"add {level} to the ptxas command", _COSTS["ptxas"], report)
            for level, report in zip(PTXAS_LEVELS, reports, strict=True)
            if report.compiled
        ),
        key=TriedEdit.rank,
    )


# --- what the verb prints ---------------------------------------------------------------------------------


def edit_lines(rows: Iterable[dict], limit: int = MAX_SHOWN) -> list[str]:
    """Edits (as `to_dict` gives them) as numbered lines, the best first; says how many more there are."""
    rows = list(rows)
    lines = []
    for number, row in enumerate(rows[:limit], start=1):
        lines.append(f"{number:>2}. {row['change']}: {result_words(row)}")
        lines.append(f"    {row['edit']}")
        lines.append(f"    cost: {row['cost']}")
    if len(rows) > limit:
        lines.append(f"    and {len(rows) - limit} more that compile (--json lists all)")
    return lines


def result_words(row: dict) -> str:
    """`238 registers, no spills, tcgen05` of one edit."""
    stores, loads = row["spill_store_bytes"] or 0, row["spill_load_bytes"] or 0
    spills = f"{stores} B spill stores, {loads} B loads" if stores or loads else "no spills"
    return f"{row['regs_per_thread']} registers, {spills}, {row['tensor_core_path']}"

"""Try this: edits that make a failing (or spilling) compile pass, each one compiled before it is shown, ranked.

Ranking, in this order: an edit known to keep the answer before one that may change it; no spills before spills; fewer
spill bytes; the tensor-core path of the original kept; the tile kept; fewer changes; changes of the kernel, its launch
or its tile before ptxas flags (-O1 costs speed) and before another Triton or ptxas (which every kernel then gets);
fewer registers. An edit that gives wrong answers is never tried; one whose registers no SM has is not shown.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.compiler.compile import CompileRequest, compile_matrix, compile_request, usable_cores
from helpers.compiler.kernel_spec import TILE_NAME
from helpers.compiler.report import CompileReport
from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import BUNDLED, ENVIRONMENT, Toolchain, installed_ptxas, installed_tritons
from helpers.errors import UserError
from helpers.inspection.ptx.scan import count_instructions, ptx_header
from helpers.search.ablate import Limits, Progress, Rung, ablate, slower_path, spill_bytes
from helpers.search.changes import PTXAS_LEVELS, Change, Ladder, LadderOf, generic_ladder

DEFAULT_BUDGET = Limits(max_compiles=80, max_seconds=180.0, max_size=2)
MAX_SHOWN = 12
_ORDER = {"kernel": 0, "launch": 1, "tile": 2, "types": 3, "constexpr": 4, "ptxas": 5, "ptxas version": 6, "triton": 7}
_COSTS = {
    "tile": "a smaller tile re-uses each load less",
    "types": "more bytes to keep and to load",
    "launch": "another launch: measure",
    "ptxas": "the whole kernel is optimised less",
    "ptxas version": "every kernel of the process gets that ptxas",
    "triton": "every kernel of the process gets that Triton",
    "constexpr": "may change what the kernel computes: check its answers",
    "kernel": "the kernel's own code takes the other form",
}
_LAUNCH_COSTS = {
    "num_warps": "another number of threads a CTA: measure",
    "num_stages": "loads overlap less, or more shared memory: measure",
    "maxnreg": "Triton plans for a cap it is told: measure",
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
            spill_bytes(report) or 0,
            not self.keeps_tensor_core_path,
            not self.keeps_tile,
            self.size,
            max(_ORDER.get(kind, 4) for kind in self.kind.split(" + ")),
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
) -> list[TriedEdit]:
    """Edits of a failing or spilling request that pass, the best first; [] for one with nothing wrong.

    Tried: the changes that `ladder_of` has for the spec (tile, constexprs, num_warps, num_stages, maxnreg) one by one,
    then in the smallest sets that end the spills; ptxas -O2 to -O0; every other installed Triton and ptxas. `budget`
    bounds the search for sets (single changes and versions are always tried). All compiles go through the cache.
    Raises UserError where the request's own toolchain is not here.
    """
    baseline = compile_request(request)
    if baseline.status == "toolchain_missing":
        raise UserError(baseline.message)
    if baseline.status == "ok":
        return []
    ladder = ladder_of(request.spec, request.arch)
    changes = [c for c in ladder.changes if c.name not in ladder.no_cure]
    if not any(c.name == "ptxas_level" for c in changes):
        changes += [Change("ptxas_level", f"ptxas {flag}", lambda s: s, "ptxas", (flag,)) for flag in PTXAS_LEVELS]
    there = {c.name for c in changes} | {c.group for c in changes}
    found = ablate(
        request.spec,
        request.arch,
        request.toolchain,
        changes=changes,
        hold=[name for name in ladder.hold if name in there],
        limits=budget or DEFAULT_BUDGET,
        ptxas_flags=request.ptxas_flags,
        timeout_s=request.timeout_s,
        progress=progress,
    )
    sets = [*found.rungs, *(rung for search in found.searches for rung in search.sets)]
    rungs = {frozenset((c.name, c.description) for c in r.changes): r for r in sets}
    edits = [_of_rung(r, ladder) for r in rungs.values() if _helps(baseline, r.report)]
    edits += _of_versions(request, baseline, progress)
    return sorted(edits, key=TriedEdit.rank)


def _helps(baseline: CompileReport, report: CompileReport) -> bool:
    if not report.launchable:
        return False
    return not baseline.compiled or (spill_bytes(report) or 0) < (spill_bytes(baseline) or 0)


def _of_rung(rung: Rung, ladder: Ladder) -> TriedEdit:
    changes = rung.changes
    kinds = [_kind(c) for c in changes]
    known = {**_LAUNCH_COSTS, **ladder.costs}
    costs = list(dict.fromkeys(known.get(c.name, _COSTS[kind]) for c, kind in zip(changes, kinds, strict=True)))
    if rung.slower_path:
        costs.insert(0, f"loses the tensor-core path ({rung.report.tensor_core_path} instead)")
    return TriedEdit(
        kind=" + ".join(dict.fromkeys(kinds)),
        change=rung.description,
        edit="; ".join(_edit(c) for c in changes),
        cost="; ".join(costs),
        report=rung.report,
        size=len(changes),
        keeps_tensor_core_path=not rung.slower_path,
        keeps_tile="tile" not in kinds,
        keeps_answer=ladder.keeps_answer or "constexpr" not in kinds,
    )


def _kind(change: Change) -> str:
    if change.group == "constexpr" and TILE_NAME.fullmatch(change.name):
        return "tile"
    kind = {"problem": "types"}.get(change.group, change.group)
    return kind if kind in _COSTS else "constexpr"


def _edit(change: Change) -> str:
    """What a person does to apply a change."""
    what, _, new = change.description.partition(" → ")
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


def _of_versions(request: CompileRequest, baseline: CompileReport, progress: Progress | None) -> list[TriedEdit]:
    """What the other toolchains on this machine make of the same spec."""
    own, here = baseline.triton_version, request.toolchain
    chains = [Toolchain(version, BUNDLED) for version in installed_tritons() if version != own]
    chains += [
        replace(here, ptxas=version, ptxas_for_codegen=False)
        for version in installed_ptxas()
        if version != baseline.ptxas_version and here.triton != ENVIRONMENT
    ]
    reports = compile_matrix([replace(request, toolchain=chain) for chain in chains], progress=progress)
    return [
        _of_version(chain, own, baseline, report)
        for chain, report in zip(chains, reports, strict=True)
        if _helps(baseline, report)
    ]


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
    threads = ptx_header(ptx).reqntid
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

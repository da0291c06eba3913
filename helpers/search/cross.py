"""Crossing the stages: every release does each stage of every other's output, and the verdict turns at one of them.

A compile has four steps: source -> TTGIR and TTGIR -> LLIR (Triton's passes), LLIR -> PTX (LLVM), PTX -> cubin (ptxas).
A cell is one text, made by one release up to a stage, that another release takes from there to the end. Between a
release that fails and one that does not, the first steps are handed from one to the other, one more at a time, in both
directions: where the verdict changes, the cause lies.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, permutations
from pathlib import Path

from helpers.compiler import cache
from helpers.compiler import toolchain as tc
from helpers.compiler.adjust import adjusted
from helpers.compiler.assembly import DamagedPtx
from helpers.compiler.codegen import Generated, generate
from helpers.compiler.compile import DEFAULT_TIMEOUT_S, finish, no_answer, usable_cores
from helpers.compiler.from_text import GoneOn, go_on, ptx_as_generated, readable_by
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.machine import from_machine
from helpers.compiler.report import NO_VERDICT, CompileReport
from helpers.compiler.run_ptxas import stop_runs
from helpers.compiler.toolchain import ENVIRONMENT, KNOWN_TRITONS, Toolchain, Tools, version_key
from helpers.compiler.wheel_facts import WheelFacts, wheel_facts
from helpers.compiler.worker.pool import POOL
from helpers.errors import UserError
from helpers.hardware import GpuArch, get_arch
from helpers.search.same_failure import FailureKey, failure_key

TTGIR, LLIR, PTX, CUBIN = "ttgir", "llir", "ptx", "cubin"
STEPS = (TTGIR, LLIR, PTX, CUBIN)
TEXTS = (TTGIR, LLIR, PTX)
# Whose work a step is, and what it turns into what.
DOES = {TTGIR: "Triton", LLIR: "Triton", PTX: "LLVM", CUBIN: "ptxas"}
WORK = {TTGIR: "source → TTGIR", LLIR: "TTGIR → LLIR", PTX: "LLIR → PTX", CUBIN: "PTX → cubin"}
THE_FILE = "the file"
COMPILES = "compiles"
Outcome = FailureKey | str


@dataclass(frozen=True)
class StageText:
    """The text of a stage (`ttgir`, `llir`, `ptx`) from a file, in place of a spec."""

    stage: str
    text: str
    name: str = THE_FILE


@dataclass(frozen=True)
class Member:
    """A release that took part: its Triton's LLVM and its ptxas. Of a ptxas alone, `facts` is None."""

    name: str
    facts: WheelFacts | None
    ptxas: str | None


@dataclass(frozen=True)
class Crossing:
    """One cell: the text of the stage before `step` by `made_by`; `done_by` does this step and all after it.

    `report` is None where there is no text (its maker failed before) and where it could not be read (`unreadable` is
    the reader's own complaint). `adjustments` are what was changed in the text first.
    """

    step: str
    made_by: str
    done_by: str
    report: CompileReport | None
    adjustments: tuple[str, ...] = ()
    unreadable: str = ""

    @property
    def verdict(self) -> Outcome | None:
        """`compiles`, the key of the failure, or None where the question got no answer."""
        return verdict_of(self.report)


@dataclass(frozen=True)
class Turn:
    """Two neighbouring releases whose verdicts differ, and the steps that decide it.

    `fails` is the one that fails, `other` its neighbour. `first` are the steps at which the verdict turns when `fails`
    begins and `other` goes on, `last` when `other` begins and `fails` goes on; more than one step where a text between
    them could not be read, or none where the walk gave no single turn. `between` are releases known to lie between.
    """

    fails: str
    other: str
    first: tuple[str, ...]
    last: tuple[str, ...]
    between: tuple[str, ...] = ()

    @property
    def decided_by(self) -> tuple[str, ...]:
        """The steps that decide: one where both walks agree; two where both are needed; () where it is not known."""
        if len(self.first) != 1 or len(self.last) != 1:
            return ()
        return tuple(sorted({self.first[0], self.last[0]}, key=STEPS.index))

    @property
    def either_is_enough(self) -> bool:
        """Whether two steps decide and each of them alone brings the failure."""
        return len(self.decided_by) == 2 and STEPS.index(self.first[0]) < STEPS.index(self.last[0])


@dataclass(frozen=True)
class Crossed:
    """Every cell, the members in version order, each member's own verdict, and where the verdict turns."""

    label: str
    arch: str
    steps: tuple[str, ...]
    members: tuple[Member, ...]
    own: dict[str, CompileReport]
    cells: tuple[Crossing, ...]
    turns: tuple[Turn, ...] = field(default=())

    def at(self, step: str, made_by: str, done_by: str) -> Crossing | None:
        """One cell; None where there is none."""
        return next((c for c in self.cells if (c.step, c.made_by, c.done_by) == (step, made_by, done_by)), None)

    def rows_of(self, step: str) -> tuple[str, ...]:
        """Who made the texts that enter a step."""
        return tuple(dict.fromkeys(c.made_by for c in self.cells if c.step == step))

    def member(self, name: str) -> Member:
        """A member by its name."""
        return next(m for m in self.members if m.name == name)


def verdict_of(report: CompileReport | None) -> Outcome | None:
    """What two cells are compared by; None for what says nothing of the kernel."""
    if report is None or report.status in NO_VERDICT:
        return None
    return failure_key(report) or COMPILES


def cross(
    what: KernelSpec | StageText,
    arch: str | GpuArch,
    *,
    versions: Sequence[str] | None = None,
    only_turns: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[int, int, object], None] | None = None,
) -> Crossed:
    """Every crossing of `versions` (Triton releases; for a PTX, of ptxas), by default of all that are at hand.

    With `only_turns`, texts are handed on between neighbouring releases whose own verdicts differ, and between no
    others: the cells that the answer rests on. (Less is known only of a release that fails before ptxas by itself:
    its flags for ptxas may then be told by a third one's text alone.)
    `progress` is called with (cells done, cells in all, None). Raises UserError for fewer than two releases and for a
    release that is not at hand.
    """
    target = get_arch(arch)
    of_ptx = isinstance(what, StageText) and what.stage == PTX
    names = sorted(dict.fromkeys(versions or _at_hand(of_ptx)), key=version_key)
    if len(names) < 2:
        kind = "ptxas" if of_ptx else "Triton"
        raise UserError(
            f"crossing takes two releases of {kind} at least, and {len(names)} is given or at hand "
            f"({', '.join(names) or 'none'}); register-cliff toolchains install fetches another"
        )
    run = _Run(what, target, names, timeout_s, progress, only_turns)
    if isinstance(what, KernelSpec):
        what.content_key()  # an unreadable kernel is said before anything is compiled
    found = _without_refusals(run.of_ptx() if of_ptx else run.of_releases())
    return replace(found, turns=tuple(turns_of(found)))


def _without_refusals(found: Crossed) -> Crossed:
    """A PTX that no release by itself makes, and that a ptxas takes for malformed, is one that it cannot read."""
    if any(report.status == "ptxas_error" for report in found.own.values()):
        return found  # that is the failure which is looked for
    cells = tuple(
        replace(cell, report=None, unreadable=f"refused by ptxas: {' '.join(cell.report.message.split())[:200]}")
        if cell.report is not None and cell.report.status == "ptxas_error"
        else cell
        for cell in found.cells
    )
    return replace(found, cells=cells)


def _at_hand(of_ptx: bool) -> list[str]:
    return list(tc.installed_ptxas()) if of_ptx else tc.installed_tritons()


class _Run:
    """The crossing under way: a few threads, each text done once by each release, however many made it."""

    def __init__(self, what, arch: GpuArch, names: Sequence[str], timeout_s: float, progress, only_turns) -> None:
        self.what, self.arch, self.names, self.timeout_s = what, arch, names, timeout_s
        self.options = what.options if isinstance(what, KernelSpec) else ()
        first = 0 if isinstance(what, KernelSpec) else STEPS.index(what.stage) + 1
        self.steps = STEPS[first:]
        self.label = (what.label or what.kernel.name) if isinstance(what, KernelSpec) else what.name
        self.only_turns, self.wanted_pairs = only_turns, set(permutations(names, 2))
        self.threads: set[int] = set()
        self.progress, self.done = progress, 0
        n = len(names)
        self.total = n + n * (n - 1) * (len(self.steps) - 1)

    def _counted(self, future: Future) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total, None)

    def _executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(usable_cores(), initializer=lambda: self.threads.add(threading.get_ident()))

    # --- a PTX alone ---------------------------------------------------------------------------------------

    def of_ptx(self) -> Crossed:
        """A PTX by every ptxas."""
        generated = ptx_as_generated(self.what.text, gpu_name=self.arch.name)

        def assembled(name: str) -> Crossing:
            report, changes = self._assembled(generated, Tools(tc.Tool(Path(), ""), tc.resolve_ptxas(name)))
            return Crossing(CUBIN, self.what.name, name, report, changes)

        cells = self._all([partial(assembled, name) for name in self.names])
        members = tuple(Member(name, None, name) for name in self.names)
        own = {cell.done_by: cell.report for cell in cells if cell.report is not None}
        return Crossed(self.label, self.arch.name, self.steps, members, own, tuple(cells))

    def _assembled(self, generated: Generated, tools: Tools) -> tuple[CompileReport, tuple[str, ...]]:
        readable, changes = readable_by(generated, tools.assembler(generated.ptxas_program), timeout_s=self.timeout_s)
        return self._finished(readable, tools), changes

    def _finished(self, generated: Generated, tools: Tools) -> CompileReport:
        try:
            return finish(generated, self.arch, tools, timeout_s=self.timeout_s)
        except DamagedPtx:
            cache.discard_folder(generated.folder)
            raise UserError("a PTX in the cache was changed while it was read; ask again") from None
        except Exception as exc:
            if not from_machine(exc):
                raise
            return no_answer(exc, self.arch, Toolchain(tools.triton.version or ENVIRONMENT))

    def _all(self, jobs: Sequence[Callable[[], Crossing]]) -> list[Crossing]:
        with self._executor() as executor:
            try:
                futures = [executor.submit(job) for job in jobs]
                for future in futures:
                    future.add_done_callback(self._counted)
                return [future.result() for future in futures]
            except BaseException:
                self._stop(futures)
                raise

    def _stop(self, futures: Sequence[Future]) -> None:
        for future in futures:
            future.cancel()
        POOL.stop(self.threads)
        stop_runs(self.threads)

    # --- a spec, a TTGIR or an LLIR ------------------------------------------------------------------------

    def of_releases(self) -> Crossed:
        """Everything between releases of Triton."""
        tools = {name: Toolchain(name).resolve() for name in self.names}
        facts = {name: wheel_facts(tools[name].triton) for name in self.names}
        own: dict[str, GoneOn] = {}
        reports: dict[str, CompileReport] = {}
        futures: list[Future] = []
        with self._executor() as executor:
            try:
                # The newest first: they take longest by far.
                begun = {executor.submit(self._own, tools[n]): n for n in reversed(self.names)}
                futures += begun
                wanted: dict[Future, list[tuple[str, str, str]]] = {}
                texts: dict[tuple[str, str, str], Future] = {}
                waiting = set(begun)
                while waiting:
                    ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in ended:
                        name = begun[future]
                        self._counted(future)
                        own[name], reports[name] = future.result()
                        if not self.only_turns:
                            futures += self._hand_on(executor, name, own[name].generated, tools, facts, texts, wanted)
                if self.only_turns:
                    self._want_turns(reports)
                    for name in self.names:
                        futures += self._hand_on(executor, name, own[name].generated, tools, facts, texts, wanted)
                gone_on = {place: future.result() for future, places in wanted.items() for place in places}
                futures += (last := self._by_every_ptxas(executor, own, gone_on, tools))
                cells = self._cells(own, reports, gone_on, [future.result() for future in last])
            except BaseException:
                self._stop(futures)
                raise
        members = tuple(Member(n, facts[n], _ptxas_of(n, reports, gone_on)) for n in self.names)
        return Crossed(self.label, self.arch.name, self.steps, members, reports, tuple(cells))

    def _want_turns(self, reports: dict[str, CompileReport]) -> None:
        """From here on only neighbours whose own verdicts differ are crossed."""
        turns = [(older, newer) for older, newer in _neighbours(self.names, reports) if _differ(reports, older, newer)]
        self.wanted_pairs = {pair for one, other in turns for pair in ((one, other), (other, one))}
        self.total = len(self.names) + len(self.wanted_pairs) * (len(self.steps) - 1)

    def _own(self, tools: Tools) -> tuple[GoneOn, CompileReport]:
        """What a release makes of the subject by itself."""
        try:
            if isinstance(self.what, KernelSpec):
                chain = Toolchain(tools.triton.version)
                gone = GoneOn(generate(self.what, self.arch, chain, tools.triton, self.timeout_s))
            else:
                gone = self._gone_on(self.what.text, self.what.stage, tools)
        except Exception as exc:
            report = no_answer(exc, self.arch, Toolchain(tools.triton.version))
            return GoneOn(Generated(Path(), (), False, "", tools.triton.version, "load", 0.0, str(exc))), report
        report = self._finished(gone.generated, tools)
        if gone.unreadable:  # that says nothing of the kernel
            report = replace(report, status="unsupported_ptx_version", message=gone.unreadable)
        return gone, report

    def _gone_on(self, text: str, stage: str, tools: Tools) -> GoneOn:
        return go_on(text, stage, self.arch, tools.triton, options=self.options, timeout_s=self.timeout_s)

    def _hand_on(self, executor, name, generated, tools, facts, texts, wanted) -> list[Future]:
        """Hand the texts of a release to all others; a text that another release made as well is done once."""
        begun = []
        for step in self.steps[1:-1]:
            stage = STEPS[STEPS.index(step) - 1]
            path = generated.path(stage)
            if path is None:
                continue
            text = Path(path).read_text()
            for other in reversed(self.names):
                if (name, other) not in self.wanted_pairs:
                    continue
                bare, _changes = adjusted(text, stage, facts[other])
                key = (step, other, hashlib.sha256(bare.encode()).hexdigest())
                if key not in texts:
                    texts[key] = executor.submit(self._taken_on, text, stage, tools[other])
                    texts[key].add_done_callback(self._counted)
                    begun.append(texts[key])
                wanted.setdefault(texts[key], []).append((step, name, other))
        return begun

    def _taken_on(self, text: str, stage: str, tools: Tools) -> tuple[GoneOn, CompileReport | None]:
        gone = self._gone_on(text, stage, tools)
        return gone, None if gone.unreadable else self._finished(gone.generated, tools)

    def _by_every_ptxas(self, executor, own, gone_on, tools) -> list[Future]:
        """The PTX of each release under the flags and the ptxas of each other."""
        begun = []
        for maker in self.names:
            made = own[maker].generated
            for other in self.names:
                like = _with_flags(other, own, gone_on)
                if (maker, other) not in self.wanted_pairs or made.failed or like is None:
                    continue
                begun.append(executor.submit(self._by_ptxas, maker, other, made, like, tools[other]))
                begun[-1].add_done_callback(self._counted)
        return begun

    def _by_ptxas(self, maker: str, other: str, made: Generated, like: Generated, tools: Tools) -> Crossing:
        handed = replace(made, ptxas_flags=like.ptxas_flags, ptxas_program=like.ptxas_program)
        report, changes = self._assembled(handed, tools)
        return Crossing(CUBIN, maker, other, report, changes)

    def _cells(self, own, reports, gone_on, last) -> list[Crossing]:
        cells = list(last)
        for (step, maker, other), (gone, report) in gone_on.items():
            cells.append(Crossing(step, maker, other, report, gone.adjustments, gone.unreadable))
        if not isinstance(self.what, KernelSpec):
            cells += [Crossing(self.steps[0], self.what.name, n, None if own[n].unreadable else reports[n],
                               own[n].adjustments, own[n].unreadable) for n in self.names]  # fmt: skip
        there = {(c.step, c.made_by, c.done_by) for c in cells}
        for step in self.steps[1:]:
            for maker in self.names:
                cells += [
                    Crossing(step, maker, other, reports[maker] if other == maker else None)
                    for other in self.names
                    if (step, maker, other) not in there and (other == maker or (maker, other) in self.wanted_pairs)
                ]
        order = {name: i for i, name in enumerate([getattr(self.what, "name", ""), *self.names])}
        return sorted(cells, key=lambda c: (STEPS.index(c.step), order[c.made_by], order[c.done_by]))


def _with_flags(name: str, own, gone_on) -> Generated | None:
    """A code generation of this release that got as far as the command for ptxas."""
    found = [own[name].generated, *(gone.generated for (_s, _m, other), (gone, _r) in gone_on.items() if other == name)]
    return next((g for g in found if not g.failed), None)


def _ptxas_of(name: str, reports, gone_on) -> str | None:
    found = [reports[name], *(report for (_s, _m, other), (_g, report) in gone_on.items() if other == name)]
    return next((r.ptxas_version for r in found if r is not None and r.ptxas_version), None)


# --- the answer ------------------------------------------------------------------------------------------------


def turns_of(found: Crossed) -> list[Turn]:
    """Where the verdict turns, for each two neighbouring releases whose own verdicts differ."""
    turns = []
    for older, newer in _neighbours([m.name for m in found.members], found.own):
        if not _differ(found.own, older, newer):
            continue
        fails, other = (newer, older) if verdict_of(found.own[older]) == COMPILES else (older, newer)
        low, high = version_key(older), version_key(newer)
        between = tuple(v for v in KNOWN_TRITONS if low < version_key(v) < high and STEPS.index(found.steps[0]) < 3)
        turns.append(Turn(fails, other, _turn(found, fails, other), _turn(found, other, fails), between))
    return turns


def _neighbours(names: Sequence[str], own: dict[str, CompileReport]) -> list[tuple[str, str]]:
    """Releases next to each other, those that gave no verdict by themselves passed over."""
    return list(pairwise([name for name in names if verdict_of(own.get(name)) is not None]))


def _differ(own: dict[str, CompileReport], one: str, other: str) -> bool:
    return verdict_of(own[one]) != verdict_of(own[other])


def walk(found: Crossed, begins: str, ends: str) -> list[CompileReport | None]:
    """The reports when `begins` does the first k steps and `ends` the rest, for k from 0 to all of them."""
    steps = found.steps
    reached = _reached(found, begins)
    reports: list[CompileReport | None] = [found.own[ends]]
    for number, step in enumerate(steps[1:], start=1):
        if number > reached:  # it fails before there is a text to hand on, whoever would go on
            reports.append(found.own[begins])
        else:
            cell = found.at(step, begins, ends)
            reports.append(cell.report if cell else None)
    return [*reports, found.own[begins]]


def _reached(found: Crossed, name: str) -> int:
    """How many steps a release does by itself before it fails; all but the last where ptxas is what fails."""
    report = found.own[name]
    there = {TTGIR: report.ttgir_path, LLIR: report.llir_path, PTX: report.ptx_path}
    for number, step in enumerate(found.steps):
        if step in there and there[step] is None:
            return number
    return len(found.steps)


def _turn(found: Crossed, begins: str, ends: str) -> tuple[str, ...]:
    """The steps among which the verdict turns once, when `begins` begins; () where it turns more than once."""
    verdicts = [verdict_of(report) for report in walk(found, begins, ends)]
    known = [(number, verdict) for number, verdict in enumerate(verdicts) if verdict is not None]
    turned = [found.steps[i:j] for (i, one), (j, other) in pairwise(known) if one != other]
    return turned[0] if len(turned) == 1 else ()

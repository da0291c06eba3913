"""Which toolchain versions a kernel dies on: bisection with few installs, and the whole Triton x ptxas matrix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.compiler import toolchain as tc
from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest, compile_matrix, compile_request
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import NO_VERDICT, CompileReport, refuse_ill
from helpers.compiler.toolchain import KNOWN_PTXAS, KNOWN_TRITONS, Toolchain, version_key
from helpers.errors import UserError
from helpers.search.same_failure import same_failure

# `other`: it fails, but not as the failure that is looked for does. That mends nothing, and it is not that failure.
GOOD, BAD, OTHER, UNKNOWN = "good", "bad", "other", "unknown"
AXES = {"triton": KNOWN_TRITONS, "ptxas": KNOWN_PTXAS}


@dataclass(frozen=True)
class Probe:
    """One version tried: `good`, `bad`, `other` (another failure) or `unknown`, with the compile's words.

    `installed_for_this` says whether it cost an install.
    """

    version: str
    verdict: str
    words: str
    installed_for_this: bool = False


@dataclass(frozen=True)
class VerdictChange:
    """Two tried versions between which the verdict changes.

    Between them lie `untried` versions, which could narrow it down, and `undecided` ones, which gave no verdict.
    """

    before: str
    after: str
    verdict: str
    was: str = BAD
    untried: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether `after` is the first version with this verdict: no other version lies between."""
        return not (self.untried or self.undecided)


@dataclass(frozen=True)
class Bisection:
    """Probes in version order and the changes of verdict between them.

    `answer` is the change asked for (None when there is none). Between two tried neighbours of equal verdict nothing
    else is looked for: a version that breaks and mends within such a gap goes unseen.
    """

    axis: str
    find: str
    since: str | None
    probes: tuple[Probe, ...]
    changes: tuple[VerdictChange, ...]
    answer: VerdictChange | None
    installs: int

    def sentence(self) -> str:
        """The finding in one sentence, with the command that would narrow it down."""
        name = {"triton": "Triton", "ptxas": "ptxas"}[self.axis]
        after = f" after {self.since}" if self.since else ""
        if self.answer is None:
            return f"no change to {self.find} was found{after} among {', '.join(p.version for p in self.probes)}"
        first = self.answer
        what = f"the first {self.find} {name}{after}"
        if first.verdict == OTHER:
            what = f"the first {name}{after} where this failure is gone"
        if first.exact:
            return f"{what} is {first.after}; {first.before} is the one before it{self._instead()}"
        words = f"{what} is {first.after} at the latest, and {first.before} is not it"
        if first.undecided:
            words += f"; {' and '.join(first.undecided)} between them gave no verdict"
        if first.untried:
            prefix = "ptxas==" if self.axis == "ptxas" else ""
            middle = f"{prefix}{first.untried[len(first.untried) // 2]}"
            words += (
                f"; {' and '.join(first.untried)} between them could not be tried here. To narrow it down, run "
                f"`register-cliff toolchains install {middle}`"
            )
        return words + self._instead()

    def _instead(self) -> str:
        """What stands in place of the failure that is gone, and the first version that compiles."""
        first = self.answer
        if first is None or first.verdict != OTHER:
            return ""
        there = next((p.words for p in self.probes if p.version == first.after), "")
        lowest = version_key(first.after)
        good = next((p.version for p in self.probes if p.verdict == GOOD and version_key(p.version) > lowest), None)
        then = f"{good} is the first tried that compiles" if good else "none tried after it compiles"
        return f". Another failure takes its place there ({there}); {then}"


def bisect_versions(
    versions: Iterable[str],
    probe: Callable[[str], tuple[str, str]],
    *,
    is_installed: Callable[[str], bool],
    find: str = GOOD,
    since: str | None = None,
    install: Callable[[str], object] | None = None,
    axis: str = "triton",
) -> Bisection:
    """The first `good` (or `bad`) version after `since`, trying all that is installed before anything is installed.

    `probe` answers (good | bad | other | unknown, words) for an installed version. A version with another failure is
    neither good nor bad; to find `good` is to find the first version where the failure is gone, whatever is there
    then. What is on hand costs seconds and is tried first; only then are versions installed, by halving the one gap
    that holds the answer, and none at all without `install`. `since` is where the search begins; by default the
    oldest version with the opposite verdict. Raises UserError for a `find` or `since` that cannot be.
    """
    order = sorted(dict.fromkeys(versions), key=version_key)
    if find not in (GOOD, BAD):
        raise UserError(f"find {find!r}: choose {GOOD} or {BAD}")
    if since is not None and since not in order:
        raise UserError(f"cannot search after {since}: it is not among {', '.join(order)}")
    tried: dict[str, Probe] = {}
    installs = 0

    def attempt(version: str, fetched: bool) -> None:
        verdict, words = probe(version)
        tried[version] = Probe(version, verdict, words, fetched)

    def fetch(version: str, install: Callable[[str], object]) -> None:
        nonlocal installs
        try:
            install(version)
        except tc.ToolchainMissing as exc:
            tried[version] = Probe(version, UNKNOWN, str(exc))
            return
        installs += 1
        attempt(version, True)

    for version in order:
        if is_installed(version):
            attempt(version, False)
    if since is not None and since not in tried and install is not None:
        fetch(since, install)
    while True:
        changes = _changes(order, tried)
        answer = _first(changes, find, since)
        wanted = _next_install(order, tried, find=find, since=since, answer=answer)
        if install is None or wanted is None:
            break
        fetch(wanted, install)
    probes = tuple(sorted(tried.values(), key=lambda p: version_key(p.version)))
    return Bisection(axis, find, since, probes, tuple(changes), answer, installs)


def _decided(order: Sequence[str], tried: dict[str, Probe]) -> list[str]:
    return [v for v in order if v in tried and tried[v].verdict != UNKNOWN]


def _changes(order: Sequence[str], tried: dict[str, Probe]) -> list[VerdictChange]:
    decided = _decided(order, tried)
    found = []
    for before, after in itertools.pairwise(decided):
        if tried[before].verdict != tried[after].verdict:
            between = order[order.index(before) + 1 : order.index(after)]
            found.append(
                VerdictChange(
                    before,
                    after,
                    tried[after].verdict,
                    tried[before].verdict,
                    untried=tuple(v for v in between if v not in tried),
                    undecided=tuple(v for v in between if v in tried),
                )
            )
    return found


def _first(changes: Sequence[VerdictChange], find: str, since: str | None) -> VerdictChange | None:
    lowest = version_key(since) if since else ()
    return next((c for c in changes if _is_turn(c, find) and version_key(c.after) > lowest), None)


def _is_turn(change: VerdictChange, find: str) -> bool:
    """Whether a change of verdict is one to `bad`, or away from it."""
    return change.verdict == BAD if find == BAD else change.was == BAD


def _found(verdict: str, find: str) -> bool:
    return (verdict == BAD) == (find == BAD)


def _next_install(
    order: Sequence[str], tried: dict[str, Probe], *, find: str, since: str | None, answer: VerdictChange | None
) -> str | None:
    """The version whose install says most; None when no install could say more."""
    if answer is not None:
        return answer.untried[len(answer.untried) // 2] if answer.untried else None
    ahead = order[order.index(since) :] if since else list(order)
    decided = _decided(ahead, tried)
    untried = [v for v in ahead if v not in tried]
    if all(_found(tried[v].verdict, find) for v in decided):
        # Nothing to change from yet: only an end older than all that was tried can be it.
        return next((v for v in untried if not decided or ahead.index(v) < ahead.index(decided[0])), None)
    newest = ahead.index(decided[-1])
    return next((v for v in reversed(untried) if ahead.index(v) > newest), None)


def judge(report: CompileReport, max_spill_bytes: int | None = None, failure: CompileReport | None = None) -> str:
    """`good` for a report that compiled (with at most so many bytes of spill stores and loads), else `bad`.

    `other` where it fails, but not as `failure` does; `unknown` where the pair of toolchain and arch says nothing.
    """
    if report.status in NO_VERDICT:
        return UNKNOWN
    if not report.compiled:
        return BAD if failure is None or failure.compiled or same_failure(report, failure) else OTHER
    spilled = (report.spill_store_bytes or 0) + (report.spill_load_bytes or 0)
    return GOOD if max_spill_bytes is None or spilled <= max_spill_bytes else BAD


def _looked_for(reports: Mapping[str, CompileReport], named: str | None) -> CompileReport | None:
    """The failure that the bisection is about: that of the version named, else of the oldest version that fails."""
    failing = {v: r for v, r in reports.items() if not r.compiled and r.status not in NO_VERDICT}
    return failing.get(named or "") or next((failing[v] for v in sorted(failing, key=version_key)), None)


def is_on_hand(axis: str, version: str) -> bool:
    """Whether a Triton or ptxas release can be used without fetching anything."""
    try:
        tc.resolve_triton(version) if axis == "triton" else tc.resolve_ptxas(version)
    except tc.ToolchainMissing:
        return False
    return True


def bisect_kernel(
    spec: KernelSpec,
    arch: str,
    *,
    axis: str = "triton",
    versions: Sequence[str] | None = None,
    toolchain: Toolchain | None = None,
    find: str = GOOD,
    since: str | None = None,
    max_spill_bytes: int | None = None,
    install: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    failure_of: str | None = None,
) -> Bisection:
    """Bisect releases of Triton (or, for `axis="ptxas"`, of the ptxas that assembles one Triton's PTX) for a spec.

    `versions` defaults to the known releases and those on hand; `toolchain` holds the axis that does not move.
    The failure that is looked for is that of `failure_of` (a release) or `since`, else that of the oldest release on
    hand that fails; a release that fails in another way is neither good nor bad. With
    `max_spill_bytes`, a compile that spills more counts as bad. Nothing is fetched without `install`.
    """
    if axis not in AXES:
        raise UserError(f"cannot bisect {axis!r}: choose one of {', '.join(AXES)}")
    base = toolchain or Toolchain()
    # The environment's own release is one to be tried, even when it is newer than this list.
    on_hand = tc.installed_tritons() if axis == "triton" else tc.installed_ptxas()
    known = tuple(versions or sorted({*AXES[axis], *on_hand}, key=version_key))

    spec.content_key()  # an unreadable kernel is said before anything is compiled
    # What is on hand is tried in any case: all of it at once.
    there = [v for v in known if is_on_hand(axis, v)]
    requests = {v: CompileRequest(spec, arch, replace(base, **{axis: v}), timeout_s=timeout_s) for v in known}
    reports = dict(zip(there, compile_matrix([requests[v] for v in there]), strict=True))
    refuse_ill(list(reports.values()))

    failure = _looked_for(reports, failure_of or since)

    def probe(version: str) -> tuple[str, str]:
        report = reports.get(version) or compile_request(requests[version])
        refuse_ill([report])
        return judge(report, max_spill_bytes, failure), report.verdict_in_full()

    def fetch(version: str) -> Path:
        return tc.install(f"{axis}=={version}", quiet=True)

    return bisect_versions(
        known,
        probe,
        is_installed=lambda version: is_on_hand(axis, version),
        find=find,
        since=since,
        install=fetch if install else None,
        axis=axis,
    )


# --- the whole matrix -------------------------------------------------------------------------------------

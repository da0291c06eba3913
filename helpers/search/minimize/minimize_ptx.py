"""minimize_ptx: the smallest PTX found that a ptxas still fails on in the same way, by delta debugging."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.compiler.compile import usable_cores
from helpers.compiler.toolchain import installed_ptxas, resolve_ptxas, version_key
from helpers.errors import MachineError, UserError
from helpers.files import MAX_TEXT_BYTES
from helpers.inspection.ptx.scan import count_instructions, ptx_header
from helpers.search.minimize.prober import LEVELS, UNREADABLE, Check, Prober, ProgressCallback
from helpers.search.minimize.ptx_search import Search, count_lines

MAX_PTX_BYTES = MAX_TEXT_BYTES
PTX_TIME_LIMIT_S = 900.0
_ARCH = re.compile(r"sm_[0-9]{2,3}[a-z]?", re.ASCII)


@dataclass(frozen=True)
class Minimized:
    """A smaller PTX that fails as the original does.

    `verdicts` are what the original and the small PTX give by ptxas release and -O level: (release, level, original,
    minimised, agree). `complete` is False when the time limit ended the search. Lines are those of the text.
    """

    ptx: str
    lines_before: int
    lines_after: int
    instructions_before: int
    instructions: int
    probes: int
    ptxas_runs: int
    wall_s: float
    arch: str
    ptxas_version: str
    command: str
    failure: str
    code: str | None
    registers_asked: int | None
    verdicts: tuple[tuple[str, str, str, str, bool], ...]
    complete: bool

    @property
    def agrees(self) -> bool:
        """Whether every ptxas and level gives the original's verdict."""
        return all(row[-1] for row in self.verdicts)

    def to_dict(self) -> dict:
        """All fields ready for JSON, verdicts as rows with names."""
        names = ("ptxas", "level", "original", "minimised", "agree")
        return {
            **asdict(self),
            "verdicts": [dict(zip(names, row, strict=True)) for row in self.verdicts],
            "agrees": self.agrees,
        }


class StoppedByMachine(MachineError):
    """A search without a state file that the machine failed; `ptx` is the smallest that had been found by then."""

    def __init__(self, words: str, ptx: str) -> None:
        self.ptx = ptx
        super().__init__(words)


def minimize_ptx(
    ptx: str,
    *,
    arch: str | None = None,
    ptxas: str | None = None,
    flags: Sequence[str] = (),
    everywhere: bool = True,
    time_limit_s: float = PTX_TIME_LIMIT_S,
    timeout_s: float = 60.0,
    jobs: int | None = None,
    state_path: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Minimized:
    """The smallest PTX found within `time_limit_s` seconds that fails as `ptx` does.

    It fails with the same code at the same register count, agrees with the original at -O0 to -O3 and, with
    `everywhere`, on every ptxas on this machine that reads the original, and every register in it is written before it
    is read wherever that is so in the original. `arch` defaults to the PTX's own target, `ptxas` (a release) to the
    oldest on this machine that fails. `timeout_s` bounds one ptxas run. The result does not depend on `jobs`. With
    `state_path` an interrupted run goes on where it was and ends with the same PTX. Raises UserError for a PTX that
    does not fail and for a state file of another run, MachineError where the machine failed a run of ptxas.
    """
    if len(ptx) > MAX_PTX_BYTES:
        raise UserError(f"this PTX has {len(ptx)} characters; up to {MAX_PTX_BYTES} are taken")
    if not 0 < time_limit_s < float("inf") or not 0 < timeout_s < float("inf"):
        raise UserError(f"time limits {time_limit_s} s and {timeout_s} s per run: each must be more than 0 and finite")
    jobs = usable_cores() if jobs is None else jobs
    if not 1 <= jobs <= 256:
        raise UserError(f"{jobs} jobs: give a whole number from 1 to 256")
    arch = arch or ptx_header(ptx).target
    if not arch:
        raise UserError("this text names no .target, so it is no PTX ptxas could read; give a PTX, or its arch")
    if not _ARCH.fullmatch(arch):
        raise UserError(f"{arch[:80]!r} is no arch ptxas could know; give one such as sm_100a")
    programs = installed_ptxas()
    candidates = {ptxas: resolve_ptxas(ptxas).path} if ptxas else programs
    if not candidates:
        raise UserError("there is no ptxas on this machine; fetch one: register-cliff toolchains install 3.5.1")
    search = Search(ptx, time_limit_s, timeout_s, jobs, state_path, progress)
    try:
        search.begin(arch, tuple(flags), candidates, programs if everywhere else {})
        search.run()
        return _result(search)
    except MachineError as exc:
        if state_path is not None or search.sound == search.original:
            raise
        raise StoppedByMachine(str(exc), search.sound) from exc
    finally:
        search.save()
        search.prober.close()


def verify_agreement(
    original: str, minimized: str, *, arch: str, flags: Sequence[str] = (), timeout_s: float = 60.0, jobs: int = 1
) -> tuple[tuple[str, str, str, str, bool], ...]:
    """(ptxas release, -O level, original's verdict, minimised's, agree) for every installed ptxas that reads both."""
    prober = Prober(jobs, timeout_s)
    try:
        checks = [
            Check(version, program, tuple(flags), arch).at_level(level)
            for version, program in installed_ptxas().items()
            for level in LEVELS
        ]
        before, after = prober.verdicts(original, checks), prober.verdicts(minimized, checks)
    finally:
        prober.close()
    return tuple(
        (check.version, check.level, old.text(), new.text(), old.agrees(new))
        for check, old, new in zip(checks, before, after, strict=True)
        if old.status not in UNREADABLE
    )


def _result(search: Search) -> Minimized:
    """The smallest PTX that agrees everywhere, its verdicts found by running every ptxas on it once more.

    Where nothing could be taken away in time, it is the original, and its verdicts are known.
    """
    small = search.sound
    wanted = [*search.near, *search.far]
    same = small == search.original
    found = [old for _, old in wanted] if same else search.prober.verdicts(small, [c for c, _ in wanted])
    rows = [
        (check.version, check.level, old.text(), new.text(), old.agrees(new))
        for (check, old), new in zip(wanted, found, strict=True)
    ]
    rows.sort(key=lambda row: (version_key(row[0]), row[1]))
    words = " ".join(["ptxas", *search.own.flags, "-v", f"--gpu-name={search.own.arch}", "minimized.ptx"])
    return Minimized(
        ptx=small,
        lines_before=search.lines_before,
        lines_after=count_lines(small),
        instructions_before=count_instructions(search.original)["total"],
        instructions=count_instructions(small)["total"],
        probes=search.probes(),
        ptxas_runs=search.runs(),
        wall_s=round(search.seconds(), 1),
        arch=search.own.arch,
        ptxas_version=search.own.version,
        command=words,
        failure=search.failure.status,
        code=search.failure.code,
        registers_asked=search.failure.registers_asked,
        verdicts=tuple(rows),
        complete=search.complete,
    )

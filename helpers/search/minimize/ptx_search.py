"""The search behind `minimize_ptx`: the best PTX so far, what it must meet, sweeps over it, and its state on disk."""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from helpers.errors import UserError
from helpers.files import read_ordinary, write_text_atomically
from helpers.inspection.ptx.scan import ptx_header
from helpers.search.minimize.check import check_valid
from helpers.search.minimize.prober import LEVELS, UNREADABLE, Check, Prober, ProgressCallback, Step, Verdict
from helpers.search.minimize.program import Program, read_program, render
from helpers.search.minimize.sweeps import Removal, apply_removal, sweeps

MAX_STATE_BYTES = 256_000_000
_STATE_FORMAT = 1
_SAVE_EVERY_S = 5.0
# All ptxas releases at all levels are asked when so much of the lines is left since they last were, and every round.
_WORTH_CHECKING = 0.5


class Search:
    """The best PTX so far, what it must meet, and the sweeps over it."""

    def __init__(
        self, ptx: str, time_limit_s: float, timeout_s: float, jobs: int, state_path: Path | None,
        progress: ProgressCallback | None,
    ) -> None:  # fmt: skip
        self.original, self.progress, self.state_path = ptx, progress, state_path
        self.deadline = time.monotonic() + time_limit_s
        self.started = time.monotonic()
        self.check_s = 0.0  # what it took to run every check on the original
        self.lines_before = count_lines(ptx)
        self.earlier_s, self.earlier_probes, self.earlier_runs = 0.0, 0, 0
        self.prober = Prober(jobs, timeout_s)
        self.settings: dict = {}
        self.best = self.sound = ptx  # the smallest so far; the smallest that agrees everywhere
        self.place = (0, 0)  # round, sweep
        self.lines_at_round = self.lines_before
        self.taken_back = False  # in this round, because another ptxas did not agree
        self.mark: dict = {}
        self.learned: list[str] = []
        self.strict = not check_valid(ptx)
        self.complete = False
        self.saved_at, self.warned = 0.0, False
        self.phase, self.done, self.total = "", 0, 0

    # --- what it must meet

    def begin(
        self, arch: str, flags: tuple[str, ...], candidates: Mapping[str, Path], everywhere: Mapping[str, Path]
    ) -> None:
        """Find out how the original fails, or take up the state file.

        `candidates` are the ptxas releases of which the first that fails is minimised for, `everywhere` those the
        result must agree on.
        """
        self.own, self.failure = self._failing(candidates, arch, flags)
        others = {v: p for v, p in everywhere.items() if v != self.own.version}
        # Asked at every probe: the failure itself, one level that must compile or fail as it did, and the failure on
        # the newest ptxas, which differs most; the rest is asked now and then.
        near = [self.own, self.own.at_level("-O3" if self.own.level == "-O1" else "-O1")]
        for version, program in list(others.items())[::-1][:1]:
            near.insert(1, Check(version, program, flags, arch))
        far = [self.own.at_level(level) for level in LEVELS]
        far += [
            Check(v, p, flags, arch).at_level(level)
            for v, p in reversed(list(others.items()))
            for level in (self.own.level, *(x for x in LEVELS[::-1] if x != self.own.level))
        ]
        asked = {(c.version, c.level) for c in near}
        far = [c for c in far if (c.version, c.level) not in asked]
        self.settings = {
            "format": _STATE_FORMAT,
            "input_sha256": hashlib.sha256(self.original.encode()).hexdigest(),
            "checks": [c.key() for c in [*near, *far]],
        }
        state = self._read_state()
        if state is None:
            began = time.monotonic()
            found = [self.failure, *self.prober.verdicts(self.original, [*near[1:], *far])]
            self.check_s = time.monotonic() - began
        else:
            try:
                found = [Verdict.kept(state["verdicts"][c.key()]) for c in [*near, *far]]
            except (KeyError, TypeError) as exc:
                raise self._unreadable(exc) from exc
        self.settings["verdicts"] = {c.key(): asdict(v) for c, v in zip([*near, *far], found, strict=True)}
        pairs = list(zip([*near, *far], found, strict=True))
        self.near = [(c, v) for c, v in pairs[: len(near)] if v.status not in UNREADABLE]
        self.far = [(c, v) for c, v in pairs[len(near) :] if v.status not in UNREADABLE]
        self.prober.checks = list(self.near)
        if state is not None:
            self._take_up(state)

    def _failing(self, programs: Mapping[str, Path], arch: str, flags: tuple[str, ...]) -> tuple[Check, Verdict]:
        """The first ptxas that fails on the original for a reason of the original's own.

        What fails alike where the kernel is empty is about the arch, the flags or the first lines of the PTX: a search
        would take the whole kernel away and call that the smallest PTX that fails.
        """
        seen: dict[str, list[str]] = {}
        empty, of_any = _empty_like(self.original), False
        for version, program in programs.items():
            check = Check(version, program, flags, arch)
            (verdict,) = self.prober.verdicts(self.original, [check])
            if verdict.status == "timeout":
                raise UserError(
                    f"ptxas {version} had not finished with this PTX after {self.prober.timeout_s:g} s; "
                    "give more time for one run, or another ptxas"
                )
            if verdict.status != "ok" and verdict.status not in UNREADABLE:
                if not verdict.agrees(self.prober.verdicts(empty, [check])[0]):
                    return check, verdict
                of_any = True
            seen.setdefault(verdict.text(), []).append(version)
        words = "; ".join(f"{text} on {', '.join(versions)}" for text, versions in seen.items())
        if of_any:
            raise UserError(
                f"an empty kernel fails in the same way for {arch} with these flags ({words}), so the failure is none "
                "of this PTX's: name the arch it was made for, and flags that ptxas has"
            )
        raise UserError(
            f"this PTX does not fail for {arch}, so there is nothing to minimise ({words}); name the ptxas it fails "
            "on, its arch and its flags"
        )

    # --- the search

    def run(self) -> None:
        """Sweep until a whole round takes nothing away, or time is over."""
        if not self.mark:
            if self._late():
                return
            plain = render(read_program(self.original))
            if not self.prober.passes(plain):
                self.complete = True  # the failure lies in what the plain form leaves out: no more can be said
                return
            self.best = plain
        round_no, sweep_no = self.place
        while not self.complete:
            plan = sweeps(round_no)
            for number in range(sweep_no, len(plan)):
                self._set_mark(round_no, number)
                name, make = plan[number]
                self._sweep(f"round {round_no + 1}: {name}", make)
                last = number == len(plan) - 1
                if last or self._late() or count_lines(self.best) <= _WORTH_CHECKING * count_lines(self.sound):
                    self._check_everywhere()
                if self._late():
                    return
                self.prober.settled.clear()
            settled = not self.taken_back and count_lines(self.best) >= self.lines_at_round
            self.complete = round_no > 0 and settled
            self.taken_back = False
            self.lines_at_round = count_lines(self.best)
            round_no, sweep_no = round_no + 1, 0
        self._set_mark(round_no, 0)

    def _sweep(self, phase: str, make: Callable[[Program], list[Removal]]) -> None:
        """Try the removals in turn, each on the best so far; the next ones are begun on a guess of how this one ends.

        A wrong guess costs time, never a different result.
        """
        program, best = read_program(self.best), self.best
        removals = make(program)
        self.phase, self.done, self.total = phase, 0, len(removals)
        queue: deque[tuple[tuple[Program, str] | None, bool]] = deque()  # (candidate, whether it was taken for good)
        ahead, tip, good = 0, (program, best), False
        while self.done < len(removals) and not self._late():
            while ahead < len(removals) and sum(c is not None for c, _ in queue) <= self.prober.jobs:
                candidate = self._candidate(tip[0], removals[ahead], tip[1])
                if candidate is not None:
                    self.prober.prefetch(candidate[1])
                    tip = candidate if good else tip
                queue.append((candidate, candidate is not None and good))
                ahead += 1
            candidate, guessed = queue.popleft()
            passed = False
            if candidate is not None:
                good = passed = self.prober.passes(candidate[1])
                if passed:
                    program, best = candidate
                    self.best = best
            self.done += 1
            if passed != guessed:
                self.prober.forget()
                queue.clear()
                ahead, tip = self.done, (program, best)
            self._tell()
            if time.monotonic() - self.saved_at > _SAVE_EVERY_S:
                self.save()
        self.prober.forget()

    def _candidate(self, program: Program, removal: Removal, best: str) -> tuple[Program, str] | None:
        """(program, text) after a removal; None when it takes nothing away."""
        changed = apply_removal(program, removal)
        if changed is None:
            return None
        text = render(changed)
        return (changed, text) if count_lines(text) < count_lines(best) else None

    def _check_everywhere(self) -> None:
        """Hold the best so far to every ptxas; what it fails is asked at every probe from then on."""
        if self.best == self.sound:
            return
        self.phase = "every ptxas and level"
        self._tell()
        broken = self.prober.first_disagreement(self.best, self.far)
        if broken is None and self.strict and check_valid(self.best):
            broken = (self.own, self.failure)
        if broken is None:
            self.sound = self.best
            return
        if broken[0].key() not in self.learned and broken[0] != self.own:
            self.learned.append(broken[0].key())
            self.prober.checks.append(broken)
        self.best, self.taken_back = self.sound, True
        self.prober.settled.clear()

    def _late(self) -> bool:
        """Whether the time suffices only for the checks that are to come: on every ptxas, and once more for the result.

        They took `check_s` on the original, and take less on a shorter text.
        """
        reserve = 2 * self.check_s * count_lines(self.best) / max(1, self.lines_before)
        return time.monotonic() + reserve >= self.deadline

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(
                Step(
                    self.phase, count_lines(self.best), self.lines_before, self.probes(), self.seconds(), self.done,
                    self.total,
                )
            )  # fmt: skip

    def seconds(self) -> float:
        """Seconds so far, those of earlier runs too."""
        return self.earlier_s + time.monotonic() - self.started

    def probes(self) -> int:
        """Texts judged so far, by earlier runs too."""
        return self.earlier_probes + self.prober.probes

    def runs(self) -> int:
        """Runs of ptxas so far, by earlier runs too."""
        return self.earlier_runs + self.prober.runs

    # --- state

    def _set_mark(self, round_no: int, sweep_no: int) -> None:
        """Note where a sweep begins: an interrupted one is done again from there, with its answers at hand."""
        self.mark = {
            "place": [round_no, sweep_no],
            "best": self.best,
            "sound": self.sound,
            "learned": list(self.learned),
            "lines_at_round": self.lines_at_round,
            "taken_back": self.taken_back,
            "complete": self.complete,
        }

    def save(self) -> None:
        """Write where the search is, atomically; nothing before there is something to go on from."""
        if self.state_path is None or not self.mark:
            return
        self.saved_at = time.monotonic()
        counts = {"wall_s": self.seconds(), "probes": self.probes(), "ptxas_runs": self.runs()}
        state = {**self.settings, **self.mark, **counts, "settled": dict(self.prober.settled)}
        try:
            write_text_atomically(self.state_path, json.dumps(state))
        except OSError as exc:
            # What was found so far is worth more than the file.
            if not self.warned:
                self.warned = True
                said = f"cannot write the state file {self.state_path}: {exc.strerror or exc}"
                warnings.warn(f"{said}; the search goes on without it", stacklevel=2)

    def _read_state(self) -> dict | None:
        """The state file's content, None without one; raises UserError for one of another run."""
        if self.state_path is None:
            return None
        try:
            if not self.state_path.exists():
                return None
            state = json.loads(read_ordinary(self.state_path, MAX_STATE_BYTES, "the state file"))
            same = all(state.get(name) == value for name, value in self.settings.items())
        except (OSError, ValueError, AttributeError, RecursionError) as exc:
            raise self._unreadable(exc) from exc
        if not same:
            raise UserError(
                f"the state file {self.state_path} is of another run (another PTX, arch, flags or set of ptxas "
                "releases); name another file, or remove this one to begin anew"
            )
        return state

    def _take_up(self, state: dict) -> None:
        """Go on from where the state was written."""
        try:
            round_no, sweep_no = (int(n) for n in state["place"])
            self.place = (max(0, round_no), max(0, sweep_no))
            self.best, self.sound = str(state["best"]), str(state["sound"])
            self.lines_at_round, self.complete = int(state["lines_at_round"]), bool(state["complete"])
            self.taken_back = bool(state["taken_back"])
            self.learned = [str(key) for key in state["learned"]]
            self.prober.settled.update({str(k): bool(v) for k, v in state["settled"].items()})
            self.earlier_s = float(state["wall_s"])
            self.earlier_probes, self.earlier_runs = int(state["probes"]), int(state["ptxas_runs"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as exc:
            raise self._unreadable(exc) from exc
        known = {c.key(): (c, v) for c, v in self.far}
        self.prober.checks += [known[key] for key in self.learned if key in known]
        self._set_mark(*self.place)

    def _unreadable(self, exc: Exception) -> UserError:
        return UserError(
            f"{self.state_path} cannot be read as the state of a minimisation ({exc}); name another file, or remove "
            "this one to begin anew"
        )


def _empty_like(ptx: str) -> str:
    """A PTX with the first lines and the entries of another, and nothing in them."""
    header = ptx_header(ptx)
    lines = [f".version {header.version}", f".target {header.target}", ".address_size 64"]
    named = [name for name in header.entries if re.fullmatch(r"[A-Za-z_$%][\w$]{0,2000}", name, re.ASCII)]
    entries = named or ["empty"]
    return "\n".join([*lines, *(f".visible .entry {name}()\n{{\nret;\n}}" for name in dict.fromkeys(entries))]) + "\n"


def count_lines(text: str) -> int:
    """Lines of a text, the last one too when no newline ends it."""
    return text.count("\n") + (not text.endswith("\n"))

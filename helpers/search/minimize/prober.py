"""One question asked of ptxas many times: does this PTX still end as the original did, here and elsewhere?"""

from __future__ import annotations

import concurrent.futures
import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.compiler.run_ptxas import PtxasRun, run_ptxas, stop_runs

LEVELS = ("-O0", "-O1", "-O2", "-O3")
# Says nothing about the PTX as a program: this ptxas cannot read it, or was not given the time.
UNREADABLE = ("unsupported_target", "unsupported_ptx_version")


@dataclass(frozen=True)
class Verdict:
    """How one ptxas run ended, in what two runs can be compared by.

    `status` is a word of `classify_failure`; for a failure `code` and `registers_asked`, for other complaints `words`
    (numbers and names taken out); registers and spill bytes are of a compile that succeeded, and are not compared.
    """

    status: str
    code: str | None = None
    registers_asked: int | None = None
    words: str = ""
    registers: int | None = None
    spill_store_bytes: int | None = None
    wall_s: float = 0.0

    @classmethod
    def of(cls, run: PtxasRun) -> Verdict:
        """The verdict on a run."""
        if run.compiled:
            return cls(
                run.status, registers=run.regs_per_thread, spill_store_bytes=run.spill_store_bytes, wall_s=run.wall_s
            )
        if run.status == "timeout":
            return cls(run.status, wall_s=run.wall_s)
        words = ""
        if run.status == "ptxas_signal":
            words = str(run.exit_code)
        elif run.silent:
            words = "no kernel"
        elif run.ptxas_code is None and run.fatal:
            words = re.sub(r"'[^']*'|[0-9]+", "_", run.fatal[0])[:200]
        return cls(run.status, run.ptxas_code, run.registers_asked, words, wall_s=run.wall_s)

    @classmethod
    def kept(cls, raw: object) -> Verdict:
        """The verdict that a file keeps as `asdict` wrote it; raises TypeError for anything else."""
        verdict = cls(**raw)  # type: ignore[arg-type]
        texts = (verdict.status, verdict.code, verdict.words)
        counts = (verdict.registers_asked, verdict.registers, verdict.spill_store_bytes)
        if not all(type(x) is str for x in texts if x is not None) or verdict.status is None or verdict.words is None:
            raise TypeError("a verdict's words are no text")
        if not all(type(x) is int for x in counts if x is not None) or type(verdict.wall_s) not in (int, float):
            raise TypeError("a verdict's counts are no numbers")
        return verdict

    def agrees(self, other: Verdict) -> bool:
        """Whether both compiled, or both failed in the same way."""
        return self._key() == other._key()

    def _key(self) -> tuple:
        return self.status, self.code, self.registers_asked, self.words

    def text(self) -> str:
        """`C7600 at 255`, `255 registers, 1088 B spill stores`, or the status."""
        if self.status == "ok" and self.registers is None:
            return "compiles, and there is no kernel in it"
        if self.status == "ok":
            return f"{self.registers} registers, {self.spill_store_bytes} B spill stores"
        if self.code:
            return self.code + ("" if self.registers_asked is None else f" at {self.registers_asked}")
        return f"{self.status}: {self.words[:80]}" if self.words else self.status


@dataclass(frozen=True)
class Check:
    """One way to run ptxas: its release, the program, flags, the arch's name."""

    version: str
    program: Path
    flags: tuple[str, ...]
    arch: str

    @property
    def level(self) -> str:
        """The -O level among the flags, ptxas's default otherwise."""
        return next((f for f in reversed(self.flags) if re.fullmatch(r"-O[0-3]", f)), "-O3")

    def at_level(self, level: str) -> Check:
        """The same with another -O level."""
        flags = tuple(f for f in self.flags if not re.fullmatch(r"-O[0-3]", f))
        return Check(self.version, self.program, (*flags, level), self.arch)

    def key(self) -> str:
        """What tells this check from others, as text."""
        return " ".join((self.version, self.arch, *self.flags))

    def run(self, ptx: str, timeout_s: float) -> Verdict:
        """The verdict on a PTX."""
        return Verdict.of(run_ptxas(self.program, ptx, gpu_name=self.arch, flags=self.flags, timeout_s=timeout_s))


def digest(text: str) -> str:
    """A short name of a text's content."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class Prober:
    """Answers whether a text passes all checks, on threads, each text once.

    `checks` are (check, verdict wanted); the first that disagrees ends a probe, so the cheap and telling come first.
    `settled` are answers by digest, from this run or from an interrupted one.
    """

    def __init__(self, jobs: int, timeout_s: float, settled: dict[str, bool] | None = None) -> None:
        self.jobs, self.timeout_s = jobs, timeout_s
        self.checks: list[tuple[Check, Verdict]] = []
        self.settled = settled if settled is not None else {}
        self.runs = self.probes = 0
        self._lock = threading.Lock()
        self._threads: set[int] = set()
        self._futures: dict[str, concurrent.futures.Future[bool]] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(
            jobs, initializer=lambda: self._threads.add(threading.get_ident())
        )

    def prefetch(self, text: str) -> None:
        """Begin to answer for a text."""
        name = digest(text)
        if name not in self.settled and name not in self._futures:
            self._futures[name] = self._pool.submit(self._probe, text)

    def passes(self, text: str) -> bool:
        """Whether the text passes; waits for the answer."""
        name = digest(text)
        if (answer := self.settled.get(name)) is None:
            self.prefetch(text)
            answer = self.settled[name] = self._futures.pop(name).result()
        return answer

    def forget(self) -> None:
        """Drop what was begun and will not be asked for."""
        for name, future in list(self._futures.items()):
            if future.cancel():
                del self._futures[name]
            elif future.done() and future.exception() is None:
                self.settled[name] = future.result()
                del self._futures[name]

    def verdicts(self, text: str, checks: Sequence[Check]) -> list[Verdict]:
        """The verdict of each check on a text, in order, run side by side."""
        return list(self._pool.map(lambda check: self._run(check, text), checks))

    def first_disagreement(self, text: str, wanted: Sequence[tuple[Check, Verdict]]) -> tuple[Check, Verdict] | None:
        """The first (check, verdict wanted) the text does not meet; what was begun beyond it is not waited for."""
        for begin in range(0, len(wanted), self.jobs):
            batch = wanted[begin : begin + self.jobs]
            for pair, found in zip(batch, self.verdicts(text, [c for c, _ in batch]), strict=True):
                if not found.agrees(pair[1]):
                    return pair
        return None

    def close(self) -> None:
        """End what runs: a ptxas that hangs must not hold an interrupt back."""
        for future in self._futures.values():
            future.cancel()
        stop_runs(self._threads)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, check: Check, text: str) -> Verdict:
        with self._lock:
            self.runs += 1
        return check.run(text, self.timeout_s)

    def _probe(self, text: str) -> bool:
        with self._lock:
            self.probes += 1
        return all(self._run(check, text).agrees(wanted) for check, wanted in tuple(self.checks))


ProgressCallback = Callable[["Step"], None]


@dataclass(frozen=True)
class Step:
    """Where a search stands: what is tried, lines now and at first, probes so far, seconds, done of this sweep."""

    phase: str
    lines: int
    lines_before: int
    probes: int
    wall_s: float
    done: int
    total: int

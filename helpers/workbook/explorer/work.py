"""Work behind an explorer: runs in a thread, tells how far it is, and ends when a newer change or a person says so."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Iterable

from helpers.attention.choice import Choice
from helpers.compiler.compile import usable_cores
from helpers.compiler.report import Evidence
from helpers.compiler.run_ptxas import stop_runs
from helpers.compiler.worker.pool import POOL
from helpers.workbook.evidence import compile_choices


class Cancelled(Exception):
    """The work was ended before it had an answer."""


class Work:
    """One run of `target(work)` in a thread of its own; `finished` is called with (work, answer, exception).

    `progress` gets (done, total, words) from the thread. `cancel` ends the compiles under way, workers and ptxas
    included; what is already compiled stays in the cache.
    """

    def __init__(
        self,
        target: Callable[[Work], object],
        finished: Callable[[Work, object, BaseException | None], None],
        progress: Callable[[Work, int, int, str], None],
    ) -> None:
        self._target, self._finished, self._progress = target, finished, progress
        self._threads: set[int] = set()
        self._stopped = threading.Event()
        self.done = threading.Event()
        self.said: tuple[int, int, str] = (0, 0, "compiling …")
        # A comm message is sent as the answer to the request of its context: the thread has to inherit it.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True, name="explorer")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        answer, problem = None, None
        try:
            answer = self._target(self)
            self.check()
        except BaseException as exc:  # handed on, to become a sentence in the widget
            problem = Cancelled() if self.cancelled else exc
        try:
            self._finished(self, answer, problem)
        finally:
            self.done.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Raise Cancelled when the end was asked for: to be called between steps."""
        if self.cancelled:
            raise Cancelled

    def cancel(self) -> None:
        """Ask for the end and kill what compiles; returns at once."""
        self._stopped.set()
        threads = set(self._threads)
        POOL.stop(threads)
        stop_runs(threads)

    def say(self, done: int, total: int, words: str) -> None:
        """Tell how far the work is."""
        self.check()
        self.said = (done, total, words)
        self._progress(self, done, total, words)

    def compile(
        self, choices: Iterable[Choice], *, each: Callable[[int, int, object], None] | None = None
    ) -> list[Evidence]:
        """`compile_choices` that `cancel` can end; `each` is called after each compile with (done, total, report)."""
        self.check()
        todo = list(choices)

        def progress(done: int, total: int, report) -> None:
            self.check()
            if each:
                each(done, total, report)

        with _Stoppable(self, workers=min(usable_cores(), max(1, len(todo)))) as executor:
            try:
                found = compile_choices(todo, executor=executor, progress=progress)
            except BaseException:
                if self.cancelled:
                    self.cancel()  # again: a compile may have begun between the first kill and now
                raise
        self.check()
        return found

    def compile_one(self, choice: Choice) -> Evidence:
        """`compile` for a single configuration."""
        return self.compile([choice])[0]

    def enter(self) -> None:
        """Count the calling thread among those that `cancel` kills for."""
        self._threads.add(threading.get_ident())


class _Stoppable(concurrent.futures.ThreadPoolExecutor):
    """Threads of one Work that begin nothing more once it is cancelled."""

    def __init__(self, work: Work, workers: int) -> None:
        super().__init__(max_workers=workers, initializer=work.enter)
        self._work = work

    def submit(self, fn, /, *args, **kwargs):
        return super().submit(self._guarded, fn, *args, **kwargs)

    def _guarded(self, fn, *args, **kwargs):
        self._work.check()
        return fn(*args, **kwargs)

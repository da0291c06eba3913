"""The one progress bar of all verbs: on stderr, only on a terminal, and not under --quiet or --json."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import click


class Progress:
    """How far a verb is; `compiled` is the callback that compile_matrix and the searches take."""

    def update(self, words: str | None = None, *, done: int | None = None, total: int | None = None) -> None:
        """Show `done` of `total` (None: one more than before; not known), and what is going on."""

    def compiled(self, done: int, total: int, _report: object) -> None:
        """One compile of a batch has ended."""

    def counted(self, _done: int, _total: int, _report: object) -> None:
        """One compile has ended, of a search that makes many batches: only their number is known."""


class _Bar(Progress):
    def __init__(self, bar, task) -> None:
        self._bar, self._task = bar, task

    def update(self, words: str | None = None, *, done: int | None = None, total: int | None = None) -> None:
        changes = {} if words is None else {"description": words}
        if total is not None:
            changes["total"] = total
        self._bar.update(self._task, **changes, **({"advance": 1} if done is None else {"completed": done}))

    def compiled(self, done: int, total: int, _report: object) -> None:
        self.update(done=done, total=total)

    def counted(self, _done: int, _total: int, _report: object) -> None:
        self.update()


def wanted() -> bool:
    """Whether the verb that runs may show progress: stderr is a terminal, and neither --quiet nor --json was given."""
    context = click.get_current_context(silent=True)
    params = context.params if context is not None else {}
    return sys.stderr.isatty() and not params.get("quiet") and not params.get("as_json")


@contextlib.contextmanager
def progress(words: str, total: int | None = None) -> Iterator[Progress]:
    """A progress bar with these words while the block runs; one that shows nothing where none is wanted."""
    if not wanted():
        yield Progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task(words, total=total))

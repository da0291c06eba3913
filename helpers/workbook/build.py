"""The workbook: every notebook executed headless, a self-contained page each, an index, a three-line verdict.

    python -m helpers.workbook.build [--notebooks notebooks] [--out build]

The committed notebooks are read and never written. Pages appear under their name only when complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helpers.errors import UserError
from helpers.files import ROOT, write_text_atomically
from helpers.processes import Stop, stoppable
from helpers.workbook.explorer.frame import MAKING_PAGES
from helpers.workbook.pages import (
    PageEntry,
    figure_evidence,
    index_page,
    network_loads,
    notebook_page,
    notebook_question,
    notebook_title,
    without_widget_views,
)

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode
    from rich.progress import Progress

CELL_TIMEOUT_S = 900
# A killed kernel is gone at once, or after a moment where the machine is busy.
KILLED_WITHIN_S = 10.0
AT_ONCE = 2
_live: set[NotebookClient] = set()
_groups_seen: set[int] = set()
_stopping = threading.Event()


@dataclass(frozen=True)
class NotebookRun:
    """One execution: the notebook as it came out, how long it took, and which cell failed, if one did."""

    path: Path
    notebook: NotebookNode
    seconds: float
    failed_cell: int | None = None  # index into notebook.cells
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.failed_cell is None and not self.message

    def failure_report(self) -> str:
        """The failing cell's source and its whole output, for a log; empty for a run that went well."""
        if self.ok:
            return ""
        lines = [f"{self.path.name} failed: {self.message}"]
        if self.failed_cell is not None:
            cell = self.notebook.cells[self.failed_cell]
            lines += [f"--- cell {self.failed_cell}, source", cell.source, "--- its output"]
            lines += [_output_text(output) for output in cell.get("outputs", [])] or ["(none)"]
        return "\n".join(lines)


def _output_text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback) or f"{output.ename}: {output.evalue}"
    data = output.get("data", {})
    return data.get("text/plain") or f"[{', '.join(data)}]"


def find_notebooks(folder: Path) -> list[Path]:
    """The notebooks of a folder in reading order; raises UserError when there are none."""
    found = sorted(p for p in folder.glob("*.ipynb") if not p.name.startswith(".")) if folder.is_dir() else []
    if not found:
        raise UserError(f"no notebook in {folder}; name a folder of *.ipynb files: --notebooks notebooks")
    return found


async def _execute(path: Path, folder: Path, on_cell: Callable[[int, int], object] | None) -> NotebookRun:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    code_cells = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for i in code_cells:
        # A cell that is never reached must not show what was committed.
        notebook.cells[i].update(outputs=[], execution_count=None)
    at: int | None = None
    done = 0

    def started(*, cell: NotebookNode, cell_index: int) -> None:
        nonlocal at
        at = cell_index

    def finished(*, cell: NotebookNode, cell_index: int, execute_reply: object) -> None:
        nonlocal done
        done += 1
        if on_cell:
            on_cell(done, len(code_cells))

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        # Its warning about unencrypted TCP on this machine would be the first thing a person sees.
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        on_cell_execute=started,
        on_cell_executed=finished,
    )
    # The notebook runs this checkout's helpers, whatever else is installed.
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    if _stopping.is_set():  # a kernel that was killed makes room for the next notebook, which may not start
        raise asyncio.CancelledError
    began = time.perf_counter()
    message = ""
    # What the kernel process itself prints is noise, except where it dies: then it is the reason.
    with tempfile.TemporaryFile() as kernel_log:
        try:
            _live.add(client)
            environment = {**os.environ, "PYTHONPATH": python_path, MAKING_PAGES: "1"}
            await client.async_execute(env=environment, stdout=kernel_log, stderr=kernel_log)
        except CellExecutionError as exc:
            message = f"{exc.ename}: {exc.evalue}"
        except CellTimeoutError:
            message = f"a cell ran longer than {CELL_TIMEOUT_S} s and was stopped"
        except DeadKernelError:
            kernel_log.seek(0)
            last_words = kernel_log.read().decode(errors="replace")[-2000:].strip()
            message = "the kernel died (a crash of the interpreter, or out of memory)"
            message += f"; it said: {last_words}" if last_words else ""
        finally:
            _live.discard(client)
    seconds = time.perf_counter() - began
    if not message:
        # Errors that a cell's tags allow are errors all the same: a page may not end in a traceback.
        bad = [i for i in code_cells if any(o.output_type == "error" for o in notebook.cells[i].outputs)]
        at, message = (bad[0], "the cell shows an error") if bad else (None, "")
    return NotebookRun(path, notebook, seconds, at, message)


def execute_notebook(
    path: Path, *, folder: Path | None = None, on_cell: Callable[[int, int], object] | None = None
) -> NotebookRun:
    """Run one notebook top to bottom in a new kernel and return what came out; the file is not written.

    `folder` is the kernel's working folder (the notebook's own by default); `on_cell(done, of)` hears of each
    finished code cell. A failing notebook is a result, not an exception.
    """
    return _run_loop(_execute(path, folder or path.parent, on_cell))


def _kill_group(group: int) -> bool:
    """Whether the group still had a process to kill; a dead one that nobody collected counts as one."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _kill_kernels() -> None:
    """Kill every running kernel with all it started and wait until they are gone, KILLED_WITHIN_S at most.

    Asking politely waits for the cell, and can hang. A kernel that was being started when the stop came is
    looked for until then too.
    """
    _stopping.set()
    deadline = time.monotonic() + KILLED_WITHIN_S
    while time.monotonic() < deadline:
        provisioners = [getattr(client.km, "provisioner", None) for client in list(_live)]
        processes = [getattr(provisioner, "process", None) for provisioner in provisioners]
        groups = {process.pid for process in processes if process} - {os.getpgrp()}
        _groups_seen.update(groups)
        for process in processes:
            if process:
                process.poll()  # collects it: a dead child stays in the table until its parent has asked
        # All are killed again: what a process started meanwhile belongs to its group. None may be skipped.
        if not any([_kill_group(group) for group in _groups_seen]) and all(processes):
            return
        time.sleep(0.02)


def _run_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """`asyncio.run` in its own thread: on the main one nbclient takes SIGINT, Ctrl-C stops nothing."""
    # The kernel of this environment, not a user-wide one of the same name.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    loop = asyncio.new_event_loop()
    outcome: dict[str, Any] = {}

    async def guarded() -> None:
        try:
            outcome["value"] = await work
        except BaseException as exc:
            outcome["error"] = exc

    _stopping.clear()
    _groups_seen.clear()
    thread = threading.Thread(target=lambda: loop.run_until_complete(guarded()), daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        _kill_kernels()
        raise
    loop.close()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def _write_page(run: NotebookRun, *, out: Path, titles: Mapping[str, str]) -> PageEntry:
    import nbformat

    name = run.path.stem
    entry = PageEntry(
        name,
        notebook_title(run.notebook, name),
        run.seconds,
        failed=not run.ok,
        evidence=tuple(figure_evidence(run.notebook)),
        question=notebook_question(run.notebook),
    )
    page = notebook_page(run.notebook, entry=entry, titles=titles, folder=run.path.parent)
    loads = network_loads(page)
    if loads:
        raise UserError(
            f"{run.path.name}: its page would fetch {len(loads)} things when opened, first {loads[0]}; "
            "put them into the output itself (a figure, a table without scripts)"
        )
    write_text_atomically(out / f"{name}.ipynb", nbformat.writes(without_widget_views(run.notebook)))
    write_text_atomically(out / f"{name}.html", page)
    return entry


def _title_of(path: Path) -> str:
    import nbformat

    return notebook_title(nbformat.read(path, as_version=4), path.stem)


async def _run_all(
    paths: Sequence[Path], *, out: Path, progress: Progress
) -> tuple[list[NotebookRun], list[PageEntry]]:
    titles = {path.stem: _title_of(path) for path in paths}
    free = asyncio.Semaphore(AT_ONCE)

    async def one(path: Path) -> tuple[NotebookRun, PageEntry]:
        async with free:
            bar = progress.add_task(path.stem, total=None)

            def on_cell(done: int, of: int) -> None:
                progress.update(bar, completed=done, total=of)

            run = await _execute(path, path.parent, on_cell)
            progress.stop_task(bar)
            word = "ran" if run.ok else "FAILED"
            progress.console.print(f"{path.name}: {word}, {run.seconds:.1f} s", highlight=False)
        return run, await asyncio.to_thread(_write_page, run, out=out, titles=titles)

    # All run to their end before the first error is told: cancelling a kernel's client half-way hangs in zmq.
    done = await asyncio.gather(*(one(path) for path in paths), return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return [run for run, _ in done], [entry for _, entry in done]


def build(*, notebooks: Path, out: Path) -> int:
    """Execute, write pages and index, print the verdict; the exit code: 0, or 1 when a notebook failed.

    Raises UserError for what the user can mend: no notebooks, a folder that cannot be written, a page that
    would need the network.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    paths = find_notebooks(notebooks)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UserError(f"cannot make the folder {out}: {exc.strerror}; name another with --out") from exc
    # Gone until they are true again: an interrupted run leaves no verdict of the run before.
    for name in ("index.html", "verdict.json"):
        (out / name).unlink(missing_ok=True)
    console = Console(file=sys.stdout, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as progress:
        runs, entries = _run_loop(_run_all(paths, out=out, progress=progress))
    lines, verdict = _verdict()
    write_text_atomically(out / "verdict.json", json.dumps(verdict, indent=1))
    index = out / "index.html"
    kept = json.loads((out / "verdict.json").read_text())
    write_text_atomically(index, index_page(entries, kept, picture=_front_picture()))
    failed = [run for run in runs if not run.ok]
    for run in failed:
        print(f"\n{run.failure_report()}", file=sys.stderr)
    if console.is_terminal:
        print()
    for line in lines:
        print(line)
    ran = f"{len(runs) - len(failed)} of {len(runs)} notebooks ran in {time.perf_counter() - began:.0f} s"
    print(f"Pages: {index} ({ran}).")
    return 1 if failed else 0


def _front_picture() -> str:
    """The picture of the front page, as HTML; empty where this checkout has none."""
    from helpers.show.html import picture

    path = ROOT / "docs" / "suspects.png"
    words = "Six compiles of one kernel as bars of registers per thread: one dies, its neighbours spill or pass."
    said = '<p class="evidence">Evidence: compile-only (compiled, not run on a GPU); page 01 draws it anew.</p>'
    return picture(path.read_bytes(), words) + said if path.is_file() else ""


def _verdict() -> tuple[list[str], dict]:
    """The verdict's sentences, and it as plain data (lines, columns, rows)."""
    from helpers.workbook.verdict import workbook_verdict

    verdict = workbook_verdict()
    table = json.loads(verdict.table.to_json(orient="split", index=False))
    lines = list(verdict.lines)
    return lines, {"lines": lines, "columns": table["columns"], "rows": table["data"]}


@click.command()
@click.option("--notebooks", default="notebooks", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", default="build", show_default=True, type=click.Path(path_type=Path))
def main(notebooks: Path, out: Path) -> None:
    """Execute every notebook, write self-contained pages and an index into OUT, print the verdict."""
    stop = Stop()
    try:
        with stoppable() as stop:
            code = build(notebooks=notebooks, out=out)
    except UserError as exc:
        print(f"error: {exc}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # after a hang-up nobody may be there to read it
            print(f"stopped; what stands in {out} is complete, what is missing was not made", file=sys.stderr)
            sys.stdout.flush()
        # The usual way out would wait for sockets of the kernels just killed.
        os._exit(128 + (stop.number or signal.SIGINT))
    sys.exit(code)

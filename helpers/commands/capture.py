"""`capture`: run a program of the user's own and record every Triton kernel that it compiles, launches or fails on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from helpers.commands.line.grammar import ARGUMENTS, Verb, shared
from helpers.commands.line.output import echo_json, note, say, warn
from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, read_ordinary
from helpers.processes import scratch_folder


class _Rest(Verb):
    """Everything after the first word that is no option of ours belongs to the program."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {**self.context_settings, "ignore_unknown_options": True}
        self.allow_interspersed_args = False


@click.command("capture", cls=_Rest, examples=("register-cliff capture -o specs -- python serve.py",
                                              "register-cliff capture -o specs"))  # fmt: skip
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]", panel=ARGUMENTS,
                help="the program with its arguments; without one, what FOLDER holds is listed")  # fmt: skip
@shared("out_folder", "json", "quiet")
def capture_command(folder: Path, as_json: bool, quiet: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND (`-- python program.py …`) and record its Triton kernels; without one, list what a folder holds.

    Every distinct specialisation that it or its child processes launch or fail to compile becomes a JSON file for
    `compile SPEC` and the other verbs; failures that an autotuner swallows are among them. The program runs once, as it
    would without, in its own Python; the exit code is its own. Python's -I, -E and -S switch the recording off.
    """
    from helpers.compiler.bring.capture import CAPTURE_ENV, HOOK_FOLDER, MARKS_ENV

    code, seen = 0, None
    if command:
        if shutil.which(command[0]) is None:
            raise cannot_run(command[0], folder, "No such program")
        _make(folder)
        try:
            path = os.pathsep.join(p for p in (str(HOOK_FOLDER), os.environ.get("PYTHONPATH", "")) if p)
            env = {**os.environ, CAPTURE_ENV: str(folder.absolute()), "PYTHONPATH": path}
            with scratch_folder("capture") as marks:
                code = run_passing_signals(command, {**env, MARKS_ENV: str(marks)})
                seen = seen_by(marks)
        except (OSError, ValueError) as exc:
            raise cannot_run(command[0], folder, str(getattr(exc, "strerror", None) or exc)) from exc
    elif not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give a command to run: capture -o {folder} -- python program.py")
    rows = recorded(folder)
    if as_json:
        echo_json(rows)
    elif command:
        if not quiet:  # stdout is the program's own
            warn(format_recorded(rows, folder, seen))
    else:
        say(format_recorded(rows, folder))
    return 128 - code if code < 0 else code


def cannot_run(program: str, folder: Path, why: str) -> UserError:
    """The error for a program that cannot be started, and how to run a Python file."""
    how = ""
    if program.endswith(".py"):
        how = f"; run it with Python: register-cliff capture -o {folder} -- python {program}"
    return UserError(f"cannot run {program[:80]!r}: {why}{how}")


# Passed on as they come; a terminal's own SIGINT and SIGQUIT reach the program without us.
PASSED = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")
)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


def run_passing_signals(command: Sequence[str], env: dict[str, str]) -> int:
    """Run a program to its end, however long it takes, and return its code (below 0: the signal that ended it).

    Signals that come meanwhile are the program's: it decides what they mean. Raises OSError or ValueError where it
    cannot be started.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        if number in FROM_TERMINAL and in_foreground():
            return
        if process is None:
            early.append(number)
        elif process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    before: dict[int, Any] = {}
    try:
        for number in PASSED:
            # What the caller ignores (nohup) stays ignored, here and in the program.
            if signal.getsignal(number) != signal.SIG_IGN:
                with contextlib.suppress(ValueError):  # not in the main thread
                    before[number] = signal.signal(number, pass_on)
        process = subprocess.Popen(command, env=env)
        for number in early:
            process.send_signal(number)
        # In short waits: a signal that comes just before a long one would be heard only when the program has ended.
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_foreground() -> bool:
    """Whether the terminal's keys reach this process group: then they reach the program too, which is in it."""
    try:
        with open("/dev/tty", "rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


@dataclass(frozen=True)
class Seen:
    """What the program's processes left word of: how many loaded Triton, what could not be written.

    `missed` is how many loaded it in a way that the recording does not see.
    """

    loaded: int
    failed: tuple[str, ...]
    missed: int = 0


def seen_by(marks: Path) -> Seen:
    """Read the marks that the hook left."""
    failed = [path.read_text(errors="replace").strip()[:300] for path in sorted(marks.glob("failed-*"))]
    loaded, missed = (sum(1 for _ in marks.glob(f"{word}-*")) for word in ("loaded", "missed"))
    return Seen(loaded, tuple(dict.fromkeys(failed)), missed)


def _make(folder: Path) -> None:
    """Make the folder for the specs, and say so; raises UserError."""
    there = os.path.isdir(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        said = getattr(exc, "strerror", None) or exc
        raise UserError(f"cannot make the folder {str(folder)[:300]} for the specs: {said}; name another one") from exc
    if not there:
        note(f"the folder {folder} was made")


def recorded(folder: Path) -> list[dict]:
    """One row a spec in a capture's folder, failures first; files that are none are left out."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = json.loads(read_ordinary(path, MAX_TEXT_BYTES, "the spec file"))
            about, why = raw["capture"], raw["capture"].get("incomplete")
            # Anybody may have written the file: what is no text becomes one.
            rows.append({"spec": str(path), "kernel": str(raw["kernel"]["name"]),
                         **{n: about.get(n) and str(about[n]) for n in ("outcome", "stage", "error_type", "arch",
                                                                        "triton_version", "autotune")},
                         "incomplete": [str(x) for x in (why if isinstance(why, list) else [why] if why else [])],
                         "error": str(about.get("error") or "")[:300]})  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return sorted(rows, key=lambda row: (row["outcome"] != "failed", row["spec"]))


def format_recorded(rows: list[dict], folder: Path, seen: Seen | None = None) -> str:
    """The rows of `recorded` as text, with what to do next; `seen` is of the program that has just run."""
    failed = [row for row in rows if row["outcome"] == "failed"]
    lines = [f"{folder}: {len(rows)} specialisations, {len(failed)} of them failed"]
    for row in rows:
        words = [row["outcome"] or "(outcome not stated)", row["spec"]]
        if row["error_type"]:
            words.append(f"{row['error_type']}" + (" (swallowed by the autotuner)" if row["autotune"] else ""))
        if row["incomplete"]:
            words.append(f"cannot be compiled elsewhere: {'; '.join(row['incomplete'])}")
        lines.append("  ".join(words))
    if seen:
        lines += [f"not all was recorded: {words}" for words in seen.failed]
        if seen.missed:
            lines.append(
                f"not all was recorded: {_processes(seen.missed)} of a program that has import finders of its own "
                "(sys.meta_path) loaded Triton unseen; `helpers.capture(folder)` around the launches records them"
            )
    if rows:
        lines.append(f"next: register-cliff compile {rows[0]['spec']} --arch {rows[0]['arch']}")
        return "\n".join(lines)
    lines.append(_nothing_recorded(seen))
    lines.append(
        "next: without a GPU to run it on, make a spec of the kernel's source: "
        "register-cliff spec --file KERNEL.py --kernel NAME --signature …"
    )
    return "\n".join(lines)


def _nothing_recorded(seen: Seen | None) -> str:
    """Why a folder is empty, as far as the program's processes tell."""
    if seen is None:
        return "the folder holds no spec"
    if seen.loaded:
        many = _processes(seen.loaded)
        what = "what it compiled could not be recorded" if seen.failed else "no kernel was compiled or launched"
        return f"Triton was loaded by {many}, and {what}"
    if seen.missed:
        return "what was compiled is not known"
    return (
        "no process of the program was seen to load Triton (a Python started with -I, -E or -S, or whose PYTHONPATH "
        "was set anew, is not seen)"
    )


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"

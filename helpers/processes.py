"""Processes that leave nothing behind: children that die with their parent, scratch folders that are swept, signals.

Linux only, like everything here. A child that waits for its parent's thread is told by the kernel when that thread is
gone (PR_SET_PDEATHSIG), also where the parent was killed and could say nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, Any

from helpers.errors import MachineError

__all__ = [
    "Stop",
    "Stopped",
    "end_with_parent",
    "hold",
    "locked",
    "scratch_folder",
    "session_folder",
    "stoppable",
    "sweep",
    "wait_for_end",
]

_PR_SET_PDEATHSIG = 1
PREFIX = "register-cliff-scratch-"
_LOCK = ".in-use"
# A folder this young may belong to somebody who has not locked it yet.
YOUNGEST_SWEPT_S = 60.0
# Nobody needs so long between making a folder and its lock, not even on a machine that was put to sleep between.
YOUNGEST_BARE_S = 3_600.0


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end (`number`); handled wherever an interrupt is."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclass
class Stop:
    """The signal that has ended a block, 0 for none."""

    number: int = 0


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """While the block runs, SIGTERM and SIGHUP end it as Ctrl-C does: by an exception, so that it can clean up.

    Gives what says afterwards which signal it was, Ctrl-C included, for libraries make exceptions of their own of an
    interrupt. What the caller ignores stays ignored, and outside the main thread nothing is changed.
    """
    stop = Stop()
    before: dict[signal.Signals, Any] = {}

    def end(number: int, _frame: object) -> None:
        stop.number = number
        raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)

    if threading.current_thread() is threading.main_thread():
        for asked in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(asked) in (signal.SIG_DFL, signal.default_int_handler):
                before[asked] = signal.signal(asked, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@cache
def _libc() -> Any:
    import ctypes  # not at every start of a verb

    return ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> Callable[[], None]:
    """A `preexec_fn` for a child that the calling thread waits for: it is killed when that thread is gone.

    For nothing that outlives the thread that starts it: a worker of a pool watches its parent by itself.
    """
    prctl, parent = _libc().prctl, os.getpid()

    def in_the_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # gone before it could be asked for
            os._exit(1)

    return in_the_child


def wait_for_end(process: subprocess.Popen[Any], timeout_s: float) -> int:
    """`process.wait(timeout=…)`, told by the kernel the moment that the process ends; raises subprocess.TimeoutExpired.

    With a timeout, Python's own looks after naps of up to 50 ms: longer than many a ptxas takes, and a search starts
    thousands. Where the kernel gives no handle of a process, Python's own is what remains.
    """
    if (code := process.poll()) is not None:
        return code
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return process.wait(timeout=timeout_s)
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        if not ended.poll(min(max(timeout_s, 0) * 1000, 2**31 - 1)):
            raise subprocess.TimeoutExpired(process.args, timeout_s)
    finally:
        os.close(handle)
    return process.wait()


def temporary_place() -> str:
    """The folder that temporary files go to; raises MachineError where no folder takes one."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as exc:
        raise MachineError(
            f"the machine failed: {exc.strerror}; make room in one of them, or set TMPDIR to a folder that takes files "
            "(`ulimit -f` may forbid them), and run the same command again"
        ) from exc


@contextlib.contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A folder for the block alone, removed at its end; what a killed process left is removed at the next start.

    Raises OSError where none can be made.
    """
    folder, lock = _begun(name, temporary_place())
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def session_folder(name: str) -> Path:
    """A folder for as long as this process lives, one a name; removed as `scratch_folder` is.

    A forked child gets one of its own, and leaves its parent's alone. Raises OSError where none can be made.
    """
    return _session_folder(name, temporary_place(), os.getpid())


@lru_cache(maxsize=64)
def _session_folder(name: str, place: str, owner: int) -> Path:
    folder, lock = _begun(name, place)

    def end() -> None:
        if os.getpid() == owner:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder


def _begun(name: str, place: str) -> tuple[Path, IO[str]]:
    """A new folder and its lock, which is open for as long as the folder is in use."""
    _sweep_once(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{name}-", dir=place))
    try:
        lock = open(folder / _LOCK, "w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, lock


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or a folder for the block; raises OSError where somebody else has it."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        hold(handle)
        yield
    finally:
        os.close(handle)


def hold(handle: int) -> None:
    """Lock an open file for as long as it is open; raises OSError where somebody else has the lock."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@lru_cache(maxsize=8)
def _sweep_once(place: str) -> None:
    sweep(Path(place))


def sweep(place: Path, pattern: str = f"{PREFIX}*", *, lock: str = _LOCK) -> int:
    """Remove folders of ours whose owner is gone, and return how many.

    An owner holds a lock on the file `lock` in its folder (or, where that is empty, on the folder) as long as it lives,
    so one in another container counts as well. A folder of ours that is old and has no such file is one whose owner was
    killed before it made the file, or while it removed the folder.
    """
    swept = 0
    with contextlib.suppress(OSError):
        for folder in place.glob(pattern):
            with contextlib.suppress(OSError):
                about = folder.lstat()
                young = time.time() - about.st_mtime < YOUNGEST_SWEPT_S
                if young or about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode):
                    continue
                if lock and not (folder / lock).exists() and time.time() - about.st_mtime < YOUNGEST_BARE_S:
                    continue
                with locked(folder / lock if (folder / lock).exists() else folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
    return swept

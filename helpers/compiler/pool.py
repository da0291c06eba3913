"""Persistent worker processes, a few per Triton version, handed to one caller at a time."""

from __future__ import annotations

import atexit
import collections
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.compiler.toolchain import resolve_triton

WORKER_SCRIPT = Path(__file__).with_name("worker.py")
START_TIMEOUT_S = 120.0
LOG_TAIL_CHARS = 4_000


class WorkerDied(RuntimeError):
    """The process ended in the middle of a request; `signal_name` says by which signal, if by one."""

    def __init__(self, returncode: int | None, log: str) -> None:
        self.returncode = returncode
        self.signal_name = None
        if returncode is not None and returncode < 0:
            with contextlib.suppress(ValueError):
                self.signal_name = signal.Signals(-returncode).name
        self.log = log
        super().__init__(f"the Triton worker ended ({self.signal_name or f'exit code {returncode}'}): {log.strip()[-400:]}")


class WorkerTimeout(RuntimeError):
    """The process did not answer within the time limit and was killed."""


def worker_environment(site: Path) -> dict[str, str]:
    """The environment of a worker: this one, minus what would change Triton's code generation, plus its Triton.

    TRITON_* variables override ptxas, the cache or the optimiser; a verdict must not depend on the shell it
    was asked from.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "MLIR_", "LLVM_", "PYTHONPATH"))}
    env["PYTHONPATH"] = str(site)
    env["PYTHONUNBUFFERED"] = "1"
    env["CUDA_VISIBLE_DEVICES"] = ""
    return env


class Worker:
    """One worker process; `ask` sends a request and waits for its answer, within a time limit."""

    def __init__(self, triton: str) -> None:
        self.version, site = resolve_triton(triton)
        self._log = tempfile.TemporaryFile()
        # -P: the script's own folder stays off sys.path. A session of its own lets a kill reach its children.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=worker_environment(site),
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        self._buffer = b""
        ready = self._read(START_TIMEOUT_S)
        if ready.get("triton_version") != self.version:
            self.close()
            raise RuntimeError(f"asked for Triton {self.version}, the worker runs {ready.get('triton_version')}")

    def _read_log(self) -> str:
        self._log.seek(0, os.SEEK_END)
        size = self._log.tell()
        self._log.seek(max(0, size - LOG_TAIL_CHARS))
        return self._log.read().decode(errors="replace")

    def _read(self, timeout_s: float) -> dict:
        deadline = time.monotonic() + timeout_s
        fd = self.process.stdout.fileno()
        chunks = [self._buffer]
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in chunks[-1]:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self.kill()
                    raise WorkerTimeout(f"no answer from the Triton {self.version} worker within {timeout_s:g} s")
                chunk = os.read(fd, 1 << 20)
                if not chunk:
                    returncode = self.process.wait()
                    raise WorkerDied(returncode, self._read_log())
                chunks.append(chunk)
        line, _, self._buffer = b"".join(chunks).partition(b"\n")
        return json.loads(line)

    def ask(self, request: dict, timeout_s: float) -> dict:
        """The answer to one request; raises WorkerDied or WorkerTimeout, after either of which it is gone."""
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, OSError) as exc:
            raise WorkerDied(self.process.wait(), self._read_log()) from exc
        return self._read(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End the process and its children at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End the process in an orderly way: it stops at the end of its input."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()
        self._log.close()


class WorkerPool:
    """Workers by Triton version, started when first needed, kept for the next request, closed at exit."""

    def __init__(self) -> None:
        self._idle: dict[str, collections.deque[Worker]] = collections.defaultdict(collections.deque)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def borrow(self, triton: str) -> Iterator[Worker]:
        """A worker for the caller alone; it goes back unless it died meanwhile."""
        with self._lock:
            idle = self._idle[triton]
            worker = idle.pop() if idle else None
        if worker is None or not worker.alive:
            worker = Worker(triton)
        try:
            yield worker
        finally:
            if worker.alive:
                with self._lock:
                    self._idle[triton].append(worker)

    def close(self) -> None:
        """End every idle worker."""
        with self._lock:
            workers = [w for idle in self._idle.values() for w in idle]
            self._idle.clear()
        for worker in workers:
            worker.close()


POOL = WorkerPool()
atexit.register(POOL.close)
# A forked child must not talk through its parent's pipes.
os.register_at_fork(after_in_child=lambda: POOL._idle.clear())

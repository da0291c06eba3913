"""Persistent worker processes, a few per Triton version, handed to one caller at a time."""

from __future__ import annotations

import atexit
import collections
import contextlib
import fcntl
import functools
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from helpers.compiler import machine
from helpers.compiler.run_ptxas import signal_name
from helpers.compiler.toolchain import Tool
from helpers.inspection.crash.mlir import front_end_failure
from helpers.processes import session_folder, wait_for_end

WORKER_SCRIPT = Path(__file__).with_name("worker.py")
# The same worker for kernels whose imports are stubbed: in a process of their own, since the stubs stay.
FOREIGN_SCRIPT = Path(__file__).with_name("foreign_worker.py")
FOREIGN_SCRIPTS = (FOREIGN_SCRIPT, Path(__file__).with_name("stubs.py"), Path(__file__).with_name("tuning_list.py"))
# The worker that goes on from the text of a stage instead of source.
TEXT_SCRIPT = Path(__file__).with_name("text_worker.py")
START_TIMEOUT_S = 120.0
# Of what a worker wrote to stderr during one request, the first and the last half of so many bytes are read: an MLIR
# reproducer of a large kernel has a few megabytes.
MAX_LOG_BYTES = 16_000_000
# What changes Triton's or LLVM's code generation, or the worker's Python, from the outside (triton/knobs.py and
# Triton's C++ side, 3.4 to 3.9: DISABLE_LLVM_OPT, DISABLE_PTXAS_OPT, PTXAS_OPTIONS, NVPTX_ENABLE_DUMP, …).
_FOREIGN_SETTINGS = (
    "TRITON_", "MLIR_", "LLVM_", "NVPTX_", "AMDGCN_", "PTXAS_", "DISABLE_", "ENABLE_", "USE_IR_LOC",
    "ALLOW_LHS_TMEM_", "STORE_TMEM_", "PYTHON",
)  # fmt: skip


# Names and values that a worker's environment gets on top: what a change asks of LLVM.
Environment = tuple[tuple[str, str], ...]
# Which Triton, which script, and what its environment has on top.
Home = tuple[Tool, Path, Environment]


class WorkerDied(RuntimeError):
    """The process ended in the middle of a request; `signal_name` says by which signal, if by one."""

    def __init__(self, returncode: int | None, log: str) -> None:
        self.returncode = returncode
        self.signal_name = signal_name(returncode) if returncode is not None and returncode < 0 else None
        self.log = log
        self.of_machine = machine.died(returncode, log)
        failure = front_end_failure(log)
        words = failure.headline() if failure else log.strip()[-400:]
        super().__init__(f"the Triton worker ended ({self.signal_name or f'exit code {returncode}'}): {words}")


class WorkerUnusable(RuntimeError):
    """A worker that cannot start at all: its Triton does not import, or the machine did not let it (`of_machine`)."""

    def __init__(self, words: str, *, of_machine: bool = False) -> None:
        self.of_machine = of_machine
        super().__init__(words)


class WorkerTimeout(RuntimeError):
    """The process did not answer within the time limit and was killed."""


def worker_environment(site: Path, extra: Environment = ()) -> dict[str, str]:
    """The environment of a worker: this one, minus what would change Triton's code generation, plus its Triton.

    Such variables override ptxas, the cache or the optimiser; a verdict must not depend on the shell it
    was asked from. `extra` is what the request itself asks for, which is part of its cache key.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_SETTINGS)}
    env["PYTHONPATH"] = str(site)
    env["PYTHONUNBUFFERED"] = "1"
    env["CUDA_VISIBLE_DEVICES"] = ""
    return {**env, **dict(extra)}


class Worker:
    """One worker process; `ask` sends a request and waits for its answer, within a time limit."""

    def __init__(
        self,
        triton: Tool,
        *,
        script: Path = WORKER_SCRIPT,
        environment: Environment = (),
        begun: Callable[[Worker], None] = lambda _worker: None,
    ) -> None:
        """Start it, and wait until it is ready; `begun` hears of it before the wait, and may end it.

        Raises WorkerUnusable.
        """
        self.version = triton.version
        # -P: the script's own folder stays off sys.path. A session of its own lets a kill reach its children.
        # What it leaves in its own folder goes with it, and with this process's folder when both were killed.
        self._scratch = tempfile.mkdtemp(dir=session_folder("workers"))
        self._log = tempfile.TemporaryFile(dir=self._scratch)
        # Emptied before each request; without O_APPEND the next words would be written where the old ones ended.
        flags = fcntl.fcntl(self._log, fcntl.F_GETFL)
        fcntl.fcntl(self._log, fcntl.F_SETFL, flags | os.O_APPEND)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**worker_environment(triton.path, environment), "TMPDIR": self._scratch},
                cwd=self._scratch,
                start_new_session=True,
            )
        except BaseException:
            self._log.close()
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        assert self.process.stdin is not None and self.process.stdout is not None  # pipes, as asked for
        self._requests, self._answers = self.process.stdin, self.process.stdout
        self._buffer = b""
        try:
            begun(self)
            ready = self._read(START_TIMEOUT_S)
        except WorkerTimeout as exc:  # a busy machine: no import takes that long by itself
            self.kill()
            raise WorkerUnusable(str(exc), of_machine=True) from exc
        except WorkerDied as exc:
            self.kill()
            of_machine = machine.died_at_start(exc.returncode, exc.log)
            raise WorkerUnusable(str(exc), of_machine=of_machine) from exc
        except BaseException:
            self.kill()
            raise
        # A local version (3.7.1+git…) may show in only one of the package's metadata and its __version__.
        if str(ready.get("triton_version")).partition("+")[0] != self.version.partition("+")[0]:
            self.close()
            raise WorkerUnusable(f"asked for Triton {self.version}, the worker runs {ready.get('triton_version')}")

    def _read_log(self) -> str:
        """What the process has written to stderr (and stdout) since the request began."""
        fd = self._log.fileno()
        size, half = os.fstat(fd).st_size, MAX_LOG_BYTES // 2
        if size <= MAX_LOG_BYTES:
            return os.pread(fd, size, 0).decode(errors="replace")
        return (os.pread(fd, half, 0) + b"\n" + os.pread(fd, half, size - half)).decode(errors="replace")

    def _read(self, timeout_s: float) -> dict:
        deadline = time.monotonic() + timeout_s
        fd = self._answers.fileno()
        chunks = [self._buffer]
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in chunks[-1]:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise WorkerTimeout(f"no answer from the Triton {self.version} worker within {timeout_s:g} s")
                chunk = os.read(fd, 1 << 20)
                if not chunk:
                    raise self._died()
                chunks.append(chunk)
        line, _, self._buffer = b"".join(chunks).partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):  # a kernel file that writes to every descriptor it finds
            raise WorkerDied(None, f"its answer was not one: {line[:200]!r}")
        return answer

    def _died(self) -> WorkerDied:
        # Its end of the pipe is closed, so it is gone or going; one that merely closed the pipe is ended here.
        try:
            returncode = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            returncode = None
        return WorkerDied(returncode, self._read_log())

    def ask(self, request: dict, timeout_s: float) -> dict:
        """The answer to one request; one that tells of an error has the process's stderr with it, as `log`.

        Raises WorkerDied (which has the log as well) or WorkerTimeout.
        Whatever it raises, an interrupt included, the process is ended: an answer that comes later would be read
        as the answer to the next request.
        """
        try:
            os.ftruncate(self._log.fileno(), 0)
            try:
                self._requests.write(json.dumps(request).encode() + b"\n")
                self._requests.flush()
            except OSError as exc:
                raise self._died() from exc
            answer = self._read(timeout_s)
            return {**answer, "log": self._read_log()} if "error" in answer else answer
        except BaseException:
            self.kill()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def signal_group(self) -> None:
        """SIGKILL to the process and its children, without waiting for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the process and its children at once."""
        self.signal_group()
        self.process.wait()
        self._release()

    def _release(self) -> None:
        with contextlib.suppress(OSError):  # unsent words to a process that is gone
            self._requests.close()
        self._answers.close()
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def close(self) -> None:
        """End the process in an orderly way: it stops at the end of its input."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            wait_for_end(self.process, 2)
        except subprocess.TimeoutExpired:
            self.kill()
        self._release()


class WorkerPool:
    """Workers by Triton version, started when first needed, kept for the next request, closed at exit."""

    def __init__(self) -> None:
        self.forget()

    @contextlib.contextmanager
    def borrow(
        self, triton: Tool, *, foreign: bool = False, texts: bool = False, environment: Environment = ()
    ) -> Iterator[Worker]:
        """A worker for the caller alone; it goes back unless it died meanwhile.

        `foreign`: one that stubs imports; `texts`: one that goes on from the text of a stage.
        """
        # `environment` and its version are one Triton, a link and its target one folder.
        triton = Tool(triton.path.resolve(), triton.version)
        home = triton, TEXT_SCRIPT if texts else FOREIGN_SCRIPT if foreign else WORKER_SCRIPT, environment
        lent: list[Worker] = []
        try:
            if (worker := self._take(home)) is not None:
                self._lend(worker, lent)
            else:
                begun = functools.partial(self._lend, lent=lent)
                worker = Worker(triton, script=home[1], environment=environment, begun=begun)
            yield worker
        finally:
            with self._lock:
                for worker in lent:
                    del self._busy[worker]
                    if worker.alive:
                        self._idle[home].append(worker)

    def _lend(self, worker: Worker, lent: list[Worker]) -> None:
        """Note that this thread waits for a worker; one that has been stopped meanwhile waits for none."""
        with self._lock:
            self._busy[worker] = threading.get_ident()
            lent.append(worker)
            if self.was_stopped():
                worker.signal_group()

    def _take(self, home: Home) -> Worker | None:
        with self._lock:
            idle = self._idle[home]
            while idle:
                worker = idle.pop()
                if worker.alive:
                    return worker
                worker.close()
        return None

    def was_stopped(self) -> bool:
        """Whether `stop` ended what this thread waited for: then nothing is asked again."""
        return threading.get_ident() in self._stopped

    def stop(self, threads: Container[int]) -> None:
        """End the workers that these threads wait for; each of them then gets WorkerDied."""
        with self._lock:
            self._stopped.update(t.ident for t in threading.enumerate() if t.ident in threads)
            for worker, thread in self._busy.items():
                if thread in threads:
                    worker.signal_group()

    def forget(self) -> None:
        """Start anew without ending anybody: for a forked child, whose workers are its parent's."""
        self._idle: dict[Home, collections.deque[Worker]] = collections.defaultdict(collections.deque)
        self._busy: dict[Worker, int] = {}
        self._stopped: set[int | None] = set()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Say that this thread begins a compile: a stop of an earlier thread of the same number is over."""
        self._stopped.discard(threading.get_ident())

    def close(self) -> None:
        """End every idle worker at once: it holds nothing that would be lost."""
        with self._lock:
            workers = [w for idle in self._idle.values() for w in idle]
            self._idle.clear()
        for worker in workers:
            worker.signal_group()
        for worker in workers:
            worker.kill()


POOL = WorkerPool()
atexit.register(POOL.close)
# A forked child must not talk through its parent's pipes.
os.register_at_fork(after_in_child=POOL.forget)

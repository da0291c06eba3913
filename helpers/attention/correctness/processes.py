"""Processes of their own in which kernels run: interpreted (TRITON_INTERPRET=1), or compiled for a GPU.

Triton reads TRITON_INTERPRET when a kernel is decorated, so a process is one or the other for good. The host
stays as it was: functions and their arguments go to persistent worker processes as pickles and results come
back. On a GPU the same workers compile in parallel, and a kernel that brings its process down costs that one
answer.

`mend_interpreter` repairs faults of Triton's interpreter that would make right kernels look wrong.
"""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from helpers.errors import UserError
from helpers.files import ROOT

DEFAULT_TIMEOUT_S = 240.0
_FRAME = struct.Struct("<Q")
_LOG_TAIL_CHARS = 2000


class WorkerFailed(RuntimeError):
    """The worker raised, died or ran over its time; the message says which, with the end of what it
    printed."""


class KernelProcesses:
    """Persistent worker processes; a context manager. `call` runs a module-level function in one of them."""

    def __init__(self, *, interpret: bool, workers: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.interpret = interpret
        self.workers = workers or default_workers()
        self.timeout_s = timeout_s
        if self.workers < 1:
            raise UserError(f"workers {self.workers} must be at least 1")
        self._idle: list[_Process] = []
        self._lock = threading.Lock()
        self._threads = concurrent.futures.ThreadPoolExecutor(max_workers=self.workers)

    def __enter__(self) -> KernelProcesses:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def submit(self, function: Callable, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """A future of `function(*args, **kwargs)` in a worker; its exception is WorkerFailed."""
        return self._threads.submit(self._call, function, args, kwargs)

    def call(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`, run in a worker; raises WorkerFailed."""
        return self.submit(function, *args, **kwargs).result()

    def map(self, function: Callable, items: Iterable[Any]) -> Iterator[Any]:
        """`function(item)` of each item, in order, as many at once as there are workers."""
        futures = [self.submit(function, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while self._idle:
            self._idle.pop().end()

    def _call(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        with self._lock:
            process = self._idle.pop() if self._idle else None
        process = process or _Process(interpret=self.interpret)
        try:
            ok, answer = process.ask((function, args, kwargs), self.timeout_s)
        except BaseException:
            process.end()
            raise
        # A CUDA error poisons the context of its process: anything that raised there gives way to a fresh
        # one.
        if ok or self.interpret:
            with self._lock:
                self._idle.append(process)
        else:
            process.end()
        if not ok:
            raise WorkerFailed(answer)
        return answer


class _Process:
    """One worker and the pipes to it."""

    def __init__(self, *, interpret: bool) -> None:
        environment = {
            **os.environ,
            "TRITON_INTERPRET": "1" if interpret else "0",
            "PYTHONPATH": _python_path(),
        }
        if interpret:
            # One core per worker: the pool is what runs in parallel.
            environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # -P: the folder that we are called from may have a `helpers` of its own.
        command = [sys.executable, "-P", "-c", "from helpers.attention.correctness.processes import serve; serve()"]
        self._log = bytearray()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        self._reader = threading.Thread(target=self._keep_log, daemon=True)
        self._reader.start()

    def ask(self, request: tuple, timeout_s: float) -> tuple[bool, Any]:
        """(whether it went well, result or traceback); raises WorkerFailed when the process is gone."""
        timer = threading.Timer(timeout_s, self._process.kill)
        timer.start()
        try:
            _write_frame(self._process.stdin, request)
            return _read_frame(self._process.stdout)
        except (EOFError, BrokenPipeError) as exc:
            late = not timer.is_alive()
            self.end()
            code = self._process.returncode
            why = f"ran over {timeout_s:g} s and was stopped" if late else f"ended with code {code}"
            raise WorkerFailed(f"the kernel's process {why}. {self._tail()}".strip()) from exc
        finally:
            timer.cancel()

    def end(self) -> None:
        """Stop the process and wait for it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def _keep_log(self) -> None:
        for chunk in iter(lambda: self._process.stderr.read1(8192), b""):
            self._log += chunk
            del self._log[: -4 * _LOG_TAIL_CHARS]
        self._process.stderr.close()

    def _tail(self) -> str:
        return self._log.decode(errors="replace")[-_LOG_TAIL_CHARS:]


def default_workers() -> int:
    """Processes to run at once: the cores this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores))


def serve() -> None:
    """Answer requests on stdin until it closes; runs in the worker process."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What kernels and Triton print must not get between the answers.
    os.dup2(2, 1)
    if os.environ.get("TRITON_INTERPRET") == "1":
        mend_interpreter()
    while True:
        try:
            function, args, kwargs = _read_frame(requests)
        except EOFError:
            return
        except Exception:
            _write_frame(answers, (False, traceback.format_exc()))
            continue
        try:
            answer = (True, function(*args, **kwargs))
        except Exception:
            answer = (False, traceback.format_exc())
        _write_frame(answers, answer)


def mend_interpreter() -> None:
    """Mend four faults of Triton's interpreter in this process.

    The first three are in Triton 3.5.1, 3.6.0 and 3.7.1, and tests/attention/test_processes.py shows them;
    the last is gone in 3.7.1.

    * bf16 is kept as uint16, and `create_dot` multiplies those integers. Here operands are up-cast first.
    * float32 to bf16 truncates, where the GPU rounds to nearest even. Here torch converts.
    * float32 to fp8 loses the carry when a mantissa rounds up past its last value (1.99 can become 1.0), and
      truncates subnormals. Here torch converts, saturating as the GPU's cvt.satfinite does.
    * A scalar used as a loop bound is an array of one element, which NumPy 2.4 no longer turns into an int.
    """
    import numpy as np
    import torch
    import triton.language as tl
    from triton.runtime import interpreter

    formats = {
        tl.bfloat16: torch.bfloat16,
        tl.float16: torch.float16,
        tl.float32: torch.float32,
        tl.float8e4nv: torch.float8_e4m3fn,
        tl.float8e5: torch.float8_e5m2,
    }
    original_convert = interpreter._convert_float

    def as_torch(data: np.ndarray, dtype: Any) -> torch.Tensor:
        width = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[data.dtype.itemsize]
        bits = np.ascontiguousarray(data).view({1: np.uint8, 2: np.int16, 4: np.int32}[data.dtype.itemsize])
        return torch.from_numpy(bits).view(width).view(formats[dtype])

    def convert(data: np.ndarray, from_dtype: Any, to_dtype: Any, rounding_mode: Any) -> np.ndarray:
        if from_dtype not in formats or to_dtype not in formats:
            return original_convert(data, from_dtype, to_dtype, rounding_mode)
        values = as_torch(data, from_dtype).float()
        target = formats[to_dtype]
        if target.itemsize == 1:
            largest = torch.finfo(target).max
            values = values.clamp(-largest, largest)  # NaN stays NaN
        bits = values.to(target).view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[target.itemsize])
        return bits.numpy().view(getattr(np, f"uint{8 * target.itemsize}")).reshape(data.shape)

    def create_dot(self: Any, a: Any, b: Any, d: Any, *_precision: Any) -> Any:
        operands = [
            as_torch(x.data, x.dtype.scalar).float().numpy() if x.dtype.scalar in formats else x.data for x in (a, b)
        ]
        return interpreter.TensorHandle(np.matmul(*operands, dtype=d.data.dtype) + d.data, d.dtype.scalar)

    original_patch = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor: Any, *scope: Any) -> None:
        original_patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patch_lang_tensor
    interpreter._convert_float = convert
    interpreter.InterpreterBuilder.create_dot = create_dot


def _python_path() -> str:
    inherited = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])


def _write_frame(pipe: Any, content: Any) -> None:
    body = pickle.dumps(content)
    pipe.write(_FRAME.pack(len(body)) + body)
    pipe.flush()


def _read_frame(pipe: Any) -> Any:
    head = pipe.read(_FRAME.size)
    if len(head) < _FRAME.size:
        raise EOFError
    (size,) = _FRAME.unpack(head)
    body = pipe.read(size)
    if len(body) < size:
        raise EOFError
    return pickle.loads(body)

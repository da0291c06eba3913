"""Records what a running program has Triton compile and launch, as KernelSpecs in JSON files; runs nothing twice.

Listened to are Triton's compiler (what failed, and who calls it directly), the first load of a binary (shared or
tensor memory that the device lacks) and the launch (kernels compiled before the recording began). Each calls through:
results and exceptions are the program's own. A specialisation is written once, under a name made of its content, so
that several processes may share a folder. Failures that an autotuner swallows are among them.

This module runs inside other people's programs and in their Python: standard library only, and their Triton, 3.4.0 to
3.9.0. Kernels run by Triton's interpreter are not compiled, so there is nothing to record.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.compiler.bring.captured_spec import (
    arch_name,
    file_for,
    files_hash,
    kernel_files,
    ptxas_release,
    source_like,
    specialisation,
)
from helpers.compiler.source import MAX_SOURCE_BYTES
from helpers.errors import UserError
from helpers.files import write_bytes_atomically as _publish

CAPTURE_ENV = "REGISTER_CLIFF_CAPTURE"
MARKS_ENV = "REGISTER_CLIFF_MARKS"
HOOK_FOLDER = Path(__file__).with_name("capture_hook")
MAX_ERROR_CHARS = 20_000
_SETTINGS = ("TRITON_", "PTXAS_", "LLVM_", "MLIR_", "DISABLE_")


class Capture:
    """A recording into `folder`; `paths` are the spec files it has written, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self._outcomes: dict[str, str] = {}
        self._options: dict[int, tuple[Any, Any]] = {}  # by id: a weak reference to the kernel, its options
        self._sources: dict[str, tuple[dict, str]] = {}
        self._lock = threading.RLock()
        self._warned = False

    @property
    def specs(self) -> list[Any]:
        """The KernelSpecs recorded so far, those left out that cannot be compiled elsewhere (`*.incomplete.json`)."""
        from helpers.compiler.kernel_spec import read_specs

        return read_specs([path for path in self.paths if not path.name.endswith(".incomplete.json")])

    def compiled(self, src: Any, target: Any, options: Any, kernel: Any) -> None:
        """Take note of a compile that went well."""
        self._remember(kernel, options)
        self.record(src, target, options, stage="compile")

    def launched(self, kernel: Any) -> None:
        """Take note of a launch; a lookup when the kernel is known."""
        # Its own attributes alone: a kernel that is still being compiled (Triton's FutureKernel) waits for its compile,
        # and raises what that raised, when it is asked for one that it has not.
        if id(kernel) not in self._options and {"src", "metadata"} <= getattr(kernel, "__dict__", {}).keys():
            self._remember(kernel, kernel.metadata)
            self.record(kernel.src, kernel.metadata.target, kernel.metadata, stage="launch")

    def _remember(self, kernel: Any, options: Any) -> None:
        """Know a kernel and its options as long as the program keeps it: ids are given anew once it is gone."""
        key = id(kernel)
        with contextlib.suppress(TypeError):  # what cannot be referred to weakly is recorded at each launch, once
            self._options[key] = (weakref.ref(kernel, lambda _: self._options.pop(key, None)), options)

    def renew_lock(self) -> None:
        """A lock of its own for a forked child: the parent's may be held by a thread that the child does not have."""
        self._lock = threading.RLock()

    def not_loaded(self, kernel: Any, error: BaseException) -> None:
        """Take note of a binary that the device does not take."""
        _, options = self._options.get(id(kernel), (kernel, kernel.metadata))
        self.record(kernel.src, kernel.metadata.target, options, stage="load", error=error)

    def record(self, src: Any, target: Any, options: Any, *, stage: str, error: BaseException | None = None) -> None:
        """Write one spec unless it is there; a failure replaces a success. Never raises into the program."""
        try:
            if hasattr(getattr(src, "fn", None), "arg_names"):  # else it is an IR file, with no kernel to point to
                with self._lock:
                    self._record(src, target, options, stage, error)
        except Exception as exc:
            if not self._warned:
                self._warned = True
                _say(f"register-cliff capture: a kernel was not recorded: {type(exc).__name__}: {exc}")

    def _record(self, src: Any, target: Any, options: Any, stage: str, error: BaseException | None) -> None:
        import triton

        spec, obstacles = specialisation(src, target, options)
        kernel, source_key = self._kernel(src.fn)
        if "<locals>" in src.fn.fn.__qualname__:
            obstacles.append("it is defined inside a function, so no import finds it")
        where = {"arch": arch_name(target), "triton_version": triton.__version__}
        outcome = "compiled" if error is None else "failed"
        content = json.dumps([source_key, kernel["name"], spec, where], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        if self._outcomes.get(digest) in (outcome, "failed"):
            return
        self._outcomes[digest] = outcome
        name = re.sub(r"\W+", "_", src.fn.fn.__name__)[:60]
        path = self.folder / f"{name}-{digest}{'.incomplete' if obstacles else ''}.json"
        if not (path.exists() and error is None):  # another process may have been first
            about = {
                "outcome": outcome,
                "stage": stage,
                "error_type": error and type(error).__name__,
                "error": error and _message(error),
                "incomplete": obstacles,
                **where,
                "ptxas": ptxas_release(target),
                **_circumstances(src.fn.fn),
            }
            body = {"kernel": kernel, **spec, "label": f"{name} {digest}", "capture": about}
            _publish(path, json.dumps(body, indent=2).encode())
        if path not in self.paths:
            self.paths.append(path)

    def _kernel(self, fn: Any) -> tuple[dict, str]:
        """(KernelRef as JSON, hash of its source); what it points to is copied into the folder, once."""
        path = fn.fn.__code__.co_filename
        if path not in self._sources:
            try:
                root, files = kernel_files(Path(path), fn.fn.__module__)
                self._sources[path] = self._copy(files, str(Path(path).resolve().relative_to(root)))
            except (UserError, OSError, ValueError):
                text = file_for(fn).encode()[:MAX_SOURCE_BYTES]
                return self._with_name(*self._copy({"kernels.py": text}, "kernels.py"), fn)
        return self._with_name(*self._sources[path], fn)

    def _copy(self, files: dict[str, bytes], main: str) -> tuple[dict, str]:
        key = files_hash(files)
        place = Path("sources") / key[:16]
        for name, content in files.items():
            if not (self.folder / place / name).exists():
                _publish(self.folder / place / name, content)
        return {"path": str(place / main), "import_root": str(place), "stub_imports": True}, key

    @staticmethod
    def _with_name(ref: dict, key: str, fn: Any) -> tuple[dict, str]:
        return {**ref, "name": fn.fn.__name__}, key


_RECORDINGS: list[Capture] = []
_TUNING = threading.local()


def _say(words: str) -> None:
    """A line on stderr, and a mark for `capture`. No warning: under `-W error` that is an exception in the program."""
    with contextlib.suppress(Exception):
        if place := os.environ.get(MARKS_ENV):
            Path(place, f"failed-{os.getpid()}").write_text(words, encoding="utf-8")
        print(words, file=sys.stderr, flush=True)


def _renew_locks() -> None:
    for recording in _RECORDINGS:
        recording.renew_lock()


os.register_at_fork(after_in_child=_renew_locks)


@contextlib.contextmanager
def capture(folder: str | os.PathLike[str]) -> Iterator[Capture]:
    """Record every Triton specialisation that the block compiles or launches, failures included, into `folder`.

    One JSON file each: a KernelSpec, with a `capture` part that says how it went; the kernel's source lies beside it.
    Exceptions pass through. Raises UserError when the folder cannot be written, or there is no Triton.
    """
    recording = start(folder)
    try:
        yield recording
    finally:
        _RECORDINGS.remove(recording)


def start(folder: str | os.PathLike[str]) -> Capture:
    """Begin a recording that lasts as long as the program; raises UserError like `capture`."""
    place = Path(folder).expanduser().absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place):
            pass
        _listen()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UserError(f"cannot record into {place}: {reason}; name a folder that can be written") from exc
    except ImportError as exc:
        raise UserError(f"there is no Triton to listen to in this Python: {exc}") from exc
    _RECORDINGS.append(Capture(place))
    return _RECORDINGS[-1]


@functools.lru_cache(maxsize=1)
def _listen() -> None:
    """Put the listeners in place, once; without a recording under way they only call through."""
    import triton
    import triton.compiler
    import triton.compiler.compiler as compiler
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    compile_ = compiler.compile

    @functools.wraps(compile_)
    def compile_and_record(src, target=None, options=None, *args, **kwargs):
        if not _RECORDINGS:
            return compile_(src, target, options, *args, **kwargs)
        aim = target if target is not None else triton.runtime.driver.active.get_current_target()
        try:
            kernel = compile_(src, target, options, *args, **kwargs)
        except Exception as exc:
            _tell("record", src, aim, options, stage="compile", error=exc)
            raise
        _tell("compiled", src, aim, options, kernel)
        return kernel

    for module in (compiler, triton.compiler, triton):
        module.compile = compile_and_record

    def after_launch(call, self, *args, **kwargs):
        kernel = call(self, *args, **kwargs)
        _tell("launched", kernel)
        return kernel

    def around_load(call, self, *args, **kwargs):
        try:
            return call(self, *args, **kwargs)
        except Exception as exc:
            _tell("not_loaded", self, exc)
            raise

    def around_compile(call, self, key, signature, device, constexprs, options, attrs, *args, **kwargs):
        # A kernel that was launched before the listeners came holds Triton's own `compile`.
        try:
            return call(self, key, signature, device, constexprs, options, attrs, *args, **kwargs)
        except Exception as exc:
            if _RECORDINGS:
                target = next(x for x in self.device_caches[device] if type(x).__name__ == "GPUTarget")
                _tell("record", source_like(self, signature, constexprs, attrs), target, options,
                      stage="compile", error=exc)  # fmt: skip
            raise

    def around_bench(call, self, *args, config, **kwargs):
        _TUNING.config = str(config)
        try:
            return call(self, *args, config=config, **kwargs)
        finally:
            _TUNING.config = None

    _wrap(JITFunction, "run", after_launch)
    _wrap(JITFunction, "_do_compile", around_compile)
    _wrap(compiler.CompiledKernel, "_init_handles", around_load)
    _wrap(Autotuner, "_bench", around_bench)


def _wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    call = getattr(owner, name, None)
    if call is None:  # Triton 3.4 compiles inside `run`
        return

    @functools.wraps(call)
    def wrapped(*args, **kwargs):
        return around(call, *args, **kwargs)

    setattr(owner, name, wrapped)


def _tell(what: str, *args: Any, **kwargs: Any) -> None:
    """Let every recording know; what goes wrong there is no business of the program's."""
    for recording in list(_RECORDINGS):
        try:
            getattr(recording, what)(*args, **kwargs)
        except Exception as exc:
            _say(f"register-cliff capture: a kernel was not recorded: {type(exc).__name__}: {exc}")


def _circumstances(function: Any) -> dict[str, Any]:
    """Where and when: the program, the kernel's own file, the autotuner's configuration, settings of Triton."""
    return {
        "autotune": getattr(_TUNING, "config", None),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)},
        "python": platform.python_version(),
        "program": Path(sys.argv[0]).name if sys.argv else "",
        "defined_in": f"{function.__module__}:{function.__qualname__}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _message(error: BaseException) -> str:
    """The message of an exception and of its causes, without colour codes."""
    parts: list[str] = []
    at: BaseException | None = error
    while at is not None and len(parts) < 4:
        if (text := str(at).strip()) and text not in parts:
            parts.append(text)
        at = at.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(parts))[:MAX_ERROR_CHARS]

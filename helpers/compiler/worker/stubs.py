"""Stand-ins for what a kernel's file imports and this machine lacks; standard library only, loaded by path in workers.

A stand-in is false, callable, and a decorator that changes nothing. Two names are never stubbed wherever they are
imported from: `triton` and `tl` are Triton, also when an engine hands them on from a module of its own.

What a stand-in answers is made up. While `RECORD` is on, every moment in which one gives a value (it is iterated,
compared, asked whether it is true, asked a question of the kind `is_…`) is kept with its place.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FrameType, ModuleType
from typing import Any

REAL_NAMES = {"triton": "triton", "tl": "triton.language", "gl": "triton.experimental.gluon.language"}

# Of Inductor's run time, what would look for a GPU; its decorators change nothing, as those of any stand-in.
ALWAYS_STUBBED = ("torch._inductor.runtime.triton_heuristics",)
MAX_MOMENTS, MAX_FRAMES, MAX_PASSED_OVER = 20_000, 100, 100


class Record:
    """The moments in which stand-ins gave values, the modules that did not load for real, and what answers for real."""

    def __init__(self) -> None:
        self.begin({})
        self.on = False

    def begin(self, answers: dict[str, Any]) -> None:
        """Start anew. `answers` are functions by dotted name that answer in place of a stand-in of that name."""
        self.on = True
        self.answers = answers
        self.moments: list[tuple[str, list[tuple[str, int]]]] = []
        self.failed: dict[str, str] = {}
        self.passed_over: list[BaseException] = []

    def note(self, name: str) -> None:
        """Remember that a stand-in of that name gives a value now, and on whose behalf."""
        if not self.on or len(self.moments) >= MAX_MOMENTS:
            return
        frames: list[tuple[str, int]] = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and len(frames) < MAX_FRAMES:
            frames.append((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        self.moments.append((name, frames))

    def pass_over(self, exc: BaseException | None) -> None:
        """Remember an exception that a stand-in takes the place of, where the machine may be the reason of it."""
        links, link = 0, exc
        while link is not None and links < 8 and len(self.passed_over) < MAX_PASSED_OVER:
            if isinstance(link, (OSError, MemoryError, RuntimeError)):
                self.passed_over.append(link)
                return
            links, link = links + 1, link.__cause__ or link.__context__

    def skipped(self, path: str, line: int, why: str = "is not run here") -> None:
        """Remember a statement that was left out."""
        if self.on and len(self.moments) < MAX_MOMENTS:
            self.moments.append((f"line {line} of {os.path.basename(path)}, which {why}", [(path, line)]))


RECORD = Record()


class Anything:
    """Stands for a name that could not be imported: false, callable, a decorator that changes nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(f"{self._name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if RECORD.on and self._name in RECORD.answers:
            return RECORD.answers[self._name](*args, **kwargs)
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else self

    def __getitem__(self, key: Any) -> Anything:
        return self

    def __iter__(self):
        RECORD.note(self._name)
        return iter(())

    def __bool__(self) -> bool:
        RECORD.note(self._name)
        return False

    def __eq__(self, other: object) -> bool:
        RECORD.note(self._name)
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __or__(self, other: Any) -> Any:  # `Tensor | None` in an annotation
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: tuple) -> tuple:
        return ()

    def __repr__(self) -> str:
        return f"<stub of {self._name}>"


class StubModule(ModuleType):
    """A module in which every name is there; `truths` says what predicates such as `is_cuda` answer."""

    def __init__(self, name: str, truths: dict[str, bool]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__dict__["_truths"] = truths

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in REAL_NAMES:
            return importlib.import_module(REAL_NAMES[name])
        truths = self.__dict__["_truths"]
        if name in truths or name.startswith("is_"):
            return self._predicate(name, truths)
        if name == "HAS_TRITON":
            return True
        return Anything(f"{self.__name__}.{name}")

    def _predicate(self, name: str, truths: dict[str, bool]) -> Any:
        """A function that answers a question such as `is_cuda`."""
        dotted = f"{self.__name__}.{name}"

        def answer(*_args: Any, **_kwargs: Any) -> bool:
            if name not in truths:
                RECORD.note(dotted)
            return truths.get(name, False)

        return answer


class StubLoader(Loader):
    """Loads any name as a StubModule."""

    def __init__(self, truths: dict[str, bool]) -> None:
        self.truths = truths

    def create_module(self, spec: Any) -> ModuleType:
        return StubModule(spec.name, self.truths)

    def exec_module(self, module: ModuleType) -> None:
        return None


class StubFinder(MetaPathFinder):
    """Finds a stand-in for every module that is not there, or not part of the kernel's own source.

    Below `root` only `files` are real: the rest of a package is not loaded. With `everything`, neither is what is
    installed on this machine: only Triton, the standard library and the kernel's files are. With `real`, every module
    below `root` is loaded for real as far as it loads (see RECORD.failed), a package's __init__ when a name of it is
    wanted.
    """

    def __init__(self, truths: dict[str, bool]) -> None:
        self.loader = StubLoader(truths)
        self.root, self.everything, self.real = "", False, False
        self.files: set[str] = set()
        self._looking = False

    def aim(self, root: str, files: Iterable[str], *, everything: bool = False, real: bool = False) -> None:
        """Say which kernel's files are real from now on."""
        self.root = os.path.realpath(root)
        self.files = {os.path.realpath(file) for file in files}
        self.everything, self.real = everything, real

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        top = fullname.partition(".")[0]
        if self._looking or not self.root or top in sys.stdlib_module_names or top == "triton":
            return None
        if not self._asked_by_the_kernel(sys._getframe(1)):
            return None  # an installed library that looks for something optional must be told that it is not there
        if fullname in ALWAYS_STUBBED:
            return importlib.util.spec_from_loader(fullname, self.loader, is_package=True)
        self._looking = True  # finding `a.b` may import `a`
        try:
            found = PathFinder.find_spec(fullname, path, target)
        except (ImportError, ValueError, AttributeError, KeyError):
            found = None
        finally:
            self._looking = False
        if found is not None:
            if found.origin is None and found.submodule_search_locations:
                # A folder without __init__.py. In one that was cut out of a package, what that handed on is stubbed.
                places = list(found.submodule_search_locations)
                inside = any(os.path.realpath(place).startswith(self.root + os.sep) for place in places)
                return self._package(fullname, places) if inside else None
            origin = os.path.realpath(found.origin or "")
            if origin in self.files:
                return None
            if not self.everything and not origin.startswith(self.root + os.sep):
                return None
            if self.real and origin.startswith(self.root + os.sep):
                return self._real(fullname, found)
            if origin.startswith(self.root + os.sep) and found.submodule_search_locations:
                return self._package(fullname, found.submodule_search_locations)
        return importlib.util.spec_from_loader(fullname, self.loader, is_package=True)

    def _asked_by_the_kernel(self, frame: Any) -> bool:
        """Whether the import that `frame` serves stands in the kernel's own source."""
        while frame is not None and (
            frame.f_code.co_filename.startswith("<frozen importlib")
            or frame.f_code.co_filename in (importlib.__file__, __file__)
        ):
            frame = frame.f_back
        file = os.path.realpath(frame.f_code.co_filename) if frame is not None else ""
        return file in self.files or file.startswith(self.root + os.sep)

    def _real(self, fullname: str, found: ModuleSpec) -> Any:
        """The module itself, with a stand-in to fall back to."""
        if found.submodule_search_locations is None:
            guarded = _GuardedLoader(fullname, found.origin or "", self.loader.truths)
            return importlib.util.spec_from_file_location(fullname, found.origin, loader=guarded)
        loader = _LazyLoader(self.loader.truths, found.origin or "", found.submodule_search_locations)
        spec = ModuleSpec(fullname, loader, origin=found.origin, is_package=True)
        spec.submodule_search_locations = list(found.submodule_search_locations)
        return spec

    def _package(self, fullname: str, places: Iterable[str]) -> Any:
        """A stand-in for a package's __init__ whose other modules are still found where they are."""
        spec = ModuleSpec(fullname, _PackageLoader(self.loader.truths, places), is_package=True)
        spec.submodule_search_locations = list(places)
        return spec


class _PackageLoader(StubLoader):
    def __init__(self, truths: dict[str, bool], places: Iterable[str]) -> None:
        super().__init__(truths)
        self.places = list(places)

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = self.places


class _GuardedLoader(SourceFileLoader):
    """Runs a module's source; one that cannot run here becomes a stand-in, and RECORD.failed says why."""

    def __init__(self, fullname: str, path: str, truths: dict[str, bool]) -> None:
        super().__init__(fullname, path)
        self.truths = truths

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)  # as it is now, and without a .pyc

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except (Exception, SystemExit) as exc:
            RECORD.pass_over(exc)
            RECORD.failed[module.__name__] = f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}"
            for name in [n for n in vars(module) if not n.startswith("__")]:
                del module.__dict__[name]
            module.__dict__.update({"_truths": self.truths, "__path__": []})
            module.__class__ = StubModule


class LazyPackage(StubModule):
    """A package whose __init__ is read for the names that are wanted of it: what it imports for nobody stays away."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in REAL_NAMES:
            return super().__getattr__(name)
        if self.__dict__.get("_ran"):
            return super().__getattr__(name)
        value = self._handed_on(name)
        if value is not None:
            return value
        if name in self.__dict__.setdefault("_defined", _defined_names(self.__dict__["_init"])):
            self.__dict__["_ran"] = True
            self._run()
            if name in self.__dict__:
                return self.__dict__[name]
        return super().__getattr__(name)

    def _handed_on(self, name: str) -> Any:
        """The value of a name that the __init__ only imports; None for any other."""
        for node in _tree(self.__dict__["_init"]).body:
            if not isinstance(node, ast.ImportFrom):
                continue
            for alias in node.names:
                if name not in (alias.asname or alias.name, "*") and alias.name != "*":
                    continue
                module = importlib.util.resolve_name("." * node.level + (node.module or ""), self.__name__)
                if module == self.__name__:
                    return importlib.import_module(f"{module}.{alias.name}")
                source = importlib.import_module(module)
                if alias.name != "*":
                    return getattr(source, alias.name)
                if name in vars(source):
                    return vars(source)[name]
        return None

    def _run(self) -> None:
        path = self.__dict__["_init"]
        try:
            with open(path, "rb") as file:
                exec(compile(file.read(), path, "exec", dont_inherit=True), self.__dict__)
        except (Exception, SystemExit) as exc:
            RECORD.pass_over(exc)
            RECORD.failed[self.__name__] = f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}"


class _LazyLoader(StubLoader):
    def __init__(self, truths: dict[str, bool], init: str, places: Iterable[str]) -> None:
        super().__init__(truths)
        self.init, self.places = init, list(places)

    def create_module(self, spec: Any) -> ModuleType:
        return LazyPackage(spec.name, self.truths)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update({"_init": self.init, "__file__": self.init, "__path__": self.places})


def _tree(path: str) -> ast.Module:
    try:
        with open(path, "rb") as file:
            return ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ast.Module([], [])


def _defined_names(path: str) -> set[str]:
    """The names that a module's top level defines other than by an import."""
    found: set[str] = set()
    for node in _tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        else:
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found

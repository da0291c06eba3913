"""Stand-ins for what a kernel's file imports and this machine lacks; standard library only, loaded by path in workers.

A stand-in is false, callable, and a decorator that changes nothing. Two names are never stubbed wherever they are
imported from: `triton` and `tl` are Triton, also when an engine hands them on from a module of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

REAL_NAMES = {"triton": "triton", "tl": "triton.language", "gl": "triton.experimental.gluon.language"}


class Anything:
    """Stands for a name that could not be imported: false, callable, a decorator that changes nothing."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(f"{self._name}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and not kwargs and callable(args[0]) else self

    def __getitem__(self, key: Any) -> Anything:
        return self

    def __iter__(self):
        return iter(())

    def __bool__(self) -> bool:
        return False

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
            answer = truths.get(name, False)
            return lambda *args, **kwargs: answer
        if name == "HAS_TRITON":
            return True
        return Anything(f"{self.__name__}.{name}")


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
    installed on this machine: only Triton, the standard library and the kernel's files are.
    """

    def __init__(self, truths: dict[str, bool]) -> None:
        self.loader = StubLoader(truths)
        self.root, self.everything = "", False
        self.files: set[str] = set()
        self._looking = False

    def aim(self, root: str, files: Iterable[str], *, everything: bool = False) -> None:
        """Say which kernel's files are real from now on."""
        self.root = os.path.realpath(root)
        self.files = {os.path.realpath(file) for file in files}
        self.everything = everything

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        top = fullname.partition(".")[0]
        if self._looking or not self.root or top in sys.stdlib_module_names or top == "triton":
            return None
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
            if origin.startswith(self.root + os.sep) and found.submodule_search_locations:
                return self._package(fullname, found.submodule_search_locations)
        return importlib.util.spec_from_loader(fullname, self.loader, is_package=True)

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

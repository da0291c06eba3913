"""The source of a kernel and of the local modules it imports, found without running any of it."""

from __future__ import annotations

import ast
import hashlib
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from helpers.errors import OUT_OF_ROOM, MachineError, UserError, cannot_read
from helpers.files import check_ordinary_file, read_ordinary

MAX_SOURCE_BYTES = 4_000_000
MAX_FILES = 2_000
DEVICE_CODE = (b"triton.jit", b"tl.constexpr")
# CPython 3.11 counts the recursion depth of ast.parse per interpreter: two threads at once raised "AST constructor
# recursion depth mismatch".
_PARSING = threading.Lock()


@lru_cache(maxsize=4096)
def _read_with_stamp(path: str, _stamp: tuple[int, ...]) -> bytes:
    return read_ordinary(Path(path), MAX_SOURCE_BYTES, "kernel source")


def read_source(path: Path) -> bytes:
    """The bytes of a Python file named by a spec; raises UserError for what cannot be read, a device, a huge file."""
    try:
        stat = check_ordinary_file(path, MAX_SOURCE_BYTES, "kernel source")
        # Nobody sets the time of the last change, as archives and `touch` set that of the content's.
        return _read_with_stamp(str(path), (stat.st_ino, stat.st_ctime_ns, stat.st_mtime_ns, stat.st_size))
    except UserError:
        raise
    except (OSError, ValueError) as exc:  # ValueError: a path with a NUL in it
        raise cannot_read(f"kernel source {path}", exc) from exc


@lru_cache(maxsize=4096)
def _imported_names(source: bytes) -> tuple[tuple[int, str], ...]:
    """(relative level, dotted module) of every import statement; nothing for text that does not parse."""
    try:
        with _PARSING:
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found.append((node.level, base))
            # `from package import module` may name a file as well as an attribute.
            found += [(node.level, f"{base}.{alias.name}".lstrip(".")) for alias in node.names]
    return tuple(found)


def _module_files(base: Path, dotted: str) -> list[Path]:
    """The files an import of `dotted` below `base` runs: every package's __init__.py on the way, and the module."""
    found, folder = [], base
    for part in [None, *dotted.split(".")] if dotted else [None]:
        if part is not None:
            found.append(folder / f"{part}.py")
            folder = folder / part
        found.append(folder / "__init__.py")
    return [file for file in found if _is_file(file)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError) as exc:  # a name of 300 letters
        if isinstance(exc, OSError) and exc.errno in OUT_OF_ROOM:
            raise cannot_read(f"kernel source {path}", exc) from exc
        return False


def _resolved(path: Path, import_root: Path | None) -> tuple[Path, Path]:
    """(the root, the file) as they are without links; raises UserError for a path that cannot be one."""
    try:
        return (import_root or path.parent).resolve(), path.resolve()
    except (OSError, ValueError, RuntimeError) as exc:  # a NUL in the path, a name too long, or links in a circle
        said = getattr(exc, "strerror", None) or exc
        raise UserError(f"cannot read kernel source {str(path)[:200]}: {said}") from exc


def source_closure(path: Path, import_root: Path | None = None, *, kernels_only: bool = False) -> list[Path]:
    """`path` and every file below `import_root` (default: its folder) that it imports, directly or not, sorted.

    With `kernels_only`, of the files in other folders only those that hold Triton code: the rest of a large package
    is not needed to compile a kernel of it. Raises UserError for what cannot be read, or more than 2000 files.
    """
    root, start = _resolved(path, import_root)
    return sorted(_read_closure(path, root, start, kernels_only))


def _read_closure(path: Path, root: Path, start: Path, kernels_only: bool) -> dict[Path, bytes]:
    """The files of `source_closure`, each with the very bytes whose imports were followed."""
    todo, seen, passed_over = [start], dict[Path, bytes](), set()
    while todo:
        current = todo.pop()
        if current in seen or current in passed_over:
            continue
        if kernels_only and current != start and not _belongs(current, start):
            passed_over.add(current)
            continue
        seen[current] = read_source(current)
        if len(seen) > MAX_FILES:
            raise UserError(f"{path} imports more than {MAX_FILES} files of its own: that is not one kernel's source")
        for level, dotted in _imported_names(seen[current]):
            if level > len(current.parents):
                continue
            base = current.parents[level - 1] if level else root
            todo += [f for found in _module_files(base, dotted) if (f := found.resolve()).is_relative_to(root)]
    return seen


def _belongs(file: Path, start: Path) -> bool:
    """Whether a kernel in `start` may need `file`: it lies beside it, or holds device code."""
    if file.parent == start.parent and file.name != "__init__.py":
        return True
    try:
        return any(word in read_source(file) for word in DEVICE_CODE)
    except MachineError:
        raise
    except UserError:
        return False


@dataclass(frozen=True)
class HashedSource:
    """A kernel's source as it was at one reading: the sha256 of all of it, and that of each file by its path."""

    sha256: str
    files: dict[str, str]


def hashed_source(path: Path, import_root: Path | None = None, *, kernels_only: bool = False) -> HashedSource:
    """The hash over names (relative to the root) and contents of `source_closure`; raises UserError if unreadable."""
    root, start = _resolved(path, import_root)
    digest, files = hashlib.sha256(), {}
    for file, content in sorted(_read_closure(path, root, start, kernels_only).items()):
        name = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
        files[str(file)] = hashlib.sha256(content).hexdigest()
    return HashedSource(digest.hexdigest(), files)


def read_anew() -> None:
    """Forget every file's content: one may have been saved twice within the least time that its stamp tells."""
    _read_with_stamp.cache_clear()


def parse_source(path: Path) -> ast.Module:
    """The syntax tree of a file; raises UserError when it cannot be read or is not Python this interpreter reads."""
    source = read_source(path)
    try:
        with _PARSING:
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise UserError(f"{path} is not Python that this interpreter reads: {exc}") from exc


def guess_import_root(path: Path) -> Path:
    """The folder from which `path` is imported: the first one upwards that is no package."""
    folder = path.resolve().parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder

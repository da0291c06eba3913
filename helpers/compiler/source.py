"""The source of a kernel and of the local modules it imports, found without running any of it."""

from __future__ import annotations

import ast
import hashlib
import threading
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
def _read_with_stamp(path: str, _mtime_ns: int, _size: int) -> bytes:
    return read_ordinary(Path(path), MAX_SOURCE_BYTES, "kernel source")


def read_source(path: Path) -> bytes:
    """The bytes of a Python file named by a spec; raises UserError for what cannot be read, a device, a huge file."""
    try:
        stat = check_ordinary_file(path, MAX_SOURCE_BYTES, "kernel source")
        return _read_with_stamp(str(path), stat.st_mtime_ns, stat.st_size)
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


def source_closure(path: Path, import_root: Path | None = None, *, kernels_only: bool = False) -> list[Path]:
    """`path` and every file below `import_root` (default: its folder) that it imports, directly or not, sorted.

    With `kernels_only`, of the files in other folders only those that hold Triton code: the rest of a large package
    is not needed to compile a kernel of it. Raises UserError for what cannot be read, or more than 2000 files.
    """
    try:
        root, start = (import_root or path.parent).resolve(), path.resolve()
    except (OSError, ValueError, RuntimeError) as exc:  # a NUL in the path, a name too long, or links in a circle
        said = getattr(exc, "strerror", None) or exc
        raise UserError(f"cannot read kernel source {str(path)[:200]}: {said}") from exc
    todo, seen, passed_over = [start], set(), set()
    while todo:
        current = todo.pop()
        if current in seen or current in passed_over:
            continue
        if kernels_only and current != start and not _belongs(current, start):
            passed_over.add(current)
            continue
        seen.add(current)
        if len(seen) > MAX_FILES:
            raise UserError(f"{path} imports more than {MAX_FILES} files of its own: that is not one kernel's source")
        for level, dotted in _imported_names(read_source(current)):
            if level > len(current.parents):
                continue
            base = current.parents[level - 1] if level else root
            todo += [f for found in _module_files(base, dotted) if (f := found.resolve()).is_relative_to(root)]
    return sorted(seen)


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


def source_closure_hash(path: Path, import_root: Path | None = None, *, kernels_only: bool = False) -> str:
    """sha256 over names (relative to the root) and contents of `source_closure`; raises UserError if unreadable."""
    files = source_closure(path, import_root, kernels_only=kernels_only)
    root = (import_root or path.parent).resolve()
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        content = read_source(file)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


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

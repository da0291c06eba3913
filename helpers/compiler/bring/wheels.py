"""Code of other people's wheels, read one file at a time: nothing is installed, what it cannot import is stubbed.

A wheel is a zip from elsewhere. Names that would leave the target folder, links, oversized or damaged members are
refused before a byte is written. Loading a module runs it: do that only with wheels their user fetched on purpose.
"""

from __future__ import annotations

import ast
import importlib.util
import lzma
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import IO, Any

from helpers.compiler.source import MAX_SOURCE_BYTES
from helpers.compiler.worker.stubs import StubLoader
from helpers.errors import UserError

_CHUNK = 2**20


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raise UserError, which begins with `name`, for whatever zipfile raises over a damaged archive.

    It has no one exception for that: a version that it does not know, a name that is no text, a name of no length, an
    offset before the beginning each end another way.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, OverflowError, struct.error, zlib.error,
            lzma.LZMAError, zipfile.BadZipFile) as exc:  # fmt: skip
        raise UserError(f"cannot read {name}: {exc}; fetch it again") from None


def safe_members(archive: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of a wheel or zip by name; raises UserError for one that is no zip or holds a dangerous name."""
    with _readable(f"{archive.name} as a wheel"), zipfile.ZipFile(archive) as wheel:
        infos = [info for info in wheel.infolist() if not info.is_dir()]
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        # zipfile cuts a name at its first NUL; the original still shows it.
        parts = name.split("/")
        strange = name != info.orig_filename or not name or "\\" in name or ":" in name
        if strange or name.startswith("/") or ".." in parts:
            raise UserError(f"{archive.name} holds a file named {info.orig_filename[:80]!r}: not a wheel to trust")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UserError(f"{archive.name} holds a link, {name[:80]!r}: not a wheel to trust")
        check_member_name(name, archive, "a wheel")
        if name in members:
            raise UserError(f"{archive.name} holds {name[:80]!r} twice: not a wheel to trust")
        members[name] = info
    return members


# The longest name and the deepest folder that a package has here are a sixth of this.
_MAX_NAME, _MAX_PART, _MAX_DEPTH = 1_000, 200, 60


def check_member_name(name: str, archive: Path, what: str) -> None:
    """Raise UserError for a member whose name no file system takes, or whose folders lie too deep to be walked."""
    parts = name.split("/")
    longest = max(len(part.encode(errors="replace")) for part in parts)
    if len(name) > _MAX_NAME or longest > _MAX_PART or len(parts) > _MAX_DEPTH:
        raise UserError(
            f"{archive.name} holds a name of {len(name):,} characters in {len(parts):,} parts, {name[:60]!r}…: "
            f"not {what} to trust"
        )


def copy_member(archive: Path, member: str, target: Path, *, max_bytes: int = MAX_SOURCE_BYTES) -> Path:
    """`target`, holding one member of the archive; raises UserError when it is missing, damaged or too large."""
    info = safe_members(archive).get(member)
    if info is None:
        raise UserError(f"{archive.name} has no {member}")
    try:
        with _readable(f"{member} in {archive.name}"), zipfile.ZipFile(archive) as wheel, wheel.open(info) as source:
            # The size in the directory is only a claim.
            copy_bounded(
                source, target, max_bytes, too_large=f"{member} in {archive.name} is larger than {max_bytes} bytes"
            )
    except UserError:
        target.unlink(missing_ok=True)
        raise
    return target


def copy_bounded(source: IO[bytes], target: Path, max_bytes: int, *, too_large: str) -> None:
    """Write a stream to `target`; past `max_bytes` what was written is removed and UserError(too_large) raised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with target.open("wb") as out:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > max_bytes:
                target.unlink()
                raise UserError(too_large)
            out.write(chunk)


def member_source(archive: Path, member: str) -> str:
    """The text of a Python member; raises UserError like `copy_member`, and for text that is not UTF-8."""
    info = safe_members(archive).get(member)
    if info is None:
        raise UserError(f"{archive.name} has no {member}")
    with _readable(f"{member} in {archive.name}"), zipfile.ZipFile(archive) as wheel, wheel.open(info) as source:
        data = source.read(MAX_SOURCE_BYTES + 1)
    if len(data) > MAX_SOURCE_BYTES:
        raise UserError(f"{member} in {archive.name} is larger than {MAX_SOURCE_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{member} in {archive.name} is not UTF-8 text") from None


def read_members(archive: Path, names: Iterable[str], *, max_bytes: int, max_total: int) -> dict[str, bytes]:
    """The contents of some members, those of more than `max_bytes` left out; raises UserError past `max_total`."""
    members, contents, total = safe_members(archive), {}, 0
    with _readable(archive.name), zipfile.ZipFile(archive) as wheel:
        for name in names:
            with wheel.open(members[name]) as source:
                data = source.read(max_bytes + 1)  # the size in the directory is only a claim
            total += len(data)
            if total > max_total:
                raise UserError(f"the Python files of {archive.name} are larger than {max_total} bytes together")
            if len(data) <= max_bytes:
                contents[name] = data
    return contents


def find_definition(archive: Path, filename: str, function: str) -> str:
    """The member called `filename` that defines `function`; raises UserError when none or several do."""
    named = [name for name in safe_members(archive) if PurePosixPath(name).name == filename]
    found = [name for name in named if function in _functions(member_source(archive, name))]
    if len(found) != 1:
        what = f"several: {', '.join(sorted(found))}" if found else f"none of {len(named)} files of that name"
        raise UserError(f"looked in {archive.name} for the {filename} that defines {function}: {what}")
    return found[0]


def import_closure(archive: Path, member: str) -> list[str]:
    """`member` and the files of its own folder that it imports, directly or through one another."""
    folder = PurePosixPath(member).parent
    members = safe_members(archive)
    seen: list[str] = []
    queue = [member]
    while queue:
        current = queue.pop()
        if current in seen:
            continue
        seen.append(current)
        for dotted in _imports(member_source(archive, current)):
            name = dotted.replace(".", "/") + ".py"
            if name in members and PurePosixPath(name).parent == folder:
                queue.append(name)
    return sorted(seen)


def load_from_wheel(archive: Path, member: str, folder: Path, *, truths: dict[str, bool] | None = None) -> ModuleType:
    """The module of one member, its folder-mates loaded from the wheel too, all other missing imports stubbed.

    Sources are written to `folder`, which must outlive the module (Triton reads them again). `truths` says what
    stubbed predicates such as `is_cuda` answer; predicates not named answer False. What the wheel's own package
    would do when installed is not run, and nothing stays in sys.modules.
    """
    closure = import_closure(archive, member)
    files = {name.removesuffix(".py").replace("/", "."): copy_member(archive, name, folder / name) for name in closure}
    dotted = member.removesuffix(".py").replace("/", ".")
    roots = {root.partition(".")[0] for name in closure for root in _imports(member_source(archive, name))}
    own = dotted.partition(".")[0]
    missing = {root for root in roots if root != own and not _importable(root)} | {own}
    with _stubbed(files, missing, truths or {}):
        try:
            return importlib.import_module(dotted)
        except Exception as exc:
            raise UserError(f"{member} of {archive.name} does not load: {type(exc).__name__}: {exc}") from exc


# --- stubs -------------------------------------------------------------------------------------------------


class _StubFinder(MetaPathFinder):
    def __init__(self, files: dict[str, Path], roots: set[str], truths: dict[str, bool]) -> None:
        self.files, self.roots, self.loader = files, roots, StubLoader(truths)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname in self.files:
            return importlib.util.spec_from_file_location(fullname, self.files[fullname])
        if fullname.partition(".")[0] in self.roots:
            return importlib.util.spec_from_loader(fullname, self.loader, is_package=True)
        return None


@contextmanager
def _stubbed(files: dict[str, Path], roots: set[str], truths: dict[str, bool]) -> Iterator[None]:
    ours: Callable[[str], bool] = lambda name: name.partition(".")[0] in roots  # noqa: E731
    held = {name: module for name, module in sys.modules.items() if ours(name)}
    for name in held:
        del sys.modules[name]
    finder = _StubFinder(files, roots, truths)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if ours(name)]:
            del sys.modules[name]
        sys.modules.update(held)


def _importable(root: str) -> bool:
    try:
        return root in sys.modules or importlib.util.find_spec(root) is not None
    except (ImportError, ValueError):
        return False


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise UserError(f"not Python that this interpreter reads: {exc}") from None


def _functions(source: str) -> set[str]:
    return {node.name for node in _parsed(source).body if isinstance(node, ast.FunctionDef)}


def _imports(source: str) -> set[str]:
    """Absolute imports at a module's top level, dotted; what functions import later is left alone."""
    found: set[str] = set()
    for node in _parsed(source).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found

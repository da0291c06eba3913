"""Whether a spec may have the files that it names: those of its own folder always, others with the user's word.

A spec may come from anybody, and what its kernel imports is compiled, and packed by `report`. A spec that names a
folder of the user's would take files from there. The user's word is --trust-root, or that this project made a spec of
the very same kernel here, at the user's command.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path

from helpers.errors import UserError
from helpers.files import ROOT, cache_root, writable_cache_root

_TRUSTED: ContextVar[tuple[Path, ...]] = ContextVar("trusted roots", default=())
_MEMORY = "trusted"


def trust_roots(folders: Iterable[str | Path]) -> None:
    """Let specs have files of these folders and of no others than their own, from here on; () takes the word back."""
    _TRUSTED.set(tuple(Path(folder) for folder in folders))


def trusted_roots() -> tuple[Path, ...]:
    """The folders that `trust_roots` named, as they were named."""
    return _TRUSTED.get()


def check_kernel(path: str, import_root: str | None, *, spec_folder: Path, named_by: str) -> None:
    """Raise UserError where a kernel's file, or the folder of its imports, lies where its spec may not lead.

    `spec_folder` is the spec's own folder, `named_by` what the sentence calls the spec. Links are followed first.
    """
    file, root = _resolved(path, named_by), _resolved(import_root or os.path.dirname(path) or ".", named_by)
    allowed = [_resolved(folder, named_by) for folder in (spec_folder, *trusted_roots())]
    outside = [place for place in (file, root) if not any(place.is_relative_to(folder) for folder in allowed)]
    if not outside or _is_ours(file, root) or _remembered(file, root):
        return
    what = "its kernel's file" if outside[0] == file else "the folder that its kernel imports from"
    raise UserError(
        f"{named_by} names {what} outside the folder that it lies in: {outside[0]}. What a kernel imports there is "
        f"compiled and packed into reports; if you know the spec, say so with --trust-root {_root_of(file, root)}"
    )


def remember_kernel(path: str, import_root: str | None) -> None:
    """Keep in the cache that the user had a spec made of this kernel, so that the spec may lie in any folder."""
    with contextlib.suppress(OSError, UserError):
        file, root = _resolved(path, ""), _resolved(import_root or os.path.dirname(path) or ".", "")
        place = writable_cache_root() / _MEMORY / _name(file, root)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()


def _resolved(path: str | Path, named_by: str) -> Path:
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as exc:  # a name too long, half a character, links in a circle
        said = getattr(exc, "strerror", None) or exc
        raise UserError(f"{named_by} names a path that cannot be: {str(path)[:80]!r} ({said})") from exc


def _is_ours(file: Path, root: Path) -> bool:
    """Whether it is a kernel of this project, imported from this project."""
    return root == ROOT and file.is_relative_to(ROOT / "kernels")


def _remembered(file: Path, root: Path) -> bool:
    with contextlib.suppress(OSError):
        return (cache_root() / _MEMORY / _name(file, root)).exists()
    return False


def _name(file: Path, root: Path) -> str:
    return hashlib.sha256(f"{file}\0{root}".encode(errors="surrogateescape")).hexdigest()


def _root_of(file: Path, root: Path) -> Path:
    """The one folder to name, so that both the file and what it imports are in it."""
    return root if file.is_relative_to(root) else Path(os.path.commonpath([file.parent, root]))

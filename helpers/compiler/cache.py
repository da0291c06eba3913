"""The compile cache: content-addressed folders, one per generated PTX and one per assembly of it.

A folder is complete or absent (see `files.staged_folder`), so two notebooks may share the cache and a killed run
leaves nothing half-made. What does not read back as it was written is thrown away and made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from helpers.errors import OUT_OF_ROOM
from helpers.files import cache_roots, cache_stand_in, discard_folder, staged_folder, writable_cache_root

# Part of every key: raise it when what is stored changes its meaning.
LAYOUT_VERSION = 2
META = "meta.json"


def content_key(**parts: object) -> str:
    """sha256 over named parts, JSON-encoded; the folder name of a cache entry."""
    body = json.dumps({"layout": LAYOUT_VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()


def entry_folder(kind: str, key: str, root: Path | None = None) -> Path:
    """Where the entry `key` of `kind` (`codegen`, `assembly`) lives, or would live, in a root of the cache."""
    return (root or writable_cache_root()) / kind / key[:2] / key


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(kind: str, key: str) -> dict | None:
    """The meta data of an entry that reads back as it was written; None for a miss or a damaged entry.

    Every file is compared with its sha256 (a few milliseconds an entry): the PTX of a crash is an exhibit. A cache that
    cannot be written is read all the same.
    """
    found = (_read(entry_folder(kind, key, root)) for root in cache_roots())
    return next((entry for entry in found if entry is not None), None)


def _read(folder: Path) -> dict | None:
    # Whole or absent, but it may appear between two looks, so a file found missing is looked for once more.
    for last_look in (False, True):
        try:
            return _read_intact(folder)
        except FileNotFoundError:
            if not folder.is_dir():
                return None
            if last_look:
                _discard(folder)
        except OSError as exc:
            if exc.errno not in OUT_OF_ROOM:  # no room to read it says nothing of the entry
                _discard(folder)
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            _discard(folder)
            return None
    return None


def _discard(folder: Path) -> None:
    """Remove a damaged entry; one that cannot be removed is told, and is made anew beside."""
    discard_folder(folder)
    if os.path.lexists(folder):
        _tell(folder)


@lru_cache(maxsize=256)
def _tell(folder: Path) -> None:
    """Say so once."""
    warnings.warn(
        f"the cache entry {folder} is damaged and cannot be removed, so it is made anew each time; remove it by hand",
        stacklevel=2,
    )


def _read_intact(folder: Path) -> dict:
    text = (folder / META).read_bytes()
    digest, _, body = text.partition(b"\n")
    if digest.decode() != _sha256(body):
        raise ValueError("meta data are not what was written")
    meta = json.loads(body)
    for name, digest in meta["sha256"].items():
        if _sha256((folder / name).read_bytes()) != digest:
            raise ValueError(f"{name} is not what was written")
    return {**meta, "folder": folder}


def write(kind: str, key: str, meta: Mapping, files: Mapping[str, bytes]) -> dict:
    """Store an entry atomically and return its meta data as `read` would.

    Where the cache cannot be written (a full disk, a folder of somebody else's), the entry goes to a temporary
    folder of this process, with a warning: a compile that is done is not lost.
    """
    body = {
        **meta,
        "files": {name: len(content) for name, content in files.items()},
        "sha256": {name: _sha256(content) for name, content in files.items()},
    }
    text = json.dumps(body, indent=1).encode()
    content = {**files, META: _sha256(text).encode() + b"\n" + text}
    folder = entry_folder(kind, key)
    try:
        for _ in range(3):
            _store(folder, content)
            if _read(folder) is not None:
                break
            if os.path.lexists(folder):
                raise OSError(errno.EEXIST, "a damaged entry is in the way")
        else:
            raise OSError(errno.ENOENT, "it is removed as soon as it is there")
    except OSError as exc:
        folder = entry_folder(kind, key, cache_stand_in(str(exc.strerror or exc)))
        _store(folder, content)
    return {**json.loads(text), "folder": folder}


def _store(folder: Path, content: Mapping[str, bytes]) -> None:
    with staged_folder(folder) as scratch:
        for name, data in content.items():
            (scratch / name).write_bytes(data)


def get_or_make(kind: str, key: str, make: Callable[[], tuple[dict, dict[str, bytes], bool]]) -> tuple[dict, bool]:
    """(entry, whether it came from the cache). `make` returns meta data, files, and whether to keep them."""
    found = read(kind, key)
    if found is not None:
        return found, True
    meta, files, keep = make()
    if not keep:
        # Timeouts and dead workers are not facts about the kernel: shown now, tried again next time.
        key = content_key(transient=key)
        for root in cache_roots():
            discard_folder(entry_folder(kind, key, root))
    return write(kind, key, meta, files), False

"""The compile cache: content-addressed folders, one per generated PTX and one per assembly of it.

A folder is complete or absent (see `paths.staged_folder`), so two notebooks may share the cache and a killed run
leaves nothing half-made. What does not read back as it was written is thrown away and made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from helpers.compiler.paths import discard_folder, staged_folder, writable_cache_root

# Part of every key: raise it when what is stored changes its meaning.
LAYOUT_VERSION = 1
META = "meta.json"


def content_key(**parts: object) -> str:
    """sha256 over named parts, JSON-encoded; the folder name of a cache entry."""
    body = json.dumps({"layout": LAYOUT_VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(body.encode()).hexdigest()


def entry_folder(kind: str, key: str) -> Path:
    """Where the entry `key` of `kind` (`codegen`, `assembly`) lives."""
    return writable_cache_root() / kind / key[:2] / key


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(kind: str, key: str) -> dict | None:
    """The meta data of an entry whose files are all there in the size they had; None for a miss or a damaged entry."""
    folder = entry_folder(kind, key)
    try:
        meta = json.loads((folder / META).read_bytes())
        intact = isinstance(meta, dict) and all(
            (folder / name).stat().st_size == size for name, size in meta["files"].items()
        )
    except FileNotFoundError:
        if folder.is_dir():
            discard_folder(folder)
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        discard_folder(folder)
        return None
    return {**meta, "folder": folder}


def read_verified(kind: str, key: str) -> dict | None:
    """Like `read`, and every file's sha256 is checked as well: for content that is about to be built upon."""
    meta = read(kind, key)
    if meta is None:
        return None
    for name, digest in meta["sha256"].items():
        if _sha256((meta["folder"] / name).read_bytes()) != digest:
            discard_folder(meta["folder"])
            return None
    return meta


def write(kind: str, key: str, meta: Mapping, files: Mapping[str, bytes]) -> dict:
    """Store an entry atomically and return its meta data as `read` would."""
    folder = entry_folder(kind, key)
    body = {
        **meta,
        "files": {name: len(content) for name, content in files.items()},
        "sha256": {name: _sha256(content) for name, content in files.items()},
    }
    with staged_folder(folder) as scratch:
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        (scratch / META).write_text(json.dumps(body, indent=1))
    return {**body, "folder": folder}


def get_or_make(kind: str, key: str, make: Callable[[], tuple[dict, dict[str, bytes], bool]]) -> tuple[dict, bool]:
    """(entry, whether it came from the cache). `make` returns meta data, files, and whether to keep them."""
    found = read(kind, key)
    if found is not None:
        return found, True
    meta, files, keep = make()
    if not keep:
        # Timeouts and dead workers are not facts about the kernel: shown now, tried again next time.
        key = content_key(transient=key)
        discard_folder(entry_folder(kind, key))
    return write(kind, key, meta, files), False

"""Where the workbook keeps what it fetches and what it compiles: one folder, moved by one environment variable."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from helpers.errors import UserError

CACHE_ENV = "REGISTER_CLIFF_CACHE"
# The folder that holds helpers/, kernels/ and data/: the checkout.
ROOT = Path(__file__).resolve().parents[1]


def cache_root() -> Path:
    """The cache folder: $REGISTER_CLIFF_CACHE, else the platform's user cache folder. Not created here."""
    if override := os.environ.get(CACHE_ENV):
        return Path(override).expanduser().absolute()
    # Imported here: a bare machine that sets the variable (benchmarks/record_audit.py) does without it.
    import platformdirs

    return Path(platformdirs.user_cache_dir("register-cliff"))


@lru_cache(maxsize=16)
def _usable(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root):
            pass
        return root
    except OSError as exc:
        substitute = Path(tempfile.mkdtemp(prefix="register-cliff-"))
        warnings.warn(
            f"cannot write to the cache folder {root} ({exc.strerror or exc}); results of this session go to "
            f"{substitute} and are not reused. Set {CACHE_ENV} to a writable folder to keep them.",
            stacklevel=3,
        )
        return substitute


def writable_cache_root() -> Path:
    """`cache_root()`, made; where it cannot be written, a temporary folder for this process, with a warning."""
    return _usable(cache_root())


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A scratch folder that becomes `final` in one rename when the block ends well, and vanishes when it does not.

    Whoever comes second finds `final` already there and keeps it: content-addressed folders are interchangeable.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name[:24]}-", dir=final.parent))
    try:
        yield scratch
        # mkdtemp makes folders private; a cache shared between users must be readable.
        scratch.chmod(0o755)
        try:
            os.rename(scratch, final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def discard_folder(folder: Path) -> None:
    """Remove a folder so that no reader ever sees it half gone: rename first, delete after."""
    with contextlib.suppress(OSError):
        grave = Path(tempfile.mkdtemp(prefix=".discard-", dir=folder.parent))
        os.rename(folder, grave / "x")
        shutil.rmtree(grave, ignore_errors=True)


def check_ordinary_file(path: Path, max_bytes: int, what: str) -> os.stat_result:
    """The stat of a file that can be read whole; raises UserError for a device, a pipe, or more than `max_bytes`.

    A device has size 0 and no end: /dev/zero, named by a pasted spec, would fill the memory. A folder is left to the
    reading, whose error says so. Raises OSError as stat does.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{what} {path} is no ordinary file; name a file with text in it")
    if found.st_size > max_bytes:
        raise UserError(f"{what} {path} has {found.st_size} bytes; at most {max_bytes} are read")
    return found


def read_text_bounded(path: Path, max_bytes: int, what: str, *, errors: str = "strict") -> str:
    """The text of a file or pipe, line ends as Python reads them; a device without an end is read as far as the limit.

    Raises UserError for more than `max_bytes`, and what opening and decoding raise.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UserError(f"{what} {path} has more than {max_bytes} bytes; at most that many are read")
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors=errors).read()


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary name, so that a killed run leaves the old file or the new one."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` through a temporary name in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name[:24]}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise

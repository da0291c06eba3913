"""Files: the checkout's folder, the cache folder, reading what a stranger gave within a limit, atomic writing."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import select
import shutil
import stat
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO

from helpers.errors import MachineError, UserError, cannot_read
from helpers.processes import YOUNGEST_SWEPT_S, hold, locked, session_folder, sweep, temporary_place

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


# The folders of this process that stand in for a cache which did not take something, by the cache's own folder.
_STAND_INS: dict[Path, Path] = {}
_TOLD: set[tuple[Path, str]] = set()


def cache_roots() -> list[Path]:
    """The folders to read the cache from, whether they can be written or not: its own, and what stands in for it."""
    root = cache_root()
    return [root, _STAND_INS[root]] if root in _STAND_INS else [root]


def writable_cache_root() -> Path:
    """`cache_root()`, made; where it cannot be written now, a temporary folder for this process, with a warning."""
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):  # without a name where that can be: a kill leaves nothing
            pass
        _sweep_cache(root)
        return root
    except OSError as exc:
        return cache_stand_in(str(exc.strerror or exc))


def _sweep_cache(root: Path) -> None:
    for place in root.iterdir():
        sweep_hidden(place)


def clear_crumbs() -> None:
    """Remove what killed runs left among temporary files and in the cache; for the start of whatever writes there.

    A verb whose answer is in the cache makes no folder of its own, so this cannot wait for one. Nothing is raised: what
    cannot be removed now is removed another time.
    """
    with contextlib.suppress(OSError, MachineError):
        sweep(Path(temporary_place()))
    with contextlib.suppress(OSError):
        _sweep_cache(cache_root())


def cache_stand_in(reason: str) -> Path:
    """The temporary folder of this process for what the cache's own does not take; told once a reason, as a warning."""
    root = cache_root()
    if root not in _STAND_INS or not _STAND_INS[root].is_dir():
        _STAND_INS[root] = session_folder(f"cache-{len(_STAND_INS)}")
    if (root, reason) not in _TOLD:
        _TOLD.add((root, reason))
        warnings.warn(
            f"cannot write to the cache folder {root} ({reason}); what it does not take goes to {_STAND_INS[root]} and "
            f"is removed at the end. Set {CACHE_ENV} to a writable folder to keep results.",
            stacklevel=3,
        )
    return _STAND_INS[root]


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A scratch folder that becomes `final` in one rename when the block ends well, and vanishes when it does not.

    Whoever comes second finds `final` already there and keeps it: content-addressed folders are interchangeable.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    sweep_hidden(final.parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".{final.name[:24]}-", dir=final.parent))
    held = contextlib.ExitStack()
    try:
        with contextlib.suppress(OSError):  # some networks' folders have no locks: then it is not swept either
            held.enter_context(locked(scratch))
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
        held.close()


_GRAVE = ".discard-"


# A file half written has no lock; nobody writes one for so long.
YOUNGEST_FILE_S = 3_600.0
# What is not whole yet: `.NAME-xxxx`, and what is being removed.
_HIDDEN = ".?*-*"


def sweep_hidden(place: Path) -> int:
    """Remove what killed processes left half written in a folder of the cache, and return how much that was.

    A folder is left alone as long as somebody holds its lock, and where it cannot be locked at all.
    """
    swept = sweep(place, _HIDDEN, lock="")
    with contextlib.suppress(OSError):
        for path in place.glob(_HIDDEN):
            with contextlib.suppress(OSError):
                about = path.lstat()
                age = time.time() - about.st_mtime
                if stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid() and age >= YOUNGEST_FILE_S:
                    path.unlink()
                    swept += 1
    return swept


def discard_folder(folder: Path) -> None:
    """Remove a folder so that no reader ever sees it half gone: rename first, delete after."""
    with contextlib.suppress(OSError):
        grave = Path(tempfile.mkdtemp(prefix=_GRAVE, dir=folder.parent))
        try:
            os.rename(folder, grave / "x")
        finally:
            shutil.rmtree(grave, ignore_errors=True)


STDIN = Path("-")
# What is read of a spec, a PTX or a log at most. The largest PTX of Triton seen here has half a megabyte.
MAX_TEXT_BYTES = 64_000_000
_CHUNK = 1 << 20
# Where both ends are wanted, what lies between is read and dropped; this many times the limit, then it has no end.
_MOST_PASSED_OVER = 50
# How long a named pipe is waited for: for somebody who opens it to write, and for whoever has it open to write on. What
# is piped in (-) is waited for without an end: a program that runs for hours may be on the other side.
NO_WRITER_S = 10.0
SILENT_WRITER_S = 60.0


@dataclass(frozen=True)
class FileContent:
    """What was read of a file: its bytes, unpacked if they were gzip, and how many were left out in the middle."""

    data: bytes
    left_out: int = 0

    def text(self, errors: str = "replace") -> str:
        """The bytes as text (see `decode_text`), every line ended by a line feed."""
        return decode_text(self.data, errors).replace("\r\n", "\n").replace("\r", "\n")


def decode_text(data: bytes, errors: str = "replace") -> str:
    """Bytes as text: UTF-8, or UTF-16 where a mark says so (as PowerShell writes); a leading mark is no text.

    Raises UnicodeDecodeError only with `errors="strict"`.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors)
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors)


def read_bounded(
    source: str | Path,
    max_bytes: int,
    what: str = "the file",
    *,
    both_ends: bool = False,
    telling: re.Pattern[bytes] | None = None,
    hint: str = "",
) -> FileContent:
    """What a file, a pipe or stdin (`-`) holds, gzip unpacked: at most `max_bytes` of it.

    More than that is refused; with `both_ends` the first and the last half of `max_bytes` are kept instead, with a line
    break between; so is what stands around a `telling` pattern in the middle (at most 64 bytes long), up to
    `max_bytes` / 4 of it. Raises UserError, which begins with `what` and ends with `hint`, for what cannot be read: a
    folder, a device or a file of the kernel's (which have no end), damaged gzip, too much, a named pipe that nobody
    writes to.
    """
    path = Path(source)
    end = f"; {hint}" if hint else ""
    name = what if path == STDIN else f"{what} {path}"
    try:
        if path == STDIN:
            return _read_stream(sys.stdin.buffer, max_bytes, both_ends, name, end, telling)
        with _Opened(path, name, end, pipes=True) as stream:
            return _read_stream(stream, max_bytes, both_ends, name, end, telling)
    except (OSError, EOFError, zlib.error, ValueError) as exc:  # ValueError: a path with a NUL in it
        if isinstance(exc, UserError):
            raise
        raise cannot_read(name, exc, end) from exc


def read_text_bounded(
    source: str | Path, max_bytes: int, what: str = "the file", *, errors: str = "replace", hint: str = ""
) -> str:
    """The text of a file, a pipe or stdin; as `read_bounded`, and `errors="strict"` refuses what is no text."""
    try:
        return read_bounded(source, max_bytes, what, hint=hint).text(errors)
    except UnicodeDecodeError as exc:
        raise UserError(f"{what} {source} is no UTF-8 text{f'; {hint}' if hint else ''}") from exc


def read_ordinary(path: Path, max_bytes: int, what: str) -> bytes:
    """The bytes of an ordinary file, as they lie there; for paths that stand in a stranger's spec, and files of ours.

    Raises UserError, which begins with `what`, for a pipe and for all that `read_bounded` refuses.
    """
    name = f"{what} {path}"
    try:
        with _Opened(path, name, "", pipes=False) as stream:
            content = bytearray()
            while len(content) <= max_bytes and (chunk := stream.read(min(_CHUNK, max_bytes + 1 - len(content)))):
                content += chunk
    except (OSError, ValueError) as exc:
        if isinstance(exc, UserError):
            raise
        raise cannot_read(name, exc) from exc
    if len(content) > max_bytes:
        raise UserError(f"{name} has more than {max_bytes:,} bytes; at most that many are read")
    return bytes(content)


def head_bytes(path: Path, most: int, what: str = "the file") -> bytes:
    """The first bytes of an ordinary file, at most `most`, unpacked where it is gzip; raises UserError."""
    name = f"{what} {path}"
    try:
        with _Opened(path, name, "", pipes=False) as stream:
            head = _exactly(stream, most)
            if head[:2] != b"\x1f\x8b":
                return head
            with gzip.GzipFile(fileobj=_Joined(head, stream)) as unpacked:  # type: ignore[call-overload]
                return unpacked.read(most)
    except (OSError, EOFError, zlib.error, ValueError) as exc:
        if isinstance(exc, UserError):
            raise
        raise cannot_read(name, exc) from exc


def _exactly(stream: _Opened, most: int) -> bytes:
    content = bytearray()
    while len(content) < most and (chunk := stream.read(most - len(content))):
        content += chunk
    return bytes(content)


class _Opened:
    """A file that is open for reading and is never waited for without an end; raises UserError for a special one.

    Opened without blocking: a pipe that nobody writes to, and a file such as /proc/kmsg, would hold the caller up.
    """

    def __init__(self, path: Path, name: str, end: str, *, pipes: bool) -> None:
        self._name, self._end, self._pipe = name, end, False
        refuse_special(path.stat(), name, end, pipes=pipes)  # before it is opened: a device may take that for a command
        self._handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            found = os.fstat(self._handle)
            refuse_special(found, name, end, pipes=pipes)
            self._pipe = stat.S_ISFIFO(found.st_mode)
        except BaseException:
            os.close(self._handle)
            raise
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)
        self._heard = False

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_how: object) -> None:
        os.close(self._handle)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes (without one: to the end); nothing at the end. Raises UserError after a long silence."""
        if size < 0:
            content = bytearray()
            while chunk := self.read(_CHUNK):
                content += chunk
            return bytes(content)
        began = time.monotonic()
        while True:
            try:
                piece = os.read(self._handle, size)
            except BlockingIOError:
                waits, why = SILENT_WRITER_S if self._pipe else 0.0, "nothing more comes out of it"
            else:
                # Of a pipe, nothing means: no writer. Before the first one has come, one may still come.
                if piece or self._heard or not self._pipe:
                    self._heard = True
                    return piece
                waits, why = NO_WRITER_S, "nobody writes to it"
            left = waits - (time.monotonic() - began)
            if left <= 0:
                raise UserError(f"{self._name} was waited for {waits:g} s long, and {why}{self._end}")
            # A pipe that nobody has opened is never ready, one whose writer has gone always is.
            if self._poll.poll(1_000 * min(left, 0.2)) and self._pipe:
                self._heard = True


def refuse_special(found: os.stat_result, name: str, end: str = "", *, pipes: bool) -> None:
    """Raise UserError, which begins with `name`, for a folder, a device, a file of the kernel's, and maybe a pipe."""
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"{name} is a folder{end}")
    if stat.S_ISFIFO(mode) and pipes:
        return
    if not stat.S_ISREG(mode):
        raise UserError(
            f"{name} is no ordinary file{' and no pipe' if pipes else '; name a file with text in it'}{end}"
        )
    if found.st_dev in _kernel_devices():
        raise UserError(f"{name} is a file of the kernel's, which may have no end; name a copy of it{end}")


@lru_cache(maxsize=1)
def _kernel_devices() -> frozenset[int]:
    """The devices of /proc and /sys, where files look ordinary and are not."""
    found = set()
    for mount in ("/proc", "/sys"):
        with contextlib.suppress(OSError):
            found.add(os.stat(mount).st_dev)
    with contextlib.suppress(OSError):
        found.discard(os.stat("/").st_dev)
    return frozenset(found)


def _read_stream(
    stream: _Opened | BinaryIO, limit: int, both_ends: bool, name: str, end: str, telling: re.Pattern[bytes] | None
) -> FileContent:
    first = stream.read(_CHUNK)
    joined: IO[bytes] = _Joined(first, stream)  # type: ignore[assignment]
    if first[:2] == b"\x1f\x8b":
        joined = gzip.GzipFile(fileobj=joined)  # type: ignore[assignment]
    if not both_ends:
        content = bytearray()
        while len(content) <= limit and (chunk := joined.read(min(_CHUNK, limit + 1 - len(content)))):
            content += chunk
        if len(content) > limit:
            raise UserError(f"{name} has more than {limit:,} bytes; at most that many are read{end}")
        return FileContent(bytes(content))
    half = limit // 2
    head, tail = bytearray(), bytearray()
    while len(head) < half and (chunk := joined.read(min(_CHUNK, half - len(head)))):
        head += chunk
    total = len(head)
    middle = _Excerpts(telling, limit // 4)
    while chunk := joined.read(_CHUNK):
        total += len(chunk)
        if total > _MOST_PASSED_OVER * limit:
            raise UserError(f"{name} has more than {_MOST_PASSED_OVER * limit:,} bytes, or no end{end}")
        tail += chunk
        if len(tail) > half + 4 * _CHUNK:
            middle.pass_over(tail[: len(tail) - half])
            del tail[: len(tail) - half]
    middle.pass_over(tail[: max(0, len(tail) - half)])
    del tail[: max(0, len(tail) - half)]
    left_out = total - len(head) - len(tail) - middle.kept
    parts = [bytes(head), *middle.parts, bytes(tail)]
    return FileContent((b"\n" if left_out else b"").join(parts), left_out)


class _Excerpts:
    """What stands around the places of a pattern in bytes that are passed over, piece by piece; `most` bytes of it."""

    BEFORE, AFTER, LONGEST = 65_536, 262_144, 64

    def __init__(self, pattern: re.Pattern[bytes] | None, most: int) -> None:
        self._pattern, self._most = pattern, most
        self._recent = b""  # the last bytes, of which a place in the next piece may want some
        self._passed = 0  # bytes before the end of `_recent`
        self._written = self._until = 0  # what is kept reaches so far, and is to reach so far
        self._parts: list[bytearray] = []
        self.kept = 0

    @property
    def parts(self) -> list[bytes]:
        """The excerpts in their order."""
        return [bytes(part) for part in self._parts]

    def pass_over(self, piece: bytes | bytearray) -> None:
        """Take note of the next bytes."""
        if self._pattern is None or not piece or self.kept >= self._most:
            return
        known = self._recent + bytes(piece)
        first = self._passed - len(self._recent)  # the place of known[0]
        for found in self._pattern.finditer(known, max(0, len(self._recent) - self.LONGEST)):
            begin = max(first, first + found.start() - self.BEFORE)
            if begin > self._until or not self._parts:
                self._keep(known, first)
                self._parts.append(bytearray())
                self._written = begin
            self._until = max(self._until, first + found.end() + self.AFTER)
        self._keep(known, first)
        self._passed += len(piece)
        self._recent = known[-(self.BEFORE + self.LONGEST) :]

    def _keep(self, known: bytes, first: int) -> None:
        end = min(self._until, first + len(known), self._written + self._most - self.kept)
        if end > self._written:
            self._parts[-1] += known[self._written - first : end - first]
            self.kept += end - self._written
            self._written = end


class _Joined:
    """A stream whose first bytes were read already, to see what it is."""

    def __init__(self, head: bytes, rest: _Opened | BinaryIO) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        found, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
        return found


def check_ordinary_file(path: Path, max_bytes: int, what: str) -> os.stat_result:
    """The stat of a file that can be read whole; raises UserError for a device, a pipe, or more than `max_bytes`.

    For paths that stand in a pasted spec: /dev/zero would fill the memory, and a pipe would be waited for. A folder is
    left to the reading, whose error says so. Raises OSError as stat does.
    """
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        refuse_special(found, f"{what} {path}", pipes=False)
    if found.st_size > max_bytes:
        raise UserError(f"{what} {path} has {found.st_size:,} bytes; at most {max_bytes:,} are read")
    return found


def write_text_atomically(path: Path, text: str, *, make_folder: bool = True) -> None:
    """Write `text` to `path` through a temporary name, so that a killed run leaves the old file or the new one."""
    # Half a character, which a spec in JSON may hold, becomes a question mark.
    write_bytes_atomically(path, text.encode(errors="replace"), make_folder=make_folder)


def write_bytes_atomically(path: Path, content: bytes, *, make_folder: bool = True) -> None:
    """Write `content` to `path` through a temporary name in the same folder: the one rule for every file of ours.

    Where `path` is a link, the file that it leads to is written. Its folder is made, unless `make_folder` is false.
    """
    write_together({path: content}, make_folder=make_folder)


# What stands in the name of a file half written, between its own name and random letters.
_HALF = "-register-cliff-"


def write_together(contents: Mapping[Path, bytes], *, make_folder: bool = False) -> None:
    """Write files that belong together, as `write_bytes_atomically` does: none before there is room for all.

    A temporary file is locked until it has its name. One that a killed run left beside the same file is not, and goes.
    """
    scratches: dict[str, Path] = {}
    with contextlib.ExitStack() as open_until_named:
        try:
            for named, content in contents.items():
                path = Path(os.path.realpath(named)) if named.is_symlink() else named
                if make_folder:
                    path.parent.mkdir(parents=True, exist_ok=True)
                begin = f".{path.name[:24]}{_HALF}"
                _sweep_half_written(path.parent, begin)
                handle, scratch = tempfile.mkstemp(prefix=begin, dir=path.parent)
                scratches[scratch] = path
                file = open_until_named.enter_context(os.fdopen(handle, "wb"))
                with contextlib.suppress(OSError):  # some networks' folders have no locks: then it is not swept either
                    hold(handle)
                file.write(content)
                file.flush()
                os.chmod(scratch, 0o644)
            for scratch, path in scratches.items():
                os.replace(scratch, path)
        except BaseException:
            for scratch in scratches:
                with contextlib.suppress(OSError):
                    os.unlink(scratch)
            raise


def _sweep_half_written(folder: Path, begin: str) -> None:
    """Remove files of ours whose name begins so, and whose writer is gone: nobody holds their lock.

    An empty one may be a file that its writer has not locked yet, as long as it is young.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(begin):
                continue
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                young = not about.st_size and time.time() - about.st_mtime < YOUNGEST_SWEPT_S
                if young or about.st_uid != os.getuid() or not stat.S_ISREG(about.st_mode):
                    continue
                with locked(Path(entry.path)):
                    os.unlink(entry.path)

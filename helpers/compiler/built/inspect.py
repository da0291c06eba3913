"""Everything that is built under some paths, as rows: found, taken out one piece at a time, read, kept by content.

A library is walked by seeking, and only the pieces that are being read are in memory. Each cubin is read in two ways:
its ELF by ours, and by `cuobjdump -res-usage`; where they differ, the row says so.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

from helpers.compiler import cache
from helpers.compiler.built.demangle import demangled
from helpers.compiler.built.extract import Usage, cuobjdump_programs, extract, resource_usage
from helpers.compiler.built.rows import BuiltKernel, row_of_function, row_of_ptx, unread
from helpers.compiler.built.sources import HOLDERS, Source, at_hand, sources
from helpers.compiler.disassemble import code_text, nvdisasm_programs
from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, check_ordinary_file, read_ordinary, read_text_bounded
from helpers.inspection.binary.device_elf import read_device_elf
from helpers.inspection.binary.fatbin import FatbinEntry, entries
from helpers.inspection.binary.sass_kernels import SassKernel, functions_of, sass_kernel
from helpers.inspection.contents import CUBIN, PTX
from helpers.inspection.ptx.entries import ptx_entries
from helpers.inspection.ptx.scan import ptx_header
from helpers.processes import scratch_folder

__all__ = ["Inspection", "SourceFacts", "inspect_built"]

# The largest cubin of a library seen here has 70 MB.
MAX_CUBIN_BYTES = 1_000_000_000
_MAX_NOTES_BYTES = 1_000_000
MAX_HOLDER_BYTES = 64_000_000_000
# Part of every key: raise it when a row changes its meaning.
_ROWS_VERSION = 2
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SourceFacts:
    """One file: how many bytes, cubins and kernels it has, and the archs of the PTX in it that no row is of."""

    source: str
    kind: str
    size_bytes: int = 0
    cubins: int = 0
    kernels: int = 0
    ptx_archs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What was found: a row a kernel and arch, a row a thing that could not be read (`problem`), the files in order.

    `checked` counts the kernels whose numbers cuobjdump stated too, `from_cache` the pieces that were known already.
    """

    rows: tuple[BuiltKernel, ...] = ()
    files: tuple[SourceFacts, ...] = ()
    checked: int = 0
    from_cache: int = 0

    @property
    def kernels(self) -> tuple[BuiltKernel, ...]:
        """The rows that are of a kernel."""
        return tuple(row for row in self.rows if row.kernel)


@dataclass
class _Piece:
    """One cubin or PTX on its way: where its bytes are, and what they are called."""

    source: Source
    part: str
    read: Callable[[], bytes]
    in_fatbin: bool = False
    arch: str = ""


@dataclass
class _Answer:
    rows: list[BuiltKernel] = field(default_factory=list)
    checked: int = 0
    cached: bool = False


def inspect_built(
    paths: Iterable[Path],
    *,
    sass: bool = False,
    capability: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """The `Inspection` of files, wheels and folders; with `sass` their code is read too, which takes about a second a
    cubin.

    Of libraries, only cubins of one compute capability (90) where `capability` is given. `progress` is told how many
    pieces are done, of how many that are known. Raises UserError for a path that holds nothing of the kind.
    """
    paths = list(paths)
    programs = _Programs(sass)
    rows: list[BuiltKernel] = []
    files: list[SourceFacts] = []
    checked = cached = done = known = 0
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for batch in _batches(sources(paths)):
            found: list[_Answer | None] = []
            try:
                with _opened(batch) as (pieces, facts):
                    wanted = [p for p in pieces if capability is None or p.arch in ("", str(capability))]
                    known += len(wanted)
                    found = [None] * len(wanted)
                    for number, answer in _in_parallel(pool, wanted, programs):
                        found[number] = answer
                        done += 1
                        if progress is not None:
                            progress(done, known)
            except (OSError, UserError) as exc:
                rows.append(unread(batch[0].shown, _words(exc), kind=batch[0].kind))
                continue
            answers = [answer for answer in found if answer is not None]
            own = [row for answer in answers for row in answer.rows]
            rows += own
            checked += sum(answer.checked for answer in answers)
            cached += sum(answer.cached for answer in answers)
            kernels = Counter(row.source for row in own if row.kernel)
            files += [replace(fact, kernels=kernels[fact.source]) for fact in facts]
    if not files and not rows:
        raise UserError(
            f"there is no device code in {', '.join(map(str, paths[:3]))}: no cubin, no PTX, no library that has some"
        )
    names = demangled({row.kernel for row in rows})
    return Inspection(
        tuple(replace(r, name=names.get(r.kernel, r.kernel)) for r in rows), tuple(files), checked, cached
    )


# So many files that are one piece each are worked on together.
_BATCH = 512


def _batches(found: Iterable[Source]) -> Iterator[list[Source]]:
    """Sources in order: one that holds many pieces alone, those that are one piece each in batches."""
    batch: list[Source] = []
    for source in found:
        if source.kind in HOLDERS or len(batch) >= _BATCH:
            if batch:
                yield batch
            batch = []
        if source.kind in HOLDERS:
            yield [source]
        else:
            batch.append(source)
    if batch:
        yield batch


def _words(exc: OSError | UserError) -> str:
    return str(exc.strerror if isinstance(exc, OSError) and exc.strerror else exc)


@dataclass(frozen=True)
class _Programs:
    """NVIDIA's programs on this machine, looked for once."""

    sass: bool
    cuobjdump: tuple[Path, ...] = field(default_factory=lambda: tuple(cuobjdump_programs()))


@contextlib.contextmanager
def _opened(batch: Sequence[Source]) -> Iterator[tuple[list[_Piece], list[SourceFacts]]]:
    """The pieces of some sources, and the facts of these, while the block runs; raises UserError and OSError."""
    source = batch[0]
    if source.kind not in HOLDERS:
        yield [_Piece(s, "", functools.partial(_whole, s)) for s in batch], [_facts(s) for s in batch]
        return
    with at_hand(source) as path:
        size = check_ordinary_file(path, MAX_HOLDER_BYTES, "the file").st_size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = list(entries(content))
            cubins = [entry for entry in found if entry.kind == "cubin"]
            pieces = [
                _Piece(source, str(n), functools.partial(_slice, content, entry), in_fatbin=True, arch=str(entry.arch))
                for n, entry in enumerate(cubins, 1)
            ]
            ptx = {f"compute_{entry.arch}" for entry in found if entry.kind == "PTX"}
            yield pieces, [SourceFacts(source.shown, source.kind, size, len(cubins), ptx_archs=tuple(sorted(ptx)))]


def _facts(source: Source) -> SourceFacts:
    size = 0
    with contextlib.suppress(OSError):
        size = source.archive.getinfo(source.member).file_size if source.archive else source.path.stat().st_size
    return SourceFacts(source.shown, source.kind, size, cubins=int(source.kind == CUBIN))


def _whole(source: Source) -> bytes:
    """The bytes of a file that is one piece; raises UserError."""
    if source.problem:
        raise UserError(source.problem)
    limit = MAX_TEXT_BYTES if source.kind == PTX else MAX_CUBIN_BYTES
    if source.archive is not None:
        return source.unpacked(limit)
    if source.kind == PTX:
        return read_text_bounded(source.path, limit).encode(errors="replace")
    return read_ordinary(source.path, limit, "the cubin")


def _slice(content: mmap.mmap, entry: FatbinEntry) -> bytes:
    """The bytes of one entry; what was read of the file for it is let go."""
    if entry.size > MAX_CUBIN_BYTES:
        raise UserError(f"it has {entry.size:,} bytes; at most {MAX_CUBIN_BYTES:,} are read")
    piece = content[entry.offset : entry.offset + entry.size]
    begin = entry.offset // mmap.PAGESIZE * mmap.PAGESIZE
    content.madvise(mmap.MADV_DONTNEED, begin, entry.offset + entry.size - begin)
    return piece


def _in_parallel(
    pool: ThreadPoolExecutor, pieces: Sequence[_Piece], programs: _Programs
) -> Iterator[tuple[int, _Answer]]:
    """Each piece's answer as it comes; no more pieces are under way than can be worked on."""
    under_way: dict[Future[_Answer], int] = {}
    waiting = iter(enumerate(pieces))
    most = 2 * (os.cpu_count() or 1)
    try:
        while True:
            while len(under_way) < most and (following := next(waiting, None)):
                number, piece = following
                under_way[pool.submit(_answer, piece, programs)] = number
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                yield under_way.pop(future), future.result()
    finally:
        for future in under_way:
            future.cancel()
        wait(under_way)


def _answer(piece: _Piece, programs: _Programs) -> _Answer:
    """What one piece says; what is wrong with it is a row of its own."""
    source = piece.source
    try:
        content = piece.read()
        beside = read_text_bounded(source.beside, MAX_TEXT_BYTES) if source.beside else ""
        noted = _noted(source.noted)
        key = cache.content_key(
            built=hashlib.sha256(content).hexdigest(), ptx=hashlib.sha256(beside.encode()).hexdigest(),
            noted=noted, sass=programs.sass, rows=_ROWS_VERSION, programs=[str(p) for p in programs.cuobjdump],
            kind=source.kind if source.kind == PTX else "cubin",
        )  # fmt: skip
        if (kept := _kept(key, source.shown, piece.part)) is not None:
            return kept
        if source.kind == PTX:
            answer = _Answer(_ptx_rows(content.decode(errors="replace"), source.shown))
        else:
            answer = _cubin_rows(content, beside, noted, piece, programs)
        _keep(key, answer)
        return answer
    except (OSError, UserError) as exc:
        arch = f"sm_{piece.arch}" if piece.arch else ""
        return _Answer([unread(source.shown, _words(exc), part=piece.part, kind=source.kind, arch=arch)])


def _kept(key: str, shown: str, part: str) -> _Answer | None:
    entry = cache.read("built", key)
    try:
        if entry is None:
            return None
        rows = [BuiltKernel.from_dict({**raw, "source": shown, "part": part}) for raw in entry["rows"]]
        return _Answer(rows, int(entry["checked"]), cached=True)
    except (KeyError, TypeError, ValueError):
        return None


def _keep(key: str, answer: _Answer) -> None:
    rows = json.loads(json.dumps([row.to_dict() for row in answer.rows]))
    cache.write("built", key, {"rows": rows, "checked": answer.checked}, {})


def _ptx_rows(text: str, shown: str) -> list[BuiltKernel]:
    found = ptx_entries(text)
    if not found:
        return [unread(shown, "the PTX has no kernel", kind=PTX)]
    return [row_of_ptx(shown, ptx_header(text).target or "", entry) for entry in found]


def _noted(file: Path | None) -> dict[str, int]:
    """What Triton noted of a cubin in its cache: bytes of shared memory that its launch asks for, tensor memory."""
    if file is None:
        return {}
    try:
        raw = json.loads(read_ordinary(file, _MAX_NOTES_BYTES, "Triton's notes"))
    except (UserError, ValueError, RecursionError):
        return {}
    names = {"shared": "dynamic_shared_bytes", "tmem_size": "tmem_columns"}
    return {
        ours: raw[name]
        for name, ours in names.items()
        if isinstance(raw, dict) and type(raw.get(name)) is int and 0 <= raw[name] < 1 << 31
    }


def _cubin_rows(content: bytes, beside: str, noted: dict[str, int], piece: _Piece, programs: _Programs) -> _Answer:
    with scratch_folder("inspect") as scratch:
        folder = scratch / "one"
        folder.mkdir()
        if piece.in_fatbin:
            path = extract(content, programs.cuobjdump, folder)
            if path.stat().st_size > MAX_CUBIN_BYTES:
                raise UserError(f"it has {path.stat().st_size:,} bytes unpacked; at most {MAX_CUBIN_BYTES:,} are read")
            cubin = path.read_bytes()
        else:
            path, cubin = folder / "kernel.cubin", content
            path.write_bytes(cubin)
        elf = read_device_elf(cubin)
        usage = resource_usage(path, programs.cuobjdump) or {}
    shown, part = piece.source.shown, piece.part
    if not elf.kernels and piece.in_fatbin:
        return _Answer()  # one of many in a library, and nothing that anybody launches
    if not elf.kernels:
        words = "it has functions, and no kernel" if elf.functions else "it has no code"
        return _Answer([unread(shown, words, part=part, kind="cubin", arch=elf.arch or "")])
    ptx = {entry.name: entry for entry in ptx_entries(beside)} if beside else {}
    code, problem = _code(cubin, elf.ptxas_version) if programs.sass else ({}, "")
    rows, checked = [], 0
    for function in elf.kernels:
        row = row_of_function(
            shown, part, elf, function, code=code.get(function.name), ptx=ptx.get(function.name), noted=noted
        )
        said = usage.get(function.name)
        checked += said is not None
        rows.append(replace(row, problem="; ".join(filter(None, (row.problem, problem, _disagreement(row, said))))))
    return _Answer(rows, checked)


def _code(cubin: bytes, ptxas_version: str | None) -> tuple[dict[str, SassKernel], str]:
    text, problem = code_text(cubin, nvdisasm_programs(ptxas_version))
    if problem:
        return {}, f"its code cannot be read: {problem}"
    return {name: sass_kernel(function) for name, function in functions_of(text)}, ""


def _disagreement(row: BuiltKernel, said: Usage | None) -> str:
    """Where cuobjdump says another number than the ELF; empty where they agree, or it said none."""
    if said is None:
        return ""
    own = {
        "registers": row.registers,
        "bytes of stack": row.stack_frame_bytes,
        "bytes of shared memory": row.shared_bytes,
    }
    differ = [
        f"the cubin says {mine} {what}, cuobjdump {theirs}"
        for (what, mine), theirs in zip(own.items(), said, strict=True)
        if theirs is not None and (mine or 0) != theirs
    ]
    return "; ".join(differ)

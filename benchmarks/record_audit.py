"""Compile every cell of the tile tables with one Triton and write the rows: the evidence of data/tile_audit.csv.

    python benchmarks/record_audit.py --out data/tile_audit.csv [--triton 3.5.1|environment] [--archs sm_100a,sm_120a]
        [--phase cells|search|both] [--jobs N] [--limit SECONDS] [--cache FOLDER] [--merge ROWS.csv] [--install yes]

Phase `cells` compiles the tables' cells; `search` tries, for every arch, head dim and KV dtype with a cliff, smaller
tiles from large to small until one has no spills. About 600 and 500 compiles. Rows are written as they come (the whole
file through a temporary name); a row that is there is not made again, so a run that was stopped goes on. Rows of other
Tritons in the file stay, and `--merge` takes in rows recorded elsewhere.

Needs no GPU, no network and, beside this repository, only Triton. Where platformdirs is missing the compile cache goes
to --cache, else to a temporary folder. Exit code 0 when every cell has a verdict, 1 when some lack one (a toolchain
that is missing, a worker that died, no time left), 2 on bad input.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import importlib.util
import io
import multiprocessing
import os
import re
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.attention.studies.tile_audit import AuditCell, audit_requests, audit_row, cliffs, spill_free_tile
from helpers.compiler.compile import usable_cores
from helpers.compiler.toolchain import ENVIRONMENT, INCIDENT_TRITON, install, resolve_triton, version_key
from helpers.errors import UserError
from helpers.files import CACHE_ENV, write_text_atomically
from helpers.hardware import ARCHS, get_arch
from helpers.recorded import rows_of

WRITE_EVERY_S = 10.0
# No fact about the tile: shown, counted against the run, tried again by the next one.
NO_VERDICT = ("toolchain_missing", "timeout", "ptxas_signal", "frontend_error", "ptxas_error")
SPEC = ("arch", "head_dim", "kv_dtype", "option", "tile", "triton")
Key = tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """Record rows; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _record(parse(argv), argv)
    except UserError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2


def parse(argv: list[str]) -> argparse.Namespace:
    """The options; exits with code 2 on unknown ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="CSV file; rows already in it are kept")
    parser.add_argument("--triton", default=INCIDENT_TRITON, help="a version, or `environment` (default: %(default)s)")
    parser.add_argument("--archs", default=",".join(ARCHS), help="comma-separated (default: all eight)")
    parser.add_argument("--head-dims", default="", help="comma-separated (default: all)")
    parser.add_argument("--phase", choices=("cells", "search", "both"), default="both")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes that compile (default: the cores)")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no compile is begun")
    parser.add_argument("--cache", type=Path, help="compile cache folder (default: the user's)")
    parser.add_argument("--install", choices=("yes", "no"), default="no", help="fetch a missing Triton through pip")
    parser.add_argument("--merge", type=Path, action="append", default=[], help="take in rows of this CSV file as well")
    return parser.parse_args(argv)


def _record(options: argparse.Namespace, argv: list[str]) -> int:
    _set_cache(options.cache)
    triton, version = _triton(options.triton, fetch=options.install == "yes")
    archs = [get_arch(a.strip()).name for a in options.archs.split(",")]
    words = [word.strip() for word in options.head_dims.split(",") if word.strip()]
    if not all(word.isdecimal() and len(word) < 6 for word in words):
        raise UserError(f"cannot read head dims {options.head_dims[:40]!r}: give numbers such as 256,512")
    head_dims = [int(word) for word in words]
    cells = audit_requests(triton=triton, archs=archs, head_dims=head_dims)
    book = Book(options.out, _own_words(options, argv))
    for file in (options.out, *options.merge):
        book.take_in(file, must_exist=file is not options.out)
    book.write()  # what cannot be written is found out now
    jobs, until = max(1, options.jobs), time.monotonic() + options.limit
    print(f"{len(book.rows)} rows there, {len(cells)} cells, Triton {version}, {jobs} processes", flush=True)
    # Reading a PTX is Python, so threads would queue for one core; spawned, as this process may have threads.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        failed = 0
        if options.phase in ("cells", "both"):
            todo = [cell for cell in cells if cell_key(cell, version) not in book.rows]
            failed += _drain(bounded(pool, one_cell, todo, room=2 * jobs, until=until), len(todo), book)
        if options.phase in ("search", "both"):
            groups = [
                (*group, triton, book.known(group, version))
                for group in cliffs(row for row in book.rows.values() if row["triton"] == version)
                if group[0] in archs and (not head_dims or group[1] in head_dims)
            ]
            failed += _drain(bounded(pool, search, groups, room=2 * jobs, until=until), len(groups), book)
    book.write()
    counts = Counter(row["status"] for row in book.rows.values() if row["triton"] == version)
    print(f"{len(book.rows)} rows in {options.out.name}; Triton {version}: {dict(counts.most_common())}")
    out_of_time = time.monotonic() > until
    if out_of_time:
        print(f"stopped after {options.limit:g} s; run it again to go on", flush=True)
    return 1 if failed or out_of_time or any(counts[status] for status in NO_VERDICT) else 0


def _set_cache(folder: Path | None) -> None:
    """Name the compile cache for this process and those it starts; nothing where the user's own can be found."""
    if folder is not None:
        os.environ[CACHE_ENV] = str(folder.absolute())
    elif CACHE_ENV not in os.environ and importlib.util.find_spec("platformdirs") is None:
        os.environ[CACHE_ENV] = tempfile.mkdtemp(prefix="register-cliff-audit-")
        print(f"no platformdirs here: this run's compile cache is {os.environ[CACHE_ENV]}", flush=True)


def _triton(name: str, *, fetch: bool) -> tuple[str, str]:
    """(what to call it, its version): `environment` by its version where that is a plain one."""
    if fetch and name != ENVIRONMENT:
        install(f"triton=={name}")
    version = resolve_triton(name).version
    return (version if re.fullmatch(r"\d+\.\d+\.\d+", version) else name), version


def _own_words(options: argparse.Namespace, argv: list[str]) -> str:
    """The command that was run, with files by their names: folders are this machine's."""
    files = {str(file): file.name for file in (options.out, options.cache, *options.merge) if file is not None}
    return "python benchmarks/record_audit.py " + shlex.join(files.get(word, word) for word in argv)


# --- in the worker processes ------------------------------------------------------------------------------------


def one_cell(cell: AuditCell) -> list[dict]:
    """The row of a cell, as a list of one."""
    return [audit_row(cell)]


def search(group: tuple[str, int, str, str, dict[Key, dict]]) -> list[dict]:
    """The rows that a search for a spill-free tile adds to the known ones."""
    arch, head_dim, kv_dtype, triton, known = group
    made = []

    def run(cell: AuditCell) -> dict:
        spec = (arch, str(head_dim), kv_dtype, cell.option, cell.choice.tile)
        if spec not in known:
            made.append(audit_row(cell))
            return made[-1]
        return known[spec]

    spill_free_tile(arch=arch, head_dim=head_dim, kv_dtype=kv_dtype, triton=triton, run=run)
    return made


# --- the book ---------------------------------------------------------------------------------------------------


def bounded(pool, function, todo: Iterable, *, room: int, until: float) -> Iterator[concurrent.futures.Future]:
    """Finished futures of `function` over `todo`, as they finish; `room` in flight, none begun after `until`."""
    waiting, flying = iter(todo), set()
    while True:
        while len(flying) < room and time.monotonic() < until and (item := next(waiting, None)) is not None:
            flying.add(pool.submit(function, item))
        if not flying:
            return
        done, flying = concurrent.futures.wait(flying, return_when=concurrent.futures.FIRST_COMPLETED)
        yield from done


def _drain(futures: Iterable[concurrent.futures.Future], total: int, book: Book) -> int:
    """Write the rows of the futures as they come; how many raised instead."""
    failed = 0
    for done, future in enumerate(futures, start=1):
        try:
            rows = future.result()
        except BrokenProcessPool:
            raise
        except Exception as exc:  # one cell must not cost the others; it is counted and shown
            failed += 1
            print(f"no row: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
            continue
        for row in rows:
            book.add(row)
            print(
                f"{done}/{total} {row['status']:<20} {row['spill_store_bytes']!s:>5}  {row['arch']} "
                f"hd{row['head_dim']} {row['kv_dtype']} {row['option']} {row['table']} {row['tile']}",
                flush=True,
            )
        book.write_now_and_then()
    return failed


def cell_key(cell: AuditCell, version: str) -> Key:
    """What a cell's row is filed under."""
    c = cell.choice
    return (c.arch, str(c.head_dim), c.kv_dtype, cell.option, c.tile, version, cell.table)


def row_key(row: Mapping) -> Key:
    """What a row is filed under."""
    return (*(str(row[name]) for name in SPEC), row["table"])


class Book:
    """The rows of the output file by what they are of, written whole and sorted."""

    def __init__(self, path: Path, command: str) -> None:
        self.path, self.command = path, command
        self.rows: dict[Key, dict] = {}
        self.commands: list[str] = []
        self._written = time.monotonic()

    def take_in(self, file: Path, *, must_exist: bool) -> None:
        """Read the rows of a file; raises UserError for one that is not there or holds something else."""
        if not file.is_file():
            if must_exist:
                raise UserError(f"no file {file}: --merge wants a CSV that this script wrote")
            return
        self.commands += [line[2:] for line in file.read_text().splitlines() if line.startswith("# `")]
        for row in rows_of(file):
            if not {*SPEC, "table", "status", "chosen_by"} <= set(row):
                raise UserError(f"{file} holds no audit rows: name a file that this script wrote, or a new one")
            if row["status"] not in NO_VERDICT:
                self.rows[row_key(row)] = row

    def add(self, row: dict) -> None:
        """Take in a new row."""
        self.rows[row_key(row)] = row

    def known(self, group: tuple[str, int, str], version: str) -> dict[Key, dict]:
        """The rows of one arch, head dim and KV dtype, by option and tile, whichever table they were made for."""
        mine = (group[0], str(group[1]), group[2])
        return {key[:5]: row for key, row in self.rows.items() if key[:3] == mine and key[5] == version}

    def write_now_and_then(self) -> None:
        """Write, unless that was a moment ago."""
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the file through a temporary name; raises UserError where that cannot be done."""
        order = {name: at for at, name in enumerate(ARCHS)}
        ordered = sorted(
            self.rows.values(),
            key=lambda r: (version_key(r["triton"] or "0"), order.get(r["arch"], 99), r["table"], int(r["head_dim"]),
                           row_key(r)),
        )  # fmt: skip
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(k for row in ordered for k in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
        head = [
            f"# {len(ordered)} compiles of the extend kernel, the incident's ingredients; compile-time only, no GPU "
            "used. Rows of table `search` are tiles tried for want of a spill-free one. Recorded by",
            *(f"# {command}" for command in dict.fromkeys([*self.commands, f"`{self.command}`"])),
        ]
        try:
            write_text_atomically(self.path, "\n".join(head) + "\n" + text.getvalue())
        except OSError as exc:
            raise UserError(f"cannot write {self.path}: {exc.strerror or exc}") from exc
        self._written = time.monotonic()


if __name__ == "__main__":
    raise SystemExit(main())

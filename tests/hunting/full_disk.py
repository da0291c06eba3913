"""A matrix on a disk that is full: it says so, keeps what it has, and ends right once there is room.

The disk is a tmpfs of a few kilobytes, mounted in a namespace of the verb's own.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.compiling import ADD_ONE, spec_of
from tests.hunting.kills import Ended, Place, run_verb
from tests.hunting.records import Outcome

FULL = ("temporary files", "cache")
_ON_SMALL_DISK = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'
# The cache's folder holds links to the toolchains, which must stay to be seen: only where results go is small.
_KINDS_OF_RESULTS = ("codegen",)


def on_small_disk(size: str, place: Path) -> tuple[str, ...]:
    """A command that runs its last words with a disk of this size mounted at `place`, for them alone."""
    return ("unshare", "-rm", "sh", "-c", _ON_SMALL_DISK, size, str(place))


def why_not() -> str:
    """Why no small disk can be mounted on this machine; "" where one can."""
    if shutil.which("unshare") is None:
        return "there is no unshare on this machine"
    with tempfile.TemporaryDirectory() as place:
        tried = subprocess.run(
            [*on_small_disk("64k", Path(place)), "true"], capture_output=True, text=True, check=False
        )
    return "" if tried.returncode == 0 else f"no disk can be mounted here: {tried.stderr.strip()[-200:]}"


class Matrix:
    """A matrix of `count` compiles in a folder, and what each of its rows is with room enough."""

    def __init__(self, folder: Path, count: int) -> None:
        self.place = Place(folder)
        self.words = self.place.begin(lambda place: self._prepare(place, count))
        ended = run_verb(self.place, self.words, uuid.uuid4().hex)
        if ended.code != 0:
            raise RuntimeError(f"the matrix does not end well with room: {ended.err[-600:]}")
        self.rows = _rows(ended)
        self._count = count

    def _prepare(self, place: Place, count: int) -> list[str]:
        kernel = place.work / "kernel.py"
        kernel.write_text(ADD_ONE)
        shapes = itertools.islice(itertools.product([2**n for n in range(5, 15)], (1, 2, 4)), (count + 1) // 2)
        specs = [
            json.loads(
                spec_of(kernel, constexprs=(("BLOCK", b),), options=(("num_warps", w),), label=f"{b} {w}").to_json()
            )
            for b, w in shapes
        ]
        (place.work / "specs.json").write_text(json.dumps(specs))
        return ["matrix", str(place.work / "specs.json"), "--arch", "sm_80,sm_90a", "--json"]

    def wrong(self, what: str, kilobytes: int) -> str:
        """What is wrong with a run on a disk of so many kilobytes, and with the next one with room; "" for nothing."""
        self.place.begin(lambda place: self._prepare(place, self._count))
        small = self.place.tmp if what == "temporary files" else self.place.cache / _KINDS_OF_RESULTS[0]
        small.mkdir(exist_ok=True)
        ended = run_verb(self.place, self.words, uuid.uuid4().hex, under=on_small_disk(f"{kilobytes}k", small))
        if ended.code not in (0, 3) or "Traceback" in ended.err:
            return f"ended with {ended.code}: {ended.err[-600:]}"
        found = _rows(ended)
        if ended.code == 3 and not any(word in ended.err for word in ("room", "No space", "full")):
            return f"exit code 3, and not a word of the disk: {ended.err[-400:]}"
        if len(found) != len(self.rows):
            return f"{len(found)} of {len(self.rows)} rows came: {ended.err[-400:]}"
        told = [row for row in found if row[1] == "environment_error"]
        if bool(told) != (ended.code == 3):
            return f"exit code {ended.code} with {len(told)} rows that have no answer"
        if false := [row for row, right in zip(found, self.rows, strict=True) if row not in (right, *told)]:
            return f"a row is wrong: {false[0]}"
        again = run_verb(self.place, self.words, uuid.uuid4().hex)
        if again.code != 0 or _rows(again) != self.rows:
            return f"with room again it ended with {again.code}: {again.err[-400:]}"
        kept = sum(row["cached"] for row in _said(again))
        if what == "temporary files" and kept < len(found) - len(told):
            return f"{len(found) - len(told)} compiles were done, and {kept} of them were kept"
        return ""


def _said(ended: Ended) -> list[dict]:
    return json.loads(ended.out or "[]")


def _rows(ended: Ended) -> list[tuple]:
    names = ("label", "status", "arch", "regs_per_thread", "spill_store_bytes", "smem_bytes", "message")
    return [tuple(row[n] for n in names) if row["status"] == "ok" else ("", row["status"]) for row in _said(ended)]


def hunt_full_disks(what: str, seed: int, go_on: Callable[[str], bool], compiles: int = 60) -> Outcome:
    """The matrix on disks of random size."""
    found, rng = Outcome(skipped=why_not()), random.Random(f"{what}-{seed}")
    if found.skipped:
        return found
    with tempfile.TemporaryDirectory(prefix="hunt-disk-") as scratch:
        matrix = Matrix(Path(scratch) / "place", compiles)
        going = True
        while going:
            kilobytes = rng.choice((4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 512))
            wrong = matrix.wrong(what, kilobytes)
            words = wrong and f"{what} on {kilobytes} kB: {wrong}"
            found.count(words, 0.0)
            going = go_on(words)
    return found

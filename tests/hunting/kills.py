"""Long verbs killed at random points and started again: nothing stays behind, and the end is that of a quiet run.

A chain begins with an empty cache. The verb is started, killed after a random time, by TERM and KILL in turn, and
started again on what it left, until it comes to its end: its result must be the reference's. After each kill no process
of the run may live for longer than 3 s; after the verb's own next end no scratch file may be left.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.compiler.toolchain import environment_triton, installed_tritons
from helpers.files import CACHE_ENV, ROOT, cache_root
from tests.capturing import FAKE_DRIVER, KERNELS
from tests.compiling import ADD_ONE, hear_signals, spec_of
from tests.hunting.records import Outcome

MARK = "REGISTER_CLIFF_HUNT"
GONE_WITHIN_S = 3.0
# A verb that is asked to end may finish a write; a machine that is busy needs its time for that as well.
ENDS_WITHIN_S = 20.0
LONGEST_S = 900.0
PROGRAM_OF_VERBS = ("-m", "helpers")
WHEEL = "triton-9.9.9-py3-none-any.whl"
# What differs from run to run in a result: times, and how much of it was done before.
_VARYING = re.compile(r"(?:_s|seconds|cached|probes|runs|compiles|fetched|created|time|notes|sha256|bytes)$")

# A ptxas that takes its time and dies of any text with an ex2 and three shfl.
PTXAS = """#!/bin/sh
[ "$1" = --version ] && { echo "Cuda compilation tools, release 1.2, V1.2.3"; exit 0; }
sleep 0.01
if grep -q 'ex2.approx' kernel.ptx && [ "$(grep -c 'shfl.sync' kernel.ptx)" -ge 3 ]; then
  case "$*" in *-O0*|*-O1*) ;; *)
    echo "ptxas fatal   : (C7600) Register allocation failed with register count of '255'." >&2; exit 255;; esac
fi
echo "ptxas info    : Compiling entry function 'k' for 'sm_120a'" >&2
echo "ptxas info    : Used 32 registers" >&2
echo cubin > kernel.cubin
"""
TUNED = """
import triton
import triton.language as tl


@triton.autotune([triton.Config({"BLOCK": b}, num_warps=w) for b, w in ((128, 4), (256, 4), (8192, 4))], key=["n"])
@triton.jit
def add_one(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n) + 1, mask=offsets < n)
"""
PROGRAM = """
from kernels_of_mine import add
import torch_like
for block in (64, 128):
    add[(1,)](torch_like.x, 64, torch_like.x, tl.float32, "none", block)
"""


@dataclass(frozen=True)
class Place:
    """The folder of a chain: the verb's inputs and outputs, its cache, its folder for temporary files."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def program_tmp(self) -> Path:
        """For temporary files of a program that `capture` watches: what its own Triton leaves there is its own."""
        return self.folder / "program_tmp"

    def begin(self, prepare: Callable[[Place], list[str]]) -> list[str]:
        """Make it anew, toolchains linked into its cache; the words of the verb."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in (self.cache / "toolchains", self.tmp, self.work, self.program_tmp):
            part.mkdir(parents=True)
        there = cache_root() / "toolchains"
        for toolchain in there.glob("[a-z]*") if there.is_dir() else ():
            (self.cache / "toolchains" / toolchain.name).symlink_to(toolchain.resolve())
        return prepare(self)

    def environment(self, mark: str) -> dict[str, str]:
        """What the verb and all that it starts have in their environment."""
        mine = {CACHE_ENV: str(self.cache), "TMPDIR": str(self.tmp), MARK: mark, "PYTHONPATH": str(ROOT),
                "TRITON_CACHE_DIR": str(self.folder / "triton"), "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.work), "PIP_NO_CACHE_DIR": "1"}  # fmt: skip
        return {**os.environ, **mine}

    def crumbs(self) -> set[str]:
        """Scratch files: all that lies among temporary files, and what is hidden in the cache or beside the results."""
        hidden = [p for base in (self.cache, self.work) for p in _walk(base) if p.name.startswith(".")]
        beside_the_program = [p for p in self.program_tmp.iterdir() if "register-cliff" in p.name]
        return {str(p.relative_to(self.folder)) for p in [*self.tmp.iterdir(), *beside_the_program, *hidden]}

    def age(self) -> None:
        """Let what lies here be an hour old: what is young may be somebody's who has not locked it yet."""
        then = time.time() - 3_600
        for name in self.crumbs():
            path = self.folder / name
            for part in (path, *(path.iterdir() if path.is_dir() and not path.is_symlink() else ())):
                try:
                    os.utime(part, (then, then), follow_symlinks=False)
                except OSError:
                    continue


def _walk(base: Path) -> Iterator[Path]:
    """What lies below a folder; links are not followed, and of what is hidden only the top is named."""
    for path in sorted(base.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _walk(path)


# --- the verbs -----------------------------------------------------------------------------------------------


def _spec(place: Place, source: str = ADD_ONE, **changes: object) -> str:
    kernel = place.work / "kernel.py"
    kernel.write_text(source)
    path = place.work / "spec.json"
    path.write_text(spec_of(kernel, **changes).to_json())
    return str(path)


# 64 elements a thread in 32 registers: they spill.
SPILLS = {"constexprs": (("BLOCK", 8192),), "options": (("num_warps", 4), ("maxnreg", 32))}


def _compile(place: Place) -> list[str]:
    return ["compile", _spec(place), "--arch", "sm_90a", "--json"]


def _matrix(place: Place) -> list[str]:
    archs = "sm_80,sm_89,sm_90a,sm_100a,sm_120a"
    return ["matrix", _spec(place), "--arch", archs, "--csv", str(place.work / "rows.csv"), "--force", "--json"]


def _minimize(place: Place) -> list[str]:
    from tests.hunting.readers import crashing_ptx

    program = place.cache / "toolchains" / "ptxas-1.2.3" / "bin" / "ptxas"
    program.parent.mkdir(parents=True)
    program.write_text(PTXAS)
    program.chmod(0o755)
    (place.work / "crash.ptx").write_text(crashing_ptx())
    files = (str(place.work / "crash.ptx"), "-o", str(place.work / "small.ptx"))
    return ["minimize", *files, "--force", "--ptxas", "1.2.3",
            "--only-this-ptxas", "--resume", str(place.work / "state.json"), "--jobs", "2", "--json"]  # fmt: skip


def _ablate(place: Place) -> list[str]:
    return ["ablate", _spec(place, **SPILLS), "--arch", "sm_90a", "--budget", "120", "--json"]


def _try(place: Place) -> list[str]:
    return ["try", _spec(place, **SPILLS), "--arch", "sm_90a", "--budget", "120", "--json"]


def _autotune(place: Place) -> list[str]:
    return ["autotune", _spec(place, TUNED), "--arch", "sm_90a", "--json"]


def _audit(place: Place) -> list[str]:
    here = environment_triton()
    return ["audit", "--live", "--arch", "sm_90a", "--head-dim", "64", "--kv-dtype", "bf16", "--feature", "none",
            "--triton", here.version if here else "3.5.1", "--json"]  # fmt: skip


def _report(place: Place) -> list[str]:
    return ["report", _spec(place, **SPILLS), "--arch", "sm_90a", "--for", "spills", "-o", str(place.work / "r.zip"),
            "--force", "--budget", "5", "--json"]  # fmt: skip


def _two_tritons() -> list[str]:
    found = installed_tritons()
    return found[-2:] if len(found) > 1 else found * 2


def _cross(place: Place) -> list[str]:
    return ["cross", _spec(place, **SPILLS), "--arch", "sm_90a", "--triton", ",".join(_two_tritons()), "--json"]


def _bisect(place: Place) -> list[str]:
    return ["bisect", _spec(place, **SPILLS), "--arch", "sm_90a", "--axis", "ptxas", "--json"]


def _gate(place: Place) -> list[str]:
    baseline = str(place.work / "base.csv")
    return ["gate", _spec(place), "--arch", "sm_80,sm_90a", "--baseline", baseline, "--write", "--json"]


def _install(place: Place) -> list[str]:
    with zipfile.ZipFile(place.work / WHEEL, "w") as wheel:
        wheel.writestr("triton/__init__.py", "__version__ = '9.9.9'\n")
        for number in range(300):
            wheel.writestr(f"triton/part_{number}.py", f"x = {number}\n" * 200)
        wheel.writestr("triton-9.9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: triton\nVersion: 9.9.9\n")
        wheel.writestr("triton-9.9.9.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\nRoot-Is-Purelib: true\n")
        wheel.writestr("triton-9.9.9.dist-info/RECORD", "")
    return ["toolchains", "install", "triton==9.9.9", "--json"]


def _capture(place: Place) -> list[str]:
    (place.work / "offset.py").write_text("import triton.language as tl\nOFFSET = tl.constexpr(1.0)\n")
    (place.work / "kernels_of_mine.py").write_text(KERNELS)
    (place.work / "torch_like.py").write_text("from triton.runtime.jit import MockTensor\nx = MockTensor('fp32')\n")
    (place.work / "program.py").write_text(FAKE_DRIVER + "import triton.language as tl\n" + PROGRAM)
    program = ["env", f"TMPDIR={place.program_tmp}", sys.executable, str(place.work / "program.py")]
    return ["capture", "-o", str(place.work / "specs"), "--json", "--", *program]


VERBS: dict[str, Callable[[Place], list[str]]] = {
    "compile": _compile, "matrix": _matrix, "minimize": _minimize, "ablate": _ablate, "try": _try,
    "autotune": _autotune, "audit": _audit, "report": _report, "cross": _cross, "bisect": _bisect, "gate": _gate,
    "toolchains install": _install, "capture": _capture,
}  # fmt: skip
# The program that `capture` runs is the user's: it ends by itself.
ENDS_BY_ITSELF_S = {"capture": 30.0}


# --- one run ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, what it printed, seconds."""

    code: int | None
    out: str
    err: str
    seconds: float


def run_verb(
    place: Place, words: list[str], mark: str, *, kill_after: float = 0.0, number: int = 0, under: tuple[str, ...] = ()
) -> Ended:
    """Run a verb to its end, or send it a signal after some seconds; it is over when its own process is.

    `under` is a command that runs the verb as its last words.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [*under, sys.executable, *PROGRAM_OF_VERBS, *words], cwd=place.work, env=place.environment(mark),
            stdout=out, stderr=err, stdin=subprocess.DEVNULL, preexec_fn=hear_signals,
        )  # fmt: skip
        code: int | None
        try:
            code = process.wait(kill_after if number else LONGEST_S)
        except subprocess.TimeoutExpired:
            process.send_signal(number or signal.SIGKILL)
            try:
                code = process.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                code = None
                process.kill()
                process.wait()
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read())
    return Ended(code, said[0], said[1], time.monotonic() - began)


def marked(mark: str) -> dict[int, str]:
    """Processes with the mark in their environment: their number, and the beginning of their command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(entry.name)] = line[:160]
        except OSError:
            continue  # it ended while we looked, or is another user's
    return found


def orphans(mark: str, within_s: float) -> dict[int, str]:
    """Processes of a run that are still there after so many seconds; they are ended."""
    deadline = time.monotonic() + within_s
    while (found := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for number in found:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return found


def result_of(place: Place, ended: Ended) -> object:
    """What a run came to, without times and the place's own name: its exit code, its JSON, its files' content."""
    try:
        said: object = json.loads(ended.out)
    except ValueError:
        said = ended.out
    files = {}
    for path in sorted(place.work.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.name not in ("state.json", WHEEL):
            files[str(path.relative_to(place.work))] = _content(path)
    found = json.dumps([ended.code, _steady(said), files], sort_keys=True)
    return json.loads(found.replace(str(place.folder), "PLACE"))


def _steady(value: object) -> object:
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if not _VARYING.search(str(k))}
    return [_steady(v) for v in value] if isinstance(value, list) else value


def _content(path: Path) -> object:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist())
    text = path.read_text(errors="replace")
    if path.suffix == ".csv":
        rows = [line.split(",") for line in text.splitlines()]
        keep = [n for n, name in enumerate(rows[0]) if not _VARYING.search(name)]
        return [[row[n] for n in keep if n < len(row)] for row in rows]
    if path.suffix == ".md":
        return bool(text)
    return text if path.suffix != ".json" else _steady(json.loads(text))


# --- the hunt --------------------------------------------------------------------------------------------------


class Killing:
    """Chains of one verb in a folder of its own; `reference` is what an undisturbed run comes to."""

    def __init__(self, verb: str, folder: Path) -> None:
        self.verb, self.place = verb, Place(folder)
        words = self.place.begin(VERBS[verb])
        first = run_verb(self.place, words, uuid.uuid4().hex)
        if first.code != 0:
            raise RuntimeError(f"{verb} does not end well undisturbed ({first.code}): {first.err[-800:]}")
        self.seconds, self.reference = first.seconds, result_of(self.place, first)
        self.quiet_crumbs = self.place.crumbs()

    def chain(self, rng: random.Random, told: Callable[[str, float], bool]) -> None:
        """Kill, look, start again, until it comes to its end; `told` hears of each kill and says whether to go on."""
        words = self.place.begin(VERBS[self.verb])
        for count in itertools.count():
            mark, number = uuid.uuid4().hex, (signal.SIGTERM, signal.SIGKILL)[(count + rng.randrange(2)) % 2]
            before, after = self.place.crumbs(), rng.uniform(0.02, self.seconds)
            ended = run_verb(self.place, words, mark, kill_after=after, number=number)
            if ended.code == 0:
                told(self._end(words, ended), 0.0)
                return
            wrong = self.wrong_at_the_kill(ended, mark, number, before)
            self.place.age()
            if not told(wrong and f"{self.verb}, {number.name} after {after:.2f} s: {wrong}", ended.seconds - after):
                ended = run_verb(self.place, words, uuid.uuid4().hex)
                told(self._end(words, ended), 0.0)
                return

    def wrong_at_the_kill(self, ended: Ended, mark: str, number: int, before: set[str]) -> str:
        left = orphans(mark, ENDS_BY_ITSELF_S.get(self.verb, GONE_WITHIN_S))
        if left:
            return f"orphans: {left}"
        if ended.code is None:
            return f"did not end within {ENDS_WITHIN_S:g} s"
        # 128 + the signal's number, or by the signal itself where Python had not begun to listen.
        if ended.code not in (128 + number, -number):
            return f"ended with {ended.code}: {ended.err[-400:]}"
        if number == signal.SIGTERM and "Traceback" in ended.err:
            return f"a traceback: {ended.err[-800:]}"
        if number == signal.SIGTERM and (new := self.place.crumbs() - before - self.quiet_crumbs):
            return f"left behind: {sorted(new)}"
        return ""

    def _end(self, words: list[str], ended: Ended) -> str:
        """What is wrong with the end of a chain."""
        if ended.code != 0:
            return f"{self.verb}, started again, ended with {ended.code}: {ended.err[-800:]}"
        if (found := result_of(self.place, ended)) != self.reference:
            return f"{self.verb}, started again, came to another result: {_difference(self.reference, found)}"
        if left := self.place.crumbs() - self.quiet_crumbs:
            self.place.age()
            run_verb(self.place, words, uuid.uuid4().hex)
            if still := left & self.place.crumbs():
                return f"{self.verb}: left behind after the next start: {sorted(still)}"
        return ""


def _difference(wanted: object, found: object) -> str:
    for a, b in zip(json.dumps(wanted, indent=0).splitlines(), json.dumps(found, indent=0).splitlines(), strict=False):
        if a != b:
            return f"{a[:300]} was expected, {b[:300]} came"
    return "one of them goes on where the other ends"


def hunt_kills(verb: str, seed: int, go_on: Callable[[str], bool]) -> Outcome:
    """Chains of kills of one verb as long as it may; the count is of kills, not of the ends that were compared."""
    found, rng = Outcome(), random.Random(f"{verb}-{seed}")
    with tempfile.TemporaryDirectory(prefix="hunt-kills-") as scratch:
        killing = Killing(verb, Path(scratch) / "place")
        going = True

        def told(wrong: str, seconds: float) -> bool:
            nonlocal going
            if seconds:
                found.count(wrong, seconds)
                going = go_on(wrong)
            elif wrong:
                found.faults.append(wrong)
                go_on(wrong)
            return going

        while going:
            killing.chain(rng, told)
    return found

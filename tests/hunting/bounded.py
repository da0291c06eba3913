"""A reader in a process of its own, within limits, so that a hang or a full memory is told and the hunt goes on.

`python -m tests.hunting.bounded MODULE` is the worker, with the READERS of that module: a line `NUMBER SEED KIND` on
its stdin is an input to make and to read, a line of JSON on its stdout what came of it. `Bounded` is the other side: it
watches the worker's processor time and memory, ends it where one is over, and starts another.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Seconds of the worker's own work: a busy machine is no hang. Whoever waits without working has longer.
MOST_CPU_S = 5.0
MOST_WAITED_S = 60.0
MOST_RESIDENT_MB = 2_048
_ADDRESS_SPACE = 12 << 30
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Read:
    """How one input was read: what was wrong ("" for nothing), processor seconds, the worker's peak of memory."""

    kind: str
    seed: int
    number: int
    wrong: str
    cpu_s: float
    peak_mb: float

    def words(self) -> str:
        """The fault, and how to have it again."""
        return f"{self.kind}, seed {self.seed}, number {self.number}: {self.wrong}"


class Bounded:
    """One worker at a time; `read` gives it an input and waits for the answer, within the limits."""

    def __init__(
        self,
        *,
        readers: str = "tests.hunting.readers",
        cpu_s: float = MOST_CPU_S,
        wall_s: float = MOST_WAITED_S,
        resident_mb: float = MOST_RESIDENT_MB,
    ) -> None:
        self.readers = readers
        self.cpu_s, self.wall_s, self.resident_mb = cpu_s, wall_s, resident_mb
        self._worker: subprocess.Popen[str] | None = None
        self._place = tempfile.mkdtemp(prefix="hunt-")

    def __enter__(self) -> Bounded:
        return self

    def __exit__(self, *_how: object) -> None:
        self._end()
        shutil.rmtree(self._place, ignore_errors=True)

    def read(self, kind: str, seed: int, number: int) -> Read:
        """Have one input read."""
        if self._worker is None:
            self._start()
        worker = self._worker
        assert worker is not None and worker.stdin is not None and worker.stdout is not None
        before, began = _cpu_of(worker.pid), time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has ended: that is read below
            worker.stdin.write(f"{number} {seed} {kind}\n")
            worker.stdin.flush()
        peak, wrong = 0.0, ""
        while not select.select([worker.stdout], [], [], 0.1)[0]:
            spent, waited = _cpu_of(worker.pid) - before, time.monotonic() - began
            peak = max(peak, _resident_mb(worker.pid))
            if peak > self.resident_mb:
                wrong = f"over {self.resident_mb:g} MB in memory"
            elif spent > self.cpu_s or waited > self.wall_s:
                wrong = f"not ended after {spent:.1f} s of work, {waited:.1f} s by the clock"
            if wrong:
                stack = _where(worker)
                self._end()
                return Read(kind, seed, number, f"{wrong}{stack}", spent, peak)
        line = worker.stdout.readline()
        if not line:
            code = worker.wait()
            self._errors.seek(0)
            last = self._errors.read()[-600:]
            self._end()
            wrong = f"the reading process ended with {code}: {last}"
            return Read(kind, seed, number, wrong, time.monotonic() - began, peak)
        said = json.loads(line)
        if not said["wrong"] and said["cpu_s"] > self.cpu_s:
            said["wrong"] = f"took {said['cpu_s']:.1f} s of work"
        if not said["wrong"] and said["peak_mb"] > self.resident_mb:
            said["wrong"] = f"took {said['peak_mb']:.0f} MB"
            self._end()  # its peak stays
        return Read(kind, seed, number, said["wrong"], said["cpu_s"], said["peak_mb"])

    def _start(self) -> None:
        environment = {**os.environ, "TMPDIR": self._place, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1",
                       "REGISTER_CLIFF_CACHE": str(Path(self._place) / "cache")}  # fmt: skip
        self._errors = open(Path(self._place) / "stderr", "w+")
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "tests.hunting.bounded", self.readers], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True,
        )  # fmt: skip
        assert self._worker.stdout is not None
        self._worker.stdout.readline()  # its imports are done

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        worker.wait()
        for stream in (worker.stdin, worker.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


def _where(worker: subprocess.Popen[str]) -> str:
    """The place in our source where a worker is, as its fault handler tells it at SIGUSR1; "" where it cannot."""
    path = Path(f"/proc/{worker.pid}/fd/2").resolve()
    before = path.stat().st_size if path.is_file() else 0
    worker.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    try:
        lines = path.read_text(errors="replace")[before:].splitlines()
    except OSError:
        return ""
    return "".join(f"\n    {line.strip()}" for line in lines if "/helpers/" in line)[:1_500]


def _cpu_of(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return 0.0


def _resident_mb(process: int) -> float:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except (OSError, IndexError):
        return 0.0


# --- the worker ----------------------------------------------------------------------------------------------


def main() -> int:
    """Read one input after the other, as long as there are lines."""
    import faulthandler

    from tests.hunting.mutants import mutant

    readers = importlib.import_module(sys.argv[1]).READERS
    faulthandler.register(signal.SIGUSR1)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a reader prints is no answer
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        number, seed, kind = line.rstrip("\n").split(" ", 2)
        with tempfile.TemporaryDirectory(prefix="input-") as scratch:
            folder = Path(scratch)
            for name, content in mutant(kind, int(seed), int(number)).items():
                (folder / name).write_bytes(content)
            os.chdir(folder)
            began, wrong = time.process_time(), ""
            try:
                readers[kind](folder)
            except Exception:
                wrong = traceback.format_exc(limit=-6)[-3_000:]
            spent = time.process_time() - began
            os.chdir(ROOT)
        peak = _peak_mb()
        answer = {"wrong": wrong, "cpu_s": round(spent, 3), "peak_mb": round(peak)}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def _peak_mb() -> float:
    """The most that this process had resident. `ru_maxrss` begins with what the process had that it was forked from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_000
    return 0.0


if __name__ == "__main__":
    sys.exit(main())

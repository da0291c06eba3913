"""Nothing is left behind: children die with their parent, signals end a verb in order, crumbs are swept."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers.compiler.toolchain import environment_triton, triton_folder
from helpers.files import CACHE_ENV, ROOT, staged_folder
from helpers.processes import (
    PREFIX,
    YOUNGEST_BARE_S,
    Stopped,
    end_with_parent,
    scratch_folder,
    stoppable,
    sweep,
    wait_for_end,
)
from tests.compiling import hear_signals

SLEEP = "97.31"


def gone(look, word: str, within_s: float = 3.0) -> bool:
    """Whether no process has the word in its command line, within so many seconds."""
    deadline = time.monotonic() + within_s
    while look(word) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not look(word)


def until(there, within_s: float = 60.0) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + within_s
    while not there() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert there()


@pytest.fixture
def hanging(own_cache, fake_ptxas, write_kernel, tmp_path, processes_of):
    """A verb that waits for a ptxas that hangs: (process, its marker in the list of processes, its TMPDIR)."""
    marker = f"{SLEEP}{os.getpid()}"
    version = fake_ptxas(f"exec sleep {marker}")
    spec = tmp_path / "spec.json"
    spec.write_text(write_kernel().to_json())
    place = tmp_path / "tmp"
    place.mkdir()
    words = [sys.executable, "-m", "helpers", "compile", str(spec), "--arch", "sm_90a", "--ptxas", version,
             "--trust-root", str(tmp_path)]  # fmt: skip
    env = {**os.environ, CACHE_ENV: str(own_cache), "TMPDIR": str(place)}
    process = subprocess.Popen(words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=hear_signals)  # fmt: skip
    try:
        until(lambda: processes_of(marker) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        yield process, marker, place
    finally:
        process.kill()
        process.communicate()
        for number in processes_of(marker):
            os.kill(number, signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_verb_with_its_children_and_its_scratch_files(hanging, processes_of, number, code):
    process, marker, place = hanging
    process.send_signal(number)
    _out, told = process.communicate(timeout=20)
    assert process.returncode == code and "Traceback" not in told, told
    assert ("interrupted" if number == signal.SIGINT else f"stopped by {number.name}") in told
    assert gone(processes_of, marker) and not list(place.glob("register-cliff-*"))


@pytest.mark.parametrize("verb", ["compile", "matrix", "cross", "bisect"])
def test_an_interrupt_while_workers_start_is_answered_at_once(own_cache, write_kernel, tmp_path, processes_of, verb):
    site = triton_folder("9.9.9")
    (site / "triton").mkdir(parents=True)
    (site / "triton" / "__init__.py").write_text("import time\ntime.sleep(60)\n__version__ = '9.9.9'\n")
    (site / "triton" / "_C").symlink_to(environment_triton().path / "triton" / "_C")
    spec = tmp_path / "spec.json"
    spec.write_text(write_kernel().to_json())
    words = [sys.executable, "-m", "helpers", verb, str(spec), "--arch", "sm_90a", "--trust-root", str(tmp_path)]
    words += {"cross": ["--triton", "9.9.9,3.7.1"], "bisect": []}.get(verb, ["--triton", "9.9.9"])
    env = {**os.environ, CACHE_ENV: str(own_cache), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=hear_signals)  # fmt: skip
    try:
        until(lambda: _starting(site) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        workers = _starting(site)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _out, told = process.communicate(timeout=60)
        assert time.monotonic() - began < 2 and process.returncode == 130, (time.monotonic() - began, told)
        assert "Traceback" not in told and "interrupted" in told, told
        assert not set(workers) & set(_starting(site))
    finally:
        process.kill()
        process.communicate()


def _starting(site: Path) -> list[int]:
    """The workers that import the Triton of a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines = (entry / "environ").read_bytes()
            if f"PYTHONPATH={site}\0".encode() in lines + b"\0" and b"worker.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_a_killed_verb_takes_its_ptxas_along_and_its_crumbs_go_at_the_next_start(hanging, processes_of):
    process, marker, place = hanging
    process.kill()
    process.communicate()
    assert gone(processes_of, marker)
    crumbs = list(place.glob(f"{PREFIX}*"))
    assert crumbs, "the killed verb could not remove its folder"
    assert sweep(place) == 0, "a young folder may be somebody's who has not locked it yet"
    for folder in crumbs:
        os.utime(folder, (1, 1))
    assert sweep(place) == len(crumbs) and not list(place.glob(f"{PREFIX}*"))


def test_a_folder_in_use_is_not_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder("a") as folder:
        (folder / "kernel.ptx").write_text("x")
        os.utime(folder, (1, 1))
        assert sweep(tmp_path) == 0 and (folder / "kernel.ptx").exists()
    assert not folder.exists()
    other = tmp_path / f"{PREFIX}b"
    other.mkdir()
    with open(other / ".in-use", "w") as lock:
        os.utime(other, (1, 1))
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep(tmp_path) == 0
    assert sweep(tmp_path) == 1 and not other.exists()
    # What is not ours to judge stays: another name, a link.
    (tmp_path / "somebody").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "somebody")
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
    assert sweep(tmp_path) == 0 and len(list(tmp_path.iterdir())) == 2
    assert sweep(tmp_path / "nowhere") == 0


def test_a_folder_whose_owner_was_killed_before_it_locked_it_is_swept_once_it_is_old(tmp_path):
    bare, now = tmp_path / f"{PREFIX}bare", time.time()
    (bare / "half").mkdir(parents=True)
    os.utime(bare, (now, now - YOUNGEST_BARE_S / 2))
    assert sweep(tmp_path) == 0 and bare.is_dir()
    os.utime(bare, (now, now - YOUNGEST_BARE_S - 1))
    assert sweep(tmp_path) == 1 and not bare.exists()


@pytest.mark.parametrize("words", [["compile", "{spec}", "--arch", "sm_90a"], ["diagnose", "{log}"]])
def test_every_verb_sweeps_at_its_start_also_one_whose_answer_is_there(own_cache, write_kernel, tmp_path, words):
    place, spec, log = tmp_path / "tmp", tmp_path / "spec.json", tmp_path / "log"
    place.mkdir()
    spec.write_text(write_kernel().to_json())
    log.write_text("ptxas fatal   : (C7600) Register allocation failed with register count of '255'.\n")
    line = [sys.executable, "-m", "helpers", *(word.format(spec=spec, log=log) for word in words)]
    line += ["--trust-root", str(tmp_path)] if words[0] == "compile" else []
    env = {**os.environ, CACHE_ENV: str(own_cache), "TMPDIR": str(place)}
    for _once_more in range(2):
        left, half = place / f"{PREFIX}workers-x", own_cache / "codegen" / ".ab-x"
        for folder in (left, half):
            (folder / "y").mkdir(parents=True)
            (folder / ".in-use").touch()
            os.utime(folder, (1, 1))
        done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not left.exists() and not half.exists()


def run_python(code: str, place: Path, **env: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, cwd=ROOT, env={**os.environ, "TMPDIR": str(place), **env}, text=True, check=True,
                          capture_output=True)  # fmt: skip


def test_a_folder_of_a_session_is_one_and_ends_with_it(tmp_path):
    code = """
import os, sys
from helpers.processes import session_folder, sweep
folder = session_folder("a")
assert session_folder("a") == folder != session_folder("b") and folder.is_dir()
os.utime(folder, (1, 1))
assert sweep(folder.parent) == 0 and folder.is_dir()
if os.fork() == 0:
    assert session_folder("a") != folder
    sys.exit()
os.wait()
assert folder.is_dir(), "a child that ends takes nothing of its parent's along"
print(*(path.name for path in folder.parent.iterdir()))
"""
    done = run_python(code, tmp_path)
    assert len(done.stdout.split()) == 2 and all(name.startswith(PREFIX) for name in done.stdout.split())
    assert list(tmp_path.iterdir()) == []


def test_the_cache_that_stands_in_for_one_that_cannot_be_written_ends_with_its_session(tmp_path):
    place, there = tmp_path / "tmp", tmp_path / "file"
    place.mkdir()
    there.touch()
    code = """
from helpers.compiler import cache
print(cache.write("codegen", "ab" * 32, {"n": 1}, {"f": b"x"})["folder"])
assert cache.read("codegen", "ab" * 32)["n"] == 1
"""
    done = run_python(code, place, **{CACHE_ENV: str(there)})
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(place) and f"{PREFIX}cache" in str(folder) and "removed at the end" in done.stderr
    assert list(place.iterdir()) == []


WORKER = """
import os, signal, sys
from helpers.compiler.toolchain import resolve_triton
from helpers.compiler.worker.pool import POOL
with POOL.borrow(resolve_triton("environment")) as worker:
    asked = {"spec": {"kernel": {"path": sys.argv[1], "name": "k", "import_root": "/", "files": [], "source_hash": ""},
             "signature": [], "constexprs": [], "divisible_by_16": [], "options": []}, "capability": 90}
    print(worker.ask(asked, 60)["error"])
    sys.stdout.flush()
    if len(sys.argv) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    worker.kill()
print(sum(1 for _ in os.walk(os.environ["TMPDIR"])))
"""


@pytest.fixture
def crumbs(tmp_path):
    """(a kernel's file that leaves files wherever it can, the folder for temporary files)."""
    place, kernel = tmp_path / "tmp", tmp_path / "kernel.py"
    place.mkdir()
    kernel.write_text(
        "import os, tempfile\ntempfile.mkdtemp()\ntempfile.mkstemp()\nopen('here', 'w').close()\n"
        "raise ValueError(os.getcwd() + ' ' + tempfile.gettempdir())\n"
    )
    return kernel, place


def test_what_a_worker_leaves_goes_with_it(crumbs):
    kernel, place = crumbs
    words = [sys.executable, "-c", WORKER, str(kernel)]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "TMPDIR": str(place)}, text=True, capture_output=True)
    said, left = done.stdout.splitlines()
    here, there = said.split()
    assert here == there and Path(here).is_relative_to(place), done
    assert left == "2", "the folder of the session and the root alone are left while it lives"
    assert list(place.iterdir()) == []


def test_what_a_killed_session_and_its_workers_leave_is_swept(crumbs):
    kernel, place = crumbs
    words = [sys.executable, "-c", WORKER, str(kernel), "and be killed"]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "TMPDIR": str(place)}, text=True, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    left = list(place.iterdir())
    assert left and all(path.name.startswith(PREFIX) for path in left), left
    for path in left:
        os.utime(path, (1, 1))
    assert sweep(place) == len(left) and list(place.iterdir()) == []


def test_no_scratch_folder_is_made_where_the_sweep_does_not_look():
    texts = {path: path.read_text() for path in (ROOT / "helpers").rglob("*.py")}
    elsewhere = {path.relative_to(ROOT).as_posix() for path, text in texts.items()
                 if "TemporaryDirectory(" in text or "mkdtemp(prefix=" in text}  # fmt: skip
    # What runs in a worker is in the worker's own folder; what is renamed into place lies beside that place; a result
    # that is kept is no scratch; the script of a bundle has nothing of ours.
    assert elsewhere == {
        "helpers/processes.py", "helpers/files.py", "helpers/compiler/worker/worker.py",
        "helpers/bundle/compile_again.py", "helpers/attention/peers.py", "helpers/commands/line/output.py",
    }  # fmt: skip


STAGED = """
import os, signal, sys, time
from pathlib import Path
from helpers.files import staged_folder
with staged_folder(Path(sys.argv[1])) as scratch:
    (scratch / "half").write_text("x")
    print(scratch, flush=True)
    time.sleep(60)
"""


def test_half_an_entry_of_a_killed_process_goes_when_the_entry_is_made(tmp_path):
    final = tmp_path / "entry[1]"
    words = [sys.executable, "-c", STAGED, str(final)]
    with subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE) as killed:
        half = Path(killed.stdout.readline().strip())
        os.utime(half, (1, 1))
        with staged_folder(final) as scratch:
            (scratch / "f").touch()
        assert half.is_dir(), "somebody is still at it"
        shutil.rmtree(final)
        killed.kill()
    grave, young, other = tmp_path / ".discard-x", tmp_path / ".entry[1]-y", tmp_path / ".another-z"
    for folder in (grave, young, other):
        folder.mkdir()
    os.utime(grave, (1, 1))
    os.utime(other, (1, 1))
    with staged_folder(final) as scratch:
        (scratch / "f").touch()
    assert {path.name for path in tmp_path.iterdir()} == {final.name, young.name}


def test_a_child_of_a_thread_that_waits_lives_on_and_ends_with_it():
    ended = []

    def wait() -> None:
        child = subprocess.Popen(["sleep", "0.3"], preexec_fn=end_with_parent())
        ended.append(child.wait())

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(10)
    assert ended == [0]


def test_signals_are_taken_for_the_block_alone_and_only_where_nobody_has_them():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(Stopped) as caught, stoppable() as stop:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        assert caught.value.number == stop.number == signal.SIGTERM and str(caught.value) == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert isinstance(caught.value, KeyboardInterrupt)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(_in_thread()))
    thread.start()
    thread.join()
    assert seen == [before]


def _in_thread() -> object:
    with stoppable():
        return signal.getsignal(signal.SIGTERM)


def test_nothing_heavy_is_loaded_for_it():
    code = (
        "import sys, json, helpers.processes\nprint(json.dumps([m for m in ('ctypes', 'asyncio') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert Path(ROOT / "helpers" / "processes.py").is_file()


# --- how a process ends, told at once --------------------------------------------------------------------------------


def test_an_end_is_told_with_its_code_and_a_timeout_leaves_the_process():
    assert wait_for_end(subprocess.Popen(["sh", "-c", "exit 7"]), 20) == 7
    process = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(subprocess.TimeoutExpired) as told:
            wait_for_end(process, 0.05)
        assert told.value.timeout == 0.05 and process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            wait_for_end(process, -1)
    finally:
        process.kill()
    assert wait_for_end(process, float("1e12")) == -signal.SIGKILL
    assert wait_for_end(process, 0.0) == -signal.SIGKILL, "one that was collected before"


def test_without_a_handle_of_the_process_its_end_is_told_too(monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", none)
    assert wait_for_end(subprocess.Popen(["sh", "-c", "exit 7"]), 20) == 7
    process = subprocess.Popen(["sleep", "60"])
    with pytest.raises(subprocess.TimeoutExpired):
        wait_for_end(process, 0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_nobody_naps_while_a_process_ends(monkeypatch):
    """Python's own wait naps with `time.sleep`; nothing here does."""
    naps = []
    monkeypatch.setattr(subprocess.time, "sleep", naps.append)
    assert wait_for_end(subprocess.Popen(["sleep", "0.05"]), 20) == 0 and naps == []

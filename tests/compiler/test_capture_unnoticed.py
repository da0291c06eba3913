"""Capture in programs as they are: they ask for Triton before they load it, fork, hand their path on, catch signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from helpers.commands.capture import Seen, format_recorded, in_foreground
from helpers.files import ROOT
from tests.capturing import FAKE_DRIVER, KERNELS
from tests.compiling import hear_signals

LAUNCH = "add[(1,)](MockTensor(tl.float32), 8, MockTensor(tl.float32), DTYPE=tl.float32, BAD='none', BLOCK=128)\n"


@pytest.fixture
def program(tmp_path):
    """Write a program beside the kernels and a driver that launches nothing; `launching` imports Triton."""
    (tmp_path / "offset.py").write_text("import triton.language as tl\nOFFSET = tl.constexpr(1.0)\n")
    (tmp_path / "kernels_of_mine.py").write_text(KERNELS)
    (tmp_path / "launching.py").write_text(
        FAKE_DRIVER + "import triton.language as tl\nfrom kernels_of_mine import add\ndef launch():\n    " + LAUNCH
    )

    def write(body: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(body))
        return path

    return write


def command(folder: Path, program: Path, *python: str) -> list[str]:
    return [sys.executable, "-m", "helpers", "capture", "-o", str(folder), "--", sys.executable, *python, str(program)]


def environment(folder: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "PYTHON", "REGISTER_CLIFF_MARKS"))}
    return env | {"TRITON_CACHE_DIR": str(folder / "triton_cache"), "PYTHONPATH": str(ROOT)}


def captured(folder: Path, program: Path, *python: str) -> tuple[subprocess.CompletedProcess, list[dict]]:
    done = subprocess.run(command(folder / "specs", program, *python), cwd=folder, env=environment(folder),
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    return done, [json.loads(path.read_text()) for path in sorted((folder / "specs").glob("*.json"))]


@pytest.mark.parametrize(
    "question",
    [
        "import importlib.util\nassert importlib.util.find_spec('triton') is not None",
        "import importlib.util\nfor _ in range(3): importlib.util.find_spec('triton')",
        "from importlib.machinery import PathFinder\nPathFinder.find_spec('triton')",
        "import importlib.util\nimportlib.util.find_spec('triton').loader.get_source('triton')",
    ],
)
def test_a_question_for_triton_does_not_end_the_listening(program, tmp_path, question):
    done, specs = captured(tmp_path, program(f"{question}\nfrom launching import launch\nlaunch()"))
    assert done.returncode == 0, done.stderr
    assert [spec["kernel"]["name"] for spec in specs] == ["add"] and "1 specialisations" in done.stderr


FINDERS = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class Own:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, path, target) if name == "triton" else None
"""


def test_a_finder_of_the_programs_own_before_ours_does_not_hide_triton(program, tmp_path):
    body = f"{FINDERS}\nsys.meta_path.insert(0, Own())\nfrom launching import launch\nlaunch()"
    done, specs = captured(tmp_path, program(body))
    assert done.returncode == 0, done.stderr
    assert [spec["kernel"]["name"] for spec in specs] == ["add"] and "not all was recorded" not in done.stderr


def test_a_program_that_takes_our_finder_away_is_told_so(program, tmp_path):
    body = f"{FINDERS}\nsys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]\n"
    done, specs = captured(tmp_path, program(f"{body}from launching import launch\nlaunch()"))
    assert done.returncode == 0 and specs == [], done.stderr
    assert "one process of a program that has import finders of its own" in done.stderr
    assert "no process of the program was seen" not in done.stderr and "what was compiled is not known" in done.stderr


def test_the_loader_is_the_programs_own_again(program, tmp_path):
    body = """
    import triton, sys
    assert "exec_module" not in vars(triton.__spec__.loader), vars(triton.__spec__.loader)
    assert not any(type(finder).__name__ == "_AfterTriton" for finder in sys.meta_path)
    from launching import launch
    launch()
    """
    done, specs = captured(tmp_path, program(body))
    assert done.returncode == 0, done.stderr
    assert len(specs) == 1


def test_a_child_that_gets_its_path_from_sys_path_is_recorded(program, tmp_path):
    """As Inductor starts its compile workers: PYTHONPATH is what sys.path was."""
    body = """
    import os, subprocess, sys
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", "from launching import launch; launch()"], env=env, check=True)
    """
    done, specs = captured(tmp_path, program(body))
    assert done.returncode == 0, done.stderr
    assert len(specs) == 1


def test_forked_children_are_not_stuck_on_a_lock_that_a_thread_held(program, tmp_path):
    body = """
    import os, sys, threading
    from launching import launch
    capture = sys.modules.get("helpers")
    launch()
    import gc
    recordings = [o for o in gc.get_objects() if type(o).__name__ == "Capture"]
    assert len(recordings) == 1
    held, go = threading.Event(), threading.Event()
    def hold():
        with recordings[0]._lock:
            held.set()
            go.wait(60)
    threading.Thread(target=hold, daemon=True).start()
    held.wait(10)
    children = []
    for _ in range(20):
        child = os.fork()
        if not child:
            import signal
            signal.alarm(20)
            recordings[0].record(None, None, None, stage="launch")
            with recordings[0]._lock:
                os._exit(0)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    go.set()
    assert codes == [0] * 20, codes
    """
    done, _specs = captured(tmp_path, program(body))
    assert done.returncode == 0, done.stderr


def test_no_warning_of_ours_becomes_an_exception_of_the_program(program, tmp_path):
    body = """
    from launching import launch
    import os
    os.chmod(os.environ["REGISTER_CLIFF_CAPTURE"], 0o755)
    import builtins, gc
    recording = next(o for o in gc.get_objects() if type(o).__name__ == "Capture")
    def fails(*args): raise OSError("no space left on this device")
    recording._record = fails
    launch()
    print("went on")
    """
    done, specs = captured(tmp_path, program(body), "-W", "error")
    assert done.returncode == 0 and "went on" in done.stdout, done.stderr
    assert not specs and "not all was recorded" in done.stderr and "no space left" in done.stderr
    assert "what it compiled could not be recorded" in done.stderr


def test_a_program_that_makes_errors_of_encoding_warnings_goes_on(program, tmp_path):
    body = "import triton\nprint('went on')"
    strict = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning:sitecustomize")
    done, _ = captured(tmp_path, program(body), *strict)
    assert done.returncode == 0 and "went on" in done.stdout, done.stderr
    assert "EncodingWarning" not in done.stderr and "Triton was loaded by one process" in done.stderr


ASYNC = """
import concurrent.futures, triton
from launching import MockTensor, add, tl
from triton.runtime._async_compile import AsyncCompileMode

def launch(bad):
    add.warmup(MockTensor(tl.float32), 8, MockTensor(tl.float32), DTYPE=tl.float32, BAD=bad, BLOCK=128, grid=(1,))

with concurrent.futures.ThreadPoolExecutor(2) as pool:
    with AsyncCompileMode(pool, ignore_errors=True):
        for bad in ("name", "none"):
            launch(bad)
        print("asked for both", flush=True)
    print("went on", flush=True)
"""


def test_a_compile_that_fails_in_the_background_fails_where_it_would(program, tmp_path):
    path = program(ASYNC)
    alone = subprocess.run([sys.executable, str(path)], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
                           text=True, timeout=300)  # fmt: skip
    done, specs = captured(tmp_path, path)
    assert (done.returncode, done.stdout) == (alone.returncode, alone.stdout), done.stderr
    assert alone.stdout == "asked for both\nwent on\n", alone.stderr
    assert sorted(spec["capture"]["outcome"] for spec in specs) == ["compiled", "failed"]


def test_a_recording_that_breaks_is_no_business_of_the_program(program, tmp_path):
    body = """
    import gc
    from launching import launch
    launch()
    recording = next(o for o in gc.get_objects() if type(o).__name__ == "Capture")
    def breaks(*args, **kwargs): raise RuntimeError("planted")
    recording.launched = breaks
    launch()
    print("went on")
    """
    done, _specs = captured(tmp_path, program(body))
    assert done.returncode == 0 and "went on" in done.stdout, done.stderr
    assert "not all was recorded" in done.stderr and "planted" in done.stderr


def test_kernels_are_not_kept_alive(program, tmp_path):
    body = """
    import gc, weakref
    import launching, triton
    from launching import launch
    launch()
    kernels = [weakref.ref(o) for o in gc.get_objects() if type(o).__name__ == "CompiledKernel"]
    assert kernels
    launching.add.device_caches.clear()
    gc.collect()
    assert not any(kernel() for kernel in kernels), "a kernel is kept"
    """
    done, specs = captured(tmp_path, program(body))
    assert done.returncode == 0, done.stderr
    assert len(specs) == 1


# --- signals and exit codes -----------------------------------------------------------------------------------------


SLOW_TO_END = """
import os, signal, sys, time
def ended(number, frame):
    time.sleep(1.2)  # longer than subprocess.run gives a child after Ctrl-C
    os.write(1, f"ended in order by {signal.Signals(number).name}".encode())
    os._exit(7)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), ended)
os.write(1, b"ready" + bytes([10]))
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on_and_the_exit_code_is_the_programs_own(program, tmp_path, number):
    with subprocess.Popen(
        command(tmp_path / "specs", program(SLOW_TO_END)), cwd=tmp_path, env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=hear_signals,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, told = process.communicate(timeout=30)
    assert process.returncode == 7, told
    assert out.strip() == f"ended in order by {number.name}" and "Traceback" not in told


def test_a_program_ended_by_a_signal_is_told_as_a_shell_tells_it(program, tmp_path):
    done, _specs = captured(tmp_path, program("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))
    assert done.returncode == 128 + signal.SIGKILL
    done, _specs = captured(tmp_path, program("raise SystemExit(3)"))
    assert done.returncode == 3


def test_what_the_caller_ignores_stays_ignored(program, tmp_path):
    body = "import signal\nprint(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    done = subprocess.run(
        command(tmp_path / "specs", program(body)), cwd=tmp_path, env=environment(tmp_path), text=True,
        capture_output=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert done.stdout.strip() == "True", done.stderr


def test_without_a_terminal_nothing_is_in_its_foreground():
    code = "from helpers.commands.capture import in_foreground\nprint(in_foreground())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, start_new_session=True
    )
    assert done.stdout.strip() == "False", done.stderr
    assert isinstance(in_foreground(), bool)


# --- last words -----------------------------------------------------------------------------------------------------


def test_last_words_say_what_was_seen(program, tmp_path):
    done, _ = captured(tmp_path, program("print('no kernels here')"))
    assert "no process of the program was seen to load Triton" in done.stderr
    done, _ = captured(tmp_path, program("import importlib.util\nimportlib.util.find_spec('triton')"))
    assert "no process of the program was seen to load Triton" in done.stderr
    done, _ = captured(tmp_path, program("import triton"))
    assert "Triton was loaded by one process, and no kernel was compiled or launched" in done.stderr


def test_the_words_for_each_case():
    place = Path("specs")
    assert "the folder holds no spec" in format_recorded([], place)
    assert "loaded by 2 processes, and no kernel" in format_recorded([], place, Seen(2, ()))
    failed = format_recorded([], place, Seen(1, ("a kernel was not recorded: OSError",)))
    assert "not all was recorded: a kernel was not recorded" in failed and "could not be recorded" in failed
    row = {
        "outcome": "launched",
        "spec": "a.json",
        "error_type": None,
        "autotune": None,
        "incomplete": [],
        "arch": "sm_90",
    }
    told = format_recorded([row], place, Seen(1, ("x",)))
    assert "not all was recorded: x" in told and "next: register-cliff compile a.json --arch sm_90" in told


def test_a_launch_costs_little(tmp_path):
    """The listener's own part of a launch, on an object it knows: a lookup."""
    from helpers.compiler.bring.capture import Capture

    class Kernel:
        src, metadata = object(), object()

    recording, kernel = Capture(tmp_path), Kernel()
    recording._remember(kernel, kernel.metadata)
    began = time.perf_counter()
    for _ in range(10_000):
        recording.launched(kernel)
    assert (time.perf_counter() - began) / 10_000 < 10e-6

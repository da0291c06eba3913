"""The pool: workers are reused, lent to one caller at a time, and never lent again in an unknown state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from helpers.compiler.toolchain import Tool, resolve_triton, triton_folder
from helpers.compiler.worker.pool import Worker, WorkerDied, WorkerPool, WorkerTimeout, WorkerUnusable

pytestmark = pytest.mark.usefixtures("toolchain_351")
REPO_ROOT = Path(__file__).parents[2]


@pytest.fixture
def pool():
    pool = WorkerPool()
    yield pool
    pool.close()


def nonsense(tmp_path, source="import time\ntime.sleep(60)\n"):
    """A request that takes a minute, or what `source` does."""
    file = tmp_path / "slow.py"
    file.write_text(source)
    kernel = {
        "path": str(file),
        "name": "k",
        "import_root": str(tmp_path),
        "source_hash": source,
        "files": [str(file)],
    }
    spec = {"kernel": kernel, "signature": [], "constexprs": [], "divisible_by_16": [], "options": []}
    return {"spec": spec, "target": ("cuda", 90, 32)}


def test_a_worker_is_reused_and_busy_ones_are_not_shared(pool):
    with pool.borrow(resolve_triton("3.5.1")) as first:
        with pool.borrow(resolve_triton("3.5.1")) as second:
            assert second is not first
    with pool.borrow(resolve_triton("3.5.1")) as third:
        assert third in (first, second)


def test_an_interrupted_request_ends_its_worker(pool, tmp_path):
    """Otherwise its late answer would be taken for the answer to the next request."""
    with pool.borrow(resolve_triton("3.5.1")) as worker:
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            worker.ask(nonsense(tmp_path), 30)
        assert not worker.alive
    with pool.borrow(resolve_triton("3.5.1")) as next_one:
        assert next_one is not worker
        assert next_one.ask(nonsense(tmp_path, "raise ValueError('mine')"), 30)["error"] == "mine"


def test_timeout_and_death_say_so_and_release_everything(pool, tmp_path):
    descriptors = len(os.listdir("/proc/self/fd"))
    with pool.borrow(resolve_triton("3.5.1")) as worker, pytest.raises(WorkerTimeout, match=r"within 0\.2 s"):
        worker.ask(nonsense(tmp_path), 0.2)
    with pool.borrow(resolve_triton("3.5.1")) as worker, pytest.raises(WorkerDied, match="SIGABRT"):
        worker.ask(nonsense(tmp_path, "import os\nos.abort()"), 30)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_worker_that_died_while_idle_is_replaced(pool):
    with pool.borrow(resolve_triton("3.5.1")) as worker:
        pass
    os.kill(worker.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while worker.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    with pool.borrow(resolve_triton("3.5.1")) as other:
        assert other is not worker and other.alive


def test_stop_ends_the_workers_of_the_threads_named_only(pool, tmp_path):
    seen = []

    def ask():
        with pool.borrow(resolve_triton("3.5.1")) as worker:
            try:
                worker.ask(nonsense(tmp_path, f"open({str(begun)!r}, 'w').close()\nimport time\ntime.sleep(60)\n"), 60)
            except WorkerDied as exc:
                seen.append(exc.signal_name)

    begun = tmp_path / "begun"
    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 40
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pool.borrow(resolve_triton("3.5.1")) as mine:
        pool.stop({thread.ident})
        thread.join(10)
        assert seen == ["SIGKILL"] and mine.alive


def test_environment_and_its_version_are_one_triton(pool):
    version = resolve_triton("environment").version
    if triton_folder(version).is_dir():
        pytest.skip("this version is installed beside the environment's as well")
    with pool.borrow(resolve_triton("environment")) as first:
        pass
    with pool.borrow(resolve_triton(version)) as second:
        assert second is first


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ImportError('no libtriton for this Python')", "no libtriton"),
        ("__version__ = '9.9.9'", "runs 9.9.9"),
        ("import sys, types\nsys.modules['triton.backends'] = types.SimpleNamespace(backends={})", "installed in part"),
    ],
)
def test_a_triton_that_does_not_start_is_unusable(tmp_path, source, said):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text(source)
    with pytest.raises(WorkerUnusable, match=said):
        Worker(Tool(tmp_path, "3.3.3"))


def test_workers_end_with_a_parent_that_is_killed(tmp_path, processes_of):
    """Also in the middle of a request, where the end of stdin is not read."""
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(REPO_ROOT)!r})
        from helpers.compiler.toolchain import resolve_triton
        from helpers.compiler.worker.pool import POOL
        with POOL.borrow(resolve_triton("3.5.1")) as worker:
            print(worker.process.pid, flush=True)
            worker.ask({nonsense(tmp_path)!r}, 60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while worker in processes_of("worker.py") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert worker not in processes_of("worker.py")


def test_a_forked_child_starts_with_an_empty_pool(pool):
    from helpers.compiler.worker.pool import POOL

    with POOL.borrow(resolve_triton("3.5.1")):
        pass
    assert any(POOL._idle.values())
    child = os.fork()
    if child == 0:
        os._exit(0 if not any(POOL._idle.values()) and not POOL._lock.locked() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with POOL.borrow(resolve_triton("3.5.1")) as worker:
        assert worker.alive

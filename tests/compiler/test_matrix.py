"""compile_matrix: order, progress, cache, executors, interrupts."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler.compile import CompileRequest, compile_matrix, usable_cores
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError

pytestmark = pytest.mark.usefixtures("toolchain_351", "own_cache")
REPO_ROOT = Path(__file__).parents[2]


def requests_for(spec, blocks=(64, 128, 256), **fields):
    return [CompileRequest(spec.with_constexprs(BLOCK=b), "sm_90a", Toolchain("3.5.1"), **fields) for b in blocks]


def test_reports_come_in_the_order_asked_and_are_cached_the_second_time(write_kernel):
    requests = requests_for(write_kernel())
    requests.insert(1, CompileRequest(write_kernel(), "sm_90a", Toolchain("9.9.9")))
    seen = []
    reports = compile_matrix(requests, progress=lambda done, total, report: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [r.status for r in reports] == ["ok", "toolchain_missing", "ok", "ok"]
    again = compile_matrix(requests)
    assert [r.cached for r in again] == [True, False, True, True]
    for one, other in zip(reports, again, strict=True):
        assert {**one.to_dict(), "cached": True} == {**other.to_dict(), "cached": True}


def test_nothing_to_do_is_nothing_done():
    assert compile_matrix([]) == []
    assert compile_matrix(iter([])) == []


def test_one_kernel_that_kills_its_worker_costs_only_its_own_row(write_kernel):
    good = requests_for(write_kernel())
    source = Path(good[0].spec.kernel.path).read_text()
    bad = requests_for(write_kernel("import os\nos.abort()\n" + source, file="bad.py"), blocks=(128,))
    reports = compile_matrix([good[0], *bad, *good[1:], *bad])
    assert [r.status for r in reports] == ["ok", "frontend_error", "ok", "ok", "frontend_error"]


def test_the_same_request_many_times_at_once(write_kernel):
    reports = compile_matrix(requests_for(write_kernel(), blocks=(128,)) * 8)
    assert {r.status for r in reports} == {"ok"} and len({r.ptx_sha256 for r in reports}) == 1


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_executor_will_do(write_kernel, kind):
    if kind == "threads":
        executor = concurrent.futures.ThreadPoolExecutor(3)
    else:
        executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with executor:
        reports = compile_matrix(requests_for(write_kernel()), executor=executor)
        assert [r.status for r in reports] == ["ok"] * 3
        assert executor.submit(int, "7").result() == 7  # it is the caller's, and not shut down


def test_a_kernel_file_that_cannot_be_read_is_its_own_report_and_the_rest_compiles(write_kernel):
    requests = requests_for(write_kernel())
    missing = write_kernel(file="gone.py")
    Path(missing.kernel.path).unlink()
    *good, bad = compile_matrix([*requests, requests_for(missing)[0]])
    assert {r.status for r in good} == {"ok"}
    assert (bad.status, bad.failed_stage, bad.label) == ("frontend_error", "load", missing.label)
    assert "gone.py" in bad.message


def test_an_unknown_arch_ends_the_matrix(write_kernel):
    (request, *_) = requests_for(write_kernel())
    with pytest.raises(UserError, match="sm_7"):
        compile_matrix([request, replace(request, arch="sm_7")])


def test_an_interrupt_does_not_wait_for_a_ptxas_that_hangs(write_kernel, fake_ptxas, processes_of):
    version = fake_ptxas("sleep 765432")
    request = CompileRequest(write_kernel(), "sm_90a", Toolchain("3.5.1", version), timeout_s=120)

    def interrupt():
        deadline = time.monotonic() + 60
        while not processes_of("765432") and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        compile_matrix([request] * 6)
    assert time.monotonic() - started < 60
    assert processes_of("765432") == []


def test_an_exception_out_of_progress_stops_the_matrix(write_kernel, own_cache):
    def stop(done, total, report):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        compile_matrix(requests_for(write_kernel(), blocks=tuple(2**n for n in range(4, 14))), progress=stop)
    assert len(list(own_cache.glob("assembly/*/*/meta.json"))) < 10


def test_nothing_is_left_running_when_the_process_ends(write_kernel, own_cache, processes_of):
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(REPO_ROOT)!r})
        from helpers.compiler.compile import *
        from helpers.compiler.kernel_spec import KernelSpec
        spec = KernelSpec.from_json({write_kernel().to_json()!r})
        print(compile_matrix([CompileRequest(spec, "sm_90a")] * 4)[0].status)
        from helpers.compiler.worker.pool import POOL
        print(*[w.process.pid for idle in POOL._idle.values() for w in idle])
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    status, workers = done.stdout.splitlines()
    assert status == "ok" and done.stderr == ""
    assert workers.split() and not {int(pid) for pid in workers.split()} & set(processes_of("worker.py"))


def test_usable_cores_is_what_the_process_may_use():
    assert usable_cores() == len(os.sched_getaffinity(0))

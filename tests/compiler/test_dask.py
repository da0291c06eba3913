"""compile_matrix on Dask's executor: a local cluster of worker processes, and what is said when one dies."""

from __future__ import annotations

import concurrent.futures
import json
import pickle
import re

import pytest

import helpers.compiler.compile as compile_module
from helpers.__main__ import main
from helpers.attention.choice import Choice, product
from helpers.compiler.compile import CompileRequest, compile_matrix
from helpers.errors import UserError

distributed = pytest.importorskip("distributed", reason="needs Dask: pip install -e '.[test]'")


@pytest.fixture(scope="module")
def requests_to_compile() -> list[CompileRequest]:
    axes = {"arch": ["sm_90a", "sm_100a"], "kv_dtype": ["bf16", "fp8_e4m3"]}
    base = Choice(head_dim=64, window=None, tile="16x32", triton="environment")
    return [choice.request() for choice in product(axes, base)]


@pytest.fixture
def client(isolated_cache, tmp_path):
    """Two worker processes of one thread each, with the empty cache of this test."""
    import dask

    # A worker that dies is not started over: the test wants to hear of it.
    once = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(once),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            local_directory=str(tmp_path), silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):  # fmt: skip
        yield connected


def test_requests_and_their_reports_survive_pickling(requests_to_compile):
    for request in requests_to_compile:
        again = pickle.loads(pickle.dumps(request))
        assert again == request
        assert again.spec.content_key() == request.spec.content_key()


def test_a_dask_cluster_gives_the_reports_in_order_from_processes_of_its_own(client, requests_to_compile):
    seen = []
    with distributed.get_task_stream(client) as stream:
        reports = compile_matrix(
            requests_to_compile,
            executor=client.get_executor(),
            progress=lambda done, total, report: seen.append((done, total)),
        )
    assert [r.arch for r in reports] == [r.arch for r in requests_to_compile]
    assert [r.label for r in reports] == [r.spec.label for r in requests_to_compile]
    assert all(r.compiled and not r.cached for r in reports), [r.message for r in reports]
    assert seen == [(n, 4) for n in range(1, 5)]
    assert len(stream.data) == 4
    assert len({task["worker"] for task in stream.data}) == 2, "both workers take part"
    here = compile_matrix(requests_to_compile)
    assert [(r.regs_per_thread, r.spill_store_bytes) for r in here] == [
        (r.regs_per_thread, r.spill_store_bytes) for r in reports
    ]
    assert all(r.cached for r in here), "the workers' cache is this test's, so nothing is compiled twice"


def test_the_verb_compiles_on_a_running_cluster(client, capsys):
    words = ["matrix", "--head-dim", "64", "--window", "none", "--tile", "16x32,16x64", "--triton", "environment"]
    with distributed.get_task_stream(client) as stream:
        assert main([*words, "--dask", client.scheduler.address, "--json", "--quiet"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [r["label"].split()[4] for r in reports] == ["16x32", "16x64"]
    assert len(stream.data) == 2


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "rubbish", "http://x"])
def test_no_scheduler_is_a_sentence_and_exit_code_2(address, capsys, monkeypatch):
    monkeypatch.setattr("helpers.commands.line.dask_.CONNECT_TIMEOUT_S", 1)
    assert main(["matrix", "--head-dim", "64", "--tile", "16x32", "--dask", address]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"error: no Dask scheduler answers at '.*' \(.*\); start one with: dask scheduler, .*\n", told)


def test_a_cluster_without_workers_is_a_sentence(tmp_path, capsys):
    with distributed.LocalCluster(
        n_workers=0, dashboard_address=None, local_directory=str(tmp_path), silence_logs="CRITICAL"
    ) as cluster:
        assert main(["matrix", "--head-dim", "64", "--tile", "16x32", "--dask", cluster.scheduler_address]) == 2
    assert "has no workers" in capsys.readouterr().err


class Deadly:
    """Stands in for `compile_cell`: unpickled in a worker it becomes a function that ends the worker."""

    def __reduce__(self):
        return eval, ("lambda request: __import__('os')._exit(1)",)

    def __call__(self, request):
        raise AssertionError("this runs in a worker")


def test_a_worker_that_dies_is_a_sentence(client, requests_to_compile, monkeypatch):
    monkeypatch.setattr(compile_module, "compile_cell", Deadly())
    with pytest.raises(UserError, match=r"the executor gave no report of hd64 bf16 .* for sm_90a: KilledWorker"):
        compile_matrix(requests_to_compile[:1], executor=client.get_executor())


def test_an_executor_that_is_shut_down_is_a_sentence(requests_to_compile):
    executor = concurrent.futures.ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(UserError, match="the executor takes no work"):
        compile_matrix(requests_to_compile, executor=executor)

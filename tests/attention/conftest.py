"""Worker processes shared by the tests of a session: starting one costs seconds, a case a fraction of one."""

import os

import pytest

from helpers.attention.correctness.processes import KernelProcesses


@pytest.fixture(scope="session")
def interpreter():
    """Two interpreter processes, or one in each of pytest-xdist's own."""
    workers = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
    with KernelProcesses(interpret=True, workers=workers) as processes:
        yield processes

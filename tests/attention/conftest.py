"""Worker processes shared by the tests of a session: starting one costs seconds, a case a fraction of one."""

import pytest

from helpers.attention.interpreter import KernelProcesses


@pytest.fixture(scope="session")
def interpreter():
    """Two interpreter processes."""
    with KernelProcesses(interpret=True, workers=2) as processes:
        yield processes

"""`--dask ADDRESS`: the executor of a Dask cluster that is already running."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor

from helpers.errors import UserError

CONNECT_TIMEOUT_S = 10
START_ONE = "start one with: dask scheduler, and on each machine: dask worker tcp://HOST:8786 --nworkers 4 --nthreads 1"


@contextlib.contextmanager
def dask_executor(address: str | None) -> Iterator[Executor | None]:
    """The executor of the Dask scheduler at `address` (`tcp://host:8786`) while the block runs; None for no address.

    Raises UserError where Dask is not installed, nobody answers within ten seconds, or the cluster has no workers.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as exc:
        raise UserError("--dask needs Dask, which is not installed here: pip install distributed") from exc
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it has to say is said below
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError, TypeError) as exc:
        said = " ".join(str(exc).split())[:200]
        raise UserError(f"no Dask scheduler answers at {address[:80]!r} ({said}); {START_ONE}") from exc
    with client:
        if not client.scheduler_info()["workers"]:
            raise UserError(f"the Dask cluster at {address[:80]!r} has no workers; {START_ONE}")
        yield client.get_executor()

"""Shared fixtures: an isolated cache, the incident's toolchain, and the gpu marker.

What is missing on this machine skips with a reason. Under CI=true (.ci/run) a missing toolchain fails
instead, with the command that fetches it: there, `make test` was meant to have fetched it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path

import pytest

CACHE_ENV = "REGISTER_CLIFF_CACHE"
# Kernels to compile, ptxas programs that misbehave, processes to look for: every wing's tests use them.
pytest_plugins = ["tests.compiling"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--isolated-cache",
        action="store_true",
        help="compile results go to a fresh folder for this run (toolchains are still the user's)",
    )
    parser.addoption(
        "--pictures", action="store_true", help="the browser tests leave screenshots in build/screenshots, to look at"
    )


def _isolate(folder: Path) -> Path:
    """An empty cache in `folder` that sees the toolchains already fetched (hundreds of megabytes)."""
    from helpers.files import cache_root

    toolchains = cache_root() / "toolchains"
    folder.mkdir(parents=True, exist_ok=True)
    if toolchains.is_dir():
        (folder / "toolchains").symlink_to(toolchains.resolve(), target_is_directory=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _cache_option(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    if not request.config.getoption("--isolated-cache"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_ENV, str(_isolate(tmp_path_factory.mktemp("cache"))))
        yield


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts a job in the background makes it ignore SIGINT, and every child inherits that: the tests of
    # Ctrl-C would wait for something that cannot come.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def isolated_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own: no compile results, the user's toolchains."""
    folder = _isolate(tmp_path / "cache")
    monkeypatch.setenv(CACHE_ENV, str(folder))
    return folder


@pytest.fixture(scope="session")
def toolchain_351():
    """The incident's toolchain: Triton 3.5.1 with the ptxas it bundles (12.8.93)."""
    from helpers.compiler.toolchain import Toolchain, ToolchainMissing, resolve_triton

    try:
        resolve_triton("3.5.1")
    except ToolchainMissing as exc:
        if os.environ.get("CI") == "true":
            pytest.fail(str(exc))
        pytest.skip(str(exc))
    return Toolchain(triton="3.5.1", ptxas="bundled")


@pytest.fixture(scope="session")
def built_pages(tmp_path_factory: pytest.TempPathFactory, toolchain_351) -> Path:
    """The folder that `make workbook` leaves, from the committed notebooks: made once, for all workers of a run.

    Beside each page lies the notebook as it ran. What a notebook that failed left is there as well.
    """
    from helpers.workbook.build import build

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    out = shared / "pages"
    with (shared / "pages.lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "index.html").exists():  # it is written last
            with (shared / "pages.printed").open("w") as printed:
                patch.setattr(sys, "stdout", printed)
                build(notebooks=Path(__file__).parents[1] / "notebooks", out=out)
    return out


@pytest.fixture
def triton_360():
    """Triton 3.6.0, which `make test` does not fetch: skipped where it is not there."""
    from helpers.compiler.toolchain import ToolchainMissing, resolve_triton

    try:
        return resolve_triton("3.6.0")
    except ToolchainMissing as exc:
        pytest.skip(str(exc))


def _why_no_gpu() -> str:
    try:
        import torch
    except ImportError:
        return "needs torch, which is not installed"
    if torch.cuda.is_available():
        return ""
    build = "a CPU build" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
    return f"needs a CUDA device, and torch {torch.__version__} ({build}) sees none"


def _place(item: pytest.Item) -> int:
    """Where a test belongs in a run: what takes longest first, so that no worker is left with it at the end.

    The pages are made by the first of all: notebooks that run in a browser after that find compiled what they compile,
    where two at the same time would compile it twice.
    """
    if "built_pages" in getattr(item, "fixturenames", ()):
        return 0
    return 1 if "browser" in item.path.parts else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    reason = _why_no_gpu() if on_gpu else ""  # torch takes seconds to import: only when something asks
    if reason:
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason=reason))

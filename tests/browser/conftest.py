"""A Chromium is needed here: where none is found the tests are skipped and the end of the run says so, loudly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest

HOW = "on Debian: apt-get install --no-install-recommends chromium"
_MISSING = pytest.StashKey[bool]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if driving.chromium() or os.environ.get("CI") == "true":
        return
    here = Path(__file__).parent
    mine = [item for item in items if here in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.skip(reason=f"needs a Chromium, and none is found ({HOW})"))
    config.stash[_MISSING] = bool(mine)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "needs a Chromium" in str(r.longrepr)]
    if config.stash.get(_MISSING, False) or skipped:
        terminalreporter.section("NOT TESTED IN A BROWSER", red=True, bold=True)
        terminalreporter.line(f"No Chromium was found, so {len(skipped)} browser tests did not run; {HOW}.", red=True)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium. Module scope: Playwright's event loop must be gone before other tests start theirs."""
    if not driving.chromium():  # only under CI=true; elsewhere these tests are skipped
        pytest.fail(f"a Chromium is needed here and none is found; {HOW}")
    with driving.browser() as started:
        yield started


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[driving.Lab]:
    """JupyterLab over a copy of the notebooks, one for all tests of a worker; the committed ones stay as they are."""
    notebooks = sorted(p for p in (driving.ROOT / "notebooks").glob("*.ipynb") if not p.name.startswith("."))
    with driving.jupyterlab(tmp_path_factory.mktemp("lab"), notebooks) as started:
        yield started


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> driving.Pictures:
    """Takes the screenshots that `--pictures` asks for: build/screenshots, git-ignored."""
    if not request.config.getoption("--pictures"):
        return driving.Pictures(None)
    folder = request.config.rootpath / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return driving.Pictures(folder)

"""Every notebook in a real JupyterLab in a real browser: runs to its end, shows no error, leaves a clean console."""

from __future__ import annotations

from pathlib import Path

import driving
import pytest

NOTEBOOKS = sorted(p for p in (driving.ROOT / "notebooks").glob("*.ipynb") if not p.name.startswith("."))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory):
    """JupyterLab over a copy of the notebooks; the committed ones stay as they are."""
    with driving.jupyterlab(tmp_path_factory.mktemp("lab"), NOTEBOOKS) as started:
        yield started


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_in_the_browser(path: Path, lab, browser, pictures, toolchain_351):
    with driving.opened(browser, own=lab.url) as (page, heard):
        driving.open_notebook(page, lab, path.name)
        driving.clear_outputs(page)
        driving.run_all_cells(page)
        driving.picture(page, pictures / f"notebook_{path.stem}.png")
        assert driving.errors_shown(page) == []
        assert heard.problems() == []

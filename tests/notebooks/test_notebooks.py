"""The committed notebooks: each runs top to bottom, each keeps to the style; one test id per notebook."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import style

from helpers.workbook.build import execute_notebook

NOTEBOOKS = style.notebooks()


def test_there_are_notebooks_and_they_are_numbered():
    # Without this, an empty folder would make the tests below vanish and the run stay green.
    assert style.name_problems(NOTEBOOKS) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_top_to_bottom(path: Path, tmp_path: Path, toolchain_351):
    copied = Path(shutil.copy(path, tmp_path))
    run = execute_notebook(copied)
    assert run.ok, run.failure_report()
    code = [cell for cell in run.notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_keeps_to_the_style(path: Path):
    assert style.problems(path) == []

"""The committed notebooks: each runs top to bottom, each keeps to the style; one test id per notebook."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import style

NOTEBOOKS = style.notebooks()


def test_there_are_notebooks_and_they_are_numbered():
    # Without this, an empty folder would make the tests below vanish and the run stay green.
    assert style.name_problems(NOTEBOOKS) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_top_to_bottom(path: Path, built_pages: Path):
    ran = nbformat.read(built_pages / path.name, as_version=4)
    code = [cell for cell in ran.cells if cell.cell_type == "code"]
    failed = [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert not failed, "\n".join(f"{f.ename}: {f.evalue}\n" + "\n".join(f.traceback) for f in failed)[-8000:]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)) != []
    committed = nbformat.read(path, as_version=4)
    assert [cell.source for cell in ran.cells] == [cell.source for cell in committed.cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_keeps_to_the_style(path: Path):
    assert style.problems(path) == []

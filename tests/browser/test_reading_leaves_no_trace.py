"""`make lab`: whoever only reads and runs leaves every file as it was, and is asked nothing at the first start."""

from __future__ import annotations

import json
import re
import subprocess

import driving
import pytest

pytestmark = pytest.mark.slow

SETTINGS = """async id => {
    const {schema} = await window.jupyterapp.serviceManager.settings.fetch(id);
    return Object.fromEntries(Object.entries(schema.properties).map(([name, of]) => [name, of.default]));
}"""


def lab_options() -> list[str]:
    """The settings that `make lab` starts JupyterLab with, from the command it would run."""
    said = subprocess.run(
        ["make", "-n", "lab", "-o", ".venv/.installed"], cwd=driving.ROOT, capture_output=True, text=True, check=True
    ).stdout
    return re.findall(r'"(--LabApp\.app_settings_dir=[^"]+)"', said)


def test_make_lab_names_a_folder_of_settings_that_is_there():
    (option,) = lab_options()
    assert option == f"--LabApp.app_settings_dir={driving.ROOT}/helpers/workbook/lab"
    json.loads((driving.ROOT / "helpers/workbook/lab/overrides.json").read_text())


def test_running_a_notebook_saves_nothing_and_asks_nothing(tmp_path, browser):
    with driving.jupyterlab(tmp_path, [], options=lab_options()) as lab:
        name = lab.add_notebook("read.ipynb", ["print(6 * 7)", "import helpers as rc\nrc.throughput_explorer()"])
        before = (lab.folder / name).read_bytes()
        with driving.opened(browser, own=lab.url) as (page, _):
            driving.open_notebook(page, lab, name)
            driving.run_all_cells(page)
            saves = page.evaluate(SETTINGS, "@jupyterlab/docmanager-extension:plugin")
            asks = page.evaluate(SETTINGS, "@jupyterlab/apputils-extension:notification")
            page.wait_for_timeout(3000)  # the question about news came about a second after the start
            toasts = page.locator(".Toastify__toast").all_inner_texts()
        assert saves["autosave"] is False and asks["fetchNews"] == "false" and asks["checkForUpdates"] is False
        assert toasts == []
        assert (lab.folder / name).read_bytes() == before

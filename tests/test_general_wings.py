"""The wings for anybody's kernel do their job in a folder where attention, workbook and commands do not exist."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiling import ADD_ONE, spec_of
from tests.test_walls import GENERAL

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
# Each verb as the function that it calls; what they return is printed as one line of JSON.
SCRIPT = """
import importlib, json, pkgutil, sys
from dataclasses import replace
from pathlib import Path

import helpers

for module in pkgutil.walk_packages(helpers.__path__, "helpers."):
    importlib.import_module(module.name)

from helpers.bundle.report import report
from helpers.compiler.compile import CompileRequest, compile_request
from helpers.compiler.kernel_spec import read_specs
from helpers.compiler.toolchain import Toolchain
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.pressure import format_pressure, pressure_report
from helpers.search.ablate import Limits
from helpers.search.minimize.minimize_ptx import minimize_ptx
from helpers.search.try_this import try_this

log, ptx = Path("crash.log").read_text(), Path("crash.ptx").read_text()
[spec] = read_specs([Path("spec.json")])
spills = CompileRequest(spec, "sm_90a", Toolchain("3.5.1"))
fits = replace(spills, spec=spec.with_options(maxnreg=None))
# Half of the text: enough to see something go, not worth more seconds here.
small = minimize_ptx(ptx, ptxas="12.8.93", everywhere=False, time_limit_s=5, jobs=1)
edits = try_this(spills, budget=Limits(max_compiles=1, max_seconds=60, max_size=1))
bundle = report(Path("crash.ptx"), "out.zip", ptxas="12.8.93")
print(json.dumps({
    "home": helpers.__file__,
    "diagnose": diagnose(log).failure.code,
    "pressure": format_pressure(pressure_report(ptx)),
    "minimize": [small.code, small.agrees],
    "compile": [compile_request(fits).status, compile_request(spills).status],
    "try": [e.to_dict() for e in edits],
    "report": bundle.to_dict(),
}))
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, toolchain_351) -> tuple[Path, dict]:
    """(a folder with the general wings and nothing else of ours, what the script printed there)."""
    folder = tmp_path_factory.mktemp("alone")
    for name in (*GENERAL, "__init__"):
        there = ROOT / "helpers" / name
        if there.is_dir():
            shutil.copytree(there, folder / "helpers" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "helpers").mkdir(exist_ok=True)
            shutil.copy(there.with_suffix(".py"), folder / "helpers")
    kernel = folder / "own_kernel.py"
    kernel.write_text(ADD_ONE)
    # 64 elements a thread in 32 registers.
    spec = spec_of(kernel, constexprs=(("BLOCK", 8192),), options=(("num_warps", 4), ("maxnreg", 32)))
    (folder / "spec.json").write_text(spec.to_json())
    shutil.copy(FIXTURES / "logs" / "c7600.log", folder / "crash.log")
    shutil.copy(FIXTURES / "ptx" / "crash_minimized_sm100a.ptx", folder / "crash.ptx")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_the_copy_is_what_ran(alone) -> None:
    folder, printed = alone
    assert printed["home"] == str(folder / "helpers" / "__init__.py")
    assert not (folder / "helpers" / "attention").exists()


def test_a_log_is_diagnosed_and_a_ptx_weighed(alone) -> None:
    _, printed = alone
    assert printed["diagnose"] == "C7600"
    assert "registers" in printed["pressure"]


def test_a_ptx_is_made_smaller(alone) -> None:
    _, printed = alone
    assert printed["minimize"] == ["C7600", True]


def test_a_spec_is_compiled_and_edits_are_tried(alone) -> None:
    _, printed = alone
    assert printed["compile"] == ["ok", "spills"]
    assert any("maxnreg" in edit["change"] and edit["status"] == "ok" for edit in printed["try"])


def test_a_report_reproduces(alone) -> None:
    folder, printed = alone
    assert printed["report"]["reproduced"]
    assert (folder / "out.zip").is_file()

"""The command as installed: from a wheel, beside a user's own `helpers` and `kernels`, without dependencies."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.__main__ import what_to_do

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / "tests" / "fixtures" / "logs" / "pr22079_comment.log"
SOURCES = ("helpers", "kernels", "data", "register_cliff.py", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def _setuptools() -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in importlib.metadata.version("setuptools").split(".")[:1])
    except importlib.metadata.PackageNotFoundError:
        return (0,)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this checkout, built without a network."""
    if _setuptools() < (77,):
        pytest.skip("building a wheel needs setuptools 77 or newer in this environment")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
            ROOT / name, source / name, **({"ignore": ignore} if (ROOT / name).is_dir() else {})
        )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", folder, source], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder that the wheel was installed into; its dependencies are the environment's."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", folder, wheel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A user's folder: a package `helpers`, a folder `kernels` without __init__.py; neither is ours."""
    for name in ("helpers", "kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("OURS = False\n")
    (tmp_path / "helpers" / "__init__.py").write_text("raise RuntimeError('the helpers of the user')\n")
    (tmp_path / "helpers" / "__main__.py").write_text("print('the helpers of the user')\n")
    return tmp_path


def register_cliff(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess:
    # The user's folder stands in front, as an `export PYTHONPATH=.` puts it.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(site)])}
    command = [site / "bin" / "register-cliff", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


def test_a_wheel_puts_one_package_into_site_packages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"register_cliff"}
    inside = {name.removeprefix("register_cliff/") for name in names}
    data = [path.relative_to(ROOT).as_posix() for path in (ROOT / "helpers").rglob("*") if path.is_file()]
    data += [path.relative_to(ROOT).as_posix() for name in ("kernels", "data") for path in (ROOT / name).rglob("*")]
    missing = [name for name in data if "__pycache__" not in name and name not in inside]
    assert missing == []


def test_the_installed_command_works_beside_a_users_own_helpers_and_kernels(site, elsewhere):
    said = register_cliff(site, elsewhere, "--version")
    assert said.returncode == 0 and str(site / "register_cliff") in said.stdout, said.stderr
    said = register_cliff(site, elsewhere, "diagnose", str(LOG))
    assert said.returncode == 0 and "register exhaustion" in said.stdout, said.stderr
    ptx = site / "register_cliff" / "data" / "incident.ptx.gz"
    said = register_cliff(site, elsewhere, "pressure", str(ptx), "--json")
    assert json.loads(said.stdout)["demand"] > 255, said.stderr
    said = register_cliff(site, elsewhere, "compile", "--help")
    assert said.returncode == 0 and "--time-limit" in said.stdout, said.stderr


def test_recorded_rows_and_device_code_are_in_the_wheel(site, elsewhere):
    said = register_cliff(site, elsewhere, "audit", "--arch", "B200", "--head-dim", "256", "--json")
    assert said.returncode == 0 and json.loads(said.stdout)["rows"] > 0, said.stderr
    words = ("--head-dim", "64", "--window", "none", "--tile", "16x64", "--triton", "environment")
    said = register_cliff(site, elsewhere, "compile", *words, "--json")
    assert json.loads(said.stdout)["status"] in ("ok", "spills"), said.stderr


def test_a_wheel_without_its_data_says_where_to_get_it(site, elsewhere, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(site, bare, ignore=shutil.ignore_patterns("data"))
    said = register_cliff(bare, elsewhere, "audit")
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    assert "the recorded rows (data/)" in said.stderr and "checkout" in said.stderr


def test_python_m_helpers_without_dependencies_says_what_to_activate():
    # -S leaves site-packages out: what is there is the standard library.
    done = subprocess.run([sys.executable, "-S", "-m", "helpers", "diagnose", "x.log"], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: this Python (") and "has no module" in done.stderr
    assert what_to_do(str(ROOT)) in done.stderr


def test_what_to_activate(tmp_path):
    assert "Install the wheel again" in what_to_do(str(tmp_path))
    (tmp_path / "Makefile").touch()
    assert "make venv" in what_to_do(str(tmp_path))
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    assert what_to_do(str(tmp_path)) == f"Activate the project's environment: . {activate}"

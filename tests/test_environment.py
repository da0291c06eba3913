"""Both roads to the environment agree, what is installed is what is pinned, `make` behaves at its edges."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = ["jupyterlab", "torch", "triton", "matplotlib", "pandas", "ipywidgets"]


def _pins(requirements: list[str]) -> dict[str, str]:
    pinned = {}
    for requirement in requirements:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", requirement)
        assert found, f"{requirement!r} is not of the form name==version"
        pinned[found[1].lower()] = found[2]
    return pinned


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _conda() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def _conda_pip_section() -> list[str]:
    (section,) = [entry["pip"] for entry in _conda()["dependencies"] if isinstance(entry, dict)]
    return section


def test_environment_yml_repeats_the_pins_of_pyproject():
    pins = _pins(_project()["dependencies"])
    listed = _pins([line for line in _conda_pip_section() if not line.startswith("-e")])
    assert listed == {name: pins[name] for name in CONDA_NAMES}


def test_environment_yml_installs_the_project_and_asks_for_the_same_pythons():
    assert _conda_pip_section()[-1] == "-e ."
    plain = [entry for entry in _conda()["dependencies"] if isinstance(entry, str)]
    assert plain == [f"python{_project()['requires-python']}", "pip"]


def test_the_pair_is_torch_2_13_with_the_triton_it_requires():
    pins = _pins(_project()["dependencies"])
    assert (pins["torch"], pins["triton"]) == ("2.13.0", "3.7.1")
    asked = [line for line in importlib.metadata.requires("torch") or [] if line.startswith("triton")]
    # CPU builds ask for no Triton, which is why it is pinned by name; a CUDA build must agree with the pin.
    assert all("3.7.1" in line for line in asked)


@pytest.mark.parametrize("name", sorted(_pins(_project()["dependencies"])))
def test_what_is_installed_is_what_is_pinned(name: str):
    installed = importlib.metadata.version(name).partition("+")[0]
    wanted = _pins(_project()["dependencies"])[name]
    if name in ("torch", "triton") and installed != wanted and os.environ.get("CI") != "true":
        pytest.skip(f"the host is run on purpose with {name} {installed} instead of the pinned {wanted}")
    assert installed == wanted


def test_import_helpers_is_quick_and_leaves_torch_and_triton_alone():
    heavy = ("torch", "triton", "pandas", "matplotlib")
    code = f"import sys, helpers; print([m for m in {heavy} if m in sys.modules])"
    began = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    assert time.perf_counter() - began < 5  # well under a second alone; the rest is room for a busy machine


# --- make ---


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the Makefile and the pins alone, and a Python double that logs what make asks of it.

    The double creates a .venv that holds itself, and fails at the step named in the file `fail`.
    """
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    double = folder / "python-double"
    double.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  -c*) exec "$REAL" "$@" ;;\n'
        "esac\n"
        'echo "$*" >> "$LOG"\n'
        'if [ -e fail ] && echo "$*" | grep -q -- "$(cat fail)"; then echo "told to fail" >&2; exit 3; fi\n'
        'case "$*" in "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;; esac\n'
    )
    double.chmod(double.stat().st_mode | stat.S_IXUSR)
    return folder


def _make(folder: Path, *arguments: str, python: str | None = "./python-double") -> subprocess.CompletedProcess:
    # What a `make test PYTEST_ARGS=…` around this test exports must not reach the make under test.
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "PYTHON", "PYTEST_ARGS", "LAB_ARGS")
    environment = {k: v for k, v in os.environ.items() if k not in outer}
    environment |= {"LOG": str(folder / "log"), "REAL": sys.executable}
    named = [f"PYTHON={python}"] if python else []
    return subprocess.run(
        ["make", *named, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def _log(folder: Path) -> list[str]:
    log = folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


INSTALL = "-m pip install --progress-bar on -e ."
TOOLCHAIN = "-m helpers toolchains install 3.5.1"


def test_make_test_needs_no_step_before_it(clone: Path):
    assert _make(clone, "test").returncode == 0
    assert _log(clone) == [
        "-m venv .venv",
        INSTALL,
        "-m pip install --quiet -e .[test]",
        TOOLCHAIN,
        "-m pytest -n 2 --dist worksteal",
    ]


def test_the_second_make_workbook_installs_nothing(clone: Path):
    workbook = "-m helpers.workbook --notebooks notebooks --out build"
    assert _make(clone, "workbook").returncode == 0
    assert _log(clone) == ["-m venv .venv", INSTALL, TOOLCHAIN, workbook]
    assert _make(clone, "workbook").returncode == 0
    assert _log(clone) == [TOOLCHAIN, workbook]


@pytest.mark.parametrize("step", ["venv", "pip install"])
def test_a_venv_stopped_half_way_is_made_anew(clone: Path, step: str):
    (clone / "fail").write_text(step)
    assert _make(clone, "venv").returncode != 0
    (clone / "fail").unlink()
    _log(clone)
    assert _make(clone, "venv").returncode == 0
    assert _log(clone) == ["-m venv .venv", INSTALL]


def test_changed_pins_make_the_venv_anew(clone: Path):
    _make(clone, "venv")
    _log(clone)
    later = time.time() + 10
    os.utime(clone / "pyproject.toml", (later, later))
    assert _make(clone, "venv").returncode == 0
    assert _log(clone) == ["-m venv .venv", INSTALL]


def test_a_venv_that_moved_with_its_folder_is_made_anew(clone: Path):
    _make(clone, "venv")
    moved = clone.rename(clone.with_name("moved"))
    _log(moved)
    assert _make(moved, "venv").returncode == 0
    assert _log(moved) == ["-m venv .venv", INSTALL]


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_a_python_that_does_not_fit_is_named_and_nothing_is_made(clone: Path, version: str):
    other = clone / "other-python"
    claimed = tuple(int(part) for part in version.split("."))
    other.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "Python {version}" && exit\n'
        f'exec "$REAL" -c "import sys; sys.version_info = {claimed}; exec(sys.argv[1])" "$2"\n'
    )
    other.chmod(0o755)
    ended = _make(clone, "venv", python="./other-python")
    assert ended.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in ended.stderr and f"Python {version}." in ended.stderr
    assert not (clone / ".venv").exists()


def test_make_alone_lists_every_target_of_the_readme(clone: Path):
    listed = _make(clone, python=None).stdout
    assert all(f"make {target} " in listed for target in ("workbook", "lab", "test", "clean", "help"))
    assert _log(clone) == []

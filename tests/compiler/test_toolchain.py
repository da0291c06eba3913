"""Toolchains: requests are read strictly, what is missing says how to fetch it, installs are whole."""

from __future__ import annotations

import contextlib
import stat
import sys
from pathlib import Path

import pytest

from helpers.compiler import toolchain as tc
from helpers.compiler.compile import compile_kernel
from helpers.errors import MachineError, UserError
from helpers.files import CACHE_ENV

RUBBISH = [
    "",
    " ",
    "3.5",
    "3.5.1; rm -rf",
    "3.5.1\n3.6.0",
    "../x",
    "/etc/passwd",
    "triton==../x",
    "ptxas==",
    "triton",
    "v3.5.1",
    "3.5.1 --index-url=x",
    "-r x.txt",
    "pip==1.2.3",
    "triton>=3.5.1",
    "\u0663.\u0665.\u0661",
    "3.5.1.0",
    "3..1",
    "9" * 100_000,
    "12345.1.1",
    "3.5.1\0",
    "triton==ptxas==1.2.3",
]


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3.5.1", ("triton", "3.5.1")),
        (" triton==3.10.0 ", ("triton", "3.10.0")),
        ("triton-3.5.1", ("triton", "3.5.1")),
        ("ptxas==13.1.80", ("ptxas", "13.1.80")),
        ("12.9.86", ("ptxas", "12.9.86")),
    ],
)
def test_requests_are_read(text, answer):
    assert tc.parse_request(text) == answer


@pytest.mark.parametrize("text", RUBBISH)
def test_rubbish_is_refused_shortly(text, empty_cache):
    with pytest.raises(UserError) as refusal:
        tc.install(text)
    assert len(str(refusal.value)) < 300 and not isinstance(refusal.value, tc.ToolchainMissing)
    assert not empty_cache.exists()


@pytest.mark.parametrize("value", [*RUBBISH, "bundled", "nonsense", 3.5, None])
def test_toolchain_takes_versions_only(value):
    with pytest.raises(UserError) as refusal:
        tc.Toolchain(triton=value)
    assert len(str(refusal.value)) < 300
    if value != "bundled":
        with pytest.raises(UserError):
            tc.Toolchain(ptxas=value)


def test_codegen_override_needs_a_version():
    with pytest.raises(UserError, match=r"needs a ptxas version"):
        tc.Toolchain(ptxas_for_codegen=True)


def test_versions_sort_as_numbers():
    assert sorted(["3.10.0", "3.9.0", "3.9.1"], key=tc.version_key) == ["3.9.0", "3.9.1", "3.10.0"]


def test_environment_triton_is_found_without_importing_it():
    here = tc.resolve_triton("environment")
    version = here.version
    assert (here.path / "triton" / "__init__.py").is_file() and version in tc.installed_tritons()
    assert version not in tc.installed_tritons(include_environment=False) or tc.is_installed("triton", version)


def test_missing_names_what_is_there_and_the_command(empty_cache):
    here = tc.environment_triton().version
    with pytest.raises(tc.ToolchainMissing, match=rf"installed: {here}.*register-cliff toolchains install 3\.3\.3"):
        tc.resolve_triton("3.3.3")
    with pytest.raises(tc.ToolchainMissing, match=r"install ptxas==13\.9\.9"):
        tc.resolve_ptxas("13.9.9")


def test_the_environment_s_own_version_needs_no_install(empty_cache):
    here = tc.environment_triton()
    assert tc.resolve_triton(here.version) == here


def test_bundled_ptxas_are_found_by_version(toolchain_351):
    assert tc.resolve_ptxas("12.8.93").version == "12.8.93"
    assert "12.8.93" in tc.installed_ptxas()


def test_a_broken_ptxas_hides_no_other(own_cache, toolchain_351):
    for number, text in enumerate(["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n", "not a program"]):
        program = (
            own_cache / "toolchains" / f"triton-0.0.{number}-{tc._python_tag()}" / "triton/backends/nvidia/bin/ptxas"
        )
        program.parent.mkdir(parents=True)
        program.write_text(text)
        program.chmod(0o755)
        (program.parents[3] / "__init__.py").touch()
    assert tc.installed_tritons()[:3] == ["0.0.0", "0.0.1", "0.0.2"]
    assert "12.8.93" in tc.installed_ptxas()
    assert tc.resolve_ptxas("12.8.93").path.is_file()


def test_stray_folders_are_not_toolchains(empty_cache):
    for name in (
        "triton-junk",
        "triton-junk-cp311",
        f"triton-1.1.1-{tc._python_tag()}",
        "ptxas-new",
        ".triton-3.5.0-x",
    ):
        (empty_cache / "toolchains" / name / "bin").mkdir(parents=True)
    (empty_cache / "toolchains" / "ptxas-new" / "bin" / "ptxas").touch()
    assert tc.installed_tritons(include_environment=False) == []
    assert "new" not in tc.installed_ptxas()


@pytest.fixture
def pip_that(monkeypatch, tmp_path):
    """`pip_that(python_lines)`: replaces `python -m pip` by lines that see the target folder as `target`."""

    def replace(lines):
        script = tmp_path / "pip.py"
        head = "import os, pathlib, sys\ntarget = pathlib.Path(sys.argv[sys.argv.index('--target') + 1])\n"
        script.write_text(head + lines)
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {script} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(tc.sys, "executable", str(program))

    return replace


WHOLE = "(target / 'triton').mkdir(parents=True)\n(target / 'triton' / '__init__.py').touch()\n"


@pytest.mark.parametrize(
    "lines",
    [
        "sys.exit(1)",
        WHOLE + "sys.exit('network gone')",
        WHOLE + "import signal; os.kill(os.getpid(), signal.SIGKILL)",
        "target.mkdir(exist_ok=True); (target / 'other').mkdir()",
    ],
)
def test_an_install_that_fails_half_way_leaves_nothing(empty_cache, pip_that, lines):
    pip_that(lines)
    # A pip that was killed is the machine's doing, as by a lack of memory.
    with pytest.raises(MachineError if "SIGKILL" in lines else tc.ToolchainMissing):
        tc.install("3.5.0", quiet=True)
    assert list((empty_cache / "toolchains").iterdir()) == []
    assert not tc.is_installed("triton", "3.5.0")


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
def test_what_pip_unpacks_goes_with_it(empty_cache, pip_that, tmp_path, monkeypatch, end):
    """pip that is ended cannot remove its own temporary folders: they lie in one of ours."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    pip_that(f"import tempfile; tempfile.mkdtemp(prefix='pip-unpack-')\n{WHOLE}{end}\n")
    with pytest.raises(MachineError) if end else contextlib.nullcontext():
        tc.install("3.5.0", quiet=True)
    assert list(place.iterdir()) == []


def test_install_is_whole_and_done_once(empty_cache, pip_that):
    program = "triton/backends/nvidia/bin/ptxas"
    pip_that(WHOLE + f"p = target / '{program}'; p.parent.mkdir(parents=True); p.touch(0o644)\n")
    folder = tc.install("3.5.0", quiet=True)
    assert folder == tc.triton_folder("3.5.0") and tc.is_installed("triton", "3.5.0")
    assert (folder / program).stat().st_mode & stat.S_IXUSR
    pip_that("sys.exit('not again')")
    assert tc.install("3.5.0") == folder
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_ptxas_is_taken_out_of_its_wheel(empty_cache, pip_that):
    pip_that(
        "assert sys.argv[-1] == 'nvidia-cuda-nvcc-cu12==12.9.41', sys.argv\n"
        "p = target / 'nvidia/cuda_nvcc/bin/ptxas'; p.parent.mkdir(parents=True)\n"
        "p.write_text('#!/bin/sh\\necho V12.9.41')\n"
        "(target / 'nvidia/cuda_nvcc/bin/nvcc').touch()\n"
    )
    folder = tc.install("12.9.41", quiet=True)
    assert [str(p.relative_to(folder)) for p in folder.rglob("*")] == ["bin", "bin/ptxas"]
    assert tc.resolve_ptxas("12.9.41") == tc.Tool(folder / "bin" / "ptxas", "12.9.41")


def test_half_a_folder_in_the_way_is_replaced(empty_cache, pip_that):
    (tc.triton_folder("3.5.0") / "triton").mkdir(parents=True)
    pip_that(WHOLE)
    assert (tc.install("3.5.0", quiet=True) / "triton" / "__init__.py").is_file()


def test_an_unwritable_toolchain_folder_is_a_user_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "file"))
    with pytest.raises(UserError, match="set REGISTER_CLIFF_CACHE to a writable folder"):
        tc.install("3.5.0")


def test_known_releases_are_readable():
    for version in tc.KNOWN_TRITONS:
        assert tc.parse_request(version) == ("triton", version)
    for version in tc.KNOWN_PTXAS:
        assert tc.parse_request(version) == ("ptxas", version)


def test_python_tag_is_this_python(empty_cache):
    assert tc.triton_folder("3.5.1") == Path(
        empty_cache / "toolchains" / f"triton-3.5.1-cp{sys.version_info.major}{sys.version_info.minor}"
    )


def test_a_toolchain_is_found_once_and_carried(own_cache, toolchain_351, write_kernel, monkeypatch):
    """A second look, or a second question to ptxas, would be for nothing."""
    looks: list[str] = []
    triton, asked = tc.resolve_triton, tc._ptxas_version.__wrapped__
    monkeypatch.setattr(tc, "resolve_triton", lambda version: looks.append(version) or triton(version))
    monkeypatch.setattr(tc, "_ptxas_version", lambda path, mtime: looks.append(path) or asked(path, mtime))
    tools = toolchain_351.resolve()
    assert tools.ptxas is None and tools.triton.version == "3.5.1"
    assert tools.assembler() == tc.Tool(tools.triton.program("ptxas"), "12.8.93")
    looks.clear()
    assert compile_kernel(write_kernel(), "sm_90a", toolchain_351).status == "ok"
    assert looks == ["3.5.1", str(tools.triton.program("ptxas"))]


def test_a_named_ptxas_is_found_before_anything_is_compiled(own_cache, toolchain_351):
    assert tc.Toolchain("3.5.1", "12.8.93").resolve().assembler("ptxas-blackwell").version == "12.8.93"
    with pytest.raises(tc.ToolchainMissing, match=r"ptxas 1\.2\.9 is not installed"):
        tc.Toolchain("3.5.1", "1.2.9").resolve()

"""A report on a machine that is ill: one sentence, exit 3, nothing half-made, and the compile is not lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from helpers import files
from helpers.__main__ import main
from helpers.bundle import material as bundle_source
from helpers.bundle.repro import ReproRun
from helpers.compiler import codegen
from helpers.compiler.toolchain import resolve_triton
from helpers.files import write_together

SMALL = Path(__file__).parents[1] / "fixtures" / "ptx" / "illegal.ptx"


@pytest.fixture(autouse=True)
def one_ptxas(toolchain_351, monkeypatch, tmp_path):
    program = resolve_triton("3.5.1").program("ptxas")
    monkeypatch.setattr(bundle_source, "installed_ptxas", lambda: {"12.8.93": program})
    monkeypatch.chdir(tmp_path)


def full_after(monkeypatch, many: int):
    """A disk that takes so many of the files that are written atomically, and no more."""
    real, taken = os.fdopen, []

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_how):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    def fdopen(handle, *args):
        taken.append(handle)
        file = real(handle, *args)
        return file if len(taken) <= many else Full(file)

    monkeypatch.setattr(files.os, "fdopen", fdopen)


@pytest.mark.parametrize("many", [0, 1])
def test_a_full_disk_leaves_neither_the_zip_nor_the_issue(tmp_path, monkeypatch, capfd, many):
    (tmp_path / "old.zip").write_text("of before")
    (tmp_path / "old.issue.md").write_text("of before, too")
    full_after(monkeypatch, many)
    for words in (["-o", "new.zip"], ["-o", "old.zip", "--force"]):
        assert main(["report", str(SMALL), *words]) == 3
        err = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("note: ")]
        assert len(err) == 1 and err[0].startswith("error: cannot write ") and "No space left on device" in err[0], err
        assert "make room" in err[0] and "in the cache" in err[0]
    assert {p.name for p in tmp_path.iterdir()} == {"old.zip", "old.issue.md"}
    assert (tmp_path / "old.zip").read_text() == "of before"
    assert (tmp_path / "old.issue.md").read_text() == "of before, too"


def test_the_compile_that_led_to_it_is_kept(write_kernel, own_cache, tmp_path, monkeypatch, capfd):
    source = "import triton\n\n\n@triton.jit\ndef k(x_ptr):\n    nonsense(x_ptr)\n"
    spec = write_kernel(source, signature=(("x_ptr", "*fp32"),), constexprs=())
    spec = type(spec)(**{**vars(spec), "kernel": type(spec.kernel)(spec.kernel.path, "k")})
    (tmp_path / "spec.json").write_text(spec.to_json())
    words = ["report", "spec.json", "--triton", "3.5.1", "--arch", "sm_90a", "--trust-root", ".", "-o", "a.zip"]
    monkeypatch.setattr("helpers.bundle.members.installed_tritons", lambda: ["3.5.1"])
    with monkeypatch.context() as patch:
        patch.setattr("helpers.bundle.report.write_together", lambda _contents: (_ for _ in ()).throw(
            OSError(errno.EFBIG, "File too large")))  # fmt: skip
        assert main(words) == 3
    asked = []
    real = codegen._asked
    monkeypatch.setattr(codegen, "_asked", lambda *a, **o: asked.append(1) or real(*a, **o))
    assert main(words) == 0, capfd.readouterr()
    assert not asked and (tmp_path / "a.zip").is_file() and (tmp_path / "a.issue.md").is_file()


KILLED = "exit code of ptxas: 137\nexpected: x\n"


@pytest.mark.parametrize(
    "ran",
    [
        ReproRun(1, KILLED + "result: did not fail the same way\n"),
        ReproRun(0, KILLED + "result: failed the same way\n"),
        ReproRun(1, "exit code of ptxas: 153\n"),
        ReproRun(1, "ptxas fatal   : Memory allocation failure\nexit code of ptxas: 255\n"),
        ReproRun(-9, ""),
    ],
    ids=["killed", "killed and taken for the same", "too large", "no memory", "the script killed"],
)
def test_a_repro_that_the_machine_ended_says_nothing(tmp_path, monkeypatch, capfd, ran):
    runs = []
    monkeypatch.setattr("helpers.bundle.report.run_repro", lambda *_args, **_options: runs.append(1) or ran)
    assert main(["report", str(SMALL), "-o", "a.zip"]) == 3
    err = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(err) == 1 and "the machine failed, this says nothing" in err[0] and len(runs) == 2
    assert list(tmp_path.iterdir()) == []


def test_files_that_belong_together_are_written_together(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    (tmp_path / "there").write_text("x")
    two.symlink_to(tmp_path / "there")
    write_together({one: b"1", two: b"2"})
    assert (one.read_bytes(), (tmp_path / "there").read_bytes()) == (b"1", b"2") and two.is_symlink()
    full_after(monkeypatch, 1)
    with pytest.raises(OSError, match="No space"):
        write_together({one: b"3", two: b"4"})
    assert (one.read_bytes(), two.read_bytes()) == (b"1", b"2")
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two", "there"}

"""A spec of somebody else's has the files of its own folder, and others with the user's word alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import pytest

from helpers.__main__ import main
from helpers.commands import VERBS
from helpers.commands.line.cli import cli
from helpers.compiler.kernel_spec import KernelRef, KernelSpec, read_specs
from helpers.compiler.trust import trust_roots
from helpers.errors import UserError
from helpers.files import ROOT
from tests.compiling import ADD_ONE, spec_of

OF_SPECS = (
    "compile",
    "pressure",
    "try",
    "ablate",
    "bisect",
    "cross",
    "autotune",
    "minimize",
    "report",
    "matrix",
    "gate",
)
ENV = ["--arch", "H100", "--triton", "environment"]


@pytest.fixture(autouse=True)
def no_word_is_left():
    yield
    trust_roots(())


@pytest.fixture
def sent(tmp_path, monkeypatch, isolated_cache) -> Path:
    """A folder that somebody sent, whose spec has its imports from a private folder of the user's."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "settings.py").write_text("PASSWORD = 'hunter22'\n")
    folder = tmp_path / "sent"
    folder.mkdir()
    (folder / "k.py").write_text("import settings\n" + ADD_ONE)
    write(folder / "s.json", {"path": "k.py", "name": "add_one", "import_root": str(private), "stub_imports": True})
    monkeypatch.chdir(tmp_path)
    return folder


def write(path: Path, kernel: dict) -> Path:
    body = json.loads(spec_of(Path("k.py")).to_json())
    path.write_text(json.dumps({**body, "kernel": kernel}))
    return path


@pytest.mark.parametrize("verb", OF_SPECS)
def test_no_verb_takes_a_folder_that_the_spec_names_without_the_users_word(verb, sent, capsys):
    words = [verb, str(sent / "s.json"), *(["--baseline", "b.csv", "--write"] if verb == "gate" else []), *ENV]
    words += ["-o", "x.zip"] if verb == "report" else []
    assert main(words if verb != "cross" else [verb, str(sent / "s.json")]) == 2
    err = capsys.readouterr().err
    assert "outside the folder" in err and "--trust-root" in err and str(sent.parent / "private") in err
    assert err.count("error:") == 1 and not Path("x.zip").exists() and not Path("b.csv").exists()


def test_every_verb_that_takes_a_spec_has_the_option_and_no_other():
    having = {name for name in VERBS for p in cli.get_command(None, name).params
              if isinstance(p, click.Option) and "--trust-root" in p.opts}  # fmt: skip
    assert having == set(OF_SPECS)


def test_with_the_users_word_it_compiles_and_the_next_command_has_the_word_too(sent, capsys):
    (sent / "k.py").write_text(ADD_ONE)
    words = ["compile", str(sent / "s.json"), *ENV]
    assert main([*words, "--trust-root", "private"]) == 0
    assert "ok" in capsys.readouterr().out
    # The word is for one run.
    assert main(words) == 2
    assert main([*words, "--trust-root", str(sent)]) == 2
    assert main(["bisect", str(sent / "s.json"), "--trust-root", "private", "--triton", "environment", "--quiet"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    "kernel",
    [
        {"path": "../private/settings.py"},
        {"path": "k.py", "import_root": ".."},
        {"path": "link/settings.py"},
        {"path": "k.py", "import_root": "link"},
        {"path": "k.py", "import_root": "/"},
        {"path": "/etc/passwd"},
    ],
    ids=str,
)
def test_no_way_out_of_the_folder_is_overlooked(kernel, sent):
    os.symlink(sent.parent / "private", sent / "link")
    spec = write(sent / "t.json", {"name": "add_one", **kernel})
    with pytest.raises(UserError, match="outside the folder"):
        read_specs([spec])
    trust_roots(["/"])
    assert read_specs([spec])


def test_what_lies_in_the_specs_own_folder_needs_no_word(sent):
    (sent / "inner").mkdir()
    (sent / "inner" / "m.py").write_text(ADD_ONE)
    for kernel in ({"path": "inner/m.py"}, {"path": "inner/m.py", "import_root": "."}, {"path": str(sent / "k.py")}):
        (spec,) = read_specs([write(sent / "t.json", {"name": "add_one", **kernel})])
        assert spec.kernel.source_files()
    folder = os.path.relpath(sent)
    (spec,) = read_specs([Path(folder, "t.json")])
    assert Path(spec.kernel.path) == sent / "k.py"


def test_a_spec_that_was_made_here_of_a_file_that_the_user_named_needs_no_word(sent, capsys):
    (sent.parent / "package" / "inner").mkdir(parents=True)
    (sent.parent / "package" / "__init__.py").write_text("")
    mine = sent.parent / "package" / "mine.py"
    mine.write_text(ADD_ONE)
    made = ["spec", "--file", str(mine), "--kernel", "add_one", "--signature", "*fp32, i32, 128"]
    assert main(made) == 0  # on stdout: the file may then be anywhere
    text = capsys.readouterr().out
    (sent / "mine.json").write_text(text)
    assert main(["compile", str(sent / "mine.json"), *ENV]) == 0
    # Another kernel with the same folder is another thing.
    raw = json.loads(text)
    raw["kernel"]["path"] = str(sent / "k.py")
    (sent / "mine.json").write_text(json.dumps(raw))
    assert main(["compile", str(sent / "mine.json"), *ENV]) == 2


def test_a_kernel_of_this_project_needs_no_word_and_its_other_files_do(tmp_path):
    ours = {"path": str(ROOT / "kernels" / "cliff_matmul.py"), "name": "add_one", "import_root": str(ROOT)}
    assert read_specs([write(tmp_path / "s.json", ours)])
    for changed in ({"path": str(ROOT / "setup.py")}, {"import_root": "/"}, {"import_root": str(ROOT / "tests")}):
        with pytest.raises(UserError, match="outside the folder"):
            read_specs([write(tmp_path / "t.json", {**ours, **changed})])


def test_paths_that_cannot_be_are_a_sentence(tmp_path):
    for part in ("n" * 300, "a/" * 1_200 + "k.py", "half\ud800", "nul\0"):
        for kernel in ({"path": part}, {"path": "k.py", "import_root": part}):
            with pytest.raises(UserError):
                read_specs([write(tmp_path / "s.json", {"name": "add_one", **kernel})])[0].kernel.source_hash()


def test_a_spec_in_python_is_not_asked_for(tmp_path):
    (tmp_path / "k.py").write_text(ADD_ONE)
    assert KernelRef(str(tmp_path / "k.py"), "add_one", "/").source_files()
    assert isinstance(spec_of(tmp_path / "k.py"), KernelSpec)

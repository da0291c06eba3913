"""The verb `cross`: what it takes, what it refuses, what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.commands.cross import stage_of, target_of
from helpers.commands.line.cli import run
from helpers.commands.line.given import PTX, TEXT, Given
from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError


def test_the_text_of_a_stage_is_told_by_what_it_says():
    def given(name, kind=TEXT):
        return Given(kind, Path(name))

    assert stage_of('; x\ntarget triple = "nvptx64"\ndefine void @k() {\n', given("any.txt")) == "llir"
    assert stage_of('#blocked = #ttg.blocked<{}>\nmodule attributes {"ttg.num-warps" = 8 : i32}', given("a")) == "ttgir"
    assert stage_of(".version 8.7", given("a", PTX)) == "ptx"
    with pytest.raises(UserError, match="no spec and no TTGIR, LLIR or PTX"):
        stage_of("hello", given("a.txt"))


def test_the_chip_is_told_by_the_text():
    assert target_of(".version 8.7\n.target sm_90a\n") == "sm_90a"
    assert target_of('ttg.target = "cuda:100"') == "sm_100a"
    assert target_of("nothing") is None


@pytest.mark.usefixtures("triton_360")
def test_a_ptx_by_two_releases_of_ptxas(own_cache, write_kernel, tmp_path, capsys):
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    path, grids = tmp_path / "small.ptx", tmp_path / "grids.html"
    path.write_text(Path(report.ptx_path).read_text())
    words = ["cross", str(path), "--ptxas", "12.8.93,12.9.86"]
    assert run([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["arch"] == "sm_90a" and result["turns"] == []
    assert {c["done_by"] for c in result["cells"]} == {"12.8.93", "12.9.86"}
    assert run([*words, "--grids", str(grids)]) == 0
    assert "nothing turns" in capsys.readouterr().out and grids.read_text().count("<table") == 1


def test_options_of_the_other_kind_are_refused(own_cache, write_kernel, tmp_path, capsys):
    path = tmp_path / "small.ptx"
    path.write_text(".version 8.7\n.target sm_90a\n.address_size 64\n.visible .entry k() { ret; }\n")
    assert run(["cross", str(path), "--triton", "3.5.1,3.6.0"]) == 2
    assert "--ptxas names releases" in capsys.readouterr().err
    assert run(["cross", "--ptxas", "12.8.93"]) == 2
    assert "--ptxas is for a PTX" in capsys.readouterr().err


def test_a_release_that_is_not_here_is_a_sentence(toolchain_351, write_kernel, tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text(write_kernel().to_json())
    assert run(["cross", str(spec), "--triton", "9.9.9,3.5.1"]) == 2
    assert "Triton 9.9.9 is not installed" in capsys.readouterr().err

"""The verb `inspect`: its table, its filters, its files, and names that would move a cursor."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.commands.inspect import short_name

BUILT = Path(__file__).resolve().parents[1] / "fixtures" / "built"
LIBRARY = str(BUILT / "library.so")
pytestmark = pytest.mark.usefixtures("isolated_cache")


def test_the_table_has_a_line_a_kernel_and_the_most_registers_come_first(capsys):
    assert main(["inspect", LIBRARY, "--sass", "--histogram"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["kernel", "arch", "registers", "cap"]
    assert [line.split()[0] for line in lines[1:4]] == ["split_kernel", "reduce_rows", "wide_stencil"]
    assert (
        lines[3].split()
        == "wide_stencil sm_80 32 32 1936 2244 4672 6916 0 1 256 none - ?".split()[: len(lines[3].split())]
    )
    assert "40/232" in lines[1] and "129-168 registers  1  " in out and "PTX for compute_80" in out
    assert "3 kernels; cuobjdump stated the numbers of 3" in out and "0 problems" in out


def test_rows_as_json_and_csv_are_the_same_rows(tmp_path, capsys):
    file = tmp_path / "rows.csv"
    assert main(["inspect", LIBRARY, "--sass", "--json", "--sort", "spills", "--csv", str(file)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["kernel"] for row in said["rows"]] == ["wide_stencil", "reduce_rows", "split_kernel"]
    assert (said["kernels"], said["checked"], said["problems"]) == (3, 3, 0)
    assert said["rows"][2]["setmaxnreg"] == [40, 232]
    with file.open() as text:
        rows = list(csv.DictReader(text))
    assert [row["kernel"] for row in rows] == [row["kernel"] for row in said["rows"]]
    assert rows[2]["setmaxnreg"] == "40 232" and rows[0]["spill_store_bytes"] == "2244"
    assert main(["inspect", LIBRARY, "--csv", str(file)]) == 2  # kept


@pytest.mark.parametrize(
    ("words", "kernels"),
    [
        (["--chip", "H100"], ["split_kernel"]),
        (["--chip", "sm_80"], ["reduce_rows", "wide_stencil"]),
        (["--match", "*stencil"], ["wide_stencil"]),
        (["--match", "_"], ["split_kernel", "reduce_rows", "wide_stencil"]),
        (["--sort", "kernel"], ["reduce_rows", "split_kernel", "wide_stencil"]),
        (["--chip", "sm_75"], []),
    ],
)
def test_filters_and_orders(words, kernels, capsys):
    assert main(["inspect", LIBRARY, "--json", *words]) == 0
    assert [row["kernel"] for row in json.loads(capsys.readouterr().out)["rows"]] == kernels


def test_a_chip_that_nobody_knows_and_a_path_that_is_not_there_are_bad_input(capsys):
    assert main(["inspect", LIBRARY, "--chip", "sm_999"]) == 2
    assert main(["inspect", "nothing-here.so"]) == 2
    err = capsys.readouterr().err
    assert "sm_999" in err and "nothing-here.so is not there" in err


def test_frames_without_the_code_are_followed_up_and_long_tables_are_cut(capsys):
    assert main(["inspect", LIBRARY, "--rows", "1"]) == 0
    out = capsys.readouterr().out
    assert "… and 2 more" in out and "--sass --sort spills says how much of the stack is spills" in out


def test_a_stranger_s_name_moves_no_cursor(tmp_path, capsys):
    ptx = (BUILT / "split_sm90a.ptx").read_text()
    folder = tmp_path / "a\x1b[2Jb"
    folder.mkdir()
    (folder / "k.ptx").write_text(ptx)
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "split_kernel" in out and "pressure" in out


def test_a_name_is_cut_in_its_middle_and_without_its_parameters():
    assert short_name("void f<int, (bool)1>(float*, void (*)(int))") == "f<int, (bool)1>"
    long = short_name("void " + "a" * 100 + "::run<1>()")
    assert len(long) <= 60 and "…" in long and long.endswith("::run<1>")
    assert short_name("plain") == "plain" and short_name("(x)") == "(x)"

"""The verb `matrix`: the product of the values given, as a table and a CSV file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from helpers.__main__ import main
from helpers.commands import matrix
from helpers.compiler.compile import compile_matrix
from helpers.compiler.report import CompileReport

SMALL = ["--head-dim", "64", "--window", "none", "--tile", "16x64"]


def test_matrix_is_the_product_in_a_csv_and_cached_the_second_time(isolated_cache, tmp_path, capfd):
    file = tmp_path / "rows.csv"
    argv = [
        "matrix",
        *SMALL,
        "--triton",
        "environment",
        "--kv-dtype",
        "bf16,fp8",
        "--arch",
        "sm_80,sm_90a",
        "--csv",
        str(file),
    ]
    assert main(argv) == 0
    out, err = capfd.readouterr()
    assert "fp8_e4m3" in out and "frontend_error" in out and err == ""  # no terminal: no progress bar
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(r["arch"], r["status"] == "frontend_error") for r in rows] == [
        ("sm_80", False),
        ("sm_80", True),
        ("sm_90a", False),
        ("sm_90a", False),
    ]
    assert all(r["spec_key"] and r["wall_s"] for r in rows) and [p.name for p in tmp_path.glob("*.csv")] == ["rows.csv"]
    assert main([*argv[:-2], "--json", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and [r["cached"] for r in json.loads(out)] == [True] * 4


def test_matrix_with_every_toolchain_missing_is_exit_two(capfd):
    assert main(["matrix", "--triton", "9.9.8,9.9.9", "--quiet"]) == 2
    assert "install 9.9.8" in capfd.readouterr().err


def test_a_matrix_that_the_machine_failed_writes_no_csv_and_the_same_command_ends_it(
    isolated_cache, tmp_path, capfd, monkeypatch, write_kernel
):
    spec, file = tmp_path / "spec.json", tmp_path / "rows.csv"
    spec.write_text(write_kernel().to_json())
    words = [
        "matrix",
        str(spec),
        "--arch",
        "sm_80,sm_90a",
        "--csv",
        str(file),
        "--quiet",
        "--trust-root",
        str(tmp_path),
    ]

    def failing(requests, **options):
        first, second = compile_matrix(requests, **options)
        return [first, CompileReport("environment_error", second.arch, "3.7.1", None, label="k", message="disk full")]

    with monkeypatch.context() as patch:
        patch.setattr(matrix, "compile_matrix", failing)
        assert main(words) == 3
        _out, said = capfd.readouterr()
        assert not file.exists() and "was not written" in said and "disk full" in said, said
        (kept,) = re.findall(r"are in (\S+/rows.csv): ", said)
        assert [row["arch"] for row in csv.DictReader(Path(kept).read_text().splitlines())] == ["sm_80"]
        patch.setattr(matrix, "compile_matrix", lambda requests, **_: [failing(requests, progress=None)[1]] * 2)
        assert main(words) == 3 and "answer are in" not in capfd.readouterr().err and not file.exists()
    assert main(words) == 0
    assert [(row["arch"], row["status"]) for row in csv.DictReader(file.read_text().splitlines())] == [
        ("sm_80", "ok"), ("sm_90a", "ok"),
    ]  # fmt: skip

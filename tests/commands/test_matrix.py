"""The verb `matrix`: the product of the values given, as a table and a CSV file."""

from __future__ import annotations

import csv
import json

from helpers.__main__ import main

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

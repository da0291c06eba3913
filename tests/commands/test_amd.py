"""AMD's chips on the command line: compile, matrix, gate and audit take them, the other verbs say that they do not."""

from __future__ import annotations

import csv
import json

import pytest

from helpers.__main__ import main

ONE = ["--head-dim", "64", "--window", "none", "--kv-dtype", "bf16", "--tile", "auto", "--triton", "3.7.1"]


def test_compile_tells_a_kernel_by_amd_s_names(capfd):
    assert main(["compile", "--arch", "MI300X", *ONE]) == 0
    out, err = capfd.readouterr()
    for words in ("gfx942", "VGPRs per thread", "SGPRs per wave", "0 B scratch per thread", "B LDS per workgroup",
                  "waves per SIMD", "kernel.hsaco", "LLVM writes AMD's binary"):  # fmt: skip
        assert words in out
    assert "ptxas" not in out and "cap 255" not in out and "next:" not in out and err == ""
    assert main(["compile", "--arch", "gfx942", *ONE, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["amd"]["vgprs"] > 0 and report["cached"] and report["verdict"].endswith("0 B scratch")


def test_matrix_puts_both_makers_beside_each_other(tmp_path, capfd):
    file = tmp_path / "rows.csv"
    assert main(["matrix", "--arch", "gfx950,sm_90a", *ONE, "--csv", str(file)]) == 0
    out = capfd.readouterr().out
    assert "vgprs" in out and "regs_per_thread" in out
    amd, nvidia = csv.DictReader(file.read_text().splitlines())
    assert (amd["arch"], amd["tensor_core_path"], amd["regs_per_thread"]) == ("gfx950", "mfma", "")
    assert int(amd["vgprs"]) > 0 and int(amd["n_mfma"]) > 0 and nvidia["vgprs"] == "" and int(nvidia["regs_per_thread"])
    assert main(["matrix", "--arch", "gfx950", *ONE]) == 0
    alone = capfd.readouterr().out
    assert "vgprs" in alone and "regs_per_thread" not in alone and "ptxas_version" not in alone
    assert main(["matrix", "--arch", "sm_90a", *ONE]) == 0
    assert "vgprs" not in capfd.readouterr().out


def test_gate_writes_and_holds_an_amd_baseline(write_kernel, tmp_path, capfd):
    spec, baseline = tmp_path / "spec.json", tmp_path / "rows.csv"
    spec.write_text(write_kernel().to_json())
    gate = ["gate", str(spec), "--baseline", str(baseline), "--arch", "MI300X", "--trust-root", str(tmp_path)]
    assert main([*gate, "--write"]) == 0 and "VGPRs, 0 B scratch" in capfd.readouterr().out
    assert main(gate) == 0
    (row,) = csv.DictReader(baseline.read_text().splitlines())
    baseline.write_text(baseline.read_text().replace(",spills,", ",ok,"))
    assert row["arch"] == "gfx942" and int(row["vgprs"]) > 0 and row["scratch_bytes"] == "0"


@pytest.mark.parametrize("verb", ["try", "ablate", "bisect", "report", "cross", "minimize", "pressure"])
def test_the_other_verbs_take_none(verb, capfd):
    assert main([verb, "--arch", "MI300X"]) == 2
    err = capfd.readouterr().err
    assert "MI300X" in err or "gfx942" in err
    assert (
        "AMD's chips, of which compile, matrix, gate and audit take gfx942 and gfx950" in err and err.count("\n") == 1
    )


def test_audit_reads_the_recorded_rows_and_compiles_them_anew(tmp_path, capfd):
    file = tmp_path / "cells.csv"
    assert main(["audit", "--arch", "MI355X", "--head-dim", "576", "--json", "--csv", str(file)]) == 0
    result = json.loads(capfd.readouterr().out)
    cells = {(cell["triton"], cell["tile"]): cell for cell in result["cells"]}
    assert result["rows"] == 10 == len(cells) == len(list(csv.DictReader(file.read_text().splitlines())))
    assert {tile for (_, tile), cell in cells.items() if cell["engines_tile"]} == {"64x64", "64x32"}
    assert all(cell["arch"] == "gfx950" and cell["scratch_bytes"] is not None for cell in cells.values())
    assert main(["audit", "--arch", "gfx942", "--head-dim", "128", "--triton", "3.7.1"]) == 0
    recorded = capfd.readouterr().out
    assert main(["audit", "--arch", "gfx942", "--head-dim", "128", "--live", "--triton", "3.7.1"]) == 0
    live = capfd.readouterr().out
    assert live.splitlines()[-1].split() == recorded.splitlines()[-1].split() and "live" in live


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--arch", "gfx942,sm_90a"], "one maker at a time"),
        (["--arch", "gfx942", "--feature", "mask"], "--feature none"),
        (["--arch", "gfx942", "--head-dim", "96"], "no recorded row fits"),
        (["--arch", "gfx942", "--head-dim", "96", "--live"], "leave nothing to audit"),
    ],
)
def test_what_audit_does_not_have_of_amd(more, words, capfd):
    assert main(["audit", *more]) == 2
    assert words in capfd.readouterr().err

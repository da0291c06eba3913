"""Notebook 07's views: real bundles and recorded rows in, tables out; nothing of this machine in what they say."""

from __future__ import annotations

import getpass

import pytest

from helpers.compiler.bring.capture import capture
from helpers.search.minimize.check import check_valid
from helpers.workbook.your_own_crash import views as view
from helpers.workbook.your_own_crash.cliff_matmul import cliff_request, matmul_spec


def test_the_minimised_crash_is_small_and_valid():
    whole, small = view.incident_ptx()
    table = view.minimized_table()
    assert table.loc["lines", "as Triton wrote it"] == len(whole.splitlines()) > 6000
    assert 0 < table.loc["lines", "minimised"] < table.loc["lines", "as Triton wrote it"] / 10
    assert table.loc["moves of 128 registers", "minimised"] >= 1
    assert check_valid(small) == []


def test_the_minimised_crash_dies_above_o1_only(toolchain_351):
    verdicts = dict(view.minimized_verdicts().itertuples(index=False))
    assert list(verdicts) == ["-O0", "-O1", "-O2", "-O3"]
    assert verdicts["-O2"] == verdicts["-O3"] == "C7600 at 255"
    assert "registers" in verdicts["-O0"] and "registers" in verdicts["-O1"]


def test_without_that_ptxas_there_are_no_verdicts(isolated_cache):
    assert view.minimized_verdicts("12.3.107").empty


def test_wheels_have_a_row_a_configuration_and_their_provenance():
    table = view.wheel_table()
    incident = table.xs("sglang==0.5.10", level="wheel")
    assert (incident["3.5.1"] == "✕ C7600").sum() == 1 and "2,612 B" in set(incident["3.7.1"])
    assert {name.split("==")[0] for name, _, _ in table.index} == {"sglang", "vllm"}
    assert "PyPI" in table.attrs["provenance"]


@pytest.mark.parametrize(("warps", "words"), [(8, "compiled"), (16, "C7602")])
def test_a_compile_in_this_process_says_how_it_ended_and_names_no_folder(warps, words, tmp_path, capfd):
    with capture(tmp_path) as seen:
        said = view.compile_here(matmul_spec(num_warps=warps), "sm_90a")
    assert words in said and "/" not in said
    assert [spec.option["num_warps"] for spec in seen.specs] == [warps]
    assert capfd.readouterr().out == ""


def test_a_bundle_is_listed_whole_with_a_purpose_each(toolchain_351, tmp_path):
    from helpers.bundle.report import report

    bundle = report(cliff_request(), tmp_path / "report.zip")
    table = view.bundle_table(bundle)
    assert sorted(table["file"]) == sorted(bundle.members) and (table["bytes"] > 0).all()
    unnamed = table.loc[table["what"] == "kernel source", "file"]
    assert list(unnamed) == ["kernel/kernels/cliff_matmul.py"]
    issue = view.bundle_text(bundle, "issue", lines=3)
    assert "C7602" in issue and len(issue.splitlines()) <= 3
    assert (
        "repro.sh" in view.bundle_text(bundle, "README.md")
        and getpass.getuser() not in view.bundle_text(bundle, "spec.json").split()
    )


def test_the_scratch_folder_is_one_a_session():
    assert view.scratch_folder() is view.scratch_folder() and view.scratch_folder().is_dir()

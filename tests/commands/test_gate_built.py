"""`gate` over a build on the command line: its reports, its exit codes, and the examples for CI run as they stand."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from junitparser import JUnitXml
from sarif_pydantic import Sarif

from helpers.__main__ import main
from helpers.show.gate_reports import gate_junit, gate_markdown, gate_sarif

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "tests" / "fixtures" / "built" / "library.so"
pytestmark = pytest.mark.usefixtures("isolated_cache")


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository as the examples expect it: a library in build/, its baseline in ci/."""
    (tmp_path / "build").mkdir()
    (tmp_path / "ci").mkdir()
    shutil.copy(LIBRARY, tmp_path / "build" / "library.so")
    monkeypatch.chdir(tmp_path)
    assert main(["gate", "build/library.so", "--baseline", "ci/kernels.csv", "--sass", "--write"]) == 0
    return tmp_path


def worsen(repository: Path) -> None:
    """A past in which the library's split kernel took fewer registers."""
    file = repository / "ci" / "kernels.csv"
    file.write_text(file.read_text().replace(",168,", ",160,"))


def run_as_typed(line: str) -> int:
    """The exit code of one of our commands as a shell would start it, its patterns spread out."""
    words = shlex.split(line.replace("\\\n", " "))
    assert words[0] == "register-cliff"
    spread = [str(p) for w in words[1:] for p in (sorted(Path().glob(w)) if "*" in w else [w])]
    return main(spread)


def test_the_workflow_s_own_step_passes_and_fails(repository):
    workflow = yaml.safe_load((ROOT / "docs" / "ci" / "kernel-gate.yml").read_text())
    (job,) = workflow["jobs"].values()
    steps = {step.get("name"): step for step in job["steps"]}
    assert run_as_typed(steps["gate"]["run"]) == 0
    for name in ("summary.md", "kernels.xml", "kernels.sarif"):
        (repository / name).unlink()
    worsen(repository)
    assert run_as_typed(steps["gate"]["run"]) == 1
    assert "1 of 3 rows fail" in (repository / "summary.md").read_text()
    assert steps["summary"]["run"].split()[1] == "summary.md"
    uploaded = next(s["with"]["sarif_file"] for s in job["steps"] if "upload-sarif" in s.get("uses", ""))
    assert (repository / uploaded).is_file()


def test_the_hook_s_own_entry_passes_and_fails(repository):
    hooks = yaml.safe_load((ROOT / "docs" / "ci" / "pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert run_as_typed(hooks[0]["entry"]) == 0
    worsen(repository)
    assert run_as_typed(hooks[0]["entry"]) == 1


def test_reports_are_what_their_readers_take(repository, capsys):
    worsen(repository)
    words = ["gate", "build/library.so", "--baseline", "ci/kernels.csv", "--sass"]
    files = ["--markdown", "g.md", "--junit", "g.xml", "--sarif", "g.sarif"]
    assert main([*words, "--json", *files]) == 1
    result = json.loads(capsys.readouterr().out)
    xml = JUnitXml.fromfile("g.xml")
    assert (xml.tests, xml.failures) == (3, 1)
    failures = [(case.name, case.result[0].message) for suite in xml for case in suite if case.result]
    assert failures == [("split_kernel", "168 registers, 160 before")]
    sarif = Sarif.model_validate_json(Path("g.sarif").read_text())
    (found,) = sarif.runs[0].results
    assert found.message.text.startswith("split_kernel on sm_90a: 168 registers, 160 before")
    assert found.locations[0].physical_location.artifact_location.uri == "ci/kernels.csv"
    assert "| split_kernel | sm_90a |" in Path("g.md").read_text()
    assert [row["registers_now"] for row in result["rows"] if row["failed"]] == [168]
    assert main([*words, *files]) == 2  # reports that are there are kept
    assert "g.md is there already" in capsys.readouterr().err
    assert main([*words, *files, "--force"]) == 1


def test_strangers_names_do_nothing_in_a_report():
    name = "k|<script>`*\x1b[2J\n"
    row = {
        "spec": name,
        "arch": "sm_80",
        "failed": True,
        "before": None,
        "now": None,
        "regressions": [name],
        "notes": [],
    }
    result = {"rows": [row], "baseline": "b.csv", "wrote_baseline": False, "regressions": 1, "exit_code": 1}
    markdown = gate_markdown(result)
    line = next(x for x in markdown.splitlines() if x.startswith("| k"))
    assert line.count("|") == 6 and "<script>" not in markdown and "\x1b" not in markdown and "`k" not in line
    assert "\x1b" not in gate_junit(result) and JUnitXml.fromstring(gate_junit(result)).failures == 1
    assert "\\u001b" not in gate_sarif(result) and Sarif.model_validate_json(gate_sarif(result))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "H100"], "--arch is for specs"),
        (["tests.json"], "give specs, which are compiled, or what is built"),
    ],
)
def test_what_does_not_go_together_is_bad_input(repository, words, said, capsys):
    (repository / "tests.json").write_text('{"kernel": {}}')
    assert main(["gate", "build/library.so", *words, "--baseline", "ci/kernels.csv", "--sass"]) == 2
    assert said in capsys.readouterr().err


def test_a_build_without_a_baseline_is_told_how_to_make_one(repository, capsys):
    assert main(["gate", "build/library.so", "--baseline", "none.csv"]) == 2
    assert "register-cliff gate build/library.so --baseline none.csv --write" in capsys.readouterr().err


def test_specs_take_no_option_of_builds(repository, write_kernel, capsys):
    spec = repository / "spec.json"
    spec.write_text(write_kernel().to_json())
    assert main(["gate", str(spec), "--baseline", "ci/kernels.csv", "--ratchet"]) == 2
    assert "are for what is built" in capsys.readouterr().err

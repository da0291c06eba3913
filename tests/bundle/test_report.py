"""Bundles of the real incident reproduce in an empty folder with nothing but the zip and a ptxas, and name nobody."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.attention.choice import Choice
from helpers.bundle import collect
from helpers.bundle import material as bundle_source
from helpers.bundle.issue_text import MAX_ISSUE_CHARS, Facts, code_block, issue, readme, with_a_ptxas
from helpers.bundle.report import report
from helpers.bundle.scrub import Identity
from helpers.compiler.kernel_spec import KernelSpec, read_specs
from helpers.compiler.toolchain import resolve_triton
from helpers.diagnosis.where_to_report import where_to_report
from helpers.errors import UserError

ROOT = Path(__file__).parents[2]
INCIDENT = ROOT / "data" / "incident.ptx.gz"
FIXTURES = ROOT / "tests" / "fixtures"
# A few lines that ptxas refuses at once, without a C-code: where it does not matter what fails.
SMALL = FIXTURES / "ptx" / "illegal.ptx"
ADA = Identity(homes=("/home/ada",), users=("ada",), hosts=("fjord-12",))
PLANTED = ("/home/ada", "fjord-12", "hush_project")


@pytest.fixture(scope="module")
def ptxas(toolchain_351) -> Path:
    return resolve_triton("3.5.1").program("ptxas")


@pytest.fixture(autouse=True)
def one_ptxas(ptxas, monkeypatch):
    """Only the incident's ptxas: the table over all of them is tested by hand and costs a second each."""
    monkeypatch.setattr(bundle_source, "installed_ptxas", lambda: {"12.8.93": ptxas})


@pytest.fixture
def no_edits(monkeypatch):
    """Without the search for workarounds, which has tests of its own."""
    monkeypatch.setattr(collect, "edits_of", lambda *_, **__: [])


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def everything(members: dict[str, bytes]) -> str:
    """All that can be read in a zip: every member as text, and what `.b8` lines spell."""
    texts = []
    for content in members.values():
        text = content.decode("latin-1")
        numbers = re.findall(r"^\s*\.b8\s+(\d+)", text, re.MULTILINE)
        texts += [text, bytes(int(n) for n in numbers).decode("latin-1")]
    return "\n".join(texts)


def run_elsewhere(path: Path, folder: Path, **env: str) -> subprocess.CompletedProcess:
    """The zip unpacked by another program into an empty folder, its repro.sh run with an empty environment."""
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(path.resolve()), str(folder)], check=True)
    return subprocess.run(
        ["/bin/sh", "repro.sh"], cwd=folder, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True
    )


def planted_ptx() -> str:
    """The crash PTX as a stranger's machine would have written it, names in comments, .file and debug bytes."""
    ptx = gzip.decompress((FIXTURES / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode()
    name = "kernels/extend_attention.py"
    assert ptx.count(f'"{name}"') == 1
    ptx = ptx.replace(f'"{name}"', f'"/home/ada/hush_project/{name}"').replace("by LLVM", "by LLVM for ada on fjord-12")
    spelt = "\n".join(f".b8 {b}" for b in b"/home/ada/hush_project on fjord-12\0")
    return ptx + f"\t.section .debug_str\n\t{{\n{spelt}\n\t}}\n"


def test_the_incident_s_ptx_reproduces_with_nothing_but_the_zip_and_a_ptxas(tmp_path, ptxas):
    done = report(INCIDENT, tmp_path / "r.zip")
    assert done.reproduced and done.status == "register_exhausted"
    ran = run_elsewhere(tmp_path / "r.zip", tmp_path / "empty", PTXAS=str(ptxas))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "(C7600)" in ran.stdout and "failed the same way" in ran.stdout
    members = members_of(tmp_path / "r.zip")
    assert {"README.md", "repro.sh", "kernel.ptx", "ptxas_table.csv", "pressure.png", "pressure.txt", "ptxas.log",
            "environment.json", "repro_check.txt", "workarounds.json"} == set(members)  # fmt: skip
    assert "failed the same way" in members["repro_check.txt"].decode()
    assert members["pressure.png"].startswith(b"\x89PNG")
    (row,) = csv.DictReader(io.StringIO(members["ptxas_table.csv"].decode()))
    assert (row["ptxas_version"], row["status"], row["ptxas_code"]) == ("12.8.93", "register_exhausted", "C7600")
    assert len(row["sha256"]) == 64
    # What -O1 does to the same PTX is known (data/remedies.csv): 1,088 B.
    edits = {e["change"]: e["spill_store_bytes"] for e in json.loads(members["workarounds.json"])}
    assert edits["ptxas -O1"] == 1088 and "ptxas -O2" not in edits


def test_a_spec_brings_its_source_ir_and_a_spec_that_compiles_from_the_folder(tmp_path, no_edits):
    done = report(Choice(), tmp_path / "r.zip")
    assert done.reproduced
    members = members_of(tmp_path / "r.zip")
    assert {"kernel.ttir", "kernel.ttgir", "spec.json", "kernel/kernels/extend_attention.py"} <= set(members)
    (tmp_path / "there").mkdir()
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        archive.extractall(tmp_path / "there")
    assert not Path(KernelSpec.from_json(members["spec.json"].decode()).kernel.path).is_absolute()
    (spec,) = read_specs([tmp_path / "there" / "spec.json"])
    assert spec.content_key() == Choice().request().spec.content_key()
    text = everything(members)
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text


def test_planted_names_are_in_no_member_and_it_still_reproduces(tmp_path, no_edits):
    ptx = planted_ptx()
    assert all(word in everything({"x": ptx.encode()}) for word in PLANTED)
    done = report(ptx, tmp_path / "r.zip", identity=ADA)
    assert done.reproduced
    text = everything(members_of(tmp_path / "r.zip")) + done.issue_path.read_text()
    assert [word for word in PLANTED if word in text] == []
    assert "FOLDER1" in text and not re.search(r"\bada\b", text)


def test_withheld_leaves_no_word_of_the_kernel_and_still_reproduces(tmp_path, ptxas, no_edits):
    done = report(Choice(), tmp_path / "r.zip", withhold_source=True)
    assert done.reproduced and "C7600" in done.check
    members = members_of(tmp_path / "r.zip")
    assert not [n for n in members if n.endswith((".py", ".ttir", ".ttgir")) or n in ("spec.json", "log.txt")]
    text = everything(members) + done.issue_path.read_text()
    spec = Choice().request().spec
    names = [spec.kernel.name, "extend_attention", *(n for n, _ in spec.signature if len(n) > 5)]
    assert [name for name in names if name.lower() in text.lower()] == []
    assert ".loc" not in members["kernel.ptx"].decode() and "//" not in members["kernel.ptx"].decode()
    assert run_elsewhere(tmp_path / "r.zip", tmp_path / "empty", PTXAS=str(ptxas)).returncode == 0


def test_a_withheld_kernel_called_kernel_does_not_garble_the_words(tmp_path, no_edits):
    done = report(SMALL.read_text().replace("illegal", "kernel"), tmp_path / "r.zip", withhold_source=True)
    assert done.reproduced and "kernel.ptx -o kernel.cubin" in members_of(tmp_path / "r.zip")["README.md"].decode()


def test_the_same_report_is_the_same_bytes(tmp_path, no_edits):
    first = report(SMALL, tmp_path / "a.zip").path.read_bytes()
    assert report(SMALL, tmp_path / "b.zip").path.read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == sorted(archive.namelist())


def test_hashes_are_those_of_the_files(tmp_path, no_edits):
    import hashlib

    report(SMALL, tmp_path / "r.zip")
    members = members_of(tmp_path / "r.zip")
    said = json.loads(members["environment.json"])["files_sha256"]
    assert set(said) == set(members) - {"environment.json"}
    assert all(hashlib.sha256(members[name]).hexdigest() == digest for name, digest in said.items())


# --- what is refused --------------------------------------------------------------------------------------


def test_a_ptx_that_compiles_is_refused_and_on_request_says_so(tmp_path, no_edits):
    ptx = FIXTURES / "ptx" / "wgmma_sm90a.ptx"
    with pytest.raises(UserError, match=r"this compiles: ptxas 12\.8\.93 takes it with 138 registers"):
        report(ptx, tmp_path / "r.zip")
    assert not (tmp_path / "r.zip").exists()
    done = report(ptx, tmp_path / "r.zip", allow_unreproduced=True)
    members = members_of(tmp_path / "r.zip")
    assert not done.reproduced and "repro.sh" not in members
    assert "**Not reproduced.**" in members["README.md"].decode()
    assert "Not reproduced" in done.issue_path.read_text() and "NOT REPRODUCED" in members["repro_check.txt"].decode()


def test_a_repro_that_does_not_fail_again_stops_the_writing(tmp_path, monkeypatch, no_edits):
    monkeypatch.setattr(collect, "repro_script", lambda *_: "#!/bin/sh\necho fine\nexit 1\n")
    with pytest.raises(UserError, match="nothing was written, the bundle does not reproduce"):
        report(SMALL, tmp_path / "r.zip")
    assert list(tmp_path.iterdir()) == []
    done = report(SMALL, tmp_path / "r.zip", allow_unreproduced=True)
    assert not done.reproduced and "did not fail the same way" in done.check
    assert "**Not reproduced.**" in members_of(tmp_path / "r.zip")["README.md"].decode()


def test_what_scrubbing_misses_stops_the_writing(tmp_path, monkeypatch, no_edits):
    monkeypatch.setattr("helpers.bundle.scrub.Scrubber.code", lambda _self, text: text)
    with pytest.raises(UserError, match="after scrubbing there is still"):
        report(planted_ptx(), tmp_path / "r.zip", identity=ADA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b'{"kernel": {"path": "x", "name": "k"}}', "not a KernelSpec"),
        (b".version 8.7\n.target sm_100a\n.address_size 64\n// nothing\n", "this compiles|ptxas"),
        (b"\x1f\x8bnot gzip", "cannot read"),
        (b".version 8.7\n.target ../../etc\n.visible .entry k() { ret; }\n", "no arch such as"),
    ],
)
def test_rubbish_gets_a_sentence(tmp_path, content, words):
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(UserError, match=words):
        report(tmp_path / "in", tmp_path / "r.zip")
    assert not (tmp_path / "r.zip").exists()


def test_a_name_that_is_no_zip_a_missing_file_and_a_folder_are_refused(tmp_path):
    for source, out in ((INCIDENT, "r.tar"), (tmp_path / "none", "r.zip"), (tmp_path, "r.zip")):
        with pytest.raises(UserError):
            report(source, tmp_path / out)
    with pytest.raises(UserError, match="cannot be part of a repro"):
        report(INCIDENT, tmp_path / "r.zip", ptxas_flags=("-o=/tmp/x",))


@pytest.mark.parametrize("content", ["top secret", "PASSWORD = 'top secret'"])
def test_hostile_names_in_a_spec_never_become_paths_and_no_other_file_goes_in(tmp_path, content, no_edits):
    secret = tmp_path / "secret.txt"
    secret.write_text(content)
    spec = Choice().request().spec
    hostile = replace(
        spec, kernel=replace(spec.kernel, path=str(secret), name="../../escape", import_root=str(tmp_path))
    )
    with pytest.raises(UserError, match="fails before there is PTX"):
        report(hostile, tmp_path / "r.zip")
    report(hostile, tmp_path / "r.zip", allow_unreproduced=True)
    members = members_of(tmp_path / "r.zip")
    assert "top secret" not in everything(members)
    assert all(re.fullmatch(r"[\w./-]+", n) and ".." not in n and not n.startswith("/") for n in members)


# --- logs -------------------------------------------------------------------------------------------------


def printed_log(ptx: str) -> str:
    """What Triton prints when ptxas fails, on a stranger's machine, with a command that tries to write elsewhere."""
    bar = "=" * 64
    return (
        f"INFO start\n{bar}\n{ptx}\n{bar}\nTraceback (most recent call last):\n"
        '  File "/home/ada/hush_project/serve.py", line 3, in <module>\n    run()\n'
        "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n`ptxas` stderr:\n"
        "ptxas fatal   : (C7600) Register allocation failed with register count of '255'. Compile the program with a "
        "higher register target\nptxas fatal   : Ptx assembly aborted due to errors\n\n"
        "Repro command: /opt/v/site-packages/triton/backends/nvidia/bin/ptxas -lineinfo -v --gpu-name=sm_100a "
        "--output-file=/tmp/pwned /tmp/x.ptx -o /tmp/x.ptx.o\nada@fjord-12: done\n"
    )


def test_the_ptx_a_log_prints_is_used_and_the_log_s_names_are_not(tmp_path, no_edits):
    done = report(printed_log(planted_ptx()), tmp_path / "r.zip", identity=ADA)
    members = members_of(tmp_path / "r.zip")
    assert done.reproduced and {"log.txt", "diagnosis.txt", "diagnosis.json", "kernel.ptx"} <= set(members)
    assert "output-file" not in members["repro.sh"].decode() and not os.path.exists("/tmp/pwned")
    text = everything(members) + done.issue_path.read_text()
    assert [word for word in PLANTED if word in text] == []


@pytest.mark.parametrize(
    "log", ["hello\nworld\n", "\x00\x01\x02\n" * 500, (FIXTURES / "logs" / "clean.log").read_text()]
)
def test_a_log_without_a_failure_is_refused(tmp_path, log):
    with pytest.raises(UserError, match="no failure that is known"):
        report(log, tmp_path / "r.zip")
    assert list(tmp_path.iterdir()) == []


def test_two_specs_in_a_file_are_one_too_many(tmp_path):
    spec = json.loads(Choice().request().spec.to_json())
    (tmp_path / "s.json").write_text(json.dumps([spec, spec]))
    with pytest.raises(UserError, match="holds 2 specs"):
        report(tmp_path / "s.json", tmp_path / "r.zip")


def test_a_log_without_ptx_gives_the_diagnosis_and_says_what_is_missing(tmp_path):
    log = (FIXTURES / "logs" / "c7600.log").read_text()
    done = report(log, tmp_path / "r.zip")
    members = members_of(tmp_path / "r.zip")
    assert not done.reproduced and "the log prints no PTX" in done.check
    assert {"README.md", "log.txt", "diagnosis.txt", "diagnosis.json", "environment.json", "repro_check.txt"} == set(
        members
    )
    assert "register exhaustion" in members["diagnosis.txt"].decode()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400), name=st.text(max_size=60))
def test_whatever_is_in_a_log_the_zip_unpacks_into_its_folder(tmp_path, text, name):
    log = f"{text}\nptxas /{name}/../../x.ptx, line 3; fatal   : (C7600) {name}\n"
    report(log, tmp_path / "r.zip", allow_unreproduced=True, identity=ADA)
    members = members_of(tmp_path / "r.zip")
    assert "C7600" in members["log.txt"].decode()
    for member in members:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._/-]*", member) and ".." not in member


# --- words ------------------------------------------------------------------------------------------------


def facts(**changes: object) -> Facts:
    row = {"ptxas_version": "12.8.93", "status": "register_exhausted", "ptxas_code": "C7600", "regs_per_thread": None,
           "spill_store_bytes": None, "spill_load_bytes": None}  # fmt: skip
    base = {
        "title": "C7600 on sm_100a", "status": "register_exhausted", "message": "ptxas fatal", "code": "C7600",
        "how": with_a_ptxas("ptxas kernel.ptx"), "versions": {"Triton": "3.5.1"}, "expected": "A binary.",
        "reproduced": True,
        "check": "it was run", "report_to": "Triton", "report_why": "so", "table": [row], "members": {"a": "b"},
    }  # fmt: skip
    return Facts(**{**base, **changes})


def test_an_issue_fits_a_code_host_whatever_is_in_it_and_keeps_what_matters():
    huge = facts(
        message="x" * 500_000, notes=["n" * 3_000] * 200, diagnosis="d" * 100_000, table=[facts().table[0]] * 500
    )
    text = issue(huge, zip_name="r.zip")
    assert len(text) <= MAX_ISSUE_CHARS
    for word in ("C7600 on sm_100a", "sh repro.sh", "ptxas kernel.ptx", "Versions", "3.5.1"):
        assert word in text


def test_words_of_strangers_do_not_become_markup():
    evil = "</details><img src=x onerror=1> @team ``` | [x](javascript:1)\n# heading"
    for text in (readme(facts(title=evil, message=evil, notes=[evil])), issue(facts(title=evil), zip_name="r.zip")):
        outside = re.sub(r"(`{3,}).*?\n\1", "", text, flags=re.DOTALL)
        assert not re.search(r"(?<!\\)<|(?<!\\)\[x\]|@team|^# heading", outside, re.MULTILINE)
    assert code_block("a\n```\nb").startswith("````")


@pytest.mark.parametrize(
    ("table", "edits", "to"),
    [
        ({"12.8.93": "register_exhausted", "13.1.80": "spills"}, (), "NVIDIA"),
        ({"12.8.93": "register_exhausted", "13.1.80": "register_exhausted"}, ("3.7.1",), "Triton"),
        ({"12.8.93": "register_exhausted", "12.9.86": "unsupported_ptx_version"}, (), "the kernel's own project first"),
    ],
)
def test_where_to_report_follows_from_what_other_versions_made_of_it(table, edits, to):
    rows = [{"ptxas_version": v, "status": s} for v, s in table.items()]
    tried = [{"kind": "triton", "triton_version": v} for v in edits]
    assert where_to_report("register_exhausted", "C7600", rows, tried)[0].startswith(to)
    assert where_to_report("ptxas_signal", None, rows, tried)[0].startswith("NVIDIA")


# --- the verb ---------------------------------------------------------------------------------------------


def test_the_verb_writes_zip_and_issue_and_prints_json(tmp_path, capsys, no_edits):
    from helpers.__main__ import main

    out = tmp_path / "r.zip"
    assert main(["report", str(SMALL), "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["reproduced"] and Path(said["zip"]).is_file() and Path(said["issue"]).is_file()
    assert main(["report", str(SMALL), "--head-dim", "64", "-o", str(out)]) == 2
    assert main(["report", str(FIXTURES / "ptx" / "wgmma_sm90a.ptx"), "-o", str(tmp_path / "no" / "r.zip")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error: ") for line in lines) == 2

"""Every verb recognises what it was given by content, does its job, or names the verb that does."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.commands.line.given import (
    BINARY,
    CUBIN,
    EMPTY,
    FOLDER,
    LOG,
    PROGRAM,
    PTX,
    PYTHON,
    SPEC,
    TEXT,
    ZIP,
    captured_with,
    recognise,
    spec_paths,
    specs_in,
)
from helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
KERNEL = """
import triton
import triton.language as tl


@triton.jit
def scale(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at, mask=at < n) * 2, mask=at < n)


@triton.jit
def other(x_ptr):
    pass
"""


@pytest.fixture
def things(tmp_path, write_kernel, monkeypatch) -> dict[str, Path]:
    """One thing of each kind, under names that say nothing."""
    monkeypatch.chdir(tmp_path)
    spec = json.loads(write_kernel().to_json())
    captured = {**spec, "capture": {"arch": "sm_90a", "triton_version": "3.5.1", "outcome": "failed"}}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text(json.dumps({**captured, "capture": {"outcome": "compiled"}}))
    (tmp_path / "folder" / "b.json").write_text(json.dumps(captured))
    (tmp_path / "folder" / "c.incomplete.json").write_text(json.dumps(captured))
    (tmp_path / "folder" / "rubbish.json").write_text("[1, 2")
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "only.json").write_text(json.dumps(captured))
    contents = {
        "log": (FIXTURES / "logs" / "pr22079_comment.log").read_bytes(),
        "ptx": (ROOT / "data" / "incident_minimized.ptx").read_bytes(),
        "packed": gzip.compress((ROOT / "data" / "incident_minimized.ptx").read_bytes()),
        "spec": json.dumps(spec).encode(),
        "specs": json.dumps([spec, spec]).encode(),
        "captured": json.dumps(captured).encode(),
        "kernel": KERNEL.encode(),
        "cubin": b"\x7fELF\x02\x01\x01" + bytes(11) + (190).to_bytes(2, "little") + bytes(100),
        "program": b"\x7fELF\x02\x01\x01" + bytes(11) + (62).to_bytes(2, "little") + bytes(100),
        "zip": b"PK\x03\x04" + bytes(100),
        "empty": b" \n",
        "prose": b"nothing in particular\n",
        "binary": bytes(range(256)) * 50,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {path.name: path for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("log", LOG), ("ptx", PTX), ("packed", PTX), ("spec", SPEC), ("specs", SPEC), ("captured", SPEC),
     ("kernel", PYTHON), ("cubin", CUBIN), ("program", PROGRAM), ("zip", ZIP), ("empty", EMPTY), ("prose", TEXT),
     ("binary", BINARY), ("folder", FOLDER)],
)  # fmt: skip
def test_what_a_thing_is_is_told_by_its_content(name, kind, things):
    assert recognise(things[name]).kind == kind


@pytest.mark.parametrize("log", sorted((FIXTURES / "logs").glob("*.log")), ids=lambda path: path.stem)
def test_a_log_is_never_taken_for_another_thing(log):
    assert recognise(log).kind in (LOG, TEXT)


def test_a_json_log_with_a_kernel_in_it_is_no_spec(tmp_path):
    (tmp_path / "x.json").write_text('{"level": "error", "kernel": "_fwd", "msg": "ptxas fatal : C7600"}\n')
    assert recognise(tmp_path / "x.json").kind == LOG


OF_ONE_SPEC = {
    "log": "register-cliff diagnose log", "ptx": "register-cliff minimize ptx", "packed": "report packed",
    "kernel": "kernels there: other, scale", "cubin": "give the PTX or the spec", "folder": "b.json, folder/a.json",
}  # fmt: skip
OF_SPECS = {"log": "diagnose log", "ptx": "pressure ptx", "kernel": "--kernel NAME"}
# verb -> (what it refuses, a part of the sentence)
NAMES = {
    "diagnose": {
        "spec": "register-cliff compile spec", "ptx": "register-cliff pressure ptx", "kernel": "spec --file kernel",
        "folder": "register-cliff matrix folder", "cubin": "give the PTX or the spec", "zip": "unpack it",
        "program": "register-cliff inspect program reads it",
    },
    **{verb: OF_ONE_SPEC for verb in ("compile", "try", "ablate", "bisect", "autotune")},
    **{verb: OF_SPECS for verb in ("matrix", "gate --baseline x.csv --write")},
    "pressure": {"kernel": "spec --file kernel", "folder": "name one spec", "cubin": "give the PTX"},
    "minimize": {"log": "register-cliff diagnose log", "kernel": "spec --file kernel", "folder": "name one spec"},
    "report": {"kernel": "spec --file kernel", "folder": "name one spec", "cubin": "give the PTX"},
    "spec --kernel scale --file": {"log": "register-cliff diagnose log", "ptx": "pressure ptx", "spec": "compile spec"},
}  # fmt: skip


@pytest.mark.parametrize(("verb", "name", "said"), [(v, n, s) for v, all_ in NAMES.items() for n, s in all_.items()])
def test_what_a_verb_does_not_read_names_the_verb_that_does(verb, name, said, things, capsys):
    assert main([*verb.split(), name]) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and out == "" and err.startswith("error: ")


@pytest.mark.parametrize("verb", ["diagnose", "compile", "matrix", "pressure", "minimize", "report", "try"])
def test_what_is_not_there_is_said_in_one_line(verb, things, capsys):
    assert main([verb, "nothing-here"]) == 2
    err = capsys.readouterr().err
    assert "nothing-here is not there" in err and err.count("\n") == 1


def test_folders_of_specs_failures_first_and_incomplete_ones_left_out(things):
    assert [path.name for path in specs_in(things["folder"])] == ["b.json", "a.json"]
    assert len(spec_paths([things["folder"], things["spec"]])) == 3
    with pytest.raises(UserError, match="it holds no captured specs"):
        spec_paths([things["log"].parent / "folder" / ".."])


def test_a_capture_is_remembered_and_a_pipe_is_left_alone(things, tmp_path):
    import os

    assert captured_with(things["captured"])["arch"] == "sm_90a"
    assert captured_with(things["spec"]) == {} == captured_with(things["prose"])
    os.mkfifo(tmp_path / "pipe")
    assert captured_with(tmp_path / "pipe") == {}


def test_diagnose_reads_a_packed_log(things, capsys):
    things["log"].with_name("l.gz").write_bytes(gzip.compress(things["log"].read_bytes()))
    assert main(["diagnose", "l.gz"]) == 0
    assert "register exhaustion" in capsys.readouterr().out


def test_pressure_takes_a_ptx_packed_or_not_a_spec_and_a_log_that_prints_one(things, capsys):
    results = []
    for name in ("ptx", "packed"):
        assert main(["pressure", name, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1] and results[0]["demand"] > 250
    assert main(["pressure", "spec", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["function"] == "add_one"
    assert main(["pressure", "lone", "--arch", "B200", "--trust-root", "k"]) == 0
    assert "add_one" in capsys.readouterr().out
    printed = next(path for path in (FIXTURES / "logs").glob("*.log") if ".visible .entry" in path.read_text())
    shutil.copy(printed, "printed.log")
    assert main(["pressure", "printed.log"]) == 0
    assert "registers are needed" in capsys.readouterr().out
    assert main(["pressure", "ptx", "--arch", "B200"]) == 2
    assert "--arch" in capsys.readouterr().err


def test_matrix_takes_every_spec_of_a_folder(things, capsys):
    assert (
        main(["matrix", "folder", "--arch", "sm_80,H100", "--triton", "environment", "--json", "--trust-root", "k"])
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert [row["arch"] for row in rows] == ["sm_80", "sm_90a"] * 2


def test_a_kernel_of_ones_own_says_which_chip_and_triton_were_assumed_and_why(things, capsys):
    from helpers.compiler.toolchain import environment_triton

    here = environment_triton().version
    assert main(["compile", "spec"]) == 0
    out, err = capsys.readouterr()
    assert "compiled for sm_100a (the incident's chip, because neither --arch nor the spec says)" in err
    assert f"with Triton {here} (the environment's own)" in err and f"Triton {here}" in out
    assert main(["compile", "captured"]) == 0
    out, err = capsys.readouterr()
    assert "compiled for sm_90a (the chip it was captured on)" in err and "sm_90a" in out
    assert ("--triton 3.5.1 takes that one" in err) == (here != "3.5.1")
    for words in (["--quiet"], ["--json"], ["--arch", "A100", "--triton", "environment"]):
        assert main(["compile", "spec", *words]) == 0
        assert capsys.readouterr().err == ""

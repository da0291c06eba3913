"""Every verb with a stranger's characters in all that it is given: none of them reaches the terminal."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import click.utils
import pytest

from helpers.__main__ import main
from helpers.cleaning import for_terminal
from helpers.commands import VERBS
from tests.compiling import ADD_ONE, spec_of

ROOT = Path(__file__).resolve().parents[2]
# A colour, a title for the window, a bell, a right-to-left override, a zero-width space, half a byte of C1.
EVIL = "x\x1b[2J\x1b]0;owned\x07\u202e\u200b\x9bowned"
OTHER_PTX = ".version 8.6\n.target sm_80\n.address_size 64\n.visible .entry {}()\n{{\nret;\n}}\n"


@pytest.fixture(autouse=True)
def a_terminal_that_shows_all(monkeypatch):
    """click itself drops colours where stdout is no terminal; here it believes that it is one."""
    monkeypatch.setattr(click.utils, "should_strip_ansi", lambda *_args: False)


@pytest.fixture
def planted(tmp_path, monkeypatch) -> Path:
    """A folder with things of a stranger's, each with EVIL in its name and in its content."""
    monkeypatch.chdir(tmp_path)
    Path("k.py").write_text(ADD_ONE)
    spec = {
        "kernel": {"path": "k.py", "name": "add_one"}, "label": f"label {EVIL}",
        "signature": [["x_ptr", "*fp32"], ["n", "i32"], ["BLOCK", "constexpr"]], "constexprs": [["BLOCK", 128]],
        "divisible_by_16": ["x_ptr"], "options": [["num_warps", 4]],
    }  # fmt: skip
    files = {
        "spec": spec,
        "field": {**spec, "kernel": {**spec["kernel"], EVIL: 1}},
        "option": {**spec, "options": [["num_warps", 4], [EVIL, 1]]},
        "constexpr": {**spec, "constexprs": [["BLOCK", 128], [EVIL, 1]]},
        "value": {**spec, "options": [["num_warps", EVIL]]},
        "path": {**spec, "kernel": {"path": f"{EVIL}/k.py", "name": "add_one"}},
        "outside": {**spec, "kernel": {"path": f"/tmp/{EVIL}.py", "name": "add_one"}},
        "name": {**spec, "kernel": {**spec["kernel"], "name": EVIL}},
        "captured": {**spec, "capture": {"outcome": EVIL, "stage": EVIL, "error_type": EVIL, "error": EVIL,
                                         "arch": EVIL, "triton_version": EVIL, "incomplete": [EVIL]}},
    }  # fmt: skip
    for name, content in files.items():
        Path(f"{name}{EVIL}.json").write_text(json.dumps(content))
    Path(f"crash{EVIL}.log").write_text(f"Traceback (most recent call last):\n  File \"{EVIL}.py\", line 3, in {EVIL}\n"
                                        f"    kernel[{EVIL}]()\nRuntimeError: {EVIL} ptxas fatal: C7600\n")  # fmt: skip
    Path(f"entry{EVIL}.ptx").write_text(OTHER_PTX.format(EVIL.replace("/", "")))
    Path(f"broken{EVIL}.ptx").write_text(OTHER_PTX.format(f"k{EVIL}") + f"{EVIL};\n")
    Path("folder").mkdir()
    for name in ("spec", "captured"):
        moved = {**files[name], "kernel": {"path": "../k.py", "name": "add_one"}}
        Path("folder", f"{name}{EVIL}.json").write_text(json.dumps(moved))
    return tmp_path


SPECS = ("spec", "field", "option", "constexpr", "value", "path", "outside", "name")
ENV = ["--arch", "H100", "--triton", "environment"]


def of_specs(verb: str, *more: str) -> list[list[str]]:
    """The verb with each of the specs that no compile is made of, and with one that is not there."""
    bad = [[verb, f"{name}{EVIL}.json", *more] for name in SPECS if name not in ("spec", "option", "name")]
    return [*bad, [verb, f"none{EVIL}", *more], [verb, f"spec{EVIL}.json", "--arch", EVIL]]


# verb -> command lines; every one of them says something of what was planted.
LINES = {
    "diagnose": [["diagnose", f"crash{EVIL}.log", "--verbose"], ["diagnose", f"spec{EVIL}.json"]],
    "capture": [["capture", "-o", "folder"], ["capture", "-o", f"no{EVIL}"],
                ["capture", "-o", "folder", "--", f"no{EVIL}"]],
    "spec": [["spec", "--file", "k.py", "--kernel", EVIL], ["spec", "--file", f"crash{EVIL}.log", "--kernel", "a"],
             ["spec", "--file", "k.py", "--kernel", "add_one", "--signature", f"*{EVIL}"],
             ["spec", "--wheel", f"{EVIL}.whl", "--member", "a:b"],
             ["spec", "--file", "k.py", "--kernel", "add_one", "--signature", "*fp32, i32, 128", "--label", EVIL]],
    "compile": [*of_specs("compile"), ["compile", f"spec{EVIL}.json", *ENV], ["compile", f"option{EVIL}.json", *ENV],
                ["compile", f"name{EVIL}.json", *ENV], ["compile", f"spec{EVIL}.json", *ENV, f"--ptxas-flag=-{EVIL}"]],
    "pressure": [["pressure", f"entry{EVIL}.ptx"], ["pressure", f"broken{EVIL}.ptx"], *of_specs("pressure"),
                 ["pressure", f"crash{EVIL}.log"]],
    "try": of_specs("try"),
    "ablate": [*of_specs("ablate"), ["ablate", f"spec{EVIL}.json", *ENV, "--hold", EVIL]],
    "bisect": of_specs("bisect"),
    "cross": of_specs("cross"),
    "autotune": [*of_specs("autotune"), ["autotune", f"spec{EVIL}.json", *ENV]],
    "minimize": [*of_specs("minimize"), ["minimize", f"entry{EVIL}.ptx", "--arch", EVIL],
                 ["minimize", f"entry{EVIL}.ptx", "-o", f"no{EVIL}/x"],
                 ["minimize", f"broken{EVIL}.ptx", "--resume", f"no{EVIL}/x"]],
    "report": [*of_specs("report"), ["report", f"entry{EVIL}.ptx", "-o", f"{EVIL}"],
               ["report", f"spec{EVIL}.json", *ENV]],
    "matrix": [*of_specs("matrix"), ["matrix", "folder", *ENV, "--trust-root", "."],
               ["matrix", "folder", "--csv", f"no{EVIL}/x"]],
    "audit": [["audit", "--feature", EVIL], ["audit", "--csv", f"no{EVIL}/x"]],
    "bench": [["bench", "--cases", EVIL], ["bench", "--csv", f"no{EVIL}/x"]],
    "gate": [["gate", f"spec{EVIL}.json", "--baseline", f"no{EVIL}"],
             ["gate", f"field{EVIL}.json", "--baseline", f"crash{EVIL}.log"],
             ["gate", f"spec{EVIL}.json", "--baseline", f"crash{EVIL}.log", "--triton", "environment"]],
    "inspect": [["inspect", f"entry{EVIL}.ptx"], ["inspect", "."], ["inspect", f"none{EVIL}"],
                ["inspect", f"spec{EVIL}.json"], ["inspect", ".", "--chip", EVIL],
                ["inspect", ".", "--csv", f"no{EVIL}/x"]],
    "toolchains": [["toolchains", "install", EVIL]],
}  # fmt: skip


def test_every_verb_is_here():
    assert set(LINES) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_no_planted_character_reaches_the_terminal(verb, planted, capfd):
    reached = 0
    for words in LINES[verb]:
        for how in ([], ["--json"]):
            place = words.index("--") if "--" in words else len(words)
            main([*words[:place], *how, *words[place:]])
            said = "\n".join(capfd.readouterr())
            assert said == for_terminal(said), (words, said)
            reached += "owned" in said
    assert reached >= 2 * len(LINES[verb]) / 3, reached  # of twice as many


def test_a_gate_with_a_strangers_baseline_names(planted, capfd):
    import csv

    kept = Path("rows.csv")
    (planted / "s.json").write_text(Path(f"spec{EVIL}.json").read_text().replace(json.dumps(f"label {EVIL}"), '"mine"'))
    words = ["gate", "s.json", "--baseline", str(kept), *ENV, "--quiet"]
    assert main([*words, "--write"]) == 0
    rows = list(csv.reader(kept.read_text().splitlines()))
    rows.append([EVIL, *rows[-1][1:]])
    with kept.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    main(words)
    said = "\n".join(capfd.readouterr())
    assert said == for_terminal(said)


def test_words_on_the_terminal_of_the_verb_itself(capfd):
    for words in ([EVIL], ["compile", f"--{EVIL}"], ["matrix", "--tile", EVIL], ["compile", "--head-dim", EVIL]):
        assert main(words) == 2
        said = "\n".join(capfd.readouterr())
        assert said == for_terminal(said) and "owned" in said


# --- files that are no files ----------------------------------------------------------------------------------------

SPECIAL = ("/dev/zero", "/dev/tty", "/dev/full", "/proc/kmsg", "/proc/self/mem", "/sys/kernel/notes", "a folder",
           "a pipe",
           "n" * 300, "d/" * 1_200)  # fmt: skip
READING = {
    "diagnose": [], "compile": [], "pressure": [], "try": [], "ablate": [], "bisect": [], "cross": [], "autotune": [],
    "minimize": [], "report": [], "matrix": [], "gate": ["--baseline", "b.csv", "--write"],
}  # fmt: skip


@pytest.fixture
def no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("helpers.files.NO_WRITER_S", 0.3)
    Path("a folder").mkdir()
    os.mkfifo("a pipe")


@pytest.mark.parametrize("what", SPECIAL, ids=lambda what: what[:20])
def test_what_has_no_end_is_refused_at_once_by_every_verb(what, no_files, capsys):
    began = time.monotonic()
    lines = [[verb, what, *more] for verb, more in READING.items()]
    lines += [["spec", "--file", what, "--kernel", "k"], ["gate", "s.json", "--baseline", what],
              ["spec", "--wheel", f"{what}", "--member", "a:b"]]  # fmt: skip
    Path("k.py").write_text(ADD_ONE)
    Path("s.json").write_text(spec_of(Path("k.py")).to_json())
    for words in lines:
        assert main(words) == 2, words
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 6_000, (words, err)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("what", SPECIAL, ids=lambda what: what[:20])
def test_a_spec_whose_kernel_is_no_file_is_refused(what, no_files, capsys):
    spec = json.loads(spec_of(Path("k.py")).to_json())
    for kernel in ({"path": what}, {"path": "k.py", "import_root": what}):
        Path("s.json").write_text(json.dumps({**spec, "kernel": {**spec["kernel"], **kernel}}))
        for verb in ("compile", "pressure", "report"):
            words = [verb, "s.json", "--arch", "H100", "--triton", "environment", "--trust-root", "/"]
            assert main(words) == 2, (words, kernel)
            assert capsys.readouterr().err.count("error: ") == 1


@pytest.mark.parametrize("what", SPECIAL[:-2], ids=lambda what: what[:20])
def test_a_state_that_is_no_file_is_refused(what, no_files, capsys):
    Path("k.ptx").write_text((ROOT / "data" / "incident_minimized.ptx").read_text())
    assert main(["minimize", "k.ptx", "--resume", what]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end(no_files, capsys):
    text = (ROOT / "data" / "incident_minimized.ptx").read_text()

    def write():
        with open("a pipe", "w") as pipe:
            for at in range(0, len(text), 5_000):
                pipe.write(text[at : at + 5_000])
                pipe.flush()
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    assert main(["pressure", "a pipe"]) == 0
    writer.join()
    assert "registers are needed" in capsys.readouterr().out


def test_a_pipe_whose_writer_falls_silent_is_given_up(no_files, capsys, monkeypatch):
    monkeypatch.setattr("helpers.files.SILENT_WRITER_S", 0.3)
    handle = os.open("a pipe", os.O_RDWR)
    os.write(handle, b".version 8.6\n")
    assert main(["pressure", "a pipe"]) == 2
    os.close(handle)
    assert "nothing more comes out of it" in capsys.readouterr().err

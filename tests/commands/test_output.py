"""What verbs say and write: the next step, notes, the progress bar, files that are kept, a reader who leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.commands.line.cli import cli
from helpers.compiler.report import CompileReport

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "tests" / "fixtures" / "logs"
SMALL = ["--head-dim", "64", "--window", "none", "--tile", "16x64", "--triton", "environment"]


def next_of(out: str) -> str:
    """The command of the line that says what to do next; it must parse."""
    (line,) = re.findall(r"^next: (.*)$", out, re.MULTILINE)
    words = shlex.split(line)
    stop = next((i for i, word in enumerate(words) if word in ("ranks", "shows", "packs", "finds", "records")), None)
    verb, *rest = words[1:stop]
    assert words[0] == "register-cliff"
    cli.get_command(None, verb).make_context(verb, list(rest))
    return " ".join(words[1:stop])


# --- the next step --------------------------------------------------------------------------------------------------


def test_diagnose_says_how_to_go_on_where_something_failed(capsys, tmp_path):
    for log in LOGS.glob("c7600*.log"):
        assert main(["diagnose", str(log)]) == 0
        assert "how to go on" in capsys.readouterr().out, log
    (tmp_path / "fine.log").write_text("all went well\n")
    assert main(["diagnose", str(tmp_path / "fine.log")]) == 0
    assert "how to go on" not in capsys.readouterr().out


def test_diagnose_keeps_its_evidence_for_verbose(capsys):
    log = str(LOGS / "pr22079_comment.log")
    lengths = []
    for more in ([], ["--verbose"]):
        assert main(["diagnose", log, *more]) == 0
        lengths.append(len(capsys.readouterr().out))
    assert lengths[1] > 1.3 * lengths[0]


def test_a_crash_goes_on_to_try_with_the_same_words(toolchain_351, capsys):
    words = ["--arch", "B200", "--num-warps", "8", "--tile", "hopper", "--mask"]
    assert main(["compile", *words]) == 0
    out = capsys.readouterr().out
    assert next_of(out) == "try --arch sm_100a --tile hopper --num-warps 8 --mask"
    assert main(["compile", *words, "--json"]) == 0
    assert "next:" not in capsys.readouterr().out
    assert main(["matrix", "--window", "none,1024", "--triton", "3.5.1", "--quiet"]) == 0
    assert "--window 1024" in next_of(capsys.readouterr().out)


def test_a_compile_with_nothing_wrong_has_no_next_step(capsys):
    assert main(["compile", *SMALL]) == 0
    assert "next:" not in capsys.readouterr().out


def test_pressure_over_the_cap_goes_on_to_minimize(capsys):
    assert main(["pressure", str(ROOT / "data" / "incident.ptx.gz")]) == 0
    assert next_of(capsys.readouterr().out) == f"minimize {ROOT / 'data' / 'incident.ptx.gz'}"


# --- spec, capture, gate: how to begin ------------------------------------------------------------------------------


def test_spec_lists_the_kernels_of_a_file_without_and_with_an_unknown_name(tmp_path, capsys):
    (tmp_path / "k.py").write_text(
        "import triton\n@triton.jit\ndef a(x):\n    pass\n@triton.jit\ndef b(x):\n    pass\n"
    )
    assert main(["spec", "--file", str(tmp_path / "k.py")]) == 2
    assert "--kernel NAME; kernels in" in (err := capsys.readouterr().err) and ": a, b" in err
    assert main(["spec", "--file", str(tmp_path / "k.py"), "--kernel", "c"]) == 2
    assert "kernels there: a, b" in capsys.readouterr().err


def test_capture_that_saw_nothing_points_to_spec(tmp_path, capfd):
    assert main(["capture", "-o", str(tmp_path / "specs"), "--", sys.executable, "-c", "print('mine')"]) == 0
    out, err = capfd.readouterr()
    assert out == "mine\n" and "register-cliff spec --file KERNEL.py" in err
    (tmp_path / "program.py").write_text("")
    assert main(["capture", "-o", str(tmp_path / "specs"), str(tmp_path / "program.py")]) == 2
    assert f"-- python {tmp_path / 'program.py'}" in capfd.readouterr().err
    assert main(["capture", "-o", str(tmp_path / "specs"), "--quiet", "--", sys.executable, "-c", ""]) == 0
    assert capfd.readouterr() == ("", "")


def test_gate_says_how_to_make_its_first_baseline_and_the_command_does(write_kernel, tmp_path, capsys):
    (tmp_path / "s.json").write_text(write_kernel().to_json())
    baseline = tmp_path / "rows.csv"
    words = ["gate", str(tmp_path / "s.json"), "--baseline", str(baseline), "--arch", "H100", "--quiet"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "there is no baseline" in said and not baseline.exists()
    first = shlex.split(said.partition("register-cliff ")[2])
    assert first[0] == "gate" and first[-1] == "--write"
    assert main([*first, "--arch", "H100", "--quiet"]) == 0
    assert "next: the same command without --write" in capsys.readouterr().out
    assert main(words) == 0
    assert main(["gate", "--baseline", str(baseline)]) == 2
    assert "no SPEC is given" in capsys.readouterr().err


# --- files that are written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["matrix", "audit", "spec", "minimize", "report"])
def test_a_file_that_is_there_is_kept_unless_force_is_given(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text("import triton\n@triton.jit\ndef a(x):\n    pass\n")
    kept = tmp_path / ("kept.zip" if verb == "report" else "kept")
    kept.write_text("mine")
    minimized = str(ROOT / "data" / "incident_minimized.ptx")
    words = {
        "matrix": [*SMALL, "--csv", kept.name],
        "audit": ["--arch", "B200", "--csv", kept.name],
        "spec": ["--file", "k.py", "--kernel", "a", "--signature", "*fp32", "-o", kept.name],
        "minimize": [minimized, "-o", kept.name],
        "report": [minimized, "-o", kept.name],
    }[verb]
    assert main([verb, *words]) == 2
    out, err = capsys.readouterr()
    assert f"{kept.name} is there already" in err and "--force" in err and out == "" and kept.read_text() == "mine"
    if verb in ("matrix", "audit", "spec"):
        assert main([verb, *words, "--force"]) == 0
        assert kept.read_text() != "mine"


def test_a_folder_and_a_place_that_cannot_be_written_are_one_line(tmp_path, capsys):
    for where, said in ((tmp_path, "is a directory"), (Path("/proc/no/x.csv"), "cannot write")):
        assert main(["matrix", *SMALL, "--csv", str(where), "--force"]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1


# --- a reader who leaves, a full disk -------------------------------------------------------------------------------


def process(words: list[str], **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "helpers", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                            **options)  # fmt: skip


def test_a_reader_who_leaves_loses_neither_the_csv_nor_the_exit_code(write_kernel, tmp_path, capsys):
    file = tmp_path / "rows.csv"
    verb = process(["matrix", *SMALL, "--csv", str(file), "--quiet"], stdout=subprocess.PIPE)
    verb.stdout.close()
    assert (verb.wait(120), verb.stderr.read()) == (0, "") and file.read_text().count("\n") == 2
    # A baseline that the kernel cannot keep: exit code 1, also where nobody reads why.
    (tmp_path / "s.json").write_text(write_kernel().to_json())
    words = ["gate", str(tmp_path / "s.json"), "--baseline", str(tmp_path / "b.csv"), "--arch", "H100", "--quiet"]
    assert main([*words, "--write"]) == 0
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace(",none,", ",wgmma,"))
    assert main(words) == 1
    verb = process(words, stdout=subprocess.PIPE)
    verb.stdout.close()
    assert (verb.wait(120), verb.stderr.read()) == (1, "")


def test_a_full_disk_on_stdout_is_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        verb = process(["diagnose", str(LOGS / "c7602.log")], stdout=full)
        _out, err = verb.communicate(timeout=120)
    assert verb.returncode == 3 and err.startswith("error: cannot print the result") and err.count("\n") == 1


def shell(line: str, **options) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a line for a shell, `rc` in it our command."""
    text = line.replace("rc ", f"{shlex.quote(sys.executable)} -m helpers ")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          check=False, **options)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def worse(write_kernel, tmp_path, capsys) -> str:
    """A gate that fails: its baseline says more of the kernel than is true."""
    (tmp_path / "s.json").write_text(write_kernel().to_json())
    words = ["gate", str(tmp_path / "s.json"), "--baseline", str(tmp_path / "b.csv"), "--arch", "H100", "--quiet"]
    assert main([*words, "--write"]) == 0
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace(",none,", ",wgmma,"))
    return "rc " + shlex.join(words)


def test_a_verdict_in_an_exit_code_survives_any_end_of_stdout(worse):
    for where, said in (("| true", ""), (">&-", "stdout is closed"), ("> /dev/full", "cannot print the result"),
                        (">&- 2>&-", ""), ("| head -c 1 > /dev/null", "")):  # fmt: skip
        code, _out, err = shell(f"{worse} {where}")
        assert code == 1 and said in err and err.count("\n") == bool(said), (where, code, err)


def test_what_a_closed_or_full_stdout_does_to_a_verb_that_went_well(tmp_path):
    log = LOGS / "c7602.log"
    assert shell(f"rc diagnose {log} | true")[0] == 0
    code, _out, err = shell(f"rc diagnose {log} >&-")
    assert code == 0 and err == "note: stdout is closed, so that the result is printed nowhere\n"
    code, _out, err = shell(f"rc diagnose {log} > /dev/full")
    assert code == 3 and err.startswith("error: cannot print the result: No space left") and err.count("\n") == 1
    assert shell("rc --help > /dev/full")[2].count("Traceback") == 0
    # Nothing that is printed gets into a file that was opened in the place of stdout.
    code, _out, err = shell(
        f"rc {shlex.join(['matrix', *SMALL, '--quiet', '--csv', str(tmp_path / 'r.csv')])} >&- 2>&- <&-"
    )
    assert code == 0 and (tmp_path / "r.csv").read_text().count("\n") == 2


def test_a_result_that_cannot_be_written_is_kept_elsewhere_and_is_3(tmp_path, monkeypatch, capsys, isolated_cache):
    """As on a full disk: the new file cannot take the place of its name."""
    import errno

    real = os.replace

    def replace(source, target):
        if Path(target).parent == tmp_path:
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        return real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "k.py").write_text("import triton\n@triton.jit\ndef a(x):\n    pass\n")
    lines = {
        "x.json": ["spec", "--file", str(tmp_path / "k.py"), "--kernel", "a", "--signature", "*fp32"],
        "x.csv": ["audit", "--arch", "B200"],
        "x.ptx": ["minimize", str(ROOT / "data" / "incident_minimized.ptx"), "--budget", "1", "--only-this-ptxas"],
    }
    for name, words in lines.items():
        out = tmp_path / name
        assert main([*words, "--csv" if name == "x.csv" else "-o", str(out), "--quiet"]) == 3, words
        err = capsys.readouterr().err
        assert err.startswith(f"error: cannot write {out}: No space left on device") and err.count("\n") == 1
        kept = Path(re.search(r"is kept in (\S+)$", err)[1])
        assert kept.stat().st_size and not out.exists() and kept.is_relative_to(isolated_cache)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("verb", ["matrix", "audit", "spec", "minimize", "report", "cross", "gate", "bench"])
def test_no_folder_is_made_and_no_device_is_written_over(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("helpers.files.NO_WRITER_S", 0.3)
    (tmp_path / "k.py").write_text("import triton\n@triton.jit\ndef a(x):\n    pass\n")
    (tmp_path / "s.json").write_text("{}")
    minimized = str(ROOT / "data" / "incident_minimized.ptx")
    words = {
        "matrix": [*SMALL, "--csv"], "audit": ["--arch", "B200", "--csv"],
        "spec": ["--file", "k.py", "--kernel", "a", "--signature", "*fp32", "-o"], "minimize": [minimized, "-o"],
        "report": [minimized, "-o"], "cross": [minimized, "--grids"], "gate": ["s.json", "--write", "--baseline"],
        "bench": ["--csv"],
    }[verb]  # fmt: skip
    ending = ".zip" if verb == "report" else ""
    assert main([verb, *words, f"no/such/file{ending}"]) == 2
    err = capsys.readouterr().err
    assert "there is no folder no/such" in err and err.count("\n") == 1 and not Path("no").exists()
    os.mkfifo("special")  # and not a device of the machine's: a broken verb would put a file in its place
    os.symlink("special", f"device{ending}")
    assert main([verb, *words, f"device{ending}", *(["--force"] if verb not in ("gate", "bench") else [])]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and Path("special").is_fifo()


def test_gate_and_bench_keep_a_file_that_is_not_theirs(tmp_path, monkeypatch, capsys, write_kernel):
    monkeypatch.chdir(tmp_path)
    Path("s.json").write_text(write_kernel().to_json())
    Path("mine").write_text("a letter to my aunt\n")
    for words in (["gate", "s.json", "--baseline", "mine", "--write"], ["bench", "--csv", "mine"]):
        assert main(words) == 2
        assert capsys.readouterr().err.count("\n") == 1 and Path("mine").read_text() == "a letter to my aunt\n"
    words = ["gate", "s.json", "--baseline", "rows.csv", "--write", "--arch", "H100"]
    assert main(words) == 0 and main(words) == 0
    assert "take the place of those" in capsys.readouterr().err


def test_a_result_through_a_link_is_written_to_the_file_that_it_leads_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("real").mkdir()
    os.symlink("real/rows.csv", "rows.csv")
    assert main(["audit", "--arch", "B200", "--csv", "rows.csv"]) == 0
    assert Path("rows.csv").is_symlink() and Path("real/rows.csv").read_text().count("\n") > 10


def test_limits_of_the_shell_are_a_sentence(tmp_path, write_kernel):
    (tmp_path / "s.json").write_text(write_kernel().to_json())
    words = shlex.join(["compile", str(tmp_path / "s.json"), "--arch", "H100", "--triton", "environment", "--quiet"])
    for limit in ("-n 12", "-f 1"):
        cache = f"REGISTER_CLIFF_CACHE={shlex.quote(str(tmp_path / limit.replace(' ', '')))}"
        code, _out, err = shell(f"ulimit {limit}; {cache} rc {words}")
        assert "Traceback" not in err and code in (0, 2, 3), (limit, code, err)


# --- the progress bar -----------------------------------------------------------------------------------------------


def on_a_terminal(words: list[str]) -> tuple[int, str, str]:
    """(exit code, stdout, what appeared on the terminal that stderr was)."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.Popen([sys.executable, "-m", "helpers", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs,
                            env=env, text=True)  # fmt: skip
    os.close(theirs)
    shown = b""
    out, _ = done.communicate(timeout=120)
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    return done.returncode, out, shown.decode(errors="replace")


def test_the_progress_bar_is_on_a_terminal_alone_and_off_with_quiet_and_json(isolated_cache):
    code, out, shown = on_a_terminal(["matrix", *SMALL])
    assert code == 0 and "compiling" in shown and "1/1" in shown and "compiling" not in out
    for flag in ("--quiet", "--json"):
        code, out, shown = on_a_terminal(["matrix", *SMALL, flag])
        assert (code, shown) == (0, "") and out
    verb = process(["matrix", *SMALL], stdout=subprocess.DEVNULL)
    assert verb.communicate(timeout=120)[1] == ""


# --- the budget -----------------------------------------------------------------------------------------------------


def test_a_budget_is_kept_and_what_was_not_tried_is_named(toolchain_351, isolated_cache, capsys):
    import time

    began = time.monotonic()
    assert main(["ablate", "--budget", "6", "--json"]) == 0
    took = time.monotonic() - began
    result = json.loads(capsys.readouterr().out)
    assert took < 30, took  # 4 s alone; one compile of the incident takes about 2 s here
    assert result["untried"] and not set(result["untried"]) & {rung["change"] for rung in result["rungs"]}
    # What the time did not suffice for is not told as a verdict.
    assert "timeout" not in {rung["status"] for rung in result["rungs"]}


def test_a_compile_cut_by_the_budget_is_not_a_verdict(monkeypatch):
    from helpers.search import ablate as module

    made = []

    def compile_matrix(requests, **_options):
        made.extend(requests)
        status = "timeout" if len(made) > 1 else "ok"
        return [CompileReport(status=status, arch="sm_80", triton_version=None, ptxas_version=None) for _ in requests]

    monkeypatch.setattr(module, "compile_matrix", compile_matrix)
    baseline = CompileReport(status="register_exhausted", arch="sm_80", triton_version=None, ptxas_version=None)
    from helpers.attention.choice import Choice
    from helpers.search.changes import option_change

    changes = [option_change("num_warps", 8, n) for n in (1, 2, 4)]
    import time

    bench = module._Bench(
        Choice().request(),
        baseline,
        module.Limits(max_seconds=50.0),
        time.monotonic(),
        executor=None,
        progress=None,
        found=None,
    )
    monkeypatch.setattr(module, "usable_cores", lambda: 0.5)  # one compile a batch
    tried, reason = bench.run([(change,) for change in changes], bounded=False)
    assert [single[0] for single in tried] == changes[:1] and reason == "50 seconds"
    assert all(request.timeout_s <= 50 for request in made)


# --- what a stranger's text may do to a terminal ---------------------------------------------------------------------


def test_no_control_character_of_a_strangers_reaches_the_terminal(tmp_path, capsys, write_kernel):
    evil = tmp_path / "x\x1b]0;owned\x07\x9b31m.log"
    evil.write_text("all went well\n")
    for words in (["compile", str(evil)], ["pressure", f"{evil}.gone"], [f"{evil}"]):
        assert main(words) == 2
        said = "".join(capsys.readouterr())
        assert "\x1b" not in said and "\x07" not in said and "\x9b" not in said and "owned" in said
    spec = json.loads(write_kernel().to_json()) | {"label": "a\x1b[2Jb"}
    (tmp_path / "s.json").write_text(json.dumps(spec))
    assert main(["compile", str(tmp_path / "s.json"), "--arch", "H100"]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and "[2Jb" in said


def test_a_word_that_is_no_verb_names_a_verb(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crash.log").write_text((LOGS / "c7600.log").read_text())
    for word, said in (("tyr", "did you mean 'try'"), ("crash.log", "register-cliff diagnose crash.log reads it"),
                       ("zzzz", "register-cliff --help lists them"), ("x" * 9_999, "there is no verb")):  # fmt: skip
        assert main([word]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1 and len(err) < 300


def test_capture_says_which_folder_it_made_and_which_it_cannot(tmp_path, capfd):
    words = ["--", sys.executable, "-c", ""]
    assert main(["capture", "-o", str(tmp_path / "a" / "b"), *words]) == 0
    assert f"the folder {tmp_path / 'a' / 'b'} was made" in capfd.readouterr().err
    assert main(["capture", "-o", str(tmp_path / "a" / "b"), *words]) == 0
    assert "was made" not in capfd.readouterr().err
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file" / "x", tmp_path / ("n" * 300)):
        assert main(["capture", "-o", str(bad), *words]) == 2
        err = capfd.readouterr().err
        assert err.startswith("error: cannot make the folder") and err.count("\n") == 1

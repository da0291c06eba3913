"""`diagnose` says the kind, what this project's data supports and what it does not, and that it does not know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import helpers as rc
from helpers.__main__ import main
from helpers.commands import diagnose as command
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.incidents import known_incidents
from helpers.diagnosis.kinds import KINDS
from helpers.diagnosis.remedies import measured
from helpers.hardware import archs_of_limit, warps_of_cap
from helpers.recorded import DATA

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "tests" / "fixtures" / "logs"


def of(name: str):
    return diagnose((LOGS / name).read_text())


@pytest.fixture(scope="module")
def incident():
    return of("pr22079_comment.log")


# --- the incident -------------------------------------------------------------------------------------------


def test_the_comment_log_is_the_known_incident(incident):
    told = incident.to_dict()
    assert (told["kind"], told["ptxas_code"], told["register_count_asked"]) == ("register_exhaustion", "C7600", 255)
    assert told["arch"] == "sm_100a" and told["triton"]["candidates"] == ["3.5.0", "3.5.1"]
    first = incident.incidents[0]
    assert first.incident.name == "sgl-project/sglang #22079" and first.degree == "the same"
    assert "sliding layers" in first.incident.cause and incident.report_to == "nobody yet"


def test_what_helps_is_what_was_measured(incident):
    edits = [s.edit for s in incident.suggestions]
    assert any("64x64" in e for e in edits[:2]) and any("loop bounds" in e for e in edits)
    assert any("Triton 3.7" in e for e in edits) and any("maxnreg=255" in e for e in edits)
    assert all(s.evidence for s in (*incident.suggestions, *incident.in_vain))
    vain = {s.edit: s.evidence for s in incident.in_vain}
    flag = vain["--maxrregcount, at any value"]
    assert flag.count("C7600") == 1 and "compiles" not in flag and "--maxrregcount=168" in flag


def test_the_numbers_in_the_evidence_are_the_data_s(incident):
    rows = rc.read_rows("remedies")
    for remedy in ("tile 64x64", "bounds and fused", "-O1", "maxnreg=255 as a launch option"):
        row = rows[(rows["remedy"] == remedy) & (rows["triton"] == "3.5.1")].iloc[0]
        words = measured([remedy], ["3.5.1"])
        assert f"{int(row['spill_store_bytes'])} B of spill stores" in words
        assert any(f"{int(row['spill_store_bytes'])} B" in s.evidence for s in incident.suggestions)


@pytest.mark.parametrize("remedy", ["--maxrregcount=250", "--maxrregcount=128", "num_stages 2", "-O2"])
def test_what_is_said_not_to_help_died_in_the_data(remedy):
    rows = rc.read_rows("remedies")
    assert set(rows[rows["remedy"] == remedy]["status"]) == {"register_exhausted"}


C7600_LOG = "ptxas fatal   : (C7600) Register allocation failed with register count of '255'. Compile the program\n"


def switch_of(log: str):
    """What is said of LLVM's switch of a log of some kernel that needs more than 255 registers; None for nothing."""
    return next((s for s in diagnose(log).suggestions if "DISABLE_LLVM_OPT" in s.edit), None)


def command_of(arch: str) -> str:
    return (
        "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n"
        f"Repro command: /x/ptxas -lineinfo -v --gpu-name={arch} /tmp/k.ptx -o /tmp/k.ptx.o\n"
    )


def test_llvm_s_switch_is_offered_where_it_can_be_there_and_can_matter(incident):
    # The incident is of Triton 3.5, whose LLVM has no such switch.
    assert not any("DISABLE_LLVM_OPT" in s.edit for s in incident.suggestions)
    # Nothing known of Triton: it is said which releases lack it.
    unknown = switch_of(command_of("sm_100a") + C7600_LOG)
    assert unknown is not None and "3.5 and older do not have" in unknown.why and "1260 B" in unknown.evidence
    stated = switch_of("triton version: 3.6.0\n" + command_of("sm_100a") + C7600_LOG)
    assert stated is not None and "older do not have" not in stated.why
    # Seen to cure on 3.6 alone: later releases have the switch, and compile the incident without it.
    assert switch_of("triton version: 3.7.1\n" + command_of("sm_100a") + C7600_LOG) is None
    # A log that does not speak of Triton gets no advice for Triton.
    assert switch_of(C7600_LOG) is None
    # No chip before sm_100 has instructions on pairs of floats.
    assert switch_of(command_of("sm_90a") + C7600_LOG) is None


def test_the_switch_has_a_row_for_every_triton_that_knows_it_and_for_no_other():
    rows = rc.read_rows("remedies")
    switch = rows[rows["remedy"] == "DISABLE_LLVM_OPT=nvptx-no-f32x2"]
    assert list(switch["triton"]) == ["3.6.0", "3.7.1", "3.8.0", "3.9.0"] and set(switch["status"]) == {"spills"}
    table = rc.remedy_table()
    assert list(table.loc["DISABLE_LLVM_OPT=nvptx-no-f32x2"]) == ["has no such switch", "has no such switch", "1,260 B"]


def test_recorded_remedies_still_hold(toolchain_351):
    """One cure and one non-cure of data/remedies.csv compiled again: a table nobody recompiles would drift."""
    cure, vain = rc.compile_choices([
        rc.Choice(maxnreg=255), rc.Choice(ptxas_flags=("--maxrregcount=255",))
    ])  # fmt: skip
    assert cure.report.compiled and vain.report.crashed


def test_every_file_named_as_evidence_is_there():
    import re

    texts = [of(p.name).text(verbose=True) for p in LOGS.glob("*.log")]
    named = {m for text in texts for m in re.findall(r"data/[\w.]+\.(?:csv|md)", text)}
    assert {"data/remedies.csv", "data/version_matrix.csv"} <= named
    assert not [name for name in named if not (DATA.parent / name).is_file()]


# --- other kinds --------------------------------------------------------------------------------------------


def test_a_cap_from_warps_is_told_from_a_cap_that_was_set():
    assert warps_of_cap(64) == (32,) and warps_of_cap(128) == (16,)
    assert warps_of_cap(152) == () and warps_of_cap(255) == ()
    by_warps = "num_warps=32\nptxas fatal   : (C7600) Register allocation failed with register count of '64'. Compile\n"
    found = diagnose(by_warps)
    assert "64 is what 32 warps leave" in " ".join(found.because)
    assert found.suggestions[0].edit == "num_warps 16 instead of 32" and "128" in found.suggestions[0].why
    set_elsewhere = diagnose(by_warps.replace("num_warps=32", "num_warps=8"))
    assert "set elsewhere (maxnreg)" in " ".join(set_elsewhere.because)
    assert not any("num_warps" in s.edit for s in set_elsewhere.suggestions)
    named = diagnose(".maxnreg 128\n" + by_warps.replace("num_warps=32", "").replace("'64'", "'128'"))
    assert "cap the log itself names" in " ".join(named.because) and "raise or drop" in named.suggestions[0].edit
    assert "does not say which" in " ".join(diagnose(by_warps.replace("num_warps=32", "")).because)
    assert "no usual number of warps" in " ".join(of("c7600_at_152.log").because)


def test_a_cap_below_one_instruction_says_what_would_do():
    found = of("c7602.log")
    assert found.kind == "register_cap_too_low" and "146" in found.suggestions[0].edit
    assert "8 warps leave 255" in found.suggestions[0].edit


def test_shared_memory_is_not_register_exhaustion():
    words = "out of resource: shared memory, Required: {}, Hardware limit: {}. Reducing block sizes may help."
    found = diagnose("triton.runtime.errors.OutOfResources: " + words.format(106496, 101376))
    assert found.kind == "shared_memory" and not found.incidents
    assert "5,120 too many" in " ".join(found.because) and "sm_120a" in " ".join(found.because)
    assert "not register exhaustion" in found.in_vain[0].why
    hopper = diagnose("OutOfResources: " + words.format(299008, 232448))
    assert "sm_90a" in " ".join(hopper.because) and {a.name for a in archs_of_limit(232448)} >= {"sm_90a", "sm_100a"}


def test_internal_errors_and_signals_go_to_nvidia():
    internal = diagnose(
        "ptxas fatal   : (C7907) Internal compiler error\nptxas fatal   : Ptx assembly aborted due to errors\n"
    )
    assert internal.kind == "internal_error" and "NVIDIA" in internal.report_to
    assert diagnose("`ptxas` raised SIGSEGV\n").kind == "ptxas_signal"
    # Triton calls every refusal of ptxas an internal error of its own code generation.
    assert of("triton_360_inline_asm.log").kind == "illegal_instruction"


@pytest.mark.parametrize(
    "name, kind",
    [("ptx_version_too_new.log", "unsupported_ptx_version"), ("sm103a_ptxas129.log", "unsupported_arch"),
     ("feature_not_on_target.log", "feature_not_on_target"), ("compilation_error_triton371.log", "frontend_error"),
     ("clean.log", "no_failure"), ("trap_stub.log", "no_failure")],
)  # fmt: skip
def test_kinds(name, kind):
    found = of(name)
    assert found.kind == kind and kind in KINDS
    if name == "trap_stub.log":
        assert "bare trap" in " ".join(found.because), "four registers are a reason to look, not a verdict"


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "empty"),
        ("  \n\n", "empty"),
        ("hello world", "no compiler of GPU kernels"),
        ("\x00\x01\x02" * 500, "not text"),
        ("Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nKeyError: 'x'\n", "KeyError"),
        ("ptxas fatal   : Ptx assembly aborted due to errors\n", "says why, is not in the log"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "at run time"),
        ('  File "/x/triton/runtime/jit.py", line 419, in <lambda>\n', "without a line that says"),
    ],
)
def test_unknown_is_an_answer(text, says):
    found = diagnose(text)
    assert found.kind == "unknown" and found.confidence == "none" and says in found.because[0]
    assert not found.suggestions and not found.incidents and not found.report_to


def test_what_is_no_text_is_a_sentence():
    with pytest.raises(rc.UserError, match="takes the text"):
        diagnose(b"ptxas")


# --- known incidents ----------------------------------------------------------------------------------------


def test_incidents_are_links_by_repository_and_number_and_contradictions_exclude_them():
    assert all(
        i.link.startswith(f"https://github.com/{i.repository}/") and str(i.number) in i.link for i in known_incidents()
    )
    assert len({i.id for i in known_incidents()}) == len(known_incidents())
    other_arch = (LOGS / "pr22079_comment.log").read_text().replace("sm_100a", "sm_90a")
    assert not diagnose(other_arch).incidents
    other_file = (LOGS / "pr22079_comment.log").read_text().replace("extend_attention", "mine")
    assert {m.degree for m in diagnose(other_file).incidents} == {"alike"}
    assert not of("c7600.log").incidents, "numbers alone are many kernels'"


# --- showing it ---------------------------------------------------------------------------------------------

HOSTILE = (
    "\x1b]0;title\x07\x1b[2J<script>alert(1)</script>\n"
    "ptxas fatal   : (C7600) <img src=x onerror=alert(1)> Register allocation failed with register count of '255'.\n"
    'File "/<script>x</script>/a.py", line 3, in <b>f</b>\n'
    "Repro command: /bin/ptxas -v;rm${IFS}-rf /tmp/x --gpu-name=sm_100a $(touch /tmp/owned).ptx -o x\n"
)


def test_everything_shown_is_escaped_and_moves_no_cursor():
    found = diagnose(HOSTILE)
    page, text = found._repr_html_(), found.text()
    assert "<script>" not in page and "<img" not in page and "&lt;img" in page
    assert all(c.isprintable() or c == "\n" for c in text)
    json.dumps(found.to_dict())


def test_json_text_and_html_say_the_same(incident):
    told = json.loads(json.dumps(incident.to_dict()))
    assert told["suggestions"] and told["suggestions"][0].keys() == {"edit", "why", "evidence"}
    assert "ptx" in told and told["ptx"] is None
    for where in (incident.text(), incident._repr_html_()):
        assert "C7600" in where and "#22079" in where
    assert {e["how"] for e in told["evidence"]} <= {"stated", "derived", "hint"}


# --- the command line ---------------------------------------------------------------------------------------


def test_the_verb(capsys, tmp_path):
    assert main(["diagnose", str(LOGS / "pr22079_comment.log")]) == 0
    assert "register exhaustion" in capsys.readouterr().out
    assert main(["diagnose", "--json", str(LOGS / "c7602.log")]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "register_cap_too_low"
    empty = tmp_path / "empty.log"
    empty.write_text("")
    assert main(["diagnose", str(empty)]) == 0
    assert "empty" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["missing", "folder", "binary", "device"])
def test_what_cannot_be_read_is_one_line_and_exit_2(what, capsys, tmp_path):
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "binary":
        path.write_bytes(os.urandom(50_000))
    elif what == "device":
        path = Path("/dev/zero")
    assert main(["diagnose", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and path.name in err


def test_stdin_and_nothing_it_names_is_run_or_opened(tmp_path):
    trap = tmp_path / "owned.ptx"
    done = subprocess.run(
        [sys.executable, "-m", "helpers", "diagnose", "-"],
        input=HOSTILE.replace("/tmp/owned", str(trap.with_suffix(""))),
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and "register exhaustion" in done.stdout and not done.stderr
    assert not list(tmp_path.iterdir())


def test_a_long_log_is_read_at_both_ends_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "MAX_BYTES", 40_000)
    path = tmp_path / "long.log"
    path.write_text("x" * 100_000 + "\n" + (LOGS / "c7600.log").read_text())
    assert main(["diagnose", str(path)]) == 0
    out = capsys.readouterr().out
    assert "register exhaustion" in out and "were not read" in out


def test_backticks_are_code_in_html_and_stay_as_they_are_in_a_terminal():
    found = diagnose((Path(__file__).parents[1] / "fixtures" / "logs" / "pr22079_comment.log").read_text())
    assert any("`if`" in s.edit for s in found.suggestions)
    page = found._repr_html_()
    assert "<code>if</code>" in page and "`" not in page

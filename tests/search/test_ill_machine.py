"""No verb concludes anything from a compile that the machine failed: it says so in one sentence and ends with 3."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.attention.choice import Choice
from helpers.compiler import disassemble, toolchain
from helpers.compiler.compile import CompileRequest, compile_kernel
from helpers.compiler.report import NO_VERDICT, CompileReport, Evidence, refuse_ill
from helpers.compiler.toolchain import Toolchain, ToolchainMissing
from helpers.errors import MachineError, UserError
from helpers.search import ablate as ablation
from helpers.search import cross as crossing
from helpers.search.ablate import ablate, effect_of
from helpers.search.autotune import AutotuneReport, Tried, fate
from helpers.search.changes import ptxas_level_changes
from helpers.search.cross import cross, verdict_of
from helpers.search.cross_answer import sentences
from helpers.search.gate import compare, measured
from helpers.search.try_this import try_request
from helpers.workbook import evidence
from helpers.workbook.explorer.choices import is_final

pytestmark = pytest.mark.usefixtures("toolchain_351")
DIES = """cat >&2 <<'LOG'
ptxas fatal   : (C7600) Register allocation failed with register count of '255'
ptxas fatal   : Ptx assembly aborted due to errors
LOG
exit 255"""
KILLED = "kill -KILL $$"
# The kernel as it is dies; whatever is asked at another level of optimisation, the machine does not answer.
KILLED_AT_LEVELS = f'case "$*" in *-O[012]*) {KILLED};; esac\n{DIES}'
TUNED = """
import triton
import triton.language as tl


@triton.autotune(configs=[triton.Config({"BLOCK": 128}), triton.Config({"BLOCK": 256})], key=["n"])
@triton.jit
def add_one(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n) + 1, mask=offsets < n)
"""
CHAIN = ("--arch", "sm_90a", "--triton", "3.5.1")
ON_SPECS = {
    "compile": ("compile", "SPEC", *CHAIN, "--ptxas", "1.2.3"),
    "matrix": ("matrix", "SPEC", *CHAIN, "--ptxas", "1.2.3,12.8.93"),
    "gate": ("gate", "SPEC", *CHAIN, "--ptxas", "1.2.3", "--baseline", "rows.csv", "--write"),
    "ablate": ("ablate", "SPEC", *CHAIN, "--ptxas", "1.2.3"),
    "try": ("try", "SPEC", *CHAIN, "--ptxas", "1.2.3"),
    "autotune": ("autotune", "SPEC", *CHAIN, "--ptxas", "1.2.3"),
    "bisect": ("bisect", "SPEC", "--axis", "ptxas", *CHAIN),
    "minimize": ("minimize", "SPEC", *CHAIN, "--ptxas", "1.2.3", "-o", "small.json"),
    "report": ("report", "SPEC", *CHAIN, "--ptxas", "1.2.3", "-o", "bundle.zip"),
}


@pytest.fixture
def spec(write_kernel, tmp_path, monkeypatch):
    """The file of a spec, in the folder that the verbs work in."""
    path = tmp_path / "spec.json"
    path.write_text(write_kernel(TUNED).to_json())
    monkeypatch.chdir(tmp_path)
    return path


def run(words, spec, capfd):
    """(exit code, stdout, stderr) of a verb, in this process."""
    code = main([str(spec) if word == "SPEC" else word for word in [*words, "--trust-root", str(spec.parent)]])
    return code, *capfd.readouterr()


def told(err: str) -> str:
    """The one sentence of a verb whose machine was ill."""
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "the machine failed" in line and "make room" in line and "Traceback" not in err, err
    return line


@pytest.mark.parametrize("verb", ON_SPECS)
def test_a_killed_ptxas_is_one_sentence_and_exit_three(verb, spec, fake_ptxas, capfd, tmp_path):
    fake_ptxas(KILLED)
    code, _out, err = run(ON_SPECS[verb], spec, capfd)
    assert code == 3 and "SIGKILL" in told(err)
    assert not {"rows.csv", "small.json", "bundle.zip", "bundle.issue.md"} & {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("verb", ["ablate", "try"])
def test_a_change_that_the_machine_did_not_answer_for_cures_nothing(verb, spec, fake_ptxas, capfd):
    fake_ptxas(KILLED_AT_LEVELS)
    code, out, err = run((*ON_SPECS[verb], "--budget", "60"), spec, capfd)
    assert code == 3 and "no answer" in told(err) and out == "", out


def test_minimize_takes_no_death_for_the_failure_of_a_ptx(write_kernel, fake_ptxas, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    (tmp_path / "k.ptx").write_bytes(Path(report.ptx_path).read_bytes())
    words = ["minimize", "k.ptx", "--ptxas", "1.2.3", "--only-this-ptxas", "-o", "small.ptx"]
    version = fake_ptxas(KILLED)
    program = tmp_path / "cache" / "toolchains" / f"ptxas-{version}" / "bin" / "ptxas"
    of_empty = "grep -q st.global kernel.ptx || exit 0"
    for lines in (KILLED, f"{of_empty}\n{KILLED_AT_LEVELS}"):
        program.write_text(program.read_text().replace(KILLED, lines))
        assert main(words) == 3 and not (tmp_path / "small.ptx").exists()
        assert "SIGKILL" in told(capfd.readouterr().err)


def test_what_minimize_had_found_is_kept(write_kernel, fake_ptxas, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    (tmp_path / "k.ptx").write_bytes(Path(report.ptx_path).read_bytes())
    grown_small = f"[ $(wc -l < kernel.ptx) -gt 20 ] || {KILLED}"
    fake_ptxas(f"grep -q st.global kernel.ptx || exit 0\n{grown_small}\n{DIES}")
    words = ["minimize", "k.ptx", "--ptxas", "1.2.3", "--only-this-ptxas", "-o", "small.ptx", "--jobs", "1"]
    assert main(words) == 3
    assert "so far is in small.ptx; --resume" in told(capfd.readouterr().err)
    small = (tmp_path / "small.ptx").read_text()
    assert "st.global" in small and small.count("\n") < Path(report.ptx_path).read_text().count("\n")


def test_cross_leaves_the_cell_open(write_kernel, fake_ptxas, capfd, tmp_path):
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain("3.5.1"))
    (tmp_path / "k.ptx").write_bytes(Path(report.ptx_path).read_bytes())
    fake_ptxas(KILLED)
    code = main(["cross", str(tmp_path / "k.ptx"), "--ptxas", "1.2.3,12.8.93", "--json"])
    out, err = capfd.readouterr()
    assert code == 3 and "SIGKILL" in told(err)
    found = json.loads(out)
    assert found["turns"] == [] and {c["status"] for c in found["cells"]} == {"environment_error", "ok"}


def test_cross_leaves_open_what_a_release_could_not_begin(write_kernel, own_cache, monkeypatch):
    real = crossing.generate

    def generate(spec, arch, chain, triton, timeout_s):
        if triton.version == "3.5.1":
            raise MachineError("no room")
        return real(spec, arch, chain, triton, timeout_s)

    monkeypatch.setattr(crossing, "generate", generate)
    found = cross(write_kernel(), "sm_90a", versions=["3.5.1", crossing.tc.environment_triton().version])
    ill = found.own["3.5.1"]
    assert ill.status == "environment_error" and verdict_of(ill) is None and not found.turns
    assert any("nothing turns" in words for words in sentences(found))


def ill_report(label: str = "k") -> CompileReport:
    return CompileReport("environment_error", "sm_90a", "3.5.1", None, label=label, message="no space")


def test_one_ill_report_among_many_is_counted_and_named(ok):
    refuse_ill([ok, ok])
    refuse_ill([])
    with pytest.raises(MachineError, match=r"^1 of 2 compiles have no answer, k for sm_90a: no space$"):
        refuse_ill([ok, ill_report()])
    with pytest.raises(MachineError, match=r"^the kernel for sm_90a: no space$"):
        refuse_ill([ill_report("")])


def test_a_search_that_is_given_an_ill_baseline_does_not_begin(write_kernel, monkeypatch):
    monkeypatch.setattr(ablation, "compile_matrix", lambda *_args, **_options: pytest.fail("it went on"))
    with pytest.raises(MachineError):
        ablate(write_kernel(), "sm_90a", changes=ptxas_level_changes(), baseline=ill_report())
    monkeypatch.setattr("helpers.search.try_this.compile_request", lambda _request: ill_report())
    with pytest.raises(MachineError):
        try_request(CompileRequest(write_kernel(), "sm_90a"))


def test_audit_counts_no_cell_that_the_machine_failed(monkeypatch, capfd):
    from helpers.commands import audit

    monkeypatch.setattr(audit, "compile_matrix", lambda requests, progress: [ill_report() for _ in requests])
    assert main(["audit", "--live", "--arch", "sm_90a", "--head-dim", "64", "--kv-dtype", "bf16"]) == 3
    assert "no answer" in capfd.readouterr().err


def test_an_explorer_shows_no_verdict_of_it(monkeypatch, ok):
    monkeypatch.setattr(evidence, "compile_matrix", lambda requests, **_options: [ill_report() for _ in requests])
    with pytest.raises(MachineError, match="no space"):
        evidence.compile_one(Choice())
    assert is_final([Evidence(ok, "")])
    for status in NO_VERDICT[:1] + NO_VERDICT[3:]:
        assert not is_final([Evidence(CompileReport(status, "sm_90a", None, None), "")]), status


def test_a_baseline_holds_to_nothing_that_it_has_no_verdict_of(ok, crash):
    fine = measured(ok)
    for status in ("timeout", "environment_error"):
        before = replace(fine, status=status)
        assert not compare([fine], [before])[0].failed
        (row,) = compare([measured(replace(crash, label="a"))], [before])
        assert row.failed and "no verdict" in row.notes[0], row
    assert not compare([measured(replace(crash, label="a"))], [measured(replace(crash, label="a"))])[0].failed


def test_a_compile_that_takes_too_long_under_this_load_is_no_answer(ok):
    late = replace(ok, status="timeout")
    assert effect_of(ok, late) == "not known" and fate(late)[0] == "not known"
    found = AutotuneReport("k", "sm_90a", "3.5.1", tuple(Tried(None, r, *fate(r)) for r in (ok, late)))
    assert found.dropped == () and "of 1 nothing is known" in found.summary() and "all" not in found.summary()
    none = AutotuneReport("k", "sm_90a", "3.5.1", (Tried(None, ok, *fate(ok)),))
    assert none.summary() == "all 1 configurations compile for sm_90a"


def test_spills_are_not_left_unweighed_because_a_program_was_killed(tmp_path, ok):
    program, cubin = tmp_path / "nvdisasm", tmp_path / "kernel.cubin"
    cubin.write_bytes(b"x")
    report = replace(ok, status="spills", spill_store_bytes=4, cubin_path=str(cubin))
    for lines, ill in (("kill -KILL $$", True), ("echo no; exit 1", False)):
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disassemble, "nvdisasm_programs", lambda _version: [program])
            if ill:
                with pytest.raises(MachineError, match="nvdisasm ended"):
                    disassemble.spill_weight(report)
            else:
                assert disassemble.spill_weight(report) is None


@pytest.mark.parametrize(("code", "full", "told"), [(-9, False, MachineError), (1, True, MachineError),
                                                    (1, False, ToolchainMissing)])  # fmt: skip
def test_a_download_that_there_was_no_room_for_is_no_missing_release(own_cache, monkeypatch, code, full, told):
    monkeypatch.setattr(toolchain.subprocess, "run", lambda *_a, **_o: subprocess.CompletedProcess([], code))
    monkeypatch.setattr(toolchain.machine, "no_room", lambda *_args: full)
    with pytest.raises(UserError) as caught:
        toolchain.install("9.9.9", quiet=True)
    assert type(caught.value) is told and "exit code" in str(caught.value)
    assert not list((own_cache / "toolchains").glob("*9.9.9*"))

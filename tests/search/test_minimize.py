"""minimize_ptx: with stand-ins for ptxas that are quick and fail for a known reason, and with the real thing."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from helpers.compiler.toolchain import installed_ptxas
from helpers.errors import UserError
from helpers.search.minimize import minimize_ptx as minimize
from helpers.search.minimize import prober as probe
from helpers.search.minimize.check import check_valid
from helpers.search.minimize.minimize_ptx import minimize_ptx, verify_agreement
from helpers.search.minimize.program import read_program, render
from helpers.search.minimize.repair import Edit
from helpers.search.minimize.sweeps import Removal, apply_removal

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "ptx"
SMALL = FIXTURES / "crash_minimized_sm100a.ptx"
MMA = (FIXTURES / "mma_sync_sm120a.ptx").read_text()


def _short() -> str:
    """The same kernel with most of it taken away, for searches that are run several times."""
    program = read_program(MMA)
    kept = ("mma", "ex2", "shfl", "bra", "st")
    uids = [u.uid for u in program.functions[0].units if u.word not in kept]
    return render(apply_removal(program, Removal(0, Edit(frozenset(uids[40:])))))


SHORT = _short()

# Fails as the incident does when the text has an ex2 and at least three shfl; says nothing of a kernel otherwise.
CRASH = """
if [ "$1" = --version ]; then echo "Cuda compilation tools, release 1.0, V{version}"; exit 0; fi
{log}
if grep -q 'ex2.approx' kernel.ptx && [ "$(grep -c 'shfl.sync' kernel.ptx)" -ge {shfl} ]; then
  case "$*" in *-O0*|*-O1*) ;; *)
    echo "ptxas fatal   : (C7600) Register allocation failed with register count of '255'." >&2; exit 255;; esac
fi
echo "ptxas info    : Compiling entry function 'k' for 'sm_120a'" >&2
echo "ptxas info    : Used 32 registers" >&2
echo x > kernel.cubin  # an empty one is what a full disk leaves
"""


def fake(folder: Path, version: str, *, shfl: int = 3, body: str = CRASH, log: Path | None = None) -> Path:
    """A program that takes ptxas's arguments and fails by what the text holds."""
    program = folder / f"ptxas-{version}"
    note = f'echo "$*" >> {log}' if log else ":"
    program.write_text("#!/bin/sh\n" + textwrap.dedent(body.format(version=version, shfl=shfl, log=note)))
    program.chmod(0o755)
    return program


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Makes the ptxas releases on this machine be stand-ins: {version: mma needed for the crash}."""

    def make(**needed) -> dict[str, Path]:
        programs = {v.replace("_", "."): fake(tmp_path, v.replace("_", "."), shfl=n) for v, n in needed.items()}
        programs = {v.removeprefix("v"): p for v, p in programs.items()}
        monkeypatch.setattr(minimize, "installed_ptxas", lambda: programs)
        return programs

    return make


def test_the_reason_alone_is_left(fakes):
    fakes(v1_0_0=3)
    small = minimize_ptx(MMA, jobs=2)
    assert small.complete and small.agrees
    assert small.ptx.count("shfl.sync") == 3 and small.ptx.count("ex2.approx") == 1
    assert small.lines_after < 40 and small.lines_before > 1500
    assert check_valid(small.ptx) == []
    assert (small.failure, small.code, small.registers_asked) == ("register_exhausted", "C7600", 255)
    assert [row[1] for row in small.verdicts] == ["-O0", "-O1", "-O2", "-O3"]
    assert [row[3][:5] for row in small.verdicts] == ["32 re", "32 re", "C7600", "C7600"]
    assert small.probes <= small.ptxas_runs


def test_the_same_for_any_number_of_jobs(fakes):
    fakes(v1_0_0=2)
    assert minimize_ptx(SHORT, jobs=1).ptx == minimize_ptx(SHORT, jobs=5).ptx


def test_what_another_ptxas_needs_is_kept(fakes):
    """The oldest needs two shfl, the newest four, one between six: the result must satisfy all of them."""
    fakes(v1_0_0=2, v1_1_0=6, v1_2_0=4)
    small = minimize_ptx(SHORT)
    assert small.ptxas_version == "1.0.0"
    assert small.ptx.count("shfl.sync") == 6
    assert small.agrees and len(small.verdicts) == 12
    alone = minimize_ptx(SHORT, everywhere=False)
    assert alone.ptx.count("shfl.sync") == 2 and len(alone.verdicts) == 4
    rows = verify_agreement(SHORT, alone.ptx, arch="sm_120a")
    assert {row[0] for row in rows if not row[-1]} == {"1.1.0", "1.2.0"}


def test_a_level_that_must_compile_still_does(fakes, tmp_path, monkeypatch):
    """-O1 fails too as soon as the second function-wide reason is gone: such a text is no answer."""
    body = CRASH.replace(
        "*-O0*|*-O1*) ;;", "*-O0*) ;; *-O1*) grep -q ex2 kernel.ptx && grep -q st.shared kernel.ptx || exit 3;;"
    )
    programs = {"1.0.0": fake(tmp_path, "1.0.0", body=body)}
    monkeypatch.setattr(minimize, "installed_ptxas", lambda: programs)
    small = minimize_ptx(SHORT)
    assert "st.shared" in small.ptx and small.agrees


def test_a_ptx_that_compiles_is_refused(fakes):
    fakes(v1_0_0=100_000)
    with pytest.raises(UserError, match="does not fail for sm_120a"):
        minimize_ptx(SHORT)
    with pytest.raises(UserError, match=r"names no \.target"):
        minimize_ptx("nothing")


@pytest.mark.parametrize("wrong", [{"time_limit_s": 0}, {"timeout_s": float("inf")}, {"jobs": 0}, {"jobs": 10**6}])
def test_bad_limits(wrong):
    with pytest.raises(UserError):
        minimize_ptx(SHORT, **wrong)


def test_larger_than_64_megabytes_is_refused(monkeypatch):
    monkeypatch.setattr(minimize, "MAX_PTX_BYTES", 1_000)
    with pytest.raises(UserError, match="up to 1000 are taken"):
        minimize_ptx(MMA)


def test_a_ptxas_that_hangs_is_said(fakes, tmp_path, monkeypatch):
    programs = {"1.0.0": fake(tmp_path, "1.0.0", body="exec sleep 60")}
    monkeypatch.setattr(minimize, "installed_ptxas", lambda: programs)
    with pytest.raises(UserError, match="had not finished"):
        minimize_ptx(MMA, timeout_s=0.3)


def test_time_limit_ends_with_the_best_so_far(fakes):
    fakes(v1_0_0=3)
    small = minimize_ptx(MMA, time_limit_s=0.8)
    assert not small.complete
    assert small.agrees and small.code == "C7600"


def test_interrupted_and_resumed_is_the_same_as_in_one_go(fakes, tmp_path):
    fakes(v1_0_0=3, v1_1_0=5)
    whole = minimize_ptx(SHORT)
    state = tmp_path / "state.json"
    stops = 0

    class Stop(Exception):
        pass

    while True:
        seen = 0

        def stop(_step, limit=25):
            nonlocal seen
            seen += 1
            if seen > limit:
                raise Stop

        try:
            resumed = minimize_ptx(SHORT, state_path=state, progress=stop)
            break
        except Stop:
            stops += 1
            assert json.loads(state.read_text())["input_sha256"]
            if stops > 6:
                resumed = minimize_ptx(SHORT, state_path=state)
                break
    assert stops > 1
    assert resumed.ptx == whole.ptx
    assert resumed.verdicts == whole.verdicts
    again = minimize_ptx(SHORT, state_path=state)
    assert again.ptx == whole.ptx and again.probes == resumed.probes  # nothing is left to ask


def test_a_state_of_another_input_is_refused(fakes, tmp_path):
    fakes(v1_0_0=3)
    state = tmp_path / "state.json"
    minimize_ptx(SHORT, state_path=state, time_limit_s=4)  # time for the first texts also where the machine is busy
    with pytest.raises(UserError, match="is of another run"):
        minimize_ptx(SHORT + "\n// more\n", state_path=state)
    for damaged in ("{", "[]", "{}", "null", json.dumps({**json.loads(state.read_text()), "verdicts": {}})):
        state.write_text(damaged)
        with pytest.raises(UserError, match=r"another run|cannot be read"):
            minimize_ptx(SHORT, state_path=state)


def test_verdicts_tell_failures_apart():
    check = probe.Check("1", Path("p"), ("-lineinfo", "-O1"), "sm_80")
    assert check.level == "-O1" and check.at_level("-O2").flags == ("-lineinfo", "-O2")
    c7600 = probe.Verdict("register_exhausted", "C7600", 255)
    assert c7600.agrees(probe.Verdict("register_exhausted", "C7600", 255, wall_s=9))
    assert not c7600.agrees(probe.Verdict("register_exhausted", "C7600", 152))
    assert not c7600.agrees(probe.Verdict("ok", registers=255))
    assert probe.Verdict("ok", registers=8).agrees(probe.Verdict("ok", registers=255))


# --- the real thing ---------------------------------------------------------------------------------------


def original() -> str:
    return gzip.decompress((ROOT / "data" / "incident.ptx.gz").read_bytes()).decode()


def test_the_minimised_incident_is_valid_and_a_tenth():
    small = SMALL.read_text()
    assert small == (ROOT / "data" / "incident_minimized.ptx").read_text()
    assert check_valid(small) == []
    assert small.count("\n") * 10 < gzip.decompress((FIXTURES / "crash_sm100a.ptx.gz").read_bytes()).count(b"\n")


def agreement_on(programs: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr(minimize, "installed_ptxas", lambda: programs)
    rows = verify_agreement(original(), SMALL.read_text(), arch="sm_100a", timeout_s=240, jobs=2)
    assert len(rows) == 4 * len(programs)
    assert [row for row in rows if not row[-1]] == []
    assert {row[1] for row in rows if row[2] == row[3] == "C7600 at 255"} == {"-O2", "-O3"}


def test_the_minimised_incident_agrees_with_the_original(monkeypatch):
    """At every level, on the oldest ptxas of this machine."""
    version, program = next(iter(installed_ptxas().items()))
    agreement_on({version: program}, monkeypatch)


@pytest.mark.slow
def test_the_minimised_incident_agrees_on_every_ptxas(monkeypatch):
    agreement_on(installed_ptxas(), monkeypatch)


def test_an_illegal_instruction_is_minimised_to_itself():
    version = list(installed_ptxas())[-1]
    filler = "\n".join(f"add.s32 %x{n}, %x{n - 1}, {n};" for n in range(2, 40))
    ptx = (FIXTURES / "illegal.ptx").read_text()
    body = ptx.replace("{", "{ .reg .b32 %x<50>; mov.u32 %x1, 3;" + filler, 1)
    small = minimize_ptx(body, ptxas=version, everywhere=False)
    assert small.failure == "ptxas_error" and small.code is None
    assert small.instructions <= 2 < small.instructions_before


def test_a_failure_that_the_plain_form_does_not_have_is_left_alone():
    version = list(installed_ptxas())[-1]
    twice = (FIXTURES / "assert_branch.ptx").read_text().replace(".reg .b32", ".reg .b32 %r<2>;\n.reg .b32", 1)
    small = minimize_ptx(twice, ptxas=version, everywhere=False)
    assert "Duplicate definition" in small.verdicts[0][2]
    assert small.ptx == twice and small.complete


def test_the_command_line_writes_the_file(tmp_path):
    version = list(installed_ptxas())[-1]
    out, crash = tmp_path / "out.ptx", tmp_path / "crash.ptx"
    crash.write_text((FIXTURES / "illegal.ptx").read_text())
    command = [sys.executable, "-m", "helpers", "minimize", str(crash), "-o", str(out), "--ptxas", version]
    done = subprocess.run([*command, "--only-this-ptxas", "--json"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert out.read_text() == result["ptx"] and result["agrees"] and result["file"] == str(out)


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (None, (), "is not there"),
        (b"", (), "names no .target"),
        (b"\x1f\x8b rubbish", (), "cannot read"),
        (b"{", (), "holds no spec"),
        (b".version 8.5\n.target sm_80\n.visible .entry k() { ret; }\n", (), "does not fail"),
        (b".version 8.5\n.target sm_80\n", ("--triton", "3.5.1"), "--triton is for a spec"),
        (b"x", ("-o", "/nowhere/x.ptx"), "cannot write"),
    ],
)
def test_rubbish_is_one_line_and_exit_2(content, more, said, tmp_path, capsys, monkeypatch):
    from helpers.__main__ import main

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "in.ptx"
    if content is not None:
        file.write_bytes(content)
    assert main(["minimize", str(file), "--quiet", *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [{"code": {}}, {"code": 7}, {"status": None}, {"registers_asked": "255"}, {"registers": 1.5}, {"words": [[]]},
     {"wall_s": "soon"}, {"more": 1}],
)  # fmt: skip
def test_a_verdict_of_a_state_file_is_what_was_written_or_refused(changes):
    whole = probe.Verdict("register_exhausted", "C7600", 255, wall_s=0.5)
    assert probe.Verdict.kept(asdict(whole)) == whole
    with pytest.raises(TypeError):
        probe.Verdict.kept({**asdict(whole), **changes})


def test_a_state_with_numbers_that_are_none_is_refused(fakes, tmp_path):
    fakes(v1_0_0=3)
    state = tmp_path / "state.json"
    minimize_ptx(SHORT, state_path=state, time_limit_s=4)
    sound = json.loads(state.read_text())
    (key, *_) = sound["verdicts"]
    for damage in ({"lines_at_round": float("inf")}, {"verdicts": {**sound["verdicts"], key: {"status": {}}}}):
        state.write_text(json.dumps({**sound, **damage}))
        with pytest.raises(UserError, match="cannot be read as the state"):
            minimize_ptx(SHORT, state_path=state)


def test_ctrl_c_keeps_the_state(tmp_path):
    """A killed search leaves its state and no ptxas behind."""
    state = tmp_path / "state.json"
    program = fake(tmp_path, "1.0.0", body=CRASH.replace("{log}", "sleep 0.05"))
    code = f"""
import pathlib
from helpers.search.minimize import minimize_ptx as minimize
minimize.installed_ptxas = lambda: {{"1.0.0": pathlib.Path({str(program)!r})}}
minimize.minimize_ptx(open({str(FIXTURES / "mma_sync_sm120a.ptx")!r}).read(), state_path=pathlib.Path({str(state)!r}))
"""
    search = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not state.exists() and time.monotonic() < end:
        time.sleep(0.2)
    os.kill(search.pid, signal.SIGINT)
    assert search.wait(timeout=30) != 0
    assert json.loads(state.read_text())["probes"] > 0


# --- failures that are none of the PTX's -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"flags": ["--nonsense"]},
        {"flags": ["-maxrregcount=abc"]},
        {"flags": ["--entry", "nobody"]},
        {"flags": ["-dlcm=zz"]},
        {"arch": "sm_120a"},
        {"arch": "sm_100"},
        {"arch": "sm_80"},
    ],
    ids=str,
)
def test_a_failure_of_the_flags_or_the_arch_is_not_minimised(how, toolchain_351):
    with pytest.raises(UserError, match=r"an empty kernel fails in the same way|does not fail for"):
        minimize_ptx((ROOT / "data" / "incident_minimized.ptx").read_text(), time_limit_s=20, **how)


def test_a_failure_of_the_ptx_is_still_its_own_beside_flags(toolchain_351):
    text = (ROOT / "data" / "incident_minimized.ptx").read_text()
    found = minimize_ptx(text, flags=["-O3", "--fmad=false"], everywhere=False, time_limit_s=1)
    assert found.code == "C7600" and found.registers_asked == 255


def test_what_is_not_known_is_never_called_none():
    from helpers.commands.minimize import format_ptx_result
    from helpers.compiler.report import verdict_words

    assert "None" not in probe.Verdict("ok").text() + verdict_words("ok") + verdict_words("ok", registers=9)
    with pytest.raises(UserError, match="there is no kernel in it"):
        minimize_ptx(".version 8.6\n.target sm_80\n.address_size 64\n.func f()\n{\nret;\n}\n", time_limit_s=5)
    result = {"file": "x", "lines_after": 1, "lines_before": 2, "instructions": 1, "instructions_before": 2,
              "failure": "ptxas_error", "code": "C7602", "registers_asked": None, "ptxas_version": "1", "arch": "a",
              "probes": 1, "ptxas_runs": 1, "wall_s": 1, "complete": True, "command": "c", "verdicts": [],
              "agrees": True}  # fmt: skip
    assert "(C7602)" in format_ptx_result(result)

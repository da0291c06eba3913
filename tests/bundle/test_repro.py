"""repro.sh under a real shell with stand-in ptxas programs and real ones; zips that try to leave their folder."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from helpers.bundle.repro import (
    NO_PTXAS,
    NOT_THE_SAME,
    SAME,
    Expected,
    expected_of,
    one_command,
    repro_script,
    run_repro,
    safe_flags,
    safe_member,
    unpack,
    zip_bytes,
)
from helpers.compiler.run_ptxas import outcome
from helpers.errors import UserError

FATAL = "ptxas fatal   : (C7600) Register allocation failed with register count of '255'."
C7600 = Expected("register_exhausted", "C7600", "(C7600)")


def stand_in(folder: Path, body: str) -> Path:
    """A program that answers --version as ptxas does and otherwise does what `body` says."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "ptxas"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "Cuda compilation tools, release 12.8"; exit 0; }}\n{body}\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def write(folder: Path, expected: Expected = C7600, flags=("-lineinfo",)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.ptx").write_text(".version 8.7\n")
    (folder / "repro.sh").write_text(repro_script(flags, "sm_100a", expected))
    return folder


def run(folder: Path, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    base = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    return subprocess.run(
        ["/bin/sh", str(folder / "repro.sh")], cwd=cwd, env={**base, **env}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (f'echo "{FATAL}" >&2; exit 255', SAME),
        ("exit 0", NOT_THE_SAME),
        ('echo "ptxas fatal   : (C7602) Insufficient registers" >&2; exit 255', NOT_THE_SAME),
        (f'echo "{FATAL}" >&2; exit 0', NOT_THE_SAME),
        ("kill -SEGV $$", NOT_THE_SAME),
    ],
)
def test_exit_code_says_whether_it_failed_the_same_way(tmp_path, body, code):
    folder = write(tmp_path / "with a space")
    done = run(folder, tmp_path, PTXAS=str(stand_in(tmp_path / "bin", body)))
    assert done.returncode == code, done.stdout + done.stderr
    assert "release 12.8" in done.stdout


def test_a_ptxas_on_the_path_or_relative_will_do_and_none_is_exit_code_2(tmp_path):
    folder = write(tmp_path / "b")
    program = stand_in(tmp_path / "bin", f'echo "{FATAL}" >&2; exit 255')
    assert run(folder, tmp_path, PATH=f"{program.parent}:/usr/bin:/bin").returncode == SAME
    assert run(folder, tmp_path, PTXAS="bin/ptxas").returncode == SAME
    for missing in ("/no/such/ptxas", str(tmp_path)):
        done = run(folder, tmp_path, PTXAS=missing)
        assert done.returncode == NO_PTXAS and "no ptxas" in done.stderr


def test_signals_and_hangs_are_failures_one_can_expect(tmp_path):
    crash = write(tmp_path / "s", Expected("ptxas_signal", None, ""))
    assert run(crash, tmp_path, PTXAS=str(stand_in(tmp_path / "1", "kill -SEGV $$"))).returncode == SAME
    assert run(crash, tmp_path, PTXAS=str(stand_in(tmp_path / "2", "exit 1"))).returncode == NOT_THE_SAME
    hang = write(tmp_path / "h", Expected("timeout", None, "", limit_s=1))
    assert run(hang, tmp_path, PTXAS=str(stand_in(tmp_path / "3", "exec sleep 30"))).returncode == SAME
    assert run(hang, tmp_path, PTXAS=str(stand_in(tmp_path / "4", "exit 0"))).returncode == NOT_THE_SAME


def test_it_writes_nothing_into_its_folder_and_leaves_no_temporary_behind(tmp_path):
    folder, tmp = write(tmp_path / "b"), tmp_path / "t"
    tmp.mkdir()
    program = stand_in(tmp_path / "bin", 'for last; do :; done; echo x > "$last"; echo "(C7600)" >&2; exit 255')
    assert run(folder, tmp_path, PTXAS=str(program), TMPDIR=str(tmp)).returncode == SAME
    assert sorted(p.name for p in folder.iterdir()) == ["kernel.ptx", "repro.sh"] and list(tmp.iterdir()) == []


@pytest.mark.skipif(shutil.which("dash") is None, reason="no dash on this machine, a shell that is POSIX and no more")
def test_the_script_is_posix(tmp_path):
    for expected in (C7600, Expected("timeout", None, "", 5), Expected("ptxas_signal", None, "")):
        folder = write(tmp_path / expected.status, expected)
        subprocess.run(["dash", "-n", str(folder / "repro.sh")], check=True)


@pytest.mark.parametrize("words", ["'; touch pwned; '", "$(touch pwned)", "`touch pwned`", "-e x --help", 'a"b\\'])
def test_words_and_flags_of_strangers_are_words_to_the_shell(tmp_path, words):
    expected = Expected("ptxas_error", None, words)
    folder = write(tmp_path / "b", expected, flags=(words,))
    said = tmp_path / "said"
    said.write_text(words)
    done = run(folder, tmp_path, PTXAS=str(stand_in(tmp_path / "bin", f'cat "{said}" >&2; exit 1')))
    assert done.returncode == SAME, done.stdout + done.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_what_is_expected_comes_from_the_run():
    found = expected_of(outcome("", FATAL, 255))
    assert (found.status, found.code, found.words, found.failed) == ("register_exhausted", "C7600", "(C7600)", True)
    other = expected_of(outcome("", "ptxas a.ptx, line 5; error   : Not a name of any known instruction: 'foo'\n", 255))
    assert (other.code, other.words) == (None, "Not a name of any known instruction: 'foo'")
    assert expected_of(outcome("", "", -11)).status == "ptxas_signal"
    assert expected_of(outcome("", "", None, wall_s=3.0)).status == "timeout"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("exit 0", SAME),  # no cubin, no word
        ('while [ "$1" != -o ]; do shift; done; echo x > "$2"', SAME),  # a file, of no kernel
        ("""while [ "$1" != -o ]; do shift; done; echo x > "$2"; echo "Compiling entry function 'k'" """, NOT_THE_SAME),
        ("exit 1", NOT_THE_SAME),
    ],
)
def test_exit_code_0_without_a_kernel_is_a_failure_that_the_script_knows_again(tmp_path, lines, code):
    expected = expected_of(outcome("", "", 0))
    assert expected.failed and "makes no kernel" in expected.sentence()
    done = run(write(tmp_path / "b", expected), tmp_path, PTXAS=str(stand_in(tmp_path / "bin", lines)))
    assert done.returncode == code, done.stdout + done.stderr


def test_flags_that_name_files_never_pass_and_a_stranger_s_must_be_known():
    ours, out = safe_flags(("-O1", "-o", "--output-file=x", "--gpu-name=sm_80", "--some-new-flag"), trusted=True)
    assert ours == ("-O1", "--some-new-flag") and out == ("-o", "--output-file=x")
    theirs, out = safe_flags(("-v", "-O3", "--opt-level 2", "--some-new-flag", "-o/etc/passwd", "x;y"), trusted=False)
    assert theirs == ("-v", "-O3", "--opt-level", "2") and out == ("--some-new-flag", "-o/etc/passwd", "x;y")
    assert one_command(("-O1",), "sm_100a") == "ptxas -O1 -v --gpu-name=sm_100a kernel.ptx -o kernel.cubin"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "a//b",
        "./x",
        "",
        "a/",
        "C:\\x",
        "a\\b",
        "a\0b",
        ".hidden",
        "-rf",
        "a b",
        "é",
        "a/-x",
    ],
)
def test_names_that_could_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="no name for a file"):
        safe_member(name)
    if name and "\0" not in name:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"x")
        with pytest.raises(UserError, match="no name for a file"):
            unpack(buffer.getvalue(), tmp_path / "here")
        assert not (tmp_path / "x").exists()


def test_a_zip_depends_on_its_members_alone():
    one, two = zip_bytes({"b.txt": b"2", "a.sh": b"1"}), zip_bytes({"a.sh": b"1", "b.txt": b"2"})
    assert one == two
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert archive.namelist() == ["a.sh", "b.txt"]
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.getinfo("a.sh").external_attr >> 16 & 0o111


def test_the_check_sees_an_empty_folder_and_a_bare_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    program = stand_in(tmp_path / "bin", 'ls -A; env; echo "(C7600)"; exit 255')
    content = zip_bytes({"kernel.ptx": b"x", "repro.sh": repro_script((), "sm_100a", C7600).encode()})
    ran = run_repro(content, program)
    assert ran.same
    lines = ran.output.splitlines()
    assert "SECRET_TOKEN" not in ran.output and "HOME=" not in ran.output
    assert [line for line in lines if line in os.listdir(tmp_path)] == []
    assert {"kernel.ptx", "repro.sh"} <= set(lines)


def test_a_repro_that_hangs_is_ended(tmp_path):
    program = stand_in(tmp_path / "bin", "sleep 60")
    content = zip_bytes({"kernel.ptx": b"x", "repro.sh": repro_script((), "sm_100a", C7600).encode()})
    ran = run_repro(content, program, timeout_s=1)
    assert ran.exit_code is None and not ran.same

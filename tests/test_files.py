"""One reader for everything a person names: a file, a pipe, stdin, gzip; a device or too much is a sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.compiler.kernel_spec import read_specs
from helpers.errors import UserError
from helpers.files import (
    CACHE_ENV,
    ROOT,
    decode_text,
    discard_folder,
    read_bounded,
    read_text_bounded,
    staged_folder,
    sweep_hidden,
    writable_cache_root,
    write_text_atomically,
)
from helpers.recorded import recorded, rows_of

PTX = Path(__file__).parent / "fixtures" / "ptx" / "crash_sm100a.ptx.gz"


@pytest.fixture
def stdin(monkeypatch):
    """`stdin(data)`: what is piped in from now on."""

    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("way", ["file", "pipe", "stdin"])
def test_file_pipe_and_stdin_read_alike_plain_or_gzip(way, packed, tmp_path, stdin):
    said = b"one\r\ntwo" + bytes(range(32, 127)) * 30_000
    content, source = gzip.compress(said) if packed else said, tmp_path / "x"
    if way == "stdin":
        stdin(content)
        source = Path("-")
    elif way == "file":
        source.write_bytes(content)
    else:
        os.mkfifo(source)
        threading.Thread(target=source.write_bytes, args=(content,), daemon=True).start()
    found = read_bounded(source, len(said))
    assert found.data == said and found.left_out == 0 and found.text().startswith("one\ntwo")


@pytest.mark.parametrize("what", ["folder", "device", "missing", "damaged", "too much", "unpacks to too much", "nul"])
def test_what_cannot_be_read_is_one_sentence_with_the_hint(what, tmp_path):
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "device":
        path = Path("/dev/zero")
    elif what == "damaged":
        path.write_bytes(gzip.compress(b"x" * 10_000)[:-9])
    elif what == "too much":
        path.write_bytes(b"x" * 1_001)
    elif what == "unpacks to too much":
        path.write_bytes(gzip.compress(b"x" * 50_000_000))
        assert path.stat().st_size < 100_000
    elif what == "nul":
        path = Path("a\0b")
    for both_ends in (False, True) if what not in ("too much", "unpacks to too much") else (False,):
        with pytest.raises(UserError) as refusal:
            read_bounded(path, 1_000, "the PTX", both_ends=both_ends, hint="name another")
        assert "the PTX" in str(refusal.value) and str(refusal.value).endswith("; name another")
        assert (
            what not in ("folder", "device")
            or "is a folder" in str(refusal.value)
            or "no ordinary" in str(refusal.value)
        )


def test_both_ends_are_kept_and_the_middle_is_counted(tmp_path):
    path = tmp_path / "long"
    path.write_bytes(b"a" * 30_000 + b"b" * 30_000 + b"c" * 30_000)
    found = read_bounded(path, 40_000, both_ends=True)
    assert found.data == b"a" * 20_000 + b"\n" + b"c" * 20_000 and found.left_out == 50_000
    assert read_bounded(path, 90_000, both_ends=True).data == path.read_bytes()


def test_both_ends_of_something_without_an_end_are_given_up(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"x" * 9_000_000))
    with pytest.raises(UserError, match="or no end"):
        read_bounded(path, 100_000, both_ends=True)


def test_text_is_utf8_or_what_its_mark_says(tmp_path):
    assert decode_text("größer".encode("utf-16")) == decode_text("größer".encode("utf-8-sig")) == "größer"
    path = tmp_path / "latin"
    path.write_bytes("größer".encode("latin-1"))
    assert "r" in read_text_bounded(path, 100)
    with pytest.raises(UserError, match="no UTF-8 text"):
        read_text_bounded(path, 100, errors="strict")


def test_every_verb_reads_packed_ptx_from_stdin(stdin, capsys, tmp_path, monkeypatch):
    stdin(PTX.read_bytes())
    assert main(["pressure", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["demand"] > 255
    stdin(gzip.compress(b"ptxas fatal   : (C7600) Register allocation failed with register count of '255'. Compile\n"))
    assert main(["diagnose", "-"]) == 0
    assert "register exhaustion" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    stdin(gzip.compress(b"{}"))
    assert main(["minimize", "-"]) == 2
    assert "holds no spec" in capsys.readouterr().err


def test_a_packed_spec_is_a_spec(tmp_path, write_kernel):
    spec = write_kernel()
    (tmp_path / "k.json.gz").write_bytes(gzip.compress(spec.to_json().encode()))
    assert read_specs([tmp_path / "k.json.gz"]) == [spec]


def test_rows_are_read_in_one_way():
    rows = recorded("incident_reference")
    assert rows and list(rows) == rows_of(Path(__file__).parents[1] / "data" / "incident_reference.csv")
    assert recorded("absent") == ()


# --- what stands in the middle of too much ---------------------------------------------------------------------------


def test_what_is_told_in_the_middle_is_read_whatever_the_pieces(tmp_path, monkeypatch):
    import random
    import re

    from helpers import files

    monkeypatch.setattr(files._Excerpts, "BEFORE", 30)
    monkeypatch.setattr(files._Excerpts, "AFTER", 50)
    telling = re.compile(b"TOLD77")
    for seed in range(200):
        random_ = random.Random(seed)
        monkeypatch.setattr(files, "_CHUNK", random_.choice((7, 64, 300)))
        content = bytearray(b"".join(b"%06d\n" % n for n in range(1_000)))
        places = sorted(random_.sample(range(1_500, 5_000, 8), random_.randint(0, 6)))
        for place in places:
            content[place : place + 6] = b"TOLD77"
        (tmp_path / "x").write_bytes(content)
        read = files.read_bounded(tmp_path / "x", 2_000, both_ends=True, telling=telling)
        kept = [range(max(1_000, p - 30), min(p + 56, 6_000)) for p in places]
        at = sorted({n for r in kept for n in r})[:500]
        assert read.left_out == len(content) - 2_000 - len(at), seed
        assert read.data.startswith(bytes(content[:1_000])) and read.data.endswith(bytes(content[-1_000:]))
        for place, around in zip(places, kept, strict=True):
            if set(around) <= set(at):
                assert bytes(content[around.start : around.stop]) in read.data, (seed, place)


def test_an_error_in_the_middle_of_one_endless_line_is_diagnosed(tmp_path, capsys):
    import time

    from helpers.__main__ import main

    said = (
        "ptxas fatal   : (C7600) Register allocation failed with register count of '255'. Compile the program with a "
    )
    (tmp_path / "x.log").write_text("y" * 20_000_000 + f" {said} higher register target " + "y" * 20_000_000)
    began = time.monotonic()
    assert main(["diagnose", str(tmp_path / "x.log")]) == 0
    out = capsys.readouterr().out
    assert "C7600" in out and "bytes in the middle were not read" in out and time.monotonic() - began < 20


# --- what a killed process leaves in the cache ----------------------------------------------------------------------

STAGE = """
import os, signal, sys
from pathlib import Path
from helpers.files import staged_folder
with staged_folder(Path(sys.argv[1])) as scratch:
    (scratch / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def aged(path: Path) -> None:
    for part in (path, *path.glob("*")):
        os.utime(part, (1, 1))


def test_half_a_folder_of_a_killed_process_goes_at_the_next_start(tmp_path):
    killed = subprocess.run([sys.executable, "-c", STAGE, str(tmp_path / "entry")], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    assert killed.returncode == -9 and left.name.startswith(".entry-")
    assert sweep_hidden(tmp_path) == 0, "a young one may be somebody's who has not locked it yet"
    aged(left)
    with staged_folder(tmp_path / "entry") as scratch:
        assert not left.exists()
        # One that somebody works in stays, however old it is; so does what is no scratch of ours.
        (tmp_path / ".keep").write_text("x")
        (tmp_path / "open-file").write_text("x")
        (tmp_path / ".link-x").symlink_to(tmp_path / "open-file")
        for path in (scratch, tmp_path / ".keep", tmp_path / "open-file"):
            aged(path)
        assert sweep_hidden(tmp_path) == 0 and scratch.is_dir()
    assert {p.name for p in tmp_path.iterdir()} == {"entry", ".keep", "open-file", ".link-x"}
    (tmp_path / ".rows.csv-half").write_text("x")
    aged(tmp_path / ".rows.csv-half")
    assert sweep_hidden(tmp_path) == 1 and sweep_hidden(tmp_path / "nowhere") == 0
    discard_folder(tmp_path / "entry")
    assert not (tmp_path / "entry").exists()


def test_a_cache_is_swept_when_it_is_first_used(tmp_path, monkeypatch):
    halves = [tmp_path / "cache" / name for name in ("toolchains/.triton-9.9.9-x", "codegen/.ab12-x")]
    for half in halves:
        half.mkdir(parents=True)
        aged(half)
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    assert writable_cache_root() == tmp_path / "cache" and not any(half.exists() for half in halves)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["codegen", "toolchains"]


KILLED_WRITER = """
import os, signal, sys, time
from pathlib import Path
from helpers import files
def die(*_names):
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("half", flush=True)
    time.sleep(60)
os.replace = die
files.write_text_atomically(Path(sys.argv[1]), "new" * 1000)
"""


def test_a_file_half_written_goes_when_the_same_file_is_written_and_no_other_does(tmp_path):
    target = tmp_path / "rows [1].csv"
    target.write_text("old")
    mine = [
        tmp_path / name
        for name in (".rows [1].csv-mine", ".rows [1].csv.swp", ".rows [1].csv~", ".other.csv-register-cliff-x")
    ]
    for path in mine:
        path.write_text("x")
        aged(path)
    words = [sys.executable, "-c", KILLED_WRITER, str(target)]
    assert subprocess.run([*words, "die"], cwd=ROOT, check=False).returncode == -9
    (half,) = set(tmp_path.iterdir()) - {target, *mine}
    assert target.read_text() == "old" and half.read_text() == "new" * 1000
    with subprocess.Popen([*words, "wait"], cwd=ROOT, text=True, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == "half\n"
        assert not half.exists(), "the next write removes it"
        (busy,) = set(tmp_path.iterdir()) - {target, *mine}
        aged(busy)
        write_text_atomically(target, "newest")
        assert busy.exists(), "its writer lives"
        writer.kill()
    write_text_atomically(target, "the last")
    assert set(tmp_path.iterdir()) == {target, *mine} and target.read_text() == "the last"


def test_an_empty_file_half_written_may_be_one_that_is_not_locked_yet(tmp_path):
    write_text_atomically(tmp_path / "a", "1")
    young, old = tmp_path / ".a-register-cliff-1", tmp_path / ".a-register-cliff-2"
    young.touch()
    old.touch()
    aged(old)
    write_text_atomically(tmp_path / "a", "2")
    assert young.exists() and not old.exists()


def test_what_only_looks_like_half_a_file_of_ours_stays(tmp_path):
    folder, link, pipe = (tmp_path / f".a-register-cliff-{n}" for n in range(3))
    folder.mkdir()
    (tmp_path / "kept").write_text("x")
    link.symlink_to(tmp_path / "kept")
    os.mkfifo(pipe)
    for path in (folder, link, pipe):
        os.utime(path, (1, 1), follow_symlinks=False)
    write_text_atomically(tmp_path / "a", "1")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "kept", folder.name, link.name, pipe.name}


def test_an_interrupt_leaves_no_grave(tmp_path, monkeypatch):
    (tmp_path / "entry").mkdir()

    def stopped(*_names: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("os.rename", stopped)
        discard_folder(tmp_path / "entry")
    assert [p.name for p in tmp_path.iterdir()] == ["entry"]

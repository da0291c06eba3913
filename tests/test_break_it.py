"""The hunt of benchmarks/break_it.py in two minutes, with a fixed seed: bad input, kills, secrets, a full disk.

The rows of the long hunts are in data/break_it.csv; the last test here reads them.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.recorded import DATA, rows_of
from tests.hunting import kills
from tests.hunting.bounded import Bounded
from tests.hunting.bundles import hunt_secrets
from tests.hunting.full_disk import FULL, Matrix, on_small_disk, why_not
from tests.hunting.kills import hunt_kills
from tests.hunting.mutants import MUTATORS, mutant
from tests.hunting.readers import READERS
from tests.hunting.records import Outcome, append_rows

ROOT = Path(__file__).resolve().parents[1]
SEED = 20_261_126
SECONDS_A_KIND = 4.0


@pytest.fixture(scope="module")
def break_it():
    spec = importlib.util.spec_from_file_location("break_it", ROOT / "benchmarks" / "break_it.py")
    module = sys.modules["break_it"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reader():
    with Bounded() as found:
        yield found


# --- what a stranger sends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MUTATORS)
def test_mutated_inputs_are_read_or_refused_within_bounds(reader, kind):
    wrong, began, number = [], time.monotonic(), 0
    while number < 60 and (number < 5 or time.monotonic() - began < SECONDS_A_KIND):
        wrong.append(reader.read(kind, SEED, number))
        number += 1
    assert not [read.words() for read in wrong if read.wrong]


@pytest.mark.parametrize("kind", MUTATORS)
def test_inputs_are_the_same_every_time_and_none_like_the_other(kind):
    assert mutant(kind, SEED, 3) == mutant(kind, SEED, 3)
    assert len({repr(mutant(kind, SEED, number)) for number in range(20)}) > 15
    assert kind in READERS


def test_whatever_goes_wrong_is_told_and_the_hunt_goes_on():
    with Bounded(readers="tests.hunting.planted_faults", cpu_s=0.5, resident_mb=400) as reader:
        said = {kind: reader.read(kind, 1, 1).wrong for kind in ("cubin", "spec", "log", "ptx", "sass")}
        assert "KeyError: 'no such thing'" in said["cubin"]
        assert "ended with -6" in said["spec"]
        assert "not ended after 0." in said["log"] and "not ended after 0." in said["ptx"]
        assert "over 400 MB" in said["sass"]
        reader.wall_s, reader.cpu_s = 1.0, 5.0
        assert "not ended after 0.0 s of work, 1." in reader.read("ttgir", 1, 1).wrong
        assert reader.read("baseline", 1, 1).wrong == ""


# --- kills ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["compile", "minimize", "toolchains install"])
def test_a_verb_that_is_killed_leaves_nothing_and_ends_right_when_it_is_started_again(verb):
    heard = []

    def go_on(wrong: str) -> bool:
        heard.append(wrong)
        return len(heard) < 2

    found = hunt_kills(verb, SEED, go_on)
    assert found.faults == [] and found.runs >= 1


@pytest.fixture
def kill_of(tmp_path, monkeypatch):
    """`kill_of(lines)`: what a hunt says of a verb that does such lines of Python instead, killed after a second."""

    def hunt(lines: str, number: int) -> str:
        program = f"import os, signal, subprocess, sys, time, pathlib\nsys.path.insert(0, {str(ROOT)!r})\n{lines}"
        place = kills.Place(tmp_path / "place")
        place.begin(lambda _place: [])
        killing = object.__new__(kills.Killing)
        killing.verb, killing.place, killing.quiet_crumbs = "compile", place, set()
        monkeypatch.setattr(kills, "PROGRAM_OF_VERBS", ("-c", program))
        ended = kills.run_verb(place, [], "planted", kill_after=2.0, number=number)
        return killing.wrong_at_the_kill(ended, "planted", number, set())

    return hunt


def test_what_a_killed_verb_leaves_is_told(kill_of, tmp_path):
    wait = "\ntime.sleep(60)"
    assert kill_of("signal.signal(signal.SIGTERM, signal.SIG_DFL)" + wait, signal.SIGTERM) == ""
    orphan = kill_of("subprocess.Popen(['sleep', '54.321'], start_new_session=True)" + wait, signal.SIGKILL)
    assert "orphans" in orphan and "54.321" in orphan and kills.orphans("planted", 3.0) == {}
    caught = "def end(*_): raise SystemExit(1)\nsignal.signal(signal.SIGTERM, end)"
    assert "ended with 1" in kill_of(caught + wait, signal.SIGTERM)
    assert "left behind" in kill_of("pathlib.Path(os.environ['TMPDIR'], 'x').touch()" + wait, signal.SIGTERM)
    assert "tmp/x" in str(kills.Place(tmp_path / "place").crumbs())


def test_another_result_is_told_and_times_are_not(tmp_path):
    place = kills.Place(tmp_path)
    place.work.mkdir()
    (place.work / "rows.csv").write_text("status,wall_s\nok,1.5\n")
    first = kills.result_of(place, kills.Ended(0, '{"status": "ok", "seconds": 1}', "", 1.0))
    (place.work / "rows.csv").write_text("status,wall_s\nok,9.5\n")
    assert kills.result_of(place, kills.Ended(0, '{"status": "ok", "seconds": 2}', "", 1.0)) == first
    assert kills.result_of(place, kills.Ended(0, '{"status": "spills", "seconds": 1}', "", 1.0)) != first
    (place.work / "rows.csv").write_text("status,wall_s\nspills,9.5\n")
    assert kills.result_of(place, kills.Ended(0, '{"status": "ok", "seconds": 2}', "", 1.0)) != first


# --- secrets, and a full disk ----------------------------------------------------------------------------------------


def test_no_secret_is_seen_in_a_bundle(toolchain_351):
    found = hunt_secrets("ptx", SEED, lambda _wrong: False)
    assert found.faults == [] and found.runs >= 38


def test_a_secret_that_is_seen_is_told(monkeypatch):
    monkeypatch.setattr("tests.hunting.bundles.seen_in", lambda mode, seed: ["NGC"])
    assert hunt_secrets("ptx", 1, lambda _wrong: False).faults == ["ptx, seed 1: NGC is seen"]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    return Matrix(tmp_path_factory.mktemp("disk") / "place", 2)


@pytest.mark.parametrize("what", FULL)
def test_a_matrix_on_a_full_disk_says_so_and_ends_right_with_room(matrix, what):
    assert matrix.wrong(what, 8) == ""


def test_a_disk_is_small_for_the_command_alone(matrix, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    write = [*on_small_disk("8k", place), "sh", "-c", f"head -c 64000 /dev/zero > {place}/x"]
    assert subprocess.run(write, capture_output=True, check=False).returncode != 0
    assert list(place.iterdir()) == []


# --- the rows ------------------------------------------------------------------------------------------------------


def test_a_hunt_is_a_row(break_it, tmp_path, monkeypatch):
    table = tmp_path / "rows.csv"
    words = ["--kind", "input", "--what", "ptxas stderr,baseline", "--count", "3", "--csv", str(table)]
    assert break_it.main(words) == 0
    assert break_it.main([*words[:-4], "--seconds", "0.1", "--csv", str(table)]) == 0
    first, second, third, fourth = rows_of(table)
    assert (first["what"], first["runs"], first["faults"], first["status"]) == ("ptxas stderr", "3", "0", "held")
    assert second["what"] == "baseline" and int(third["runs"]) >= 1 and fourth["what"] == "baseline"
    assert "--count 3" in first["command"] and "Python" in first["versions"]
    monkeypatch.setattr(break_it, "Bounded", lambda: Bounded(readers="tests.hunting.planted_faults"))
    assert break_it.main(["--kind", "input", "--what", "cubin", "--number", "7"]) == 1
    with pytest.raises(SystemExit):
        break_it.main(["--what", "no such thing"])


def test_rows_are_added_below_those_that_are_there(tmp_path):
    append_rows(tmp_path / "a.csv", ("x", "y"), [{"x": 1, "y": 2}])
    append_rows(tmp_path / "a.csv", ("x", "y"), [{"x": 3, "y": "a,b"}])
    assert (tmp_path / "a.csv").read_text() == 'x,y\n1,2\n3,"a,b"\n'
    found = Outcome()
    found.count("", 1.0, 5)
    assert found.status == "held"
    found.count("broke", 0.5, 9)
    assert (found.status, found.runs, found.slowest_s, found.peak_mb) == ("broken", 2, 1.0, 9)
    assert Outcome(skipped="no room").status == "skipped: no room"


def test_what_was_hunted_last_held(break_it):
    """Of every hunt, the newest row has no fault; older ones may: they say what was mended since."""
    rows = rows_of(DATA / "break_it.csv")
    assert rows and set(rows[0]) == set(break_it.COLUMNS)
    newest = {(row["kind"], row["what"]): row for row in rows}
    there = {(kind, what) for kind, (whats, _) in break_it.HUNTS.items() for what in whats}
    assert set(newest) <= there and {what for kind, what in newest if kind == "input"} == set(MUTATORS)
    assert {pair for pair, row in newest.items() if row["status"] == "broken"} == set()
    inputs = {pair: row for pair, row in newest.items() if row["kind"] == "input"}
    assert {pair for pair, row in inputs.items() if float(row["slowest_s"]) >= 5} == set()
    assert all(float(row["peak_mb"]) < 2_048 for row in inputs.values())


def test_every_long_verb_was_killed_a_hundred_times_without_a_fault():
    held = {row["what"] for row in rows_of(DATA / "break_it.csv")
            if row["kind"] == "kill" and int(row["runs"]) >= 100 and row["status"] == "held"}  # fmt: skip
    assert set(kills.VERBS) - held == set()

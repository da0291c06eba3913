"""The hunt of benchmarks/break_it.py in two minutes: what a stranger sends, with a fixed seed, within bounds.

The rows of the long hunts are in data/break_it.csv; the last test here reads them.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from helpers.recorded import DATA, rows_of
from tests.hunting.bounded import Bounded
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
    with Bounded(readers="tests.hunting.planted_faults", cpu_s=0.5, wall_s=3.0, resident_mb=400) as reader:
        said = {kind: reader.read(kind, 1, 1).wrong for kind in ("cubin", "spec", "log", "ptx", "ttgir", "sass")}
        assert "KeyError: 'no such thing'" in said["cubin"]
        assert "ended with -6" in said["spec"]
        assert "s of work" in said["log"] and "s of work" in said["ptx"]
        assert "by the clock" in said["ttgir"] and "over 400 MB" in said["sass"]
        assert reader.read("baseline", 1, 1).wrong == ""


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
    assert set(newest) == there
    assert [row for row in newest.values() if row["status"] == "broken"] == []
    assert all(float(row["slowest_s"]) < 5 and float(row["peak_mb"]) < 2_048
               for row in newest.values() if row["kind"] == "input")  # fmt: skip

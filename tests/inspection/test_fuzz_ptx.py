"""A quick sample of benchmarks/fuzz_ptx.py: mutated PTX through every reader, and through a real ptxas."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEED = 20_261_124


@pytest.fixture
def fuzz(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    import fuzz_ptx

    return fuzz_ptx


def test_mutants_are_read_without_an_exception(fuzz):
    short = [text[:12_000] for text in fuzz.ptx_texts()]
    texts = [fuzz.mutated_ptx(short, SEED, number) for number in range(40)]
    assert len(set(texts)) > 35
    for text in texts:
        fuzz.read_ptx_text(text)


def test_mutants_through_ptxas(fuzz, monkeypatch, tmp_path):
    """ptxas refuses them, compiles them or is stopped at its limit, and nothing in a text is run or written to."""
    monkeypatch.setattr(fuzz, "PTXAS_LIMIT_S", 4.0)
    short = [text[:12_000] for text in fuzz.ptx_texts()]
    ends = [fuzz.assemble(fuzz.mutated_ptx(short, SEED, number), number) for number in range(8)]
    ends += [fuzz.assemble(fuzz.gentle_ptx(fuzz.ptx_texts(), SEED, number), number) for number in range(8)]
    assert "ptxas_error" in ends and "ok" in ends
    known = "ok register_exhausted ptxas_error ptxas_signal timeout unsupported_target unsupported_ptx_version"
    assert set(ends) <= set(known.split())
    assert list(tmp_path.glob("*")) == []


def test_mutants_are_the_same_every_time(fuzz):
    assert fuzz.mutated_ptx(fuzz.ptx_texts(), SEED, 7) == fuzz.mutated_ptx(fuzz.ptx_texts(), SEED, 7)
    assert fuzz.mutated_ptx(fuzz.ptx_texts(), SEED, 7) != fuzz.mutated_ptx(fuzz.ptx_texts(), SEED + 1, 7)


def test_what_goes_wrong_is_counted(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "LIMIT_S", 1)
    monkeypatch.setattr(fuzz, "read_ptx_text", lambda text: 1 / 0)
    assert "ZeroDivisionError" in fuzz.try_one(("read", SEED, 1))[1]

    def spin(text):
        while True:
            pass

    monkeypatch.setattr(fuzz, "read_ptx_text", spin)
    assert fuzz.try_one(("read", SEED, 1))[1] == "hang"


def test_rows_are_appended(fuzz, tmp_path):
    row = dict.fromkeys(fuzz.COLUMNS, 1)
    fuzz.append_rows(tmp_path / "fuzz.csv", fuzz.COLUMNS, [row])
    fuzz.append_rows(tmp_path / "fuzz.csv", fuzz.COLUMNS, [row])
    assert (tmp_path / "fuzz.csv").read_text().count("\n") == 3

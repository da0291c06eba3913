"""The labelled corpus of tests/fixtures/diagnosis: every answer is right, and keeps the rules of honesty."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import Diagnosis
from helpers.diagnosis.failure import CERTAIN
from helpers.hardware import known_chip

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "diagnosis"
LOGS = ROOT / "tests" / "fixtures" / "logs"
LABELS = json.loads((CORPUS / "labels.json").read_text(encoding="utf-8"))
NAMES = sorted(LABELS["logs"])
EVERY = [*(CORPUS / f"{n}.log" for n in NAMES), *sorted(LOGS.glob("*.log"))]


NAMES_OF_TOOLS = (("Triton", r"\bTriton\b"), ("XLA", r"\bXLA\b"), ("CUTLASS DSL (CuTe)", r"\bCUTLASS\b"),
                  ("Inductor", r"Inductor"), ("Numba", r"\bNumba\b"), ("Julia (CUDA.jl)", r"CUDA\.jl"))  # fmt: skip


@cache
def answer(path: Path) -> Diagnosis:
    return diagnose(path.read_bytes().decode("utf-8", errors="replace"))


@pytest.fixture(scope="module")
def accuracy():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import diagnose_accuracy
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return diagnose_accuracy


@pytest.mark.parametrize("name", NAMES)
def test_every_labelled_log_is_answered_right(name, accuracy):
    given = accuracy.answer_of(answer(CORPUS / f"{name}.log"))
    graded = accuracy.grade(LABELS["logs"][name], given, kinds=LABELS["kinds"], phrases=LABELS["phrases"])
    assert graded.result == "right", graded.why


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.stem)
def test_no_tool_is_named_that_the_log_does_not_show(path):
    found = answer(path)
    said = " ".join(
        (found.title, *found.because, *(s.edit for s in found.suggestions), *(s.why for s in found.suggestions),
         found.report_to, found.report_why, *found.attach, *found.go_on)
    )  # fmt: skip
    if found.kind == "unknown":
        return  # it lists the tools that do not speak
    for tool, word in NAMES_OF_TOOLS:
        if re.search(word, said):
            assert found.log.speaks(tool) or (tool in ("Numba", "Triton") and found.producer == "cutile"), (tool, said)


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.stem)
def test_chips_and_versions_given_as_known_stand_in_the_log(path):
    found = answer(path)
    text = re.sub(r"\s", "", found.log.text)
    arch = found.facts.get("arch")
    if arch:
        number = re.sub(r"[^0-9a-f]", "", str(arch).replace("sm_", "").replace("gfx", ""))
        assert number in text and not re.search(rf"{arch} or higher", found.log.text), arch
    for name in ("triton", "ptxas"):
        if name in found.facts:
            assert str(found.facts[name]) in text
    if found.facts.get("kernel"):
        assert str(found.facts["kernel"]) in found.log.text or str(found.facts["kernel"]) in found.log.flat.text
    for chip in re.findall(r"(?:compile was for|compiling for) (sm_\w+)", " ".join(found.because)):
        assert known_chip(chip) and chip == arch


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.stem)
def test_certain_is_only_what_the_log_states(path):
    found = answer(path)
    if found.confidence != CERTAIN or found.failure is None:
        return
    words = " ".join(
        re.sub(r"^(?:line [0-9]+: |LLVM ERROR: |error: |[A-Z]\w+: (?:at [0-9:]+ )?)", "", found.failure.message).split()
    )
    stated = [*re.split(r"[`']", words.removeprefix("assertion ")), ""]
    core = max(stated, key=len)[:60]
    blank = re.sub(r"\s", "", found.log.flat.text)
    assert re.sub(r"\s", "", core) in blank or found.kind == "trapped", core


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.stem)
def test_no_advice_is_given_and_taken_back_and_nothing_says_that_ptxas_is_silent_where_it_is_not(path):
    found = answer(path)
    assert not {s.edit for s in found.suggestions} & {s.edit for s in found.in_vain}
    assert all(s.evidence and s.why for s in (*found.suggestions, *found.in_vain))
    if "ptxas" in found.log.text:
        assert (
            "no compiler of GPU kernels (ptxas" not in found.text() and "nothing in it is by ptxas" not in found.text()
        )
    assert not found.failed or found.report_to, "a failure has an addressee, if only nobody"


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.stem)
def test_an_answer_fits_a_page_unless_the_incident_is_met(path):
    found = answer(path)
    lines = found.text().count("\n")
    same = any(m.degree == "the same" for m in found.incidents)
    assert lines < (90 if same or "what was measured" in found.text() else 62)
    assert len(found.text(verbose=True)) >= len(found.text()) - 120


@pytest.mark.parametrize("path", EVERY, ids=lambda p: p.stem)
def test_the_same_incident_needs_more_than_numbers(path):
    for match in answer(path).incidents:
        if match.degree == "the same":
            assert any(word.startswith(("file ", "message ")) for word in match.agrees)

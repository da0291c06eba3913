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


# --- rules over every log in one pass: each names the logs that break it --------------------------------------------

# What was measured on the incident's kernel, in words that are true of few chips and kernels.
LORE = re.compile(
    r"tensor memory|KV cache|K and V|tensor-core path|tile-wide|accumulate inside the dot|extend attention"
)
SAYS = re.compile(
    r"^(?:the log|the build|the driver|ptxas|nvcc|NVRTC|Triton|the compiler|[\w ]{2,24}) (?:says|warns): (.+)$"
)
NOT_WORDS = re.compile(
    r"^(?:line [0-9]+: |LLVM ERROR: |error: )|; (?:that is, (?:the|a|no|ptxas)|this project has no rule) .*|^assertion "
)


def breaking(rule) -> list[str]:
    return [path.stem for path in EVERY if not rule(answer(path))]


def said_in(found: Diagnosis) -> str:
    parts = (*found.because, *(f"{s.edit} {s.why}" for s in (*found.suggestions, *found.in_vain)))
    return " ".join((found.title, *parts, found.report_to, found.report_why))


def test_the_incidents_lore_is_told_of_chips_like_its_own_only():
    def rule(found: Diagnosis) -> bool:
        words = said_in(found)
        own = (found.log.arch or "").startswith(("sm_100", "sm_103")) or "tcgen05" in found.log.text
        asked = re.search(r"tensor memory|tmem|ttng|tcgen05|MMAv5|HoistTMEM", found.log.text)
        return bool(own or asked or not LORE.search(words))

    assert breaking(rule) == []


def test_what_a_tool_is_quoted_with_stands_in_the_log():
    def rule(found: Diagnosis) -> bool:
        text = re.sub(r"\s", "", found.log.flat.text + " " + found.log.text)
        for line in found.because:
            if (m := SAYS.match(line)) and found.kind not in ("trapped", "frontend_error"):
                quoted = re.sub(r"\s", "", NOT_WORDS.sub("", m[1]).strip())
                if quoted.rstrip(".…") not in text:
                    return False
        return True

    assert breaking(rule) == []


def test_nothing_is_said_of_the_whole_log_that_one_line_could_belie():
    claims = re.compile(r"nothing in the log|nothing failed|no compiler .{0,40}spoke|says nothing about compiling$")
    assert breaking(lambda found: not claims.search(said_in(found))) == []


def test_an_unknown_answer_names_what_the_log_calls_an_error():
    calls = re.compile(
        r"(?m)^\W{0,3}(?:[\w.]{1,60}(?:Error|Exception): |(?:nvcc|nvlink|ptxas|clang|ld|lld) ?(?:error|fatal))"
    )

    def rule(found: Diagnosis) -> bool:
        if found.kind != "unknown" or not calls.search("\n".join(found.log.bare)):
            return True
        return "the log says: " in found.because[0] or "is not in the log" in found.because[0]

    assert breaking(rule) == []


def test_another_makers_chip_gets_nothing_of_nvidias():
    nvidias = re.compile(r"\bsm_[0-9]+|ptxas|nvcc|cuobjdump|65,536 registers|maxrregcount|227 KiB")

    def rule(found: Diagnosis) -> bool:
        other = found.log.speaks("AMD's compiler", "Intel's Triton") and not found.log.speaks("ptxas", "nvcc")
        if not other or (found.log.arch or "").startswith("sm_") or found.kind in ("unknown", "frontend_error"):
            return True
        return not nvidias.search(said_in(found))

    assert breaking(rule) == []


def test_a_gpu_that_helps_is_above_every_threshold_of_the_failing_file():
    def rule(found: Diagnosis) -> bool:
        if found.kind != "feature_not_on_target" or len({f.ptx_path for f in found.failures}) > 1:
            return True
        floors = [int(n) for n in re.findall(r"requires \.target sm_([0-9]+) or higher", found.log.text)]
        named = [int(n) for s in found.suggestions for n in re.findall(r"^a GPU with sm_([0-9]+)", s.edit)]
        return not floors or not named or min(named) >= max(floors)

    assert breaking(rule) == []


def test_a_count_that_the_log_does_not_give_is_not_taken_for_255():
    def rule(found: Diagnosis) -> bool:
        missing = found.kind == "register_exhaustion" and found.failure and found.failure.register_count_asked is None
        return not missing or "all 255" not in said_in(found)

    assert breaking(rule) == []


def test_another_ptxas_is_called_useless_only_for_the_incident_itself():
    def rule(found: Diagnosis) -> bool:
        useless = any(s.edit.startswith("another ptxas for the same PTX") for s in found.in_vain)
        return not useless or any(m.degree == "the same" for m in found.incidents)

    assert breaking(rule) == []


def test_different_failures_differ():
    def rule(found: Diagnosis) -> bool:
        claimed = any("different failures" in note for note in found.notes)
        return not claimed or len({(f.kind, f.message) for f in found.failures}) > 1

    assert breaking(rule) == []

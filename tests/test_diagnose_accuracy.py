"""The grading of benchmarks/diagnose_accuracy.py, and that the corpus holds together."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "fixtures" / "diagnosis"
KINDS = {
    "shared_memory": {"means": "", "essential": ["smem_needed", "smem_limit"]},
    "advice_only": {"means": "", "essential": []},
    "unknown": {"means": "", "essential": []},
}
PHRASES = {"newer": {"says": "a newer Triton", "unless": r"\b(?:no|if)\b"}}


@pytest.fixture(scope="module")
def accuracy():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import diagnose_accuracy
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return diagnose_accuracy


def label(**changes) -> dict:
    """The label of a kernel that wants 147,456 of 101,376 bytes, on a chip that the log does not name."""
    facts = {"arch": None, "triton": "3.6", "kernel": "k", "smem_needed": 147456, "smem_limit": 101376}
    return {"kind": "shared_memory", "failed": True, "producer": "triton", "facts": facts} | changes


def graded(accuracy, of: dict, **answer):
    """The grade of an answer that is right on `label()` but for `answer`."""
    given = {"kind": "shared_memory", "failed": True, "text": "147,456 of 101,376 bytes: smaller blocks"} | answer
    return accuracy.grade(of, accuracy.Answer(**given), kinds=KINDS, phrases=PHRASES)


@pytest.mark.parametrize(
    ("of", "answer", "result"),
    [
        ({}, {}, "right"),
        ({}, {"kind": "advice_only"}, "wrong"),
        ({}, {"kind": "unknown", "failed": None}, "incomplete"),
        ({"also_right": ["advice_only"]}, {"kind": "advice_only"}, "right"),
        ({}, {"failed": False}, "wrong"),
        ({}, {"failed": None}, "right"),
        ({"failed": None}, {"failed": False}, "right"),
        # Facts: contradicted, given where the log gives none, not graded, a version less exact than the label's.
        ({}, {"facts": {"kernel": "other"}}, "wrong"),
        ({}, {"facts": {"arch": "sm_80"}}, "wrong"),
        ({}, {"facts": {"num_warps": 8}}, "right"),
        ({}, {"facts": {"triton": "3.6.0"}}, "right"),
        ({}, {"facts": {"triton": "3.60"}}, "wrong"),
        # Essential facts: in the text with or without thousands separators, or as a fact; not as part of a number.
        ({}, {"text": "147456 101376"}, "right"),
        ({}, {"text": "out of shared memory"}, "incomplete"),
        ({}, {"text": "1147456 of 101,376"}, "incomplete"),
        ({}, {"text": "1,147,456 of 101,376"}, "incomplete"),
        ({}, {"text": "", "facts": {"smem_needed": 147456, "smem_limit": 101376}}, "right"),
        ({}, {"producer": "xla"}, "wrong"),
        ({}, {"producer": "unknown"}, "right"),
        ({"producer": ["unknown", "nvcc"]}, {"producer": "nvcc"}, "right"),
        ({"producer": "inductor"}, {"producer": "triton"}, "right"),
        ({}, {"incidents": ("owner/name #1",)}, "wrong"),
        ({"incident": "owner/name #1"}, {"incidents": ("owner/name #1",)}, "right"),
        ({"must_say": ["smaller|fewer"]}, {}, "right"),
        ({"must_say": ["dynamic"]}, {}, "incomplete"),
        ({"must_not_say": ["smaller"]}, {}, "wrong"),
    ],
)
def test_grade(accuracy, of, answer, result):
    assert graded(accuracy, label(**of), **answer).result == result


def test_a_phrase_is_void_after_its_unless_and_in_what_does_not_help(accuracy):
    of = label(must_not_say=["$newer"])
    numbers = "147,456 of 101,376. "
    assert graded(accuracy, of, text=numbers + "Take a newer Triton.").result == "wrong"
    assert graded(accuracy, of, text=numbers + "If Triton wrote it, a newer Triton may do.").result == "right"
    assert graded(accuracy, of, text=numbers + "There is no cure. Take a newer Triton.").result == "wrong"
    vain = numbers + "What does not: a newer Triton\n   release"
    assert graded(accuracy, of, text=vain, in_vain=("a newer Triton release",)).result == "right"


def test_only_suggestions_count_as_advice(accuracy):
    of = label(must_not_advise=["$newer"])
    text = "147,456 of 101,376; a newer Triton changes nothing"
    assert graded(accuracy, of, text=text).result == "right"
    assert graded(accuracy, of, text=text, advice=("a newer Triton",)).result == "wrong"


def test_an_exception_is_a_wrong_answer(accuracy, tmp_path):
    (tmp_path / "one.log").write_text("x")
    labels = {"kinds": KINDS, "phrases": {}, "logs": {"one": label(form="whole")}}

    def ask(text):
        if text:
            raise ValueError("no")

    (row,) = accuracy.measure(labels, ["one"], folder=tmp_path, ask=ask)
    assert (row.result, row.answered, row.why) == ("wrong", "exception", "raised ValueError: no")


def test_halves_are_disjoint_and_cover_every_kind(accuracy):
    labels = accuracy.read_labels()
    first = accuracy.first_half(labels, 7)
    assert first == accuracy.first_half(labels, 7) != accuracy.first_half(labels, 8)
    kinds = {label["kind"] for label in labels["logs"].values()}
    for half in (first, set(labels["logs"]) - first):
        assert {labels["logs"][name]["kind"] for name in half} == kinds


def test_todays_diagnosis_fits_the_adapter(accuracy):
    answer = accuracy.diagnose(
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 147456, Hardware limit: 101376"
    )
    assert (answer.kind, answer.failed) == ("shared_memory", True)
    assert (answer.facts["smem_needed"], answer.facts["smem_limit"]) == (147456, 101376)
    assert answer.advice and "147,456" in answer.text


# --- the corpus -------------------------------------------------------------------------------------------

LABELS = json.loads((CORPUS / "labels.json").read_text(encoding="utf-8"))
LOGS = sorted(LABELS["logs"])


def test_every_log_has_a_label_and_every_kind_three_logs():
    assert LOGS == sorted(path.stem for path in CORPUS.glob("*.log"))
    kinds = [label["kind"] for label in LABELS["logs"].values()]
    assert set(kinds) == set(LABELS["kinds"])
    assert {kind: kinds.count(kind) for kind in LABELS["kinds"] if kinds.count(kind) < 3} == {}


@pytest.mark.parametrize("name", LOGS)
def test_a_label_states_only_what_its_log_says(name):
    label = LABELS["logs"][name]
    assert {"kind", "failed", "producer", "facts", "origin", "form"} <= set(label)
    assert set(label.get("also_right", ())) <= set(LABELS["kinds"])
    for pattern in (*label.get("must_say", ()), *label.get("must_not_say", ()), *label.get("must_not_advise", ())):
        re.compile(LABELS["phrases"][pattern[1:]]["says"] if pattern.startswith("$") else pattern)
    text = (CORPUS / f"{name}.log").read_bytes().decode("utf-8")
    # A terminal may have broken a line inside a number or a name.
    text = re.sub(r"\n(?:> |E +|\[rank[0-9]\]: )?", "", text.replace("\r", "")).replace(" ", "")
    for fact, value in label["facts"].items():
        if value is not None:
            assert re.search(spellings(fact, value), text), (fact, value)


def spellings(fact: str, value: str | int) -> str:
    """A pattern of how a log can state a fact: ptxas writes sizes in hexadecimal, a PTX threads for warps."""
    if fact == "arch":
        # nvcc names a chip by its virtual architecture as well, in its messages and in its files.
        return rf"{re.escape(str(value))}|{str(value).replace('sm_', 'compute_')}(?![0-9])"
    if not isinstance(value, int) and fact != "signal":
        return re.escape(value.replace(" ", ""))
    if fact == "num_warps":
        return rf"num.warps\W{{0,3}}{value}(?!\d)|ntid{32 * value}(?!\d)"
    if fact == "signal":
        # A shell gives 128 more than the signal.
        return re.escape(value) + (rf"|errorcode{128 + int(value)}" if value.isdigit() else "")
    return rf"(?<!\d){value}(?!\d)|{value:#x}"

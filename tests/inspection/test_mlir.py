"""What Triton's C++ side writes when it fails becomes a complaint, a line, a pass and a reproducer; real stderr."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from helpers.inspection.crash.mlir import FrontEndFailure, front_end_failure, mlir_reproducer

LOGS = Path(__file__).parents[1] / "fixtures" / "front_end"
VERIFIER, UNREACHABLE, ASSERTION = (
    (LOGS / f"{name}.log").read_text()
    for name in ("mlir_verifier_triton351", "mlir_unreachable_triton340", "llvm_assertion_triton351")
)


def test_a_verifier_s_complaint_has_its_line_and_the_pass():
    found = front_end_failure(VERIFIER)
    assert found.error == "operand #2 does not dominate this use" and not found.aborts
    assert (found.file, found.line, found.place) == ("/app/failures.py", 22, "failures.py:22")
    assert found.source == "opened += tl.dot(row, tl.load(gate + k[:, None] * WIDTH + (block + c)[None, :]))"
    assert found.failed_pass == "TritonGPUHoistTMEMAlloc"
    assert (found.kernel, found.capability, found.num_warps) == ("gated_up", 100, 8)
    assert found.headline() == f"{found.error} (failures.py:22, pass TritonGPUHoistTMEMAlloc)"
    assert found.text().splitlines()[1].startswith("failures.py:22: opened += tl.dot(")


def test_an_unreachable_says_why_and_where_in_triton():
    found = front_end_failure(UNREACHABLE)
    assert found.aborts and found.error == "Failed to hoist tmem_store (UNREACHABLE)"
    assert (found.cpp_place, found.failed_pass) == ("HoistTMEMAlloc.cpp:418", "TritonGPUHoistTMEMAlloc")
    assert found.place is None and found.kernel == "gated_up"


def test_an_assertion_is_said_in_its_own_words():
    found = front_end_failure(ASSERTION)
    assert found.aborts and found.cpp_place == "SelectionDAGBuilder.cpp:523"
    assert found.error == "assertion failed: Copying to an illegal type!"
    assert found.failed_pass is None and found.reproducer is None


@pytest.mark.parametrize("text", [VERIFIER, UNREACHABLE])
def test_the_reproducer_is_the_module_with_its_pipeline_and_nothing_around_it(text):
    found = mlir_reproducer(text)
    assert found.startswith("module {\n") and found.endswith("#-}\n")
    assert "tt.func public @gated_up" in found and 'pipeline: "builtin.module(' in found
    assert "error:" not in found and found == front_end_failure(text).reproducer


def test_aliases_in_front_of_the_module_belong_to_the_reproducer():
    with_aliases = VERIFIER.replace("\nmodule {", "\n#blocked = #ttg.blocked<{}>\n#shared = #ttg.x\nmodule {", 1)
    assert mlir_reproducer(with_aliases).startswith("#blocked = #ttg.blocked<{}>\n#shared = #ttg.x\nmodule {")


@pytest.mark.parametrize(
    ("text", "error", "place"),
    [
        ("loc(\"k.py\":7:3): error: failed to legalize operation 'tt.foo'\n", "failed to legalize", "k.py:7"),
        ("LLVM ERROR: Cannot select: 0x55: f32 = fp_round 0x56\nIn function: k\n", "LLVM ERROR: Cannot select", None),
        ("error: no place\nRuntimeError: PassManager::run failed\n", "no place", None),
        ("\x1b[31mC:\\k\\k.py:3:1: error: bad\x1b[0m\r\n", "bad", "k.py:3"),
    ],
)
def test_other_forms(text, error, place):
    found = front_end_failure(text)
    assert found.error.startswith(error) and found.place == place


@pytest.mark.parametrize("text", ["", "hello\n", "error: gcc failed\n", "W1: an error: in passing", "UNREACHABLE\n"])
def test_what_is_no_failure_of_the_front_end_is_none(text):
    assert front_end_failure(text) is None


def test_a_pass_alone_is_still_named():
    found = front_end_failure("k.py:1:0: note: Pipeline failed while executing [`A` on 'x', `B` on 'y']: reproducer\n")
    assert found == FrontEndFailure(failed_pass="B")
    assert found.headline() == "an MLIR pass failed (pass B)"


def test_damaged_and_huge_texts_end_soon_and_raise_nothing():
    chance = random.Random(5)
    for text in (VERIFIER, UNREACHABLE, ASSERTION):
        for _ in range(60):
            cut = sorted(chance.randrange(len(text)) for _ in range(2))
            front_end_failure(text[: cut[0]] + chance.choice(["\x00", "", "{-#", "error: "]) + text[cut[1] :])
    for huge in ("error: x\n" * 300_000, "a" * 5_000_000, "/a:1:1: error: " * 100_000, "#a\n" * 500_000 + VERIFIER):
        started = time.perf_counter()
        front_end_failure(huge)
        assert time.perf_counter() - started < 5

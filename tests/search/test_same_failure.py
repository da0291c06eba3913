"""same_failure: what differs between two runs of one failure is taken out, what tells two failures apart is not."""

from __future__ import annotations

import pytest

from helpers.compiler.report import CompileReport
from helpers.search.same_failure import FailureKey, failure_key, front_end_words, same_failure


def report(status: str, code: str | None = None, message: str = "") -> CompileReport:
    return CompileReport(
        status=status, arch="sm_100a", triton_version="3.5.1", ptxas_version=None, ptxas_code=code, message=message
    )


def test_what_compiled_has_no_failure():
    assert failure_key(report("ok")) is None and not same_failure(report("ok"), report("ok"))
    assert not same_failure(report("spills"), report("register_exhausted", "C7600"))


def test_status_and_code_tell_failures_apart():
    dead = report("register_exhausted", "C7600", "asked for 255")
    assert same_failure(dead, report("register_exhausted", "C7600", "asked for 128"))
    assert not same_failure(dead, report("register_exhausted", "C7602"))
    assert not same_failure(dead, report("out_of_shared_memory"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a/k.py:26:9: error: operand #2 does not dominate", "C:\\k.py:3:1: error: operand #0 does not dominate"),
        ("x\nRuntimeError: PassManager::run failed", "y\nRuntimeError: PassManager::run failed"),
        ("Pipeline failed while executing [`HoistTMEMAlloc` on 'builtin.module']", "failed in pass HoistTMEMAlloc"),
    ],
)  # fmt: skip
def test_places_numbers_and_paths_do_not_matter_in_the_front_end(one, other):
    assert same_failure(report("frontend_error", message=one), report("frontend_error", message=other))


def test_two_errors_of_the_front_end_are_two_failures():
    one = report("frontend_error", message="k.py:3:1: error: operand #2 does not dominate this use")
    two = report("frontend_error", message="k.py:3:1: error: cannot reshape a tensor")
    assert not same_failure(one, two)
    assert front_end_words("") == "" and len(front_end_words("error: " + "x" * 900)) <= 160


def test_the_key_in_words():
    assert FailureKey("register_exhausted", "C7600").sentence() == "C7600"
    assert FailureKey("frontend_error", "", "HoistTMEMAlloc").sentence() == "frontend error: HoistTMEMAlloc"

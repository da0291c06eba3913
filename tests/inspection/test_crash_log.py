"""Logs as people paste them give the same facts, whatever they went through; rubbish gives none, and takes no time."""

from __future__ import annotations

import gzip
import html
import importlib
import json
import re
import textwrap
import time
from pathlib import Path

import pytest

from helpers.diagnosis.kinds import CATALOGUE, find_failures
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.crash_log import parse_crash_log as facts_of_log
from helpers.inspection.crash.pasted_text import clean_text, decode_log, ptx_block
from helpers.inspection.crash.which_triton import code_mark, ptx_version_of_cuda, triton_lines
from tests.hunting.text_mutants import mutated_logs, printed_block

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOGS = FIXTURES / "logs"


class Read:
    """A log's facts, and the failures that are found in them."""

    def __init__(self, log: CrashLog) -> None:
        self.log, found = log, find_failures(log)
        # What is no failure (a report, advice, a time) is looked at elsewhere.
        self.failures = tuple(f for f in found.failures if CATALOGUE[f.kind].rank == 0)
        self.failure_count = found.count - len(found.failures) + len(self.failures)
        self.first = self.failures[0] if self.failures else None

    def __getattr__(self, name: str):
        return getattr(self.log, name)


def parse_crash_log(text: str, **bounds: int) -> Read:
    return Read(facts_of_log(text, **bounds))


def read(name: str) -> str:
    return (LOGS / name).read_text()


def crash_ptx() -> str:
    return gzip.decompress((FIXTURES / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode()


def test_the_incidents_comment_one_line_long_gives_every_fact():
    log = parse_crash_log(read("pr22079_comment.log"))
    (failure,) = log.failures
    assert (failure.kind, failure.code, failure.register_count_asked) == ("register_exhaustion", "C7600", 255)
    assert (log.arch, log.exception, log.kernel_name) == ("sm_100a", "PTXASError", "_fwd_kernel")
    assert log.triton.candidates == ("3.5.0", "3.5.1") and not log.triton.contradictions
    assert log.ptxas_flags == ("-lineinfo", "-v") and log.ptx_path == "/tmp/tmp8ca_n_mf.ptx"
    assert log.value("ptxas_version") == "12.8.93" and log.value("python_version") == "3.12"
    assert [f.line for f in log.frames][-1] == 503 and log.frames[
        -1
    ].code == "raise PTXASError(error) triton.runtime" + (
        ".errors.PTXASError: PTXAS error: Internal Triton PTX codegen error ptxas stderr:"
    )


# The kind of every real log of ptxas; None where it compiled.
OF_PTXAS = {
    "c7600.log": "register_exhaustion",
    "c7600_at_152.log": "register_exhaustion",
    "c7602.log": "register_cap_too_low",
    "c7602_at_64_sm90a.log": "register_cap_too_low",
    "feature_not_on_target.log": "feature_not_on_target",
    "illegal_instruction.log": "illegal_instruction",
    "ptx_version_too_new.log": "unsupported_ptx_version",
    "sm103a_ptxas128.log": "unsupported_arch",
    "sm103a_ptxas129.log": "unsupported_arch",
    "target_above_gpu_name.log": "target_mismatch",
    "unknown_gpu_name.log": "unsupported_arch",
    "unknown_target.log": "unsupported_arch",
    "clean.log": None,
    "spilling.log": None,
    "advice_c7511_sm90a.log": None,
    "several_functions.log": None,
}


@pytest.mark.parametrize("name", OF_PTXAS)
def test_ptxas_stderr_alone(name):
    log = parse_crash_log(read(name))
    assert [f.kind for f in log.failures] == ([OF_PTXAS[name]] if OF_PTXAS[name] else [])
    if OF_PTXAS[name] is None:
        assert log.compiled.entry.regs_per_thread and log.kernel_name == log.compiled.entry.name


@pytest.mark.parametrize(
    "name, candidates, ptxas",
    [
        ("triton_340_inline_asm.log", ("3.4.0",), "12.8.93"),
        ("triton_350_inline_asm.log", ("3.5.0", "3.5.1"), "12.8.93"),
        ("triton_351_inline_asm.log", ("3.5.0", "3.5.1"), "12.8.93"),
        ("triton_360_inline_asm.log", ("3.6.0",), "12.9.86"),
        ("triton_371_inline_asm.log", ("3.7.1",), "13.1.80"),
        ("triton_380_inline_asm.log", ("3.8.0",), "13.3.33"),
        ("triton_390_inline_asm.log", ("3.9.0",), "13.4.59"),
    ],
)
def test_line_numbers_tell_the_release_and_with_it_the_ptxas(name, candidates, ptxas):
    log = parse_crash_log(read(name))
    assert (log.failure_count, log.first.kind) == (1, "illegal_instruction")
    assert log.triton.candidates == candidates and log.value("ptxas_version") == ptxas
    if log.ptx:  # 3.4.0 prints none
        assert log.kernel_name == "broken_kernel" and log.num_warps == 4 and not log.ptx_cut
        assert log.first.seen == 2, "printed and raised is one failure"
        assert log.ptx.startswith(".version") and log.ptx.rstrip().endswith("}")


def test_a_frame_of_no_known_release_is_said_and_not_guessed():
    log = parse_crash_log(read("triton_360_inline_asm.log").replace("line 324, in compile", "line 9999, in compile"))
    assert any("9999" in words for words in log.triton.contradictions)
    old = (
        '  File "/x/triton/backends/nvidia/compiler.py", line 436, in make_cubin\n    raise PTXASError(f"{error}\\n"\n'
    )
    assert parse_crash_log(old).triton.candidates == ()


def test_the_code_beside_a_line_number_tells_releases_apart():
    frame = '  File "/x/triton/compiler/compiler.py", line 307, in compile\n    {}\n'
    ours = parse_crash_log(frame.format("module = src.make_ir(target, options, codegen_fns, module_map, context)"))
    assert ours.triton.candidates == ("3.7.1", "3.8.0", "3.9.0")
    assert "3.6.0" in parse_crash_log(frame.format("raise")).triton.candidates
    bare = parse_crash_log(frame.format("").rstrip()).triton.candidates
    assert set(ours.triton.candidates) < set(bare)


def test_a_version_the_log_states_goes_before_what_its_lines_say_and_a_conflict_is_told():
    text = "pip list\npytorch-triton         3.6.0+git7416ffcb\ntorch 2.10.0.dev20251024+cu130\n" + read("c7600.log")
    log = parse_crash_log(text)
    assert log.triton.stated == "3.6.0+git7416ffcb" and log.value("torch_version") == "2.10.0.dev20251024+cu130"
    conflict = parse_crash_log("Triton: 3.9.0\n" + read("pr22079_comment.log"))
    assert conflict.triton.stated == "3.9.0" and any("3.5.0 or 3.5.1" in w for w in conflict.triton.contradictions)


def test_the_table_of_lines_is_of_the_installed_release():
    """The environment's Triton is in the table and fits its source: the one check that needs no other wheel."""
    import triton.compiler.compiler as compiler

    release = importlib.import_module("importlib.metadata").version("triton")
    assert release in triton_lines()["releases"]
    source = Path(compiler.__file__).read_text().split("\n")
    entries = triton_lines()["lines"]["triton/compiler/compiler.py"]["compile"]
    checked = 0
    for number, line in entries.items():
        for entry in line.split():
            mark, _, releases = entry.partition("=")
            if release in releases.split(","):
                assert code_mark(source[int(number) - 1]) == mark
                checked += 1
    assert checked > 20


# --- what a log goes through on its way ---------------------------------------------------------------------


def incident_as_traceback() -> str:
    """The comment with its line breaks back, as Python prints it."""
    text = read("pr22079_comment.log").replace(" File ", "\n  File ").replace(" ptxas fatal", "\nptxas fatal")
    return "Traceback (most recent call last):\n  " + text.replace(" Repro command", "\nRepro command") + "\n"


def wrap_ansi(text: str) -> str:
    return "\n".join(f"\x1b[36m{i:>3}\x1b[0m \x1b[1;31m{line}\x1b[0m" for i, line in enumerate(text.split("\n")))


JOURNEYS = {
    "one line": lambda t: t.replace("\n", " "),
    "CRLF": lambda t: t.replace("\n", "\r\n"),
    "old Mac": lambda t: t.replace("\n", "\r"),
    "colours": wrap_ansi,
    "every word coloured": lambda t: re.sub(r"([\w()]+)", "\x1b[1;31m\\1\x1b[0m", t),
    "colours without escape": lambda t: wrap_ansi(t).replace("\x1b", ""),
    "timestamps": lambda t: textwrap.indent(t, "2026-04-10T12:00:00.1234567Z ", lambda _: True),
    "logger prefix": lambda t: textwrap.indent(t, "(EngineCore pid=83108) ERROR 07-21 00:00:54 [core.py:1330] "),
    "rank prefix": lambda t: textwrap.indent(t, "[default6]:[rank6]: "),
    "pytest": lambda t: textwrap.indent(t, "E       "),
    "markdown quote": lambda t: textwrap.indent(t, "> ", lambda _: True),
    "quoted twice, fenced": lambda t: textwrap.indent(f"```\n{t}```\n", "> > "),
    "HTML": lambda t: "<pre>" + html.escape(t).replace("\n", "<br>\n") + "</pre>",
    "HTML one line": lambda t: html.escape(t).replace("\n", "<br/>"),
    "JSON": json.dumps,
    "repr": lambda t: f"RuntimeError({t!r})",
    "smart quotes": lambda t: t.replace("'", "’").replace('"', "”"),
    "no-break spaces": lambda t: t.replace(" ", "\u00a0"),
    "in the middle of a CI log": lambda t: "Fetching 100%\n" * 500 + t + "\nError: exit code 1.\n",
    "UTF-16 file": lambda t: decode_log(t.encode("utf-16")),
    "byte order mark": lambda t: "\ufeff" + t,
    "the head is gone": lambda t: t[t.index("triton/compiler/compiler.py") - 60 :],
}  # fmt: skip


@pytest.mark.parametrize("journey", JOURNEYS)
def test_the_way_a_log_came_does_not_matter(journey):
    log = parse_crash_log(JOURNEYS[journey](incident_as_traceback()))
    assert log.failure_count == 1
    assert (log.first.kind, log.first.code, log.first.register_count_asked) == ("register_exhaustion", "C7600", 255)
    assert log.arch == "sm_100a" and log.triton.candidates == ("3.5.0", "3.5.1")
    assert log.ptx_path == "/tmp/tmp8ca_n_mf.ptx" and "-lineinfo" in log.ptxas_flags


@pytest.mark.parametrize("at", range(60, 140, 7))
def test_a_terminal_that_breaks_lines_anywhere_keeps_the_failure(at):
    wrapped = "\n".join(
        line[i : i + at] for line in read("c7600.log").split("\n") for i in range(0, len(line) or 1, at)
    )
    first = parse_crash_log(wrapped).first
    assert (first.kind, first.code, first.register_count_asked) == ("register_exhaustion", "C7600", 255)


@pytest.mark.parametrize("prefix", ["", "> ", "2026-04-10T12:00:00.1234567Z ", "[rank6]:   "])
def test_the_ptx_triton_prints_comes_out_as_it_was_printed(prefix):
    ptx = crash_ptx().strip("\n") + "\n"
    ptx = ptx[ptx.index(".version") :]
    text = printed_block(ptx, read("c7600.log"))
    log = parse_crash_log(textwrap.indent(text, prefix, lambda _: True) + read("pr22079_comment.log"))
    assert log.ptx == ptx and not log.ptx_cut
    assert (log.num_warps, log.ptx_version, log.kernel_name) == (8, "8.7", "extend_attention_kernel")


def test_a_ptx_whose_end_was_cut_says_so():
    text = printed_block(crash_ptx(), read("c7600.log"))
    found = ptx_block(clean_text(text[: len(text) // 2]).text)
    assert found is not None and found[1]


def test_several_failures_are_counted_and_the_first_is_first():
    other = read("triton_360_inline_asm.log")
    log = parse_crash_log(read("c7602.log") + read("pr22079_comment.log") + "\n" + other + read("sm103a_ptxas128.log"))
    kinds = [f.kind for f in log.failures]
    assert log.failure_count == 4
    assert kinds == ["register_cap_too_low", "register_exhaustion", "illegal_instruction", "unsupported_arch"]
    again = parse_crash_log(
        read("pr22079_comment.log") + "\n" + read("pr22079_comment.log").replace("tmp8ca_n_mf", "other")
    )
    assert again.failure_count == 2, "another temporary file is another compile"


def test_out_of_resources_in_tritons_own_words():
    from triton.runtime.errors import OutOfResources

    for name, kind in (("shared memory", "shared_memory"), ("tensor memory", "tensor_memory"), ("threads", "threads")):
        text = f"triton.runtime.errors.OutOfResources: {OutOfResources(106496, 101376, name)}"
        log = parse_crash_log(text)
        assert (log.first.kind, log.first.required, log.first.limit) == (kind, 106496, 101376)
        assert log.exception == "OutOfResources"


@pytest.mark.parametrize("name, release", [("351", {"3.5.0", "3.5.1"}), ("371", {"3.7.1"})])
def test_a_launch_that_asks_for_too_much_shared_memory(name, release):
    log = parse_crash_log(read(f"out_of_shared_triton{name}.log"))
    assert (log.failure_count, log.first.kind) == (1, "shared_memory")
    assert (log.first.required, log.first.limit) == (196608, 101376)
    assert set(log.triton.candidates) == release and log.exception == "OutOfResources"


@pytest.mark.parametrize(
    "words, signal",
    [
        ("`ptxas` raised SIGSEGV", "SIGSEGV"),
        ("`ptxas` failed with error code -11", "signal 11"),
        ("`ptxas` failed with error code 134", "signal 6"),
        ("`ptxas` failed with error code 4294967295", None),
        ("`ptxas` failed with error code 1", None),
    ],
)
def test_death_by_signal(words, signal):
    command = "/x/ptxas -v --gpu-name=sm_90a /tmp/a.ptx -o o"
    text = f"PTXASError: PTXAS error: {words}\n`ptxas` stderr:\n\nRepro command: {command}\n"
    log = parse_crash_log(text)
    assert (log.first.signal if log.first else None) == signal
    if signal:
        assert log.first.kind == "ptxas_signal" and log.arch == "sm_90a" and log.first.ptx_path == "/tmp/a.ptx"


def test_a_python_side_error_names_the_kernel_and_the_reason():
    log = parse_crash_log(read("compilation_error_triton371.log"))
    assert log.first.kind == "frontend_error" and "equal ranks" in log.first.message
    assert log.kernel_name == "untyped_kernel"
    assert "BLOCK must be 64" in parse_crash_log(read("static_assert_triton371.log")).first.message


def test_a_kernel_that_is_one_trap():
    log = parse_crash_log((FIXTURES / "ptx" / "trap_stub_sm100a.ptx").read_text())
    assert log.first.kind == "trapped"
    branch = parse_crash_log((FIXTURES / "ptx" / "assert_branch.ptx").read_text())
    assert branch.first is None, "a trap behind a branch is an assertion, not a stub"


# --- bounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n\t", "hello", "\x00" * 1000, "\ufffd" * 1000, "import os; os.remove('x')"])
def test_what_is_no_log_gives_nothing(text):
    log = parse_crash_log(text)
    assert not log.failures and log.arch is None and not log.triton.candidates


def test_a_log_over_the_bound_is_read_at_both_ends_and_says_what_was_not():
    text = read("c7600.log") + "x" * 300_000 + "\n" + read("c7602.log")
    log = parse_crash_log(text, max_chars=100_000)
    assert [f.kind for f in log.failures] == ["register_exhaustion", "register_cap_too_low"]
    assert any("were not" in note and f"{len(text):,}" in note for note in log.notes)


TEDIOUS = ["a", " ", "^", "\"'", "=", "\n", "ptxas ", 'File "', "[", "\x1b[", "&", "<", ".version ", "a.",
           "aError", "a[b](",
           "ptxas x, line 1", "out of resource: a", "--gpu-name=", "ptxas fatal   : (C7600) x\n", "at 1:1:\n", "{", "9",
           ".entry a(){trap;", "Repro command: x\n", 'File "triton/runtime/jit.py", line 733, in run\n',
           "CompilationError: ",
           "out of resource: shared memory, Required: 1, Hardware limit: 2\n", "`ptxas` stderr:", "torch  ", "a.ptx",
           "ptxas` failed with error code ", "Segmentation fault ", "&#39;", "<a "]  # fmt: skip


@pytest.mark.parametrize("piece", TEDIOUS)
def test_time_grows_with_length_and_no_faster(piece):
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        started = time.process_time()
        parse_crash_log(text)
        return time.process_time() - started

    short = min(seconds(30_000) for _ in range(2))
    # Eight times the length; quadratic would take 64 times as long, linear 8.
    assert seconds(240_000) < 24 * short + 0.2


@pytest.mark.parametrize("name", [n for n, kind in OF_PTXAS.items() if kind] + ["pr22079_comment.log",
                         "triton_360_inline_asm.log", "out_of_shared_triton371.log"])  # fmt: skip
def test_a_log_cut_anywhere_is_never_another_failure(name):
    text = read(name)
    (kind,) = {f.kind for f in parse_crash_log(text).failures}
    step = max(1, len(text) // 60)
    for at in range(0, len(text), step):
        for part in (text[:at], text[at:]):
            # ptxas_error says that ptxas refused, and that the reason is not known.
            assert {f.kind for f in parse_crash_log(part).failures} <= {kind, "ptxas_error"}, part[-80:]


def test_mutated_logs_raise_nothing():
    """A fast sample of benchmarks/fuzz_logs.py, whose run of 10,000 is recorded in data/fuzz.csv."""
    for name, text in mutated_logs(200, seed=20260410):
        log = parse_crash_log(text)
        assert all(f.kind in CATALOGUE for f in log.failures), name


def test_cuda_releases_as_ptx_versions():
    assert [ptx_version_of_cuda(v) for v in ("12.5.1", "12.6.0", "12.8.93", "12.9.86", "13.0.48", "13.4.59")] == [
        "8.5", "8.5", "8.7", "8.8", "9.0", "9.4",
    ]  # fmt: skip

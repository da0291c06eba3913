"""The ptxas log parser and classifier, against logs that real ptxas builds wrote (see fixtures/README.md)."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inspection.ptxas import PtxasLog, classify_failure, parse_ptxas_log

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"
KERNEL = "extend_attention_kernel"


def read(name: str) -> PtxasLog:
    return parse_ptxas_log((LOGS / f"{name}.log").read_text())


@pytest.mark.parametrize(
    ("name", "registers", "stores", "loads", "stack", "target"),
    [
        ("clean", 223, 0, 0, 0, "sm_100a"),
        ("spilling", 255, 464, 416, 384, "sm_100a"),
        ("wgmma_sm90a", 138, 0, 0, 0, "sm_90a"),
        ("cmem_sm80", 168, 8, 8, 8, "sm_80"),
        ("trap_stub", 4, 0, 0, 0, "sm_100a"),
        # The program calls itself ptxas-blackwell in these two.
        ("blackwell_prefix", 128, 0, 0, 0, "sm_100a"),
        ("mma_sync_sm120a", 114, 0, 0, 0, "sm_120a"),
    ],
)
def test_numbers_of_a_compiled_kernel(name, registers, stores, loads, stack, target):
    log = read(name)
    entry = log.entry
    assert entry is not None and entry.name == KERNEL and entry.target == target
    assert (entry.regs_per_thread, entry.stack_frame_bytes) == (registers, stack)
    assert (entry.spill_store_bytes, entry.spill_load_bytes) == (stores, loads)
    assert entry.barriers == (0 if name == "trap_stub" else 1)
    assert entry.cmem_bytes == ({0: 504} if name == "cmem_sm80" else {})
    assert log.fatal == () and classify_failure(log, 0) == "ok"


@pytest.mark.parametrize("name", ["several_functions", "several_functions_ptxas134"])
def test_several_functions_keep_their_own_numbers(name):
    log = read(name)
    assert [f.name for f in log.functions] == ["wide_stencil", "reduce_rows", "fold"]
    stencil, reduce, fold = log.functions
    assert log.entry is stencil and stencil.is_entry and reduce.is_entry and not fold.is_entry
    assert (stencil.regs_per_thread, reduce.regs_per_thread, fold.regs_per_thread) == (32, 40, None)
    expected = (2244, 4672, 1936) if name == "several_functions" else (2276, 4748, 1976)
    assert (stencil.spill_store_bytes, stencil.spill_load_bytes, stencil.stack_frame_bytes) == expected
    assert (reduce.smem_bytes, reduce.stack_frame_bytes, reduce.spill_store_bytes) == (1024, 96, 0)
    assert (stencil.smem_bytes, fold.smem_bytes, fold.stack_frame_bytes) == (0, None, 0)
    assert reduce.cmem_bytes == {0: 372}


@pytest.mark.parametrize(
    ("name", "verdict", "code", "asked", "needed", "line"),
    [
        ("c7600", "register_exhausted", "C7600", 255, None, None),
        ("c7600_at_152", "register_exhausted", "C7600", 152, None, None),
        ("c7602", "register_exhausted", "C7602", 128, 146, 973),
        ("c7602_at_64_sm90a", "register_exhausted", "C7602", 64, 94, 1956),
        ("unknown_gpu_name", "unsupported_target", None, None, None, None),
        ("sm103a_ptxas128", "unsupported_target", None, None, None, None),
        ("sm103a_ptxas129", "unsupported_target", None, None, None, 2),
        ("unknown_target", "unsupported_target", None, None, None, 6),
        ("target_above_gpu_name", "unsupported_target", None, None, None, None),
        ("ptx_version_too_new", "unsupported_ptx_version", None, None, None, 5),
        ("illegal_instruction", "ptxas_error", None, None, None, 11),
        ("feature_not_on_target", "ptxas_error", None, None, None, 60),
    ],
)
def test_failures_are_told_apart(name, verdict, code, asked, needed, line):
    log = read(name)
    assert classify_failure(log, 255) == verdict == classify_failure(log, None)
    assert log.codes == ((code,) if code else ())
    assert (log.register_count_asked, log.register_count_needed, log.ptx_line) == (asked, needed, line)
    assert log.entry is None and log.functions == ()
    assert log.fatal and not any(".ptx" in message for message in log.fatal)


def test_the_message_is_kept_word_for_word():
    assert read("c7600").fatal[0] == (
        "(C7600) Register allocation failed with register count of '255'. "
        "Compile the program with a higher register target"
    )
    illegal = read("illegal_instruction").fatal[0]
    assert illegal == "line 11: Not a name of any known instruction: 'frobnicate'"
    assert len(read("feature_not_on_target").fatal) == 132


def test_advice_with_a_code_is_no_failure():
    log = read("advice_c7511_sm90a")
    assert log.codes == ("C7511",) and log.fatal == ()
    assert log.entry.spill_store_bytes == 1672 and classify_failure(log, 0) == "ok"


def test_log_found_behind_a_printed_ptx():
    """On failure Triton prints the PTX and the log together; neither size nor neighbours may hide the log."""
    noise = "\tmov.b32 \t%r1, %r2;\n" * 100_000
    text = noise + (LOGS / "c7600.log").read_text()
    assert parse_ptxas_log(text).codes == ("C7600",)
    assert parse_ptxas_log(text, max_chars=10_000) == parse_ptxas_log(text)


def test_windows_line_ends_and_a_cut_log():
    text = (LOGS / "spilling.log").read_text()
    assert parse_ptxas_log(text.replace("\n", "\r\n")) == parse_ptxas_log(text)
    cut = parse_ptxas_log(text[: text.index("Used 255")])
    assert cut.entry.regs_per_thread is None and cut.entry.spill_store_bytes == 464


def test_signal_and_timeout():
    nothing, fatal = parse_ptxas_log(""), read("c7600")
    for returncode in (-11, -9, 134, 137, 139):
        assert classify_failure(nothing, returncode) == "ptxas_signal"
    assert classify_failure(nothing, None, timed_out=True) == "timeout"
    assert classify_failure(nothing, -9, timed_out=True) == "timeout"
    assert classify_failure(nothing, 255) == "ptxas_error" == classify_failure(nothing, None)
    assert classify_failure(nothing, 0) == "ok"
    # A zero exit with a complaint in the log is not taken for a success.
    assert classify_failure(fatal, 0) == "register_exhausted"


PIECES = st.sampled_from(
    ["ptxas", "ptxas ", "ptxas info    : ", "ptxas fatal   : ", "ptxas x.ptx, line 5; error   : ",
     "(C7600) ", "Function properties for ", "Compiling entry function '", "' for '", "Used ", "9" * 5000,
     "\u0663", " registers", " bytes smem",
     " bytes cmem[", "]", "\n", "\r", "\0", "\ud800", "    0 bytes stack frame, ",
     ";", ":", "'"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join)))
@settings(max_examples=200, deadline=None)
def test_no_text_raises(text):
    log = parse_ptxas_log(text)
    for returncode in (0, 255, -6, None):
        assert isinstance(classify_failure(log, returncode), str)
    assert parse_ptxas_log(text, max_chars=7).functions is not None


@pytest.mark.parametrize(
    "text",
    ["ptxas" + " " * 2_000_000 + "info", "ptxas info : " * 200_000, "ptxas;\n" * 300_000, "\0" * 2_000_000,
     "ptxas info    : Used " + "9" * 2_000_000 + " registers"],
    ids=["spaces", "one line", "many lines", "nul", "digits"],
)  # fmt: skip
def test_hostile_megabytes_take_seconds_at_most(text):
    start = time.perf_counter()
    assert parse_ptxas_log(text).functions == ()
    assert time.perf_counter() - start < 5

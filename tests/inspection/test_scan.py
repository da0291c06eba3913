"""The PTX reader, against PTX that real compilers wrote (tests/fixtures/README.md)."""

import gzip
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inspection.ptx.scan import (
    INSTRUCTION_CLASSES,
    count_instructions,
    instructions_by_source_line,
    is_trap_stub,
    ptx_header,
    register_declarations,
    wide_operands,
)

PTX = Path(__file__).parents[1] / "fixtures" / "ptx"
EVERY = (
    count_instructions,
    register_declarations,
    ptx_header,
    wide_operands,
    instructions_by_source_line,
    is_trap_stub,
)


def read(name: str) -> str:
    path = PTX / name
    return gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()


@pytest.fixture(scope="module")
def crash() -> str:
    return read("crash_sm100a.ptx.gz")


ALL = sorted(p.name for p in PTX.iterdir() if ".ptx" in p.name)
# Another way to the same counts: the opcode at the start of a line, behind an optional predicate.
BY_GREP = {
    "mma_sync": r"mma\.sync",
    "wgmma": r"wgmma\.mma_async",
    "tcgen05_mma": r"tcgen05\.mma",
    "tcgen05_ld": r"tcgen05\.ld",
    "tcgen05_st": r"tcgen05\.st",
    "ld_shared": r"ld\.shared",
    "st_shared": r"st\.shared",
    "ld_global": r"ld\.global",
    "st_global": r"st\.global",
    "ldmatrix": r"ldmatrix",
    "stmatrix": r"stmatrix",
    "bar_sync": r"bar(?:rier)?\.sync",
    "shfl": r"shfl",
    "ex2": r"ex2",
    "branches": r"bra\b",
}


@pytest.mark.parametrize("name", ALL)
def test_counts_agree_with_grep_and_with_themselves(name):
    ptx = read(name)
    counts = count_instructions(ptx)
    assert set(counts) == {*INSTRUCTION_CLASSES, "total"}
    for key, opcode in BY_GREP.items():
        found = re.findall(rf"^[\s{{]*(?:@!?%?\w+\s+)?{opcode}", ptx, re.MULTILINE)
        assert counts[key] == len(found), key
    assert sum(sum(c.values()) for c in instructions_by_source_line(ptx).values()) == counts["total"]


def test_which_tensor_core_path_each_kernel_takes(crash):
    paths = ("mma_sync", "wgmma", "tcgen05_mma")
    used = {
        name: [p for p in paths if count_instructions(read(name))[p]]
        for name in ("crash_sm100a.ptx.gz", "wgmma_sm90a.ptx", "mma_sync_sm120a.ptx")
    }
    assert list(used.values()) == [["tcgen05_mma"], ["wgmma"], ["mma_sync"]]


def test_header(crash):
    header = ptx_header(crash)
    assert (header.version, header.target, header.entries) == ("8.7", "sm_100a", ("extend_attention_kernel",))
    assert (header.num_params, header.reqntid, header.maxnreg) == (27, 256, None)
    capped = ptx_header(crash.replace(".reqntid 256\n", ".reqntid 128, 2, 1\n.maxnreg 128\n"))
    assert (capped.reqntid, capped.maxnreg) == (256, 128)
    several = ptx_header(read("several_functions.ptx"))
    assert (several.entries, several.num_params) == (("reduce_rows", "wide_stencil"), 3)
    one_line = ptx_header(".target sm_80, debug\n.entry f(.param .u64 a, .param .u64 b) { ret; }")
    assert (one_line.target, one_line.entries, one_line.num_params) == ("sm_80", ("f",), 2)
    assert ptx_header("not PTX at all").target is None


def test_register_declarations(crash):
    declared = register_declarations(crash)
    assert declared["b32"] == 3718 and declared["b64"] == 2197
    # 995 of the kernel's own, and one in each scope of inline assembly that waits at a barrier.
    assert declared["pred"] == 995 + crash.count(".reg .pred complete;") == 999
    assert register_declarations(".reg .f32 a, b, %c<4>;\n.reg .v4 .b32 %v<2>;") == {"f32": 6, "b32": 2}


def test_wide_operands_of_the_crash_name_their_source(crash):
    widest = [w for w in wide_operands(crash) if w.registers == 128]
    assert widest and all(re.fullmatch(r"tcgen05\.(ld|st)\..*x128\.b32", w.opcode) for w in widest)
    lines = crash.split("\n")
    for w in widest:
        assert w.opcode in lines[w.line_no - 1]
        assert w.source_file == "kernels/extend_attention.py" and w.source_line > 59
    # ptxas's C7602 named line 973 of this text with one line (.maxnreg) added above: the first of them.
    assert widest[0].line_no == 972
    assert len(widest) == len(re.findall(r"\.x128\.", crash))


def test_wide_operands_threshold():
    accumulators = wide_operands(read("wgmma_sm90a.ptx"))
    assert accumulators and all(w.opcode.startswith("wgmma.mma_async") for w in accumulators)
    assert {w.registers for w in accumulators} == {32}
    assert wide_operands(read("wgmma_sm90a.ptx"), min_registers=33) == []
    # The widest operand decides, not the sum of all, and an operand may go on over lines.
    text = "wgmma.mma_async.x\n {%a, %b,\n %c}, {%d, %e};\nmov.b32 %a, %b;"
    assert [(w.line_no, w.registers) for w in wide_operands(text, min_registers=2)] == [(1, 3)]
    zeros = "tcgen05.st.sync.aligned.32x32b.x4.b32 [%r9], {%r1, %r1, %r1,%r2};"
    assert [(w.registers, w.different) for w in wide_operands(zeros, min_registers=2)] == [(4, 2)]


def test_tensor_core_work_is_found_at_the_python_line_of_the_dots(crash):
    by_line = instructions_by_source_line(crash)
    hot = {key for key, counts in by_line.items() if counts["tcgen05_mma"]}
    assert hot and {file for file, _ in hot} == {"kernels/extend_attention.py"}
    assert any(file == "triton/language/standard.py" for file, _ in by_line)


@pytest.mark.parametrize("name", ALL)
def test_only_the_stubs_are_trap_stubs(name):
    assert is_trap_stub(read(name)) == name.startswith("trap_stub")


@pytest.mark.parametrize(
    ("body", "stub"),
    [
        ("trap;", True),
        ("$L__func_begin0:\n.loc 1 59 0\n\ttrap;\n$L__tmp0:\n", True),
        ("ld.param.u64 %rd1, [p];\ntrap;\nexit;", True),
        ("ret;", False),
        ("@%p1 trap;\nret;", False),
        ("@%p1 bra $L1;\ntrap;\n$L1: ret;", False),
        ("bra $L2;\n$L1: trap;\n$L2: ret;", False),
        ("// trap;\nret;", False),
        ("/* trap; */ ret;", False),
        ("call.uni check, ();\ntrap;", False),
        ("ret;\n}\n.visible .func g() {\ntrap;", False),
        ("", False),
    ],
)
def test_trap_stub_by_shape(body, stub):
    kernel = f".version 8.7\n.target sm_100a\n.visible .entry k(\n.param .u64 p\n)\n{{\n{body}\n}}\n"
    assert is_trap_stub(kernel) is stub


def test_fences_of_a_family_do_not_count_as_its_work():
    counts = instructions_by_source_line("wgmma.fence.sync.aligned;\nwgmma.mma_async.sync %a;")[("", 0)]
    assert counts == {"wgmma.fence": 1, "wgmma": 1}
    assert count_instructions("wgmma.commit_group.sync.aligned;\ntcgen05.wait::ld.sync.aligned;")["wgmma"] == 0


def test_statements_over_lines_labels_scopes_and_comments():
    text = (
        "call.uni (r),\n  fold,\n  (\n  a,\n  b\n  );\n"  # one instruction
        "L1: @!%p bra.uni L1; { mov.b32 {a0, a1}, %r1; } // add.s32 x;\n"
        "/* mul.lo.s32\n a; */ ex2.approx.f32 %f1, %f2;\n"
        "cp.async.cg.shared.global [a], [b], 16;\ncp.async.commit_group;\n"
        "cp.async.bulk.tensor.2d.shared::cluster.global [a], [b];\ncp.async.bulk.commit_group;\n"
    )
    counts = count_instructions(text)
    assert counts["total"] == 8
    assert (counts["branches"], counts["ex2"], counts["cp_async"], counts["cp_async_bulk"]) == (1, 1, 1, 1)


@pytest.mark.parametrize("function", EVERY, ids=lambda f: f.__name__)
def test_speed_on_the_crash(function, crash):
    """6,469 lines take 15 to 35 ms of CPU here; the bound only tells linear from quadratic."""
    assert min(_seconds(function, crash) for _ in range(5)) < 1


def _seconds(function, text: str) -> float:
    start = time.process_time()
    function(text)
    return time.process_time() - start


PIECES = st.sampled_from(
    [".entry ", ".visible .entry k(", ".param .u64 p", ")", "{", "}", "trap", ";", "\n", "\r", "\0", "\ud800",
     "//", "/*", "*/", ".loc 1 2 3", '.file 1 "', '"', ".reg .b32 %r<", "9" * 5000, ">", "@%p ", "bra",
     "L:", "wgmma.mma_async", ".version ", ".target ", ".reqntid ", ".maxnreg ", ",", " ", "٣"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join)))
@settings(max_examples=200, deadline=None)
def test_no_text_raises(text):
    for function in EVERY:
        function(text)


@pytest.mark.parametrize(
    "text",
    ["a:" * 500_000, "a" + " " * 1_000_000, '.file 1 "' * 100_000, "/*" * 500_000, "mov {" * 200_000,
     ".reg .b32 " + "<  " * 300_000, "\0" * 1_000_000, "a." * 500_000, ".entry " * 150_000, "@p " * 300_000,
     ".entry x(" + ".param " * 150_000],
    ids=["labels", "spaces", "files", "comments", "braces", "ranges", "nul", "dots", "entries", "predicates",
         "params"],
)  # fmt: skip
def test_hostile_single_lines_take_seconds_at_most(text):
    """About a megabyte each; the slowest takes 0.5 s here, where anything quadratic would take hours."""
    start = time.perf_counter()
    for function in EVERY:
        function(text)
    assert time.perf_counter() - start < 20


def test_fixtures_hold_no_path_of_the_machine_that_made_them():
    for name in ALL:
        text = read(name)
        # The debug sections spell paths as one ".b8 code" per character.
        spelled = "".join(chr(int(n)) for n in re.findall(r"^\.b8 ([0-9]+)", text, re.MULTILINE))
        absolute = re.compile(r"(?<![\w./])/\w+/")
        assert not absolute.search(text) and not absolute.search(spelled), name

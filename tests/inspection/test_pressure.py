"""Liveness on kernels small enough to count by hand, against a naive reference, and on the PTX that kills ptxas."""

import gzip
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import estimate_registers, held_across, pressure_profile
from helpers.inspection.ptx.scan import wide_operands

PTX = Path(__file__).parents[1] / "fixtures" / "ptx"


def read(name: str) -> str:
    path = PTX / name
    return gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()


@pytest.fixture(scope="module")
def crash() -> str:
    return read("crash_sm100a.ptx.gz")


@pytest.fixture(scope="module")
def crash_profile(crash):
    return pressure_profile(crash)


def kernel(body: str, head: str = "") -> str:
    """A kernel around `body`, with registers of every type; %r0 holds the thread number, which differs by thread."""
    return f""".version 8.7
.target sm_100a
.visible .entry k(.param .u64 k_param_0){head}
{{
    .reg .pred %p<99>;
    .reg .b16 %rs<99>;
    .reg .b32 %r<999>;
    .reg .b64 %rd<99>;
    mov.u32 %r0, %tid.x;
{body}
    ret;
}}
"""


def demand(body: str) -> int:
    profile = pressure_profile(kernel(body))
    assert profile is not None
    return profile.demand


def at_line(body: str, text: str) -> int:
    """The demand at the one line of the kernel that contains `text`."""
    ptx = kernel(body)
    (line_no,) = [n for n, line in enumerate(ptx.splitlines(), 1) if text in line]
    return dict(pressure_profile(ptx).points)[line_no]


def test_values_needed_at_once_are_counted_once_each():
    # r1 and r2 come from r0 and meet in the store, whose address is r0 as well: three at once.
    body = "mul.lo.s32 %r1, %r0, %r0; mad.lo.s32 %r2, %r0, %r0, %r0; st.shared.v2.b32 [%r0], {%r1, %r2};"
    assert demand(body) == 3


def test_wide_values_take_two_registers():
    assert demand("cvt.s64.s32 %rd1, %r0; mul.lo.s64 %rd2, %rd1, %rd1; st.global.b64 [%rd1], %rd2;") == 4


@pytest.mark.parametrize(
    "pack",
    [
        "mov.b64 %rd9, {%r1, %r2};",
        "cvt.u64.u32 %rd1, %r1; cvt.u64.u32 %rd2, %r2; shl.b64 %rd3, %rd2, 32; or.b64 %rd9, %rd1, %rd3;",
        "mov.b64 %rd8, {%r1, %r2}; mov.b64 %rd9, %rd8;",
    ],
)
def test_packs_and_copies_cost_nothing_in_either_spelling(pack):
    before = "mul.lo.s32 %r1, %r0, %r0; mad.lo.s32 %r2, %r0, %r0, %r0;"
    after = "add.rn.f32x2 %rd10, %rd9, %rd9; mov.b64 {%r5, %r6}, %rd10; st.shared.v2.b32 [%r0], {%r5, %r6};"
    assert demand(before + pack + after) == 3
    assert demand(before + pack + "mov.b64 {%r3, %r4}, %rd9; st.shared.v2.b32 [%r0], {%r3, %r4};") == 3


def test_a_pack_outlives_its_parts_as_the_same_registers():
    # Atomics keep their place: both halves are there before the first store.
    body = """atom.shared.add.u32 %r1, [%r0], 1; atom.shared.add.u32 %r2, [%r0+4], 1; mov.b64 %rd1, {%r1, %r2};
    st.shared.b32 [%r0], %r1; // first
    st.shared.b32 [%r0+4], %r2;
    st.shared.b64 [%r0+8], %rd1;"""
    assert at_line(body, "first") == 3


def test_uniform_values_and_parameters_take_no_general_register():
    uniform = "mov.u32 %r1, %ctaid.x; mul.lo.s32 %r2, %r1, 7; add.s32 %r3, %r2, %r1; shl.b32 %r4, %r3, 2;"
    use = "add.s32 %r5, %r0, %r4; add.s32 %r6, %r5, %r2; st.shared.b32 [%r0], %r6;"
    assert demand(uniform + use) == 2
    assert demand(uniform.replace("%ctaid.x", "%tid.y") + use) > 2
    assert demand("ld.param.u64 %rd1, [k_param_0]; st.global.b32 [%rd1], %r0;") == 1


def test_an_operand_of_repeats_needs_registers_of_its_own():
    store = "tcgen05.st.sync.aligned.32x32b.x128.b32 [%r0], {" + ", ".join(["%r7"] * 128) + "};"
    body = "mov.b32 %r7, 0;\n" + store
    profile = pressure_profile(kernel(body))
    assert profile.demand == 129  # the address and 128 zeros side by side
    (operand,) = profile.tuples
    assert (operand.registers, operand.supplied, operand.made, operand.beside) == (128, 0, 128, 1)
    assert operand.room == CAP - 128
    assert profile.peak.tuple_registers == 128


def test_values_already_in_the_operand_are_not_counted_again():
    loads = "".join(f"ld.shared.b32 %r{n}, [%r0+{4 * n}]; " for n in range(1, 33))
    store = "tcgen05.st.sync.aligned.32x32b.x32.b32 [%r0], {" + ", ".join(f"%r{n}" for n in range(1, 33)) + "};"
    assert demand(loads + store) == 33


def test_a_value_used_behind_a_loop_lives_all_through_it():
    body = """ld.shared.b32 %r1, [%r0];
    mov.b32 %r2, 0;
$LOOP:
    ld.shared.b32 %r3, [%r0+8]; // inside
    add.s32 %r2, %r2, %r3;
    setp.lt.s32 %p1, %r3, 9;
    @%p1 bra $LOOP;
    st.shared.v2.b32 [%r0], {%r1, %r2};"""
    assert at_line(body, "inside") == 4
    assert at_line(body.replace("{%r1, %r2}", "{%r2, %r2}"), "inside") == 3


def test_blocks_written_out_of_order_are_followed_by_their_jumps():
    straight = "ld.shared.b32 %r1, [%r0]; st.shared.b32 [%r0+4], %r1;"
    shuffled = (
        "bra.uni $A;\n$B: st.shared.b32 [%r0+4], %r1; bra.uni $C;\n$A: ld.shared.b32 %r1, [%r0]; bra.uni $B;\n$C:"
    )
    assert demand(straight) == demand(shuffled) == 2


def test_labels_and_registers_of_inline_assembly_are_per_scope():
    wait = """{
    .reg .pred complete;
    waitLoop:
    mbarrier.try_wait.parity.shared.b64 complete, [%r0], 0;
    @!complete bra.uni waitLoop;
}
"""
    # Were the second jump to go to the first label, r1 would stay live from before the first wait.
    body = wait + "ld.shared.b32 %r1, [%r0]; // loaded\n st.shared.b32 [%r0+4], %r1;" + wait
    ptx = kernel(body)
    first = next(n for n, line in enumerate(ptx.splitlines(), 1) if "try_wait" in line)
    assert dict(pressure_profile(ptx).points)[first] == 1
    assert pressure_profile(ptx).demand == 2


def test_an_accumulator_scaled_by_zero_is_not_kept_from_before():
    mma = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r1,%r2,%r3,%r4}, %rd1, %rd2, SCALE, 1, 1, 0, 0;"
    body = """bar.sync 0; // before
    mov.b64 %rd1, 0; mov.b64 %rd2, 0; MMA
    wgmma.wait_group.sync.aligned 0;
    st.shared.v4.b32 [%r0], {%r1, %r2, %r3, %r4};"""
    assert at_line(body.replace("MMA", mma.replace("SCALE", "0")), "before") == 0
    assert at_line(body.replace("MMA", mma.replace("SCALE", "1")), "before") == 4


def test_operands_of_wgmma_are_pinned_until_the_wait():
    body = """ld.shared.v4.b32 {%r11, %r12, %r13, %r14}, [%r0]; mov.b64 %rd2, 0;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%r1,%r2,%r3,%r4}, {%r11,%r12,%r13,%r14}, %rd2, 0, 1, 1, 0;
    bar.sync 0; // in flight
    wgmma.wait_group.sync.aligned 0;
    st.shared.v4.b32 [%r0], {%r1, %r2, %r3, %r4};"""
    assert at_line(body, "in flight") == 9


def test_a_guarded_write_keeps_what_was_there():
    body = """ld.shared.b32 %r1, [%r0];
    bar.sync 0; // between
    setp.lt.s32 %p1, %r0, 9;
    @%p1 ld.shared.b32 %r1, [%r0+8];
    st.shared.b32 [%r0], %r1;"""
    assert at_line(body, "between") == 2
    assert at_line(body.replace("@%p1 ", ""), "between") == 1


def test_loads_all_written_first_are_not_all_held_at_once():
    loads = "".join(f"ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r{n}}}, [%r0+{n}]; " for n in range(1, 41))
    sums = "mov.b32 %r100, 0;" + "".join(
        f"mma.sync.aligned.m16n8k16.x {{%r{100 + n}}}, {{%r{n}}}, {{%r{n}}}, {{%r{99 + n}}}; " for n in range(1, 41)
    )
    profile = pressure_profile(kernel(loads + sums + "st.shared.b32 [%r0], %r140;"))
    assert profile.text_order_peak > 40
    assert profile.demand <= 4


@st.composite
def programs(draw):
    """Random code over eight per-thread registers, no copies, with jumps forwards and backwards; and its edges."""
    count = draw(st.integers(2, 14))
    lines, facts = [], []
    for n in range(count):
        d, a, b = (draw(st.integers(1, 8)) for _ in range(3))
        if draw(st.booleans()):
            target = draw(st.integers(0, count))
            lines.append(f"$L{n}: @%p1 bra $L{target};")
            facts.append((set(), set(), {n + 1, target}))
        else:
            lines.append(f"$L{n}: atom.shared.add.u32 %r{d}, [%r{a}], %r{b};")
            facts.append(({d}, {a, b}, {n + 1}))
    return "\n".join(lines) + f"\n$L{count}: st.shared.v2.b32 [%r1], {{%r2, %r3}};", facts


@settings(max_examples=150, deadline=None)
@given(programs())
def test_demand_is_that_of_a_naive_fixpoint(program):
    # Atomics keep the order of the text, so nothing is moved and every point can be compared.
    body, facts = program
    facts = [*facts, (set(), {1, 2, 3}, set())]
    live_in = [set() for _ in range(len(facts))]
    changed = True
    while changed:
        changed = False
        for n in range(len(facts) - 1, -1, -1):
            defs, uses, after = facts[n]
            out = set().union(*(live_in[s] for s in after))
            new = uses | (out - defs)
            if new != live_in[n]:
                live_in[n], changed = new, True
    ptx = kernel("setp.lt.s32 %p1, %r0, 9;\n" + body)
    start = next(n for n, line in enumerate(ptx.splitlines(), 1) if line.startswith("$L0:"))
    points = dict(pressure_profile(ptx).points)
    for n, (defs, _, after) in enumerate(facts):
        out = set().union(*(live_in[s] for s in after))
        assert points[start + n] == max(len(live_in[n]), len(out | defs)), body


# --- the crash -------------------------------------------------------------------------------------------


def test_the_crash_needs_far_more_than_the_cap_at_its_accumulator_lines(crash, crash_profile):
    accumulators = {w.source_line for w in wide_operands(crash, 128)}
    assert crash_profile.demand > 1.5 * CAP
    assert crash_profile.floor > 1.5 * CAP  # even if every cheap integer were computed again
    assert crash_profile.estimate == CAP
    assert crash_profile.peak.source[1] in accumulators
    assert crash_profile.peak.opcode.startswith("tcgen05.st") and ".x128." in crash_profile.peak.opcode
    assert crash_profile.lines[0].source == crash_profile.peak.source


def test_the_operand_of_128_leaves_less_room_than_the_other_accumulator_needs(crash_profile):
    worst = crash_profile.tuples[0]
    assert (worst.registers, worst.made, worst.room) == (128, 128, 127)
    assert worst.beside > 2 * worst.room
    accumulator = max(crash_profile.peak.live, key=lambda g: g.registers)
    assert accumulator.registers >= 128 > worst.room


def test_what_is_held_across_the_tile_skip_branch(crash):
    held = held_across(crash)
    assert held.instructions > 1_000
    assert held.registers > CAP
    accumulator = held.groups[0]
    assert accumulator.registers >= 128  # 128 rows by 256 columns of float32 over 256 threads
    assert {w.source_line for w in wide_operands(crash, 128)} & {line for _, line in accumulator.lines}
    assert sum(g.registers for g in held.groups) == held.registers
    assert held_across(crash, held.line_no) == held


def test_without_line_info_the_numbers_stay_and_the_lines_go(crash, crash_profile):
    bare = re.sub(r"(?m)^\s*\.loc\s.*$", "", crash)
    profile = pressure_profile(bare)
    assert (profile.demand, profile.floor, profile.points) == (
        crash_profile.demand, crash_profile.floor, crash_profile.points,
    )  # fmt: skip
    assert profile.lines == () and profile.peak.source is None
    assert held_across(bare).registers == held_across(crash).registers


def test_the_crash_is_read_in_about_a_second(crash):
    started = time.process_time()
    pressure_profile(crash)
    assert time.process_time() - started < 2.5  # 0.4 s on the machine it was written on


@pytest.mark.parametrize(("name", "count"), [("wgmma_sm90a.ptx", 138), ("mma_sync_sm120a.ptx", None)])
def test_real_kernels_that_compile_stay_below_the_cap(name, count):
    profile = pressure_profile(read(name))
    assert profile.floor <= profile.demand <= profile.text_order_peak + 5
    assert profile.estimate < CAP
    if count:
        assert abs(profile.estimate / count - 1) <= 0.15


def test_the_first_entry_is_meant_and_called_functions_are_not():
    assert pressure_profile(read("several_functions.ptx")).function == "reduce_rows"


def test_the_estimate_respects_the_size_of_the_cta():
    assert estimate_registers(0, 0, None) == 0
    assert estimate_registers(600, 80, None) == CAP
    assert estimate_registers(600, 80, 1024) == 64
    assert estimate_registers(600, 80, 512) == 128
    assert estimate_registers(100, 0, 128) < estimate_registers(140, 0, 128) < estimate_registers(140, 40, 128)


# --- any text --------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        ".visible .entry k(\n)\n{", "{", "}", ".reg .b32 %r<9>;", ".reg .pred p;", ".reg .b64 %rd<9>;", "$L1:", "L:",
        "@p bra L;", "@%p1 bra $L1;", "bra.uni $L1;", "mov.b64 %rd1, {%r1, %r2};", "mov.b64 {%r1, %r2}, %rd1;",
        "mov.b32 %r1, %r2;", "mov.b32 %r2, %r1;", "add.s32 %r1, %r1, 1;", "or.b64 %rd1, %rd2, %rd3;", "brx.idx %r1, t;",
        "shl.b64 %rd1, %rd2, 32;", "ld.shared.v2.b32 {%r1, _}, [%r2];", "call (%r1), f, (%r2);", "ret;", "trap;",
        "wgmma.mma_async.x {%r1}, {%r2}, %rd1, 0;", "tcgen05.st.x [%r1], {%r2, %r2,", ".loc 1 5 0", ";", "//", "/*",
        "}, {", "@", "@!", ".entry", "cvt.u64.u32 %rd1, %r1;", ",", "{,}", "cvta.to.global.u64 %rd1, %rd1;", "\n",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(_PIECES, st.text(max_size=6)), max_size=40), st.sampled_from(["", " ", "\n"]))
def test_no_text_raises(pieces, glue):
    text = glue.join(pieces)
    for ptx in (text, kernel(text)):
        profile = pressure_profile(ptx)
        assert profile is None or 0 <= profile.estimate <= CAP
        held_across(ptx)


@pytest.mark.parametrize(
    "text", ["", "hello", ".version 8.7\n.target sm_100a", "\x00" * 100, "{" * 5_000, "$a:" * 5_000]
)
def test_text_without_a_kernel_has_no_profile(text):
    assert pressure_profile(text) is None
    assert held_across(text) is None


@pytest.mark.parametrize(
    "body",
    [
        "mov.b32 %r1, %r2;\n" * 6_000,
        "@%p1 bra $L;\n" * 4_000 + "$L:",
        "".join(f"mov.b64 %rd{n + 1}, %rd{n};\n" for n in range(6_000)).replace("%rd", "%q"),
        "{" * 6_000,
        "add.s32 %r1, %r1, %r0;\n" * 6_000,
    ],
)
def test_long_and_odd_code_takes_no_more_than_its_length(body):
    started = time.process_time()
    pressure_profile(kernel(body).replace(".reg .b64 %rd<99>;", ".reg .b64 %rd<99>; .reg .b64 %q<30000>;"))
    assert time.process_time() - started < 6

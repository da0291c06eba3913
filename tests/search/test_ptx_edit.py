"""PTX taken apart and put together: the same program in a plain form, valid after whatever is removed."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest

from helpers.inspection.ptx.scan import count_instructions, register_declarations
from helpers.search.minimize.check import check_valid
from helpers.search.minimize.program import read_program, render
from helpers.search.minimize.repair import ANY, FORWARD, ZERO, Edit, apply_edit
from helpers.search.minimize.sweeps import Removal, apply_removal, sweeps

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ptx"
NAMES = ("assert_branch.ptx", "mma_sync_sm120a.ptx", "several_functions.ptx", "trap_stub_sm100a.ptx", "wgmma_sm90a.ptx")

LOOP = """
.version 8.5
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out, .param .u32 n)
{
    .reg .pred %p<3>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, 0;
    mov.u32 %r3, 7;
$loop:
    add.s32 %r2, %r2, %r3;   // a comment
    { .reg .b32 t; add.s32 t, %r2, 1; mov.b32 %r4, t; }
    setp.lt.s32 %p1, %r2, %r1;
    @%p1 bra $loop;
    st.global.u32 [%rd1], %r4;
    ret;
}
"""


def load(name: str) -> str:
    path = FIXTURES / name
    return gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()


@pytest.mark.parametrize("name", [*NAMES, "crash_sm100a.ptx.gz"])
def test_plain_form_is_the_same_program_and_stays_as_it_is(name):
    text = load(name)
    plain = render(read_program(text))
    assert count_instructions(plain) == count_instructions(text)
    assert render(read_program(plain)) == plain
    assert check_valid(text) == [] == check_valid(plain)
    assert ".loc\t" not in plain and ".loc " not in plain and "//" not in plain


def test_plain_form_assembles_to_the_same_registers():
    from helpers.compiler.toolchain import installed_ptxas
    from helpers.search.minimize.prober import Check

    version, program = list(installed_ptxas().items())[-1]
    for name, arch in (("several_functions.ptx", "sm_80"), ("wgmma_sm90a.ptx", "sm_90a")):
        check = Check(version, program, (), arch)
        before, after = (check.run(text, 60) for text in (load(name), render(read_program(load(name)))))
        assert before.status == "ok"
        assert (after.registers, after.spill_store_bytes) == (before.registers, before.spill_store_bytes)


def test_registers_of_inner_scopes_are_told_apart():
    twice = LOOP.replace("mov.u32 %r3, 7;", "mov.u32 %r3, 7; { .reg .f32 t; mov.f32 t, 0f00000000; }")
    plain = render(read_program(twice))
    assert plain.count("{") == 1
    assert register_declarations(plain) == {"pred": 1, "b32": 5, "b64": 1, "f32": 1}


def test_labels_of_inner_scopes_are_told_apart():
    wait = "{ .reg .pred done; again: mbarrier.try_wait.parity.shared.b64 done, [%r1], %r2; @!done bra.uni again; }"
    plain = render(read_program(LOOP.replace("$loop:", f"{wait} {wait}\n$loop:")))
    assert plain.count(":\n") == 3
    assert check_valid(plain) == []


def test_a_call_keeps_the_scope_of_its_parameters():
    plain = render(read_program(load("several_functions.ptx")))
    assert "call.uni" in plain
    assert plain.count(".param .b64 param0;") == load("several_functions.ptx").count(".param .b64 param0;") > 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mov.u32 %r2, 0;", "", "read on some path before it is written"),
        ("mov.u32 %r3, 7;", "", "and never written"),
        ("mov.u32 %r3, 7;", "@%p1 mov.u32 %r3, 7;", "pred register"),
        ("add.s32 %r2, %r2, %r3;", "add.s32 %r2, %q2, %r3;", "register %q2 is not declared"),
        ("bra $loop", "bra $elsewhere", "label $elsewhere is not there"),
        ("bra $loop", "bra $end", "where no instruction is"),
        ("mov.u32 %r3, 7;", "bra $past; mov.u32 %r3, 7; $past:", "on some path before it is written"),
    ],
)
def test_what_is_wrong_is_said(old, new, said):
    assert check_valid(LOOP) == []
    broken = LOOP.replace(old, new)
    assert broken != LOOP
    problems = check_valid(broken.replace("ret;\n", "ret;\n$end:\n"))
    assert any(said in p for p in problems), problems


def test_text_that_is_no_ptx():
    assert check_valid("") == check_valid("hello { world } ; @") == ["there is no function with a body"]
    assert render(read_program("}}}{{{;;;@@@")).strip("{};@ \n") == ""


@pytest.mark.parametrize("mode", [FORWARD, ANY, ZERO])
@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_removed_the_rest_is_valid(name, mode):
    program = read_program(load(name))
    rng = random.Random(f"{name} {mode}")
    for number, function in enumerate(program.functions):
        uids = [u.uid for u in function.units]
        for share in (0.02, 0.3, 0.9):
            drop = frozenset(rng.sample(uids, int(len(uids) * share)))
            changed = apply_removal(program, Removal(number, Edit(drop, mode=mode)))
            assert changed is not None or not drop
            if changed is not None and changed.functions[number].units:
                problems = [p for p in check_valid(render(changed)) if "no instruction" not in p]
                assert problems == []


def test_what_is_read_instead_of_a_result_that_is_gone():
    function = read_program(LOOP).functions[0]
    add = next(u for u in function.units if u.opcode == "add.s32" and len(u.uses) == 1)  # t = %r2 + 1

    def body(mode):
        return render(read_program(LOOP).__class__((apply_edit(function, Edit(frozenset({add.uid}), mode=mode)),)))

    assert "%tid.x" not in body(FORWARD) and "mov.b32 %r" in body(FORWARD)
    assert "%tid.x" in body(ANY)
    assert "mov.b32 %r0, 0;" in body(ZERO)


def test_dead_and_unreachable_code_goes_along():
    function = read_program(LOOP).functions[0]
    store = next(u for u in function.units if u.word == "st")
    left = apply_edit(function, Edit(frozenset({store.uid})))
    assert [u.opcode for u in left.units if u.word in ("mov", "ld")] == ["ld.param.u32", "mov.u32", "mov.u32"]
    branch = next(u for u in function.units if u.word == "bra")
    straight = apply_edit(function, Edit(frozenset({branch.uid})))
    assert not any(u.label is not None or u.word == "setp" for u in straight.units)


def test_sweeps_take_the_text_apart():
    program = read_program(load("mma_sync_sm120a.ptx"))
    names = [name for name, _ in sweeps(0)]
    assert names[0] == "module" and names[-1] == "1 at a time"
    for _, make in sweeps(1):
        changes = make(program)
        assert changes
        assert any((after := apply_removal(program, c)) and render(after) != render(program) for c in changes[:20])


@pytest.mark.parametrize(
    "hostile",
    ["{" * 200_000, ".entry k {" + "{ .reg .b32 t;" * 30_000 + "add.s32 t, t, t;" * 5_000, "a:" * 200_000,
     ".entry k { " + "a: b: " * 100_000, '"' * 200_000, "(" * 200_000, ".entry k {" + "@%p " * 100_000],
)  # fmt: skip
def test_hostile_text_takes_linear_time(hostile):
    started = time.process_time()
    render(read_program(hostile))
    check_valid(hostile)
    assert time.process_time() - started < 20


def test_a_line_that_reads_thousands_of_unset_registers_is_checked_in_linear_time():
    """One damaged line held 100,000 operands; a sentence for each register once joined the whole line again."""
    operands = ", ".join(f"%r{number}" for number in range(20_000))
    text = (
        ".version 8.5\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n.reg .b32 %r<20001>;\n"
        f"call f, ({operands});\n" + "".join(f"$end{n}:\n" for n in range(3)) + "}\n"
    )
    started = time.process_time()
    problems = check_valid(text)
    assert time.process_time() - started < 20  # joined whole for each register it is over a minute
    reads = [p for p in problems if "never written" in p]
    assert len(reads) > 19_000
    assert all(len(p) < 250 for p in reads)

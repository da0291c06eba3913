"""What is changed in a text for another release: each rule says so, and says the same thing in other words."""

from __future__ import annotations

import pytest

from helpers.compiler.adjust import adjusted, without_locations
from helpers.compiler.toolchain import resolve_triton
from helpers.compiler.wheel_facts import INTRINSICS, TEXT_WORDS, WheelFacts, wheel_facts

OLD = WheelFacts("3.5.1", "22.0.0git", None, frozenset())
NEW = WheelFacts("3.9.0", "24.0.0git", None, frozenset({*TEXT_WORDS, *INTRINSICS}))


def test_locations_go_with_nested_parentheses_and_strings():
    first = '#loc1 = loc("k.py":1:2)\n  %a = op %b : i32 loc(callsite(#loc1 at "f(".x))'
    text = first + '\n  ^bb0(%c: i32 loc("a)"("k":1:2)), %d: i32):'
    assert without_locations(text) == "  %a = op %b : i32\n  ^bb0(%c: i32, %d: i32):"


def test_a_layout_is_written_for_each_width_of_value():
    text = (
        "#tmem = #ttng.tensor_memory_encoding<blockM = 128, blockN = 64, colStride = 1>\n"
        "a : !ttg.memdesc<128x64xf32, #tmem, #ttng.tensor_memory>\n"
        "b : !ttg.memdesc<128x64xf8E4M3FN, #tmem, #ttng.tensor_memory>"
    )
    changed, said = adjusted(text, "ttgir", OLD)
    assert "#tmem_32 = #ttng.tensor_memory_encoding<blockM = 128, blockN = 64, unpacked = true>" in changed
    assert "#tmem_8 = #ttng.tensor_memory_encoding<blockM = 128, blockN = 64, unpacked = false>" in changed
    assert "xf32, #tmem_32, " in changed and "xf8E4M3FN, #tmem_8, " in changed
    assert said == ("tensor-memory layouts: `colStride` written as `unpacked`",)
    assert adjusted(text, "ttgir", NEW) == (text, ())


@pytest.mark.parametrize(
    ("packed", "kind", "stride"), [("true", "f32", 1), ("true", "bf16", 2), ("false", "bf16", 1), ("true", "f8E5M2", 4)]
)
def test_an_old_layout_in_new_words(packed, kind, stride):
    text = f"#tmem = #ttng.tensor_memory_encoding<blockM = 64, unpacked = {packed}>\n!ttg.memdesc<8x8x{kind}, #tmem, x>"
    assert f"colStride = {stride}>" in adjusted(text, "ttgir", NEW)[0].splitlines()[0]


def test_infinities_become_bits_of_their_type():
    line = "  %1 = phi float [ -inf, %a ], [ %0, %b ]\n  %2 = fcmp oeq half %x, +inf\n  %inf = fadd double %nan, nan"
    changed, said = adjusted(line, "llir", NEW)
    assert changed == (
        "  %1 = phi float [ 0xFFF0000000000000, %a ], [ %0, %b ]\n  %2 = fcmp oeq half %x, 0xH7C00\n"
        "  %inf = fadd double %nan, 0x7FF8000000000000"
    )
    assert said == ("infinities and NaNs written as bits",)


def test_a_floats_own_bits_become_a_doubles():
    assert adjusted("fmul float %a, f0x3FB8AA3B", "llir", NEW)[0] == "fmul float %a, 0x3FF7154760000000"


def test_intrinsics_that_the_reader_lacks_become_instructions():
    name = "llvm.nvvm.stmatrix.sync.aligned.m8n8.x2.trans.b16.p3"
    call = f"  tail call void @{name}(ptr addrspace(3) %p, i32 %a, i32 %b)"
    text = f"{call}\ndeclare void @{name}(ptr addrspace(3), i32, i32) #1"
    changed, said = adjusted(text, "llir", OLD)
    asm = 'asm sideeffect "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [$0], {$1, $2};", "r,r,r"'
    assert changed == f"  tail call void {asm}(ptr addrspace(3) %p, i32 %a, i32 %b)"
    assert len(said) == 1 and adjusted(text, "llir", NEW) == (text, ())


@pytest.mark.usefixtures("triton_360")
def test_a_wheel_says_which_llvm_it_has_and_which_switches():
    facts = {v: wheel_facts(resolve_triton(v)) for v in ("3.5.1", "3.6.0")}
    assert facts["3.5.1"].llvm_revision == "7d5de3033187c8a3bb4d2e322f5462cdaf49808f"
    assert facts["3.6.0"].llvm_revision == "f6ded0be897e2878612dd903f7e8bb85448269e5"
    assert facts["3.6.0"].knows("nvptx-no-f32x2") and not facts["3.5.1"].knows("nvptx-no-f32x2")

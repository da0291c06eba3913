"""TTGIR lines find their source through names, call sites and definitions, and hostile text costs nothing."""

from __future__ import annotations

import time

from helpers.inspection.ttgir import ttgir_lines

IR = """#blocked = #ttg.blocked<{order = [1, 0]}>
#loc = loc("/x/kernel.py":5:0)
#loc1 = loc(unknown)
#loc2 = loc("/x/kernel.py":7:11)
module {
  tt.func @k(%p: !tt.ptr<bf16> loc("p"(#loc)), %n: i32 loc("n"(#loc))) {
    %a = arith.addi %n, %n : i32 loc(#loc5)
    %b = tt.call @f(%a) : i32 loc(#loc6)
    %c = arith.constant 0 : i32 loc(#loc1)
    ttg.barrier
  ^bb0(%x: f32 loc(#loc1), %y: f32 loc(#loc2)):
    %d = arith.constant 1 : i32 loc("/x/other.py":9:2)
  } loc(#loc)
} loc(#loc)
#loc3 = loc("/x/lib.py":20:3)
#loc4 = loc(callsite(#loc3 at #loc2))
#loc5 = loc("a"(#loc2))
#loc6 = loc("b"(#loc4))
"""


def test_each_line_has_its_source_and_no_location_notes():
    lines = ttgir_lines(IR)
    by_text = {text.strip(): source for text, source in lines}
    assert by_text["%a = arith.addi %n, %n : i32"] == ("/x/kernel.py", 7)
    assert by_text["%b = tt.call @f(%a) : i32"] == ("/x/lib.py", 20)  # the callee's line, as in PTX
    assert by_text["%c = arith.constant 0 : i32"] is None and by_text["ttg.barrier"] is None
    assert by_text["tt.func @k(%p: !tt.ptr<bf16>, %n: i32) {"] == ("/x/kernel.py", 5)
    assert by_text["^bb0(%x: f32, %y: f32):"] == ("/x/kernel.py", 7)  # the last note, where there are several
    assert not any("loc(" in text or text.startswith("#loc") for text, _ in lines)
    assert lines[0][0].startswith("#blocked") and lines[-1][0] == "}"


def test_text_that_is_no_ir_comes_back_as_it_is():
    assert ttgir_lines("") == []
    assert ttgir_lines("hello\nworld") == [("hello", None), ("world", None)]


def test_circles_and_missing_definitions_end():
    text = '%x loc(#loc1)\n%y loc(#loc9)\n#loc1 = loc("a"(#loc2))\n#loc2 = loc("b"(#loc1))'
    assert ttgir_lines(text) == [("%x", None), ("%y", None)]


def test_long_hostile_lines_take_time_in_proportion():
    def seconds(n: int) -> float:
        start = time.perf_counter()
        ttgir_lines("x loc(" * n + '\n%a loc("' + "\\" * n)
        return time.perf_counter() - start

    short, long = min(seconds(20_000) for _ in range(3)), min(seconds(160_000) for _ in range(3))
    assert long < 40 * short + 0.5

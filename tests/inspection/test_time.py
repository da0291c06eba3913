"""Every reader of a stranger's text takes time in proportion to it, whatever the text repeats."""

from __future__ import annotations

import time

import pytest

from helpers.bundle.scrub import Identity, Scrubber
from helpers.bundle.withhold import withhold_ptx
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.pressure import pressure_report
from helpers.errors import UserError
from helpers.inspection.ptx import pressure
from helpers.inspection.ptx.graph import read_functions
from helpers.inspection.ptx.register_values import read_values
from helpers.inspection.ptx.scan import count_instructions, is_trap_stub, ptx_header
from helpers.inspection.ptxas import parse_ptxas_log
from helpers.inspection.ttgir import ttgir_lines
from helpers.search.minimize.program import read_program

SCRUBBER = Scrubber(Identity(("/home/ada",), ("ada",), ("fjord-12",)))
READERS = [pressure_report, withhold_ptx, ttgir_lines, ptx_header, count_instructions, is_trap_stub, parse_ptxas_log,
           read_program, diagnose, SCRUBBER.text, SCRUBBER.code, SCRUBBER.python]  # fmt: skip
PIECES = (" ", "\t", "a", "{", "}", "(", "\"", "'", "/*", "//", "\\", "\\n", "$L:", "@%p1 ", ".reg ", ".reg .b32 ",
          ".section ", ".section {", ".global .a ", ".global .u32 a,", ".func (", ".entry ", ".b8 1,", "loc(", 'loc("',
          " loc(#loc1)", "#loc1 = loc(", "{%r1,%r1},", "ptxas fatal : ",
          "Traceback (most recent call last):\n", '{"a":', "1.", "a.b.",
          "https://a", "x@y", "~a", "::", "====")  # fmt: skip
HEAD = ".version 8.6\n.target sm_80\n.visible .entry k()\n{\n.reg .pred %p<9>;\n.reg .b32 %r<9>;\n"
SIZE = 20_000


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_no_repetition_takes_long(reader):
    for piece in PIECES:
        for head in ("", HEAD):
            began = time.perf_counter()
            try:
                reader(head + (piece * SIZE)[:SIZE])
            except UserError:
                pass
            assert time.perf_counter() - began < 2, (piece, bool(head))


def nested(depth: int, *, loops: bool = False, braces: bool = False) -> str:
    """A kernel of conditions inside conditions (or loops inside loops), each with a value that lives across it."""
    begin = "{\n.reg .b32 %x;\n" if braces else ""
    lines = [".version 8.6\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n.reg .pred %p<9999>;",
             ".reg .b32 %r<99999>;\n.reg .b64 %rd<9>;\nmov.u32 %r0, %tid.x;"]  # fmt: skip
    for n in range(depth):
        lines.append(f"{begin}setp.eq.s32 %p{n}, %r{n}, {n};\nadd.s32 %r{n + 1}, %r{n}, {n};")
        lines.append(f"$B{n}:" if loops else f"@%p{n} bra $L{n};")
    for n in reversed(range(depth)):
        lines.append(f"xor.b32 %r{depth + 1}, %r{depth + 1}, %r{n};")
        lines.append((f"@%p{n} bra $B{n};" if loops else f"$L{n}:") + ("\n}" if braces else ""))
    return "\n".join([*lines, f"st.global.u32 [%rd0], %r{depth + 1};\nret;\n}}\n"])


@pytest.mark.parametrize("how", [{}, {"loops": True}, {"braces": True}], ids=str)
def test_pressure_of_control_flow_inside_control_flow(how):
    text = nested(5_000, **how)
    began = time.perf_counter()
    found = pressure_report(text)
    assert time.perf_counter() - began < 15, len(text)  # minutes before
    assert found["demand"] >= 5_000 - (how.get("braces", False) and 4_999)
    if how.get("loops") is None and not how:
        assert 41 <= pressure_report(nested(40))["demand"] <= 45


def test_conditions_inside_a_loop_and_the_region_that_is_found():
    inner = nested(3_000).partition("mov.u32 %r0, %tid.x;\n")
    looped = f"{inner[0]}mov.u32 %r0, %tid.x;\n$TOP:\n" + inner[2].replace("ret;", "@%p0 bra $TOP;\nret;")
    began = time.perf_counter()
    held = pressure.held_across(looped)
    assert time.perf_counter() - began < 20
    # The outermost condition: it begins behind the first jump.
    assert held is not None and held.line_no == looped[: looped.index("bra $L0;")].count("\n") + 1


def test_a_ptx_past_the_limit_is_called_too_large_and_not_no_ptx(monkeypatch):
    monkeypatch.setattr(pressure, "_MAX_WORK", 100)
    with pytest.raises(UserError, match=r"the function k has .* blocks and .* registers: more than is analysed"):
        pressure_report(nested(50))
    with pytest.raises(UserError, match="has no PTX function"):
        pressure_report("nothing\n")


def test_a_large_ptx_is_withheld_in_time():
    lines = "".join(f"lab{n}x: add{n}y.u32 %a{n}b, %a{n}b, 1;\n" for n in range(20_000))
    text = f".version 8.6\n.visible .entry k()\n{{\n{lines}}}\n"
    began = time.perf_counter()
    kept = withhold_ptx(text).ptx
    assert time.perf_counter() - began < 5 and "lab7x" not in kept and len(text) > 1_000_000 / 2


def test_an_instruction_with_many_operands_is_asked_once_how_they_vary():
    """Each of its sources would ask anew after each of its results: 6,000 of both took seconds."""
    many = 6_000
    sources, results = (", ".join(f"%{r}{n}" for n in range(many)) for r in ("a", "b"))
    body = "".join(f"mov.u32 %a{n}, %tid.x;\n" for n in range(many)) + f"call ({results}), f, ({sources});\n"
    text = f"{HEAD}.reg .b32 %a<{many}>, %b<{many}>;\n{body}ret;\n}}\n"
    (function,) = read_functions(text)
    began = time.process_time()
    assert not any(read_values(function).uniform)
    assert time.process_time() - began < 0.5

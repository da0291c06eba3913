"""Register counts in cubins: a small ELF made here, real cubins compiled here, and nvdisasm under its limits."""

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention.choice import Choice
from helpers.compiler.compile import compile_request
from helpers.compiler.disassemble import disassemble
from helpers.compiler.toolchain import resolve_triton
from helpers.inspection.binary.cubin import readable_copy, register_counts
from helpers.inspection.binary.sass import sass_profile


def elf(info: bytes) -> bytes:
    """An ELF with a section `.nv.info` of these bytes and the table of section names."""
    names = b"\0.nv.info\0.shstrtab\0"
    at_names = 64 + len(info)
    table = at_names + len(names)
    section = struct.Struct("<IIQQQQIIQQ")
    headers = section.pack(*([0] * 10)) + section.pack(1, 1, 0, 0, 64, len(info), 0, 0, 1, 0)
    headers += section.pack(10, 3, 0, 0, at_names, len(names), 0, 0, 1, 0)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 190, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    return header + info + names + headers


def regcount(symbol: int, count: int) -> bytes:
    return struct.pack("<BBHII", 4, 0x2F, 8, symbol, count)


def counts(cubin: bytes) -> dict[int, int]:
    return {symbol: count for _, symbol, count in register_counts(cubin)}


OTHER = struct.pack("<BBHII", 4, 0x11, 8, 7, 255) + struct.pack("<BBH", 2, 0x4A, 255)


def test_counts_above_254_are_lowered_and_nothing_else():
    cubin = elf(OTHER + regcount(7, 255) + OTHER + regcount(9, 80))
    assert counts(cubin) == {7: 255, 9: 80}
    copy = readable_copy(cubin)
    assert counts(copy) == {7: 254, 9: 80}
    assert [(a, b) for a, b in zip(cubin, copy, strict=True) if a != b] == [(255, 254)]


def test_a_cubin_below_the_limit_is_copied_as_it_is():
    cubin = elf(regcount(7, 254))
    assert readable_copy(cubin) == cubin


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 400), st.binary(max_size=16))
def test_no_bytes_raise(info, at, noise):
    cubin = elf(info)
    broken = cubin[:at] + noise + cubin[at + len(noise) :]
    for content in (info, cubin, cubin[:at], broken):
        counts(content)
        assert len(readable_copy(content)) == len(content)


@pytest.fixture(scope="module")
def nvdisasm(toolchain_351) -> Path:
    return resolve_triton(toolchain_351.triton).program("nvdisasm")


@pytest.fixture(scope="module")
def spilling(toolchain_351):
    """Head dim 512, fp8, 32x64 on sm_100a: the release's suspect, 255 registers and spills."""
    report = compile_request(Choice(head_dim=512, window=None, tile="32x64").request())
    assert (report.status, report.regs_per_thread) == ("spills", 255)
    return report


def test_a_kernel_of_255_registers_is_read_and_its_spills_found(spilling, nvdisasm):
    cubin = Path(spilling.cubin_path).read_bytes()
    assert set(counts(cubin).values()) == {255}
    done = disassemble(cubin, [nvdisasm])
    assert done.problem == "" and done.program == str(nvdisasm)
    profile = sass_profile(done.life_ranges, done.lines)
    assert 240 < profile.peak.gprs <= 255
    assert sum(i.local_bytes for i in profile.instructions if i.opcode.startswith("STL")) == spilling.spill_store_bytes
    assert sum(i.local_bytes for i in profile.instructions if i.opcode.startswith("LDL")) == spilling.spill_load_bytes


def program(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def test_what_cannot_be_read_is_said_not_raised(nvdisasm, tmp_path):
    assert "fatal" in disassemble(b"no cubin", [nvdisasm]).problem
    assert "cannot run" in disassemble(b"", [tmp_path / "missing"]).problem
    assert disassemble(b"", []).problem
    assert "exit code 3" in disassemble(b"", [program(tmp_path, "fails", "exit 3")]).problem


def test_the_first_program_that_can_read_it_is_taken(tmp_path):
    good = program(tmp_path, "good", "echo text")
    done = disassemble(b"", [program(tmp_path, "bad", "echo refused >&2; exit 1"), good])
    assert (done.program, done.life_ranges, done.problem) == (str(good), "text\n", "")


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path):
    slow = program(tmp_path, "slow", f"sleep 77 & echo $! > {tmp_path}/child; wait")
    started = time.monotonic()
    done = disassemble(b"", [slow], timeout_s=0.5)
    assert time.monotonic() - started < 10
    assert "0.5 s" in done.problem
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if "Z" in Path(f"/proc/{child}/stat").read_text().split(")")[-1]:
            break  # dead, and not yet collected by its new parent
        time.sleep(0.05)
    else:
        pytest.fail("the child still runs")

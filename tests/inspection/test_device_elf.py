"""Cubins and fatbins read from bytes: what a real one says, and what a damaged or hostile one cannot do."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.errors import UserError
from helpers.inspection.binary.device_elf import attributes, read_device_elf
from helpers.inspection.binary.fatbin import as_fatbin, entries
from helpers.inspection.binary.sass_kernels import functions_of, sass_kernel
from helpers.inspection.ptx.entries import ptx_entries

BUILT = Path(__file__).resolve().parents[1] / "fixtures" / "built"
CUBIN = (BUILT / "split.sm_90a.cubin").read_bytes()
LIBRARY = (BUILT / "library.so").read_bytes()
PTX = (BUILT / "split_sm90a.ptx").read_text()


def test_a_cubin_says_what_ptxas_said_of_it():
    elf = read_device_elf(CUBIN)
    (kernel,) = elf.kernels
    assert (elf.arch, elf.ptxas_version, elf.relocatable) == ("sm_90a", "13.1.80", False)
    assert (kernel.name, kernel.registers, kernel.stack_frame_bytes, kernel.barriers) == ("split_kernel", 168, 0, 2)
    # 2,048 of its own, and what the chip keeps for itself: cuobjdump says the sum.
    assert (kernel.shared_bytes, kernel.max_threads, kernel.threads_are_exact) == (3072, 256, False)
    assert kernel.register_bound == 168


@pytest.mark.parametrize(
    ("flags", "abi", "arch"),
    [
        (0x900640A, 8, "sm_100a"), (0x6005A04, 8, "sm_90"), (0x6007802, 8, "sm_120"), (0x4B054B, 7, "sm_75"),
        (0x5A0D5A, 7, "sm_90a"), (0, 8, None),
    ],
)  # fmt: skip
def test_without_a_note_of_its_tools_the_header_says_the_arch(flags, abi, arch):
    cubin = bytearray(CUBIN.replace(b".note.nv.tkinfo", b".note.nv.nothing"[:15]))
    cubin[8] = abi
    struct.pack_into("<I", cubin, 48, flags)
    elf = read_device_elf(bytes(cubin))
    assert (elf.arch, elf.ptxas_version) == (arch, None)


def test_what_is_no_cubin_is_one_sentence():
    for content, words in (
        (b"", "no cubin"), (CUBIN[:60], "no cubin"), (b"\x7fELF" + bytes(200), "no cubin"), (LIBRARY, "of no GPU"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words):
            read_device_elf(content)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CUBIN) - 1), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_damaged_cubin_is_read_or_refused_and_nothing_else(changes):
    cubin = bytearray(CUBIN)
    for at, value in changes:
        cubin[at] = value
    try:
        read_device_elf(bytes(cubin))
    except UserError as exc:
        assert "\n" not in str(exc)[:50]


def test_headers_that_ask_for_more_than_there_is_are_refused_at_once():
    hostile = bytearray(CUBIN)
    struct.pack_into("<HHHH", hostile, 56, 0, 0, 0xFFFF, 1)  # entries of no size, as many as there can be
    struct.pack_into("<H", hostile, 58, 0)
    began = time.perf_counter()
    with pytest.raises(UserError):
        read_device_elf(bytes(hostile))
    assert time.perf_counter() - began < 20


def test_attributes_have_their_value_in_them_or_behind_them():
    info = struct.pack("<BBHII", 4, 0x2F, 8, 7, 255) + struct.pack("<BBH", 3, 0x1B, 168) + b"\x04\x10\xff\xff12"
    assert list(attributes(info)) == [(4, 0x2F, struct.pack("<II", 7, 255)), (14, 0x1B, struct.pack("<H", 168))]


def test_a_library_holds_its_cubins_and_its_ptx():
    found = list(entries(LIBRARY))
    assert [(entry.kind, entry.arch) for entry in found] == [("cubin", 80), ("cubin", 90), ("PTX", 80)]
    one = as_fatbin(LIBRARY[found[1].offset : found[1].offset + found[1].size])
    (alone,) = entries(one)
    assert (alone.kind, alone.arch, alone.size) == ("cubin", 90, found[1].size)
    archive = (BUILT / "library.a").read_bytes()
    assert [(e.kind, e.arch, e.size) for e in entries(archive)] == [(e.kind, e.arch, e.size) for e in found]


def test_two_containers_with_room_between_them_and_one_that_is_cut_short():
    found = list(entries(LIBRARY))
    one = as_fatbin(LIBRARY[found[1].offset : found[1].offset + found[1].size])
    assert [e.arch for e in entries(one + bytes(24) + one)] == [90, 90]
    assert [e.arch for e in entries(one + bytes(8) + one[:-1])] == [90]
    assert list(entries(one[:-1])) == [] and list(entries(b"")) == [] and list(entries(b"!<arch>\n")) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_framing_is_followed_out_of_the_file(noise, at):
    found = list(entries(LIBRARY))
    one = bytearray(as_fatbin(LIBRARY[found[1].offset : found[1].offset + found[1].size]))
    one[at : at + len(noise)] = noise
    for entry in entries(bytes(one)):
        assert 0 <= entry.offset and entry.offset + entry.size <= len(one)


def test_a_ptx_says_the_bounds_the_split_and_the_path_of_each_kernel():
    (kernel,) = ptx_entries(PTX)
    assert (kernel.name, kernel.register_bound, kernel.max_threads, kernel.shared_bytes) == (
        "split_kernel", 168, 256, 2048
    )  # fmt: skip
    assert (kernel.setmaxnreg, kernel.tensor_core_path, kernel.threads_are_exact) == ((40, 232), "wgmma", False)
    two = PTX + PTX.partition(".address_size 64")[2].replace("split_kernel", "other").replace("wgmma.mma_async", "x.y")
    assert [(k.name, k.tensor_core_path) for k in ptx_entries(two)] == [("split_kernel", "wgmma"), ("other", "none")]
    called = PTX.replace("ret;\n}", "ret;\n}\n.func helper()\n{\n mma.sync.aligned.m16n8k16 {%a}, {%b};\n ret;\n}")
    assert [k.counts["mma_sync"] for k in ptx_entries(called)] == [0]
    allocating = PTX.replace("bar.sync 1, 128;", "tcgen05.alloc.cta_group::1.sync.aligned.b32 [tile], 256;")
    assert ptx_entries(allocating)[0].tmem_columns == 256


SASS = """
//--------------------- .text.a                        --------------------------
        /*0000*/                   UMOV UR5, 0x10 ;
        /*0010*/                   UTCATOMSWS.FIND_AND_SET.ALIGN UP0, UR5, UR5 ;
        /*0020*/                   UTCATOMSWS.FIND_AND_SET.ALIGN UP0, UR5, UR5 ;
        /*0030*/                   UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8] ;
        /*0040*/                   USETMAXREG.DEALLOC.CTAPOOL 0x28 ;
        /*0050*/                   USETMAXREG.TRY_ALLOC.CTAPOOL UP0, 0xe8 ;
.L_x_0:
        /*0060*/                   STL.64 [R1], R2 ;
        /*0070*/              @P0  BRA `(.L_x_0) ;
        /*0080*/                   LDL R2, [R1] ;
        /*0090*/                   EXIT ;
//--------------------- .text.b                        --------------------------
        /*0000*/                   HGMMA.64x160x16.F32 R24, gdesc[UR16], RZ, !UPT ;
        /*0010*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0020*/                   EXIT ;
"""


def test_the_code_of_each_function_by_itself():
    texts = dict(functions_of(SASS))
    assert list(texts) == ["a", "b"]
    a, b = sass_kernel(texts["a"]), sass_kernel(texts["b"])
    assert (a.instructions, a.tensor_core_path, a.setmaxnreg, a.tmem_columns) == (10, "tcgen05", (40, 232), 512)
    assert (dict(a.spills.stores), dict(a.spills.loads), a.spills.weighted) == ({1: 8}, {0: 4}, 84)
    assert (b.tensor_core_path, b.counts, b.tmem_columns) == (
        "wgmma", {"tcgen05_mma": 0, "wgmma": 1, "mma_sync": 1}, None
    )  # fmt: skip
    assert list(functions_of("")) == [] and sass_kernel("anything").instructions == 0

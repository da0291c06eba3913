"""A withheld PTX: no names, comments, line info or debug bytes of the original, and ptxas says the same of it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from helpers.bundle.withhold import withhold_ptx
from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import resolve_triton
from helpers.errors import UserError
from helpers.inspection.ptx.scan import count_instructions, register_declarations
from helpers.inspection.ptxas import parse_ptxas_log

FIXTURES = Path(__file__).parents[1] / "fixtures" / "ptx"


@pytest.fixture(scope="module")
def ptxas(toolchain_351) -> Path:
    return resolve_triton("3.5.1").program("ptxas")


def read(name: str) -> str:
    content = (FIXTURES / name).read_bytes()
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode()


@pytest.mark.parametrize(
    ("name", "arch"),
    [("wgmma_sm90a.ptx", "sm_90a"), ("several_functions.ptx", "sm_80"), ("assert_branch.ptx", "sm_80")],
)
def test_ptxas_gives_the_same_numbers(ptxas, name, arch):
    ptx = read(name)
    small = withhold_ptx(ptx).ptx
    before, after = (parse_ptxas_log(run_ptxas(ptxas, p, gpu_name=arch).log) for p in (ptx, small))
    assert after.fatal == ()

    def numbers(log):
        # ptxas lists functions in an order of its own making, by name.
        return sorted((f.regs_per_thread or 0, f.spill_store_bytes, f.stack_frame_bytes) for f in log.functions)

    assert numbers(after) == numbers(before)


def test_the_crash_stays_the_crash(ptxas):
    small = withhold_ptx(read("crash_sm100a.ptx.gz")).ptx
    log = parse_ptxas_log(run_ptxas(ptxas, small, gpu_name="sm_100a").log)
    assert (log.codes, log.register_count_asked) == (("C7600",), 255)


@pytest.mark.parametrize(
    "name", ["crash_sm100a.ptx.gz", "wgmma_sm90a.ptx", "mma_sync_sm120a.ptx", "several_functions.ptx"]
)
def test_nothing_of_the_original_s_words_is_left(name):
    ptx = read(name)
    withheld = withhold_ptx(ptx)
    small = withheld.ptx
    assert "//" not in small and "/*" not in small and not re.search(r"\.(?:loc|file)\b", small)
    assert ".section" not in small and "debug" not in small
    kernels = re.findall(r"\.entry (\w+)", ptx)
    assert kernels and set(kernels) <= set(withheld.names)
    assert [word for word in withheld.names if re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", small)] == []
    assert not re.search(r"%r[0-9]|%rd[0-9]|%p[0-9]|\$L_", small)
    assert count_instructions(small) == count_instructions(ptx)
    assert register_declarations(small) == register_declarations(ptx)


def test_embedded_texts_are_blanked_and_data_is_not():
    text = ", ".join(str(b) for b in b"secret message\0")
    ptx = (
        ".version 8.5\n.target sm_80\n.address_size 64\n"
        f".global .align 1 .b8 message[15] = {{{text}}};\n.global .align 1 .b8 weights[3] = {{1, 2, 200}};\n"
        ".visible .entry k()\n{\nret;\n}\n"
    )
    small = withhold_ptx(ptx).ptx
    assert text not in small and "{1, 2, 200}" in small
    assert small.count(",") == ptx.count(",")


def test_names_in_inline_assembly_do_not_collide_with_opcodes():
    ptx = (
        ".version 8.5\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u32 add)\n{\n.reg .b32 %r<3>;\n"
        "{ .reg .b32 max; mov.u32 max, 1; max.s32 %r1, max, max; }\nld.param.u32 %r2, [add];\n"
        "add.s32 %r1, %r2, %r1;\nret;\n}\n"
    )
    small = withhold_ptx(ptx).ptx
    assert "max.s32" in small and "add.s32" in small
    assert not re.search(r"\bmax\b(?!\.)|\badd\b(?!\.)", small)


def test_text_that_is_no_ptx_is_refused():
    with pytest.raises(UserError, match="no PTX"):
        withhold_ptx("hello\nworld\n")


def test_a_register_whose_parts_are_named_is_renamed_too():
    text = (
        ".version 8.6\n.visible .entry k()\n{\n.reg .v4 .b32 %secret;\n.reg .b32 add;\nadd.u32 add, %secret.x, 1;\n}\n"
    )
    kept = withhold_ptx(text).ptx
    assert "secret" not in kept and "add.u32" in kept and ".x, 1" in kept

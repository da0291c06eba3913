"""Architectures: every spelling people use finds one, everything else is refused in a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import resolve_triton
from helpers.errors import UserError
from helpers.hardware import ARCHS, CAP, cap_for, get_arch

FIXTURES = Path(__file__).parent / "fixtures" / "ptx"


@pytest.mark.parametrize("spelling", ["sm_100a", "sm_100", "SM_100A", "sm100", "100", "10.0", " 100a ", 100, "sm_100f"])
def test_every_spelling_finds_the_arch(spelling):
    assert get_arch(spelling) is ARCHS["sm_100a"]


def test_an_arch_is_its_own_answer():
    assert get_arch(ARCHS["sm_90a"]) is ARCHS["sm_90a"]


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "sm_",
        "sm_70",
        "sm_100b",
        "sm_sm_100a",
        "1.0.0",
        "100aa",
        "b200",
        "-100",
        "x" * 10_000,
        None,
        True,
        1e9,
    ],
)
def test_anything_else_is_refused_with_the_list(spelling):
    with pytest.raises(UserError) as refusal:
        get_arch(spelling)
    assert "sm_121a" in str(refusal.value) and len(str(refusal.value)) < 300


def test_eight_archs_with_plausible_limits():
    assert list(ARCHS) == ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_103a", "sm_120a", "sm_121a"]
    for arch in ARCHS.values():
        # What a block may have and what the system reserves in it is what an SM has.
        assert arch.smem_per_block_max_bytes + arch.smem_reserved_per_block_bytes == arch.smem_per_sm_bytes
        assert arch.tmem_columns == (512 if arch.tensor_core_path == "tcgen05" else 0)


@pytest.mark.parametrize(
    ("threads", "cap"),
    [(0, 255), (1, 255), (128, 255), (256, 255), (288, 168), (320, 168), (384, 168), (416, 128), (448, 128), (512, 128),
     (576, 96), (640, 96), (768, 80), (1024, 64), (10**9, 64)],
)  # fmt: skip
def test_the_cap_of_a_launch_is_its_share_of_the_register_file(threads, cap):
    """256 to 1,024 as measured: the number that ptxas 12.8.93 dies at on the crash's PTX with that `.reqntid`."""
    assert cap_for(threads) == cap
    assert cap_for(num_warps=-(-threads // 32)) == cap


def test_a_launch_that_is_not_known_has_the_most_an_instruction_can_name():
    assert cap_for() == cap_for(None) == CAP == 255


@pytest.mark.parametrize("threads", [288, 512])
def test_ptxas_dies_at_the_cap_of_the_launch(threads, toolchain_351):
    ptx = gzip.decompress((FIXTURES / "crash_sm100a.ptx.gz").read_bytes()).decode()
    asked = ptx.replace(".reqntid 256", f".reqntid {threads}")
    assert asked != ptx
    program = resolve_triton(toolchain_351.triton).program("ptxas")
    assert run_ptxas(program, asked, gpu_name="sm_100a").registers_asked == cap_for(threads)

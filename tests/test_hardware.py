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
        "V100",
        "RTX 6000",
        "RTX 2080",
        "H1000",
        "B200 B200",
        "GPU",
        "100aa",
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


PRODUCTS = {
    "sm_80": ["A100", "a100", "NVIDIA A100-SXM4-80GB", "A100 80GB PCIe", "A30"],
    "sm_86": ["A10", "A10G", "A40", "RTX 3090", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA RTX A6000"],
    "sm_89": ["L4", "L40S", "RTX 4090", "rtx4090", "NVIDIA RTX 6000 Ada Generation"],
    "sm_90a": ["H100", "H200", "GH200", "NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL", "NVIDIA GH200 480GB", "H20"],
    "sm_100a": ["B200", "b200", "GB200", "NVIDIA B200"],
    "sm_103a": ["B300", "GB300"],
    "sm_120a": ["RTX 5090", "RTX-5090", "rtx_5090", "NVIDIA GeForce RTX 5070 Ti", "RTX 5090 Laptop GPU",
                "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"],
    "sm_121a": ["GB10", "DGX Spark"],
}  # fmt: skip


@pytest.mark.parametrize(("arch", "product"), [(a, p) for a, all_of in PRODUCTS.items() for p in all_of])
def test_a_product_is_taken_for_its_arch(arch, product):
    assert get_arch(product) is ARCHS[arch]


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


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("T4", "T4 is sm_75 (Turing)"),
        ("Tesla T4", "is sm_75 (Turing)"),
        ("RTX 2080 Ti", "is sm_75 (Turing)"),
        ("V100", "is sm_70 (Volta)"),
        ("GTX1080", "is sm_61 (Pascal)"),
        ("MI300X", "one of AMD's"),
        ("gfx942", "one of AMD's"),
        ("sm_75", "sm_75 (Turing) is known to diagnose"),
        ("sm_999", "unknown arch 'sm_999'"),
        ("toaster", "unknown arch 'toaster'"),
    ],
)
def test_a_chip_that_nothing_is_compiled_for_is_told_from_one_nobody_knows(name, words):
    with pytest.raises(UserError) as told:
        get_arch(name)
    assert words in str(told.value) and "choose one of sm_80" in str(told.value)


def test_a_number_alone_is_the_product_of_that_number():
    assert get_arch("5090").name == "sm_120a" and get_arch("rtx4090").name == "sm_89"

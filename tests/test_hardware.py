"""Architectures: every spelling people use finds one, everything else is refused in a sentence."""

import pytest

from helpers.errors import UserError
from helpers.hardware import ARCHS, get_arch


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


@pytest.mark.parametrize(("warps", "cap"), [(1, 255), (4, 255), (8, 255), (12, 168), (16, 128), (32, 64)])
def test_register_cap_is_the_register_file_shared_out(warps, cap):
    assert get_arch("sm_100a").register_cap(warps) == cap

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


@pytest.mark.parametrize(("warps", "cap"), [(1, 255), (4, 255), (8, 255), (12, 168), (16, 128), (32, 64)])
def test_register_cap_is_the_register_file_shared_out(warps, cap):
    assert get_arch("sm_100a").register_cap(warps) == cap

"""What AMD's assembly says of its kernel, read from a real one; anything else is None and no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.inspection.amdgcn import MAX_METADATA_CHARS, AmdResources, amd_resources, count_matrix_instructions

REAL = (Path(__file__).parents[1] / "fixtures" / "amdgcn" / "hd576_gfx950_triton_3_6_0.s").read_text()


def test_the_metadata_of_a_real_kernel():
    assert amd_resources(REAL) == AmdResources(
        vgprs=486,
        agprs=230,
        sgprs=106,
        vgpr_spills=89,
        sgpr_spills=14,
        scratch_bytes=352,
        lds_bytes=0,
        max_threads=256,
        wave_size=64,
    )


def test_older_chips_have_no_agprs():
    assert amd_resources(REAL.replace(".agpr_count", ".other")).agprs == 0


def test_matrix_instructions_are_counted():
    assert count_matrix_instructions(REAL) == 5
    assert count_matrix_instructions("; v_mfma_f32_16x16x32_bf16 in a comment\n\tv_add_f32 v0, v1, v2\n") == 0
    assert count_matrix_instructions("\tv_wmma_f32_16x16x16_f16 v[0:7], v[8:15]\n\tv_smfmac_f32_16 a[0:3]\n") == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        REAL.replace(".end_amdgpu_metadata", ""),
        REAL.replace(".vgpr_count:", ".vgpr_counted:"),
        REAL.replace(".vgpr_count:     486", ".vgpr_count:     many"),
        REAL.replace("amdhsa.kernels:", "amdhsa.kernels: {"),
        "\t.amdgpu_metadata\n- a list\n\t.end_amdgpu_metadata\n",
        "\t.amdgpu_metadata\namdhsa.kernels: []\n\t.end_amdgpu_metadata\n",
        "\t.amdgpu_metadata\namdhsa.kernels: [{}, {}]\n\t.end_amdgpu_metadata\n",
        "\t.amdgpu_metadata\namdhsa.kernels: " + "[" * 90_000 + "\n\t.end_amdgpu_metadata\n",
        "\t.amdgpu_metadata\n" + "#" * (MAX_METADATA_CHARS + 1) + "\n\t.end_amdgpu_metadata\n",
        "\t.amdgpu_metadata\n!!python/object/apply:os.abort []\n\t.end_amdgpu_metadata\n",
    ],
    ids=["nothing", "cut", "no count", "no number", "no YAML", "a list", "no kernel", "two", "deep", "long", "a call"],
)
def test_what_is_no_metadata_of_one_kernel(text: str):
    assert amd_resources(text) is None

"""sglang's kernel from a wheel: matched by name, the incident's configuration its default, strangers refused."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

import helpers as rc
from helpers.attention.choice import Choice
from helpers.errors import UserError

PARAMETERS = """Q_Extend, K_Extend, V_Extend, O_Extend, K_Buffer, V_Buffer, qo_indptr, kv_indptr, kv_indices, mask_ptr,
    mask_indptr, sink_ptr, window_kv_offset_ptr, sm_scale, k_scale, v_scale, kv_group_num, stride_qbs, stride_qh,
    stride_kbs, stride_kh, stride_vbs, stride_vh, stride_obs, stride_oh, stride_buf_kbs, stride_buf_kh, stride_buf_vbs,
    stride_buf_vh, SLIDING_WINDOW_SIZE: tl.constexpr, logit_cap: tl.constexpr, xai_temperature_len: tl.constexpr,
    Lq: tl.constexpr, Lv: tl.constexpr, BLOCK_DMODEL: tl.constexpr, BLOCK_DPE: tl.constexpr, BLOCK_DV: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, USE_CUSTOM_MASK: tl.constexpr, IS_CAUSAL: tl.constexpr,
    SKIP_PREFIX_CUSTOM_MASK: tl.constexpr, STORE_TRANSPOSE: tl.constexpr, HAS_SINK: tl.constexpr"""


def wheel_of(folder: Path, parameters: str) -> Path:
    """A wheel with a kernel of the release's parameters and nothing in it."""
    path = folder / "sglang-0.0.1-py3-none-any.whl"
    source = f"import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef _fwd_kernel({parameters}):\n    pass\n"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("sglang/srt/layers/attention/triton_ops/extend_attention.py", source)
    return path


@pytest.fixture
def wheel(tmp_path, isolated_cache) -> Path:
    return wheel_of(tmp_path, PARAMETERS)


def test_the_default_is_the_incident(wheel):
    spec = rc.sglang_extend_spec(wheel)
    kinds, values = dict(spec.signature), dict(spec.constexprs)
    ours = Choice().request().spec
    assert (kinds["Q_Extend"], kinds["K_Buffer"], kinds["kv_indices"]) == ("*bf16", "*fp8e4nv", "*i64")
    assert [values[n] for n in ("BLOCK_M", "BLOCK_N", "Lq", "SLIDING_WINDOW_SIZE")] == [128, 64, 256, 1023]
    assert spec.options == ours.options and spec.option["num_warps"] == 8
    # Everything but the group size of 2 is a multiple of 16, in this kernel as in ours.
    runtime = [name for name, kind in spec.signature if kind not in ("constexpr", "fp32")]
    assert set(runtime) - set(spec.divisible_by_16) == {"kv_group_num"}
    assert len(spec.divisible_by_16) == len(ours.divisible_by_16)


def test_options_of_a_choice_reach_the_kernel(wheel):
    choice = replace(Choice(), head_dim=512, num_kv_heads=32, mask=True, sinks=True, kv_dtype="bf16", window=None)
    spec = rc.sglang_extend_spec(wheel, choice)
    kinds, values = dict(spec.signature), dict(spec.constexprs)
    assert (kinds["mask_ptr"], kinds["sink_ptr"], kinds["K_Buffer"]) == ("*u8", "*fp32", "*bf16")
    assert values["USE_CUSTOM_MASK"] and values["HAS_SINK"] and values["SLIDING_WINDOW_SIZE"] == -1
    assert values["kv_group_num"] == 1  # an argument of 1 becomes a constant


def test_a_release_that_asks_for_more_is_refused_unless_it_has_defaults(tmp_path, isolated_cache):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    spec = rc.sglang_extend_spec(wheel_of(tmp_path / "a", PARAMETERS + ", NEW: tl.constexpr = 7, aux_ptr=None"))
    assert dict(spec.constexprs)["NEW"] == 7 and dict(spec.constexprs)["aux_ptr"] is None
    with pytest.raises(UserError, match="asks for brand_new, which is not known here"):
        rc.sglang_extend_spec(wheel_of(tmp_path / "b", PARAMETERS + ", brand_new"))


def test_ingredients_the_release_does_not_have_are_refused(wheel):
    with pytest.raises(UserError, match="tile_skip 'bounds'"):
        rc.sglang_extend_spec(wheel, replace(Choice(), tile_skip="bounds"))

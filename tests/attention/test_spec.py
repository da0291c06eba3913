"""build_spec: the kernel's parameters in its order, specialised by Triton's rules; every option has one."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.attention.shapes import GEMMA4_31B_SLIDING, HEAD_DIMS, AttentionShape
from helpers.attention.spec import CHOICES, EXTEND_KERNEL, INCIDENT, LEAN, Ingredients, build_spec, describe
from helpers.attention.tiles import TileConfig
from helpers.errors import UserError

TILE = TileConfig(128, 64)
FP8 = replace(GEMMA4_31B_SLIDING, kv_dtype="fp8_e4m3")


def kernel_parameters():
    """(all parameter names, the constexpr ones) as the kernel's source declares them, Triton not imported."""
    tree = ast.parse(Path(EXTEND_KERNEL.path).read_text())
    (function,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == EXTEND_KERNEL.name]
    constexprs = {a.arg for a in function.args.args if a.annotation and "constexpr" in ast.unparse(a.annotation)}
    return [a.arg for a in function.args.args], constexprs


def test_signature_is_the_kernel_s_own_in_its_order():
    names, constexprs = kernel_parameters()
    spec = build_spec(FP8, TILE)
    assert [name for name, _ in spec.signature] == names
    given = {name for name, _ in spec.constexprs}
    assert constexprs <= given
    assert given - constexprs == {"mask_ptr", "mask_indptr", "sinks_ptr"}  # passed as None


def test_the_incident_s_types_and_alignment():
    spec = build_spec(FP8, TILE)
    kinds = dict(spec.signature)
    assert kinds["q_ptr"] == kinds["k_ptr"] == "*bf16" and kinds["k_buffer_ptr"] == "*fp8e4nv"
    assert kinds["kv_indices"] == "*i64" and kinds["kv_group_num"] == "i32" and kinds["v_scale"] == "fp32"
    aligned = set(spec.divisible_by_16)
    assert {n for n, k in kinds.items() if k.startswith("*")} <= aligned
    assert {n for n in kinds if n.startswith("stride_")} <= aligned
    assert not aligned & {"kv_group_num", "sm_scale", "k_scale", "v_scale"}
    assert dict(spec.constexprs)["WINDOW_LEFT"] == 1023
    assert spec.option == {"num_warps": 8, "num_stages": 1}


@pytest.mark.parametrize(
    ("heads", "kv_heads", "kind", "aligned"),
    [(8, 8, "constexpr", False), (32, 16, "i32", False), (16, 1, "i32", True), (64, 2, "i32", True)],
)
def test_group_size_follows_triton_s_integer_rules(heads, kv_heads, kind, aligned):
    shape = AttentionShape(num_q_heads=heads, num_kv_heads=kv_heads, head_dim=128)
    spec = build_spec(shape, TILE)
    assert dict(spec.signature)["kv_group_num"] == kind
    assert ("kv_group_num" in spec.divisible_by_16) == aligned
    assert dict(spec.constexprs).get("kv_group_num") == (1 if kind == "constexpr" else None)


def test_mask_and_sinks_bring_their_pointers():
    spec = build_spec(replace(FP8, custom_mask=True, sinks=True), TILE)
    kinds = dict(spec.signature)
    assert (kinds["mask_ptr"], kinds["mask_indptr"], kinds["sinks_ptr"]) == ("*u8", "*i64", "*fp32")


def test_every_ingredient_changes_the_content():
    keys = {build_spec(FP8, TILE).content_key()}
    for name, values in CHOICES.items():
        assert getattr(INCIDENT, name) == values[0]
        keys.add(build_spec(FP8, TILE, replace(INCIDENT, **{name: values[1]})).content_key())
    assert len(keys) == 1 + len(CHOICES)


def test_lengths_and_names_do_not_change_the_content():
    key = build_spec(FP8, TILE).content_key()
    assert build_spec(replace(FP8.with_lengths(100, 7), name="x"), TILE).content_key() == key


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_every_head_dim_has_a_spec(head_dim):
    constexprs = dict(build_spec(AttentionShape(num_q_heads=8, num_kv_heads=2, head_dim=head_dim), TILE).constexprs)
    blocks = [constexprs[n] for n in ("BLOCK_DMODEL", "BLOCK_DPE", "BLOCK_DV")]
    assert all(b & (b - 1) == 0 for b in blocks) and blocks[2] >= head_dim


def test_maxnreg_is_an_option_of_the_launch():
    assert build_spec(FP8, TILE, maxnreg=128).option["maxnreg"] == 128


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choices_are_refused(name):
    with pytest.raises(UserError, match=f"{name} 'maybe': choose one of {CHOICES[name][0]}"):
        Ingredients(**{name: "maybe"})


def test_labels_say_what_differs():
    assert describe(FP8, TILE) == "hd256 fp8_e4m3 window 1024 128x64 w8 s1"
    assert describe(FP8, TILE, LEAN).endswith("tile_skip=bounds accumulate=fused kv_operands=upcast")
    shape = AttentionShape(num_q_heads=8, num_kv_heads=8, head_dim=576, v_head_dim=512, sinks=True, causal=False)
    assert describe(shape, TILE).startswith("hd576/512 bf16 no window sinks non-causal ")
    assert " 128x64 w8 s1" in describe(shape, TILE)

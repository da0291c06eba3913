"""KernelSpec: JSON both ways, a key that follows content only, hostile JSON refused in one sentence."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention.choice import Choice
from helpers.compiler.kernel_spec import KernelRef, KernelSpec, label_of, tell_apart
from helpers.errors import UserError


@pytest.fixture(scope="module")
def incident():
    return Choice().request().spec


def test_json_round_trip_keeps_content_and_key(incident):
    again = KernelSpec.from_json(incident.to_json())
    assert again == incident
    assert again.label == incident.label
    assert again.content_key() == incident.content_key()


def test_tuple_options_survive_json(write_kernel):
    spec = write_kernel(options=(("num_warps", 4), ("cluster_dims", (1, 1, 1))))
    assert KernelSpec.from_json(spec.to_json()) == spec


def test_key_ignores_place_and_label(write_kernel):
    one, other = write_kernel(folder="here"), write_kernel(folder="there")
    assert one.content_key() == other.content_key()
    assert replace(one, label="renamed").content_key() == one.content_key()


def test_key_follows_every_part(incident):
    variants = [
        incident,
        incident.with_constexprs(BLOCK_M=64),
        incident.with_constexprs(IS_CAUSAL=1),  # equal to True for Python, another constexpr for Triton
        incident.with_constexprs(LOGIT_CAP=0),
        incident.with_options(num_warps=4),
        incident.with_options(maxnreg=128),
        replace(incident, divisible_by_16=incident.divisible_by_16[1:]),
        replace(incident, kernel=replace(incident.kernel, name="_scores")),
    ]
    assert len({spec.content_key() for spec in variants}) == len(variants)


def test_edited_source_changes_the_key(write_kernel):
    spec = write_kernel()
    before = spec.content_key()
    path = Path(spec.kernel.path)
    path.write_text(path.read_text().replace("+ 1", "+ 2"))
    assert spec.content_key() != before


def test_none_removes_an_option(incident):
    assert "num_stages" not in incident.with_options(num_stages=None).option


def test_unknown_constexpr_is_named(incident):
    with pytest.raises(UserError, match=r"no constexpr 'BLOCK_Q'; it has .*BLOCK_M"):
        incident.with_constexprs(BLOCK_Q=1)


def _broken(incident, **changes):
    return json.dumps({**asdict(incident), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": {"path": "/x.py"}},
        {"kernel": {"path": 5, "name": "k"}},
        {"kernel": {"path": "a\0b", "name": "k"}},
        {"kernel": {"path": "", "name": "k"}},
        {"kernel": {"path": "/x.py", "name": "k", "extra": 1}},
        {"kernel": {"path": "/x.py", "name": "k", "import_root": ["/"]}},
        {"kernel": None},
        {"signature": 7},
        {"signature": [["a", "*fp32"], ["a", "i32"]], "constexprs": [], "divisible_by_16": []},
        {"signature": [["a"]]},
        {"signature": {"a": "i32"}},
        {"constexprs": []},
        {"constexprs": [["HEAD_DIM", {"a": 1}]]},
        {"divisible_by_16": ["nobody"]},
        {"divisible_by_16": None},
        {"options": [["num_warps", "many"]]},
        {"options": [["num_warps", 1e9]]},
        {"options": [["num_warps", 0]]},
        {"options": [["num_warps", 4], ["num_warps", 8]]},
        {"options": [["num_stages", [1, [2]]]]},
        {"options": {"num_warps": 4}},
    ],
)
def test_hostile_json_is_one_clear_sentence(incident, changes):
    with pytest.raises(UserError) as refusal:
        KernelSpec.from_json(_broken(incident, **changes))
    assert len(str(refusal.value)) < 2_000


def test_lists_among_constexprs_are_refused(incident):
    constexprs = [[n, [v]] if n == "BLOCK_M" else [n, v] for n, v in incident.constexprs]
    with pytest.raises(UserError, match="constexpr BLOCK_M"):
        KernelSpec.from_json(_broken(incident, constexprs=constexprs))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"kernel"', "[" * 100_000, "9" * 10_000, "{}"])
def test_not_even_an_object(text):
    with pytest.raises(UserError, match="not a KernelSpec"):
        KernelSpec.from_json(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = ["kernel", "signature", "constexprs", "divisible_by_16", "options", "label"]


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(_FIELDS), value=_JSON)
def test_any_json_in_any_field_makes_a_usable_spec_or_a_user_error(incident, field, value):
    try:
        spec = KernelSpec.from_json(_broken(incident, **{field: value}))
    except UserError:
        return
    assert len(spec.content_key()) == 64 and hash(spec) and spec.num_warps >= 1


def test_missing_kernel_file_is_a_user_error(tmp_path):
    spec = KernelSpec(KernelRef(str(tmp_path / "no.py"), "k"), (), (), ())
    with pytest.raises(UserError, match=r"cannot read kernel source .*no\.py: No such file"):
        spec.content_key()


def test_copied_project_has_the_same_key(incident, tmp_path):
    source = Path(incident.kernel.path)
    (tmp_path / "kernels").mkdir()
    for file in source.parent.glob("*.py"):
        shutil.copy(file, tmp_path / "kernels")
    moved = KernelRef(str(tmp_path / "kernels" / source.name), incident.kernel.name, str(tmp_path))
    assert replace(incident, kernel=moved).content_key() == incident.content_key()


# --- labels ---------------------------------------------------------------------------------------------------


def test_a_label_says_tile_warps_and_stages():
    values = {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_DMODEL": 256, "GROUP": 8, "ACT": "relu"}
    assert label_of("k", values, {"num_stages": 3, "num_warps": 8}) == "k 128x64 w8 s3"
    assert label_of("k", {"BLOCK": 64}, {}) == "k BLOCK=64"
    assert label_of("k", {}, {}) == "k"


def test_specs_of_one_label_are_told_apart_by_what_differs(write_kernel):
    base = replace(write_kernel(), label="k")
    wide = base.with_constexprs(BLOCK=256)
    slow = base.with_options(num_warps=8)
    assert [s.label for s in tell_apart([base, wide])] == ["k BLOCK=128", "k BLOCK=256"]
    assert [s.label for s in tell_apart([base, wide, slow])] == [
        "k BLOCK=128 num_warps=4", "k BLOCK=256 num_warps=4", "k BLOCK=128 num_warps=8",
    ]  # fmt: skip
    unaligned = replace(base, divisible_by_16=())
    assert [s.label for s in tell_apart([base, unaligned])] == ["k x_ptr=*fp32:16", "k x_ptr=*fp32"]
    # A flag is no number to a compile, nor to a label.
    flags = [base.with_constexprs(BLOCK=value) for value in (True, 1)]
    assert [s.label for s in tell_apart(flags)] == ["k BLOCK=true", "k BLOCK=1"]


def test_labels_that_tell_apart_already_stay_and_twins_stay_twins(write_kernel):
    base = write_kernel()
    other = replace(base.with_constexprs(BLOCK=256), label="other")
    assert tell_apart([base, other]) == [base, other]
    assert [s.label for s in tell_apart([base, base])] == [base.label] * 2
    assert [s.content_key() for s in tell_apart([base, base.with_constexprs(BLOCK=256)])] == [
        base.content_key(), base.with_constexprs(BLOCK=256).content_key(),
    ]  # fmt: skip


def test_a_launch_option_that_is_a_tuple_compiles(write_kernel, toolchain_351):
    from helpers.compiler.compile import compile_kernel

    spec = KernelSpec.from_json(write_kernel().with_options(cluster_dims=(1, 1, 1)).to_json())
    report = compile_kernel(spec, "sm_90a", toolchain_351)
    assert report.status == "ok", report.message


def test_a_label_of_a_strangers_is_one_line_of_whole_characters(write_kernel):
    raw = json.loads(write_kernel().to_json()) | {"label": "a\ud800b\n\nnext: rm -rf /" + "x" * 9_999}
    label = KernelSpec.from_json(json.dumps(raw)).label
    assert label.startswith("a?b next: rm") and len(label) <= 300 and label.encode()

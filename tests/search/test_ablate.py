"""ablate and its generic changes, on kernels that are not attention: planted causes are found, limits hold."""

from __future__ import annotations

import concurrent.futures
import json
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.search.ablate import (
    COMPILES,
    ENDS_SPILLS,
    MAKES_IT_COMPILE,
    NO_SPILLS,
    NOTHING_TRIED_ALONE,
    NOTHING_WRONG,
    Limits,
    ablate,
    effect_of,
    slower_path,
)
from helpers.search.changes import Change, constexpr_change, generic_changes, option_change

# A product whose sum is kept apart from the dot, beside a second accumulator: too much for four warps.
PRODUCT = """
import triton
import triton.language as tl


@triton.jit
def scaled_product(a_ptr, b_ptr, c_ptr, k, stride_a, stride_b, stride_c,
                   BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, APART: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    cols = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    ks = tl.arange(0, BLOCK_K)
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    largest = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, k, BLOCK_K):
        a = tl.load(a_ptr + rows[:, None] * stride_a + (start + ks)[None, :])
        b = tl.load(b_ptr + (start + ks)[:, None] * stride_b + cols[None, :])
        if APART:
            part = tl.dot(a, b)
            largest = tl.maximum(largest, part)
            acc = acc * 0.5 + part
        else:
            acc = tl.dot(a, b, acc)
    tl.store(c_ptr + rows[:, None] * stride_c + cols[None, :], acc + largest)
"""
TILE = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "launch")


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """`product(APART=…, maxnreg=…)`: the spec of a 128x128 product with four warps."""
    path = tmp_path_factory.mktemp("kernels") / "product.py"
    path.write_text(textwrap.dedent(PRODUCT))

    def spec(*, apart: bool = True, **options) -> KernelSpec:
        values = {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32, "APART": apart}
        runtime = {"a_ptr": "*bf16", "b_ptr": "*bf16", "c_ptr": "*fp32", "k": "i32"}
        runtime |= dict.fromkeys(("stride_a", "stride_b", "stride_c"), "i32")
        return KernelSpec(
            kernel=KernelRef(str(path), "scaled_product"),
            signature=(*runtime.items(), *((name, "constexpr") for name in values)),
            constexprs=tuple(values.items()),
            divisible_by_16=("a_ptr", "b_ptr", "c_ptr", "stride_a", "stride_b", "stride_c"),
            options=tuple({"num_warps": 4, "num_stages": 1, **options}.items()),
            label="product",
        )

    return spec


def generic(spec: KernelSpec, **options):
    return ablate(spec, "sm_90a", Toolchain("3.5.1"), changes=generic_changes(spec, "sm_90a"), **options)


@pytest.mark.slow
def test_the_planted_cause_of_spills_is_found(toolchain_351, product):
    found = generic(product(), hold=TILE)
    assert found.baseline.status == "spills" and found.criterion == ENDS_SPILLS
    assert "APART" in found.necessary and "ptxas_level" not in found.necessary
    search = found.smallest(NO_SPILLS, TILE)
    assert [r.names for r in search.sets] == [("APART",)] and search.complete and search.searched_size == 1
    by_name = {r.description: r for r in found.rungs}
    assert by_name["APART True → False"].effect == "no spills"
    assert " -O1 " in by_name["ptxas -O1"].report.ptxas_command
    assert by_name["num_warps 4 → 2"].slower_path  # wgmma wants a whole warp group
    assert not by_name["BLOCK_M 128 → 64"].slower_path


@pytest.mark.slow
def test_the_planted_cause_of_a_crash_is_found_and_the_pair_that_cures_it(toolchain_351, product):
    spec = product(maxnreg=64)
    changes = [k for k in generic_changes(spec, "sm_90a") if k.group != "ptxas"]  # a minute less, cold
    found = ablate(spec, "sm_90a", Toolchain("3.5.1"), changes=changes, hold=TILE[:3], limits=Limits(max_size=2))
    assert found.baseline.ptxas_code == "C7602" and found.criterion == MAKES_IT_COMPILE
    assert "maxnreg" in found.necessary and "APART" not in found.necessary
    assert ("maxnreg",) in [r.names for r in found.smallest(COMPILES, TILE[:3]).sets]
    clean = found.smallest(NO_SPILLS, TILE[:3])
    assert clean.searched_size == 2 and clean.complete
    assert {"maxnreg", "APART"} in [set(r.names) for r in clean.sets]
    assert all(len(set(r.names)) == 2 for r in clean.sets)
    assert clean.sets[0].report.spill_store_bytes == clean.sets[0].report.spill_load_bytes == 0


def test_a_kernel_with_nothing_wrong_has_nothing_necessary(toolchain_351, product):
    found = generic(product(apart=False))
    assert found.criterion == NOTHING_WRONG and found.necessary == () and found.searches == ()
    effects = {r.description: r.effect for r in found.rungs}
    assert effects["APART False → True"] == "more spills"
    with pytest.raises(UserError, match="no search"):
        found.smallest()


def test_the_json_says_it_all(toolchain_351, product):
    said = json.loads(json.dumps(generic(product(), hold=TILE).to_dict()))
    assert set(said["necessary"]) >= {"APART"} and said["baseline"]["status"] == "spills"
    assert {"name", "change", "effect", "verdict", "status", "spill_store_bytes"} <= set(said["rungs"][0])
    assert [(s["goal"], s["held"]) for s in said["smallest"]] == [(NO_SPILLS, []), (NO_SPILLS, list(TILE))]
    assert said["smallest"][1]["sets"][0]["names"] == ["APART"]


def test_limits_end_the_search_and_say_so(toolchain_351, product):
    changes = [option_change("maxnreg", 64, None), option_change("num_stages", 1, 2), option_change("num_stages", 1, 3)]
    changes.append(constexpr_change("BLOCK_K", 32, 16))
    spec = product(maxnreg=64)
    found = ablate(spec, "sm_90a", Toolchain("3.5.1"), changes=changes, limits=Limits(max_compiles=5))
    clean = found.smallest()
    assert (clean.sets, clean.complete, clean.stopped) == ((), False, "5 compiles") and found.compiles == 6
    found = ablate(spec, "sm_90a", Toolchain("3.5.1"), changes=changes, limits=Limits(max_seconds=1e-9))
    assert found.smallest().stopped == "1e-09 seconds" and not found.smallest().complete
    assert found.rungs == () and len(found.untried) == 4  # the seconds are for every change
    assert (found.criterion, found.necessary) == (NOTHING_TRIED_ALONE, ())
    # Five pairs, two triples; two changes of num_stages never meet.
    found = ablate(spec, "sm_90a", Toolchain("3.5.1"), changes=changes)
    assert found.smallest().tried == 4 + 5 + 2 and found.smallest().complete and not found.smallest().sets


def test_all_sets_tried_is_complete_and_larger_ones_left_is_not(toolchain_351, product):
    changes = [constexpr_change("BLOCK_K", 32, 16), option_change("num_stages", 1, 2)]
    spec = product(maxnreg=64)
    for size, complete in ((1, False), (2, True), (3, True)):
        found = ablate(spec, "sm_90a", Toolchain("3.5.1"), changes=changes, limits=Limits(max_size=size)).smallest()
        assert (found.sets, found.complete, found.searched_size) == ((), complete, min(size, 2))


def test_a_great_many_changes_are_not_enumerated_beyond_the_limit(toolchain_351, product):
    changes = [option_change("maxnreg", 64, None)] + [Change(f"idle {n}", f"idle {n}", lambda s: s) for n in range(60)]
    started = time.monotonic()
    limits = Limits(max_compiles=70, max_size=4)
    found = ablate(product(maxnreg=64), "sm_90a", Toolchain("3.5.1"), changes=changes, limits=limits)
    assert found.smallest().stopped == "70 compiles" and found.compiles == 71
    assert time.monotonic() - started < 30


def test_any_executor_will_do(toolchain_351, product):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        changes = [constexpr_change("APART", True, False)]
        found = ablate(product(), "sm_90a", Toolchain("3.5.1"), changes=changes, executor=executor)
    assert found.necessary == ("APART",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"changes": []}, "at least one change"),
        ({"changes": [constexpr_change("APART", True, False)] * 2}, "twice"),
        ({"hold": ("paint",)}, "cannot hold 'paint'"),
        ({"changes": [constexpr_change("NO_SUCH", 2, 1)]}, "no constexpr 'NO_SUCH'"),
        ({"toolchain": Toolchain("9.9.9")}, "Triton 9.9.9 is not installed"),
    ],
)
def test_what_cannot_be_done_is_refused(toolchain_351, product, change, words):
    given = {"toolchain": Toolchain("3.5.1"), "changes": [constexpr_change("APART", True, False)], **change}
    with pytest.raises(UserError, match=words):
        ablate(product(), "sm_90a", given.pop("toolchain"), **given)


@pytest.mark.parametrize("limits", [{"max_compiles": 0}, {"max_size": 0}, {"max_seconds": 0}])
def test_limits_that_allow_nothing_are_refused(limits):
    with pytest.raises(UserError):
        Limits(**limits)


def _report(status="ok", spills=0, **changes) -> CompileReport:
    compiled = status in ("ok", "spills")
    fields = {"ptx_sha256": f"{status}{spills}", "spill_store_bytes": spills if compiled else None}
    return CompileReport(
        status=status, arch="sm_90a", triton_version="3.5.1", ptxas_version="12.8.93", **{**fields, **changes}
    )


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (_report("register_exhausted", ptxas_code="C7600"), _report(), "no spills"),
        (_report("register_exhausted", ptxas_code="C7600"), _report("spills", 8), "compiles"),
        (
            _report("register_exhausted", ptxas_code="C7600"),
            _report("register_exhausted", ptxas_code="C7602"),
            "another failure",
        ),
        (_report("register_exhausted"), _report("register_exhausted"), "same failure"),
        (_report("register_exhausted"), _report("trapped"), "another failure"),
        (_report("spills", 8), _report("timeout"), "not known"),
        (_report("timeout"), _report("timeout"), "not known"),
        (_report("register_exhausted"), _report("environment_error"), "not known"),
        (_report("spills", 8), _report(), "no spills"),
        (_report("spills", 8), _report("spills", 4), "halves the spills"),
        (_report("spills", 8), _report("spills", 5), "fewer spills"),
        (_report("spills", 8), _report("spills", 9), "more spills"),
        (_report("spills", 8), _report("spills", 8, ptx_sha256="another"), "same spills"),
        (_report("spills", 8), _report("spills", 8), "no effect"),
        (_report(), _report(ptx_sha256="another"), "same spills"),
    ],
)
def test_effects(before, after, effect):
    assert effect_of(before, after) == effect


def test_a_slower_tensor_core_path_is_told():
    fast, slow, none = (_report(instructions={"total": 9, key: 4}) for key in ("tcgen05_mma", "mma_sync", "shfl"))
    assert slower_path(fast, slow) and slower_path(slow, none) and not slower_path(slow, fast)
    assert not slower_path(fast, _report("frontend_error"))  # no PTX, no path


# --- generic changes ----------------------------------------------------------------------------------------

SWITCHES = """
import triton
import triton.language as tl


@triton.jit
def switches(x_ptr, stride, MODE: tl.constexpr, LAST: tl.constexpr, REACH: tl.constexpr, CAP: tl.constexpr,
             ODD: tl.constexpr, FLAG: tl.constexpr, BLOCK: tl.constexpr):
    if MODE == "one":
        x = 1
    elif MODE == "two":
        x = 2
    if LAST != "only":
        x = 3
    if REACH >= 0 and CAP > 0:
        x = 4
"""


def values_of(spec: KernelSpec, **options) -> dict[str, list]:
    found: dict[str, list] = {}
    for change in generic_changes(spec, "sm_90a", **options):
        before, after = dict(spec.constexprs), dict(change.apply(spec).constexprs)
        for name in before:
            if (type(before[name]), before[name]) != (type(after[name]), after[name]):
                found.setdefault(name, []).append(after[name])
    return found


@pytest.fixture
def switches(tmp_path: Path) -> KernelSpec:
    path = tmp_path / "switches.py"
    path.write_text(SWITCHES)
    values = {"MODE": "one", "LAST": "only", "REACH": 1023, "CAP": 30.0, "ODD": 3, "FLAG": False, "BLOCK": 64}
    signature = (("x_ptr", "*fp8e4nv"), ("stride", "constexpr"), *((n, "constexpr") for n in values))
    constexprs = (("stride", 4), *values.items())
    return KernelSpec(KernelRef(str(path), "switches"), signature, constexprs, ("x_ptr",), label="switches")


def test_values_come_from_the_source(switches):
    assert values_of(switches) == {
        "MODE": ["two"],
        "LAST": ["not only"],
        "REACH": [-1],
        "CAP": [0.0],
        "FLAG": [True],
        "BLOCK": [32],
    }  # `stride` is a runtime argument that Triton made a constant, and 3 cannot be halved
    assert values_of(switches.with_constexprs(REACH=-1, MODE="three"))["REACH"] == [0]
    assert values_of(switches.with_constexprs(MODE="three"))["MODE"] == ["one", "two"]
    assert values_of(switches, alternatives={"BLOCK": (128,), "stride": (8,)})["BLOCK"] == [128, 32]
    with pytest.raises(UserError, match="no constexpr 'NOPE'"):
        generic_changes(switches, "sm_90a", alternatives={"NOPE": (1,)})


def test_without_readable_source_every_constexpr_is_a_change(switches):
    unreadable = replace(switches, kernel=replace(switches.kernel, path=switches.kernel.path + ".gone"))
    assert values_of(unreadable) == {"stride": [2], "CAP": [0.0], "FLAG": [True], "BLOCK": [32]}


def test_pointers_launch_options_and_levels_are_changes(switches):
    changes = generic_changes(switches, "sm_90a")
    words = [k.description for k in changes]
    assert "pointers *fp8e4nv → *bf16" in words and "num_stages unset → 1" in words and "maxnreg unset → 255" in words
    wide = next(k for k in changes if k.group == "types").apply(switches)
    assert dict(wide.signature)["x_ptr"] == "*bf16"
    assert [k.ptxas_flags for k in changes if k.group == "ptxas"] == [("-O2",), ("-O1",), ("-O0",)]
    capped = generic_changes(switches.with_options(maxnreg=64, num_warps=32, num_stages=1), "sm_90a")
    words = [k.description for k in capped if k.group == "launch"]
    assert words == ["num_warps 32 → 16", "num_stages 1 → 2", "maxnreg 64 → unset"]
    assert "maxnreg" not in next(k for k in capped if k.name == "maxnreg").apply(switches).option


def test_a_change_of_the_caller_s_own(toolchain_351, product):
    change = Change("no_alignment", "nothing is aligned", lambda s: replace(s, divisible_by_16=()))
    found = ablate(product(), "sm_90a", Toolchain("3.5.1"), changes=[change], limits=Limits(max_size=1))
    assert found.rungs[0].report.ptx_sha256 != found.baseline.ptx_sha256

"""Lists of configurations that a project's own code makes: read for real, for the chip asked for, or not known."""

from __future__ import annotations

import ast
import json
import zipfile
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.compiler.bring.from_file import ListNotKnown, configurations, spec_from_file
from helpers.compiler.bring.from_wheel import spec_from_wheel
from helpers.compiler.compile import compile_kernel
from helpers.compiler.kernel_spec import KernelRef
from helpers.compiler.toolchain import Toolchain
from helpers.compiler.worker import tuning_list
from helpers.errors import UserError
from helpers.search.autotune import autotune_report

pytestmark = pytest.mark.usefixtures("own_cache")
HEAD = "import triton\nimport triton.language as tl\n"
BODY = """
@triton.jit
def copy(x_ptr, n, BLOCK: tl.constexpr):
    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + where, tl.load(x_ptr + where, mask=where < n), mask=where < n)
"""
SIGNATURE = "*fp32:16, i32, BLOCK=64"


def project(folder: Path, kernel: str, **modules: str) -> KernelRef:
    """A package `mill` with a kernel in mill/ops/copy.py and other modules; the KernelRef of the kernel."""
    (folder / "mill" / "ops").mkdir(parents=True)
    for name in ("mill/__init__.py", "mill/ops/__init__.py"):
        (folder / name).write_text("")
    for name, text in modules.items():
        path = folder / "mill" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "mill" / "ops" / "copy.py").write_text(HEAD + kernel + BODY)
    return KernelRef(str(folder / "mill/ops/copy.py"), "copy", str(folder), stub_imports=True)


def listed(kernel: KernelRef, arch: str | None = "sm_90a", triton: str = "environment") -> list[tuple]:
    found = configurations(kernel, triton, arch=arch)
    return [(c.values.get("BLOCK"), c.options["num_warps"]) for c in found]


LISTS = "def keep(found):\n    return [c for c in found if c.num_warps < 8]\n\ndef wide():\n    return True\n"
KEPT = (
    "from mill.lists import keep\n"
    "@triton.autotune(configs=keep([triton.Config({'BLOCK': b}, num_warps=w) for b in (64, 128) for w in (4, 8)]), "
    "key=['n'])"
)
CHOSEN = (
    "import mill.lists as where\n"
    "@triton.autotune(configs=[triton.Config({'BLOCK': b}) for b in ([256] if where.wide() else [32])], key=['n'])"
)


@pytest.mark.parametrize("triton", ["environment", "3.5.1"])
def test_the_project_s_own_code_makes_the_list(tmp_path, triton, toolchain_351):
    kernel = project(tmp_path, KEPT, lists=LISTS)
    assert listed(kernel, triton=triton) == [(64, 4), (128, 4)]
    assert listed(kernel, triton=triton) == [(64, 4), (128, 4)]  # the same worker, once more
    (tmp_path / "mill/lists.py").write_text(LISTS.replace("< 8", "> 4"))
    assert listed(kernel, triton=triton) == [(64, 8), (128, 8)]  # as it is now
    assert listed(project(tmp_path / "b", CHOSEN, lists=LISTS), triton=triton) == [(256, 4)]


def test_a_package_s_init_is_read_for_what_it_hands_on_and_nothing_else(tmp_path):
    modules = {
        "util/__init__": "from .heavy import everything\nfrom .lists import keep\n",
        "util/heavy": "raise RuntimeError('loaded for nothing')\n",
        "util/lists": LISTS,
    }
    kernel = project(tmp_path, KEPT.replace("mill.lists", "mill.util"), **modules)
    assert listed(kernel) == [(64, 4), (128, 4)]
    defined = project(tmp_path / "b", KEPT.replace("mill.lists", "mill.util"), **{"util/__init__": LISTS})
    assert listed(defined) == [(64, 4), (128, 4)]


LOOP = """
found = []
for block in (64, 128, 256):
    found.append(triton.Config({'BLOCK': block}))
print("a program would go on here")
@triton.autotune(configs=found, key=['n'])"""


def test_a_list_made_in_a_loop_is_whole_and_a_program_around_it_is_not_run(tmp_path):
    trace = tmp_path / "ran"
    kernel = project(tmp_path / "a", LOOP)
    path = Path(kernel.path)
    path.write_text(path.read_text() + f"\nopen({str(trace)!r}, 'w').close()\ncopy[(1,)](None, 1)\n")
    assert [block for block, _ in listed(kernel)] == [64, 128, 256]
    assert not trace.exists()


def test_a_list_made_in_a_loop_may_ask_an_installed_library(tmp_path):
    pytest.importorskip("torch")
    loop = LOOP.replace("(64, 128, 256)", "(torch.iinfo(torch.int8).bits * 8, 128)").replace("print(", "assert (")
    assert [block for block, _ in listed(project(tmp_path, "import torch\n" + loop))] == [64, 128]


CHIP = """
import torch
WARPS = [2] if torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 9 else [4, 8]
BIG = triton.runtime.driver.active.utils.get_device_properties(0)["max_shared_mem"] > 150_000
"""
BY_CHIP = (
    "from mill.chip import BIG, WARPS\n"
    "@triton.autotune([triton.Config({'BLOCK': 128 if BIG else 64}, num_warps=w) for w in WARPS], key=['n'])"
)


def test_the_chip_that_was_asked_for_answers_and_not_this_machine_s(tmp_path):
    kernel = project(tmp_path, BY_CHIP, chip="import triton\n" + CHIP)
    assert listed(kernel, "sm_90a") == [(128, 2)]
    assert listed(kernel, "sm_80") == [(128, 4), (128, 8)]
    assert listed(kernel, "sm_120a") == [(64, 2)]
    # The chip's answers are gone afterwards, and without a chip nobody answers for it.
    by_warps = "from mill.chip import WARPS\n" + BY_CHIP.split("\n")[1].replace("128 if BIG else 64", "64")
    plain = project(tmp_path / "b", by_warps, chip=CHIP.rpartition("BIG")[0])
    with pytest.raises(ListNotKnown, match="asks for this machine's GPU"):
        listed(plain, None)


BROKEN = "import engine_that_is_nowhere\nSIZE = engine_that_is_nowhere.sizes()['x'] + 1\n" + LISTS


@pytest.mark.parametrize(
    ("kernel", "modules", "named"),
    [
        (KEPT, {"lists": BROKEN}, r"mill\.lists\.keep.*mill\.lists does not load here: TypeError"),
        (KEPT.replace("mill.lists", "nowhere.lists"), {}, r"nowhere\.lists\.keep.*not here"),
        (CHOSEN.replace("mill.lists", "nowhere.lists"), {}, r"nowhere\.lists\.wide"),
        (CHOSEN.replace("mill.lists", "nowhere.lists").replace(".wide()", ".is_wide()"), {},
         r"nowhere\.lists\.is_wide"),
        ("from nowhere import SIZE\n@triton.autotune([triton.Config({'BLOCK': SIZE})], key=['n'])", {},
         r"nowhere\.SIZE"),
        ("from nowhere import SIZES\n@triton.autotune([triton.Config({'BLOCK': s}) for s in SIZES], key=['n'])", {},
         r"nowhere\.SIZES"),
        ("from nowhere import tuned\n@tuned([64, 128])", {}, r"nowhere\.tuned"),
        ("from nowhere import old\nsizes = [128]\nif old:\n    sizes = [64]\n"
         "@triton.autotune([triton.Config({'BLOCK': s}) for s in sizes], key=['n'])", {}, r"nowhere\.old"),
    ],
)  # fmt: skip
def test_what_a_stand_in_answered_is_not_listed_and_the_stand_in_is_named(tmp_path, kernel, modules, named):
    with pytest.raises(ListNotKnown, match=named):
        listed(project(tmp_path, kernel, **modules))


def test_a_stand_in_that_has_no_part_in_the_list_does_not_make_it_doubtful(tmp_path):
    kernel = project(
        tmp_path,
        "import nowhere\nfrom nowhere.log import logger, is_ready\nlogger.info('x')\n"
        "if nowhere.debug or is_ready():\n    LEVEL = 3\n"
        "@triton.autotune([triton.Config({'BLOCK': b}) for b in (64, 128)], key=['n'])\n"
        "@triton.heuristics({'UNUSED': lambda args: nowhere.even(args)})",
    )
    assert [block for block, _ in listed(kernel)] == [64, 128]


def test_autotune_says_not_known_and_lists_nothing(tmp_path, capfd):
    kernel = project(tmp_path, KEPT.replace("mill.lists", "nowhere.lists"))
    spec = spec_from_file(kernel.path, "copy", SIGNATURE, import_root=tmp_path)
    report = autotune_report(spec, "sm_90a", Toolchain("environment"))
    assert report.tried == () and "are not known: the list depends on nowhere.lists.keep" in report.summary()
    (tmp_path / "s.json").write_text(spec.to_json())
    assert main(["autotune", str(tmp_path / "s.json"), "--arch", "sm_90a", "--triton", "environment"]) == 0
    out = capfd.readouterr().out
    assert "not known" in out and "configurations compile" not in out
    assert main(["autotune", str(tmp_path / "s.json"), "--arch", "sm_90a", "--triton", "environment", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert not told["known"] and told["configurations"] == []


def test_a_spec_takes_the_first_configuration_only_where_it_is_known(tmp_path):
    kernel = project(tmp_path, KEPT.replace("mill.lists", "nowhere.lists"))
    with pytest.raises(UserError, match=r"still needs BLOCK.*Also, the configurations of copy are not known"):
        spec_from_file(kernel.path, "copy", "*fp32:16, i32", import_root=tmp_path)
    known = project(tmp_path / "b", KEPT, lists=LISTS)
    assert dict(spec_from_file(known.path, "copy", "*fp32:16, i32").constexprs) == {"BLOCK": 64}
    by_chip = "from mill.chip import WARPS\n" + BY_CHIP.split("\n")[1].replace("128 if BIG else 64", "64")
    differs = project(tmp_path / "c", by_chip, chip=CHIP.rpartition("BIG")[0])
    assert spec_from_file(differs.path, "copy", SIGNATURE).option == {}  # 2 warps or 4: nobody's first
    same = project(tmp_path / "d", by_chip, chip=CHIP.rpartition("BIG")[0].replace("[4, 8]", "[2, 4, 8]"))
    assert spec_from_file(same.path, "copy", SIGNATURE).num_warps == 2


def test_a_wheel_s_own_modules_are_read_for_a_list(tmp_path):
    with zipfile.ZipFile(tmp_path / "mill-1.0-py3-none-any.whl", "w") as out:
        out.writestr("mill/__init__.py", "raise RuntimeError('the package was imported')\n")
        out.writestr("mill/ops/__init__.py", "")
        out.writestr("mill/lists.py", LISTS)
        out.writestr("mill/ops/copy.py", HEAD + KEPT + BODY)
    spec = spec_from_wheel(tmp_path / "mill-1.0-py3-none-any.whl", "mill/ops/copy.py:copy", "*fp32:16, i32")
    assert listed(spec.kernel) == [(64, 4), (128, 4)]


# --- compiles ---------------------------------------------------------------------------------------------


def test_a_stand_in_that_a_kernel_uses_is_named_as_ours(tmp_path):
    kernel = project(tmp_path, "from nowhere.device import half, LIMIT\n" + BODY.replace("copy", "other").replace(
        "tl.store(x_ptr + where, tl.load(x_ptr + where, mask=where < n)",
        "tl.store(x_ptr + where, half(tl.load(x_ptr + where, mask=where < n))"))  # fmt: skip
    spec = spec_from_file(kernel.path, "other", SIGNATURE, import_root=tmp_path)
    report = compile_kernel(spec, "sm_90a", Toolchain("environment"))
    assert report.status == "frontend_error"
    assert "register-cliff put a stand-in in place of nowhere.device.half" in report.message
    assert "no fault of the kernel's" in report.message and "LIMIT" not in report.message
    plain = spec_from_file(kernel.path, "copy", SIGNATURE, import_root=tmp_path)
    assert compile_kernel(plain, "sm_90a", Toolchain("environment")).status == "ok"


def test_a_failure_of_the_kernel_s_own_is_not_put_on_a_stand_in(tmp_path):
    kernel = project(tmp_path, "from nowhere import logger\n" + BODY.replace("copy", "other").replace("< n)", "< m)"))
    report = compile_kernel(
        spec_from_file(kernel.path, "other", SIGNATURE, import_root=tmp_path), "sm_90a", Toolchain("environment")
    )
    assert report.status == "frontend_error" and "stand-in" not in report.message


INDUCTOR = """
import triton
import triton.language as tl
from torch._inductor.runtime import triton_helpers, triton_heuristics
from torch._inductor.runtime.triton_helpers import libdevice
from torch._inductor.runtime.hints import DeviceProperties

@triton_heuristics.pointwise(
    size_hints={"x": 4096},
    filename=__file__,
    triton_meta={"signature": {"in_ptr0": "*fp32", "out_ptr0": "*fp32", "xnumel": "i32", "XBLOCK": "constexpr"},
                 "device": DeviceProperties(type="cuda", index=0, multi_processor_count=132, cc=90),
                 "constants": {}, "configs": [{(0,): [["tt.divisibility", 16]], (2,): [["tt.divisibility", 16]]}]},
    inductor_meta={"kernel_name": "triton_poi_fused_tanh_0"},
    min_elem_per_thread=0,
)
@triton.jit
def triton_poi_fused_tanh_0(in_ptr0, out_ptr0, xnumel, XBLOCK: tl.constexpr):
    x = tl.program_id(0) * XBLOCK + tl.arange(0, XBLOCK)[:]
    ok = x < xnumel
    value = libdevice.tanh(tl.load(in_ptr0 + x, ok))
    tl.store(out_ptr0 + x, triton_helpers.maximum(value, 0.5), ok)
"""


@pytest.mark.parametrize("triton", ["environment", "3.5.1"])
def test_inductor_s_own_files_are_taken_as_they_are(tmp_path, triton, toolchain_351):
    """libdevice and triton_helpers are torch's own, and the signature stands beside the kernel."""
    pytest.importorskip("torch")
    (tmp_path / "c3ab.py").write_text(INDUCTOR)
    with pytest.raises(UserError, match=r"still needs XBLOCK \(constexpr\)"):
        spec_from_file(tmp_path / "c3ab.py", "triton_poi_fused_tanh_0")
    spec = spec_from_file(tmp_path / "c3ab.py", "triton_poi_fused_tanh_0", constexprs={"XBLOCK": 512})
    assert spec.signature == (("in_ptr0", "*fp32"), ("out_ptr0", "*fp32"), ("xnumel", "i32"), ("XBLOCK", "constexpr"))
    assert spec.divisible_by_16 == ("in_ptr0", "xnumel")
    report = compile_kernel(spec, "sm_90a", Toolchain(triton))
    assert report.status == "ok", report.message
    given = spec_from_file(tmp_path / "c3ab.py", "triton_poi_fused_tanh_0", "in_ptr0=*bf16", constexprs={"XBLOCK": 64})
    assert given.signature[0] == ("in_ptr0", "*bf16")


def test_a_kernel_in_a_string_of_inductor_s_output_code(tmp_path):
    source = HEAD + BODY
    (tmp_path / "output_code.py").write_text(
        "from torch._inductor.async_compile import AsyncCompile\nasync_compile = AsyncCompile()\n"
        f"copy = async_compile.triton('copy', {source!r}, device_str='cuda')\nopen({str(tmp_path / 'ran')!r}, 'w')\n"
    )
    spec = spec_from_file(tmp_path / "output_code.py", "copy", SIGNATURE)
    assert spec.label.startswith("output_code:copy") and Path(spec.kernel.path).read_text() == source
    assert spec_from_file(tmp_path / "output_code.py", "copy", SIGNATURE).kernel == spec.kernel
    assert compile_kernel(spec, "sm_90a", Toolchain("environment")).status == "ok"
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="kernels there: copy"):
        spec_from_file(tmp_path / "output_code.py", "other", SIGNATURE)


def test_none_is_an_argument_that_is_left_out(tmp_path):
    (tmp_path / "k.py").write_text(f"{HEAD}@triton.jit\ndef k(x, extra, n, last=None):\n    tl.store(x, n)\n")
    with pytest.raises(UserError, match=r"last = None.*None is an argument that is left out"):
        spec_from_file(tmp_path / "k.py", "k", "*fp32")
    spec = spec_from_file(tmp_path / "k.py", "k", "*i32, extra=None, n=i32")
    assert dict(spec.constexprs) == {"extra": None, "last": None}
    assert compile_kernel(spec, "sm_90a", Toolchain("environment")).status == "ok"


# --- which statements make a list -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\nb = a\nc = 3\n@autotune(configs=[b])\ndef k(): pass\n", {1, 2}),
        ("a = []\na.append(1)\nprint(a)\n@autotune(a)\ndef k(): pass\n", {1, 2}),
        ("a = {}\nfor i in z:\n    a[i] = 1\nq()\n@autotune(list(a))\ndef k(): pass\n", {1, 2}),
        ("def f():\n    return g\ng = 1\nh = 2\n@autotune(configs=f(), key=h)\ndef k(): pass\n", {1, 3}),
        ("from m import f\nx = 1\n@heuristics(x)\n@autotune(configs=f())\n@jit\ndef k(): pass\n", {1}),
        ("if c:\n    a = 1\nelse:\n    a = 2\n@autotune(a)\ndef k(): pass\n", {1}),
        ("w = 1\n@mine(w)\ndef k(): pass\n", {1}),
    ],
)
def test_the_statements_behind_a_list(text, lines):
    tree = ast.parse(text)
    node = tuning_list.kernel_node(tree, "k")
    chosen, _names = tuning_list.statements_behind(tree, tuning_list.list_expressions(node))
    assert {statement.lineno for statement in chosen} == lines

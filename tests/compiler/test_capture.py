"""Capture: what a program compiles and launches becomes specs, and the program notices nothing."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from helpers.compiler.bring.capture import CAPTURE_ENV, HOOK_FOLDER
from helpers.compiler.compile import compile_kernel
from helpers.compiler.kernel_spec import read_specs
from helpers.compiler.toolchain import Toolchain, ToolchainMissing, resolve_triton
from tests.capturing import FAKE_DRIVER, KERNELS

REPO = Path(__file__).resolve().parents[2]


def versions():
    return ["environment", "3.5.1", pytest.param("3.6.0", marks=pytest.mark.slow)]


@pytest.fixture(params=versions())
def triton_site(request):
    """The folder of a Triton to put on a program's PYTHONPATH."""
    if request.param == "3.5.1":
        request.getfixturevalue("toolchain_351")
    try:
        return request.param, resolve_triton(request.param).path
    except ToolchainMissing as exc:
        pytest.skip(str(exc))


def run_program(folder: Path, site: Path, body: str, *, hook: Path | None = None, check: bool = True):
    """Run `body` beside KERNELS as a program of its own; `hook` records through the environment."""
    (folder / "offset.py").write_text("import triton.language as tl\nOFFSET = tl.constexpr(1.0)\n")
    (folder / "kernels_of_mine.py").write_text(KERNELS)
    (folder / "program.py").write_text(FAKE_DRIVER + "from kernels_of_mine import add, tuned\n" + textwrap.dedent(body))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "PYTHON", CAPTURE_ENV))}
    env |= {"TRITON_CACHE_DIR": str(folder / "triton_cache"), "PYTHONPATH": str(site)}
    if hook is not None:
        env |= {CAPTURE_ENV: str(hook), "PYTHONPATH": f"{HOOK_FOLDER}{os.pathsep}{site}"}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def recorded(folder: Path) -> dict[str, dict]:
    """What was recorded, by outcome and what was wrong with it."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {f"{spec['capture']['outcome']} {dict(spec['constexprs']).get('BAD')}": spec for spec in found}


TENSORS = """
import triton.language as tl
x, y = MockTensor(tl.float32), MockTensor(tl.float32)
"""


def test_launches_and_failures_of_a_program_are_recorded_and_compile_again(triton_site, tmp_path):
    name, site = triton_site
    program = TENSORS + """
    caught = []
    for bad in ("none", "none", "asm", "name"):
        try:
            add[(1,)](x, 1000, y, tl.bfloat16, bad, 128, num_warps=8)
        except Exception as exc:
            caught.append(type(exc).__name__)
    add[(1,)](x, 1, y, tl.float16, "none", BLOCK=64)
    print(caught, Driver.launches, Utils.loads)
    """  # fmt: skip
    program = "\n".join(line.removeprefix("    ") for line in program.splitlines())
    plain = run_program(tmp_path, site, program)
    hooked = run_program(tmp_path, site, program, hook=tmp_path / "specs")
    # Triton prints the PTX it cannot assemble, which ptxas names by a temporary file.
    assert plain.stdout.splitlines()[-1] == hooked.stdout.splitlines()[-1]
    assert "PTXASError" in plain.stdout and "['add', 'add', 'add'] 2" in plain.stdout

    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "specs").glob("*.json"))]
    assert len(found) == 4
    by = {(dict(s["constexprs"])["BAD"], dict(s["constexprs"])["BLOCK"]): s for s in found}
    good, one, bad = by["none", 128], by["none", 64], by["asm", 128]
    assert good["signature"] == [
        ["x_ptr", "*fp32"], ["n", "i32"], ["y_ptr", "*fp32"],
        ["DTYPE", "constexpr"], ["BAD", "constexpr"], ["BLOCK", "constexpr"],
    ]  # fmt: skip
    assert dict(good["constexprs"])["DTYPE"] == "tl.bfloat16" and dict(good["options"])["num_warps"] == 8
    assert good["divisible_by_16"] == ["x_ptr", "y_ptr"]
    assert dict(one["constexprs"])["n"] == 1 and ["n", "constexpr"] in one["signature"]
    assert good["capture"]["outcome"] == "compiled" and good["capture"]["arch"] == "sm_100a"
    assert bad["capture"]["outcome"] == "failed" and bad["capture"]["error_type"] == "PTXASError"
    assert "no.such.instruction" in bad["capture"]["error"] or "ptxas" in bad["capture"]["error"]
    assert by["name", 128]["capture"]["error_type"] == "CompilationError"
    assert good["capture"]["triton_version"] == resolve_triton(name).version

    # Elsewhere: the program's folder is gone, what was recorded still compiles and fails as it did.
    for file in ("kernels_of_mine.py", "offset.py", "program.py"):
        (tmp_path / file).unlink()
    statuses = {}
    for spec in read_specs(sorted((tmp_path / "specs").glob("*.json"))):
        report = compile_kernel(spec, "sm_100a", Toolchain(name))
        statuses[dict(spec.constexprs)["BAD"], dict(spec.constexprs)["BLOCK"]] = report.status
    assert statuses == {("none", 128): "ok", ("none", 64): "ok", ("asm", 128): "ptxas_error",
                        ("name", 128): "frontend_error"}  # fmt: skip


def test_an_autotuners_swallowed_failure_is_recorded(triton_site, tmp_path):
    _, site = triton_site
    program = TENSORS + 'tuned[(1,)](x, 1000, y, DTYPE=tl.float32)\nprint(tuned.best_config.kwargs["BAD"])\n'
    done = run_program(tmp_path, site, program, hook=tmp_path / "specs")
    assert done.stdout.splitlines()[-1] == "none"
    found = recorded(tmp_path / "specs")
    assert set(found) == {"failed asm", "compiled none"}
    assert "BAD: asm" in found["failed asm"]["capture"]["autotune"]
    assert found["failed asm"]["capture"]["error_type"] == "PTXASError"


def test_shared_memory_the_device_lacks_is_a_failure_at_load(triton_site, tmp_path):
    _, site = triton_site
    program = TENSORS + 'Utils.smem = -1\nadd[(1,)](x, 1000, y, tl.float32, "none", 128)\n'
    done = run_program(tmp_path, site, program, hook=tmp_path / "specs", check=False)
    assert done.returncode == 1 and "OutOfResources" in done.stderr.splitlines()[-1]
    (spec,) = recorded(tmp_path / "specs").values()
    assert (spec["capture"]["outcome"], spec["capture"]["stage"]) == ("failed", "load")
    assert spec["capture"]["error_type"] == "OutOfResources" and "shared memory" in spec["capture"]["error"]


def test_the_context_manager_sees_kernels_compiled_before_it_and_stops_at_its_end(tmp_path, toolchain_351):
    program = (
        TENSORS
        + f"""
import sys
sys.path.append({str(REPO)!r})
from helpers.compiler.bring.capture import capture
launch = lambda bad, block: add[(1,)](x, 1000, y, tl.float32, bad, block)
launch("none", 128)
with capture("specs") as recording:
    launch("none", 128)
    launch("none", 128)
    try:
        launch("name", 128)
    except triton.CompilationError:
        pass
    else:
        raise SystemExit("the failure did not come through")
launch("none", 64)
print(len(recording.paths), [s.name for s in recording.specs[0].kernel.source_files()], Driver.launches)
"""
    )
    done = run_program(tmp_path, resolve_triton("3.5.1").path, program)
    assert done.stdout.splitlines()[-1] == "2 ['kernels_of_mine.py', 'offset.py'] ['add', 'add', 'add', 'add']"
    assert set(recorded(tmp_path / "specs")) == {"compiled none", "failed name"}


def test_two_processes_may_share_a_folder_and_say_things_once(tmp_path):
    site = resolve_triton("environment").path
    program = TENSORS + 'add[(1,)](x, 1000, y, tl.float32, "none", 128)\n'
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with concurrent.futures.ThreadPoolExecutor() as both:
        list(both.map(lambda folder: run_program(folder, site, program, hook=tmp_path / "specs"), folders))
    assert len(list((tmp_path / "specs").glob("*.json"))) == 1
    assert not list((tmp_path / "specs").rglob(".*"))
    assert len(list((tmp_path / "specs").rglob("offset.py"))) == 1


def test_a_program_with_helpers_and_sitecustomize_of_its_own_keeps_them(tmp_path):
    site = resolve_triton("environment").path
    (tmp_path / "helpers.py").write_text("MINE = 'mine'\n")
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "sitecustomize.py").write_text("import os\nos.environ['SEEN'] = 'yes'\n")
    program = TENSORS + (
        'import helpers, os\nadd[(1,)](x, 1000, y, tl.float32, "none", 128)\nprint(helpers.MINE, os.environ["SEEN"])\n'
    )
    done = run_program(tmp_path, Path(f"{tmp_path / 'custom'}{os.pathsep}{site}"), program, hook=tmp_path / "specs")
    assert done.stdout.splitlines()[-1] == "mine yes"
    assert len(list((tmp_path / "specs").glob("*.json"))) == 1


def test_a_function_as_constexpr_is_recorded_as_what_it_is(tmp_path):
    site = resolve_triton("environment").path
    program = (
        TENSORS
        + """
import kernels_of_mine
source = '''
import triton, triton.language as tl
@triton.jit
def double(v):
    return v * 2
@triton.jit
def apply(x_ptr, F: tl.constexpr):
    tl.store(x_ptr, F(tl.load(x_ptr)))
'''
open("applied.py", "w").write(source)
import applied
applied.apply[(1,)](x, applied.double)
"""
    )
    run_program(tmp_path, site, program, hook=tmp_path / "specs")
    (path,) = (tmp_path / "specs").glob("*.json")
    assert path.name.endswith(".incomplete.json")
    assert json.loads(path.read_text())["capture"]["incomplete"] == ["constexpr F is a JITFunction"]


def test_a_kernel_of_a_notebooks_cell_gets_a_file_with_what_it_uses(tmp_path):
    site = resolve_triton("environment").path
    program = (
        TENSORS
        + """
import linecache
cells = [
    "import triton, triton.language as tl\\nSTEP = tl.constexpr(3.0)\\n"
    "@triton.jit\\ndef step(v):\\n    return v + STEP\\n",
    "@triton.jit\\ndef walk(x_ptr, B: tl.constexpr):\\n"
    "    at = x_ptr + tl.arange(0, B)\\n    tl.store(at, step(tl.load(at)))\\n",
]
scope = {"__name__": "__main__"}
for number, cell in enumerate(cells):
    name = f"/tmp/ipykernel_1/{number}.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    exec(compile(cell, name, "exec"), scope)
scope["walk"][(1,)](x, 64)
"""
    )
    run_program(tmp_path, site, program, hook=tmp_path / "specs")
    (spec,) = read_specs(list((tmp_path / "specs").glob("*.json")))
    report = compile_kernel(spec, "sm_100a", Toolchain("environment"))
    assert report.status == "ok", report.message
    assert "0f40400000" in Path(report.ptx_path).read_text()  # 3.0


# --- on a GPU ---------------------------------------------------------------------------------------------


@pytest.fixture
def on_gpu(tmp_path, monkeypatch):
    """A module of kernels, tensors on the device, and Triton's cache in a folder of this test's own."""
    import importlib

    import torch

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton_cache"))
    (tmp_path / "offset.py").write_text("import triton.language as tl\nOFFSET = tl.constexpr(1.0)\n")
    (tmp_path / "kernels_of_mine.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("kernels_of_mine", "offset"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("kernels_of_mine")
    yield module, torch.arange(1000, device="cuda", dtype=torch.float32), torch.zeros(1000, device="cuda")
    for name in ("kernels_of_mine", "offset"):
        sys.modules.pop(name, None)


def gpu_arch() -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


@pytest.mark.gpu
def test_gpu_results_are_the_same_and_the_spec_compiles_to_the_same_ptx(on_gpu, tmp_path):
    import torch
    import triton.language as tl

    from helpers import capture

    kernels, x, y = on_gpu
    grid = (8,)
    kernels.add[grid](x, 1000, y, tl.float32, "none", 128)
    with capture(tmp_path / "specs") as recording:
        known = kernels.add[grid](x, 1000, y, tl.float32, "none", 128)
        new = kernels.add[grid](x, 1000, y, tl.float32, "none", 256, num_warps=8)
        with pytest.raises(Exception, match="ptxas"):
            kernels.add[grid](x, 1000, y, tl.float32, "asm", 128)
    torch.cuda.synchronize()
    assert torch.equal(y, x + 1)
    specs = {(dict(s.constexprs)["BAD"], dict(s.constexprs)["BLOCK"]): s for s in recording.specs}
    assert set(specs) == {("none", 128), ("none", 256), ("asm", 128)}
    for key, kernel in ((("none", 128), known), (("none", 256), new)):
        report = compile_kernel(specs[key], gpu_arch(), Toolchain("environment"))
        assert report.status == "ok", report.message
        ours, theirs = Path(report.ptx_path).read_text(), kernel.asm["ptx"]
        # Debug sections name the file's folder, which is another one now.
        assert ours.partition(".file")[0] == theirs.partition(".file")[0]
    assert compile_kernel(specs["asm", 128], gpu_arch(), Toolchain("environment")).status == "ptxas_error"


@pytest.mark.gpu
def test_gpu_autotuner_drops_a_configuration_and_capture_says_which(on_gpu, tmp_path):
    import torch
    import triton.language as tl

    from helpers import capture

    kernels, x, y = on_gpu
    with capture(tmp_path / "specs"):
        kernels.tuned[(8,)](x, 1000, y, DTYPE=tl.float32)
    torch.cuda.synchronize()
    assert torch.equal(y, x + 1) and kernels.tuned.best_config.kwargs["BAD"] == "none"
    found = recorded(tmp_path / "specs")
    assert set(found) == {"failed asm", "compiled none"}
    assert "BAD: asm" in found["failed asm"]["capture"]["autotune"]


@pytest.mark.gpu
def test_gpu_too_much_shared_memory_is_a_failure_at_load(on_gpu, tmp_path):
    import torch
    import triton

    from helpers import capture

    (tmp_path / "big_dot.py").write_text(
        "import triton\nimport triton.language as tl\n\n"
        "@triton.jit\n"
        "def big_dot(a_ptr, K, S: tl.constexpr):\n"
        "    r = tl.arange(0, S)\n"
        "    acc = tl.zeros((S, S), tl.float32)\n"
        "    for k in range(K):\n"
        "        a = tl.load(a_ptr + k * S + r[:, None] * S + r[None, :])\n"
        "        acc = tl.dot(a, a, acc)\n"
        "    tl.store(a_ptr + r[:, None] * S + r[None, :], acc.to(tl.float16))\n"
    )
    import big_dot

    a = torch.zeros(1, device="cuda", dtype=torch.float16)  # never run: the binary is refused
    with capture(tmp_path / "specs"), pytest.raises(triton.runtime.errors.OutOfResources):
        big_dot.big_dot[(1,)](a, 64, 256, num_warps=8, num_stages=6)
    (spec,) = (json.loads(path.read_text()) for path in (tmp_path / "specs").glob("*.json"))
    assert (spec["capture"]["outcome"], spec["capture"]["error_type"]) == ("failed", "OutOfResources")


@pytest.mark.gpu
def test_gpu_a_program_run_under_the_hook_behaves_as_without(tmp_path):
    (tmp_path / "program.py").write_text(
        "import torch, triton\nimport triton.language as tl\n\n"
        "@triton.jit\n"
        "def fill(x_ptr, n, BLOCK: tl.constexpr):\n"
        "    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
        "    tl.store(x_ptr + where, where.to(tl.float32), mask=where < n)\n\n"
        "x = torch.zeros(1000, device='cuda')\n"
        "fill[(8,)](x, 1000, 128)\n"
        "print(x.sum().item())\n"
    )
    outputs = []
    for hook in (False, True):
        env = {k: v for k, v in os.environ.items() if k != CAPTURE_ENV}
        env["TRITON_CACHE_DIR"] = str(tmp_path / "triton_cache")
        if hook:
            env |= {CAPTURE_ENV: str(tmp_path / "specs")}
            env["PYTHONPATH"] = os.pathsep.join(p for p in (str(HOOK_FOLDER), env.get("PYTHONPATH", "")) if p)
        done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] == "499500.0\n"
    (path,) = (tmp_path / "specs").glob("*.json")
    (spec,) = read_specs([path])
    # The program launches at its top level: compiling its kernel again must not.
    assert compile_kernel(spec, gpu_arch(), Toolchain("environment")).status == "ok"


def test_the_list_of_a_folder_takes_whatever_a_stranger_wrote(tmp_path, capsys):
    """Numbers, lists and objects in the place of words, and files that are no files."""
    from helpers.__main__ import main

    about = {"outcome": 7, "stage": [], "error_type": {"a": 1}, "error": 3, "arch": None, "triton_version": 1.5,
             "autotune": True}  # fmt: skip
    for number, why in enumerate((5, "one", ["a", 2], {"x": 1}, None)):
        body = {"kernel": {"name": number}, "capture": {**about, "incomplete": why}}
        (tmp_path / f"{number}.json").write_text(json.dumps(body))
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for how in ([], ["--json"]):
        assert main(["capture", "-o", str(tmp_path), *how]) == 0
        assert "cannot be compiled elsewhere: 5" in capsys.readouterr().out or how

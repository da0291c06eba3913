"""The worker: kernels that print, die, hang or are wrong become reports, and the next compile works."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import KNOWN_TRITONS, Toolchain, ToolchainMissing, resolve_triton
from helpers.compiler.worker.pool import worker_environment

pytestmark = pytest.mark.usefixtures("toolchain_351", "own_cache")


def compile_351(spec, **options):
    return compile_kernel(spec, "sm_90a", Toolchain("3.5.1"), **options)


@pytest.fixture
def source(write_kernel):
    return Path(write_kernel().kernel.path).read_text()


@pytest.mark.parametrize("lines", ["import os; os.abort()", "import os; os._exit(0)", "import sys; sys.exit('bye')"])
def test_a_worker_that_dies_is_a_report_and_the_next_compile_works(write_kernel, source, lines):
    report = compile_351(write_kernel(lines + "\n" + source, file="dies.py"))
    assert report.status == "frontend_error" and report.failed_stage == "died"
    assert "worker ended" in report.message
    if "abort" in lines:
        assert "SIGABRT" in report.message
    assert compile_351(write_kernel()).status == "ok"


def test_a_hang_at_import_is_stopped_at_the_limit(write_kernel, source, processes_of):
    spec = write_kernel(
        "import subprocess, time\nsubprocess.Popen(['sleep', '876543'])\ntime.sleep(1e6)\n" + source,
        file="hangs.py",
    )
    started = time.monotonic()
    report = compile_351(spec, timeout_s=2)
    assert report.status == "timeout" and time.monotonic() - started < 20
    assert "within 2 s" in report.message
    assert processes_of("876543") == []
    assert compile_351(write_kernel()).status == "ok"


def test_a_kernel_file_that_prints_does_not_break_the_protocol(write_kernel, source):
    noisy = """
import os, sys
print('{"stages": {}}')
sys.stdout.write("half a line")
os.write(1, b'{"ready": false}\\n' * 1000)
print("to stderr", file=sys.stderr)
"""
    assert compile_351(write_kernel(noisy + source, file="noisy.py")).status == "ok"


def test_a_kernel_file_that_writes_into_the_answers_is_a_report(write_kernel, source):
    # The descriptor is found by trying: whatever is a pipe and is not stderr.
    rude = """
import os, stat
for fd in range(3, 64):
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.write(fd, b"no JSON at all\\n")
    except OSError:
        pass
"""
    report = compile_351(write_kernel(rude + source, file="rude.py"))
    assert report.status == "frontend_error" and "was not one" in report.message
    assert compile_351(write_kernel()).status == "ok"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def broken(:\n", "add_one", "invalid syntax"),
        ("raise ValueError('at import')", "add_one", "at import"),
        (None, "add_two", "kernel.py defines no 'add_two'"),
        ("def add_one(x_ptr, n, BLOCK): pass", "add_one", "not a @triton.jit function"),
        ("add_one = 3", "add_one", "not a @triton.jit function"),
        ("import no_such_module_anywhere", "add_one", "no_such_module_anywhere"),
    ],
)
def test_wrong_kernel_files(write_kernel, text, name, said):
    spec = write_kernel(text, name=name) if text else write_kernel(name=name)
    report = compile_351(spec)
    assert report.status == "frontend_error" and report.failed_stage == "load"
    assert said in report.message
    assert compile_351(spec).cached  # a fact about this source: not tried again


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"signature": (("x_ptr", "*fp32"), ("BLOCK", "constexpr"))}, "missing ['n']"),
        (
            {"signature": (("x_ptr", "*fp32"), ("n", "i32"), ("m", "i32"), ("BLOCK", "constexpr"))},
            "not parameters ['m']",
        ),
        ({"signature": (("x_ptr", "*fp33"), ("n", "i32"), ("BLOCK", "constexpr"))}, "fp33"),
        ({"constexprs": (("BLOCK", 100),)}, "power of 2"),
        ({"constexprs": (("BLOCK", "wide"),)}, "at "),
        ({"options": (("num_wraps", 4),)}, "no launch option num_wraps"),
        ({"options": (("num_warps", 3),)}, "power of 2"),
    ],
)
def test_wrong_specialisations_say_what_is_wrong(write_kernel, changes, said):
    report = compile_351(write_kernel(**changes))
    assert report.status == "frontend_error", report
    assert said in report.message
    assert compile_351(write_kernel()).status == "ok"


def test_a_helper_beside_the_kernel_is_imported_and_watched(write_kernel, source):
    kernel = source.replace("+ 1,", "+ STEP,").replace(
        "@triton.jit", "from step import STEP as _STEP\nSTEP = tl.constexpr(_STEP)\n\n\n@triton.jit"
    )
    spec = write_kernel(kernel)
    helper = Path(spec.kernel.path).with_name("step.py")
    helper.write_text("STEP = 5\n")
    first = compile_351(spec)
    assert first.status == "ok", first.message
    stamp = helper.stat().st_mtime
    helper.write_text("STEP = 6\n")  # same size, and below the same second: all that a .pyc goes by
    os.utime(helper, (stamp, int(stamp) + 0.999))
    second = compile_351(spec)
    assert not second.cached
    assert Path(first.ptx_path).read_text() != Path(second.ptx_path).read_text()
    # Another folder's helper of the same name, with the same worker: not mixed up with this one's.
    elsewhere = write_kernel(kernel, folder="elsewhere")
    Path(elsewhere.kernel.path).with_name("step.py").write_text("STEP = 7\n")
    third = compile_351(elsewhere)
    assert "0f40E00000" in Path(third.ptx_path).read_text()  # 7.0
    assert "0f40C00000" in Path(second.ptx_path).read_text()  # 6.0
    helper.write_text("STEP = 5\n")
    assert compile_351(spec).cached


def test_a_kernel_file_with_a_taken_name_harms_nobody(write_kernel):
    for file in ("json.py", "triton.py", "types.py"):
        assert compile_351(write_kernel(file=file)).status == "ok"
    assert compile_351(write_kernel().with_constexprs(BLOCK=64)).status == "ok"


def test_a_file_that_is_not_python_by_name(write_kernel):
    assert compile_351(write_kernel(file="kernel.txt")).status == "ok"


def test_foreign_settings_do_not_reach_the_worker(write_kernel, monkeypatch):
    settings = {
        "TRITON_PTXAS_PATH": "/bin/false",
        "DISABLE_LLVM_OPT": "1",
        "DISABLE_PTXAS_OPT": "1",
        "PTXAS_OPTIONS": "-O0",
        "NVPTX_ENABLE_DUMP": "1",
        "PYTHONPATH": "/nowhere",
        "PYTHONOPTIMIZE": "2",
        "MLIR_ENABLE_DUMP": "1",
        "TRITON_INTERPRET": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    env = worker_environment(Path("/site"))
    assert env["PYTHONPATH"] == "/site"
    assert not {name for name in settings if name != "PYTHONPATH"} & set(env)
    assert env["PATH"]


@pytest.mark.parametrize("version", [*KNOWN_TRITONS, "environment"])
def test_every_triton_compiles_a_stranger_s_kernel(write_kernel, version):
    try:
        resolve_triton(version)
    except ToolchainMissing as exc:
        if version in ("3.5.1", "environment"):
            raise
        pytest.skip(str(exc))
    report = compile_kernel(write_kernel(), "sm_90a", Toolchain(version))
    assert report.status == "ok" and report.regs_per_thread >= 8, report.message
    assert Path(report.ttgir_path).is_file() and Path(report.cubin_path).read_bytes()[:4] == b"\x7fELF"
    assert report.smem_bytes == 0 and report.num_warps == 4 and report.kernel_name == "add_one"

"""From the command line: a kernel of one's own is captured or spelled out, and every verb takes the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.__main__ import main

REPO_ROOT = Path(__file__).parents[1]
KERNEL = """
import triton
import triton.language as tl
from not_installed_anywhere import logger


@triton.jit
def scale(x_ptr, n, factor, BLOCK: tl.constexpr, TWICE: tl.constexpr = False):
    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + where, mask=where < n) * factor
    if TWICE:
        x = x * 2
    tl.store(x_ptr + where, x, mask=where < n)
"""
# A program whose kernel cannot be launched here: there is no GPU, so Triton itself fails, after nothing was compiled;
# with a stand-in for the driver it compiles and "launches".
PROGRAM = """
import sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import MockTensor

class Utils:
    def load_binary(self, name, kernel, shared, device): return object(), object(), 10, 0, 1024
    def get_device_properties(self, device): return {"max_shared_mem": 232448}

class Driver:
    utils = Utils()
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def launcher_cls(self, src, metadata): return lambda *args: None

triton.runtime.driver.set_active(Driver())

@triton.jit
def fill(x_ptr, n, BLOCK: tl.constexpr):
    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + where, where.to(tl.float32), mask=where < n)

fill[(1,)](MockTensor(tl.float32), 1000, 128)
print("arguments:", *sys.argv[1:])
sys.exit(7)
"""


@pytest.fixture
def spec(tmp_path, isolated_cache) -> Path:
    """A spec file of `scale`, made by the verb."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    words = ["spec", "--file", str(tmp_path / "kernel.py"), "--kernel", "scale", "--option", "num_warps=2"]
    assert main([*words, "--signature", "*fp32:16, n=i32:16, fp32, BLOCK=256", "-o", str(tmp_path / "spec.json")]) == 0
    return tmp_path / "spec.json"


def test_a_spec_of_ones_own_goes_through_compile_matrix_ablate_and_bisect(spec, capfd, toolchain_351):
    capfd.readouterr()
    assert main(["compile", str(spec), "--arch", "sm_90a", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["status"], report["num_warps"], report["label"]) == ("ok", 2, "kernel:scale BLOCK=256 w2")
    assert main(["matrix", "--spec", str(spec), "--arch", "sm_80,sm_90a", "--triton", "3.5.1,environment",
                 "--json", "--quiet"]) == 0  # fmt: skip
    rows = json.loads(capfd.readouterr().out)
    assert [(r["arch"], r["status"]) for r in rows] == [("sm_80", "ok")] * 2 + [("sm_90a", "ok")] * 2
    assert main(["ablate", "--spec", str(spec), "--arch", "sm_90a", "--json"]) == 0
    rungs = json.loads(capfd.readouterr().out)["rungs"]
    assert {"BLOCK 256 → 128", "TWICE False → True", "num_warps 2 → 1"} <= {r["change"] for r in rungs}
    assert main(["bisect", str(spec), "--arch", "sm_90a", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compile", "{spec}", "--head-dim", "64"], "--head-dim is an option of the extend kernel"),
        (["compile", "{spec}", "--spec", "{spec}"], "two specs are given"),
        (["matrix", "{spec}", "--kv-dtype", "bf16"], "--kv-dtype is an option of the extend kernel"),
        (["compile", "{folder}/kernel.py"], "kernel.py is a Python file"),
        (["spec"], "give --file FILE --kernel NAME, or --wheel"),
        (["spec", "--file", "{folder}/kernel.py", "--kernel", "scale"], "scale still needs x_ptr, n, factor, BLOCK"),
        (["spec", "--file", "{folder}/kernel.py", "--kernel", "nope"], "kernels there: scale"),
        (["spec", "--file", "{folder}/kernel.py", "--kernel", "scale", "--option", "num_warps"], "form NAME=VALUE"),
        (["spec", "--file", "{folder}/kernel.py", "--wheel", "x==1"], "give --file"),
        (["spec", "--wheel", "x==1", "--member", "a.py"], "FILE:KERNEL"),
        (["spec", "--wheel", "x==1", "--incident", "--kernel", "k"], "goes with --wheel alone"),
        (["capture", "-o", "{folder}/none"], "give a command to run"),
        (["capture", "-o", "{folder}/none", "--", "no-such-program-here"], "cannot run 'no-such-program-here'"),
        (["autotune", "{spec}", "--quiet"], "under no triton.autotune"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_two(spec, capfd, words, said):
    capfd.readouterr()
    assert main([w.format(spec=spec, folder=spec.parent) for w in words]) == 2
    out, err = capfd.readouterr()
    assert said in err and err.startswith("error: ") and err.count("\n") == 1 and out == ""


def test_capture_runs_the_program_once_and_its_exit_code_and_output_are_its_own(tmp_path, isolated_cache):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "helpers", "capture", "-o", str(tmp_path / "specs"), "--json", "--"]
    done = subprocess.run(
        [*command, sys.executable, str(tmp_path / "program.py"), "--flag", "-o", "x"],
        cwd=REPO_ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stdout.count("arguments: --flag -o x\n") == 1
    (row,) = json.loads(done.stdout.partition("arguments: --flag -o x\n")[2])
    assert (row["kernel"], row["outcome"], row["arch"], row["incomplete"]) == ("fill", "compiled", "sm_90a", [])
    # The kernel lies in the program itself: compiling it again must not run the program.
    again = subprocess.run(
        [sys.executable, "-m", "helpers", "compile", row["spec"], "--arch", "sm_90a", "--triton", "environment"],
        cwd=REPO_ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert again.returncode == 0 and "ok: compiled" in again.stdout and "arguments" not in again.stdout


def test_a_captures_folder_is_listed_without_a_command(tmp_path, capfd):
    about = {"outcome": "failed", "error_type": "PTXASError", "error": "x", "autotune": "BLOCK: 1", "arch": "sm_90a"}
    (tmp_path / "k-1.json").write_text(json.dumps({"kernel": {"name": "k"}, "capture": about}))
    (tmp_path / "rubbish.json").write_text("[1, 2")
    (tmp_path / "other.json").write_text("[1, 2]")
    assert main(["capture", "-o", str(tmp_path)]) == 0
    out = capfd.readouterr().out
    assert "1 specialisations, 1 of them failed" in out and "PTXASError (swallowed by the autotuner)" in out

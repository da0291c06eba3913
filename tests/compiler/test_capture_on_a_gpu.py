"""Capture around real programs on a GPU: a model that Inductor compiles in its own processes, one that forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from helpers.files import ROOT

no_gpu = f"needs a CUDA device, and torch {torch.__version__} sees none"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=no_gpu)]

INDUCTOR = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.GELU(), torch.nn.LayerNorm(256)).cuda()
x = torch.randn(64, 256, device="cuda")
with torch.no_grad():
    error = (torch.compile(model)(x) - model(x)).abs().max().item()
assert error < 1e-2, error
print("close")
"""
FORKS = """
import os, threading, time
import torch
import triton, triton.language as tl

@triton.jit
def scaled(x_ptr, y_ptr, FACTOR: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, tl.load(x_ptr + at) * FACTOR)

x = torch.ones(1024, device="cuda")
y = torch.empty_like(x)
stop = threading.Event()
made = [0]
def compiling():
    while not stop.is_set() and made[0] < 200:
        scaled[(1,)](x, y, FACTOR=float(made[0] + 2), BLOCK=1024)
        made[0] += 1
thread = threading.Thread(target=compiling)
thread.start()
codes = []
for _ in range(CHILDREN):
    child = os.fork()
    if not child:
        import signal
        signal.alarm(60)
        # The child's own part of the recording: a lock that the compiling thread may hold is taken.
        import gc
        for recording in [o for o in gc.get_objects() if type(o).__name__ == "Capture"]:
            with recording._lock:
                pass
        os._exit(0)
    codes.append(os.waitpid(child, 0)[1])
stop.set()
thread.join()
torch.cuda.synchronize()
assert not any(codes), [code for code in codes if code][:5]
print("forked", len(codes), "while", made[0], "kernels were compiled")
"""


def captured(folder: Path, body: str) -> tuple[subprocess.CompletedProcess, list[dict]]:
    (folder / "program.py").write_text(textwrap.dedent(body))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_", "TORCHINDUCTOR_"))}
    env |= {"TRITON_CACHE_DIR": str(folder / "triton"), "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))}  # fmt: skip
    words = [
        sys.executable,
        "-m",
        "helpers",
        "capture",
        "-o",
        str(folder / "specs"),
        "--",
        sys.executable,
        "program.py",
    ]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=500)
    return done, [json.loads(path.read_text()) for path in sorted((folder / "specs").glob("*.json"))]


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_compiled_model_is_recorded_also_from_inductors_own_processes(tmp_path, threads):
    body = f"import torch._inductor.config as config\nconfig.compile_threads = {threads}\n" + INDUCTOR
    done, specs = captured(tmp_path, body)
    assert done.returncode == 0 and "close" in done.stdout, done.stderr[-2000:]
    assert specs and all(spec["kernel"]["name"].startswith("triton_") for spec in specs), done.stderr[-2000:]


def test_a_program_that_forks_while_a_thread_compiles_has_no_child_stuck(tmp_path):
    done, specs = captured(tmp_path, FORKS.replace("CHILDREN", "1000"))
    assert done.returncode == 0 and "forked 1000" in done.stdout, done.stderr[-2000:]
    print(done.stdout)
    assert len(specs) >= 2 and {spec["kernel"]["name"] for spec in specs} == {"scaled"}

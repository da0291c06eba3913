"""The plain product of notebook 07: its cliff and its neighbours, what is refused, and that it multiplies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.compiler.compile import compile_kernel, compile_request
from helpers.errors import UserError
from helpers.workbook.your_own_crash.cliff_matmul import CLIFF_ARCH, cliff_request, matmul_spec


def test_sixteen_warps_at_256x256_end_in_c7602_at_128_registers(toolchain_351):
    report = compile_request(cliff_request())
    assert (report.status, report.ptxas_code, report.register_count_asked) == ("register_exhausted", "C7602", 128)
    assert report.tensor_core_path == "wgmma"


@pytest.mark.parametrize(("block_m", "warps", "status"), [(256, 8, "spills"), (128, 16, "ok")])
def test_half_the_warps_spill_and_half_the_rows_fit(toolchain_351, block_m, warps, status):
    report = compile_kernel(matmul_spec(block_m, num_warps=warps), CLIFF_ARCH, toolchain_351)
    assert (report.status, report.tensor_core_path) == (status, "wgmma")


@pytest.mark.parametrize(
    "bad", [{"dtype": "fp4"}, {"block_m": 96}, {"block_n": 0}, {"block_k": True}, {"maxnreg": 5}, {"num_warps": 64}]
)
def test_what_cannot_be_is_refused_with_a_sentence(bad):
    with pytest.raises(UserError, match=r"choose|must be"):
        matmul_spec(**bad)


PRODUCT = """
import torch
from kernels.cliff_matmul import cliff_matmul_kernel

torch.manual_seed(0)
m, n, k = 40, 24, 56  # none a multiple of the tile
a, b = torch.randn(m, k), torch.randn(k, n)
c = torch.full((m, n), float("nan"))
cliff_matmul_kernel[(2, 1)](a, b, c, m, n, k, k, n, n, BLOCK_M=32, BLOCK_N=32, BLOCK_K=32)
print((c - a @ b).abs().max().item())
"""


def test_it_is_a_matrix_product():
    """In Triton's interpreter, in a process of its own: whether to interpret is decided when a kernel is decorated."""
    root = Path(__file__).parents[2]
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", PRODUCT], env=env, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # 56 products of fp32 normals a sum: rounding is some 1e-6 of numbers of about 10.
    assert float(done.stdout) < 1e-4


def test_a_binary_no_sm_can_take_is_said_not_to_be_launchable(toolchain_351):
    from helpers.commands.compile import format_report

    capped = compile_kernel(matmul_spec(maxnreg=255), "sm_90a", toolchain_351)
    assert capped.compiled and capped.regs_per_thread > capped.cap == 128
    assert not capped.launchable and capped.to_dict()["launchable"] is False
    assert "cannot be launched: 16 warps leave 128 registers" in format_report(capped)
    fits = compile_kernel(matmul_spec(num_warps=8), "sm_90a", toolchain_351)
    assert fits.launchable and "cannot be launched" not in format_report(fits)

"""The plain product of notebook 07: where its cliff is, on which side of it the neighbours are, what is refused."""

from __future__ import annotations

import pytest

from helpers.compiler.cliff_matmul import CLIFF_ARCH, cliff_request, matmul_spec
from helpers.compiler.compile import compile_kernel, compile_request
from helpers.errors import UserError


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

"""Two made-up reports, one that compiled and one that died, for tests of what is shown rather than compiled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.compiler.report import CompileReport

_OK = CompileReport(
    status="ok", arch="sm_100a", triton_version="3.5.1", ptxas_version="12.8.93", label="a", num_warps=8,
    regs_per_thread=200, spill_store_bytes=0, spill_load_bytes=0, smem_bytes=65536, tmem_columns=0,
    instructions={"mma_sync": 4},
)  # fmt: skip


@pytest.fixture
def ok() -> CompileReport:
    """200 registers, nothing spilled."""
    return _OK


@pytest.fixture
def crash() -> CompileReport:
    """C7600, no numbers."""
    return replace(
        _OK, status="register_exhausted", regs_per_thread=None, spill_store_bytes=None, spill_load_bytes=None,
        ptxas_code="C7600", label="b",
    )  # fmt: skip

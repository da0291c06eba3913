"""Fixtures that the tests of every wing use.

Kernels small enough to compile in a fraction of a second, and ptxas programs that misbehave on purpose;
two made-up reports for tests of what is shown rather than compiled.
"""

from __future__ import annotations

import os
import shlex
import signal
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.report import CompileReport
from helpers.files import CACHE_ENV, cache_root

ADD_ONE = """
import triton
import triton.language as tl


@triton.jit
def add_one(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < n) + 1, mask=offsets < n)
"""


def spec_of(path: Path, name: str = "add_one", **changes: object) -> KernelSpec:
    """The spec of `add_one(x_ptr: fp32*, n: i32, BLOCK=128)` in the file `path`."""
    fields = {
        "signature": (("x_ptr", "*fp32"), ("n", "i32"), ("BLOCK", "constexpr")),
        "constexprs": (("BLOCK", 128),),
        "divisible_by_16": ("x_ptr",),
        "options": (("num_warps", 4),),
        "label": path.stem,
    }
    return KernelSpec(kernel=KernelRef(str(path), name), **{**fields, **changes})


def hear_signals() -> None:
    """A `preexec_fn`: signals as in a terminal. Whoever runs the tests may ignore some (nohup, a background job)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache whose `toolchains/` is a folder of its own, with links to what the user has fetched."""
    there = cache_root() / "toolchains"
    folder = tmp_path / "cache"
    (folder / "toolchains").mkdir(parents=True)
    for toolchain in there.glob("*") if there.is_dir() else ():
        (folder / "toolchains" / toolchain.name).symlink_to(toolchain.resolve())
    monkeypatch.setenv(CACHE_ENV, str(folder))
    return folder


@pytest.fixture
def write_kernel(tmp_path: Path) -> Callable[..., KernelSpec]:
    """`write_kernel(source, folder="k", file="kernel.py")`: writes a kernel file, returns its spec."""

    def write(source: str = ADD_ONE, *, folder: str = "k", file: str = "kernel.py", **changes: object) -> KernelSpec:
        path = tmp_path / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return spec_of(path, **changes)

    return write


@pytest.fixture
def fake_ptxas(own_cache: Path) -> Callable[..., str]:
    """`fake_ptxas(shell_lines)`: installs a script as ptxas 1.2.3 that names its version; returns that."""

    def install(lines: str, *, version_answer: str = "Cuda compilation tools, release 1.2, V1.2.3") -> str:
        program = own_cache / "toolchains" / "ptxas-1.2.3" / "bin" / "ptxas"
        program.parent.mkdir(parents=True)
        answer = f'[ "$1" = --version ] && {{ echo {shlex.quote(version_answer)}; exit 0; }}'
        program.write_text(f"#!/bin/sh\n{answer}\n{textwrap.dedent(lines)}\n")
        program.chmod(0o755)
        return "1.2.3"

    return install


@pytest.fixture
def processes_of() -> Callable[[str], list[int]]:
    """`processes_of(word)`: ids of processes (this one aside) with `word` in their command line."""

    def look(word: str) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if word.encode() in (entry / "cmdline").read_bytes() and state != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
        return found

    return look


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

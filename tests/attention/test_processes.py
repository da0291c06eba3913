import os
import textwrap

import pytest
import torch
import triton
import triton.language as tl

from helpers.attention.correctness.processes import KernelProcesses, WorkerFailed
from helpers.errors import UserError

DOT = """
    import triton
    import triton.language as tl

    @triton.jit
    def dot(a, b, out, N: tl.constexpr):
        at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
        tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at)))

    @triton.jit
    def cast(x, out, N: tl.constexpr):
        offsets = tl.arange(0, N)
        tl.store(out + offsets, tl.load(x + offsets).to(out.dtype.element_ty))
"""


def _kernels(path):
    import importlib.util

    spec = importlib.util.spec_from_file_location("kernels_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Unmended:
    """Triton's own functions for as long as the block lasts, in a worker whose interpreter was mended."""

    def __enter__(self):
        import importlib

        from triton.runtime import interpreter

        self.mended = (interpreter._convert_float, interpreter.InterpreterBuilder.create_dot)
        fresh = importlib.util.module_from_spec(importlib.util.find_spec("triton.runtime.interpreter"))
        fresh.__spec__.loader.exec_module(fresh)
        interpreter._convert_float = fresh._convert_float
        # Its own _convert_float is looked up in its own module: the original all the way down.
        interpreter.InterpreterBuilder.create_dot = fresh.InterpreterBuilder.create_dot

    def __exit__(self, *_):
        from triton.runtime import interpreter

        interpreter._convert_float, interpreter.InterpreterBuilder.create_dot = self.mended


def dot_error(path, mended):
    """Largest error of a bf16 16x16 dot in this process, relative to the largest element of the answer."""
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(16, 16, generator=random).bfloat16() for _ in range(2))
    out = torch.zeros(16, 16)
    if mended:
        _kernels(path).dot[(1,)](a, b, out, N=16)
    else:
        with _Unmended():
            _kernels(path).dot[(1,)](a, b, out, N=16)
    expected = a.double() @ b.double()
    return float((out.double() - expected).abs().max() / expected.abs().max())


def cast_mismatches(path, dtype_name, mended):
    """How many of many float32 numbers the interpreter casts to another value than torch (nearest even)
    does."""
    dtype = getattr(torch, dtype_name)
    x = torch.cat([torch.linspace(0.001, 1.999, 4000), -torch.logspace(-9, 2, 96, base=2)])
    out = torch.zeros(4096, dtype=dtype)
    if mended:
        _kernels(path).cast[(1,)](x, out, N=4096)
    else:
        with _Unmended():
            _kernels(path).cast[(1,)](x, out, N=4096)
    return int((out.float() != x.to(dtype).float()).sum())


@pytest.fixture
def kernels(tmp_path):
    path = tmp_path / "kernels_under_test.py"
    path.write_text(textwrap.dedent(DOT))
    return str(path)


def test_bf16_dot_is_wrong_without_the_mend_and_right_with_it(interpreter, kernels):
    assert interpreter.call(dot_error, kernels, False) > 1000
    assert interpreter.call(dot_error, kernels, True) < 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_casts_round_to_nearest_only_with_the_mend(interpreter, kernels, dtype):
    assert interpreter.call(cast_mismatches, kernels, dtype, False) > 10
    assert interpreter.call(cast_mismatches, kernels, dtype, True) == 0


def test_the_host_process_is_left_alone(interpreter):
    before = os.environ.get("TRITON_INTERPRET")
    assert interpreter.call(os.getpid) != os.getpid()
    assert interpreter.call(os.getenv, "TRITON_INTERPRET") == "1"
    assert os.environ.get("TRITON_INTERPRET") == before

    from kernels.extend_attention import extend_attention_kernel

    assert isinstance(extend_attention_kernel, triton.runtime.jit.JITFunction)
    assert tl.dot.__module__.startswith("triton.language")


def test_what_raises_in_a_worker_comes_back_as_a_sentence_and_the_worker_lives(interpreter):
    pid = interpreter.call(os.getpid)
    with pytest.raises(WorkerFailed, match="ValueError: invalid literal"):
        interpreter.call(int, "seven")
    assert interpreter.call(len, "abc") == 3
    assert pid


def test_a_worker_that_dies_or_hangs_costs_one_answer():
    with KernelProcesses(interpret=True, workers=1, timeout_s=20) as processes:
        with pytest.raises(WorkerFailed, match="ended with code 7"):
            processes.call(os._exit, 7)
        assert processes.call(abs, -3) == 3
        processes.timeout_s = 0.5
        import time

        with pytest.raises(WorkerFailed, match=r"ran over 0\.5 s"):
            processes.call(time.sleep, 60)
        processes.timeout_s = 20
        assert list(processes.map(abs, [-1, 2])) == [1, 2]


def test_prints_of_a_kernel_do_not_disturb_the_answers(interpreter):
    assert interpreter.call(print, "noise") is None
    assert interpreter.call(abs, -5) == 5


def test_zero_workers_are_refused():
    with pytest.raises(UserError, match="workers"):
        KernelProcesses(interpret=True, workers=-1)

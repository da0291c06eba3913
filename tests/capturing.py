"""A program for capture's tests: a driver that launches nothing, and kernels."""

from __future__ import annotations

# A driver that says "B200" and launches nothing: what comes before the launch is Triton's own.
FAKE_DRIVER = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import MockTensor

class Utils:
    smem = 232448
    loads = 0
    def load_binary(self, name, kernel, shared, device):
        Utils.loads += 1
        return object(), object(), 10, 0, 1024
    def get_device_properties(self, device):
        return {"max_shared_mem": Utils.smem}

class Driver:
    utils = Utils()
    launches = []
    def get_current_target(self): return GPUTarget("cuda", 100, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def launcher_cls(self, src, metadata):
        return lambda *args: Driver.launches.append(metadata.name)
    def get_benchmarker(self):
        return lambda call, quantiles: (call(), [1.0, 1.0, 1.0])[1]

triton.runtime.driver.set_active(Driver())
"""
KERNELS = """
import triton
import triton.language as tl
from offset import OFFSET

@triton.jit
def add(x_ptr, n, y_ptr, DTYPE: tl.constexpr, BAD: tl.constexpr, BLOCK: tl.constexpr):
    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + where, mask=where < n) + OFFSET
    if BAD == "asm":
        x = tl.inline_asm_elementwise("no.such.instruction $0, $1;", "=r,r", [x], tl.float32, True, 1)
    if BAD == "name":
        x = x + no_such_name
    tl.store(y_ptr + where, x.to(DTYPE), mask=where < n)

tuned = triton.autotune(
    [triton.Config({"BAD": bad, "BLOCK": 128}, num_warps=4, num_stages=1) for bad in ("asm", "none")], key=["n"]
)(add)
"""

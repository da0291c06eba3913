"""Operations on floats are counted by half, so that a pair and two single ones are the same."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from helpers.inspection.ptx.float_ops import float_operations

CRASH = Path(__file__).parents[1] / "fixtures" / "ptx" / "crash_sm100a.ptx.gz"


def test_a_pair_is_two_operations():
    single = "\tmul.f32 %f1, %f2, %f3;\n\tmul.f32 \t%f4, %f5, %f6;\n"
    pair = "\tmul.f32x2 \t%rd1, %rd2, %rd3;\n"
    assert float_operations(single) == float_operations(pair) == Counter({"mul.f32": 2})


@pytest.mark.parametrize(
    ("line", "counted"),
    [
        ("fma.rn.f32x2 %rd1, %rd2, %rd3, %rd1;", {"fma.rn.f32": 2}),
        ("@%p1 ex2.approx.ftz.f32 %f1, %f2;", {"ex2.approx.ftz.f32": 1}),
        ("cvt.rn.satfinite.e4m3x2.f32 %rs1, %f1, %f2;", {"cvt.rn.satfinite.e4m3x2.f32": 1}),
        ("mul.lo.s32 %r1, %r2, %r3;", {}),
        ("mov.b64 %rd1, {%r1, %r2};", {}),
        ("// mul.f32 %f1, %f2, %f3;", {}),
        (".reg .f32 %f<3>;", {}),
        ("tcgen05.mma.cta_group::1.kind::f8f6f4 [%r1], %rd1, %rd2, %r3, %p1;", {}),
    ],
)
def test_what_counts(line: str, counted: dict):
    assert float_operations(f"\t{line}\n") == Counter(counted)


def test_a_real_kernel_has_its_operations_and_one_taken_away_is_missed():
    text = gzip.decompress(CRASH.read_bytes()).decode()
    found = float_operations(text)
    assert found["ex2.approx.f32"] == 66 and found["mul.f32"] > 300 and "f32x2" in text
    line = next(line for line in text.split("\n") if "mul.f32x2" in line)
    assert float_operations(text.replace(line, "", 1))["mul.f32"] == found["mul.f32"] - 2

"""Which operations on 32-bit floats a PTX asks for, and how many: pure text.

An instruction on a pair of floats (`f32x2`) is two operations: the PTX ISA defines it as one on each half.
So two texts that differ only in whether pairs are used have the same counts.
"""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["float_operations"]

_OPERATION = re.compile(
    r"^\s*(?:@!?%\w{1,40}\s+)?((?:add|sub|mul|fma|mad|max|min|neg|abs|ex2|lg2|rcp|div|sqrt|rsqrt|tanh|selp|cvt)"
    r"\.[\w.]{0,80}f32(?:x2)?[\w.]{0,40})\s",
    re.MULTILINE | re.ASCII,
)


def float_operations(ptx: str) -> Counter[str]:
    """How often each operation on 32-bit floats stands in the text, by its opcode; a pair counts as two of its halves.

    `mul.rn.f32x2` and `mul.f32x2` count as two of `mul.rn.f32` and `mul.f32`. Never raises.
    """
    found: Counter[str] = Counter()
    for match in _OPERATION.finditer(ptx):
        opcode = match[1]
        found[opcode.replace("f32x2", "f32")] += 2 if "f32x2" in opcode else 1
    return found

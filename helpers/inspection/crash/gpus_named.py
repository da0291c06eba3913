"""GPUs that a pasted log names by product (`Tesla T4`, `RTX 5090`), as chips. A name is no statement of a target."""

from __future__ import annotations

import re

from helpers.hardware import CHIPS, KnownChip

__all__ = ["gpus_named", "the_only_gpu"]

# Product names that only one chip has, as nvidia-smi, PyTorch and people write them.
# Source: NVIDIA's list of CUDA GPUs and their compute capabilities (developer.nvidia.com/cuda-gpus).
_PRODUCTS = (
    (52, r"GTX 9[5-8]0|Tesla M(?:40|60)"),
    (60, r"(?:Tesla )?P100"),
    (61, r"GTX 10[5-8]0|Tesla P(?:4|40)|TITAN Xp"),
    (70, r"(?:Tesla )?V100|TITAN V"),
    (75, r"Tesla T4|(?<=NVIDIA )T4|RTX 20[6-8]0|GTX 16[5-6]0|TITAN RTX|Quadro RTX [4568]000"),
    (80, r"A100|A800|(?<=NVIDIA )A30"),
    (86, r"RTX 30[5-9]0|(?<=NVIDIA )A(?:10|40)|RTX A[2456]000"),
    (89, r"RTX 40[5-9]0|(?<=NVIDIA )L4|L40S?|RTX [2456]000 Ada"),
    (90, r"H100|H200|H800|H20|GH200"),
    (100, r"B200|GB200"),
    (103, r"B300|GB300"),
    (120, r"RTX 50[5-9]0|RTX PRO [2456][05]00"),
    (121, r"GB10|DGX Spark"),
)
_NAMES = tuple(
    (capability, re.compile(rf"(?<![\w./-])(?:NVIDIA |GeForce )*(?P<name>{names})(?![\w/]|\.[\w/])"))
    for capability, names in _PRODUCTS
)
_ANY = re.compile(r"[ABHLPVT][0-9]{1,3}|GB?[12]?[0-9]{2}|[GR]TX|TITAN|Spark")


def gpus_named(text: str) -> dict[int, str]:
    """The capability (75 for sm_75) of each chip of which a text names a product, with that name in its words."""
    if not _ANY.search(text):
        return {}
    found = ((capability, pattern.search(text)) for capability, pattern in _NAMES)
    return {capability: m["name"] for capability, m in found if m}


def the_only_gpu(text: str) -> tuple[str, KnownChip] | None:
    """(the product's name, its chip) where a text names products of exactly one chip."""
    named = gpus_named(text)
    if len(named) != 1:
        return None
    ((capability, name),) = named.items()
    return name, CHIPS[capability]

"""What AMD's assembly says of the registers, scratch and LDS of its kernel: the metadata at its end, read as it stands.

Source: LLVM's AMDGPU usage guide, "Code Object V3 and Above Metadata". `.vgpr_count` there counts VGPRs and AGPRs
together on chips that have one file for both (gfx90a and later).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_METADATA_CHARS = 200_000
_METADATA = re.compile(r"^\s*\.amdgpu_metadata\s*$(.*?)^\s*\.end_amdgpu_metadata", re.MULTILINE | re.DOTALL)
_MFMA = re.compile(r"^\s*v_(?:s?mfma|wmma)\w*\s", re.MULTILINE)


@dataclass(frozen=True)
class AmdResources:
    """What one kernel takes on an AMD chip.

    `vgprs` are a thread's vector registers, the `agprs` among them; `sgprs` a wave's scalar ones. `scratch_bytes` is a
    thread's private memory, where spilled registers go; `vgpr_spills` and `sgpr_spills` count the stores of registers
    to it (a scalar register is kept in a vector register's lane as long as there is one). `lds_bytes` is the shared
    memory of a workgroup, `waves_per_simd` how many waves a SIMD holds at a time.
    """

    vgprs: int
    agprs: int
    sgprs: int
    vgpr_spills: int
    sgpr_spills: int
    scratch_bytes: int
    lds_bytes: int
    max_threads: int
    wave_size: int
    waves_per_simd: int | None = None


def amd_resources(assembly: str) -> AmdResources | None:
    """What the metadata of AMD's assembly says of its kernel; None where there is none, or not of one kernel."""
    import yaml

    found = _METADATA.search(assembly)
    if found is None or len(found[1]) > MAX_METADATA_CHARS:
        return None
    try:
        (kernel,) = yaml.safe_load(found[1])["amdhsa.kernels"]
        return resources_of_metadata(kernel)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return None


def resources_of_metadata(kernel: Mapping[str, Any]) -> AmdResources:
    """The figures of one kernel of the metadata; raises KeyError, TypeError or ValueError where one is missing."""
    return AmdResources(
        vgprs=int(kernel[".vgpr_count"]),
        agprs=int(kernel.get(".agpr_count", 0)),
        sgprs=int(kernel[".sgpr_count"]),
        vgpr_spills=int(kernel[".vgpr_spill_count"]),
        sgpr_spills=int(kernel[".sgpr_spill_count"]),
        scratch_bytes=int(kernel[".private_segment_fixed_size"]),
        lds_bytes=int(kernel[".group_segment_fixed_size"]),
        max_threads=int(kernel[".max_flat_workgroup_size"]),
        wave_size=int(kernel[".wavefront_size"]),
    )


def count_matrix_instructions(assembly: str) -> int:
    """How many matrix instructions (MFMA and its kin) AMD's assembly holds."""
    return len(_MFMA.findall(assembly))

"""The register cliff map's grid: which tiles by how many warps, and the maps that are recorded in data/."""

from __future__ import annotations

from dataclasses import replace

from helpers.attention.choice import Choice

# Rows from few accumulator elements to many; every size is one that some engine's tile table or autotuner names.
CLIFF_TILES = ("16x64", "32x64", "64x64", "64x128", "128x32", "128x64", "128x128")
CLIFF_WARPS = (4, 8, 16)


def cliff_choices(base: Choice) -> list[Choice]:
    """The cells of one map over `base` (arch, head dim, KV dtype, window, Triton), row by row, warps fastest."""
    return [replace(base, tile=tile, num_warps=warps) for tile in CLIFF_TILES for warps in CLIFF_WARPS]


def recorded_maps() -> list[Choice]:
    """The maps of data/cliff_map.csv, as their base choices: the incident's first."""
    incident = Choice()
    b200 = [
        replace(incident, head_dim=head_dim, window=window, kv_dtype=kv_dtype)
        for head_dim, window in ((256, 1024), (512, None), (128, None), (256, None))
        for kv_dtype in ("fp8_e4m3", "bf16")
    ]
    # One step from the incident in a single control: another arch, another head dim under the same window.
    others = [replace(incident, arch=arch) for arch in ("sm_90a", "sm_120a")]
    return [*b200, *others, *(replace(incident, head_dim=head_dim) for head_dim in (128, 512))]

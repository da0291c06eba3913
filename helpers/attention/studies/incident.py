"""The incident as configurations: what was reported, what was measured, and the layers of the model it hit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from helpers.attention.choice import Choice
from helpers.attention.shapes import (
    GEMMA4_31B_GLOBAL,
    GEMMA4_31B_GLOBAL_LAYERS,
    GEMMA4_31B_SLIDING,
    GEMMA4_31B_SLIDING_LAYERS,
    AttentionShape,
)
from helpers.hardware import ARCHS

INCIDENT_CHOICE = Choice()
# What people try first on the command line of ptxas, and the optimisation levels.
PTXAS_FLAGS_TRIED = ("--maxrregcount=255", "--maxrregcount=168", "-O2", "-O1", "-O0")


@dataclass(frozen=True)
class ModelLayer:
    """One kind of attention layer in Gemma 4 31B and how many of it there are."""

    shape: AttentionShape
    count: int


GEMMA4_LAYERS = (
    ModelLayer(GEMMA4_31B_SLIDING, GEMMA4_31B_SLIDING_LAYERS),
    ModelLayer(GEMMA4_31B_GLOBAL, GEMMA4_31B_GLOBAL_LAYERS),
)


def layer_choice(shape: AttentionShape, **fields: object) -> Choice:
    """The Choice of one model layer; `fields` as in Choice (tile, kv_dtype, arch, triton…)."""
    return Choice(
        head_dim=shape.head_dim,
        window=shape.model_window,
        num_q_heads=shape.num_q_heads,
        num_kv_heads=shape.num_kv_heads,
        **fields,
    )


def gemma4_choices(
    *, tile: str, kv_dtypes: tuple[str, ...] = ("fp8_e4m3", "bf16"), arch: str = "sm_100a"
) -> list[Choice]:
    """Both kinds of Gemma 4 layer with each KV dtype under one tile table (`hopper`, `sm100`, `auto`)."""
    return [
        layer_choice(layer.shape, tile=tile, kv_dtype=kv_dtype, arch=arch)
        for layer in GEMMA4_LAYERS
        for kv_dtype in kv_dtypes
    ]


def incident_rows(triton: str = "3.5.1") -> list[Choice]:
    """The six configurations of data/incident_reference.csv, in its order."""
    sliding = layer_choice(GEMMA4_31B_SLIDING, triton=triton)
    glob = layer_choice(GEMMA4_31B_GLOBAL, triton=triton)
    return [
        replace(sliding, tile="128x64"),
        replace(sliding, tile="128x64", kv_dtype="bf16"),
        replace(sliding, tile="128x64", window=None),
        replace(sliding, tile="64x64"),
        replace(glob, tile="32x64"),
        replace(glob, tile="16x64"),
    ]


def inside_ptxas_choices(head_dims: tuple[int, ...] = (64, 128, 256, 512)) -> list[Choice]:
    """Head dims x tiles x KV dtypes around the incident, windowed only at Gemma 4's sliding head dim."""
    return [
        Choice(head_dim=head_dim, kv_dtype=kv_dtype, window=window, tile=tile)
        for head_dim in head_dims
        for window in ((None, 1024) if head_dim == 256 else (None,))
        for kv_dtype in ("bf16", "fp8_e4m3")
        for tile in ("16x64", "32x64", "64x64", "128x64")
    ]


def tile_chooser_choices(
    archs: tuple[str, ...] = ("sm_103a", "sm_120a", "sm_121a"), triton: str = "3.7.1"
) -> list[Choice]:
    """Gemma 4's layers with an fp8 cache under each arch's own tile row, by a Triton that can target all of them."""
    assert set(archs) <= set(ARCHS)
    return [
        layer_choice(layer.shape, tile="auto", arch=arch, triton=triton) for arch in archs for layer in GEMMA4_LAYERS
    ]

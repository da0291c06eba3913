"""Which launches to check: Case, and the pairwise matrices of every option for interpreter and GPU."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from helpers.attention.hopper import HEAD_DIMS as HOPPER_DIMS
from helpers.attention.hopper import TILES as HOPPER_TILES
from helpers.attention.hopper import HopperTile
from helpers.attention.lean import LeanTile, choose_lean_tile
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, AttentionShape
from helpers.attention.spec import INCIDENT, LEAN, Ingredients
from helpers.attention.tiles import TileConfig, parse_tile

INGREDIENT_SETS = {"incident": INCIDENT, "lean": LEAN}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One launch to check: a shape with lengths, a tile (and the table it came from), ingredients, a seed.

    A LeanTile or HopperTile means that kernel, which has no ingredients to choose: it is judged as LEAN.
    """

    shape: AttentionShape
    tile: TileConfig | LeanTile | HopperTile
    tile_table: str = "given"
    ingredients: Ingredients = INCIDENT
    seed: int = 0
    k_scale: float | None = None
    v_scale: float | None = None


def all_pairs(factors: dict[str, Sequence[Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """A short list of settings in which every two values of every two factors meet at least once.

    Greedy: each new setting starts from a pair not yet met, and takes for every other factor the value that
    meets most of what is missing. The same factors and seed give the same list.
    """
    names = list(factors)
    chooser = random.Random(seed)
    missing = {
        frozenset(((a, x), (b, y)))
        for a, b in itertools.combinations(names, 2)
        for x in range(len(factors[a]))
        for y in range(len(factors[b]))
    }
    order = sorted(missing, key=sorted)
    settings = []
    while missing:
        best, best_met = {}, set()
        for _ in range(8):
            start = chooser.choice([pair for pair in order if pair in missing])
            row = dict(start)
            for name in chooser.sample(names, len(names)):
                if name in row:
                    continue

                def gain(value: int, name: str = name, row: dict = row, missing: set = missing) -> int:
                    return sum(frozenset(((name, value), other)) in missing for other in row.items())

                values = list(range(len(factors[name])))
                chooser.shuffle(values)
                row[name] = max(values, key=gain)
            met = {frozenset(pair) for pair in itertools.combinations(row.items(), 2)} & missing
            if len(met) > len(best_met):
                best, best_met = row, met
        missing -= best_met
        settings.append({name: factors[name][best[name]] for name in names})
    return settings


# Ragged on purpose: no new tokens, no prefix, neither, and lengths off the tile grid.
_SMALL_LENGTHS = (((19, 0, 0, 33), (9, 0, 21, 1)), ((0,), (37,)), ((40,), (16,)), ((7, 50), (30, 3)))
_LARGE_LENGTHS = (
    ((300, 0, 0, 513, 64), (129, 0, 77, 1, 64)),
    ((0, 0), (200, 65)),
    ((1024,), (128,)),
    ((37, 700), (250, 19)),
)
MATRIX_FACTORS: dict[str, Sequence[Any]] = {
    "kv_dtype": ("fp8_e4m3", "bf16", "fp8_e5m2", "fp16"),
    "q_dtype": ("bf16", "fp16"),
    "window": ("none", "narrow", "wide"),
    "cap": (False, True),
    "mask": ("none", "prefix", "new_only"),
    "sinks": (False, True),
    "causal": (True, False),
    "group": (2, 1, 4),
    "lengths": (0, 1, 2, 3),
    "table": ("hopper", "sm100"),
    "ingredients": ("incident", "lean"),
}
# (head_dim, v_head_dim): powers of two, a padded block (80, 96), a rotary part (192, 288, 576), Lv != Lq.
INTERPRETER_DIMS = ((64, 64), (16, 32), (80, 80), (192, 128), (96, 64))
GPU_DIMS = ((256, 256), (128, 128), (64, 64), (80, 80), (192, 128), (96, 64), (288, 256))
# 512 and 576 take the longest to compile, and get their own, smaller matrix.
GPU_LARGE_DIMS = ((512, 512), (576, 512))
GPU_LARGE_FACTORS = {
    "kv_dtype": ("fp8_e4m3", "bf16", "fp8_e5m2"),
    "window": ("none", "wide"),
    "mask": ("none", "prefix"),
    "table": ("hopper", "sm100"),
    "ingredients": ("incident", "lean"),
}
# Two tiles with the proportions of the tables (tall, square), small enough to interpret.
SMALL_TILES = {"hopper": TileConfig(32, 16, num_warps=4), "sm100": TileConfig(16, 16, num_warps=4)}


def interpreter_cases() -> list[Case]:
    """The pairwise matrix in small (head dims up to 192, tiles of 16 and 32), and a few real tiles."""
    settings = all_pairs({"dims": INTERPRETER_DIMS, **MATRIX_FACTORS})
    cases = [_case(setting, small=True, seed=i) for i, setting in enumerate(settings)]
    real = [
        {**_PLAIN, "dims": (256, 256), "window": "wide", "table": table, "ingredients": ingredients}
        for table in ("hopper", "sm100")
        for ingredients in ("incident", "lean")
    ] + [{**_PLAIN, "dims": (576, 512), "kv_dtype": "bf16", "table": "sm100"}]
    return cases + [_case(setting, small=True, seed=100 + i, real_tile=True) for i, setting in enumerate(real)]


def gpu_cases() -> list[Case]:
    """The pairwise matrix with real head dims and the tables' own tiles, and all of `gemma_cases`.

    The slowest to compile come last.
    """
    settings = all_pairs({"dims": GPU_DIMS, **MATRIX_FACTORS})
    large = [{**_PLAIN, **setting} for setting in all_pairs({"dims": GPU_LARGE_DIMS, **GPU_LARGE_FACTORS})]
    cases = [_case(setting, small=False, seed=1000 + i) for i, setting in enumerate([*settings, *large])]
    return sorted([*cases, *gemma_cases()], key=lambda case: case.shape.head_dim)


def lean_cases(cases: Sequence[Case]) -> list[Case]:
    """The lean kernel on the shapes, lengths and seeds of these cases, once each, with sm_90a's table tile.

    Where the case has a small tile (the interpreter's), so has the lean one; heads of a group are packed two by two.
    """
    lean: dict[tuple, Case] = {}
    for case in cases:
        small = case.tile.block_m <= 32 and case.shape.head_dim < 256
        tile = LeanTile(32, 16, 4, 2, 2) if small else choose_lean_tile("sm_90a", case.shape)
        lean.setdefault(
            (case.shape, case.seed),
            replace(case, tile=tile.fitted(case.shape.kv_group_num), tile_table="lean kernel", ingredients=LEAN),
        )
    return list(lean.values())


def hopper_cases() -> list[Case]:
    """The Hopper kernel on every pair of what it takes: head dims, dtypes, window, cap, sinks, causality, lengths,
    heads a group (every pair twice, among other options), and on Gemma 4's layers with the lengths of `gemma_cases`."""
    taken = ("kv_dtype", "q_dtype", "window", "cap", "sinks", "causal", "lengths", "group")
    factors = {"dims": HOPPER_DIMS, **{name: MATRIX_FACTORS[name] for name in taken}}
    settings = [*all_pairs(factors), *all_pairs(factors, seed=1)]
    cases = [_case({**_PLAIN, **setting}, small=False, seed=3000 + i) for i, setting in enumerate(settings)]
    cases += [case for case in gemma_cases() if case.tile_table == "hopper" and case.ingredients == LEAN]
    return [
        replace(
            case,
            tile=HOPPER_TILES[case.shape.head_dim].fitted(case.shape.kv_group_num),
            tile_table="Hopper kernel",
            ingredients=LEAN,
        )
        for case in cases
    ]


def gemma_cases() -> list[Case]:
    """Gemma 4 31B's two layers under every choice of KV dtype (bf16, fp8_e4m3), tile table and ingredients.

    The window (1024) ends inside the longest prefix.
    """
    return [
        Case(
            shape=replace(layer, kv_dtype=kv_dtype).with_lengths((1500, 0, 37), (200, 70, 1)),
            tile=parse_tile(table, capability=90, head_dim=layer.head_dim),
            tile_table=table,
            ingredients=ingredients,
            seed=2000 + seed,
        )
        for seed, layer in enumerate((GEMMA4_31B_SLIDING, GEMMA4_31B_GLOBAL))
        for kv_dtype in ("bf16", "fp8_e4m3")
        for table in ("hopper", "sm100")
        for ingredients in INGREDIENT_SETS.values()
    ]


_PLAIN = {name: values[0] for name, values in MATRIX_FACTORS.items()}


def _case(setting: dict[str, Any], *, small: bool, seed: int, real_tile: bool = False) -> Case:
    head_dim, v_head_dim = setting["dims"]
    prefix, extend = (_SMALL_LENGTHS if small else _LARGE_LENGTHS)[setting["lengths"]]
    windows = {"none": None, "narrow": 5, "wide": 24} if small else {"none": None, "narrow": 17, "wide": 200}
    kv_heads = 2
    shape = AttentionShape(
        num_q_heads=kv_heads * setting["group"],
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=v_head_dim,
        q_dtype=setting["q_dtype"],
        kv_dtype=setting["kv_dtype"],
        model_window=windows[setting["window"]],
        causal=setting["causal"],
        # Logits of these inputs spread by about 2, so this bites (Gemma's 50 would not).
        logit_cap=2.5 if setting["cap"] else 0.0,
        custom_mask=setting["mask"] != "none",
        mask_prefix=setting["mask"] != "new_only",
        sinks=setting["sinks"],
    ).with_lengths(prefix, extend)
    if small and not real_tile:
        tile = SMALL_TILES[setting["table"]]
    else:
        tile = parse_tile(setting["table"], capability=90, head_dim=head_dim)
    return Case(
        shape=shape,
        tile=tile,
        tile_table=setting["table"],
        ingredients=INGREDIENT_SETS[setting["ingredients"]],
        seed=seed,
    )

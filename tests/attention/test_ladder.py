"""The extend kernel's ladder: changes mean what the Choice means, and the incident's ingredients are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.attention.choice import Choice
from helpers.attention.ladder import (
    CHANGE_NAMES,
    GROUP_OF,
    KEEP_ALL_BUT_KERNEL,
    KEEP_TILE,
    ablate_choice,
    attention_changes,
    is_extend_kernel,
    ladder_of,
)
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.commands.ablate import format_ablation
from helpers.compiler.kernel_spec import KernelRef
from helpers.search.ablate import COMPILES, MAKES_IT_COMPILE, NO_SPILLS
from helpers.workbook.root_cause.ladder import ingredient_table, search_table

# What each change of the incident is as a Choice; one entry a change, in the ladder's order.
AS_CHOICES = {
    "KV cache fp8e4nv → bf16": {"kv_dtype": "bf16"},
    "window 1024 → none": {"window": None},
    "TILE_SKIP branch → bounds": {"tile_skip": "bounds"},
    "ACCUMULATE separate → fused": {"accumulate": "fused"},
    "V_SCALE applied → absent": {"v_scale": "absent"},
    "KV_OPERANDS as_stored → upcast": {"kv_operands": "upcast"},
    "Q_CAST in_tile → hoisted": {"q_cast": "hoisted"},
    "BLOCK_M 128 → 64": {"tile": "64x64"},
    "BLOCK_M 128 → 32": {"tile": "32x64"},
    "BLOCK_N 64 → 32": {"tile": "128x32"},
    "BLOCK_N 64 → 128": {"tile": "128x128"},
    "num_warps 8 → 4": {"num_warps": 4},
    "num_warps 8 → 16": {"num_warps": 16},
    "num_stages 1 → 2": {"num_stages": 2},
    "maxnreg unset → 255": {"maxnreg": 255},
}


def test_every_change_is_the_choice_it_stands_for():
    spec = INCIDENT_CHOICE.request().spec
    changes = {k.description: k for k in attention_changes(spec)}
    assert list(changes) == list(AS_CHOICES)
    for words, fields in AS_CHOICES.items():
        wanted = replace(INCIDENT_CHOICE, **fields).request().spec
        assert changes[words].apply(spec).content_key() == wanted.content_key(), words
    assert tuple(dict.fromkeys(k.name for k in changes.values())) == CHANGE_NAMES
    assert all(k.group == GROUP_OF[k.name] for k in changes.values())


def test_what_a_spec_does_not_have_is_not_taken_away():
    lean = Choice(kv_dtype="bf16", window=None, tile_skip="bounds", accumulate="fused", tile="16x16", maxnreg=128)
    words = [k.description for k in attention_changes(lean.request().spec)]
    assert not [w for w in words if w.startswith(("KV cache", "window", "BLOCK_M"))]
    assert {"TILE_SKIP bounds → branch", "ACCUMULATE fused → separate", "BLOCK_N 16 → 32"} <= set(words)
    assert "maxnreg 128 → unset" in words
    edge = [k.description for k in attention_changes(Choice(window=1, tile="32x256").request().spec)]
    assert {"window 1 → none", "BLOCK_M 32 → 16", "BLOCK_N 256 → 128"} <= set(edge)
    assert not {"BLOCK_M 32 → 8", "BLOCK_N 256 → 512"} & set(edge)


def test_another_kernel_gets_the_generic_changes(tmp_path):
    spec = INCIDENT_CHOICE.request().spec
    assert is_extend_kernel(spec) and ladder_of(spec, "sm_100a").hold == KEEP_ALL_BUT_KERNEL
    assert ladder_of(spec, "sm_100a").keeps_answer
    renamed = replace(spec, kernel=KernelRef(spec.kernel.path, "another", spec.kernel.import_root))
    generic = ladder_of(renamed, "sm_100a")
    changes, hold = generic.changes, generic.hold
    assert not is_extend_kernel(renamed) and set(hold) == {"launch", "ptxas", "types"}
    assert "pointers *fp8e4nv → *bf16" in [k.description for k in changes]


@pytest.fixture(scope="module")
def incident(toolchain_351):
    return ablate_choice(INCIDENT_CHOICE)


@pytest.mark.slow
def test_the_four_ingredients_are_found(incident):
    assert incident.baseline.ptxas_code == "C7600" and incident.criterion == MAKES_IT_COMPILE
    assert {"kv_dtype", "kv_operands", "block_m", "tile_skip", "accumulate", "v_scale"} <= set(incident.necessary)
    assert {"q_cast", "window"} <= set(incident.necessary)
    assert "num_stages" not in incident.necessary  # computed, not listed: this one changes nothing
    assert {r.effect for r in incident.rungs if r.names == ("num_stages",)} == {"same failure"}


@pytest.mark.slow
def test_bounds_and_fused_keep_the_hopper_tile_without_spills(incident):
    search = incident.smallest(NO_SPILLS, KEEP_ALL_BUT_KERNEL)
    assert [set(r.names) for r in search.sets] == [{"tile_skip", "accumulate"}] and search.complete
    (found,) = search.sets
    assert found.report.spill_store_bytes == found.report.spill_load_bytes == 0 and not found.slower_path
    assert "128 → 64" not in found.description
    singles = incident.smallest(COMPILES, KEEP_ALL_BUT_KERNEL)
    assert {n for r in singles.sets for n in r.names} == {"tile_skip", "accumulate", "kv_operands", "q_cast"}
    # With the tile free, the merged fix is the smallest change; at 32 rows it costs the tensor-core path.
    free = incident.smallest(NO_SPILLS)
    assert {r.names for r in free.sets} == {("block_m",)}
    assert [r.slower_path for r in free.sets] == [False, True]


@pytest.mark.slow
def test_other_ways_to_the_same_end_change_the_problem(toolchain_351):
    search = ablate_choice(INCIDENT_CHOICE, hold=KEEP_TILE).smallest(NO_SPILLS, KEEP_TILE)
    # The window is what brings the branch, the scale what keeps the accumulator apart: two names for each ingredient.
    assert {frozenset(r.names) for r in search.sets} == {
        frozenset((branch, sum_)) for branch in ("tile_skip", "window") for sum_ in ("accumulate", "v_scale")
    }


@pytest.mark.slow
def test_tables_and_text(incident):
    searches = search_table(incident)
    assert (searches["changes"] == "TILE_SKIP branch → bounds, ACCUMULATE separate → fused").sum() == 1
    text = format_ablation(incident.to_dict())
    assert "necessary (each alone makes it compile): kv_dtype, window, tile_skip" in text
    assert "TILE_SKIP branch → bounds, ACCUMULATE separate → fused: 245 registers, 0 B spill stores, tcgen05" in text


@pytest.mark.slow
def test_the_ladder_groups_into_the_incident_s_ingredients(incident):
    table = ingredient_table(incident).set_index("ingredient")
    four = ["fp8 operands", "128 rows at head dim 256", "tile-skip branch", "accumulator apart from the dot"]
    assert table.loc[four, "necessary"].all()
    # A fifth of this kernel's own; and launch options, of which some cure and some do not.
    assert table.loc["q cast inside the tile", "necessary"] and not table.loc["launch and inner tile", "necessary"]
    assert len(table) == 6

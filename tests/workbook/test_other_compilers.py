"""Other compilers' rows as page 10 tells them: the nearest kernel, who spills, lost tensor cores, AMD's tiles."""

from __future__ import annotations

import pandas as pd
import pytest

import helpers as rc


def row(front_end: str = "Triton", arch: str = "sm_90a", head_dim: int = 256, **changes: object) -> dict:
    return {
        "front_end": front_end, "kernel": "attention", "arch": arch, "head_dim": head_dim, "tile": "128x64",
        "page_size": 1, "window": 1024, "packed": True, "status": "ok", "regs_per_thread": 255,
        "stack_frame_bytes": 0, "spill_store_bytes": 0, "spill_bytes_in_loops": 0, "tensor_core_path": "wgmma",
        "seen_in_trial": None,
    } | changes  # fmt: skip


def table(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows)


@pytest.mark.parametrize("field, near, far", [("tile", "128x64", "64x64"), ("window", 1024, 0), ("page_size", 1, 0),
                                              ("packed", True, False)])  # fmt: skip
def test_the_row_nearest_to_the_incidents_attention_is_taken(field: str, near: object, far: object):
    near_row, far_row = row(regs_per_thread=1, **{field: near}), row(regs_per_thread=2, **{field: far})
    for rows in (table(near_row, far_row), table(far_row, near_row)):
        assert rc.attention_row(rows, "Triton", "sm_90a", 256)["regs_per_thread"] == 1


def test_the_tile_counts_for_more_than_all_the_rest():
    rows = table(row(tile="64x64", regs_per_thread=2), row(window=0, page_size=0, packed=False, regs_per_thread=1))
    assert rc.attention_row(rows, "Triton", "sm_90a", 256)["regs_per_thread"] == 1
    assert rc.attention_row(rows, "Gluon", "sm_90a", 256) is None


ROWS = table(
    row("Triton", status="spills", spill_store_bytes=700), row("Gluon"), row("cuTile", tensor_core_path="mma.sync"),
    row("Gluon", "sm_100a", status="frontend_error", tensor_core_path="none"),
    row("CuTe DSL", "sm_100a", tensor_core_path="tcgen05"), row("Triton", head_dim=512, spill_store_bytes=9),
)  # fmt: skip


def test_findings_sort_the_cells_by_what_happened():
    found = rc.language_findings(ROWS)
    assert found["spills"] == [("Triton", "sm_90a", 700)]
    assert found["clean"] == [("Gluon", "sm_90a", 0), ("CuTe DSL", "sm_100a", 0), ("cuTile", "sm_90a", 0)]
    assert found["failed"] == [("Gluon", "sm_100a", "frontend error")]
    assert found["slower"] == [("cuTile", "sm_90a", "mma.sync")]
    assert rc.told(found["spills"] + found["slower"]) == "Triton on sm_90a (700 B), cuTile on sm_90a (mma.sync)"
    assert rc.told([]) == "none"
    assert rc.language_findings(ROWS, head_dim=512)["spills"] == [("Triton", "sm_90a", 9)]


def test_the_table_has_a_row_for_each_kernel_and_says_so_where_there_is_none():
    shown = rc.language_table(ROWS)
    assert [*zip(shown["language"], shown["chip"], shown["head dim"], strict=True)] == [
        ("Triton", "sm_90a", 256), ("Gluon", "sm_90a", 256), ("cuTile", "sm_90a", 256), ("Gluon", "sm_100a", 256),
        ("CuTe DSL", "sm_100a", 256), ("Triton", "sm_90a", 512),
    ]  # fmt: skip
    with pytest.raises(rc.UserError, match="no attention in Triton, Gluon, CuTe DSL, cuTile"):
        rc.language_table(table(row("Mojo")))


def test_the_picture_shows_failures_and_what_was_not_asked():
    words = {text.get_text().replace("\n", " ") for text in rc.plot_languages(ROWS, "a title").axes[0].texts}
    assert {"255 regs, 700 B, wgmma", "255 regs, 0 B, mma.sync", "not asked"} <= words
    assert any(text.endswith("frontend error") and "," not in text for text in words)


PAGES = [("sm_100a", 1, 1024, True, 404), ("sm_100a", 1, 1024, False, 8), ("sm_100a", 0, 1024, True, 4),
         ("sm_100a", 0, 1024, False, 2), ("sm_100a", 1, 0, True, 900), ("sm_90a", 1, 1024, True, 3)]  # fmt: skip


def test_pages_are_compared_at_the_same_window():
    rows = table(*(row("CuTe DSL", arch, kernel="FlashAttention-4", page_size=page, window=window,
                       packed=packed, spill_store_bytes=spilled) for arch, page, window, packed, spilled in PAGES),
                 row("CuTe DSL", "sm_100a", kernel="matrix product", spill_store_bytes=5000))  # fmt: skip
    assert rc.page_findings(rows) == ({"packed": 404, "equal": 8}, {"packed": 4, "equal": 2})
    assert (rc.most_spilled(rows, "sm_90a"), rc.most_spilled(rows, "sm_100a")) == (3, 900)
    shown = rc.page_rows(rows)
    assert len(shown) == 6 and list(shown["chip"]) == ["sm_90a"] + ["sm_100a"] * 5


def test_a_trial_is_compared_by_its_spills_and_cutiles_by_its_frame():
    rows = table(row("CuTe DSL", spill_store_bytes=404, stack_frame_bytes=344, seen_in_trial=404),
                 row("cuTile", spill_store_bytes=5016, stack_frame_bytes=2536, seen_in_trial=2536),
                 row("cuTile", spill_store_bytes=7, stack_frame_bytes=8, seen_in_trial=7),
                 row("CuTe DSL", spill_store_bytes=7, stack_frame_bytes=8, seen_in_trial=8), row("Triton"))  # fmt: skip
    assert list(rc.trial_differs(rows).index) == [2, 3]


def test_amds_rows_are_of_one_chip_and_head_dim_and_name_the_releases_that_spill():
    def amd(triton: str, tile: str, scratch: int | None, arch: str = "gfx950", head_dim: int = 576) -> dict:
        return {"arch": arch, "head_dim": head_dim, "tile": tile, "engines_tile": True, "triton": triton,
                "status": "ok", "vgprs": 256, "scratch_bytes": scratch}  # fmt: skip

    shown = rc.amd_table(table(amd("3.6.0", "64x64", 16), amd("3.5.1", "64x64", 12), amd("3.7.1", "64x64", 0),
                               amd("3.5.1", "64x32", None), amd("3.6.0", "64x64", 99, arch="gfx942"),
                               amd("3.6.0", "64x64", 98, head_dim=512)))  # fmt: skip
    assert list(shown["scratch, B"].fillna(-1)) == [-1, 12, 16, 0]
    assert rc.scratch_of(shown, "3.6.0", "64x64") == 16
    assert rc.releases_that_spill(shown, "64x64") == "3.5.1 and 3.6.0"
    assert rc.releases_that_spill(shown[shown["Triton"] != "3.5.1"], "64x64") == "3.6.0"
    assert rc.releases_that_spill(shown[shown["Triton"] == "3.7.1"], "64x64") == "none"
    with pytest.raises(rc.UserError, match=r"0 rows of Triton 9\.9\.9 with the tile 64x64"):
        rc.scratch_of(shown, "9.9.9", "64x64")


def test_the_bound_is_compared_with_the_same_product_without_it():
    def product(kernel: str, **changes: object) -> dict:
        return row("CuTe DSL", kernel=kernel, tile="128x256", num_warps=4, demand=329, demand_line="x.py:3", **changes)

    bounded = "matrix product, at least one CTA an SM"
    rows = table(
        product(bounded, regs_per_thread=255), product("matrix product", regs_per_thread=32),
        product("matrix product", regs_per_thread=1, arch="sm_100a"),
        product("matrix product", regs_per_thread=2) | {"num_warps": 8},
        product("matrix product", regs_per_thread=3) | {"front_end": "CUDA C++"}, row(num_warps=4),
    )  # fmt: skip
    without, with_bound = rc.bound_findings(rows)
    assert (without["registers"], with_bound["registers"], with_bound["kernel"]) == (32, 255, bounded)
    assert list(rc.product_rows(rows)["registers"]) == [3, 1, 32, 255, 2]

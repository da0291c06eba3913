"""The tile tables hold every cell as reported; the chooser reads the right row, before and after the fix."""

import pytest

from helpers.attention.tiles import TILE_ROWS, TileConfig, choose_tile, head_dim_blocks, parse_tile, tile_row
from helpers.errors import UserError
from helpers.hardware import ARCHS

# Written out, not computed: (capability, chooser) -> tiles for head dims 128, 256 and 512.
TABLE = {
    (120, "after_fix"): ("64x128", "64x64", "32x32"),
    (121, "before_fix"): ("64x128", "64x64", "32x32"),
    (100, "after_fix"): ("64x64", "64x64", "16x64"),
    (103, "after_fix"): ("64x64", "64x64", "16x64"),
    (100, "before_fix"): ("128x64", "128x64", "32x64"),
    (100, "release_0_5_15"): ("64x64", "64x64", "16x64"),
    (90, "before_fix"): ("128x64", "128x64", "32x64"),
    (90, "after_fix"): ("128x64", "128x64", "32x64"),
    (90, "release_0_5_15"): ("128x64", "64x64", "32x64"),
    (80, "after_fix"): ("128x128", "64x64", "32x64"),
    (86, "after_fix"): ("64x128", "64x64", "32x32"),
    (89, "after_fix"): ("64x128", "64x64", "32x32"),
    (75, "after_fix"): ("64x64", "32x32", "32x32"),
}


@pytest.mark.parametrize(("where", "tiles"), TABLE.items(), ids=[f"{c} {how}" for c, how in TABLE])
def test_every_cell(where, tiles):
    capability, chooser = where
    assert tuple(str(choose_tile(capability, d, chooser=chooser)) for d in (128, 256, 512)) == tiles


def test_the_incident_is_the_missing_branch():
    assert tile_row(100, "before_fix") is TILE_ROWS["hopper_catch_all"]
    assert tile_row(100, "after_fix") is TILE_ROWS["sm100_branch"]


@pytest.mark.parametrize(("head_dim", "warps"), [(16, 4), (64, 4), (80, 8), (128, 8), (512, 8)])
def test_warps_and_stages_are_the_launcher_s(head_dim, warps):
    tile = choose_tile(100, head_dim)
    assert (tile.num_warps, tile.num_stages) == (warps, 1)


@pytest.mark.parametrize("capability", [0, 69, 130, 1000, -100])
def test_capabilities_outside_the_tables(capability):
    with pytest.raises(UserError, match=r"cover 7\.0 to 12\.x"):
        tile_row(capability)


def test_unknown_chooser():
    with pytest.raises(UserError, match="choose one of before_fix"):
        tile_row(100, "yesterday")


@pytest.mark.parametrize(
    ("word", "tile"),
    [
        ("128x64", "128x64"),
        (" 16X32 ", "16x32"),
        ("hopper", "128x64"),
        ("sm100", "64x64"),
        ("auto", "64x64"),
        ("HOPPER_0_5_15", "64x64"),
        ("ampere_a100", "64x64"),
    ],
)
def test_tiles_in_words(word, tile):
    assert str(parse_tile(word, capability=100, head_dim=256)) == tile


@pytest.mark.parametrize(
    "word",
    [
        "",
        "x",
        "128",
        "128x",
        "x64",
        "128x64x2",
        "100x64",
        "0x0",
        "8x8",
        "512x64",
        "1e9x1",
        "-64x64",
        "128\u00d764",
        "²x64",
        "64.0x64",
        "999999999999999999x64",
        "a" * 10_000,
        "nonsense",
    ],
)
def test_tiles_that_are_none(word):
    with pytest.raises(UserError) as refusal:
        parse_tile(word, capability=100, head_dim=256)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"num_warps": 0},
        {"num_warps": 3},
        {"num_warps": 64},
        {"num_stages": 0},
        {"num_stages": 9},
        {"block_m": 48},
        {"block_n": 8},
    ],
)
def test_impossible_configurations(fields):
    with pytest.raises(UserError, match="must be"):
        TileConfig(**{"block_m": 64, "block_n": 64, **fields})


@pytest.mark.parametrize(
    ("head_dim", "blocks"),
    [
        (576, (512, 64)),
        (288, (256, 32)),
        (192, (128, 64)),
        (16, (16, 0)),
        (80, (128, 0)),
        (96, (128, 0)),
        (256, (256, 0)),
    ],
)
def test_head_dims_split_or_round_up(head_dim, blocks):
    assert head_dim_blocks(head_dim) == blocks
    assert sum(blocks) >= head_dim


def test_every_arch_has_a_row_for_every_chooser():
    for arch in ARCHS.values():
        for chooser in ("before_fix", "after_fix", "release_0_5_15"):
            assert choose_tile(arch.capability, 576, chooser=chooser).block_m >= 16

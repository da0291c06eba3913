"""Choice and product: words to requests and back to a command line that means the same."""

import shlex

import pytest

from helpers.attention.choice import MAX_MATRIX, Choice, product
from helpers.attention.shapes import GEMMA4_31B_SLIDING
from helpers.attention.spec import build_spec
from helpers.attention.studies.incident import (
    INCIDENT_CHOICE,
    gemma4_choices,
    inside_ptxas_choices,
    tile_chooser_choices,
)
from helpers.attention.tiles import TileConfig
from helpers.commands.line.cli import cli
from helpers.commands.line.common import choices_of
from helpers.errors import UserError


def test_the_default_is_the_incident():
    request = Choice().request()
    from dataclasses import replace

    assert request.spec == build_spec(replace(GEMMA4_31B_SLIDING, kv_dtype="fp8_e4m3"), TileConfig(128, 64))
    assert (request.arch, request.toolchain.triton, request.toolchain.ptxas) == (
        "sm_100a",
        "3.5.1",
        "bundled",
    )
    assert INCIDENT_CHOICE == Choice()


def test_numbers_of_warps_and_stages_override_the_table_s():
    spec = Choice(num_warps=4, num_stages=3).request().spec
    assert spec.option == {"num_warps": 4, "num_stages": 3}


def parse(command):
    """The Choice that the command line in `command` makes."""
    words = shlex.split(command)
    assert words[:2] == ["register-cliff", "compile"]
    context = cli.get_command(None, "compile").make_context("compile", words[2:])
    context.params.pop("as_json")
    (choice,) = choices_of(context.params)
    return choice


@pytest.mark.parametrize(
    "choice",
    [
        Choice(),
        Choice(window=None, tile="64x64", arch="sm_90a"),
        Choice(mask=True, sinks=True, causal=False, logit_cap=30.0, q_dtype="fp16"),
        Choice(ptxas="13.1.80", ptxas_for_codegen=True, ptxas_flags=("-O1", "--maxrregcount=128")),
        Choice(num_warps=4, num_stages=2, maxnreg=128, num_q_heads=64, num_kv_heads=8, timeout_s=10.0),
        Choice(head_dim=576, v_head_dim=512, tile_skip="bounds", accumulate="fused", triton="environment"),
    ],
)
def test_the_command_means_the_same_choice(choice):
    assert parse(choice.command()) == choice


def test_product_varies_the_last_axis_fastest():
    choices = product({"head_dim": [64, 128], "tile": ["64x64", "16x64"]}, Choice(window=None))
    assert [(c.head_dim, c.tile) for c in choices] == [
        (64, "64x64"),
        (64, "16x64"),
        (128, "64x64"),
        (128, "16x64"),
    ]
    assert {c.window for c in choices} == {None}


def test_a_product_that_is_too_large_is_refused_before_it_is_made():
    axes = {name: list(range(10_000)) for name in ("head_dim", "num_warps", "num_stages", "window", "maxnreg")}
    with pytest.raises(UserError, match=f"at most {MAX_MATRIX}"):
        product(axes)


@pytest.mark.parametrize(
    "fields",
    [
        {"arch": "sm_1"},
        {"tile": "100x64"},
        {"maxnreg": 8},
        {"maxnreg": 256},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"timeout_s": 1e9},
        {"triton": "newest"},
        {"ptxas": "../x"},
        {"ptxas_for_codegen": True},
        {"num_warps": 3},
        {"num_stages": 99},
        {"tile_skip": "no"},
        {"head_dim": 77},
        {"window": 0},
        {"kv_dtype": "int4"},
    ],
)
def test_what_cannot_be_is_refused(fields):
    with pytest.raises(UserError):
        Choice(**fields).request()


def test_the_notebooks_configurations_can_all_be_asked_for():
    for choices in (
        gemma4_choices(tile="hopper"),
        gemma4_choices(tile="sm100"),
        inside_ptxas_choices(),
        tile_chooser_choices(),
    ):
        requests = [c.request() for c in choices]
        assert len({(r.spec.content_key(), r.arch) for r in requests}) == len(requests)

"""The tile audit: what is in it, what a row says, how a spill-free tile is searched for."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from helpers.attention.spec import INCIDENT
from helpers.attention.studies.tile_audit import (
    AUDIT_HEAD_DIMS,
    CANDIDATE_TILES,
    EVERYWHERE,
    audit_cell,
    audit_kv_dtypes,
    audit_requests,
    audit_row,
    audit_tables,
    audit_toolchain,
    cliffs,
    spill_free_tile,
    table_tiles,
)
from helpers.attention.tiles import TILE_ROWS, choose_tile
from helpers.errors import UserError
from helpers.hardware import ARCHS, get_arch
from helpers.recorded import rows_of

ROOT = Path(__file__).resolve().parents[2]


# --- what is in it ------------------------------------------------------------------------------------------------


def test_every_arch_head_dim_dtype_and_option_is_there_under_every_table_that_a_chooser_uses():
    cells = {(c.choice.arch, c.table, c.choice.head_dim, c.choice.kv_dtype, c.option) for c in audit_requests()}
    for arch in ARCHS:
        for table, chosen_by in audit_tables(arch).items():
            for head_dim, _ in AUDIT_HEAD_DIMS:
                for kv_dtype in audit_kv_dtypes(arch):
                    for option in EVERYWHERE:
                        assert (arch, table, head_dim, kv_dtype, option) in cells
            for chooser in chosen_by:
                tile = choose_tile(get_arch(arch).capability, 256, chooser=chooser)
                assert TILE_ROWS[table].tile(256) == (tile.block_m, tile.block_n)


def test_the_tables_are_those_the_issue_asks_for():
    assert list(audit_tables("sm_90a")) == ["hopper_catch_all", "hopper_0_5_15"]
    for arch in ("sm_100a", "sm_103a"):
        assert list(audit_tables(arch)) == ["hopper_catch_all", "sm100_branch"]
    assert list(audit_tables("sm_121a")) == ["blackwell_consumer"]
    assert audit_tables("sm_120a")["blackwell_consumer"] and audit_tables("sm_120a")["sm100_branch"] == ()


def test_no_cell_is_there_twice_and_the_compiles_stay_within_bounds():
    cells = audit_requests()
    assert max(Counter((c.table, c.choice) for c in cells).values()) == 1
    assert 400 <= len({c.choice for c in cells}) <= 600


def test_a_cell_is_the_spec_of_the_incident_kernel_with_the_engines_value_dims():
    by_dim = {c.choice.head_dim: c.request().spec for c in audit_requests(archs=["sm_100a"])}
    assert {d: dict(s.constexprs)["V_HEAD_DIM"] for d, s in by_dim.items()} == dict(AUDIT_HEAD_DIMS)
    for spec in by_dim.values():
        assert {k: dict(spec.constexprs)[k.upper()] for k in vars(INCIDENT)} == vars(INCIDENT)
    assert dict(by_dim[64].options)["num_warps"] == 4 and dict(by_dim[256].options)["num_warps"] == 8


def test_filters_narrow_and_what_is_unknown_is_a_sentence():
    cells = audit_requests(archs=["100"], head_dims=[256], kv_dtypes=["fp8_e4m3"], options=["window"])
    assert [(c.table, c.choice.tile) for c in cells] == [("hopper_catch_all", "128x64"), ("sm100_branch", "64x64")]
    with pytest.raises(UserError, match="not audited: 77"):
        audit_requests(head_dims=[77])
    with pytest.raises(UserError, match="not audited: sinks"):
        audit_requests(options=["sinks"])
    with pytest.raises(UserError, match="nothing to audit"):
        audit_requests(archs=["sm_80"], kv_dtypes=["fp8_e4m3"])


def test_archs_younger_than_the_bundled_ptxas_get_a_younger_ptxas():
    assert audit_toolchain("sm_103a", "3.5.1").ptxas == "12.9.86"
    assert audit_toolchain("sm_103a", "3.5.1").ptxas_for_codegen
    assert audit_toolchain("sm_103a", "3.6.0").ptxas == audit_toolchain("sm_100a", "3.5.1").ptxas == "bundled"


# --- rows ---------------------------------------------------------------------------------------------------------


def test_a_row_of_a_real_compile_has_verdict_demand_and_provenance():
    cell = audit_cell(arch="sm_100a", head_dim=64, kv_dtype="bf16", option="none", tile=(16, 32), triton="environment")
    row = audit_row(pickle.loads(pickle.dumps(cell)))
    assert row["status"] == "ok" and 32 <= row["regs_per_thread"] <= 255 and row["spill_store_bytes"] == 0
    assert abs(row["estimate"] / row["regs_per_thread"] - 1) < 0.5 and row["demand"] > 20
    assert row["tensor_core_path"] == "mma.sync" and row["ptx_lines"] > 500
    assert row["date_utc"].endswith("Z") and row["command"].startswith("register-cliff compile --arch sm_100a")
    assert str(ROOT) not in str(row) and str(Path.home()) not in str(row)


def test_a_row_of_a_toolchain_that_is_not_there_says_so():
    row = audit_row(
        audit_cell(arch="sm_100a", head_dim=64, kv_dtype="bf16", option="none", tile=(16, 32), triton="3.0.0")
    )
    assert row["status"] == "toolchain_missing" and row["demand"] is None and "install" in row["message"]


# --- the search ---------------------------------------------------------------------------------------------------


def verdicts(limit: int, bad_option: str | None = None):
    """A stand-in for compiles: tiles larger than `limit` elements spill, under `bad_option` above half of it."""

    def run(cell):
        m, n = map(int, cell.choice.tile.split("x"))
        allowed = limit // 2 if cell.option == bad_option else limit
        status = "ok" if m * n <= allowed else "spills"
        return {"status": status, "option": cell.option, "tile": cell.choice.tile}

    return run


def test_candidates_run_from_large_to_small_more_rows_first():
    sizes = [m * n for m, n in CANDIDATE_TILES]
    assert sizes == sorted(sizes, reverse=True) and len(set(CANDIDATE_TILES)) == len(CANDIDATE_TILES) == 12
    assert CANDIDATE_TILES.index((128, 32)) < CANDIDATE_TILES.index((64, 64)) < CANDIDATE_TILES.index((32, 128))


def test_the_largest_tile_without_spills_wins_and_nothing_beyond_the_tables_is_tried():
    found = spill_free_tile(arch="sm_100a", head_dim=256, kv_dtype="bf16", run=verdicts(4096))
    assert found.tile == (128, 32)
    assert found.rows[0]["tile"] == "128x64" and "128x128" not in {r["tile"] for r in found.rows}
    # The first option that spills ends a tile's trial.
    assert [r["option"] for r in found.rows if r["tile"] == "128x64"] == ["window"]


def test_every_option_must_be_spill_free():
    found = spill_free_tile(arch="sm_100a", head_dim=256, kv_dtype="bf16", run=verdicts(4096, "mask"))
    assert found.tile == (64, 32)


def test_no_candidate_is_an_answer():
    found = spill_free_tile(arch="sm_120a", head_dim=512, kv_dtype="bf16", run=verdicts(0))
    assert found.tile is None and {r["tile"] for r in found.rows} == {"32x32", "16x64", "16x32"}
    assert table_tiles("sm_120a", 512) == [(32, 32)]


def test_cliffs_are_groups_in_which_a_chosen_tile_is_not_spill_free():
    base = {"arch": "sm_100a", "head_dim": "256", "kv_dtype": "bf16", "option": "none", "chosen_by": "before_fix"}
    rows = [
        {**base, "status": "ok"},
        {**base, "head_dim": "512", "status": "spills"},
        {**base, "head_dim": "512", "status": "register_exhausted", "option": "mask"},
        {**base, "head_dim": "128", "status": "spills", "chosen_by": ""},  # a what-if
        {**base, "head_dim": "64", "status": "spills", "option": "cap"},  # not on every head dim
        {**base, "head_dim": "96", "status": "spills", "kv_dtype": "fp8_e5m2"},  # not audited everywhere
    ]
    assert cliffs(rows) == [("sm_100a", 512, "bf16")]


# --- the script ---------------------------------------------------------------------------------------------------


def record(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "record_audit.py"), *words],
        capture_output=True, text=True, timeout=240, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.slow
def test_the_script_records_goes_on_where_it_stopped_and_keeps_what_is_there(tmp_path):
    out = tmp_path / "rows.csv"
    words = ["--out", str(out), "--triton", "environment", "--archs", "sm_121a", "--head-dims", "64"]
    first = record(*words, "--phase", "cells", "--limit", "0")
    assert first.returncode == 1 and rows_of(out) == [] and "run it again" in first.stdout, first.stderr
    done = record(*words, "--phase", "cells", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    rows = rows_of(out)
    assert len(rows) == 6 and {r["status"] for r in rows} <= {"ok", "spills"}
    assert str(tmp_path) not in out.read_text()
    # A row with another verdict than a compile would give: it is kept, so it was not compiled again.
    out.write_text(out.read_text().replace(",ok,", ",trapped,", 1))
    kept = rows_of(out)
    again = record(*words, "--phase", "cells", "--jobs", "1")
    assert again.returncode == 0 and [r["status"] for r in rows_of(out)] == [r["status"] for r in kept]


def test_the_script_says_in_one_line_what_it_cannot_do(tmp_path):
    for words, told in (
        (["--triton", "9.9.9"], "Triton 9.9.9 is not installed"),
        (["--archs", "sm_70"], "sm_70 (Volta) is known"),
        (["--head-dims", "x"], "cannot read head dims"),
        (["--merge", str(tmp_path / "none.csv")], "--merge wants a CSV"),
    ):
        done = record("--out", str(tmp_path / "rows.csv"), *words)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and told in done.stderr
        assert done.stderr.count("\n") == 1
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    assert "holds no audit rows" in record("--out", str(other)).stderr
    assert other.read_text() == "a,b\n1,2\n"


def test_the_script_needs_nothing_but_triton(tmp_path):
    """Without site-packages, but for Triton itself: as on a bare machine."""
    site = Path(importlib.util.find_spec("triton").origin).parents[1]
    for name in ("triton", *(p.name for p in site.glob("triton-*.dist-info"))):
        (tmp_path / name).symlink_to(site / name)
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "benchmarks" / "record_audit.py"), "--out", str(tmp_path / "rows.csv"),
         "--triton", "environment", "--archs", "sm_100a", "--head-dims", "64", "--phase", "cells", "--limit", "0"],
        capture_output=True, text=True, timeout=120,
        env={k: v for k, v in os.environ.items() if k != "REGISTER_CLIFF_CACHE"} | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # no time was given
    assert "no platformdirs here" in done.stdout

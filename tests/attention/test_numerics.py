import itertools
import math
import runpy
from dataclasses import replace

import pytest
import torch

from helpers.attention.correctness.cases import (
    GPU_DIMS,
    INTERPRETER_DIMS,
    MATRIX_FACTORS,
    all_pairs,
    gpu_cases,
    interpreter_cases,
)
from helpers.attention.correctness.fp8_and_tiles import (
    FP8_VARIANTS,
    TILE_VARIANTS,
    fp8_rows,
    fp8_shapes,
    run_study,
    tile_rows,
    tile_shapes,
)
from helpers.attention.correctness.inputs import make_problem
from helpers.attention.correctness.numerics import (
    Errors,
    errors_against,
    judge,
    read_rows,
    resolve_backend,
    run_cases,
    summarise,
    tolerance,
    write_rows,
)
from helpers.attention.correctness.reference import attention_float64
from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import INCIDENT, LEAN
from helpers.attention.tiles import TileConfig
from helpers.errors import UserError
from helpers.files import ROOT

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
CASES = interpreter_cases()


# --- the matrix
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "factors", [{"dims": INTERPRETER_DIMS, **MATRIX_FACTORS}, {"dims": GPU_DIMS, **MATRIX_FACTORS}]
)
def test_every_pair_of_options_meets(factors):
    settings = all_pairs(factors)
    met = {frozenset(pair) for s in settings for pair in itertools.combinations(s.items(), 2)}
    wanted = {
        frozenset(((a, x), (b, y)))
        for a, b in itertools.combinations(factors, 2)
        for x in factors[a]
        for y in factors[b]
    }
    assert wanted <= met
    assert len(settings) < 60
    assert settings == all_pairs(factors)


def test_all_pairs_of_three_switches_takes_few_rows():
    switches = {name: (False, True) for name in "abc"}
    assert 4 <= len(all_pairs(switches)) <= 5


def test_both_matrices_hold_both_tables_and_both_ingredient_sets():
    for cases in (CASES, gpu_cases()):
        assert {(c.tile_table, c.ingredients) for c in cases} == set(
            itertools.product(("hopper", "sm100"), (INCIDENT, LEAN))
        )
        assert {c.shape.kv_dtype for c in cases} == {"bf16", "fp16", "fp8_e4m3", "fp8_e5m2"}
    assert {256, 512, 576} <= {c.shape.head_dim for c in gpu_cases()}
    assert TileConfig(128, 64) in {c.tile for c in CASES}, "a few real tiles are interpreted as well"


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{i}-hd{c.shape.head_dim}-{c.shape.kv_dtype}-{c.tile}" for i, c in enumerate(CASES)]
)
def test_matrix_in_the_interpreter(interpreter, case):
    (row,) = run_cases([case], "interpreter", processes=interpreter)
    assert row.status == "ok", row
    assert 0 < row.max_abs <= row.max_abs_tolerance and 0 < row.row_rel <= row.row_rel_tolerance
    assert row.backend == "interpreter" and row.time_utc and row.triton_version


@pytest.mark.gpu
@NEEDS_GPU
def test_matrix_on_the_gpu():
    rows = run_cases(gpu_cases(), "cuda")
    assert [row for row in rows if not row.ok] == []
    assert summarise(rows) == {"total": len(gpu_cases()), "ok": len(gpu_cases())}


# --- the verdict
# ----------------------------------------------------------------------------------------------

ANSWER = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[0.0, 0.01]]], dtype=torch.float64)
ALLOWED = Errors(max_abs=0.1, row_rel=0.1, rel=0.1)


def changed(*index, by):
    result = ANSWER.clone()
    result[index] += by
    return result


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (ANSWER, "ok"),
        (changed(0, 0, 0, by=0.05), "ok"),
        (changed(0, 0, 0, by=0.2), "too_large"),
        (changed(2, 0, 1, by=0.005), "too_large"),
        (changed(1, 0, 1, by=1e-9), "too_large"),
        (changed(0, 0, 1, by=math.nan), "nan"),
        (changed(1, 0, 0, by=math.nan), "nan"),
        (changed(0, 0, 1, by=math.inf), "too_large"),
        (torch.full_like(ANSWER, math.nan), "nan"),
    ],
)
def test_verdict(result, status):
    assert judge(errors_against(result, ANSWER), ALLOWED) == status


def test_nan_passes_nowhere_and_a_broken_fence_is_told():
    assert judge(Errors(math.nan, 0, 0), Errors(math.inf, math.inf, math.inf)) == "nan"
    assert judge(Errors(0, 0, 0), Errors(math.nan, 1, 1)) == "nan"
    assert judge(Errors(0, 0, 0), ALLOWED, fenced=False) == "wrote_outside"


def test_infinite_error_with_infinite_tolerance_is_no_pass():
    assert judge(Errors(math.inf, math.inf, math.inf), ALLOWED) == "too_large"


def test_tolerance_follows_what_is_rounded():
    shape = AttentionShape(num_q_heads=2, num_kv_heads=1, head_dim=64, kv_dtype="fp8_e4m3").with_lengths(64, 16)
    problem = make_problem(shape)
    answer = attention_float64(problem)
    incident, lean = tolerance(problem, answer, INCIDENT), tolerance(problem, answer, LEAN)
    assert incident.row_rel > 4 * lean.row_rel
    sixteen = make_problem(replace(shape, kv_dtype="bf16"))
    assert tolerance(sixteen, attention_float64(sixteen), INCIDENT).row_rel < 0.02
    assert lean.row_rel >= 2 * 2.0**-8


# --- rows
# -----------------------------------------------------------------------------------------------------


def test_a_case_that_fails_is_a_row_and_the_rest_goes_on(interpreter, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no kernel here')\n")
    rows = run_cases(CASES[2:4], "interpreter", processes=interpreter, kernel_path=str(broken))
    assert [row.status for row in rows] == ["failed", "failed"]
    assert "no kernel here" in rows[0].message and rows[0].head_dim == CASES[2].shape.head_dim
    assert summarise(rows) == {"total": 2, "failed": 2}
    seen = []
    rows = run_cases(CASES[2:3], "interpreter", processes=interpreter, progress=lambda *step: seen.append(step))
    assert seen == [(1, 1, rows[0])] and rows[0].ok


def test_a_kernel_that_kills_its_process_is_a_row(interpreter, tmp_path):
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import os\nos._exit(9)\n")
    (row,) = run_cases(CASES[:1], "interpreter", processes=interpreter, kernel_path=str(deadly))
    assert (row.status, row.seed, row.backend) == ("failed", CASES[0].seed, "interpreter")
    assert "ended with code 9" in row.message
    (row,) = run_cases(CASES[:1], "interpreter", processes=interpreter)
    assert row.ok


def test_rows_survive_a_csv_file(interpreter, tmp_path):
    rows = run_cases(CASES[4:5], "interpreter", processes=interpreter, command='a "quoted", command')
    failed = replace(rows[0], status="failed", max_abs=None, model_window=None, message="two\nlines")
    write_rows(tmp_path / "rows.csv", rows)
    write_rows(tmp_path / "rows.csv", [failed], append=True)
    assert read_rows(tmp_path / "rows.csv") == [*rows, failed]
    with pytest.raises(UserError, match=r"record_numerics\.py"):
        read_rows(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other columns"):
        read_rows(tmp_path / "other.csv")


def test_the_recording_script_writes_rows_and_counts(tmp_path, capsys):
    script = runpy.run_path(str(ROOT / "benchmarks" / "record_numerics.py"))
    out = tmp_path / "new folder" / "rows.csv"
    arguments = ["--out", str(out), "--backend", "interpreter", "--parts", "fp8", "--workers", "2"]
    assert script["main"](arguments) == 0
    rows = read_rows(out)
    assert len(rows) == len(FP8_VARIANTS) * len(fp8_shapes("small"))
    assert all(row.ok and row.command.startswith("python benchmarks/record_numerics.py --out") for row in rows)
    assert "fp8: 10 total, 10 ok" in capsys.readouterr().out
    assert script["main"](["--out", str(out), "--parts", "everything"]) == 2
    assert "unknown part everything" in capsys.readouterr().err
    assert len(read_rows(out)) == len(rows), "bad input must not empty the file"


def test_backends_are_named():
    with pytest.raises(UserError, match="choose one of auto, cuda, interpreter"):
        resolve_backend("tpu")
    assert resolve_backend("interpreter") == "interpreter"
    if not torch.cuda.is_available():
        assert resolve_backend("auto") == "interpreter"
        with pytest.raises(UserError, match="no CUDA device"):
            resolve_backend("cuda")


# --- studies
# --------------------------------------------------------------------------------------------------


def test_fp8_study_separates_its_sources(interpreter):
    rows = run_study(fp8_rows, fp8_shapes("small"), "interpreter", processes=interpreter)
    assert [row.variant for row in rows] == list(FP8_VARIANTS) * len(fp8_shapes("small"))
    assert all(row.ok for row in rows)
    for start in range(0, len(rows), len(FP8_VARIANTS)):
        rel = {row.variant: row.rel for row in rows[start : start + len(FP8_VARIANTS)]}
        both = math.hypot(rel["q cast alone"], rel["p cast alone"])
        assert rel["kernel, as_stored"] == pytest.approx(both, rel=0.25)
        assert 1e-2 < rel["kernel, as_stored"] < 5e-2
        assert rel["kernel, upcast"] < rel["kernel, as_stored"] / 8
        assert rel["cache rounding alone"] > rel["kernel, upcast"]


def test_tile_study(interpreter):
    rows = run_study(tile_rows, tile_shapes("small"), "interpreter", processes=interpreter)
    assert [row for row in rows if not row.ok] == []
    per_shape = 2 * len(TILE_VARIANTS) - 1 + 2
    assert len(rows) == per_shape * len(tile_shapes("small"))
    for row in rows:
        if row.variant in ("Hopper tile, again", "alone against in batch"):
            assert row.bitwise_equal_fraction == 1
    fp8 = {row.variant: row for row in rows if row.kv_dtype == "fp8_e4m3"}
    assert fp8["branch tile, incident against Hopper tile"].bitwise_equal_fraction > 0.99
    assert fp8["other BLOCK_N, incident against Hopper tile"].bitwise_equal_fraction < 0.99


def test_sizes_are_named():
    for shapes in (fp8_shapes, tile_shapes):
        assert shapes("small") and shapes("large")
        with pytest.raises(UserError, match="small or large"):
            shapes("medium")


@pytest.mark.gpu
@NEEDS_GPU
def test_upcast_is_an_order_better_on_the_gpu():
    rows = run_study(fp8_rows, [shape.with_lengths(1024, 256) for shape in fp8_shapes("large")], "cuda")
    assert [row for row in rows if not row.ok] == []
    for row in rows:
        if row.variant == "kernel, as_stored":
            assert 5e-3 < row.rel < 5e-2
        if row.variant == "kernel, upcast":
            assert row.rel < 4e-3

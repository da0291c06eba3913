"""The scaling table: recorded runs, and the arithmetic of a made-up pair."""

from __future__ import annotations

import pandas as pd
import pytest

import helpers as rc
from benchmarks.dask_scaling import scaling_table
from helpers.errors import UserError


def run(workers: int, wall_s: float, **more) -> dict:
    return {"workers": workers, "specs": 24, "wall_s": wall_s, "load_before": 1.0, "cores": 2} | more


def test_each_run_is_compared_with_the_one_worker_run_before_it():
    table = scaling_table(pd.DataFrame([run(1, 10.0), run(2, 5.0), run(1, 30.0, load_before=9.0), run(2, 20.0)]))
    two = table[table["workers"] == 2].iloc[0]
    assert two[["runs", "speedup", "lowest", "highest"]].tolist() == [2, 1.75, 1.5, 2.0]
    assert table["load"].tolist() == [9.0, 1.0]


def test_other_matrices_are_not_compared_and_without_one_worker_there_is_no_answer():
    table = scaling_table(pd.DataFrame([run(1, 10.0), run(2, 5.0, specs=3)]))
    assert table["speedup"].isna().tolist() == [False, True]
    with pytest.raises(UserError, match="no run of one worker"):
        scaling_table(pd.DataFrame([run(2, 5.0)]))


def test_recorded_runs_show_one_worker_and_two():
    rows = rc.read_rows("dask_scaling")
    assert "dask_scaling.py" in rc.provenance(rows) and rows["date_utc"].notna().all()
    table = scaling_table(rows).set_index("workers")
    assert table.loc[1, "speedup"] == 1.0 and table.loc[2, "speedup"] > 1.2

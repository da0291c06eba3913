"""How a compile matrix scales over the workers of a Dask cluster, from the rows of data/dask_scaling.csv."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def scaling_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a number of workers: runs, median seconds for the matrix, and how many times faster than one worker.

    `speedup` compares each run with the one-worker run just before it, on the machine as busy as it then was (`load`,
    the highest before any of the runs), and takes the median. Raises UserError without a one-worker run.
    """
    import pandas as pd

    alone, faster = None, []
    for row in table.to_dict("records"):
        if row["workers"] == 1:
            alone = row
        faster.append(alone["wall_s"] / row["wall_s"] if alone and alone["specs"] == row["specs"] else None)
    if alone is None:
        raise UserError("these rows hold no run of one worker to compare with: python benchmarks/dask_scaling.py")
    runs = table.assign(speedup=faster).groupby("workers")
    return pd.DataFrame(
        {
            "runs": runs.size(),
            "specs": runs["specs"].median(),
            "wall_s": runs["wall_s"].median(),
            "speedup": runs["speedup"].median(),
            "lowest": runs["speedup"].min(),
            "highest": runs["speedup"].max(),
            "load": runs["load_before"].max(),
            "cores": runs["cores"].max(),
        }
    ).reset_index()

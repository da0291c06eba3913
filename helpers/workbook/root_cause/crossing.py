"""Who decides, stage by stage: the recorded crossing of five releases (data/crossing.csv) as grids and as findings.

A row of the file is one way through the compiler: a text made by one release of Triton, and all steps after it done by
another. `step` is the first step of the other one: `llir` (Triton's passes on a TTGIR), `ptx` (LLVM on an LLIR) or
`cubin` (ptxas on a PTX).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED, NO_VERDICT
from helpers.errors import UserError
from helpers.show.verdicts import NOT_ASKED, Cell, Grid, cell_of, grid_figure, grid_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TEXT_OF = {"llir": "TTGIR", "ptx": "LLIR", "cubin": "PTX"}
DOER_OF = {"llir": "passes, LLVM and ptxas", "ptx": "LLVM and ptxas", "cubin": "ptxas"}
UNREADABLE = "cannot_read"


def crossing_grid(rows: pd.DataFrame, step: str) -> Grid:
    """The grid of one step: who made the text (rows) by who went on from there (columns).

    A cell is bytes of spill stores, or how it failed; `*` marks a text that had to be adjusted so that the other
    release reads it. Raises UserError for a step that is not in the rows.
    """
    part = rows[rows["step"] == step]
    if part.empty:
        raise UserError(f"no row is of the step {step!r}; there are {', '.join(dict.fromkeys(rows['step']))}")
    found = {(r["text_by"], r["done_by"]): r for r in part.to_dict("records")}

    def at(by: str, to: str) -> Cell:
        row = found[by, to]
        if row["status"] == UNREADABLE:
            return Cell("cannot read", NOT_ASKED)
        return cell_of(row, mark="*" if isinstance(row["changed_first"], str) else "")

    return grid_of(
        list(dict.fromkeys(part["text_by"])), list(dict.fromkeys(part["done_by"])), at,
        row_title=f"Triton that made the {TEXT_OF[step]}",
        column_title=f"Triton whose {DOER_OF[step]} went on from it   (bytes of spill stores; * text adjusted first)",
    )  # fmt: skip


def plot_crossing(rows: pd.DataFrame, step: str, title: str) -> Figure:
    """The grid of one step as a figure."""
    return grid_figure(crossing_grid(rows, step), title, "incident spec, sm_100a, recorded, compile-time only")


def died(rows: pd.DataFrame, step: str, by: str, to: str) -> bool | None:
    """Whether this way through the compiler ended without a kernel for want of registers; None where it was not judged.

    Raises UserError for releases that were not crossed.
    """
    status = _way(rows, step, by, to)["status"]
    if status in NO_VERDICT or status == UNREADABLE:
        return None
    return status not in COMPILED


def _way(rows: pd.DataFrame, step: str, by: str, to: str) -> pd.Series:
    row = rows[(rows["step"] == step) & (rows["text_by"] == by) & (rows["done_by"] == to)]
    if row.empty:
        raise UserError(
            f"{by} to {to} was not crossed at {step!r}; there are {', '.join(dict.fromkeys(rows['done_by']))}"
        )
    return row.iloc[0]


def spilled(rows: pd.DataFrame, step: str, by: str, to: str) -> int:
    """Bytes of spill stores a thread at the end of this way; raises UserError where it gave no kernel."""
    if died(rows, step, by, to) is not False:
        raise UserError(f"the {TEXT_OF[step]} of {by}, gone on with by {to}, gave no kernel")
    return int(_way(rows, step, by, to)["spill_store_bytes"])


def decided_by_column(rows: pd.DataFrame, step: str, releases: tuple[str, ...]) -> bool:
    """Whether, among these releases, each column of a step's grid dies whole or not at all, and some of each there are.

    That is what a stage looks like which decides alone: whoever made the text, its own release says how it ends.
    """
    by_column = [{died(rows, step, by, to) for by in releases} - {None} for to in releases]
    return all(len(found) == 1 for found in by_column) and len(set.union(*by_column)) == 2


def decided_by_row(rows: pd.DataFrame, step: str, releases: tuple[str, ...]) -> bool:
    """Whether each row of a step's grid dies whole or not at all, and some of each there are: the text decides."""
    by_row = [{died(rows, step, by, to) for to in releases} - {None} for by in releases]
    return all(len(found) == 1 for found in by_row) and len(set.union(*by_row)) == 2

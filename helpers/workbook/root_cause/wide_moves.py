"""Does the width of a tensor-memory move decide between spilling and dying? The crash's PTX, edited and assembled.

Each edit changes only how wide `tcgen05.ld` and `tcgen05.st` are, or adds a directive; ptxas does the rest. The edits
go both ways: wide moves of the PTX that dies are split, narrow ones of a PTX that compiles are joined.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.compile import compile_matrix, usable_cores
from helpers.compiler.report import CompileReport, refuse_ill
from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import ToolchainMissing, resolve_ptxas
from helpers.errors import UserError
from helpers.hardware import CAP
from helpers.inspection.ptx.wide_moves import join_moves, split_moves, wide_moves
from helpers.recorded import read_rows
from helpers.show.style import claim, status_colour, use_house_style
from helpers.show.verdicts import words_in_cell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RECORDED = "tuple_experiment"
CRASH, OPTION = "the crash's", "with the launch option"
_REQNTID, _MAXNREG = ".reqntid", f".maxnreg {CAP}"
DIES, COMPILES = "dies", "compiles"
# No prediction: the theory says nothing of one wide load beside a narrow one.
OPEN = "open"


@dataclass(frozen=True)
class Edit:
    """One edit of a PTX: of which, what is done, and what is predicted if the width of *loads* decides; or `open`."""

    ptx: str
    words: str
    predicted: str
    apply: Callable[[str], str]


def _load(number: int) -> Callable[[str], str]:
    def apply(ptx: str) -> str:
        loads = [line for line, kind, width in wide_moves(ptx, 128) if kind == "ld"]
        return split_moves(ptx, kinds=("ld",), lines=loads[number : number + 1])

    return apply


def _with_directive(ptx: str) -> str:
    return "\n".join(f"{line}\n{_MAXNREG}" if line.startswith(_REQNTID) else line for line in ptx.split("\n"))


EDITS = (
    Edit(CRASH, "as Triton wrote it", DIES, lambda p: p),
    Edit(CRASH, f"{_MAXNREG} added", DIES, _with_directive),
    Edit(CRASH, "loads split, x128 to x64", COMPILES, lambda p: split_moves(p, kinds=("ld",))),
    Edit(CRASH, "stores split, x128 to x64", DIES, lambda p: split_moves(p, kinds=("st",))),
    Edit(CRASH, "only the first loop's load split", OPEN, _load(0)),
    Edit(CRASH, "only the second loop's load split", OPEN, _load(1)),
    Edit(OPTION, "as Triton wrote it", COMPILES, lambda p: p),
    Edit(OPTION, f"{_MAXNREG} taken out", COMPILES, lambda p: p.replace(_MAXNREG, "")),
    Edit(OPTION, "loads joined, x64 to x128", DIES, lambda p: join_moves(p, kinds=("ld",))),
    Edit(OPTION, "stores joined, x64 to x128", COMPILES, lambda p: join_moves(p, kinds=("st",))),
)


def choices_of_triton(triton: str) -> tuple[Choice, Choice]:
    """The incident, and the same with the launch option maxnreg=255, on one Triton."""
    crash = replace(INCIDENT_CHOICE, triton=triton)
    return crash, replace(crash, maxnreg=CAP)


def tuple_rows(triton: str, ptxas: str | None = None, edits: Sequence[Edit] = EDITS) -> list[dict]:
    """One row an edit, assembled by ptxas release `ptxas` (by default the one that Triton bundles).

    Raises ToolchainMissing when the Triton or that ptxas is not on this machine.
    """
    reports = compile_matrix([choice.request() for choice in choices_of_triton(triton)])
    refuse_ill(reports)
    if missing := next((r for r in reports if not r.ptx_path), None):
        raise ToolchainMissing(missing.message or f"Triton {triton} gave no PTX of {missing.label}")
    release = ptxas or str(reports[0].ptxas_version)
    program = resolve_ptxas(release).path
    texts = dict(zip((CRASH, OPTION), (_text(r) for r in reports), strict=True))

    def one(edit: Edit) -> dict:
        ptx = edit.apply(texts[edit.ptx])
        run = run_ptxas(program, ptx, gpu_name=reports[0].arch)
        widths = {k: max((w for _, kind, w in wide_moves(ptx, 1) if kind == k), default=0) for k in ("ld", "st")}
        died = DIES if run.ptxas_code == "C7600" else "fails in another way"
        return {
            "ptx": edit.ptx,
            "edit": edit.words,
            "widest_load": widths["ld"],
            "widest_store": widths["st"],
            "predicted": edit.predicted,
            "found": COMPILES if run.compiled else died,
            "spill_store_bytes": run.spill_store_bytes,
            "ptxas_code": run.ptxas_code,
            "triton": triton,
            "ptxas": release,
        }

    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(one, edits))


def _text(report: CompileReport) -> str:
    with open(report.ptx_path) as file:
        return file.read()


def tuple_experiment(triton: str = INCIDENT_CHOICE.triton) -> pd.DataFrame:
    """The experiment on one Triton with the ptxas it bundles: live, or the recorded rows where that is not installed.

    `attrs["evidence"]` says which. The columns are those of data/tuple_experiment.csv.
    """
    import pandas as pd

    try:
        table, evidence = pd.DataFrame(tuple_rows(triton)), "live, assembled on this machine (no GPU involved)"
    except ToolchainMissing:
        rows = read_rows(RECORDED)
        table = rows[(rows["triton"] == triton) & rows["bundled"]].drop(columns="bundled").reset_index(drop=True)
        evidence = f"recorded: {rows.attrs['provenance']}"
    table["spill_store_bytes"] = table["spill_store_bytes"].astype("Int64")
    table.attrs["evidence"] = evidence
    return table


def tuple_counts(rows: pd.DataFrame) -> pd.DataFrame:
    """The recorded experiment in one row an edit: over how many (Triton, ptxas) pairs it died and compiled."""
    found = rows.assign(died=rows["found"] == DIES, compiled=rows["found"] == COMPILES)
    grouped = found.groupby(["ptx", "edit", "predicted"], sort=False, as_index=False)
    table = grouped.agg(
        pairs=("found", "size"), dies=("died", "sum"), compiles=("compiled", "sum"),
        least_spilled=("spill_store_bytes", "min"), most_spilled=("spill_store_bytes", "max"),
    )  # fmt: skip
    for name in ("least_spilled", "most_spilled"):
        table[name] = table[name].astype("Int64")
    return table


def predictions_kept(table: pd.DataFrame) -> tuple[int, int]:
    """(predictions that came true, predictions made); edits for which none was made do not count."""
    made = table[table["predicted"] != OPEN]
    return int((made["found"] == made["predicted"]).sum()), len(made)


def spilled_after(table: pd.DataFrame, edit: str) -> int:
    """Bytes of spill stores of the PTX after this edit; raises UserError where that did not compile."""
    found = table.loc[(table["edit"] == edit) & table["spill_store_bytes"].notna(), "spill_store_bytes"]
    if found.empty:
        raise UserError(
            f"nothing compiled after the edit {edit!r}; there are {', '.join(dict.fromkeys(table['edit']))}"
        )
    return int(found.iloc[0])


def pairs_tried(table: pd.DataFrame) -> tuple[int, list[str]]:
    """(how many pairs of Triton and ptxas the rows are of, the Tritons)."""
    return table.groupby(["triton", "ptxas"]).ngroups, list(dict.fromkeys(table["triton"]))


def plot_tuple_experiment(table: pd.DataFrame, title: str, subtitle: str = "") -> Figure:
    """One row an edit: bytes of spill stores, or a cross beyond the end of the axis; beside it what was predicted."""
    import matplotlib.pyplot as plt

    use_house_style()
    fig, ax = plt.subplots(figsize=(8.5, 1.5 + 0.36 * len(table)))
    most = max(int(table["spill_store_bytes"].max(skipna=True) or 0), 1)
    for y, row in enumerate(table.to_dict("records")):
        died = row["found"] != COMPILES
        colour = status_colour("register_exhausted" if died else "spills")
        if died:
            words = words_in_cell({"status": "register_exhausted", **row})
            ax.text(1.04 * most, y, words, va="center", fontsize=9, fontweight="bold", color=colour)
        else:
            spilled = int(row["spill_store_bytes"])
            ax.barh(y, spilled, 0.62, color=colour, hatch="///", edgecolor="white")
            ax.text(spilled, y, f"  {spilled:,} B", va="center", fontsize=9)
        as_said = "as predicted" if row["found"] == row["predicted"] else f"predicted: {row['predicted']}"
        if row["predicted"] == OPEN:
            as_said = "not predicted"
        ax.text(1.42 * most, y, f"widest load x{row['widest_load']}: {as_said}", va="center", fontsize=8.5)
    ax.set_yticks(range(len(table)), [f"{r.ptx}: {r.edit}" for r in table.itertuples()], fontsize=8.5)
    ax.set_ylim(len(table) - 0.4, -0.7)
    ax.set_xlim(0, 2.35 * most)
    ax.set_xticks([t for t in range(0, most + 1, 500)])
    ax.spines["bottom"].set_bounds(0, most)
    ax.set_xlabel("bytes of spill stores per thread")
    first = table.iloc[0]
    words = subtitle or (
        f"PTX of Triton {first['triton']} for sm_100a, edited, ptxas {first['ptxas']}, compile-time\n"
        f"{table.attrs.get('evidence', '')[:110]}"
    )
    claim(ax, title, words)
    plt.close(fig)
    return fig

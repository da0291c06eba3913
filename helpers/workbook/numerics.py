"""Numerics as people read them: rows live or recorded, the error budget, where fp8's error comes from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.recorded import provenance, read_rows
from helpers.show.html import banner, cells_html, facts_html
from helpers.show.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    FAILED_MARK,
    LIMIT_COLOUR,
    OTHER_FAILURE_COLOUR,
    claim,
    status_colour,
    use_house_style,
)
from helpers.workbook.explorer.choices import ANY, MEANS, values_of
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop
from helpers.workbook.explorer.on_page import Answer, Bar, OnPage, Scale, knobs_of
from helpers.workbook.explorer.pictures import kept_drawing, rows_digest
from helpers.workbook.explorer.work import Work

if TYPE_CHECKING:
    import ipywidgets as w
    import pandas as pd
    from matplotlib.figure import Figure

    from helpers.attention.correctness.numerics import NumericsRow

_CASTS = {
    "cache rounding alone": "the fp8 cache itself\n(exact arithmetic on it)",
    "q cast alone": "casting q to fp8",
    "p cast alone": "casting p to fp8",
    "kernel, as_stored": "kernel, as_stored\n(both casts)",
    "kernel, upcast": "kernel, upcast\n(no cast)",
}


def numerics_table(rows: Iterable[NumericsRow]) -> pd.DataFrame:
    """Rows as a table, every field a column."""
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows])


def gpu_numerics() -> tuple[pd.DataFrame, str]:
    """(rows of the option matrix and both studies on a GPU, their source): live where there is a GPU, else recorded."""
    import torch

    if not torch.cuda.is_available():
        table = read_rows("numerics_h200")
        return table, provenance(table)
    from helpers.attention.correctness.cases import gpu_cases, lean_cases
    from helpers.attention.correctness.fp8_and_tiles import fp8_rows, fp8_shapes, run_study, tile_rows, tile_shapes
    from helpers.attention.correctness.numerics import run_cases
    from helpers.attention.correctness.processes import KernelProcesses

    with KernelProcesses(interpret=False) as processes:
        cases = gpu_cases()
        rows = run_cases([*cases, *lean_cases(cases)], "cuda", processes=processes)
        rows += run_study(fp8_rows, fp8_shapes("large"), "cuda", processes=processes)
        rows += run_study(tile_rows, tile_shapes("large"), "cuda", processes=processes)
    return numerics_table(rows), f"live on this machine's {rows[0].device}"


KERNELS = {"lean kernel": "lean kernel", "Hopper kernel": "Gluon kernel"}
"""The tile tables that are a kernel's own, and that kernel's name; every other table is the extend kernel's."""


TILE_NAMES = {"hopper": "hopper tile", "sm100": "merged row's tile"}
INGREDIENT_SETS = {"incident": "as in the incident", "lean": "with the lean kernel's ingredients"}


def kernel_names(rows: pd.DataFrame) -> pd.Series:
    """The kernel of each row of the option matrix, by name."""
    return rows["tile_table"].map(KERNELS).fillna("extend kernel")


def passed_by_kernel(table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """(cases that passed, cases) of the option matrix for each kernel."""
    matrix = table[table["study"] == "matrix"]
    passed = matrix["status"].eq("ok").groupby(kernel_names(matrix)).agg(["sum", "size"])
    return {name: (int(row["sum"]), int(row["size"])) for name, row in passed.iterrows()}


def worst_share(table: pd.DataFrame) -> float:
    """The largest share of its tolerance that any case's worst row uses; NaN where one has no number."""
    return float((table["row_rel"] / table["row_rel_tolerance"]).max(skipna=False))


def count_table(table: pd.DataFrame) -> pd.DataFrame:
    """How many cases of each kernel and tile ran, passed, and how near its tolerance the worst came."""
    matrix = table[table["study"] == "matrix"]
    used = (matrix["row_rel"] / matrix["row_rel_tolerance"]).rename("used")
    kernel = (
        matrix["tile_table"]
        .map(KERNELS)
        .fillna("extend kernel, " + matrix["ingredients"].map(INGREDIENT_SETS).fillna(matrix["ingredients"]))
    )
    tiles = matrix["tile_table"].map(TILE_NAMES).fillna("its own")
    found = matrix.assign(used=used, passed=matrix["status"] == "ok", kernel=kernel, tiles=tiles)
    counted = found.groupby(["kernel", "tiles"]).agg(
        cases=("passed", "size"), passed=("passed", "sum"), used=("used", "max")
    )
    return counted.rename(columns={"used": "largest share of its tolerance"}).reset_index()


KERNEL_MARKS = {"extend kernel": "o", "lean kernel": "^", "Gluon kernel": "D"}


def plot_error_budget(table: pd.DataFrame, title: str, source: str) -> Figure:
    """Each case's worst row error as a share of its derived tolerance, sorted; a failed case is a cross above the axis.

    The colour is the cache's, the shape the kernel's.
    """
    import matplotlib.pyplot as plt

    use_house_style()
    matrix = table[table["study"] == "matrix"]
    share = (matrix["row_rel"] / matrix["row_rel_tolerance"]).where(matrix["status"] == "ok")
    fp8, kernels = matrix["kv_dtype"].str.startswith("fp8"), kernel_names(matrix)
    order = share.fillna(9).argsort()
    fig, ax = plt.subplots(figsize=(8.5, 3.6))
    for position, i in enumerate(order):
        if share.iloc[i] != share.iloc[i]:
            ax.plot(
                position, 1.15, marker="x", color=status_colour("register_exhausted"), markersize=9, markeredgewidth=3
            )
            continue
        colour = BEFORE_COLOUR if fp8.iloc[i] else AFTER_COLOUR
        ax.plot(position, share.iloc[i], marker=KERNEL_MARKS[kernels.iloc[i]], color=colour, markersize=5)
    ax.axhline(1.0, color=LIMIT_COLOUR, linewidth=1.2)
    ax.text(0, 1.02, "tolerance", fontsize=9)
    for name, mark in KERNEL_MARKS.items():
        if name in set(kernels):
            ax.plot([], [], mark, color="#777777", label=name)
    for words, colour in (("fp8 cache", BEFORE_COLOUR), ("16-bit cache", AFTER_COLOUR)):
        ax.plot([], [], "s", color=colour, label=words, markersize=9)
    failed = matrix["status"].ne("ok").sum()
    if failed:
        ax.text(
            len(matrix) - failed - 1.5,
            1.15,
            f"{failed} failed",
            ha="right",
            va="center",
            fontsize=9,
            color=status_colour("register_exhausted"),
        )
    ax.legend(loc="center left", bbox_to_anchor=(0.0, 0.6), ncols=2)
    ax.set_ylim(0, 1.3)
    ax.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    ax.spines["left"].set_bounds(0, 1)
    ax.set_xlabel(f"{len(matrix)} cases, sorted")
    ax.set_ylabel("worst row's error / its tolerance")
    claim(ax, title, source)
    plt.close(fig)
    return fig


def fp8_table(table: pd.DataFrame) -> pd.DataFrame:
    """Relative error (Frobenius, against float64) of each source of fp8 error, one column a head dim."""
    study = table[table["study"] == "fp8"]
    wide = study.pivot_table(index="variant", columns="head_dim", values="rel", sort=False)
    return wide.rename(columns=lambda d: f"hd{d}").reindex(list(_CASTS))


def plot_fp8_sources(table: pd.DataFrame, title: str, source: str) -> Figure:
    """Where fp8's error comes from, on a log axis: the cache's own rounding, either cast alone, and the two kernels."""
    import matplotlib.pyplot as plt

    use_house_style()
    wide = fp8_table(table)
    fig, ax = plt.subplots(figsize=(8.5, 3.9))
    height = 0.8 / len(wide.columns)
    for n, (column, colour, hatch) in enumerate(
        zip(wide.columns, (AFTER_COLOUR, BEFORE_COLOUR), ("", "///"), strict=False)
    ):
        for y, value in enumerate(wide[column]):
            ax.barh(
                y + (n - 0.5) * height,
                value,
                height,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                label=column if y == 0 else None,
            )
            ax.text(value, y + (n - 0.5) * height, f"  {value:.1e}", va="center", fontsize=8.5)
    ax.set_xscale("log")
    ax.set_xlim(8e-4, wide.max().max() * 4)
    ax.set_yticks(range(len(wide)), [_CASTS[v] for v in wide.index], fontsize=9)
    ax.invert_yaxis()
    ax.set_xlabel("relative error against float64 (Frobenius norm)")
    ax.legend(loc="lower right")
    claim(ax, title, source)
    plt.close(fig)
    return fig


def tile_study_table(table: pd.DataFrame) -> pd.DataFrame:
    """What changes when the tile, the ingredients or the batch change: bit-equal share and relative difference."""
    study = table[(table["study"] == "tiles") & table["bitwise_equal_fraction"].notna()]
    columns = ["variant", "head_dim", "kv_dtype", "bitwise_equal_fraction", "rel", "max_abs"]
    study = study[columns].rename(columns={"rel": "relative_difference"}).reset_index(drop=True)
    # The recorded rows have the names of their time.
    names = study["variant"].str.replace("branch tile", "merged row's tile").str.replace("Hopper tile", "hopper tile")
    return study.assign(variant=names)


def tiles_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A `tile_study_table` for a reader: how many elements differ (*none* is none at all), and by how much."""
    differ = ["none" if share == 1 else f"{1 - share:.3%}" for share in table["bitwise_equal_fraction"]]
    names = {
        "variant": "what is compared",
        "head_dim": "head dim",
        "kv_dtype": "cache",
        "differ": "elements that differ",
        "relative_difference": "relative difference",
        "max_abs": "largest difference",
    }
    found = table.assign(differ=differ, variant=table["variant"].str.replace(" against ", ", against "))
    return found[list(names)].rename(columns=names).astype({"head dim": int})


def fp8_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A `fp8_table` for a reader: each source of error, what it is compared with, the error in percent."""
    wide = fp8_table(table)
    words = {name: _CASTS[name].replace("\n", " ") for name in wide.index}
    against = {
        name: "exact arithmetic on the numbers before rounding"
        if name == "cache rounding alone"
        else "exact arithmetic on the fp8 cache"
        for name in wide.index
    }
    import pandas as pd

    errors = {
        f"{column.replace('hd', 'head dim ')}, error in percent": (100 * wide[column]).round(2) for column in wide
    }
    found = pd.DataFrame({"source of error": words, "compared with": against, **errors})
    return found.reset_index(drop=True)


def equal_shares(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Of a `tile_study_table`: the shares of bit-equal elements by variant, one for each head dim and KV dtype."""
    shares = table.set_index(["variant", "head_dim", "kv_dtype"])["bitwise_equal_fraction"]
    return {variant: shares[variant] for variant in dict.fromkeys(table["variant"])}


def fp8_findings(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Errors by head dim: the kernel as stored, up-cast, what the squares of the casts alone predict, and the ratio."""
    errors = fp8_table(table)
    stored, upcast = errors.loc["kernel, as_stored"], errors.loc["kernel, upcast"]
    squares = (errors.loc["q cast alone"] ** 2 + errors.loc["p cast alone"] ** 2) ** 0.5
    return {"stored": stored, "upcast": upcast, "from squares": squares, "ratio": stored / upcast}


NUMERICS_FILTERS = {"tile_table": "tile table", "kv_dtype": "KV dtype", "head_dim": "head dim", "mask": "mask"}


OPTIONS = (("any", ANY), ("sliding window", "model_window"), ("logit cap", "logit_cap"), ("sinks", "sinks"))


def filter_numerics(table: pd.DataFrame, state: dict) -> pd.DataFrame:
    """The rows of the option matrix that match `state`; raises UserError where none does."""
    rows = table[table["study"] == "matrix"]
    for column in NUMERICS_FILTERS:
        if state.get(column, ANY) != ANY:
            rows = rows[rows[column] == state[column]]
    if (option := state.get("option", ANY)) != ANY:
        rows = rows[rows[option].notna() & (rows[option] != 0)]
    if rows.empty:
        raise UserError("no recorded case has all of these at once; set one of the controls to 'any'")
    return rows


def _numerics_view(table: pd.DataFrame, state: dict, _work: Work) -> View:
    rows = filter_numerics(table, state)
    status, said, facts = _numerics_told(rows.to_dict("records"))
    return View(
        verdict=banner(status, said) + facts_html(facts | {"evidence": provenance(table)}),
        title=said,
        command=RECORDS_THEM,
        drawing=kept_drawing(
            partial(plot_error_budget, rows, said, _device_words(rows.iloc[0])),
            figure="error budget",
            rows=rows_digest(rows),
        ),
        below=_numerics_table(rows.assign(share=rows["row_rel"] / rows["row_rel_tolerance"])),
        data=rows,
    )


RECORDS_THEM = "python benchmarks/record_numerics.py --out numerics.csv"
_BARS = 8


def _share(row: Mapping) -> float:
    return row["row_rel"] / row["row_rel_tolerance"]


def _numerics_told(rows: Sequence[Mapping]) -> tuple[str, str, dict[str, object]]:
    """(status, verdict, facts) of these cases."""
    passed = [row for row in rows if row["status"] == "ok"]
    failed = [row for row in rows if row["status"] != "ok"]
    said = f"{len(passed)} of {len(rows)} cases keep their error budget"
    facts: dict[str, object] = {
        "cases": len(rows),
        "passed": len(passed),
        "nearest to its tolerance": _case_words(max(passed, key=_share)) if passed else None,
        "failed": "; ".join(_case_words(row) for row in failed)[:600],
    }
    return "register_exhausted" if failed else "ok", said, facts


def _numerics_page(matrix: pd.DataFrame, controls: Mapping[str, w.Dropdown]) -> dict:
    """Every choice of recorded cases for a page without a kernel: the verdict, the cases nearest to tolerance."""
    chosen: dict[tuple, list[dict]] = {}
    for row in matrix.to_dict("records"):
        options = [value for _, value in OPTIONS if value == ANY or (row[value] == row[value] and row[value])]
        for setting in itertools.product(*((ANY, row[name]) for name in NUMERICS_FILTERS), options):
            chosen.setdefault(setting, []).append(row)
    also = {"evidence": provenance(matrix)}
    answers = {}
    for setting, rows in chosen.items():
        status, said, facts = _numerics_told(rows)
        # What failed has no share, and stands first.
        worst = sorted(rows, key=lambda row: (row["status"] == "ok", -_share(row)))[:_BARS]
        if len(rows) > _BARS:
            facts["the bars are"] = f"the {_BARS} cases nearest to their tolerance"
        answers[setting] = Answer(status, said, facts | also, bars=tuple(_bar(row) for row in worst))
    return OnPage(
        name="numerics",
        title="The recorded cases against exact arithmetic: choose what they have in common",
        knobs=knobs_of(controls, {}),
        answers=answers,
        command=(RECORDS_THEM,),
        scale=Scale(
            "the worst row's error as a share of its tolerance, which is the line", 1.1, ((1, "the tolerance"),)
        ),
        unrecorded="This was not recorded: no case has all of these. The command records its cases on your GPU.",
    ).payload()


def _bar(row: Mapping) -> Bar:
    """One case: how much of its tolerance its worst row uses; what failed has no bar."""
    label = f"{row['variant']}, head dim {row['head_dim']:.0f}, {row['kv_dtype']}, {row['tile_table']}"
    if row["status"] != "ok":
        return Bar(label, None, OTHER_FAILURE_COLOUR, f"{FAILED_MARK} {row['status']}")
    colour = BEFORE_COLOUR if row["kv_dtype"].startswith("fp8") else AFTER_COLOUR
    return Bar(label, round(_share(row), 4), colour, f"{_share(row):.0%} of the {row['row_rel_tolerance']:.2g} allowed")


def _device_words(row: pd.Series) -> str:
    return (
        f"against float64; recorded: {row['device']}, torch {row['torch_version']}, Triton {row['triton_version']}, "
        f"{str(row['time_utc'])[:10]}"
    )


def _case_words(row: Mapping) -> str:
    used = "failed" if row["status"] != "ok" else f"{_share(row):.0%} of its tolerance"
    return f"{row['variant']}, hd{row['head_dim']:.0f}, {row['kv_dtype']}, {row['tile_table']}: {used}"


def _numerics_table(rows: pd.DataFrame, most: int = 8) -> str:
    worst = rows.sort_values("share", ascending=False, na_position="first").head(most)
    cells = [
        (r["variant"], f"{r['head_dim']:.0f}", r["kv_dtype"], r["tile_table"], r["status"], f"{r['row_rel']:.1e}",
         f"{r['row_rel_tolerance']:.1e}")
        for _, r in worst.iterrows()
    ]  # fmt: skip
    heads = ("case", "head dim", "KV dtype", "tiles", "status", "row error", "allowed")
    return cells_html(heads, cells, caption=f"the {len(worst)} nearest to their tolerance")


def numerics_explorer() -> ExplorerFrame:
    """An explorer of the recorded numerics: which cases keep their error budget; `view.data` are the rows shown."""
    table = read_rows("numerics_h200")
    matrix = table[table["study"] == "matrix"].assign(mask=table["mask"].fillna("none"))
    matrix.attrs = table.attrs
    controls = {
        name: drop(words, values_of(matrix, name), ANY, MEANS[name]) for name, words in NUMERICS_FILTERS.items()
    }
    controls["option"] = drop("option", OPTIONS, ANY, MEANS["option"])
    return ExplorerFrame(
        "numerics",
        controls,
        lambda state, work: _numerics_view(matrix, state, work),
        page=lambda made: _numerics_page(matrix, made),
    )

"""Explorers of recorded rows: numerics by case, throughput by case, variant and metric. They measure nothing."""

from __future__ import annotations

import hashlib
import html
from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.recorded import provenance, read_rows
from helpers.show.html import banner, facts_html
from helpers.show.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    FAILED_MARK,
    OTHER_FAILURE_COLOUR,
    claim,
    use_house_style,
)
from helpers.workbook.explorer.choices import note
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop, kept_png
from helpers.workbook.explorer.work import Work
from helpers.workbook.numerics import plot_error_budget
from helpers.workbook.throughput import BASELINE, PEER_COLOUR, case_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ANY = "any"
NUMERICS_FILTERS = {"tile_table": "tile table", "kv_dtype": "KV dtype", "head_dim": "head dim", "mask": "mask"}
OPTIONS = (("any", ANY), ("sliding window", "model_window"), ("logit cap", "logit_cap"), ("sinks", "sinks"))
METRICS = {
    # label -> (column, axis, whether more is better, unit in a sentence)
    "TFLOP/s": ("tflops", "TFLOP/s on visible pairs", True, "TFLOP/s"),
    "time": ("median_ms", "median time of a launch (ms)", False, "ms"),
    "ratio to the incident": ("ratio", "times the incident's TFLOP/s", True, "times the incident"),
    "share of the roofline": ("roofline_fraction", "share of the roofline", True, "of the roofline"),
    "error": ("error_row_rel", "worst row's relative error against float64", False, "relative error"),
    "spills": ("triton_n_spills", "n_spills (Triton's count, loaded binary)", False, "spills by Triton's count"),
}
GROUPS = {"lean": AFTER_COLOUR, "incident": BEFORE_COLOUR}


def _digest(rows: pd.DataFrame) -> str:
    return hashlib.sha256(rows.to_json(orient="split").encode()).hexdigest()


def _values(table: pd.DataFrame, column: str) -> list[tuple[str, object]]:
    found = sorted(table[column].dropna().unique(), key=str if table[column].dtype.kind not in "if" else None)
    return [(ANY, ANY), *((str(v), v) for v in found)]


# --- numerics -----------------------------------------------------------------------------------------------


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
    share = rows["row_rel"] / rows["row_rel_tolerance"]
    passed = rows["status"] == "ok"
    status = "ok" if passed.all() else "register_exhausted"
    said = f"{passed.sum()} of {len(rows)} cases keep their error budget"
    facts = {
        "cases": len(rows),
        "passed": int(passed.sum()),
        "nearest to its tolerance": _case_words(rows.loc[share.where(passed).idxmax()]) if passed.any() else None,
        "failed": "; ".join(_case_words(row) for _, row in rows[~passed].iterrows())[:600],
        "evidence": provenance(table),
    }
    return View(
        verdict=banner(status, said) + facts_html(facts),
        title=said,
        command="python benchmarks/record_numerics.py --out numerics.csv",
        png=kept_png(
            lambda: plot_error_budget(rows, said, _device_words(rows.iloc[0])),
            figure="error budget",
            rows=_digest(rows),
        ),
        below=_numerics_table(rows.assign(share=share)),
        data=rows,
    )


def _device_words(row: pd.Series) -> str:
    return (
        f"against float64; recorded: {row['device']}, torch {row['torch_version']}, Triton {row['triton_version']}, "
        f"{str(row['time_utc'])[:10]}"
    )


def _case_words(row: pd.Series) -> str:
    share = row["row_rel"] / row["row_rel_tolerance"]
    used = "failed" if row["status"] != "ok" else f"{share:.0%} of its tolerance"
    return f"{row['variant']}, hd{row['head_dim']:.0f}, {row['kv_dtype']}, {row['tile_table']}: {used}"


def _numerics_table(rows: pd.DataFrame, most: int = 8) -> str:
    worst = rows.sort_values("share", ascending=False, na_position="first").head(most)
    cells = "".join(
        f"<tr><td>{html.escape(str(r['variant']))}</td><td>{r['head_dim']:.0f}</td>"
        f"<td>{html.escape(str(r['kv_dtype']))}</td><td>{html.escape(str(r['tile_table']))}</td>"
        f"<td>{html.escape(str(r['status']))}</td><td>{r['row_rel']:.1e}</td><td>{r['row_rel_tolerance']:.1e}</td></tr>"
        for _, r in worst.iterrows()
    )
    head = "".join(f"<th>{h}</th>" for h in ("case", "head dim", "KV dtype", "tiles", "status", "row error", "allowed"))
    return f"<table><caption>the {len(worst)} nearest to their tolerance</caption><tr>{head}</tr>{cells}</table>"


def numerics_explorer() -> ExplorerFrame:
    """An explorer of the recorded numerics: which cases keep their error budget; `view.data` are the rows shown."""
    table = read_rows("numerics_h200")
    matrix = table[table["study"] == "matrix"].assign(mask=table["mask"].fillna("none"))
    matrix.attrs = table.attrs
    controls = {name: drop(words, _values(matrix, name), ANY) for name, words in NUMERICS_FILTERS.items()}
    controls["option"] = drop("option", OPTIONS, ANY)
    return ExplorerFrame("numerics", controls, lambda state, work: _numerics_view(matrix, state, work))


# --- throughput ---------------------------------------------------------------------------------------------


def _throughput_view(table: pd.DataFrame, state: dict, _work: Work) -> View:
    rows = case_rows(table, state["case"]).copy()
    base = rows.loc[rows["variant"] == BASELINE, "tflops"].max()
    rows["ratio"] = rows["tflops"] / base
    if state["variants"] != ANY:
        rows = rows[rows["variant"].str.startswith(state["variants"])]
        if rows.empty:
            raise UserError(f"no variant of {state['variants']!r} was run on {state['case']!r}; choose another case")
    column, axis, higher, unit = METRICS[state["metric"]]
    rows = rows.sort_values(column, ascending=not higher, na_position="last")
    measured = rows[rows["status"].isin(["ok", "wrong"]) & rows[column].notna()]
    first = table.dropna(subset=["gpu"]).iloc[0]
    source = f"recorded: {first['gpu']}, torch {first['torch']}, Triton {first['triton']}, {first['date_utc'][:10]}"
    if measured.empty:
        said, status = f"{state['case']}: no variant has a number for {state['metric']}", "toolchain_missing"
    else:
        best = measured.iloc[0]
        most = "highest" if higher else "lowest"
        said = f"{state['case']}: {best['variant']} is {most}, {best[column]:.3g} {unit}"
        status = "ok"
    shape = rows.iloc[0]
    facts = {
        "case": f"hd{shape['head_dim']:.0f}, {shape['kv_dtype']} cache, {shape['num_q_heads']:.0f}/"
        f"{shape['num_kv_heads']:.0f} heads, prefix {shape['prefix_len']}, {shape['extend_len']} new tokens, window "
        f"{'none' if shape['model_window'] != shape['model_window'] else int(shape['model_window'])}",
        "ran": f"{len(measured)} of {len(rows)} variants",
        "evidence": source,
    }
    return View(
        verdict=banner(status, said) + facts_html(facts) + note("Nothing here was run on a B200."),
        title=said,
        command=f"python -m helpers bench --cases '{state['case']}'"
        + ("" if state["variants"] == ANY else f" --variants '{state['variants']}'"),
        png=kept_png(
            lambda: plot_metric(rows, column, axis, said, source), figure="metric", column=column, rows=_digest(rows)
        ),
        data=rows,
    )


def plot_metric(rows: pd.DataFrame, column: str, axis: str, title: str, subtitle: str) -> Figure:
    """Bars of one metric, one a variant in the rows' order; what did not run keeps its row, crossed."""
    import matplotlib.pyplot as plt

    use_house_style()
    fig, ax = plt.subplots(figsize=(8.5, 1.5 + 0.36 * len(rows)))
    highest = rows[column].max()
    for y, row in enumerate(rows.to_dict("records")):
        value = row[column]
        if row["status"] in ("ok", "wrong") and value == value:
            colour = next((c for name, c in GROUPS.items() if row["variant"].startswith(name)), PEER_COLOUR)
            ax.barh(y, value, 0.68, color=colour, hatch=None if row["status"] == "ok" else "xx", edgecolor="white")
            wrong = "" if row["status"] == "ok" else ", WRONG ANSWER"
            ax.text(value, y, f"  {value:.3g}{wrong}", va="center", fontsize=8.5)
        else:
            why = row["reason"] if isinstance(row["reason"], str) and row["reason"] else "not measured"
            text = f" {FAILED_MARK} {row['status']}: {why[:70]}"
            ax.text(0, y, text, va="center", fontsize=8, color=OTHER_FAILURE_COLOUR)
    ax.set_yticks(range(len(rows)), rows["variant"], fontsize=8.5)
    ax.set_ylim(len(rows) - 0.4, -0.7)
    ax.set_xlim(0, (highest if highest == highest and highest > 0 else 1) * 1.18)
    ax.set_xlabel(axis)
    claim(ax, title, subtitle)
    plt.close(fig)
    return fig


def throughput_explorer(case: str = "sliding") -> ExplorerFrame:
    """An explorer of the recorded throughput rows by case, variants and metric; `view.data` are the rows shown."""
    table = read_rows("throughput_h200")
    cases = [c for c in dict.fromkeys(table["case"]) if c != "ceiling"]
    if case not in cases:
        raise UserError(f"no recorded rows for case {case!r}; there are {', '.join(cases)}")
    names = [ANY, *dict.fromkeys(v.split(",")[0].split()[0] for v in table.loc[table["case"] != "ceiling", "variant"])]
    controls = {
        "case": drop("case", [(c, c) for c in cases], case),
        "variants": drop("variants", [(n, n) for n in names], ANY),
        "metric": drop("metric", [(n, n) for n in METRICS], "TFLOP/s"),
    }
    return ExplorerFrame("throughput", controls, lambda state, work: _throughput_view(table, state, work))

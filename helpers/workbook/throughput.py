"""Throughput as people read it: bars with ratios, spills beside time, roofline, sweeps. Measures nothing."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.recorded import provenance, read_rows
from helpers.show.html import banner, facts_html, note
from helpers.show.style import (
    AFTER_COLOUR,
    BEFORE_COLOUR,
    FAILED_MARK,
    LIMIT_COLOUR,
    OTHER_FAILURE_COLOUR,
    claim,
    use_house_style,
)
from helpers.workbook.explorer.choices import ANY, MEANS
from helpers.workbook.explorer.frame import ExplorerFrame, View, drop
from helpers.workbook.explorer.on_page import Answer, Bar, OnPage, knobs_of
from helpers.workbook.explorer.pictures import kept_drawing, rows_digest
from helpers.workbook.explorer.work import Work

if TYPE_CHECKING:
    import ipywidgets as w
    import pandas as pd
    from matplotlib.figure import Figure

BASELINE = "incident, hopper tile"
HOPPER = "hopper, Gluon"
PEER_COLOUR = "#009E73"
HOPPER_COLOUR = "#CC79A7"


def throughput() -> tuple[pd.DataFrame, str]:
    """(rows, where they come from): measured now on this machine's GPU where there is one (minutes), else recorded.

    Live rows have the peers that are installed here; `register-cliff bench` writes the same rows to a file.
    """
    live = _live_rows()
    if live is not None:
        return live, f"live on this machine's {live['gpu'].iloc[0]}"
    table = read_rows("throughput_h100")
    first = table.dropna(subset=["gpu"]).iloc[0]
    source = (
        f"{first['gpu']}, driver {first['driver']}, torch {first['torch']}, Triton {first['triton']}, "
        f"{str(first['date_utc'])[:10]}"
    )
    return table, f"{provenance(table)} ({source})" if table.attrs.get("provenance") else f"recorded: {source}"


def _live_rows() -> pd.DataFrame | None:
    import torch

    if not torch.cuda.is_available():
        return None
    from dataclasses import asdict

    import pandas as pd

    from helpers.attention.bench import main_rows

    return pd.DataFrame([asdict(row) for row in main_rows(command="helpers.throughput()")]).fillna({"reason": ""})


def case_rows(table: pd.DataFrame, case: str) -> pd.DataFrame:
    """The rows of one case, fastest first, what did not run last; raises UserError listing the cases there are."""
    rows = table[table["case"] == case]
    if rows.empty:
        raise UserError(f"no rows for case {case!r}; there are {', '.join(dict.fromkeys(table['case']))}")
    return rows.sort_values("tflops", ascending=False, na_position="last")


def ratio_table(table: pd.DataFrame, cases: Sequence[str]) -> pd.DataFrame:
    """Median TFLOP/s of every variant on these cases, and its ratio to the incident with Hopper's tile."""
    import pandas as pd

    found = []
    for case in cases:
        rows = case_rows(table, case)
        base = rows.loc[rows["variant"] == BASELINE, "tflops"].max()
        for row in rows.to_dict("records"):
            found.append(
                {"case": case, "variant": row["variant"], "TFLOP/s": row["tflops"], "ratio": row["tflops"] / base,
                 "median_ms": row["median_ms"], "error": row["error_vs_reference"], "registers": row["regs_per_thread"],
                 "n_spills": row["triton_n_spills"], "status": row["status"], "reason": row["reason"]}
            )  # fmt: skip
    return pd.DataFrame(found)


def _colour(variant: str) -> str:
    if variant.startswith("lean"):
        return AFTER_COLOUR
    if variant == HOPPER:
        return HOPPER_COLOUR
    return BEFORE_COLOUR if variant.startswith("incident") else PEER_COLOUR


def plot_throughput(table: pd.DataFrame, case: str, title: str, subtitle: str) -> Figure:
    """Bars of TFLOP/s, one a variant, with the ratio to the incident; what did not run keeps a row, crossed."""
    import matplotlib.pyplot as plt

    use_house_style()
    rows = case_rows(table, case)
    base = rows.loc[rows["variant"] == BASELINE, "tflops"].max()
    ceiling = rows["roofline_tflops"].max()
    fig, ax = plt.subplots(figsize=(8.5, 1.5 + 0.36 * len(rows)))
    for y, row in enumerate(rows.to_dict("records")):
        if row["status"] in ("ok", "wrong"):
            hatch = None if row["status"] == "ok" else "xx"
            ax.barh(y, row["tflops"], 0.68, color=_colour(row["variant"]), hatch=hatch, edgecolor="white")
            note = "" if row["status"] == "ok" else ", WRONG ANSWER"
            ax.text(
                row["tflops"],
                y,
                f"  {row['tflops']:.0f}  ({row['tflops'] / base:.1f}×{note})",
                va="center",
                fontsize=8.5,
            )
        else:
            words = f"{FAILED_MARK} {row['status']}: {_why(row)}"
            ax.text(ceiling * 0.01, y, words, va="center", fontsize=8, color=OTHER_FAILURE_COLOUR)
    ax.set_yticks(range(len(rows)), rows["variant"], fontsize=8.5)
    ax.set_ylim(len(rows) - 0.4, -0.7)
    ax.axvline(ceiling, color=LIMIT_COLOUR, linewidth=1.2)
    ax.text(ceiling, -0.75, "roofline ", ha="right", va="bottom", fontsize=8.5)
    ax.set_xlim(0, ceiling * 1.04)
    ax.set_xlabel("TFLOP/s on visible pairs (ratio: to the incident kernel with Hopper's tile)")
    claim(ax, title, subtitle)
    plt.close(fig)
    return fig


def plot_roofline(table: pd.DataFrame, variants: Sequence[str], title: str, subtitle: str) -> Figure:
    """Achieved TFLOP/s against arithmetic intensity under the two ceilings measured in the same run."""
    import matplotlib.pyplot as plt
    import numpy as np

    use_house_style()
    rows = table[table["status"].eq("ok") & table["variant"].isin(variants) & table["group"].eq("table")]
    matmul, copy = rows["matmul_ceiling_tflops"].max(), rows["copy_ceiling_gbytes_per_s"].max()
    fig, ax = plt.subplots(figsize=(8.5, 4.6))
    intensity = np.logspace(1, 4, 200)
    ax.plot(intensity, np.minimum(matmul, intensity * copy / 1e3), color=LIMIT_COLOUR, linewidth=1.4)
    ax.text(intensity[-1], matmul, f"bf16 matmul here: {matmul:.0f} TFLOP/s", ha="right", va="bottom", fontsize=8.5)
    for variant, marker in zip(variants, "osD^vP*", strict=False):
        mine = rows[rows["variant"] == variant]
        ax.plot(mine["flops_per_byte"], mine["tflops"], marker, color=_colour(variant), label=variant, markersize=7)
    for case, group in rows.groupby("case", sort=False):
        best = group.loc[group["tflops"].idxmax()]
        fp8 = case.endswith("fp8")
        ax.annotate(case, (best["flops_per_byte"], best["tflops"]), xytext=(8 if fp8 else -8, 0), fontsize=8,
                    textcoords="offset points", ha="left" if fp8 else "right", va="center")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.grid(True, which="major", axis="both")
    ax.set_xlabel("FLOP per byte that must move (visible inputs once, output once)")
    ax.set_ylabel("TFLOP/s")
    ax.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(0.0, 0.75))
    claim(ax, title, subtitle)
    plt.close(fig)
    return fig


def plot_sweep(table: pd.DataFrame, group: str, variants: Sequence[str], title: str, subtitle: str) -> Figure:
    """TFLOP/s along a sweep (`prefix_sweep` or `extend_sweep`), one panel a layer, one line a variant."""
    import matplotlib.pyplot as plt

    use_house_style()
    # The table's own cases are points of the sweeps that the sweeps leave out.
    on_it = table["group"].eq(group) | table["case"].isin(("sliding", "global"))
    rows = table[on_it & table["status"].eq("ok")].copy()
    axis = "prefix_len" if group == "prefix_sweep" else "extend_len"
    rows[axis] = rows[axis].astype(str).str.split().str[0].astype(int)
    dims = sorted(rows["head_dim"].unique())
    fig, panels = plt.subplots(1, len(dims), figsize=(8.5, 3.6), sharey=True, squeeze=False)
    for ax, dim in zip(panels[0], dims, strict=True):
        points = sorted(rows.loc[rows["head_dim"].eq(dim), axis].unique())
        for variant, marker in zip(variants, "osD^v", strict=False):
            mine = rows[rows["variant"].eq(variant) & rows["head_dim"].eq(dim)].sort_values(axis)
            style = "-" if variant.startswith("lean") or variant == HOPPER else "--"
            at = [points.index(n) for n in mine[axis]]
            ax.plot(at, mine["tflops"], style + marker, color=_colour(variant), label=variant, markersize=5)
        # Evenly spaced: the points double from one to the next, and one of them is 0.
        ax.set_xticks(range(len(points)), [f"{n:,}" for n in points])
        ax.set_ylim(bottom=0)
        ax.grid(True, axis="both")
        ax.set_xlabel(f"{'prefix' if group == 'prefix_sweep' else 'new'} tokens, hd{int(dim)}")
    panels[0][0].set_ylabel("TFLOP/s")
    panels[0][-1].legend(fontsize=8.5)
    claim(panels[0][0], title, subtitle)
    plt.close(fig)
    return fig


def targets_table(table: pd.DataFrame) -> pd.DataFrame:
    """Our faster kernel of each case against what had to be reached (a multiple of the incident) and what was aimed at.

    TFLOP/s; `hopper` is missing where that kernel does not apply, and on machines that are no Hopper.
    """
    import pandas as pd

    goals = {"sliding": (4.5, "FA3 paged"), "global": (2.5, 460.0), "hd128": (2.0, "FA3 paged"),
             "sliding fp8": (4.0, "as bf16"), "global fp8": (1.6, "as bf16")}  # fmt: skip
    ran = table[table["status"].eq("ok")]

    def of(variant: str) -> pd.Series:
        return ran[ran["variant"].eq(variant)].set_index("case")["tflops"]

    base, lean, hopper = of(BASELINE), of("lean"), of(HOPPER)
    ours = lean.combine(hopper, max, fill_value=0.0)
    fa3 = ran[ran["variant"].str.startswith("FA3 paged")].groupby("case")["tflops"].max()
    rows = []
    for case, (must, aim) in goals.items():
        aim_value = {"FA3 paged": fa3.get(case), "as bf16": ours.get(case.removesuffix(" fp8"))}.get(aim, aim)
        ratio = ours[case] / base[case]
        rows.append(
            {"case": case, "incident": base[case], "lean": lean[case], "hopper": hopper.get(case), "ratio": ratio,
             "must reach": must, "reached": ratio >= must, "aim": aim_value,
             "share of the aim": ours[case] / aim_value if aim_value else None}
        )  # fmt: skip
    return pd.DataFrame(rows)


def targets_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A `targets_table` for a reader: speeds with their unit, what was asked beside what was reached."""
    names = {
        "case": "case",
        "incident": "incident, TFLOP/s",
        "lean": "lean, TFLOP/s",
        "hopper": "Gluon, TFLOP/s",
        "ratio": "faster of the two, times the incident",
        "must reach": "required, times the incident",
        "reached": "reached",
        "aim": "aim, TFLOP/s",
        "share of the aim": "share of the aim",
    }
    return table[list(names)].rename(columns=names).round(2)


def with_unit(table: pd.DataFrame, unit: str, *, but: Sequence[str] = ()) -> pd.DataFrame:
    """The table with the unit in the heading of every column of numbers, `but` for those that have none."""
    return table.rename(columns={name: f"{name}, {unit}" for name in table if name not in but})


def sweep_gain(table: pd.DataFrame, group: str, head_dim: int) -> dict[str, float]:
    """By variant: its speed at the last point of a sweep over its speed at the first."""
    rows = table[table["group"].eq(group) & table["head_dim"].eq(head_dim) & table["status"].eq("ok")].copy()
    axis = "prefix_len" if group == "prefix_sweep" else "extend_len"
    rows[axis] = rows[axis].astype(str).str.split().str[0].astype(int)
    found = {}
    for variant, mine in rows.groupby("variant"):
        speeds = mine.sort_values(axis)["tflops"].tolist()
        found[str(variant)] = speeds[-1] / speeds[0]
    return found


def smaller_tile_table(table: pd.DataFrame, cases: Sequence[str]) -> pd.DataFrame:
    """The incident's kernel with the hopper tile and with the merged row's, case by case: speed, registers, spills."""
    tiles = {"incident, hopper tile": "hopper tile", "incident, sm100 tile": "merged row's tile"}
    ratios = ratio_table(table, cases)
    ratios = ratios[ratios["variant"].isin(list(tiles))].replace({"variant": tiles})
    names = {
        "case": "case",
        "variant": "tile",
        "TFLOP/s": "TFLOP/s",
        "ratio": "times the hopper tile",
        "registers": "registers per thread",
        "n_spills": "local memory, 32-bit words per thread",
    }
    return ratios[list(names)].rename(columns=names).round(2)


PAGE_ONE = ("FA3 paged 1", "FA4 paged 1")
DENSE = ("FA3 dense", "FA4 dense")


def page_one_table(table: pd.DataFrame) -> pd.DataFrame:
    """Our Hopper kernel beside FlashAttention over the same scattered pages of 1, and over dense keys, by case.

    TFLOP/s; `share` is ours over the better of the two on pages of 1, the smallest first. Cases that ours did not run
    in are left out.
    """
    ran = table[table["status"].eq("ok")]
    wide = ran.pivot_table(index="case", columns="variant", values="tflops", sort=False)
    wide = wide.reindex(columns=[HOPPER, *PAGE_ONE, *DENSE]).dropna(subset=[HOPPER])
    wide["share"] = wide[HOPPER] / wide[list(PAGE_ONE)].max(axis=1)
    wide["share of dense"] = wide[HOPPER] / wide[list(DENSE)].max(axis=1)
    return wide.dropna(subset=["share"]).sort_values("share")


def steps_table(table: pd.DataFrame, cases: Sequence[str] = ("sliding", "global", "hd128")) -> pd.DataFrame:
    """What each step brought, TFLOP/s by case.

    The schedule by hand before warp groups is an H200's record: that kernel is no longer there to be measured.
    """
    import pandas as pd

    before = read_rows("throughput_h200")

    def of(rows: pd.DataFrame, variant: str) -> pd.Series:
        return rows[rows["variant"].eq(variant)].set_index("case")["tflops"].reindex(list(cases))

    return pd.DataFrame(
        {
            "incident": of(table, BASELINE),
            "loop bounds, fused accumulator, stages (lean)": of(table, "lean"),
            "schedule by hand (an H200's)": of(before, HOPPER),
            "warp groups": of(table, HOPPER),
        }
    )


def energy_table(table: pd.DataFrame, cases: Sequence[str]) -> pd.DataFrame:
    """Millijoules of one call, run back to back, by case and variant: the whole card's, by its own counter."""
    wanted = [BASELINE, "lean", HOPPER, *PAGE_ONE, *DENSE]
    rows = table[table["case"].isin(list(cases)) & table["status"].eq("ok") & table["variant"].isin(wanted)]
    if "millijoules" not in rows or rows["millijoules"].isna().all():
        return rows.head(0)[["case", "variant"]]
    return rows.pivot_table(index="case", columns="variant", values="millijoules", sort=False).reindex(columns=wanted)


def warp_group_registers() -> pd.DataFrame:
    """How the Hopper kernel deals out an SM's registers, by head dim: a thread's share in each group, and the sum."""
    import pandas as pd

    from helpers.attention.hopper import TILES

    rows = []
    for head_dim, tile in TILES.items():
        loading = 4
        computing = tile.num_warps - loading
        rows.append(
            {"head dim": head_dim, "rows of an item": tile.block_m, "computing warps": computing,
             "registers a computing thread": tile.compute_registers, "loading warps": loading,
             "registers a loading thread": tile.load_registers,
             "dealt out": 32 * (computing * tile.compute_registers + loading * tile.load_registers)}
        )  # fmt: skip
    return pd.DataFrame(rows).set_index("head dim")


METRICS = {
    # label -> (column, axis, whether more is better, unit in a sentence)
    "TFLOP/s": ("tflops", "TFLOP/s on visible pairs", True, "TFLOP/s"),
    "time": ("median_ms", "median time of a launch (ms)", False, "ms"),
    "ratio to the incident": ("ratio", "times the incident's TFLOP/s", True, "times the incident"),
    "share of the roofline": ("roofline_fraction", "share of the roofline", True, "of the roofline"),
    "energy": ("millijoules", "millijoules of a call, run back to back", False, "mJ"),
    "error": ("error_row_rel", "worst row's relative error against float64", False, "relative error"),
    "spills": ("triton_n_spills", "n_spills (Triton's count, loaded binary)", False, "spills by Triton's count"),
}


GROUPS = {"lean": AFTER_COLOUR, "incident": BEFORE_COLOUR, "hopper": HOPPER_COLOUR}


def _rows_shown(table: pd.DataFrame, case: str, variants: str) -> pd.DataFrame:
    """The rows of a case and of a kind of variant; raises UserError where none was run."""
    rows = case_rows(table, case).copy()
    base = rows.loc[rows["variant"] == BASELINE, "tflops"].max()
    rows["ratio"] = rows["tflops"] / base
    if variants != ANY:
        rows = rows[rows["variant"].str.startswith(variants)]
        if rows.empty:
            raise UserError(f"no variant of {variants!r} was run on {case!r}; choose another case")
    return rows


def _throughput_told(rows: Sequence[Mapping], metric: str) -> tuple[str, str, dict]:
    """(status, verdict in a sentence, facts) of the rows shown, the best first."""
    column, _, higher, unit = METRICS[metric]
    measured = [row for row in rows if _measured(row, column)]
    shape = rows[0]
    if measured:
        best, most = measured[0], "highest" if higher else "lowest"
        said, status = f"{shape['case']}: {best['variant']} is {most}, {best[column]:.3g} {unit}", "ok"
    else:
        said, status = f"{shape['case']}: no variant has a number for {metric}", "toolchain_missing"
    facts = {
        "case": f"hd{shape['head_dim']:.0f}, {shape['kv_dtype']} cache, {shape['num_q_heads']:.0f}/"
        f"{shape['num_kv_heads']:.0f} heads, prefix {shape['prefix_len']}, {shape['extend_len']} new tokens, window "
        f"{'none' if shape['model_window'] != shape['model_window'] else int(shape['model_window'])}",
        "ran": f"{len(measured)} of {len(rows)} variants",
    }
    return status, said, facts


def _measured(row: Mapping, column: str) -> bool:
    return row["status"] in ("ok", "wrong") and row[column] == row[column]


def _source_of(table: pd.DataFrame) -> str:
    first = table.dropna(subset=["gpu"]).iloc[0]
    return f"recorded: {first['gpu']}, torch {first['torch']}, Triton {first['triton']}, {first['date_utc'][:10]}"


NO_B200 = "Nothing here was run on a B200."


def _throughput_view(table: pd.DataFrame, state: dict, _work: Work) -> View:
    column, axis, higher, _ = METRICS[state["metric"]]
    rows = _rows_shown(table, state["case"], state["variants"])
    rows = rows.sort_values(column, ascending=not higher, na_position="last")
    status, said, facts = _throughput_told(rows.to_dict("records"), state["metric"])
    return View(
        verdict=banner(status, said) + facts_html(facts | {"evidence": _source_of(table)}) + note(NO_B200),
        title=said,
        command=f"register-cliff bench --cases '{state['case']}'"
        + ("" if state["variants"] == ANY else f" --variants '{state['variants']}'"),
        drawing=kept_drawing(
            partial(plot_metric, rows, column, axis, said, _source_of(table)),
            figure="metric",
            column=column,
            rows=rows_digest(rows),
        ),
        data=rows,
    )


def _throughput_page(table: pd.DataFrame, controls: Mapping[str, w.Dropdown]) -> dict:
    """Every recorded case, kind of variant and metric for a page without a kernel."""
    words = {
        "case": {value: f"--cases '{value}'" for _, value in controls["case"].options},
        "variants": {
            value: "" if value == ANY else f"--variants '{value}'" for _, value in controls["variants"].options
        },
    }
    knobs, answers = knobs_of(controls, words), {}
    also = {"evidence": _source_of(table), "and": NO_B200}
    for case, variants in itertools.product(*(knob.values for knob in knobs[:2])):
        try:
            rows = _rows_shown(table, str(case), str(variants)).to_dict("records")
        except UserError:
            continue
        for metric in knobs[2].values:
            column, axis, higher, _ = METRICS[str(metric)]
            rows.sort(key=lambda row: (row[column] != row[column], (-1 if higher else 1) * row[column]))
            status, said, facts = _throughput_told(rows, str(metric))
            bars = tuple(_bar(row, column) for row in rows)
            answers[case, variants, metric] = Answer(status, said, {"the bars are": axis, **facts, **also}, bars=bars)
    return OnPage(
        name="throughput",
        title="The recorded speeds: choose a case, the variants and a metric",
        knobs=knobs,
        answers=answers,
        command=("register-cliff bench", "case", "variants"),
        unrecorded="No variant of this kind was run on this case. The command below measures it on your GPU.",
    ).payload()


def _bar(row: Mapping, column: str) -> Bar:
    """One variant as a bar; what did not run has none, and says why."""
    value, wrong = row[column], row["status"] == "wrong"
    if not _measured(row, column):
        return Bar(row["variant"], None, OTHER_FAILURE_COLOUR, f"{FAILED_MARK} {row['status']}: {_why(row)}")
    words = f"{value:.3g}{', WRONG ANSWER' if wrong else ''}"
    return Bar(row["variant"], float(f"{value:.6g}"), _group_colour(row["variant"]), words, wrong)


def _why(row: Mapping) -> str:
    reason = row["reason"] if isinstance(row["reason"], str) and row["reason"] else "not measured"
    return textwrap.shorten(reason, 78, placeholder=" …")


def _group_colour(variant: str) -> str:
    return next((colour for name, colour in GROUPS.items() if variant.startswith(name)), PEER_COLOUR)


def plot_metric(rows: pd.DataFrame, column: str, axis: str, title: str, subtitle: str) -> Figure:
    """Bars of one metric, one a variant in the rows' order; what did not run keeps its row, crossed."""
    import matplotlib.pyplot as plt

    use_house_style()
    fig, ax = plt.subplots(figsize=(8.5, 1.5 + 0.36 * len(rows)))
    highest = rows[column].max()
    for y, row in enumerate(rows.to_dict("records")):
        value = row[column]
        if row["status"] in ("ok", "wrong") and value == value:
            ax.barh(
                y,
                value,
                0.68,
                color=_group_colour(row["variant"]),
                hatch=None if row["status"] == "ok" else "xx",
                edgecolor="white",
            )
            wrong = "" if row["status"] == "ok" else ", WRONG ANSWER"
            ax.text(value, y, f"  {value:.3g}{wrong}", va="center", fontsize=8.5)
        else:
            text = f" {FAILED_MARK} {row['status']}: {_why(row)}"
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
    table = read_rows("throughput_h100")
    cases = [c for c in dict.fromkeys(table["case"]) if c != "ceiling"]
    if case not in cases:
        raise UserError(f"no recorded rows for case {case!r}; there are {', '.join(cases)}")
    names = [ANY, *dict.fromkeys(v.split(",")[0].split()[0] for v in table.loc[table["case"] != "ceiling", "variant"])]
    controls = {
        "case": drop("case", [(c, c) for c in cases], case, MEANS["case"]),
        "variants": drop("variants", [(n, n) for n in names], ANY, MEANS["variants"]),
        "metric": drop("metric", [(n, n) for n in METRICS], "TFLOP/s", MEANS["metric"]),
    }
    return ExplorerFrame(
        "throughput",
        controls,
        lambda state, work: _throughput_view(table, state, work),
        page=lambda made: _throughput_page(table, made),
    )

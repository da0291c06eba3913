"""How well the register estimate meets ptxas's count over the whole tile audit, and peak lines beside nvdisasm's.

The rule of the estimate (helpers.inspection.ptx.pressure.estimate_registers) was fixed on other specs; those it was
fitted on, and those seen in its first round, are taken out here by arch and label, whatever their Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import describe
from helpers.attention.studies.tile_audit import ESTIMATE_RULE, OPTIONS
from helpers.attention.tiles import TileConfig
from helpers.errors import UserError
from helpers.hardware import ARCHS, CAP
from helpers.recorded import read_rows
from helpers.show.style import LIMIT_COLOUR, claim, use_house_style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NEAR = 0.15
LEAST_SHARE = 0.8
LEAST_SPECS = 15
MAIN_ARCHS = ("sm_90a", "sm_100a", "sm_120a")
# Okabe & Ito's, one colour and one mark a family of archs.
_FAMILIES = (
    ("sm_80, sm_86, sm_89", ("sm_80", "sm_86", "sm_89"), "#999999", "v"),
    ("sm_90a", ("sm_90a",), "#E69F00", "s"),
    ("sm_100a, sm_103a", ("sm_100a", "sm_103a"), "#0072B2", "o"),
    ("sm_120a, sm_121a", ("sm_120a", "sm_121a"), "#222222", "x"),
)


def audit_label(row: dict) -> str:
    """The label of an audit row's spec, as its CompileReport has it."""
    option = OPTIONS[row["option"]]
    m, _, n = row["tile"].partition("x")
    shape = AttentionShape(
        num_q_heads=32, num_kv_heads=16, head_dim=int(row["head_dim"]), v_head_dim=int(row["v_head_dim"]),
        kv_dtype=row["kv_dtype"], model_window=option.get("window"), custom_mask=option.get("mask", False),
        logit_cap=option.get("logit_cap", 0.0),
    )  # fmt: skip
    return describe(shape, TileConfig(int(m), int(n), int(row["num_warps"]), int(row["num_stages"])))


def liveness_specs(table: pd.DataFrame, training: pd.DataFrame | None = None) -> pd.DataFrame:
    """The audit's specs that put the estimate to the test, each once, with its relative `error`.

    Those with 0 spills and fewer than 255 registers (elsewhere ptxas's number is the cap), of every Triton in the
    table, tiles that were only tried included. Without the specs of the training sets of data/liveness_accuracy.csv,
    or of `training`, another table with its columns `set`, `arch` and `label`.
    """
    import numpy as np

    training = read_rows("liveness_accuracy") if training is None else training
    seen = training[training["set"].str.startswith("training")]
    known = set(zip(seen["arch"], seen["label"], strict=True))
    rows = table[(table["status"] == "ok") & (table["regs_per_thread"] < CAP) & table["estimate"].notna()]
    # Several tables choose the same tile, and the two Blackwell pairs of archs may get the same PTX text: by spec.
    rows = rows.drop_duplicates(["arch", "triton", "ptxas", "head_dim", "kv_dtype", "option", "tile"]).copy()
    rows["label"] = [audit_label(row) for row in rows.to_dict("records")]
    fresh = [key not in known for key in zip(rows["arch"], rows["label"], strict=True)]
    rows = rows.loc[np.array(fresh, dtype=bool)]  # with a type: an empty list would choose columns
    rows["error"] = rows["estimate"] / rows["regs_per_thread"] - 1
    rows["near"] = rows["error"].abs() <= NEAR
    return rows


def liveness_counts(table: pd.DataFrame, training: pd.DataFrame | None = None) -> pd.DataFrame:
    """Per arch, and for all: specs that count, how many estimates lie within 15% of ptxas's count, and the errors.

    `met` says whether the share reaches 80% with at least 15 specs. The rule is in `attrs['rule']`.
    """
    import pandas as pd

    specs = liveness_specs(table, training)
    found = []
    for name, part in [(a, specs[specs["arch"] == a]) for a in ARCHS] + [("all", specs)]:
        if not len(part):
            continue
        errors, near = part["error"], int(part["near"].sum())
        found.append(
            {"arch": name, "specs": len(part), "near": near, "share": near / len(part),
             "met": near >= LEAST_SHARE * len(part) and len(part) >= LEAST_SPECS,
             "lowest": errors.min(), "p10": errors.quantile(0.1), "median": errors.median(),
             "p90": errors.quantile(0.9), "highest": errors.max()}
        )  # fmt: skip
    counts = pd.DataFrame(found)
    counts.attrs["rule"] = ESTIMATE_RULE
    return counts


def misses_of(table: pd.DataFrame, arch: str) -> dict[str, int]:
    """Of an arch's estimates off by more than 15%: how many, how many use wgmma, and of those how many are too low."""
    specs = liveness_specs(table)
    specs = specs[specs["arch"] == arch]
    off = specs["estimate"] / specs["regs_per_thread"] - 1
    missed = specs[off.abs() > NEAR]
    wgmma = missed["tensor_core_path"] == "wgmma"
    return {"missed": len(missed), "wgmma": int(wgmma.sum()), "wgmma_low": int((off[missed.index][wgmma] < 0).sum())}


def family_words(counts: pd.DataFrame, archs: Sequence[str] = MAIN_ARCHS) -> str:
    """Of a `liveness_counts` table, a sentence on these archs: how many estimates are near, and whether that is met."""
    rows = counts.set_index("arch").loc[list(archs)]
    return "; ".join(
        f"`{arch}` {row['near']} of {row['specs']} ({row['share']:.0%}), {'met' if row['met'] else '**not met**'}"
        for arch, row in rows.iterrows()
    )


def plot_liveness_accuracy(
    table: pd.DataFrame, title: str, subtitle: str = "", *, training: pd.DataFrame | None = None
) -> Figure:
    """Estimates against ptxas's counts with the 15% band, and the distribution of their errors; one mark a spec."""
    import matplotlib.pyplot as plt
    import numpy as np

    use_house_style()
    specs = liveness_specs(table, training)
    fig, (ax, beside) = plt.subplots(1, 2, figsize=(9.5, 4.6), width_ratios=[1.25, 1])
    reach = np.array([20, CAP])
    ax.fill_between(reach, reach * (1 - NEAR), reach * (1 + NEAR), color="#E8EEF4", linewidth=0)
    ax.plot(reach, reach, color=LIMIT_COLOUR, linewidth=0.9)
    ax.text(92, 92 * (1 + NEAR) + 16, "within 15%", fontsize=8.5, color="#555555", rotation=38)
    errors, colours = [], []
    for name, archs, colour, mark in _FAMILIES:
        part = specs[specs["arch"].isin(archs)]
        if not len(part):
            continue
        words = f"{name} ({int(part['near'].sum())}/{len(part)})"
        ax.scatter(part["regs_per_thread"], part["estimate"], s=16, marker=mark, color=colour, linewidths=0.9,
                   alpha=0.75, label=words)  # fmt: skip
        errors.append(100 * part["error"])
        colours.append(colour)
    ax.set_xlabel("registers per thread, ptxas -v")
    ax.set_ylabel("registers, estimated from the PTX alone")
    ax.set_xlim(40, CAP + 5)
    ax.set_ylim(40, CAP + 25)
    ax.legend(fontsize=8, loc="lower right", title="within 15% / specs", title_fontsize=8)
    if errors:
        low, high = min(e.min() for e in errors), max(e.max() for e in errors)
        bins = np.arange(5 * np.floor(low / 5), 5 * np.ceil(high / 5) + 5, 5)
        beside.hist(errors, bins=bins, stacked=True, color=colours, edgecolor="white", linewidth=0.5)
    for edge in (-100 * NEAR, 100 * NEAR):
        beside.axvline(edge, color=LIMIT_COLOUR, linewidth=1, linestyle="--")
    beside.set_xlabel("estimate against ptxas's count, percent")
    beside.set_ylabel("specs")
    conditions = f"{len(specs)} specs of the audit with 0 spills and fewer than {CAP} registers, compile-time"
    said = subtitle or f"{conditions}\nestimate = {ESTIMATE_RULE}"
    claim(ax, title, said)
    ax.texts[-1].set_in_layout(False)  # it runs over both panels, and must not push them apart
    plt.close(fig)
    return fig


def peak_line_table(name: str = "peak_lines", *, misses: bool = False) -> pd.DataFrame:
    """Our line of highest demand beside nvdisasm's, a row a kernel and arch; with `misses`, only where they differ.

    `share` is the live registers that nvdisasm sees on the line we name, over its highest; `agrees` is a share of 0.95
    or more, `exact` the very line.
    """
    rows = read_rows(name)
    if "peak_line" not in rows:
        raise UserError(f"data/{name}.csv has no peak lines")
    rows = rows[rows["peak_line"].notna()].rename(columns={"peak_share": "share", "peak_agrees": "agrees",
                                                           "peak_exact": "exact"})  # fmt: skip
    rows = rows[rows["agrees"].astype(str) != "True"] if misses else rows
    columns = ["kernel", "arch", "triton_version", "label", "regs_per_thread", "demand", "peak_line", "sass_peak_lines",
               "sass_peak_gprs", "sass_gprs_at_peak_line", "share", "agrees", "exact"]  # fmt: skip
    return rows[[c for c in columns if c in rows]].reset_index(drop=True)


def peak_findings() -> dict[str, int]:
    """Of the recorded peak lines: how many there are, how many `agree` with nvdisasm's, and how many are `exact`."""
    peaks, missed = peak_line_table(), peak_line_table(misses=True)
    exact = int((peaks["exact"].astype(str) == "True").sum())
    return {"lines": len(peaks), "agree": len(peaks) - len(missed), "exact": exact, "missed": len(missed)}

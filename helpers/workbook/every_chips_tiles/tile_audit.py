"""The tile audit as people read it: a map of cliffs, the worst offenders, spill-free tiles, and the estimate's record.

Takes the rows of data/tile_audit.csv (`read_rows("tile_audit")`, or what benchmarks/record_audit.py wrote). They may
be of several Tritons: pictures and tables show one, `triton=`, by default the incident's where it is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from helpers.attention.studies.tile_audit import EVERYWHERE, OPTIONS, SEARCH, audit_kv_dtypes, audit_tables
from helpers.attention.tiles import TILE_ROWS
from helpers.compiler.toolchain import INCIDENT_TRITON, version_key
from helpers.errors import UserError
from helpers.hardware import ARCHS
from helpers.show.style import OTHER_FAILURE_COLOUR
from helpers.show.verdicts import Cell, Grid, cell_of, grid_figure, whole_number, words_in_cell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = {"arch", "head_dim", "v_head_dim", "kv_dtype", "option", "table", "chosen_by", "tile", "triton", "status",
           "spill_store_bytes", "regs_per_thread", "estimate"}  # fmt: skip
OPTION_WORDS = {"none": "", "window": "window 1024", "mask": "mask", "cap": "logit cap"}
_SHORT_TABLE = {"hopper_catch_all": "hopper\ntile", "hopper_0_5_15": "Hopper's,\n0.5.15",
                "sm100_branch": "merged\nrow", "blackwell_consumer": "own\nrow", "ampere_a100": "own\nrow",
                "ampere_ada": "own\nrow"}  # fmt: skip


_HEADINGS = {
    "arch": "chip", "kv_dtype": "cache", "table": "row of the table",
    "spill_store_bytes": "spill stores, bytes per thread",
    "demand": "demand, registers", "tensor_core_path": "tensor cores by", "today_worst": "today, at worst",
    "spill_free": "largest tile without spills", "path_today": "tensor cores by, today",
    "path_spill_free": "tensor cores by, without spills", "compiles": "tiles x options compiled",
}  # fmt: skip


def audit_in_words(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of the audit for a reader: headings in words, and the rules of the tables in place of their names."""
    told = frame.rename(columns={name: _HEADINGS.get(name, name.replace("_", " ")) for name in frame.columns})
    place = _HEADINGS["table"]
    if place in told:
        told[place] = [", ".join(TILE_ROWS[name].rule for name in names.split(", ")) for names in told[place]]
    return told


def audit_rows(table: pd.DataFrame, triton: str | None = None) -> pd.DataFrame:
    """The rows of one Triton: the one named, else the incident's, else the newest; raises UserError for others."""
    missing = sorted(COLUMNS - set(table))
    if missing:
        raise UserError(f"these are no audit rows: columns {', '.join(missing)} are missing; read_rows('tile_audit')")
    there = sorted(table["triton"].dropna().unique(), key=version_key)
    if triton is None and there:
        triton = INCIDENT_TRITON if INCIDENT_TRITON in there else there[-1]
    if triton not in there:
        raise UserError(f"no audit rows of Triton {triton}; there are rows of {', '.join(there) or 'none'}")
    return table[table["triton"] == triton]


def _chosen(table: pd.DataFrame, triton: str | None) -> pd.DataFrame:
    """The rows of tiles that a chooser uses on that arch: without what-ifs and without tiles that were only tried."""
    rows = audit_rows(table, triton)
    return rows[rows["chosen_by"].notna() & (rows["chosen_by"] != "")]


def _severity(row: dict) -> tuple[int, int]:
    """Sort key, worst first: no binary for want of registers, no launch, bytes spilled."""
    rank = {"ok": 3, "spills": 2, "register_exhausted": 0}.get(row["status"], 1)
    return (rank, -(whole_number(row["spill_store_bytes"]) or 0))


def plot_audit(table: pd.DataFrame, title: str, subtitle: str, *, triton: str | None = None) -> Figure:
    """A map of cliffs: a column an arch and tile table, a row a head dim, KV dtype and option, words in every cell.

    A spill-free cell holds the register count, one that spills its bytes. `fp8` is e4m3, e5m2 on sm_80 and sm_86. A
    table that no chooser uses on that arch (a what-if) has a question mark.
    """
    rows = audit_rows(table, triton)
    found = {}
    for row in rows.to_dict("records"):
        if row["kv_dtype"] in audit_kv_dtypes(row["arch"]):
            dtype = "bf16" if row["kv_dtype"] == "bf16" else "fp8"
            line = (int(row["head_dim"]), dtype, row["option"])
            found[(row["arch"], row["table"]), line] = row
    columns = [(a, t) for a in ARCHS for t in audit_tables(a) if any(column == (a, t) for column, _ in found)]
    lines = sorted({line for _, line in found}, key=lambda k: (k[0], k[1], list(OPTIONS).index(k[2])))
    grid = Grid(
        rows=tuple(_line_words(line) for line in lines),
        columns=tuple(f"{a}\n{_SHORT_TABLE.get(t, t)}{'' if audit_tables(a)[t] else '?'}" for a, t in columns),
        cells=tuple(tuple(_audit_cell(found.get((column, line))) for column in columns) for line in lines),
        column_title=f"arch and tile table, Triton {rows['triton'].iloc[0]}, compile-time only; ? is a what-if   "
        "(cell: registers per thread, or bytes of spill stores)",
    )
    fig = grid_figure(grid, title, f"{subtitle}\n{_not_drawn(table, triton)}", cell_inches=(0.6, 0.22), font=7.5)
    for y in range(1, len(lines)):
        if lines[y][0] != lines[y - 1][0]:
            fig.axes[0].axhline(y - 0.5, color=OTHER_FAILURE_COLOUR, linewidth=0.8)
    return fig


def _not_drawn(table: pd.DataFrame, triton: str | None) -> str:
    """How many of the cells that a chooser uses are of the eight-bit format that the map leaves out, and die."""
    rows = _chosen(table, triton)
    other = rows[[dtype not in audit_kv_dtypes(a) for a, dtype in zip(rows["arch"], rows["kv_dtype"], strict=True)]]
    died = int((other["status"] == "register_exhausted").sum())
    return f"fp8 is e4m3, on sm_80 and sm_86 e5m2; not drawn: {len(other)} cells of e5m2 elsewhere, of which {died} die"


def _audit_cell(row: dict | None) -> Cell | None:
    if row is None:
        return None
    cell = cell_of(row)
    return replace(cell, words=f"{whole_number(row['regs_per_thread'])} regs") if row["status"] == "ok" else cell


def _line_words(line: tuple[int, str, str]) -> str:
    return f"hd{line[0]} {line[1]}" + (f" {OPTION_WORDS[line[2]]}" if OPTION_WORDS[line[2]] else "")


def audit_counts(table: pd.DataFrame, *, triton: str | None = None) -> pd.DataFrame:
    """How many cells of every arch and tile table are spill-free, spill, crash, or fail otherwise; a last row in all.

    `worst_spill_bytes` is the most spill stores of one thread. What-if tables have `chosen` False and are not in the
    last row.
    """
    import pandas as pd

    rows = audit_rows(table, triton)
    found = [
        _count(part, {"arch": a, "table": name, "chosen": bool(by)})
        for a in ARCHS
        for name, by in audit_tables(a).items()
        if len(part := rows[(rows["arch"] == a) & (rows["table"] == name)])
    ]
    found.append(_count(_chosen(table, triton), {"arch": "all", "table": "all chosen", "chosen": True}))
    return pd.DataFrame(found)


def _count(rows: pd.DataFrame, head: dict) -> dict:
    status = rows["status"]
    return {
        **head,
        "cells": len(rows),
        "spill_free": int((status == "ok").sum()),
        "spills": int((status == "spills").sum()),
        "crashes": int((status == "register_exhausted").sum()),
        "other_failures": int((~status.isin(["ok", "spills", "register_exhausted"])).sum()),
        "worst_spill_bytes": int(rows["spill_store_bytes"].fillna(0).max()) if len(rows) else 0,
    }


def audit_offenders(table: pd.DataFrame, top: int = 12, *, triton: str | None = None) -> pd.DataFrame:
    """The worst cells that a chooser really uses: crashes first, then what cannot launch, then the most bytes spilled.

    `demand` is our count of registers needed at the worst point of the PTX; above 255 something has to give.
    """
    import pandas as pd

    by_spec: dict[tuple, dict] = {}
    for row in _chosen(table, triton).to_dict("records"):
        spec = tuple(row[name] for name in ("arch", "head_dim", "kv_dtype", "option", "tile"))
        also = by_spec.get(spec)
        by_spec[spec] = {**row, "table": f"{also['table']}, {row['table']}"} if also else row
    rows = sorted(by_spec.values(), key=_severity)
    return pd.DataFrame(
        [
            {"arch": r["arch"], "head_dim": _dims(r), "kv_dtype": r["kv_dtype"],
             "option": OPTION_WORDS.get(r["option"], r["option"]) or "none", "tile": r["tile"], "table": r["table"],
             "verdict": words_in_cell(r), "spill_store_bytes": whole_number(r["spill_store_bytes"]),
             "demand": whole_number(r.get("demand")), "tensor_core_path": r.get("tensor_core_path")}
            for r in rows[:top] if r["status"] != "ok"
        ],
        columns=["arch", "head_dim", "kv_dtype", "option", "tile", "table", "verdict", "spill_store_bytes", "demand",
                 "tensor_core_path"],
    ).astype({"spill_store_bytes": "Int64", "demand": "Int64"})  # fmt: skip


def _dims(row: dict) -> str:
    d, dv = int(row["head_dim"]), int(row["v_head_dim"])
    return str(d) if d == dv else f"{d}/{dv}"


def crash_findings(offenders: pd.DataFrame) -> dict[str, object]:
    """Of `audit_offenders`: how many cells are `dead`, of which tile `tables` and `head_dims`.

    `masked` counts those of them with a bf16 cache and a custom mask.
    """
    dead = offenders[offenders["verdict"].str.contains("C76")]
    masked = dead[(dead["kv_dtype"] == "bf16") & (dead["option"] == "mask")]
    return {"dead": len(dead), "masked": len(masked), "tables": set(dead["table"]),
            "head_dims": sorted(set(dead["head_dim"]))}  # fmt: skip


def demand_threshold(table: pd.DataFrame, triton: str = INCIDENT_TRITON) -> dict[str, int | bool]:
    """Demand beside the verdict, in the cells of one Triton that compiled or died for want of registers.

    Of the `cells` with tensor memory, the highest demand that `lived` and the lowest that `died`; without it, how many
    cells need as much as the lowest that died and only spill (`elsewhere`), and the most that one of them needs
    (`elsewhere_most`). `only_tmem` says whether every dead cell is one with tensor memory.
    """
    rows = audit_rows(table, triton)
    rows = rows[rows["status"].isin(("ok", "spills", "register_exhausted"))]
    died, tmem = rows["status"] == "register_exhausted", rows["tensor_core_path"] == "tcgen05"
    died_from = rows[died]["demand"].min()
    high = rows[~tmem & ~died & (rows["demand"] >= died_from)]["demand"]
    return {"cells": int(tmem.sum()), "lived": int(rows[tmem & ~died]["demand"].max()), "died": int(died_from),
            "elsewhere": len(high), "elsewhere_most": int(high.max()), "only_tmem": bool(tmem[died].all())}  # fmt: skip


def arch_tally(tallies: pd.DataFrame, arch: str) -> dict:
    """Of `audit_counts`: the counts of the tile table that a chooser uses on this arch."""
    return tallies[(tallies["arch"] == arch) & tallies["chosen"]].iloc[0].to_dict()


# --- what a spill-free table would choose -------------------------------------------------------------------------


def spill_free_choices(table: pd.DataFrame, *, triton: str | None = None) -> pd.DataFrame:
    """Beside every tile that a table chooses, the largest tile with 0 spills under every option that was compiled.

    One row an arch, head dim and KV dtype. `today` is what the newest chooser takes and `today_worst` its worst verdict
    over no window, window and mask; `spill_free` the largest tile whose three compiles are all there and spill-free.
    `outcome` is `keeps`, `changes`, `none found` or `not searched` (none but the tables' tiles were compiled).
    Spill-free is not yet fast: few rows read each key more often, and fewer than 64 leave wgmma and tcgen05 (`path_…`).
    """
    import pandas as pd

    rows = audit_rows(table, triton)
    rows = rows[rows["option"].isin(EVERYWHERE)]
    found = []
    for (arch, head_dim, kv_dtype), group in rows.groupby(["arch", "head_dim", "kv_dtype"], sort=False):
        if kv_dtype not in audit_kv_dtypes(arch):
            continue
        verdicts: dict[str, dict[str, dict]] = {}
        for row in group.to_dict("records"):
            verdicts.setdefault(row["tile"], {})[row["option"]] = row
        today = _tile_words(TILE_ROWS[[name for name, by in audit_tables(arch).items() if by][-1]].tile(int(head_dim)))
        free = [t for t, by in verdicts.items() if set(EVERYWHERE) <= set(by) and _all_free(by)]
        best = max(free, key=lambda tile: _size(tile, today), default=None)
        worst = min(verdicts.get(today, {}).values(), key=_severity, default=None)
        searched = (group["table"] == SEARCH).any()
        outcome = "keeps" if best == today else "changes" if best else "none found" if searched else "not searched"
        found.append(
            {"arch": arch, "head_dim": _dims(group.iloc[0].to_dict()), "kv_dtype": kv_dtype, "today": today,
             "today_worst": _worst_words(worst), "spill_free": best or "",
             "outcome": outcome, "path_today": _path(verdicts.get(today, {})),
             "path_spill_free": _path(verdicts[best]) if best else "", "compiles": len(group)}
        )  # fmt: skip
    return pd.DataFrame(found)


def _worst_words(row: dict | None) -> str:
    if row is None:
        return "not compiled"
    if row["status"] == "ok":
        return "spill-free"
    return f"{words_in_cell(row)} ({OPTION_WORDS[row['option']] or 'no window'})"


def _all_free(by_option: dict[str, dict]) -> bool:
    return all(by_option[option]["status"] == "ok" for option in EVERYWHERE)


def _tile_words(tile: tuple[int, int]) -> str:
    return f"{tile[0]}x{tile[1]}"


def _size(tile: str, today: str) -> tuple[int, bool, int]:
    """Sort key: elements, and of two as large today's, else the one with more rows, which reads each key less often."""
    m, _, n = tile.partition("x")
    return int(m) * int(n), tile == today, int(m)


def _path(by_option: dict[str, dict]) -> str:
    """The tensor-core path of a tile; that of its options is one."""
    return "/".join(sorted({str(row["tensor_core_path"]) for row in by_option.values()}))


def changed_choices(choices: pd.DataFrame) -> pd.DataFrame:
    """Of `spill_free_choices`: the rows whose tile would change."""
    return choices[choices["outcome"] == "changes"].reset_index(drop=True)


def reader_question_table(table: pd.DataFrame, *, triton: str | None = None) -> pd.DataFrame:
    """The reader's question of the incident, with numbers: why is sm_120a not handled, and does it need to be?

    One row a head dim and KV dtype on sm_120a: its own row's tile, the registers or spills it comes to at worst over
    the options, the same for the merged row's tile, and the largest spill-free tile.
    """
    import pandas as pd

    rows = audit_rows(table, triton)
    rows = rows[(rows["arch"] == "sm_120a") & rows["option"].isin(EVERYWHERE)]
    choices = {
        (r["head_dim"], r["kv_dtype"]): r["spill_free"]
        for r in spill_free_choices(table, triton=triton).to_dict("records")
        if r["arch"] == "sm_120a"
    }
    found = []
    for (_, kv_dtype), group in rows.groupby(["head_dim", "kv_dtype"]):
        if kv_dtype not in audit_kv_dtypes("sm_120a"):
            continue
        entry: dict[str, object] = {"head_dim": _dims(group.iloc[0].to_dict()), "kv_dtype": kv_dtype}
        for name, column in (("blackwell_consumer", "own row"), ("sm100_branch", "merged row")):
            mine = sorted(group[group["table"] == name].to_dict("records"), key=_severity)
            entry[column] = mine[0]["tile"] if mine else ""
            entry[f"{column}: worst"] = _worst_words(mine[0] if mine else None)
        entry["spill_free"] = choices.get((entry["head_dim"], kv_dtype), "")
        found.append(entry)
    return pd.DataFrame(found)

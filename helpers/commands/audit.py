"""`audit`: the tile tables cell by cell, recorded or compiled now: counts, worst offenders, spill-free tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.commands.line.common import value_option
from helpers.commands.line.grammar import OWN, Values, Verb, one, own_option, shared
from helpers.commands.line.output import check_writable, show_result, write_result
from helpers.commands.line.progress import progress
from helpers.compiler.compile import compile_matrix
from helpers.compiler.report import refuse_ill
from helpers.compiler.toolchain import ENVIRONMENT, INCIDENT_TRITON, resolve_triton
from helpers.errors import UserError
from helpers.hardware import AMD_ARCHS

if TYPE_CHECKING:
    import pandas as pd

RECORDED, RECORDED_AMD = "tile_audit", "amd_extend"


@click.command(
    "audit", cls=Verb, examples=("register-cliff audit --arch B200 --head-dim 256 --kv-dtype fp8_e4m3",
                                 "register-cliff audit --arch 'RTX 5090' --live",
                                 "register-cliff audit --arch MI300X,MI355X --head-dim 576"),
)  # fmt: skip
@value_option("head_dim", many=True, default="(all recorded)", panel=OWN)
@value_option("kv_dtype", many=True, default="(all recorded)", panel=OWN)
@own_option("--feature", "features", metavar="NAME,…", type=Values(str), default="(all recorded)",
            help="only cells with this: none, window, mask, cap")  # fmt: skip
@own_option("--live", is_flag=True, help="compile the cells now instead of reading recorded rows (seconds a cell)")
@own_option("--top", type=click.IntRange(1, 1000), default=12, metavar="N", help="how many offenders are shown")
@shared(
    "arch",
    "triton",
    many=("arch",),
    amd=True,
    arch="(all recorded)",
    triton=f"({INCIDENT_TRITON} where it is recorded)",
)
@shared("csv", "force", "json", "quiet")
def audit_command(
    arch: list | None, head_dim: list | None, kv_dtype: list | None, features: list | None, triton: list | None,
    live: bool, top: int, csv_path: Path | None, as_json: bool, quiet: bool, force: bool,
) -> None:  # fmt: skip
    """Show where the tile tables fall off the register cliff, arch by arch: spills, crashes, and what would not.

    Reads the recorded rows; benchmarks/record_audit.py makes them, on any machine with a Triton. AMD's chips are a
    table of their own (benchmarks/record_amd.py), with every Triton that was recorded unless one is named.
    """
    from helpers.attention.studies.tile_audit import OPTIONS

    if csv_path is not None:
        check_writable(csv_path)
    wanted = {
        "arch": arch or [],
        "head_dim": head_dim or [],
        "kv_dtype": _known(kv_dtype or [], "KV dtype", ("bf16", "fp8_e4m3", "fp8_e5m2")),
        "option": _known(features or [], "feature", tuple(OPTIONS)),
    }
    if amd := [name for name in wanted["arch"] if name in AMD_ARCHS]:
        if len(amd) < len(wanted["arch"]):
            raise UserError(
                "NVIDIA's chips and AMD's are audited by different tables: name those of one maker at a time"
            )
        if [name for name in wanted["option"] if name != "none"]:
            raise UserError("on AMD's chips only the kernel without a window, mask or cap is audited: --feature none")
        table, source = _live_amd(wanted, one(triton)) if live else _recorded_amd(wanted, one(triton))
        if csv_path is not None:
            write_result(csv_path, table.to_csv(index=False))
        result = {"source": source, "rows": len(table), "cells": _plain(table)}
        show_result(result, as_json, _format_amd)
        return
    table, source = _live(wanted, one(triton)) if live else _recorded(wanted, one(triton))
    result = audit_result(table, source, top=top)
    if csv_path is not None:
        write_result(csv_path, table.to_csv(index=False))
    show_result(result, as_json, format_audit)


def _known(words: list[str], what: str, possible: tuple[str, ...]) -> list[str]:
    for word in words:
        if word not in possible:
            raise UserError(f"unknown {what} {word[:40]!r}: choose from {', '.join(possible)}")
    return words


def _recorded(wanted: dict[str, list], triton: str | None) -> tuple[pd.DataFrame, str]:
    """(recorded rows that the filters leave, where they come from)."""
    from helpers.recorded import provenance, read_rows
    from helpers.workbook.every_chips_tiles.tile_audit import audit_rows

    whole = read_rows(RECORDED)
    return _fitting(audit_rows(whole, triton), wanted), provenance(whole)


def _recorded_amd(wanted: dict[str, list], triton: str | None) -> tuple[pd.DataFrame, str]:
    """`_recorded` for AMD's chips."""
    from helpers.recorded import provenance, read_rows

    whole = read_rows(RECORDED_AMD)
    filters = {**{k: v for k, v in wanted.items() if k != "option"}, "triton": [triton] if triton else []}
    return _fitting(whole, filters), provenance(whole)


def _fitting(table: pd.DataFrame, wanted: dict[str, list]) -> pd.DataFrame:
    """The rows that the filters leave; raises UserError where that is none."""
    for column, values in wanted.items():
        if values:
            table = table[table[column].isin(values)]
    if table.empty:
        words = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in wanted.items() if v)
        raise UserError(f"no recorded row fits ({words}); leave a filter away, or compile the cells with --live")
    return table


def _live_amd(wanted: dict[str, list], triton: str | None) -> tuple[pd.DataFrame, str]:
    """`_live` for AMD's chips, by one Triton: the one named, else the environment's own."""
    import pandas as pd

    from helpers.attention.studies.amd_audit import amd_choices, amd_row

    release = triton or resolve_triton(ENVIRONMENT).version
    choices = amd_choices(wanted["arch"], tritons=[release], head_dims=wanted["head_dim"], kv_dtypes=wanted["kv_dtype"])
    with progress("compiling", len(choices)) as bar:
        reports = compile_matrix([choice.request() for choice in choices], progress=bar.compiled)
    refuse_ill(reports)
    if missing := next((r for r in reports if r.status == "toolchain_missing"), None):
        raise UserError(missing.message)
    rows = [amd_row(choice, report) for choice, report in zip(choices, reports, strict=True)]
    return pd.DataFrame(rows), "live, compiled on this machine (no GPU involved)"


_SHOWN_AMD = (
    "arch", "head_dim", "v_head_dim", "kv_dtype", "tile", "num_warps", "engines_tile", "triton", "status", "vgprs",
    "scratch_bytes", "vgpr_spills", "lds_bytes", "waves_per_simd",
)  # fmt: skip


def _format_amd(result: dict) -> str:
    """The cells of AMD's chips as text."""
    import pandas as pd

    shown = pd.DataFrame(result["cells"])[list(_SHOWN_AMD)].convert_dtypes().astype(object).fillna("")
    return f"{result['rows']} rows; {result['source']}\n\n{shown.to_string(index=False)}"


def _live(wanted: dict[str, list], triton: str | None) -> tuple[pd.DataFrame, str]:
    """(rows compiled now, or taken from this machine's cache; a sentence that says so)."""
    import pandas as pd

    from helpers.attention.studies.tile_audit import ARCHS, audit_requests, row_of

    cells = audit_requests(
        triton=triton or INCIDENT_TRITON, archs=wanted["arch"] or tuple(ARCHS), head_dims=wanted["head_dim"],
        kv_dtypes=wanted["kv_dtype"], options=wanted["option"],
    )  # fmt: skip
    with progress("compiling", len(cells)) as bar:
        reports = compile_matrix([cell.request() for cell in cells], progress=bar.compiled)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if len(missing) == len(reports):
        raise UserError(missing[0].message)
    refuse_ill(reports)
    rows = [row_of(cell, report) for cell, report in zip(cells, reports, strict=True)]
    return pd.DataFrame(rows), "live, compiled on this machine (no GPU involved)"


def audit_result(table: pd.DataFrame, source: str, *, top: int = 12) -> dict:
    """What `audit --json` prints: source, triton, counts, offenders, spill_free, liveness; rows as dictionaries."""
    from helpers.workbook.every_chips_tiles.tile_audit import audit_counts, audit_offenders, spill_free_choices
    from helpers.workbook.how_good_is_the_estimate.estimate import liveness_counts

    (triton,) = table["triton"].dropna().unique()
    views = {
        "counts": audit_counts(table, triton=triton),
        "offenders": audit_offenders(table, top, triton=triton),
        "spill_free": spill_free_choices(table, triton=triton),
        "liveness": liveness_counts(table),
    }
    as_rows = {name: _plain(view) for name, view in views.items()}
    return {"source": source, "triton": triton, "rows": len(table), **as_rows}


def _plain(view: pd.DataFrame) -> list[dict]:
    """The rows of a table as JSON can hold them."""
    rows = view.astype(object).where(view.notna(), None).to_dict("records")
    return [{k: v.item() if hasattr(v, "item") else v for k, v in row.items()} for row in rows]


def format_audit(result: dict) -> str:
    """The result of the verb as text: one table after another, each with what it is."""
    import pandas as pd

    def shown(rows: list[dict]) -> str:
        return pd.DataFrame(rows).convert_dtypes().astype(object).fillna("").to_string(index=False)

    parts = [f"{result['rows']} rows of Triton {result['triton']}; {result['source']}", ""]
    parts += ["cells of the tile tables", shown(result["counts"])]
    if result["offenders"]:
        parts += ["", "worst, of the tiles that a chooser uses", shown(result["offenders"])]
    changes = [r for r in result["spill_free"] if r["outcome"] != "keeps"]
    if changes:
        parts += ["", "where a spill-free table would choose otherwise", shown(changes)]
    if result["liveness"]:
        rows = [{**r, **{k: f"{r[k]:.2f}" for k in ("share", "lowest", "p10", "median", "p90", "highest")}}
                for r in result["liveness"]]  # fmt: skip
        parts += ["", "registers estimated from the PTX, within 15% of ptxas's count", shown(rows)]
    return "\n".join(parts)

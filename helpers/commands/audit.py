"""`audit`: the tile tables cell by cell, recorded or compiled now: counts, worst offenders, spill-free tiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from helpers.commands.common import Verb, check_writable, run_with_progress, show_result
from helpers.compiler.toolchain import INCIDENT_TRITON
from helpers.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

RECORDED = "tile_audit"


@click.command("audit", cls=Verb)
@click.option("--arch", "archs", metavar="ARCH,…", help="only these (default: all recorded)")
@click.option("--head-dim", "head_dims", metavar="N,…", help="only these query/key head dims")
@click.option("--kv-dtype", "kv_dtypes", metavar="DTYPE,…", help="only these: bf16, fp8_e4m3, fp8_e5m2")
@click.option("--option", "options", metavar="NAME,…", help="only these: none, window, mask, cap")
@click.option("--triton", help=f"Triton version [{INCIDENT_TRITON} where it is recorded]")
@click.option("--live", is_flag=True, help="compile the cells now instead of reading recorded rows (seconds a cell)")
@click.option("--top", type=click.IntRange(1, 1000), default=12, show_default=True, help="offenders shown")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="write the rows to this file")
@click.option("--json", "as_json", is_flag=True, help="print counts, offenders, spill_free and liveness as JSON")
@click.option("--quiet", is_flag=True, help="no progress bar")
def audit_command(
    archs: str | None, head_dims: str | None, kv_dtypes: str | None, options: str | None, triton: str | None,
    live: bool, top: int, csv_path: Path | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Show where the tile tables fall off the register cliff, arch by arch: spills, crashes, and what would not.

    Reads the recorded rows; benchmarks/record_audit.py makes them, on any machine with a Triton.
    """
    from helpers.attention.studies.tile_audit import OPTIONS
    from helpers.hardware import get_arch

    if csv_path is not None:
        check_writable(csv_path)
    wanted = {
        "arch": [get_arch(name).name for name in _words(archs)],
        "head_dim": [_number(word) for word in _words(head_dims)],
        "kv_dtype": _known(_words(kv_dtypes), "KV dtype", ("bf16", "fp8_e4m3", "fp8_e5m2")),
        "option": _known(_words(options), "option", tuple(OPTIONS)),
    }
    table, source = _live(wanted, triton, quiet=quiet) if live else _recorded(wanted, triton)
    result = audit_result(table, source, top=top)
    if csv_path is not None:
        from helpers.files import write_text_atomically

        try:
            write_text_atomically(csv_path, table.to_csv(index=False))
        except OSError as exc:
            raise UserError(f"cannot write {csv_path}: {exc.strerror or exc}") from exc
    show_result(result, as_json, format_audit)


def _words(text: str | None) -> list[str]:
    return [] if text is None else [word.strip() for word in text.split(",")]


def _number(word: str) -> int:
    if not word.isdecimal() or len(word) > 6:
        raise UserError(f"head dim {word[:40]!r} is not a whole number; give for example --head-dim 256,512")
    return int(word)


def _known(words: list[str], what: str, possible: tuple[str, ...]) -> list[str]:
    for word in words:
        if word not in possible:
            raise UserError(f"unknown {what} {word[:40]!r}: choose from {', '.join(possible)}")
    return words


def _recorded(wanted: dict[str, list], triton: str | None) -> tuple[pd.DataFrame, str]:
    """(recorded rows that the filters leave, where they come from)."""
    from helpers.recorded import provenance, read_rows
    from helpers.workbook.root_cause.tile_audit import audit_rows

    whole = read_rows(RECORDED)
    table = audit_rows(whole, triton)
    for column, values in wanted.items():
        if values:
            table = table[table[column].isin(values)]
    if table.empty:
        words = "; ".join(f"{k} {', '.join(map(str, v))}" for k, v in wanted.items() if v)
        raise UserError(f"no recorded row fits ({words}); leave a filter away, or compile the cells with --live")
    return table, provenance(whole)


def _live(wanted: dict[str, list], triton: str | None, *, quiet: bool) -> tuple[pd.DataFrame, str]:
    """(rows compiled now, or taken from this machine's cache; a sentence that says so)."""
    import pandas as pd

    from helpers.attention.studies.tile_audit import ARCHS, audit_requests, row_of

    cells = audit_requests(
        triton=triton or INCIDENT_TRITON, archs=wanted["arch"] or tuple(ARCHS), head_dims=wanted["head_dim"],
        kv_dtypes=wanted["kv_dtype"], options=wanted["option"],
    )  # fmt: skip
    reports = run_with_progress([cell.request() for cell in cells], quiet=quiet)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if len(missing) == len(reports):
        raise UserError(missing[0].message)
    rows = [row_of(cell, report) for cell, report in zip(cells, reports, strict=True)]
    return pd.DataFrame(rows), "live, compiled on this machine (no GPU involved)"


def audit_result(table: pd.DataFrame, source: str, *, top: int = 12) -> dict:
    """What `audit --json` prints: source, triton, counts, offenders, spill_free, liveness; rows as dictionaries."""
    from helpers.workbook.root_cause.estimate import liveness_counts
    from helpers.workbook.root_cause.tile_audit import audit_counts, audit_offenders, spill_free_choices

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

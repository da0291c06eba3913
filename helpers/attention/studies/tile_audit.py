"""The tile audit: every cell of the tile tables as a compile request, the row each becomes, and spill-free tiles.

A cell is arch x head dim x KV dtype x option x table, with the incident's ingredients. Nothing but Triton is needed
here, so that a bare machine with many cores can run an audit (benchmarks/record_audit.py).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.tiles import CHOOSERS, TILE_ROWS, default_num_warps, tile_row
from helpers.compiler.compile import CompileRequest, compile_request, usable_cores
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import INCIDENT_TRITON, Toolchain, resolve_triton, version_key
from helpers.errors import UserError
from helpers.hardware import ARCHS, CAP, get_arch
from helpers.inspection.ptx.pressure import OFFSET, SLOPE, pressure_profile

# (query/key head dim, value head dim) as engines serve them: MLA's values lack the rotary part.
AUDIT_HEAD_DIMS = ((64, 64), (96, 96), (128, 128), (192, 128), (256, 256), (288, 256), (512, 512), (576, 512))
OPTIONS: dict[str, dict] = {
    "none": {"window": None},
    "window": {"window": 1024},
    "mask": {"window": None, "mask": True},
    "cap": {"window": None, "logit_cap": 50.0},
}
# The options that one tile table has to serve on every head dim.
EVERYWHERE = ("none", "window", "mask")
# Models with capped logits have these head dims (Grok 128, Gemma 2 256).
CAP_HEAD_DIMS = (128, 256)
E5M2_HEAD_DIM = 256
# Tables that no chooser gives this arch, for the reader who asked about sm_120a: would the branch's tiles do there?
WHAT_IF = {"sm_120a": ("sm100_branch",)}
# The ptxas that older Tritons bundle knows neither; their PTX is then written for one that does.
NEWER_ARCHS, NEWER_PTXAS, FIRST_TRITON_WITH_IT = ("sm_103a", "sm_121a"), "12.9.86", "3.6.0"
# BLOCK_M x BLOCK_N from large to small; of two as large the one with more rows, which reads each key less often.
CANDIDATE_TILES = tuple(
    sorted(((m, n) for m in (16, 32, 64, 128) for n in (32, 64, 128)), key=lambda tile: (-tile[0] * tile[1], -tile[0]))
)
SEARCH = "search"
ESTIMATE_RULE = f"min({CAP}, {SLOPE} x demand + overflow + {OFFSET})"


@dataclass(frozen=True, kw_only=True)
class AuditCell:
    """One cell: where (arch, head dims, KV dtype, option), by which table, and the choice that compiles it.

    `chosen_by` are the versions of the chooser that use this table on this arch; empty for a what-if or a search.
    """

    option: str
    table: str
    chosen_by: tuple[str, ...]
    choice: Choice

    def request(self) -> CompileRequest:
        """The compile request of this cell."""
        return self.choice.request()


def audit_kv_dtypes(arch: str) -> tuple[str, str]:
    """The KV dtypes audited on every head dim: fp8_e4m3 is no type of Triton's before capability 8.9."""
    return ("bf16", "fp8_e4m3") if get_arch(arch).capability >= 89 else ("bf16", "fp8_e5m2")


def audit_tables(arch: str) -> dict[str, tuple[str, ...]]:
    """Table name to the chooser versions that use it on `arch`, in the order of the versions; what-ifs last."""
    tables: dict[str, tuple[str, ...]] = {}
    for chooser in CHOOSERS:
        name = tile_row(get_arch(arch).capability, chooser).name
        tables[name] = (*tables.get(name, ()), chooser)
    return tables | {name: () for name in WHAT_IF.get(arch, ())}


def audit_toolchain(arch: str, triton: str = INCIDENT_TRITON) -> Toolchain:
    """What compiles for `arch` with this Triton: its bundled ptxas, or a newer one where that cannot."""
    version = resolve_triton(triton).version if triton == "environment" else triton
    if arch in NEWER_ARCHS and version_key(version) < version_key(FIRST_TRITON_WITH_IT):
        return Toolchain(triton, NEWER_PTXAS, True)
    return Toolchain(triton)


def audit_cell(
    *,
    arch: str,
    head_dim: int,
    kv_dtype: str,
    option: str,
    tile: tuple[int, int],
    triton: str = INCIDENT_TRITON,
    table: str = SEARCH,
    chosen_by: tuple[str, ...] = (),
) -> AuditCell:
    """The cell of one tile; raises UserError for an option or head dim the audit does not know."""
    if option not in OPTIONS:
        raise UserError(f"unknown option {option!r}: choose one of {', '.join(OPTIONS)}")
    values = dict(AUDIT_HEAD_DIMS)
    if head_dim not in values:
        raise UserError(f"head dim {head_dim} is not audited: choose one of {', '.join(map(str, values))}")
    toolchain = audit_toolchain(arch, triton)
    choice = Choice(
        arch=arch,
        head_dim=head_dim,
        v_head_dim=None if values[head_dim] == head_dim else values[head_dim],
        kv_dtype=kv_dtype,
        tile=f"{tile[0]}x{tile[1]}",
        triton=toolchain.triton,
        ptxas=toolchain.ptxas,
        ptxas_for_codegen=toolchain.ptxas_for_codegen,
        **OPTIONS[option],
    )
    return AuditCell(option=option, table=table, chosen_by=chosen_by, choice=choice)


def audit_requests(
    *,
    triton: str = INCIDENT_TRITON,
    archs: Sequence[str] = tuple(ARCHS),
    head_dims: Sequence[int] | None = None,
    kv_dtypes: Sequence[str] | None = None,
    options: Sequence[str] | None = None,
) -> list[AuditCell]:
    """Every cell of the audit, narrowed by the filters; no two have the same arch, table and spec.

    Two tables of an arch may choose the same tile: both cells are there, the compile cache makes one compile of them.
    Raises UserError for an unknown arch, head dim or option, and when nothing is left.
    """
    names = [get_arch(a).name for a in archs]
    unknown = set(head_dims or ()) - {d for d, _ in AUDIT_HEAD_DIMS} | set(options or ()) - set(OPTIONS)
    if unknown:
        raise UserError(
            f"not audited: {', '.join(map(str, sorted(unknown, key=str)))}; head dims are "
            f"{', '.join(str(d) for d, _ in AUDIT_HEAD_DIMS)}, options {', '.join(OPTIONS)}"
        )
    cells = [
        audit_cell(
            arch=arch, head_dim=head_dim, kv_dtype=kv_dtype, option=option, triton=triton, table=table,
            tile=TILE_ROWS[table].tile(head_dim), chosen_by=chosen_by,
        )
        for arch in dict.fromkeys(names)
        for table, chosen_by in audit_tables(arch).items()
        for head_dim, _ in AUDIT_HEAD_DIMS
        if not head_dims or head_dim in head_dims
        for kv_dtype, option in _combinations(arch, head_dim)
        if (not kv_dtypes or kv_dtype in kv_dtypes) and (not options or option in options)
    ]  # fmt: skip
    if not cells:
        raise UserError(
            "these filters leave nothing to audit; fp8_e4m3 needs sm_89 or later, older archs have fp8_e5m2"
        )
    return cells


def _combinations(arch: str, head_dim: int) -> Iterable[tuple[str, str]]:
    """(KV dtype, option) pairs audited at a head dim."""
    dtypes = audit_kv_dtypes(arch)
    for kv_dtype in dtypes:
        for option in (*EVERYWHERE, *(("cap",) if head_dim in CAP_HEAD_DIMS else ())):
            yield kv_dtype, option
    if "fp8_e5m2" not in dtypes and head_dim == E5M2_HEAD_DIM:
        yield from (("fp8_e5m2", option) for option in ("none", "window"))


# --- rows -------------------------------------------------------------------------------------------------------


def audit_row(cell: AuditCell) -> dict:
    """Compile a cell and return its row: where, the verdict, the demand read from the PTX, and provenance.

    Demand and estimate are of helpers.inspection.ptx.pressure, by the rule named in the row, and are there for failed
    compiles as well. A module-level function of plain data: any concurrent.futures executor can ship it.
    """
    return row_of(cell, compile_request(cell.request()))


def row_of(cell: AuditCell, report: CompileReport) -> dict:
    """The row of a cell and the report of its compile."""
    choice = cell.choice
    # A worker that died leaves no PTX, and neither does a toolchain that is not there.
    profile = pressure_profile(Path(report.ptx_path).read_text()) if report.ptx_path else None
    found = {
        name: getattr(profile, name) if profile else None
        for name in ("demand", "overflow", "floor", "text_order_peak", "estimate")
    }
    return {
        "arch": choice.arch,
        "head_dim": choice.head_dim,
        "v_head_dim": choice.v_head_dim or choice.head_dim,
        "kv_dtype": choice.kv_dtype,
        "option": cell.option,
        "table": cell.table,
        "chosen_by": "+".join(cell.chosen_by),
        "tile": choice.tile,
        "num_warps": choice.num_warps or default_num_warps(choice.head_dim),
        "num_stages": choice.num_stages or 1,
        "triton": report.triton_version,
        "ptxas": report.ptxas_version,
        "status": report.status,
        "ptxas_code": report.ptxas_code,
        "regs_per_thread": report.regs_per_thread,
        "spill_store_bytes": report.spill_store_bytes,
        "spill_load_bytes": report.spill_load_bytes,
        "stack_frame_bytes": report.stack_frame_bytes,
        "smem_bytes": report.smem_bytes,
        "tmem_columns": report.tmem_columns,
        "tensor_core_path": report.tensor_core_path,
        "ptx_lines": report.ptx_lines,
        **found,
        "estimate_rule": ESTIMATE_RULE,
        "message": " ".join(report.message.split())[:160],
        "ptx_sha256": (report.ptx_sha256 or "")[:12],
        "wall_s": round(report.wall_s, 2),
        "date_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{platform.system()} {platform.machine()}, {usable_cores()} cores, "
        f"Python {platform.python_version()}, no GPU used",
        "command": choice.command(),
    }


def is_spill_free(row: Mapping) -> bool:
    """Whether a row's compile is launchable with nothing spilled."""
    return row["status"] == "ok"


# --- what a spill-free table would choose -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SpillFree:
    """The largest tile that compiles with 0 spills under every option (None: no candidate does), and what was tried."""

    arch: str
    head_dim: int
    kv_dtype: str
    tile: tuple[int, int] | None
    rows: tuple[dict, ...]


def table_tiles(arch: str, head_dim: int) -> list[tuple[int, int]]:
    """The different tiles that the tables of an arch choose at a head dim."""
    return list(dict.fromkeys(TILE_ROWS[name].tile(head_dim) for name, by in audit_tables(arch).items() if by))


def spill_free_tile(
    *,
    arch: str,
    head_dim: int,
    kv_dtype: str,
    triton: str = INCIDENT_TRITON,
    options: Sequence[str] = ("window", "mask", "none"),
    run: Callable[[AuditCell], dict] = audit_row,
) -> SpillFree:
    """Try the candidate tiles, largest first, none larger than the tables' largest, until one is spill-free.

    A tile counts when every option compiles to 0 spill bytes; the first option that does not ends its trial. `run`
    turns a cell into a row (`audit_row`). Raises UserError for an arch, head dim or option the audit does not know.
    """
    largest = max(m * n for m, n in table_tiles(arch, head_dim))
    rows: list[dict] = []
    for tile in CANDIDATE_TILES:
        if tile[0] * tile[1] > largest:
            continue
        for option in options:
            cell = audit_cell(arch=arch, head_dim=head_dim, kv_dtype=kv_dtype, option=option, tile=tile, triton=triton)
            rows.append(run(cell))
            if not is_spill_free(rows[-1]):
                break
        else:
            return SpillFree(arch=arch, head_dim=head_dim, kv_dtype=kv_dtype, tile=tile, rows=tuple(rows))
    return SpillFree(arch=arch, head_dim=head_dim, kv_dtype=kv_dtype, tile=None, rows=tuple(rows))


def cliffs(rows: Iterable[Mapping]) -> list[tuple[str, int, str]]:
    """(arch, head dim, KV dtype) of every group in which a tile that a chooser uses is not spill-free."""
    found = {
        (r["arch"], int(r["head_dim"]), r["kv_dtype"]): None
        for r in rows
        if r["chosen_by"] and r["option"] in EVERYWHERE and not is_spill_free(r)
    }
    return [key for key in found if key[2] in audit_kv_dtypes(key[0])]

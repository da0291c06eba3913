"""Reports and rows as pandas tables, in the order and with the names people compare by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.spec import EXTEND_KERNEL
from helpers.attention.studies.incident import GEMMA4_LAYERS
from helpers.attention.tiles import TileConfig, choose_tile, parse_tile, tile_row
from helpers.compiler.report import CompileReport, Evidence
from helpers.hardware import ARCHS, get_arch
from helpers.inspection.binary.occupancy import occupancy
from helpers.inspection.ptx.scan import (
    count_instructions,
    instructions_by_source_line,
    ptx_header,
    register_declarations,
    wide_operands,
)
from helpers.workbook.prose import source_lines_of

if TYPE_CHECKING:
    import pandas as pd

SHORT_COLUMNS = (
    "label", "arch", "triton_version", "ptxas_version", "status", "regs_per_thread", "spill_store_bytes",
    "spill_load_bytes", "smem_bytes", "tensor_core_path", "ptxas_code",
)  # fmt: skip
_WHOLE_NUMBERS = (
    "num_warps", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes", "smem_bytes",
    "tmem_columns", "barriers", "register_count_asked", "ptx_lines",
)  # fmt: skip


def report_row(report: CompileReport) -> dict:
    """One report as a flat row: the fields, with `instructions` spread into `n_…` columns."""
    row = report.to_dict()
    counts = row.pop("instructions")
    return {**row, **{f"n_{name}": counts.get(name) for name in sorted(counts)}}


def reports_table(reports: Iterable[CompileReport], columns: Sequence[str] | None = SHORT_COLUMNS) -> pd.DataFrame:
    """A table, one row a report; all columns when `columns` is None. Whole numbers stay whole."""
    import pandas as pd

    table = pd.DataFrame([report_row(r) for r in reports])
    for name in _WHOLE_NUMBERS:
        if name in table:
            table[name] = table[name].astype("Int64")
    return table if columns is None or table.empty else table[[c for c in columns if c in table]]


def _frame(rows: list[dict]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(rows)
    for name in table:
        values = [row[name] for row in rows if row[name] is not None]
        if values and all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            table[name] = table[name].astype("Int64")
    return table


def against_reference(evidence: Sequence[Evidence], reference: pd.DataFrame) -> pd.DataFrame:
    """This project's kernel beside the release kernel's recorded rows, in the same order, with the difference in bytes.

    `same_verdict` compares crash with crash: the claim under test. Raises ValueError when the rows do not pair up.
    """
    rows = []
    for item, ref in zip(evidence, reference.to_dict("records"), strict=True):
        report = item.report
        if f"hd{ref['head_dim']} {ref['kv_dtype']}" not in report.label or ref["tile"] not in report.label:
            raise ValueError(f"row {report.label!r} is compared with {ref}")
        crash_there = ref["status"] == "register_exhausted"
        spill_there = None if crash_there else int(ref["spill_store_bytes"])
        spill_here = report.spill_store_bytes
        rows.append(
            {
                "configuration": report.label,
                "0.5.10 kernel": "fatal C7600"
                if crash_there
                else f"{int(ref['regs_per_thread'])} regs, {spill_there} B",
                "this kernel": f"fatal {report.ptxas_code}"
                if report.crashed
                else f"{report.regs_per_thread} regs, {spill_here} B",
                "spill difference (B)": None if spill_there is None or spill_here is None else spill_here - spill_there,
                "same_verdict": crash_there == report.crashed,
            }
        )
    return _frame(rows)


def layer_table(evidence: Sequence[Evidence], choices: Sequence[Choice]) -> pd.DataFrame:
    """One row a Gemma 4 layer kind and KV dtype: how many layers, the tile, and ptxas's verdict."""
    counts = {layer.shape.head_dim: layer for layer in GEMMA4_LAYERS}
    return _frame(
        [
            {
                "layer": counts[choice.head_dim].shape.name,
                "layers": counts[choice.head_dim].count,
                "head_dim": choice.head_dim,
                "kv_dtype": choice.kv_dtype,
                "tile": str(choice_tile(choice)),
                "status": item.report.status,
                "regs_per_thread": item.report.regs_per_thread,
                "spill_store_bytes": item.report.spill_store_bytes,
                "tensor_core_path": item.report.tensor_core_path,
                "evidence": "live" if item.live else "recorded",
            }
            for item, choice in zip(evidence, choices, strict=True)
        ]
    )


def choice_tile(choice: Choice) -> TileConfig:
    """The tile a choice comes to on its arch."""
    return parse_tile(choice.tile, capability=get_arch(choice.arch).capability, head_dim=choice.head_dim)


def chooser_table(head_dims: Sequence[int] = (128, 256, 512)) -> pd.DataFrame:
    """What the tile chooser answers per arch and head dim, before and after the fix, and where that changed."""
    rows = []
    for arch in ARCHS.values():
        row: dict[str, object] = {"arch": arch.name, "product": arch.product}
        for head_dim in head_dims:
            before = choose_tile(arch.capability, head_dim, chooser="before_fix")
            after = choose_tile(arch.capability, head_dim, chooser="after_fix")
            row[f"hd{head_dim}"] = str(after) if before == after else f"{before} → {after}"
        row["row used"] = tile_row(arch.capability, "after_fix").name
        rows.append(row)
    return _frame(rows)


def branch_table(before: Sequence[Evidence], after: Sequence[Evidence], names: Sequence[str]) -> pd.DataFrame:
    """Verdicts before and after the fix, one row a layer and KV dtype."""
    return _frame(
        [
            {"layer": name, "before": b.report.verdict(), "after": a.report.verdict(),
             "path before": b.report.tensor_core_path, "path after": a.report.tensor_core_path}
            for name, b, a in zip(names, before, after, strict=True)
        ]
    )  # fmt: skip


def ctas_per_sm(report: CompileReport) -> int | None:
    """How many CTAs of a compiled kernel fit one SM of its arch; None where there is no binary."""
    if not report.compiled:
        return None
    return occupancy(
        regs_per_thread=report.regs_per_thread,
        smem_bytes=report.smem_bytes,
        num_warps=report.num_warps,
        tmem_columns=report.tmem_columns or 0,
        limits=get_arch(report.arch),
    ).ctas_per_sm


def cost_table(
    before: Sequence[Evidence], after: Sequence[Evidence], choices: Sequence[Choice], extend_len: int = 4096
) -> pd.DataFrame:
    """What the smaller tiles cost: CTAs, how often keys and values are read, occupancy, tensor-core path.

    Compile-time arithmetic for a prefill of `extend_len` new tokens of one sequence; `kv_reads` is the number of
    query blocks, each of which walks the keys and values anew. CTAs per SM are None where there is no binary.
    """
    rows = []
    for choice, old, new in zip(choices, before, after, strict=True):
        for when, item, chooser in (("before", old, "before_fix"), ("after", new, "after_fix")):
            report, arch = item.report, get_arch(choice.arch)
            tile = choose_tile(arch.capability, choice.head_dim, chooser=chooser)
            blocks = math.ceil(extend_len / tile.block_m)
            rows.append(
                {"layer": f"hd{choice.head_dim} {choice.kv_dtype}", "when": when, "tile": str(tile), "kv_reads": blocks,
                 "ctas": blocks * choice.num_q_heads, "ctas_per_sm": ctas_per_sm(report),
                 "tensor_core_path": report.tensor_core_path,
                 "smem_bytes": report.smem_bytes, "verdict": report.verdict()}
            )  # fmt: skip
    return _frame(rows)


def ptx_facts(ptx: str) -> pd.DataFrame:
    """What a PTX says of itself: version, target, lines, registers declared by type, instructions by class."""
    header, counts = ptx_header(ptx), count_instructions(ptx)
    declared = register_declarations(ptx)
    rows = [("PTX version", header.version), ("target", header.target), ("lines", ptx.count("\n")),
            ("threads per CTA", header.reqntid)]  # fmt: skip
    rows += [(f"virtual .{kind} registers declared", n) for kind, n in sorted(declared.items(), key=lambda kv: -kv[1])]
    rows += [(f"{name} instructions", n) for name, n in counts.items() if n]
    import pandas as pd

    return pd.DataFrame([(what, str(value)) for what, value in rows], columns=["what", "value"])


def wide_operand_table(ptx: str, min_registers: int = 64) -> pd.DataFrame:
    """The widest operands of a PTX: opcode, registers moved as one, lines of the PTX and of the Python source."""
    lines = source_lines_of(EXTEND_KERNEL.path)
    return _frame(
        [
            {"PTX line": w.line_no, "opcode": w.opcode, "registers": w.registers, "Python line": w.source_line,
             "source": lines.get(w.source_line, "")[:80]}
            for w in wide_operands(ptx, min_registers)
        ]
    )  # fmt: skip


def line_table(ptx: str, top: int = 12) -> pd.DataFrame:
    """The kernel's Python lines that became most PTX instructions, with their tensor-core and memory instructions."""
    lines = source_lines_of(EXTEND_KERNEL.path)
    found = [
        {"Python line": line, "source": lines.get(line, "").strip()[:80], "PTX instructions": sum(counts.values()),
         "tensor core": sum(counts[k] for k in ("tcgen05_mma", "wgmma", "mma_sync")),
         "tcgen05 ld/st": counts["tcgen05_ld"] + counts["tcgen05_st"],
         "shared ld/st": counts["ld_shared"] + counts["st_shared"] + counts["ldmatrix"] + counts["stmatrix"]}
        for (file, line), counts in instructions_by_source_line(ptx).items()
        if file.endswith("extend_attention.py")
    ]  # fmt: skip
    return _frame(sorted(found, key=lambda r: -r["PTX instructions"])[:top])


def spill_grid(choices: Sequence[Choice]) -> tuple[list[str], list[str]]:
    """(row names, column names) of a product of choices whose last axis is the tile."""
    columns = list(dict.fromkeys(c.tile for c in choices))
    names = [f"hd{c.head_dim} {c.kv_dtype}{f' window {c.window}' if c.window else ''}" for c in choices]
    return names[:: len(columns)], columns

"""Notebook 02's tables and figures: the kernel's lines, what a PTX declares, the grid of spills."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.spec import EXTEND_KERNEL
from helpers.cleaning import for_html
from helpers.compiler.report import CompileReport, Evidence
from helpers.inspection.ptx.scan import (
    count_instructions,
    instructions_by_source_line,
    ptx_header,
    register_declarations,
    wide_operands,
)
from helpers.show.html import folded
from helpers.show.plots import compile_time_words, conditions
from helpers.show.reports import counts_frame
from helpers.show.style import AFTER_COLOUR, BEFORE_COLOUR, claim, use_house_style
from helpers.show.verdicts import Grid, cell_of, grid_figure, words_in_sentence
from helpers.workbook.evidence import demand_of, ptx_of
from helpers.workbook.prose import source_lines_of

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.figure import Figure


def find_lines(*needles: str) -> list[int]:
    """The numbers of the kernel's lines that contain one of `needles`."""
    return [n for n, text in source_lines_of(EXTEND_KERNEL.path).items() if any(needle in text for needle in needles)]


def show_kernel(first: int, last: int, *, highlight: Iterable[int] = ()) -> HTML:
    """Lines `first` to `last` of the kernel as they are compiled, below a fold, some of them marked with a bar."""
    from IPython.display import HTML

    marked = set(highlight)
    rows = []
    for number, text in source_lines_of(EXTEND_KERNEL.path).items():
        if first <= number <= last:
            style = (
                "background:#FBE3C5;color:#222;border-left:4px solid #D55E00"
                if number in marked
                else "border-left:4px solid transparent"
            )
            rows.append(f'<div style="{style};padding-left:6px;white-space:pre">{number:>4}  {for_html(text)}</div>')
    code = f'<div style="font-family:monospace;font-size:12px;line-height:1.35;overflow-x:auto">{"".join(rows)}</div>'
    return HTML(folded(f"Lines {first} to {last} of the kernel", code))


def ptx_facts(ptx: str) -> pd.DataFrame:
    """What a PTX says of itself: version, target, lines, registers declared by type, instructions by class."""
    header, counts = ptx_header(ptx), count_instructions(ptx)
    declared = register_declarations(ptx)
    rows = [("PTX version", header.version), ("target", header.target), ("lines", ptx.count("\n")),
            ("threads per CTA", header.reqntid)]  # fmt: skip
    rows += [(f"virtual registers of type {kind}", n) for kind, n in sorted(declared.items(), key=lambda kv: -kv[1])]
    groups = {
        "of the tensor cores": ("tcgen05_mma", "wgmma", "mma_sync"),
        "that load or store tensor memory": ("tcgen05_ld", "tcgen05_st"),
        "that load or store shared memory": ("ld_shared", "st_shared", "ldmatrix", "stmatrix"),
        "that load or store global memory": ("ld_global", "st_global"),
        "in all": ("total",),
    }
    rows += [(f"instructions {what}", sum(counts.get(name, 0) for name in names)) for what, names in groups.items()]
    import pandas as pd

    told = [(what, f"{value:,}" if isinstance(value, int) else str(value)) for what, value in rows]
    return pd.DataFrame(told, columns=["what", "value"])


def wide_operand_table(ptx: str, min_registers: int = 64) -> pd.DataFrame:
    """The widest operands of a PTX: opcode, registers moved as one and how many names they have, lines of the PTX and
    of the kernel's file."""
    lines = source_lines_of(EXTEND_KERNEL.path)
    return counts_frame(
        [
            {"PTX line": w.line_no, "opcode": w.opcode, "registers per thread": w.registers,
             "of them different": w.different, "kernel line": w.source_line,
             "source": lines.get(w.source_line, "").strip()}
            for w in wide_operands(ptx, min_registers)
        ]
    )  # fmt: skip


def line_table(ptx: str, top: int = 12) -> pd.DataFrame:
    """The kernel's Python lines that became most PTX instructions, with their tensor-core and memory instructions."""
    lines = source_lines_of(EXTEND_KERNEL.path)
    found = [
        {"kernel line": line, "source": lines.get(line, "").strip(), "PTX instructions": sum(counts.values()),
         "of them tensor core": sum(counts[k] for k in ("tcgen05_mma", "wgmma", "mma_sync")),
         "loads and stores of tensor memory": counts["tcgen05_ld"] + counts["tcgen05_st"],
         "of shared memory": counts["ld_shared"] + counts["st_shared"] + counts["ldmatrix"] + counts["stmatrix"]}
        for (file, line), counts in instructions_by_source_line(ptx).items()
        if file.endswith("extend_attention.py")
    ]  # fmt: skip
    return counts_frame(sorted(found, key=lambda r: -r["PTX instructions"])[:top])


def neighbour_table(evidence: Sequence[Evidence], names: Sequence[str]) -> pd.DataFrame:
    """Each compile by name: its demand, the widest operand of its PTX, and what ptxas says; raises UserError as
    `demand_of` does."""
    return counts_frame(
        [
            {"kernel": name, "demand, registers": demand_of(item),
             "widest operand, registers": max((w.registers for w in wide_operands(ptx_of(item), 2)), default=0),
             "per thread": words_in_sentence(item.report)}
            for name, item in zip(names, evidence, strict=True)
        ]
    )  # fmt: skip


def grid_table(evidence: Sequence[Evidence], choices: Sequence[Choice]) -> pd.DataFrame:
    """The compiles of a grid, a row each, in words and with units."""
    return counts_frame(
        [
            {"head dim": choice.head_dim, "cache": choice.kv_dtype, "window, tokens": choice.window,
             "tile, queries x keys": choice.tile, "warps": item.report.num_warps,
             "per thread": words_in_sentence(item.report), "shared memory, bytes per CTA": item.report.smem_bytes,
             "tensor memory, columns": item.report.tmem_columns, "tensor cores by": item.report.tensor_core_path}
            for choice, item in zip(choices, evidence, strict=True)
        ]
    )  # fmt: skip


def spill_grid(choices: Sequence[Choice]) -> tuple[list[str], list[str]]:
    """(row names, column names) of a product of choices whose last axis is the tile."""
    columns = list(dict.fromkeys(c.tile for c in choices))
    names = [f"hd{c.head_dim} {c.kv_dtype}{f' window {c.window}' if c.window else ''}" for c in choices]
    return names[:: len(columns)], columns


def plot_ptx_landscape(ptx: str, title: str, subtitle: str = "") -> Figure:
    """Where, along the lines of a PTX, its wide operands sit, one row an opcode, marked by registers in the operand."""
    import matplotlib.pyplot as plt

    use_house_style()
    found = wide_operands(ptx, min_registers=16)
    rows = sorted({_opcode_family(w.opcode, w.registers) for w in found})
    fig, ax = plt.subplots(figsize=(8.5, 1.6 + 0.45 * max(1, len(rows))))
    for w in found:
        y = rows.index(_opcode_family(w.opcode, w.registers))
        ax.plot(
            w.line_no,
            y,
            marker="|",
            markersize=22,
            markeredgewidth=2.5,
            color=AFTER_COLOUR if "ld" in w.opcode else BEFORE_COLOUR,
        )
    for y, row in enumerate(rows):
        count = sum(_opcode_family(w.opcode, w.registers) == row for w in found)
        ax.text(ptx.count("\n") * 1.015, y, f"{count}×", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, ptx.count("\n"))
    ax.set_xlabel("line of the PTX")
    claim(ax, title, compile_time_words(subtitle or f"{ptx.count(chr(10)):,} lines of PTX"))
    plt.close(fig)
    return fig


def _opcode_family(opcode: str, registers: int) -> str:
    head = ".".join(opcode.split(".")[:2])
    return f"{head}, {registers} registers"


def plot_spill_grid(evidence: Sequence[Evidence], rows: Sequence[str], columns: Sequence[str], title: str) -> Figure:
    """A grid of verdicts: registers and bytes of spill stores in a cell, a cross where no binary came out.

    `evidence` runs over rows, then columns, as `product` makes it.
    """
    reports = [item.report for item in evidence]
    width = len(columns)
    lines = (reports[at : at + width] for at in range(0, len(reports), width))
    grid = Grid(
        tuple(rows),
        tuple(columns),
        tuple(tuple(cell_of(report, registers=True) for report in line) for line in lines),
        column_title="tile, BLOCK_M x BLOCK_N   (cell: registers per thread, bytes of spill stores)",
    )
    return grid_figure(grid, title, conditions(evidence))


def grid_findings(evidence: Sequence[Evidence]) -> tuple[list[str], list[CompileReport]]:
    """(the labels of what dies for want of registers, the reports of what is a bare trap)."""
    reports = [item.report for item in evidence]
    return [r.label for r in reports if r.crashed], [r for r in reports if r.status == "trapped"]

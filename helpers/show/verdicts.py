"""A verdict said once: its words for a cell and for a sentence, its colours with their legend, and a grid of them.

Every function takes a CompileReport or a row of data/ with the same columns (`status`, `regs_per_thread`,
`spill_store_bytes`, `ptxas_code`).
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from helpers.cleaning import for_html
from helpers.compiler.report import COMPILED, NO_VERDICT, CompileReport, verdict_words
from helpers.show.style import FAILED_MARK, STATUS_COLOURS, bare_cells, claim, status_colour, use_house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Found = CompileReport | Mapping

# What fits a cell. Whatever is not here is the status itself.
_IN_A_CELL = {
    "out_of_shared_memory": "shared mem",
    "out_of_tensor_memory": "tensor mem",
    "trapped": "trap",
    "unsupported_target": "target",
    "toolchain_missing": "no toolchain",
    "environment_error": "machine",
    "unsupported_ptx_version": "cannot read",
}
NO_SPILLS, PALE, DARK, NOT_ASKED = "#D6E6F2", "#FFE7A0", "#B86010", "#EEEEEE"
"""The grounds of a cell without spills, with few and with many bytes of them, and of one that has no verdict."""
FEWEST_BYTES, MOST_BYTES = 8, 8_000


def whole_number(value: Any) -> int | None:
    """The number, or None for what is missing, as a row of data/ has it (None, NaN)."""
    return None if value is None or value != value else int(value)


def _part(found: Found, name: str) -> Any:
    value = found.get(name) if isinstance(found, Mapping) else getattr(found, name)
    return None if value != value else value


def words_in_cell(found: Found, *, registers: bool = False) -> str:
    """`684 B` of spill stores, `✕ C7600`, `✕ shared mem`, `cannot read`; with `registers`, `255 regs, 684 B`."""
    status = _part(found, "status")
    if status in COMPILED:
        spilled = f"{whole_number(_part(found, 'spill_store_bytes')) or 0:,} B"
        return f"{whole_number(_part(found, 'regs_per_thread'))} regs, {spilled}" if registers else spilled
    if status == "register_exhausted":
        return f"{FAILED_MARK} {_part(found, 'ptxas_code') or 'registers'}"
    words = _IN_A_CELL.get(status, str(status).replace("_", " "))
    return words if status in NO_VERDICT else f"{FAILED_MARK} {words}"


def words_in_sentence(found: Found) -> str:
    """`255 registers, 684 B spill stores`, `dies (C7600)`, `trapped`: `CompileReport.verdict`, of a row as well."""
    return verdict_words(
        str(_part(found, "status")),
        registers=whole_number(_part(found, "regs_per_thread")),
        spill_store_bytes=whole_number(_part(found, "spill_store_bytes")),
        code=_part(found, "ptxas_code"),
    )


def _mixed(share: float) -> str:
    """The colour this far from PALE (0) to DARK (1)."""
    both = [(int(PALE[i : i + 2], 16), int(DARK[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02X}" for a, b in both)


def ground_of(found: Found | None) -> str:
    """The colour behind a cell: pale without spills, darker with each factor of bytes, the status's own where it fails.

    `None` is a question that nobody asked; it has the colour of one that could not be asked.
    """
    status = _part(found, "status") if found is not None else None
    if found is None or status in (None, *NO_VERDICT):
        return NOT_ASKED
    if status not in COMPILED:
        return status_colour(status)
    spilled = whole_number(_part(found, "spill_store_bytes")) or 0
    if not spilled:
        return NO_SPILLS
    share = math.log(spilled / FEWEST_BYTES) / math.log(MOST_BYTES / FEWEST_BYTES)
    return _mixed(min(1.0, max(0.0, share)))


def ink_on(ground: str) -> str:
    """Black or white, whichever stands out more on this colour (`#RRGGBB`), by the contrast that WCAG defines."""
    parts = [int(ground[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "white"


LEGEND = (
    ("no spills", NO_SPILLS, False),
    (f"spill stores per thread, from {FEWEST_BYTES} B", PALE, False),
    (f"to {MOST_BYTES:,} B and more", DARK, False),
    (f"{FAILED_MARK} dies: out of registers", STATUS_COLOURS["register_exhausted"], False),
    (f"{FAILED_MARK} fails in another way", status_colour("trapped"), True),
    ("no verdict", NOT_ASKED, True),
)
"""(words, ground, whether hatched) of each colour that a grid can show."""


@dataclass(frozen=True)
class Cell:
    """One place of a grid. `hatched` where there is no kernel and it was not for registers; `framed` where chosen.

    `hover` is the whole of it in a sentence, for a page that can show that.
    """

    words: str
    ground: str
    hatched: bool = False
    framed: bool = False
    hover: str = ""

    @property
    def ink(self) -> str:
        """The colour of the words."""
        return ink_on(self.ground)

    @property
    def failed(self) -> bool:
        """Whether it carries the cross."""
        return self.words.startswith(FAILED_MARK)


def cell_of(found: Found | None, *, registers: bool = False, mark: str = "") -> Cell:
    """The cell of one outcome, `mark` behind its words; of a question that was not asked for None."""
    if found is None:
        return Cell("not asked", NOT_ASKED, hatched=True, hover="not asked")
    status = _part(found, "status")
    return Cell(
        words=words_in_cell(found, registers=registers) + mark,
        ground=ground_of(found),
        hatched=status not in (*COMPILED, "register_exhausted"),
        hover=words_in_sentence(found),
    )


@dataclass(frozen=True)
class Grid:
    """Verdicts in rows and columns. A cell of None stays blank: nothing belongs there."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    row_title: str = ""
    column_title: str = ""

    def __post_init__(self) -> None:
        if len(self.cells) != len(self.rows) or any(len(row) != len(self.columns) for row in self.cells):
            given = sum(len(row) for row in self.cells)
            raise ValueError(f"{given} cells do not fill {len(self.rows)} x {len(self.columns)} places")

    def framed(self, row: str, column: str) -> Grid:
        """The same grid with the cell of this row and column framed; as it is where there is no such cell."""
        cells = tuple(
            tuple(
                replace(cell, framed=True) if cell and (name, head) == (row, column) else cell
                for head, cell in zip(self.columns, line, strict=True)
            )
            for name, line in zip(self.rows, self.cells, strict=True)
        )
        return replace(self, cells=cells)

    def legend(self) -> list[tuple[str, str, bool]]:
        """The entries of LEGEND whose colours stand in this grid; the shades of spilling come both or not at all."""
        there = [cell for row in self.cells for cell in row if cell]
        grounds = {(cell.ground, cell.hatched) for cell in there}
        known = {(ground, hatched) for _, ground, hatched in LEGEND}
        spills = bool(grounds - known) or any(cell.ground in (PALE, DARK) for cell in there)
        return [entry for entry in LEGEND if entry[1:] in grounds or (spills and entry[1] in (PALE, DARK))]


def grid_of(
    rows: Sequence[str],
    columns: Sequence[str],
    at: Callable[[str, str], Cell | None],
    *,
    row_title: str = "",
    column_title: str = "",
) -> Grid:
    """The grid whose cells are `at(row, column)`."""
    cells = tuple(tuple(at(row, column) for column in columns) for row in rows)
    return Grid(tuple(rows), tuple(columns), cells, row_title, column_title)


def grid_figure(
    grid: Grid,
    title: str,
    subtitle: str,
    *,
    cell_inches: tuple[float, float] = (1.25, 0.42),
    font: float = 8.5,
    slanted: bool = False,
) -> Figure:
    """A grid as a figure, its legend below; `slanted` sets the names of the columns at an angle."""
    import matplotlib.pyplot as plt

    use_house_style()
    width, height = cell_inches
    fig, ax = plt.subplots(
        figsize=(max(7.0, 2.2 + width * len(grid.columns)), 1.9 + height * len(grid.rows)), layout="constrained"
    )
    for y, line in enumerate(grid.cells):
        for x, cell in enumerate(line):
            if cell is not None:
                _draw_cell(ax, x, y, cell, font=font, letters=max(4, int(width * 72 / (0.62 * font))))
    ax.set_xticks(range(len(grid.columns)), grid.columns, fontsize=font, rotation=45 if slanted else 0,
                  ha="right" if slanted else "center")  # fmt: skip
    ax.set_yticks(range(len(grid.rows)), grid.rows, fontsize=font)
    bare_cells(ax, len(grid.columns), len(grid.rows))
    ax.set_xlabel(grid.column_title)
    ax.set_ylabel(grid.row_title)
    patches = [
        plt.Rectangle(
            (0, 0), 1, 1, facecolor=ground, edgecolor="white" if hatched else "#BBBBBB", hatch="///" * hatched
        )
        for _, ground, hatched in grid.legend()
    ]
    told = [words for words, *_ in grid.legend()]
    fits = sum(5 * len(words) + 30 for words in told) < 72 * fig.get_figwidth()
    fig.legend(patches, told, loc="outside lower left", ncols=len(told) if fits else 3, fontsize=8,
               handlelength=1.4, columnspacing=1.2)  # fmt: skip
    claim(ax, title, subtitle)
    plt.close(fig)
    return fig


def _draw_cell(ax: Axes, x: int, y: int, cell: Cell, *, font: float, letters: int) -> None:
    import matplotlib.pyplot as plt

    ax.add_patch(
        plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=cell.ground, edgecolor="white", linewidth=1.5,
                      hatch="///" if cell.hatched else None)
    )  # fmt: skip
    if cell.framed:
        ax.add_patch(plt.Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, fill=False, edgecolor=cell.ink, linewidth=2.5))
    # A hatch runs through the words: they get a ground of their own.
    behind = {"facecolor": "#F4F4F4", "edgecolor": "none", "pad": 1.5} if cell.hatched else None
    ink = "black" if behind else cell.ink
    ax.text(x, y, textwrap.fill(cell.words, letters, break_long_words=False), ha="center", va="center", fontsize=font,
            color=ink, fontweight="bold" if cell.failed else "normal", bbox=behind)  # fmt: skip


# A click on a cell sets the two drop-down lists of the explorer around it, as a hand would.
_SETS_LISTS = (
    "var b=event.target.closest('button'),x=this.closest('.rc-explorer');if(!b||!x){return}"
    "var s=JSON.parse(b.dataset.sets);x.querySelectorAll('.widget-dropdown').forEach(function(d){"
    "var l=d.querySelector('label'),c=d.querySelector('select'),v=l&&s[l.textContent.trim()];"
    "if(v&&c&&c.value!==v){c.value=v;c.dispatchEvent(new Event('change',{bubbles:true}))}})"
)


_COLUMNS_IN_VIEW = 10


def grid_html(grid: Grid, caption: str, *, sets: tuple[str, str] | None = None) -> str:
    """A grid as an HTML table that scrolls sideways, its legend below; all text escaped.

    `sets` names two lists of the explorer that shows it: a click on a cell sets them to the cell's row and column.
    """
    head = "".join(
        f'<th scope="col" style="writing-mode:vertical-rl;padding:2px">{for_html(name)}</th>' for name in grid.columns
    )
    body = "".join(
        f'<tr><th scope="row" style="text-align:right;padding-right:6px">{for_html(name)}</th>'
        + "".join(
            _cell_html(cell, f"{name}, {head_}", dict(zip(sets, (name, head_), strict=True)) if sets else None)
            for head_, cell in zip(grid.columns, line, strict=True)
        )
        + "</tr>"
        for name, line in zip(grid.rows, grid.cells, strict=True)
    )
    clicked = f' onclick="{for_html(_SETS_LISTS)}"' if sets else ""
    scrolls = "; the table scrolls sideways" if len(grid.columns) > _COLUMNS_IN_VIEW else ""
    titles = [
        f"{which}: {words}" for which, words in (("rows", grid.row_title), ("columns", grid.column_title)) if words
    ]
    return (
        f'<div style="font-size:12px;white-space:normal">{for_html("; ".join([caption, *titles]))}{scrolls}</div>'
        f'<div style="overflow-x:auto"><table{clicked} style="font-size:12px;border-collapse:separate;'
        f'border-spacing:2px"><tr><td></td>{head}</tr>{body}</table></div>{legend_html(grid)}'
    )


def _cell_html(cell: Cell | None, where: str, sets: Mapping[str, str] | None) -> str:
    if cell is None:
        return "<td></td>"
    style = f"background:{cell.ground};color:{cell.ink};padding:3px 5px;text-align:center;white-space:nowrap"
    if cell.failed:
        style += ";font-weight:bold"
    if cell.framed:
        style += ";outline:3px solid currentColor;outline-offset:-3px;font-weight:bold"
    words = for_html(f"{where}: {cell.hover or cell.words}")
    inside = for_html(cell.words)
    if sets:
        inside = (
            f'<button type="button" data-sets="{for_html(json.dumps(sets))}" aria-label="{words}" '
            f'aria-pressed="{str(cell.framed).lower()}" style="all:unset;cursor:pointer;display:block;width:100%;'
            f'outline:revert">{inside}</button>'
        )
    return f'<td title="{words}" style="{style}">{inside}</td>'


def legend_html(grid: Grid) -> str:
    """What the colours of a grid mean, as one line of HTML."""
    return (
        '<div style="font-size:12px;line-height:1.8">'
        + " ".join(
            f'<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;width:1em;height:1em;'
            f'vertical-align:-.15em;border:1px solid #BBBBBB;background:{ground}"></span> {for_html(words)}</span>'
            for words, ground, _ in grid.legend()
        )
        + "</div>"
    )

"""The register cliff map: a grid of tiles by warps, each cell ok, spilling or dead; a click opens the cell.

Cells come from data/cliff_map.csv where that has them (and say so), else from compiles, as they finish. The cell that
is open is always compiled, because its PTX is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ipywidgets as w

from helpers.attention.choice import Choice
from helpers.attention.studies.cliff_map import CLIFF_TILES, CLIFF_WARPS, cliff_choices
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.cleaning import for_html
from helpers.compiler.report import CompileReport, Evidence
from helpers.errors import UserError
from helpers.show.html import difference_html, facts_html, folded, note
from helpers.show.verdicts import Cell, Grid, cell_of, grid_figure, grid_of
from helpers.workbook.evidence import ptx_of
from helpers.workbook.explorer.choices import (
    choice_controls,
    choice_of,
    is_final,
    one_line,
    report_rows,
    status_banner,
)
from helpers.workbook.explorer.frame import ExplorerFrame, View
from helpers.workbook.explorer.pictures import drawing_of
from helpers.workbook.explorer.work import Work
from helpers.workbook.inside_ptxas.cliff_page import cliff_page
from helpers.workbook.inside_ptxas.cliff_rows import ASKED, recorded_reports
from helpers.workbook.inside_ptxas.demand import pressure_picture, pressure_rows

CLIFF_FIELDS = ("arch", "head_dim", "kv_dtype", "window", "triton")
Position = tuple[str, int]  # (tile, num_warps)
PTX_HEAD_LINES = 60


@dataclass(frozen=True)
class MapCell:
    """What the map knows of one tile and number of warps."""

    report: CompileReport
    recorded: bool


def recorded_cells(base: Choice) -> dict[Position, MapCell]:
    """The recorded cells of the map over `base`; none when it differs from a recorded map in anything else."""
    plain = Choice(**{name: getattr(base, name) for name in ASKED})
    if replace(base, tile=plain.tile, num_warps=plain.num_warps) != plain:
        return {}
    reports, _ = recorded_reports()
    found = {}
    for choice in cliff_choices(base):
        report = reports.get(tuple(getattr(choice, name) for name in ASKED))
        if report is not None:
            found[choice.tile, choice.num_warps] = MapCell(report, recorded=True)
    return found


def passing_neighbour(cells: dict[Position, MapCell], at: Position) -> Position | None:
    """The nearest cell that compiles: fewest steps on the grid, then fewest spilled bytes; None when none does."""
    here = CLIFF_TILES.index(at[0]), CLIFF_WARPS.index(at[1])

    def distance(other: Position) -> tuple:
        there = CLIFF_TILES.index(other[0]), CLIFF_WARPS.index(other[1])
        steps = abs(here[0] - there[0]) + abs(here[1] - there[1])
        return steps, cells[other].report.spill_store_bytes or 0, there

    return min((p for p, cell in cells.items() if p != at and cell.report.compiled), key=distance, default=None)


def compile_facts(evidence: Evidence, facts: dict) -> dict[str, object]:
    """A compile as names and values to compare: verdict, memory, demand, PTX instructions by class."""
    report = evidence.report
    return {
        "status": report.status,
        "registers per thread": report.regs_per_thread,
        "spill stores (B)": report.spill_store_bytes,
        "shared memory (B)": report.smem_bytes,
        "tensor-memory columns": report.tmem_columns,
        "tensor cores": report.tensor_core_path,
        "registers needed at once": facts.get("demand"),
        "widest operand (registers)": facts.get("wide"),
        **{f"PTX {name.replace('_', ' ')}": n for name, n in report.instructions.items()},
    }


def _ptx_head(ptx: str) -> str:
    """The first lines of the kernel's body as text: from its entry on, without the names of files."""
    lines = ptx.splitlines()
    first = next((i for i, line in enumerate(lines) if ".entry" in line), 0)
    return "\n".join(lines[first : first + PTX_HEAD_LINES])


class _Map:
    """The state beside the controls: the grid's buttons, which cell is open, what is known of each."""

    first: Position = ("128x64", 8)  # the incident's

    def __init__(self, base: Choice) -> None:
        self.base = base
        self.open = self.first
        self.buttons = {(tile, warps): self._button(tile, warps) for tile in CLIFF_TILES for warps in CLIFF_WARPS}
        head = [w.HTML("<b>tile</b>"), *(w.HTML(f"<b>{warps} warps</b>") for warps in CLIFF_WARPS)]
        rows = [
            [w.HTML(f"<b>{tile}</b>"), *(self.buttons[tile, warps] for warps in CLIFF_WARPS)] for tile in CLIFF_TILES
        ]
        self.grid = w.GridBox(
            [*head, *(part for row in rows for part in row)],
            layout=w.Layout(grid_template_columns=f"72px repeat({len(CLIFF_WARPS)}, 128px)", grid_gap="3px"),
        )
        self.grid.add_class("rc-grid")
        self.legend = w.HTML(
            "<small>Cell: bytes of spill stores per thread, or why there is no kernel. The open cell has a thick "
            "border. Italics: compiled on this machine; upright: recorded.</small>"
        )
        self.frame: ExplorerFrame | None = None

    def _button(self, tile: str, warps: int) -> w.Button:
        button = w.Button(description="…", layout=w.Layout(width="auto", height="30px"))
        button.add_class("rc-cell")
        button.on_click(lambda _b: self.click((tile, warps)))
        return button

    def click(self, at: Position) -> None:
        """Open a cell."""
        self.open = at
        if self.frame is not None:
            self.frame.refresh()

    def show(self, cells: dict[Position, MapCell]) -> None:
        """Colour the buttons; a cell that is not known yet is grey."""
        for at, button in self.buttons.items():
            cell = cells.get(at)
            shown = cell_of(cell.report if cell else None)
            button.description = shown.words if cell else "…"
            button.style.button_color, button.style.text_color = shown.ground, shown.ink
            button.style.font_style = "italic" if cell and not cell.recorded else None
            button.style.font_weight = "bold" if at == self.open else None
            button.layout.border = "3px solid #222222" if at == self.open else "1px solid transparent"
            said = cell.report.verdict() if cell else "not compiled yet"
            button.tooltip = f"tile {at[0]}, {at[1]} warps: {said}"

    def answer(self, state: dict, work: Work) -> View:
        """The view of a map with one cell open."""
        base, at = choice_of(self.base, {k: v for k, v in state.items() if k != "cell"}), self.open
        cells = recorded_cells(base)
        self.show(cells)
        choices = {(c.tile, c.num_warps): c for c in cliff_choices(base)}
        work.say(0, 0, f"opening {at[0]}, {at[1]} warps")
        mine = work.compile_one(choices[at])
        if mine.report.status == "toolchain_missing" and at in cells:
            mine = Evidence(cells[at].report, recorded_reports()[1])
        else:
            cells[at] = MapCell(mine.report, recorded=not mine.live)
        self.show(cells)
        self._fill(cells, choices, work)
        neighbour = passing_neighbour(cells, at)
        theirs = work.compile_one(choices[neighbour]) if neighbour else None
        self.show(cells)
        return self._opened(choices, cells, mine, theirs, neighbour)

    def _fill(self, cells: dict[Position, MapCell], choices: dict[Position, Choice], work: Work) -> None:
        """Compile the cells that are not known, showing each as it is done."""
        todo = {at: choice for at, choice in choices.items() if at not in cells}
        by_label = {(c.request().spec.label): at for at, c in todo.items()}

        def each(done: int, total: int, report: CompileReport) -> None:
            if (at := by_label.get(report.label)) is not None:
                cells[at] = MapCell(report, recorded=False)
                self.show(cells)
            work.say(done, total, "cells compiled")

        if todo:
            work.compile(todo.values(), each=each)

    def _opened(
        self, choices: dict[Position, Choice], cells: dict[Position, MapCell], mine: Evidence, theirs: Evidence | None,
        neighbour: Position | None,
    ) -> View:  # fmt: skip
        at, report = self.open, mine.report
        choice, name = choices[at], f"{at[0]}, {at[1]} warps"
        counts = [sum(c.report.crashed for c in cells.values()), sum(c.report.compiled for c in cells.values())]
        summary = f"{len(cells)} cells: {counts[1]} compile, {counts[0]} run out of registers"
        rows = {"open cell": name, **report_rows(mine)}
        recorded = sum(c.recorded for c in cells.values())
        if recorded:
            summary += f"; {recorded} of them {recorded_reports()[1]}"
        drawing, below = b"", ""
        try:
            ptx = ptx_of(mine)
            facts, drawing = pressure_picture(ptx, f"{report.label}, {report.arch}, Triton {report.triton_version}")
            rows |= pressure_rows(facts) if facts["demand"] else {}  # an empty kernel that traps needs none
            below = self._below(mine, theirs, ptx, facts, name, neighbour)
        except UserError as exc:
            rows["PTX"] = str(exc)
        return View(
            verdict=status_banner(report) + note(summary),
            title=one_line(report),
            command=choice.command(),
            drawing=drawing,
            below=facts_html(rows) + below,
            choice=choice,
            data=dict(cells),
            final=is_final([Evidence(c.report, "") for c in cells.values()]) and is_final([mine]),
        )

    def _below(self, mine, theirs, ptx: str, facts: dict, name: str, neighbour: Position | None) -> str:
        """The diff against the neighbour that passes, and the head of the PTX."""
        parts = []
        if theirs is not None and neighbour is not None:
            other = f"{neighbour[0]}, {neighbour[1]} warps"
            try:
                where = f"{theirs.report.label}, {theirs.report.arch}, Triton {theirs.report.triton_version}"
                other_facts, _ = pressure_picture(ptx_of(theirs), where)
                diff = difference_html(compile_facts(mine, facts), compile_facts(theirs, other_facts), (name, other))
            except UserError as exc:
                diff = note(str(exc))
            parts.append(folded(f"against the nearest cell that compiles: {other}", diff, open_=True))
        else:
            parts.append("<p>No cell of this map compiles.</p>")
        head = f'<pre style="font-size:11px;max-height:320px;overflow:auto">{for_html(_ptx_head(ptx))}</pre>'
        parts.append(folded(f"PTX: its first {PTX_HEAD_LINES} lines from the entry on", head))
        return "".join(parts)


def cliff_grid(cells: dict[Position, MapCell]) -> Grid:
    """The map as a grid: tiles down, warps across; a cell that is not known yet says so."""

    def at(tile: str, warps: str) -> Cell:
        cell = cells.get((tile, int(warps)))
        return cell_of(cell.report if cell else None, registers=True)

    return grid_of(CLIFF_TILES, [str(n) for n in CLIFF_WARPS], at, row_title="tile, BLOCK_M x BLOCK_N",
                   column_title="warps of a CTA   (cell: registers per thread, bytes of spill stores)")  # fmt: skip


def _still(view: View) -> bytes:
    cells, choice = view.data, view.choice
    dead = sum(c.report.crashed for c in cells.values())
    recorded = sum(c.recorded for c in cells.values())
    how = f"{recorded} of {len(cells)} cells recorded" if recorded else "live"
    window = f"window {choice.window}" if choice.window else "no window"
    subtitle = (
        f"hd{choice.head_dim} {choice.kv_dtype} {window}, {choice.arch}, Triton {choice.triton}; compile-time, {how}"
    )
    return drawing_of(
        lambda: grid_figure(
            cliff_grid(cells), f"{dead} of {len(cells)} cells run out of registers", subtitle, cell_inches=(1.8, 0.4)
        )
    )


def cliff_map(choice: Choice = INCIDENT_CHOICE) -> ExplorerFrame:
    """The map over `choice` (arch, head dim, KV dtype, window, Triton); `view.data` are its cells by (tile, warps)."""
    state = _Map(choice)
    controls = choice_controls(choice, CLIFF_FIELDS)
    frame = ExplorerFrame(
        "cliff-map",
        controls,
        state.answer,
        middle=(state.grid, state.legend),
        extra=lambda: {"cell": f"{state.open[0]} w{state.open[1]}"},
        still=_still,
        shown=lambda view: state.show(view.data),
        page=lambda made: cliff_page(choice, made, _Map.first),
    )
    state.frame = frame
    return frame


def cliff_findings(cells: dict[Position, MapCell]) -> tuple[dict[int, list[str]], dict[Position, int]]:
    """(the tiles that die for each number of warps, bytes of spill stores of each cell that compiles)."""
    dead = {n: [t for t in CLIFF_TILES if (t, n) in cells and cells[t, n].report.crashed] for n in CLIFF_WARPS}
    spilled = {at: cell.report.spill_store_bytes or 0 for at, cell in cells.items() if cell.report.compiled}
    return dead, spilled

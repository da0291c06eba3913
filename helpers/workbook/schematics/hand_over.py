"""One release's text handed to another release's compiler: the roads between two releases, and where each ends."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED
from helpers.show.verdicts import ground_of, words_in_cell
from helpers.workbook.schematics.drawing import NEW, OLD, Canvas, Picture

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Road:
    """The LLIR that `made` wrote, through the LLVM and the ptxas of `goes_on`, and how that ended."""

    made: str
    goes_on: str
    ptxas: str
    words: str
    ground: str
    lives: bool


def roads_between(crossing: pd.DataFrame, releases: tuple[str, str]) -> list[Road]:
    """The four roads of two releases, from the rows of data/crossing.csv; raises LookupError for one not recorded."""
    rows = crossing[crossing["step"] == "ptx"].to_dict("records")
    at = {(row["text_by"], row["done_by"]): row for row in rows}
    roads = []
    for made, goes_on in itertools.product(releases, repeat=2):
        if (row := at.get((made, goes_on))) is None:
            raise LookupError(f"no LLIR of Triton {made} was handed to {goes_on}")
        roads.append(
            Road(made, goes_on, row["ptxas"], words_in_cell(row), ground_of(row), row["status"] in COMPILED)
        )  # fmt: skip
    return roads


def hand_over_picture(crossing: pd.DataFrame, first: str, second: str) -> Picture:
    """Each of two releases' LLIR through each of their LLVMs, a row a road, the colours those of the releases."""
    roads = roads_between(crossing, (first, second))
    words = "Bytes are spill stores of a thread. " + " ".join(
        f"LLIR of Triton {road.made}, LLVM of {road.goes_on}, ptxas {road.ptxas}: {road.words}." for road in roads
    )
    by_llvm = {road.goes_on: {r.lives for r in roads if r.goes_on == road.goes_on} for road in roads}
    decides = all(len(ends) == 1 for ends in by_llvm.values()) and len({*map(frozenset, by_llvm.values())}) == 2
    title = "The end of the road changes with the LLVM" if decides else "The LLVM alone does not decide"

    def draw(canvas: Canvas) -> None:
        gap = 14.0
        wide = (canvas.width - 4 - 3 * gap) / 4
        for at, road in enumerate(roads):
            y = 2 + at * 48 + at // 2 * 12
            stops = (
                (f"LLIR of {road.made}", _colour(road.made, first)),
                (f"LLVM of {road.goes_on}", _colour(road.goes_on, first)),
                (f"ptxas {road.ptxas}", _colour(road.goes_on, first)),
                (road.words, road.ground),
            )
            for place, (said, fill) in enumerate(stops):
                x = 2 + place * (wide + gap)
                canvas.box(x, y, wide, 40, fill, said, bold=place == 3)
                if place:
                    canvas.arrow(x - gap + 1, y + 20, x - 1, y + 20)
        y = canvas.legend(2, canvas.bottom + 10, [(OLD, f"of Triton {first}"), (NEW, f"of Triton {second}")])
        canvas.paragraph(2, y + 12, "Bytes are spill stores of a thread.")

    return Picture(title, words, draw)


def _colour(release: str, first: str) -> str:
    return OLD if release == first else NEW

"""The incident along the releases of Triton: which live, which die, and what was reported and merged meanwhile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED
from helpers.compiler.toolchain import BUNDLED, version_key
from helpers.diagnosis.incidents import Incident, known_incidents
from helpers.show.verdicts import ground_of, words_in_cell
from helpers.workbook.schematics.drawing import Canvas, Picture

if TYPE_CHECKING:
    import pandas as pd

# The fix that was merged, as data/remedies.csv names it.
_MERGED = "tile 64x64"
_KEY = "Bytes are spill stores of a thread. What is blank was not tried."


@dataclass(frozen=True)
class Release:
    """The incident's kernel under one release of Triton and its ptxas, and with the merged row's tile if recorded."""

    triton: str
    ptxas: str
    words: str
    ground: str
    lives: bool
    merged: tuple[str, str] | None = None


def releases(matrix: pd.DataFrame, remedies: pd.DataFrame) -> list[Release]:
    """The releases in their order, from the rows of data/version_matrix.csv and data/remedies.csv."""
    tile = remedies[remedies["remedy"] == _MERGED]
    merged = {row["triton"]: (words_in_cell(row), ground_of(row)) for row in tile.to_dict("records")}
    own = matrix[matrix["ptxas_asked"] == BUNDLED].to_dict("records")
    return [
        Release(row["triton"], row["ptxas_version"], words_in_cell(row), ground_of(row), row["status"] in COMPILED,
                merged.get(row["triton"]))
        for row in sorted(own, key=lambda row: version_key(row["triton"]))
    ]  # fmt: skip


def reports_of(incidents: tuple[Incident, ...], dying: list[str]) -> list[str]:
    """What others reported of just these releases, with the date of a merge where one is known."""
    said = []
    for incident in incidents:
        if incident.signature.get("triton") == dying:
            date = re.search(r"merged on (\d{4}-\d\d-\d\d)", incident.remedy_evidence)
            said.append(f"{incident.name}, {incident.thread}" + (f", merged on {date[1]}" if date else ""))
    return said


def timeline_picture(matrix: pd.DataFrame, remedies: pd.DataFrame) -> Picture:
    """The releases in order as boxes with their verdicts, those with the merged row's tile below, and the reports."""
    found = releases(matrix, remedies)
    dying = [release.triton for release in found if not release.lives]
    reports = reports_of(known_incidents(), dying)
    told = ", ".join(f"Triton {r.triton} with ptxas {r.ptxas}: {r.words}" for r in found)
    merged = ", ".join(f"{r.triton}: {r.merged[0]}" for r in found if r.merged)
    words = (
        f"The incident's kernel under each release, bytes being spill stores of a thread: {told}. With the "
        f"merged row's tile: {merged}. Reported of {', '.join(dying)}: {'; '.join(reports) or 'nothing'}."
    )

    def draw(canvas: Canvas) -> None:
        (_across if canvas.wide else _down)(canvas, found, reports)

    lives = [release.triton for release in found if release.lives]
    return Picture(f"Triton {', '.join(dying)} kill the kernel; {', '.join(lives)} do not", words, draw)


def _across(canvas: Canvas, found: list[Release], reports: list[str]) -> None:
    left = 104.0
    step = (canvas.width - left - 2) / len(found)
    heads: Mapping[str, float] = {"Triton": 14, "its ptxas": 32, "the incident": 60, "merged row": 94}
    for words, y in heads.items():
        canvas.text(2, y, words, bold=words == "Triton")
    for at, release in enumerate(found):
        x = left + at * step
        canvas.text(x + step / 2, 14, release.triton, anchor="middle", bold=True)
        canvas.text(x + step / 2, 32, release.ptxas, anchor="middle")
        canvas.box(x, 43, step, 26, release.ground, release.words, bold=not release.lives)
        if release.merged:
            canvas.box(x, 77, step, 26, release.merged[1], release.merged[0])
    ill = [at for at, release in enumerate(found) if not release.lives]
    if ill and reports:
        canvas.bracket(left + ill[0] * step + 2, left + (ill[-1] + 1) * step - 2, 114)
        y = 132.0
        for said in ("reported of these:", *reports):
            y = canvas.paragraph(left + ill[0] * step, y, said)
    canvas.paragraph(2, canvas.bottom + 18, _KEY)


def _down(canvas: Canvas, found: list[Release], reports: list[str]) -> None:
    columns = (2.0, 66.0, 140.0, 258.0)
    for x, words in zip(columns, ("Triton", "its ptxas", "the incident", "merged row"), strict=True):
        canvas.text(x, 14, words, bold=True)
    for at, release in enumerate(found):
        y = 22 + at * 30
        canvas.text(columns[0], y + 17, release.triton)
        canvas.text(columns[1], y + 17, release.ptxas)
        canvas.box(columns[2], y, 108, 25, release.ground, release.words, bold=not release.lives)
        if release.merged:
            canvas.box(columns[3], y, 106, 25, release.merged[1], release.merged[0])
    y = 22 + len(found) * 30 + 14.0
    dying = [release.triton for release in found if not release.lives]
    if dying and reports:
        y = canvas.paragraph(2, y, f"Reported of {', '.join(dying)}:")
        for said in reports:
            y = canvas.paragraph(2, y, said)
    canvas.paragraph(2, y + 4, _KEY)

"""The way of a kernel from Python to machine code: its texts, the program that writes each, and where it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from helpers.compiler.report import CompileReport, Evidence
from helpers.workbook.schematics.drawing import FINE, IDLE, NEW, OLD, Canvas, Picture, width_of

# Each text of a kernel, and the program that makes it out of the one before.
_TEXTS = ("Python", "TTIR", "TTGIR", "LLIR", "PTX", "SASS")
_MAKERS = ("Triton's front end", "Triton's passes", "Triton's passes", "LLVM", "ptxas")
_FILES = {"TTIR": "ttir_path", "TTGIR": "ttgir_path", "LLIR": "llir_path"}


@dataclass(frozen=True)
class Way:
    """What is known of one compile: lines of each text that is at hand, the last text made, how it ended."""

    lines: dict[str, int]
    last: str
    verdict: str
    owners: tuple[tuple[str, int, int], ...]
    short: str

    @property
    def whole(self) -> bool:
        return self.last == _TEXTS[-1]

    @property
    def stopped_by(self) -> str:
        """The program that made nothing of the last text; empty where all is made."""
        return "" if self.whole else _MAKERS[_TEXTS.index(self.last)]


def way_of(report: CompileReport) -> Way:
    """How far a compile came."""
    made = [name for name, path in _FILES.items() if getattr(report, path)]
    if report.compiled:
        last = "SASS"
    elif report.ptx_lines:
        last = "PTX"
    else:
        last = made[-1] if made else "Python"
    lines = {
        name: len(path.read_text().splitlines())
        for name in made
        if (path := Path(getattr(report, _FILES[name]))).is_file()
    }
    if report.ptx_lines:
        lines["PTX"] = report.ptx_lines
    owners = (
        (f"Triton {report.triton_version}", 0, 3),
        ("its LLVM", 3, 4),
        (f"NVIDIA's ptxas {report.ptxas_version}", 4, 5),
    )
    return Way(lines, last, report.verdict(), owners, report.ptxas_code or report.status.replace("_", " "))


def pipeline_picture(compiled: Evidence) -> Picture:
    """The texts of one compile in their order, who owns which step, and a cross where the compile ended."""
    way = way_of(compiled.report)
    counts = ", ".join(f"{name} of {count:,} lines" for name, count in way.lines.items())
    (triton, *_), (llvm, *_), (ptxas, *_) = way.owners
    end = (
        f"{ptxas} turns the PTX into SASS: {way.verdict}."
        if way.whole
        else f"The way ends at {way.stopped_by}: {way.verdict}. What would come after {way.last} is never made."
    )
    words = (
        f"{triton} turns the Python of a kernel into TTIR, TTGIR and LLIR, {llvm} turns the LLIR into PTX, and {ptxas} "
        f"turns PTX into SASS, the machine code. Seen here: {counts or 'no text was kept'}. {end}"
    )
    title = "Every step is made" if way.whole else f"The kernel dies at the step of {way.stopped_by}"

    def draw(canvas: Canvas) -> None:
        (_across if canvas.wide else _down)(canvas, way)

    return Picture(title, words, draw)


def _fill(way: Way, name: str) -> str:
    if _TEXTS.index(name) > _TEXTS.index(way.last):
        return "none"
    return {"Python": IDLE, "PTX": NEW, "SASS": FINE}.get(name, OLD)


def _label(way: Way, name: str) -> str:
    if name == "SASS" and not way.whole:
        return "never made"
    if name == "SASS":
        return "made"
    return f"{way.lines[name]:,} lines" if name in way.lines else "your kernel" if name == "Python" else ""


def _across(canvas: Canvas, way: Way) -> None:
    wide, gap, top, high = 76.0, 60.0, 36.0, 46.0
    step = wide + gap
    for at, name in enumerate(_TEXTS):
        x = 2 + at * step
        canvas.box(x, top, wide, high, _fill(way, name), name, bold=True, dashed=_fill(way, name) == "none")
        canvas.text(x + wide / 2, top + high + 18, _label(way, name), anchor="middle")
    for owner, first, last in way.owners:
        # A bracket over the arrows of one owner.
        left, right = 2 + first * step + wide + 4, 2 + last * step - 4
        canvas.bracket(left, right, top - 14, owner, below=False)
    for at in range(len(_MAKERS)):
        x = 2 + at * step + wide
        canvas.arrow(x + 3, top + high / 2, x + gap - 3, top + high / 2)
    if not way.whole:
        at = _TEXTS.index(way.last)
        x = 2 + at * step + wide + gap / 2
        canvas.line(x, top + high / 2 - 4, x, top + high + 40, dashed=True)
        canvas.cross(min(x, canvas.width - 70), top + high + 52, way.short)


def _down(canvas: Canvas, way: Way) -> None:
    wide, high, gap, left = 150.0, 28.0, 30.0, 2.0
    for at, name in enumerate(_TEXTS):
        y = 2 + at * (high + gap)
        label = _label(way, name)
        canvas.box(left, y, wide, high, _fill(way, name), name, bold=True, dashed=_fill(way, name) == "none")
        canvas.text(left + wide + 8, y + high / 2 + 4, label)
        if at < len(_MAKERS):
            canvas.arrow(left + wide / 2, y + high + 2, left + wide / 2, y + high + gap - 2)
    for owner, first, last in way.owners:
        top, bottom = 2 + first * (high + gap) + high + 3, 2 + last * (high + gap) - 3
        x = left + wide + 96
        canvas.line(x, top, x, bottom, thick=3)
        two = width_of(owner, canvas.size) > canvas.width - x - 8
        canvas.paragraph(x + 8, (top + bottom) / 2 + 4 - two * canvas.leading / 2, owner)
    if not way.whole:
        y = 2 + _TEXTS.index(way.last) * (high + gap) + high + gap / 2
        canvas.cross(left + wide / 2, y, way.short)

"""One pack of a PTX as two LLVMs write it: four instructions, and one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.inspection.ptx.packs import OPEN, WHOLE, Pack, opened, packs, repacked
from helpers.workbook.schematics.drawing import IDLE, NEW, OLD, Canvas, Picture

_HALF, _HIGH, _STEP = 38.0, 22.0, 46.0
_LOW, _UPPER, _ZERO = ("low", OLD), ("high", NEW), ("0", IDLE)


@dataclass(frozen=True)
class TwoForms:
    """A pack in both forms, as lines of PTX, and how many packs of each form its PTX has."""

    pack: Pack
    four: tuple[str, ...]
    one: str
    open_packs: int
    whole_packs: int


def two_forms(ptx: str) -> TwoForms:
    """The first pack behind a load from tensor memory, else the first of all; raises ValueError for a PTX without any.

    The form that the PTX does not have is the one that `repacked` or `opened` writes for the same pack.
    """
    found = packs(ptx)
    if not found:
        raise ValueError("this PTX puts no pair of floats together")
    first = next((pack for pack in found if pack.after_load), found[0])
    text = ptx if first.form == OPEN else opened(ptx, {first.line})
    pack = next(p for p in packs(text) if p.form == OPEN and (p.low, p.high) == (first.low, first.high))
    lines = text.split("\n")
    rewritten = repacked(text, {pack.line}).split("\n")
    one = next(line for line in rewritten if f"{pack.result}, {{{pack.low}, {pack.high}}}" in line)
    return TwoForms(
        pack,
        tuple(_plain(lines[at - 1]) for at in (*pack.parts, pack.line)),
        _plain(one),
        sum(p.form == OPEN for p in found),
        sum(p.form == WHOLE for p in found),
    )


def _plain(line: str) -> str:
    return " ".join(line.split())


def pack_picture(ptx: str) -> Picture:
    """A pack of this PTX in four instructions and in one, with the bits of each result beside its instruction."""
    forms = two_forms(ptx)
    pack = forms.pack
    words = (
        f"Two registers of 32 bits, {pack.low} and {pack.high}, become one value of 64 bits, {pack.result}. In "
        f"{len(forms.four)} instructions: {' '.join(forms.four)} In one: {forms.one} The result is the same; the four "
        f"make {len(forms.four) - 1} more values of 64 bits on the way. This PTX has {forms.open_packs} packs of four "
        f"instructions and {forms.whole_packs} of one."
    )

    def draw(canvas: Canvas) -> None:
        column = canvas.width / 2 + 12 if canvas.wide else 0.0
        results = ((_ZERO, _LOW), (_ZERO, _UPPER), (_UPPER, _ZERO), (_UPPER, _LOW))
        y = _panel(canvas, 2, 14, f"{len(forms.four)} instructions", forms.four, results, pack)
        _panel(canvas, 2 + column, 14 if column else y + 22, "one instruction", (forms.one,), results[-1:], pack)
        canvas.paragraph(
            2,
            canvas.bottom + 24,
            f"This PTX has {forms.open_packs} packs of four instructions and {forms.whole_packs} of one.",
        )

    return Picture(f"One pack in {len(forms.four)} instructions, and in one", words, draw)


def _panel(
    canvas: Canvas, x: float, y: float, heading: str, code: Sequence[str],
    results: Sequence[tuple[tuple[str, str], tuple[str, str]]], pack: Pack,
) -> float:  # fmt: skip
    """The two halves, then every instruction with the 64 bits that it makes; the y below."""
    right = x + (canvas.width / 2 - 12 if canvas.wide else canvas.width) - 4 - 2 * _HALF - 4
    canvas.text(x, y, heading, bold=True)
    y += 10
    canvas.text(x, y + 15, f"low: {pack.low}, high: {pack.high}", code=True)
    for place, (words, fill) in enumerate((_UPPER, _LOW)):
        canvas.box(right + place * (_HALF + 4), y, _HALF, _HIGH, fill, words)
    y += _STEP - 14
    for line, (upper, lower) in zip(code, results, strict=True):
        canvas.text(x, y + 15, line, code=True)
        for place, (words, fill) in enumerate((upper, lower)):
            canvas.box(right + 2 + place * _HALF, y, _HALF, _HIGH, fill, words)
        y += _HIGH + 8
    return y

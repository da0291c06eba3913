"""The smallest PTX that dies and its twin that compiles, as one annotated listing.

Both were found by benchmarks/record_minimized_pair.py. The listing folds runs of lines that look alike, says above the
telling lines what they do, and marks what differs between the two.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import html
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from helpers.compiler.compile import usable_cores
from helpers.compiler.run_ptxas import PtxasRun, run_ptxas
from helpers.compiler.toolchain import installed_ptxas
from helpers.files import ROOT
from helpers.show.html import folded
from helpers.show.style import status_colour
from helpers.show.verdicts import words_in_cell

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

ARCH = "sm_100a"

FATAL, CURED = ROOT / "data" / "pack_pair_fatal.ptx", ROOT / "data" / "pack_pair_cured.ptx"
_WIDE = re.compile(r"tcgen05\.(ld|st)\b.*?\.x(\d+)\.")
_SHORTEST_RUN = 3
_LONGEST_LINE = 96


def pack_pair() -> tuple[str, str]:
    """(the PTX that dies, its twin that compiles), as recorded in data/."""
    return FATAL.read_text(), CURED.read_text()


def note_of(line: str) -> str:
    """What a telling line of the listing does, in one sentence; empty for the others."""
    if found := _WIDE.search(line):
        what = {"ld": "loads tensor memory into", "st": "stores to tensor memory from"}[found[1]]
        return f"This one instruction {what} {found[2]} registers, which have to be adjacent."
    if re.match(r"\s*@!?%p\d+\s+bra\b", line):
        return "A branch: everything that is alive here has to keep a register on both ways."
    if re.match(r"\s*shl\.b64\b.*, 32;", line):
        return "An open pack: one float is shifted into the upper half of 64 bits, and `or` joins it with the other."
    if re.match(r"\s*mov\.b64\s+%\w+, \{", line):
        return "The same pack as one instruction."
    if re.match(r"\s*fma\.rn\.f32x2\b", line):
        return "An instruction on two floats at once: it reads and writes 64-bit registers."
    return ""


def shape_of(line: str) -> str:
    """The line with its registers and numbers taken out: lines of one shape look alike to a reader."""
    return re.sub(r"%?[$\w]*\d[\w]*", "_", line.strip())


def listing(fatal: str, cured: str) -> list[tuple[str, str]]:
    """(mark, line) of both texts in one: `-` only in the fatal one, `+` only in the cured one, `//` a note, else blank.

    Runs of lines of one shape that stand in both are folded to the first of them and a count.
    """
    old, new = fatal.strip().split("\n"), cured.strip().split("\n")
    merged: list[tuple[str, str]] = []
    for what, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal":
            merged += [(" ", line) for line in old[a:b]]
        else:
            merged += [("-", line) for line in old[a:b]] + [("+", line) for line in new[c:d]]
    return list(_folded(merged))


def _folded(merged: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for (mark, _shape), group in groupby(merged, key=lambda item: (item[0], shape_of(item[1]))):
        lines = [line for _, line in group]
        if note := note_of(lines[0]):
            yield "//", note
        if mark != " " or len(lines) < _SHORTEST_RUN:
            yield from ((mark, _short(line)) for line in lines)
        else:
            yield mark, _short(lines[0])
            yield "…", f"{len(lines) - 1} more lines like this one"


def _short(line: str) -> str:
    line = line.rstrip().expandtabs(4)
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


def lines_apart(fatal: str, cured: str) -> int:
    """How many lines stand in one of the two texts only."""
    return sum(mark in ("-", "+") for mark, _ in listing(fatal, cured))


def pack_pair_verdicts() -> pd.DataFrame:
    """Both texts assembled now by every ptxas on this machine: one row a release, how each of the two ended."""
    import pandas as pd

    programs = installed_ptxas()
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        ended = [
            list(pool.map(lambda program, text=text: run_ptxas(program, text, gpu_name=ARCH), programs.values()))
            for text in pack_pair()
        ]
    rows = [
        {
            "ptxas": release,
            "the PTX that dies": _in_a_cell(dead),
            "its twin": _in_a_cell(twin),
        }
        for release, dead, twin in zip(programs, *ended, strict=True)
    ]
    return pd.DataFrame(rows)


def _in_a_cell(run: PtxasRun) -> str:
    return words_in_cell({**vars(run), "status": run.verdict})


def annotated_pair() -> HTML:
    """The recorded pair as an HTML listing; red lines are of the text that dies, green of its twin."""
    from IPython.display import HTML

    return HTML(listing_html(*pack_pair()))


def listing_html(fatal: str, cured: str) -> str:
    """The listing as HTML, what stands far before and behind the first and last difference folded; all text escaped."""
    colours = {"-": status_colour("register_exhausted"), "+": status_colour("ok")}
    words = {"-": "only in the PTX that dies", "+": "only in the PTX that compiles"}
    lines, told = [], listing(fatal, cured)
    for mark, line in told:
        style = "font-style:italic;font-weight:bold" if mark == "//" else ""
        if mark in colours:
            style = f"border-left:5px solid {colours[mark]};padding-left:calc(2em - 5px);font-weight:bold;"
        label = f' aria-label="{words[mark]}: {html.escape(line.strip(), quote=True)}"' if mark in words else ""
        lines.append(
            f'<span{label} style="display:block;padding-left:2em;text-indent:-2em;{style}">'
            f"{html.escape(f'{mark} {line}')}</span>"
        )
    key = "; ".join(f"<b>{mark}</b> {what}" for mark, what in words.items())
    apart = [at for at, (mark, _) in enumerate(told) if mark in words]
    first, last = (max(0, apart[0] - _AROUND), apart[-1] + 1 + _AROUND) if apart else (0, len(lines))
    return (
        f'<p style="margin:.3em 0">{key}; <b>//</b> what the next line does.</p>'
        '<div style="font-family:monospace;font-size:.86em;line-height:1.35;white-space:pre-wrap;'
        'overflow-wrap:anywhere">'
        f"{_fold(lines[:first], 'before')}{''.join(lines[first:last])}{_fold(lines[last:], 'after')}</div>"
    )


_AROUND = 12
"""Lines shown before the first difference and behind the last one."""


def _fold(lines: Sequence[str], where: str) -> str:
    """Lines that a click opens; a few are not worth one."""
    if len(lines) <= 3:
        return "".join(lines)
    return folded(f"{len(lines)} lines {where} these, the same in both", "".join(lines))

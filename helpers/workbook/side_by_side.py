"""Kernel source, TTGIR, PTX and SASS of a compile side by side, linked by source line, with pressure in the gutter.

The panes are drawn by a small script from data in the page itself (nothing is fetched; text is set as text, never as
HTML). Without the script, in a code host's preview, the table of source lines stands in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.cleaning import for_html
from helpers.compiler.disassemble import sass_pressure
from helpers.compiler.report import CompileReport, Evidence
from helpers.errors import UserError
from helpers.hardware import CAP
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.inspection.ttgir import ttgir_lines
from helpers.show.html import command_html
from helpers.workbook.evidence import compile_choices, ptx_of
from helpers.workbook.prose import source_lines_of

MAX_PANE_LINES = 8_000
MAX_LINE_CHARS = 240
MAX_PAGE_BYTES = 1_500_000
STAGES = ("TTGIR", "PTX", "SASS")
_HERE = Path(__file__).parent
_LOC = re.compile(r"^\s*\.loc\s+(\d{1,9})\s+(\d{1,9})")
_FILE = re.compile(r'^\s*\.file\s+(\d{1,9})\s+"([^"\n]*)"(?:\s+"([^"\n]*)")?', re.MULTILINE)
_NAMES = re.compile(r"%\w+|\bU?[RP]\d+\b|\$?L_?[\w$]*\d+|0x[0-9a-f]+", re.IGNORECASE)

Line = tuple[
    str, str, int
]  # text, source key such as "206" or "standard.py:168" ("" for none), registers (0: not known)


@dataclass(frozen=True)
class Pane:
    """One text: its lines, and what there is to say of it (why it is empty, what was left out)."""

    name: str
    lines: tuple[Line, ...]
    note: str = ""


def source_pane(kernel_path: str, demand: dict[str, int]) -> Pane:
    """The kernel's own file, with the demand of each line."""
    lines = [(_narrow(text), str(n), demand.get(str(n), 0)) for n, text in source_lines_of(kernel_path).items()]
    return Pane("source", tuple(lines))


def _narrow(text: str) -> str:
    """The line with half its indentation: panes are narrow."""
    bare = text.lstrip(" ")
    return " " * ((len(text) - len(bare)) // 2) + bare


def ttgir_pane(text: str, kernel_file: str) -> Pane:
    """Triton's GPU IR; it has no pressure of its own."""
    return _windowed("TTGIR", [(_narrow(line), _key(source, kernel_file), 0) for line, source in ttgir_lines(text)])


def ptx_pane(ptx: str, kernel_file: str) -> tuple[Pane, dict[str, int]]:
    """(the kernel's PTX without comments and directives of the debugger, demand by source key)."""
    profile = pressure_profile(ptx)
    points = dict(profile.points) if profile else {}
    demand = {_key(line.source, kernel_file): line.registers for line in profile.lines} if profile else {}
    files = {m[1]: f"{m[2]}/{m[3]}" if m[3] else m[2] for m in _FILE.finditer(ptx)}
    lines, key, inside = [], "", False
    for number, text in enumerate(ptx.split("\n"), start=1):
        if m := _LOC.match(text):
            key = _key((files.get(m[1], ""), int(m[2])), kernel_file)
            continue
        if inside and text.lstrip().startswith((".section", ".file")):
            break  # behind the code: strings and tables of the debugger
        inside = inside or ".entry" in text
        bare = text.partition("//")[0].rstrip()
        if inside and bare.strip():
            lines.append((bare.strip() if bare[:1].isspace() else bare, key, points.get(number, 0)))
    return _windowed("PTX", lines), demand


def sass_pane(evidence: Evidence, kernel_file: str) -> Pane:
    """What ptxas made of it, with the registers in use; where there is no binary, a note that says why."""
    report = evidence.report
    if not report.cubin_path:
        why = "ptxas made no binary" if report.ptx_path else "it was not compiled here"
        return Pane("SASS", (), f"No SASS: {why} ({report.verdict()}).")
    try:
        profile = sass_pressure(report.cubin_path, report.ptxas_version)
    except UserError as exc:
        return Pane("SASS", (), f"No SASS: {exc}")
    return _windowed("SASS", [(i.text, _key(i.source, kernel_file), i.gprs) for i in profile.instructions])


def _key(source: tuple[str, int] | None, kernel_file: str) -> str:
    """`206` for a line of the kernel's file, `standard.py:168` for another's, nothing for code the compiler made up."""
    if source is None or not source[1]:
        return ""
    name = Path(source[0]).name
    return str(source[1]) if name == kernel_file else f"{name}:{source[1]}"


def _windowed(name: str, lines: list[Line]) -> Pane:
    """At most MAX_PANE_LINES lines, those around the highest pressure; says what it left out."""
    lines = [(text[:MAX_LINE_CHARS], key, registers) for text, key, registers in lines]
    if len(lines) <= MAX_PANE_LINES:
        return Pane(name, tuple(lines))
    peak = max(range(len(lines)), key=lambda i: lines[i][2])
    first = min(max(0, peak - MAX_PANE_LINES // 2), len(lines) - MAX_PANE_LINES)
    note = f"lines {first + 1:,} to {first + MAX_PANE_LINES:,} of {len(lines):,}, around the highest pressure"
    return Pane(name, tuple(lines[first : first + MAX_PANE_LINES]), note)


@dataclass(frozen=True)
class Compiled:
    """One compile as panes: source first, then the stages; `demand` by source key."""

    title: str
    verdict: str
    report: CompileReport
    panes: tuple[Pane, ...]
    demand: dict[str, int]
    command: str = ""

    def stage(self, name: str) -> Pane:
        """The pane of that name."""
        return next(pane for pane in self.panes if pane.name == name)


def compiled_panes(evidence: Evidence, choice: Choice) -> Compiled:
    """The panes of one compile; where a stage is not at hand its pane says so."""
    report = evidence.report
    kernel_path = choice.request().spec.kernel.path
    kernel_file = Path(kernel_path).name
    try:
        ptx, demand = ptx_pane(ptx_of(evidence), kernel_file)
    except UserError as exc:
        ptx, demand = Pane("PTX", (), str(exc)), {}
    if report.ttgir_path:
        ttgir = ttgir_pane(Path(report.ttgir_path).read_text(), kernel_file)
    else:
        ttgir = Pane("TTGIR", (), f"No TTGIR at hand: {evidence.source}")
    panes = (source_pane(kernel_path, demand), ttgir, ptx, sass_pane(evidence, kernel_file))
    title = (
        f"{report.label}, {report.arch}, Triton {report.triton_version}, ptxas {report.ptxas_version or 'not reached'}"
    )
    verdict = f"{report.verdict()} ({'live' if evidence.live else 'recorded'}, compile-only)"
    return Compiled(title, verdict, report, panes, demand, choice.command())


def changed_keys(mine: Pane, theirs: Pane) -> set[str]:
    """Source keys whose instructions differ between two panes, names of registers and labels aside."""
    here, there = _by_key(mine.lines), _by_key(theirs.lines)
    return {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}


def _by_key(lines: Iterable[Line]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for text, key, _ in lines:
        found.setdefault(key, Counter())[_NAMES.sub("_", text)] += 1
    return found


def _packed(pane: Pane) -> dict:
    """A pane for the script: runs of lines with one key, each [key, highest pressure, text]."""
    runs: list[list] = []
    for text, key, registers in pane.lines:
        if runs and runs[-1][0] == key and pane.name != "source":
            runs[-1][1] = max(runs[-1][1], registers)
            runs[-1][2] += "\n" + text
        else:
            runs.append([key, registers, text])
    return {"name": pane.name, "note": pane.note, "runs": runs}


@dataclass(frozen=True)
class SideBySide:
    """One compile, or two, as panes that a browser links; shows itself in a notebook and in an exported page."""

    sides: tuple[Compiled, ...]

    def data(self) -> dict:
        """What the script draws from: the shared source, each side's stages, and which source lines differ."""
        differing = {}
        if len(self.sides) == 2:
            a, b = self.sides
            differing = {s: sorted(changed_keys(a.stage(s), b.stage(s))) for s in STAGES}
        first = self.sides[0]
        return {
            "peak": max(first.demand, key=first.demand.get, default=""),
            "source": _packed(first.stage("source")),
            "sides": [
                {"title": s.title, "verdict": s.verdict, "cap": s.report.cap or CAP, "demand": s.demand,
                 "stages": [_packed(s.stage(name)) for name in STAGES]}
                for s in self.sides
            ],
            "differing": differing,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        data = json.dumps(self.data(), separators=(",", ":"))
        # Inside <script>, only "</" and "<!" could end it.
        data = data.replace("<", "\\u003c")
        mark = hashlib.sha256(data.encode()).hexdigest()[:16]
        script = (_HERE / "side_by_side.js").read_text(encoding="utf-8")
        style = (_HERE / "side_by_side.css").read_text(encoding="utf-8")
        heads = "".join(
            f'<div class="rc-verdict"><b>{for_html(s.title)}</b>: {for_html(s.verdict)}</div>' for s in self.sides
        )
        commands = "".join(f'<div class="rc-command">{command_html(s.command)}</div>' for s in self.sides)
        page = (
            f'<div class="rc-explorer rc-side-by-side" data-rc-mark="{mark}"><style>{style}</style>{heads}'
            f'<div class="rc-figure">{self._fallback()}</div>{commands}'
            f'<script type="application/json">{data}</script></div>'
            f'<script>(function(mark){{{script}}})("{mark}");</script>'
        )
        if len(page.encode()) > MAX_PAGE_BYTES:
            raise UserError(
                f"these panes take {len(page.encode()):,} bytes, more than the {MAX_PAGE_BYTES:,} that a page may grow "
                "by: show one configuration at a time"
            )
        return page

    def __repr__(self) -> str:
        return "\n".join(f"{s.title}: {s.verdict}" for s in self.sides)

    def _fallback(self) -> str:
        """The source lines with the highest demand, and how many lines each became, as a table."""
        first = self.sides[0]
        source = {key: text for text, key, _ in first.stage("source").lines}
        keys = sorted((k for k in first.demand if k in source), key=lambda k: -first.demand[k])[:12]
        counts = [(s, name, Counter(key for _, key, _ in s.stage(name).lines)) for s in self.sides for name in STAGES]
        many = len(self.sides) > 1
        which = {id(s): " " + "AB"[i] if many else "" for i, s in enumerate(self.sides)}
        head = ["line", "source", *(f"demand{which[id(s)]}" for s in self.sides)]
        head += [f"{name}{which[id(s)]}" for s, name, _ in counts]
        rows = [
            [key, source[key].strip()[:90], *(s.demand.get(key, "") for s in self.sides), *(c[key] for *_, c in counts)]
            for key in keys
        ]
        cells = "".join("<tr>" + "".join(f"<td>{for_html(str(v))}</td>" for v in row) + "</tr>" for row in rows)
        titles = "".join(f"<th>{for_html(name)}</th>" for name in head)
        return (
            "<table><caption>The lines that need most registers, and how many lines each became; the linked panes need "
            f"JavaScript</caption><tr>{titles}</tr>{cells}</table>"
        )


def side_by_side(choice: Choice = INCIDENT_CHOICE, other: Choice | None = None) -> SideBySide:
    """The panes of `choice` (default: the incident), or with `other` those of both, differing lines marked.

    Raises UserError where no PTX is at hand, or the panes would make the page too large.
    """
    choices = [choice] if other is None else [choice, other]
    evidence = compile_choices(choices)
    sides = tuple(compiled_panes(e, c) for e, c in zip(evidence, choices, strict=True))
    if not any(side.stage("PTX").lines for side in sides):
        raise UserError(sides[0].stage("PTX").note)
    return SideBySide(sides)

"""The verb `cross`: Triton's passes, LLVM or ptxas? Every release does each stage of every other's output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import rich_click as click

from helpers.cleaning import for_html
from helpers.commands.line.common import ARCH_DEFAULT, DEFAULT_ARCH
from helpers.commands.line.given import (
    EMPTY,
    FOLDER,
    GIVEN_SPEC,
    PTX,
    SPEC,
    TEXT,
    Given,
    read_text,
    recognise,
    spec_path,
)
from helpers.commands.line.grammar import ARGUMENTS, FILE, GIVEN, Verb, one, own_option, shared
from helpers.commands.line.output import check_writable, command_line, show_result, write_result
from helpers.commands.line.progress import progress
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import refuse_ill
from helpers.errors import UserError
from helpers.hardware import get_arch
from helpers.search.cross import STEPS, WORK, Crossed, Crossing, StageText, cross
from helpers.search.cross_answer import crossed_dict
from helpers.show.display import text_columns
from helpers.show.verdicts import NOT_ASKED, Cell, Grid, cell_of, grid_html, grid_of

ADJUSTED = "*"
_ENDINGS = {".ttgir": "ttgir", ".llir": "llir", ".ll": "llir", ".ptx": "ptx"}


@click.command(
    "cross", cls=Verb, examples=("register-cliff cross spec.json --arch B200 --triton 3.6.0,3.7.1",
                                 "register-cliff cross crash.ptx --ptxas 12.8.93,13.1.80"),
)  # fmt: skip
@click.argument("spec", required=False, type=GIVEN, metavar="[SPEC]", panel=ARGUMENTS,
                help=f"{GIVEN_SPEC}; or the text of one stage: a TTGIR, an LLIR or a PTX")  # fmt: skip
@own_option("--grids", "grids_path", type=FILE, metavar="FILE", help="write the three grids to this HTML file")
@own_option(
    "--turns-only",
    "only_turns",
    is_flag=True,
    help="hand texts on only between neighbouring releases whose verdicts differ: sooner, with gaps in the grids",
)
@shared("trust_root")
@shared("arch", "triton", "ptxas", "time_limit", many=("triton", "ptxas"), arch=ARCH_DEFAULT,
        triton="(all that are here)", ptxas="(for a PTX all that are here)")  # fmt: skip
@shared("force", "json", "quiet")
def cross_command(
    spec: Path | None, grids_path: Path | None, only_turns: bool, triton: list | None, ptxas: list | None,
    arch: list | None, timeout_s: float, as_json: bool, quiet: bool, force: bool,
) -> None:  # fmt: skip
    """Find whether Triton's passes, LLVM or ptxas decides a verdict, and between which releases.

    Every release takes each text (TTGIR, LLIR, PTX) that another one made, and goes on from there. What has to be
    changed in a text so that another release reads it is listed. Without SPEC, the incident is crossed.
    """
    if grids_path is not None:
        check_writable(grids_path)
    what, named = subject(spec, {"arch": arch})
    of_ptx = isinstance(what, StageText) and what.stage == "ptx"
    if ptxas and not of_ptx:
        raise UserError("--ptxas is for a PTX: each release of Triton crosses with the ptxas that it would use itself")
    if triton and of_ptx:
        raise UserError("--triton is for a spec, a TTGIR or an LLIR: a PTX goes to ptxas alone, --ptxas names releases")
    with progress("crossing") as bar:
        found = cross(what, named, versions=ptxas if of_ptx else triton, timeout_s=timeout_s, only_turns=only_turns,
                      progress=bar.compiled)  # fmt: skip
    if grids_path is not None:
        write_result(grids_path, cross_html(found))
    result = {**crossed_dict(found), "file": str(grids_path) if grids_path else None}
    show_result(result, as_json, lambda _result: format_crossed(found), next_step(found, spec))
    refuse_ill([*found.own.values(), *(cell.report for cell in found.cells if cell.report is not None)])


def next_step(found: Crossed, spec: Path | None) -> str | None:
    """The command that packs the failing release's compile for an issue; None where nothing turns, and for a text."""
    if not found.turns or len(found.steps) < len(STEPS):
        return None
    words = [] if spec is None else [spec]
    return f"{command_line('report', *words, '--arch', found.arch, '--triton', found.turns[-1].fails)} packs it"


def subject(path: Path | None, options: dict) -> tuple[KernelSpec | StageText, str]:
    """(what is crossed, for which chip) of the path that a verb was given; the incident without one."""
    given = recognise(path) if path is not None else None
    if given is None or given.kind in (SPEC, FOLDER):
        nothing = dict.fromkeys(("mask", "sinks", "non_causal", "ptxas_for_codegen"), False)
        return _of_spec(given, {**nothing, **options})
    text = read_text(given, wants="a spec, or the text of one stage (TTGIR, LLIR, PTX)", kinds=(PTX, TEXT, EMPTY))
    stage = stage_of(text, given)
    return StageText(stage, text, given.path.name), one(options["arch"]) or target_of(text) or DEFAULT_ARCH


def _of_spec(given: Given | None, options: dict) -> tuple[KernelSpec | StageText, str]:
    from helpers.attention.choice import Choice
    from helpers.commands.line.common import assumed_for
    from helpers.compiler.kernel_spec import read_specs

    if given is None:
        return Choice().request().spec, one(options["arch"]) or DEFAULT_ARCH
    path = spec_path(given.path)
    specs = read_specs([path])
    if len(specs) != 1:
        raise UserError(f"{path} holds {len(specs)} specs; this takes one at a time")
    arch = options["arch"] or assumed_for(path, {"arch": None, "triton": ["crossed"]})["arch"]
    return specs[0], arch[0]


def stage_of(text: str, given: Given) -> str:
    """`ttgir`, `llir` or `ptx`: by what the text says, else by the file's ending; raises UserError."""
    if given.kind == PTX:
        return "ptx"
    if re.search(r"^#(?:blocked|shared|linear|mma|tmem)\d* = #ttn?g\.", text, re.MULTILINE) or "ttg.num-warps" in text:
        return "ttgir"
    if re.search(r"^(?:define|declare) .{0,200}@", text, re.MULTILINE) and "target triple" in text[:4_000]:
        return "llir"
    name = given.path.name.removesuffix(".gz")
    if (stage := _ENDINGS.get(Path(name).suffix)) and text.strip():
        return stage
    raise UserError(f"{given.path} is no spec and no TTGIR, LLIR or PTX, as far as its text tells; give one of those")


def target_of(text: str) -> str | None:
    """The chip that a text says it is for; None where it does not."""
    found = re.search(r"^\.target\s+(sm_\d+\w?)", text, re.MULTILINE) or re.search(r'"target-cpu"="(sm_\d+\w?)"', text)
    if found is None and (cuda := re.search(r'ttg\.target = "cuda:(\d+)"', text)):
        number = cuda.group(1)
        return next((name for name in (f"sm_{number}a", f"sm_{number}") if _known(name)), None)
    return found.group(1) if found and _known(found.group(1)) else None


def _known(name: str) -> bool:
    try:
        return bool(get_arch(name))
    except UserError:
        return False


# --- how it looks ----------------------------------------------------------------------------------------------


def cell_of_crossing(cell: Crossing | None) -> Cell | None:
    """The cell of one crossing, `*` behind its words where the text was adjusted."""
    if cell is None:
        return None
    if cell.report is not None:
        shown = cell_of(cell.report, mark=ADJUSTED if cell.adjustments else "")
        changes = f" (changed first: {'; '.join(cell.adjustments)})" if cell.adjustments else ""
        return Cell(shown.words, shown.ground, shown.hatched, hover=shown.hover + changes)
    words = "cannot read" if cell.unreadable else "no text"
    return Cell(words, NOT_ASKED, hatched=True, hover=cell.unreadable or "its maker failed before this text")


def cross_grids(found: Crossed) -> dict[str, Grid]:
    """One grid a step: who made the text in rows, who goes on from it in columns."""
    columns = {m.name: m.name for m in found.members}
    grids = {}
    for step in found.steps:
        rows = found.rows_of(step)
        if not rows:
            continue
        text = STEPS[STEPS.index(step) - 1].upper()

        def at(row: str, column: str, step: str = step) -> Cell | None:
            return cell_of_crossing(found.at(step, row, column))

        grids[step] = grid_of(
            rows,
            tuple(columns),
            at,
                              row_title=f"{text} made by", column_title=f"{WORK[step]} and the rest by")  # fmt: skip
    return grids


def cross_html(found: Crossed) -> str:
    """A page with the answer and the grids."""
    said = "".join(f"<p>{for_html(words)}</p>" for words in crossed_dict(found)["sentences"])
    changes = "".join(f"<li>{for_html(line)}</li>" for line in adjustment_lines(found))
    grids = "<br>".join(grid_html(grid, WORK[step]) for step, grid in cross_grids(found).items())
    title = for_html(f"{found.label}, {found.arch}")
    return (f'<!doctype html><meta charset="utf-8"><title>{title}</title><body style="font-family:sans-serif">'
            f"<h1>{title}</h1>{said}{grids}<ul>{changes}</ul></body>\n")  # fmt: skip


def adjustment_lines(found: Crossed) -> list[str]:
    """What was changed in texts, and which could not be read, each once with the crossings that it concerns."""
    by_words: dict[str, list[str]] = {}
    for cell in found.cells:
        place = f"{STEPS[STEPS.index(cell.step) - 1].upper()} of {cell.made_by} → {cell.done_by}"
        for words in cell.adjustments:
            by_words.setdefault(f"changed: {words}", []).append(place)
        if cell.unreadable:
            by_words.setdefault(f"cannot be read: {cell.unreadable}", []).append(place)
    return [f"{words} ({_short(places)})" for words, places in by_words.items()]


def _short(places: Sequence[str], most: int = 6) -> str:
    return ", ".join(places[:most]) + (f" and {len(places) - most} more" if len(places) > most else "")


def format_crossed(found: Crossed) -> str:
    """A crossing as text: the answer, the releases, a table a step, what was changed."""
    out = [f"{found.label}, {found.arch}", *crossed_dict(found)["sentences"], ""]
    rows = [("release", "LLVM", "ptxas", "by itself")]
    rows += [(m.name, m.facts.llvm if m.facts else "", m.ptxas or "", cell_of(found.own[m.name]).words)
             for m in found.members]  # fmt: skip
    out += text_columns(rows)
    for grid in cross_grids(found).values():
        table = [(grid.row_title, *grid.columns)]
        table += [(row, *(cell.words if cell else "" for cell in line))
                  for row, line in zip(grid.rows, grid.cells, strict=True)]  # fmt: skip
        out += ["", f"{grid.column_title} (columns)", *text_columns(table)]
    if lines := adjustment_lines(found):
        out += ["", f"{ADJUSTED} the text was changed first, so that the release reads it:" if any(
            cell.adjustments for cell in found.cells) else "", *(f"  {line}" for line in lines)]  # fmt: skip
    return "\n".join(out)

"""What a crossing of stages says, in sentences and as rows: who decides the verdict, and between which releases."""

from __future__ import annotations

from typing import Any

from helpers.compiler.report import CompileReport, verdict_words
from helpers.search.cross import CUBIN, DOES, STEPS, WORK, Crossed, Crossing, Turn, verdict_of
from helpers.search.same_failure import failure_key


def sentences(found: Crossed) -> list[str]:
    """The answer, one finding a sentence; what could not be told is said as that."""
    verdicts = {m.name: verdict_of(found.own[m.name]) for m in found.members}
    known = {name: v for name, v in verdicts.items() if v is not None}
    kind = "ptxas" if found.steps == (CUBIN,) else "Triton"
    if not known:
        return ["no release at hand gave a verdict"]
    if not found.turns:
        only = next(iter(known.values()))
        how = "compiles" if isinstance(only, str) else f"fails in the same way ({only.sentence()})"
        return [f"it {how} with every release of {kind} that gave a verdict ({', '.join(known)}): nothing turns"]
    said = [turn_sentence(found, turn) for turn in found.turns]
    silent = [name for name in verdicts if name not in known]
    if silent:
        said.append(f"{', '.join(silent)} gave no verdict by itself: {found.own[silent[0]].verdict()}")
    return said


def turn_sentence(found: Crossed, turn: Turn) -> str:
    """Who decides between two neighbouring releases, with the crossed compiles that show it."""
    kind = "ptxas" if found.steps == (CUBIN,) else "Triton"
    fails, other = _named(kind, turn.fails), _named(kind, turn.other)
    ends = found.own[turn.other]
    head = f"{fails} fails ({_words(found.own[turn.fails])}), {other} "
    head += f"compiles ({_words(ends)}): " if ends.compiled else f"fails otherwise ({_words(ends)}): "
    decided = turn.decided_by
    if found.steps == (CUBIN,):
        body = "ptxas decides, for the PTX is the same"
    elif len(decided) == 1:
        body = f"{_who(decided[0])} decides alone{_revisions(found, turn, decided[0])}. {_evidence(found, turn)}"
    elif turn.either_is_enough:
        body = f"{_who(turn.first[0])} of {turn.fails} brings the failure, and so does {_who(turn.last[0])} by itself"
    elif decided:
        body = (
            f"it takes both {' and '.join(map(_who, decided))} of {turn.fails}: the failure is gone as soon as "
            f"{turn.other} does either{_revisions(found, turn, decided[-1])}. {_evidence(found, turn)}"
        )
    else:
        body = _open_words(turn)
    if turn.between:
        body += f". Between the two lies {', '.join(turn.between)}, which was not asked"
    return head + body


def _named(kind: str, release: str) -> str:
    return f"{kind} {release}"


def _who(step: str) -> str:
    return f"{DOES[step]} ({WORK[step]})"


def _words(report: CompileReport) -> str:
    if report.status == "register_exhausted" and report.ptxas_code:
        return report.ptxas_code
    if report.status == "frontend_error" and (key := failure_key(report)):
        return key.sentence()
    return verdict_words(report.status, registers=report.regs_per_thread, spill_store_bytes=report.spill_store_bytes,
                         code=report.ptxas_code)  # fmt: skip


def _revisions(found: Crossed, turn: Turn, step: str) -> str:
    """What the two releases have for this step, where it is a program of its own."""
    one, other = found.member(turn.fails), found.member(turn.other)
    if step == CUBIN:
        return f": ptxas {one.ptxas} against {other.ptxas}"
    if DOES[step] == "LLVM" and one.facts and other.facts:
        return f": {one.facts.llvm} in {turn.fails} against {other.facts.llvm} in {turn.other}"
    return ""


def _evidence(found: Crossed, turn: Turn) -> str:
    """The crossed compiles on both sides of each turn."""
    said = []
    for begins, ends, steps in ((turn.fails, turn.other, turn.first), (turn.other, turn.fails, turn.last)):
        at = found.steps.index(steps[0])
        for step in found.steps[max(at, 1) : at + 2]:
            cell = found.at(step, begins, ends)
            if cell is not None and cell.report is not None:
                stage = STEPS[STEPS.index(step) - 1]
                said.append(f"{stage.upper()} of {begins}, the rest by {ends}: {_words(cell.report)}")
    return "; ".join(dict.fromkeys(said))


def _open_words(turn: Turn) -> str:
    parts = []
    for begins, steps in ((turn.fails, turn.first), (turn.other, turn.last)):
        if not steps:
            parts.append(f"when {begins} begins, the verdict turns more than once")
        else:
            parts.append(f"when {begins} begins, it turns at {' or '.join(map(_who, steps))}")
    return "the crossing leaves it open: " + "; ".join(parts)


def crossed_dict(found: Crossed) -> dict[str, Any]:
    """A crossing ready for JSON."""
    return {
        "label": found.label,
        "arch": found.arch,
        "steps": [{"step": step, "work": WORK[step], "done_by": DOES[step]} for step in found.steps],
        "releases": [
            {
                "release": m.name,
                "llvm_release": m.facts.llvm_release if m.facts else None,
                "llvm_revision": m.facts.llvm_revision if m.facts else None,
                "ptxas": m.ptxas,
                **_report_dict(found.own[m.name]),
            }
            for m in found.members
        ],
        "cells": [_cell_dict(cell) for cell in found.cells],
        "turns": [
            {
                "fails": t.fails,
                "other": t.other,
                "first": list(t.first),
                "last": list(t.last),
                "decided_by": list(t.decided_by),
                "culprit": list(dict.fromkeys(DOES[step] for step in t.decided_by)),
                "either_is_enough": t.either_is_enough,
                "between": list(t.between),
            }
            for t in found.turns
        ],
        "sentences": sentences(found),
    }


def _report_dict(report: CompileReport | None) -> dict[str, Any]:
    names = ("status", "ptxas_code", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "ptxas_version",
             "ptx_sha256", "ptx_path", "message")  # fmt: skip
    return {name: getattr(report, name) if report is not None else None for name in names}


def _cell_dict(cell: Crossing) -> dict[str, Any]:
    return {
        "step": cell.step,
        "text_by": cell.made_by,
        "done_by": cell.done_by,
        **_report_dict(cell.report),
        "adjustments": list(cell.adjustments),
        "unreadable": cell.unreadable,
    }

"""A diagnosis as text for a terminal and as HTML for a notebook; whatever came out of the log is escaped."""

from __future__ import annotations

import hashlib
import html
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.diagnosis import diagnosis as diagnosis_view
from helpers.diagnosis.incidents import Match
from helpers.diagnosis.remedies import Suggestion
from helpers.inspection.crash.crash_log import CrashLog, Failure
from helpers.show.style import status_colour

if TYPE_CHECKING:
    pass

WIDTH = 110
MAX_EVIDENCE = 24
# Kinds whose colour is that of the compile status they would have been.
_STATUS_OF = {"register_exhaustion": "register_exhausted", "register_cap_too_low": "register_exhausted",
              "shared_memory": "out_of_shared_memory", "tensor_memory": "out_of_tensor_memory", "no_failure": "ok",
              "unsupported_arch": "unsupported_target", "trapped": "trapped", "ptxas_signal": "ptxas_signal",
              "frontend_error": "frontend_error", "unsupported_ptx_version": "unsupported_ptx_version"}  # fmt: skip


def printable(text: object) -> str:
    """A stranger's text without control characters: a log must not move the cursor of whoever reads about it."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in str(text))


def facts_shown(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """(name, value) of what was extracted, in reading order; what is not known is left out."""
    log, first = diagnosis.log, diagnosis.log.first
    ptx = log.ptx
    rows = [
        ("code", first.code if first else None),
        ("registers asked", first.register_count_asked if first else None),
        ("registers needed", first.register_count_needed if first else None),
        ("arch", log.arch or (f"{log.value('arch_mentioned')} (mentioned)" if log.value("arch_mentioned") else None)),
        ("Triton", log.triton.words() if first or log.triton.facts else None),
        ("ptxas", log.value("ptxas_version") or log.value("ptxas_origin")),
        ("torch", log.value("torch_version")),
        ("Python", log.value("python_version")),
        ("kernel", log.kernel_name),
        ("num_warps", log.num_warps),
        ("register cap", log.register_cap),
        ("exception", log.exception),
        ("flags", " ".join(log.ptxas_flags)),
        ("PTX file", log.ptx_path),
        (
            "PTX in the log",
            f"{ptx.count(chr(10)):,} lines{', its end is missing' if log.ptx_cut else ''}" if ptx else None,
        ),
    ]
    return [(name, printable(value)) for name, value in rows if value not in (None, "", ())]


def as_text(diagnosis: Diagnosis) -> str:
    """The diagnosis as lines of text, evidence last."""
    out = [f"{diagnosis.kind}: {diagnosis.title}" if diagnosis.kind != "unknown" else "unknown", ""]

    def paragraph(text: str, indent: str = "  ", first: str | None = None) -> None:
        out.extend(textwrap.wrap(printable(text), WIDTH, initial_indent=first or indent, subsequent_indent=indent,
                                 break_on_hyphens=False) or [""])  # fmt: skip

    for line in diagnosis.because:
        paragraph(line)
    shown = facts_shown(diagnosis)
    if shown:
        out += ["", "what the log gives"]
        for name, value in shown:
            paragraph(value, " " * 20, f"  {name + ':':<18}")
    for match in diagnosis.incidents:
        out += ["", f"known: {match.incident.name} ({match.degree}; agrees in {', '.join(match.agrees)})"]
        paragraph(match.incident.what)
        paragraph(f"cause: {match.incident.cause} [{match.incident.cause_evidence}]")
        if match.degree != "the same":
            paragraph(f"remedy there: {match.incident.remedy} [{match.incident.remedy_evidence}]")
        paragraph(match.incident.link)
    for heading, suggestions in (
        ("what helps, in this order", diagnosis.suggestions),
        ("what does not", diagnosis.in_vain),
    ):
        if suggestions:
            out += ["", heading]
        for number, s in enumerate(suggestions, 1):
            paragraph(s.edit, "     ", f"  {number}. ")
            paragraph(f"{s.why}. [{s.evidence}]", "     ")
    if diagnosis.report_to:
        out += ["", f"where to report: {diagnosis.report_to}"]
        paragraph(diagnosis.report_why)
    if diagnosis.attach:
        out += ["", "what to attach"]
        for item in diagnosis.attach:
            paragraph(item, "    ", "  - ")
    if diagnosis.log.facts:
        out += ["", "evidence"]
        for fact in diagnosis.log.facts[:MAX_EVIDENCE]:
            paragraph(f"{fact.name} {fact.value[:80]} ({fact.how}): {fact.text[:120]}", "    ", "  - ")
    for note in diagnosis.notes:
        paragraph(note, "      ", "note: ")
    return "\n".join(out)


def as_html(diagnosis: Diagnosis) -> str:
    """The diagnosis as one HTML block."""
    say = lambda text: html.escape(printable(text))  # noqa: E731
    colour = status_colour(_STATUS_OF.get(diagnosis.kind, "ptxas_error"))
    head = diagnosis.title if diagnosis.kind != "unknown" else "unknown"
    parts = [
        '<div class="register-cliff-diagnosis" style="max-width:70em">'
        f'<div style="font-weight:bold;color:white;background:{colour};padding:4px 8px">{say(head)}</div>',
        *(f"<p style='margin:.4em 0;overflow-wrap:anywhere'>{say(line)}</p>" for line in diagnosis.because),
    ]
    shown = facts_shown(diagnosis)
    if shown:
        cells = "".join(
            f'<tr><th style="text-align:left;padding-right:1em;vertical-align:top;white-space:nowrap">{say(name)}</th>'
            f'<td style="text-align:left;overflow-wrap:anywhere">{say(value)}</td></tr>'
            for name, value in shown
        )
        parts.append(f"<table>{cells}</table>")
    for match in diagnosis.incidents:
        incident = match.incident
        parts.append(
            f'<p style="margin:.4em 0"><b>Known:</b> <a href="{html.escape(incident.link)}">{say(incident.name)}</a> '
            f"({say(match.degree)}; agrees in {say(', '.join(match.agrees))}). {say(incident.what)}. "
            f"<i>Cause:</i> {say(incident.cause)} <small>[{say(incident.cause_evidence)}]</small></p>"
        )
    for heading, suggestions in (
        ("What helps, in this order", diagnosis.suggestions),
        ("What does not", diagnosis.in_vain),
    ):
        if suggestions:
            items = "".join(
                f"<li><b>{say(s.edit)}</b><br>{say(s.why)} <small>[{say(s.evidence)}]</small></li>" for s in suggestions
            )
            parts.append(f"<b>{heading}</b><ol style='margin:.2em 0'>{items}</ol>")
    if diagnosis.report_to:
        parts.append(
            f"<p style='margin:.4em 0'><b>Where to report:</b> {say(diagnosis.report_to)}: "
            f"{say(diagnosis.report_why)}</p>"
        )
    if diagnosis.attach:
        items = "".join(f"<li>{say(item)}</li>" for item in diagnosis.attach)
        parts.append(f"<b>What to attach</b><ul style='margin:.2em 0'>{items}</ul>")
    if diagnosis.log.facts:
        items = "".join(
            f"<li>{say(f.name)} {say(f.value[:120])} ({say(f.how)}): <code>{say(f.text[:160])}</code></li>"
            for f in diagnosis.log.facts[:MAX_EVIDENCE]
        )
        parts.append(f"<details><summary>Evidence: the text each fact came from</summary><ul>{items}</ul></details>")
    parts += [f"<p style='margin:.4em 0'><i>{say(note)}</i></p>" for note in diagnosis.notes]
    return "".join(parts) + "</div>"


CERTAIN, LIKELY, NONE = "certain", "likely", "none"


TITLES = {
    "register_exhaustion": "register exhaustion: ptxas could not allocate registers",
    "register_cap_too_low": "the register cap is lower than one instruction needs",
    "shared_memory": "out of shared memory (not of registers)",
    "tensor_memory": "out of tensor memory (not of registers)",
    "threads": "more threads than the compiled kernel allows",
    "unsupported_ptx_version": "ptxas is older than the PTX it was given",
    "unsupported_arch": "the toolchain does not know this chip, or the PTX does not fit it",
    "illegal_instruction": "ptxas could not read the PTX",
    "internal_error": "ptxas broke off with an internal error",
    "ptxas_signal": "ptxas was killed by a signal",
    "ptxas_error": "ptxas refused the PTX for a reason this project does not know",
    "trapped": "the kernel is one bare trap: it compiles and cannot run",
    "frontend_error": "Triton failed before there was PTX",
    "no_failure": "no failure: ptxas compiled it",
    "unknown": "unknown",
}


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found. `kind` is one of `helpers.inspection.crash.crash_log.KINDS`.

    `because` are sentences that lead from the log to the kind, `confidence` is `certain` where ptxas or Triton say it
    in their own words, `likely` where it follows, `none` for unknown. `suggestions` come in the order to try; `in_vain`
    is what people try without success. `log` holds every extracted fact with the text it came from.
    """

    kind: str
    title: str
    because: tuple[str, ...]
    confidence: str
    log: CrashLog
    suggestions: tuple[Suggestion, ...] = ()
    in_vain: tuple[Suggestion, ...] = ()
    incidents: tuple[Match, ...] = ()
    report_to: str = ""
    report_why: str = ""
    attach: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failure(self) -> Failure | None:
        """The failure explained: the first of the log."""
        return self.log.first

    def to_dict(self) -> dict:
        """Everything ready for JSON; the PTX itself is left out (its hash and number of lines stay)."""
        log, first = self.log, self.log.first
        return {
            "kind": self.kind,
            "title": self.title,
            "because": list(self.because),
            "confidence": self.confidence,
            "ptxas_code": first.code if first else None,
            "register_count_asked": first.register_count_asked if first else None,
            "register_count_needed": first.register_count_needed if first else None,
            "required": first.required if first else None,
            "limit": first.limit if first else None,
            "message": first.message if first else None,
            "exception": log.exception,
            "arch": log.arch,
            "kernel_name": log.kernel_name,
            "num_warps": log.num_warps,
            "register_cap": log.register_cap,
            "triton": {
                "words": log.triton.words(),
                "stated": log.triton.stated,
                "candidates": list(log.triton.candidates),
                "contradictions": list(log.triton.contradictions),
            },
            "torch": log.value("torch_version"),
            "python": log.value("python_version"),
            "ptxas_version": log.value("ptxas_version"),
            "ptxas_program": log.ptxas_program,
            "ptxas_flags": list(log.ptxas_flags),
            "ptx_path": log.ptx_path,
            "ptx": ptx_summary(log),
            "failure_count": log.failure_count,
            "failures": [vars(f) for f in log.failures],
            "frames": [vars(f) for f in log.frames],
            "suggestions": [s.to_dict() for s in self.suggestions],
            "in_vain": [s.to_dict() for s in self.in_vain],
            "incidents": [m.to_dict() for m in self.incidents],
            "report_to": self.report_to,
            "report_why": self.report_why,
            "attach": list(self.attach),
            "evidence": [vars(f) for f in log.facts],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The diagnosis as text for a terminal."""
        return diagnosis_view.as_text(self)

    def __repr__(self) -> str:
        return f"Diagnosis({self.kind!r}, confidence={self.confidence!r}): {self.title}"

    def _repr_pretty_(self, printer, cycle) -> None:
        printer.text(self.text())

    def _repr_html_(self) -> str:
        return diagnosis_view.as_html(self)


def ptx_summary(log: CrashLog) -> dict | None:
    """Lines, SHA-256 and completeness of the PTX module in a log, or None."""
    if log.ptx is None:
        return None
    return {
        "lines": log.ptx.count("\n"),
        "sha256": hashlib.sha256(log.ptx.encode(errors="replace")).hexdigest(),
        "complete": not log.ptx_cut,
        "version": log.ptx_version,
    }

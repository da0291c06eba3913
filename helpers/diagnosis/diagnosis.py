"""A diagnosis as text for a terminal and as HTML for a notebook; whatever came out of the log is escaped."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from helpers.cleaning import for_html
from helpers.cleaning import for_terminal as printable
from helpers.diagnosis import diagnosis as diagnosis_view
from helpers.diagnosis.failure import Failure, Suggestion
from helpers.diagnosis.incidents import SAME, Match
from helpers.inspection.crash.crash_log import CrashLog
from helpers.show.style import status_colour

WIDTH = 110
MAX_EVIDENCE = 24
# Kinds whose colour is that of the compile status they would have been.
_STATUS_OF = {
    "register_exhaustion": "register_exhausted",
    "register_cap_too_low": "register_exhausted",
    "callee_needs_more_registers": "register_exhausted",
    "spills_made_errors": "spills",
    "shared_memory": "out_of_shared_memory",
    "static_shared_memory": "out_of_shared_memory",
    "tensor_memory": "out_of_tensor_memory",
    "no_failure": "ok",
    "advice_only": "ok",
    "candidate_dropped": "ok",
    "unsupported_arch": "unsupported_target",
    "feature_not_on_target": "unsupported_target",
    "trapped": "trapped",
    "ptxas_signal": "ptxas_signal",
    "frontend_error": "frontend_error",
    "slow_compile": "timeout",
    "unsupported_ptx_version": "unsupported_ptx_version",
}


def facts_shown(diagnosis: Diagnosis, verbose: bool = True) -> list[tuple[str, str]]:
    """(name, value) of what was extracted, in reading order, without what is not known; `verbose` adds small print."""
    log, first = diagnosis.log, diagnosis.failure
    ptx, facts = log.ptx, diagnosis.facts
    spilled = facts.get("spill_store_bytes")
    rows = [
        ("code", first.code if first else None),
        ("registers asked", first.register_count_asked if first else None),
        ("registers needed", facts.get("registers_needed")),
        ("arch", _arch_words(log, first)),
        ("Triton", log.triton.words() if log.speaks("Triton") and log.triton.words() != "not known" else None),
        ("ptxas", _ptxas_words(log)),
        ("torch", log.value("torch_version")),
        ("Python", log.value("python_version")),
        ("kernel", facts.get("kernel")),
        ("num_warps" if log.speaks("Triton") else "warps", facts.get("num_warps")),
        ("register cap", facts.get("cap") or log.register_cap),
        ("spill stores", f"{spilled:,} B" if isinstance(spilled, int) and spilled else None),
        ("exception", log.exception if diagnosis.failed is not False else None),
        ("flags", " ".join(log.ptxas_flags)),
        ("PTX file", log.ptx_path),
        (
            "PTX in the log",
            f"{ptx.count(chr(10)):,} lines{', its end is missing' if log.ptx_cut else ''}" if ptx else None,
        ),
    ]
    return [
        (name, printable(value))
        for name, value in rows
        if value not in (None, "", ()) and (verbose or name not in _SMALL_PRINT)
    ]


# Facts that `--verbose` adds: they name the run, not the failure.
_SMALL_PRINT = ("torch", "Python", "exception", "flags", "PTX file")


def _ptxas_words(log: CrashLog) -> str | None:
    version = next((f for f in log.facts if f.name == "ptxas_version"), None)
    if version is not None:
        return version.value + ("" if version.how == "stated" else ", if that Triton brought its own")
    cuda = log.value("cuda_of_ptxas")
    return f"of CUDA {cuda}, by its path" if cuda else log.value("ptxas_origin")


def _arch_words(log: CrashLog, first: Failure | None) -> str | None:
    if log.arch:
        return log.arch
    floor = (
        (first.detail("lowest") or first.detail("floor")) if first and first.kind == "feature_not_on_target" else None
    )
    # A threshold that names a target of its own is no place in an order.
    if floor and floor[-1] not in "af":
        return f"not named; below {floor}"
    mentioned = log.value("arch_mentioned")
    return f"{mentioned} (mentioned)" if mentioned else None


# What the log's tools are called as the producer of the program; the first that speaks is taken.
_PRODUCERS = (
    ("CUTLASS DSL (CuTe)", "cute_dsl"),
    ("cuTile", "cutile"),
    ("TileLang", "tilelang"),
    ("Numba", "numba"),
    ("CuPy", "cupy"),
    ("Julia (CUDA.jl)", "julia"),
    ("Reactant", "julia"),
    ("Inductor", "inductor"),
    ("XLA", "xla"),
    ("Helion", "triton"),
    ("Triton", "triton"),
    ("TVM", "tvm"),
    ("clang", "clang"),
    ("llc", "clang"),
    ("nvcc", "nvcc"),
)
# Words of nvcc itself: what it says is about the program it compiles, whatever else is in the log.
_BY_NVCC = re.compile(r"'\S{1,60}' died (?:due to|with)|nvcc (?:error|fatal)")


def producer_of(log: CrashLog, first: Failure | None) -> str:
    """Who wrote the program that was compiled, in one word, only on evidence in the log; else `unknown`."""
    if first is not None and _BY_NVCC.search(first.message):
        return "nvcc"
    if first is not None and first.kind == "amd_compiler":
        return "amd"
    return next((word for name, word in _PRODUCERS if log.speaks(name)), "unknown")


def facts_of(log: CrashLog, first: Failure | None) -> dict[str, str | int]:
    """What the log gives as known, by name: nothing that only follows, nothing that it leaves open."""
    facts: dict[str, str | int | None] = {
        "arch": log.arch,
        "triton": log.triton.stated,
        # Only a version that the log names: one that follows from a bundled ptxas is a conclusion.
        "ptxas": next((f.value for f in log.facts if (f.name, f.how) == ("ptxas_version", "stated")), None),
        "kernel": log.kernel_name,
        "num_warps": log.num_warps,
        "spill_store_bytes": next(
            (f.spill_store_bytes for f in log.compiled.functions if f.spill_store_bytes is not None), None
        ),
    }
    if first is not None:
        facts |= _facts_of_failure(first)
        if first.kind == "candidate_dropped":
            facts["num_warps"] = None  # which configuration it was, the number does not say
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _facts_of_failure(first: Failure) -> dict[str, str | int | None]:
    facts: dict[str, str | int | None] = {
        "registers_asked": first.register_count_asked,
        "registers_needed": first.register_count_needed,
        "line": first.ptx_line,
        "signal": _signal_words(first),
        **{name: first.detail(name) for name in ("feature", "pass", "source")},
    }
    if first.detail("function"):
        facts["kernel"] = first.detail("function")
    for name, key in (("cap", "cap"), ("registers_needed", "needs"), ("spill_store_bytes", "stores"), ("ptxas", "bad")):
        if first.detail(key):
            value = first.detail(key) or ""
            facts[name] = int(value) if value.isdigit() else value
    part = {"shared memory": "smem", "tensor memory": "tmem", "threads": "threads"}.get(first.resource or "")
    if first.kind == "static_shared_memory":
        part = "smem"
    if part and first.required is not None:
        facts[f"{part}_needed"], facts[f"{part}_limit"] = first.required, first.limit
    return facts


def _signal_words(first: Failure) -> str | None:
    number, status = first.detail("signal_number"), first.detail("status")
    return number if number and number != "0" else status


def as_text(diagnosis: Diagnosis, verbose: bool = False) -> str:
    """The diagnosis as lines of text; with `verbose` the evidence of every claim and the text each fact came from."""
    out: list[str] = []
    write = _Writer(out)
    out += [f"{diagnosis.kind}: {diagnosis.title}" if diagnosis.kind != "unknown" else "unknown", ""]
    for line in diagnosis.because:
        write.paragraph(line)
    shown = facts_shown(diagnosis, verbose)
    if shown:
        out += ["", "what the log gives"]
        for name, value in shown:
            write.paragraph(value, " " * 20, f"  {name + ':':<18}")
    for match in diagnosis.incidents if verbose else diagnosis.incidents[:1]:
        _incident_lines(match, write, verbose)
    _suggestion_lines(diagnosis, write, verbose)
    if diagnosis.report_to:
        out += ["", f"where to report: {diagnosis.report_to}"]
        write.paragraph(diagnosis.report_why)
    for heading, items in (("what to attach", diagnosis.attach), ("how to go on", diagnosis.go_on)):
        if items:
            out += ["", heading]
        for item in items:
            write.paragraph(item, "    ", "  - ")
    if verbose and diagnosis.log.facts:
        out += ["", "evidence"]
        for fact in diagnosis.log.facts[:MAX_EVIDENCE]:
            write.paragraph(f"{fact.name} {fact.value[:80]} ({fact.how}): {fact.text[:120]}", "    ", "  - ")
        for speaker in diagnosis.log.speakers:
            write.paragraph(f"{speaker.name} shows itself: {speaker.text}", "    ", "  - ")
    for note in diagnosis.notes:
        write.paragraph(note, "      ", "note: ")
    if not verbose and (diagnosis.suggestions or diagnosis.log.facts):
        write.paragraph("--verbose adds the evidence of each claim, and the text each fact came from", "")
    return "\n".join(out)


@dataclass(frozen=True)
class _Writer:
    """Appends wrapped paragraphs to lines."""

    out: list[str]

    def paragraph(self, text: str, indent: str = "  ", first: str | None = None) -> None:
        """`text` in lines of at most `WIDTH` characters, `first` in front of the first."""
        self.out.extend(textwrap.wrap(printable(text), WIDTH, initial_indent=first or indent, subsequent_indent=indent,
                                      break_on_hyphens=False) or [""])  # fmt: skip


def short_evidence(evidence: str) -> str:
    """`measured here`, `reported` or the first words of an evidence; its tables are for `--verbose`."""
    for word in ("measured here", "reported", "arithmetic"):
        if evidence.startswith(word):
            return word
    return ""


def _bracketed(evidence: str) -> str:
    short = short_evidence(evidence)
    return f"[{short}]" if short else ""


def _suggestion_lines(diagnosis: Diagnosis, write: _Writer, verbose: bool) -> None:
    for heading, suggestions in (
        ("what helps, in this order", diagnosis.suggestions),
        ("what does not", diagnosis.in_vain),
    ):
        if suggestions:
            write.out.extend(["", heading])
        for number, s in enumerate(suggestions, 1):
            write.paragraph(s.edit, "     ", f"  {number}. ")
            evidence = f"[{s.evidence}]" if verbose else _bracketed(s.evidence)
            write.paragraph(f"{s.why}. {evidence}" if evidence else s.why, "     ")


def _incident_lines(match: Match, write: _Writer, verbose: bool) -> None:
    incident = match.incident
    write.out.extend(["", f"known: {incident.name} ({match.degree}; agrees in {', '.join(match.agrees)})"])
    write.paragraph(incident.what)
    if match.degree == SAME or verbose:
        write.paragraph(f"cause: {incident.cause}" + (f" [{incident.cause_evidence}]" if verbose else ""))
    if match.degree != SAME:
        write.paragraph(f"remedy there: {incident.remedy}" + (f" [{incident.remedy_evidence}]" if verbose else ""))
    write.paragraph(incident.link)


def _coded(text: str) -> str:
    """The text escaped, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", for_html(text))


def as_html(diagnosis: Diagnosis) -> str:
    """The diagnosis as one HTML block."""
    say = for_html
    colour = status_colour(_STATUS_OF.get(diagnosis.kind, "ptxas_error"))
    head = diagnosis.title if diagnosis.kind != "unknown" else "unknown"
    parts = [
        '<div class="register-cliff-diagnosis" style="max-width:70em">'
        f'<div style="font-weight:bold;color:white;background:{colour};padding:4px 8px">{say(head)}</div>',
        *(f"<p style='margin:.4em 0;overflow-wrap:anywhere'>{_coded(line)}</p>" for line in diagnosis.because),
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
            f'<p style="margin:.4em 0"><b>Known:</b> <a href="{for_html(incident.link)}">{say(incident.name)}</a> '
            f"({say(match.degree)}; agrees in {say(', '.join(match.agrees))}). {say(incident.what)}. "
            f"<i>Cause:</i> {say(incident.cause)} <small>[{say(incident.cause_evidence)}]</small></p>"
        )
    for heading, suggestions in (
        ("What helps, in this order", diagnosis.suggestions),
        ("What does not", diagnosis.in_vain),
    ):
        if suggestions:
            items = "".join(
                f"<li><b>{_coded(s.edit)}</b><br>{_coded(s.why)} <small>{say(_bracketed(s.evidence))}</small></li>"
                for s in suggestions
            )
            parts.append(f"<b>{heading}</b><ol style='margin:.2em 0'>{items}</ol>")
    if diagnosis.report_to:
        parts.append(
            f"<p style='margin:.4em 0'><b>Where to report:</b> {say(diagnosis.report_to)}: "
            f"{say(diagnosis.report_why)}</p>"
        )
    for heading, listed in (("What to attach", diagnosis.attach), ("How to go on", diagnosis.go_on)):
        if listed:
            items = "".join(f"<li>{_coded(item)}</li>" for item in listed)
            parts.append(f"<b>{heading}</b><ul style='margin:.2em 0'>{items}</ul>")
    evidence_items = [
        f"<li>{say(f.name)} {say(f.value[:120])} ({say(f.how)}): <code>{say(f.text[:160])}</code></li>"
        for f in diagnosis.log.facts[:MAX_EVIDENCE]
    ]
    evidence_items += [
        f"<li>{_coded(s.edit)}: {say(s.evidence)}</li>"
        for s in (*diagnosis.suggestions, *diagnosis.in_vain)
        if s.evidence
    ]
    if evidence_items:
        what = "Evidence: the text each fact came from, and what each claim rests on"
        parts.append(f"<details><summary>{what}</summary><ul>{''.join(evidence_items)}</ul></details>")
    parts += [f"<p style='margin:.4em 0'><i>{_coded(note)}</i></p>" for note in diagnosis.notes]
    return "".join(parts) + "</div>"


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found. `kind` is one of `helpers.diagnosis.kinds.KINDS`.

    `because` are sentences that lead from the log to the kind, `confidence` is `certain` where a tool says it in its
    own words, `likely` where it follows, `none` for unknown. `suggestions` come in the order to try; `in_vain` is what
    people try without success. `log` holds every extracted fact with the text it came from, `failures` what failed, the
    one explained first. `failed` is None where the log leaves open whether anything did. `producer` is who wrote the
    program that was compiled, only on evidence; `facts` is what the log gives as known. `go_on` says how this project
    goes on.
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
    failures: tuple[Failure, ...] = ()
    failure_count: int = 0
    failed: bool | None = None
    producer: str = "unknown"
    facts: Mapping[str, str | int] = field(default_factory=dict)
    go_on: tuple[str, ...] = ()

    @property
    def failure(self) -> Failure | None:
        """The failure explained: the first."""
        return self.failures[0] if self.failures else None

    def to_dict(self) -> dict:
        """Everything ready for JSON; the PTX itself is left out (its hash and number of lines stay)."""
        log, first = self.log, self.failure
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
            "failed": self.failed,
            "producer": self.producer,
            "known": dict(self.facts),
            "speakers": [vars(s) for s in log.speakers],
            "kernel_name": self.facts.get("kernel"),
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
            "failure_count": self.failure_count,
            "failures": [vars(f) for f in self.failures],
            "frames": [vars(f) for f in log.frames],
            "suggestions": [s.to_dict() for s in self.suggestions],
            "in_vain": [s.to_dict() for s in self.in_vain],
            "incidents": [m.to_dict() for m in self.incidents],
            "report_to": self.report_to,
            "report_why": self.report_why,
            "attach": list(self.attach),
            "go_on": list(self.go_on),
            "evidence": [vars(f) for f in log.facts],
            "notes": list(self.notes),
        }

    def text(self, verbose: bool = False) -> str:
        """The diagnosis as text for a terminal."""
        return diagnosis_view.as_text(self, verbose)

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

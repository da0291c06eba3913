"""What can be said of, and done with, the thing that a reader brought to notebook 07: a `Yours`, and what it answers.

The cells of the notebook ask a `Yours`; what it cannot answer, it says in a sentence with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.cleaning import for_html
from helpers.compiler.compile import CompileRequest
from helpers.compiler.report import CompileReport
from helpers.compiler.run_ptxas import PtxasRun
from helpers.diagnosis.diagnosis import Diagnosis, printable
from helpers.diagnosis.kinds import CATALOGUE
from helpers.errors import UserError
from helpers.inspection.contents import LOG
from helpers.search.ablate import Limits
from helpers.workbook.prose import as_html
from helpers.workbook.your_own_crash.decision_tree import DecisionTree
from helpers.workbook.your_own_crash.views import (
    bundle_table,
    bundle_text,
    edits_table,
    facts_table,
    report,
    scratch_folder,
    try_this,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from helpers.bundle.report import Bundle
    from helpers.search.try_this import TriedEdit

# What a `Yours` may have or lack, in the order in which the notebook asks.
DIAGNOSIS, KERNEL, PTX_TEXT, EDITS, REPORT = "a diagnosis", "a spec of the kernel", "the PTX", "edits", "a bug report"
PARTS = (DIAGNOSIS, KERNEL, PTX_TEXT, EDITS, REPORT)
# So much is tried on the page; the command line has no such limit.
ON_THE_PAGE = Limits(max_compiles=24, max_seconds=60.0, max_size=1)


@dataclass(frozen=True, repr=False)
class Words:
    """A sentence in place of a table or figure; `code` and **bold** as in Markdown, everything else escaped."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<p style="overflow-wrap:anywhere">{as_html(self.text)}</p>'


@dataclass(frozen=True)
class Tried:
    """Edits that were compiled and pass, the best first, or the reason why there are none."""

    passing: tuple[TriedEdit, ...]
    why: str = ""

    def said(self) -> Words:
        """The best edit in one sentence, or why there is none."""
        if not self.passing:
            return Words(self.why)
        best, count = self.passing[0], len(self.passing)
        report = best.report
        others = f" {count - 1} other edit{'s pass' if count > 2 else ' passes'} too." if count > 1 else ""
        return Words(
            f"The best edit found is **{printable(best.change)}**. It compiles to {report.regs_per_thread} registers "
            f"and {report.spill_store_bytes or 0:,} bytes of spill stores.{others}"
        )

    def table(self) -> pd.DataFrame | Words:
        """The edits as rows: change, registers, spill bytes, tensor-core path, what it costs."""
        return edits_table(self.passing) if self.passing else Words("There is no edit to list.")


@dataclass(frozen=True)
class Packed:
    """A bug report that was written, or the reason why there is none."""

    bundle: Bundle | None
    why: str = ""

    def said(self) -> Words:
        """Whether the report reproduces and where to take it, or why there is none."""
        if self.bundle is None:
            return Words(self.why)
        mark = "" if self.bundle.reproduced else "**Not reproduced:** "
        return Words(f"{mark}{self.bundle.check}. Report it to **{self.bundle.report_to}**: {self.bundle.report_why}.")

    def table(self) -> pd.DataFrame | Words:
        """The files of the zip: name, size in bytes, purpose."""
        return Words("There is no zip to list.") if self.bundle is None else bundle_table(self.bundle)

    def issue(self, lines: int = 24) -> str:
        """The first lines of the issue text."""
        return "There is no issue text." if self.bundle is None else bundle_text(self.bundle, "issue", lines=lines)


@dataclass(frozen=True, repr=False)
class Yours:
    """What was given and what could be made of it; None where a part could not be made, and `lacks` says why.

    `what` is a sentence about the thing itself, `has` are sentences about the parts that are there, `lacks` about those
    that are not, both by the names of `PARTS`. `source` is what `report` is made from. `compiled` is the report of a
    spec's compile, `assembled` the run of ptxas on a PTX that was given.
    """

    kind: str
    what: str
    diagnosis: Diagnosis | None = None
    request: CompileRequest | None = None
    ptx: str | None = None
    source: CompileRequest | Choice | str | None = None
    compiled: CompileReport | None = None
    assembled: PtxasRun | None = None
    has: tuple[tuple[str, str], ...] = ()
    lacks: tuple[tuple[str, str], ...] = ()

    def why_not(self, part: str) -> str:
        """The sentence that says why a part is missing."""
        return dict(self.lacks).get(part, f"There is no way from a {self.kind} to {part}.")

    # --- what it is

    def rows(self) -> list[tuple[str, str, str]]:
        """(part, yes or no, sentence) for each of `PARTS`."""
        there = dict(self.has)
        return [(p, "yes", there[p]) if p in there else (p, "no", self.why_not(p)) for p in PARTS]

    def __repr__(self) -> str:
        return "\n".join([self.what, *(f"  {part}: {yes}. {words}" for part, yes, words in self.rows())])

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<tr><th style="text-align:left">{for_html(part)}</th><td style="text-align:left">{yes}</td>'
            f'<td style="text-align:left;overflow-wrap:anywhere">{as_html(words)}</td></tr>'
            for part, yes, words in self.rows()
        )
        return f'<p style="overflow-wrap:anywhere">{as_html(self.what)}</p><table><tbody>{cells}</tbody></table>'

    def tree(self) -> DecisionTree:
        """The decision tree, with the kind of this failure marked where it is known."""
        if self.diagnosis is not None and self.diagnosis.failure is not None:
            return DecisionTree(self.diagnosis.failure.kind)
        status = self.compiled.status if self.compiled is not None else ""
        return DecisionTree(status if status in CATALOGUE else "")

    # --- what it says

    def answer(self) -> Diagnosis | Words:
        """The diagnosis, or why there is none."""
        return self.diagnosis or Words(self.why_not(DIAGNOSIS))

    def headline(self) -> Words:
        """The kind of failure in one sentence, with its confidence and what is known of chip, Triton and kernel."""
        if self.diagnosis is None:
            return Words(self.why_not(DIAGNOSIS))
        found, log = self.diagnosis, self.diagnosis.log
        title = "unknown" if found.kind == "unknown" else found.title
        code = found.failure.code if found.failure else None
        triton = log.triton.words() if log.speaks("Triton") else "not known"
        known = {
            "the code": code,
            "the chip": log.arch,
            "the Triton release": None if triton == "not known" else triton,
            "the kernel": found.facts.get("kernel"),
        }
        said = " ".join(f"{name[0].upper()}{name[1:]} is {value}." for name, value in known.items() if value)
        silent = " or ".join(name for name, value in known.items() if not value and name != "the code")
        rest = f" It does not say {silent}." if silent and self.kind == LOG else ""
        certainty = f"The confidence is: {found.confidence}.{rest}"
        return Words(printable(" ".join(part for part in (f"The answer is: **{title}**.", said, certainty) if part)))

    def facts(self) -> pd.DataFrame | Words:
        """Each fact of the log with how it is known and the text it came from."""
        if self.diagnosis is None:
            return Words(self.why_not(DIAGNOSIS))
        table = facts_table(self.diagnosis)
        return Words("Nothing in it names a chip, a release, a command or a kernel.") if table.empty else table

    # --- what can be done with it

    def pressure(self) -> Figure | Words:
        """The registers that its PTX needs at once, along its lines, beside the cap; or why there is no PTX."""
        if self.ptx is None:
            return Words(self.why_not(PTX_TEXT))
        return _pressure_figure(self.ptx)

    def edits(self, budget: Limits = ON_THE_PAGE) -> Tried:
        """Compile edits of the kernel; a `Tried` with those that pass, or with the reason why there are none."""
        if self.request is None or dict(self.lacks).get(EDITS):
            return Tried((), self.why_not(EDITS))
        try:
            found = try_this(self.source if isinstance(self.source, Choice) else self.request, budget=budget)
        except UserError as exc:
            return Tried((), sentence(f"No edit can be tried: {exc}"))
        if found:
            return Tried(tuple(found))
        most = f"at most {budget.max_compiles} compiles and {budget.max_seconds:.0f} seconds"
        return Tried((), f"None of the edits tried on this page passes ({most}). `register-cliff try` searches longer.")

    def pack(self, name: str = "report.zip") -> Packed:
        """Write a bug report into this session's scratch folder; a `Packed` with the reason where there can be none."""
        if self.source is None:
            return Packed(None, self.why_not(REPORT))
        spilled = self.compiled is not None and self.compiled.status == "spills"
        try:
            return Packed(report(self.source, scratch_folder() / name, symptom="spills" if spilled else "failure"))
        except UserError as exc:
            return Packed(None, sentence(f"No report was written: {exc}"))


def sentence(words: str) -> str:
    """Words of an error as one sentence: printable, bounded, with a full stop."""
    text = " ".join(printable(words).split())[:1_200]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _pressure_figure(ptx: str) -> Figure | Words:
    import matplotlib.pyplot as plt

    from helpers.inspection.ptx.pressure import pressure_profile
    from helpers.show.plots import compile_time_words, pressure_plot
    from helpers.show.style import claim, use_house_style

    profile = pressure_profile(ptx)
    if profile is None:
        return Words("The PTX has no function with instructions in it.")
    use_house_style()
    figure, axes = plt.subplots(figsize=(8.5, 3.6))
    pressure_plot(axes, profile)
    over = profile.demand > profile.cap
    words = "above" if over else "within"
    claim(axes, f"At its worst point the kernel needs {profile.demand} registers, {words} the cap of {profile.cap}",
          compile_time_words(f"{printable(profile.function)[:60]}, {ptx.count(chr(10)):,} lines of PTX"))  # fmt: skip
    plt.close(figure)
    return figure

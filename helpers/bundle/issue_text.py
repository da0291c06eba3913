"""The words of a bundle: its README and the issue text beside it, from one set of facts; where to report it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from helpers.compiler.report import EXPLANATIONS
from helpers.search.try_this import result_words

# What code hosts take as the text of one issue, in characters.
MAX_ISSUE_CHARS = 65_536
MAX_TABLE_ROWS = 30
MAX_EDITS = 10


@dataclass(frozen=True)
class Reproduction:
    """How a reader runs a bundle's repro: the command, what it needs, what it does, the same by hand."""

    run: str
    needs: str
    issue_needs: str
    says: str
    command: str


def with_a_ptxas(command: str) -> Reproduction:
    """For a PTX that a ptxas refuses; `command` is the one that repro.sh runs."""
    return Reproduction(
        run="sh repro.sh",
        needs="a ptxas",
        issue_needs="a ptxas on the PATH",
        says="It runs, into a temporary folder, and says whether that fails as recorded (exit code 0: it does, 1: it "
        "does not, 2: no ptxas; the environment variable PTXAS names one that is not on the PATH)",
        command=command,
    )


def with_a_triton(version: str) -> Reproduction:
    """For a kernel that a Triton release does not compile as it should."""
    return Reproduction(
        run="python repro.py",
        needs=f"Triton {version}",
        issue_needs=f"Triton {version} (no GPU is needed)",
        says="It compiles the kernel of spec.json and kernel/ without a GPU, into a temporary folder, and says whether "
        "that ends as recorded (exit code 0: it does, 1: it does not, 2: no Triton). In a new environment",
        command=f"pip install triton=={version} && python repro.py",
    )


@dataclass(frozen=True)
class Facts:
    """What README and issue say; every text in it is scrubbed by whoever writes them out.

    `table` rows are those of ptxas_table.csv, `edits` those of workarounds.json. `reproduced`: the repro of this very
    zip was run and failed as recorded; `check` says how that was found out, or why not. `what` explains a status that
    is no CompileReport's.
    """

    title: str
    status: str
    message: str
    code: str | None
    how: Reproduction | None
    versions: Mapping[str, str]
    expected: str
    reproduced: bool
    check: str
    report_to: str
    report_why: str
    table: Sequence[Mapping] = ()
    triton_table: Sequence[Mapping] = ()
    edits: Sequence[Mapping] = ()
    edits_left_out: int = 0
    members: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    diagnosis: str = ""
    what: str = ""


def readme(facts: Facts) -> str:
    """README.md of the zip: what happens, what was expected, the one command, what is in here."""
    parts = [
        f"# {one_line(facts.title)}",
        _checked(facts),
        f"## What happens\n\n{_happens(facts)}",
        f"## Expected\n\n{facts.expected}",
        f"## The one command\n\nIn this folder, with nothing but {facts.how.needs}:\n\n"
        + code_block(facts.how.run, "sh") + f"\n\n{facts.how.says}:\n\n" + code_block(facts.how.command, "sh")
        if facts.how
        else "",
        _table(facts),
        _triton_table(facts),
        _edits(facts),
        _diagnosis(facts),
        f"## Where to report it\n\n{_bare(facts.report_to)}: {_bare(facts.report_why)}.",
        _versions(facts),
        "## Files\n\n" + "\n".join(f"- `{name}`: {what}" for name, what in sorted(facts.members.items())),
        _notes(facts),
    ]  # fmt: skip
    return "\n\n".join(p for p in parts if p) + "\n"


def issue(facts: Facts, *, zip_name: str, limit: int = MAX_ISSUE_CHARS) -> str:
    """The issue text, at most `limit` characters: what can be left out goes first (notes, diagnosis, edits, rows)."""
    essential = [
        f"**{one_line(facts.title)}**",
        f"### What happens\n\n{_happens(facts)}",
        f"### Expected\n\n{facts.expected}",
        f"### Reproduce\n\nUnpack `{zip_name}` (attached) and run `{facts.how.run}` with {facts.how.issue_needs}. "
        f"By hand:\n\n{code_block(facts.how.command, 'sh')}"
        if facts.how
        else "",
        _checked(facts),
        _versions(facts, "###"),
    ]
    optional = [
        _table(facts, "###"),
        _triton_table(facts, "###"),
        _edits(facts, "###"),
        f"### Where this belongs\n\n{_bare(facts.report_to)}: {_bare(facts.report_why)}.",
        _diagnosis(facts, "###"),
        _notes(facts, "###"),
    ]
    text = "\n\n".join(p for p in essential if p)
    for part in filter(None, optional):
        if len(text) + len(part) + 3 <= limit:
            text += "\n\n" + part
    return text[: limit - 1] + "\n"


def _checked(facts: Facts) -> str:
    if facts.reproduced:
        return f"Checked before this was written: {_bare(facts.check)}"
    return f"**Not reproduced.** {_bare(facts.check)}"


def _happens(facts: Facts) -> str:
    text = f"{EXPLANATIONS.get(facts.status, _bare(facts.what) or facts.status)} (`{facts.status}`)."
    if facts.message.strip():
        text += "\n\n" + code_block(facts.message.strip()[:4_000])
    return text


def _table(facts: Facts, level: str = "##") -> str:
    if not facts.table:
        return ""
    lines = ["| ptxas | result | registers | spill stores | spill loads |", "|---|---|---|---|---|"]
    for row in facts.table[:MAX_TABLE_ROWS]:
        result = row["status"] + (f" ({row['ptxas_code']})" if row["ptxas_code"] else "")
        numbers = ("regs_per_thread", "spill_store_bytes", "spill_load_bytes")
        cells = [row["ptxas_version"], result, *("" if row[n] is None else str(row[n]) for n in numbers)]
        lines.append("| " + " | ".join(_cell(c) for c in cells) + " |")
    return f"{level} The same PTX under every ptxas on hand\n\n" + "\n".join(lines) + "\n\nSpills in bytes per thread."


def _triton_table(facts: Facts, level: str = "##") -> str:
    if not facts.triton_table:
        return ""
    lines = ["| Triton | result | message |", "|---|---|---|"]
    for row in facts.triton_table[:MAX_TABLE_ROWS]:
        lines.append("| " + " | ".join(_cell(row[n]) for n in ("triton_version", "status", "message")) + " |")
    return f"{level} The same kernel under every Triton on hand\n\n" + "\n".join(lines)


def _edits(facts: Facts, level: str = "##") -> str:
    if not facts.edits and not facts.edits_left_out:
        return ""
    lines = [
        f"{n}. {_bare(row['change'])}: {result_words(dict(row))}. To apply: {_bare(row['edit'])}. "
        f"Cost: {_bare(row['cost'])}."
        for n, row in enumerate(facts.edits[:MAX_EDITS], start=1)
    ] or ["None of those that may be named here."]
    more = len(facts.edits) - MAX_EDITS
    if more > 0:
        lines.append(f"\n{more} more in `workarounds.json`.")
    if facts.edits_left_out:
        lines.append(f"\n{facts.edits_left_out} edits of the kernel's own parameters also compile; they are withheld.")
    return f"{level} Workarounds, each one compiled\n\n" + "\n".join(lines)


def _diagnosis(facts: Facts, level: str = "##") -> str:
    return f"{level} Diagnosis of the log\n\n{code_block(facts.diagnosis[:12_000])}" if facts.diagnosis else ""


def _versions(facts: Facts, level: str = "##") -> str:
    rows = [f"- {name}: {_bare(value)}" for name, value in facts.versions.items() if value]
    return f"{level} Versions\n\n" + "\n".join(rows)


def _notes(facts: Facts, level: str = "##") -> str:
    return f"{level} Notes\n\n" + "\n".join(f"- {_bare(n)}" for n in facts.notes) if facts.notes else ""


# --- words of strangers in Markdown -----------------------------------------------------------------------


def code_block(text: str, language: str = "") -> str:
    """`text` as a fenced block that nothing in it can close; control characters become dots."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "." for c in text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}{language}\n{shown}\n{fence}"


def one_line(text: str, limit: int = 200) -> str:
    """Text for a heading: one line, bounded, no markup."""
    return _bare(" ".join(text.split()))[:limit]


def _bare(text: object) -> str:
    """A stranger's words inside a sentence: no tags, links, mentions, tables or line breaks."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))[:2_000]
    return re.sub(r"@(?=\w)", "@\u200b", re.sub(r"([\[\]<>`*|#\\])", r"\\\1", shown))


def _cell(text: object) -> str:
    return _bare(text)[:200]

"""What ptxas complained of in a pasted log, run by run: its words, the PTX line, the command that started it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["ABORTED", "Complaint", "PtxasRun", "ptxas_runs", "split_command"]

ABORTED = "Ptx assembly aborted due to errors"
MAX_COMMAND = 4_000
MAX_COMPLAINTS = 2_000
MAX_WRAPPED_LINES = 4
_SEVERITY = re.compile(r"(?:^ptxas[\w.+-]{0,24} {1,8}|; {0,4})(info|warning|error|fatal) {0,8}: ?(.*)", re.ASCII)
_PLACE = re.compile(r", line ([0-9]{1,9})$")
_PTX_FILE = re.compile(r"([^\s\"'`;,]{1,300}\.ptx)(?![\w.])")
_REPRO = "Repro command:"
# A line that begins so is not the rest of what ptxas said on the line before.
_OTHER = re.compile(
    r"\s{0,40}(?:ptxas|nvcc|ninja|g?make|FAILED|Traceback|File \"|Repro command|`ptxas`|Stacktrace|\[\d|//|\.version|"
    r"={8}|$)"
)


@dataclass(frozen=True)
class Complaint:
    """One complaint of ptxas: its severity, its words, the PTX line it names, and the words with what a wrap cut off.

    `joined` and `glued` are the words with the lines behind them, put together with a blank and without one: a terminal
    breaks between words or inside them. `ptx_path` is the file that the line names; `solved` says that the prose around
    it calls it solved. `at` is the number of its line in the log, from 0.
    """

    severity: str
    text: str
    at: int
    ptx_line: int | None = None
    joined: str = ""
    glued: str = ""
    ptx_path: str | None = None
    solved: bool = False


@dataclass(frozen=True)
class PtxasRun:
    """Complaints of one run of ptxas that refused, in order; `command` and `ptx_path` where the log names them.

    `complaints` leaves out the last word, that assembly was aborted; () means that the log holds only that.
    """

    complaints: tuple[Complaint, ...]
    at: int
    ptx_path: str | None = None
    command: str | None = None


@dataclass
class _Open:
    lines: list[str] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    at: int = 0
    aborted: bool = False

    def close(self, command: str | None) -> PtxasRun | None:
        if not self.complaints and not self.aborted:
            return None
        path = split_command(command or "")[2] or next(
            (m[1] for line in self.lines[:5] if (m := _PTX_FILE.search(line[:600]))), ""
        )
        return PtxasRun(tuple(self.complaints), self.at, path or None, command or None)


def ptxas_runs(lines: list[str], bare: list[str]) -> tuple[PtxasRun, ...]:
    """The runs of ptxas that complained; `lines` of a cleaned text, `bare` the same without log prefixes."""
    runs: list[PtxasRun] = []
    current = _Open()

    def close(command: str | None) -> None:
        nonlocal current
        if (run := current.close(command)) is not None:
            runs.append(run)
        current = _Open()

    for index, line in enumerate(lines):
        if line.startswith("ptxas"):
            # ptxas's last word ends a run unless the command follows.
            if current.aborted and ABORTED not in line:
                close(None)
            _take(current, lines, bare, index)
        elif line.startswith(_REPRO):
            close(line[len(_REPRO) :].strip()[:MAX_COMMAND])
        elif "stderr:" in line and "ptxas" in line:
            close(None)
    close(None)
    return tuple(runs)


def _take(run: _Open, lines: list[str], bare: list[str], index: int) -> None:
    line = lines[index][:MAX_COMMAND].rstrip()
    said = _SEVERITY.search(line)
    if said is None:
        return
    if not run.lines:
        run.at = index
    if len(run.lines) < 5:
        run.lines.append(line)
    if said[1] not in ("error", "fatal") or len(run.complaints) >= MAX_COMPLAINTS:
        return
    text = said[2].strip()
    if ABORTED in text or (text and ABORTED.startswith(text)):
        run.aborted = True
        return
    if not run.complaints:
        run.at = index
    place = _PLACE.search(line[: said.start()])
    rest: list[str] = []
    text, behind = _quoted(text, lines[index - 1] if index else "")
    for below in [] if behind is not None else bare[index + 1 : index + 1 + MAX_WRAPPED_LINES]:
        if _OTHER.match(below):
            break
        rest.append(below.strip()[:300])
    run.complaints.append(
        Complaint(
            said[1],
            text,
            index,
            int(place[1]) if place else None,
            " ".join((text, *rest)),
            "".join((text, *rest)),
            named[1] if (named := _PTX_FILE.search(line[: said.start()])) else None,
            solved=_is_solved(
                text if behind is None else behind, lines[index - 1] if index else "", behind is not None
            ),
        )
    )


# Somebody tells a failure that is over: `I had "ptxas fatal : …" but updating fixed that`.
_SOLVED = re.compile(
    r"\b(?:fixed|solved|resolved|gone|went away|goes away|no longer(?! supported)|is past)\b", re.IGNORECASE
)


_PAST = re.compile(
    r"\b(?:used to|had|earlier|before|previously|originally|at first|last (?:week|month|year|time))\b", re.IGNORECASE
)


def _is_solved(behind: str, before: str, quoted: bool) -> bool:
    """Whether the prose behind ptxas's words calls the failure solved, and that in front of them tells of the past."""
    over = _SOLVED.search(behind[:600])
    return over is not None and (quoted or _PAST.search(before[-200:]) is not None)


def _quoted(text: str, before: str) -> tuple[str, str | None]:
    """(ptxas's words, what stands behind their quotation); None behind where they are not quoted in a sentence."""
    mark = before.rstrip()[-1:]
    if mark not in ('"', "`") or mark not in text:
        return text, None
    said, _, behind = text.partition(mark)
    return said.strip(), behind


def split_command(command: str) -> tuple[str, tuple[str, ...], str]:
    """(program, flags besides arch and output, PTX path) of a ptxas command line; empty where it is none."""
    m = re.match(r"([^\n]{0,400}?ptxas(?:-blackwell)?(?:\.exe)?)[\"']? ", command[:MAX_COMMAND])
    if m is None:
        return "", (), ""
    words = command[m.end() : MAX_COMMAND].replace("'", " ").split()
    flags, path, previous = [], "", ""
    for word in words[:100]:
        if previous in ("-o", "--output-file"):
            break  # what follows is the log again
        if word.startswith("-") and word not in ("-o", "--output-file") and not word.startswith("--gpu-name"):
            flags.append(word[:80])
        elif word.endswith(".ptx") and not path:
            path = word[:300]
        elif previous == "--opt-level":
            flags[-1] += f" {word[:8]}"
        previous = word
    return m[1].strip("\"'[ "), tuple(flags), path

"""Facts a log gives about the toolchain that failed: versions, arch, launch, each with the text it came from.

`stated` means the log says it, `derived` that it follows from a number in the log and a table here, `hint` that it is
only likely. Nothing is guessed: what does not fit is None, or several candidates.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from helpers.inspection.crash.pasted_text import near

__all__ = [
    "Fact",
    "Frame",
    "TritonEvidence",
    "bundled_ptxas",
    "code_mark",
    "find_frames",
    "ptx_version_of_cuda",
    "triton_evidence",
    "version_facts",
]

MAX_FRAMES = 300
MARK_CHARS = 12
# Digits alike: a timestamp's prefix differs in them from line to line.
ZEROS = str.maketrans("123456789", "000000000")
MAX_EXCERPT = 200
# Version hints stand at the ends of a log: in its header or in a report's environment section.
EDGE_CHARS = 2_000_000
STATED, DERIVED, HINT = "stated", "derived", "hint"


@dataclass(frozen=True)
class Fact:
    """One extracted value: what it is, how it is known (stated, derived, hint) and the text it came from."""

    name: str
    value: str
    how: str
    text: str


@dataclass(frozen=True)
class Frame:
    """One line of a traceback: the file as written there (never opened), line, function, and its code if given."""

    file: str
    line: int
    function: str
    code: str = ""


@dataclass(frozen=True)
class TritonEvidence:
    """Which Triton it can have been.

    A frame that fits no release read is of another one: then there are no candidates, whatever else fits.

    `candidates`: the releases of the table that fit everything seen, () when nothing tells or nothing fits.
    `stated` is a version the log itself names. `contradictions` are sentences about evidence that fits no release or
    not the others.
    """

    candidates: tuple[str, ...] = ()
    stated: str | None = None
    contradictions: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()

    def words(self) -> str:
        """`3.5.1`, `3.5.0 or 3.5.1, if it is one of the releases read …`, `none of the releases read`, `not known`."""
        if self.stated:
            return self.stated
        if not self.candidates:
            return "none of the releases read" if self.contradictions else "not known"
        releases = triton_lines()["releases"]
        return (
            f"{' or '.join(self.candidates)}, if it is one of the {len(releases)} releases read ({releases[0]} to "
            f"{releases[-1]})"
        )


@lru_cache(maxsize=1)
def triton_lines() -> dict:
    """The table of line numbers by release, made by benchmarks/record_triton_lines.py from the wheels."""
    return json.loads(Path(__file__).with_name("triton_lines.json").read_text())


def ptx_version_of_cuda(release: str) -> str:
    """The PTX ISA version a CUDA release such as `12.8.93` brings, as Triton counts it; `12.8` -> `8.7`."""
    major, minor = (int(n) for n in release.split(".")[:2])
    if major >= 13:
        return f"{9 + major - 13}.{minor}"
    return f"8.{minor if minor < 6 else minor - 1}"


def code_mark(code: str, length: int | None = None) -> str:
    """A checksum of the first characters of a line of code, blanks apart, and how many it is of: `1c291ca3/12`."""
    bare = "".join(code.split())[: MARK_CHARS if length is None else length]
    return f"{zlib.crc32(bare.encode(errors='replace')):08x}/{len(bare)}"


def _releases_of(line: str, code: str) -> set[str]:
    """The releases of a table entry such as `1c291ca3/12=3.5.0,3.5.1 …`; code that the log shows must agree."""
    found: set[str] = set()
    known = len("".join(code.split()))
    for mark, _, releases in (entry.partition("=") for entry in line.split()):
        length = int(mark.rpartition("/")[2])
        # Too little of the code, cut off or on another line, cannot be held against a release.
        if known < length or code_mark(code, length) == mark:
            found |= set(releases.split(","))
    return found


# --- frames -----------------------------------------------------------------------------------------------

# Python's own dump of a dead process has no comma before `in`.
_FRAME = re.compile(r'File "([^"\n]{1,500})", line ([0-9]{1,7})(?:,? in ([^\s(]{1,120}))?([^\n]{0,400})')
_CARETS = re.compile(r"[\^~]{2,}")


def find_frames(text: str) -> tuple[Frame, ...]:
    """The first frames of the tracebacks in a cleaned text, in its order."""
    frames = []
    for m in _FRAME.finditer(text):
        code = m[4].strip()
        if not code:
            below = text[m.end() + 1 : m.end() + 600].split("\n", 1)[0]
            code = "" if below.lstrip().startswith("File ") else _without_prefix(below, text, m.start()).strip()
        frames.append(Frame(m[1], int(m[2]), m[3] or "", _CARETS.split(code, maxsplit=1)[0].strip()[:MAX_EXCERPT]))
        if len(frames) == MAX_FRAMES:
            break
    return tuple(frames)


def _without_prefix(below: str, text: str, frame_at: int) -> str:
    """The line below a frame without the log's prefix, which `clean_text` left on the line before the frame."""
    start = text.rfind("\n", max(0, frame_at - 300), max(0, frame_at - 1)) + 1
    prefix = text[start : frame_at - 1].rstrip()
    same = below[: len(prefix)].translate(ZEROS) == prefix.translate(ZEROS)
    return below[len(prefix) :] if prefix and same else below


# --- which Triton -----------------------------------------------------------------------------------------

_TRITON_SAID = re.compile(
    r"(?<![\w/.\\])(?:pytorch[-_])?triton(?:[ _]version)?[ :=]{1,40}v?([0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}[\w.+]{0,40})",
    re.IGNORECASE,
)
_TRITON_WHEEL = re.compile(r"(?<![a-z0-9])triton-([0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2})[\w.+]{0,40}(?:\.dist-info|-cp3)")
_OWN_PTXAS = re.compile(r"triton[/\\]backends[/\\]nvidia[/\\]bin[/\\](ptxas(?:-blackwell)?)(?![\w-])")


# A version that is asked for, or that was not found, is none that ran.
_ASKED_FOR = re.compile(
    r"(?:requires?|requirement|required|needs?|depends on|distribution found for|satisf(?:y|ies)[^\n]{0,40}|"
    r"not (?:find|found|installed)[^\n]{0,60}|without|instead of|pip3? install[^\n]{0,80}|Collecting)[:\s\"'`(]*$",
    re.IGNORECASE,
)


_MISSING = re.compile(
    r"[\"'`)]? ?(?:\(from versions|(?:was |is |were )?not (?:found|available)|has no wheels|has been yanked)"
)
# Package managers list on lines of their own what they did not find.
_LIST_OF_MISSING = re.compile(
    r"PackagesNotFoundError|not available from current channels|ResolutionImpossible|No solution found when resolving|"
    r"following packages (?:are missing|do not exist)"
)


def _only_asked_for(text: str, m: re.Match[str]) -> bool:
    """Whether a line names a version as wanted or missing: `No matching distribution found for triton==3.5.1`."""
    start = max(text.rfind("\n", 0, m.start()) + 1, m.start() - 160)
    if _ASKED_FOR.search(text, start, m.start()) or _MISSING.match(text, m.end(), m.end() + 80):
        return True
    return _LIST_OF_MISSING.search(text, max(0, m.start() - 250), m.start()) is not None


def _key(path: str) -> str | None:
    """The table's name of a traceback's file, or None for one it does not know."""
    path = path.replace("\\", "/")
    return next((name for name in triton_lines()["lines"] if path.endswith("/" + name)), None)


def triton_evidence(
    text: str, frames: Iterable[Frame], *, arch: str | None, ptx_version: str | None, flags: Iterable[str]
) -> TritonEvidence:
    """What a cleaned log tells about its Triton: the version it names, else what its line numbers and paths leave.

    `ptx_version` is that of a PTX module in the log, `flags` those of the ptxas command.
    """
    releases = triton_lines()["releases"]
    facts: list[Fact] = []
    contradictions: list[str] = []
    edges = text if len(text) <= 2 * EDGE_CHARS else text[:EDGE_CHARS] + "\n" + text[-EDGE_CHARS:]
    stated = None
    named = (m for m in near(_TRITON_SAID, edges, "riton", before=60, after=120) if not _only_asked_for(edges, m))
    if said := next(named, None) or _TRITON_WHEEL.search(edges):
        stated = said[1].rstrip(".")
        facts.append(Fact("triton_version", stated, STATED, said[0][:MAX_EXCERPT]))

    sets: list[set[str]] = []
    clues = [*_clues_of_lines(frames), *_clues_of_ptxas(text, arch=arch, ptx_version=ptx_version, flags=set(flags))]
    for clue in clues:
        if clue.fits == set(releases):
            continue  # true of all: tells nothing
        if clue.fits:
            sets.append(clue.fits)
            words = " or ".join(r for r in releases if r in clue.fits)
            facts.append(Fact("triton_version", words, DERIVED, clue.excerpt))
        else:
            contradictions.append(f"{clue.words} fits none of the Triton releases read ({', '.join(releases)})")

    candidates = set.intersection(*sets) if sets and not contradictions else set()
    if sets and not candidates and not contradictions:
        contradictions.append("the line numbers and paths fit no single Triton release: perhaps a build of its own")
    if stated and candidates and (number := _number(stated)) in releases and number not in candidates:
        contradictions.append(
            f"the log names Triton {stated}, its line numbers are those of {' or '.join(sorted(candidates))}"
        )
    return TritonEvidence(tuple(r for r in releases if r in candidates), stated, tuple(contradictions), tuple(facts))


class _Clue(NamedTuple):
    """The releases that one thing in a log fits, that thing in words, and the log's own text."""

    fits: set[str]
    words: str
    excerpt: str


def _clues_of_lines(frames: Iterable[Frame]) -> Iterator[_Clue]:
    """A clue for each different place in Triton's own files that a traceback names."""
    lines = triton_lines()["lines"]
    seen: set[tuple] = set()
    for frame in frames:
        key = _key(frame.file)
        by_line = lines.get(key, {}).get(frame.function) if key else None
        if by_line is None or (key, frame.line, frame.function) in seen:
            continue
        seen.add((key, frame.line, frame.function))
        where = f"{key} line {frame.line} in {frame.function}"
        yield _Clue(_releases_of(by_line.get(str(frame.line), ""), frame.code), where, where)


def _clues_of_ptxas(text: str, *, arch: str | None, ptx_version: str | None, flags: set[str]) -> Iterator[_Clue]:
    """Clues of a ptxas that lies inside Triton: that this release ships it, its PTX version, its flags.

    A PTX alone is no evidence: an overridden ptxas sets its version.
    """
    program = next(near(_OWN_PTXAS, text, "backends", before=60, after=120), None)
    if program is None:
        return
    releases, marks = triton_lines()["releases"], triton_lines()["marks"]
    blackwell = arch is not None and _capability(arch) >= 100
    has = {r for r in releases if program[1] in marks[r]["ptxas"]}
    if program[1] == "ptxas" and blackwell:
        # From the release on that ships a second ptxas for this arch, the first is not used for it.
        has = {r for r in has if "ptxas-blackwell" not in marks[r]["ptxas"]}
    yield _Clue(has, f"Triton's own {program[1]}" + (f" for {arch}" if arch else ""), program[0])
    if ptx_version:
        fits = {r for r in releases if ptx_version in _ptx_versions(marks[r]["ptxas"], blackwell)}
        yield _Clue(fits, f"PTX .version {ptx_version} by Triton's own ptxas", f".version {ptx_version}")
    for flag in sorted(flags & {f for r in releases for f in marks[r]["flags"]}):
        yield _Clue({r for r in releases if flag in marks[r]["flags"]}, f"the flag {flag}", flag)


def bundled_ptxas(triton: TritonEvidence, program: str) -> tuple[Fact, ...]:
    """The release of Triton's own ptxas as one fact, where all Tritons it can have been bundle the same; else ()."""
    marks = triton_lines()["marks"]
    name = "ptxas-blackwell" if program.rstrip("'\"").endswith("blackwell") else "ptxas"
    names = [r for r in ((_number(triton.stated),) if triton.stated else triton.candidates) if r in marks]
    found = {marks[r]["ptxas"].get(name) for r in names}
    if len(found) != 1 or None in found:
        return ()
    return (Fact("ptxas_version", found.pop(), DERIVED, f"{name} as bundled with Triton {' and '.join(names)}"),)


def _number(version: str) -> str:
    return ".".join(re.findall(r"[0-9]{1,3}", version)[:3])


def _capability(arch: str) -> int:
    digits = re.search(r"[0-9]{2,3}", arch)
    return int(digits[0]) if digits else 0


def _ptx_versions(programs: dict[str, str], blackwell: bool) -> set[str]:
    if blackwell and "ptxas-blackwell" in programs:
        return {ptx_version_of_cuda(programs["ptxas-blackwell"])}
    return {ptx_version_of_cuda(release) for release in programs.values()}


# --- other versions ---------------------------------------------------------------------------------------

_VERSION = r"v?([0-9]{1,2}\.[0-9]{1,3}(?:\.[0-9]{1,4})?[\w.+]{0,40})"
# (name, how it is known, a plain word that is searched first, the pattern around it).
_HINTS = (
    ("torch_version", STATED, "orch", re.compile(rf"(?<![\w/.\\-])(?:py)?torch(?: version)?[ "
                                                 rf":=]{{1,40}}{_VERSION}", re.I)),
    ("python_version", STATED, "ython", re.compile(rf"(?<![\w/.\\-])python(?: version)?[ :=]{{1,40}}{_VERSION}", re.I)),
    ("python_version", DERIVED, "python", re.compile(r"[/\\]python([0-9]\.[0-9]{1,2})[/\\]")),
    ("ptxas_version", STATED, "Cuda compilation tools", re.compile(r"Cuda compilation tools, release [0-9.]{1,8}, "
                                                                   r"V([0-9.]{4,12})")),
    ("ptxas_version", STATED, "ptxas",
     re.compile(r"ptxas(?:-blackwell)?(?: version| is(?: at(?: version)?)?)?[ "
                r":=]{1,10}v?([0-9]{2}\.[0-9]{1,2}\.[0-9]{1,3})")),
    ("ptxas_ptx_version", STATED, "Unsupported .version",
     re.compile(r"Unsupported \.version [0-9.]{1,8}; current version is '([0-9.]{1,8})'")),
    ("cuda_of_ptxas", HINT, "uda", re.compile(r"[/\\]cuda[-/\\]v?([0-9]{2}\.[0-9])[/\\]bin", re.I)),
)  # fmt: skip

# The version that follows is of this program, not of ptxas.
_NOT_PTXAS = re.compile(r"(?i:nvcc|cuobjdump|nvdisasm)(?!.{0,200}ptxas)", re.DOTALL)


def version_facts(text: str) -> dict[str, Fact]:
    """torch, Python, ptxas and CUDA versions as far as a cleaned log names them, the first of each."""
    edges = text if len(text) <= 2 * EDGE_CHARS else text[:EDGE_CHARS] + "\n" + text[-EDGE_CHARS:]
    found: dict[str, Fact] = {}
    for name, how, word, pattern in _HINTS:
        named = (m for m in near(pattern, edges, word, before=60, after=120) if not _only_asked_for(edges, m))
        if name not in found and (m := next(named, None)):
            if "Cuda compilation tools" in m[0] and _NOT_PTXAS.search(edges[max(0, m.start() - 300) : m.start()]):
                name = "cuda_tools"
            found[name] = Fact(name, m[1].rstrip(".+"), how, m[0].strip()[:MAX_EXCERPT])
    return found

"""Wrong results that a log ties to a release of ptxas: the table of known faults, with the releases that have them.

The table is known_ptxas_faults.json. Wrong numbers alone are no evidence against a compiler: the log has to name a
release of ptxas that has the fault and the chip, and either the fault's own mark or another release that is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from helpers.diagnosis.failure import LIKELY, Answer, Failure, Kind, Suggestion
from helpers.diagnosis.words import NVIDIA, is_triton, ptx_verbs
from helpers.inspection.crash.crash_log import CrashLog

PTXAS_WORDINGS = ()
WORDINGS = ()
MAX_RELEASES = 40
TABLE = Path(__file__).parents[1] / "known_ptxas_faults.json"
_WRONG = re.compile(
    r"not close|[Mm]ismatched elements|wrong (?:values|results?|rows|numbers|outputs?|code)|incorrect (?:results?|"
    r"values|numerical)|"
    r"results? differ|(?<![0-9])[0-9]{1,9} of [0-9]{1,9} wrong|Invalid __(?:shared|global|local)__ (?:write|read)|"
    r"max abs err|"
    r"miscompil|illegal memory access"
)
_RELEASE = re.compile(r"(?<![\w.])V?(1[1-9]\.[0-9]{1,2}(?:\.[0-9]{1,3})?)(?![0-9])")
_ABOUT_PTXAS = re.compile(r"ptxas|CUDA|Cuda compilation|TRITON_PTXAS", re.IGNORECASE)
_HOPPER = re.compile(r"(?<![\w])(?:sm_90a?|H100|H200|H20|H800|GH200|Hopper)(?![\w])")
_RIGHT = re.compile(r"\b(?:right|clean|correct|pass(?:es|ed)?|exact|good)\b")


@dataclass(frozen=True)
class Fault:
    """A known fault of ptxas: chips, what it does, the words that mark it, releases that have it and that do not."""

    id: str
    archs: tuple[str, ...]
    what: str
    markers: tuple[str, ...]
    bad: tuple[str, ...]
    good: tuple[str, ...]
    mended: str
    evidence: str


@lru_cache(maxsize=1)
def known_faults() -> tuple[Fault, ...]:
    """The table, in its order."""
    rows: list[dict[str, Any]] = json.loads(TABLE.read_text())["faults"]
    plain: list[dict[str, Any]] = [{k: tuple(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows]
    return tuple(Fault(**row) for row in plain)


def version(text: str) -> tuple[int, ...]:
    """`12.9.86` as (12, 9, 86)."""
    return tuple(int(n) for n in text.split("."))


def has_fault(fault: Fault, release: str) -> bool:
    """Whether a release of ptxas is known to have a fault: it is a bad one, or of a bad one's minor release."""
    wanted = version(release)
    return any(wanted[: len(version(b))] == version(b) or wanted[:2] == version(b)[:2] for b in fault.bad)


def releases_named(log: CrashLog) -> tuple[str, ...]:
    """Releases of ptxas or CUDA that a log names, in order."""
    found: dict[str, None] = {}
    for line in log.bare[:20_000]:
        if _ABOUT_PTXAS.search(line[:2_000]) or "err" in line[:400]:
            found.update(dict.fromkeys(_RELEASE.findall(line[:2_000])))
    # `release 12.8, V12.8.93` is one release.
    return tuple(r for r in found if not any(other.startswith(f"{r}.") for other in found))


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """Wrong results under a ptxas with a fault of the table."""
    wrong = _wrong_on_hopper(log)
    if wrong is None:
        return
    named = releases_named(log)[:MAX_RELEASES]
    bad = next((r for r in named if _faults_of(r)), None)
    if bad is None:
        return
    marked = [f for f in _faults_of(bad) if _is_marked(log, f)]
    better = next((r for r in named if version(r)[:2] > version(bad)[:2] and _said_right(log, r)), None)
    if not marked and not better:
        return
    details = {
        "faults": ",".join(f.id for f in (marked or _faults_of(bad))),
        "bad": bad,
        "better": better or "",
        "marked": "yes" if marked else "",
    }
    yield Failure("known_wrong_code", wrong[0], at=log.flat.line_of(wrong.start()), details=details)


def _wrong_on_hopper(log: CrashLog) -> re.Match[str] | None:
    """Words of wrong results in a log about ptxas or CUDA on the chip that the table is about."""
    flat = log.flat.text
    if "ptxas" not in flat and "CUDA" not in flat:
        return None
    hopper = (log.arch or "").startswith("sm_90") or _HOPPER.search(flat)
    return _WRONG.search(flat) if hopper else None


def _faults_of(release: str) -> list[Fault]:
    return [f for f in known_faults() if has_fault(f, release)]


def _is_marked(log: CrashLog, fault: Fault) -> bool:
    """Whether a word that only this fault's reports have is in the log."""
    return any(re.search(marker, log.flat.text) for marker in fault.markers)


def _said_right(log: CrashLog, release: str) -> bool:
    return any(release in line[:2_000] and _RIGHT.search(line[:2_000]) for line in log.bare[:20_000])


def _thread(log: CrashLog, fault: Fault) -> str:
    """Where a fault was reported; a thread of a tool that the log does not show is left to the evidence."""
    parts = [part for part in fault.evidence.split("; ") if is_triton(log) or "triton" not in part]
    return f": {'; '.join(parts)}" if parts else ""


def _wrong_code(log: CrashLog, failure: Failure) -> Answer:
    bad, better = failure.detail("bad"), failure.detail("better")
    faults = [f for f in known_faults() if f.id in (failure.detail("faults") or "").split(",")]
    because = [
        f"the log shows wrong results or stray accesses ({failure.message}) under ptxas {bad}"
        + (f", and says that {better} is right" if better else "")
    ]
    if failure.detail("marked"):
        because += [f"a known fault of ptxas on Hopper: {f.what} (reported{_thread(log, f)})" for f in faults]
    else:
        because.append(
            "ptxas of that release is known to write wrong code for some kernels on Hopper; which of these faults it "
            "is, if any, "
            "the log does not say: " + "; ".join(f"{f.what} (reported{_thread(log, f)})" for f in faults)
        )
    newest = max((f.mended for f in faults), key=version)
    seen_good = ", ".join(dict.fromkeys(g for f in faults for g in f.good))
    return Answer(
        tuple(because),
        (
            Suggestion(
                f"assemble the same PTX with a ptxas of {newest} or later (known right: {seen_good})",
                "the fault is in the machine code that this release writes, not in the PTX",
                "; ".join(dict.fromkeys(f.evidence for f in faults)),
            ),
            Suggestion(
                "compare the two on identical PTX and integer inputs, with compute-sanitizer",
                "only identical PTX under two releases shows that ptxas is at fault",
                "the method of the threads named",
            ),
        ),
        (
            Suggestion(
                "a change of tolerance, or other seeds",
                "the results are wrong, not imprecise",
                "the threads named",
            ),
        ),
        f"{NVIDIA} only if the newest release is wrong too",
        "it is known and mended; say in the threads named that it hit you",
        ("the PTX (its SHA-256), both cubins, and the inputs",),
        ptx_verbs(log),
        confidence=LIKELY,
    )


KINDS = (
    Kind("known_wrong_code", "wrong results under a release of ptxas that is known to write wrong code", _wrong_code),
)

__all__ = [
    "KINDS",
    "PTXAS_WORDINGS",
    "WORDINGS",
    "Fault",
    "has_fault",
    "known_faults",
    "recognise",
    "releases_named",
    "version",
]

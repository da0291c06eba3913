"""Known incidents: a log compared with failures others reported, kept as data in known_incidents.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from helpers.diagnosis.failure import Failure
from helpers.inspection.crash.crash_log import CrashLog

SAME, ALIKE = "the same", "alike"


@dataclass(frozen=True)
class Incident:
    """A reported failure: where, what it was, its cause and remedy, each with its evidence."""

    id: str
    repository: str
    number: int
    thread: str
    what: str
    signature: dict
    cause: str
    cause_evidence: str
    remedy: str
    remedy_evidence: str

    @property
    def name(self) -> str:
        """`sgl-project/sglang #22079`."""
        return f"{self.repository} #{self.number}"

    @property
    def link(self) -> str:
        """The thread's address."""
        return f"https://github.com/{self.repository}/{'pull' if 'pull' in self.thread else 'issues'}/{self.number}"


@dataclass(frozen=True)
class Match:
    """An incident and how far a log agrees with it: `the same` or `alike`, with what agreed and what was not said."""

    incident: Incident
    degree: str
    agrees: tuple[str, ...]
    not_said: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return {
            "incident": self.incident.name,
            "link": self.incident.link,
            "what": self.incident.what,
            "degree": self.degree,
            "agrees": list(self.agrees),
            "not_said": list(self.not_said),
            "cause": self.incident.cause,
            "cause_evidence": self.incident.cause_evidence,
            "remedy": self.incident.remedy,
            "remedy_evidence": self.incident.remedy_evidence,
        }


@lru_cache(maxsize=1)
def known_incidents() -> tuple[Incident, ...]:
    """The table, in its order."""
    table = json.loads(Path(__file__).with_name("known_incidents.json").read_text())
    return tuple(Incident(**row) for row in table["incidents"])


def match_incidents(log: CrashLog, first: Failure | None) -> tuple[Match, ...]:
    """The incidents that a log's failure does not contradict, those that are the same first.

    `the same` needs everything in the signature, and something in it that is unmistakable: a file in the traceback, a
    kernel's name, or a message that names the chip. Numbers alone are those of many: they make nothing the same.
    `alike` needs more than them as well: the chip or the release of Triton has to agree.
    """
    if first is None:
        return ()
    found = [m for incident in known_incidents() if (m := _match(incident, log, first)) is not None]
    return tuple(sorted(found, key=lambda m: (m.degree != SAME, len(m.not_said), -len(m.agrees))))


# Parts of a signature that are numbers, or words of every log of the kind.
_COMMON = ("code", "register count", "required", "limit", "ptxas")


def _compared(signature: dict, log: CrashLog, first: Failure) -> Iterator[tuple[str, object, bool]]:
    """(name, what the log has of it, whether that fits) for each part of a signature."""
    for key, name, mine in (
        ("code", "code", first.code),
        ("asked", "register count", first.register_count_asked),
        ("required", "required", first.required),
        ("limit", "limit", first.limit),
        ("archs", "arch", log.arch),
    ):
        wanted = signature.get(key)
        if wanted is not None:
            yield name, mine, mine in wanted if isinstance(wanted, list) else mine == wanted
    if "message" in signature:
        yield "message", first.message, signature["message"] in first.message
    if "ptxas_origin" in signature:
        origin = log.value("ptxas_origin")
        yield "ptxas", origin, origin == signature["ptxas_origin"]
    if "triton" in signature:
        releases = (log.triton.stated,) if log.triton.stated else log.triton.candidates
        fits = set(releases) & set(signature["triton"])
        # Of several releases that it can have been, some fit: that says nothing.
        yield "Triton", releases if not fits or set(releases) <= fits else None, bool(fits)


def _match(incident: Incident, log: CrashLog, first: Failure) -> Match | None:
    signature = incident.signature
    if first.kind != signature["kind"] or not log.speaks("Triton"):
        return None
    agrees, not_said, telling = [], [], 0
    for name, mine, fits in _compared(signature, log, first):
        if mine in (None, ()):
            not_said.append(name)
        elif not fits:
            return None
        else:
            agrees.append(f"{name} {' or '.join(mine) if isinstance(mine, tuple) else mine}")
            telling += name not in _COMMON and not (name == "message" and "archs" not in signature)
    same = not not_said and "message" in signature and "archs" in signature
    if "path" in signature:
        here = any(f.file.replace("\\", "/").endswith(signature["path"]) for f in log.frames)
        (agrees if here else not_said).append(f"file {signature['path'].rsplit('/', 1)[-1]}")
        same = not not_said and here
    return Match(incident, SAME if same else ALIKE, tuple(agrees), tuple(not_said)) if telling or same else None

"""Known incidents: a log compared with failures others reported, kept as data in known_incidents.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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


def match_incidents(log: CrashLog) -> tuple[Match, ...]:
    """The incidents a log's first failure does not contradict, those that are the same first.

    `the same` needs everything in the signature, and something in it that tells one program from another (a file in the
    traceback, a message with its numbers). A field of which the log says nothing counts for neither side.
    """
    found = [m for incident in known_incidents() if (m := _match(incident, log)) is not None]
    return tuple(sorted(found, key=lambda m: (m.degree != SAME, len(m.not_said), -len(m.agrees))))


def _match(incident: Incident, log: CrashLog) -> Match | None:
    first, signature = log.first, incident.signature
    if first is None or first.kind != signature["kind"]:
        return None
    agrees, not_said = [], []

    def compare(name: str, mine: object, fits: bool) -> bool:
        """False where the log contradicts the signature."""
        if mine in (None, ()):
            not_said.append(name)
            return True
        if fits:
            agrees.append(f"{name} {' or '.join(mine) if isinstance(mine, tuple) else mine}")
        return fits

    for key, name, mine in (
        ("code", "code", first.code),
        ("asked", "register count", first.register_count_asked),
        ("required", "required", first.required),
        ("limit", "limit", first.limit),
        ("archs", "arch", log.arch),
    ):
        wanted = signature.get(key)
        if wanted is not None and not compare(
            name, mine, mine in wanted if isinstance(wanted, list) else mine == wanted
        ):
            return None
    if "message" in signature and not compare("message", first.message, signature["message"] in first.message):
        return None
    if "ptxas_origin" in signature:
        origin = log.value("ptxas_origin")
        if not compare("ptxas", origin, origin == signature["ptxas_origin"]):
            return None
    if "triton" in signature:
        stated = log.triton.stated
        mine = (stated,) if stated else log.triton.candidates
        if not compare("Triton", mine, bool(set(mine) & set(signature["triton"]))):
            return None
    same = not not_said
    if "path" in signature:
        here = any(f.file.replace("\\", "/").endswith(signature["path"]) for f in log.frames)
        (agrees if here else not_said).append(f"file {signature['path'].rsplit('/', 1)[-1]}")
        same = same and here
    elif first.kind.startswith("register") or len(agrees) < 2:
        same = False  # the numbers, or the words, alone are those of many
    return Match(incident, SAME if same else ALIKE, tuple(agrees), tuple(not_said))

"""One suggestion and its evidence: numbers come out of this project's recorded rows, read when asked.

So they cannot drift from the data. What was measured was measured on the incident's kernel: for another kernel it is a
lead, and the evidence says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from helpers.recorded import recorded

MEASURED_ON = "on the incident's kernel"
ABOUT_MEASURED = (
    "the incident's kernel is extend attention, head dim 256, fp8 cache, window 1024, tile 128x64, 8 warps, compiled "
    "for sm_100a; for another kernel what was measured is a lead: python -m helpers ablate finds out for it"
)
ARITHMETIC = "arithmetic: 65,536 registers per SM, allocated to warps in units of 8 per thread"


@dataclass(frozen=True)
class Suggestion:
    """One edit, why it helps (or does not), and the evidence: measured here (with its file), reported, arithmetic."""

    edit: str
    why: str
    evidence: str

    def to_dict(self) -> dict:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Advice:
    """Suggestions in the order to try them, and what people try in vain."""

    helps: tuple[Suggestion, ...] = ()
    does_not: tuple[Suggestion, ...] = ()


def _verdict(row: dict[str, str]) -> str:
    if row["status"] in ("ok", "spills"):
        path = "" if row["tensor_core_path"] == "tcgen05" else f" by {row['tensor_core_path']}"
        return f"compiles{path}, {int(float(row['spill_store_bytes']))} B of spill stores"
    return f"{row['ptxas_code'] or row['status']}"


def measured(remedies: Iterable[str], tritons: Iterable[str] = ()) -> str:
    """The recorded verdicts of remedies of data/remedies.csv as one phrase; several remedies want one Triton."""
    wanted, allowed = set(remedies), set(tritons)
    rows = [r for r in recorded("remedies") if r["remedy"] in wanted and (not allowed or r["triton"] in allowed)]
    if not rows:
        return "measured here: data/remedies.csv"
    by_verdict: dict[str, list[str]] = {}
    for row in rows:
        word = row["remedy"] if len(allowed) == 1 else row["triton"]
        by_verdict.setdefault(_verdict(row), []).append(word)
    words = "; ".join(f"{', '.join(names)}: {verdict}" for verdict, names in by_verdict.items())
    return f"measured here (data/remedies.csv, Triton {f'{next(iter(allowed))}, ' if len(allowed) == 1 else ''}{words})"

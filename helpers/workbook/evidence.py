"""Recorded rows in `data/` with their provenance, and compiles that fall back on them where a toolchain is missing."""

from __future__ import annotations

import concurrent.futures
import gzip
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.compiler.compile import compile_matrix
from helpers.compiler.report import LIVE, CompileReport, Evidence, refuse_ill
from helpers.errors import UserError
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.recorded import DATA, read_rows

COMPILE_ROWS = "compile_rows"


@lru_cache(maxsize=1)
def _recorded_reports() -> dict[tuple, tuple[CompileReport, str]]:
    path = DATA / f"{COMPILE_ROWS}.csv"
    if not path.is_file():
        return {}
    table = read_rows(COMPILE_ROWS)
    found = {}
    names = {f.name for f in fields(CompileReport)} - {"instructions"}
    for raw in table.to_dict("records"):
        row = {k: (None if v != v else v) for k, v in raw.items()}
        counts = {k[2:]: int(v) for k, v in row.items() if k.startswith("n_") and v is not None}
        values = {k: v for k, v in row.items() if k in names and v is not None}
        for k, v in values.items():
            if isinstance(v, float) and k != "wall_s":
                values[k] = int(v)
        for k in ("ptx_version", "triton_version", "ptxas_version"):
            if k in values:
                values[k] = str(values[k])
        report = CompileReport(**values, instructions=counts)
        flags = str(row.get("ptxas_flags") or "")
        found[report.label, report.arch, report.triton_version, flags] = (report, table.attrs["provenance"])
    return found


def compile_choices(
    choices: Iterable[Choice],
    *,
    executor: concurrent.futures.Executor | None = None,
    progress: Callable[[int, int, CompileReport], None] | None = None,
) -> list[Evidence]:
    """Compile the choices; where the toolchain is missing, the recorded row of the same configuration stands in.

    A stand-in says so in `Evidence.source`; a configuration that is neither here nor recorded keeps its
    `toolchain_missing` report. Recorded rows answer for bundled ptxas only. `executor` as in `compile_matrix`.
    Raises MachineError where the machine failed a compile.
    """
    requests = [(choice, choice.request()) for choice in choices]
    reports = compile_matrix([request for _, request in requests], executor=executor, progress=progress)
    refuse_ill(reports)
    evidence = []
    for (choice, request), report in zip(requests, reports, strict=True):
        recorded = None
        if report.status == "toolchain_missing" and choice.ptxas == "bundled":
            key = (request.spec.label, request.arch, choice.triton, " ".join(choice.ptxas_flags))
            recorded = _recorded_reports().get(key)
        evidence.append(Evidence(recorded[0], f"recorded: {recorded[1]}") if recorded else Evidence(report, LIVE))
    return evidence


def compile_one(choice: Choice) -> Evidence:
    """`compile_choices` for a single configuration."""
    return compile_choices([choice])[0]


def ptx_of(evidence: Evidence) -> str:
    """The PTX of a compile; for the incident itself the recorded one where its toolchain is not on this machine.

    Raises UserError where neither is at hand.
    """
    if evidence.report.ptx_path:
        return Path(evidence.report.ptx_path).read_text()
    recorded = DATA / "incident.ptx.gz"
    if evidence.report.label == Choice().request().spec.label and recorded.is_file():
        return gzip.decompress(recorded.read_bytes()).decode()
    raise UserError(
        f"no PTX of {evidence.report.label!r} at hand: {evidence.report.message or evidence.source}. "
        "Fetch its toolchain to compile it: register-cliff toolchains install 3.5.1"
    )


def demand_of(evidence: Evidence) -> int:
    """How many registers the PTX of a compile needs at once at its worst point; raises UserError where there is none.

    It is an estimate from the text alone, also for a compile that failed (`helpers.inspection.ptx.pressure`).
    """
    profile = pressure_profile(ptx_of(evidence))
    if profile is None:
        raise UserError(f"the PTX of {evidence.report.label!r} holds no instructions: there is nothing to count")
    return profile.demand


def evidence_line(evidence: Sequence[Evidence]) -> str:
    """What to print under a table or figure: how many rows are live, how many recorded and by whom."""
    recorded = [e for e in evidence if not e.live]
    if not recorded:
        return f"Evidence: all {len(evidence)} rows {LIVE}."
    sources = "; ".join(sorted({e.source for e in recorded}))
    return f"Evidence: {len(evidence) - len(recorded)} rows live, {len(recorded)} {sources}."

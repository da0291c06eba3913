"""Compile one spec on every Triton x ptxas pair and write data/version_matrix.csv.

    python benchmarks/record_version_matrix.py [--install] [--workers N] [--only 3.7.0,…]

The spec is the incident. Eight Tritons, each with the ptxas it bundles and its own PTX under sixteen ptxas releases:
136 pairs. Where a ptxas is too old for that PTX, one row says so and a second one has the Triton write its PTX for that
ptxas: 174 rows, about twelve minutes cold on two cores. `--only` compiles these Tritons and keeps the rows of the
others. Without --install, what is not on this machine becomes a row that
says so and the exit code is 1; with it, missing releases are fetched through pip (each ptxas is about 40 MB).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import helpers as rc
from helpers.compiler import toolchain as tc
from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest, compile_request, usable_cores
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import BUNDLED, KNOWN_PTXAS, Toolchain
from helpers.files import write_text_atomically
from helpers.recorded import DATA, rows_of
from helpers.search.bisect import NO_VERDICT, is_on_hand

COUNTS = ("ptx_lines", "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes")


def fetch_missing() -> None:
    """Install what the matrix needs and this machine lacks; what pip cannot fetch stays a row with its reason."""
    for axis, versions in (("triton", MATRIX_TRITONS), ("ptxas", tc.KNOWN_PTXAS)):
        for version in versions:
            if is_on_hand(axis, version):
                continue
            try:
                tc.install(f"{axis}=={version}", quiet=True)
            except tc.ToolchainMissing as exc:
                print(exc, file=sys.stderr)


def _recorded_on() -> str:
    """The first date in the recorded file's own words."""
    found = re.search(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", (DATA / "version_matrix.csv").read_text().split("\n")[0])
    return found[0] if found else "an unknown day"


def _merged(table, tritons):
    """The new rows with the recorded ones of the other Tritons: own PTX by Triton first, then what was rewritten."""
    import pandas as pd

    # Versions such as 8.7 stay text, as they are in new rows.
    old = pd.DataFrame(rows_of(DATA / "version_matrix.csv")).replace("", None)
    both = pd.concat([old[~old["triton"].isin(tritons)], table.astype(object)], ignore_index=True)
    bundled, own = both["ptxas_asked"] == tc.BUNDLED, both["ptx_written_for"] == "its own"
    order = [
        (0 if b else 1 if o else 2, tc.version_key(t), tc.version_key(p))
        for b, o, t, p in zip(bundled, own, both["triton"], both["ptxas_asked"], strict=True)
    ]
    return both.iloc[sorted(range(len(both)), key=order.__getitem__)].reset_index(drop=True)


def main() -> int:
    """Write the rows; 1 when a toolchain was missing."""
    import pandas as pd

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--install", action="store_true", help="fetch missing releases through pip")
    options.add_argument("--workers", type=int, default=usable_cores(), help="compiles at once")
    options.add_argument("--only", metavar="TRITON,…", help="compile these Tritons, keep the recorded rows of the rest")
    given = options.parse_args()
    if given.install:
        fetch_missing()
    request = rc.INCIDENT_CHOICE.request()
    tritons = tuple(given.only.split(",")) if given.only else MATRIX_TRITONS
    if stray := set(tritons) - set(MATRIX_TRITONS):
        options.error(f"{sorted(stray)[0]} is none of the matrix's Tritons: {', '.join(MATRIX_TRITONS)}")
    pairs = version_pairs(tritons)
    requests = [pair_request(request.spec, request.arch, pair) for pair in pairs]
    # Bundled first, one by one in the list: each makes the PTX that the other pairs of its Triton then share.
    with concurrent.futures.ThreadPoolExecutor(given.workers) as pool:
        reports = list(pool.map(compile_request, requests))
        again = readable_pairs(pairs, reports)
        reports += pool.map(compile_request, [pair_request(request.spec, request.arch, pair) for pair in again])
    pairs += again
    table = pd.DataFrame([pair_row(pair, report) for pair, report in zip(pairs, reports, strict=True)])
    if kept := bool(given.only):
        table = _merged(table, tritons)
    for name in COUNTS:
        table[name] = pd.to_numeric(table[name]).astype("Int64")
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_version_matrix.py` on "
        f"{_recorded_on() + ', Triton ' + ', '.join(tritons) + ' on ' if kept else ''}{datetime.date.today()}: "
        f"{request.spec.label} for {request.arch}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, no GPU; compile-time only.\n"
        "# The identical PTX of a Triton goes to every ptxas (ptx_sha256, its first 12 digits), except in rows where "
        "ptx_written_for names a ptxas: there the Triton wrote it for that ptxas, which is too old for its own. "
        "`bundled` is the ptxas that this Triton would use for this arch itself.\n"
    )
    write_text_atomically(DATA / "version_matrix.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows: {table['status'].value_counts().to_dict()}")
    missing = table[table["status"] == "toolchain_missing"]
    for reason in sorted(set(missing["reason"])):
        print(reason, file=sys.stderr)
    return 1 if len(missing) else 0


if __name__ == "__main__":
    sys.exit(main())


MATRIX_TRITONS = ("3.4.0", "3.5.0", "3.5.1", "3.6.0", "3.7.0", "3.7.1", "3.8.0", "3.9.0")


@dataclass(frozen=True)
class Pair:
    """One cell of the version matrix: whose PTX, assembled by what.

    With `for_codegen` the Triton writes its PTX for that ptxas (its `.version`) instead of as it would by itself.
    """

    triton: str
    ptxas: str = BUNDLED
    for_codegen: bool = False


def version_pairs(tritons: Sequence[str] = MATRIX_TRITONS, ptxas: Sequence[str] = KNOWN_PTXAS) -> list[Pair]:
    """Every Triton with the ptxas it bundles, then every Triton's PTX under every separate ptxas."""
    return [Pair(t) for t in tritons] + [Pair(t, p) for t in tritons for p in ptxas]


def pair_request(spec: KernelSpec, arch: str, pair: Pair, timeout_s: float = DEFAULT_TIMEOUT_S) -> CompileRequest:
    """The compile request of one cell; the identical PTX of a Triton goes to every ptxas."""
    return CompileRequest(spec, arch, Toolchain(pair.triton, pair.ptxas, pair.for_codegen), timeout_s=timeout_s)


def readable_pairs(pairs: Sequence[Pair], reports: Sequence[CompileReport]) -> list[Pair]:
    """Of the pairs whose ptxas is too old for the PTX: the same with PTX written for that ptxas."""
    return [
        replace(pair, for_codegen=True)
        for pair, report in zip(pairs, reports, strict=True)
        if report.status == "unsupported_ptx_version" and pair.ptxas != BUNDLED and not pair.for_codegen
    ]


def pair_row(pair: Pair, report: CompileReport) -> dict[str, object]:
    """One cell as a flat row; `reason` says why a pair has no verdict, and is empty where it has one."""
    reason = ""
    if report.status in NO_VERDICT:
        # The first sentence of the compiler or of the tool: without folders, which differ from machine to machine.
        words = re.sub(r"(?:/[\w.+-]+){2,}/", "", " ".join(report.message.split()))
        reason = f"{report.status}: {words[:200]}"
    return {
        "triton": pair.triton,
        "ptxas_asked": pair.ptxas,
        "ptx_written_for": pair.ptxas if pair.for_codegen else "its own",
        "ptxas_version": report.ptxas_version,
        "ptx_version": report.ptx_version,
        "ptx_lines": report.ptx_lines,
        "ptx_sha256": (report.ptx_sha256 or "")[:12],
        "status": report.status,
        "ptxas_code": report.ptxas_code,
        "regs_per_thread": report.regs_per_thread,
        "spill_store_bytes": report.spill_store_bytes,
        "spill_load_bytes": report.spill_load_bytes,
        "stack_frame_bytes": report.stack_frame_bytes,
        "tensor_core_path": report.tensor_core_path,
        "wall_s": round(report.wall_s, 2),
        "reason": reason,
    }

"""Ablation ladders, bisections, the version matrix and the gate as tables, text and JSON-ready dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.ladder import knobs_for
from helpers.compiler.compile import CompileRequest
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import COMPILED, CompileReport
from helpers.compiler.toolchain import BUNDLED, Toolchain, version_key
from helpers.errors import UserError
from helpers.search.ablate import Ablation, Limits, ablate
from helpers.search.bisect import NO_VERDICT, Bisection, bisect_kernel
from helpers.search.gate import GateRow, SpillWeight, exit_code, gate, measure, read_baseline, write_baseline

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int, CompileReport], None]


# --- ablate -----------------------------------------------------------------------------------------------


def ablate_request(
    request: CompileRequest,
    *,
    hold: Sequence[str] | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """The ablation of any request: the extend kernel by its own ladder, any other kernel by the generic knobs."""
    knobs, default_hold = knobs_for(request.spec, request.arch)
    return ablate(
        request.spec,
        request.arch,
        request.toolchain,
        knobs=knobs,
        hold=default_hold if hold is None else hold,
        limits=limits,
        ptxas_flags=request.ptxas_flags,
        timeout_s=request.timeout_s,
        progress=progress,
    )


def ablate_command_result(request: CompileRequest, **options: object) -> dict:
    """What `ablate --json` prints: `rungs`, `necessary`, `criterion`, `smallest` …; options as `ablate_request`."""
    return ablate_request(request, **options).to_dict()


def format_ablation(result: dict) -> str:
    """The text of `ablate_command_result`: the ladder, what is necessary, the smallest sets."""
    base = result["baseline"]
    lines = [
        f"{result['label']}, {result['arch']}, Triton {result['triton_version']}, "
        f"ptxas {result['ptxas_version'] or '(not reached)'}",
        f"baseline: {base['verdict']}",
        "",
    ]
    lines += _columns(
        [("change", "effect", "ptxas", "tensor cores")]
        + [(r["change"], r["effect"], r["verdict"], _path_words(r)) for r in result["rungs"]]
    )
    lines += ["", f"necessary ({result['criterion']}): {', '.join(result['necessary']) or 'nothing'}"]
    for search in result["smallest"]:
        held = f", holding {', '.join(search['held'])}" if search["held"] else ""
        lines.append(f"smallest change for {search['goal']!r}{held}: {_search_words(search)}")
        lines += [f"  {s['change']}: {s['verdict']}, {_path_words(s)}" for s in search["sets"]]
    lines += ["", f"{result['compiles']} compiles (cached ones included), {result['seconds']} s"]
    return "\n".join(lines)


def _path_words(rung: dict) -> str:
    return rung["tensor_core_path"] + (" (a slower path)" if rung["slower_path"] else "")


def _search_words(search: dict) -> str:
    if not search["sets"]:
        up_to = f"none of up to {search['searched_size']}" if search["searched_size"] else "nothing left to change"
        return f"{up_to} ({search['tried']} sets tried; stopped at {search['stopped']})"
    size = search["searched_size"]
    rest = "" if search["complete"] else f"; not all sets of this size were tried: stopped at {search['stopped']}"
    return f"{size} change{'s' if size > 1 else ''}, {len(search['sets'])} of {search['tried']} sets tried{rest}"


def _columns(rows: Sequence[Sequence[object]]) -> list[str]:
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(str(v).ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def ladder_table(ablation: Ablation) -> pd.DataFrame:
    """One row a rung, the baseline first; whole numbers stay whole, `needed` marks the necessary ones."""
    import pandas as pd

    result = ablation.to_dict()
    rows = [{**result["baseline"], "name": "baseline", "change": "none"}, *result["rungs"]]
    table = pd.DataFrame(rows).drop(columns="message")
    for name in ("regs_per_thread", "spill_store_bytes", "spill_load_bytes"):
        table[name] = table[name].astype("Int64")
    table["needed"] = table["name"].isin(ablation.necessary)
    return table


def search_table(ablation: Ablation) -> pd.DataFrame:
    """One row a smallest set of changes, by goal and by what was held still; a search without a find is a row too."""
    import pandas as pd

    rows = []
    for search in ablation.searches:
        base = {"goal": search.goal, "held": ", ".join(search.held) or "nothing", "complete": search.complete}
        rows += [
            {**base, "changes": r.description, "size": len(r.knobs), "verdict": r.report.verdict()} for r in search.sets
        ] or [{**base, "changes": "none found", "size": None, "verdict": search.stopped}]
    return pd.DataFrame(rows, columns=["goal", "held", "size", "changes", "verdict", "complete"])


# --- bisect and the version matrix ------------------------------------------------------------------------


def bisect_command_result(request: CompileRequest, **options: object) -> dict:
    """What `bisect --json` prints; options as `bisect_kernel` (axis, versions, find, since, max_spill_bytes …)."""
    found = bisect_kernel(
        request.spec, request.arch, toolchain=request.toolchain, timeout_s=request.timeout_s, **options
    )
    return {"label": request.spec.label, "arch": request.arch, **bisection_dict(found)}


def bisection_dict(found: Bisection) -> dict:
    """A bisection ready for JSON, with its sentence."""
    answer = found.answer
    return {
        "axis": found.axis,
        "find": found.find,
        "since": found.since,
        "first": answer.after if answer else None,
        "last_before": answer.before if answer else None,
        "exact": bool(answer and answer.exact),
        "untried": list(answer.untried) if answer else [],
        "probes": [vars(p) for p in found.probes],
        "changes": [{"before": c.before, "after": c.after, "verdict": c.verdict} for c in found.changes],
        "installs": found.installs,
        "sentence": found.sentence(),
    }


def format_bisection(result: dict) -> str:
    """The text of `bisect_command_result`."""
    rows = [(result["axis"], "verdict", "compile")]
    rows += [
        (p["version"], p["verdict"] + (" (installed for this)" if p["installed_for_this"] else ""), p["words"][:100])
        for p in result["probes"]
    ]
    return "\n".join([f"{result['label']}, {result['arch']}", *_columns(rows), "", result["sentence"]])


def version_grid(rows: pd.DataFrame, *, written_for_ptxas: bool = False) -> pd.DataFrame:
    """Triton (rows) by ptxas (columns, the bundled one first): `C7600`, spill-store bytes, or why there is no verdict.

    With `written_for_ptxas`, cells whose ptxas cannot read the Triton's own PTX show the PTX written for that ptxas.
    """
    chosen = rows[rows["ptx_written_for"] == "its own"].copy()
    chosen["cell"] = [_cell(row) for row in chosen.to_dict("records")]
    grid = chosen.pivot(index="triton", columns="ptxas_asked", values="cell")
    if written_for_ptxas:
        for row in rows[rows["ptx_written_for"] != "its own"].to_dict("records"):
            grid.loc[row["triton"], row["ptxas_asked"]] = _cell(row)
    columns = sorted(grid.columns, key=lambda c: (c != BUNDLED, version_key(c)))
    return grid.loc[sorted(grid.index, key=version_key), columns]


def _cell(row: dict) -> str:
    if row["status"] in COMPILED:
        return f"{int(row['spill_store_bytes'])} B"
    if row["status"] == "register_exhausted":
        return str(row["ptxas_code"])
    if row["status"] == "unsupported_ptx_version":
        return f"cannot read {row['ptx_version']}"
    return str(row["status"]).replace("_", " ")


def version_findings(rows: pd.DataFrame) -> dict:
    """What the matrix says: which Tritons die, which is the first fixed one, and whether any ptxas tells them apart.

    `by_ptxas_alone` lists Tritons whose identical PTX dies under one ptxas and compiles under another: empty means
    that code generation, not ptxas, decides.
    """
    judged = rows[~rows["status"].isin(NO_VERDICT)]
    own = judged[judged["ptx_written_for"] == "its own"]
    bundled = own[own["ptxas_asked"] == BUNDLED]
    order = sorted(bundled["triton"], key=version_key)
    died = dict(zip(bundled["triton"], ~bundled["status"].isin(COMPILED), strict=True))
    dying = [t for t in order if died[t]]
    fixed = next((t for t in order if dying and not died[t] and version_key(t) > version_key(dying[-1])), None)
    split = []
    for triton in order:
        verdicts = set(own[own["triton"] == triton]["status"].isin(COMPILED))
        if len(verdicts) > 1:
            split.append(triton)
    separate = own[own["ptxas_asked"] != BUNDLED]
    rewritten = judged[judged["ptx_written_for"] != "its own"]
    return {
        "dying": dying,
        "first_dying": dying[0] if dying else None,
        "first_fixed": fixed,
        "last_dying": dying[-1] if dying else None,
        "by_ptxas_alone": split,
        "decided_by": "Triton" if dying and fixed and not split else "ptxas" if split else "undecided",
        "ptxas_per_triton": {t: int((separate["triton"] == t).sum()) for t in order},
        "rewritten_pairs": len(rewritten),
        "rewritten_dying": sorted(set(rewritten[~rewritten["status"].isin(COMPILED)]["triton"]), key=version_key),
    }


# --- gate -------------------------------------------------------------------------------------------------


def gate_command_result(
    specs: Sequence[KernelSpec],
    archs: Sequence[str],
    baseline: Path,
    *,
    toolchain: Toolchain | None = None,
    write: bool = False,
    more_spills_allowed: int = 0,
    spill_weight: SpillWeight | None = None,
    progress: Progress | None = None,
) -> dict:
    """What `gate --json` prints: `rows`, `regressions` (a count), `exit_code`; with `write`, the baseline is (re)made.

    Raises UserError when the gate cannot be run: no baseline file, no specs, a toolchain that is not here.
    """
    if write:
        measured = measure(specs, archs, toolchain, spill_weight=spill_weight, progress=progress)
        write_baseline(baseline, measured)
        rows = [GateRow(m.spec, m.arch, None, m, notes=("recorded",)) for m in measured]
    else:
        if not baseline.exists():
            raise UserError(f"there is no baseline {baseline}: record one from a good state first")
        rows = gate(
            specs,
            archs,
            toolchain,
            baseline=read_baseline(baseline),
            more_spills_allowed=more_spills_allowed,
            spill_weight=spill_weight,
            progress=progress,
        )
    return {
        "baseline": str(baseline),
        "wrote_baseline": write,
        "rows": [row.to_dict() for row in rows],
        "regressions": sum(row.failed for row in rows),
        "exit_code": exit_code(rows),
    }


def format_gate(result: dict) -> str:
    """The text of `gate_command_result`: a table, then one line a regression."""
    table = [("", "spec", "arch", "before", "now")]
    table += [
        (
            "FAIL" if r["failed"] else "ok" if r["now"] else "-",
            r["spec"],
            r["arch"],
            r["before"] or "-",
            r["now"] or "-",
        )
        for r in result["rows"]
    ]
    lines = [*_columns(table), ""]
    for row in result["rows"]:
        lines += [f"FAIL {row['spec']} on {row['arch']}: {what}" for what in row["regressions"]]
        lines += [f"note {row['spec']} on {row['arch']}: {what}" for what in row["notes"] if what != "recorded"]
    if result["wrote_baseline"]:
        lines.append(f"baseline written: {result['baseline']} ({len(result['rows'])} rows)")
    else:
        count = result["regressions"]
        lines.append(f"{count} regression{'' if count == 1 else 's'} in {len(result['rows'])} rows")
    return "\n".join(lines)


def gate_table(result: dict) -> pd.DataFrame:
    """The rows of a gate result as a table; regressions and notes as text."""
    import pandas as pd

    rows = [{**r, "regressions": "; ".join(r["regressions"]), "notes": "; ".join(r["notes"])} for r in result["rows"]]
    table = pd.DataFrame(rows)
    for name in ("spill_bytes_before", "spill_bytes_now"):
        table[name] = table[name].astype("Int64")
    return table

"""Ablation ladders, bisections, the version matrix and the gate as tables, text and JSON-ready dictionaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED
from helpers.compiler.toolchain import BUNDLED, version_key
from helpers.search.ablate import Ablation
from helpers.search.bisect import NO_VERDICT
from helpers.show.verdicts import _cell

if TYPE_CHECKING:
    import pandas as pd


# --- ablate -----------------------------------------------------------------------------------------------


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

"""Diagnoses and remedies as tables for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.compiler.toolchain import version_key
from helpers.diagnosis.diagnose import Diagnosis, diagnose
from helpers.diagnosis.diagnosis import printable
from helpers.recorded import read_rows

if TYPE_CHECKING:
    import pandas as pd


def facts_table(diagnosis: Diagnosis) -> pd.DataFrame:
    """One row a fact: its value, how it is known (stated, derived, hint) and the text of the log it came from."""
    import pandas as pd

    rows = [(f.name.replace("_", " "), f.value, f.how, f.text) for f in diagnosis.log.facts]
    table = pd.DataFrame(rows, columns=["fact", "value", "how", "text in the log"])
    return table.map(printable)


def diagnosis_table(logs: Mapping[str, str]) -> pd.DataFrame:
    """One row a log: what kind of failure it is, why, and the first thing to try."""
    import pandas as pd

    rows = []
    for name, text in logs.items():
        found = diagnose(text)
        first = found.suggestions[0].edit if found.suggestions else "–"
        rows.append((name, found.kind.replace("_", " "), found.because[-1], first))
    return pd.DataFrame(rows, columns=["log", "kind", "because", "first to try"]).map(printable)


def remedy_table() -> pd.DataFrame:
    """data/remedies.csv as remedy (rows, mildest spills first) by Triton: spill-store bytes, or the code it died with.

    Only the Tritons that die of the incident unchanged; `attrs['provenance']` says where the rows come from.
    """
    rows = read_rows("remedies")
    unchanged = rows[rows["remedy"] == "nothing"]
    dying = set(unchanged[unchanged["ptxas_code"].notna()]["triton"])
    chosen = rows[rows["triton"].isin(dying)].copy()
    chosen["cell"] = [
        str(r.ptxas_code) if isinstance(r.ptxas_code, str) else f"{int(r.spill_store_bytes)} B"
        for r in chosen.itertuples()
    ]
    worst = chosen.groupby("remedy")["spill_store_bytes"].max().fillna(float("inf"))
    table = chosen.pivot(index="remedy", columns="triton", values="cell")
    table = table.loc[
        sorted(table.index, key=lambda name: (worst[name], name != "nothing", name)),
        sorted(table.columns, key=version_key),
    ]
    table.attrs["provenance"] = rows.attrs["provenance"]
    return table

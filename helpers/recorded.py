"""Recorded rows: the files of data/ as tables or plain dictionaries, with their provenance."""

from __future__ import annotations

import csv
from functools import lru_cache
from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.files import ROOT

if TYPE_CHECKING:
    import pandas as pd


DATA = ROOT / "data"


def read_rows(name: str) -> pd.DataFrame:
    """The rows of data/<name>.csv (the suffix may be given), `attrs['provenance']` from its own leading `#` lines.

    Raises UserError for a name that is not there, listing what is.
    """
    import pandas as pd

    name = name.removesuffix(".csv")
    if not DATA.is_dir():
        raise UserError(
            f"the recorded rows (data/) are not beside {ROOT / 'helpers'}: take them from a checkout of the project, "
            "or install a wheel that was built from one"
        )
    path = DATA / f"{name}.csv"
    if not name.replace("_", "").isalnum() or not path.is_file():
        there = ", ".join(sorted(p.stem for p in DATA.glob("*.csv"))) or "nothing"
        raise UserError(f"no recorded rows called {name!r}; data/ holds {there}")
    table = pd.read_csv(path, comment="#", keep_default_na=True)
    head = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
    table.attrs["provenance"] = " ".join(head)
    return table


def provenance(table: pd.DataFrame) -> str:
    """One sentence: where the rows come from."""
    said = table.attrs.get("provenance")
    if not said and {"device", "torch_version", "triton_version", "time_utc"} <= set(table):
        first = table.iloc[0]
        said = (
            f"{first['device']}, torch {first['torch_version']}, Triton {first['triton_version']}, "
            f"{str(first['time_utc'])[:10]}, {first['command']}"
        )
    return f"recorded: {said or 'provenance not given'}"


@lru_cache(maxsize=4)
def recorded(name: str) -> tuple[dict[str, str], ...]:
    """The rows of data/<name>.csv; () where the package stands without its data folder."""
    path = DATA / f"{name}.csv"
    if not path.is_file():
        return ()
    with path.open(newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))

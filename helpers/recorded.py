"""Recorded rows: the files of data/ as tables or plain dictionaries, with their provenance."""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.files import ROOT

if TYPE_CHECKING:
    import pandas as pd


DATA = ROOT / "data"


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of this project as plain text by column; lines that begin with # say where it comes from.

    Needs no pandas. Raises OSError where the file cannot be read.
    """
    return list(csv.DictReader(_body_and_head(path)[0]))


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
    body, head = _body_and_head(path)
    table = pd.read_csv(io.StringIO("".join(body)), keep_default_na=True)
    table.attrs["provenance"] = " ".join(line[1:].strip() for line in head)
    return table


def _body_and_head(path: Path) -> tuple[list[str], list[str]]:
    """(lines of the table, lines that begin with #), each with its line feed."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.readlines()
    return [line for line in lines if not line.startswith("#")], [line for line in lines if line.startswith("#")]


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
    """The rows of data/<name>.csv as `rows_of`; () where the package stands without its data folder."""
    path = DATA / f"{name}.csv"
    return tuple(rows_of(path)) if path.is_file() else ()

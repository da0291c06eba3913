"""Pictures of an explorer, drawn once for the same rows and the same code."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from helpers.compiler import cache
from helpers.compiler.report import Evidence
from helpers.files import ROOT

if TYPE_CHECKING:
    import pandas as pd
if TYPE_CHECKING:
    from matplotlib.figure import Figure


_DRAWING = threading.Lock()  # pyplot is not made for two threads at once


def png_of(draw: Callable[[], Figure]) -> bytes:
    """The PNG of a figure; one is drawn at a time."""
    with _DRAWING:
        buffer = io.BytesIO()
        draw().savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def kept_picture(make: Callable[[], tuple[dict, Figure]], **parts: object) -> tuple[dict, bytes]:
    """(facts, PNG) of what `make` gives, kept in the cache under `parts` and the code that analyses and draws.

    For pictures that are slow to make; facts must survive JSON. Two threads that draw at once take turns.
    """

    def made() -> tuple[dict, dict[str, bytes], bool]:
        facts, figure = make()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
        return {"facts": facts}, {"figure.png": buffer.getvalue()}, True

    key = cache.content_key(code=_code_digest(), **parts)
    with _DRAWING:
        entry, _hit = cache.get_or_make("pictures", key, made)
    return entry["facts"], (entry["folder"] / "figure.png").read_bytes()


def kept_png(draw: Callable[[], Figure], **parts: object) -> bytes:
    """`png_of`, kept in the cache under `parts`, which must hold everything that the figure shows."""
    return kept_picture(lambda: ({}, draw()), **parts)[1]


def reports_key(evidence: Sequence[Evidence]) -> list:
    """What of these compiles a figure can show, for `kept_png`: not their paths, nor how long they took."""
    left_out = {"wall_s", "cached", "ptxas_command", "log_path"}
    return [
        {
            n: v
            for n, v in {**vars(e.report), "source": e.source}.items()
            if n not in left_out and not n.endswith("_path")
        }
        for e in evidence
    ]


@lru_cache(maxsize=1)
def _code_digest() -> str:
    digest = hashlib.sha256()
    wings = (ROOT / "helpers" / wing for wing in ("inspection", "diagnosis", "show", "workbook"))
    for file in sorted(file for wing in wings for file in wing.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def rows_digest(rows: pd.DataFrame) -> str:
    return hashlib.sha256(rows.to_json(orient="split").encode()).hexdigest()

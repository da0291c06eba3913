"""Pictures of an explorer, drawn once for the same rows and the same code."""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.compiler import cache
from helpers.compiler.report import Evidence
from helpers.files import ROOT
from helpers.show.drawing import figure_svg

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


_DRAWING = threading.Lock()  # pyplot is not made for two threads at once


def drawing_of(draw: Callable[[], Figure]) -> bytes:
    """The SVG of a figure; one is drawn at a time."""
    with _DRAWING:
        return figure_svg(draw())


def kept_picture(make: Callable[[], tuple[dict, Figure]], module: str, **parts: object) -> tuple[dict, bytes]:
    """(facts, SVG) of what `make` gives, kept in the cache under `parts` and the code of `module`, which draws it.

    A change in that module, or in one that it imports, draws anew. For pictures that are slow to make; facts must
    survive JSON. Two threads that draw at once take turns.
    """

    def made() -> tuple[dict, dict[str, bytes], bool]:
        facts, figure = make()
        return {"facts": facts}, {"figure.svg": figure_svg(figure)}, True

    key = cache.content_key(code=code_digest(module) + code_digest(figure_svg.__module__), **parts)
    with _DRAWING:
        entry, _hit = cache.get_or_make("pictures", key, made)
    return entry["facts"], (entry["folder"] / "figure.svg").read_bytes()


def kept_drawing(draw: partial[Figure], **parts: object) -> bytes:
    """The SVG of `draw()`, kept in the cache under `parts`, which must hold everything that the figure shows.

    `draw` is a partial: the module of its function is the code the picture depends on.
    """
    return kept_picture(lambda: ({}, draw()), draw.func.__module__, **parts)[1]


def reports_key(evidence: Sequence[Evidence]) -> list:
    """What of these compiles a figure can show, for `kept_drawing`: not their paths, nor how long they took."""
    left_out = {"wall_s", "cached", "ptxas_command", "log_path"}
    return [
        {
            n: v
            for n, v in {**vars(e.report), "source": e.source}.items()
            if n not in left_out and not n.endswith("_path")
        }
        for e in evidence
    ]


def modules_behind(name: str) -> tuple[str, ...]:
    """The modules of this project that module `name` imports, at its top or inside its functions, and theirs; sorted.

    What stands under `if TYPE_CHECKING` is left out: it does not run.
    """
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in found or (file := _file_of(module)) is None:
            continue
        found.add(module)
        waiting += _imports(ast.parse(file.read_bytes()))
    return tuple(sorted(found))


def _file_of(module: str) -> Path | None:
    """The file of a module of this project, None for a package and for what is not ours."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return path if module.split(".")[0] in ("helpers", "kernels") and path.is_file() else None


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from a import b`: b may be a module or a name in a.
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        else:
            yield from _imports(node)


@lru_cache(maxsize=32)
def code_digest(module: str) -> str:
    """One hash of the text of `module` and of all that it imports of this project."""
    digest = hashlib.sha256()
    for name in modules_behind(module):
        digest.update(name.encode() + b"\0" + _file_of(name).read_bytes())
    return digest.hexdigest()


def rows_digest(rows: pd.DataFrame) -> str:
    return hashlib.sha256(rows.to_json(orient="split").encode()).hexdigest()

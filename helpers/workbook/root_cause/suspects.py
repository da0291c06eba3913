"""The four suspects of notebook 06, and how each case ended: every verdict is computed from rows and the live ladder.

A verdict that the rows do not carry raises UserError, so the table cannot say what was not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.search.ablate import Ablation
from helpers.workbook.root_cause.crossing import decided_by_column, decided_by_row, died, spilled
from helpers.workbook.root_cause.ladder import ingredient_table
from helpers.workbook.root_cause.pack_edits import pack_findings
from helpers.workbook.root_cause.versions import version_findings

if TYPE_CHECKING:
    import pandas as pd

BEFORE, BROKE, LAST_DYING, MENDED = "3.4.0", "3.5.1", "3.6.0", "3.7.1"
"""The release before the failure, the incident's, the last one that dies, and the first one here that compiles it."""


def necessary_ingredients(ladder: Ablation) -> list[str]:
    """The ingredients that are necessary, in the order of `ingredient_table`.

    The word has one meaning on the page: taking the ingredient away, and nothing else, makes the kernel compile,
    whichever way it is taken away.
    """
    table = ingredient_table(ladder)
    return list(table.loc[table["necessary"], "ingredient"])


def suspects_table(ladder: Ablation, matrix: pd.DataFrame, crossing: pd.DataFrame, packs: pd.DataFrame) -> pd.DataFrame:
    """One row a suspect: the accusation, what would have cleared it, what was found, and the verdict.

    `ladder` is the live ablation of the incident; the others are the rows of `version_matrix`, `crossing` and
    `pack_experiment`. Raises UserError where these do not carry a verdict.
    """
    import pandas as pd

    rows = [_ingredients(ladder, crossing), _ptxas(matrix, crossing), _passes(crossing), _llvm(crossing, packs)]
    table = pd.DataFrame(rows, columns=["suspect", "if guilty, then", "cleared if", "what was found", "verdict"])
    # The verdict beside the suspect: on a narrow page the last columns are out of sight.
    return table[["suspect", "verdict", "if guilty, then", "cleared if", "what was found"]]


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise UserError(f"the rows do not carry the verdict that {what}: the page has to be written anew")


def _ingredients(ladder: Ablation, crossing: pd.DataFrame) -> tuple[str, ...]:
    needed = necessary_ingredients(ladder)
    lives = [t for t in (BEFORE, MENDED) if died(crossing, "ptx", t, t) is False]
    _must(ladder.baseline.crashed and bool(needed) and lives == [BEFORE, MENDED], "the ingredients are accomplices")
    return (
        "The kernel's ingredients",
        "taking one of them away makes it compile",
        "it still dies without any one of them",
        f"{len(needed)} ingredients are necessary, but the same kernel with all of them compiles under Triton "
        f"{' and '.join(lives)}",
        "accomplices: needed, but not enough",
    )


def _ptxas(matrix: pd.DataFrame, crossing: pd.DataFrame) -> tuple[str, ...]:
    found = version_findings(matrix)
    _must(not found["by_ptxas_alone"] and decided_by_row(crossing, "cubin", (BROKE, LAST_DYING, MENDED)),
          "ptxas is acquitted")  # fmt: skip
    pairs = sum(found["ptxas_per_triton"].values())
    return (
        "ptxas",
        "the same PTX dies under one release of ptxas and compiles under another",
        "each PTX ends in the same way under every release",
        f"in {pairs} pairs of Triton and ptxas, no PTX dies under one ptxas and compiles under another",
        "acquitted: no release of ptxas makes the difference",
    )


def _passes(crossing: pd.DataFrame) -> tuple[str, ...]:
    later = (LAST_DYING, MENDED)
    _must(
        decided_by_column(crossing, "ptx", later)
        and died(crossing, "ptx", BEFORE, BROKE) is False
        and died(crossing, "ptx", BROKE, BROKE) is True,
        "Triton's passes are accomplices",
    )
    return (
        "Triton's passes",
        "the LLIR of a release dies or compiles whichever LLVM goes on from it",
        "the LLIR of a release that dies compiles with another release's LLVM",
        f"the LLIR of {LAST_DYING} compiles with {MENDED}'s LLVM, so the passes did not mend it; but {BEFORE}'s LLIR "
        f"compiles with {BROKE}'s LLVM too, so what 3.5 changed in them is needed",
        "accomplices since 3.5; they had no part in the cure",
    )


def _llvm(crossing: pd.DataFrame, packs: pd.DataFrame) -> tuple[str, ...]:
    found = pack_findings(packs)
    _must(
        decided_by_column(crossing, "ptx", (BROKE, LAST_DYING, MENDED))
        and found.cured == found.open_dying > 0
        and found.killed == found.whole_living > 0,
        "LLVM is convicted",
    )
    return (
        "LLVM",
        "the same LLIR dies with one release's LLVM and compiles with another's",
        f"{LAST_DYING}'s LLIR dies with {MENDED}'s LLVM as well",
        f"{LAST_DYING}'s LLIR dies with its own LLVM and compiles with {MENDED}'s "
        f"({spilled(crossing, 'ptx', LAST_DYING, MENDED):,} B of spill stores); putting the packs of floats into the "
        f"other form turned the verdict {found.cured + found.killed} times of {found.open_dying + found.whole_living}",
        "convicted: how it puts pairs of floats together decides",
    )

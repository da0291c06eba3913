"""The pack experiment (data/pack_experiment.csv) as findings and a table: which packs decide, and on which kernels.

A pack puts two 32-bit halves together for an instruction on pairs of floats. LLVM of one season writes it *open*, in
four instructions; later ones write it *whole*, as one `mov.b64`. Each row is a PTX in which some packs were put into
the other form, assembled by one ptxas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED, NO_VERDICT
from helpers.errors import UserError
from helpers.show.verdicts import words_in_cell

if TYPE_CHECKING:
    import pandas as pd

AS_IT_IS, ALL, BEHIND_FIRST, BEHIND_SECOND = "as it is", "all", "after load 1", "after load 3"
FROM_FRONT, FROM_BACK = "the first", "the last"
INCIDENT_CASE = "incident"
EDIT_WORDS = {
    AS_IT_IS: "as Triton wrote it",
    ALL: "every pack in the other form",
    BEHIND_FIRST: "only the packs behind the first wide load",
    BEHIND_SECOND: "only the packs behind the second wide load",
}


@dataclass(frozen=True)
class PackFindings:
    """What the experiment says of the incident, over every ptxas that read the text.

    `cured` and `killed`: assemblies whose verdict turned when every pack was put into the other form, of `open_dying`
    PTX that died as they were and `whole_living` that compiled. `second_decides`: whether the packs behind the second
    wide load give the same verdict as all of them, each time; `first_matters`: whether those behind the first ever
    change it.
    """

    ptxas: tuple[str, ...]
    open_dying: int
    cured: int
    whole_living: int
    killed: int
    second_decides: bool
    first_matters: bool


def _judged(rows: pd.DataFrame, case: str | None = INCIDENT_CASE) -> pd.DataFrame:
    judged = rows[~rows["status"].isin(NO_VERDICT)]
    judged = judged if case is None else judged[judged["case"] == case]
    return judged.assign(dies=~judged["status"].isin(COMPILED))


def pack_findings(rows: pd.DataFrame) -> PackFindings:
    """The incident's findings; raises UserError where the rows do not hold the whole experiment."""
    judged = _judged(rows)
    wide = judged[judged["edit"].isin(EDIT_WORDS)].pivot_table(
        index=["triton", "ptxas", "form"], columns="edit", values="dies", aggfunc="first"
    )
    if set(wide.columns) != set(EDIT_WORDS) or wide.empty or wide.isna().to_numpy().any():
        raise UserError("these are not the rows of the whole pack experiment; read_rows('pack_experiment')")
    wide = wide.astype(bool)
    open_, whole = (wide[wide.index.get_level_values("form") == form] for form in ("open", "whole"))
    return PackFindings(
        ptxas=tuple(dict.fromkeys(wide.index.get_level_values("ptxas"))),
        open_dying=int(open_[AS_IT_IS].sum()),
        cured=int((open_[AS_IT_IS] & ~open_[ALL]).sum()),
        whole_living=int((~whole[AS_IT_IS]).sum()),
        killed=int((~whole[AS_IT_IS] & whole[ALL]).sum()),
        second_decides=bool((wide[ALL] == wide[BEHIND_SECOND]).all()),
        first_matters=bool((wide[AS_IT_IS] != wide[BEHIND_FIRST]).any()),
    )


def packs_needed(rows: pd.DataFrame, triton: str, order: str) -> int:
    """The fewest packs behind the second wide load, counted from the front or the back, that turn the verdict.

    `order` is `the first` or `the last`. Raises UserError where no count was tried, or none of those tried turns it.
    """
    part = _judged(rows)
    part = part[(part["triton"] == triton) & (part["edit"] == order)].sort_values("changed")
    if part.empty:
        raise UserError(f"how many packs it takes was not tried on the PTX of Triton {triton}")
    turned = part[part["dies"] != part["dies"].iloc[0]]
    if turned.empty:
        raise UserError(f"on the PTX of Triton {triton}, {order} packs never turn the verdict")
    return int(turned["changed"].iloc[0])


def no_count_decides(rows: pd.DataFrame, triton: str, packs: int = 64) -> tuple[int, int]:
    """(fewest open packs of a text that dies, most open packs of one that compiles): the first below the second
    says that no number of open packs tells the two apart.

    Raises UserError where that cannot be said of the rows.
    """
    part = _judged(rows)
    part = part[(part["triton"] == triton) & part["edit"].isin([FROM_FRONT, FROM_BACK])]
    open_packs = packs - part["changed"]
    dead, alive = open_packs[part["dies"]], open_packs[~part["dies"]]
    if dead.empty or alive.empty:
        raise UserError(f"on the PTX of Triton {triton}, all texts ended alike")
    return int(dead.min()), int(alive.max())


def pack_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a kernel and Triton, under the ptxas that this Triton brings: the verdict of each edit."""
    import pandas as pd

    bundled = rows[rows["bundled"] & rows["edit"].isin(EDIT_WORDS)]
    table = []
    for (case, triton, form), part in bundled.groupby(["case", "triton", "form"], sort=False):
        verdicts = {r["edit"]: words_in_cell(r) for r in part.to_dict("records")}
        how = "four instructions" if form == "open" else "one mov.b64"
        table.append({"kernel": case, "Triton": triton, "packs written as": how}
                     | {words: verdicts.get(edit, "") for edit, words in EDIT_WORDS.items()})  # fmt: skip
    return pd.DataFrame(table)


def other_kernels(rows: pd.DataFrame) -> dict[str, int]:
    """Of the other kernels' PTX: how many `died` as they were, and of those how many `cured` with all packs whole."""
    judged = _judged(rows, None)
    judged = judged[(judged["case"] != INCIDENT_CASE) & (judged["form"] == "open")]
    before = judged[judged["edit"] == AS_IT_IS].set_index(["case", "triton", "ptxas"])["dies"]
    after = judged[judged["edit"] == ALL].set_index(["case", "triton", "ptxas"])["dies"]
    dead = before[before]
    return {"died": len(dead), "cured": int((~after.reindex(dead.index).astype(bool)).sum()),
            "kernels": dead.index.get_level_values("case").nunique()}  # fmt: skip

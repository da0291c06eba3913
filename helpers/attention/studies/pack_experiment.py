"""Does it decide how pairs of floats are packed? PTX that dies repacked, PTX that compiles opened, each assembled.

An open pack is four instructions, a whole one `mov.b64`; they mean the same. Every edited text is checked before it is
assembled: no register is read that nothing has written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.studies.incident import INCIDENT_CHOICE
from helpers.compiler.compile import compile_request, usable_cores
from helpers.compiler.report import refuse_ill
from helpers.compiler.run_ptxas import DEFAULT_FLAGS, run_ptxas
from helpers.compiler.toolchain import ToolchainMissing, resolve_ptxas
from helpers.errors import UserError
from helpers.inspection.ptx.packs import OPEN, Pack, opened, packs, repacked
from helpers.search.minimize.check import check_valid

RECORDED = "pack_experiment"
TRITONS = ("3.5.1", "3.6.0", "3.7.1")
AS_IT_IS, ALL, AFTER, FIRST, LAST = "as it is", "all", "after load", "the first", "the last"


def cases() -> dict[str, Choice]:
    """The dead cells of the tile audit for sm_100a, and two neighbours that live, by name."""
    base = INCIDENT_CHOICE
    return {
        "incident": base,
        "fp8 mask": replace(base, window=None, mask=True),
        "bf16 mask": replace(base, kv_dtype="bf16", window=None, mask=True),
        "e5m2 window": replace(base, kv_dtype="fp8_e5m2"),
        "hd512 bf16 window 64x32": replace(base, head_dim=512, kv_dtype="bf16", tile="64x32", num_stages=1),
        "bf16 window (lives)": replace(base, kv_dtype="bf16"),
        "fp8 no window (lives)": replace(base, window=None),
    }


@dataclass(frozen=True)
class Subject:
    """A case's PTX by one Triton, the release of its own ptxas, and the form that most of its packs have."""

    case: str
    triton: str
    ptx: str
    own_ptxas: str
    found: tuple[Pack, ...]

    @property
    def form(self) -> str:
        """`open` or `whole`; empty where there are no packs."""
        forms = Counter(p.form for p in self.found)
        return forms.most_common(1)[0][0] if forms else ""

    def edited(self, chosen: Sequence[Pack]) -> str:
        """The text with these packs in the other form. Raises UserError where that reads an unwritten register."""
        lines = {p.line for p in chosen}
        text = repacked(self.ptx, lines) if self.form == OPEN else opened(self.ptx, lines)
        if wrong := check_valid(text):
            raise UserError(f"{self.case}, Triton {self.triton}: the edited PTX is wrong: {wrong[0]}")
        return text

    def changeable(self) -> list[Pack]:
        """The packs of the form that most have, in the text's order."""
        return [p for p in self.found if p.form == self.form]

    def deciding(self) -> list[Pack]:
        """Those after the last load that has more than a few behind it."""
        groups = Counter(p.after_load for p in self.changeable())
        last = max((load for load, n in groups.items() if n >= 8), default=0)
        return [p for p in self.changeable() if p.after_load == last]


def subject(case: str, triton: str) -> Subject:
    """The PTX of a case; raises ToolchainMissing where that Triton is not here."""
    report = compile_request(replace(cases()[case], triton=triton).request())
    refuse_ill([report])
    if not report.ptx_path:
        raise ToolchainMissing(report.message or f"Triton {triton} gave no PTX of {case}")
    ptx = Path(report.ptx_path).read_text()
    return Subject(case, triton, ptx, str(report.ptxas_version), packs(ptx))


def assembled(this: Subject, ptxas: str, chosen: Sequence[Pack], words: str) -> dict:
    """One row: the packs `chosen` in the other form (none: the text as it is), under one ptxas with Triton's flags."""
    text = this.edited(chosen) if chosen else this.ptx
    run = run_ptxas(resolve_ptxas(ptxas).path, text, gpu_name=INCIDENT_CHOICE.arch, flags=DEFAULT_FLAGS)
    return {
        "case": this.case,
        "triton": this.triton,
        "ptxas": ptxas,
        "bundled": ptxas == this.own_ptxas,
        "packs": len(this.found),
        "form": this.form,
        "edit": words,
        "changed": len(chosen),
        "status": run.verdict,
        "ptxas_code": run.ptxas_code,
        "regs_per_thread": run.regs_per_thread,
        "spill_store_bytes": run.spill_store_bytes,
    }


def edit_rows(this: Subject, ptxas: str) -> list[dict]:
    """The text as it is, all packs changed, and those after each load alone."""
    changeable = this.changeable()
    edits: list[tuple[str, list[Pack]]] = [(AS_IT_IS, [])]
    if changeable:
        edits.append((ALL, changeable))
        groups = Counter(p.after_load for p in changeable)
        edits += [(f"{AFTER} {load}", [p for p in changeable if p.after_load == load])
                  for load, number in sorted(groups.items()) if number >= 8]  # fmt: skip
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(lambda edit: assembled(this, ptxas, edit[1], edit[0]), edits))


def count_rows(this: Subject, ptxas: str) -> Iterator[dict]:
    """How many of the deciding packs must change before the verdict does: from the first on, and from the last on.

    A grid of eighths first, which shows whether the verdict turns only once; then the number by halving.
    """
    there = this.deciding()
    orders: dict[str, Callable[[int], list[Pack]]] = {
        FIRST: lambda n: there[:n],
        LAST: lambda n: there[len(there) - n :],
    }
    for words, chosen in orders.items():
        rows = {}
        for n in range(0, len(there) + 1, max(1, len(there) // 8)):
            rows[n] = assembled(this, ptxas, chosen(n), words)
            yield rows[n]
        died = {n: row["status"] == "register_exhausted" for n, row in rows.items()}
        turns = [(low, high) for low, high in pairwise(died) if died[low] != died[high]]
        for low, high in turns:
            before = died[low]
            while high - low > 1:
                middle = (low + high) // 2
                row = assembled(this, ptxas, chosen(middle), words)
                yield row
                if (row["status"] == "register_exhausted") == before:
                    low = middle
                else:
                    high = middle

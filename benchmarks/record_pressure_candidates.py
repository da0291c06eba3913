"""Is there a number, read from a PTX alone, that tells the text that dies from its twin that compiles?

python benchmarks/record_pressure_candidates.py

The demand of `register-cliff pressure` counts a pack of four instructions and a pack of one alike, and cannot. Tried
here, on every text of the pack experiment that was judged under the ptxas of its Triton, and on the smallest pair:

  demand                the most registers at once, copies and packs seen through (helpers.inspection.ptx.pressure)
  demand as written     the same with every register of the text counted as it stands, in the order of the text
  pairs as written      the most 64-bit registers at once, in the order of the text
  behind wide loads     the most registers at once as written, between a load of 128 registers and the next branch
  pack instructions     how many instructions the packs take
  open packs            packs of four instructions

A number separates a kernel's texts if every one that dies is above every one that compiles (or below, each time). Found
on the incident's texts, it has to hold on the others. Writes data/pressure_candidates.csv; nothing is assembled.
"""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Iterator

from helpers.attention.studies.pack_experiment import AFTER, ALL, AS_IT_IS, FIRST, TRITONS, Subject, cases, subject
from helpers.compiler.report import COMPILED, NO_VERDICT
from helpers.errors import UserError
from helpers.files import write_text_atomically
from helpers.inspection.ptx.graph import Function, read_functions
from helpers.inspection.ptx.packs import OPEN, packs
from helpers.inspection.ptx.pressure import live_sets, members_of, pressure_profile
from helpers.recorded import DATA, read_rows

CANDIDATES = ("demand", "demand as written", "pairs as written", "behind wide loads", "pack instructions", "open packs")
WIDE = 128
IN_PAIR = 64
INSTRUCTIONS_OF = {True: 4, False: 1}


def edited(this: Subject, edit: str, changed: int) -> str:
    """The text of one row of the pack experiment, made again from its words; raises UserError where that is not it."""
    there, deciding = this.changeable(), this.deciding()
    if edit == AS_IT_IS:
        chosen = []
    elif edit == ALL:
        chosen = there
    elif edit.startswith(AFTER):
        chosen = [p for p in there if p.after_load == int(edit.removeprefix(AFTER))]
    else:
        chosen = deciding[:changed] if edit == FIRST else deciding[len(deciding) - changed :]
    if len(chosen) != changed:
        raise UserError(f"{this.case}, Triton {this.triton}, {edit!r}: {len(chosen)} packs and not {changed}")
    return this.edited(chosen) if chosen else this.ptx


def numbers(ptx: str) -> dict[str, int]:
    """Every candidate of one text."""
    profile = pressure_profile(ptx)
    function = next(f for f in read_functions(ptx) if f.is_entry)
    found = packs(ptx)
    whole, pairs, behind = as_written(function)
    return {
        "demand": profile.demand if profile else 0,
        "demand as written": whole,
        "pairs as written": pairs,
        "behind wide loads": behind,
        "pack instructions": sum(INSTRUCTIONS_OF[p.form == OPEN] for p in found),
        "open packs": sum(p.form == OPEN for p in found),
    }


def as_written(function: Function) -> tuple[int, int, int]:
    """(most registers at once, most 64-bit ones, most registers behind a wide load), each register as it stands."""
    most = pairs = behind = 0
    weights = [max(1, bits // 32) if bits > 1 else 0 for bits in function.bits]
    double = sum(1 << r for r, bits in enumerate(function.bits) if bits == IN_PAIR)
    code = function.instructions
    _, ends = live_sets(function.blocks, [i.defs for i in code], [i.uses for i in code])
    for block, live_out in zip(function.blocks, ends, strict=True):
        live, below = live_out, 0
        for at in range(block.last - 1, block.first - 1, -1):
            instruction = function.instructions[at]
            now = sum(weights[r] for r in members_of(live))
            most, below = max(most, now), max(below, now)
            pairs = max(pairs, (live & double).bit_count())
            if instruction.opcode.startswith("tcgen05.ld") and len(instruction.defs) >= WIDE:
                behind = max(behind, below)
            for r in instruction.defs:
                live &= ~(1 << r)
            for r in instruction.uses:
                live |= 1 << r
    return most, pairs, behind


def texts() -> Iterator[dict]:
    """Every text with its verdict: those of the pack experiment under their own ptxas, and the smallest pair."""
    rows = read_rows("pack_experiment")
    rows = rows[rows["bundled"] & ~rows["status"].isin(NO_VERDICT)]
    for case in cases():
        for triton in TRITONS:
            this = subject(case, triton)
            for row in rows[(rows["case"] == case) & (rows["triton"] == triton)].to_dict("records"):
                yield {
                    "case": case,
                    "triton": triton,
                    "edit": row["edit"],
                    "changed": row["changed"],
                    "dies": row["status"] not in COMPILED,
                    "text": edited(this, row["edit"], row["changed"]),
                }
    for name, dies in (("fatal", True), ("cured", False)):
        yield {"case": "smallest pair", "triton": "3.5.1", "edit": name, "changed": 0, "dies": dies,
               "text": (DATA / f"pack_pair_{name}.ptx").read_text()}  # fmt: skip


def main() -> int:
    """Write the rows."""
    import pandas as pd

    rows = []
    known: dict[str, dict[str, int]] = {}
    for found in texts():
        text = found.pop("text")
        known.setdefault(text, {}) or known[text].update(numbers(text))
        rows.append(found | known[text])
    head = (
        f"# {len(rows)} texts by `python benchmarks/record_pressure_candidates.py` on {datetime.date.today()}: the PTX "
        f"of data/pack_experiment.csv and the smallest pair, {platform.system()} {platform.machine()}; "
        "read, not assembled.\n"
    )
    write_text_atomically(DATA / "pressure_candidates.csv", head + pd.DataFrame(rows).to_csv(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

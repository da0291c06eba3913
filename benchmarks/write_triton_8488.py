"""Write docs/triton-8488.md: a note that somebody could attach to that issue, every number from rows of data/.

python benchmarks/write_triton_8488.py
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from helpers.files import ROOT, write_text_atomically
from helpers.recorded import read_rows
from helpers.show.verdicts import words_in_cell
from helpers.workbook.root_cause.annotated import CURED, FATAL, listing, pack_pair

if TYPE_CHECKING:
    import pandas as pd

NOTE = ROOT / "docs" / "triton-8488.md"
STAGES = {"llir": "TTGIR", "ptx": "LLIR", "cubin": "PTX"}


def note_text() -> str:
    """The note; raises AssertionError where a row contradicts a sentence of it."""
    cells, edits = read_rows("crossing"), read_rows("pack_experiment")
    incident = edits[edits["case"] == "incident"]
    own = cells[cells["text_by"] == cells["done_by"]].drop_duplicates("done_by").set_index("done_by")
    dying = list(own.index[own["ptxas_code"] == "C7600"])
    assert dying == ["3.5.1", "3.6.0"], dying
    return "\n".join(
        [
            "# C7600 with packed pairs of floats on sm_100: what decides it",
            "",
            "A proposal for triton-lang/triton issue 8488. It was not posted. All of it was measured by compiling,"
            " without a GPU; the kernel is the extend kernel of this repository at head dim 256, fp8 cache, window"
            " 1024, tile 128x64, 8 warps.",
            "",
            "## What happens",
            "",
            "ptxas ends with `(C7600) Register allocation failed with register count of '255'` on the PTX of Triton"
            f" {' and '.join(dying)}. It compiles the PTX of {', '.join(v for v in own.index if v not in dying)}.",
            "",
            _releases(own),
            "",
            "## Which stage decides",
            "",
            _who_decides(cells),
            "",
            _grid(cells, "ptx"),
            "",
            "## What differs in the PTX",
            "",
            "LLVM writes `f32x2` instructions for sm_100. Each needs two 32-bit registers as one of 64 bits. The LLVM"
            " of 3.5 and 3.6 puts them together in four instructions, the LLVM of 3.7 in one:",
            "",
            "```",
            "cvt.u64.u32 a, lo;  cvt.u64.u32 b, hi;  shl.b64 c, b, 32;  or.b64 d, a, c;      // 3.5.1, 3.6.0",
            "mov.b64 d, {lo, hi};                                                            // 3.7.1",
            "```",
            "",
            _edits(incident),
            "",
            *_counts(incident),
            *_smallest_pair(),
            "## What helps without a change of code",
            "",
            "- `maxnreg=255` (or 250) as a launch option: Triton then loads tensor memory in narrower pieces.",
            "- `DISABLE_LLVM_OPT=nvptx-no-f32x2` in the environment, on Triton 3.6.0 and later. The LLVM of 3.5.1 does"
            f" not have this switch. {_switch()}",
            "- Triton 3.7.1 or later.",
            "",
            "## How to check it",
            "",
            "```",
            "register-cliff cross --triton 3.6.0,3.7.1        # who decides",
            "register-cliff compile --triton 3.6.0            # C7600",
            "register-cliff compile --triton 3.6.0 --llvm nvptx-no-f32x2",
            "python benchmarks/record_pack_experiment.py      # the edits of the PTX",
            "```",
            "",
            "Not shown here: which change of LLVM made the difference, whether the compiled kernels are fast, and why"
            " ptxas cannot allocate registers for the open form.",
            "",
        ]
    )  # fmt: skip


def _smallest_pair() -> list[str]:
    """The two smallest texts: what tells them apart, and how to try them with one ptxas."""
    fatal, cured = pack_pair()
    differing = [f"{mark} {line.strip()}" for mark, line in listing(fatal, cured) if mark in ("-", "+")]
    return [
        "## The smallest pair",
        "",
        f"`data/{FATAL.name}` ({len(fatal.splitlines())} lines) dies, `data/{CURED.name}` compiles. They mean the same:"
        " the second makes the same 64-bit value in one instruction. Nothing else differs:",
        "",
        "```",
        *differing,
        "```",
        "",
        "To try them with any ptxas from 12.8 on:",
        "",
        "```",
        f"ptxas --gpu-name=sm_100a data/{FATAL.name} -o /dev/null    # C7600",
        f"ptxas --gpu-name=sm_100a data/{CURED.name} -o /dev/null    # compiles",
        "```",
        "",
    ]


def _switch() -> str:
    rows = read_rows("llvm_switch")
    incident = rows[(rows["case"] == "incident") & (rows["triton"] == "3.6.0")].iloc[0]
    assert incident["status"] == "register_exhausted" and incident["status_with_switch"] == "spills"
    assert rows["same_operations"].all()
    return (
        "The incident's kernel then compiles with"
        f" {int(incident['spill_store_bytes_with_switch']):,} B of spill stores."
        f" In all {len(rows)} pairs of PTX compared, the operations on floats are the same in kind and number."
    )


def _releases(own: pd.DataFrame) -> str:
    lines = ["| Triton | LLVM | commit | its ptxas | by itself |", "|---|---|---|---|---|"]
    for name, row in own.iterrows():
        commit = row["llvm_revision"][:9] if isinstance(row["llvm_revision"], str) else "not stated in the wheel"
        lines.append(f"| {name} | {row['llvm_release']} | {commit} | {row['ptxas']} | {words_in_cell(dict(row))} |")
    return "\n".join(lines)


def _cell(cells: pd.DataFrame, step: str, by: str, to: str) -> str:
    row = cells[(cells["step"] == step) & (cells["text_by"] == by) & (cells["done_by"] == to)].iloc[0]
    return "cannot read" if row["status"] == "cannot_read" else words_in_cell(dict(row))


def _who_decides(cells: pd.DataFrame) -> str:
    dead = {_cell(cells, "ptx", by, "3.6.0") for by in ("3.6.0", "3.7.1")}
    alive = {by: _cell(cells, "ptx", by, "3.7.1") for by in ("3.6.0", "3.7.1")}
    assert dead == {"✕ C7600"} and not any("✕" in words for words in alive.values())
    needed = _cell(cells, "ptx", "3.4.0", "3.5.1")
    assert "✕" not in needed
    return (
        "Each release was given the LLIR of each other and did the rest. Between 3.6.0 and 3.7.1 LLVM decides alone:"
        " the LLIR of either dies through 3.6.0's LLVM and compiles through 3.7.1's"
        f" ({alive['3.6.0']} and {alive['3.7.1']} of spill stores). Between 3.4.0 and 3.5.1 it takes two things: the"
        f" LLIR of 3.4.0 compiles through 3.5.1's LLVM too ({needed}), so the TTGIR that 3.5 makes is needed as well."
    )


def _grid(cells: pd.DataFrame, step: str) -> str:
    part = cells[cells["step"] == step]
    makers, doers = list(dict.fromkeys(part["text_by"])), list(dict.fromkeys(part["done_by"]))
    lines = [
        f"| {STAGES[step]} made by, then the rest by | " + " | ".join(doers) + " |",
        "|---" * (len(doers) + 1) + "|",
    ]
    lines += [f"| {by} | " + " | ".join(_cell(cells, step, by, to) for to in doers) + " |" for by in makers]
    return "\n".join([*lines, "", "Bytes are spill stores a thread."])


def _edits(incident: pd.DataFrame) -> str:
    rows = incident[~incident["edit"].isin(["the first", "the last"]) & incident["bundled"]]
    other = {"open": "written as one `mov.b64`", "whole": "opened into four instructions"}
    lines = ["| PTX of | ptxas | packs in the other form | verdict |", "|---|---|---|---|"]
    for _, row in rows.iterrows():
        what = "none" if row["edit"] == "as it is" else f"{row['edit']}: {row['changed']} {other[row['form']]}"
        lines.append(f"| {row['triton']} | {row['ptxas']} | {what} | {words_in_cell(dict(row))} |")
    return "\n".join(lines)


def _counts(incident: pd.DataFrame) -> list[str]:
    said = []
    for triton, rows in incident[incident["edit"].isin(["the first", "the last"])].groupby("triton"):
        dies = rows["status"] == "register_exhausted"
        starts_dead = bool(dies[rows["changed"] == 0].all())
        for order in ("the first", "the last"):
            part = rows[rows["edit"] == order].sort_values("changed")
            changed = part["changed"][(part["status"] == "register_exhausted") != starts_dead]
            total = int(part["changed"].max())
            assert changed.empty or len(changed) == (part["changed"] >= changed.min()).sum(), "it turns more than once"
            if changed.empty:
                said.append(f"- PTX of {triton}: {order} 0 to {total} packs changed, the verdict stays.")
            else:
                verb = "compiles" if starts_dead else "dies"
                said.append(
                    f"- PTX of {triton}: of the {total} packs after the second wide load, it {verb} once {order}"
                    f" {int(changed.min())} {'is' if changed.min() == 1 else 'are'} in the other form."
                )
    return ["How many it takes:", "", *said, "", _no_count(incident), ""] if said else []


def _no_count(incident: pd.DataFrame) -> str:
    """Why no number that only counts open packs can tell the text that dies from one that compiles."""
    rows = incident[(incident["triton"] == "3.6.0") & incident["edit"].isin(["the first", "the last"])]
    dies = rows["status"] == "register_exhausted"
    fewest_dead = int(64 - rows["changed"][dies].max())
    most_alive = int(64 - rows["changed"][~dies].min())
    assert fewest_dead < most_alive
    return (
        f"So the number of open packs alone does not decide: on the PTX of 3.6.0, {fewest_dead} open packs of 64 still"
        f" die and {most_alive} compile. It depends on which ones they are. The highest number of values that live"
        " at once, as this repository counts them, is the same in all of these texts."
    )


def main() -> int:
    """Write the note."""
    NOTE.parent.mkdir(exist_ok=True)
    write_text_atomically(NOTE, note_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())

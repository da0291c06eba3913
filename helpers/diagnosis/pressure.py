"""Register pressure for people: a report of any PTX as a dict or text, tables by source line, and a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import UserError
from helpers.inspection.ptx.graph import read_functions
from helpers.inspection.ptx.pressure import Held, PressureProfile, ValueGroup, profile_and_held
from helpers.inspection.warp_groups import describe, ptx_warp_groups

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 15


def pressure_report(ptx: str) -> dict:
    """Everything known of a PTX's register pressure, ready for JSON; raises UserError for text without a function.

    Keys: function, threads_per_cta, cap (of a CTA of so many threads), demand, estimate, text_order_peak, floor,
    has_line_info, peak, lines, tuples, branch (None without a conditional region inside a loop). Without line info
    `lines` is empty; the rest stands on PTX lines. `warp_groups` is the register split of a kernel with `setmaxnreg`
    (None without): `said` has it in sentences.
    """
    profile, held = profile_and_held(ptx)
    if profile is None and (functions := read_functions(ptx)):
        function = next((f for f in functions if f.is_entry), functions[0])
        raise UserError(
            f"the function {function.name[:80]} has {len(function.blocks):,} blocks and {len(function.bits):,} "
            "registers: more than is analysed here; `register-cliff minimize` makes a PTX smaller that ptxas fails on"
        )
    if profile is None:
        raise UserError(
            "this text has no PTX function with instructions in it; give the .ptx that Triton or nvcc wrote "
            "(`register-cliff compile` says where it keeps one)"
        )
    split = ptx_warp_groups(ptx, profile)
    return {
        "function": profile.function,
        "threads_per_cta": profile.threads,
        "cap": profile.cap,
        "demand": profile.demand,
        "estimate": profile.estimate,
        "text_order_peak": profile.text_order_peak,
        "floor": profile.floor,
        "has_line_info": bool(profile.lines),
        "peak": asdict(profile.peak) if profile.peak else None,
        "lines": [asdict(line) for line in profile.lines],
        "tuples": [
            {**asdict(t), "made": t.made, "room": t.room, "demand": t.demand, "over_cap": max(0, t.beside - t.room)}
            for t in profile.tuples
        ],
        "branch": asdict(held) if held else None,
        "warp_groups": None if split is None else {**asdict(split), "fits": split.fits, "said": list(describe(split))},
    }


def format_pressure(report: Mapping) -> str:
    """The report of `pressure_report` as text for a terminal."""
    worst = f"{report['function']}: {report['demand']} registers are needed at the worst point"
    if report["warp_groups"]:  # each group has a cap of its own
        out = [f"{worst}; what there is differs by warp group, as told below"]
    else:
        out = [
            f"{worst}, the cap is {report['cap']}",
            f"  estimate of ptxas's count: {report['estimate']}"
            + ("" if report["demand"] <= report["cap"] else " (the cap: it will spill, or fail to allocate)"),
        ]
    out += [
        f"  in the order of the text {report['text_order_peak']}; doing all cheap integers again, {report['floor']}",
    ]
    peak = report["peak"]
    if peak:
        out.append(f"\npeak at PTX line {peak['line_no']}{_at(peak['source'])}: {peak['opcode']}")
        if peak["tuple_registers"]:
            out.append(
                f"  {peak['tuple_registers']} of {peak['registers']} are filled for this instruction's operand alone"
            )
        out += _group_rows("  live there", peak["live"])
    if report["lines"]:
        out.append("\nsource lines by demand")
        out += [
            f"  {line['registers']:>5}  {_name(line['source'])} ({line['instructions']} instructions, "
            f"PTX line {line['line_no']})"
            for line in report["lines"][:MAX_ROWS]
        ]
    else:
        out.append("\nno line information (.loc): PTX lines only; compile with -lineinfo to see source lines")
    if report["tuples"]:
        out.append("\noperands of adjacent registers, with what lives beside them")
        out += [
            f"  {t['registers']:>5} + {t['beside']} beside, of which {t['over_cap']} have no room: "
            f"PTX line {t['line_no']}{_at(t['source'])}, {t['opcode']}"
            for t in report["tuples"][:6]
        ]
    if report["warp_groups"]:
        out.append("\nregisters by warp group (setmaxnreg)")
        out += [f"  {line}" for line in report["warp_groups"]["said"]]
    branch = report["branch"]
    if branch:
        out.append(
            f"\nheld across the branch at PTX line {branch['line_no']}{_at(branch['source'])}, around "
            f"{branch['instructions']} instructions: {branch['registers']:g} registers"
        )
        out += _group_rows("  of these", branch["groups"])
    return "\n".join(out)


def _name(source: tuple[str, int] | list) -> str:
    return f"{Path(source[0]).name}:{source[1]}"


def _at(source: tuple[str, int] | None) -> str:
    return f" ({_name(source)})" if source else ""


def _group_rows(head: str, groups: list[Mapping]) -> list[str]:
    rows = [f"{head}, by the lines that define them:"]
    for group in groups[:MAX_ROWS]:
        where = ", ".join(_name(line) for line in group["lines"]) or f"PTX line {group['line_no']}"
        rows.append(f"  {group['registers']:>7g}  {where}  ({group['values']} values, {group['opcode']})")
    if rest := groups[MAX_ROWS:]:
        rows.append(f"  {sum(g['registers'] for g in rest):>7g}  {len(rest)} more groups")
    return rows


def pressure_table(profile: PressureProfile, source: Callable[[int], str] | None = None, top: int = 12) -> pd.DataFrame:
    """The source lines with the highest demand: registers, how far over the cap, PTX line; `source` gives their text.

    `source` is asked for lines of the file the peak is in (the kernel's own) only.
    """
    import pandas as pd

    own = profile.peak.source[0] if profile.peak and profile.peak.source else None
    return pd.DataFrame(
        [
            {"file": Path(line.source[0]).name, "line": line.source[1],
             "source": source(line.source[1]).strip()[:80] if source and line.source[0] == own else "",
             "registers": line.registers, "over_cap": max(0, line.registers - profile.cap), "PTX line": line.line_no}
            for line in profile.lines[:top]
        ]
    )  # fmt: skip


def held_table(held: Held | None, top: int = 10) -> pd.DataFrame:
    """What is held across a branch: the lines that define it, values, registers, the commonest defining instruction."""
    return groups_table(held.groups if held else (), top)


def groups_table(groups: tuple[ValueGroup, ...], top: int = 10) -> pd.DataFrame:
    """Groups of live values as rows, largest first."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"defined at": ", ".join(str(line) for _, line in g.lines), "registers": g.registers, "values": g.values,
             "by": g.opcode, "PTX line": g.line_no}
            for g in groups[:top]
        ]
    )  # fmt: skip


def tuple_table(profile: PressureProfile, top: int = 8) -> pd.DataFrame:
    """Operands of adjacent registers: width, values of their own in them, what lives beside, and what has no room."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"PTX line": t.line_no, "line": t.source[1] if t.source else None, "opcode": t.opcode,
             "adjacent": t.registers, "filled for it": t.made, "live beside": t.beside, "room beside": t.room,
             "no room for": max(0, t.beside - t.room)}
            for t in profile.tuples[:top]
        ]
    )  # fmt: skip

"""Packs: how a PTX puts two 32-bit halves together for an instruction on pairs of floats (`f32x2`).

A pack is *whole* as one `mov.b64 d, {lo, hi}`, and *open* as four instructions: both halves widened, the upper one
shifted, both joined by `or`. The two mean the same. Pure functions over text; an edit leaves every other line as it is.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass

WHOLE, OPEN = "whole", "open"
_REGISTER = r"%[\w$]+"
_WHOLE = re.compile(rf"^(\s*)mov\.b64\s+({_REGISTER}), \{{({_REGISTER}), ({_REGISTER})\}};", re.ASCII)
_WIDENED = re.compile(rf"^\s*cvt\.u64\.u32\s+({_REGISTER}), ({_REGISTER});", re.ASCII)
_SHIFTED = re.compile(rf"^\s*shl\.b64\s+({_REGISTER}), ({_REGISTER}), 32;", re.ASCII)
_JOINED = re.compile(rf"^(\s*)or\.b64\s+({_REGISTER}), ({_REGISTER}), ({_REGISTER});", re.ASCII)
_PAIRS = re.compile(r"^\s*\w+(?:\.\w+)*\.f32x2\s+(.*);", re.ASCII)
_LOAD = re.compile(r"^\s*(?:@!?%\w+\s+)?tcgen05\.ld\.", re.ASCII)
_NAME = re.compile(_REGISTER, re.ASCII)
_NO_RESULT = re.compile(r"^\s*(?:@!?%\w+\s+)?(?:st|red|bra|bar|setp|ret|cp|tcgen05\.st|mbarrier)\b")


@dataclass(frozen=True)
class Pack:
    """One pack: the line of its last instruction (from 1), its form, its 64-bit result and its halves.

    `after_load` counts the loads from tensor memory above it; `parts` are the lines of an open pack's other three.
    """

    line: int
    form: str
    result: str
    low: str
    high: str
    after_load: int
    parts: tuple[int, ...] = ()


def packs(ptx: str) -> tuple[Pack, ...]:
    """The packs whose result an `f32x2` instruction reads, in the order of the text.

    A register that is written more than once is left alone, since then the text's order does not say which value it is.
    """
    lines = ptx.split("\n")
    writers = _writers(lines)
    feeds = {name for line in lines if (found := _PAIRS.match(line)) for name in _NAME.findall(found.group(1))}
    once = {name: at[0] for name, at in writers.items() if len(at) == 1}
    listed: list[Pack] = []
    loads = 0
    for number, line in enumerate(lines, start=1):
        if _LOAD.match(line):
            loads += 1
        if (whole := _WHOLE.match(line)) and whole.group(2) in feeds:
            listed.append(Pack(number, WHOLE, whole.group(2), whole.group(3), whole.group(4), loads))
        elif (joined := _JOINED.match(line)) and joined.group(2) in feeds:
            if pack := _open_pack(lines, once, number, joined, loads):
                listed.append(pack)
    return tuple(listed)


def _writers(lines: list[str]) -> dict[str, list[int]]:
    """The lines (from 1) that may write each register: those in which it comes first, or stands in the first braces."""
    writers: dict[str, list[int]] = {}
    for number, line in enumerate(lines, start=1):
        if "%" not in line or line.lstrip().startswith((".", "//")) or _NO_RESULT.match(line):
            continue
        words = line.split(None, 1)
        if words and words[0].startswith("@"):
            words = words[1].split(None, 1) if len(words) > 1 else words
        rest = words[1] if len(words) > 1 else ""
        target = rest[: rest.find("}")] if rest.startswith("{") else rest.partition(",")[0]
        for name in _NAME.findall(target):
            writers.setdefault(name, []).append(number)
    return writers


def _open_pack(lines: list[str], once: dict[str, int], number: int, joined: re.Match[str], loads: int) -> Pack | None:
    for low_wide, shifted in ((joined.group(3), joined.group(4)), (joined.group(4), joined.group(3))):
        low_at, shift_at = once.get(low_wide), once.get(shifted)
        if low_at is None or shift_at is None:
            continue
        low, shift = _WIDENED.match(lines[low_at - 1]), _SHIFTED.match(lines[shift_at - 1])
        if low is None or shift is None or (high_at := once.get(shift.group(2))) is None:
            continue
        high = _WIDENED.match(lines[high_at - 1])
        if high is not None and low.group(2) in once and high.group(2) in once:
            parts = (low_at, high_at, shift_at)
            return Pack(number, OPEN, joined.group(2), low.group(2), high.group(2), loads, parts)
    return None


def repacked(ptx: str, only: Container[int] | None = None) -> str:
    """The text with its open packs (those that end on lines `only`, if given) written as one `mov.b64` each.

    An instruction of theirs whose result nothing else reads goes.
    """
    lines = ptx.split("\n")
    chosen = [p for p in packs(ptx) if p.form == OPEN and (only is None or p.line in only)]
    for pack in chosen:
        indent = _JOINED.match(lines[pack.line - 1]).group(1)  # type: ignore[union-attr]
        lines[pack.line - 1] = f"{indent}mov.b64 \t{pack.result}, {{{pack.low}, {pack.high}}};"
    gone: set[int] = set()
    # The shift first, then what it read.
    for order in ((2,), (0, 1)):
        read = _read_names(lines, gone)
        for place in {pack.parts[i] for pack in chosen for i in order}:
            if _NAME.findall(lines[place - 1])[0] not in read:
                gone.add(place)
    return "\n".join(line for number, line in enumerate(lines, start=1) if number not in gone)


def _read_names(lines: list[str], gone: set[int]) -> set[str]:
    """Registers that some line, other than those gone, names behind its first operand (or in a store, anywhere)."""
    read: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if number in gone or "%" not in line or line.lstrip().startswith("."):
            continue
        names = _NAME.findall(line)
        simple = _WIDENED.match(line) or _SHIFTED.match(line) or _JOINED.match(line) or _WHOLE.match(line)
        read.update(names[1:] if simple else names)
    return read


def opened(ptx: str, only: Container[int] | None = None) -> str:
    """The text with its whole packs (those on lines `only`, if given) written as four instructions, as LLVM 22 did.

    The registers for that are declared behind the first `{` on a line of its own; without one, the text stays as it is.
    """
    lines = ptx.split("\n")
    chosen = [p for p in packs(ptx) if p.form == WHOLE and (only is None or p.line in only)]
    for number, pack in enumerate(chosen):
        indent = _WHOLE.match(lines[pack.line - 1]).group(1)  # type: ignore[union-attr]
        low, high, shifted = (f"%opened{3 * number + i}" for i in range(3))
        lines[pack.line - 1] = "\n".join(
            f"{indent}{words}"
            for words in (
                f"cvt.u64.u32 \t{low}, {pack.low};",
                f"cvt.u64.u32 \t{high}, {pack.high};",
                f"shl.b64 \t{shifted}, {high}, 32;",
                f"or.b64 \t{pack.result}, {low}, {shifted};",
            )
        )
    body = next((number for number, line in enumerate(lines) if line.strip() == "{"), None)
    if not chosen or body is None:
        return ptx
    lines[body] += f"\n\t.reg .b64 \t%opened<{3 * len(chosen)}>;"
    return "\n".join(lines)

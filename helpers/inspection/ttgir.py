"""Triton's GPU IR as text: each line without its location notes, with the source line it came from."""

from __future__ import annotations

import re

from helpers.inspection.ptx.scan import SourceLine

__all__ = ["ttgir_lines"]


_DEFINITION = re.compile(r"^#loc(\d*) = loc\((.*)\)\s*$")
_FILE = re.compile(r'^"((?:[^"\\]|\\.){0,4000})":(\d{1,9}):\d{1,9}$')
_REFERENCE = re.compile(r"#loc(\d*)")
# `loc(#loc12)`, `loc("acc"(#loc12))`, `loc("file.py":1:2)`: nothing in them nests deeper.
_NOTE = re.compile(r'\bloc\((?:#loc\d*|unknown|"(?:[^"\\]|\\.){0,4000}"(?:\(#loc\d*\)|:\d{1,9}:\d{1,9})?)\)')
_MAX_STEPS = 64


def ttgir_lines(text: str) -> list[tuple[str, SourceLine | None]]:
    """(text, (file, line) or None) of each line but location definitions; a call's callee counts. Never raises."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if line.startswith("#loc") and (m := _DEFINITION.match(line)):
            found[m[1]] = m[2]
    places: dict[str, SourceLine | None] = {}
    lines = []
    for line in text.split("\n"):
        if line.startswith("#loc"):
            continue
        # The last note of a line is the operation's own; those before belong to block arguments.
        notes = _NOTE.findall(line)
        source = None
        if notes and (m := _REFERENCE.search(notes[-1])):
            if m[1] not in places:
                places[m[1]] = _place(m[1], found)
            source = places[m[1]]
        lines.append((_without_notes(line), source))
    while lines and not lines[-1][0]:
        lines.pop()
    return lines


def _without_notes(line: str) -> str:
    """A line without its notes and the blanks before each."""
    # The blanks are taken off afterwards: a pattern that begins with them tries every place of a long run.
    kept, at = [], 0
    for note in _NOTE.finditer(line):
        kept.append(line[at : note.start()].rstrip())
        at = note.end()
    return "".join([*kept, line[at:]]).rstrip()


def _place(number: str, found: dict[str, str]) -> SourceLine | None:
    """Follow a location to a file and line: names and call sites lead on to their first reference."""
    for _ in range(_MAX_STEPS):
        body = found.get(number)
        if body is None:
            return None
        if m := _FILE.match(body):
            return m[1], int(m[2])
        reference = _REFERENCE.search(body)
        if reference is None:
            return None
        number = reference[1]
    return None

"""PTX read as removable units, in a plain form: what a minimiser or a mutator edits.

Plain form: no comments, line info or debug sections, one statement a line, registers and labels of inner scopes
(inline assembly has many) renamed so that the scopes can go. No text raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from helpers.inspection.ptx.graph import split_operands, written_operands
from helpers.inspection.ptx.scan import without_block_comments
from helpers.search.minimize.units import Function, Label, Program, Unit, render

__all__ = ["Function", "Label", "Program", "Unit", "read_program", "render"]

_TOKEN = re.compile(r'"[^"\n]*"|[;{}()\n"]|[^;{}()\n"]+')
# Directives that end with their line; and those that say nothing to the compiler.
_LINE_DIRECTIVE = re.compile(r"\.(?:version|target|address_size|file|loc)\b|@@DWARF", re.ASCII)
_DEBUG = re.compile(r"\.(?:file|loc|section)\b|@@DWARF", re.ASCII)
_LABEL = re.compile(r"\s*([A-Za-z_$%][\w$]*)[ \t]*:(?!:)", re.ASCII)
_GUARD = re.compile(r"@\s*!?\s*([%\w$]+)\s*", re.ASCII)
_OPCODE = re.compile(r"[a-z][a-z0-9_]*(?:[.:][\w.:]*)?", re.ASCII)
# No hexadecimal digits, no part of a number, no suffix such as the .x of %tid.x.
_NAME = re.compile(r"(?<![\w.$%])%?[A-Za-z_$][\w$]*", re.ASCII)
_REG = re.compile(r"\.reg\s+((?:\.v[0-9]\s+)?\.[a-z][a-z0-9]*)\s+(.*)", re.ASCII | re.DOTALL)
_RANGE = re.compile(r"([%\w$]+)\s*(<)?", re.ASCII)
_HEAD = re.compile(r"(?:^|\s)\.(?:entry|func)\b")
_ENTRY_HEAD = re.compile(r"(.*\.entry\s+[\w$%]+)\s*(?:\((.*)\))?([^()]*)$", re.DOTALL | re.ASCII)
_TAIL_DIRECTIVE = re.compile(r"\.[a-z]\w*[^.]*", re.ASCII)
_DIGITS = "0123456789"
_PLAIN_DIRECTIVES = (".pragma", ".branchtargets", ".calltargets", ".callprototype")
# Instructions whose operands may be labels.
_NAMES_LABELS = frozenset({"bra", "brx", "call"})
_SPECIAL = re.compile(
    r"%(?:n?tid|laneid|n?warpid|n?ctaid|n?smid|gridid|is_explicit_cluster|n?clusterid|cluster_\w+|lanemask_\w+|clock\w*"
    r"|pm\d+\w*|envreg\d+|globaltimer\w*|reserved_smem_\w+|\w+_smem_size|current_graph_exec)$",
    re.ASCII,
)
# Deeper scopes are read as one: real ones are three deep, and every name is looked up scope by scope.
_MAX_SCOPES = 32


def read_program(ptx: str) -> Program:
    """The text in its plain form; text that is no PTX gives parts that render to next to nothing. Linear."""
    reader = _Reader()
    line_no = 1
    clean = "\n".join(line.partition("//")[0] for line in without_block_comments(ptx).split("\n"))
    for token in _TOKEN.findall(clean):
        reader.take(token, line_no)
        if token == "\n":
            line_no += 1
    return reader.finish()


class _Reader:
    """Takes tokens one by one; in a function's body when `scopes` is not empty."""

    def __init__(self) -> None:
        self.parts: list[str | Function] = []
        self.problems: list[tuple[int, str]] = []
        self.scopes: list[_Scope] = []
        self._clear()

    def _clear(self) -> None:
        self.buffer: list[str] = []
        self.begun = ""  # the statement's first characters
        self.braces = self.parens = 0
        self.line = 0

    def take(self, token: str, line_no: int) -> None:
        if not self.begun:
            if token == "{" and self.scopes:
                self._open(line_no)
                return
            if token == "}" and self.scopes:
                self._close_scope()
                return
            if token in ";\n{}()" or not token.strip():
                return
            self.line = line_no
            at = 0
            while self.scopes and (found := _LABEL.match(token, at)):
                self._label(found[1], line_no)
                at = found.end()
            token = token[at:].lstrip()
            if not token:
                return
            self.begun = token[:16]
        if token == "\n":
            if _LINE_DIRECTIVE.match(self.begun):
                self._statement()
            else:
                self.buffer.append(" ")
        elif token == ";" and not self.braces:
            self._statement()
        elif token == "{":
            head = "" if self.scopes or self.braces else " ".join(self.buffer[:64])
            if head and _HEAD.search(head):
                self._function()
            else:
                self.braces += 1
                self.buffer.append(token)
        elif token == "}":
            self._brace(token)
        else:
            self.buffer.append(token)

    def _brace(self, token: str) -> None:
        if self.braces:
            self.braces -= 1
            self.buffer.append(token)
            if not self.braces and self.begun.startswith(".section"):
                self._statement()
        elif self.scopes:  # a statement without its semicolon: the scope ends all the same
            self._statement()
            self._close_scope()

    def _statement(self) -> None:
        text, line_no = " ".join("".join(self.buffer).split()), self.line
        self._clear()
        if _DEBUG.match(text):
            return
        if not self.scopes:
            self.parts.append(text if _LINE_DIRECTIVE.match(text) else text + ";")
        elif text.startswith(".reg"):
            self._declare(text)
        else:
            self._unit(text, line_no)

    def _function(self) -> None:
        text = " ".join("".join(self.buffer).split())
        self._clear()
        found = _ENTRY_HEAD.match(text)
        if found:
            params = tuple(p.strip() for p in (found[2] or "").split(",") if p.strip())
            tail = tuple(t.strip() for t in _TAIL_DIRECTIVE.findall(found[3]))
            self.head = (found[1].strip(), params, tail)
        else:
            self.head = (text, (), ())
        self.units: list[Unit] = []
        self.types: list[str] = []
        self.labels = 0
        self.scopes = [_Scope()]
        self.depth = 0

    def _open(self, line_no: int) -> None:
        if len(self.scopes) < _MAX_SCOPES:
            self.scopes.append(_Scope(begin=len(self.units), line=line_no))
        else:
            self.depth += 1

    def _close_scope(self) -> None:
        if self.depth:
            self.depth -= 1
        elif len(self.scopes) > 1:
            scope = self.scopes.pop()
            if scope.keeps_braces:
                self._merge(scope)
        else:
            self._end_function()

    def _merge(self, scope: _Scope) -> None:
        """Make one unit of a scope that declares more than registers (the parameters of a call)."""
        inside = self.units[scope.begin :]
        if not inside:
            return
        pieces: list[str | int | Label] = ["{"]
        for unit in inside:
            pieces += ["\n\t", *unit.pieces]
        defs = tuple(dict.fromkeys(r for u in inside for r in u.defs))
        uses = tuple(dict.fromkeys(r for u in inside for r in u.uses))
        merged = Unit(inside[0].uid, (*pieces, "\n\t}"), "call", defs, uses, source_line=scope.line)
        self.units[scope.begin :] = [merged]

    def _end_function(self) -> None:
        units = tuple(self._resolve(unit) for unit in self.units)
        self.parts.append(Function(*self.head, units, tuple(self.types)))
        self.scopes = []

    def finish(self) -> Program:
        if self.scopes:
            if self.begun:
                self._statement()
            while len(self.scopes) > 1 or self.depth:
                self._close_scope()
            self._end_function()
        return Program(tuple(self.parts), tuple(self.problems))

    # --- names

    def _declare(self, text: str) -> None:
        found = _REG.match(text)
        if not found:
            return
        kind = found[1].lstrip(".")
        for word in found[2].split(","):
            if name := _RANGE.match(word.strip()):
                self.scopes[-1].declared[name[1]] = (kind, name[2] is not None)

    def _register(self, name: str) -> int | None:
        prefix = name.rstrip(_DIGITS)
        for scope in reversed(self.scopes):
            if (number := scope.registers.get(name)) is not None:
                return number
            entry = scope.declared.get(name)
            if entry is None and prefix != name:
                entry = scope.declared.get(prefix)
                entry = entry if entry and entry[1] else None
            if entry is not None:
                scope.registers[name] = number = len(self.types)
                self.types.append(entry[0])
                return number
        return None

    def _label(self, name: str, line_no: int) -> None:
        scope = self.scopes[-1]
        if name in scope.labels:
            self.problems.append((line_no, f"label {name} is there twice"))
            return
        scope.labels[name] = number = self.labels
        self.labels += 1
        self.units.append(Unit(len(self.units), (Label(number), ":"), label=number, source_line=line_no))

    def _unit(self, text: str, line_no: int) -> None:
        if text[0] == ".":
            if not text.startswith(_PLAIN_DIRECTIVES):
                self.scopes[-1].keeps_braces = len(self.scopes) > 1
            self._add(Unit(len(self.units), (*self._pieces(text, labels=True), ";"), source_line=line_no))
            return
        at, guard = 0, None
        front: list[str | int] = []
        if found := _GUARD.match(text):
            guard, at = self._register(found[1]), found.end()
            front = [text[:at]] if guard is None else ["@!" if "!" in found[0] else "@", guard, " "]
            if guard is None:
                self._undeclared(found[1], line_no)
        opcode = _OPCODE.match(text, at)
        if not opcode:
            return
        rest = text[opcode.end() :]
        operands = list(split_operands(rest))
        written, reads_from = written_operands(opcode[0], operands)
        parts = [self._registers(operand, line_no) for operand in operands]
        defs = tuple(dict.fromkeys(parts[0] if written and parts else ()))
        uses = [r for part in parts[reads_from:] for r in part]
        uses += [] if guard is None else [guard]
        word = opcode[0].partition(".")[0]
        pieces = self._pieces(rest, labels=word in _NAMES_LABELS)
        self._add(
            Unit(
                len(self.units), (*front, opcode[0], *pieces, ";"), opcode[0], defs, tuple(dict.fromkeys(uses)), guard,
                source_line=line_no,
            )
        )  # fmt: skip

    def _add(self, unit: Unit) -> None:
        self.units.append(unit)

    def _registers(self, text: str, line_no: int) -> list[int]:
        numbers = []
        for name in _NAME.findall(text):
            if (number := self._register(name)) is not None:
                numbers.append(number)
            elif name[0] == "%":
                self._undeclared(name, line_no)
        return numbers

    def _undeclared(self, name: str, line_no: int) -> None:
        if not _SPECIAL.match(name):
            self.problems.append((line_no, f"register {name} is not declared"))

    def _pieces(self, text: str, *, labels: bool) -> Iterator[Any]:
        """Text and register numbers in turn; with `labels`, other names as a `_Name`, to be looked up at the end."""
        at = 0
        for found in _NAME.finditer(text):
            piece: int | _Name | None = self._register(found[0])
            if piece is None and labels:
                piece = _Name(found[0], tuple(self.scopes))
            if piece is not None:
                if found.start() > at:
                    yield text[at : found.start()]
                yield piece
                at = found.end()
        if at < len(text):
            yield text[at:]

    def _resolve(self, unit: Unit) -> Unit:
        """The unit with the names it left open as labels, or as the text they were."""
        if not any(isinstance(p, _Name) for p in unit.pieces):
            return unit
        pieces = []
        for piece in unit.pieces:
            if isinstance(piece, _Name):
                number = next((s.labels[piece.text] for s in reversed(piece.scopes) if piece.text in s.labels), None)
                if number is None and unit.word in ("bra", "brx"):
                    self.problems.append((unit.source_line, f"label {piece.text} is not there"))
                piece = piece.text if number is None else Label(number)
            pieces.append(piece)
        return replace(unit, pieces=tuple(pieces))


@dataclass(eq=False)
class _Scope:
    """An open scope: names declared in it, registers and labels given numbers, the unit it begins at."""

    begin: int = 0
    line: int = 0
    declared: dict[str, tuple[str, bool]] = field(default_factory=dict)
    registers: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    keeps_braces: bool = False


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that may be a label, with the scopes it is looked for in."""

    text: str
    scopes: tuple[_Scope, ...]

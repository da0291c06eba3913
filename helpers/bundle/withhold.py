"""withhold_ptx: a PTX that fails as before and says nothing of the program it came from."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from helpers.errors import UserError

_COMMENT = re.compile(r'//[^\n]*|/\*.*?(?:\*/|\Z)|"[^"\n]*"', re.DOTALL)
_SECTION = re.compile(r"^[ \t]*\.section\b[^\n{]*+(?:\n[ \t]*)?\{[^{}]*\}[ \t]*$", re.MULTILINE)
_LINE_INFO = re.compile(r"^[ \t]*(?:\.loc|\.file)\b[^\n]*(?:\n|\Z)", re.MULTILINE)
_NAME = r"[A-Za-z_$%][\w$]*"
_TOKEN = re.compile(rf"(?<![\w$.]){_NAME}", re.ASCII)
_BEFORE_A_DOT = re.compile(rf"(?<![\w$.]){_NAME}(?=\.)", re.ASCII)
# Of a statement from its last .reg on; whoever looks for it in a whole text reads on to the next semicolon from each.
_REGISTERS = re.compile(r"\.reg\s+(?:\.v[0-9]\s+)?\.[a-z][a-z0-9]*\s+(.+)", re.ASCII | re.DOTALL)
_ENTRY = re.compile(rf"\.entry\s+({_NAME})", re.ASCII)
_FUNCTION = re.compile(rf"\.func\s+(?:\.noreturn\s+)?(?:\([^()]{{0,4000}}\)\s*)?({_NAME})", re.ASCII)
_EXTERN_FUNCTION = re.compile(rf"\.extern\s+\.func\s+(?:\.noreturn\s+)?(?:\([^()]{{0,4000}}\)\s*)?({_NAME})", re.ASCII)
# `.param .u64 .ptr .global .align 1 name`, `.shared .align 16 .b8 name[]`, `.global .v2 .f32 a, b`: words that begin
# with a dot (and the number of .align), then names.
_VARIABLE = re.compile(
    rf"\.(?:param|shared|global|const|local)\b(?:\s+\.[a-z][\w:]*(?:\s+[0-9]+)?){{1,12}}\s+"
    rf"({_NAME}(?:\s*,\s*{_NAME})*)",
    re.ASCII,
)
_LABEL = re.compile(rf"(?:^|(?<=[;{{}}]))[ \t]*({_NAME})[ \t]*:(?!:)", re.ASCII | re.MULTILINE)
_TEXT_ARRAY = re.compile(r"(\.b8[ \t]+[\w$%]{1,400}[ \t]*\[[^\]\n]{0,40}\][ \t]*=[ \t]*\{)([0-9, \t\n]*)(\})", re.ASCII)
_TELLING = ("kernel_", "function_", "name_")
_LETTER = 120  # what every character of an embedded text becomes


@dataclass(frozen=True)
class Withheld:
    """A PTX with its names gone, and the names of its kernels, functions, parameters and variables as they were."""

    ptx: str
    names: tuple[str, ...]


def withhold_ptx(ptx: str) -> Withheld:
    """`ptx` without comments, line info, debug sections and texts, its registers, kernels, parameters, labels renamed.

    What it computes stays, instruction by instruction. Names of external functions (`vprintf`) stay as well: they are
    libraries'. Whether ptxas still fails is for the caller to try. Raises UserError for text without a kernel.
    """
    text = _COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else " ", ptx)
    text = _LINE_INFO.sub("", _SECTION.sub("", text))
    text = _TEXT_ARRAY.sub(_blank, text)
    renamed = _declared(text)
    if not renamed:
        raise UserError("this text declares no kernel, register or label: it is no PTX whose names could be withheld")
    opcodes = {name for name in set(_BEFORE_A_DOT.findall(text)) & renamed.keys() if name[0].islower()}

    def rename(found: re.Match) -> str:
        name = found[0]
        if name in opcodes and text[found.end() : found.end() + 1] == ".":
            return name  # an inline-assembly register called like an instruction
        if (new := renamed.get(name)) is not None:
            return new
        # `%r12` of `.reg .b32 %r<3718>`
        stem = name.rstrip("0123456789")
        new = renamed.get(stem + "<>") if stem != name else None
        return name if new is None else new + name[len(stem) :]

    strings = re.split(r'("[^"\n]*")', text)
    # Quoted text that is left is a .pragma: its words are ptxas's. Positions must stay those of `text`.
    spans, at, out = [], 0, []
    for part in strings:
        spans.append((at, at + len(part), part.startswith('"')))
        at += len(part)
    for begin, end, quoted in spans:
        if quoted:
            out.append(text[begin:end])
            continue
        last = begin
        for found in _TOKEN.finditer(text, begin, end):
            out += [text[last : found.start()], rename(found)]
            last = found.end()
        out.append(text[last:end])
    result = "\n".join(line.rstrip(" \t") for line in "".join(out).split("\n"))
    result = re.sub(r"\n{2,}", "\n", result).strip("\n") + "\n"
    told = {name for name, new in renamed.items() if new.startswith(_TELLING)} - set(renamed.values())
    return Withheld(result, tuple(sorted(told)))


def _declared(text: str) -> dict[str, str]:
    """Declared name -> new name; `%r<>` stands for the family `%r0`, `%r1`, …"""
    external = {m[1] for m in _EXTERN_FUNCTION.finditer(text)}
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()

    def add(name: str, kind: str) -> None:
        if name not in external and name not in names:
            names[name] = f"{kind}{counts[kind]}"
            counts[kind] += 1

    for m in _ENTRY.finditer(text):
        add(m[1], "kernel_")
    for m in _FUNCTION.finditer(text):
        add(m[1], "function_")
    for m in _VARIABLE.finditer(text):
        for name in re.findall(_NAME, m[1], re.ASCII):
            add(name, "name_")
    labels = dict.fromkeys(m[1] for m in _LABEL.finditer(text))
    for number, label in enumerate(name for name in labels if name not in names):
        names[label] = f"$label_{number}"
    count = 0
    *statements, _rest = text.split(";")
    for statement in statements:
        at = statement.rfind(".reg")
        declared = _REGISTERS.match(statement, at) if at >= 0 else None
        if declared is None:
            continue
        for name in re.findall(rf"({_NAME})\s*(<)?", declared[1], re.ASCII):
            key = name[0] + ("<>" if name[1] else "")
            if key not in names:
                # A family's new name must not run into its numbers.
                names[key] = f"%v{count}_"
                count += 1
            if name[1]:
                names.setdefault(name[0], names[key])  # how the declaration spells it
    return names


def _blank(found: re.Match) -> str:
    """An embedded text (an assertion's message, a file name) with every character the same; other data as it is."""
    values = [int(n) for n in found[2].replace(",", " ").split() if len(n) <= 3]
    printable = [v for v in values if v]
    if not printable or not all(32 <= v < 127 or v in (9, 10, 13) for v in printable):
        return found[0]
    return found[1] + ", ".join(str(_LETTER if v else 0) for v in values) + found[3]

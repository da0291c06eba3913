"""A PTX as units that can be removed or changed, and the text made of them.

Registers and labels are numbers here, so that one can stand for another; names are given when the text is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Function", "Label", "Program", "Unit", "render"]

_PREFIXES = {"pred": "p", "b16": "rs", "b32": "r", "b64": "rd", "f32": "f", "f64": "fd", "b128": "rq"}


@dataclass(frozen=True, slots=True)
class Label:
    """A label, by number, as a piece of a unit's text."""

    number: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What is removed or kept as one: an instruction, a label, a directive, or a scope with declarations of its own.

    `pieces` are text, register numbers and labels in turn; `defs` and `uses` the registers written and read (the
    guard among those read). `uid` stays when registers are replaced. `label` is set on the unit that is that label.
    """

    uid: int
    pieces: tuple[str | int | Label, ...]
    opcode: str = ""
    defs: tuple[int, ...] = ()
    uses: tuple[int, ...] = ()
    guard: int | None = None
    label: int | None = None
    source_line: int = 0

    @property
    def targets(self) -> tuple[int, ...]:
        """The labels it names."""
        return tuple([p.number for p in self.pieces if isinstance(p, Label)])

    @property
    def word(self) -> str:
        """The first word of the opcode; empty for what is no instruction."""
        return self.opcode.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Function:
    """A function with a body: its head in parts, its units, the types of its registers (`b32`) by number."""

    head: str
    params: tuple[str, ...]
    tail: tuple[str, ...]
    units: tuple[Unit, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole PTX: statements of the module as text and functions, in order; what was read but `undeclared`.

    `undeclared` are (line of the text, problem) found while reading: names that look like registers or labels and are
    declared nowhere.
    """

    parts: tuple[str | Function, ...]
    undeclared: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions with a body."""
        return tuple(p for p in self.parts if isinstance(p, Function))


# --- rendering --------------------------------------------------------------------------------------------


def render(program: Program) -> str:
    """The program as PTX, registers and labels named in the order they appear; one statement a line."""
    out: list[str] = []
    labels = 0
    for part in program.parts:
        if isinstance(part, str):
            out.append(part)
        else:
            labels = _render_function(part, out, labels)
    return "\n".join(out) + "\n"


def _render_function(function: Function, out: list[str], labels: int) -> int:
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    label_names: dict[int, str] = {}
    body = []
    for unit in function.units:
        words = ["\t"] if unit.label is None else []
        for piece in unit.pieces:
            if isinstance(piece, str):
                words.append(piece)
            elif isinstance(piece, int):
                if (name := names.get(piece)) is None:
                    kind = function.types[piece]
                    names[piece] = name = f"%{_prefix(kind)}{counts.get(kind, 0)}"
                    counts[kind] = counts.get(kind, 0) + 1
                words.append(name)
            else:
                if (name := label_names.get(piece.number)) is None:
                    label_names[piece.number] = name = f"$L{labels + len(label_names)}"
                words.append(name)
        body.append("".join(words))
    if function.params:
        out.append(function.head + "(")
        out += [f"\t{param}," for param in function.params[:-1]]
        out.append(f"\t{function.params[-1]}")
        out.append(")")
    else:
        out.append(function.head + ("()" if ".entry" in function.head else ""))
    out += function.tail
    out.append("{")
    out += [f"\t.reg .{kind} %{_prefix(kind)}<{count}>;" for kind, count in counts.items()]
    out += body
    out.append("}")
    return labels + len(label_names)


def _prefix(kind: str) -> str:
    # Names of one type never run into those of another: only these prefixes end in no digit of a type's name.
    return _PREFIXES.get(kind) or "q_" + "".join(c for c in kind if c.isalnum()) + "_"

"""What a kernel's constexprs are to it: pieces that the work is cut into, extents of the problem, or neither.

Told by how the kernel uses them, never by their names. A *tile* cuts a larger extent into pieces: `program_id * X`
beside an `arange(0, X)`, the step of a loop, a block at an offset of `i * X`. A *problem* constexpr is an extent of the
data: a row stride, the end of a loop, the bound of a mask, or an `arange(0, X)` that no program id or loop moves on.
Another value of a tile is another schedule of the same sum; another value of a problem extent is another sum.
The source is parsed, never run.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

from helpers.compiler.source import read_source
from helpers.errors import MachineError, UserError

TILE, PROBLEM, UNKNOWN = "tile", "problem", "unknown"
MAX_CALL_DEPTH = 4
_RANGES = frozenset({"range", "static_range"})
_BLOCKS = frozenset({"make_block_ptr", "make_tensor_descriptor", "_experimental_make_tensor_descriptor"})
_BLOCK_ACCESS = frozenset({"load", "store", "atomic_add", "load_tensor_descriptor", "store_tensor_descriptor"})
_ORDERING = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
# Calls whose result is data and no longer an offset: what follows them says nothing of strides and pieces.
_DATA = frozenset(
    "load dot dot_scaled zeros zeros_like full sum max min argmax argmin exp exp2 log log2 sqrt rsqrt softmax sigmoid "
    "atomic_add atomic_max atomic_cas gather inline_asm_elementwise".split()
)


@dataclass(frozen=True)
class Role:
    """What one constexpr is, and why: `why` names the use that decides, with its line in the kernel's file."""

    name: str
    role: str
    why: str


@dataclass(frozen=True)
class _Value:
    """What is known of an expression: it moves from program to program or turn to turn; it is a vector over `spans`."""

    moves: bool = False
    vector: bool = False
    spans: frozenset[str] = frozenset()
    factors: frozenset[str] = frozenset()  # constexprs that a moving scalar was multiplied with
    counts: frozenset[str] = frozenset()  # constexprs of whose pieces it is the number

    def __or__(self, other: _Value) -> _Value:
        return _Value(
            self.moves or other.moves,
            self.vector or other.vector,
            self.spans | other.spans,
            self.factors | other.factors,
            self.counts | other.counts,
        )


@dataclass
class _Uses:
    """The uses found so far: constexpr -> the first use of each kind as (words, line)."""

    tile: dict[str, tuple[str, int]] = field(default_factory=dict)
    problem: dict[str, tuple[str, int]] = field(default_factory=dict)
    spanned: dict[str, tuple[str, int]] = field(default_factory=dict)


def constexpr_roles(source: str, kernel: str) -> dict[str, Role]:
    """The role of each constexpr parameter of the function `kernel` in `source`; {} for a source that cannot be read.

    Functions of the same file that the kernel calls are followed, their parameters being the values handed in.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    body = functions.get(kernel)
    if body is None:
        return {}
    names = [
        a.arg
        for a in (*body.args.posonlyargs, *body.args.args, *body.args.kwonlyargs)
        if a.annotation is not None and "constexpr" in ast.unparse(a.annotation)
    ]
    uses = _Uses()
    try:
        _Reader(functions, {name: frozenset({name}) for name in names}, uses).read(body)
    except RecursionError:
        return {}
    return {name: _role(name, uses) for name in names}


def roles_of(path: str | Path, kernel: str) -> dict[str, Role]:
    """`constexpr_roles` of a file; {} where it cannot be read."""
    try:
        return constexpr_roles(read_source(Path(path)).decode("utf-8"), kernel)
    except MachineError:
        raise
    except (UserError, UnicodeDecodeError):
        return {}


def _role(name: str, uses: _Uses) -> Role:
    """A stride or a loop's end says more than a step: a chunk whose size is also a row's length is the caller's."""
    for role, table in ((PROBLEM, uses.problem), (TILE, uses.tile), (PROBLEM, uses.spanned)):
        if name in table:
            words, line = table[name]
            return Role(name, role, f"{words} (line {line})")
    return Role(name, UNKNOWN, "no use of it tells whether it cuts the work or is an extent of the data")


class _Reader:
    """Reads one function's statements in order; `aliases` are its local names that stand for constexprs."""

    def __init__(
        self, functions: dict[str, ast.FunctionDef], aliases: dict[str, frozenset[str]], uses: _Uses, depth: int = 0
    ):
        self.functions, self.aliases, self.uses, self.depth = functions, dict(aliases), uses, depth
        self.known: dict[str, _Value] = {}

    def read(self, function: ast.FunctionDef) -> None:
        # Twice: a value of a loop's end is used at its beginning in the next turn.
        for _ in range(2):
            for statement in function.body:
                self._statement(statement)

    # --- statements ---

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            self._assign(node)
        elif isinstance(node, ast.For):
            self._loop(node)
        elif isinstance(node, (ast.If, ast.While)):
            self._value(node.test)
            for inner in (*node.body, *node.orelse):
                self._statement(inner)
        elif isinstance(node, ast.With):
            for inner in node.body:
                self._statement(inner)
        elif isinstance(node, (ast.Expr, ast.Return)) and node.value is not None:
            self._value(node.value)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        if node.value is None:
            return
        value = self._value(node.value)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and not isinstance(node, ast.AugAssign):
                self.aliases[target.id] = self._constexprs(node.value)
            for name in (n.id for n in ast.walk(target) if isinstance(n, ast.Name)):
                old = self.known.get(name, _Value()) if isinstance(node, ast.AugAssign) else _Value()
                self.known[name] = old | value

    def _loop(self, node: ast.For) -> None:
        moving = _Value(moves=True)
        if isinstance(node.iter, ast.Call) and _called(node.iter) in _RANGES:
            arguments = [a for a in node.iter.args if not isinstance(a, ast.Starred)]
            step = arguments[2] if len(arguments) > 2 else None
            end = arguments[1] if len(arguments) > 1 else arguments[0] if arguments else None
            self._note(self.uses.tile, self._constexprs(step), "the step of a loop", node)
            moving = _Value(moves=True, factors=self._constexprs(step))
            self._note(self.uses.problem, self._constexprs(end), "the end of a loop", node)
            for argument in arguments:
                self._value(argument)
        else:
            self._value(node.iter)
        for name in (n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)):
            self.known[name] = moving
        for inner in (*node.body, *node.orelse):
            self._statement(inner)

    # --- expressions ---

    def _value(self, node: ast.expr) -> _Value:
        if isinstance(node, ast.Name):
            return self.known.get(node.id, _Value())
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        value = _Value()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                value |= self._value(child)
        return value

    def _operation(self, node: ast.BinOp) -> _Value:
        left, right = self._value(node.left), self._value(node.right)
        both = left | right
        if isinstance(node.op, ast.Mult):
            for value, other in ((left, node.right), (right, node.left)):
                names = self._constexprs(other)
                if value.moves and (pieces := self._value(other).counts):
                    # i * ceil(n / X): what the caller laid out has room for so many pieces.
                    self._note(self.uses.problem, pieces, "the number of its pieces is part of an address", node)
                if value.vector:
                    self._note(self.uses.problem, names, "a stride: offsets are multiplied by it", node)
                elif value.moves:
                    both |= _Value(moves=True, factors=names)
        elif isinstance(node.op, (ast.Add, ast.Sub)):
            # i * X + arange(0, X): the piece number i of X elements.
            pieces = (left.factors & right.spans) | (right.factors & left.spans)
            self._note(self.uses.tile, pieces, "pieces of it are moved on by a program id or a loop", node)
        elif isinstance(node.op, (ast.Mod, ast.FloorDiv)):
            # Wrapping or splitting an index leaves a scalar that moves, of no known pieces.
            pieces = self._constexprs(node.right) if isinstance(node.op, ast.FloorDiv) else frozenset()
            both = _Value(both.moves, both.vector, both.spans, counts=pieces)
        return both

    def _compare(self, node: ast.Compare) -> _Value:
        sides = [node.left, *node.comparators]
        values = [self._value(side) for side in sides]
        for first, (second, operator) in enumerate(zip(sides[1:], node.ops, strict=True)):
            if not isinstance(operator, _ORDERING):
                continue
            for value, other in ((values[first], second), (values[first + 1], sides[first])):
                if value.vector:
                    self._note(self.uses.problem, self._constexprs(other), "the bound of a mask", node)
        result = _Value()
        for value in values:
            result |= value
        return result

    def _call(self, node: ast.Call) -> _Value:
        called = _called(node)
        arguments = [*node.args, *(k.value for k in node.keywords)]
        if called == "program_id":
            return _Value(moves=True)
        if called == "arange" and len(node.args) == 2:
            names = self._constexprs(node.args[1])
            self._note(self.uses.spanned, names, "all of it is covered by one range that nothing moves on", node)
            return _Value(vector=True, spans=names)
        if called == "cdiv" and len(node.args) == 2:
            return _Value(counts=self._constexprs(node.args[1]))
        if called in _BLOCKS:
            self._block(node)
        elif called in _BLOCK_ACCESS and isinstance(node.func, ast.Attribute):
            self._offsets([a for a in arguments if isinstance(a, (ast.List, ast.Tuple))], node)
        elif called == "advance":
            self._offsets([a for a in arguments if isinstance(a, (ast.List, ast.Tuple))], node, alone=True)
        value = _Value()
        for argument in arguments:
            value |= self._value(argument)
        if isinstance(node.func, ast.Attribute):
            value |= self._value(node.func.value)
        elif called in self.functions and self.depth < MAX_CALL_DEPTH:
            self._follow(self.functions[called], node)
        return _Value() if called in _DATA else value

    def _block(self, node: ast.Call) -> None:
        """make_block_ptr(base, shape, strides, offsets, block_shape, order) and descriptors, by position or name."""
        named = {k.arg: k.value for k in node.keywords}
        places = dict(zip(("base", "shape", "strides", "offsets", "block_shape"), node.args, strict=False))
        if _called(node) != "make_block_ptr":
            places = dict(zip(("base", "shape", "strides", "block_shape"), node.args, strict=False))
        parts = {**places, **{k: v for k, v in named.items() if k}}
        for place in ("shape", "strides"):
            self._note(self.uses.problem, self._constexprs_in(parts.get(place)), f"part of a tensor's {place}", node)
        block = parts.get("block_shape")
        moved = self._value(parts["offsets"]).factors if "offsets" in parts else frozenset()
        names = self._constexprs_in(block)
        self._note(self.uses.tile, names & moved, "blocks of it are moved on by a program id or a loop", node)
        self._note(self.uses.spanned, names - moved, "the extent of a block", node)

    def _offsets(self, lists: list[ast.expr], node: ast.Call, *, alone: bool = False) -> None:
        """Offsets of a block access: `i * X`, or in `advance` X itself, moves on by pieces of X."""
        for part in lists:
            names = self._value(part).factors
            for element in getattr(part, "elts", ()) if alone else ():
                names |= self._constexprs(element)
            self._note(self.uses.tile, names, "blocks of it are moved on by a program id or a loop", node)

    def _follow(self, function: ast.FunctionDef, node: ast.Call) -> None:
        parameters = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        handed = {**dict(zip(parameters, node.args, strict=False)), **{k.arg: k.value for k in node.keywords if k.arg}}
        aliases = {name: self._constexprs(given) for name, given in handed.items()}
        reader = _Reader(self.functions, aliases, self.uses, self.depth + 1)
        reader.known = {name: self._value(given) for name, given in handed.items()}
        reader.read(function)

    # --- names ---

    def _constexprs(self, node: ast.expr | None) -> frozenset[str]:
        """The constexprs that an expression is made of, if it is made of constexprs and numbers alone; else none."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, frozenset())
        if isinstance(node, ast.BinOp):
            sides = (node.left, node.right)
            if all(isinstance(side, ast.Constant) or self._constexprs(side) for side in sides):
                return self._constexprs(node.left) | self._constexprs(node.right)
        return frozenset()

    def _constexprs_in(self, node: ast.expr | None) -> frozenset[str]:
        """Every constexpr that occurs in an expression."""
        found: frozenset[str] = frozenset()
        for inner in ast.walk(node) if node is not None else ():
            if isinstance(inner, ast.Name):
                found |= self.aliases.get(inner.id, frozenset())
        return found

    @staticmethod
    def _note(table: dict[str, tuple[str, int]], names: frozenset[str], words: str, node: ast.AST) -> None:
        for name in names:
            table.setdefault(name, (words, getattr(node, "lineno", 0)))


def _called(node: ast.Call) -> str:
    """The last word of what is called: `arange` of `tl.arange`."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")

"""The control-flow graph of a PTX function: instructions with what they define and use, basic blocks, edges.

Built on the scanner of ptx.py. Scopes (the braces of inline assembly) are told apart, because their registers and
labels repeat: every mbarrier wait that Triton writes has its own `waitLoop` and its own predicate `complete`. No text
raises; what is not PTX gives no functions.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from helpers.inspection.ptx.scan import _ENTRY, _RANGE, _REG, _files, _scan, _source, without_block_comments

__all__ = ["Block", "Function", "Instruction", "read_functions", "split_operands", "written_operands"]

_LABEL = re.compile(r"[A-Za-z_$%][\w$]*(?=[ \t]*:(?!:))", re.ASCII)
_GUARD = re.compile(r"@[ \t]*(!?)[ \t]*([%\w$]+)", re.ASCII)
_OPCODE_ALONE = re.compile(r"[a-z][\w:]*(?:\.[\w:]+)+", re.ASCII)
_NAME = re.compile(r"%?[A-Za-z_$][\w$]*", re.ASCII)
_FUNC = re.compile(r"\.func\b[^(;]*(?:\([^()]*\))?\s*([\w$%]+)", re.ASCII)
_DIGITS = "0123456789"
# First words of opcodes whose first operand is read, not written.
_NO_RESULT = frozenset(
    "st red bar barrier membar fence cp wgmma tcgen05 prefetch prefetchu ret exit stmatrix griddepcontrol setmaxnreg "
    "nanosleep trap brkpt discard applypriority bra brx call multimem stacksave pmevent suld sust".split()
)
# Second words with a result in spite of the first: mbarrier.try_wait answers, mbarrier.init does not.
_MBARRIER_NO_RESULT = ("mbarrier.init", "mbarrier.inval", "mbarrier.expect_tx", "mbarrier.complete_tx")
_WITH_RESULT = ("tcgen05.ld", "barrier.cta.red", "bar.red", "bar.cta.red", "barrier.red", "multimem.ld_reduce")
_ENDS = frozenset({"ret", "exit", "trap", "bra", "brx"})
_BITS = {"pred": 1, "b8": 8, "u8": 8, "s8": 8, "b64": 64, "u64": 64, "s64": 64, "f64": 64, "b128": 128}
_MAX_SCOPES = 100


@dataclass(slots=True)
class Instruction:
    """One instruction: where it stands, what it writes and reads (register numbers), and its first operand's parts.

    `operands` are the operands as written, split at top-level commas; `guard` is the predicate register that decides
    whether it runs, None when it always does. `line_no` counts lines of the PTX, `source` is (file, line) or None.
    """

    line_no: int
    opcode: str
    operands: tuple[str, ...]
    defs: tuple[int, ...]
    uses: tuple[int, ...]
    guard: int | None
    source: tuple[str, int] | None
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(slots=True)
class Block:
    """Instructions `first` to `last` (exclusive) of a function, run in order, and the blocks that may follow."""

    first: int
    last: int
    successors: list[int] = field(default_factory=list)
    label: str | None = None


@dataclass(slots=True)
class Function:
    """A function of the PTX: name, instructions, blocks; `bits` and `names` of its registers by number."""

    name: str
    is_entry: bool
    instructions: list[Instruction]
    blocks: list[Block]
    bits: list[int]
    names: list[str]


def read_functions(ptx: str) -> list[Function]:
    """The functions of the text that have a body, in order; never raises, on any text."""
    builder = _Builder(_files(ptx))
    for event in _scan(_marked(ptx)):
        builder.take(event.line_no, event.opcode, event.text)
    return builder.finish()


def _marked(ptx: str) -> str:
    """The text with labels, scopes and guards as directives of their own, which the scanner hands on in order."""
    lines = []
    continued = False  # the line goes on with operands: a brace there is no scope
    for line in without_block_comments(ptx).split("\n"):
        comment = line.find("//")
        if comment >= 0:
            line = line[:comment]
        bare = line.strip()
        if not bare:
            lines.append("")
            continue
        if not continued and (bare[0] in "{}@$_%" or ":" in bare or "@" in bare or "{" in bare):
            bare = ";".join(_marked_piece(piece) for piece in bare.split(";"))
        lines.append(bare)
        # NVVM (nvcc, CuTe DSL) writes an mma's opcode on a line of its own.
        continued = bare[-1] in ",(" or _OPCODE_ALONE.fullmatch(bare[bare.rfind(";") + 1 :].strip()) is not None
    return "\n".join(lines)


def _marked_piece(piece: str) -> str:
    out, at, size = [], 0, len(piece)
    while at < size:
        char = piece[at]
        if char in " \t":
            at += 1
        elif char == "{":
            out.append(".begin;")
            at += 1
        elif char == "}" and not piece[at + 1 : at + 2] == ",":
            out.append(".end;")
            at += 1
        elif m := _LABEL.match(piece, at):
            out.append(f".label {m[0]};")
            at = piece.index(":", m.end()) + 1
        elif m := _GUARD.match(piece, at):
            out.append(f".guard {m[1]}{m[2]};")
            at = m.end()
        else:
            break
    return "".join(out) + piece[at:]


class _Builder:
    """Takes the scanner's events one by one."""

    def __init__(self, files: dict[int, str]) -> None:
        self.files = files
        self.functions: list[Function] = []
        self.pending: tuple[str, bool] | None = None  # a function's head is read, its body has not begun
        self.source: tuple[str, int] | None = None
        self.module: dict[str, tuple[int, bool]] = {}
        self._reset()

    def _reset(self) -> None:
        self.instructions: list[Instruction] = []
        self.bits: list[int] = []
        self.names: list[str] = []
        # Of each open scope: declared names (prefix of a range, or a single name) and register numbers given out.
        self.scopes: list[tuple[dict[str, tuple[int, bool]], dict[str, int], dict[str, int]]] = []
        self.labels: list[tuple[str, int, tuple[int, ...]]] = []
        self.jumps: list[tuple[int, str, tuple[int, ...]]] = []
        self.scope_ids: tuple[int, ...] = ()
        self.scopes_seen = 0
        self.guard: str | None = None
        self.depth = 0

    def take(self, line_no: int, opcode: str, text: str) -> None:
        if opcode[0] != ".":
            if self.scopes:
                self._instruction(line_no, opcode, text)
        elif opcode == ".loc":
            self.source = _source(text, self.files) or self.source
        elif opcode == ".guard":
            self.guard = text[len(".guard") :].strip()
        elif opcode == ".label":
            if self.scopes:
                self.labels.append((text[len(".label") :].strip(), len(self.instructions), self.scope_ids))
        elif opcode == ".reg":
            self._declare(text)
        elif opcode == ".begin":
            self._begin()
        elif opcode == ".end":
            self._end()
        elif opcode in (".entry", ".visible", ".weak", ".func", ".extern") and not self.scopes:
            head = text[:4_000]
            if m := _ENTRY.search(head):
                self.pending = (m[1], True)
            elif m := _FUNC.search(head):
                self.pending = (m[1], False)

    def _begin(self) -> None:
        if not self.scopes:
            if self.pending is None:
                return
            self.scopes = [({}, {}, {})]
            self.scope_ids = (0,)
        elif len(self.scopes) < _MAX_SCOPES:
            self.scopes_seen += 1
            self.scopes.append(({}, {}, {}))
            self.scope_ids = (*self.scope_ids, self.scopes_seen)
        else:
            self.depth += 1

    def _end(self) -> None:
        if self.depth:
            self.depth -= 1
        elif len(self.scopes) > 1:
            self.scopes.pop()
            self.scope_ids = self.scope_ids[:-1]
        elif self.scopes:
            self._close()

    def _close(self) -> None:
        name, is_entry = self.pending or ("", False)
        blocks = _blocks(self.instructions, self.labels, self.jumps)
        if self.instructions:
            self.functions.append(Function(name, is_entry, self.instructions, blocks, self.bits, self.names))
        self.pending = None
        self._reset()

    def finish(self) -> list[Function]:
        if self.scopes:
            self._close()
        return self.functions

    def _declare(self, text: str) -> None:
        m = _REG.match(text)
        if not m or not self.scopes:
            return
        bits = _BITS.get(m[1], 16 if m[1].endswith("16") else 32)
        for word in m[2].split(","):
            if name := _NAME.search(word):
                self.scopes[-1][0][name[0]] = (bits, _RANGE.search(word) is not None)

    def _register(self, name: str) -> int | None:
        """The number of the register called `name` here; None for a special register, a label or a variable."""
        prefix = name.rstrip(_DIGITS)
        for declared, numbers, _ in reversed(self.scopes):
            number = numbers.get(name)
            if number is not None:
                return number
            entry = declared.get(name)
            if entry is None and prefix != name:
                entry = declared.get(prefix)
                entry = entry if entry and entry[1] else None
            if entry is not None:
                numbers[name] = number = len(self.bits)
                self.bits.append(entry[0])
                self.names.append(name)
                return number
        return None

    def _registers(self, text: str) -> tuple[int, ...]:
        found = (self._register(name) for name in _NAME.findall(text))
        return tuple(number for number in found if number is not None)

    def _instruction(self, line_no: int, opcode: str, text: str) -> None:
        operands = tuple(split_operands(text))
        guard_text, self.guard = self.guard, None
        guard = self._registers(guard_text)[:1] if guard_text else ()
        first = opcode.partition(".")[0]
        parts = [self._registers(op) for op in operands]
        writes, reads_from = written_operands(opcode, operands)
        defs = parts[0] if writes and parts else ()
        uses = [number for part in parts[reads_from:] for number in part]
        groups = tuple(part for op, part in zip(operands, parts, strict=True) if op.startswith("{") and len(part) > 1)
        self.instructions.append(
            Instruction(
                line_no, opcode, operands, defs, tuple(dict.fromkeys((*uses, *guard))), guard[0] if guard else None,
                self.source, groups,
            )
        )  # fmt: skip
        if first in ("bra", "brx") and operands:
            self.jumps.append((len(self.instructions) - 1, operands[0].split()[0], self.scope_ids))


def written_operands(opcode: str, operands: Sequence[str]) -> tuple[int, int]:
    """(how many operands at the front are written: 0 or 1; the first operand that is read)."""
    first = opcode.partition(".")[0]
    if opcode.startswith("wgmma.mma_async"):
        # The accumulator is read and written, unless the scale of what was in it (the operand after both matrices)
        # is zero.
        return 1, 1 if len(operands) > 3 and operands[3] == "0" else 0
    if first == "call" and operands and operands[0].startswith("("):
        return 1, 0
    if (first in _NO_RESULT and not opcode.startswith(_WITH_RESULT)) or opcode.startswith(_MBARRIER_NO_RESULT):
        return 0, 0
    if operands and operands[0].startswith("["):
        return 0, 0
    return 1, 1


def split_operands(text: str) -> Iterator[str]:
    """The operands of an instruction: split at commas outside of braces, brackets and parentheses."""
    if "{" not in text and "[" not in text and "(" not in text:
        for piece in text.split(","):
            if piece := piece.strip():
                yield piece
        return
    depth, begin = 0, 0
    for m in re.finditer(r"[{}\[\](),]", text):
        char = m[0]
        if char in "{[(":
            depth += 1
        elif char in "}])":
            depth -= 1
        elif depth <= 0:
            if piece := text[begin : m.start()].strip():
                yield piece
            begin = m.end()
    if piece := text[begin:].strip():
        yield piece


def _blocks(
    instructions: list[Instruction],
    labels: list[tuple[str, int, tuple[int, ...]]],
    jumps: list[tuple[int, str, tuple[int, ...]]],
) -> list[Block]:
    """Basic blocks and their edges. A label is looked for from the jump's own scope outwards."""
    where: dict[tuple[int, str], int] = {}
    for name, at, scopes in labels:
        where.setdefault((scopes[-1], name), at)
    targets: dict[int, int] = {}
    for at, name, scopes in jumps:
        for scope in reversed(scopes):
            if (target := where.get((scope, name))) is not None:
                targets[at] = target
                break
    total = len(instructions)
    # Debug labels are no jump's target: they must not cut a block in two.
    indirect = any(i.opcode.startswith("brx") for i in instructions)
    starts = {0, *targets.values(), *(at for _, at, _ in labels if indirect)}
    for at, instruction in enumerate(instructions):
        if instruction.opcode.partition(".")[0] in _ENDS:
            starts.add(at + 1)
    cuts = sorted(s for s in starts if s < total)
    number_of = {start: n for n, start in enumerate(cuts)}
    named = {at: name for name, at, _ in reversed(labels)}
    blocks = []
    for n, first in enumerate(cuts):
        last = cuts[n + 1] if n + 1 < len(cuts) else total
        block = Block(first, last, label=named.get(first))
        tail = instructions[last - 1]
        word = tail.opcode.partition(".")[0]
        if word == "brx":  # an indirect jump may go to any label
            block.successors = sorted({number_of[at] for _, at, _ in labels if at in number_of})
        elif (target := targets.get(last - 1)) is not None and target in number_of:
            block.successors.append(number_of[target])
        falls = tail.guard is not None or word not in _ENDS
        if falls and n + 1 < len(cuts) and n + 1 not in block.successors:
            block.successors.append(n + 1)
        blocks.append(block)
    return blocks

"""What Triton handed to ptxas: instructions, register declarations, wide operands, source lines of a PTX.

One scanner reads the text once, line by line, and knows just enough PTX for that: comments, directives,
labels, predicates, scopes, and statements that run over several lines. It is no assembler: text that is not
PTX gives empty answers, never an exception, and everything is linear in the length of the text (a line of
megabytes included).

Line numbers count from 1, by newline characters alone, as ptxas counts when it names a line of the PTX.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "INSTRUCTION_CLASSES",
    "MATRIX_PATHS",
    "TENSOR_CORE_PATHS",
    "PtxHeader",
    "SourceLine",
    "WideOperand",
    "count_instructions",
    "instructions_by_source_line",
    "is_trap_stub",
    "ptx_header",
    "register_declarations",
    "tensor_core_path",
    "wide_operands",
]

# A line of a kernel's source: the file's name and the number of the line in it.
SourceLine = tuple[str, int]

# Class name -> the beginnings of its opcodes (whole words, compared with "opcode."), and a part they must
# also have. No opcode is in two classes, so that the counts of a kernel add up.
_CLASSES: dict[str, tuple[tuple[str, ...], str]] = {
    "mma_sync": (("mma.sync.", "mma.sp."), ""),
    "wgmma": (("wgmma.mma_async.",), ""),
    "tcgen05_mma": (("tcgen05.mma.",), ""),
    "tcgen05_ld": (("tcgen05.ld.",), ""),
    "tcgen05_st": (("tcgen05.st.",), ""),
    "tcgen05_cp": (("tcgen05.cp.",), ""),
    "cp_async": (("cp.async.ca.", "cp.async.cg."), ""),
    "cp_async_bulk": (("cp.async.bulk.",), ""),
    "ld_shared": (("ld.",), ".shared"),
    "st_shared": (("st.",), ".shared"),
    "ld_global": (("ld.",), ".global"),
    "st_global": (("st.",), ".global"),
    "ldmatrix": (("ldmatrix.",), ""),
    "stmatrix": (("stmatrix.",), ""),
    "bar_sync": (("bar.sync.", "bar.cta.sync.", "barrier.sync.", "barrier.cta.sync."), ""),
    "shfl": (("shfl.",), ""),
    "ex2": (("ex2.",), ""),
    "branches": (("bra.", "brx."), ""),
}
# Fastest first: the tensor-core instructions of a kernel, and the class that counts them.
TENSOR_CORE_PATHS = {"tcgen05": "tcgen05_mma", "wgmma": "wgmma", "mma.sync": "mma_sync"}
# With those of AMD's chips, whose assembly has a count of the same kind.
MATRIX_PATHS = {**TENSOR_CORE_PATHS, "mfma": "mfma"}
# Bookkeeping around bulk copies, and fetches that go no further than the cache: nothing is copied to shared
# memory.
_NOT_A_COPY = ("cp.async.bulk.commit_group.", "cp.async.bulk.wait_group.", "cp.async.bulk.prefetch.")
# The longest real opcode has about 80 characters; only this much of one is looked at (and kept by the cache).
_MAX_OPCODE_CHARS = 160
# First words of opcodes after which the next instruction may not be reached ("trap" itself when predicated).
_LEADS_ELSEWHERE = frozenset({"bra", "brx", "call", "ret", "exit", "trap"})
# Families of opcodes whose first word says too little.
_FAMILIES = frozenset({"wgmma", "tcgen05", "cp"})

INSTRUCTION_CLASSES: tuple[str, ...] = tuple(_CLASSES)
"""The keys of `count_instructions`, without "total"."""

# Linear on any text: matched at one position, and none has two ways to read the same characters.
_SKIP = re.compile(r"[\s{})]*")
_LABEL = re.compile(r"[A-Za-z_$%][\w$]*[ \t]*:(?!:)", re.ASCII)
_INSTRUCTION = re.compile(r"(@[!%\w$]+[ \t]+)?([a-z][a-z0-9_]*(?:[.:][\w.:]*)?)(?=[\s\[{(%;,!\"-]|$)", re.ASCII)
_LOC = re.compile(r"\.loc\s+([0-9]{1,9})\s+([0-9]{1,9})")
_FILE = re.compile(r'^[ \t]*\.file[ \t]+([0-9]{1,9})[ \t]+"([^"\n]*)"(?:[ \t]+"([^"\n]*)")?', re.MULTILINE)
_REG = re.compile(r"\.reg\s+(?:\.v[0-9]\s+)?\.([a-z][a-z0-9]*)\b(.*)", re.ASCII | re.DOTALL)
_RANGE = re.compile(r"<\s*([0-9]{1,9})\s*>")
_ENTRY = re.compile(r"\.entry\s+([\w$%]+)", re.ASCII)
_NUMBERS = re.compile(r"[0-9]{1,9}")


class _Event(NamedTuple):
    """A statement: a directive (`opcode` starts with a dot, `text` is all of it) or an instruction."""

    line_no: int
    opcode: str
    text: str
    predicated: bool


@dataclass(frozen=True)
class PtxHeader:
    """What the PTX says of itself; None or empty where it does not say.

    `version` such as "8.7", `target` such as "sm_100a" (without options), the names of the entries in order;
    of the first entry the number of parameters, the register cap (`.maxnreg`), the threads per CTA (`.reqntid`,
    multiplied), the most there may be (`.maxntid`, as nvcc writes a launch bound) and the CTAs an SM shall hold.
    """

    version: str | None = None
    target: str | None = None
    entries: tuple[str, ...] = ()
    num_params: int = 0
    maxnreg: int | None = None
    reqntid: int | None = None
    maxntid: int | None = None
    minnctapersm: int | None = None

    @property
    def threads(self) -> int | None:
        """The threads per CTA that ptxas has to reckon with; None where nothing bounds them."""
        return self.reqntid or self.maxntid


@dataclass(frozen=True)
class WideOperand:
    """An instruction that reads or writes `registers` registers as one operand, all of them live at once.

    `different` counts the names among them: a store of 128 zeros may name one register 128 times.
    `line_no` is the line of the PTX; `source_file` and `source_line` the Python line it came from (`.loc`),
    None before the first.
    """

    line_no: int
    opcode: str
    registers: int
    different: int
    source_line: int | None
    source_file: str | None = None


def count_instructions(ptx: str) -> dict[str, int]:
    """How many instructions of each class the PTX has: every key of `INSTRUCTION_CLASSES`, and "total".

    Static counts over all functions of the text: a loop's body counts once, a predicated instruction counts.
    """
    counts = dict.fromkeys(INSTRUCTION_CLASSES, 0)
    total = 0
    for event in _scan(ptx):
        if event.opcode[0] == ".":
            continue
        total += 1
        name = _classify(event.opcode)
        if name in counts:
            counts[name] += 1
    return {**counts, "total": total}


def tensor_core_path(counts: Mapping[str, int]) -> str:
    """The fastest matrix instructions among counts by class: tcgen05, wgmma, mma.sync, mfma or none."""
    return next((path for path, key in MATRIX_PATHS.items() if counts.get(key)), "none")


def register_declarations(ptx: str) -> dict[str, int]:
    """Virtual registers declared, by type: {"b32": 3718, "pred": 995, …}.

    ``%r<3718>`` declares 3,718 names; what inline assembly declares in a scope of its own is added each time.
    Virtual registers are not demand: ptxas maps any number of them to at most 255, and only those live at
    once count.
    """
    declared: Counter[str] = Counter()
    for event in _scan(ptx):
        if event.opcode == ".reg" and (m := _REG.match(event.text)):
            for name in m[2].split(","):
                count = _RANGE.search(name)
                declared[m[1]] += int(count[1]) if count else 1
    return dict(declared)


def ptx_header(ptx: str) -> PtxHeader:
    """The `PtxHeader` of the text."""
    version = target = maxnreg = reqntid = maxntid = minnctapersm = None
    entries: list[str] = []
    num_params = 0
    in_signature = False  # of the first entry: its name is read, its body has not begun
    for event in _scan(ptx):
        directive, text = event.opcode, event.text
        if directive[0] != "." or directive == ".reg":
            in_signature = False
        elif directive == ".version":
            version = version or _first_word(text, after=".version")
        elif directive == ".target":
            target = target or _first_word(text, after=".target")
        elif name := _entry_of(event):
            in_signature = not entries
            entries.append(name)
        if in_signature and directive == ".maxnreg":
            maxnreg = _product(text)
        elif in_signature and directive == ".reqntid":
            reqntid = _product(text)
        elif in_signature and directive == ".maxntid":
            maxntid = _product(text)
        elif in_signature and directive == ".minnctapersm":
            minnctapersm = _product(text)
        elif in_signature:
            # Parameters may stand on the entry's own line: count the word, not the lines.
            num_params += text.count(".param")
    return PtxHeader(version, target, tuple(entries), num_params, maxnreg, reqntid, maxntid, minnctapersm)


def wide_operands(ptx: str, min_registers: int = 32) -> list[WideOperand]:
    """Instructions with a braced operand of at least `min_registers` registers, in the order of the text.

    These are the accumulators of wgmma and the ``tcgen05.ld``/``.st`` of up to x128: the registers of one
    operand have to be free, and for some instructions adjacent, at the same moment.
    """
    files = _files(ptx)
    found = []
    source: tuple[str, int] | None = None
    for event in _scan(ptx):
        if event.opcode == ".loc":
            source = _source(event.text, files) or source
        elif event.opcode[0] != "." and "{" in event.text:
            groups = [group.partition("}")[0].split(",") for group in event.text.split("{")[1:]]
            widest = max(groups, key=len)
            if len(widest) >= min_registers:
                file, line = source or (None, None)
                different = len({name.strip() for name in widest})
                found.append(WideOperand(event.line_no, event.opcode, len(widest), different, line, file))
    return found


def instructions_by_source_line(ptx: str) -> dict[tuple[str, int], Counter[str]]:
    """Instructions by the source line they came from: (file, line) -> counts by class.

    The file is what `.file` says ("" before the first `.loc`, with line 0); line 0 of a file is code the
    compiler made up. An inlined function's instructions count for the function's own line. Classes are those
    of `INSTRUCTION_CLASSES`, and for other instructions the first word of the opcode ("mov", "tcgen05.wait"),
    so that all counts together are the "total" of `count_instructions`.
    """
    files = _files(ptx)
    by_line: dict[tuple[str, int], Counter[str]] = {}
    source = ("", 0)
    for event in _scan(ptx):
        if event.opcode == ".loc":
            source = _source(event.text, files) or source
        elif event.opcode[0] != ".":
            by_line.setdefault(source, Counter())[_classify(event.opcode)] += 1
    return by_line


def is_trap_stub(ptx: str) -> bool:
    """True when a kernel of the text does nothing but trap: a launch is an error, whatever ptxas says.

    Triton writes a bare ``trap;`` for a kernel whose tiles need more than the 512 columns of tensor memory
    (seen on 3.4.0 to 3.9.0), and ptxas assembles that in 4 registers without a spill. The test is that
    control cannot get past an unconditional ``trap`` from the kernel's first instruction on, with no branch,
    call or return before it; a trap under a predicate, or behind a branch as in an assertion, is not meant.
    """
    undecided = False  # in a kernel, and nothing so far that leads elsewhere
    for event in _scan(ptx):
        if event.opcode[0] == ".":
            if _entry_of(event):
                undecided = True
            elif event.opcode in (".func", ".visible", ".weak", ".section"):
                undecided = False  # the kernel's text is over
        elif undecided:
            if event.opcode == "trap" and not event.predicated:
                return True
            if event.opcode.partition(".")[0] in _LEADS_ELSEWHERE:
                undecided = False
    return False


def _blank(text: str, start: int = 0) -> int:
    """Where the blanks, braces and brackets end that stand at `start`."""
    found = _SKIP.match(text, start)
    return found.end() if found else start


def _scan(ptx: str) -> Iterator[_Event]:
    """Directives and instructions of the text in order. Labels, braces and comments are dropped."""
    open_at = 0  # line of an instruction whose ";" has not come yet
    opcode, predicated = "", False
    parts: list[str] = []
    for line_no, line in enumerate(without_block_comments(ptx).split("\n"), start=1):
        comment = line.find("//")
        if comment >= 0:
            line = line[:comment]
        # A directive needs no ";" and a scope may end without one: neither can be the rest of an open
        # instruction.
        bare = line.strip()
        if not bare:
            continue
        if open_at and (bare[0] == "." or bare == "}"):
            yield _Event(open_at, opcode, " ".join(parts), predicated)
            open_at = 0
        pieces = bare.split(";")
        last = len(pieces) - 1
        for i, piece in enumerate(pieces):
            if open_at:
                if piece:
                    parts.append(piece)
                if i < last:
                    yield _Event(open_at, opcode, " ".join(parts), predicated)
                    open_at = 0
                continue
            # Scopes and labels may stand before the statement. One position moves on: a hostile line of a
            # million labels must not be copied a million times.
            at = _blank(piece)
            while label := _LABEL.match(piece, at):
                at = _blank(piece, label.end())
            piece = piece[at:]
            if not piece:
                continue
            if piece[0] == ".":
                word = piece.split(None, 1)[0]
                yield _Event(line_no, word, piece, False)
            elif m := _INSTRUCTION.match(piece):
                opcode, predicated, parts = m[2], m[1] is not None, [piece[m.end() :]]
                if i < last:
                    yield _Event(line_no, opcode, parts[0], predicated)
                else:
                    open_at = line_no


def without_block_comments(ptx: str) -> str:
    """The text without /* */, its newlines kept; an unclosed comment reaches to the end, as for ptxas."""
    if "/*" not in ptx:
        return ptx
    kept, at = [], 0
    while (start := ptx.find("/*", at)) >= 0:
        kept.append(ptx[at:start])
        end = ptx.find("*/", start + 2)
        end = len(ptx) if end < 0 else end + 2
        kept.append(" " + "\n" * ptx.count("\n", start, end))
        at = end
    kept.append(ptx[at:])
    return "".join(kept)


def _classify(opcode: str) -> str:
    """The class of an opcode; without one its first word, or first two in a family such as "tcgen05.wait"."""
    return _classify_bounded(opcode[:_MAX_OPCODE_CHARS])


@lru_cache(maxsize=4096)
def _classify_bounded(opcode: str) -> str:
    whole = opcode + "."
    if not whole.startswith(_NOT_A_COPY):
        for name, (beginnings, part) in _CLASSES.items():
            if whole.startswith(beginnings) and part in opcode:
                return name
    words = opcode.split(".")
    # The fences and waits of a family are named in full: a bare "wgmma" would count as the class of that
    # name.
    return ".".join(words[:2]) if words[0] in _FAMILIES else words[0]


def _entry_of(event: _Event) -> str | None:
    """The name when the directive begins an entry function: .entry, .visible .entry, .weak .entry."""
    if event.opcode in (".entry", ".visible", ".weak", ".extern") and (m := _ENTRY.search(event.text[:4_000])):
        return m[1]
    return None


def _files(ptx: str) -> dict[int, str]:
    """`.file` numbers and paths; LLVM writes them at the end of the text, behind every `.loc`."""
    return {int(m[1]): f"{m[2]}/{m[3]}" if m[3] else m[2] for m in _FILE.finditer(ptx)}


def _source(loc: str, files: dict[int, str]) -> tuple[str, int] | None:
    m = _LOC.match(loc)
    return (files.get(int(m[1]), f"file {m[1]}"), int(m[2])) if m else None


def _first_word(text: str, *, after: str) -> str | None:
    words = text[len(after) :].replace(",", " ").split(None, 1)
    return words[0] if words else None


def _product(text: str) -> int | None:
    """The numbers of ".reqntid 128, 2, 1" multiplied; at most three are read, as PTX has no more."""
    numbers = [int(n) for n in _NUMBERS.findall(text)[:3]]
    product = 1
    for number in numbers:
        product *= number
    return product if numbers else None

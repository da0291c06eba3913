"""What is changed in the text of a stage so that another release can read it; every change is named.

Pure functions over text. None of the changes alters what the kernel computes: each writes the same thing in words that
the reader knows, or in words that every release knows, or leaves out what only informs.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache

from helpers.compiler.wheel_facts import WheelFacts

LOCATIONS = "source locations left out"
_TENSOR_MEMORY = re.compile(r"^(#\w+) = (#ttng\.tensor_memory_encoding<[^>\n]*>)", re.MULTILINE)
_NOT_FINITE = re.compile(r"(?<![\w.%@\"])([+-]?)(inf|qnan|nan)(?![\w.\"(])")
_FLOAT_TYPE = re.compile(r"\b(half|bfloat|float|double)\b")
_BITS = {
    "half": {"inf": "0xH7C00", "-inf": "0xHFC00", "nan": "0xH7E00", "-nan": "0xHFE00"},
    "bfloat": {"inf": "0xR7F80", "-inf": "0xRFF80", "nan": "0xR7FC0", "-nan": "0xRFFC0"},
    # LLVM writes a float's bits as those of the double of the same value.
    "float": {"inf": "0x7FF0000000000000", "-inf": "0xFFF0000000000000",
              "nan": "0x7FF8000000000000", "-nan": "0xFFF8000000000000"},
}  # fmt: skip
_OWN_BITS = re.compile(r"(?<![\w.%@])f0x([0-9A-Fa-f]{16}|[0-9A-Fa-f]{8})\b")


def adjusted(text: str, stage: str, reader: WheelFacts) -> tuple[str, tuple[str, ...]]:
    """(the text of a stage, `ttgir` or `llir`, as this release can read it; what was changed in it, in words)."""
    return _adjusted(text, stage, reader)


# A crossing asks twice for each text: to tell which texts are the same, and to hand it on.
@lru_cache(maxsize=64)
def _adjusted(text: str, stage: str, reader: WheelFacts) -> tuple[str, tuple[str, ...]]:
    rules = _TTGIR if stage == "ttgir" else _LLIR
    said = []
    for rule in rules:
        text, words = rule(text, reader)
        if words:
            said.append(words)
    return text, tuple(said)


def without_locations(text: str) -> str:
    """An MLIR text without `loc(…)` and the lines that define locations: two releases differ there in nothing else."""
    out, at = [], 0
    for line in text.split("\n"):
        if line.startswith("#loc"):
            continue
        while (at := line.find(" loc(")) >= 0:
            end = _closing(line, at + 4)
            if end < 0:
                break
            line = line[:at] + line[end + 1 :]
        out.append(line)
    return "\n".join(out)


def _closing(line: str, at: int) -> int:
    """The place of the parenthesis that closes the one at `at`; -1 where none does. Strings are passed over."""
    depth, quoted, place = 0, False, at
    while place < len(line):
        char = line[place]
        if quoted and char == "\\":
            place += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted and char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return place
        place += 1
    return -1


def _no_locations(text: str, _reader: WheelFacts) -> tuple[str, str]:
    bare = without_locations(text)
    return bare, LOCATIONS if bare != text else ""


def _tensor_memory(text: str, reader: WheelFacts) -> tuple[str, str]:
    """Triton 3.6 writes `colStride` where older ones write `unpacked`: columns of 32 bits from value to value.

    A value of 32 bits fills its column: `unpacked = true`, `colStride = 1`. A narrower one is packed (`false`, 1) or
    has a column for itself (`true`, 32 / its width). One layout serves values of several widths, so it is written once
    for each of them.
    """
    old, new = ("unpacked", "colStride") if reader.knows("colStride") else ("colStride", "unpacked")
    layouts = {m.group(1): m.group(0) for m in _TENSOR_MEMORY.finditer(text) if f"{old} = " in m.group(0)}
    for alias, line in layouts.items():
        use = re.compile(rf"(x[a-z]+(\d+)\w*, ){re.escape(alias)}(?=[,>])")
        widths = sorted({int(m.group(2)) for m in use.finditer(text)}) or [32]
        written = [
            _in_other_words(line, width, to=new).replace(f"{alias} =", f"{alias}_{width} =", 1) for width in widths
        ]
        text = use.sub(rf"\g<1>{alias}_\g<2>", text)
        # What is no type of a value (there is none so far) keeps the old name.
        written.append(_in_other_words(line, 32, to=new))
        text = text.replace(line, "\n".join(written), 1)
    return text, f"tensor-memory layouts: `{old}` written as `{new}`" if layouts else ""


def _in_other_words(line: str, width: int, *, to: str) -> str:
    """A layout of tensor memory for values of this many bits, with `colStride` or `unpacked`."""
    if to == "colStride":
        stride = max(1, 32 // width)
        return line.replace("unpacked = true", f"colStride = {stride}").replace("unpacked = false", "colStride = 1")
    alone = {True: "unpacked = true", False: "unpacked = false"}
    return re.sub(r"colStride = (\d+)", lambda m: alone[width >= 32 or m.group(1) != "1"], line)


def _attributes(text: str, reader: WheelFacts) -> tuple[str, str]:
    word = "nocreateundeforpoison"
    if reader.knows(word) or word not in text:
        return text, ""
    return text.replace(f"{word} ", ""), f"attribute `{word}` left out"


def _not_finite(text: str, _reader: WheelFacts) -> tuple[str, str]:
    """LLVM 23 writes `-inf`, which LLVM 22 does not read; all read the bits."""

    def line_of(line: str) -> str:
        if ("inf" not in line and "nan" not in line) or line.startswith((";", "!", "source_filename", "target")):
            return line
        return _NOT_FINITE.sub(lambda m: _as_bits(m, line), line)

    if "inf" not in text and "nan" not in text:
        return text, ""
    changed = "\n".join(map(line_of, text.split("\n")))
    return changed, "infinities and NaNs written as bits" if changed != text else ""


def _as_bits(found: re.Match, line: str) -> str:
    kinds = _FLOAT_TYPE.findall(line[: found.start()])
    if not kinds:
        return found.group(0)
    sign, word = found.group(1).replace("+", ""), found.group(2).replace("qnan", "nan")
    return _BITS["float" if kinds[-1] == "double" else kinds[-1]][sign + word]


def _float_bits(text: str, _reader: WheelFacts) -> tuple[str, str]:
    """LLVM 24 writes a float's own bits as `f0x…`; all read those of the double of the same value, as `0x…`."""

    def bits(found: re.Match) -> str:
        digits = found.group(1)
        value = struct.unpack(">f" if len(digits) == 8 else ">d", bytes.fromhex(digits))[0]
        return f"0x{struct.pack('>d', value).hex().upper()}"

    changed = _OWN_BITS.sub(bits, text) if "f0x" in text else text
    return changed, "bits of floats written as those of doubles" if changed != text else ""


def _exponentials(text: str, reader: WheelFacts) -> tuple[str, str]:
    """`ex2.approx` became one intrinsic for every type; before, each type had one of its own."""
    if reader.knows("llvm.nvvm.ex2.approx") or "@llvm.nvvm.ex2.approx.f32(" not in text:
        return text, ""
    return text.replace("@llvm.nvvm.ex2.approx.f32(", "@llvm.nvvm.ex2.approx.f("), (
        "intrinsic `ex2.approx.f32` called by its older name, `ex2.approx.f`"
    )


def _as_assembly(text: str, reader: WheelFacts) -> tuple[str, str]:
    """Intrinsics that an older LLVM lacks, written as the PTX instruction that they stand for."""
    said = []
    for word, pattern, instruction in _INSTRUCTIONS:
        if reader.knows(word) or not pattern.search(text):
            continue
        text = "\n".join(line for line in text.split("\n") if not (line.startswith("declare") and pattern.search(line)))
        text = pattern.sub(instruction, text)
        said.append(word.removeprefix("llvm.nvvm."))
    return text, f"intrinsics written as the PTX instructions they stand for: {', '.join(said)}" if said else ""


def _stmatrix(found: re.Match) -> str:
    count, trans = int(found.group(1)), found.group(2) or ""
    values = ", ".join(f"${i + 1}" for i in range(count))
    constraints = ",".join(["r"] * (count + 1))
    words = f"stmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 [$0], {{{{{values}}}}};".replace("{{", "{")
    return f'asm sideeffect "{words.replace("}}", "}")}", "{constraints}"'


# (a word that tells whether the reader has it, its name in a call, what is called instead)
_INSTRUCTIONS = (
    ("llvm.nvvm.fence.proxy.async.shared_cta", re.compile(r"@llvm\.nvvm\.fence\.proxy\.async\.shared_cta(?=\()"),
     lambda _found: 'asm sideeffect "fence.proxy.async.shared::cta;", ""'),
    ("llvm.nvvm.stmatrix.sync.aligned.m8n8.x1.b16",
     re.compile(r"@llvm\.nvvm\.stmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.b16\.p3(?=\()"), _stmatrix),
)  # fmt: skip
_TTGIR = (_no_locations, _tensor_memory)
_LLIR = (_attributes, _not_finite, _float_bits, _exponentials, _as_assembly)

"""Seeded mutations of real texts: logs by character and line, PTX by token.

The same seed and number give the same text on every machine. benchmarks/break_it.py, fuzz_logs.py and fuzz_ptx.py and
the tests take their texts from here; `mutants` makes the other kinds of input.
"""

from __future__ import annotations

import gzip
import html
import random
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
_TOKEN = re.compile(r"[%$\w.]+|\s+|[^\s\w]")

# --- logs ----------------------------------------------------------------------------------------------------

_PREFIXES = ("> ", "2026-04-10T12:00:00.1234567Z ", "(EngineCore_0 pid=9492) ERROR 09-06 23:28:45 [core.py:714] ",
             "[rank6]: ", "E       ", "| ", "\t")  # fmt: skip
_SPLICES = ("\x1b[31m", "\x1b[0m", "\x00", "\ufeff", "'255'", "(C7600)", "ptxas fatal   : ", 'File "', ", line ",
            "out of resource: shared memory, Required: ", "Repro command: ", "=" * 70, "^" * 60, "\r\n", "\\n",
            "&quot;", "<br>", ".version 8.7\n.target sm_100a\n", "{", "}", "PTXASError: ",
            "CompilationError: at 1:1:\n",
            "\u2028", "9" * 5_000, "--gpu-name=", "num_warps=", "�", "😀")  # fmt: skip


@lru_cache(maxsize=1)
def log_texts() -> dict[str, str]:
    """The real logs by name, and Triton's printed block around the incident's PTX (its first 400 lines)."""
    folders = ("logs", "diagnosis", "front_end", "reports")
    logs = {p.name: p.read_text() for folder in folders for p in sorted((FIXTURES / folder).glob("*.log"))}
    ptx = gzip.decompress((FIXTURES / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode()
    logs["printed_block"] = printed_block("\n".join(ptx.split("\n")[:400]), logs["c7600.log"])
    return logs


def printed_block(ptx: str, stderr: str) -> str:
    """What Triton prints when ptxas fails, in its words around a PTX and ptxas's stderr."""
    command = (
        "/usr/lib/triton/backends/nvidia/bin/ptxas -lineinfo -v --gpu-name=sm_100a /tmp/tmpx.ptx -o /tmp/tmpx.ptx.o"
    )
    frame = "=" * 64
    return (
        f"\n\n{frame}\nInternal Triton PTX codegen error\n`ptxas` stderr:\n{stderr}\nRepro command: {command}\n\n\n"
        f"{ptx}\n"
        f"{frame}\nplease share the reproducer above with Triton project.\n\n"
    )


def mutated_text(text: str, rng: random.Random) -> str:
    """`text` after one to five mutations drawn from `rng`; at most a few times its length."""
    for _ in range(rng.randint(1, 5)):
        text = _ONE[rng.randrange(len(_ONE))](text, rng)
    return text[:400_000]


def mutated_log(rng: random.Random) -> tuple[str, str]:
    """(name of the log it came from, mutated text)."""
    name, text = rng.choice(list(log_texts().items()))
    return name, mutated_text(text, rng)


def mutated_logs(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """`count` of them, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        yield mutated_log(rng)


def _place(text: str, rng: random.Random) -> int:
    return rng.randint(0, len(text))


def _cut(text, rng):
    a, b = sorted((_place(text, rng), _place(text, rng)))
    return rng.choice((text[:a], text[b:], text[a:b], text[:a] + text[b:]))


def _double(text, rng):
    a, b = sorted((_place(text, rng), _place(text, rng)))
    return text[:b] + text[a:b] * rng.randint(1, 3) + text[b:]


def _characters(text, rng):
    letters = list(text)
    for _ in range(rng.randint(1, 40)):
        if letters:
            letters[rng.randrange(len(letters))] = chr(rng.choice((rng.randrange(128), rng.randrange(0xD7FF))))
    return "".join(letters)


def _splice(text, rng):
    for _ in range(rng.randint(1, 6)):
        at = _place(text, rng)
        text = text[:at] + rng.choice(_SPLICES) * rng.choice((1, 1, 2, 50)) + text[at:]
    return text


def _prefix(text, rng):
    prefix = rng.choice(_PREFIXES)
    return "\n".join(prefix + line for line in text.split("\n"))


def _join(text, rng):
    return text.replace("\n", rng.choice((" ", "", "\\n", "\r", "\r\n", "<br>")))


def _wrap(text, rng):
    width = rng.randint(20, 120)
    return "\n".join(line[i : i + width] for line in text.split("\n") for i in range(0, max(1, len(line)), width))


def _shuffle(text, rng):
    lines = text.split("\n")
    rng.shuffle(lines)
    return "\n".join(lines)


def _other(text, rng):
    return text + rng.choice(list(log_texts().values()))


def _encode(text, rng):
    wide = text.encode("utf-16", "surrogatepass").decode("latin-1")
    return rng.choice((html.escape(text), repr(text), text.upper(), wide, text[::-1]))


_ONE = (_cut, _double, _characters, _splice, _prefix, _join, _wrap, _shuffle, _other, _encode)


# --- PTX -----------------------------------------------------------------------------------------------------


def _some(rng: random.Random, tokens: list[str]) -> int:
    return rng.randrange(len(tokens)) if tokens else 0


def _delete(rng: random.Random, tokens: list[str]) -> None:
    at = _some(rng, tokens)
    del tokens[at : at + rng.choice((1, 1, 2, 30, 400))]


def _duplicate(rng: random.Random, tokens: list[str]) -> None:
    at = _some(rng, tokens)
    piece = tokens[at : at + rng.choice((1, 5, 60))]
    tokens[at:at] = piece * rng.choice((1, 1, 3, 200))


def _swap(rng: random.Random, tokens: list[str]) -> None:
    if tokens:
        a, b = _some(rng, tokens), _some(rng, tokens)
        tokens[a], tokens[b] = tokens[b], tokens[a]


def _truncate(rng: random.Random, tokens: list[str]) -> None:
    del tokens[_some(rng, tokens) :]


def _behead(rng: random.Random, tokens: list[str]) -> None:
    del tokens[: _some(rng, tokens)]


def _garbage(rng: random.Random, tokens: list[str]) -> None:
    junk = bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 400)))).decode("utf-8", errors="replace")
    tokens.insert(_some(rng, tokens), junk)


def _huge_number(rng: random.Random, tokens: list[str]) -> None:
    numbers = [at for at, t in enumerate(tokens) if t.isdigit()]
    number = rng.choice(("9" * 5_000, "4294967296", "-1", "0x" + "f" * 300, "999999999", "1e999"))
    if numbers:
        tokens[rng.choice(numbers)] = number
    else:
        tokens.append(number)


def _nest(rng: random.Random, tokens: list[str]) -> None:
    opening, closing = rng.choice(("{}", "()", "[]", ("/*", "*/"), ("{ .reg .b32 %x<9>; ", "}")))
    depth = rng.choice((3, 100, 20_000))
    tokens.insert(_some(rng, tokens), opening * depth)
    if rng.random() < 0.5:
        tokens.insert(_some(rng, tokens), closing * depth)


def _one_line(rng: random.Random, tokens: list[str]) -> None:
    tokens[:] = [" " if t.isspace() else t for t in tokens]


def _scramble(rng: random.Random, tokens: list[str]) -> None:
    at = _some(rng, tokens)
    piece = tokens[at : at + 200]
    rng.shuffle(piece)
    tokens[at : at + 200] = piece


def _shell(rng: random.Random, tokens: list[str]) -> None:
    words = ("$(touch PWNED)", "`touch PWNED`", "; touch PWNED;", '"; touch PWNED; "', "../../PWNED", "--output=PWNED")
    for at in range(len(tokens)):
        if tokens[at].startswith((".visible", ".target", "extend_attention_kernel", ".file")) and rng.random() < 0.5:
            tokens[at] += rng.choice(words)


MUTATIONS: tuple[Callable[[random.Random, list[str]], None], ...] = (
    _delete, _duplicate, _swap, _truncate, _behead, _garbage, _huge_number, _nest, _one_line, _scramble, _shell,
)  # fmt: skip


@lru_cache(maxsize=1)
def ptx_texts() -> list[str]:
    """The PTX texts that mutants are made of: real compiles of three architectures, traps, several functions."""
    texts = [p.read_text() for p in sorted((FIXTURES / "ptx").glob("*.ptx"))]
    return texts + [gzip.decompress(p.read_bytes()).decode() for p in sorted((FIXTURES / "ptx").glob("*.ptx.gz"))]


def mutated_ptx(texts: list[str], seed: int, number: int) -> str:
    """Mutant `number` of a run with `seed`: one to four mutations of one text, mostly of a part of it."""
    rng = random.Random(f"{seed}-{number}")
    text = rng.choice(texts)
    if len(text) > 20_000 and rng.random() < 0.6:  # a head, so that most mutants still have functions, and are quick
        text = text[: rng.randrange(5_000, 20_000)]
    tokens = _TOKEN.findall(text)
    for _ in range(rng.randrange(1, 5)):
        rng.choice(MUTATIONS)(rng, tokens)
    return "".join(tokens)


def gentle_ptx(texts: list[str], seed: int, number: int) -> str:
    """A whole text with a few lines gone, doubled or swapped: most of these get past ptxas's parser."""
    rng = random.Random(f"gentle-{seed}-{number}")
    lines = rng.choice(texts).split("\n")
    body = [at for at, line in enumerate(lines) if line.startswith("\t") and line.endswith(";") and ".reg" not in line]
    for at in rng.sample(body, min(len(body), rng.choice((1, 2, 5)))):
        what = rng.choice(("gone", "double", "swap"))
        if what == "gone":
            lines[at] = ""
        elif what == "double":
            lines[at] += "\n" + lines[at]
        else:
            other = rng.choice(body)
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines)

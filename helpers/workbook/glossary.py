"""The words of this workbook: one list, shown in notebook 00 and linked from wherever a notebook first uses one."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOME = "00_start_here.ipynb"


@dataclass(frozen=True)
class Term:
    """A word, what it means here, and how it is written in prose (regular expressions; the word itself if none)."""

    name: str
    means: str
    written: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The fragment of its heading, as JupyterLab and nbconvert make it."""
        return self.name.replace(" ", "-")

    @property
    def plain(self) -> str:
        """What it means, without marks, for a page that shows it where the pointer is."""
        return re.sub(r"[`*]", "", self.means)

    @property
    def pattern(self) -> re.Pattern:
        """Its first mention in prose: plain, or as inline code."""
        written = "|".join(self.written or (re.escape(self.name),))
        return re.compile(rf"(?<![\w`/-])(?:`(?:{written})`|(?:{written})(?![\w`-]))")


TERMS = (
    Term(
        "PTX",
        "NVIDIA's portable assembly language, with as many *virtual* registers as the writer likes. Triton writes it.",
    ),
    Term(
        "ptxas",
        "NVIDIA's assembler from PTX to machine code (SASS). It chooses the real registers, and is the "
        "program that gives up in the incident.",
    ),
    Term(
        "SASS",
        "The machine code of one chip, which `ptxas` writes and the GPU runs.",
    ),
    Term(
        "TTGIR",
        "Triton's own intermediate form with the layout of each tensor decided, one step before LLVM and PTX.",
    ),
    Term(
        "cubin",
        "The binary file that holds a kernel's SASS.",
        ("cubins?",),
    ),
    Term(
        "sm_100a",
        "The name of a chip for the compiler: 90a is Hopper (H100, H200), 100a and 103a are datacentre "
        "Blackwell (B200, B300), 120a and 121a its small relatives. Its first digits are the *compute "
        "capability*.",
        ("sm_100a", "sm_90a", "sm_103a", "sm_120a"),
    ),
    Term(
        "C7600",
        "The number `ptxas` gives to *Register allocation failed*.",
    ),
    Term(
        "registers per thread",
        "How many 32-bit registers each thread holds for the whole kernel, counted by `ptxas -v`. Known "
        "only of a compile that succeeded.",
    ),
    Term(
        "the cap",
        "255: the most registers that an instruction of these chips can name, so the most a thread can have.",
        ("the cap",),
    ),
    Term(
        "live registers",
        "Values that are still needed at one point of the program; only these compete for registers. The "
        "estimate of their number from the PTX is called *demand* here.",
        ("live registers?", "live ranges?"),
    ),
    Term(
        "spill",
        "A value put into memory because no register was free, and fetched again later. `ptxas` counts "
        "bytes stored and loaded, per thread. A spill is not a crash.",
        ("spill", "spills", "spilled", "spilling", "[Ss]pill stores?"),
    ),
    Term(
        "tile",
        "The block that one CTA works on: BLOCK_M rows of queries against BLOCK_N keys at a time. Larger "
        "tiles read memory less often and hold more in registers.",
        ("tiles?", "BLOCK_M", "BLOCK_N"),
    ),
    Term(
        "tile chooser",
        "The table in the serving engine that picks the tile from chip and head dim.",
        ("(?:tile )?chooser",),
    ),
    Term(
        "merged row",
        "The row that the merged fix adds to the tile chooser, for compute capability 10: half of BLOCK_M, nothing "
        "else. The fix for the cause is another one: loop bounds in place of the branch that skips tiles.",
        ("merged row",),
    ),
    Term(
        "hopper tile",
        "The tile of the chooser's row for Hopper, which a B200 got before the fix: 128 x 64 at head dim 256. Not to "
        "be confused with Hopper, the chip, nor with the *Gluon kernel*, which is written for that chip alone.",
        ("hopper tile",),
    ),
    Term(
        "CTA",
        "A block of threads that runs on one multiprocessor and shares its shared memory; here one CTA "
        "computes one tile of the output.",
        ("CTAs?",),
    ),
    Term(
        "warp",
        "32 threads that execute together. A kernel of 8 warps has 256 threads per CTA.",
        ("warps?",),
    ),
    Term(
        "head dim",
        "The length of one attention head's vectors: 256 in Gemma 4's sliding layers, 512 in its global ones.",
        ("head[ -]dims?",),
    ),
    Term(
        "sliding window",
        "A layer in which each token sees only the last 1,024. In a *global* layer it sees all.",
        ("sliding", "window"),
    ),
    Term(
        "KV cache",
        "Keys and values of the tokens so far, kept so that they need not be computed again.",
        ("KV cache", "fp8 cache", "KV dtype"),
    ),
    Term(
        "fp8",
        "Eight-bit floating point, `fp8_e4m3` here: half the memory of bf16, three bits of precision.",
    ),
    Term(
        "prefill",
        "The pass over the new tokens of a prompt; with a *prefix* already in the cache it is called *extend*.",
    ),
    Term(
        "accumulator",
        "The running sum of the output tile, BLOCK_M x head dim in 32-bit floats: the largest thing the kernel holds.",
        ("accumulators?",),
    ),
    Term(
        "tcgen05",
        "Blackwell's tensor-core instructions, which keep their results in *tensor memory*. Hopper's are "
        "`wgmma`; small tiles fall back to the older `mma.sync`.",
        (r"tcgen05(?:\.\w+)?",),
    ),
    Term(
        "ingredient",
        "One property of the kernel that can be switched alone, as a constexpr: how tiles are skipped, "
        "how the accumulator is updated, …",
        ("ingredients?",),
    ),
    Term(
        "lean kernel",
        "This project's kernel for the same function, without the cause of the crash.",
        ("[Ll]ean(?: kernel|\nkernel)",),
    ),
    Term(
        "trap",
        "An instruction that stops the kernel. Triton emits a bare one in place of a kernel that cannot "
        "fit, and `ptxas` accepts it.",
    ),
    Term(
        "roofline",
        "The speed no kernel can pass: bound by arithmetic or by memory, whichever is reached first.",
    ),
)


def glossary_markdown() -> str:
    """The glossary as one Markdown text: a heading, which is the anchor, and a sentence or two for each term."""
    parts = [
        "## Glossary",
        *(f"### {term.name}\n\n{term.means}" for term in sorted(TERMS, key=lambda t: t.name.lower())),
    ]
    return "\n\n".join(parts)


_NOT_PROSE = re.compile(r"```.*?```|!?\[[^\]]*\]\([^)]*\)|^#.*?$|<[^>]+>", re.DOTALL | re.MULTILINE)


def _mention(term: Term, sources: list[str]) -> tuple[int, re.Match] | None:
    """(cell, match) of the term's first mention in prose: not in a heading, a code block or another link."""
    for at, source in enumerate(sources):
        aside = [found.span() for found in _NOT_PROSE.finditer(source)]
        for found in term.pattern.finditer(source):
            if not any(start <= found.start() < end for start, end in aside):
                return at, found
    return None


def _linked(term: Term, sources: list[str]) -> tuple[int, int] | None:
    """(cell, position) of the first link to the term."""
    target = f"]({HOME}#{term.anchor})"
    return next(((at, source.index(target)) for at, source in enumerate(sources) if target in source), None)


def unlinked_terms(sources: list[str]) -> list[Term]:
    """The terms that the Markdown cells of a notebook use before, or without, linking them to the glossary."""
    missing = []
    for term in TERMS:
        mention, link = _mention(term, sources), _linked(term, sources)
        if mention and (link is None or (mention[0], mention[1].start()) < link):
            missing.append(term)
    return missing


def link_terms(sources: list[str]) -> list[str]:
    """The same Markdown cells with the first mention of every term made a link to the glossary."""
    linked = list(sources)
    for term in unlinked_terms(linked):
        mention = _mention(term, linked)
        if mention is None:  # it was part of the words that became another term's link
            continue
        at, found = mention
        text = linked[at]
        link = f"[{found.group()}]({HOME}#{term.anchor})"
        linked[at] = text[: found.start()] + link + text[found.end() :]
    return linked

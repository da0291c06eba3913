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


SUBJECTS: dict[str, tuple[Term, ...]] = {
    "The chip": (
        Term(
            "register",
            "A place for 32 bits inside the multiprocessor. Arithmetic works on registers only.",
            ("registers?",),
        ),
        Term(
            "registers per thread",
            "How many registers each thread holds for the whole run of a kernel. `ptxas -v` prints the number, "
            "and only of a compile that succeeded.",
        ),
        Term(
            "the cap",
            "The most registers that a thread can have: 255, because an instruction names a register with eight "
            "bits and one of the 256 numbers means zero. A kernel with more than 8 warps has a lower cap, its "
            "share of the register file.",
            ("the cap",),
        ),
        Term(
            "register file",
            "All registers of one multiprocessor: 65,536. The threads that run there at the same time share them.",
            ("register files?",),
        ),
        Term(
            "multiprocessor",
            "A unit of the chip that runs CTAs; an H100 has 132 of them. NVIDIA calls it SM.",
            (
                "multiprocessors?",
                "SMs?",
            ),
        ),
        Term(
            "CTA",
            "A block of threads that runs on one multiprocessor and shares its shared memory. Here one CTA "
            "computes one tile of the output.",
            ("CTAs?",),
        ),
        Term(
            "warp",
            "32 threads that execute together. A kernel of 8 warps has 256 threads in a CTA.",
            ("warps?",),
        ),
        Term(
            "warp group",
            "Four warps in a row, 128 threads, which issue a `wgmma` together.",
            ("warp groups?",),
        ),
        Term(
            "occupancy",
            "How many CTAs, or warps, run on one multiprocessor at the same time. Registers, shared memory and "
            "tensor memory each limit it.",
        ),
        Term(
            "shared memory",
            "Fast memory of a multiprocessor that all threads of a CTA can read: 227 KiB for a CTA on H100 and "
            "B200, 99 KiB on the small Blackwell chips.",
        ),
        Term(
            "local memory",
            "Memory that belongs to one thread and lies in the GPU's main memory, behind its caches. Spills go there.",
        ),
        Term(
            "tensor memory",
            "Memory for the results of datacentre Blackwell's tensor cores: 128 lanes by 512 columns of 32 bits "
            "in each multiprocessor. Arithmetic cannot use it; values must be loaded into registers first.",
        ),
        Term(
            "tensor core",
            "The part of a multiprocessor that multiplies small matrices.",
            ("tensor[ -]cores?",),
        ),
        Term(
            "tcgen05",
            "The tensor-core instructions of datacentre Blackwell. They leave their results in tensor memory; "
            "`tcgen05.ld` brings them into registers, up to 128 of a thread's registers with one instruction.",
            (r"tcgen05(?:\.\w+)?",),
        ),
        Term(
            "wgmma",
            "The tensor-core instructions of Hopper. They leave their results in registers.",
            ("wgmma",),
        ),
        Term(
            "mma.sync",
            "The older tensor-core instructions, which every chip of this project has. Triton uses them for tiles"
            " with fewer than 64 rows, and on the small Blackwell chips.",
            (r"mma\.sync",),
        ),
        Term(
            "Hopper",
            "The chip generation of H100 and H200. The word means the chip only: see *hopper tile* and *Gluon kernel*.",
            ("Hopper",),
        ),
        Term(
            "Blackwell",
            "The chip generation after Hopper: B200 and B300 for datacentres, and small relatives such as the RTX"
            " 5090, which have no tensor memory.",
            ("Blackwell",),
        ),
        Term(
            "sm_100a",
            "The name of a chip for the compiler: 90a is Hopper (H100, H200), 100a and 103a are datacentre "
            "Blackwell (B200, B300), 120a and 121a are its small relatives.",
            (
                "sm_100a",
                "sm_90a",
                "sm_103a",
                "sm_120a",
            ),
        ),
        Term(
            "compute capability",
            "The number behind `sm_`: 9.0 for H100, 10.0 for B200, 12.0 for RTX 50.",
            ("(?:compute )?capability",),
        ),
    ),
    "The compiler": (
        Term(
            "Triton",
            "The Python language and compiler in which the kernel is written. It can compile for a chip that is "
            "not there.",
            ("Triton",),
        ),
        Term(
            "TTGIR",
            "Triton's own intermediate form with the layout of each tensor decided, one step before LLVM and PTX.",
        ),
        Term(
            "LLVM",
            "The compiler framework that Triton carries with it. It turns Triton's last intermediate form into PTX.",
            ("LLVM",),
        ),
        Term(
            "PTX",
            "NVIDIA's portable assembly language, with as many *virtual* registers as the writer likes. Triton "
            "writes it.",
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
            "cubin",
            "The binary file that holds a kernel's SASS.",
            ("cubins?",),
        ),
        Term(
            "constexpr",
            "An argument of a Triton kernel that is fixed when the kernel is compiled. Another value is another "
            "kernel.",
            ("constexprs?",),
        ),
        Term(
            "live registers",
            "The values that are still needed at one point of the program. Only these compete for registers.",
            (
                "live registers?",
                "live ranges?",
            ),
        ),
        Term(
            "demand",
            "This project's estimate, from the PTX alone, of how many registers are live at once. It can be more "
            "than 255. It is not the number that `ptxas` prints.",
            ("demands?",),
        ),
        Term(
            "register target",
            "The number of registers per thread that `ptxas` decides to aim for. It may choose fewer than the cap"
            " allows and spill the rest.",
            ("register targets?",),
        ),
        Term(
            "spill",
            "A value put into local memory because no register was free, and fetched again later. `ptxas` counts "
            "bytes stored and loaded, per thread. A kernel that spills runs; a spill is not a crash.",
            (
                "spill",
                "spills",
                "spilled",
                "spilling",
                "[Ss]pill stores?",
            ),
        ),
        Term(
            "C7600",
            "The number that `ptxas` gives to the error *Register allocation failed*.",
        ),
        Term(
            "trap",
            "An instruction that stops the kernel. Triton emits a bare one in place of a kernel that cannot fit, "
            "and `ptxas` accepts it.",
        ),
        Term(
            "pack",
            "Two 32-bit registers put together as one 64-bit value, because LLVM multiplies floats in pairs on "
            "Blackwell. How the packs are written decides whether the incident's PTX compiles.",
            ("packs?",),
        ),
    ),
    "The kernel": (
        Term(
            "extend",
            "Attention of the new tokens of a prompt over the tokens that the cache already holds (the *prefix*) "
            "and over each other.",
            ("[Ee]xtend attention",),
        ),
        Term(
            "prefill",
            "The pass of a model over the new tokens of a prompt. With a prefix already in the cache its "
            "attention is called *extend*.",
        ),
        Term(
            "prefix",
            "The tokens of a sequence whose keys and values are already in the KV cache.",
            ("prefix",),
        ),
        Term(
            "KV cache",
            "Keys and values of the tokens so far, kept so that they need not be computed again.",
            (
                "KV cache",
                "fp8 cache",
                "KV dtype",
            ),
        ),
        Term(
            "fp8",
            "Eight-bit floating point, `fp8_e4m3` here: half the memory of bf16, with three bits after the "
            "leading one.",
        ),
        Term(
            "bf16",
            "Sixteen-bit floating point with the range of float32 and seven bits after the leading one.",
        ),
        Term(
            "head dim",
            "The length of one attention head's vectors: 256 in Gemma 4's sliding layers, 512 in its global ones.",
            ("head[ -]dims?",),
        ),
        Term(
            "sliding window",
            "A layer with a sliding window lets each token see only the last 1,024. In a *global* layer it sees all.",
            (
                "sliding",
                "window",
            ),
        ),
        Term(
            "tile",
            "The piece that a CTA works on at once: BLOCK_M rows of queries against BLOCK_N keys. `128x64` is 128"
            " queries by 64 keys. Larger tiles read memory less often and hold more in registers.",
            (
                "tiles?",
                "BLOCK_M",
                "BLOCK_N",
            ),
        ),
        Term(
            "accumulator",
            "The running sum of the output tile, BLOCK_M x head dim in 32-bit floats: the largest thing the "
            "kernel holds.",
            ("accumulators?",),
        ),
        Term(
            "online softmax",
            "A softmax computed tile by tile: when a larger score appears, everything summed so far is multiplied"
            " by one factor per row.",
        ),
        Term(
            "branch",
            "An `if` inside the kernel whose outcome is known only when it runs. The incident's kernel has one "
            "around each tile: `if work:`, which skips a tile that no query of the block can see.",
            ("branch(?:es)?",),
        ),
        Term(
            "stages",
            "How many tiles Triton loads ahead while it computes (`num_stages`). With 1 it loads nothing ahead.",
            (
                "num_stages",
                r"(?:\d|two|three) stages?",
            ),
        ),
    ),
    "The incident and its cures": (
        Term(
            "tile chooser",
            "The table in the serving engine that picks the tile from chip and head dim.",
            ("(?:tile )?chooser",),
        ),
        Term(
            "hopper tile",
            "The tile of the chooser's row for Hopper, which a B200 got before the fix: 128 x 64 at head dim 256.",
            ("hopper tiles?",),
        ),
        Term(
            "merged row",
            "The row that the merged fix adds to the tile chooser for compute capability 10: half of BLOCK_M, "
            "nothing else.",
            ("merged row",),
        ),
        Term(
            "ingredient",
            "One property of the kernel that can be switched alone: how tiles are skipped, how the accumulator is"
            " updated, and so on.",
            ("ingredients?",),
        ),
        Term(
            "loop bounds",
            "The cure for the branch: the first and the last tile that any query sees are computed before the "
            "loop, so that no tile has to be skipped inside it.",
            ("loop bounds",),
        ),
        Term(
            "fused accumulation",
            "The cure for the second accumulator: the matrix product adds into the accumulator instead of making "
            "a new one that is scaled and added afterwards.",
            ("fused accumulation",),
        ),
        Term(
            "lean kernel",
            "This project's kernel for the same function, with loop bounds and fused accumulation, in Triton.",
            ("[Ll]ean(?: kernel|\nkernel)",),
        ),
        Term(
            "Gluon kernel",
            "This project's kernel for Hopper alone, written in Gluon, Triton's lower-level language.",
            ("Gluon kernel",),
        ),
        Term(
            "roofline",
            "The speed that no kernel can pass: bound by arithmetic or by memory, whichever is reached first.",
        ),
    ),
    "Short labels": (
        Term(
            "short label",
            "A configuration in a few letters, for tables. `hd256 fp8_e4m3 window 1024 128x64 w8 s1` is head dim "
            "256, an fp8 cache, a window of 1,024 tokens, 128 queries by 64 keys, 8 warps, 1 stage.",
            ("short labels?",),
        ),
        Term(
            "hd",
            "In a short label, the head dim: `hd256`.",
            (r"hd\d+",),
        ),
        Term(
            "w",
            "In a short label, the number of warps of a CTA: `w8`.",
            (r"w\d+",),
        ),
        Term(
            "s",
            "In a short label, the number of stages: `s1`.",
            (r"s\d",),
        ),
        Term(
            "g",
            "In a short label of the lean and the Gluon kernel, the number of query heads whose rows share one "
            "tile, because they share their keys and values: `64x64g2`.",
            (r"(?:\d+x\d+)?g\d+",),
        ),
    ),
}
"""The terms by subject."""

TERMS = tuple(term for group in SUBJECTS.values() for term in group)


def glossary_markdown() -> str:
    """The glossary as one Markdown text: a heading for each subject, and one for each term, which is its anchor."""
    parts = ["## Glossary"]
    for group, terms in SUBJECTS.items():
        parts.append(f"### {group}")
        parts += [f"#### {term.name}\n\n{term.means}" for term in sorted(terms, key=lambda t: t.name.lower())]
    return "\n\n".join(parts)


_CODE = re.compile(r"`[^`\n]+`")
_NOT_PROSE = re.compile(r"```.*?```|!?\[[^\]]*\]\([^)]*\)|^#.*?$|<[^>]+>", re.DOTALL | re.MULTILINE)


def _mention(term: Term, sources: list[str]) -> tuple[int, re.Match] | None:
    """(cell, match) of the term's first mention in prose: not in a heading, a code block or another link."""
    for at, source in enumerate(sources):
        aside = [found.span() for found in _NOT_PROSE.finditer(source)]
        code = [found.span() for found in _CODE.finditer(source)]
        for found in term.pattern.finditer(source):
            # A term may be all of a piece of inline code; a word inside one is not prose.
            within = [*aside, *(span for span in code if span != found.span())]
            if not any(start <= found.start() < end for start, end in within):
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

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
            ("CTAs?", "blocks? of threads"),
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
            " with fewer than 64 rows, for kernels of 16 warps, and on the small Blackwell chips.",
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
            (r"sm_\d+a?",),
        ),
        Term(
            "compute capability",
            "The number behind `sm_`: 9.0 for H100, 10.0 for B200, 12.0 for RTX 50.",
            ("(?:compute )?capability",),
        ),
        Term(
            "thread",
            "One of the many workers that run a kernel at the same time, each on registers of its own.",
            ("threads?",),
        ),
        Term(
            "global memory",
            "The GPU's main memory, which all threads can read. The caches named L1 and L2 lie between it and the "
            "multiprocessors.",
            (
                "global memory",
                "L2",
                "L1",
                "HBM3",
            ),
        ),
        Term(
            "lane",
            "One of the 128 rows of tensor memory. A warp reads 32 of them, one for each of its threads.",
            ("lanes?",),
        ),
        Term(
            "product names",
            "A100 is a chip of the generation Ampere, H100 and H200 are Hopper, B200, GB200, B300 and GB300 are "
            "datacentre Blackwell, and the RTX 50 cards are small Blackwell.",
            (
                "GB200",
                "GB300",
                "B200",
                "B300",
                "H100",
                "H200",
                "A100",
                r"RTX(?: PRO)?(?: \d+)?",
            ),
        ),
        Term(
            "TFLOP/s",
            "A million million floating-point operations in a second.",
        ),
        Term(
            "VGPR",
            "A register of an AMD chip. A thread of the newer ones has up to 512.",
            ("VGPRs?",),
        ),
        Term(
            "SGPR",
            "A register of an AMD chip that all threads of a group share.",
            ("SGPRs?",),
        ),
        Term(
            "scratch memory",
            "AMD's name for local memory: spills go there.",
            ("scratch(?: memory)?",),
        ),
        Term(
            "gfx950",
            "The name of an AMD chip for the compiler: gfx942 is the MI300X, gfx950 the MI355X.",
            (
                "gfx942",
                "gfx950",
            ),
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
            "NVIDIA's portable assembly language, with as many *virtual* registers as the writer likes. "
            "Triton's LLVM writes it.",
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
            ("trap", "trapped", "bare trap"),
        ),
        Term(
            "pack",
            "Two 32-bit registers put together as one 64-bit value, because LLVM multiplies floats in pairs on "
            "Blackwell. How the packs are written decides whether the incident's PTX compiles.",
            ("packs?",),
        ),
        Term(
            "kernel",
            "A program for the GPU. It is started once and runs in many threads. JupyterLab also calls the Python "
            "process of a notebook a kernel; these pages call that a running notebook.",
            ("[Kk]ernels?",),
        ),
        Term(
            "launch option",
            "A number that is given where a Triton kernel is started: how many warps, how many stages, or `maxnreg`.",
            ("launch options?",),
        ),
        Term(
            "TTIR",
            "The first text that Triton makes of a kernel: what is computed, without saying which thread does it.",
        ),
        Term(
            "LLIR",
            "The last text of Triton's own passes, in the language of LLVM. LLVM turns it into PTX.",
        ),
        Term(
            "virtual register",
            "A name for a value in PTX. There may be thousands; `ptxas` gives real registers to those that are alive.",
            (r"[Vv]irtual\*? registers?",),
        ),
        Term(
            "wide load",
            "A load from tensor memory that fills 128 registers of a thread with one instruction, written `x128`. "
            "The registers have to be adjacent.",
            (
                "wide (?:load|operand)s?",
                "x128",
                "x64",
            ),
        ),
        Term(
            "optimisation level",
            "How hard `ptxas` optimises: `-O0` hardly, `-O1` a little, `-O3` unless told otherwise.",
            (
                "optimisation levels?",
                r"-O\d?",
            ),
        ),
        Term(
            "maxnreg",
            "An option of a Triton launch, and a directive of PTX: the most registers that a thread may have. "
            "Triton plans with it before `ptxas` runs.",
            (r"\.?maxnreg(?:[ =]\d+)?",),
        ),
        Term(
            "--maxrregcount",
            "An option of `ptxas`: the most registers that a thread may have. It comes after Triton has chosen "
            "its instructions.",
            (r"--maxrregcount(?:=\d+)?",),
        ),
        Term(
            "min_blocks_per_mp",
            "An option of a CuTe DSL launch: how many CTAs have to fit on one multiprocessor. In PTX it is "
            "`.minnctapersm`.",
            (
                r"min_blocks_per_mp(?:=\d+)?",
                r"\.minnctapersm(?: \d+)?",
            ),
        ),
        Term(
            "setmaxnreg",
            "An instruction that gives the warps of a group more or fewer registers while the kernel runs.",
        ),
        Term(
            "C7602",
            "The number that `ptxas` gives to an error when the cap is lower than one single instruction needs.",
        ),
        Term(
            "stack frame",
            "The part of local memory that a thread of the kernel uses, in bytes.",
            ("stack frames?",),
        ),
        Term(
            "n_spills",
            "Triton's own count of local memory, in words of 32 bits for each thread. It is not the number of `ptxas`.",
        ),
        Term(
            "nvdisasm",
            "NVIDIA's program that prints the SASS of a cubin, and which registers are live in it.",
        ),
        Term(
            "spec",
            "A file that describes one kernel completely: its source, the types of its arguments, its constexprs "
            "and its launch. Its name in the code is `KernelSpec`.",
            (
                "specs?",
                "KernelSpec",
            ),
        ),
        Term(
            "CUDA",
            "NVIDIA's platform for programs on its GPUs, with a compiler for C++.",
            ("CUDA",),
        ),
        Term(
            "Gluon",
            "Triton's lower-level language, in which the writer decides where values lie and which warps do what.",
            ("Gluon",),
        ),
        Term(
            "CuTe DSL",
            "NVIDIA's language for kernels in Python, in which FlashAttention-4 is written.",
        ),
        Term(
            "cuTile",
            "NVIDIA's language for kernels in Python that work on whole tiles.",
        ),
        Term(
            "interpreter",
            "A part of Triton that runs a kernel in Python on the CPU, slowly, without a GPU.",
            ("interpreter",),
        ),
        Term(
            "DISABLE_LLVM_OPT",
            "A variable of the environment that turns off parts of the LLVM in Triton; the part here is called "
            "`nvptx-no-f32x2`.",
            (
                r"DISABLE_LLVM_OPT(?:=[\w-]+)?",
                "nvptx-no-f32x2",
                "f32x2",
            ),
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
            "Keys and values of the tokens so far, kept so that they need not be computed again. It is called fp8 "
            "cache or bf16 cache after the type of its numbers.",
            (
                "KV cache",
                "(?:fp8|bf16) cache",
                "KV dtype",
                "KV",
            ),
        ),
        Term(
            "fp8",
            "Eight-bit floating point, `fp8_e4m3` here: half the memory of bf16, with three bits after the "
            "leading one.",
            ("fp8", "fp8_e4m3", "fp8e4nv"),
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
            ("branch(?:es)?", "if(?: work:)?(?=`)"),
        ),
        Term(
            "stages",
            "How many tiles Triton loads ahead while it computes (`num_stages`). With 1 it loads nothing ahead.",
            (
                "num_stages",
                r"(?:\d|two|three) stages?",
            ),
        ),
        Term(
            "attention",
            "The step of a language model in which each token looks at the tokens before it: it compares its "
            "query with their keys, and takes the mean of their values, weighted by how well they fit.",
            ("(?<!xtend )attention",),
        ),
        Term(
            "token",
            "A piece of text, a word or a part of one. The model has one list of numbers for each.",
            ("tokens?",),
        ),
        Term(
            "prompt",
            "The text that a user sends to the model.",
            ("prompts?",),
        ),
        Term(
            "query",
            "The list of numbers that a token compares with the keys of the tokens before it.",
            ("quer(?:y|ies)",),
        ),
        Term(
            "key and value",
            "Two lists of numbers that each token has: the key is compared with queries, the value is what they "
            "take from it.",
            (
                "keys? and (?:cached )?values?",
                "cached keys",
            ),
        ),
        Term(
            "score",
            "The product of a query and a key: how well they fit.",
            ("scores?",),
        ),
        Term(
            "softmax",
            "The function that turns scores into weights, which are positive and add up to one.",
            ("(?<!nline )softmax",),
        ),
        Term(
            "weight",
            "What a score becomes in the softmax: the share that a value has in the result. The kernel calls the "
            "weights `p`.",
            ("weights?",),
        ),
        Term(
            "head",
            "One of several attentions that a layer computes side by side, each with queries, keys and values of "
            "its own.",
            ("heads?(?![ -]dim)",),
        ),
        Term(
            "decode",
            "The passes of a model that make new tokens, one at a time, after prefill.",
            (
                "decode",
                "decoding",
            ),
        ),
        Term(
            "paged cache",
            "A KV cache in pieces: a table says where each page of tokens lies. sglang's pages hold one token.",
            (
                "paged(?: cache)?",
                "pages? of (?:one token|tokens)",
                "page size",
            ),
        ),
        Term(
            "custom mask",
            "A table of the engine's own that says which query sees which key. It is used where several "
            "continuations are tried at once.",
            ("[Cc]ustom mask",),
        ),
        Term(
            "causal",
            "A causal layer lets a token see itself and the tokens before it, and none after.",
            ("causal(?:ity)?",),
        ),
        Term(
            "dtype",
            "The type of a number in memory, such as bf16 or fp8.",
            ("dtypes?",),
        ),
        Term(
            "fp8_e5m2",
            "The other eight-bit format: a wider range than `fp8_e4m3`, and two bits after the leading one.",
            ("(?:fp8_)?e5m2",),
        ),
        Term(
            "NVFP4",
            "A four-bit format of NVIDIA's for the weights of a model.",
        ),
        Term(
            "NaN",
            "Not a number: what a float holds when a calculation has no result. Every sum that reads one becomes one.",
        ),
        Term(
            "acc",
            "The name of the accumulator in the kernel's source.",
            ("acc",),
        ),
        Term(
            "tl.dot",
            "Triton's product of two matrices, which the tensor cores compute.",
            (r"tl\.dot(?:\([\w, ]+\))?",),
        ),
        Term(
            "v_scale",
            "One number by which the values of an fp8 cache are multiplied to have their true size. The "
            "incident's kernel multiplies each product by it.",
            ("v_scale",),
        ),
        Term(
            "q cast",
            "Turning the queries into fp8. The incident's kernel does that anew in every tile; *hoisted* means "
            "once, before the loop.",
            (
                "q cast",
                "Q_CAST",
            ),
        ),
        Term(
            "rotary part",
            "Extra columns of queries and keys that tell where in the text a token stands.",
            ("rotary part",),
        ),
        Term(
            "matrix product",
            "The multiplication of two matrices, which tensor cores are made for.",
            ("matrix products?",),
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
        Term(
            "serving engine",
            "A program that answers the requests of many users with a language model, such as sglang or vLLM.",
            (
                "(?:serving )?engines?",
                "sglang",
                "vLLM",
            ),
        ),
        Term(
            "Gemma 4",
            "A family of language models; the one of these pages has 60 layers.",
            ("Gemma 4(?: 31B)?",),
        ),
        Term(
            "layer",
            "One of the steps that a model repeats: an attention and what follows it.",
            ("layers?",),
        ),
        Term(
            "FlashAttention",
            "Widely used attention kernels for NVIDIA's chips; 3 is for Hopper, 4 for Hopper and Blackwell.",
            (r"FlashAttention(?:-\d)?",),
        ),
        Term(
            "FlashInfer",
            "Another library of attention kernels.",
        ),
        Term(
            "KV_OPERANDS",
            "The constexpr that says how an fp8 cache is used: `as_stored` turns queries and weights into fp8, "
            "`upcast` turns keys and values into 16 bits.",
            (
                'KV_OPERANDS(?: = "upcast")?',
                "up-?cast",
                "as_stored",
            ),
        ),
        Term(
            "ACCUMULATE",
            "The constexpr that says how a product joins the accumulator: `separate` makes a new value, scales "
            "and adds it; `fused` lets the tensor core add it.",
            ("ACCUMULATE",),
        ),
        Term(
            "TILE_SKIP",
            "The constexpr that says how tiles without work are skipped: `branch` asks in each of them, `bounds` "
            "leaves them out of the loop.",
            ("TILE_SKIP",),
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
    """The same Markdown cells with the first mention of every term made a link to the glossary.

    Longer terms go first, so that *online softmax* becomes one link and not a link to *softmax* inside it.
    """
    linked = list(sources)
    for term in sorted(unlinked_terms(linked), key=lambda term: -max(map(len, (*term.written, term.name)))):
        mention = _mention(term, linked)
        if mention is None:  # it was part of the words that became another term's link
            continue
        at, found = mention
        text = linked[at]
        link = f"[{found.group()}]({HOME}#{term.anchor})"
        linked[at] = text[: found.start()] + link + text[found.end() :]
    return linked

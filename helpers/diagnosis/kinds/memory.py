"""Memories that do not fit: shared memory in everybody's words, static shared memory, tensor memory; and threads."""

from __future__ import annotations

import re

from helpers.diagnosis.failure import Answer, Failure, Kind, Suggestion, wording
from helpers.diagnosis.kinds.other_compilers import not_covered, not_nvidia
from helpers.diagnosis.words import (
    OWNER,
    is_cuda_cpp,
    is_triton,
    kernel_of,
    limit_words,
    maker,
    spec_verbs,
)
from helpers.hardware import ARCHS, chips_of_limit
from helpers.inspection.crash.crash_log import CrashLog

LARGEST_SMEM_BYTES = max(a.smem_per_block_max_bytes for a in ARCHS.values())
STATIC_LIMIT = 48 * 1024

_TAIL = r",?(?: ,)? Required: ?(?P<required>[0-9]{1,12}),?(?: ?,)? ?Hardware limit(?:ation)?: ?(?P<limit>[0-9]{1,12})"
_RESOURCE = "out of resource"
WORDINGS = (
    wording("shared_memory", r"out of resource: ?shared memory" + _TAIL, _RESOURCE),
    wording("tensor_memory", r"out of resource: ?tensor memory" + _TAIL, _RESOURCE),
    wording("threads", r"out of resource: ?threads" + _TAIL, _RESOURCE),
    # Inductor's words: the kernel's name stands where Triton names the memory, and it is always shared memory.
    wording("shared_memory", r"out of resource: ?(?P<function>(?!shared|tensor|"
                             r"threads)[A-Za-z]\w{0,100}_\w{1,300})" + _TAIL, _RESOURCE),
    wording(
        "shared_memory",
        r"Shared memory size limit exceeded: requested (?P<required>[0-9]{1,12}), available: ?(?P<limit>[0-9]{1,12})",
        "Shared memory size limit",
    ),
    wording(
        "shared_memory",
        r"[Ss]hared memory (?:usage|size|allocation)?[^.\n]{0,60}?(?P<required>[0-9]{4,9}) ?(?:bytes)?,? ?(?:exceeds|"
        r"exceeded|is "
        r"larger than|>)[^.\n]{0,60}?(?P<limit>[0-9]{4,9})",
        "hared memory",
    ),
    wording(
        "shared_memory",
        r"tried to configure (?P<function>\S{1,200}) kernel for (?P<required>[0-9]{4,9}) bytes, but maximum "
        r"available is "
        r"(?P<limit>[0-9]{4,9})",
        "tried to configure",
    ),
    wording(
        "shared_memory",
        r"Failed to set the allowed dynamic shared memory size to (?P<wanted>[0-9]{4,9})",
        "dynamic shared memory size",
    ),
)  # fmt: skip
PTXAS_WORDINGS = (
    wording(
        "static_shared_memory",
        r"[Ff]unction '(?P<function>[^'\n]{1,2000})' uses too much shared data \((?P<required>0x[0-9a-fA-F]{1,8}) bytes"
        r"(?: ?\+ ?(?P<system>0x[0-9a-fA-F]{1,8}) bytes system)?, ?(?P<limit>0x[0-9a-fA-F]{1,8}) max\)",
        "uses too much shared data",
    ),
    wording(
        "other_limit",
        r"(?:[Ff]unction '(?P<function>[^'\n]{1,2000})' |[Mm]odule )?uses too much (?P<what>[a-z ]{3,40}) "
        r"\((?P<required>0x[0-9a-fA-F]{1,16}) bytes[^,)\n]{0,40}, ?(?P<limit>0x[0-9a-fA-F]{1,16}) max\)",
    ),
    wording(
        "other_limit",
        r"(?P<what>Formal parameter space) overflowed \((?P<required>[0-9]{1,8}) bytes required, max "
        r"(?P<limit>[0-9]{1,8}) bytes(?: allowed\))?",
        "Formal parameter space overflowed",
    ),
)
_OWN_TILES = (
    Suggestion(
        "a tile table row of this chip's own",
        "tiles chosen for data-centre chips (227 KiB per CTA) do not fit the others",
        "helpers/hardware.py; reported the same way: triton-lang/triton #8182",
    ),
)


def _over(failure: Failure, unit: str) -> str:
    required, limit = failure.required or 0, failure.limit or 0
    return f"{required:,} of {limit:,} {unit} are {required - limit:,} too many"


# --- shared memory ----------------------------------------------------------------------------------------


def _shared_memory(log: CrashLog, failure: Failure) -> Answer:
    if whose := not_nvidia(log):
        return not_covered(log, failure, whose)
    inductor = log.speaks("Inductor")
    who = "Inductor" if failure.detail("function") and inductor else "Triton" if is_triton(log) else "the log"
    because = [f"{who} says: {failure.message}"]
    if failure.required is not None and failure.limit is not None:
        because.append(
            _over(failure, "bytes of shared memory per CTA")
            + ("; the compile itself had succeeded" if is_triton(log) and not inductor else "")
        )
        because += _chips_of(failure.limit)
    elif failure.detail("wanted"):
        because.append(
            f"{int(failure.detail('wanted') or 0):,} bytes were wanted; what the chip has, the log does not say"
        )
    helps = (
        _inductor_memory(log, failure) if inductor else _triton_memory(failure) if is_triton(log) else _other_memory()
    )
    if is_triton(log) and (failure.limit or LARGEST_SMEM_BYTES) < LARGEST_SMEM_BYTES and not inductor:
        helps = (*helps, *_OWN_TILES)
    to, why = _memory_to_whom(log, failure)
    return Answer(
        tuple(because), helps, _in_vain_memory(log, failure), to, why,
        ("the shapes and data types of the inputs", *(() if inductor else ("tile sizes and num_stages",))),
        spec_verbs(log, "try", "autotune"),
    )  # fmt: skip


def _memory_to_whom(log: CrashLog, failure: Failure) -> tuple[str, str]:
    """Whose tiles they are: those of a template or kernel of Inductor's, else the kernel's own."""
    if log.speaks("Inductor"):
        template = _of_template(log, failure)
        if template or _WRITTEN_BY_INDUCTOR.match(failure.detail("function") or ""):
            return "PyTorch (github.com/pytorch/pytorch): Inductor wrote the kernel and chose its tiles", (
                "every candidate of its template was too large" if template else "its blocks are Inductor's own choice"
            )
        to = f"{OWNER}, or PyTorch (github.com/pytorch/pytorch) where Inductor wrote the kernel"
        return to, "whoever wrote the kernel chose its blocks"
    if log.speaks("Pallas", "XLA"):
        return OWNER, "the block shapes of the kernel are its own choice"
    return OWNER, "its tiles and stages are not this chip's"


def _chips_of(limit: int) -> list[str]:
    chips = limit_words(limit)
    if not chips:
        return []
    also = " among NVIDIA's; AMD's chips have 64 KiB as well" if limit == 65_536 else ""
    return [f"a limit of {limit:,} bytes is that of {chips}{also}"]


def _triton_memory(failure: Failure) -> tuple[Suggestion, ...]:
    over = (
        f"{(failure.required or 0) - (failure.limit or 0):,} bytes have to go" if failure.limit else "bytes have to go"
    )
    tile = Suggestion(
        "a smaller tile (halve one block size)",
        f"what a block keeps in shared memory shrinks with its tiles; {over}",
        "the message's own numbers; register-cliff try finds out for the kernel",
    )
    if _without_pipeline(failure):
        return (tile,)
    stages = Suggestion(
        "one pipeline stage less (num_stages), where it is above 2",
        "each stage keeps a copy of the tiles that it loads ahead; from 2 to 1 it can stay the same",
        "Triton's own message names num_stages",
    )
    return (stages, tile)


def _without_pipeline(failure: Failure) -> bool:
    """Whether the limit is that of Turing alone, for which Triton pipelines nothing."""
    chips = chips_of_limit(failure.limit or 0)
    return bool(chips) and all(c.capability < 80 for c in chips)


# Inductor names its own reductions and pointwise kernels so; templates have names of their own.
_WRITTEN_BY_INDUCTOR = re.compile(r"triton_(?:per|red|poi|for|spl)_|triton_\w{0,80}_?fused_")
_TEMPLATE_NAME = re.compile(r"triton_(?:tem|mm|flex|bmm)")
_TEMPLATE = re.compile(
    r"(?<![\w.])triton_(?:tem|mm|flex|bmm)|TritonTemplate|flex_attention|AUTOTUNE \w{1,40}mm\(|max.autotune"
)


def _of_template(log: CrashLog, failure: Failure) -> bool:
    """Whether the kernel is one of Inductor's templates: by its name, else by what else the log says."""
    if (name := failure.detail("function")) is not None:
        return _TEMPLATE_NAME.match(name) is not None
    return _TEMPLATE.search(log.text) is not None


def _inductor_memory(log: CrashLog, failure: Failure) -> tuple[Suggestion, ...]:
    if not _of_template(log, failure):
        name = failure.detail("function") or ""
        if not _WRITTEN_BY_INDUCTOR.match(name):
            return _other_memory()
        return (
            Suggestion(
                "another release of PyTorch, or the operation outside the compiled part (torch.compiler.disable, or "
                "without torch.compile)",
                f"{name} is a reduction or pointwise kernel that Inductor wrote, not a template: its blocks are "
                "Inductor's own choice",
                "PyTorch's names of generated kernels; not measured here",
            ),
        )
    return (
        Suggestion(
            "smaller blocks and fewer stages for Inductor's template: for flex_attention by kernel_options (BLOCK_M, "
            "BLOCK_N, "
            "num_stages), for a matrix multiplication by its list of configurations",
            "the template's candidates were written for chips with more shared memory"
            if (failure.limit or 0) < LARGEST_SMEM_BYTES
            else "for these shapes the template's candidates want more than any chip has",
            "the message's own numbers; the options are PyTorch's",
        ),
        Suggestion(
            "let Inductor have a choice that is no Triton template (ATEN in max_autotune_gemm_backends, or without "
            "max-autotune)",
            "then the library's kernel is taken where no candidate fits",
            "PyTorch's configuration (torch/_inductor/config.py)",
        ),
    )


def _other_memory() -> tuple[Suggestion, ...]:
    return (
        Suggestion(
            "smaller blocks, or fewer pipeline stages",
            "every block in flight takes its share of shared memory",
            "the message's own numbers",
        ),
    )


def _in_vain_memory(log: CrashLog, failure: Failure) -> tuple[Suggestion, ...]:
    stages = Suggestion(
        f"num_stages on {limit_words(failure.limit or 0)}",
        "Triton pipelines loads for chips from sm_80 on only, and this limit is that of an earlier one",
        "read in Triton's backend (nvidia/backend/compiler.py, make_ttgir)",
    )
    turing = is_triton(log) and not log.speaks("Inductor") and _without_pipeline(failure)
    return (
        *((stages,) if turing else ()),
        Suggestion(
            "register settings (maxnreg), ptxas flags, another ptxas, or a GPU with more memory of the other kind",
            "shared memory is allotted before ptxas runs, and belongs to the SM: this is not register exhaustion, "
            "and not the "
            "GPU's main memory",
            "where the message is raised: " + ("Triton's launcher" if is_triton(log) else "the caller of the kernel"),
        ),
    )


def _static(log: CrashLog, failure: Failure) -> Answer:
    required, limit = failure.required or 0, failure.limit or 0
    system = int(failure.detail("system") or "0", 0)
    because = [
        f"{_who_counts(log)} says: {failure.message}",
        f"the kernel declares {required:,} bytes of static shared memory"
        + (f" and the system takes {system:,} more" if system else "")
        + f"; {limit:,} are allowed: {required + system - limit:,} too many",
    ]
    cpp = is_cuda_cpp(log, failure)
    openmp = "__omp_offloading" in (kernel_of(log, failure) or "")
    if cpp and (kernel_of(log, failure) or "").startswith("_Z"):
        because.append("the name is mangled: it is a kernel in CUDA C++")
    if openmp:
        because.append("the name is that of an OpenMP target region: the array is one that the region declares")
    dynamic = "extern __shared__ and cudaFuncAttributeMaxDynamicSharedMemorySize" if cpp else "the opt-in of the driver"
    helps = [
        Suggestion(
            "a smaller array (a smaller tile, a narrower type), or two passes over it",
            f"{limit:,} bytes is the most that a kernel may declare",
            "ptxas's own message",
        )
    ]
    if limit == STATIC_LIMIT and not openmp:
        helps.insert(
            0,
            Suggestion(
                f"dynamic shared memory instead of a static array ({dynamic})",
                "static arrays end at 48 KiB on every chip; dynamic shared memory with the opt-in goes further from "
                "sm_70 on",
                "the CUDA programming guide; helpers/hardware.py has each chip's limit",
            ),
        )
    made = maker(log)
    return Answer(
        tuple(because),
        tuple(helps),
        (
            Suggestion(
                "another ptxas, -maxrregcount or other flags",
                "the size stands in the source; no flag changes it",
                "follows from ptxas's message",
            ),
        ),
        f"{OWNER}" + (f", then {made}" if made and not cpp else ""),
        "the array's size is its own choice; no compiler is at fault",
        ("the kernel's source and its template arguments",),
    )


def _who_counts(log: CrashLog) -> str:
    """Whose words a limit on declared memory is in: the device linker says it as ptxas does."""
    return "ptxas" if log.runs else "nvlink" if "nvlink" in log.text else "the compiler"


# What to do instead, by the kind of memory that a message names.
_LESS_OF = (
    ("global", "memory that is allocated at run time (cudaMalloc) instead of arrays declared in the module"),
    ("local", "smaller arrays of a thread's own, or memory that the caller allocates and passes as a pointer"),
    ("", "pass or declare less of it: a pointer to global memory instead of the data itself"),
)


def _other_limit(log: CrashLog, failure: Failure) -> Answer:
    what = failure.detail("what") or "space"
    who = "ptxas" if log.runs else "nvcc" if log.speaks("nvcc") else "the compiler"
    return Answer(
        (
            f"{who} says: {failure.message}",
            _over(failure, f"bytes ({what})"),
        ),
        (
            Suggestion(
                next((edit for word, edit in _LESS_OF if word in what), "declare less of it"),
                "the limit is the chip's and the PTX version's",
                "follows from the message",
            ),
        ),
        (),
        OWNER,
        "what it declares is its own choice",
    )


# --- tensor memory and threads ----------------------------------------------------------------------------


def _tensor_memory(log: CrashLog, failure: Failure) -> Answer:
    return Answer(
        (
            f"Triton says: {failure.message}",
            _over(failure, "columns of tensor memory per SM") + "; the compile itself had succeeded",
        ),
        (
            Suggestion(
                "a smaller tile, or fewer accumulators alive at once",
                f"{failure.required} columns of 128 lanes are asked for, {failure.limit} exist per SM",
                "measured here (data/compile_rows.csv): head dim 512 at 128x64 does not fit, at 64x64 it does",
            ),
        ),
        (
            Suggestion(
                "maxnreg or ptxas flags",
                "tensor memory is allotted by Triton, apart from registers and from shared memory",
                "where the message is raised: Triton's launcher",
            ),
        ),
        OWNER,
        "the tile is its own choice; no compiler is at fault",
        ("tile sizes and num_stages",),
        spec_verbs(log, "try", "autotune"),
    )


def _threads(log: CrashLog, failure: Failure) -> Answer:
    if whose := not_nvidia(log):
        return not_covered(log, failure, whose)
    required, limit = failure.required or 0, failure.limit or 0
    by_registers = limit < 1024
    why = (
        f"with the registers this kernel was given, {limit:,} threads can be resident"
        if by_registers
        else f"a CTA has at most {limit:,} threads on every chip"
    )
    fitting = max((n for n in (1, 2, 4, 8, 16, 32) if n * 32 <= limit), default=1)
    helps = [
        Suggestion(
            f"num_warps {fitting} or less",
            f"the launch asks for {required:,} threads ({required // 32} warps); {why}",
            "the message's own numbers",
        )
    ]
    if by_registers:
        helps.append(Suggestion(
            "a cap on registers (maxnreg) that leaves room for the threads",
            "65,536 registers / threads is a thread's share; it may spill",
            "arithmetic",
        ))  # fmt: skip
    return Answer(
        (f"Triton says: {failure.message}", f"{required:,} threads are asked for, {limit:,} are possible: {why}"),
        tuple(helps),
        (
            Suggestion(
                "num_stages, or a newer ptxas",
                "threads are counted, not memory",
                "the message's own numbers",
            ),
        ),
        OWNER,
        "num_warps is its own choice; no compiler is at fault",
        ("num_warps and the number of warp groups",),
        spec_verbs(log, "try", "autotune"),
    )


KINDS = (
    Kind("shared_memory", "out of shared memory (not of registers)", _shared_memory),
    Kind("static_shared_memory", "static shared memory is larger than a kernel may declare", _static),
    Kind("tensor_memory", "out of tensor memory (not of registers)", _tensor_memory),
    Kind("threads", "more threads than the compiled kernel allows", _threads),
    Kind("other_limit", "the kernel declares more of something than the chip has", _other_limit, public="ptxas_error"),
)

__all__ = ["KINDS", "PTXAS_WORDINGS", "WORDINGS"]

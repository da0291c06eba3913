"""Which tools speak in a pasted log, each with the words that give it away. No word, no tool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from helpers.inspection.crash.pasted_text import near

__all__ = ["Speaker", "find_speakers"]

MAX_SAID = 120


@dataclass(frozen=True)
class Speaker:
    """A tool that a log shows and the words that show it; `role` is what it does with a kernel.

    Roles: `kernel` (its language or front end made the kernel), `assembler`, `build`, `framework` (it called others).
    """

    name: str
    role: str
    text: str


# Words that only one tool writes. A pair is a plain word, which is searched first, and the pattern that fits there.
_PATH = r"[\\/]"
_TRITON = (
    "Internal Triton PTX codegen error",
    "TritonGPU",
    "TritonNvidiaGPU",
    "tt.func",
    "triton_gpu.",
    "mlir::triton",
    "PTXASError",
    "share the reproducer above with Triton",
    "No valid triton configs",
    "TRITON_PTXAS_PATH",
    "TRITON_ALWAYS_COMPILE",
    "TRITON_INTERPRET",
    "riton autotun",
    "`ptxas` stderr:",
    "`ptxas` failed with error code",
    "`ptxas` raised",
    ("triton", rf"(?:^|[\\/(\s\"'])triton{_PATH}(?:compiler|backends|runtime|language)\b"),
    ("triton.", r"(?<![\w.])triton\.(?:runtime|compiler|language|testing|jit|compile|autotune|Config)\b"),
    ("Triton Error", r"(?<!_)Triton Error \[\w{2,6}\]"),
    ("ttg.", r"(?<![\w.])\"?ttn?g\.[\w-]{3}"),
    ("OutOfResources", r"\.OutOfResources|(?:^|[\n`])OutOfResources: out of resource"),
    ("out of resource", r"out of resource: ?(?:shared memory|tensor memory|threads),"),
    ("triton_", r"(?<![\w.])triton_(?:poi|red|per|tem|mm|bmm|flex|gemm)\w{0,120}"),
    (
        "riton",
        r"(?i:bundled with Triton|Autotuning failed with|(?<![\w.-])triton(?: version)?[ "
        r":=]{1,3}v?[0-9]\.[0-9])",
    ),
    ("Autotuning failed with", r"Autotuning failed with"),
    ("compile-ptx-src-", r"compile-ptx-src-"),
    ("'tt", r"'tt[gn]?[gn]?\.\w{1,60}'"),
)
_EVIDENCE: tuple[tuple[str, str, tuple[str | tuple[str, str], ...]], ...] = (
    ("Triton", "kernel", _TRITON),
    (
        "Inductor",
        "kernel",
        (
            "InductorError",
            "torch._inductor",
            "No valid triton configs",
            ("_inductor", r"torch[\\/._]_?inductor"),
            ("AUTOTUNE", r"AUTOTUNE \w{1,60}\("),
            ("triton_", r"(?<![\w.])triton_(?:poi|red|per|tem)_\w{1,120}"),
        ),
    ),
    (
        "Helion",
        "kernel",
        (
            "_helion_",
            "HELION_",
            ("helion", r"(?<![\w.])helion[.\\/]"),
            ("Config(", r"(?:Skipping config|Timeout after [0-9.]{1,9}s compiling) Config\(block_sizes"),
        ),
    ),
    (
        "XLA",
        "kernel",
        (
            "XlaRuntimeError",
            "JaxRuntimeError",
            "XLA_FLAGS",
            "gemm_fusion_autotuner",
            "slow_operation_alarm",
            "ptxas exited with non-zero error code",
            ("xla", rf"xla{_PATH}(?:service|stream_executor|pjrt|xla)"),
            ("jax", r"(?<![\w.])jaxlib\b|(?<![\w.])jax\.errors"),
        ),
    ),
    ("Pallas", "kernel", ("pallas_call", "jax.experimental.pallas", "Mosaic GPU", "mosaic_gpu")),
    ("Reactant", "kernel", (("eactant", r"Reactant[.\\/]|reactant_\w"),)),
    (
        "Julia (CUDA.jl)",
        "kernel",
        (
            "Failed to compile PTX code",
            "GPUCompiler",
            "CUDA.jl",
            "CUDAdrv",
            ("jl_", rf"{_PATH}jl_\w{1, 60}\.ptx"),
            (".julia", rf"{_PATH}\.julia{_PATH}packages{_PATH}CUDA"),
        ),
    ),
    (
        "AMD's compiler",
        "kernel",
        (
            "amdgcn",
            "AMDGPU",
            "ROCArray",
            "could not scavenge",
            "is_hip: True",
            ("gfx", r"(?<!\w)gfx(?:[89]|1[0-2])[0-9a-f]{2}\b"),
            ("rocm", rf"(?i:{_PATH}rocm[\\/-])"),
            ("hipcc", r"(?<![\w.])hipcc\b"),
            ("backends", rf"triton{_PATH}backends{_PATH}amd"),
            (
                "spill",
                r"spill (?:SGPR|"
                r"VGPR)[0-9]{0,4} ",
            ),
            ("HIP", r"HIP error|hipError|Triton Error \[HIP\]"),
            ("rocm", r"\+rocm[0-9]"),
            "hipError",
            ("AMD", r"AMD (?:Radeon|Instinct)"),
            ("Radeon", r"Radeon (?:RX|PRO|Pro)"),
            ("MI", r"(?<![\w.])MI[23][0-9]{2}[AX]?(?![\w.])"),
        ),
    ),
    (
        "Intel's Triton",
        "kernel",
        (
            (
                "intel",
                rf"triton{_PATH}backends{_PATH}intel|"
                rf"intel-xpu-backend",
            ),
            "tritonintelgpu",
            "TritonIntelGPU",
            ("xpu", r"'device_type': 'xpu'"),
            ("intel_extension_for_pytorch", r"intel_extension_for_pytorch[^\n]{0,20}XPU"),
            ("Triton Error [", r"Triton Error \[(?:XPU|SYCL|ZE)\]"),
        ),
    ),
    (
        "CUTLASS DSL (CuTe)",
        "kernel",
        (
            "kernel_cutlass_",
            "cutlass.base_dsl",
            "nvidia_cutlass_dsl",
            "nvidia-cutlass-dsl",
            "CUTE_DSL_",
            "cutlass.cute",
            "NVPTX compiler invocation failed",
            ("base_dsl", rf"cutlass{_PATH}base_dsl"),
        ),
    ),
    (
        "cuTile",
        "kernel",
        ("cuda.tile.", "tileiras", "TileCompiler", "Tile IR program", ("tile", rf"cuda{_PATH}tile{_PATH}")),
    ),
    ("TileLang", "kernel", ("TileLang", ("tilelang", r"(?<!\w)tilelang[:.\\/ ]"))),
    ("TVM", "kernel", ("TVMError", ("tvm", r"(?<![\w.])tvm[.\\/:]"))),
    ("Numba", "kernel", ("cudapy", ("numba", r"(?<![\w.])numba[.\\/_]"))),
    ("CuPy", "kernel", ("cupy_backends", ("cupy", r"(?<![\w.])cupy[._\\/]"))),
    ("Warp", "kernel", ("Warp UserWarning", "_cuda_kernel_forward", "_cuda_kernel_backward")),
    ("NVRTC", "kernel", (("NVRTC", r"(?<!\w)NVRTC"), ("nvrtc", r"(?<![\w.])nvrtc"))),
    ("libNVVM", "kernel", ("libNVVM", "NVVM_ERROR", "NVVM backend", "libnvvm")),
    ("nvJitLink", "assembler", ("nvjitlink", "nvJitLink", "NVJITLINK")),
    (
        "the CUDA driver's linker",
        "assembler",
        ("cuLinkAddData", "cuLinkCreate", "cuModuleLoadData", "PTX JIT compilation failed"),
    ),
    ("clang", "kernel", (("clang", r"clang(?:\+\+)?(?:-[0-9]{1,2})?: (?:error|warning|fatal)|clang version [0-9]"),)),
    ("llc", "kernel", (("llc", r"Program arguments: \S{0,200}llc\b|(?:^|\n)\S{0,200}[\\/]?llc -m"),)),
    (
        "nvcc",
        "kernel",
        (
            "Building CUDA object",
            "tmpxft_",
            "CUDACOMPILE",
            "Compiling CUDA source file",
            ".cu.o",
            "nvcc failed",
            "nvcc error while",
            '"nvcc"',
            ("detected in the compilation", r"detected in the compilation of \"[^\"\n]{1,300}\.cuh?\""),
            ("nvcc", rf"nvcc (?:error|fatal|warning) {{0,4}}:|{_PATH}nvcc(?:\.exe)?(?![\w./\\-])|\bnvcc -"),
            ("' died", r"'(?:ptxas|cicc|nvlink|fatbinary|cudafe\+\+)' died"),
            (
                ".cu(",
                r"\.cuh?\([0-9]{1,7}\): (?:error|"
                r"warning)",
            ),
            (".cu:", r"\.cuh?:[0-9]{1,7}:[0-9]{1,5}: (?:fatal )?error"),
        ),
    ),
    ("ptxas", "assembler", (("ptxas", r"(?<![\w-])ptxas(?:-blackwell)?(?:\.exe)?(?![\w-])"),)),
    ("CMake or Ninja", "build", ("ninja: ", "CMakeFiles", ("***", r"make(?:\[\d\])?: \*\*\*"))),
    ("Bazel", "build", ("crosstool_wrapper", ("BUILD:", r"BUILD:[0-9]{1,7}:[0-9]{1,5}:"))),
    ("vLLM", "framework", ("VllmWorker", "EngineCore", ("vllm", rf"{_PATH}vllm{_PATH}"))),
    ("SGLang", "framework", (("sglang", rf"{_PATH}sglang{_PATH}|sglang\."),)),
)


@lru_cache(maxsize=1)
def _evidence() -> tuple[tuple[str, str, tuple[tuple[str, re.Pattern[str] | None], ...]], ...]:
    return tuple(
        (name, role, tuple((w, None) if isinstance(w, str) else (w[0], re.compile(w[1], re.ASCII)) for w in words))
        for name, role, words in _EVIDENCE
    )


def find_speakers(text: str) -> tuple[Speaker, ...]:
    """The tools that a cleaned text shows, in a fixed order."""
    found = []
    for name, role, words in _evidence():
        said = next(filter(None, (_said(text, word, pattern) for word, pattern in words)), None)
        if said:
            found.append(Speaker(name, role, said.strip()[:MAX_SAID]))
    return tuple(found)


def _said(text: str, word: str, pattern: re.Pattern[str] | None) -> str | None:
    if pattern is None:
        return word if word in text else None
    return next((m[0] for m in near(pattern, text, word, before=300, after=300)), None)

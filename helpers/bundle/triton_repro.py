"""repro.py: a script that needs one Triton and nothing else, for failures that no ptxas shows; and a run of it.

What Triton's front end refuses, what compiles and cannot be launched for want of shared or tensor memory, what becomes
an empty kernel, what takes longer than it may: for these the kernel itself is compiled again, without a GPU.
"""

from __future__ import annotations

import pprint
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from helpers.bundle.repro import MAX_WORDS, RUN_LIMIT_S, ReproRun, run_unpacked
from helpers.compiler.compile import CompileRequest
from helpers.compiler.report import CompileReport
from helpers.compiler.toolchain import resolve_triton
from helpers.compiler.worker.pool import FOREIGN_SCRIPTS, WORKER_SCRIPT
from helpers.hardware import get_arch
from helpers.inspection.crash.mlir import front_end_failure
from helpers.processes import scratch_folder

# What repro.py shows; every other failure is ptxas's.
_OF_TRITON = ("frontend_error", "out_of_shared_memory", "out_of_tensor_memory", "trapped")
_RESOURCES = {"out_of_shared_memory": "shared memory", "out_of_tensor_memory": "tensor memory"}
_UNITS = {"shared memory": "bytes of shared memory per CTA", "tensor memory": "columns of tensor memory"}
# Most seconds for a compile that is to end by itself.
LIMIT_S = 480
SCRIPT = Path(__file__).with_name("compile_again.py")
LOADER = {f"loader/{file.name}": file for file in (WORKER_SCRIPT, *FOREIGN_SCRIPTS)}


@dataclass(frozen=True)
class TritonEnd:
    """How a compile by Triton ends, as something a script can recognise.

    `words` stand in what it prints (letter by letter) where it fails with a complaint; `needed` and `available` are of
    the `resource` (bytes of shared memory, columns of tensor memory) where a kernel compiles and does not fit;
    `limit_s` is the time after which a compile that is still under way counts as failed.
    """

    status: str
    version: str
    words: str = ""
    resource: str = ""
    needed: int = 0
    available: int = 0
    limit_s: int = 0

    def sentence(self) -> str:
        """What is expected of a repro, in words."""
        if self.resource:
            return f"the kernel needs {self.needed} {_UNITS[self.resource]}, and the chip has {self.available}"
        if self.status == "trapped":
            return "the kernel that Triton writes is a bare trap"
        if self.limit_s:
            return f"Triton is still compiling after {self.limit_s} seconds"
        return f"Triton fails and says: {self.words}" if self.words else "Triton fails"


def triton_end(request: CompileRequest, compiled: CompileReport) -> TritonEnd | None:
    """The end of a compile that a repro.py can show; None for one that ptxas decides, or that did not fail."""
    version = compiled.triton_version or ""
    if compiled.status == "timeout" and compiled.failed_stage != "ptxas":
        return TritonEnd("timeout", version, limit_s=max(1, min(RUN_LIMIT_S, round(request.timeout_s))))
    before_ptxas = compiled.failed_stage not in (None, "ptxas")
    if compiled.status not in _OF_TRITON and not before_ptxas:
        return None
    if compiled.status == "trapped":
        return TritonEnd("trapped", version)
    if not before_ptxas and compiled.status in _RESOURCES:
        resource, arch = _RESOURCES[compiled.status], get_arch(request.arch)
        needed, available = compiled.smem_bytes, arch.smem_per_block_max_bytes
        if resource == "tensor memory":
            needed, available = compiled.tmem_columns, arch.tmem_columns
        return TritonEnd(compiled.status, version, resource=resource, needed=needed or 0, available=available)
    return TritonEnd(compiled.status, version, words=_words(compiled))


def _words(compiled: CompileReport) -> str:
    """A piece of the complaint that stands in what Triton prints, printable and without the kernel's folder."""
    log = Path(compiled.frontend_log_path).read_text(errors="replace") if compiled.frontend_log_path else ""
    failure = front_end_failure(log) if compiled.error_line else None
    said = (failure and failure.words) or compiled.headline
    said = re.split(r"[^\x20-\x7e]|/[^ ]*/", said)[0]
    return said[:MAX_WORDS].strip()


def triton_script(request: CompileRequest, end: TritonEnd) -> str:
    """The text of repro.py, which reads spec.json and kernel/ beside it.

    Its exit code: 0 the compile ended as recorded, 1 it did not, 2 there is no Triton.
    """
    chain = request.toolchain
    cuda = ".".join(chain.ptxas.split(".")[:2]) if chain.ptxas_for_codegen else None
    filled = (
        f"EXPECTED = {pprint.pformat({**asdict(end), 'sentence': end.sentence()}, width=110, sort_dicts=False)}\n"
        f"CAPABILITY, CODEGEN_CUDA, LIMIT_S = {get_arch(request.arch).capability}, {cuda!r}, {end.limit_s or LIMIT_S}\n"
    )
    text = SCRIPT.read_text()
    before, _, rest = text.partition("# Filled in for each bundle.\n")
    _, _, after = rest.partition("# End of what is filled in.\n")
    head = before.replace("ARCH", get_arch(request.arch).name).replace("VERSION", end.version)
    return head + filled + after


def loader_files() -> dict[str, str]:
    """What repro.py needs to load a kernel with stand-ins for what its file imports."""
    return {name: file.read_text() for name, file in LOADER.items()}


def run_triton_repro(content: bytes, triton: str, *, timeout_s: float) -> ReproRun:
    """Run the repro.py of a zip (its bytes) from an empty folder: Python's own library, that Triton, nothing else."""
    site = resolve_triton(triton).path
    with scratch_folder("site") as only:
        # Of a site-packages folder, Triton and its metadata (its backends are found by them) alone.
        for part in (site / "triton", *site.glob("triton-*.dist-info")):
            (only / part.name).symlink_to(part.resolve())
        # -S: no site-packages of this Python; -P: nor the folder of the script.
        words = [sys.executable, "-S", "-P", "repro.py"]
        return run_unpacked(content, words, {"PYTHONPATH": str(only)}, timeout_s=timeout_s)

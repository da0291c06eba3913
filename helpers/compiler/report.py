"""CompileReport: what one compile left behind, failed or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from helpers.errors import MachineError
from helpers.hardware import AMD_ARCHS, cap_for
from helpers.inspection.amdgcn import AmdResources
from helpers.inspection.ptx.scan import tensor_core_path

STATUSES = (
    "ok",
    "spills",
    "register_exhausted",
    "out_of_shared_memory",
    "out_of_tensor_memory",
    "trapped",
    "ptxas_error",
    "frontend_error",
    "unsupported_target",
    "unsupported_ptx_version",
    "ptxas_signal",
    "timeout",
    "toolchain_missing",
    "environment_error",
)
# A binary came out of it (whether it can be launched and is fast are other questions).
COMPILED = ("ok", "spills")
# Nothing is known of the kernel: the question could not be asked, or was not answered in time.
NO_VERDICT = ("toolchain_missing", "unsupported_target", "unsupported_ptx_version", "timeout", "environment_error")
EXPLANATIONS = {
    "ok": "compiled, nothing spilled",
    "spills": "compiled, but registers spilled to local memory",
    "register_exhausted": "ptxas could not allocate registers and gave up",
    "out_of_shared_memory": "compiled, but needs more shared memory per CTA than the arch has: the launch would fail",
    "out_of_tensor_memory": "needs more tensor-memory columns than the arch has",
    "trapped": "ptxas accepted an empty kernel that only traps: not a pass",
    "ptxas_error": "ptxas refused the PTX",
    "frontend_error": "Triton failed before there was PTX",
    "unsupported_target": "this toolchain cannot target this arch",
    "unsupported_ptx_version": "this ptxas is too old for the PTX version",
    "ptxas_signal": "ptxas was killed by a signal",
    "timeout": "stopped at the time limit",
    "toolchain_missing": "the toolchain is not on this machine",
    "environment_error": "the machine failed (space, memory, processes): nothing is known of the kernel",
}
# What is otherwise on an AMD chip, where LLVM in Triton writes the binary itself.
_ON_AMD = {
    "spills": "compiled, but registers spilled to scratch memory",
    "out_of_shared_memory": "compiled, but needs more LDS per workgroup than the arch has: the launch would fail",
    "frontend_error": "Triton failed before there was assembly",
}


def explain(status: str, arch: str) -> str:
    """What a status means for a compile for `arch`, in one clause."""
    return (_ON_AMD.get(status) if arch in AMD_ARCHS else None) or EXPLANATIONS[status]


def verdict_words(
    status: str,
    *,
    registers: int | None = None,
    spill_store_bytes: int | None = None,
    code: str | None = None,
    amd: AmdResources | None = None,
) -> str:
    """How a compile ended, in one short phrase that can stand in a sentence; the one place that puts it into words."""
    if status in COMPILED and amd is not None:
        return f"{amd.vgprs} VGPRs, {amd.scratch_bytes} B scratch"
    if status in COMPILED:
        known = {"registers": registers, "B spill stores": spill_store_bytes}
        # ptxas says neither of a PTX without a kernel.
        return ", ".join(f"{value} {unit}" for unit, value in known.items() if value is not None) or "compiles"
    words = "dies" if status == "register_exhausted" else status.replace("_", " ")
    return f"{words} ({code})" if code else words


@dataclass(frozen=True)
class CompileReport:
    """One compile of one spec for one arch by one toolchain.

    Numbers are ptxas's own (`-v`), per thread or per CTA as named, and None where the compile did not get that far.
    `wall_s` is what this compile took when it was run, also when this report came out of the cache (`cached`).
    Paths are of the kept stages; a failed compile keeps all up to the stage that failed. Where Triton's front end ended
    it, `error_line` is its complaint in one line, `error_place` (`k.py:26`) and `error_source` the kernel's line it
    names, `failed_pass` the MLIR pass, `frontend_log_path` its stderr and `reproducer_path` the MLIR that
    `triton-opt` runs again; each None where it said nothing of the kind.

    For a chip of AMD's, `amd` has the figures, and those of ptxas and of PTX are None; `lds_bytes` there is what
    `smem_bytes` is on NVIDIA's.
    """

    status: str
    arch: str
    triton_version: str | None
    ptxas_version: str | None
    label: str = ""
    kernel_name: str | None = None
    num_warps: int | None = None
    regs_per_thread: int | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None
    stack_frame_bytes: int | None = None
    smem_bytes: int | None = None
    tmem_columns: int | None = None
    barriers: int | None = None
    instructions: dict[str, int] = field(default_factory=dict)
    ptxas_code: str | None = None
    register_count_asked: int | None = None
    message: str = ""
    failed_stage: str | None = None
    error_line: str | None = None
    error_place: str | None = None
    error_source: str | None = None
    failed_pass: str | None = None
    wall_s: float = 0.0
    cached: bool = False
    ptx_version: str | None = None
    ptx_lines: int | None = None
    ptx_sha256: str | None = None
    ptxas_command: str | None = None
    spec_key: str | None = None
    ptx_path: str | None = None
    ttir_path: str | None = None
    ttgir_path: str | None = None
    llir_path: str | None = None
    cubin_path: str | None = None
    log_path: str | None = None
    frontend_log_path: str | None = None
    reproducer_path: str | None = None
    amd: AmdResources | None = None
    amdgcn_path: str | None = None
    hsaco_path: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}")

    @property
    def compiled(self) -> bool:
        """Whether a binary came out; `launchable` says whether an SM can take it."""
        return self.status in COMPILED

    @property
    def cap(self) -> int | None:
        """Most registers a thread can have with this many warps in a CTA; None where the warps are not known."""
        if not self.num_warps:
            return None
        if chip := AMD_ARCHS.get(self.arch):
            return chip.cap_for(num_warps=self.num_warps)
        return cap_for(num_warps=self.num_warps)

    @property
    def launchable(self) -> bool:
        """Whether a binary came out and one CTA of it fits the register file: `maxnreg` allows what no SM can give."""
        registers = self.amd.vgprs if self.amd else self.regs_per_thread or 0
        return self.compiled and (self.cap is None or registers <= self.cap)

    @property
    def crashed(self) -> bool:
        """Whether ptxas ran out of registers: the failure this workbook is about."""
        return self.status == "register_exhausted"

    @property
    def tensor_core_path(self) -> str:
        """The matrix instructions the code uses: tcgen05, wgmma, mma.sync, on AMD's chips mfma, or none."""
        return tensor_core_path(self.instructions)

    @property
    def headline(self) -> str:
        """The message in one line: the complaint itself, not the lines around it."""
        lines = self.message.strip().splitlines() or [""]
        # Python's own front end quotes the source first and complains last.
        last = self.status == "frontend_error" and self.error_line is None
        return self.error_line or lines[-1 if last else 0].strip()

    def verdict(self) -> str:
        """One short phrase with the telling numbers: `255 registers, 700 B spill stores` or `dies (C7600)`."""
        return verdict_words(
            self.status,
            registers=self.regs_per_thread,
            spill_store_bytes=self.spill_store_bytes,
            code=self.ptxas_code,
            amd=self.amd,
        )

    def verdict_in_full(self) -> str:
        """`verdict`, followed by the front end's complaint where the front end failed: its status alone says little."""
        if self.status != "frontend_error" or not self.headline:
            return self.verdict()
        return f"{self.verdict()}: {self.headline}"

    def to_dict(self) -> dict:
        """All fields and `verdict`, ready for JSON."""
        return {
            **asdict(self),
            "tensor_core_path": self.tensor_core_path,
            "launchable": self.launchable,
            "headline": self.headline,
            "verdict": self.verdict(),
        }


def refuse_ill(reports: Sequence[CompileReport], before: str = "") -> None:
    """Raise MachineError where the machine failed one of these compiles: nothing may be concluded from that one.

    For whoever concludes something from reports, right after the compiles. The others are in the cache by then. The
    error begins with `before`.
    """
    ill = [report for report in reports if report.status == "environment_error"]
    if ill:
        some = f"{len(ill)} of {len(reports)} compiles have no answer, " if len(reports) > 1 else ""
        raise MachineError(f"{before}{some}{ill[0].label or 'the kernel'} for {ill[0].arch}: {ill[0].message}")


LIVE = "live, compiled on this machine (no GPU involved)"


@dataclass(frozen=True)
class Evidence:
    """A report and where it comes from: compiled in this run (or its cache), or read from data/."""

    report: CompileReport
    source: str

    @property
    def live(self) -> bool:
        """Whether this machine compiled it."""
        return self.source == LIVE

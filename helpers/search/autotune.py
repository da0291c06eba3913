"""Which configurations of an autotuned kernel a chip and a toolchain refuse, and why, without a GPU.

Triton's autotuner times what compiles and drops the rest without a word: it catches ptxas's failures, a static_assert
and resources the device lacks. Anything else that goes wrong in a configuration ends the program.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from helpers.compiler.bring.from_file import Configuration, ListNotKnown, configurations
from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest, compile_matrix
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.report import CompileReport, refuse_ill
from helpers.compiler.toolchain import Toolchain, ToolchainMissing

RUNS, DROPPED, RAISES, NOT_KNOWN = "runs", "dropped", "raises", "not known"
_WHY = {
    "register_exhausted": "registers: ptxas could not allocate them",
    "out_of_shared_memory": "shared memory",
    "out_of_tensor_memory": "tensor memory",
    "ptxas_error": "ptxas refused the PTX",
    "ptxas_signal": "ptxas crashed",
    "trapped": "nothing: it compiles to a bare trap, and the autotuner times that",
    "unsupported_ptx_version": "ptxas is too old for the PTX",
    "unsupported_target": "the toolchain does not know this chip",
}
# What Triton's autotuner catches; a static_assert is told from other frontend errors by the line pointed at.
_CAUGHT = ("register_exhausted", "out_of_shared_memory", "out_of_tensor_memory", "ptxas_error", "ptxas_signal",
           "unsupported_ptx_version")  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """One configuration, compiled: what an autotuner makes of it (`runs`, `dropped`, `raises`, `not known`) and why."""

    configuration: Configuration
    report: CompileReport
    fate: str
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A flat row, ready for JSON."""
        report = self.report
        return {
            "configuration": self.configuration.text,
            **self.configuration.values,
            **self.configuration.options,
            "fate": self.fate,
            "why": self.why,
            "status": report.status,
            "ptxas_code": report.ptxas_code,
            "regs_per_thread": report.regs_per_thread,
            "spill_store_bytes": report.spill_store_bytes,
            "smem_bytes": report.smem_bytes,
            "tensor_core_path": report.tensor_core_path if report.instructions else None,
            "message": report.message[:300],
        }


@dataclass(frozen=True)
class AutotuneReport:
    """Every configuration of one kernel on one arch and toolchain, in the autotuner's order.

    `not_known` says why there is none, where the list depends on what a stand-in answered.
    """

    label: str
    arch: str
    triton_version: str | None
    tried: tuple[Tried, ...]
    not_known: str = ""

    @property
    def dropped(self) -> tuple[Tried, ...]:
        """The configurations the autotuner would never time."""
        return tuple(t for t in self.tried if t.fate not in (RUNS, NOT_KNOWN))

    def summary(self) -> str:
        """One sentence: how many of how many are dropped, by reason."""
        if self.not_known:
            return self.not_known
        late = sum(t.fate == NOT_KNOWN for t in self.tried)
        rest = f"; of {late} nothing is known: the compile reached its time limit" if late else ""
        if not self.dropped:
            return f"{'all ' * (not late)}{len(self.tried) - late} configurations compile for {self.arch}{rest}"
        reasons = Counter(t.why for t in self.dropped)
        words = ", ".join(f"{count} × {why}" for why, count in reasons.most_common())
        return f"{len(self.dropped)} of {len(self.tried)} configurations do not run on {self.arch}: {words}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "label": self.label,
            "arch": self.arch,
            "triton_version": self.triton_version,
            "known": not self.not_known,
            "summary": self.summary(),
            "configurations": [t.to_dict() for t in self.tried],
        }


def autotune_report(
    spec: KernelSpec,
    arch: str,
    toolchain: Toolchain | None = None,
    *,
    ptxas_flags: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[int, int, CompileReport], None] | None = None,
) -> AutotuneReport:
    """Every configuration of an autotuned kernel compiled in place of the spec's own; what the autotuner would drop.

    Configurations that `prune_configs_by` takes away at run time are among them: that depends on the arguments.
    Raises UserError for a kernel that is not autotuned, and as `compile_kernel` does.
    """
    toolchain = toolchain or Toolchain()
    try:
        found = configurations(spec.kernel, toolchain.triton, arch=arch)
    except ListNotKnown as exc:
        return AutotuneReport(spec.label, arch, toolchain.resolve().triton.version, (), str(exc))
    requests = [
        CompileRequest(configured(spec, c), arch, toolchain, ptxas_flags=tuple(ptxas_flags), timeout_s=timeout_s)
        for c in found
    ]
    reports = compile_matrix(requests, progress=progress)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing:
        raise ToolchainMissing(missing[0].message)
    refuse_ill(reports)
    tried = tuple(Tried(c, r, *fate(r)) for c, r in zip(found, reports, strict=True))
    return AutotuneReport(spec.label, arch, reports[0].triton_version, tried)


def configured(spec: KernelSpec, configuration: Configuration) -> KernelSpec:
    """The spec under one configuration; raises UserError for a constexpr the kernel does not have."""
    changed = spec.with_constexprs(**configuration.values).with_options(**configuration.options)
    return replace(changed, label=f"{spec.label} [{configuration.text}]")


def fate(report: CompileReport) -> tuple[str, str]:
    """(what the autotuner does with a configuration that compiled so, why)."""
    if report.compiled:
        return RUNS, ""
    if report.status == "timeout":
        return NOT_KNOWN, "stopped at the time limit"
    why = _WHY.get(report.status, report.status)
    if report.status == "register_exhausted" and report.ptxas_code:
        why += f" ({report.ptxas_code}, {report.register_count_asked or '?'} asked)"
    if report.status == "trapped":
        return RUNS, why
    if report.status in _CAUGHT:
        return DROPPED, why
    if report.status == "frontend_error":
        if "static_assert" in _pointed_at(report.message):
            return DROPPED, "a static_assert of the kernel"
        return RAISES, "the front end: " + (report.headline or "no message")[:160]
    return RAISES, why


def _pointed_at(message: str) -> str:
    """The line that the outermost error points at with a caret: one inside a called function is not caught."""
    lines = message.splitlines()
    return next((before for before, line in itertools.pairwise(lines) if line.strip() == "^"), "")

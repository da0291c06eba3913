"""The gate for a kernel repository's CI: recompile its specs and compare with a recorded baseline.

A regression is a kernel that no longer compiles, more bytes spilled, or a tensor-core path lost. What was broken in the
baseline already is no regression; what has no baseline row must compile.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest, compile_matrix
from helpers.compiler.kernel_spec import KernelSpec, tell_apart
from helpers.compiler.report import STATUSES, CompileReport, refuse_ill, verdict_words
from helpers.compiler.toolchain import Toolchain
from helpers.errors import MachineError, UserError
from helpers.files import read_text_bounded, write_text_atomically
from helpers.hardware import get_target
from helpers.inspection.ptx.scan import MATRIX_PATHS
from helpers.search.ablate import Progress

_TEXT = ("spec", "arch", "triton_version", "ptxas_version", "status", "ptxas_code", "tensor_core_path", "spec_key")
_COUNTS = (
    "regs_per_thread", "spill_store_bytes", "spill_load_bytes", "smem_bytes", "tcgen05_mma", "wgmma", "mma_sync",
    "mfma", "vgprs", "scratch_bytes", "lds_bytes", "stack_frame_bytes",
)  # fmt: skip
BASELINE_COLUMNS = (*_TEXT[:6], *_COUNTS[:4], "weighted_spill_bytes", _TEXT[6], *_COUNTS[4:], _TEXT[7])
# Rows of a baseline that say nothing of the kernel: under another load they would have been others.
_OF_THE_MOMENT = ("timeout", "environment_error")
# What stands for the tensor-core path of what is built already, where nobody read its code.
UNKNOWN_PATH = "unknown"
MAX_BASELINE_BYTES = 50_000_000
SpillWeight = Callable[[CompileReport], float | None]


@dataclass(frozen=True)
class Measured:
    """What the gate compares of one spec on one arch; bytes per thread, None where there is no binary.

    `weighted_spill_bytes` counts each spill as often as the loops around it run, by whatever measure the caller gave.
    A kernel for an AMD chip has `vgprs`, `scratch_bytes` and `lds_bytes`, and none of ptxas's figures.
    """

    spec: str
    arch: str
    status: str
    triton_version: str | None = None
    ptxas_version: str | None = None
    ptxas_code: str | None = None
    regs_per_thread: int | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None
    smem_bytes: int | None = None
    weighted_spill_bytes: float | None = None
    tensor_core_path: str = "none"
    tcgen05_mma: int = 0
    wgmma: int = 0
    mma_sync: int = 0
    spec_key: str | None = None
    mfma: int = 0
    vgprs: int | None = None
    scratch_bytes: int | None = None
    lds_bytes: int | None = None
    stack_frame_bytes: int | None = None

    @property
    def compiled(self) -> bool:
        """Whether a launchable binary came out."""
        return self.status in ("ok", "spills")

    @property
    def spill_bytes(self) -> int | None:
        """Spill stores and loads together, on an AMD chip the bytes of scratch; None where nobody read the code."""
        if self.compiled and self.scratch_bytes is not None:
            return self.scratch_bytes
        if not self.compiled or self.spill_store_bytes is None:
            return None
        return self.spill_store_bytes + (self.spill_load_bytes or 0)

    def verdict(self) -> str:
        """One short phrase with the telling numbers."""
        if not self.compiled:
            return verdict_words(self.status, code=self.ptxas_code)
        weighed = f" ({self.weighted_spill_bytes:g} by loops)" if self.weighted_spill_bytes else ""
        if self.vgprs is not None:
            return f"{self.vgprs} VGPRs, {self.scratch_bytes} B scratch, {self.tensor_core_path}"
        registers = "registers not recorded" if self.regs_per_thread is None else f"{self.regs_per_thread} registers"
        if self.spill_bytes is None:  # of what is built already, and its code was not read
            return f"{registers}, {self.stack_frame_bytes} B stack"
        return f"{registers}, {self.spill_bytes} B spilled{weighed}, {self.tensor_core_path}"


@dataclass(frozen=True)
class GateRow:
    """One spec beside its baseline: what got worse (`regressions`), what is worth knowing (`notes`)."""

    spec: str
    arch: str
    before: Measured | None
    now: Measured | None
    regressions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether this row fails the gate."""
        return bool(self.regressions)

    def to_dict(self) -> dict:
        """A flat row, ready for JSON."""
        return {
            "spec": self.spec,
            "arch": self.arch,
            "failed": self.failed,
            "before": self.before.verdict() if self.before else None,
            "now": self.now.verdict() if self.now else None,
            "registers_before": self.before.regs_per_thread if self.before else None,
            "registers_now": self.now.regs_per_thread if self.now else None,
            "spill_bytes_before": self.before.spill_bytes if self.before else None,
            "spill_bytes_now": self.now.spill_bytes if self.now else None,
            "weighted_spill_bytes_before": self.before.weighted_spill_bytes if self.before else None,
            "weighted_spill_bytes_now": self.now.weighted_spill_bytes if self.now else None,
            "tensor_core_path_before": self.before.tensor_core_path if self.before else None,
            "tensor_core_path_now": self.now.tensor_core_path if self.now else None,
            "regressions": list(self.regressions),
            "notes": list(self.notes),
        }


def exit_code(rows: Iterable[GateRow]) -> int:
    """1 when any row is a regression, else 0. (2 is for a gate that could not be run, which raises UserError.)"""
    return int(any(row.failed for row in rows))


def gate(
    specs: Sequence[KernelSpec],
    archs: Sequence[str],
    toolchain: Toolchain | None = None,
    *,
    baseline: Sequence[Measured],
    more_spills_allowed: int = 0,
    spill_weight: SpillWeight | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[int, int, CompileReport], None] | None = None,
) -> list[GateRow]:
    """The rows of recompiling `specs` for `archs` beside their `baseline`; `exit_code` of them is the verdict.

    `more_spills_allowed` bytes per thread are no regression. `spill_weight` measures spills by the loops they sit in;
    it counts where the baseline was measured so too. Raises as `measure` does, and for a negative allowance.
    """
    if more_spills_allowed < 0:
        raise UserError(f"more_spills_allowed is {more_spills_allowed}: give 0 or more bytes")
    now = measure(specs, archs, toolchain, spill_weight=spill_weight, timeout_s=timeout_s, progress=progress)
    return compare(now, baseline, more_spills_allowed=more_spills_allowed)


def measure(
    specs: Sequence[KernelSpec],
    archs: Sequence[str],
    toolchain: Toolchain | None = None,
    *,
    spill_weight: SpillWeight | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[int, int, CompileReport], None] | None = None,
) -> list[Measured]:
    """One row a spec and arch: what a baseline holds. Specs are known by their labels (see `tell_apart`).

    Raises UserError for no specs, specs without a printable label or with the same one, and a toolchain that is not
    here: a gate that compiled nothing must not pass.
    """
    if not specs or not archs:
        raise UserError("the gate was given no specs or no arch: there is nothing to compile, so nothing to pass")
    specs = tell_apart(specs)
    labels = [spec.label for spec in specs]
    for label in labels:
        # The baseline is a CSV file with # comments: what it could not give back must not go in.
        if not label.strip() or not label.isprintable() or label.startswith("#"):
            raise UserError(f"the gate knows specs by label, and {label[:80]!r} is no name: give each spec one")
        if labels.count(label) > 1:
            raise UserError(f"the gate knows specs by label, and {label[:80]!r} is there twice: give each its own")
    for spec in specs:
        spec.content_key()  # an unreadable kernel is said before anything is compiled
    requests = [
        CompileRequest(spec, get_target(arch).name, toolchain or Toolchain(), timeout_s=timeout_s)
        for spec in specs
        for arch in archs
    ]
    reports = compile_matrix(requests, progress=progress)
    if missing := next((r for r in reports if r.status == "toolchain_missing"), None):
        raise UserError(missing.message)
    refuse_ill(reports)
    return [measured(report, spill_weight) for report in reports]


def measured(report: CompileReport, spill_weight: SpillWeight | None = None) -> Measured:
    """A report as the gate sees it."""
    weighted = spill_weight(report) if spill_weight is not None and report.compiled and report.amd is None else None
    return Measured(
        spec=report.label,
        arch=report.arch,
        status=report.status,
        triton_version=report.triton_version,
        ptxas_version=report.ptxas_version,
        ptxas_code=report.ptxas_code,
        regs_per_thread=report.regs_per_thread,
        spill_store_bytes=report.spill_store_bytes,
        spill_load_bytes=report.spill_load_bytes,
        smem_bytes=report.smem_bytes,
        weighted_spill_bytes=weighted,
        tensor_core_path=report.tensor_core_path,
        **{key: report.instructions.get(key, 0) for key in MATRIX_PATHS.values()},
        spec_key=report.spec_key,
        vgprs=report.amd.vgprs if report.amd else None,
        scratch_bytes=report.amd.scratch_bytes if report.amd else None,
        lds_bytes=report.amd.lds_bytes if report.amd else None,
    )


def compare(now: Sequence[Measured], baseline: Sequence[Measured], *, more_spills_allowed: int = 0) -> list[GateRow]:
    """Rows in the order of `now`, then baseline rows that nothing was compiled for. Pure: compiles nothing."""
    before = {(m.spec, m.arch): m for m in baseline}
    rows = [_row(m, before.pop((m.spec, m.arch), None), more_spills_allowed) for m in now]
    gone = ("in the baseline, but not among the specs: not checked",)
    return rows + [GateRow(m.spec, m.arch, m, None, notes=gone) for m in before.values()]


def _row(now: Measured, before: Measured | None, allowed: int) -> GateRow:
    worse, notes = [], []
    if before is None or before.status in _OF_THE_MOMENT:
        known = "no baseline row" if before is None else f"the baseline has no verdict ({before.verdict()})"
        notes.append(f"new: {known}")
        if not now.compiled:
            worse.append(f"does not compile: {now.verdict()}")
        return GateRow(now.spec, now.arch, before, now, tuple(worse), tuple(notes))
    if before.spec_key and now.spec_key and before.spec_key != now.spec_key:
        notes.append("the kernel or its spec changed since the baseline")
    if before.compiled and not now.compiled:
        worse.append(f"no longer compiles: {now.verdict()}")
    elif not before.compiled and now.compiled:
        notes.append(f"compiles now ({before.verdict()} before)")
    elif not before.compiled:
        if (before.status, before.ptxas_code) != (now.status, now.ptxas_code):
            notes.append(f"fails in another way: {now.verdict()} (before: {before.verdict()})")
    else:
        _compare_spills(now, before, allowed, worse, notes)
    if before.compiled and now.compiled and (lost := lost_path(before, now)):
        worse.append(lost)
    return GateRow(now.spec, now.arch, before, now, tuple(worse), tuple(notes))


def _compare_spills(now: Measured, before: Measured, allowed: int, worse: list[str], notes: list[str]) -> None:
    more = (now.spill_bytes or 0) - (before.spill_bytes or 0)
    if more > allowed:
        worse.append(f"spills {now.spill_bytes} B, {more} B more")
        return
    if more:
        notes.append(f"spills {more} B more, {allowed} B are allowed" if more > 0 else f"spills {-more} B less")
    heavier, weighed = now.weighted_spill_bytes, before.weighted_spill_bytes
    # Fewer bytes in an inner loop can cost more than many outside of it.
    if more <= 0 and heavier is not None and weighed is not None and heavier > weighed:
        worse.append(f"no more bytes, but in deeper loops: spills weigh {heavier:g} B there, {weighed:g} B before")


def lost_path(before: Measured, now: Measured) -> str:
    """What tensor-core path was lost: the fastest one altogether, or some of it to a slower one."""
    names = list(MATRIX_PATHS)
    if now.tensor_core_path == UNKNOWN_PATH:
        return ""
    if before.tensor_core_path not in names:
        return ""
    key = MATRIX_PATHS[before.tensor_core_path]
    had, has = getattr(before, key), getattr(now, key)
    faster = names[: names.index(before.tensor_core_path)]
    slower = names[names.index(before.tensor_core_path) + 1 :]
    if any(getattr(now, MATRIX_PATHS[name]) for name in faster):
        return ""
    if not has:
        return f"lost {before.tensor_core_path}: now {now.tensor_core_path}"
    # Fewer instructions of one kind can be larger ones; fewer of it and more of a slower kind cannot.
    for name in slower:
        if has < had and getattr(now, MATRIX_PATHS[name]) > getattr(before, MATRIX_PATHS[name]):
            return f"{had - has} of {had} {before.tensor_core_path} instructions gone, {name} in their place"
    return ""


# --- the baseline file ------------------------------------------------------------------------------------


def baseline_text(rows: Iterable[Measured]) -> str:
    """The rows as the CSV text that `parse_baseline` reads."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(BASELINE_COLUMNS)
    for row in rows:
        writer.writerow(["" if (v := getattr(row, name)) is None else v for name in BASELINE_COLUMNS])
    return out.getvalue()


def write_baseline(path: Path, rows: Sequence[Measured]) -> None:
    """Write a baseline file; raises MachineError where that cannot be done."""
    try:
        write_text_atomically(path, baseline_text(rows), make_folder=False)
    except OSError as exc:
        raise MachineError(
            f"cannot write the baseline {path}: {exc.strerror or exc}; the compiles are in the cache, so that the same "
            "command is quick once there is room"
        ) from exc


def read_baseline(path: Path) -> list[Measured]:
    """The rows of a baseline file; raises UserError naming the line that cannot be read."""
    hint = "write one from a good state with --write"
    return parse_baseline(read_text_bounded(path, MAX_BASELINE_BYTES, "the baseline", errors="strict", hint=hint))


def parse_baseline(text: str) -> list[Measured]:
    """The rows of baseline CSV text (lines that begin with # are comments); raises UserError for anything else."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    reader = csv.DictReader(lines)
    try:
        columns = reader.fieldnames or []
        if missing := [c for c in ("spec", "arch", "status") if c not in columns]:
            raise UserError(f"not a baseline: no column {missing[0]!r}; the gate writes {', '.join(BASELINE_COLUMNS)}")
        rows = [_parse_row(raw, number) for number, raw in enumerate(reader, start=1)]
    except csv.Error as exc:
        raise UserError(f"not a baseline: {exc}") from exc
    keys = [(r.spec, r.arch) for r in rows]
    if len(set(keys)) != len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise UserError(f"the baseline has two rows for {twice[0]!r} on {twice[1]}: keep one")
    return rows


def _parse_row(raw: Mapping[str, str | None], number: int) -> Measured:
    given = {k: v for k, v in raw.items() if isinstance(v, str) and v != ""}
    if given.get("status") not in STATUSES:
        raise UserError(f"baseline row {number}: status {given.get('status', '')[:40]!r} is none of the compiler's")
    values: dict[str, Any] = {k: given[k] for k in _TEXT if k in given}
    try:
        values |= {k: int(given[k]) for k in _COUNTS if k in given}
        if "weighted_spill_bytes" in given:
            values["weighted_spill_bytes"] = float(given["weighted_spill_bytes"])
    except ValueError as exc:
        raise UserError(f"baseline row {number}: {exc}") from exc
    if not values.get("spec") or not values.get("arch"):
        raise UserError(f"baseline row {number} names no spec or no arch")
    row = Measured(**values)
    if row.compiled and row.spill_store_bytes is None and row.scratch_bytes is None and row.stack_frame_bytes is None:
        raise UserError(f"baseline row {number} compiled, but has no spill_store_bytes")
    return row


def gate_command_result(
    specs: Sequence[KernelSpec],
    archs: Sequence[str],
    baseline: Path,
    *,
    toolchain: Toolchain | None = None,
    write: bool = False,
    more_spills_allowed: int = 0,
    spill_weight: SpillWeight | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Progress | None = None,
) -> dict:
    """What `gate --json` prints: `rows`, `regressions` (a count), `exit_code`; with `write`, the baseline is (re)made.

    Raises UserError when the gate cannot be run: no baseline file, no specs, a toolchain that is not here.
    """
    if write:
        measured = measure(specs, archs, toolchain, spill_weight=spill_weight, timeout_s=timeout_s, progress=progress)
        write_baseline(baseline, measured)
        rows = [GateRow(m.spec, m.arch, None, m, notes=("recorded",)) for m in measured]
    else:
        if not baseline.exists():
            raise UserError(f"there is no baseline {baseline}: record one from a good state first")
        rows = gate(
            specs,
            archs,
            toolchain,
            baseline=read_baseline(baseline),
            more_spills_allowed=more_spills_allowed,
            spill_weight=spill_weight,
            timeout_s=timeout_s,
            progress=progress,
        )
    return result_of(rows, baseline, wrote=write)


def result_of(rows: Sequence[GateRow], baseline: Path, *, wrote: bool) -> dict:
    """The rows of a gate as `--json` prints them, with their count and the exit code."""
    return {
        "baseline": str(baseline),
        "wrote_baseline": wrote,
        "rows": [row.to_dict() for row in rows],
        "regressions": sum(row.failed for row in rows),
        "exit_code": exit_code(rows),
    }

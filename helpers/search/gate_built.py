"""The gate over what is built already: the kernels of libraries and cubins beside a recorded baseline.

Nothing is compiled. New kernels and worse ones fail until the baseline is moved on purpose; with a ratchet better ones
fail too, so that what was won is written down; what has gone is told. The baseline is the one of `gate`, read by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helpers.compiler.built.inspect import Inspection, Progress, inspect_built
from helpers.compiler.built.rows import BuiltKernel, name_matches
from helpers.errors import UserError
from helpers.hardware import cap_for
from helpers.search.gate import (
    UNKNOWN_PATH,
    GateRow,
    Measured,
    lost_path,
    read_baseline,
    result_of,
    write_baseline,
)

__all__ = ["compare_built", "gate_built_result", "measured_built"]

_NUMBERS = {
    "registers": "regs_per_thread", "B of stack": "stack_frame_bytes", "B spilled": "spill_bytes",
    "B of spills by loops": "weighted_spill_bytes",
}  # fmt: skip


def measured_built(rows: Sequence[BuiltKernel]) -> list[Measured]:
    """One row a kernel and arch, by the name that its author wrote: of several with one name, the worst.

    A name that the linker makes unique has no place in it, so that a kernel is the same from build to build.
    """
    worst: dict[tuple[str, str], Measured] = {}
    for row in rows:
        if not row.kernel or row.registers is None:
            continue
        now = _measured(row)
        there = worst.get((now.spec, now.arch))
        if there is None or _badness(now) > _badness(there):
            worst[now.spec, now.arch] = now
    return [worst[key] for key in sorted(worst)]


def _measured(row: BuiltKernel) -> Measured:
    return Measured(
        # The baseline is a CSV file with # comments.
        spec=row.name.replace("\n", " ").lstrip("# ") or row.kernel,
        arch=row.arch,
        status="spills" if row.spill_bytes else "ok",
        ptxas_version=row.ptxas_version,
        regs_per_thread=row.registers,
        spill_store_bytes=row.spill_store_bytes,
        spill_load_bytes=row.spill_load_bytes,
        smem_bytes=row.shared_bytes,
        weighted_spill_bytes=row.weighted_spill_bytes,
        tensor_core_path=row.tensor_core_path or UNKNOWN_PATH,
        tcgen05_mma=row.tcgen05_mma or 0,
        wgmma=row.wgmma or 0,
        mma_sync=row.mma_sync or 0,
        stack_frame_bytes=row.stack_frame_bytes,
    )


def _badness(row: Measured) -> tuple[float, ...]:
    return tuple(getattr(row, name) or 0 for name in ("spill_bytes", "stack_frame_bytes", "regs_per_thread"))


def compare_built(
    now: Sequence[Measured],
    baseline: Sequence[Measured],
    *,
    ratchet: bool = False,
    pins: Sequence[str] = (),
    more_registers_allowed: int = 0,
) -> list[GateRow]:
    """Rows in the order of `now`, then what has gone, then patterns of `pins` that no kernel has. Pure.

    A kernel with one of `pins` in its name has to be there and to be as it was, better or worse.
    """
    before = {(m.spec, m.arch): m for m in baseline}
    rows = [_row(m, before.pop((m.spec, m.arch), None), ratchet, pins, more_registers_allowed) for m in now]
    for gone in before.values():
        if _pinned(gone.spec, pins):
            rows.append(GateRow(gone.spec, gone.arch, gone, None, ("pinned, and not in the build",)))
        else:
            rows.append(GateRow(gone.spec, gone.arch, gone, None, notes=("gone: in the baseline, not in the build",)))
    known = [m.spec for m in (*now, *baseline)]
    rows += [
        GateRow(pin, "-", None, None, ("pinned, and no kernel has this in its name",))
        for pin in pins
        if not name_matches(known, pin)
    ]
    return rows


def _pinned(name: str, pins: Sequence[str]) -> bool:
    return any(name_matches((name,), pin) for pin in pins)


def _row(now: Measured, before: Measured | None, ratchet: bool, pins: Sequence[str], allowed: int) -> GateRow:
    if before is None:
        return GateRow(now.spec, now.arch, None, now, ("new: it has no row in the baseline",))
    worse, better = [], []
    for words, name in _NUMBERS.items():
        had, has = getattr(before, name), getattr(now, name)
        if had is None or has is None or had == has:
            continue
        if has < had:
            better.append(f"{has:g} {words}, {had:g} before")
        elif name != "regs_per_thread" or has > had + allowed or _pinned(now.spec, pins):
            worse.append(f"{has:g} {words}, {had:g} before")
    if lost := lost_path(before, now):
        worse.append(lost)
    regressions, notes = list(worse), []
    if better and _pinned(now.spec, pins):
        regressions.append(f"pinned, and changed: {'; '.join(better)}")
    elif better and ratchet and not worse:
        regressions.append(f"better, which the baseline does not hold yet: {'; '.join(better)}")
    elif better:
        notes.append(f"better: {'; '.join(better)}")
    if now.regs_per_thread == cap_for() != before.regs_per_thread:
        notes.append(f"it has reached the cap of {cap_for()} registers")
    return GateRow(now.spec, now.arch, before, now, tuple(regressions), tuple(notes))


def gate_built_result(
    paths: Sequence[Path],
    baseline: Path,
    *,
    write: bool = False,
    sass: bool = False,
    ratchet: bool = False,
    pins: Sequence[str] = (),
    more_registers_allowed: int = 0,
    capability: int | None = None,
    progress: Progress | None = None,
) -> dict:
    """What `gate --json` prints of a build; with `write` the baseline is (re)made of it.

    What cannot be read fails: a gate that saw half of a build must not pass. Raises UserError for a build without a
    kernel, and where the baseline has spills and the build is read without its code.
    """
    there = [] if write else read_baseline(baseline)
    if not sass and any(m.spill_store_bytes is not None for m in there):
        raise UserError(f"the baseline {baseline} has spills, which stand in the code alone: give --sass")
    found = inspect_built(paths, sass=sass, capability=capability, progress=progress)
    now = measured_built(found.rows)
    if not now:
        raise UserError(f"there is no kernel in {', '.join(map(str, paths[:3]))}: nothing was read, so nothing passes")
    unread = _unread(found)
    if write:
        if unread:
            raise UserError(
                f"{unread[0].spec} cannot be read ({unread[0].regressions[0]}): no baseline is made of half"
            )
        write_baseline(baseline, now)
        return result_of([GateRow(m.spec, m.arch, None, m, notes=("recorded",)) for m in now], baseline, wrote=True)
    rows = compare_built(now, there, ratchet=ratchet, pins=pins, more_registers_allowed=more_registers_allowed)
    return result_of([*rows, *unread], baseline, wrote=False)


def _unread(found: Inspection) -> list[GateRow]:
    return [
        GateRow(" ".join(filter(None, (row.source, row.part, row.name))), row.arch or "-", None, None, (row.problem,))
        for row in found.rows
        if row.problem
    ]

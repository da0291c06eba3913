"""One row a kernel and arch of what is built: the numbers that its binary, its code and its PTX tell."""

from __future__ import annotations

import fnmatch
import re
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from helpers.hardware import CAP, cap_for
from helpers.inspection.binary.device_elf import DeviceElf, DeviceFunction
from helpers.inspection.binary.sass_kernels import SassKernel
from helpers.inspection.ptx.entries import PtxEntry
from helpers.inspection.ptx.scan import TENSOR_CORE_PATHS

__all__ = [
    "BuiltKernel",
    "capability_of",
    "chosen",
    "name_matches",
    "registers_histogram",
    "row_of_function",
    "row_of_ptx",
    "unread",
]


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel as it was built for one arch; None is not known.

    `source` is the file (of a wheel: `wheel!file`), `part` says which of its cubins; `kernel` is the name that the
    binary has, `name` the same as its author wrote it. Registers and bytes of stack and spills are per thread, shared
    memory (static; the dynamic part is the launch's, and known where Triton noted it) and barriers per CTA.
    `register_bound` is `.maxnreg`, `cap` the most registers that this bound and the threads leave. Spills, and of a
    cubin without its PTX the path, the split and tensor memory, are read from its code: None unless that was asked for.
    `problem` is why a row has no numbers, or
    where two ways of reading one disagree.
    """

    source: str
    part: str = ""
    kind: str = "cubin"
    kernel: str = ""
    name: str = ""
    arch: str = ""
    ptxas_version: str | None = None
    registers: int | None = None
    cap: int | None = None
    stack_frame_bytes: int | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None
    weighted_spill_bytes: int | None = None
    shared_bytes: int | None = None
    dynamic_shared_bytes: int | None = None
    barriers: int | None = None
    max_threads: int | None = None
    threads_are_exact: bool = False
    register_bound: int | None = None
    tensor_core_path: str | None = None
    tcgen05_mma: int | None = None
    wgmma: int | None = None
    mma_sync: int | None = None
    setmaxnreg: tuple[int, ...] | None = None
    tmem_columns: int | None = None
    instructions: int | None = None
    problem: str = ""

    @property
    def spill_bytes(self) -> int | None:
        """Spill stores and loads together."""
        if self.spill_store_bytes is None or self.spill_load_bytes is None:
            return None
        return self.spill_store_bytes + self.spill_load_bytes

    def to_dict(self) -> dict:
        """All fields, ready for JSON."""
        return {**asdict(self), "setmaxnreg": None if self.setmaxnreg is None else list(self.setmaxnreg)}

    @classmethod
    def from_dict(cls, raw: Mapping) -> BuiltKernel:
        """The row that `to_dict` wrote; raises ValueError for anything else."""
        if not isinstance(raw, Mapping) or set(raw) != set(_TYPES):
            raise ValueError("not a row of a built kernel")
        split = raw["setmaxnreg"]
        values = {**raw, "setmaxnreg": None if split is None else tuple(split)}
        for name, allowed in _TYPES.items():
            if not isinstance(values[name], allowed):
                raise ValueError(f"{name} of a built kernel is {values[name]!r}")
        return cls(**values)


def _allowed(hint) -> tuple[type, ...]:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return tuple(typing.get_origin(part) or part for part in parts)


_HINTS = typing.get_type_hints(BuiltKernel)
_TYPES = {field.name: _allowed(_HINTS[field.name]) for field in fields(BuiltKernel)}


def unread(source: str, problem: str, *, part: str = "", kind: str = "", arch: str = "") -> BuiltKernel:
    """The row of what could not be read, and why."""
    return BuiltKernel(source, part=part, kind=kind, arch=arch, problem=problem)


def row_of_function(
    source: str,
    part: str,
    elf: DeviceElf,
    function: DeviceFunction,
    *,
    code: SassKernel | None = None,
    ptx: PtxEntry | None = None,
    noted: Mapping[str, int] | None = None,
) -> BuiltKernel:
    """The row of a kernel of a cubin; what its code says comes first, then its PTX, then what its compiler noted."""
    row = BuiltKernel(
        source,
        part=part,
        kernel=function.name,
        name=function.name,
        arch=elf.arch or "",
        ptxas_version=elf.ptxas_version,
        registers=function.registers,
        cap=_cap(function.max_threads, function.register_bound),
        stack_frame_bytes=function.stack_frame_bytes,
        shared_bytes=function.shared_bytes,
        barriers=function.barriers,
        max_threads=function.max_threads,
        threads_are_exact=function.threads_are_exact,
        register_bound=function.register_bound,
        dynamic_shared_bytes=(noted or {}).get("dynamic_shared_bytes"),
        tmem_columns=(noted or {}).get("tmem_columns"),
        problem="" if function.registers is not None else "the cubin does not say how many registers it takes",
    )
    if ptx is not None:
        row = _with_instructions(row, ptx)
    if code is None:
        return row
    row = _with_instructions(row, code)
    return replace(
        row,
        spill_store_bytes=sum(code.spills.stores.values()),
        spill_load_bytes=sum(code.spills.loads.values()),
        weighted_spill_bytes=code.spills.weighted,
        instructions=code.instructions,
    )


def row_of_ptx(source: str, arch: str, entry: PtxEntry, *, part: str = "") -> BuiltKernel:
    """The row of a kernel that is PTX as yet: ptxas has given it no registers."""
    row = BuiltKernel(
        source,
        part=part,
        kind="PTX",
        kernel=entry.name,
        name=entry.name,
        arch=arch,
        cap=_cap(entry.max_threads, entry.register_bound),
        shared_bytes=entry.shared_bytes,
        max_threads=entry.max_threads,
        threads_are_exact=entry.threads_are_exact,
        register_bound=entry.register_bound,
        instructions=entry.instructions,
    )
    return _with_instructions(row, entry)


def _with_instructions(row: BuiltKernel, said: SassKernel | PtxEntry) -> BuiltKernel:
    counts: dict[str, Any] = {key: said.counts.get(key, 0) for key in TENSOR_CORE_PATHS.values()}
    return replace(
        row,
        **counts,
        tensor_core_path=said.tensor_core_path,
        setmaxnreg=said.setmaxnreg,
        tmem_columns=said.tmem_columns if said.tmem_columns is not None else row.tmem_columns,
    )


def _cap(threads: int | None, register_bound: int | None) -> int:
    return min(cap_for(threads), register_bound or cap_for())


def chosen(rows: Iterable[BuiltKernel], match: str | None, capability: int | None = None) -> list[BuiltKernel]:
    """The rows whose kernel has `match` in its name, for one compute capability; rows of no kernel stay."""
    return [
        row
        for row in rows
        if (not (row.kernel and match) or name_matches((row.name, row.kernel), match))
        and (capability is None or not row.arch or capability_of(row.arch) == capability)
    ]


def name_matches(names: Iterable[str], pattern: str) -> bool:
    """Whether one of the names of a kernel, as its author wrote it or as the binary has it, holds the pattern."""
    # A bracket is a character of a C++ name here, and stands for itself.
    plain = pattern.replace("[", "[[]")
    return any(fnmatch.fnmatchcase(name, f"*{plain}*") for name in names)


def capability_of(arch: str) -> int | None:
    """90 of `sm_90a`; None for another word."""
    found = re.fullmatch(r"(?:sm|compute)_([0-9]{2,3})[af]?", arch)
    return int(found[1]) if found else None


# The last range is the cap alone, where a kernel may have wanted more.
_RANGES = ((0, 32), (33, 64), (65, 96), (97, 128), (129, 168), (169, 200), (201, CAP - 1), (CAP, CAP))


def registers_histogram(rows: Iterable[BuiltKernel]) -> list[tuple[str, int]]:
    """(range of registers, how many kernels take so many)."""
    counts: Counter[tuple[int, int]] = Counter()
    for row in rows:
        if row.registers is not None:
            counts[next((r for r in _RANGES if r[0] <= row.registers <= r[1]), _RANGES[-1])] += 1
    return [(f"{a}-{b}" if a != b else str(a), counts[a, b]) for a, b in _RANGES]

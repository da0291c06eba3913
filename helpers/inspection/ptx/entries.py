"""What a PTX says of each kernel in it: launch bounds, tensor-core instructions, register split, memory it reserves.

`ptx_header` has the first entry's bounds alone; a library's PTX has many entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from helpers.inspection.ptx.scan import TENSOR_CORE_PATHS, _classify, _entry_of, _product, _scan, tensor_core_path

__all__ = ["PtxEntry", "ptx_entries"]

_SHARED = re.compile(r"\.shared\b.{0,200}?\.[bsuf](8|16|32|64)\s+[\w$%]{1,1000}((?:\[\s*[0-9]{1,9}\s*\])*)", re.ASCII)
_DIMENSION = re.compile(r"[0-9]{1,9}")
_LAST_NUMBER = re.compile(r"([0-9]{1,4})\s*$", re.ASCII)
_MAX_ENTRIES = 100_000


@dataclass
class PtxEntry:
    """One kernel of a PTX. `max_threads` is its launch bound per CTA (exactly so many where `threads_are_exact`).

    `counts` has its tensor-core instructions by class, `setmaxnreg` what registers its warps ask for, `tmem_columns`
    the most that one allocation asks for (None: none, or not a number), `shared_bytes` its own static shared memory.
    """

    name: str
    register_bound: int | None = None
    max_threads: int | None = None
    threads_are_exact: bool = False
    shared_bytes: int = 0
    instructions: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TENSOR_CORE_PATHS.values(), 0))
    setmaxnreg: tuple[int, ...] = ()
    tmem_columns: int | None = None

    @property
    def tensor_core_path(self) -> str:
        """tcgen05, wgmma, mma.sync or none."""
        return tensor_core_path(self.counts)


def ptx_entries(ptx: str) -> list[PtxEntry]:
    """The kernels of a PTX in order. What a kernel calls is not counted for it. Never raises."""
    entries: list[PtxEntry] = []
    now: PtxEntry | None = None
    for event in _scan(ptx):
        directive, text = event.opcode, event.text
        if name := _entry_of(event):
            if len(entries) >= _MAX_ENTRIES:
                break
            now = PtxEntry(name)
            entries.append(now)
        elif directive in (".func", ".visible", ".weak", ".extern", ".section"):
            now = None
        if now is None:
            continue
        if directive[0] == ".":
            _read_directive(now, directive, text)
            continue
        now.instructions += 1
        if (kind := _classify(directive)) in now.counts:
            now.counts[kind] += 1
        elif directive.startswith("setmaxnreg.") and (m := _LAST_NUMBER.search(text[-40:])):
            now.setmaxnreg = tuple(sorted({*now.setmaxnreg, int(m[1])}))
        elif directive.startswith("tcgen05.alloc.") and (m := _LAST_NUMBER.search(text[-40:])):
            now.tmem_columns = max(now.tmem_columns or 0, int(m[1]))
    return entries


def _read_directive(entry: PtxEntry, directive: str, text: str) -> None:
    if directive == ".maxnreg":
        entry.register_bound = _product(text)
    elif directive in (".reqntid", ".maxntid"):
        entry.max_threads, entry.threads_are_exact = _product(text), directive == ".reqntid"
    elif directive == ".shared":
        for width, dimensions in _SHARED.findall(text[:4_000]):
            size = int(width) // 8
            for number in _DIMENSION.findall(dimensions)[:4]:
                size *= int(number)
            entry.shared_bytes += size

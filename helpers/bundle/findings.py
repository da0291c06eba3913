"""Findings: all that is known of one failure when its bundle is written, as one frozen value.

material -> findings -> facts -> zip: `collect` fills the findings step by step, `facts` puts them into words, `report`
packs both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from helpers.bundle.material import Material
from helpers.bundle.members import Row
from helpers.bundle.repro import Expected, safe_member
from helpers.bundle.triton_repro import TritonEnd
from helpers.errors import UserError

FAILURE, SPILLS = "failure", "spills"
SYMPTOMS = (FAILURE, SPILLS)


@dataclass(frozen=True)
class Findings:
    """What was found of a failure: the PTX as it goes out, the ptxas table, workarounds, notes, files of the zip.

    `withhold` says that the source stays away. `program` is the (version, ptxas) to reproduce with and `expected` how
    its run ended; None before it was run. `end` is how a compile by Triton ends that no ptxas decides, None for any
    other failure. `symptom` is what is to be shown: a failure, or spills. `edits_left_out` counts workarounds that
    would tell of a withheld source.
    """

    material: Material
    withhold: bool = False
    ptx: str | None = None
    table: tuple[Row, ...] = ()
    program: tuple[str, Path] | None = None
    expected: Expected | None = None
    end: TritonEnd | None = None
    symptom: str = FAILURE
    triton_table: tuple[dict, ...] = ()
    edits: tuple[dict, ...] = ()
    edits_left_out: int = 0
    notes: tuple[str, ...] = ()
    members: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether there is something to show: a compile that ends badly, or what else was asked for."""
        return self.end is not None or (self.expected is not None and self.expected.failed)

    @property
    def script(self) -> str:
        """The name of the zip's repro."""
        return "repro.sh" if self.end is None else "repro.py"

    def with_member(self, name: str, content: str | bytes) -> Findings:
        """These findings with one more file, scrubbed already; raises UserError for a name that leaves the folder."""
        raw = content.encode(errors="replace") if isinstance(content, str) else content
        if name in self.members:
            raise UserError(f"two files of the bundle would be called {name[:200]!r} once users' names are replaced; "
                            "rename one of the kernel's files")  # fmt: skip
        return replace(self, members={**self.members, safe_member(name): raw})

    def with_notes(self, *notes: str) -> Findings:
        """These findings with more notes at the end."""
        return replace(self, notes=(*self.notes, *notes))

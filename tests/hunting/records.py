"""What a hunt found, and the rows that say so in data/."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.files import write_text_atomically


@dataclass
class Outcome:
    """How many runs a hunt made and what was wrong with some of them; the slowest run and the most memory of one."""

    runs: int = 0
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    # Why nothing could be hunted here; a skipped hunt has no runs.
    skipped: str = ""

    def count(self, wrong: str, seconds: float, peak_mb: float = 0.0) -> None:
        """Add a run; `wrong` is empty where nothing was."""
        self.runs += 1
        self.slowest_s = max(self.slowest_s, seconds)
        self.peak_mb = max(self.peak_mb, peak_mb)
        if wrong:
            self.faults.append(wrong)

    @property
    def status(self) -> str:
        """`held`, `broken`, or `skipped: …` with the reason."""
        return f"skipped: {self.skipped}" if self.skipped else "broken" if self.faults else "held"


def append_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Add rows to a CSV file of ours, by a temporary name and a rename; a new file gets its header first."""
    before = path.read_text() if path.is_file() else ""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    if not before:
        writer.writeheader()
    writer.writerows(rows)
    write_text_atomically(path, before + out.getvalue())

"""Draw the README's picture: notebook 01's figure of the six suspects, from compiles of this machine.

    python benchmarks/draw_picture.py [--out docs/suspects.png]

What it was made with is in the picture, and in the file's own text fields. Exit code 2 where the toolchain of the
incident is missing: a recorded stand-in would be drawn as such, and a README should show the real thing.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.attention.studies.incident import incident_rows
from helpers.files import ROOT
from helpers.show.display import figure_metadata
from helpers.show.plots import plot_registers
from helpers.workbook.evidence import compile_choices

NAMES = (
    "sliding, fp8, hopper tile", "sliding, bf16 KV", "sliding, fp8, no window",
    "sliding, fp8, merged row", "global, fp8, hopper tile (suspect)", "global, fp8, merged row",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Draw it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "suspects.png", help="default docs/suspects.png")
    out = parser.parse_args(argv).out
    evidence = compile_choices(incident_rows())
    if not all(item.live for item in evidence):
        print("error: fetch the toolchain first: register-cliff toolchains install 3.5.1", file=sys.stderr)
        return 2
    figure = plot_registers(evidence, "The sliding layer dies; the report's suspect only spills", labels=NAMES)
    words = {
        "Title": "Register Cliff: the six suspects",
        "Description": figure_metadata(figure)["alt"],
        "Source": "python benchmarks/draw_picture.py",
        "Creation Time": datetime.now(UTC).strftime("%Y-%m-%d"),
        "Software": None,
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata=words)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    part.write_bytes(buffer.getvalue())
    os.replace(part, out)
    print(f"{out.name}: {len(buffer.getvalue()):,} bytes; {words['Description']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

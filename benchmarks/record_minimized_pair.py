"""Find the smallest PTX that dies as the incident does and compiles once its packs are written as one `mov.b64` each.

python benchmarks/record_minimized_pair.py [--minutes 6]

`data/incident_minimized.ptx` keeps the failure alone, and putting its one pack together does not cure it: what made the
pack matter was taken away with the rest. Here both halves of the statement are asked of every smaller text: this text
dies with the incident's code, and its repacked twin compiles, on the incident's ptxas and on the newest one at hand.
Writes data/pack_pair_fatal.ptx and data/pack_pair_cured.ptx.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from dataclasses import dataclass

from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import installed_ptxas
from helpers.files import ROOT, write_text_atomically
from helpers.inspection.ptx.packs import repacked
from helpers.search.minimize.prober import Check, Verdict
from helpers.search.minimize.ptx_search import Search, count_lines

ARCH = "sm_100a"
FATAL, CURED = ROOT / "data" / "pack_pair_fatal.ptx", ROOT / "data" / "pack_pair_cured.ptx"
COMPILES = Verdict("ok")


@dataclass(frozen=True)
class TwinCheck(Check):
    """A run of ptxas on the text with its packs put together."""

    def run(self, ptx: str, timeout_s: float) -> Verdict:
        """The verdict on the repacked twin."""
        return Verdict.of(run_ptxas(self.program, repacked(ptx), gpu_name=self.arch, timeout_s=timeout_s))

    def key(self) -> str:
        """As of the text itself, and what was done to it."""
        return f"{super().key()} repacked"


def pair(minutes: float, jobs: int) -> tuple[str, str]:
    """(text that dies, its twin that compiles), as small as the time allowed."""
    ptx = gzip.decompress((ROOT / "data" / "incident.ptx.gz").read_bytes()).decode()
    programs = installed_ptxas()
    own = "12.8.93"
    newest = list(programs)[-1]
    search = Search(ptx, minutes * 60, 60.0, jobs, None, None)
    try:
        search.begin(ARCH, (), {own: programs[own]}, {newest: programs[newest]})
        twins = [(TwinCheck(v, programs[v], (), ARCH), COMPILES) for v in (own, newest)]
        assert search.prober.first_disagreement(ptx, twins) is None, "the incident's twin does not compile"
        search.near += twins
        search.prober.checks += twins
        search.run()
        return search.sound, repacked(search.sound)
    finally:
        search.prober.close()


def main() -> int:
    """Write both texts and say how long they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6.0, help="when to stop and keep the smallest so far")
    parser.add_argument("--jobs", type=int, default=2, help="runs of ptxas at once")
    args = parser.parse_args()
    fatal, cured = pair(args.minutes, args.jobs)
    write_text_atomically(FATAL, fatal)
    write_text_atomically(CURED, cured)
    print(f"{count_lines(fatal)} lines die, {count_lines(cured)} lines compile")
    return 0


if __name__ == "__main__":
    sys.exit(main())

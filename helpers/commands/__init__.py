"""The verbs: one module each, `<verb>_command` in it, loaded when the verb is asked for."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a verb is defined, the group it is listed in, and its line in the list."""

    home: str
    group: str
    line: str


YOUR_CRASH, INCIDENT, UPKEEP = "Your crash", "The incident", "Upkeep"

# In the order in which somebody with a crash meets them.
VERBS: dict[str, Entry] = {
    "diagnose": Entry("helpers.commands.diagnose", YOUR_CRASH, "what a crash log says, what helps, where to report it"),
    "capture": Entry("helpers.commands.capture", YOUR_CRASH, "run a program and record its Triton kernels as specs"),
    "spec": Entry("helpers.commands.spec", YOUR_CRASH, "make a spec of a kernel in a Python file or a wheel"),
    "compile": Entry("helpers.commands.compile", YOUR_CRASH, "compile a spec, or the incident, for any chip"),
    "pressure": Entry("helpers.commands.pressure", YOUR_CRASH, "show where a PTX or a spec needs its registers"),
    "inspect": Entry("helpers.commands.inspect", YOUR_CRASH, "list the kernels that a library, wheel or cubin holds"),
    "try": Entry("helpers.commands.try_", YOUR_CRASH, "rank edits that make it compile, each one compiled"),
    "ablate": Entry("helpers.commands.ablate", YOUR_CRASH, "find which ingredients are necessary for the failure"),
    "bisect": Entry("helpers.commands.bisect", YOUR_CRASH, "find the release that brought it, and which mended it"),
    "cross": Entry("helpers.commands.cross", YOUR_CRASH, "find whether Triton, LLVM or ptxas decides, and since when"),
    "autotune": Entry("helpers.commands.autotune", YOUR_CRASH, "list the configurations that an autotuner would drop"),
    "minimize": Entry("helpers.commands.minimize", YOUR_CRASH, "find the smallest PTX or spec that still fails"),
    "report": Entry("helpers.commands.report", YOUR_CRASH, "write one zip for an issue, its reproducer was run"),
    "matrix": Entry("helpers.commands.matrix", INCIDENT, "compile every combination of the values given"),
    "audit": Entry("helpers.commands.audit", INCIDENT, "go through the tile tables: spills, crashes, better tiles"),
    "bench": Entry("helpers.commands.bench", INCIDENT, "time the kernels and their peers on this machine's GPU"),
    "gate": Entry("helpers.commands.gate", UPKEEP, "hold a repository's kernels to a baseline, in CI"),
    "toolchains": Entry("helpers.commands.toolchains", UPKEEP, "list or fetch releases of Triton and ptxas"),
}  # fmt: skip

"""Where to report a failure: the one addressee of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.compiler.report import CompileReport
from helpers.diagnosis.words import NVIDIA, TRITON


def where_to_report(
    status: str, code: str | None, table: Sequence[Mapping], edits: Sequence[Mapping]
) -> tuple[str, str]:
    """(to whom, why) as this bundle's own evidence has it: what other ptxas and other Tritons made of the same."""
    readable = [row for row in table if not row["status"].startswith("unsupported")]
    passing = [row["ptxas_version"] for row in readable if row["status"] in ("ok", "spills")]
    failing = [row["ptxas_version"] for row in readable if row["status"] not in ("ok", "spills")]
    tritons = [row["triton_version"] for row in edits if row["kind"] == "triton"]
    if status == "frontend_error":
        return f"the kernel's own project; {TRITON} if an MLIR pass failed", "the source did not become PTX"
    if status in ("ptxas_signal", "timeout") or code == "C7907":
        return NVIDIA, "a compiler that breaks off or hangs by itself is at fault, whatever its input"
    if code == "C7602" and not passing:
        return "the kernel's own project", (
            "one instruction needs more registers than the launch leaves a thread (65,536 / threads of a CTA, or "
            "maxnreg), and the launch is its own choice"
        )
    if passing and failing:
        return NVIDIA, (
            f"the identical PTX fails under ptxas {', '.join(failing)} and compiles under {', '.join(passing)}: "
            "ptxas decides. Where the newer ones compile, updating is the answer"
        )
    if tritons:
        return TRITON, (
            f"the identical PTX fails under every ptxas here that reads it ({', '.join(failing)}), and Triton "
            f"{', '.join(sorted(tritons))} writes PTX for the same kernel that compiles: Triton, or the LLVM in "
            "it, decides"
        )
    if status in ("unsupported_target", "unsupported_ptx_version"):
        return "nobody yet", "a newer release may know this target or PTX version"
    if status == "ptxas_error":
        return f"whoever wrote the PTX: {TRITON}, or the kernel's project for its inline assembly", (
            f"ptxas {', '.join(failing)} refuse what the PTX says"
        )
    return f"the kernel's own project first, then {TRITON}", (
        f"the PTX fails under every ptxas here that reads it ({', '.join(failing) or 'none was on hand'})"
    )


def where_to_report_a_compile(compiled: CompileReport, mended: Sequence[str]) -> tuple[str, str]:
    """(to whom, why) for a compile that no ptxas decides; `mended`: the Tritons here that compile the kernel."""
    newer = f"; Triton {', '.join(mended)} here compiles it" if mended else ""
    if compiled.status == "trapped":
        return TRITON, (
            "it writes an empty kernel where an error was due. The kernel's project chooses the tile, which mostly "
            f"asks for more tensor memory than there is{newer}"
        )
    if compiled.status in ("out_of_shared_memory", "out_of_tensor_memory"):
        return "the kernel's own project", (
            f"tile and stages are its own choice, and they need more than the chip has; no compiler is at fault{newer}"
        )
    if compiled.status == "timeout":
        return TRITON, f"its own passes take so long, before ptxas has begun{newer}"
    if compiled.failed_pass or compiled.error_line:
        what = f"its pass {compiled.failed_pass} fails" if compiled.failed_pass else "its own C++ code breaks off"
        return TRITON, f"{what}, on source that its front end had accepted{newer}"
    return "the kernel's own project", f"Triton's front end does not take the source as it is{newer}"


def where_to_report_spills(table: Sequence[Mapping]) -> tuple[str, str]:
    """(to whom, why) for a kernel that compiles and spills, from what every ptxas here made of the same PTX."""
    stored = {row["ptxas_version"]: row["spill_store_bytes"] for row in table if row["spill_store_bytes"] is not None}
    if not stored or 2 * min(stored.values()) >= max(stored.values()):
        return "the kernel's own project", (
            "its tile and launch ask for more registers than a thread has, whichever ptxas here assembles it"
        )
    least, most = min(stored, key=lambda v: stored[v]), max(stored, key=lambda v: stored[v])
    return NVIDIA, (
        f"of the identical PTX, ptxas {most} stores {stored[most]} bytes a thread and ptxas {least} {stored[least]}: "
        "ptxas decides. Where the newer one spills less, updating is the answer"
    )

"""Where to report a failure: the one addressee of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
            f"{', '.join(sorted(tritons))} writes PTX for the same kernel that compiles: code generation decides"
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

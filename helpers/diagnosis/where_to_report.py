"""Where to report a failure: the one addressee of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helpers.diagnosis.incidents import SAME, Match
from helpers.hardware import CAP
from helpers.inspection.crash.crash_log import CrashLog, Failure

TRITON = "Triton (github.com/triton-lang/triton)"


NVIDIA = "NVIDIA (developer.nvidia.com/bugs)"


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


_NOBODY = "nobody yet"


_OWNER = "the kernel's own project"


def addressee(log: CrashLog, failure: Failure, matches: tuple[Match, ...]) -> tuple[str, str]:
    same = next((m for m in matches if m.degree == SAME), None)
    triton = log.triton.words()
    if same is not None:
        return _NOBODY, f"it is known: {same.incident.name}, {same.incident.link}; say there if the remedy fails"
    if failure.kind in ("internal_error", "ptxas_signal"):
        version = log.value("ptxas_version") or log.value("cuda_of_ptxas")
        words = (
            f"ptxas {version}"
            if version
            else f"the ptxas that Triton {triton} brought"
            if triton != "not known"
            else "its ptxas"
        )
        return "NVIDIA (developer.nvidia.com/bugs), and Triton", (
            f"a compiler that breaks off by itself is at fault whatever its input; name {words}"
        )
    if failure.kind == "register_exhaustion" and (failure.register_count_asked or 0) >= CAP:
        return f"{_OWNER} first, then Triton (triton-lang/triton)", (
            f"the tile is the project's choice, the PTX is Triton's (version {triton}): here the same PTX died on "
            "every ptxas, and another Triton's on none (data/version_matrix.csv); NVIDIA only if one ptxas takes your "
            "PTX and another does not"
        )
    if failure.kind == "ptxas_error":
        return "Triton (triton-lang/triton)", f"the PTX is Triton's (version {triton}), and ptxas refuses it"
    if failure.kind == "illegal_instruction":
        return (
            f"{_OWNER} if it has inline assembly, else Triton",
            f"whoever wrote that PTX line; Triton's version: {triton}",
        )
    if failure.kind in ("unsupported_arch", "unsupported_ptx_version"):
        return _NOBODY, f"a newer release may know it (Triton here: {triton}); Triton if the newest does not"
    if failure.kind == "frontend_error":
        return f"{_OWNER}; Triton if an MLIR pass failed", f"the source did not become PTX (Triton {triton})"
    return _OWNER, "the launch configuration is its own choice; no compiler is at fault"

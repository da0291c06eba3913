"""The verb `bisect`: which release brought a failure, and which mended it."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from helpers.commands.line.common import choice_options, request_of, spec_argument
from helpers.commands.line.grammar import Verb, own_option, shared
from helpers.commands.line.output import same_again, show_result
from helpers.compiler.compile import CompileRequest
from helpers.search.bisect import Bisection, bisect_kernel
from helpers.show.display import text_columns


def bisect_command_result(request: CompileRequest, **options: object) -> dict:
    """What `bisect --json` prints; options as `bisect_kernel` (axis, versions, find, since, max_spill_bytes …)."""
    found = bisect_kernel(
        request.spec, request.arch, toolchain=request.toolchain, timeout_s=request.timeout_s, **options
    )
    return {"label": request.spec.label, "arch": request.arch, **bisection_dict(found)}


def bisection_dict(found: Bisection) -> dict:
    """A bisection ready for JSON, with its sentence."""
    answer = found.answer
    return {
        "axis": found.axis,
        "find": found.find,
        "since": found.since,
        "first": answer.after if answer else None,
        "last_before": answer.before if answer else None,
        "exact": bool(answer and answer.exact),
        "untried": list(answer.untried) if answer else [],
        "probes": [vars(p) for p in found.probes],
        "changes": [{"before": c.before, "after": c.after, "verdict": c.verdict} for c in found.changes],
        "installs": found.installs,
        "sentence": found.sentence(),
    }


def format_bisection(result: dict) -> str:
    """The text of `bisect_command_result`."""
    rows = [(result["axis"], "verdict", "compile")]
    rows += [
        (p["version"], p["verdict"] + (" (installed for this)" if p["installed_for_this"] else ""), p["words"][:160])
        for p in result["probes"]
    ]
    return "\n".join([f"{result['label']}, {result['arch']}", *text_columns(rows), "", result["sentence"]])


@click.command(
    "bisect", cls=Verb, examples=("register-cliff bisect spec.json --arch B200 --install",
                                  "register-cliff bisect --axis ptxas"),
)  # fmt: skip
@spec_argument
@own_option("--axis", type=click.Choice(["triton", "ptxas"]), default="triton", help="which releases to go through")
@own_option("--install", is_flag=True, help="fetch the releases that the search needs")
@choice_options(many=False)
@shared("json", "quiet")
def bisect_command(spec: Path | None, axis: str, install: bool, as_json: bool, quiet: bool, **options) -> None:
    """Find the first Triton (or ptxas) on which a configuration compiles, or stops to, with the fewest installs.

    SPEC is a KernelSpec in JSON, of any kernel (its file runs in a worker process); without it, the options spell out
    a configuration of the extend kernel.
    """
    request = request_of(spec, options)
    # A release that was named is the one whose failure is meant; one that was only assumed says nothing.
    named = getattr(request.toolchain, axis) if options[axis] else None
    result = bisect_command_result(request, axis=axis, install=install, failure_of=named)
    changed = result["first"] is not None
    show_result(result, as_json, format_bisection, f"{same_again('report')} packs it for an issue" if changed else None)

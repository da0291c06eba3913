"""The verb `bisect`: which release brought a failure, and which mended it."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import Verb, choice_options, request_of, show_result, spec_argument
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


@click.command("bisect", cls=Verb)
@spec_argument
@choice_options(many=False)
@click.option("--axis", type=click.Choice(["triton", "ptxas"]), default="triton", show_default=True)
@click.option("--install", is_flag=True, help="fetch the versions that the search needs")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def bisect_command(spec: Path | None, axis: str, install: bool, as_json: bool, **options) -> None:
    """Find the first Triton (or ptxas) on which a configuration compiles, or stops to, with the fewest installs.

    SPEC is a KernelSpec in JSON, of any kernel (its file runs in a worker process); without it, the options spell out
    a configuration of the extend kernel.
    """
    from helpers.commands.bisect import bisect_command_result, format_bisection

    result = bisect_command_result(request_of(spec, options), axis=axis, install=install)
    show_result(result, as_json, format_bisection)

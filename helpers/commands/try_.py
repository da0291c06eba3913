"""`try`: edits that make a failing configuration compile, each compiled before it is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import rich_click as click

from helpers.attention.ladder import ladder_of
from helpers.commands.line.common import choice_options, request_of, spec_argument
from helpers.commands.line.grammar import Verb, shared
from helpers.commands.line.output import note, same_again, show_result
from helpers.commands.line.progress import progress
from helpers.compiler.compile import CompileRequest
from helpers.search.ablate import Limits
from helpers.search.try_this import Progress, TriedEdit, edit_lines, result_words, try_request


@click.command(
    "try", cls=Verb, examples=("register-cliff try specs/NAME.json --arch B200", "register-cliff try --budget 60"),
)  # fmt: skip
@spec_argument
@shared("budget", budget=300)
@choice_options(many=False)
@shared("json", "quiet")
def try_command(spec: Path | None, budget_s: float, as_json: bool, quiet: bool, **options) -> None:
    """Rank edits that make a failing or spilling compile pass: tile, launch, ptxas flags, other versions.

    Each was compiled: its registers and spills are ptxas's own. SPEC is a KernelSpec in JSON, of any kernel (its file
    runs in a worker process); without it, the options spell out a configuration of the extend kernel.
    """
    from dataclasses import replace

    from helpers.search.try_this import DEFAULT_BUDGET

    request = request_of(spec, options)
    with progress("compiling") as bar:
        result = try_command_result(
            request, budget=replace(DEFAULT_BUDGET, max_seconds=budget_s), progress=bar.counted, found=_tell
        )
    show_result(result, as_json, format_try, next_step(result))


def _tell(edit: TriedEdit) -> None:
    """An edit that passes, as soon as it is known; where it ranks is known at the end."""
    note(f"{edit.change} passes: {result_words(edit.to_dict())}")


def next_step(result: dict) -> str | None:
    """The command to go on with after the edits; None where nothing was wrong."""
    if result["baseline"]["status"] == "ok":
        return None
    if result["edits"]:
        return f"{same_again('ablate')} finds which ingredients are the cause"
    return f"{same_again('report')} packs the failure for an issue"


def try_command_result(
    request: CompileRequest,
    *,
    budget: Limits | None = None,
    progress: Progress | None = None,
    found: Callable[[TriedEdit], None] | None = None,
) -> dict:
    """What `try --json` prints: the baseline and the ranked `edits`; `found` hears of each edit as it passes."""
    run = try_request(request, budget=budget, progress=progress, ladder_of=ladder_of, found=found)
    edits, baseline = run.edits, run.baseline
    return {
        "label": request.spec.label or request.spec.kernel.name,
        "arch": request.arch,
        "triton_version": baseline.triton_version,
        "ptxas_version": baseline.ptxas_version,
        "baseline": {
            "status": baseline.status,
            "verdict": baseline.verdict_in_full(),
            "message": baseline.message[:600],
        },
        "edits": [e.to_dict() for e in edits],
        "timed_out": list(run.timed_out),
        "untried": list(run.untried),
    }


def format_try(result: dict) -> str:
    """The text of `try_command_result`."""
    head = (
        f"{result['label']}, {result['arch']}, Triton {result['triton_version']}, "
        f"ptxas {result['ptxas_version'] or '(not reached)'}\nas it is: {result['baseline']['verdict']}\n"
    )
    if result["baseline"]["status"] == "ok":
        return head + "\nit compiles and nothing spills: there is nothing to try"
    lines = edit_lines(result["edits"])
    if not lines:
        lines = ["no change whose compile ended compiles (or spills less)"]
    if result["timed_out"]:
        lines.append(f"not known, the compile reached its time limit: {_some(result['timed_out'])}")
    if result["untried"]:
        lines.append(f"not known, the budget ended before: {_some(result['untried'])}")
    if not result["edits"] and not (result["timed_out"] or result["untried"]):
        lines.append("`ablate` shows what each change did")
    return head + "\n" + "\n".join(lines)


def _some(changes: list[str], most: int = 6) -> str:
    more = f" and {len(changes) - most} more" if len(changes) > most else ""
    return "; ".join(changes[:most]) + more

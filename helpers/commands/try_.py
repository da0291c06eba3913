"""`try`: edits that make a failing configuration compile, each compiled before it is shown."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.attention.ladder import ladder_of
from helpers.commands.common import Verb, choice_options, request_of, show_result, spec_argument
from helpers.compiler.compile import CompileRequest, compile_request
from helpers.search.ablate import Limits
from helpers.search.try_this import Progress, edit_lines, try_this


@click.command("try", cls=Verb)
@spec_argument
@choice_options(many=False)
@click.option("--budget", "seconds", type=click.FloatRange(1, 86_400), default=180.0, show_default=True,
              help="seconds the search for sets of changes may take")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print the ranked suggestions as JSON")
@click.option("--quiet", is_flag=True, help="no progress on stderr")
def try_command(spec: Path | None, seconds: float, as_json: bool, quiet: bool, **options) -> None:
    """Rank edits that make a failing or spilling compile pass: tile, launch, ptxas flags, other versions.

    Each was compiled: its registers and spills are ptxas's own. SPEC is a KernelSpec in JSON, of any kernel (its file
    runs in a worker process); without it, the options spell out a configuration of the extend kernel.
    """
    from dataclasses import replace

    from helpers.search.try_this import DEFAULT_BUDGET

    request = request_of(spec, options)
    result = try_command_result(
        request, budget=replace(DEFAULT_BUDGET, max_seconds=seconds), progress=None if quiet else _count()
    )
    show_result(result, as_json, format_try)


def _count():
    """A progress callback: how many compiles are done, in one line on stderr of a terminal."""
    done = 0

    def show(*_what) -> None:
        nonlocal done
        done += 1
        if click.get_text_stream("stderr").isatty():
            click.echo(f"\r{done} compiled", nl=False, err=True)

    return show


def try_command_result(
    request: CompileRequest, *, budget: Limits | None = None, progress: Progress | None = None
) -> dict:
    """What `try --json` prints: the baseline and the ranked `edits`."""
    edits = try_this(request, budget=budget, progress=progress, ladder_of=ladder_of)
    baseline = compile_request(request)
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
    }


def format_try(result: dict) -> str:
    """The text of `try_command_result`."""
    head = (
        f"{result['label']}, {result['arch']}, Triton {result['triton_version']}, "
        f"ptxas {result['ptxas_version'] or '(not reached)'}\nas it is: {result['baseline']['verdict']}\n"
    )
    if result["baseline"]["status"] == "ok":
        return head + "\nit compiles and nothing spills: there is nothing to try"
    if not result["edits"]:
        return head + "\nnothing that was tried compiles (or spills less); `ablate` shows what each change did"
    return head + "\n" + "\n".join(edit_lines(result["edits"]))

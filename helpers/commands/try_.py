"""`try`: edits that make a failing configuration compile, each compiled before it is shown."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import Verb, choice_options, request_of, show_result, spec_argument


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

    from helpers.search.try_this import DEFAULT_BUDGET, format_try, try_command_result

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

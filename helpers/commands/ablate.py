"""The verb `ablate`: which changes make a failing compile pass, found by experiment."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.attention.ladder import ladder_of
from helpers.commands.common import Verb, choice_options, request_of, show_result, spec_argument
from helpers.compiler.compile import CompileRequest
from helpers.search.ablate import ablate_request
from helpers.show.display import text_columns


def ablate_command_result(request: CompileRequest, **options: object) -> dict:
    """What `ablate --json` prints: `rungs`, `necessary`, `criterion`, `smallest` …; options as `ablate_request`."""
    return ablate_request(request, ladder_of=ladder_of, **options).to_dict()


def format_ablation(result: dict) -> str:
    """The text of `ablate_command_result`: the ladder, what is necessary, the smallest sets."""
    base = result["baseline"]
    lines = [
        f"{result['label']}, {result['arch']}, Triton {result['triton_version']}, "
        f"ptxas {result['ptxas_version'] or '(not reached)'}",
        f"baseline: {base['verdict']}",
        "",
    ]
    lines += text_columns(
        [("change", "effect", "ptxas", "tensor cores")]
        + [(r["change"], r["effect"], r["verdict"], _path_words(r)) for r in result["rungs"]]
    )
    lines += ["", f"necessary ({result['criterion']}): {', '.join(result['necessary']) or 'nothing'}"]
    for search in result["smallest"]:
        held = f", holding {', '.join(search['held'])}" if search["held"] else ""
        lines.append(f"smallest change for {search['goal']!r}{held}: {_search_words(search)}")
        lines += [f"  {s['change']}: {s['verdict']}, {_path_words(s)}" for s in search["sets"]]
    lines += ["", f"{result['compiles']} compiles (cached ones included), {result['seconds']} s"]
    return "\n".join(lines)


def _path_words(rung: dict) -> str:
    return rung["tensor_core_path"] + (" (a slower path)" if rung["slower_path"] else "")


def _search_words(search: dict) -> str:
    if not search["sets"]:
        up_to = f"none of up to {search['searched_size']}" if search["searched_size"] else "nothing left to change"
        return f"{up_to} ({search['tried']} sets tried; stopped at {search['stopped']})"
    size = search["searched_size"]
    rest = "" if search["complete"] else f"; not all sets of this size were tried: stopped at {search['stopped']}"
    return f"{size} change{'s' if size > 1 else ''}, {len(search['sets'])} of {search['tried']} sets tried{rest}"


@click.command("ablate", cls=Verb)
@spec_argument
@choice_options(many=False)
@click.option("--hold", metavar="NAME,…", help="changes the search may not use (default: tile, launch and problem)")
@click.option("--json", "as_json", is_flag=True, help="print `rungs`, `necessary` and the sets found as JSON")
def ablate_command(spec: Path | None, hold: str | None, as_json: bool, **options) -> None:
    """Take one ingredient away at a time from a failing or spilling configuration; find what is necessary.

    SPEC is a KernelSpec in JSON, of any kernel (its file runs in a worker process): constexprs, launch options and
    ptxas levels are what is changed. Without it, the options spell out a configuration of the extend kernel.
    """
    held = None if hold is None else [name.strip() for name in hold.split(",") if name.strip()]
    result = ablate_command_result(request_of(spec, options), hold=held)
    show_result(result, as_json, format_ablation)

"""The verb `ablate`: which changes make a failing compile pass, found by experiment."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from helpers.attention.ladder import ladder_of
from helpers.commands.line.common import choice_options, request_of, spec_argument
from helpers.commands.line.grammar import Verb, own_option, shared
from helpers.commands.line.output import same_again, show_result
from helpers.commands.line.progress import progress
from helpers.compiler.compile import CompileRequest
from helpers.search.ablate import Limits, ablate_request
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
    if result["untried"]:
        lines += ["", f"not tried, because the budget was spent: {', '.join(result['untried'])}"]
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


@click.command(
    "ablate", cls=Verb, examples=("register-cliff ablate spec.json --arch B200 --budget 120",
                                  "register-cliff ablate --hold tile,launch"),
)  # fmt: skip
@spec_argument
@own_option("--hold", metavar="NAME,…", help="changes, or groups of them, that the search may not use",
            default="(tile, launch and problem)")  # fmt: skip
@shared("budget", budget=600)
@choice_options(many=False)
@shared("json", "quiet")
def ablate_command(spec: Path | None, hold: str | None, budget_s: float, as_json: bool, quiet: bool, **options) -> None:
    """Take one ingredient away at a time from a failing or spilling configuration; find what is necessary.

    SPEC is a KernelSpec in JSON, of any kernel (its file runs in a worker process): constexprs, launch options and
    ptxas levels are what is changed. Without it, the options spell out a configuration of the extend kernel.
    """
    held = None if hold is None else [name.strip() for name in hold.split(",") if name.strip()]
    request = request_of(spec, options)
    with progress("compiling") as bar:
        result = ablate_command_result(request, hold=held, limits=Limits(max_seconds=budget_s), progress=bar.counted)
    show_result(result, as_json, format_ablation, next_step(result))


def next_step(result: dict) -> str | None:
    """The command to go on with after an ablation; None where nothing was wrong."""
    if result["baseline"]["status"] == "ok":
        return None
    return f"{same_again('bisect')} finds the release that brought it"

"""`report`: one zip that reproduces a failure with nothing but its compiler, and an issue text beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.attention.ladder import ladder_of
from helpers.commands.line.common import assumed_for, choice_options, refuse_choice, request_of
from helpers.commands.line.given import (
    CUBIN,
    FOLDER,
    PROGRAM,
    PYTHON,
    SPEC,
    ZIP,
    kind_of,
    recognise,
    refused,
    spec_path,
)
from helpers.commands.line.grammar import ARGUMENTS, GIVEN, SECONDS, Verb, one, own_option, shared
from helpers.commands.line.output import check_writable, note, show_result
from helpers.commands.line.progress import progress
from helpers.files import MAX_TEXT_BYTES, read_text_bounded

if TYPE_CHECKING:
    from helpers.bundle.material import Source
    from helpers.bundle.report import Bundle


@click.command(
    "report", cls=Verb, examples=("register-cliff report crash.log -o report.zip",
                                  "register-cliff report spec.json --arch B200 --minimize-for 60"),
)  # fmt: skip
@click.argument("source", required=False, metavar="[FILE]", type=GIVEN, panel=ARGUMENTS,
                help="a KernelSpec in JSON, a folder of one, a log or a PTX (also .gz), or - for stdin")  # fmt: skip
@own_option("--for", "symptom", type=click.Choice(["failure", "spills"]), default="failure",
            help="spills: report a kernel that compiles and spills")  # fmt: skip
@own_option("--withhold-source", is_flag=True,
            help="no source, IR, spec or line info; names in the PTX are replaced")  # fmt: skip
@own_option("--minimize-for", "minimize_s", type=SECONDS, metavar="SECONDS",
            help="also look for a smaller PTX, for at most so long")  # fmt: skip
@own_option("--dry-run", is_flag=True, help="do all of it and write nothing: list what would be packed and replaced")
@own_option("--allow-unreproduced", is_flag=True, help="write it although nothing fails again; it then says so")
@shared("budget", budget=900)
@shared("trust_root")
@choice_options(many=False)
@shared("out", "force", "json", "quiet", out="report.zip")
def report_command(
    source: Path | None,
    out: Path,
    symptom: str,
    withhold_source: bool,
    minimize_s: float | None,
    allow_unreproduced: bool,
    dry_run: bool,
    budget_s: float,
    as_json: bool,
    quiet: bool,
    force: bool,
    **options,
) -> None:
    """Pack a failure into one zip to attach to an issue, and the issue's text beside it.

    The kernel file that a spec names runs in a worker process; PTX and logs are only read. Without FILE, the options
    spell out a configuration of the extend kernel. Before it is written, the zip's own repro.sh (for what ptxas
    refuses) or repro.py (for what Triton itself ends, what does not fit the chip, a trap) is run in an empty folder and
    must fail as recorded. The issue text is written beside the zip, as NAME.issue.md. Names of users and machines,
    paths, tokens, passwords and addresses are replaced in every file; --dry-run lists the files and what was replaced.
    """
    from helpers.bundle.report import report

    if source is None:
        what: Source = request_of(None, options)
    else:
        refuse_choice(source, options)
        what = source
        given = recognise(source)
        if str(source) == "-":
            what = read_text_bounded(source, MAX_TEXT_BYTES, "the source", hint="give a spec, a PTX or a log") + "\n"
            if kind_of(what.encode(), source) == SPEC:
                options = {**options, **assumed_for(source, options)}
        if given.kind in (PYTHON, CUBIN, PROGRAM, ZIP):
            raise refused(given, wants="a spec, a PTX or a log")
        if given.kind in (SPEC, FOLDER):
            what = spec_path(source)
            options = {**options, **assumed_for(what, options)}
    issue_path = out.with_suffix(".issue.md")
    if not dry_run:
        check_writable(out)
        check_writable(issue_path)
    with progress("packing") as bar:
        bundle = report(
            what,
            out,
            withhold_source=withhold_source,
            allow_unreproduced=allow_unreproduced,
            arch=one(options["arch"]),
            triton=one(options["triton"]),
            ptxas=one(options["ptxas"]),
            ptxas_flags=options["ptxas_flags"],
            minimize_s=minimize_s or 0.0,
            symptom=symptom,
            timeout_s=options["timeout_s"],
            budget_s=budget_s,
            dry_run=dry_run,
            tell=note,
            ladder_of=ladder_of,
            say=bar.update,
        )
    show_result(bundle.to_dict(), as_json, lambda _result: bundle.text(),
                None if dry_run else next_step(bundle, issue_path, out))  # fmt: skip


def next_step(bundle: Bundle, issue_path: Path, out: Path) -> str:
    """What to do with the two files: nothing is posted where nobody is to be told."""
    if bundle.report_to.startswith("nobody"):
        return f"keep {out} and {issue_path} until somebody asks: {bundle.report_why}"
    return f"read {issue_path}, paste it into an issue there, and attach {out}"

"""The verb `gate`: a repository's kernels, compiled from specs or built already, compared with a baseline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.commands.inspect import MAX_NAME, short_name
from helpers.commands.line.common import DEFAULT_ARCH, TRITON_OF_SPEC, assumed_for, specs_argument, toolchain_of
from helpers.commands.line.grammar import FILE, OUTPUT, Verb, own_option, shared
from helpers.commands.line.output import (
    check_folder,
    check_writable,
    command_line,
    note,
    show_result,
    trust_words,
    write_result,
)
from helpers.commands.line.progress import progress
from helpers.errors import UserError
from helpers.show.display import text_columns
from helpers.show.gate_reports import gate_junit, gate_markdown, gate_sarif

if TYPE_CHECKING:
    import pandas as pd


# Of a build with thousands of kernels the text has those that fail, or of which there is something to tell.
MAX_SHOWN = 60


def format_gate(result: dict) -> str:
    """The text of a gate's result: a table, then one line a regression."""
    rows, all_rows = result["rows"], result["rows"]
    if len(rows) > MAX_SHOWN:
        rows = sorted((r for r in rows if r["failed"] or r["notes"]), key=lambda r: not r["failed"])[:MAX_SHOWN]
    table = [("", "spec", "arch", "before", "now")]
    table += [
        (
            "FAIL" if r["failed"] else "ok" if r["now"] else "-",
            _named(r["spec"]),
            r["arch"],
            r["before"] or "-",
            r["now"] or "-",
        )
        for r in rows
    ]
    lines = [*text_columns(table), ""] if rows else []
    for row in rows:
        where = f"{_named(row['spec'])} on {row['arch']}"
        lines += [f"FAIL {where}: {what}" for what in row["regressions"]]
        lines += [f"note {where}: {what}" for what in row["notes"] if what != "recorded"]
    if len(all_rows) > len(rows):
        lines.append(f"{len(all_rows) - len(rows):,} rows more are in --json, --markdown, --junit and --sarif")
    if result["wrote_baseline"]:
        lines.append(f"baseline written: {result['baseline']} ({len(all_rows)} rows)")
    else:
        count = result["regressions"]
        lines.append(f"{count} regression{'' if count == 1 else 's'} in {len(all_rows)} rows")
    return "\n".join(lines)


def _named(name: str) -> str:
    return name if len(name) <= MAX_NAME else short_name(name)


def gate_table(result: dict) -> pd.DataFrame:
    """The rows of a gate result as a table; regressions and notes as text."""
    import pandas as pd

    rows = [{**r, "regressions": "; ".join(r["regressions"]), "notes": "; ".join(r["notes"])} for r in result["rows"]]
    table = pd.DataFrame(rows)
    for name in ("spill_bytes_before", "spill_bytes_now"):
        table[name] = table[name].astype("Int64")
    return table


@click.command(
    "gate", cls=Verb,
    examples=("register-cliff gate specs --baseline rows.csv --write   # the first baseline",
              "register-cliff gate specs --baseline rows.csv --arch H100,B200",
              "register-cliff gate build/library.so --baseline regs.csv --sass --ratchet"),
)  # fmt: skip
@specs_argument(required=True, or_built=True)
@own_option("--baseline", required=True, type=FILE, metavar="FILE", help="the CSV to hold to; --write makes it")
@own_option("--write", is_flag=True, help="write the baseline instead of comparing with it")
@own_option("--ratchet", is_flag=True, help="of what is built: better kernels fail too, until --write takes them over")
@own_option(
    "--pin",
    "pins",
    multiple=True,
    metavar="PATTERN",
    help="of what is built: kernels with this in their name are there and as they were (repeatable)",
)
@own_option(
    "--more-registers",
    type=click.IntRange(0, 255),
    default=0,
    metavar="N",
    help="of what is built: so many more registers are no regression",
)
@shared("sass")
@own_option("--markdown", type=FILE, metavar="FILE", panel=OUTPUT, help="write a summary to this file as well")
@own_option("--junit", type=FILE, metavar="FILE", panel=OUTPUT, help="write JUnit XML to this file as well")
@own_option("--sarif", type=FILE, metavar="FILE", panel=OUTPUT, help="write SARIF to this file as well")
@shared("arch", "triton", "ptxas", "time_limit", many=("arch",), amd=True, arch=DEFAULT_ARCH, triton=TRITON_OF_SPEC,
        ptxas="bundled")  # fmt: skip
@shared("force", "json", "quiet")
def gate_command(
    specs: list[Path], built: list[Path], baseline: Path, write: bool, ratchet: bool, pins: tuple[str, ...],
    more_registers: int, sass: bool, markdown: Path | None, junit: Path | None, sarif: Path | None, force: bool,
    as_json: bool, quiet: bool, timeout_s: float, **options,
) -> int:  # fmt: skip
    """Hold kernels to a baseline: exit 1 on a new crash, more spill bytes or a lost tensor-core path.

    Specs are recompiled. The first time, and whenever a change is wanted, --write makes the baseline: keep it in your
    repository. Spills are also weighed by the loops they sit in, as the SASS shows them: as many bytes in deeper loops
    fail too. What is built already is read instead: new kernels fail, and more registers, stack or spills (--sass).
    """
    from helpers.search.gate import read_baseline

    reports = {gate_markdown: markdown, gate_junit: junit, gate_sarif: sarif}
    for wanted in filter(None, reports.values()):
        check_writable(wanted)
    there = os.path.lexists(baseline)
    if write:
        check_folder(baseline)
        if there and not read_baseline(baseline):  # what is no baseline raises: it is kept
            raise UserError(f"{baseline} is there already and has no row: remove it, or name another file")
    elif not there:
        files = (specs or built) if len(specs or built) <= 3 else ["SPECS" if specs else "BUILD"]
        first = command_line("gate", *files, "--baseline", baseline, "--write")
        raise UserError(f"there is no baseline {baseline}; make the first one from a good state: {first}")
    else:
        read_baseline(baseline)  # before minutes of compiles
    if built:
        typed = [f"--{name.replace('_', '-')}" for name in ("arch", "triton", "ptxas") if options[name]]
        if typed:
            raise UserError(f"{typed[0]} is for specs, which are compiled; {built[0]} is built already: leave it away")
        result = gate_of_built(built, baseline, write, ratchet, pins, more_registers, sass)
    else:
        if ratchet or pins or more_registers or sass:
            raise UserError(
                f"--ratchet, --pin, --more-registers and --sass are for what is built; {specs[0]} is a spec"
            )
        result = gate_of_specs(specs, baseline, write, timeout_s, options)
    if write and there:
        note(f"the rows take the place of those that {baseline} held")
    for report, file in reports.items():
        if file is not None:
            write_result(file, report(result))
    show_result(result, as_json, format_gate, next_step(result, specs, baseline))
    return int(result["exit_code"])


def gate_of_specs(specs: list[Path], baseline: Path, write: bool, timeout_s: float, options: dict) -> dict:
    """The result of specs that are compiled again, or whose first baseline is written."""
    from helpers.compiler.disassemble import spill_weight
    from helpers.compiler.kernel_spec import read_specs
    from helpers.search.gate import gate_command_result

    read = read_specs(specs)
    archs = options["arch"] or [DEFAULT_ARCH]
    # All specs under one Triton: the first one's note says which.
    assumed = {} if options["triton"] else assumed_for(specs[0], {**options, "arch": archs})
    _arch, toolchain = toolchain_of({**options, **assumed})
    with progress("compiling") as bar:
        return gate_command_result(
            read, archs, baseline,
            toolchain=toolchain, write=write, spill_weight=spill_weight, timeout_s=timeout_s, progress=bar.compiled,
        )  # fmt: skip


def gate_of_built(
    built: list[Path],
    baseline: Path,
    write: bool,
    ratchet: bool,
    pins: tuple[str, ...],
    more_registers: int,
    sass: bool,
) -> dict:
    """The result of what is built already, or its first baseline."""
    from helpers.search.gate_built import gate_built_result

    with progress("reading") as bar:
        return gate_built_result(
            built, baseline,
            write=write, sass=sass, ratchet=ratchet, pins=pins, more_registers_allowed=more_registers,
            progress=lambda n, of: bar.update(done=n, total=of),
        )  # fmt: skip


def next_step(result: dict, specs: list[Path], baseline: Path) -> str | None:
    """The command to go on with; None where the gate has passed."""
    if result["wrote_baseline"]:
        return f"the same command without --write, in CI, holds the kernels to {baseline}"
    row = next((row for row in result["rows"] if row["regressions"]), None)
    if row is None:
        return None
    if not specs:
        return "look at what changed; if it is meant, the same command with --write moves the baseline"
    spec = specs[0] if len(specs) == 1 else "SPEC"
    words = f"{command_line('try', spec, '--arch', row['arch'], *trust_words())} ranks edits"
    return words if len(specs) == 1 else f"{words}, with the file of {row['spec']} for SPEC"

"""The verb `gate`: a kernel repository's specs compiled again and compared with a baseline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.commands.line.common import DEFAULT_ARCH, TRITON_OF_SPEC, assumed_for, specs_argument, toolchain_of
from helpers.commands.line.grammar import FILE, Verb, own_option, shared
from helpers.commands.line.output import check_folder, command_line, note, show_result, trust_words
from helpers.commands.line.progress import progress
from helpers.errors import UserError
from helpers.show.display import text_columns

if TYPE_CHECKING:
    import pandas as pd


def format_gate(result: dict) -> str:
    """The text of `gate_command_result`: a table, then one line a regression."""
    table = [("", "spec", "arch", "before", "now")]
    table += [
        (
            "FAIL" if r["failed"] else "ok" if r["now"] else "-",
            r["spec"],
            r["arch"],
            r["before"] or "-",
            r["now"] or "-",
        )
        for r in result["rows"]
    ]
    lines = [*text_columns(table), ""]
    for row in result["rows"]:
        lines += [f"FAIL {row['spec']} on {row['arch']}: {what}" for what in row["regressions"]]
        lines += [f"note {row['spec']} on {row['arch']}: {what}" for what in row["notes"] if what != "recorded"]
    if result["wrote_baseline"]:
        lines.append(f"baseline written: {result['baseline']} ({len(result['rows'])} rows)")
    else:
        count = result["regressions"]
        lines.append(f"{count} regression{'' if count == 1 else 's'} in {len(result['rows'])} rows")
    return "\n".join(lines)


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
              "register-cliff gate specs --baseline rows.csv --arch H100,B200"),
)  # fmt: skip
@specs_argument(required=True)
@own_option("--baseline", required=True, type=FILE, metavar="FILE", help="the CSV to hold to; --write makes it")
@own_option("--write", is_flag=True, help="write the baseline instead of comparing with it")
@shared("arch", "triton", "ptxas", "time_limit", many=("arch",), amd=True, arch=DEFAULT_ARCH, triton=TRITON_OF_SPEC,
        ptxas="bundled")  # fmt: skip
@shared("json", "quiet")
def gate_command(
    specs: list[Path], baseline: Path, write: bool, as_json: bool, quiet: bool, timeout_s: float, **options
) -> int:
    """Recompile KernelSpecs and exit 1 on a new crash, more spill bytes or a lost tensor-core path.

    The first time, and whenever a change is wanted, --write makes the baseline: keep it in your repository. Spills are
    also weighed by the loops they sit in, as the SASS shows them: as many bytes in deeper loops fail too.
    """
    from helpers.compiler.disassemble import spill_weight
    from helpers.compiler.kernel_spec import read_specs
    from helpers.search.gate import gate_command_result, read_baseline

    there = os.path.lexists(baseline)
    if write:
        check_folder(baseline)
        if there and not read_baseline(baseline):  # what is no baseline raises: it is kept
            raise UserError(f"{baseline} is there already and has no row: remove it, or name another file")
    elif not there:
        files = specs if len(specs) <= 3 else ["SPECS"]
        first = command_line("gate", *files, "--baseline", baseline, "--write")
        raise UserError(f"there is no baseline {baseline}; make the first one from a good state: {first}")
    else:
        read_baseline(baseline)  # before minutes of compiles
    read = read_specs(specs)
    archs = options["arch"] or [DEFAULT_ARCH]
    # All specs under one Triton: the first one's note says which.
    assumed = {} if options["triton"] else assumed_for(specs[0], {**options, "arch": archs})
    _arch, toolchain = toolchain_of({**options, **assumed})
    with progress("compiling") as bar:
        result = gate_command_result(
            read, archs, baseline,
            toolchain=toolchain, write=write, spill_weight=spill_weight, timeout_s=timeout_s, progress=bar.compiled,
        )  # fmt: skip
    if write and there:
        note(f"the rows take the place of those that {baseline} held")
    show_result(result, as_json, format_gate, next_step(result, specs, baseline))
    return int(result["exit_code"])


def next_step(result: dict, specs: list[Path], baseline: Path) -> str | None:
    """The command to go on with; None where the gate has passed."""
    if result["wrote_baseline"]:
        return f"the same command without --write, in CI, holds the kernels to {baseline}"
    row = next((row for row in result["rows"] if row["regressions"]), None)
    if row is None:
        return None
    spec = specs[0] if len(specs) == 1 else "SPEC"
    words = f"{command_line('try', spec, '--arch', row['arch'], *trust_words())} ranks edits"
    return words if len(specs) == 1 else f"{words}, with the file of {row['spec']} for SPEC"

"""The verb `gate`: a kernel repository's specs compiled again and compared with a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from helpers.commands.common import Verb, show_result
from helpers.compiler.toolchain import BUNDLED, INCIDENT_TRITON
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


@click.command("gate", cls=Verb)
@click.argument("specs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--baseline", required=True, type=click.Path(dir_okay=False, path_type=Path), help="CSV to hold to")
@click.option("--arch", "archs", default="sm_100a", show_default=True, metavar="ARCH,…")
@click.option("--triton", default=INCIDENT_TRITON, show_default=True)
@click.option("--ptxas", default=BUNDLED, show_default=True)
@click.option("--write", is_flag=True, help="write the baseline instead of comparing with it")
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def gate_command(specs, baseline, archs, triton, ptxas, write, as_json) -> int:
    """Recompile KernelSpecs (JSON files) and exit 1 on a new crash, more spill bytes or a lost tensor-core path.

    Spills are also weighed by the loops they sit in, as the SASS shows them: as many bytes in deeper loops fail too.
    """
    from helpers.commands.gate import format_gate
    from helpers.compiler.disassemble import spill_weight
    from helpers.compiler.kernel_spec import read_specs
    from helpers.compiler.toolchain import Toolchain
    from helpers.search.gate import gate_command_result

    names = [name.strip() for name in archs.split(",")]
    result = gate_command_result(
        read_specs(specs), names, baseline,
        toolchain=Toolchain(triton, ptxas), write=write, spill_weight=spill_weight,
    )  # fmt: skip
    show_result(result, as_json, format_gate)
    return int(result["exit_code"])

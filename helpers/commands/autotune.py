"""`autotune`: which configurations of an autotuned kernel would be dropped on a chip, and why."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import Verb, show_result
from helpers.compiler.toolchain import BUNDLED, INCIDENT_TRITON


@click.command("autotune", cls=Verb)
@click.argument("spec", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--arch", default="sm_100a", show_default=True)
@click.option("--triton", default=INCIDENT_TRITON, show_default=True)
@click.option("--ptxas", default=BUNDLED, show_default=True)
@click.option("--timeout", "timeout_s", type=click.FloatRange(1, 86_400), default=300.0, show_default=True,
              help="seconds each stage of one compile may take")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print every configuration as JSON")
def autotune_command(spec: Path, arch: str, triton: str, ptxas: str, timeout_s: float, as_json: bool) -> None:
    """Compile every configuration of a kernel under triton.autotune: what would be dropped without a word, and why.

    SPEC is a KernelSpec in JSON (`spec --file … --kernel …` makes one); its file runs in a worker process, for its
    list of configurations and for each compile. Nothing is launched: what prune_configs_by drops is not known.
    """
    from helpers.compiler.kernel_spec import read_specs
    from helpers.compiler.toolchain import Toolchain
    from helpers.errors import UserError
    from helpers.search.autotune import autotune_report

    specs = read_specs([spec])
    if len(specs) != 1:
        raise UserError(f"{spec} holds {len(specs)} specs; this takes one at a time")
    report = autotune_report(specs[0], arch, Toolchain(triton, ptxas), timeout_s=timeout_s)
    show_result(report.to_dict(), as_json, format_autotune)


def format_autotune(result: dict) -> str:
    """The text of `AutotuneReport.to_dict`: one line a configuration, then what it comes to."""
    rows = [("configuration", "fate", "registers", "spills", "shared memory", "why")]
    for row in result["configurations"]:
        words = row["configuration"].replace(", num_ctas: 1", "").replace(", maxnreg: None", "")
        registers, spills, smem = (
            "" if row[name] is None else str(row[name])
            for name in ("regs_per_thread", "spill_store_bytes", "smem_bytes")
        )
        rows.append((words, row["fate"], registers, spills and f"{spills} B", smem and f"{smem} B", row["why"]))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = f"{result['label']}, {result['arch']}, Triton {result['triton_version']}"
    if not result["known"]:
        return f"{head}\n\n{result['summary']}"
    return "\n".join([head, "", *lines, "", result["summary"]])

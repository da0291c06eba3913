"""`autotune`: which configurations of an autotuned kernel would be dropped on a chip, and why."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from helpers.commands.line.common import ARCH_DEFAULT, TRITON_OF_SPEC, assumed_for, spec_argument, toolchain_of
from helpers.commands.line.grammar import Verb, shared
from helpers.commands.line.output import same_again, show_result
from helpers.commands.line.progress import progress
from helpers.errors import UserError


@click.command("autotune", cls=Verb, examples=("register-cliff autotune spec.json --arch H100",))
@spec_argument
@shared("arch", "triton", "ptxas", "ptxas_flags", "time_limit", arch=ARCH_DEFAULT, triton=TRITON_OF_SPEC,
        ptxas="bundled")  # fmt: skip
@shared("json", "quiet")
def autotune_command(
    spec: Path | None, as_json: bool, quiet: bool, ptxas_flags: tuple[str, ...], timeout_s: float, **options
) -> None:
    """Compile every configuration of a kernel under triton.autotune: what would be dropped without a word, and why.

    SPEC is a KernelSpec in JSON (`spec --file … --kernel …` makes one); its file runs in a worker process, for its
    list of configurations and for each compile. Nothing is launched: what prune_configs_by drops is not known.
    """
    from helpers.compiler.kernel_spec import read_specs
    from helpers.search.autotune import autotune_report

    if spec is None:
        raise UserError("no SPEC is given: name the spec of an autotuned kernel (`register-cliff spec` makes one)")
    specs = read_specs([spec])
    if len(specs) != 1:
        raise UserError(f"{spec} holds {len(specs)} specs; this takes one at a time")
    arch, toolchain = toolchain_of({**options, **assumed_for(spec, options)})
    with progress("compiling") as bar:
        report = autotune_report(
            specs[0], arch, toolchain, ptxas_flags=ptxas_flags, timeout_s=timeout_s, progress=bar.compiled
        )
    step = f"{same_again('try')} ranks edits for the spec's own configuration" if report.dropped else None
    show_result(report.to_dict(), as_json, format_autotune, step)


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

"""The verb `bench`: throughput on this machine's GPU, as rows with provenance."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import Verb, check_writable, echo_json


@click.command("bench", cls=Verb)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default="throughput.csv", show_default=True,
              help="CSV file; rows are appended when it is there")  # fmt: skip
@click.option(
    "--peers", type=click.Path(file_okay=False, path_type=Path), help="what benchmarks/fetch_peers.py fetched"
)
@click.option("--cases", help="cases or groups, comma-separated (sliding, 'sliding fp8', table, ragged, …)")
@click.option("--variants", help="only variants whose name contains one of these, comma-separated")
@click.option("--quick", is_flag=True, help="only the five cases of the table")
@click.option("--json", "as_json", is_flag=True, help="print the rows as JSON")
def bench_command(
    out: Path, peers: Path | None, cases: str | None, variants: str | None, quick: bool, as_json: bool
) -> None:
    """Time the kernels and their peers on this machine's GPU; rows with provenance are appended to a CSV file.

    Compiles in this process; benchmarks/record_throughput.py compiles ahead in parallel and survives a crash.
    """
    from dataclasses import asdict

    from helpers.attention import bench
    from helpers.attention.peers import select_variants

    wanted = [name.strip() for name in cases.split(",")] if cases else None
    chosen_cases, chosen_variants = bench.bench_cases(wanted, quick=quick), select_variants(variants, peers)
    check_writable(out)
    bench.require_gpu()
    if not out.is_file():
        bench.write_rows(out, [], comments=["Throughput, recorded by `register-cliff bench`"])

    def keep(row) -> None:
        bench.write_rows(out, [row], append=True)
        if not as_json:
            speed = f"{row.tflops:8.1f} TFLOP/s" if row.tflops else f"{row.status}: {row.reason[:80]}"
            click.echo(f"{row.case:<28}{row.variant:<26}{speed}")

    words = f"register-cliff bench --out {out.name}" + (" --quick" if quick else "")
    rows = bench.main_rows(chosen_cases, chosen_variants, peers=peers, command=words, emit=keep)
    if as_json:
        echo_json([asdict(row) for row in rows])

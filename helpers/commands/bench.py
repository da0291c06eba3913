"""The verb `bench`: throughput on this machine's GPU, as rows with provenance."""

from __future__ import annotations

import os
from pathlib import Path

import rich_click as click

from helpers.commands.line.grammar import Verb, own_option, shared
from helpers.commands.line.output import check_folder, echo_json, say
from helpers.errors import MachineError, UserError
from helpers.files import MAX_TEXT_BYTES, read_text_bounded


@click.command("bench", cls=Verb, examples=("register-cliff bench --quick --csv rows.csv",))
@own_option("--peers", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
            help="what benchmarks/fetch_peers.py fetched")  # fmt: skip
@own_option("--cases", metavar="NAME,…", help="cases or groups of them (sliding, 'sliding fp8', table, ragged, …)")
@own_option("--variants", metavar="NAME,…", help="only variants whose name contains one of these")
@own_option("--quick", is_flag=True, help="only the five cases of the table")
@shared("csv", "json", "quiet", csv="throughput.csv")
def bench_command(
    csv_path: Path, peers: Path | None, cases: str | None, variants: str | None, quick: bool, as_json: bool, quiet: bool
) -> None:
    """Time the kernels and their peers on this machine's GPU; rows with provenance go to a CSV file.

    Rows are appended to a file that is there: no measurement is lost. Compiles in this process;
    benchmarks/record_throughput.py compiles ahead in parallel and survives a crash.
    """
    from dataclasses import asdict

    from helpers.attention import bench
    from helpers.attention.peers import select_variants

    wanted = [name.strip() for name in cases.split(",")] if cases else None
    chosen_cases, chosen_variants = bench.bench_cases(wanted, quick=quick), select_variants(variants, peers)
    check_folder(csv_path)
    _check_rows(csv_path, bench.COLUMNS)
    bench.require_gpu()
    if not csv_path.is_file():
        bench.write_rows(csv_path, [], comments=["Throughput, recorded by `register-cliff bench`"])

    def keep(row) -> None:
        try:
            bench.write_rows(csv_path, [row], append=True)
        except OSError as exc:
            raise MachineError(f"cannot write {csv_path}: {exc.strerror or exc}; the rows before are in it") from exc
        if not as_json:
            speed = f"{row.tflops:8.1f} TFLOP/s" if row.tflops else f"{row.status}: {row.reason[:80]}"
            say(f"{row.case:<28}{row.variant:<26}{speed}")

    words = f"register-cliff bench --csv {csv_path.name}" + (" --quick" if quick else "")
    rows = bench.main_rows(chosen_cases, chosen_variants, peers=peers, command=words, emit=keep)
    if as_json:
        echo_json([asdict(row) for row in rows])


def _check_rows(path: Path, columns: tuple[str, ...]) -> None:
    """Raise UserError where a file is there that holds other things than rows of ours: nothing is appended to it."""
    if not os.path.lexists(path):
        return
    lines = read_text_bounded(path, MAX_TEXT_BYTES, "the CSV file").splitlines()
    head = next((line for line in lines if not line.startswith("#")), "")
    if head.split(",") != list(columns):
        raise UserError(f"{path} is there already and holds no rows of `bench`; it is kept: name another file")

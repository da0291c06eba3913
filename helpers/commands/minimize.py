"""`minimize`: the smallest PTX, or the smallest configuration of a kernel, that still fails in the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from helpers.commands.common import Verb, check_writable, show_result
from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, STDIN, read_text_bounded

if TYPE_CHECKING:
    from helpers.search.minimize.prober import Step


@click.command("minimize", cls=Verb)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path),
              help="where the result goes [FILE's name with .min before the ending, in this folder]")  # fmt: skip
@click.option("--arch", help="what to assemble for [a PTX's own target; sm_100a for a spec]")
@click.option("--ptxas", help="the ptxas release it fails on [a PTX: the oldest here that fails; a spec: bundled]")
@click.option("--ptxas-flag", "flags", multiple=True, metavar="FLAG", help="one more flag for ptxas, such as -O1")
@click.option("--triton", help="for a spec: the Triton release [3.5.1]")
@click.option("--only-this-ptxas", is_flag=True, help="do not hold the result to the other ptxas releases here")
@click.option("--time-limit", "time_limit_s", type=float, default=900.0, show_default=True, metavar="S",
              help="seconds after which the best so far is the result")  # fmt: skip
@click.option("--run-timeout", "timeout_s", type=float, default=60.0, show_default=True, metavar="S",
              help="seconds one ptxas run (for a spec: one stage of a compile) may take")  # fmt: skip
@click.option("--jobs", type=int, help="ptxas runs at once [as many as cores]; the result is the same for any")
@click.option("--resume", "state_path", type=click.Path(dir_okay=False, path_type=Path), metavar="STATE",
              help="keep the search in this file, and go on from it when it is there; without it, an interrupted "
              "search is lost (PTX only)")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON, the text included")
@click.option("--quiet", is_flag=True, help="no progress bar")
def minimize_command(
    file: Path, out: Path | None, as_json: bool, quiet: bool, triton: str | None, state_path: Path | None, **options
) -> None:
    """Shrink FILE, a PTX that ptxas fails on, or a KernelSpec (JSON), while it fails in the same way.

    A PTX (or .ptx.gz) is only ever given to ptxas, in a temporary folder, with a time limit. The result fails with the
    same code at the same register count, agrees with the original at -O0 to -O3 on every ptxas here, and reads no
    register before it is written. The kernel file that a spec names runs in a worker process.
    """
    text = read_text_bounded(file, MAX_TEXT_BYTES, "the PTX or spec", hint="name a PTX file, or a KernelSpec in JSON")
    is_spec = text.lstrip()[:1] == "{"
    ending = ".json" if is_spec else ".ptx"
    file = Path("stdin") if file == STDIN else file
    out = out or Path(file.name.removesuffix(".gz").removesuffix(ending) + ".min" + ending)
    check_writable(out)
    if is_spec:
        if state_path is not None:
            raise UserError("--resume is for PTX: the compiles of a spec are in the cache, so a second run is quick")
        result = _minimize_spec(text, out, triton, quiet, **options)
        show_result(result, as_json, format_spec_result)
        return
    if triton is not None:
        raise UserError("--triton is for a spec; a PTX is assembled as it is: name a --ptxas")
    if state_path is not None:
        check_writable(state_path)
    result = _minimize_ptx(text, out, state_path, quiet, **options)
    show_result(result, as_json, format_ptx_result)


def _minimize_ptx(
    text: str, out: Path, state_path: Path | None, quiet: bool, *, arch: str | None, ptxas: str | None,
    flags: Sequence[str], only_this_ptxas: bool, time_limit_s: float, timeout_s: float, jobs: int | None,
) -> dict:  # fmt: skip
    from helpers.files import write_text_atomically
    from helpers.search.minimize.minimize_ptx import minimize_ptx

    with _bar(quiet) as progress:
        small = minimize_ptx(
            text, arch=arch, ptxas=ptxas, flags=flags, everywhere=not only_this_ptxas, time_limit_s=time_limit_s,
            timeout_s=timeout_s, jobs=jobs, state_path=state_path, progress=progress,
        )  # fmt: skip
    write_text_atomically(out, small.ptx)
    return {**small.to_dict(), "file": str(out)}


def _minimize_spec(
    text: str, out: Path, triton: str | None, quiet: bool, *, arch: str | None, ptxas: str | None,
    flags: Sequence[str], time_limit_s: float, timeout_s: float, only_this_ptxas: bool, jobs: int | None,
) -> dict:  # fmt: skip
    import concurrent.futures

    from helpers.compiler.kernel_spec import KernelSpec
    from helpers.compiler.toolchain import BUNDLED, INCIDENT_TRITON, Toolchain
    from helpers.files import write_text_atomically
    from helpers.search.minimize.minimize_spec import minimize_spec

    spec = KernelSpec.from_json(text)
    executor = concurrent.futures.ThreadPoolExecutor(jobs) if jobs else contextlib.nullcontext()
    with executor as pool, _count(quiet) as progress:
        small = minimize_spec(
            spec, arch or "sm_100a", Toolchain(triton or INCIDENT_TRITON, ptxas or BUNDLED), ptxas_flags=tuple(flags),
            time_limit_s=time_limit_s, timeout_s=timeout_s, executor=pool, progress=progress,
        )  # fmt: skip
    write_text_atomically(out, small.spec.to_json() + "\n")
    return {**small.to_dict(), "file": str(out)}


def format_ptx_result(result: dict) -> str:
    """A minimised PTX's result as text."""
    share = 100 * result["lines_after"] / max(1, result["lines_before"])
    failure = result["failure"] + (f" ({result['code']} at {result['registers_asked']})" if result["code"] else "")
    out = [
        f"{result['file']}: {result['lines_after']} of {result['lines_before']} lines ({share:.1f}%), "
        f"{result['instructions']} of {result['instructions_before']} instructions",
        f"  still fails:  {failure} on ptxas {result['ptxas_version']} for {result['arch']}",
        f"  found with:   {result['probes']} probes, {result['ptxas_runs']} runs of ptxas, {result['wall_s']} s"
        + ("" if result["complete"] else "; the time limit ended the search: more time may find less"),
        f"  see it with:  {result['command'].replace('minimized.ptx', result['file'])}",
    ]
    rows = result["verdicts"]
    releases = len({r["ptxas"] for r in rows})
    if result["agrees"]:
        out.append(
            f"  same verdict as the original at every -O level on {releases} ptxas release{'s' * (releases != 1)}"
        )
    else:
        out += [
            f"  another verdict on ptxas {r['ptxas']} {r['level']}: {r['minimised']}, was {r['original']}"
            for r in rows
            if not r["agree"]
        ]
    return "\n".join(out)


def format_spec_result(result: dict) -> str:
    """A minimised spec's result as text."""
    out = [
        f"{result['file']}: {len(result['changes'])} steps smaller, still {result['verdict']} on {result['arch']} with "
        f"Triton {result['triton_version']}, ptxas {result['ptxas_version']}",
        f"  its PTX has {result['ptx_lines_after']} lines, was {result['ptx_lines_before']}",
        *(f"  smaller: {change}" for change in result["changes"]),
        *(f"  needed:  {change}" for change in result["needed"]),
        f"  {result['compiles']} compiles, {result['wall_s']} s"
        + ("" if result["complete"] else "; the time limit ended the search"),
    ]
    return "\n".join(out)


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[Step], None]]:
    """A progress bar on stderr, fed with the steps of a search."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("how the original fails, on every ptxas here", total=None)

        def show(step: Step) -> None:
            words = f"{step.lines} of {step.lines_before} lines, {step.probes} probes; {step.phase}"
            bar.update(task, description=words, completed=step.done, total=step.total or None)

        yield show


@contextlib.contextmanager
def _count(quiet: bool) -> Iterator[Callable[[int, int, object], None]]:
    """A count of compiles on stderr."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:g} compiled"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("compiling", total=None)
        yield lambda _done, _total, _report: bar.advance(task)

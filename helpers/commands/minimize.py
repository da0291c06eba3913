"""`minimize`: the smallest PTX, or the smallest configuration of a kernel, that still fails in the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.commands.line.common import TRITON_OF_SPEC, assumed_for, toolchain_of
from helpers.commands.line.given import FOLDER, PTX, SPEC, Given, read_text, recognise, spec_path
from helpers.commands.line.grammar import ARGUMENTS, FILE, GIVEN, Verb, one, own_option, shared
from helpers.commands.line.output import check_folder, check_writable, command_line, show_result, write_result
from helpers.commands.line.progress import progress
from helpers.errors import MachineError, UserError

if TYPE_CHECKING:
    from helpers.search.minimize.prober import Step


@click.command(
    "minimize", cls=Verb, examples=("register-cliff minimize crash.ptx -o small.ptx --budget 300",
                                    "register-cliff minimize spec.json --arch B200"),
)  # fmt: skip
@click.argument("file", type=GIVEN, metavar="FILE", panel=ARGUMENTS,
                help="a PTX that ptxas fails on (also .ptx.gz), a KernelSpec in JSON, or a folder of one")  # fmt: skip
@own_option("--only-this-ptxas", is_flag=True, help="do not hold the result to the other ptxas releases here")
@own_option("--jobs", type=click.IntRange(1, 1024), metavar="N", default="(as many as cores)",
            help="runs of ptxas at once; the result is the same for any")  # fmt: skip
@own_option("--resume", "state_path", type=FILE, metavar="STATE",
            help="keep the search in this file, and go on from it when it is there; without it, an interrupted "
            "search is lost (PTX only)")  # fmt: skip
@shared("trust_root")
@shared("budget", budget=900)
@shared("arch", "triton", "ptxas", "ptxas_flags", "time_limit",
        arch="(a PTX's own target; the chip that a SPEC was captured on, else sm_100a)", triton=TRITON_OF_SPEC,
        ptxas="(for a PTX the oldest here that fails; for a SPEC bundled)", time_limit=60)  # fmt: skip
@shared("out", "force", "json", "quiet", out="(FILE's name with .min before the ending, in this folder)")
def minimize_command(
    file: Path, out: Path | None, as_json: bool, quiet: bool, force: bool, state_path: Path | None, triton: list | None,
    arch: list | None, ptxas: list | None, **options,
) -> None:  # fmt: skip
    """Shrink a PTX that ptxas fails on, or a spec, while it fails in the same way.

    A PTX is only ever given to ptxas, in a temporary folder, with a time limit. The result fails with the same code at
    the same register count, agrees with the original at -O0 to -O3 on every ptxas here, and reads no register before
    it is written. The kernel file that a spec names runs in a worker process.
    """
    given = recognise(file)
    is_spec = given.kind in (SPEC, FOLDER)
    if is_spec:
        given = Given(SPEC, spec_path(file))
    text = read_text(given, wants="a PTX or a spec", kinds=(PTX, SPEC))
    is_spec = is_spec or text.lstrip()[:1] == "{"  # part of one: whoever reads specs says what is missing
    ending = ".json" if is_spec else ".ptx"
    out = out or Path(given.path.name.removesuffix(".gz").removesuffix(ending) + ".min" + ending)
    check_writable(out)
    if is_spec:
        if state_path is not None:
            raise UserError("--resume is for PTX: the compiles of a spec are in the cache, so a second run is quick")
        chain = {"arch": arch, "triton": triton, "ptxas": ptxas}
        result = _minimize_spec(given.path, out, {**chain, **assumed_for(given.path, chain)}, **options)
        show_result(result, as_json, format_spec_result, f"{command_line('report', out)} packs it for an issue")
        return
    if triton is not None:
        raise UserError("--triton is for a spec; a PTX is assembled as it is: name a --ptxas")
    if state_path is not None:
        check_folder(state_path)
    result = _minimize_ptx(text, out, state_path, arch=one(arch), ptxas=one(ptxas), **options)
    show_result(result, as_json, format_ptx_result, f"{command_line('report', out)} packs it for an issue")


def _minimize_ptx(
    text: str, out: Path, state_path: Path | None, *, arch: str | None, ptxas: str | None,
    ptxas_flags: Sequence[str], only_this_ptxas: bool, budget_s: float, timeout_s: float, jobs: int | None,
) -> dict:  # fmt: skip
    from helpers.search.minimize.minimize_ptx import StoppedByMachine, minimize_ptx

    with progress("how the original fails, on every ptxas here") as bar:

        def show(step: Step) -> None:
            words = f"{step.lines} of {step.lines_before} lines, {step.probes} probes; {step.phase}"
            bar.update(words, done=step.done, total=step.total)

        try:
            small = minimize_ptx(
                text, arch=arch, ptxas=ptxas, flags=ptxas_flags, everywhere=not only_this_ptxas, time_limit_s=budget_s,
                timeout_s=timeout_s, jobs=jobs, state_path=state_path, progress=show,
            )  # fmt: skip
        except StoppedByMachine as exc:
            write_result(out, exc.ptx)
            raise MachineError(f"{exc}: the smallest PTX so far is in {out}; --resume goes on where it was") from exc
    write_result(out, small.ptx)
    return {**small.to_dict(), "file": str(out)}


def _minimize_spec(
    file: Path, out: Path, chain: dict, *, ptxas_flags: Sequence[str], budget_s: float, timeout_s: float,
    only_this_ptxas: bool, jobs: int | None,
) -> dict:  # fmt: skip
    import concurrent.futures

    from helpers.compiler.kernel_spec import read_specs
    from helpers.search.minimize.minimize_spec import minimize_spec

    if only_this_ptxas:
        raise UserError("--only-this-ptxas is for PTX: a spec is held to the toolchain that is named for it")
    specs = read_specs([file])
    if len(specs) != 1:
        raise UserError(f"{file} holds {len(specs)} specs; this takes one at a time")
    arch, toolchain = toolchain_of(chain)
    executor = concurrent.futures.ThreadPoolExecutor(jobs) if jobs else contextlib.nullcontext()
    with executor as pool, progress("compiling") as bar:
        small = minimize_spec(
            specs[0], arch, toolchain, ptxas_flags=tuple(ptxas_flags),
            time_limit_s=budget_s, timeout_s=timeout_s, executor=pool, progress=bar.counted,
        )  # fmt: skip
    write_result(out, small.spec.to_json() + "\n")
    return {**small.to_dict(), "file": str(out)}


def format_ptx_result(result: dict) -> str:
    """A minimised PTX's result as text."""
    share = 100 * result["lines_after"] / max(1, result["lines_before"])
    asked = "" if result["registers_asked"] is None else f" at {result['registers_asked']}"
    failure = result["failure"] + (f" ({result['code']}{asked})" if result["code"] else "")
    out = [
        f"{result['file']}: {result['lines_after']} of {result['lines_before']} lines ({share:.1f}%), "
        f"{result['instructions']} of {result['instructions_before']} instructions",
        f"  still fails:  {failure} on ptxas {result['ptxas_version']} for {result['arch']}",
        f"  found with:   {result['probes']} probes, {result['ptxas_runs']} runs of ptxas, {result['wall_s']} s"
        + ("" if result["complete"] else "; the budget ended the search: a larger --budget may find less"),
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
        + ("" if result["complete"] else "; the budget ended the search"),
    ]
    return "\n".join(out)

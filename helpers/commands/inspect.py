"""The verb `inspect`: what is built already, told as one table of kernel by arch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from helpers.commands.line.grammar import ARGUMENTS, GIVEN, Verb, own_option, shared
from helpers.commands.line.output import check_writable, command_line, echo_json, note, say, write_result
from helpers.commands.line.progress import progress
from helpers.errors import UserError
from helpers.hardware import get_arch, known_chip
from helpers.inspection.contents import recognise
from helpers.show.display import text_columns

if TYPE_CHECKING:
    from helpers.compiler.built.inspect import Inspection
    from helpers.compiler.built.rows import BuiltKernel

# A column of the table: its heading, and the field of a row.
COLUMNS = {
    "registers": "registers", "cap": "cap", "stack B": "stack_frame_bytes", "stores B": "spill_store_bytes",
    "loads B": "spill_load_bytes", "by loops": "weighted_spill_bytes", "shared B": "shared_bytes",
    "dynamic B": "dynamic_shared_bytes", "barriers": "barriers", "threads": "max_threads",
    "path": "tensor_core_path", "split": "setmaxnreg", "tmem": "tmem_columns",
}  # fmt: skip
SORTS = {
    "registers": "registers", "stack": "stack_frame_bytes", "spills": "spill_bytes", "weight": "weighted_spill_bytes",
    "shared": "shared_bytes", "barriers": "barriers", "threads": "max_threads", "kernel": "name", "arch": "arch",
    "file": "source",
}  # fmt: skip
MAX_NAME = 60
_BAR = 40


class Chip(click.ParamType):
    """A chip by its name (any that NVIDIA's tools know or knew) or product, as its compute capability: 90."""

    name = "chip"

    def convert(self, value, param, ctx):
        if isinstance(value, int):
            return value
        if chip := known_chip(value if "_" in value else f"sm_{value}"):
            return chip.capability
        try:
            return get_arch(value).capability
        except UserError as exc:
            self.fail(str(exc), param, ctx)


@click.command(
    "inspect", cls=Verb,
    examples=("register-cliff inspect build/*.so --sort spills --sass",
              "register-cliff inspect flash_attn.whl --chip H100 --match '*FlashAttnFwd*' --csv rows.csv"),
)  # fmt: skip
@click.argument(
    "paths", type=GIVEN, nargs=-1, required=True, metavar="PATH…", panel=ARGUMENTS,
    help="cubins, fatbins, PTX, libraries (.so, .o, .a), wheels, and folders with such files (a Triton cache, a build)",
)  # fmt: skip
@own_option("--match", metavar="PATTERN", help="only kernels with this in their name; * stands for anything")
@own_option("--chip", type=Chip(), metavar="CHIP", help="only what was built for this chip: sm_75, H100, RTX 5090")
@shared("sass")
@own_option("--sort", type=click.Choice(list(SORTS)), default="registers", metavar="COLUMN",
            help=f"what comes first: {' | '.join(SORTS)}")  # fmt: skip
@own_option("--rows", "shown_rows", type=click.IntRange(1), default=40, metavar="N", help="how many rows are shown")
@own_option("--histogram", is_flag=True, help="show how many kernels take how many registers")
@shared("csv", "force", "json", "quiet")
def inspect_command(
    paths: tuple[Path, ...], match: str | None, chip: int | None, sass: bool, sort: str, shown_rows: int,
    histogram: bool, csv_path: Path | None, as_json: bool, quiet: bool, force: bool,
) -> None:  # fmt: skip
    """List the kernels that are built already: registers, frame, shared memory, launch bounds, by kernel and chip.

    Nothing is run or loaded. Each number is read from the binary itself and held to what NVIDIA's cuobjdump says of it.
    Spills, and of what has no PTX beside it the tensor-core path, stand in the code alone: --sass. An array that ptxas
    could not keep in registers counts as spills there: the code does not tell them apart.
    """
    from helpers.compiler.built.inspect import inspect_built
    from helpers.compiler.built.rows import chosen, registers_histogram

    if csv_path is not None:
        check_writable(csv_path)
    for path in paths:
        recognise(path)  # a path that is not there is said before a long library is read
    with progress("reading") as bar:
        found = inspect_built(paths, sass=sass, capability=chip, progress=lambda n, of: bar.update(done=n, total=of))
    rows = ordered(chosen(found.rows, match, chip), sort)
    if csv_path is not None:
        write_result(csv_path, csv_text(rows))
    if as_json:
        files = [{**vars(file), "ptx_archs": list(file.ptx_archs)} for file in found.files]
        counts = {"histogram": dict(registers_histogram(rows))} if histogram else {}
        echo_json(
            {
                "rows": [row.to_dict() for row in rows],
                "files": files,
                "kernels": sum(1 for row in rows if row.kernel),
                "checked": found.checked,
                "problems": sum(1 for row in rows if row.problem),
                **counts,
            }
        )
        return
    say(format_inspection(rows, found, shown_rows, histogram))
    if not found.checked and any(row.kernel and row.kind == "cubin" for row in rows):
        note("no cuobjdump here reads these: the numbers are the binary's own; register-cliff toolchains install 3.7.1")
    if step := next_step(rows, sass, paths):
        say(f"\nnext: {step}")


def ordered(rows: Sequence[BuiltKernel], sort: str) -> list[BuiltKernel]:
    """The rows by one column: numbers from the largest, texts from the first; what is not known comes last."""

    def place(row: BuiltKernel) -> tuple:
        value = getattr(row, SORTS[sort])
        known = value is not None and bool(row.kernel)
        return (not known, value if isinstance(value, str) else -(value or 0), row.source, row.name, row.arch)

    return sorted(rows, key=place)


def csv_text(rows: Sequence[BuiltKernel]) -> str:
    """The rows as CSV, every field a column."""
    from helpers.compiler.built.rows import BuiltKernel

    out = io.StringIO()
    names = [field.name for field in fields(BuiltKernel)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else value


def short_name(name: str) -> str:
    """A name that fits a table: without its parameters, cut in the middle where it is long."""
    if name.endswith(")"):
        depth = 0
        for at in range(len(name) - 1, 0, -1):
            depth += {")": 1, "(": -1}.get(name[at], 0)
            if depth == 0:  # what opens the parameters
                name = name[:at]
                break
    name = name.removeprefix("void ")
    half = (MAX_NAME - 1) // 2
    return name if len(name) <= MAX_NAME else f"{name[:half]}…{name[-half:]}"


def format_inspection(rows: Sequence[BuiltKernel], found: Inspection, shown: int, histogram: bool = False) -> str:
    """The table of the kernels, one line a file, one line a problem."""
    from helpers.compiler.built.rows import registers_histogram

    kernels = [row for row in rows if row.kernel]
    headings = [h for h, name in COLUMNS.items() if any(getattr(row, name) not in (None, ()) for row in kernels)]
    several = len({row.source for row in kernels}) > 1
    table: list[tuple] = [("kernel", "arch", *headings, *(["file"] if several else []))]
    for row in kernels[:shown]:
        cells = [_shown(getattr(row, COLUMNS[heading])) for heading in headings]
        where = [row.source.rsplit("/", 1)[-1][-40:]] if several else []
        table.append((short_name(row.name), row.arch, *cells, *where))
    lines = text_columns(table) if kernels else []
    if len(kernels) > shown:
        lines.append(
            f"… and {len(kernels) - shown:,} more; --rows {len(kernels)} shows them, --csv FILE has all columns"
        )
    if histogram and kernels:
        counts = registers_histogram(kernels)
        most = max(count for _, count in counts) or 1
        lines += ["", *text_columns([(f"{name} registers", n, "█" * -(-n * _BAR // most)) for name, n in counts])]
    lines.append("")
    with_code = [file for file in found.files if file.cubins or file.kernels]
    for file in with_code[:shown]:
        ptx = f", PTX for {', '.join(file.ptx_archs)}" if file.ptx_archs else ""
        size = f"{file.size_bytes:,} B, {file.cubins} cubin{'' if file.cubins == 1 else 's'}"
        lines.append(f"{file.source}: {file.kind}, {size}, {file.kernels:,} kernels{ptx}")
    if len(with_code) > shown:
        lines.append(f"… and {len(with_code) - shown:,} files more")
    if others := len(found.files) - len(with_code):
        lines.append(f"{others} file{'' if others == 1 else 's'} without device code for an NVIDIA chip")
    problems = [row for row in rows if row.problem]
    lines += [f"problem: {_where(row)}: {row.problem}" for row in problems[:shown]]
    words = f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
    lines.append(
        f"{len(kernels):,} kernels; cuobjdump stated the numbers of {found.checked:,} it was asked for; {words}"
    )
    return "\n".join(lines)


def _where(row: BuiltKernel) -> str:
    part = f"cubin {row.part}" if row.part else ""
    return " ".join(filter(None, (row.source, part, row.arch, short_name(row.name))))


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return "/".join(map(str, value)) or "-"
    return "?" if value is None else value


def next_step(rows: Sequence[BuiltKernel], sass: bool, paths: Sequence[Path]) -> str | None:
    """The command to go on with; None where nothing is worth it."""
    if not sass and any(row.stack_frame_bytes for row in rows):
        again = command_line("inspect", *paths[:3], "--sass", "--sort", "spills")
        return f"{again} says how much of the stack is spills"
    if rows and rows[0].kind == "PTX" and not rows[0].problem:
        return f"{command_line('pressure', rows[0].source)} shows where it needs its registers"
    return None

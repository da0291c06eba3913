"""What data/ holds of single compiles of the extend kernel, by configuration, for pages that cannot compile."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from helpers.attention.choice import Choice
from helpers.attention.tiles import TileConfig, parse_tile
from helpers.compiler.report import NO_VERDICT, CompileReport, Evidence
from helpers.errors import MachineError, UserError
from helpers.hardware import CAP, get_arch
from helpers.inspection.ptx.scan import TENSOR_CORE_PATHS
from helpers.recorded import provenance, read_rows
from helpers.show.style import status_colour
from helpers.workbook.explorer.choices import report_rows, status_words
from helpers.workbook.explorer.on_page import Answer, Bar, Knob, Scale

T = TypeVar("T")

_PLAIN = vars(Choice())
_WHOLE = ("regs_per_thread", "spill_store_bytes", "spill_load_bytes", "smem_bytes", "tmem_columns")
OWN = "its own"
"""What `ptx_written_for` says of the PTX that a Triton writes for the ptxas it bundles."""


def choice_of_command(command: str) -> Choice | None:
    """The configuration that a command of `Choice.command` compiles; None where it asks for what a Choice has not."""
    words = shlex.split(command.partition(" compile ")[2])
    known, values = _PLAIN, dict[str, Any]()
    for flag, word in zip(words[::2], words[1::2], strict=False):
        name = flag.removeprefix("--").replace("-", "_")
        if name not in known or isinstance(known[name], (bool, tuple)):
            return None
        number = word.lstrip("-").isdigit()
        values[name] = None if word == "none" else int(word) if number else word
    return None if len(words) % 2 else Choice(**values)


_LAUNCH = ("tile", "num_warps", "num_stages")
_OF_NO_COMPILE = ("num_q_heads", "num_kv_heads", "timeout_s")


@lru_cache(maxsize=4096)
def _tile_of(arch: str, head_dim: int, tile: str) -> TileConfig:
    return parse_tile(tile, capability=get_arch(arch).capability, head_dim=head_dim)


def configuration(choice: Choice) -> tuple:
    """What tells one compile of the extend kernel from another: names of tiles and defaults of a launch are resolved.

    Raises UserError for a tile that the chip's table does not have.
    """
    tile = _tile_of(choice.arch, choice.head_dim, choice.tile)
    rest = tuple((n, v) for n, v in vars(choice).items() if n not in (*_LAUNCH, *_OF_NO_COMPILE) and v != _PLAIN[n])
    return (*_launched(tile, choice.num_warps, choice.num_stages), rest)


def _launched(tile: TileConfig, warps: int | None, stages: int | None) -> tuple[int, int, int, int]:
    return (tile.block_m, tile.block_n, tile.num_warps if warps is None else warps,
            tile.num_stages if stages is None else stages)  # fmt: skip


def report_of_row(row: Mapping[Any, Any], choice: Choice) -> CompileReport:
    """A row of data/ about a compile of `choice` as a report; what the row does not have is missing there too."""
    known: dict[str, Any] = {str(k): (None if v != v else v) for k, v in row.items()}
    numbers: dict[str, Any] = {name: int(known[name]) for name in _WHOLE if known.get(name) is not None}
    block_m, block_n, warps, *_ = configuration(choice)
    return CompileReport(
        status=known["status"],
        arch=choice.arch,
        triton_version=choice.triton,
        ptxas_version=known.get("ptxas_version") or known.get("ptxas"),
        label=f"hd{choice.head_dim} {choice.kv_dtype} {block_m}x{block_n} w{warps}",
        num_warps=warps,
        wall_s=known.get("wall_s") or 0.0,
        ptxas_code=known.get("ptxas_code"),
        message=known.get("message") or known.get("reason") or "",
        instructions={TENSOR_CORE_PATHS.get(str(known.get("tensor_core_path")), "other"): 1},
        **numbers,
    )


@lru_cache(maxsize=1)
def recorded_compiles() -> dict[tuple, Evidence]:
    """The recorded compiles by `configuration`; where two files have one, the first of cliff_map, remedies, …"""
    found: dict[tuple, Evidence] = {}
    for name in ("cliff_map", "remedies", "version_matrix", "tile_audit"):
        try:
            table = read_rows(name)
        except MachineError:
            raise
        except UserError:
            continue
        source = provenance(table) if name != "tile_audit" else f"recorded: data/{name}.csv, compile-time"
        for row in table.to_dict("records"):
            choice = _choice_of_row(name, row)
            if choice is not None and row["status"] not in NO_VERDICT:
                found.setdefault(configuration(choice), Evidence(report_of_row(row, choice), source))
    return found


def _choice_of_row(name: str, row: Mapping) -> Choice | None:
    if name == "cliff_map":
        asked = {n: row[n] for n in ("arch", "head_dim", "kv_dtype", "tile", "num_warps", "triton")}
        return Choice(**asked, window=None if row["window"] != row["window"] else int(row["window"]))
    if name == "version_matrix":
        # PTX that was written for another ptxas is another text: its pair is asked for in another way.
        return Choice(triton=row["triton"], ptxas=row["ptxas_asked"]) if row["ptx_written_for"] == OWN else None
    return choice_of_command(row["command"])


def recorded_bases(base: Choice, knobs: Sequence[Knob], rests: Iterable[tuple]) -> Iterator[tuple[tuple, dict]]:
    """(the rest of a `configuration`, all fields by name) for those that the knobs can reach; tile and launch aside.

    Every knob is a field of `Choice`; what no knob sets is as in `base`.
    """
    options = {knob.name: knob.values for knob in knobs}
    fixed = {n: v for n, v in vars(base).items() if n not in (*options, *_LAUNCH, *_OF_NO_COMPILE)}
    for rest in dict.fromkeys(rests):
        values = {**_PLAIN, **dict(rest)}
        if all(values[n] == v for n, v in fixed.items()) and all(
            values[n] in those for n, those in options.items() if n not in _LAUNCH
        ):
            yield rest, values


def recorded_settings(base: Choice, knobs: Sequence[Knob], found: Mapping[tuple, T]) -> Iterator[tuple[tuple, T]]:
    """(values of the knobs, what was found) for each setting whose `configuration` is in `found`, in every spelling."""
    names = [knob.name for knob in knobs]
    options = {knob.name: knob.values for knob in knobs}
    launches = list(itertools.product(*(options.get(name, (getattr(base, name),)) for name in _LAUNCH)))
    for rest, values in recorded_bases(base, knobs, (rest for *_, rest in found)):
        for launch in launches:
            try:
                tile = _tile_of(values["arch"], values["head_dim"], launch[0])
            except UserError:
                continue
            key = (*_launched(tile, *launch[1:]), rest)
            if key in found:
                setting = {**values, **dict(zip(_LAUNCH, launch, strict=True))}
                yield tuple(setting[name] for name in names), found[key]


def compile_answer(evidence: Evidence) -> Answer:
    """One recorded compile as the answer of a page: its verdict, its numbers, a bar of registers against the cap."""
    report = evidence.report
    colour, spills = status_colour(report.status), bool(report.spill_store_bytes)
    held = report.regs_per_thread if report.compiled else None
    return Answer(
        status=report.status,
        said=status_words(report),
        facts=report_rows(evidence) | {"spec": None, "evidence": evidence.source},
        bars=(Bar(report.arch, held, colour, report.verdict(), spills),),
    )


REGISTERS = Scale(
    "registers per thread (ptxas -v); the line is the most that a thread can have", CAP, ((CAP, "the cap"),)
)

"""The recorded rows of other compilers (data/front_ends.csv) as tables, findings and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.compiler.report import COMPILED
from helpers.errors import UserError
from helpers.hardware import get_arch
from helpers.show.verdicts import Cell, cell_of, grid_figure, grid_of, words_in_sentence

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LANGUAGES = ("Triton", "Gluon", "CuTe DSL", "cuTile")
# (arch, head dim): the chips and heads that are compared.
_COLUMNS = tuple((arch, head_dim) for head_dim in (256, 512) for arch in ("sm_90a", "sm_100a"))
_TILE = "128x64"
_SHOWN = {
    "front_end": "language", "kernel": "kernel", "arch": "chip", "head_dim": "head dim", "tile": "tile",
    "status": "verdict", "regs_per_thread": "registers", "stack_frame_bytes": "stack frame, B",
    "spill_store_bytes": "spill stores, B", "spill_bytes_in_loops": "spills inside loops, B",
    "tensor_core_path": "tensor cores",
}  # fmt: skip


def attention_row(rows: pd.DataFrame, language: str, arch: str, head_dim: int) -> dict | None:
    """The row of a language's attention on a chip that comes nearest to the incident's: None where there is none.

    Nearest is, in this order: the tile 128x64, a window of 1024, pages of one token, packed queries.
    """
    found = rows[(rows["front_end"] == language) & (rows["arch"] == arch) & (rows["head_dim"] == head_dim)]
    if found.empty:
        return None
    nearness = [found["tile"] == _TILE, found["window"] == 1024, found["page_size"] == 1, found["packed"].astype(bool)]
    order = sum(near.astype(int) * 2 ** (3 - place) for place, near in enumerate(nearness))
    return found.loc[order.idxmax()].to_dict()


def language_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a language, chip and head dim: what `attention_row` finds, under a reader's column names.

    Raises UserError for rows that hold none of the languages.
    """
    import pandas as pd

    found = [attention_row(rows, language, *column) for column in _COLUMNS for language in LANGUAGES]
    table = pd.DataFrame([row for row in found if row])
    if table.empty:
        raise UserError(f"these rows hold no attention in {', '.join(LANGUAGES)}; read_rows('front_ends')")
    table = table[list(_SHOWN)].rename(columns=_SHOWN)
    for name in ("head dim", "registers", "stack frame, B", "spill stores, B", "spills inside loops, B"):
        table[name] = table[name].astype("Int64")
    return table.reset_index(drop=True)


def plot_languages(rows: pd.DataFrame, title: str) -> Figure:
    """The verdicts as a grid: a language a row, a chip and head dim a column, with the tensor cores that are used."""

    def at(language: str, column: str) -> Cell:
        arch, head_dim = by_name[column]
        row = attention_row(rows, language, arch, head_dim)
        mark = "" if row is None or row["status"] not in COMPILED else f", {row['tensor_core_path']}"
        return cell_of(row, registers=True, mark=mark)

    by_name = {f"{arch}\nhead dim {head_dim}": (arch, head_dim) for arch, head_dim in _COLUMNS}
    subtitle = "bf16, tile 128x64 where the kernel has it, compile-time, recorded"
    return grid_figure(grid_of(LANGUAGES, list(by_name), at), title, subtitle, cell_inches=(1.9, 0.62))


def language_findings(rows: pd.DataFrame, head_dim: int = 256) -> dict[str, object]:
    """Of the languages' attentions at a head dim: who spills how much, who fails, who is off the chip's tensor cores.

    `spills` and `clean` hold (language, arch, bytes of spill stores), `failed` (language, arch, verdict), `slower`
    (language, arch, path) of a kernel that compiles and does not use the chip's own tensor-core instructions.
    """
    cells = [(lang, arch, attention_row(rows, lang, arch, head_dim)) for lang in LANGUAGES
             for arch in ("sm_90a", "sm_100a")]  # fmt: skip
    there = [(language, arch, row) for language, arch, row in cells if row]
    made = [(language, arch, row) for language, arch, row in there if row["status"] in COMPILED]
    bytes_of = [(language, arch, int(row["spill_store_bytes"])) for language, arch, row in made]
    return {
        "spills": [cell for cell in bytes_of if cell[2]],
        "clean": [cell for cell in bytes_of if not cell[2]],
        "failed": [(lang, arch, words_in_sentence(row)) for lang, arch, row in there if row["status"] not in COMPILED],
        "slower": [(language, arch, row["tensor_core_path"]) for language, arch, row in made
                   if row["tensor_core_path"] != get_arch(arch).tensor_core_path],
    }  # fmt: skip


def told(cells: list[tuple[str, str, object]]) -> str:
    """Cells of `language_findings` in a sentence's words: `cuTile on sm_90a (5,016 B), …`; `none` without any."""
    words = [f"{lang} on {arch} ({value:,} B)" if isinstance(value, int) else f"{lang} on {arch} ({value})"
             for lang, arch, value in cells]  # fmt: skip
    return ", ".join(words) or "none"


def page_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """FlashAttention-4's rows: what pages, a window and packed queries cost in registers and spills, by chip."""
    names = {"arch": "chip", "head_dim": "head dim", "tile": "tile", "page_size": "page size", "window": "window",
             "packed": "packed queries", "regs_per_thread": "registers", "spill_store_bytes": "spill stores, B",
             "spill_bytes_in_loops": "spills inside loops, B", "seen_in_trial": "a trial before, B"}  # fmt: skip
    table = rows[rows["kernel"] == "FlashAttention-4"][list(names)].rename(columns=names)
    table = table.sort_values(["chip", "head dim", "page size", "window", "packed queries"], ascending=False)
    for name in ("head dim", "page size", "window", "registers", *(n for n in table if n.endswith(", B"))):
        table[name] = table[name].astype("Int64")
    return table.reset_index(drop=True)


def trial_differs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose bytes differ from those that a trial before had seen: spills, or in cuTile the stack frame."""
    seen = rows[rows["seen_in_trial"].notna()]
    now = seen["stack_frame_bytes"].where(seen["front_end"] == "cuTile", seen["spill_store_bytes"])
    return seen[now != seen["seen_in_trial"]]


def page_findings(rows: pd.DataFrame, arch: str = "sm_100a", head_dim: int = 256) -> tuple[dict, dict]:
    """(with pages of one token, without pages): bytes of spill stores of `packed` queries and of `equal` lengths.

    Of FlashAttention-4's kernels with a window.
    """
    table = rows[(rows["kernel"] == "FlashAttention-4") & (rows["arch"] == arch) & (rows["head_dim"] == head_dim)]
    table = table[table["window"] > 0].set_index(["page_size", "packed"])["spill_store_bytes"]
    with_pages, without = (
        {"packed": int(table[size, True]), "equal": int(table[size, False])} for size in (1, 0)
    )  # fmt: skip
    return with_pages, without


def most_spilled(rows: pd.DataFrame, arch: str) -> int:
    """The most bytes of spill stores of FlashAttention-4's kernels on a chip."""
    found = rows[(rows["kernel"] == "FlashAttention-4") & (rows["arch"] == arch)]
    return int(found["spill_store_bytes"].max())


def product_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The matrix products in CuTe DSL and CUDA C++: demand of the PTX, registers, spills, by chip, tile and warps."""
    names = {"front_end": "language", "kernel": "kernel", "arch": "chip", "tile": "tile", "num_warps": "warps",
             "demand": "demand", "regs_per_thread": "registers", "stack_frame_bytes": "stack frame, B",
             "spill_store_bytes": "spill stores, B", "demand_line": "line of the highest demand"}  # fmt: skip
    table = rows[rows["kernel"].str.startswith("matrix product")][list(names)].rename(columns=names)
    for name in ("warps", "demand", "registers", "stack frame, B", "spill stores, B"):
        table[name] = table[name].astype("Int64")
    return table.sort_values(["language", "chip", "tile", "warps", "kernel"]).reset_index(drop=True)


def bound_findings(rows: pd.DataFrame, arch: str = "sm_90a") -> tuple[dict, dict]:
    """(without, with a bound of one CTA an SM): the row of the product in CuTe DSL whose accumulators fill a thread."""
    table = product_rows(rows)
    table = table[(table["language"] == "CuTe DSL") & (table["chip"] == arch) & (table["warps"] == 4)]
    table = table[table["tile"] == "128x256"].sort_values("kernel")
    without, bounded = table.to_dict("records")
    return without, bounded

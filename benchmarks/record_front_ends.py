"""Compile one attention in four languages, and a matrix product in two more ways; write data/front_ends.csv; no GPU.

    pip install 'register-cliff[cute,cutile]'
    python benchmarks/record_front_ends.py [--packages FOLDER] [--only cute,cutile,triton,cuda] [--match TEXT]

FOLDER is what `pip install --target` filled; without it the front ends of this environment are used. Every kernel is
compiled in a process and a folder of its own. Some fifteen minutes on two cores. Rows of what is not asked for stay
as they are recorded: `--match "cute_gemm.py sm_90a"` does the cells anew whose command has these words.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.choice import Choice
from helpers.attention.hopper import build_hopper_spec
from helpers.attention.shapes import AttentionShape
from helpers.compiler.compile import CompileRequest, compile_matrix
from helpers.compiler.disassemble import report_loop_spills
from helpers.compiler.front_ends.binary_report import binary_report
from helpers.compiler.front_ends.extras import CUTE, CUTILE, FLASH_ATTENTION, FrontEnd, Installed, find_front_end
from helpers.compiler.front_ends.run_script import run_script
from helpers.compiler.report import CompileReport
from helpers.compiler.run_ptxas import run_ptxas
from helpers.compiler.toolchain import (
    ENVIRONMENT,
    Tool,
    Toolchain,
    installed_ptxas,
    resolve_ptxas,
    resolve_triton,
)
from helpers.errors import UserError
from helpers.files import write_text_atomically
from helpers.hardware import WARP_SIZE
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.inspection.ptx.scan import count_instructions, ptx_header
from helpers.recorded import DATA, rows_of

if TYPE_CHECKING:
    import pandas as pd

SCRIPTS = Path(__file__).resolve().parent / "front_ends"
ARCHS = ("sm_90a", "sm_100a")
TIMEOUT_S = 400.0
WHOLE = (
    "page_size", "window", "num_warps", "regs_per_thread", "stack_frame_bytes", "spill_store_bytes", "spill_load_bytes",
    "spill_bytes_in_loops", "tensor_instructions", "demand", "seen_in_trial",
)  # fmt: skip
# Bytes that a trial before this record saw. FlashAttention-4: spilled, by (arch, head dim, page size, window, packed).
SPILLED_IN_TRIAL = {
    ("sm_100a", 256, 1, 1024, True): 404, ("sm_100a", 256, 0, 1024, True): 0, ("sm_90a", 128, 0, 0, False): 0,
    ("sm_90a", 256, 0, 0, False): 0, ("sm_90a", 128, 1, 0, False): 0, ("sm_90a", 256, 1, 0, False): 0,
}  # fmt: skip
# The attention in cuTile: of the stack frame, by (arch, tile, head dim, window).
FRAME_IN_TRIAL = {("sm_90a", "128x64", 256, 0): 2536, ("sm_100a", "128x64", 256, 0): 0}


@dataclass(frozen=True)
class Asked:
    """One compile by a front end's script: the words after the arch, and what the row says of it."""

    front_end: FrontEnd
    script: str
    kernel: str
    arch: str
    words: tuple[int, ...]
    head_dim: int | None = None
    tile: str = ""
    page_size: int = 0
    window: int = 0
    packed: bool = False

    @property
    def said_arch(self) -> str:
        """The arch as the script takes it: tileiras has no names with an `a`."""
        return self.arch.removesuffix("a") if self.front_end is CUTILE else self.arch

    def command(self) -> str:
        """How to run the script alone."""
        words = " ".join(map(str, (self.said_arch, *self.words)))
        chip = f"CUTE_DSL_ARCH={self.arch} CUTE_DSL_KEEP=ptx,cubin " if self.script == "cute_gemm" else ""
        return f"{chip}python benchmarks/front_ends/{self.script}.py {words}"


def asked_cute() -> Iterator[Asked]:
    """The matrix product that fits and the one that does not; FlashAttention-4 with and without pages and windows."""
    for arch in ARCHS:
        for m, n, warps, least in ((128, 128, 4, 0), (128, 256, 4, 0), (128, 256, 4, 1), (128, 256, 8, 0)):
            kernel = f"matrix product{', at least one CTA an SM' if least else ''}"
            yield Asked(CUTE, "cute_gemm", kernel, arch, (m, n, warps, least), tile=f"{m}x{n}")
        cells = [(256, 1, 1024), (256, 0, 1024), (256, 1, 0), (256, 0, 0), (128, 1, 0), (128, 0, 0)]
        for head_dim, page, window in cells:
            for packed in (0, 1) if (head_dim, window) == (256, 1024) else (0,):
                yield Asked(
                    FLASH_ATTENTION, "flash_attention_4", "FlashAttention-4", arch, (head_dim, page, window, packed),
                    head_dim=head_dim, page_size=page, window=window, packed=bool(packed),
                )  # fmt: skip


def asked_cutile() -> Iterator[Asked]:
    """The attention of our own by tiles and head dims, with the incident's window where it is the incident's head."""
    cells = [(128, 64, 128, 0), (64, 64, 256, 0), (128, 64, 256, 0), (128, 64, 256, 1024), (64, 64, 512, 0),
             (128, 64, 512, 0)]  # fmt: skip
    for arch in ARCHS:
        for m, n, head_dim, window in cells:
            yield Asked(
                CUTILE, "cutile_attention", "attention", arch, (m, n, head_dim, window), head_dim=head_dim,
                tile=f"{m}x{n}", window=window,
            )  # fmt: skip


def row_by_script(asked: Asked, installed: Installed) -> dict:
    """The row of one compile by a front end, failed or not."""
    with tempfile.TemporaryDirectory() as place:
        environment = {"CUTE_DSL_ARCH": asked.arch, "CUTE_DSL_KEEP": "ptx,cubin", "CUTE_DSL_LINEINFO": "1",
                       "CUTE_DSL_DUMP_DIR": place}  # fmt: skip
        made = run_script(
            SCRIPTS / f"{asked.script}.py", list(map(str, (asked.said_arch, *asked.words))), installed, Path(place),
            environment=environment, timeout_s=TIMEOUT_S,
        )  # fmt: skip
        said = re.findall(r"^tile (\d+x\d+)$", made.log, re.MULTILINE)
        row = {
            "front_end": asked.front_end.name, "kernel": asked.kernel, "arch": asked.arch, "head_dim": asked.head_dim,
            "tile": said[-1] if said else asked.tile, "page_size": asked.page_size, "window": asked.window,
            "packed": asked.packed, "releases": ", ".join(f"{k} {v}" for k, v in installed.releases.items()),
        }  # fmt: skip
        if made.cubin is None:
            how = "timeout" if made.exit_code is None else "frontend_error"
            return row | ending(asked, made.wall_s) | {"status": how, "message": made.complaint[:200]}
        try:
            report = binary_report(made.cubin, arch=asked.arch, label=asked.kernel, ptx=made.ptx)
        except UserError as exc:
            return row | ending(asked, made.wall_s) | {"status": "environment_error", "message": str(exc)[:200]}
        return row | figures(report) | ending(asked, made.wall_s)


def figures(report: CompileReport) -> dict:
    """What a report says of a kernel, and the line of its source that needs the most registers."""
    path = report.tensor_core_path
    count = {"tcgen05": "tcgen05_mma", "wgmma": "wgmma", "mma.sync": "mma_sync"}.get(path, "")
    loops = report_loop_spills(report)
    profile = pressure_profile(Path(report.ptx_path).read_text()) if report.ptx_path else None
    source = profile.peak.source if profile and profile.peak else None
    return {
        "status": report.status, "ptxas": report.ptxas_version, "ptx": report.ptx_version,
        "num_warps": report.num_warps, "regs_per_thread": report.regs_per_thread,
        "stack_frame_bytes": report.stack_frame_bytes, "spill_store_bytes": report.spill_store_bytes,
        "spill_load_bytes": report.spill_load_bytes, "spill_bytes_in_loops": loops.inside if loops else None,
        "tensor_core_path": path, "tensor_instructions": report.instructions.get(count, 0),
        "demand": profile.demand if profile else None,
        "demand_line": f"{Path(source[0]).name}:{source[1]}" if source else "",
        "message": report.headline[:200],
    }  # fmt: skip


def ending(asked: Asked, wall_s: float) -> dict:
    """The last columns of a row: what a trial saw, how long the compile took, how to run it again."""
    if asked.front_end is CUTILE:
        seen = FRAME_IN_TRIAL.get((asked.arch, asked.tile, asked.head_dim or 0, asked.window))
    else:
        seen = SPILLED_IN_TRIAL.get((asked.arch, asked.head_dim or 0, asked.page_size, asked.window, asked.packed))
    return {"seen_in_trial": seen, "seconds": round(wall_s, 1), "command": asked.command()}


def rows_of_triton() -> list[dict]:
    """The same attention in Triton, by tile, and in Gluon, whose kernel is Hopper's; no front end has to be brought."""
    cells, requests = [], []
    base = Choice(kv_dtype="bf16", triton=resolve_triton(ENVIRONMENT).version)
    for arch in ARCHS:
        for head_dim, window, tile in ((128, None, "128x64"), (256, None, "64x64"), (256, None, "128x64"),
                                       (256, 1024, "128x64"), (512, None, "64x64"), (512, None, "128x64")):  # fmt: skip
            choice = replace(base, arch=arch, head_dim=head_dim, window=window, tile=tile)
            cells.append(("Triton", "extend_attention", head_dim, tile, window or 0, choice.command()))
            requests.append(choice.request())
        for head_dim, window in ((128, None), (256, None), (256, 1024), (512, None)):
            shape = AttentionShape(num_q_heads=32, num_kv_heads=16, head_dim=head_dim, v_head_dim=head_dim,
                                   kv_dtype="bf16", model_window=window)  # fmt: skip
            spec = build_hopper_spec(shape)
            tile = "x".join(str(dict(spec.constexprs)[name]) for name in ("BLOCK_M", "BLOCK_N"))
            again = "python benchmarks/record_front_ends.py --only triton"
            cells.append(("Gluon", spec.kernel.name.removesuffix("_kernel"), head_dim, tile, window or 0, again))
            requests.append(CompileRequest(spec, arch, Toolchain(base.triton)))
    rows = []
    for cell, report in zip(cells, compile_matrix(requests), strict=True):
        front_end, kernel, head_dim, tile, window, command = cell
        rows.append(
            {"front_end": front_end, "kernel": kernel, "arch": report.arch, "head_dim": head_dim, "tile": tile,
             "page_size": 1, "window": window, "packed": True, "releases": f"triton {report.triton_version}",
             **figures(report), "seconds": round(report.wall_s, 1), "command": command}
        )  # fmt: skip
    return rows


def row_of_cuda(tile: int) -> dict:
    """The row of a PTX that nvcc made, as it is checked in, assembled by the newest ptxas on hand."""
    path = SCRIPTS / f"tile_product_{tile}.ptx"
    ptx, ptxas = path.read_text(), newest_ptxas()
    run = run_ptxas(ptxas.path, ptx, gpu_name="sm_90a")
    report = CompileReport(
        status=run.verdict, arch="sm_90a", triton_version=None, ptxas_version=ptxas.version, ptx_path=str(path),
        num_warps=(ptx_header(ptx).threads or 0) // WARP_SIZE, regs_per_thread=run.regs_per_thread,
        spill_store_bytes=run.spill_store_bytes, spill_load_bytes=run.spill_load_bytes, message=run.message,
        stack_frame_bytes=run.stack_frame_bytes, instructions=count_instructions(ptx),
        ptx_version=ptx_header(ptx).version,
    )  # fmt: skip
    made_by = re.search(r"release [\d.]+, V([\d.]+)", ptx)
    return {
        "front_end": "CUDA C++", "kernel": "matrix product", "arch": "sm_90a", "tile": f"{16 * tile}x{16 * tile}",
        "page_size": 0, "window": 0, "packed": False, "releases": f"nvcc {made_by[1]}" if made_by else "",
        **figures(report), "spill_bytes_in_loops": None, "seconds": round(run.wall_s, 1),
        "command": f"ptxas -v -arch=sm_90a benchmarks/front_ends/{path.name}",
    }  # fmt: skip


def newest_ptxas() -> Tool:
    """The newest ptxas on hand, of a Triton or installed by itself."""
    return resolve_ptxas([*installed_ptxas()][-1])


def main() -> int:
    """Write the rows; exit code 1 when a front end that was asked for is not here."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, action="append", default=[], help="a folder of `pip install --target`")
    parser.add_argument("--only", default="cute,cutile,triton,cuda", help="which languages, comma-separated")
    parser.add_argument("--match", default="", help="of CuTe DSL and cuTile, only the cells whose command has this")
    options = parser.parse_args()
    wanted = options.only.split(",")
    names = {"cute": {"CuTe DSL"}, "cutile": {"cuTile"}, "triton": {"Triton", "Gluon"},
             "cuda": {"CUDA C++"}}  # fmt: skip
    again = set().union(*(names[word] for word in wanted))
    rows: list[dict] = []
    for word, cells in (("cute", asked_cute), ("cutile", asked_cutile)):
        for asked in (c for c in cells() if word in wanted and options.match in c.command()):
            row = row_by_script(asked, found(asked.front_end, options.packages))
            print(*(str(row.get(k)) for k in ("front_end", "kernel", "arch", "head_dim", "tile", "page_size", "window",
                                              "status", "regs_per_thread", "stack_frame_bytes", "spill_store_bytes",
                                              "tensor_core_path", "message")), flush=True)  # fmt: skip
            rows.append(row)
            write(rows, set() if options.match else again)
    if "triton" in wanted:
        rows += rows_of_triton()
    if "cuda" in wanted:
        rows += [row_of_cuda(tile) for tile in (8, 16)]
    table = write(rows, set() if options.match else again)
    print(pd.crosstab(table["front_end"], table["status"]).to_string())
    return 0


def found(front_end: FrontEnd, folders: list[Path]) -> Installed:
    """The front end in the first of the folders that has it, or in this environment where none was given."""
    for folder in folders[:-1]:
        try:
            return find_front_end(front_end, folder.resolve())
        except UserError:
            continue
    return find_front_end(front_end, folders[-1].resolve() if folders else None)


def write(rows: list[dict], again: set[str]) -> pd.DataFrame:
    """Write the rows beside those that they do not replace, and hand back the table.

    They replace the rows with the same commands, all those of the languages `again`, and those of cells that are no
    longer asked for.
    """
    import pandas as pd

    target = DATA / "front_ends.csv"
    commands = {row["command"] for row in rows}
    asked = {cell.command() for cell in (*asked_cute(), *asked_cutile())}
    before = rows_of(target) if target.is_file() else []
    stays = [row for row in before if row["front_end"] not in ("CuTe DSL", "cuTile") or row["command"] in asked]
    others = [row for row in stays if row["front_end"] not in again and row["command"] not in commands]
    table = pd.DataFrame([*others, *rows])
    table = table.sort_values(["front_end", "kernel", "arch", "head_dim"], kind="stable")
    for name in (*WHOLE, "head_dim"):
        table[name] = pd.to_numeric(table[name]).astype("Int64") if name in table else pd.NA
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_front_ends.py` on {datetime.date.today()}, "
        f"{platform.system()} {platform.machine()}, no GPU; compile-time only.\n"
        "# Bytes are per thread; of CuTe DSL and cuTile they are read from the binary: spills are the instructions "
        "that reach local memory.\n"
    )
    write_text_atomically(target, head + table.to_csv(index=False))
    return table


if __name__ == "__main__":
    sys.exit(main())

"""Whatever of this project reads a kind of input, in one function a kind: the verb where there is one, then the rest.

A reader gets the folder that the input lies in. It may end with a UserError, and a verb with exit code 0, 1 or 2; all
else that it raises is a fault. Nothing here compiles, launches or fetches.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from helpers.cleaning import for_terminal
from helpers.errors import UserError
from helpers.files import CACHE_ENV

REFUSED = 2


class Fault(Exception):
    """What a reader did wrong without an exception: an exit code, a raw character on the terminal, a stray file."""


def verb(*words: object, codes: tuple[int, ...] = (0, 1, REFUSED)) -> str:
    """What a verb printed on both streams; raises Fault for another exit code and for a raw control character."""
    from helpers.commands.line.cli import run

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(word) for word in words])
    said = out.getvalue() + err.getvalue()
    if code not in codes:
        raise Fault(f"{words[0]} ended with {code}: {said[-300:]!r}")
    if for_terminal(said) != said:
        raise Fault(f"{words[0]} printed a raw control character: {said[:300]!r}")
    if "\nTraceback (most recent" in err.getvalue():
        raise Fault(f"{words[0]} printed a traceback: {err.getvalue()[-300:]!r}")
    return said


def refusing(call: Callable[..., object], *given: object, **options: object) -> object:
    """What a function returns; None where it says what is wrong with its input."""
    try:
        return call(*given, **options)
    except UserError:
        return None


def _text(path: Path) -> str:
    from helpers.files import MAX_TEXT_BYTES, read_text_bounded

    return str(refusing(read_text_bounded, path, MAX_TEXT_BYTES) or "")


# --- texts ---------------------------------------------------------------------------------------------------


def read_log(folder: Path) -> None:
    """A log: `diagnose` in its three forms, what MLIR said, the PTX that it prints."""
    from helpers.diagnosis.diagnose import diagnose
    from helpers.inspection.crash.mlir import front_end_failure, mlir_reproducer

    path = folder / "crash.log"
    content = path.read_bytes()
    verb("diagnose", path, *(("--verbose",), ("--json",), ())[len(content) % 3])
    text = _text(path)
    found = diagnose(text)
    json.dumps(found.to_dict()), found.text(), found._repr_html_()
    front_end_failure(text), mlir_reproducer(text)


def read_ptx_text(text: str, edits: int = 8) -> None:
    """Whatever reads a PTX: parsing, liveness, packs and wide moves, diagnosis; and so many edits of each sweep."""
    from helpers.diagnosis.diagnose import diagnose
    from helpers.diagnosis.pressure import format_pressure, pressure_report
    from helpers.inspection.ptx import float_ops, graph, packs, scan, wide_moves
    from helpers.search.minimize import check, program, sweeps

    scan.ptx_header(text), scan.count_instructions(text), scan.register_declarations(text)
    scan.wide_operands(text), scan.instructions_by_source_line(text), scan.is_trap_stub(text)
    scan.without_block_comments(text)
    graph.read_functions(text)
    packs.packs(text), packs.repacked(text), packs.opened(text), float_ops.float_operations(text)
    wide_moves.wide_moves(text), wide_moves.split_moves(text), wide_moves.join_moves(text)
    refusing(lambda: format_pressure(pressure_report(text)))
    read = program.read_program(text)
    check.check_valid(text)
    again = program.read_program(program.render(read))
    for _name, make in sweeps.sweeps(0)[:6]:
        for change in make(again)[:edits]:
            if (changed := sweeps.apply_removal(again, change)) is not None:
                program.render(changed)
    diagnose(text).text()


def read_ptx(folder: Path) -> None:
    """A PTX: `pressure`, all that reads one, and what withholds its names."""
    from helpers.bundle.withhold import withhold_ptx

    path = folder / "crash.ptx"
    verb("pressure", path, *(("--json",), ())[path.stat().st_size % 2])
    text = _text(path)
    read_ptx_text(text, edits=1)
    refusing(withhold_ptx, text)


def read_ttgir(folder: Path) -> None:
    """An IR text: its lines with their places, and what is changed so that another release reads it."""
    from helpers.compiler.adjust import adjusted
    from helpers.compiler.wheel_facts import WheelFacts
    from helpers.inspection.contents import recognise
    from helpers.inspection.ttgir import ttgir_lines

    path = folder / "kernel.ttgir"
    recognise(path)
    text = _text(path)
    ttgir_lines(text)
    for stage in ("ttgir", "llir"):
        refusing(adjusted, text, stage, WheelFacts("3.5.1", None, None, frozenset()))


def read_sass(folder: Path) -> None:
    """nvdisasm's two texts of a cubin."""
    from helpers.inspection.binary.sass import parse_life_ranges, parse_line_info, sass_profile
    from helpers.inspection.binary.sass_loops import loop_depths, loop_spills

    life, lines = _text(folder / "life.txt"), _text(folder / "lines.txt")
    for text in (life, lines):
        parse_life_ranges(text), parse_line_info(text), refusing(loop_depths, text), refusing(loop_spills, text)
    refusing(sass_profile, life, lines)


def read_stderr(folder: Path) -> None:
    """What a ptxas printed, and how its end is classed with every exit code."""
    from helpers.inspection.ptxas import classify_failure, parse_ptxas_log

    log = parse_ptxas_log(_text(folder / "stderr.txt"))
    for code in (0, 1, 255, -9, -11, None):
        classify_failure(log, code)


def read_cubin(folder: Path) -> None:
    """A binary: register counts, a copy for nvdisasm, and the verbs that are given one by mistake."""
    from helpers.inspection.binary.cubin import readable_copy, register_counts

    path = folder / "kernel.cubin"
    content = path.read_bytes()
    list(register_counts(content)), readable_copy(content)
    verb(
        ("diagnose", "pressure", "minimize", "compile", "capture", "report")[len(content) % 6], *_before(content), path
    )


def _before(content: bytes) -> tuple[str, ...]:
    return ("-o",) if len(content) % 6 == 4 else ()


# --- specs ---------------------------------------------------------------------------------------------------


def read_spec(folder: Path) -> None:
    """A spec: what any verb does with it before it compiles, and what `report` would pack."""
    from helpers.bundle.members import kernel_files
    from helpers.commands.line.common import assumed_for
    from helpers.commands.line.given import captured_with, spec_paths
    from helpers.compiler.kernel_spec import KernelSpec, read_specs, tell_apart

    path = folder / "spec.json"
    captured_with(path)
    refusing(assumed_for, path, {})
    refusing(spec_paths, [path])
    for spec in tell_apart(refusing(read_specs, [path]) or []):  # type: ignore[arg-type]
        KernelSpec.from_json(spec.to_json())
        spec.label.encode(), spec.num_warps
        refusing(spec.content_key)
        refusing(kernel_files, spec.kernel)


def read_captured(folder: Path) -> None:
    """A folder as `capture` makes it: listed, and every spec of it read."""
    from helpers.commands.line.given import spec_path, spec_paths, specs_in
    from helpers.compiler.kernel_spec import read_specs

    verb("capture", "-o", folder)
    verb("capture", "-o", folder, "--json")
    specs_in(folder)
    refusing(spec_path, folder)
    for path in refusing(spec_paths, [folder]) or []:  # type: ignore[attr-defined]
        refusing(read_specs, [path])


def read_baseline_file(folder: Path) -> None:
    """A baseline: read, and compared with what was measured now, each way round."""
    from helpers.commands.gate import format_gate
    from helpers.search.gate import compare, read_baseline
    from tests.hunting.mutants import MEASURED

    rows = refusing(read_baseline, folder / "rows.csv") or []
    for found in (compare(MEASURED, rows), compare(rows, MEASURED)):  # type: ignore[arg-type]
        shown = [row.to_dict() for row in found]
        result = {"rows": shown, "wrote_baseline": False, "regressions": sum(row.failed for row in found)}
        json.dumps(result), format_gate(result)


# --- files that a search, pip or a program wrote ----------------------------------------------------------------


@lru_cache(maxsize=1)
def crashing_ptx() -> str:
    from helpers.search.minimize.program import read_program, render
    from helpers.search.minimize.repair import Edit
    from helpers.search.minimize.sweeps import Removal, apply_removal
    from tests.hunting.text_mutants import FIXTURES

    program = read_program((FIXTURES / "ptx" / "mma_sync_sm120a.ptx").read_text())
    kept = ("mma", "ex2", "shfl", "bra", "st")
    uids = [u.uid for u in program.functions[0].units if u.word not in kept]
    return render(apply_removal(program, Removal(0, Edit(frozenset(uids[20:])))))  # type: ignore[arg-type]


@contextlib.contextmanager
def _ptxas_that_counts():
    """A ptxas in this process that dies of a text with an ex2 and three shfl; no program is run."""
    from helpers.search.minimize import minimize_ptx as searching
    from helpers.search.minimize.prober import Check, Verdict

    def run(_check: Check, ptx: str, _timeout_s: float) -> Verdict:
        if "ex2.approx" in ptx and ptx.count("shfl.sync") >= 3:
            return Verdict("register_exhausted", "C7600", 255)
        return Verdict("ok", registers=32, spill_store_bytes=0)

    before, programs = Check.run, searching.installed_ptxas
    Check.run = run  # type: ignore[method-assign]
    searching.installed_ptxas = lambda: {"1.0.0": Path("ptxas")}
    try:
        yield searching.minimize_ptx
    finally:
        Check.run = before  # type: ignore[method-assign]
        searching.installed_ptxas = programs


@lru_cache(maxsize=1)
def sound_state() -> dict:
    """The state of a search at its end; of its times nothing, so that it is the same on every machine."""
    with tempfile.TemporaryDirectory() as scratch, _ptxas_that_counts() as minimize:
        path = Path(scratch) / "state.json"
        minimize(crashing_ptx(), state_path=path, time_limit_s=600.0, jobs=1)
        return {**json.loads(path.read_text()), "wall_s": 1.5}


def read_state(folder: Path) -> None:
    """A state file that a search is to go on from: refused, or the search ends with a text that fails."""
    with _ptxas_that_counts() as minimize:
        small = refusing(minimize, crashing_ptx(), state_path=folder / "state.json", time_limit_s=0.1, jobs=1)
    if small is not None:
        small.to_dict()  # type: ignore[attr-defined]


def _own_cache(folder: Path) -> Path:
    """An empty cache in the folder, for what is kept by name and content."""
    cache = folder / "cache"
    os.environ[CACHE_ENV] = str(cache)
    return cache


def read_wheel(folder: Path) -> None:
    """An archive: unpacked, a kernel of it made a spec, and again from the cache; nothing is written elsewhere."""
    from helpers.compiler.bring.from_wheel import fetch_wheel, spec_from_wheel

    (archive,) = [p for p in folder.iterdir() if p.name.startswith("tiny")]
    cache = _own_cache(folder)
    for _ in range(2):
        refusing(fetch_wheel, archive)
        refusing(spec_from_wheel, archive, "tiny/ops/add.py:add_one", "*fp32, i32, 128")
    for path in (p for p in cache.rglob("*") if p.name in ("wheel.json", "package.json")):
        path.write_bytes(path.read_bytes()[:-3])
        refusing(fetch_wheel, archive)
    found = sorted(path.name for path in folder.iterdir())
    if found != sorted(("cache", archive.name)):
        raise Fault(f"unpacking wrote beside its cache: {found}")
    if any(".." in p.name or p.is_symlink() for p in cache.rglob("*")):
        raise Fault("a link or a way out lies in the cache")


def read_python(folder: Path) -> None:
    """A kernel's file: its kernels, its imports, a spec of the first kernel; nothing of it runs."""
    from helpers.compiler.bring.signature import kernel_names, kernel_source
    from helpers.compiler.source import hashed_source
    from helpers.inspection.contents import recognise

    _own_cache(folder)
    path = folder / "kernel.py"
    recognise(path)
    names = refusing(kernel_names, path) or []
    refusing(hashed_source, path)
    for name in names[:3]:  # type: ignore[index]
        refusing(kernel_source, path, name)
    # The configurations of an autotuned kernel would be asked of a worker process.
    if b"autotune" not in path.read_bytes() and b"@heuristics" not in path.read_bytes():
        name = names[0] if names else "triton_poi_0"  # type: ignore[index]
        verb("spec", "--file", path, "--kernel", name, "--signature", "*fp32, i32, 128")
    shutil.rmtree(folder / "cache", ignore_errors=True)


def read_index(folder: Path) -> None:
    """The page of a package index."""
    from helpers.compiler.bring.sdists import sdist_link

    (path,) = folder.glob("index.*")
    page = path.read_bytes().decode(errors="replace")
    found = sdist_link(page, "tiny", "1.0", page_url="https://example.org/simple/tiny/", is_json=path.suffix == ".json")
    if found and not re.match(r"https?://", found[0]):
        raise Fault(f"an address that is none of the web: {found[0][:200]!r}")


READERS: dict[str, Callable[[Path], None]] = {
    "log": read_log, "ptx": read_ptx, "ttgir": read_ttgir, "sass": read_sass, "ptxas stderr": read_stderr,
    "cubin": read_cubin, "spec": read_spec, "captured folder": read_captured, "baseline": read_baseline_file,
    "state file": read_state, "wheel": read_wheel, "python": read_python, "index page": read_index,
}  # fmt: skip

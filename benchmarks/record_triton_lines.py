"""Read the installed Tritons' sources and write inspection/crash/triton_lines.json: which line is whose release.

    python benchmarks/record_triton_lines.py

A traceback names file, line and function. For the functions that stand in the traceback of a failed compile or launch
this lists every line that holds a call or a `raise`, by release, with a checksum of the line's first characters (a
traceback shows the line too); nothing of the sources themselves is kept. With it go the releases of each Triton's ptxas
programs. Releases not installed are not in the table, and the table says which are.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from helpers.compiler.toolchain import installed_tritons, resolve_triton
from helpers.files import write_text_atomically
from helpers.inspection.crash.which_triton import code_mark

OUT = Path(__file__).resolve().parents[1] / "helpers" / "inspection" / "crash" / "triton_lines.json"
FUNCTIONS = {
    "triton/compiler/compiler.py": ("compile", "make_ir", "_init_handles", "__getattribute__", "run", "raise_",
                                    "launch_metadata", "_raise_error", "__getitem__"),
    "triton/backends/nvidia/compiler.py": ("make_cubin", "make_ptx", "make_llir", "make_ttgir", "make_ttir", "<lambda>",
                                           "gluon_to_ttgir", "ptx_get_version", "get_ptxas", "get_ptxas_version",
                                           "get_ptx_version_from_options"),
    "triton/runtime/jit.py": ("<lambda>", "run", "_do_compile", "async_compile", "warmup", "preload"),
    "triton/runtime/autotuner.py": ("run", "_bench", "benchmark", "kernel_call", "warmup", "<dictcomp>", "<lambda>"),
}  # fmt: skip


def lines_by_function(source: str, names: tuple[str, ...]) -> dict[str, set[int]]:
    """function name -> first lines of the calls and raises inside it (what a traceback can show)."""
    found: dict[str, set[int]] = {name: set() for name in names}

    def walk(node: ast.AST, owner: str | None) -> None:
        if isinstance(node, ast.FunctionDef):
            owner = node.name
        elif isinstance(node, ast.Lambda):
            owner = "<lambda>"
        elif isinstance(node, ast.DictComp):
            owner = "<dictcomp>"
        if owner in found and isinstance(node, (ast.Call, ast.Raise)):
            found[owner].add(node.lineno)
        for child in ast.iter_child_nodes(node):
            walk(child, owner)

    walk(ast.parse(source), None)
    return {name: lines for name, lines in found.items() if lines}


def ptxas_release(program: Path) -> str | None:
    """The release of a ptxas, such as 12.8.93."""
    if not program.is_file():
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return said.split(", V")[1].split()[0]


def main() -> int:
    """Write the table; 1 when no Triton is installed."""
    releases = installed_tritons()
    if not releases:
        print("no Triton is installed: nothing to read", file=sys.stderr)
        return 1
    lines: dict[str, dict[str, dict[str, dict[str, list[str]]]]] = {}
    marks: dict[str, dict] = {}
    for release in releases:
        site = resolve_triton(release).path
        for file, names in FUNCTIONS.items():
            source = (site / file).read_text()
            shown = source.split("\n")
            for function, numbers in lines_by_function(source, names).items():
                for number in sorted(numbers):
                    by_code = lines.setdefault(file, {}).setdefault(function, {}).setdefault(str(number), {})
                    by_code.setdefault(code_mark(shown[number - 1]), []).append(release)
        backend = (site / "triton/backends/nvidia/compiler.py").read_text()
        programs = {name: ptxas_release(site / "triton/backends/nvidia/bin" / name)
                    for name in ("ptxas", "ptxas-blackwell")}  # fmt: skip
        marks[release] = {
            "ptxas": {name: version for name, version in programs.items() if version},
            "flags": [flag for flag in ("--regAllocOptLevel=2",) if flag in backend],
        }
    compact = {
        file: {
            function: {
                number: " ".join(f"{mark}={','.join(found)}" for mark, found in by_code.items())
                for number, by_code in sorted(numbers.items(), key=lambda item: int(item[0]))
            }
            for function, numbers in functions.items()
        }
        for file, functions in lines.items()
    }
    table = {
        "made_by": "python benchmarks/record_triton_lines.py, from the wheels on PyPI",
        "releases": list(releases),
        "marks": marks,
        "lines": compact,
    }
    write_text_atomically(OUT, json.dumps(table, indent=0, sort_keys=False) + "\n")
    print(f"{OUT.name}: {len(releases)} releases, {OUT.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

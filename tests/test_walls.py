"""The walls of the house: who may import whom, no circle, no crowded folder, no name with two meanings in a wing.

Every rule reads a folder of modules and returns what breaks it, so that each is also seen to find what is planted
in a copy.
"""

from __future__ import annotations

import ast
import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
# Each wing and its floor; "" is helpers/__init__, the names of the notebooks. The ground's modules serve each other.
GROUND = 0
FLOORS = {
    "errors": GROUND, "cleaning": GROUND, "hardware": GROUND, "files": GROUND, "recorded": GROUND, "processes": GROUND,
    "inspection": 1, "compiler": 2, "search": 3, "show": 3, "diagnosis": 4, "attention": 5, "bundle": 5,
    "workbook": 6, "commands": 7, "__main__": 8, "": 8,
}  # fmt: skip
# Wings that serve anybody's kernel know none of ours.
GENERAL = {
    "processes",
    "errors",
    "cleaning",
    "hardware",
    "files",
    "recorded",
    "inspection",
    "compiler",
    "search",
    "show",
    "diagnosis",
    "bundle",
}
THE_STUDY = {"attention", "workbook"}
MAX_MODULES = 20
# A name that two modules of one wing define, and why both may. Everything else has one meaning in a wing.
TWICE = {
    ("attention", "HEAD_DIMS"): "what a shape may ask for, and what the hopper kernel takes of it",
    ("attention", "blank_row"): "a row of a measurement before it is made: of a throughput, of a comparison of numbers",
    ("attention", "write_rows"): "rows of a measurement to a CSV file: of throughputs, of comparisons of numbers",
    ("commands", "MAX_BYTES"): "the most that the verb reads",
    ("commands", "next_step"): "what to do after the verb: each answers it for itself",
    ("diagnosis", "KINDS"): "the kinds of one family of failures; each module of kinds/ has its own",
    ("diagnosis", "PTXAS_WORDINGS"): "ptxas's words for the kinds of one family",
    ("diagnosis", "WORDINGS"): "other programs' words for the kinds of one family",
    ("diagnosis", "recognise"): "whether a log is of one family, where that takes more than words",
    ("workbook", "FIELDS"): "the controls of a room's explorer",
    ("workbook", "INGREDIENTS"): "the kernel's own by their names, and the incident's by the changes that end them",
}


@functools.cache
def parsed(text: str) -> ast.Module:
    """The syntax tree of a text: one for a module and its copies."""
    return ast.parse(text)


def modules(folder: Path) -> dict[str, ast.Module]:
    """Dotted name -> syntax tree of every module of the package at `folder`; its own name is `helpers`."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(("helpers", *parts)).removesuffix(".__init__")] = parsed(path.read_text())
    return found


def wing(module: str) -> str:
    """`search` of `helpers.search.ablate`; "" of `helpers`."""
    return [*module.split("."), ""][1]


def imports(name: str, tree: ast.Module, known: set[str]) -> Iterator[tuple[str, str]]:
    """(module, name taken from it or "") of everything a module imports: at its top, in a function, by a string."""

    def resolve(dotted: str, taken: str = "") -> tuple[str, str]:
        return (f"{dotted}.{taken}", "") if f"{dotted}.{taken}" in known else (dotted, taken)

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (resolve(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import counts from the package, which a module is in and an __init__ is.
            base = name.split(".")[: -node.level] if node.level else []
            dotted = ".".join([*base, *([node.module] if node.module else [])])
            yield from (resolve(dotted, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known - {"helpers"}:
            yield node.value, ""


def our_imports(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(module, what it imports, name taken) for everything of helpers and kernels; a module's own name left out."""
    trees = modules(folder)
    for name, tree in trees.items():
        for target, taken in imports(name, tree, set(trees)):
            if target.split(".")[0] in ("helpers", "kernels") and target != name:
                yield name, target, taken


def upward(folder: Path) -> list[str]:
    """Imports of a wing that is not below, and of attention, workbook or kernels by a wing that serves everybody."""
    broken = []
    for name, target, _ in our_imports(folder):
        here, there = wing(name), "kernels" if target.startswith("kernels") else wing(target)
        if {here, there} - {*FLOORS, "kernels"}:
            broken.append(f"{name} imports {target}: give every wing its floor in this test")
        elif here in GENERAL and there in {*THE_STUDY, "kernels"}:
            broken.append(f"{name} serves any kernel and imports {target}")
        elif there not in ("kernels", here) and FLOORS[there] >= FLOORS[here] > GROUND:
            broken.append(f"{name} imports {target}, which is not on a floor below")
        elif FLOORS[here] == GROUND and FLOORS.get(there, 9) > GROUND:
            broken.append(f"{name} is of the ground and imports {target}")
    return broken


def main_that_does_more(folder: Path) -> list[str]:
    """Imports of `__main__` beyond the table of verbs: it registers them and says how a run ended."""
    found = {target for name, target, _ in our_imports(folder) if name == "helpers.__main__"}
    return [f"__main__ imports {t}" for t in sorted(found) if wing(t) != "commands" and FLOORS.get(wing(t)) != GROUND]


def private_names(folder: Path) -> list[str]:
    """Private names of one wing that another wing imports, or takes as an attribute of an imported module."""
    broken = [
        f"{name} imports {taken} of {target}"
        for name, target, taken in our_imports(folder)
        if taken.startswith("_") and not taken.startswith("__") and wing(name) != wing(target)
    ]
    trees = modules(folder)
    for name, tree in trees.items():
        bound = {}
        for node in ast.walk(tree):
            for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
                dotted = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                if dotted in trees and wing(dotted) != wing(name):
                    bound[alias.asname or alias.name] = dotted
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr) and ast.unparse(node.value) in bound:
                broken.append(f"{name} takes {node.attr} of {bound[ast.unparse(node.value)]}")
    return broken


def circles(folder: Path) -> list[str]:
    """Modules that import each other, directly or by way of others, at whichever place in the code."""
    trees = modules(folder)
    edges = {name: {t for t, _ in imports(name, tree, set(trees)) if t in trees} for name, tree in trees.items()}
    left = dict(edges)
    # Take away what imports nothing that is left, again and again: what stays is on a circle or above one.
    while free := {name for name, targets in left.items() if not (targets - {name}) & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in free}
    return [f"{name} imports {', '.join(sorted(targets & set(left)))}" for name, targets in left.items()]


def crowded(folder: Path) -> list[str]:
    """Folders with more modules than a newcomer reads over; a folder's own __init__ is not counted."""
    counts = {d: sum(p.name != "__init__.py" for p in d.glob("*.py")) for d in [folder, *folder.rglob("*")]}
    return [f"{d.relative_to(folder.parent)} has {n} modules" for d, n in counts.items() if n > MAX_MODULES]


def storeys(folder: Path) -> list[str]:
    """Where the word `reporting` stands: the storey that was everything's home is gone, and its name with it."""
    kinds = {".py", ".js", ".css", ".json"}
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix in kinds]
    return [str(p) for p in paths if "reporting" in f"{p}\n{p.read_text()}".replace(str(folder), "")]


def two_meanings(folder: Path) -> list[str]:
    """Public names that two modules of one wing define: functions, classes, constants."""
    homes: dict[tuple[str, str], list[str]] = {}
    for name, tree in modules(folder).items():
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            defined = {t.id for t in targets if isinstance(t, ast.Name)} | {getattr(node, "name", "_")}
            for public in defined:
                if not public.startswith("_"):
                    homes.setdefault((wing(name), public), []).append(name)
    return [f"{n} of {' and '.join(at)}" for (w, n), at in homes.items() if len(at) > 1 and (w, n) not in TWICE]


RULES = (upward, main_that_does_more, private_names, circles, crowded, storeys, two_meanings)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_walls(rule) -> None:
    assert rule(HELPERS) == []


@pytest.mark.parametrize(
    ("rule", "module", "line"),
    [
        (upward, "search/ablate.py", "from helpers.diagnosis.diagnose import diagnose"),
        (upward, "search/ablate.py", "import helpers.show.style"),
        (upward, "compiler/cache.py", "def f():\n    from helpers.search import changes"),
        (upward, "inspection/ptxas.py", "if TYPE_CHECKING:\n    from helpers.compiler.report import CompileReport"),
        (upward, "bundle/report.py", "importlib.import_module('helpers.attention.ladder')"),
        (upward, "bundle/report.py", "from ..workbook import prose"),
        (upward, "compiler/compile.py", "from kernels.cliff_matmul import cliff_matmul_kernel"),
        (upward, "attention/lean.py", "import helpers"),
        (upward, "files.py", "from helpers.inspection import ptxas"),
        (upward, "attic/chest.py", "from helpers.errors import UserError"),
        (main_that_does_more, "__main__.py", "from helpers.compiler.compile import compile_matrix"),
        (private_names, "commands/try_.py", "from helpers.search.try_this import _helps"),
        (private_names, "commands/try_.py", "from helpers.search import try_this as t\nt._helps"),
        (private_names, "commands/try_.py", "import helpers.search.try_this\nhelpers.search.try_this._helps"),
        (circles, "search/changes.py", "def f():\n    from helpers.search import try_this"),
        (storeys, "search/changes.py", "# see reporting"),
        (two_meanings, "search/changes.py", "class TriedEdit: ..."),
        (two_meanings, "search/changes.py", "LIMITS = 1\nMAX_SHOWN: int = 1"),
        (two_meanings, "search/changes.py", "def ablate(): ..."),
    ],
)
def test_a_planted_import_is_found(rule, module: str, line: str, tmp_path: Path) -> None:
    copy = shutil.copytree(HELPERS, tmp_path / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / module).parent.mkdir(exist_ok=True)
    with (copy / module).open("a") as file:
        file.write(f"\n{line}\n")
    assert rule(copy)


def test_kernels_import_triton_alone() -> None:
    for path in (HELPERS.parent / "kernels").glob("*.py"):
        found = {target.split(".")[0] for target, _ in imports("kernels.k", parsed(path.read_text()), set())}
        assert found <= {"__future__", "kernels", "triton", "typing"}, path


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    for number in range(MAX_MODULES + 1):
        (tmp_path / f"m{number}.py").touch()
    assert crowded(tmp_path)

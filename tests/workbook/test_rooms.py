"""One room a notebook: what one notebook uses stands in its room, what two use stands where both may look.

Read from the cells (names used as `rc.X`) and from `helpers._HOMES`.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

import helpers
from helpers.files import ROOT

WORKBOOK = ROOT / "helpers" / "workbook"
ROOMS = {
    "start_here": "00_start_here",
    "reproduce_the_crash": "01_reproduce_the_crash",
    "inside_ptxas": "02_inside_ptxas",
    "sm100_branch": "03_the_sm100_branch",
    "numerics": "04_numerics",
    "throughput": "05_throughput",
    "root_cause": "06_root_cause",
    "your_own_crash": "07_your_own_crash",
    "every_chips_tiles": "08_every_chips_tiles",
    "how_good_is_the_estimate": "09_how_good_is_the_estimate",
    "other_compilers": "10_other_compilers",
}
# Drawings stand together, whichever page shows them: they are made of one set of parts.
SCHEMATICS = "helpers.workbook.schematics"
# In no room, and used in no cell: what the build calls, and what a reader types with an explorer's answers in hand.
FOR_NO_CELL = {"workbook_verdict", "basket", "report_basket", "reports_table"}


def names_used(notebook: Path) -> set[str]:
    cells = json.loads(notebook.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return set(re.findall(r"\brc\.([A-Za-z_]\w*)", code))


def room_of(module: str) -> str | None:
    wing, _, rest = module.removeprefix("helpers.").partition(".")
    first = rest.split(".")[0]
    return first if wing == "workbook" and first in ROOMS else None


USERS: dict[str, set[str]] = defaultdict(set)
for _path in sorted((ROOT / "notebooks").glob("*.ipynb")):
    for _name in names_used(_path):
        USERS[_name].add(_path.stem)
# (name, room or "" for what notebooks share, the notebooks that use it); the general wings are nobody's rooms.
PLACES = [
    (name, room_of(home) or "", USERS[name])
    for home, names in helpers._HOMES.items()
    if home.split(".")[1] in ("workbook", "show") and not home.startswith(SCHEMATICS)
    for name in names
]


def test_the_cells_were_read_and_each_room_has_its_notebook():
    assert len(USERS) > 60 and USERS["say"] >= {"00_start_here", "07_your_own_crash"}
    assert set(ROOMS.values()) <= {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    for room in ROOMS:
        assert (WORKBOOK / room).is_dir() or (WORKBOOK / f"{room}.py").is_file(), room


def test_what_stands_in_a_room_is_used_by_its_notebook_and_by_no_other():
    strangers = {name: users for name, room, users in PLACES if room and users != {ROOMS[room]}}
    assert not strangers, "what two use goes to evidence, prose, side_by_side or show; what none uses goes out"


def test_what_stands_outside_the_rooms_is_used_by_two_notebooks():
    alone = {name: users for name, room, users in PLACES if not room and len(users) < 2}
    assert {name for name, users in alone.items() if not users} == FOR_NO_CELL
    assert not {name: users for name, users in alone.items() if users}, "what one notebook uses goes to its room"


def test_every_schematic_is_on_a_page():
    names = {name for home, names in helpers._HOMES.items() if home.startswith(SCHEMATICS) for name in names}
    assert names and not {name for name in names if not USERS[name]}


def test_no_room_imports_another_and_no_schematic_imports_a_room():
    for file in WORKBOOK.rglob("*.py"):
        mine = room_of("helpers.workbook." + ".".join(file.relative_to(WORKBOOK).with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text())):
            if (mine or file.parent.name == "schematics") and isinstance(node, ast.ImportFrom) and node.module:
                assert room_of(node.module) in (None, mine), f"{file.name} imports {node.module}"

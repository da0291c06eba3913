"""The report basket: states of explorers that a person set aside, kept in the kernel until they are written out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from helpers.attention.choice import Choice
from helpers.attention.ladder import ladder_of
from helpers.errors import UserError
from helpers.files import write_text_atomically

MAX_ITEMS = 200


@dataclass(frozen=True)
class BasketItem:
    """One state of one explorer: what it said, the command that says it again, its controls, its configuration."""

    explorer: str
    title: str
    command: str
    state: Mapping[str, object] = field(default_factory=dict)
    choice: Choice | None = None

    def to_dict(self) -> dict:
        """Ready for JSON, with the KernelSpec where the state is a configuration; holds no path of this machine."""
        found = {"explorer": self.explorer, "title": self.title, "command": self.command, "state": dict(self.state)}
        if self.choice is not None:
            request = self.choice.request()
            spec = json.loads(request.spec.to_json())
            path, root = Path(spec["kernel"]["path"]), Path(spec["kernel"]["import_root"])
            spec["kernel"] |= {"path": path.relative_to(root).as_posix(), "import_root": "."}
            found |= {"arch": request.arch, "triton": self.choice.triton, "ptxas": self.choice.ptxas, "spec": spec}
        return found


basket: list[BasketItem] = []


def add_to_basket(item: BasketItem) -> int:
    """How many items the basket holds with this one; the same state twice is kept once."""
    if item not in basket:
        if len(basket) >= MAX_ITEMS:
            raise UserError(
                f"the basket holds {MAX_ITEMS} states, which is the most: write it out with report_basket()"
            )
        basket.append(item)
    return len(basket)


def in_basket() -> list[BasketItem]:
    """What the basket holds now, in the order in which it was put there."""
    return list(basket)


def remove_from_basket(item: BasketItem) -> None:
    """Take one state out; nothing happens where it is not there any more."""
    if item in basket:
        basket.remove(item)


def report_basket(out: str | Path = "report", *, bundles: bool = True) -> list[Path]:
    """Write each state in the basket to `out`, a JSON file each, and with `bundles` the report bundle of each compile.

    Returns what was written, the index first. A compile that has no bundle (it did not fail, its toolchain is missing)
    has the reason in the index. Raises UserError for an empty basket or a folder that cannot be had.
    """
    if not basket:
        raise UserError("the basket is empty: press 'Add to report' in an explorer first")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: name a folder that is, or a new one")
        return _write(folder, bundles)
    except OSError as exc:
        raise UserError(f"cannot write to {folder}: {exc.strerror or exc}; name a folder of your own") from exc


def _write(folder: Path, bundles: bool) -> list[Path]:
    written, lines = [], ["# Report", ""]
    for number, item in enumerate(basket, start=1):
        stem = f"{number:02d}-{item.explorer}"
        path = folder / f"{stem}.json"
        write_text_atomically(path, json.dumps(item.to_dict(), indent=1, default=str) + "\n")
        written.append(path)
        lines += [f"{number}. {item.title}", "", f"       {item.command}", ""]
        if bundles and item.choice is not None:
            made, words = _bundle(item.choice, folder / f"{stem}.zip")
            written += made
            lines += [f"   {words}", ""]
    index = folder / "README.md"
    write_text_atomically(index, "\n".join(lines))
    return [index, *written]


def _bundle(choice: Choice, path: Path) -> tuple[list[Path], str]:
    """(files, a sentence for the index) of one configuration's report bundle."""
    from helpers.bundle.report import report

    try:
        bundle = report(choice, path, ladder_of=ladder_of)
    except UserError as exc:
        return [], f"No bundle: {exc}"
    return [path, bundle.issue_path], f"{path.name} reproduces it with nothing but a ptxas."

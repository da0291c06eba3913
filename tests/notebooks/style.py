"""What the notebooks' style asks for and a script can check; `--fix` mends what needs no judgement.

    python tests/notebooks/style.py [--fix] [--execute] [notebook ...]

`--execute` runs each notebook first and keeps the outputs of that run; one that fails stays as it was.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers.workbook.glossary import HOME, glossary_markdown, link_terms, unlinked_terms  # noqa: E402
from helpers.workbook.pages import NOT_STATED, WIDGET_VIEW, figure_evidence, without_widget_views  # noqa: E402
from helpers.workbook.prose import tells_prose  # noqa: E402
from helpers.workbook.your_own_crash.paste_box import example_log  # noqa: E402

FOLDER = ROOT / "notebooks"
FEWEST_NOTEBOOKS = 3
MAX_CODE_LINES = 12
MAX_CODE_COLUMNS = 120
MAX_PROSE_WORDS = 200
MAX_PRINTED_LINES = 60
MAX_CODE_IN_A_ROW = 2
MAX_BYTES = 3_000_000
MAX_OUTPUT_BYTES = 1_000_000
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT_METADATA = {"kernelspec", "language_info"}
FIRST_CELL_SAYS = ("question", "answer", "gpu", "run time")
_FORBIDDEN_CODE = {
    "defines a function (put it into helpers)": re.compile(r"^\s*(?:async\s+)?def\s", re.MULTILINE),
    "imports re (put the parsing into helpers)": re.compile(r"^\s*(?:import\s+re\b|from\s+re\s+import)", re.MULTILINE),
    "calls pip or the shell (the environment is pyproject.toml's)": re.compile(
        r"^\s*(?:!|%%?(?:pip|conda|bash|sh)\b)", re.MULTILINE
    ),
}
_MACHINE_PATH = re.compile(r"(?<![\w.:/~-])/(?:home|root|tmp|work|Users|mnt)/[^\s\"'<>)]{0,60}")
_MATH = re.compile(r"\$\$|(?<![\\$\w`])\$[^\s$`][^$\n`]*\$(?!\w)")


def notebooks(folder: Path = FOLDER) -> list[Path]:
    """The notebooks of a folder in reading order."""
    return sorted(p for p in folder.glob("*.ipynb") if not p.name.startswith("."))


def name_problems(paths: list[Path]) -> list[str]:
    """What is wrong with the set as a whole: too few, not numbered in a row."""
    found = []
    if len(paths) < FEWEST_NOTEBOOKS:
        found.append(f"{len(paths)} notebooks where at least {FEWEST_NOTEBOOKS} are expected")
    numbers = [int(p.name[:2]) for p in paths if re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", p.name)]
    found += [
        f"{p.name}: not named like 01_one_question.ipynb"
        for p in paths
        if not re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", p.name)
    ]
    first = numbers[0] if numbers else 1
    if first > 1 or numbers != list(range(first, first + len(numbers))):
        found.append(f"numbers {numbers} do not run on from 00 or 01 without a gap")
    return found


def _texts(output: nbformat.NotebookNode) -> list[str]:
    """An output's readable texts; pictures are left out, because base64 holds slashes of its own."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [*output.traceback, output.evalue]
    return [
        value if isinstance(value, str) else json.dumps(value)
        for mime, value in output.get("data", {}).items()
        if not mime.startswith(("image/", "application/pdf")) or mime == "image/svg+xml"
    ]


def _without_pictures(text: str) -> str:
    return re.sub(r"data:[\w/+.-]{1,40};base64,[A-Za-z0-9+/=\s]+", "", text)


def _code_problems(cell: nbformat.NotebookNode) -> list[str]:
    found = []
    lines = cell.source.strip().splitlines()
    if not lines:
        found.append("is empty (--fix)")
    if len(lines) > MAX_CODE_LINES:
        found.append(f"{len(lines)} lines of code where at most {MAX_CODE_LINES} are wanted")
    widest = max(map(len, lines), default=0)
    if widest > MAX_CODE_COLUMNS:
        found.append(f"a line of {widest} characters where at most {MAX_CODE_COLUMNS} are wanted")
    found += [what for what, pattern in _FORBIDDEN_CODE.items() if pattern.search(cell.source)]
    for output in cell.outputs:
        if output.output_type == "error":
            found.append(f"shows an error: {output.ename}")
        size = len(json.dumps(output))
        if size > MAX_OUTPUT_BYTES:
            found.append(f"an output of {size / 1e6:.1f} MB where at most {MAX_OUTPUT_BYTES / 1e6:.0f} MB is wanted")
        printed = output.text.count("\n") if output.output_type == "stream" else 0
        if printed > MAX_PRINTED_LINES:
            found.append(f"prints {printed} lines where at most {MAX_PRINTED_LINES} can be read (a table scrolls)")
        if output.output_type == "stream" and output.name == "stderr":
            found.append(f"shows what was written to stderr: {output.text.strip()[:80]}")
        if WIDGET_VIEW in output.get("data", {}):
            found.append("keeps a widget view, dead without its kernel (--fix)")
        for text in _texts(output):
            # The log that notebook 07 quotes is of somebody else's machine, and public.
            paths = (m.group() for m in _MACHINE_PATH.finditer(_without_pictures(text)))
            path = next((found_path for found_path in paths if found_path.rstrip("\\.;") not in example_log()), None)
            if path:
                found.append(f"shows a path of the machine it ran on: {path}")
    return found


def _markdown_problems(cell: nbformat.NotebookNode) -> list[str]:
    found = []
    words = len(cell.source.split())
    if words > MAX_PROSE_WORDS and cell.source != glossary_markdown():
        found.append(f"{words} words at one go where at most {MAX_PROSE_WORDS} are wanted")
    if any(line != line.rstrip() for line in cell.source.splitlines()):
        found.append("spaces at the end of a line (--fix)")
    if "data:image" in cell.source or cell.get("attachments"):
        found.append("holds a picture as text (draw it in a code cell)")
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
    if _MATH.search(prose):
        found.append("holds TeX, which the offline pages cannot typeset (write it in words, Unicode or code)")
    return found


def _prose_problems(notebook: nbformat.NotebookNode) -> list[str]:
    """Code cells in a row with nothing to read between them: neither Markdown nor a sentence as output."""
    found, run = [], 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            run = 0
            continue
        run += 1
        if run == MAX_CODE_IN_A_ROW + 1:
            found.append(f"cell {index}: the third code cell in a row without a word between (say what is coming)")
        if any("text/markdown" in output.get("data", {}) for output in cell.outputs):
            run = 0
    return found


def _whole_problems(notebook: nbformat.NotebookNode, name: str) -> list[str]:
    """What a notebook as a whole owes its reader: links to the glossary, sources, an exercise, what was not shown."""
    found = []
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    unlinked = ", ".join(term.name for term in unlinked_terms([text for text in prose if not _is_glossary(text)]))
    if unlinked:
        found.append(f"terms not linked to the glossary where they first appear: {unlinked} (--fix)")
    if name == HOME:
        if glossary_markdown() not in prose:
            found.append("the glossary is not that of helpers/workbook/glossary.py (--fix)")
    else:
        if not prose or "not shown" not in prose[-1].lower():
            found.append("the last Markdown cell must say what was not shown")
    silent = figure_evidence(notebook).count(NOT_STATED)
    if silent:
        found.append(f"{silent} figures do not say whether they are live, recorded or compile-only (style.claim)")
    exercises = [at for at, cell in enumerate(notebook.cells) if _is_exercise(cell)]
    if not exercises:
        found.append("no exercise (rc.exercise)")
    for at in exercises:
        before = notebook.cells[at - 1]
        if before.cell_type != "markdown" or not re.search(r"^#{2,3} Exercise$", before.source, re.MULTILINE):
            found.append(f"cell {at}: an exercise stands below a heading that is the word Exercise and nothing else")
    return found


def _is_glossary(text: str) -> bool:
    return text.startswith("## Glossary")


def _is_exercise(cell: nbformat.NotebookNode) -> bool:
    return cell.cell_type == "code" and "rc.exercise(" in cell.source


def _wanted_metadata(cell: nbformat.NotebookNode) -> dict:
    """What a cell's metadata may hold: its tags, and that JupyterLab hides code whose sentences are its output."""
    tags = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
    hidden = {"jupyter": {"source_hidden": True}} if cell.cell_type == "code" and tells_prose(cell.source) else {}
    return {**tags, **hidden}


def problems(path: Path) -> list[str]:
    """Everything in one notebook that the style forbids, one sentence each; [] for a clean one."""
    found = []
    size = path.stat().st_size
    if size >= MAX_BYTES:
        found.append(f"{size / 1e6:.1f} MB where less than {MAX_BYTES / 1e6:.0f} MB is wanted")
    notebook = nbformat.read(path, as_version=4)
    if set(notebook.metadata) - KEPT_METADATA:
        found.append(f"metadata of no use: {', '.join(sorted(set(notebook.metadata) - KEPT_METADATA))} (--fix)")
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        found.append("cell 0: must be markdown and begin with a # heading")
    else:
        missing = [word for word in FIRST_CELL_SAYS if word not in first.source.lower()]
        if missing or "?" not in first.source:
            found.append(f"cell 0: must state {', '.join(missing) or 'the question, with its question mark'}")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code:
        found.append("no code cell: nothing is shown to be true")
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts {counts} are not 1..{len(code)}: keep the outputs of one clean run (--execute)")
    found += _whole_problems(notebook, path.name) + _prose_problems(notebook)
    for index, cell in enumerate(notebook.cells):
        of_cell = {"code": _code_problems, "markdown": _markdown_problems}.get(cell.cell_type, lambda _: [])(cell)
        wanted = _wanted_metadata(cell)
        if "jupyter" in wanted and cell.metadata.get("jupyter") != wanted["jupyter"]:
            of_cell.append("its code says sentences and is not hidden in JupyterLab (--fix)")
        elif dict(cell.metadata) != wanted:
            of_cell.append(f"metadata of no use: {', '.join(sorted(cell.metadata))} (--fix)")
        found += [f"cell {index}: {what}" for what in of_cell]
    return found


def fixed(notebook: nbformat.NotebookNode, name: str = "") -> nbformat.NotebookNode:
    """A copy without needless metadata, widget state, empty cells and spaces; terms linked, counts closed up.

    `name` is the file's: the glossary is written into the notebook that holds it and linked from the others. Counts
    are renumbered only where they already rise: cells that ran in another order have to run again.
    """
    clean = without_widget_views(copy.deepcopy(notebook))
    clean.cells = [cell for cell in clean.cells if cell.source.strip()]
    language = clean.metadata.get("language_info", {})
    clean.metadata = nbformat.NotebookNode(kernelspec=KERNEL)
    if language:
        # The patch version of whoever ran it last would change in every diff.
        clean.metadata["language_info"] = {k: language[k] for k in ("file_extension", "name") if k in language}
    code = [cell for cell in clean.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    rising = all(a is not None for a in counts) and all(a < b for a, b in itertools.pairwise(counts))
    for number, cell in enumerate(code, start=1):
        if rising:
            cell.execution_count = number
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number
    prose = [cell for cell in clean.cells if cell.cell_type == "markdown"]
    for cell in prose:
        cell.source = "\n".join(line.rstrip() for line in cell.source.splitlines())
    explained = [cell for cell in prose if not (name == HOME and _is_glossary(cell.source))]
    for cell, source in zip(explained, link_terms([cell.source for cell in explained]), strict=True):
        cell.source = source
    for cell in prose:
        if cell not in explained:
            cell.source = glossary_markdown()
    for cell in clean.cells:
        cell.metadata = nbformat.from_dict(_wanted_metadata(cell))
    return clean


def _write(path: Path, notebook: nbformat.NotebookNode) -> bool:
    from helpers.files import write_text_atomically

    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        write_text_atomically(path, text)
    return changed


def main(arguments: list[str] | None = None) -> int:
    """The command line; the exit code: 0 when every notebook is clean (after `--fix`, where asked)."""
    parser = argparse.ArgumentParser(description="check the notebooks' style")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="strip metadata, widget state and spaces, link terms to the glossary, close up counts",
    )
    parser.add_argument("--execute", action="store_true", help="run each first and keep its outputs; implies --fix")
    parser.add_argument("notebook", nargs="*", type=Path, help="default: all in notebooks/")
    chosen = parser.parse_args(arguments)
    paths = chosen.notebook or notebooks()
    found = [] if chosen.notebook else name_problems(paths)
    for path in paths:
        if chosen.execute:
            from helpers.workbook.build import execute_notebook

            run = execute_notebook(path)
            print(f"{path.name}: {'ran' if run.ok else 'FAILED'}, {run.seconds:.1f} s")
            if not run.ok:
                found.append(run.failure_report())
                continue
            _write(path, fixed(run.notebook, path.name))
        elif chosen.fix and _write(path, fixed(nbformat.read(path, as_version=4), path.name)):
            print(f"{path.name}: mended")
        found += [f"{path.name}: {what}" for what in problems(path)]
    for what in found:
        print(what, file=sys.stderr)
    print(f"{len(paths)} notebooks, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

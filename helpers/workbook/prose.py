"""What several notebooks say in the same way: sentences with numbers from values, a report."""

from __future__ import annotations

import ast
import html
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.attention.spec import EXTEND_KERNEL
from helpers.compiler.report import EXPLANATIONS, Evidence
from helpers.show.display import table_html
from helpers.show.html import folded

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML


@lru_cache(maxsize=16)
def source_lines_of(path: str) -> dict[int, str]:
    """Line number to text, from 1."""
    return dict(enumerate(Path(path).read_text().splitlines(), start=1))


def source_text(file: str, line: int) -> str:
    """The text of a line of the kernel's own file (known by its name: recorded PTX has no folders), else empty."""
    if Path(file).name != Path(EXTEND_KERNEL.path).name:
        return ""
    return source_lines_of(EXTEND_KERNEL.path).get(line, "").strip()


def say(text: str) -> None:
    """Show a sentence whose numbers were formatted from values, as Markdown."""
    from IPython.display import Markdown, display

    display(Markdown(text.strip()))


def more(summary: str, table: pd.DataFrame) -> HTML:
    """A table below a line that a click opens: for who wants the numbers behind what the page already says."""
    from IPython.display import HTML

    return HTML(folded(summary, table_html(table)))


_TELLING = ("say", "exercise")


def tells_prose(source: str) -> bool:
    """Whether a cell's code says sentences (`rc.say`, `rc.exercise`): what a reader needs of it is its output.

    JupyterLab hides the code of such a cell, because the sentences would stand there twice, once with their formulas.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return False
    calls = [s.value for s in statements if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    return any(
        isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr) in {("rc", name) for name in _TELLING}
        for call in calls
    )


def compiler_log(evidence: Evidence) -> str:
    """ptxas's own log of a compile, or its message where only a recorded row is at hand."""
    path = evidence.report.log_path
    if evidence.live and path:
        return Path(path).read_text().strip()
    return f"({evidence.source})\n{evidence.report.message}"


def report_summary(evidence: Evidence) -> None:
    """Print a report's verdict, numbers and evidence, without folders of this machine."""
    report = evidence.report
    print(f"{report.status}: {EXPLANATIONS[report.status]}")
    print(f"  arch {report.arch}, Triton {report.triton_version}, ptxas {report.ptxas_version}")
    print(f"  {report.verdict()}")
    print(
        f"  {report.smem_bytes} B shared memory per CTA, {report.tmem_columns or 0} tensor-memory columns, "
        f"tensor cores by {report.tensor_core_path}"
    )
    print(f"  {evidence.source}")


def paragraphs(text: str) -> list[str]:
    """The parts of a text that empty lines separate."""
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def as_html(text: str) -> str:
    """A paragraph of plain text with `code` and **bold** as HTML, everything else escaped."""
    escaped = html.escape(" ".join(text.split()))
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", coded)

"""How figures and tables come out of a cell: a figure with its words and its source, a table that can be read."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING

from helpers.cleaning import for_html

if TYPE_CHECKING:
    import pandas as pd
    from IPython.lib.pretty import RepresentationPrinter
    from matplotlib.figure import Figure

_SCROLLING_ROWS = 30
# A heading of more letters gets a wider column, or it would be as tall as it has words.
_LONG_HEADING = 24
_DOTTED = re.compile(r"[\w:]+(?:\.[\w:]+){3,}")
# JupyterLab sets every cell to the right and lets words wrap; both are hard to read. Rules of a class of our own,
# because a code host drops them and then its own table style applies.
_TABLE_STYLE = (
    "<style>.rc-table{overflow:auto}.rc-table.long{max-height:27rem}.rc-table table{font-size:.86em;border-collapse:"
    "collapse;font-variant-numeric:tabular-nums}.rc-table th,.rc-table td{text-align:left!important;white-space:nowrap"
    "!important;padding:.3em .8em;max-width:none!important}.rc-table th.n,.rc-table td.n{text-align:right!important}"
    ".rc-table td.w{white-space:normal!important;min-width:12em}.rc-table td.c{font-family:monospace;white-space:pre"
    "!important}.rc-table thead th{position:sticky;top:0;background:var(--jp-layout-color0,var(--ground,#fff));"
    "vertical-align:bottom}.rc-table thead th.h{white-space:normal!important;min-width:4em;max-width:9em!important}"
    ".rc-table thead th.l{min-width:8em}"
    ".rc-table.long{border-bottom:1px solid var(--jp-border-color2,var(--line,#ccc))}"
    ".rc-rows{font-size:.82em;opacity:.75}"
    "</style>"
)
_CODE_COLUMNS = ("source", "opcode", "command")
_LONG_WORDS = 36
_WORDS_OF_A_CLAIM = "claim: "
DRAWN = "drawn"
"""The key, in the metadata of an output's HTML, that says what is drawn there: a figure, an explorer's first view."""


def evidence_label(words: str) -> str:
    """What kind of evidence a figure's words claim: "compile-only, live", "recorded", …; empty where they say none."""
    kinds = ["compile-only"] if re.search(r"\bcompile-(?:time|only)\b|\bcompiled on this machine\b", words) else []
    kinds += [kind for kind in ("live", "recorded") if re.search(rf"\b{kind}\b", words)]
    return ", ".join(kinds)


def remember_words(figure: Figure, title: str, subtitle: str) -> None:
    """Keep a figure's claim and conditions with it, and see that this session shows figures and tables our way."""
    figure.set_label(_WORDS_OF_A_CLAIM + " ".join(f"{title}. {subtitle}".split()))
    register_formatters()


def figure_metadata(figure: Figure) -> dict[str, str]:
    """What goes with the picture of a figure: `alt`, its words for who cannot see it, and `evidence`."""
    label = str(figure.get_label())
    words = label.removeprefix(_WORDS_OF_A_CLAIM) if label.startswith(_WORDS_OF_A_CLAIM) else ""
    evidence = evidence_label(words)
    return {**({"alt": words} if words else {}), **({"evidence": evidence} if evidence else {})}


def _figure_html(figure: Figure) -> tuple[str, dict[str, str]]:
    """The figure as a drawing in HTML, which JupyterLab shows also where it does not trust the notebook."""
    from helpers.show.drawing import drawing_html, figure_svg

    told = figure_metadata(figure)
    return drawing_html(figure_svg(figure), told.get("alt", "")), {DRAWN: "figure", **told}


def _figure_words(figure: Figure, printer: RepresentationPrinter, cycle: bool) -> None:
    printer.text(figure_metadata(figure).get("alt") or "a figure")


def table_html(table: pd.DataFrame) -> str:
    """A table as HTML: words to the left, numbers to the right, units unbroken, a dash for nothing, all escaped.

    The row numbers of a table that has no index of its own are left out; a long table scrolls under its header.
    """
    import pandas as pd

    shown = table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
    kinds = [_column_class(name, shown.iloc[:, at]) for at, name in enumerate(shown.columns)]
    head = "".join(
        f'<th class="{kind} h{" l" if len(heading) > _LONG_HEADING else ""}">{for_html(heading)}</th>'
        for heading, kind in zip(map(_heading, shown.columns), kinds, strict=True)
    )
    limit = pd.get_option("display.max_rows") or len(shown)
    precision = pd.get_option("display.precision")
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{_breakable(for_html(_cell(value, precision).strip()))}</td>'
            for value, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in shown.head(limit).itertuples(index=False, name=None)
    )
    long = " long" if len(shown) > _SCROLLING_ROWS else ""
    rest = f'<p class="rc-rows">{len(shown)} rows; the table scrolls.</p>' if long else ""
    if len(shown) > limit:
        rest = f'<p class="rc-rows">The first {limit} of {len(shown)} rows.</p>'
    return (
        f'{_TABLE_STYLE}<div class="rc-table{long}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{rest}"
    )


def _breakable(cell: str) -> str:
    """The HTML of a cell whose opcodes may break after a dot, where a column is narrow: not inside a word."""
    return _DOTTED.sub(lambda found: found[0].replace(".", ".<wbr>"), cell)


def _heading(name: object) -> str:
    if isinstance(name, tuple):
        return " ".join(str(part) for part in name if part != "")
    return str(name).replace("_", " ") if isinstance(name, str) else str(name)


def _column_class(name: object, column: pd.Series) -> str:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return "n"
    if name in _CODE_COLUMNS:
        return "c"
    return "w" if column.map(lambda v: len(str(v))).max() > _LONG_WORDS else "t"


def _cell(value: object, precision: int) -> str:
    import pandas as pd

    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "–"
    if value is True or value is False or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, Real) and not isinstance(value, Integral):
        small = value and abs(float(value)) < 1e-2
        return f"{value:.3g}" if small else f"{value:,.{precision}f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, Integral) and abs(int(value)) >= 10_000 else str(value)


def register_formatters() -> None:
    """Tell the running IPython, if one runs, how to show a Figure and a DataFrame; nothing elsewhere."""
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    formatters = shell.display_formatter.formatters
    # By name: neither library has to be loaded for it.
    formatters["text/html"].for_type_by_name("pandas", "DataFrame", table_html)
    if "matplotlib.figure" in sys.modules:
        # Drawing for the first time makes the inline backend register its own formatter, so this comes after it.
        figures = sys.modules["matplotlib.figure"].Figure
        formatters["image/png"].for_type(figures, lambda _figure: None)
        formatters["text/html"].for_type(figures, _figure_html)
        formatters["text/plain"].for_type(figures, _figure_words)


def text_columns(rows: Sequence[Sequence[object]]) -> list[str]:
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(str(v).ljust(w) for v, w in zip(row, widths, strict=True)).rstrip() for row in rows]

"""Small pieces of HTML: whatever comes from outside is escaped here."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from helpers.cleaning import for_html
from helpers.show.style import status_colour
from helpers.show.verdicts import ink_on


def banner(status: str, words: str) -> str:
    """A line in the colour of a status, in the ink that stands out on it."""
    ground = status_colour(status)
    return (
        f'<div style="font-weight:bold;color:{ink_on(ground)};background:{ground};padding:4px 8px">'
        f"{for_html(words)}</div>"
    )


def alert(head: str, words: str) -> str:
    """A sentence in place of an answer, `head` in bold."""
    return (
        f'<div role="alert" style="padding:4px 8px;border-left:4px solid {status_colour("register_exhausted")}">'
        f"<b>{for_html(head)}</b> {for_html(words)}</div>"
    )


def note(text: str) -> str:
    """A quiet paragraph."""
    return f'<p style="margin:4px 0;opacity:.8;line-height:1.4">{_marked(text)}</p>'


def _marked(text: object) -> str:
    """The text, escaped, with what stands between two backticks as code."""
    return re.sub(r"`([^`\n]{1,200})`", r"<code>\1</code>", for_html(text))


def paragraph(text: str, *, label: str = "") -> str:
    """A paragraph, after a `label` in bold where there is one."""
    head = f"<b>{for_html(label)}</b> " if label else ""
    return f'<p style="margin:.4em 0;overflow-wrap:anywhere">{head}{for_html(text)}</p>'


def entry(head: str, text: str, source: str = "") -> str:
    """What goes into `list_html` as one item: `head` in bold, the text on a line of its own, its source small."""
    small = f" <small>[{for_html(source)}]</small>" if source else ""
    return f"<b>{for_html(head)}</b><br>{for_html(text)}{small}"


def list_html(items: Iterable[str], *, numbered: bool = False) -> str:
    """A list of items that are HTML already (`entry`, `for_html`); empty for none."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    tag = "ol" if numbered else "ul"
    return f'<{tag} style="margin:.2em 0">{lines}</{tag}>' if lines else ""


def folded(summary: str, body: str, *, open_: bool = False) -> str:
    """`body`, which is HTML, below a line that a click opens; it needs no running kernel."""
    return f"<details{' open' * open_}><summary>{for_html(summary)}</summary>{body}</details>"


def cells_html(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", code_columns: Collection[int] = ()
) -> str:
    """Rows of values as a table, `code_columns` (by number) in a fixed width; a dash for None; empty without rows."""
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:left">{f"<code>{_text(value)}</code>" if at in code_columns else _text(value)}</td>'
            for at, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    if not body:
        return ""
    head = "".join(f'<th scope="col" style="text-align:left">{for_html(name)}</th>' for name in heads)
    words = f'<caption style="text-align:left">{for_html(caption)}</caption>' if caption else ""
    return f'<div style="overflow-x:auto"><table style="line-height:1.4">{words}<tr>{head}</tr>{body}</table></div>'


def difference_html(mine: Mapping[str, object], theirs: Mapping[str, object], names: tuple[str, str]) -> str:
    """What differs between two sets of facts as a table, `names` over the columns."""
    rows = [(what, value, theirs.get(what)) for what, value in mine.items() if value != theirs.get(what)]
    return cells_html(("", *names), rows) or "<p>The same in all that is compared.</p>"


def _text(value: object) -> str:
    return for_html("–" if value is None else str(value))


def facts_html(rows: Mapping[str, object]) -> str:
    """Names and values as a small table; values that are None or empty are left out."""
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left;padding-right:1em;vertical-align:top;white-space:nowrap">'
        f'{for_html(name)}</th><td style="text-align:left;overflow-wrap:anywhere">'
        f"{_marked(value)}</td></tr>"
        for name, value in rows.items()
        if value is not None and value != ""
    )
    return f'<table style="line-height:1.4">{cells}</table>'


def command_html(command: str) -> str:
    """The command in a read-only field that a person can select, and a button that copies it."""
    if not command:
        return ""
    copy = (
        "var f=this.previousElementSibling,b=this;f.select();"
        "var old=function(){document.execCommand('copy')};"
        "if(navigator.clipboard){navigator.clipboard.writeText(f.value).catch(old)}else{old()}"
        "b.textContent='Copied';setTimeout(function(){b.textContent='Copy command'},1500)"
    )
    # In JupyterLab's command mode a key pressed in a read-only field would be a shortcut: "d d" deletes the cell.
    return (
        '<div style="display:flex;gap:4px;max-width:100%">'
        f'<input type="text" readonly aria-label="equivalent command" data-lm-suppress-shortcuts="true" '
        f'style="flex:1 1 auto;min-width:0;font-family:monospace;font-size:12px" value="{for_html(command)}">'
        f'<button type="button" class="jupyter-button" onclick="{for_html(copy)}">Copy command</button></div>'
    )


def picture(png: bytes, words: str) -> str:
    """A PNG with its words for who cannot see it; empty where there is none."""
    if not png:
        return ""
    return (
        f'<img alt="{for_html(words)}" style="max-width:100%;height:auto" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )

"""Small pieces of HTML: whatever comes from outside is escaped here."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping

from helpers.show.style import status_colour


def banner(status: str, words: str) -> str:
    """A line in the colour of a status; black on the light ones, white on the dark."""
    ink = "black" if status == "spills" else "white"
    return (
        f'<div style="font-weight:bold;color:{ink};background:{status_colour(status)};padding:4px 8px">'
        f"{html.escape(words)}</div>"
    )


def facts_html(rows: Mapping[str, object]) -> str:
    """Names and values as a small table; values that are None or empty are left out."""
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left;padding-right:1em;vertical-align:top;white-space:nowrap">'
        f'{html.escape(name)}</th><td style="text-align:left;overflow-wrap:anywhere">'
        f"{html.escape(str(value))}</td></tr>"
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
        f'style="flex:1 1 auto;min-width:0;font-family:monospace;font-size:12px" value="{html.escape(command)}">'
        f'<button type="button" class="jupyter-button" onclick="{html.escape(copy)}">Copy command</button></div>'
    )


def picture(png: bytes, words: str) -> str:
    if not png:
        return ""
    return (
        f'<img alt="{html.escape(words)}" style="max-width:100%" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )

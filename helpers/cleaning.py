"""A stranger's text made harmless: for a terminal, for a page of HTML.

File names, labels, log lines and messages of other programs may hold characters that move a cursor, rename a window,
turn the reading order around or cannot be seen. Every text passes through here where it is printed or becomes HTML,
and nowhere before: what is compared, hashed and written to a file stays as it was.
"""

from __future__ import annotations

import html
import re

_PLAIN = re.compile(r"[^\x20-\x7e\n\t]+")
# Letters and marks by their class, and yet nothing that anybody sees: fillers of Hangul and Khmer, a joiner of
# graphemes, selectors of variations, an empty Braille cell.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def for_terminal(text: object) -> str:
    """The text of `text` as a terminal may be given it.

    Line feeds and tabs stay. Other white space becomes a space; what is a control, a change of direction, of no width,
    half of a character or unassigned becomes the replacement character.
    """
    return _PLAIN.sub(_made_visible, str(text))


def for_html(text: object) -> str:
    """The text of `text` as a piece of HTML, inside an element or a quoted attribute: `for_terminal`, then escaped."""
    return html.escape(for_terminal(text))


def _made_visible(found: re.Match[str]) -> str:
    return "".join(
        " " if c.isspace() else c if c.isprintable() and not _UNSEEN.match(c) else "\ufffd" for c in found[0]
    )

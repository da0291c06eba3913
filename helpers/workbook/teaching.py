"""An exercise for the reader: the question in sight, the answer, computed in this run, below a fold."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML

FOLD_CLASS = "rc-fold"


def fold(question: str, answer: str) -> HTML:
    """The question with its answer below a fold that a click opens; needs no running kernel to open.

    Both are plain text with `code` and **bold** in Markdown's way; an empty line begins a paragraph. Format the answer
    from values, so that it cannot drift.
    """
    from IPython.display import HTML

    return HTML(
        f'<details class="{FOLD_CLASS}" '
        'style="border:1px solid #8888;border-radius:6px;padding:.5em .9em;margin:.4em 0">'
        f'<summary style="cursor:pointer">{_inline(question)} <i>(open for the answer)</i></summary>'
        f"{''.join(f'<p>{_inline(part)}</p>' for part in _paragraphs(answer))}</details>"
    )


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def _inline(text: str) -> str:
    escaped = html.escape(" ".join(text.split()))
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", coded)

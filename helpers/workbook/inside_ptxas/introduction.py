"""What the kernel computes: plain Python beside the Triton lines, its ingredients before and after, the lean loop.

All source is read from the files that are compiled, never copied.
"""

from __future__ import annotations

import html
import inspect
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from helpers.attention.lean import LEAN_KERNEL
from helpers.attention.spec import EXTEND_KERNEL
from helpers.workbook.prose import source_lines_of

if TYPE_CHECKING:
    from IPython.display import HTML


def attention_by_tiles(q, keys, values, block_n):
    """The attention of the rows of `q` over all keys and values, `block_n` of them at a time: the online softmax."""
    acc = np.zeros((len(q), values.shape[1]))
    row_max = np.full(len(q), -np.inf)
    row_sum = np.zeros(len(q))
    for start_n in range(0, len(keys), block_n):
        k, v = keys[start_n : start_n + block_n], values[start_n : start_n + block_n]
        qk = q @ k.T
        new_max = np.maximum(row_max, qk.max(axis=1))
        rescale = np.exp(row_max - new_max)
        p = np.exp(qk - new_max[:, None])
        row_sum = row_sum * rescale + p.sum(axis=1)
        row_max = new_max
        acc = acc * rescale[:, None] + p @ v
    return acc / row_sum[:, None]


@dataclass(frozen=True)
class Step:
    """One step of the algorithm: what happens, and how its line begins in Python and in the kernel."""

    words: str
    python: str
    triton: str


STEPS = (
    Step("Start with an empty sum.", "acc = np.zeros", "acc = tl.zeros"),
    Step("Take the keys tile by tile.", "for start_n in range", "for start_n in range(first_n, prefix_len"),
    Step("Score every query of the block against every key of the tile.", "qk = q @ k.T", "qk = tl.dot(q, k)"),
    Step("Find the largest score so far in each row.", "new_max = ", "new_max = tl.maximum(tl.max(qk, 1), row_max)"),
    Step("What was summed with a smaller maximum is scaled by this factor.", "rescale = ", "rescale = tl.exp(row_max"),
    Step("Turn the scores into weights.", "p = np.exp", "p = tl.exp(qk"),
    Step("Keep the sum of the weights, to divide by it at the end.", "row_sum = row_sum",
         "return p, rescale, new_max, row_sum * rescale"),
    Step("Add the weighted values to the running sum. This is the line that the crash is about.",
         "acc = acc * rescale", "acc = acc * rescale[:, None] + tl.dot(p, v) * v_scale"),
    Step("Divide once, after the last tile.", "return acc / row_sum", "out = acc / "),
)  # fmt: skip


def _line(path: str, beginning: str) -> tuple[int, str]:
    """(number, text) of the first line of a file that begins so, blanks aside; raises ValueError for none."""
    for number, text in source_lines_of(path).items():
        if text.strip().startswith(beginning):
            return number, text
    raise ValueError(f"no line of {path} begins with {beginning!r}")


def beside_python() -> HTML:
    """The algorithm in plain Python and the kernel's own lines for the same steps, with their numbers, as a table."""
    from IPython.display import HTML

    python = [line.strip() for line in inspect.getsource(attention_by_tiles).splitlines()]
    rows = []
    for step in STEPS:
        plain = next(line for line in python if line.startswith(step.python))
        number, text = _line(EXTEND_KERNEL.path, step.triton)
        rows.append(
            f"<tr><td>{html.escape(step.words)}</td><td><code>{html.escape(plain)}</code></td>"
            f"<td>{number}</td><td><code>{html.escape(text.strip())}</code></td></tr>"
        )
    heads = ("step", "plain Python (NumPy)", "line", "the Triton kernel")
    head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in heads)
    return HTML(
        '<div class="scroll" style="overflow-x:auto"><table style="text-align:left;min-width:44rem">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


@dataclass(frozen=True)
class Excerpt:
    """`count` lines of the kernel from the first one that begins so, after a line that begins with `after`."""

    beginning: str
    count: int
    after: str = ""

    def lines(self, path: str) -> list[tuple[int, str]]:
        """(number, text) of each line; raises ValueError where the kernel has none such."""
        source = source_lines_of(path)
        start = _line(path, self.after)[0] if self.after else 0
        for number, text in source.items():
            if number > start and text.strip().startswith(self.beginning):
                return [(n, source[n]) for n in range(number, number + self.count)]
        raise ValueError(f"no line of {path} begins with {self.beginning!r} after {self.after!r}")


STAGE_1 = "# --- stage 1"
CHANGES: dict[str, tuple[str, tuple[Excerpt, ...], str, tuple[Excerpt, ...]]] = {
    "tile_skip": (
        "the incident: a branch around each tile",
        (Excerpt("for start_n in range(first_n, prefix_len", 1), Excerpt("work = True", 5)),
        "the cure: loop bounds",
        (Excerpt("first_n = 0", 5, after=STAGE_1),),
    ),
    "accumulate": (
        "the incident: a product of its own, scaled, then added",
        (Excerpt('elif V_SCALE == "applied"', 2),),
        "the cure: the product adds into the accumulator; one scaling after the loop",
        (Excerpt('if ACCUMULATE == "fused"', 2), Excerpt('if ACCUMULATE == "fused" and V_SCALE', 3)),
    ),
    "kv_operands": (
        "the incident: queries and weights become fp8 like the cache",
        (Excerpt("qk = _scores(", 3, after=STAGE_1), Excerpt("p = p.to(v.dtype)", 1)),
        "the alternative: keys and values become 16 bits wide like the queries",
        (Excerpt('if KV_OPERANDS == "upcast"', 3), Excerpt("v = v.to(q.dtype)", 1)),
    ),
}
"""By ingredient: what the incident's kernel does and its lines, what else it can do and those lines."""


def _pane(title: str, runs: list[list[tuple[int, str]]]) -> str:
    parts = []
    for run in runs:
        text = textwrap.dedent("\n".join(line for _, line in run)).splitlines()
        numbered = "\n".join(f"{number:>4}  {line}" for (number, _), line in zip(run, text, strict=True))
        parts.append(
            f'<pre style="margin:.2em 0;padding:.4em;white-space:pre-wrap;font-size:12px">{html.escape(numbered)}</pre>'
        )
    return f'<div style="min-width:0"><b>{html.escape(title)}</b>{"".join(parts)}</div>'


def before_after(ingredient: str) -> HTML:
    """The kernel's lines of one ingredient (a key of `CHANGES`): the incident's beside the alternative's."""
    from IPython.display import HTML

    before, incident, after, other = CHANGES[ingredient]
    panes = "".join(
        _pane(title, [excerpt.lines(EXTEND_KERNEL.path) for excerpt in excerpts])
        for title, excerpts in ((before, incident), (after, other))
    )
    return HTML(
        '<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:.4rem 1rem">'
        f"{panes}</div>"
    )


LEAN_LOOP = (Excerpt("k = _load_rows(", 2), Excerpt("new_max = tl.maximum(row_max", 1),
             Excerpt("rescale = tl.exp2", 7))  # fmt: skip


def lean_loop() -> HTML:
    """The lines of the lean kernel's loop that are the algorithm; what serves other options is left out."""
    from IPython.display import HTML

    return HTML(_pane("the lean kernel's loop", [excerpt.lines(LEAN_KERNEL.path) for excerpt in LEAN_LOOP]))

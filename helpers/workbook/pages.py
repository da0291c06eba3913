"""Notebooks as HTML pages that open from disk: nothing fetched, light or dark, default views.

nbconvert renders the cells (its `basic` template: a fragment); the page around them is ours, because
nbconvert's own pages fetch MathJax, require.js, jQuery and the widget manager. A Content-Security-Policy in
each page makes the browser refuse whatever would still be fetched, and `network_loads` finds it before that.
"""

from __future__ import annotations

import copy
import html
import json
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.show.display import DRAWN, table_html
from helpers.workbook.explorer.frame import KNOBS
from helpers.workbook.glossary import HOME, TERMS, glossary_markdown, link_terms
from helpers.workbook.prose import as_html

if TYPE_CHECKING:
    from nbformat import NotebookNode

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_POLICY = (
    "default-src 'none'; img-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-src data:"
)


@dataclass(frozen=True)
class PageEntry:
    """One notebook as the index lists it."""

    name: str  # the notebook's file name without .ipynb; the page is name + ".html"
    title: str
    seconds: float
    failed: bool = False
    evidence: tuple[str, ...] = ()  # of each figure, in order: as `figure_evidence` says it
    question: str = ""  # as `notebook_question` finds it


NOT_STATED = "not stated"
_EVIDENCE_MEANS = {
    "compile-only": "compile-only (compiled, not run on a GPU)",
    "live": "live, from this run",
    "recorded": "recorded, read from data/",
    NOT_STATED: NOT_STATED,
}


def figure_evidence(notebook: NotebookNode) -> list[str]:
    """For each picture among the outputs, in order, where it says it comes from: "compile-only, live", "recorded", …"""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [said for output in outputs if (said := _evidence_of(output)) is not None]


def _evidence_of(output: NotebookNode) -> str | None:
    """What a picture says of its source, `NOT_STATED` where it says nothing; None for an output without a picture."""
    told = output.get("metadata", {})
    pictures = [mime for mime in output.get("data", {}) if mime.startswith("image/") or DRAWN in told.get(mime, {})]
    if not pictures:
        return None
    return told.get(pictures[0], {}).get("evidence") or NOT_STATED


def _with_captions(notebook: NotebookNode) -> NotebookNode:
    """A copy in which a line under each picture says live, recorded or compile-only."""
    from nbformat.v4 import new_output

    told = copy.deepcopy(notebook)
    for cell in told.cells:
        if "outputs" not in cell:
            continue
        outputs = []
        for output in cell.outputs:
            outputs.append(output)
            said = _evidence_of(output)
            if said is not None:
                outputs.append(new_output("display_data", {"text/html": _evidence_html(said)}))
        cell.outputs = outputs
    return told


def _with_knobs(notebook: NotebookNode) -> NotebookNode:
    """A copy in which an explorer is its picture together with what the page needs to operate it without a kernel.

    A browser without JavaScript shows the picture; `knobs.js` hides it and puts the controls in its place.
    """
    told = copy.deepcopy(notebook)
    for output in (output for cell in told.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        facts, still = data.pop(KNOBS, None), data.get("text/html")
        words = output.get("metadata", {}).get("text/html", {})
        if facts is None or DRAWN not in words:
            continue
        # Inside <script>, only "</" and "<!" could end it.
        rows = json.dumps(facts, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
        words.pop(DRAWN)
        data["text/html"] = (
            f'<div class="rc-knobs"><div class="rc-still">{still}{_evidence_html(words.get("evidence") or NOT_STATED)}'
            f'</div><script type="application/json">{rows}</script></div>'
        )
    return told


def _evidence_html(said: str) -> str:
    """The line under a picture that says what kind of evidence it shows."""
    means = "; ".join(_EVIDENCE_MEANS.get(kind, kind) for kind in said.split(", "))
    return f'<p class="evidence">Evidence: {html.escape(means)}.</p>'


def _with_linked_sentences(notebook: NotebookNode) -> NotebookNode:
    """A copy in which sentences that a cell computed explain their terms too, where a term is met in one first."""
    told = copy.deepcopy(notebook)
    places = [
        place
        for cell in told.cells
        for place in ([cell] if cell.cell_type == "markdown" else [o.get("data", {}) for o in cell.get("outputs", [])])
        if ("source" in place and place["source"] != glossary_markdown()) or "text/markdown" in place
    ]
    names = ["source" if "source" in place else "text/markdown" for place in places]
    texts = ["".join(place[name]) for place, name in zip(places, names, strict=True)]
    for place, name, text in zip(places, names, link_terms(texts), strict=True):
        place[name] = text
    return told


def notebook_title(notebook: NotebookNode, fallback: str) -> str:
    """The first heading of the notebook, without its marks; `fallback` where there is none."""
    for cell in notebook.cells:
        found = re.search(r"^#{1,6} +(.+?) *#*$", cell.source, re.MULTILINE)
        if found and cell.cell_type == "markdown":
            return re.sub(r"[`*]", "", found.group(1))
    return fallback


def notebook_question(notebook: NotebookNode) -> str:
    """The question that the first cell asks, its links as plain words; empty where it asks none."""
    first = notebook.cells[0].source if notebook.cells else ""
    found = re.search(r"\*\*Question\.\*\*\s+(.+?)(?:\n\s*\n|\Z)", first, re.DOTALL)
    if found is None:
        return ""
    unlinked = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(found.group(1).split()))
    return re.sub(r"(?<!\*)\*(?!\*)", "", unlinked)


def without_widget_views(notebook: NotebookNode) -> NotebookNode:
    """A copy that reads without a running kernel: widget views and state gone, everything else as it was.

    An output that has another rendering (HTML, an image) keeps that; one that is a widget and nothing else
    becomes a line saying where it is alive, because its plain text would be `VBox(children=(...))`.
    """
    plain = copy.deepcopy(notebook)
    plain.metadata.pop("widgets", None)
    for cell in plain.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(KNOBS, None)
            if data.pop(WIDGET_VIEW, None) is None or set(data) - {"text/plain"}:
                continue
            alone = len(cell.outputs) == 1
            shown = "nothing of it is kept here" if alone else "this page shows its default view"
            data["text/plain"] = f"[interactive in JupyterLab (make lab); {shown}]"
            data["text/html"] = (
                f'<p class="widget-note">Interactive in JupyterLab (<code>make lab</code>); {shown}.</p>'
            )
    return plain


# The code of a cell is one click away, so that no page shows a sentence and its formula both. Numbers of cells are for
# who runs them. A drawing needs its words, which nbconvert leaves out.
_TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}
<details class="code"><summary>Code</summary>{{ super() }}</details>
{%- endblock input_group -%}
{%- block data_svg scoped -%}
<div class="output_svg output_subarea">
<img src="data:image/svg+xml;base64,{{ output.data['image/svg+xml'] | text_base64 }}"
 alt="{{ (output | get_metadata('alt', 'image/svg+xml') or '') | escape_html }}">
</div>
{%- endblock data_svg -%}
"""


def _cells_html(notebook: NotebookNode, folder: Path | None) -> str:
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic", raw_template=_TEMPLATE, embed_images=True, exclude_input_prompt=True,
        exclude_output_prompt=True,
    )  # fmt: skip
    resources = {"metadata": {"path": str(folder)}} if folder else {}
    plain = _with_captions(without_widget_views(_with_knobs(_with_linked_sentences(notebook))))
    body, _ = exporter.from_notebook_node(plain, resources=resources)
    return re.sub(r'<a class="anchor-link"[^>]*>[^<]*</a>', "", body)


def notebook_page(
    notebook: NotebookNode, *, entry: PageEntry, titles: Mapping[str, str] | None = None, folder: Path | None = None
) -> str:
    """One self-contained HTML page of an executed notebook.

    `titles` holds the title of each notebook by its name, in reading order, for the links to the one before and the one
    after; `folder` is where images that a markdown cell names by relative path lie: they are put into the page.
    """
    titles = titles or {}
    body = _cells_html(notebook, folder)
    for name in titles:
        body = body.replace(f'href="{name}.ipynb', f'href="{name}.html')
    body = _with_terms(body)
    body, headings = _with_anchors(body)
    banner = (
        '<p class="banner">This notebook <span class="failed">failed</span>; '
        "what follows its last output did not run.</p>"
    )
    before, after = _neighbours(entry.name, titles)
    return _page(
        entry.title,
        f'<header class="top"><a href="index.html">Register Cliff</a>{before}{after}</header>\n'
        f'<div class="sheet">{_contents(headings)}\n'
        f'<main id="main">{banner if entry.failed else ""}{body}</main></div>\n'
        f'<nav class="foot" aria-label="Other pages">{before}<a href="#top">↑ Back to the top</a>{after}</nav>',
        foot=f"Executed top to bottom in {entry.seconds:.1f} s",
        style=_code_style(),
    )


def _neighbours(name: str, titles: Mapping[str, str]) -> tuple[str, str]:
    """Links to the page before and the page after, by title; a page without one leads to the list of all pages."""
    order = list(titles)
    at = order.index(name) if name in order else -1
    before = order[at - 1] if at > 0 else "index"
    after = order[at + 1] if 0 <= at < len(order) - 1 else "index"
    words = [html.escape(titles.get(other, "All pages")) for other in (before, after)]
    return f'<a href="{before}.html">← {words[0]}</a>', f'<a href="{after}.html">{words[1]} →</a>'


_HEADING = re.compile(r'<h([1-6])(?: id="([^"]*)")?>(.*?)</h\1>', re.DOTALL)


@dataclass(frozen=True)
class Heading:
    """A heading of a page: its level from 1, its anchor, its words as HTML without tags."""

    level: int
    anchor: str
    words: str


def _with_anchors(body: str) -> tuple[str, list[Heading]]:
    """(the body in which no two headings share an anchor, its headings in order)."""
    found: list[Heading] = []
    seen: Counter[str] = Counter()

    def numbered(match: re.Match) -> str:
        level, anchor, words = int(match[1]), match[2] or f"part-{len(found)}", re.sub(r"<[^>]*>", "", match[3])
        seen[anchor] += 1
        if seen[anchor] > 1:
            anchor = f"{anchor}-{seen[anchor]}"
        found.append(Heading(level, anchor, words))
        return f'<h{level} id="{anchor}">{match[3]}</h{level}>'

    return _HEADING.sub(numbered, body), found


def _contents(headings: Sequence[Heading]) -> str:
    """The contents list: the second and third level of headings."""
    lines = "".join(
        f'<li class="l{h.level}"><a href="#{h.anchor}">{h.words}</a></li>' for h in headings if h.level in (2, 3)
    )
    if not lines:
        return ""
    return (
        '<nav class="contents" aria-label="On this page"><details open><summary>On this page</summary>'
        f"<ul>{lines}</ul></details></nav>"
    )


def _with_terms(body: str) -> str:
    """The body in which a link to a term of the glossary carries what the term means."""
    means = {term.anchor: term.plain for term in TERMS}
    home = HOME.removesuffix(".ipynb")

    def told(match: re.Match) -> str:
        words = means.get(match[1])
        return f'<a class="term" title="{html.escape(words)}" {match[0][3:]}' if words else match[0]

    return re.sub(rf'<a href="{home}\.html#([^"]+)"', told, body)


_WHAT_THIS_IS = (
    "A GPU kernel that ran on NVIDIA's Hopper chips did not even compile for Blackwell: the assembler "
    "<code>ptxas</code> gave up with <i>Register allocation failed with register count of '255'</i>.",
    "These pages reproduce that crash without a GPU, show what the compiler was asked to do, find the cause by "
    "experiment, and measure what each cure costs.",
    "The same tools read a crash of your own.",
)


def index_page(entries: Sequence[PageEntry], verdict: Mapping, *, picture: str = "") -> str:
    """The front page: what this is, a picture (HTML), each page's question, the verdict of this run.

    `verdict` is as in verdict.json: lines, columns, rows.
    """
    import pandas as pd

    lines = "".join(f'<p class="verdict">{html.escape(line)}</p>' for line in verdict["lines"])
    table = table_html(pd.DataFrame(verdict["rows"], columns=verdict["columns"]).convert_dtypes())
    asked = "".join(
        f'<li><a href="{entry.name}.html">{html.escape(entry.title)}</a>'
        f"{' <span class=failed>failed</span>' if entry.failed else ''}<br>{as_html(entry.question)}</li>"
        for entry in entries
    )
    listed = "".join(
        f"<tr><td>{html.escape(entry.title)}</td>"
        f"<td>{'<span class=failed>failed</span>' if entry.failed else 'ran'}, {entry.seconds:.1f} s</td>"
        f"<td>{html.escape(_figures_in_words(entry.evidence))}</td>"
        f'<td><a href="{entry.name}.ipynb">executed notebook</a></td></tr>'
        for entry in entries
    )
    return _page(
        "Register Cliff",
        f'<main id="main" class="front"><h1>Register Cliff</h1><p class="verdict">{" ".join(_WHAT_THIS_IS)}</p>'
        f'<div class="picture">{picture}</div><h2>The pages, and what each one asks</h2><ul class="asked">{asked}</ul>'
        f"<h2>What this run found</h2>{lines}{table}"
        '<h2>How this run went</h2><div class="scroll"><table><thead><tr><th>page</th><th>this run</th>'
        f"<th>its figures</th><th>to open in JupyterLab</th></tr></thead><tbody>{listed}</tbody></table></div></main>",
        foot="Written by make workbook",
    )


def _figures_in_words(evidence: Sequence[str]) -> str:
    counts = Counter(evidence)
    return "; ".join(f"{count} {said}" for said, count in counts.items()) or "none"


def _page(title: str, content: str, *, foot: str, style: str = "") -> str:
    here = Path(__file__).parent
    # The controls of explorers are built before the page looks for what scrolls.
    css, script = (
        "".join((here / f"{part}.{kind}").read_text(encoding="utf-8") for part in parts)
        for kind, parts in (("css", ("pages", "knobs")), ("js", ("knobs", "pages")))
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{css}{style}</style>\n</head>\n<body id='top'>\n"
        f'<a class="skip" href="#main">Skip to the text</a>\n{content}\n'
        f"<footer>{foot}, Python {platform.python_version()} on {platform.system()} {platform.machine()}. "
        f"This page loads nothing from the network.</footer>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


@lru_cache(maxsize=1)
def _code_style() -> str:
    from pygments.formatters import HtmlFormatter

    def rules(style: str) -> str:
        # The ground is the page's own, so only what sits on it is taken.
        lines = HtmlFormatter(style=style).get_style_defs(".highlight").splitlines()
        return "\n".join(line for line in lines if line.startswith(".highlight ."))

    return f"{rules('default')}\n@media (prefers-color-scheme: dark) {{\n{rules('github-dark')}\n}}\n"


_FETCHING_ATTRIBUTES = {"src", "srcset", "poster", "data", "background", "xlink:href"}
_LINKING_TAGS = {"a", "area"}
_CSS_LOAD = re.compile(r"""@import\b|url\(\s*["']?(?!data:|\#|["'\s)])[^)]{1,200}""", re.IGNORECASE)
_SCRIPT_LOAD = re.compile(
    r"""(?:\bimport\s*\(?|\bfrom|\bfetch\s*\(|\bimportScripts\s*\(|\.src\s*=|\.open\s*\([^)]{0,40},)\s*["'`]\s*(?:https?:)?//"""
    r"""|["'`](?:https?:)?//[^"'`\s]{1,200}\.(?:m?js|css|woff2?)\b""",
    re.IGNORECASE,
)


class _LoadFinder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag if tag in ("style", "script") else ""
        for name, value in attrs:
            value = (value or "").strip()
            fetching = name in _FETCHING_ATTRIBUTES or (name == "href" and tag not in _LINKING_TAGS)
            if fetching and value and not value.lower().startswith(("data:", "#", "blob:", "about:")):
                self.found.append(f"<{tag} {name}={value[:120]}>")
            elif name == "style":
                self._search(_CSS_LOAD, value)
            elif name == "srcdoc":
                self.found += network_loads(value)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._search(_CSS_LOAD if self._inside == "style" else _SCRIPT_LOAD, data)

    def _search(self, pattern: re.Pattern, text: str) -> None:
        self.found += [match.group()[:120] for match in pattern.finditer(text)]


def network_loads(page: str) -> list[str]:
    """Everything in an HTML page that a browser would fetch to show it; [] for a self-contained page.

    Links that a reader may click are not loads. A file beside the page is one: the page alone would lack it.
    """
    finder = _LoadFinder()
    finder.feed(page)
    finder.close()
    return finder.found

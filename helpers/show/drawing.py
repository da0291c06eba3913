"""A figure as a small SVG: right on a light ground and on a dark one, the same bytes each time it is drawn.

It is shown inside an `<img>`, where scripts do not run and nothing is fetched. A notebook that JupyterLab does not
trust shows it as well, which it does not do with an SVG that stands in the page itself.
"""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

from helpers.cleaning import for_html
from helpers.show.colours import INK, SOFT_INK, STATUS_COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 110
"""How large a figure is shown where there is room."""
# Grounds, inks and lines of a dark page (pages.css), and lighter tones of what would sink into its ground. The filling
# of a cell or a bar stays, and so does what is written on it in black or white: a legend means the same on both.
_DARK_GROUND = "#15191e"
_DARK_TEXT = {
    INK: "#e2e6eb", SOFT_INK: "#9aa4af", "#222222": "#e2e6eb", "#777777": "#9aa4af", "#7f7f7f": "#a6adb5",
    STATUS_COLOURS["register_exhausted"].lower(): "#ff8fa3", "#0072b2": "#7ab7ff", "#009e73": "#3fc9a0",
    "#b86010": "#f0a868", "#cc79a7": "#e5a3c8", "#d55e00": "#ff9850",
}  # fmt: skip
_DARK_STROKE = {**_DARK_TEXT, "#ffffff": _DARK_GROUND, "#dddddd": "#333b44", "#bbbbbb": "#5a636d"}
_DARK_FILL = {
    "#ffffff": _DARK_GROUND, INK: "#e2e6eb", "#222222": "#e2e6eb",
    STATUS_COLOURS["register_exhausted"].lower(): "#a62b2b",
}  # fmt: skip
_FONT = '"DejaVu Sans",Verdana,sans-serif'
_PATH_NUMBER = re.compile(r"-?\d+\.\d+")
_STYLED = re.compile(r'<(\w+)((?:[^>"]|"[^"]*")*?) style="([^"]*)"')


def figure_svg(figure: Figure) -> bytes:
    """The figure as SVG; two calls for one figure, or for one that is drawn in the same way, give the same bytes."""
    import matplotlib as mpl

    drawn = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "register-cliff", "path.simplify": True}):
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _small(drawn.getvalue()).encode()


def _small(svg: str) -> str:
    """Matplotlib's SVG with short numbers and each style once, as a class that has a dark twin where it needs one."""
    # A control character in somebody's words would be no XML, and then nothing of the figure is shown.
    body = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", svg[svg.index("<svg") :])
    opening, _, body = body.partition(">")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening)
    assert found is not None, opening
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    asked = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(r'\s+id="([^"]*)"', lambda m: m[0] if m[1] in asked else "", body)
    body = re.sub(r"\n\s*", " ", body)
    body = re.sub(r"> +<", "><", body)
    body = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", body)
    body = re.sub(r'(?<= )(d|points|x|y|x1|x2|y1|y2|width|height|transform)="([^"]*)"', _shortened, body)
    rules: dict[tuple[str, str], str] = {}
    body = _STYLED.sub(lambda m: _with_class(m, rules), body)
    while (less := re.sub(r"<g/>|<g>\s*</g>|<defs></defs>", "", body)) != body:
        body = less
    # Groups without attributes group nothing.
    body = _unwrapped(body)
    light = "".join(f".{name}{{{style}}}" for (_, style), name in rules.items())
    dark = "".join(f".{name}{{{twin}}}" for (tag, style), name in rules.items() if (twin := _dark(tag, style)))
    width, height = (float(part) for part in found.groups())
    size = " ".join(f'{n}="{v / 72 * PIXELS_PER_INCH:.0f}"' for n, v in (("width", width), ("height", height)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {size} '
        f'viewBox="0 0 {width:g} {height:g}"><style>:root{{color-scheme:light dark}}'
        f"text{{font-family:{_FONT};white-space:pre}}"
        f"{light}@media(prefers-color-scheme:dark){{{dark}}}</style>{body.strip()}"
    )


def _shortened(match: re.Match) -> str:
    """An attribute with numbers of one decimal, two where they turn or scale."""
    name, digits = match[1], 2 if match[1] == "transform" else 1
    # Adding 0.0 makes of -0.0 a plain one.
    value = _PATH_NUMBER.sub(lambda n: f"{round(float(n[0]), digits) + 0.0:g}", match[2])
    if name == "d":
        value = re.sub(r"\s*([MLCQZz])\s*", r"\1", value)
        value = re.sub(r"^M(\S+ \S+)L(\S+) (\S+)L(\S+) (\S+)L(\S+) (\S+)z$", _box, value)
    return f'{name}="{value}"'


def _box(match: re.Match) -> str:
    """A rectangle along the axes in its shortest words; any other shape as it is."""
    x, y = match[1].split()
    corners = [(x, y), *((match[n], match[n + 1]) for n in (2, 4, 6))]
    (x1, y1), (x2, y2) = corners[0], corners[2]
    if corners == [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]:
        return f"M{x1} {y1}H{x2}V{y2}H{x1}z"
    if corners == [(x1, y1), (x1, y2), (x2, y2), (x2, y1)]:
        return f"M{x1} {y1}V{y2}H{x2}V{y1}z"
    return match[0]


def _with_class(match: re.Match, rules: dict[tuple[str, str], str]) -> str:
    tag, before, style = match.groups()
    kept = [part.strip() for part in style.split(";") if part.strip() and not part.strip().startswith("font-family")]
    # The whole font in one word, as matplotlib writes it for a bold one: weight and size are taken out of it.
    parts = [_font_parts(part) if part.startswith("font:") else part for part in kept]
    style = ";".join(re.sub(r":\s+", ":", part) for part in parts if part)
    if not style:
        return f"<{tag}{before}"
    name = rules.setdefault(("text" if tag == "text" else "shape", style), f"s{len(rules)}")
    return f'<{tag}{before} class="{name}"'


def _font_parts(font: str) -> str:
    weight = re.search(r"\b(bold|[1-9]00)\b", font)
    style = re.search(r"\b(italic|oblique)\b", font)
    size = re.search(r"([\d.]+)px", font)
    told = [f"font-weight:{weight[1]}" if weight else "", f"font-style:{style[1]}" if style else "",
            f"font-size:{size[1]}px" if size else ""]  # fmt: skip
    return ";".join(part for part in told if part)


def _dark(tag: str, style: str) -> str:
    """What changes of a style on a dark ground; nothing for most."""
    twins = []
    for part in style.split(";"):
        name, _, value = part.partition(":")
        table = {"stroke": _DARK_STROKE, "fill": _DARK_TEXT if tag == "text" else _DARK_FILL}.get(name, {})
        if value in table:
            twins.append(f"{name}:{table[value]}")
    return ";".join(twins)


def _unwrapped(body: str) -> str:
    """The body without groups that have no attribute."""
    parts, plain = [], []
    for piece in re.split(r"(<g(?: [^>]*)?>|</g>)", body):
        if piece.startswith("<g"):
            plain.append(piece == "<g>")
            if plain[-1]:
                continue
        elif piece == "</g>" and plain.pop():
            continue
        parts.append(piece)
    return "".join(parts)


def svg_size(svg: bytes) -> dict[str, int]:
    """Width and height that an SVG of ours is shown at; nothing for what is none."""
    found = re.match(rb'<svg [^>]*?width="(\d+)" height="(\d+)"', svg)
    return {"width": int(found[1]), "height": int(found[2])} if found else {}


def drawing_html(svg: bytes, words: str) -> str:
    """The SVG as a picture for a page, with its words for who cannot see it; empty where there is none."""
    if not svg:
        return ""
    width = svg_size(svg).get("width")
    # The page knows from the width how far it may shrink the letters.
    sized = (f' width="{width}"', f";--drawn:{width}px") if width else ("", "")
    return (
        f'<img class="rc-drawing" alt="{for_html(words)}"{sized[0]} style="max-width:100%;height:auto{sized[1]}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
    )

"""A figure as SVG: the same bytes each time, small, light and dark, its words with it, and nothing of a stranger's."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from helpers.show.drawing import drawing_html, figure_svg, svg_size
from helpers.show.style import INK, claim, use_house_style

EVIL = '\x1b]0;t\x07<script>alert(1)</script>"><img src=x onerror=alert(2)>'
SVG = "{http://www.w3.org/2000/svg}"


def drawn(title: str = "One cell is fatal", words: str = "dies", rows: int = 3):
    import matplotlib.pyplot as plt

    use_house_style()
    figure, axes = plt.subplots(figsize=(8.5, 3))
    for y in range(rows):
        axes.barh(y, 10 + y, 0.6, color="#E69F00", hatch="///", edgecolor="white")
        axes.text(11, y, f"  {words}", va="center")
    axes.text(0, 0, "on a cell", color="black")
    axes.axvline(12, color="#222222")
    claim(axes, title, "sm_100a, compile-time, live")
    plt.close(figure)
    return figure


def rules(svg: str) -> tuple[dict[str, str], dict[str, str]]:
    """(style by class on a light ground, what changes of it on a dark one)."""
    sheet = svg[svg.index("<style>") : svg.index("</style>")]
    light, _, dark = sheet.partition("@media(prefers-color-scheme:dark)")
    return tuple(dict(re.findall(r"\.(s\d+)\{([^}]*)\}", part)) for part in (light, dark))


def test_the_same_figure_has_the_same_bytes_and_no_date():
    once, again = figure_svg(drawn()), figure_svg(drawn())
    assert once == again and b"metadata" not in once and b"date" not in once
    assert figure_svg(drawn(words="spills")) != once


def test_it_is_small_and_its_words_are_words():
    root = ET.fromstring(figure_svg(drawn(rows=40)))
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words.count("  dies") == 40 and "One cell is fatal" in words
    assert root.get("viewBox") == "0 0 612 216" and svg_size(figure_svg(drawn())) == {"width": 935, "height": 330}
    grown = len(figure_svg(drawn(rows=41))) - len(figure_svg(drawn(rows=40)))
    assert 0 < grown < 350, "bytes for one more bar and its words"


def test_what_stands_on_the_ground_turns_light_in_the_dark_and_what_stands_on_a_cell_does_not():
    svg = figure_svg(drawn()).decode()
    light, dark = rules(svg)
    root = ET.fromstring(svg)
    classes = {text.text: text.get("class") for text in root.iter(f"{SVG}text")}
    assert f"fill:{INK}" in light[classes["One cell is fatal"]] and "fill:#e2e6eb" in dark[classes["One cell is fatal"]]
    assert classes["on a cell"] not in dark
    ground = root.find(f"{SVG}path")
    assert light[ground.get("class")] == "fill:#ffffff" and dark[ground.get("class")] == "fill:#15191e"
    filled = [name for name, style in light.items() if "fill:#e69f00" in style]
    assert not any("fill" in dark.get(name, "") for name in filled), "a legend means the same on both"


def test_every_reference_inside_is_kept():
    svg = figure_svg(drawn()).decode()
    asked = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    assert asked and asked <= set(re.findall(r' id="([^"]+)"', svg))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_words_of_a_stranger_stay_words():
    svg = figure_svg(drawn(title=EVIL, words=EVIL))
    tags = {element.tag.removeprefix(SVG) for element in ET.fromstring(svg).iter()}
    assert not tags & {"script", "img", "image", "foreignObject"}
    shown = drawing_html(svg, EVIL)
    assert "<script" not in shown and shown.count("<img") == 1 and " onerror" not in shown.replace("&gt;", ">")[:40]
    assert drawing_html(b"", "nothing") == ""


@pytest.mark.parametrize("title", ["Short", "A claim that is far longer than one line of the figure holds " * 3])
def test_a_claim_stays_inside_its_figure(title: str):
    figure = drawn(title=title)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for words in (axes._left_title, axes.texts[-1]):
        box = words.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
    assert axes._left_title.get_window_extent().y0 >= axes.texts[-1].get_window_extent().y1 - 1


def test_a_cell_gives_html_with_its_words_and_no_png(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        data, told = shell.display_formatter.format(drawn())
    finally:
        InteractiveShell.clear_instance()
    assert set(data) == {"text/plain", "text/html"} and 'alt="One cell is fatal. ' in data["text/html"]
    assert told["text/html"]["evidence"] == "compile-only, live" and data["text/plain"].startswith("One cell is fatal")

"""The schematics: readable at either width, and each says what its values say and something else with others."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers.compiler.report import Evidence
from helpers.workbook.schematics.accumulators import stack_of, sum_picture
from helpers.workbook.schematics.attention_tiles import NEVER, SKIPPED, WORK, Scene, tiles_picture
from helpers.workbook.schematics.drawing import NARROW, NEW, OLD, WIDE, Canvas, Picture, width_of, wrapped
from helpers.workbook.schematics.pipeline import pipeline_picture
from helpers.workbook.schematics.register_file import register_file_picture
from tests.workbook.schematic_examples import (
    CRASH,
    EXAMPLES,
    HALF,
    INCIDENT,
    SPILLS,
    compiled,
    fatal_accumulator,
    fatal_ptx,
)

SVG = "{http://www.w3.org/2000/svg}"
BOTH = pytest.mark.parametrize("width", [NARROW, WIDE])


@dataclass(frozen=True)
class Words:
    """A line of words in a drawing, and the rectangle that it may take."""

    text: str
    left: float
    right: float
    base: float
    size: float


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def words_in(svg: str) -> list[Words]:
    root = parsed(svg)
    common = float(re.search(r"font:([\d.]+)px", root.get("style", ""))[1])
    found = []
    for node in root.iter(f"{SVG}text"):
        size = float(node.get("font-size", common))
        wide = width_of(node.text, size, bold=node.get("font-weight") == "700", code="font-family" in node.attrib)
        x = float(node.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[node.get("text-anchor", "start")]
        found.append(Words(node.text, x, x + wide, float(node.get("y")), size))
    return found


def faults(svg: str) -> list[str]:
    """Words that leave the drawing, lie on one another or are too small; nothing for a drawing that can be read."""
    box = [float(part) for part in parsed(svg).get("viewBox").split()]
    said = words_in(svg)
    found = [f"{w.text!r} leaves the drawing" for w in said if w.left < -8 or w.right > box[2] + 8 or w.base > box[3]]
    found += [f"{w.text!r} is too small" for w in said if w.size < 11.5]
    for at, one in enumerate(said):
        for other in said[at + 1 :]:
            # Measured for a wide typeface: where two touch by a little there is still a gap.
            beside = one.right < other.left + 8 or other.right < one.left + 8
            if not beside and abs(one.base - other.base) < 0.8 * one.size:
                found.append(f"{one.text!r} lies on {other.text!r}")
    return found


def texts(picture: Picture, width: int = NARROW) -> str:
    """All words of a drawing, a line each."""
    return "\n".join(w.text for w in words_in(picture.svg(width)))


def boxes(picture: Picture, fill: str, width: int = NARROW) -> list[tuple[float, float]]:
    """(x, width) of the boxes in a colour."""
    rects = parsed(picture.svg(width)).iter(f"{SVG}rect")
    return [(float(r.get("x")), float(r.get("width"))) for r in rects if r.get("fill") == fill]


@BOTH
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schematic_can_be_read(name: str, width: int):
    svg = EXAMPLES[name]().svg(width)
    assert faults(svg) == []
    root = parsed(svg)
    assert root.get("role") == "img" and len(root.find(f"{SVG}desc").text) > 60
    assert root.find(f"{SVG}title").text in repr(EXAMPLES[name]())


@BOTH
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schematic_has_no_ink_of_its_own_on_the_page(name: str, width: int):
    """What lies on no box takes the page's colour: words in a fixed one would vanish on one of the two grounds."""
    root = parsed(EXAMPLES[name]().svg(width))
    rects = [[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in root.iter(f"{SVG}rect")]
    filled = [r for r, node in zip(rects, root.iter(f"{SVG}rect"), strict=True) if node.get("fill") != "none"]
    for node in root.iter(f"{SVG}text"):
        x, y = float(node.get("x")), float(node.get("y"))
        on_a_box = any(left < x < left + w and top < y <= top + h for left, top, w, h in filled)
        assert (node.get("fill") == "currentColor") != on_a_box, node.text


def test_a_page_shows_one_layout_of_two_and_text_the_words():
    picture = Picture("A <claim>", "What is seen.", lambda canvas: canvas.text(2, 14, f"{canvas.width} <wide>"))
    page = picture._repr_html_()
    assert page.count("<svg") == 2 and f"{NARROW} &lt;wide&gt;" in page and f"{WIDE} &lt;wide&gt;" in page
    assert '<div class="wide" style="display:none">' in page and "@container (min-width:700px)" in page
    assert "<title>A &lt;claim&gt;</title>" in page and repr(picture) == "A <claim>. What is seen."


def test_words_are_wrapped_at_the_width_and_never_lost():
    words = "one two three four five six"
    lines = wrapped(words, 60, 12)
    assert " ".join(lines) == words and len(lines) > 2
    assert all(width_of(line, 12) <= 60 for line in lines)
    assert wrapped("unbreakable", 5, 12) == ["unbreakable"] and wrapped("", 60, 12) == []


def test_a_faulty_drawing_is_found():
    def drawn(*said: tuple[float, float, str]) -> str:
        canvas = Canvas(NARROW)
        for x, y, words in said:
            canvas.text(x, y, words)
        return canvas.svg("t", "d")

    assert faults(drawn((2, 14, "left"), (200, 14, "right"))) == []
    assert faults(drawn((2, 14, "these words"), (30, 16, "lie on those")))
    assert faults(drawn((340, 14, "these words leave the drawing")))


def test_the_pipeline_ends_with_a_cross_where_the_compile_ended(tmp_path):
    text = tmp_path / "k.ttgir"
    text.write_text("a\nb\nc\n")
    died = pipeline_picture(Evidence(replace(CRASH.report, ttgir_path=str(text)), CRASH.source))
    assert "✕ C7600" in texts(died) and "never made" in texts(died) and "3 lines" in texts(died)
    assert "6,468 lines" in texts(died, WIDE) and "NVIDIA's ptxas 12.8.93" in texts(died, WIDE)
    assert died.title == "The kernel dies at the step of ptxas" and "The way ends at ptxas: dies (C7600)" in died.words
    lives = pipeline_picture(SPILLS)
    assert "✕" not in texts(lives) and "never made" not in texts(lives)
    assert lives.title == "Every step is made" and "255 registers, 684 B spill stores" in lives.words


def test_the_pipeline_knows_a_front_end_from_ptxas(tmp_path):
    report = replace(CRASH.report, status="frontend_error", ptxas_code=None, ptx_lines=None)
    none = pipeline_picture(Evidence(report, ""))
    assert "The way ends at Triton's front end" in none.words and "✕ frontend error" in texts(none)
    some = pipeline_picture(Evidence(replace(report, ttir_path=str(tmp_path / "gone"), llir_path="gone"), ""))
    assert "The way ends at LLVM" in some.words and "no text was kept" in some.words
    ended = (none, some, pipeline_picture(CRASH))
    crosses = [next(w.base for w in words_in(picture.svg()) if "✕" in w.text) for picture in ended]
    assert crosses == sorted(crosses) and len(set(crosses)) == 3


def test_the_register_file_is_divided_by_the_threads():
    plain = register_file_picture()
    for warps, share in ((4, 512), (8, 256), (16, 128)):
        assert f"{warps} warps: 65,536 / {warps * 32} threads = {share} each" in texts(plain)
    for said in ("one thread: 255 allowed, not 512", "one thread: 128 allowed"):
        assert said in texts(plain), said
    assert "8 bits, which makes 256 names" in plain.words and "ptxas took" not in plain.words
    assert len(boxes(plain, OLD)) == 2 + 1 + 1


def test_what_ptxas_took_is_told_beside_what_it_may():
    taken = [compiled(regs_per_thread=168), CRASH, compiled(regs_per_thread=64)]
    picture = register_file_picture((4, 8, 16), taken)
    assert picture.title == "ptxas takes less than it may: 168 of 255 with 4 warps, 64 of 128 with 16 warps"
    assert "255 allowed, ptxas took 168; 3 CTAs fit" in texts(picture) and "255 allowed, and ptxas died" in texts(
        picture
    )
    assert "64 x" not in texts(picture, WIDE).replace("512 x 64", "")
    other = register_file_picture((16,), [compiled(regs_per_thread=128)])
    assert "128 allowed, ptxas took 128; 1 CTA fit" in texts(other) and "less than it may" not in other.title


def test_the_limit_of_a_thread_is_longer_than_the_share_of_sixteen_warps():
    widths = [w for _, w in boxes(register_file_picture((8, 16)), "#D6E6F2") if w > 30]
    assert widths[0] / widths[1] == pytest.approx(255 / 128, rel=1e-3)


def test_the_drawing_of_the_sum_says_what_the_sum_says():
    picture = sum_picture({"the <incident>": INCIDENT, "half the rows": HALF})
    assert "128 registers and the new product 128, which is 1 more than the limit of 255" in picture.words
    assert "64 registers and the new product 64, which leaves 127 of 255" in picture.words
    assert picture.title == "Two accumulators do not fit in: the <incident>"
    assert sum_picture({"half": HALF}).title == "Two accumulators fit"
    drawn = picture.svg()
    assert "2 x 128 = 256" in drawn and "127 left for everything else" in drawn and "the <incident>" not in drawn
    old, new = boxes(picture, OLD), boxes(picture, NEW)
    limit = float(next(parsed(drawn).iter(f"{SVG}line")).get("x1"))
    ends = [x + width for x, width in new]
    assert ends[0] > limit > ends[1] and new[0][0] == pytest.approx(sum(old[0]), abs=0.01)


@pytest.mark.parametrize(
    "scene",
    [
        Scene(),
        Scene(prefix=100, new=70, block_m=32, block_n=16, window=40),
        Scene(prefix=64, new=33, block_m=8, block_n=64),
        Scene(prefix=20, new=8, block_m=4, block_n=1, window=5),
    ],
)
def test_the_tiles_drawn_are_those_of_the_mask(scene: Scene):
    keys = np.arange(scene.prefix + scene.new)
    rows = scene.rows()
    for block, row in enumerate(rows):
        queries = scene.prefix + np.arange(block * scene.block_m, min((block + 1) * scene.block_m, scene.new))
        seen = (keys[None, :] <= queries[:, None]) & (queries[:, None] <= keys[None, :] + scene.window - 1)
        starts = [*range(0, scene.prefix, scene.block_n)]
        stops = [min(s + scene.block_n, scene.prefix) for s in starts]
        ahead = [*range(scene.prefix, scene.prefix + scene.new, scene.block_n)]
        spans = [*zip(starts, stops, strict=True), *((s, s + scene.block_n) for s in ahead)]
        assert len(spans) == len(row)
        for (start, stop), state in zip(spans, row, strict=True):
            assert (state == WORK) == seen[:, start:stop].any(), (block, start, state)
            if state == NEVER:
                assert start - scene.prefix >= (block + 1) * scene.block_m


def test_the_drawing_of_the_tiles_counts_what_it_draws():
    picture, rows = tiles_picture(), Scene().rows()
    states = [state for row in rows for state in row]
    assert {WORK, SKIPPED, NEVER} == set(states)
    said = f"{states.count(WORK)} tiles are worked on, {states.count(SKIPPED)} are tested and skipped"
    assert said in picture.words
    assert picture.svg().count("<rect") == len(states) + 3
    assert f"{states.count(NEVER)} never visited" in texts(picture)
    few = tiles_picture(Scene(prefix=64, new=32, block_m=8, block_n=8, window=24))
    assert few.words != picture.words and "4 blocks of 8 queries" in few.words


def test_the_edges_of_the_window_are_where_the_mask_says():
    scene = Scene(prefix=100, new=70, block_m=32, block_n=16, window=40)
    edges = scene.edges()
    assert edges["window"] == [(61, 0), (130, 70)] and edges["causal"] == [(100, 0), (170, 70)]
    assert Scene(prefix=4, new=8, window=100).edges()["window"] == [(0, 0), (0, 8)]


def test_everything_a_thread_needs_is_stacked_by_the_lines_that_made_it():
    stack = stack_of(INCIDENT, fatal_ptx())
    held = {part.name: part.registers for part in stack.parts}
    assert stack.branch and stack.total == 579 and held["acc, the old accumulator"] == 128
    assert held["the new product, one load"] == 128 and held["q"] == 68 and held["the compiler's own"] == 108
    assert min(part.registers for part in stack.parts[:-1]) >= 8
    picture = fatal_accumulator()
    assert picture.title == "579 registers are needed where 255 are allowed"
    assert "32,768 / 256 = 128 numbers" in " ".join(texts(picture).split("\n")) and "68 q" in texts(picture)
    (old, new) = boxes(picture, OLD)[1], boxes(picture, NEW)[1]
    assert old[0] + old[1] == pytest.approx(new[0], abs=0.01)


def test_a_kernel_without_the_branch_has_one_part_beside_its_load():
    ptx = fatal_ptx().replace("@%p397 bra", "@%p397 call")
    stack = stack_of(replace(INCIDENT, accumulate="fused"), ptx)
    assert not stack.branch and [part.name for part in stack.parts] == ["acc, one load", "everything beside it"]
    with pytest.raises(ValueError, match="tensor memory"):
        stack_of(HALF, "nothing")

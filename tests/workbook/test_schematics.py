"""The schematics: readable at either width, and each says what its values say and something else with others."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
import pytest

from helpers.compiler.report import Evidence
from helpers.inspection.binary.sass_loops import LoopSpills
from helpers.inspection.ptx.graph import Block
from helpers.inspection.ptx.packs import repacked
from helpers.recorded import read_rows
from helpers.workbook.schematics.accumulators import stack_of, sum_picture
from helpers.workbook.schematics.attention_tiles import NEVER, SKIPPED, WORK, Scene, tiles_picture
from helpers.workbook.schematics.drawing import (
    IDLE,
    LOCAL,
    NARROW,
    NEW,
    OLD,
    WIDE,
    Canvas,
    Picture,
    width_of,
    wrapped,
)
from helpers.workbook.schematics.halved_tile import halved_tile_picture
from helpers.workbook.schematics.hand_over import hand_over_picture, roads_between
from helpers.workbook.schematics.loop_demand import as_run, binned, first_turn, loop_demand_picture
from helpers.workbook.schematics.packing import pack_picture, two_forms
from helpers.workbook.schematics.pipeline import pipeline_picture
from helpers.workbook.schematics.register_file import register_file_picture
from helpers.workbook.schematics.spill_path import Spilled, picture_of, spilled_by
from helpers.workbook.schematics.tensor_memory import sheet_of, tensor_memory_picture
from helpers.workbook.schematics.timeline import releases, timeline_picture
from helpers.workbook.schematics.two_lanes import computing, loading, two_lanes_picture
from tests.workbook.schematic_examples import (
    BUDGET,
    CRASH,
    EXAMPLES,
    HALF,
    INCIDENT,
    SPILLED,
    SPILLS,
    compiled,
    fatal_accumulator,
    fatal_ptx,
    loop_ptx,
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
    for layout in ("narrow", "wide"):
        assert f'<div class="{layout}" style="display:none"><svg' in page
    assert "@container (min-width:700px)" in page and '<p class="words">What is seen. (Run the cell' in page
    assert "<title>A &lt;claim&gt;</title>" in page and ">A &lt;claim&gt;</div>" in page
    assert repr(picture) == "A <claim>. What is seen."


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
    missing = [len(boxes(picture, "none")) for picture in (died, lives)]
    assert missing == [1, 0]
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
    assert picture.title == "Two accumulators do not fit into a thread's registers: the <incident>"
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


def test_half_the_rows_are_drawn_as_twice_the_blocks_and_the_keys_again():
    picture = halved_tile_picture(INCIDENT, HALF)
    assert picture.title == "2 blocks read what one block read"
    assert "32 blocks and read a key or value at most 32 times, or 64 blocks and read it 64 times" in picture.words
    assert "4,096 new tokens: 32 blocks, so at most 32 reads of a key" in texts(picture).replace("\n", " ")
    assert len(boxes(picture, OLD)) == 1 + 2 and len(boxes(picture, NEW)) == 3 * 4
    quarter = halved_tile_picture(replace(INCIDENT, tile="32x64"), INCIDENT, tokens=1_000)
    assert quarter.title == "4 blocks read what one block read" and "8 blocks and read a key" in quarter.words
    assert halved_tile_picture(HALF, HALF).title == "The same number of blocks"


def test_a_turn_of_the_loop_has_its_instructions_in_their_order_and_their_demand():
    turn = first_turn(loop_ptx(40, instructions=60))
    assert len(turn.demands) == 63 and turn.cap == 255 and 40 <= turn.highest <= 48 and turn.over == 0
    assert first_turn(loop_ptx(300)).over == 63
    for text in ("nothing", loop_ptx(40).replace("@%p1 bra $L1;", "")):
        with pytest.raises(ValueError, match=r"no (kernel|loop)"):
            first_turn(text)


def test_a_turn_begins_where_the_loop_is_entered_and_follows_the_run():
    """The compiler may write a block of the loop above the one that is entered, or behind the loop's end."""
    blocks = [Block(0, 1, [3]), Block(1, 2, [3, 4]), Block(2, 3, [1]), Block(3, 4, [2, 1]), Block(4, 5, [])]
    assert as_run(blocks, [1, 2, 3]) == [3, 2, 1]


def test_the_incidents_first_loop_is_over_the_limit_all_along():
    turn = first_turn(fatal_ptx())
    assert turn.highest == 582 and turn.over == len(turn.demands) > 1_000


def test_the_panels_tell_who_stays_under_the_limit():
    picture = loop_demand_picture({"few": loop_ptx(40), "many": loop_ptx(300)})
    assert picture.title == "Never over the limit: few"
    assert re.search(r"few: 4\d at most, over 255 at 0 of 63", picture.words)
    assert re.search(r"many: 30\d at most, over 255 at 63 of 63", picture.words)
    assert loop_demand_picture({"many": loop_ptx(300)}).title == "Each of them goes over the limit"


def test_bins_keep_the_highest():
    assert binned([1, 9, 2, 3, 8, 1], 3) == [9, 3, 8] and binned([1, 2], 3) == [1, 2]
    assert max(binned(range(1_000), 7)) == 999 and len(binned(range(1_000), 7)) == 7


def test_a_pack_is_shown_in_the_lines_of_its_ptx():
    forms = two_forms(fatal_ptx())
    lines = [" ".join(line.split()) for line in fatal_ptx().split("\n")]
    assert set(forms.four) <= set(lines) and forms.one not in lines
    assert [line.split(".")[0] for line in forms.four] == ["cvt", "cvt", "shl", "or"]
    assert forms.one == f"mov.b64 {forms.pack.result}, {{{forms.pack.low}, {forms.pack.high}}};"
    assert forms.pack.after_load == 1 and (forms.open_packs, forms.whole_packs) == (129, 3)
    picture = pack_picture(fatal_ptx())
    assert all(line in texts(picture) for line in (*forms.four, forms.one)) and "129 packs" in texts(picture)


def test_a_whole_pack_is_opened_for_the_picture():
    whole = repacked(fatal_ptx())
    forms = two_forms(whole)
    assert forms.one in [" ".join(line.split()) for line in whole.split("\n")]
    assert len(forms.four) == 4 and (forms.open_packs, forms.whole_packs) == (0, 132)
    with pytest.raises(ValueError, match="no pair"):
        two_forms("nothing")


def test_the_spills_of_a_compile_are_those_of_its_report_and_its_loops():
    known = compiled(regs_per_thread=255, spill_store_bytes=464, spill_load_bytes=416, stack_frame_bytes=384).report
    loops = LoopSpills(stores={0: 80, 1: 300, 2: 84}, loads={0: 44, 1: 372})
    assert spilled_by(known, loops) == SPILLED and SPILLED.a_turn == (384 + 372) * 256
    assert spilled_by(known, None).in_loops is None
    with pytest.raises(ValueError, match="C7600"):
        spilled_by(CRASH.report, loops)


def test_the_spill_path_says_bytes_in_all_and_a_turn():
    picture = picture_of(SPILLED)
    assert picture.title == "Each thread stores 464 B outside of its registers"
    assert "stored: 464 B" in texts(picture) and "loaded: 416 B" in texts(picture, WIDE)
    assert "on every turn of a loop, 756 of 880 B:" in texts(picture) and "193,536 B of a CTA" in picture.words
    (_, turn), (_, whole) = boxes(picture, LOCAL)[-1], boxes(picture, IDLE)[-1]
    assert turn / whole == pytest.approx(756 / 880, rel=1e-3)
    unknown = picture_of(replace(SPILLED, in_loops=None))
    assert "not known here" in unknown.words and "on every turn" not in texts(unknown)
    assert picture_of(Spilled(200, 256, 0, 0, 0, (0, 0))).title == "Nothing is spilled"


def test_the_sheet_has_the_chips_columns_and_the_ptxs_own_loads():
    sheet = sheet_of(INCIDENT, fatal_ptx(), (64,))
    assert (sheet.lanes, sheet.columns, sheet.widths) == (128, 512, (128, 64))
    assert (sheet.loads(128), sheet.loads(64), sheet.room(128), sheet.room(64)) == (1, 2, 127, 191)
    picture = tensor_memory_picture(INCIDENT, fatal_ptx(), (64,))
    assert "x128, 1 load: 128 adjacent registers, 127 left" in texts(picture)
    assert "x64, 2 loads: 64 adjacent registers, 191 left" in texts(picture)
    assert "H100 / H200, wgmma: no load" in texts(picture)
    (_, whole), (_, held) = boxes(picture, IDLE)[0], boxes(picture, OLD)[0]
    assert held / whole == pytest.approx(256 / 512, rel=1e-3)
    assert boxes(picture, NEW)[0][1] / whole == pytest.approx(128 / 512, rel=1e-3)


def test_a_chip_or_a_ptx_without_such_loads_has_no_sheet():
    for choice, ptx in ((replace(INCIDENT, arch="sm_90a", tile="128x64"), fatal_ptx()), (INCIDENT, "nothing")):
        with pytest.raises(ValueError, match="no load from tensor memory"):
            sheet_of(choice, ptx)
    narrow = fatal_ptx().replace(".32x32b.x128.", ".32x32b.x32.")
    assert sheet_of(INCIDENT, narrow).widths == (32,)


def test_the_timeline_has_the_recorded_verdicts_in_the_order_of_the_releases():
    matrix, remedies = read_rows("version_matrix"), read_rows("remedies")
    found = releases(matrix.iloc[::-1], remedies)
    assert [r.triton for r in found] == ["3.4.0", "3.5.0", "3.5.1", "3.6.0", "3.7.0", "3.7.1", "3.8.0", "3.9.0"]
    assert [r.triton for r in found if not r.lives] == ["3.5.0", "3.5.1", "3.6.0"]
    assert [r.merged[0] if r.merged else None for r in found][:5] == [None, "0 B", "0 B", "40 B", None]
    picture = timeline_picture(matrix, remedies)
    assert texts(picture).count("✕ C7600") == texts(picture, WIDE).count("✕ C7600") == 3
    assert "merged on 2026-04-10" in " ".join(texts(picture).split("\n")) and "1,296 B" in texts(picture)
    assert picture.title.startswith("Triton 3.5.0, 3.5.1, 3.6.0 kill the kernel")


def test_the_timeline_follows_its_rows_and_tells_no_report_of_other_releases():
    matrix, remedies = read_rows("version_matrix"), read_rows("remedies")
    matrix.loc[matrix["triton"] == "3.6.0", "status"] = "ok"
    picture = timeline_picture(matrix, remedies)
    assert picture.title.startswith("Triton 3.5.0, 3.5.1 kill the kernel; 3.4.0, 3.6.0")
    assert "sglang" not in texts(picture) and "Reports that fit 3.5.0, 3.5.1: none" in picture.words


def test_the_lanes_show_the_budget_and_give_the_tensor_cores_to_one_group_at_a_time():
    picture = two_lanes_picture(BUDGET)
    assert "4 loading warps, 72 registers a thread" in texts(picture)
    assert "group 2: 4 computing warps, 216 registers a thread" in texts(picture) and "group 3" not in texts(picture)
    assert "group 3" in texts(two_lanes_picture({**BUDGET, "computing warps": 12}))
    busy = [{b.start for b in computing(5, late) if b.fill == OLD} for late in (0, 1)]
    assert not busy[0] & busy[1] and len(busy[0]) == 5
    assert [b.words for b in computing(2, 0)] == ["S0", "soft 0", "S1 P0", "soft 1"]
    for box in computing(5, 0):
        if found := re.match(r"S(\d)", box.words):
            loaded = next(b for b in loading(6) if b.words.startswith(f"K{found[1]}"))
            assert loaded.start + loaded.length <= box.start, "scores before their keys are there"


def test_the_roads_are_the_recorded_cells_and_the_llvm_decides_between_them():
    crossing = read_rows("crossing")
    roads = roads_between(crossing, ("3.5.1", "3.7.1"))
    assert [(r.made, r.goes_on, r.lives) for r in roads] == [
        ("3.5.1", "3.5.1", False), ("3.5.1", "3.7.1", True), ("3.7.1", "3.5.1", False), ("3.7.1", "3.7.1", True),
    ]  # fmt: skip
    picture = hand_over_picture(crossing, "3.5.1", "3.7.1")
    assert picture.title == "The end of the road changes with the LLVM"
    assert (
        texts(picture).count("✕ C7600") == 2
        and "LLIR of Triton 3.5.1, LLVM of 3.7.1, ptxas 13.1.80: 2,312 B." in picture.words
    )
    # The LLIR of 3.4.0 lives with the LLVM that kills the one of 3.5.1.
    assert hand_over_picture(crossing, "3.4.0", "3.5.1").title == "The LLVM alone does not decide"
    with pytest.raises(LookupError, match=r"no LLIR of Triton 3\.5\.1 was handed to 2\.0"):
        roads_between(crossing, ("3.5.1", "2.0"))

"""How figures and tables come out of a cell: their source is read from their words, tables escape and align."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.show.display import evidence_label, figure_metadata, table_html


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("sm_100a, Triton 3.5.1, compile-time, live", "compile-only, live"),
        ("sm_100a, compile-time, 3 live and 2 recorded", "compile-only, live, recorded"),
        ("bf16, 32/16 heads; H200, recorded", "recorded"),
        ("live on this machine's H200", "live"),
        ("live, compiled on this machine (no GPU involved)", "compile-only, live"),
        ("the values alive at once, unrecorded, delivered", ""),
    ],
)
def test_the_label_is_what_the_words_say(words: str, label: str):
    assert evidence_label(words) == label


def test_a_figure_with_a_claim_carries_words_and_source():
    import matplotlib.pyplot as plt

    from helpers.show.style import claim

    figure, axes = plt.subplots()
    assert figure_metadata(figure) == {}
    claim(axes, "One cell is fatal", "sm_100a,\ncompile-time, live")
    plt.close(figure)
    assert figure_metadata(figure) == {
        "alt": "One cell is fatal. sm_100a, compile-time, live",
        "evidence": "compile-only, live",
    }


def test_a_table_has_words_left_numbers_right_and_a_dash_for_nothing():
    table = pd.DataFrame(
        {"kv_dtype": ["<fp8>", None], "spill_store_bytes": pd.array([12288, None], "Int64"), "same": [True, False],
         "error": [0.00123456, 7.5]}
    )  # fmt: skip
    shown = table_html(table)
    assert '<th class="t h">kv dtype</th><th class="n h">spill store bytes</th>' in shown
    assert (
        '<td class="t">&lt;fp8&gt;</td><td class="n">12,288</td><td class="t">yes</td><td class="n">0.00123</td>'
        in shown
    )
    assert '<td class="t">–</td><td class="n">–</td><td class="t">no</td><td class="n">7.5</td>' in shown
    assert "<script" not in shown


def test_an_index_with_names_is_a_column_and_a_plain_one_is_not_shown():
    plain = table_html(pd.DataFrame({"a": [7]}))
    assert plain.count("<td") == 1
    named = table_html(pd.DataFrame({"a": [7]}, index=pd.Index(["cache alone"], name="variant")))
    assert '<th class="t h">variant</th>' in named and "cache alone" in named
    wide = pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples([("TFLOP/s", "lean")]))
    assert "TFLOP/s lean" in table_html(wide)


def test_opcodes_break_after_a_dot_and_long_headings_have_room():
    shown = table_html(
        pd.DataFrame({"opcode": ["tcgen05.ld.sync.x128", "rc.more"], "registers that one thread has": 7})
    )
    assert "tcgen05.<wbr>ld.<wbr>sync.<wbr>x128<" in shown and ">rc.more<" in shown
    assert '<th class="n h l">registers that one thread has</th>' in shown and '<th class="c h">opcode</th>' in shown


def test_a_long_table_scrolls_and_a_very_long_one_says_how_much_is_left_out():
    assert "scrolls" in table_html(pd.DataFrame({"a": range(60)})) and "scrolls" not in table_html(
        pd.DataFrame({"a": [1]})
    )
    with pd.option_context("display.max_rows", 80):
        assert "The first 80 of 99 rows." in table_html(pd.DataFrame({"a": range(99)}))

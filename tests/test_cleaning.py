"""A stranger's characters on their way to a terminal and to HTML."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest

from helpers.cleaning import for_html, for_terminal

PLANTED = (
    "\x1b[31m \x1b]0;title\x07 \x9b1m \x08 \x7f \x85 \u202e \u2066 \u200b \u200d \ufeff \u2028 \ud800 \U000e0041 \u3164"
)


def test_what_moves_a_cursor_turns_a_text_or_is_not_seen_is_replaced():
    shown = for_terminal(PLANTED)
    assert all(c.isprintable() for c in shown) and "[31m" in shown and "title" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e\u2066\u200b\ufeff\u3164\ud800")
    assert for_terminal("a\x1bb") == "a\ufffdb" and for_terminal("a\u202fb\rc") == "a b c"


def test_of_all_characters_only_what_can_be_seen_stays():
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    bad = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [
        hex(ord(c)) for c in every if c not in "\n\t" and unicodedata.category(c) in bad and c in for_terminal(c)
    ]
    assert for_terminal("Grüße, 漢字, עברית, × – … →\n\tend") == "Grüße, 漢字, עברית, × – … →\n\tend"


@pytest.mark.parametrize("text", ["<script>", "\" onload='x'", "&lt;"])
def test_html_is_escaped_after_it_was_cleaned(text):
    shown = for_html(text + "\u202e\x1b")
    assert not set(shown) & set("<>\"'\u202e\x1b") and "&" in shown


def test_a_hundred_megabytes_of_log_take_no_time():
    text = "an ordinary line of a log\n" * 400_000 + "\x1b" * 100_000
    began = time.perf_counter()
    assert len(for_terminal(text)) == len(text)
    assert time.perf_counter() - began < 2

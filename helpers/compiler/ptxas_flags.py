"""Flags for ptxas that anybody may have written: none may name a file, because ptxas would read it, or write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from helpers.errors import UserError

# Options whose value is a file, or the PTX itself. ptxas 12.8 to 13.1 takes each as `-name=value` (in quotes, too) and
# `-name value`, and no short form of it, no capital letters and no `@file`: tried with each release at hand.
_OF_FILES = ("--options-file", "-optf", "--output-file", "-o", "--input-as-string", "-ias")
_VALUE = re.compile(r"[A-Za-z0-9_.,$%-]{1,200}")


def flag_words(flags: Iterable[str]) -> tuple[str, ...]:
    """The words of flags, each of which may be several: ptxas takes `-O 1` as two."""
    return tuple(word for flag in flags for word in flag.split())


def names_a_file(words: Sequence[str]) -> str | None:
    """The first word that ptxas would take for a file, or for an option with one; None where there is none.

    A file of another folder cannot be named without a slash, and ptxas runs in a folder of its own.
    """
    for word in words:
        if word.partition("=")[0] in _OF_FILES or "/" in word:
            return word
        if not word.startswith("-") and not _VALUE.fullmatch(word):  # an @file of other compilers, quotes
            return word
    return None


def checked_flags(flags: Iterable[str], what: str = "the ptxas flag") -> tuple[str, ...]:
    """The words of flags that somebody typed or a spec holds; raises UserError, which begins with `what`."""
    words = flag_words(flags)
    if (bad := names_a_file(words)) is not None:
        raise UserError(
            f"{what} {bad[:80]!r} names a file, which ptxas would read or write; flags that change the code are taken, "
            "such as -O1 or --maxrregcount=128"
        )
    return words

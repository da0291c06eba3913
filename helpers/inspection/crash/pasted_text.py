"""What people paste, made readable: colours, quoting and escapes removed, line breaks put back, size bounded.

The text is a stranger's: it may be megabytes long, binary, cut off, or one line. Nothing here raises on any text,
nothing in it is opened or run, and every pattern is linear: each repetition is bounded, and a run of one character is
entered at its start only.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

__all__ = ["MAX_CHARS", "CleanText", "clean_text", "ptx_block"]

# A little over what the command line reads of a file, so that one text is cut once.
MAX_CHARS = 20_001_000
# A PTX of Triton has half a megabyte at most here; lines of it under 1,000 characters.
MAX_PTX_CHARS = 8_000_000
# Longer lines hold no more than their marked places; what is kept of each piece is bounded where it is read.
_ANSI = re.compile(r"\x1b(?:\[[0-9;:?<=>]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,500}(?:\x07|\x1b\\)|[@-Z\\^_])")
# What is left of a colour when the escape character itself was lost on the way: "[0;31m".
_BARE_ANSI = re.compile(r"\[[0-9]{1,3}(?:;[0-9]{1,3}){0,4}m")
_TAGS = re.compile(r"</?(?:span|pre|code|div|p|td|tr|li|b|i|em|strong|font|a)(?: [^<>\n]{0,300})?>", re.IGNORECASE)
_BREAKS = re.compile(r"<br ?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:quot|apos|lt|gt|amp|nbsp|#[0-9]{2,4}|#x[0-9a-fA-F]{2,4});")
# A log inside JSON or a repr() has its line breaks as two characters.
_ESCAPED_BREAK = re.compile(r"\\n(?:`?ptxas|  ?File|Repro command|Traceback|triton\.)")
_PLAIN = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u200b": None, "\ufeff": None, "\u2028": "\n",
     "\u2029": "\n", "\x0b": "\n", "\x0c": "\n", "\x85": "\n"}
)  # fmt: skip
_SPEAKS = r"ptxas[\w.-]{0,24} {1,8}(?:info|warning|error|fatal) {0,8}:"
_COMPLAINS = r"ptxas[\w.-]{0,24} [^\n;]{1,300}, line [0-9]{1,9}; {0,4}(?:info|warning|error|fatal)"
# Where a new line begins in a text whose breaks were lost; harmless where they were not.
_MARKS = re.compile(
    rf"(?<![\w./\\-])(?={_SPEAKS}|{_COMPLAINS})|(?=Repro command:)|(?=`ptxas` stderr:)"
    r"|(?=File \"[^\"\n]{1,500}\", line )|(?=Traceback \(most recent)|(?<!=)(?=={32})"
    r"|(?=please share the reproducer above)",
    re.ASCII,
)
_CUT_WORDS = "the log has {total:,} characters: the first and last {half:,} were read, {gone:,} between them were not"


@dataclass(frozen=True)
class CleanText:
    """The readable text, and sentences about what was cut or changed on the way."""

    text: str
    notes: tuple[str, ...] = ()
    binary: bool = False


def clean_text(text: str, *, max_chars: int = MAX_CHARS) -> CleanText:
    """`text` without colours, HTML, quoting marks of chat programs and CRs; marked places begin a line of their own.

    Of a text longer than `max_chars` the first and the last half are read, which the notes say.
    """
    notes: list[str] = []
    if len(text) > max_chars:
        half = max_chars // 2
        notes.append(_CUT_WORDS.format(total=len(text), half=half, gone=len(text) - 2 * half))
        text = text[:half] + "\n" + text[len(text) - half :]
    if _is_binary(text):
        notes.append("this is binary data, not text")
        return CleanText("", tuple(notes), binary=True)
    if "\x1b" in text:
        text = _ANSI.sub("", text)
        notes.append("colour codes removed")
    if _BARE_ANSI.search(text):
        text = _BARE_ANSI.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _ENTITY.search(text):
        text = html.unescape(_BREAKS.sub("\n", text))
        notes.append("HTML escapes undone")
    if "</" in text:
        text = _TAGS.sub("", text)
    if _ESCAPED_BREAK.search(text):
        text = text.replace("\\n", "\n").replace('\\"', '"').replace("\\'", "'")
        notes.append("line breaks written as \\n put back")
    text = text.translate(_PLAIN).replace("\x00", "")
    return CleanText(_MARKS.sub("\n", text), tuple(notes))


def _is_binary(text: str) -> bool:
    """Whether more than a tenth of a sample is control characters or undecodable."""
    sample = text[:20_000] + text[len(text) // 2 : len(text) // 2 + 20_000]
    odd = sum(c < "\t" or "\r" < c < "\x1b" or c == "\ufffd" for c in sample)
    return odd * 10 > len(sample)


# --- the PTX that Triton prints ---------------------------------------------------------------------------

_VERSION_LINE = re.compile(r"(?m)^([^\n]{0,200}?)(?<![\w.])\.version[ \t]{1,8}[0-9]{1,2}\.[0-9]{1,2}[ \t]{0,8}$")
_END = re.compile(r"(?m)^[^\n]{0,200}?(?:={32}|please share the reproducer|Traceback \(most recent)")
_DIGITS = str.maketrans("123456789", "000000000")


def ptx_block(text: str) -> tuple[str, bool] | None:
    """(the first PTX module in a text, whether its end is missing), log prefixes in front of its lines removed.

    `text` is what `clean_text` made. None where there is none; a module begins at `.version`.
    """
    start = _VERSION_LINE.search(text) if ".version" in text else None
    if start is None or ".target" not in text[start.end() : start.end() + 2_000]:
        return None
    prefix = start[1]
    block = text[start.start() : start.start() + MAX_PTX_CHARS]
    # The frame's closing line, not the opening one in front of it.
    end = _END.search(block)
    block = block[: end.start()] if end else block
    if prefix:
        shape, width = prefix.translate(_DIGITS), len(prefix)
        bare = shape.rstrip()
        lines = []
        for line in block.split("\n"):
            head = line[:width].translate(_DIGITS)
            # An empty line of a log often lost the blank at the end of its prefix.
            lines.append(line[width:] if head == shape or head.rstrip() == bare else line)
        block = "\n".join(lines)
    closed = end is not None or block.count("{") == block.count("}") > 0
    return block.strip("\n") + "\n", not closed

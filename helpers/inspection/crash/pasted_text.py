"""What people paste, made readable: colours, quoting and escapes removed, line breaks put back, size bounded.

The text is a stranger's: it may be megabytes long, binary, cut off, or one line. Nothing here raises on any text,
nothing in it is opened or run, and every pattern is linear: each repetition is bounded, and a run of one character is
entered at its start only.
"""

from __future__ import annotations

import bisect
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = [
    "MAX_CHARS",
    "CleanText",
    "FlatText",
    "bare_lines",
    "clean_text",
    "decode_log",
    "flat_text",
    "near",
    "near_any",
    "ptx_block",
]

# A little over what the command line reads of a file, so that one text is cut once.
MAX_CHARS = 20_001_000
# A PTX of Triton has half a megabyte at most here; lines of it under 1,000 characters.
MAX_PTX_CHARS = 8_000_000
# Longer lines hold no more than their marked places; what is kept of each piece is bounded where it is read.
_ANSI = re.compile(r"\x1b(?:\[[0-9;:?<=>]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,500}(?:\x07|\x1b\\)|[@-Z\\^_])")
# What is left of a colour when the escape character itself was lost on the way: "[0;31m".
_BARE_ANSI = re.compile(r"\[[0-9]{1,3}(?:;[0-9]{1,3}){0,4}m")
_TAGS = re.compile(r"</?(?:span|pre|code|div|p|td|tr|li|b|i|em|strong|font|a)(?: [^<>\n]{0,300})?>", re.IGNORECASE)
_BREAKS = re.compile(r"<br ?/?>\n?", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:quot|apos|lt|gt|amp|nbsp|#[0-9]{2,4}|#x[0-9a-fA-F]{2,4});")
# A log inside JSON or a repr() has its line breaks as two characters.
_ESCAPED_BREAK = re.compile(
    r"(?<!\\)\\n(?:`?ptxas|  ?File|Repro command|Traceback|triton\.|Required|Reducing|LLVM ERROR|UNREACHABLE|nvcc |"
    r"module |"
    r"error:|OutOf|No valid|please share|[\w./-]{1,200}:[0-9]{1,7}:[0-9]{1,5}: error)"
)
# Not the `\n` of a Windows path such as C:\temp\new\file.
_BREAK = re.compile(r"(?<!\\)\\n(?!vidia[\\/])(?![\w.-]{1,60}\\(?!n))")
_TAB = re.compile(r"(?<!\\)\\t(?=[\[ .]|\d)")
# A line of JSON longer than this is read as text.
MAX_JSON_CHARS = 2_000_000
_DRIVE = re.compile(r"(?<![A-Za-z])[A-Za-z]:\\")
_ESCAPED_ANSI = re.compile(r"\\(?:x1[bB]|u001[bB]|033|e)\[[0-9;]{0,20}m")
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
_MARK_WORDS = ("ptxas", "Repro command:", 'File "', "Traceback (most recent", "=" * 32, "please share the")
_CUT_WORDS = "the log has {total:,} characters: the first and last {half:,} were read, {gone:,} between them were not"


@dataclass(frozen=True)
class CleanText:
    """The readable text, and sentences about what was cut or changed on the way."""

    text: str
    notes: tuple[str, ...] = ()
    binary: bool = False


def decode_log(data: bytes) -> str:
    """A log file's bytes as text: UTF-8, or UTF-16 where it says so (as PowerShell writes); nothing raises."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8", errors="replace")


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
    if '{"' in text or "\\n" in text:
        text = "\n".join(map(_of_json, text.split("\n")))
    if "\x1b" in text:
        text = _ANSI.sub("", text)
        notes.append("colour codes removed")
    if "\\" in text and _ESCAPED_ANSI.search(text):
        text = _ESCAPED_ANSI.sub("", text)
    if _BARE_ANSI.search(text):
        text = _BARE_ANSI.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "<br" in text or "<BR" in text:
        text = _BREAKS.sub("\n", text)
    if _ENTITY.search(text):
        text = html.unescape(text)
        notes.append("HTML escapes undone")
    if "</" in text:
        text = _TAGS.sub("", text)
    if _ESCAPED_BREAK.search(text) or ("\\n" in text and any(map(_has_breaks, text.split("\n")))):
        text = _TAB.sub("\t", _BREAK.sub("\n", text)).replace('\\"', '"').replace("\\'", "'").replace("\\\\", "\\")
        notes.append("line breaks written as \\n put back")
    text = text.translate(_PLAIN).replace("\x00", "")
    text = _join_places(text)
    # A search for plain words first: few lines have one.
    marked = (_MARKS.sub("\n", line) if any(w in line for w in _MARK_WORDS) else line for line in text.split("\n"))
    return CleanText("\n".join(marked), tuple(notes))


def _has_breaks(line: str) -> bool:
    """Whether a line has line breaks written as two characters, and they are no part of a Windows path."""
    if "\\n" not in line:
        return False
    count = _BREAK.subn("", line)[1]
    return count > 2 or (count > 0 and ("ptxas" in line or "error" in line) and not _DRIVE.search(line))


_PLACE_GIVEN = re.compile(r", line [0-9]{1,9}; {0,4}$")
_SEVERITY = re.compile(r"(?:info|warning|error|fatal) {0,8}:")
_PLACE_CUT = re.compile(r"(?:line [0-9]{1,9}; {0,4}|^(?:[^\n;]{0,80}[ :\]])?)(?:info|warning|error|fatal) {0,8}:")


def _join_places(text: str) -> str:
    """Lines that a terminal broke inside `ptxas FILE, line N; error`, in one piece again."""
    if ";" not in text or "ptxas" not in text:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        m = _PLACE_CUT.search(line[:300]) if ":" in line and lines and "ptxas" in lines[-1] else None
        if m and "ptxas" not in line[: m.end()] and _waits_for_place(lines[-1], m[0].startswith("line ")):
            lines[-1] = f"{lines[-1].rstrip()} {line[m.start() if lines[-1].rstrip().endswith(',') else 0 :].lstrip()}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _waits_for_place(line: str, place_follows: bool) -> bool:
    """Whether ptxas began to name a file (or the place in it) at the end of a line, and nothing yet of what it says."""
    at = line.rfind("ptxas")
    if at < 0 or len(line) - at > 300 or _SEVERITY.search(line, at):
        return False
    return place_follows or _PLACE_GIVEN.search(line, at) is not None


def _of_json(line: str) -> str:
    """The strings in a line that is a JSON object or string, each on lines of its own; any other line as it is."""
    start = line.find('{"', 0, 200) if line.rstrip().endswith("}") else -1
    if start < 0:
        bare = line.strip()
        if not (len(bare) > 2 and bare[0] == bare[-1] == '"' and "\\n" in bare):
            return line
        start = line.index('"')
    if len(line) > MAX_JSON_CHARS:
        return line
    try:
        return "\n".join(_strings(json.loads(line[start:])))
    except (ValueError, RecursionError):
        return line


# Fields that hold a log's own words, and those that name a version or a chip.
_WORDS_FIELD = re.compile(r"(?i)^(?:msg|message|log|text|textpayload|line|error|err|exception|exc_info|stack|"
                          r"stack_trace|traceback|body|stderr|stdout|"
                          r"output|detail|details|content|event|reason)$")  # fmt: skip
_FACT_FIELD = re.compile(r"(?i)triton|torch|ptxas|cuda|arch|gpu|num_warps|python|kernel")


def _strings(value: object, name: str = "") -> Iterator[str]:
    """The strings of a JSON value in order: a log's words as they are, a named fact with its name, nothing else."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(part, str(key))
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, name)
    elif isinstance(value, str) and (not name or _WORDS_FIELD.match(name) or (len(value) > 40 and " " in value)):
        yield value
    elif isinstance(value, str | int) and _FACT_FIELD.search(name):
        yield f"{name}: {value}"


# --- log prefixes -----------------------------------------------------------------------------------------

# What loggers, launchers and containers put in front of a line; several may stand one behind the other.
_PREFIX = re.compile(
    r"(?:"
    r"(?<![\w.-])[A-Za-z][\w.-]{0,60} {1,8}\| ?"
    r"|\[?(?:[Rr]ank|default)[ _-]?[0-9]{1,4}\]?:?(?=[\s\[(]) ?|std(?:err|out) [FP] "
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[.,0-9]{0,12}(?:Z|[+-][0-9]{2}:?[0-9]{2})?:? ?"
    r"|\[?[0-9]{2}:[0-9]{2}:[0-9]{2}[.,0-9]{0,10}\]?:? "
    r"|\([A-Za-z_][\w ]{0,60}pid=[0-9]{1,9}[^)\n]{0,40}\) ?"
    r"|(?:ERROR|WARNING|INFO|WARN|DEBUG|CRITICAL|stderr|stdout)[ :]{1,3}(?:[0-9]{2}-[0-9]{2} [0-9:.]{8,16} )?"
    r"|\[[\w./-]{1,80}:[0-9]{1,6}\] ?"
    r"|[EWIF][0-9]{4} [0-9:.]{8,18} +[0-9]{1,9} [\w./-]{1,160}:[0-9]{1,6}\] ?(?:\[[0-9]{1,5}/[0-9]{1,5}\] ?)?"
    r"|#[0-9]{1,4} [0-9]{1,6}\.[0-9]{1,4} |[0-9]{1,5}\.[0-9]{1,4} {2,4}"
    r"|E {3,12}|> ?"
    r"){1,6}"
)


_INNER_PREFIX = re.compile(
    r"\[(?:rank|default)[0-9]{1,4}\]:(?: |$)|\([A-Za-z_][\w ]{0,60} pid=[0-9]{1,9}\) (?:ERROR|WARNING|INFO) "
    r"[0-9]{2}-[0-9]{2} [0-9:]{8} "
    r"\[[\w./-]{1,80}:[0-9]{1,6}\] ?"
)


def bare_lines(text: str) -> list[str]:
    """The lines of a cleaned text without what a logger, a launcher, a container or a mail put in front of them."""
    lines = text.split("\n")
    bare = [line[m.end() :] if (m := _PREFIX.match(line, 0, 400)) else line for line in lines]
    # Where line breaks were lost, a prefix stands in the middle.
    return [_INNER_PREFIX.sub("", line) if "[rank" in line or " pid=" in line else line for line in bare]


@dataclass(frozen=True)
class FlatText:
    """A text as one line with single blanks, so that a pattern finds what a terminal or a chat broke in two."""

    text: str
    starts: tuple[int, ...]

    def line_of(self, at: int) -> int:
        """The number (from 0) of the line that position `at` of `text` came from."""
        return max(0, bisect.bisect_right(self.starts, at) - 1)


def flat_text(lines: Iterable[str]) -> FlatText:
    """The lines one behind the other, each run of blanks as one."""
    parts, starts, at = [], [], 0
    for line in lines:
        starts.append(at)
        words = " ".join(line.split())
        if words:
            parts.append(words)
            at += len(words) + 1
    return FlatText(" ".join(parts), tuple(starts))


MAX_NEAR = 3_000


def near(
    pattern: re.Pattern[str], text: str, word: str, *, before: int = 600, after: int = 1_600
) -> Iterator[re.Match[str]]:
    """The matches of `pattern` around each place where the plain `word` stands; their positions are those of `text`.

    A search for a word is many times faster than one for a pattern, and a pattern sees a bounded piece of the text. A
    match has to begin or end beside the word; with `before` 0 it begins with it. At most `MAX_NEAR` places are tried.
    """
    at, last = text.find(word), -1
    for _ in range(MAX_NEAR):
        if at < 0:
            return
        start, end = max(last, at - before, 0), at + len(word) + after
        if not before:
            first = pattern.match(text, at, end)
            found: Iterable[re.Match[str]] = (first,) if first else ()
        else:
            found = pattern.finditer(text, start, end)
        for m in found:
            if m.start() > at:
                break
            if m.end() > at:
                yield m
                last = m.end()
                break
        at = text.find(word, max(at + len(word), last))


def near_any(
    pattern: re.Pattern[str], text: str, words: Iterable[str], *, before: int = 600, after: int = 1_600
) -> list[re.Match[str]]:
    """The matches of `pattern` around each of several plain words, in the order of the text, each once."""
    found = {m.start(): m for word in words for m in near(pattern, text, word, before=before, after=after)}
    return [found[at] for at in sorted(found)]


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

"""Scrubber: home folders, user and host names and absolute paths out of any text, PTX debug bytes included.

What it puts in their place is stable: the same folder is the same `FOLDER1` in every text one Scrubber has seen. In
code (PTX, MLIR, Python) only comments, strings and byte strings are touched, so that what the code does stays.
"""

from __future__ import annotations

import getpass
import io
import os
import re
import socket
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# Names that tell nobody apart, or that are words of what is scrubbed: left alone where they stand by themselves.
_COMMON = frozenset(
    "root user users ubuntu debian admin administrator runner docker jovyan nobody guest test tester home work app dev "
    "data local localhost localdomain build builder ci main python triton cuda nvidia torch kernel ptxas gpu cpu node "
    "host default code src opt var tmp usr bin lib share max min add mul load store ptx log spec report table status "
    "register registers memory name path program file files shared global warps result message version versions notes "
    "expected command none".split()
)
_MIN_NAME = 3
_PART = r"""[^\s"'`<>|*?:;,(){}\[\]\\/\x00]{1,255}"""
# An absolute path of two parts or more. Not: the rest of a relative path, of a URL, of a division; but also after -I.
_PATH = re.compile(rf"(?:(?<![\w./~$>+*)\]\\-])|(?<=file://)|(?<=[ \t\"']-[ILo]))/{_PART}(?:/{_PART}){{1,64}}/?")
_QUOTED = re.compile(r"""(["'])(/[^"'\n;]{2,8000})\1""")
_WINDOWS = re.compile(r"(?<![A-Za-z])[A-Za-z]:(?:\\{1,2}[^\s\"'<>|*?:\\/]{1,255}){1,64}")
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:\\{1,2}Users)[/\\]{1,2}([^\s\"'`<>|*?:;,()\[\]{}/\\]{1,64})")
_MAIL = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@([\w-]{1,63}(?:\.[\w-]{1,63}){0,8})(?![\w@])", re.ASCII)
_KEPT = frozenset({"/bin/sh", "/usr/bin/env", "/dev/null"})
# A last part worth keeping: a file with an ending, or a program of the tool chain.
_FILE_NAME = re.compile(
    r"[^/]{0,200}\.[A-Za-z0-9]{1,8}|ptxas(?:-[a-z]{1,20})?|python[0-9.]{0,5}|nvcc|nvdisasm|cuobjdump"
)
_PACKAGES = re.compile(r"/(?:site-packages|dist-packages|triton-[0-9.]{1,20}-cp[0-9]{2,4})/")
# PTX and MLIR: comments and strings. An unclosed comment reaches to the end, as it does for ptxas.
_SPOKEN = re.compile(r'//[^\n]*|/\*.*?(?:\*/|\Z)|"[^"\n]*"', re.DOTALL)
_BYTE_LINE = re.compile(r"^([ \t]*\.(?:b8|byte)[ \t]+)([0-9a-fA-Fx, \t]+?)([ \t]*(?://[^\n]*)?)$", re.MULTILINE)
_BYTE_ARRAY = re.compile(
    r"\.b8[ \t]+[\w$%]{1,400}[ \t]*\[[^\]\n]{0,40}\][ \t]*=[ \t]*\{([0-9a-fA-Fx, \t\n]*)\}", re.ASCII
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,2}(?![0-9a-fA-F])|[0-9]{1,3}(?![0-9])")
_RUN = re.compile(r"[\x20-\x7e\x80-\xff]{3,}")


@dataclass(frozen=True)
class Identity:
    """What names a machine and its user: home folders, user names, host names."""

    homes: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """User and host names that tell somebody apart, the longest first."""
        found = {n for n in (*self.users, *self.hosts) if len(n) >= _MIN_NAME and n.lower() not in _COMMON}
        return tuple(sorted(found, key=lambda n: (-len(n), n)))


def this_machine() -> Identity:
    """The identity of this machine and of the user this process runs as; nothing where the system does not say."""
    homes, users, hosts = [], [], []
    for ask in (lambda: str(Path.home()), lambda: str(Path.home().resolve()), lambda: os.environ.get("HOME", "")):
        homes.append(_asked(ask))
    for ask in (getpass.getuser, lambda: os.environ.get("USER", ""), lambda: os.environ.get("LOGNAME", "")):
        users.append(_asked(ask))
    for ask in (socket.gethostname, lambda: os.uname().nodename, lambda: os.environ.get("HOSTNAME", "")):
        hosts += [name := _asked(ask), name.partition(".")[0]]
    # A home of "/" or "" names nobody, and replacing it would replace everything.
    return Identity(
        tuple(dict.fromkeys(h for h in homes if len(h) > 1)),
        tuple(dict.fromkeys(filter(None, users))),
        tuple(dict.fromkeys(filter(None, hosts))),
    )


def _asked(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (OSError, KeyError, RuntimeError, ImportError):  # no such user, no home
        return ""


class Scrubber:
    """Replaces what is private in texts: `FOLDER1/name`, `SITE_PACKAGES/…`, `USER`, `HOST`, `EMAIL`, `WITHHELD`.

    `withheld` are further words (a proprietary kernel's names) that must not stand in prose. User names that a text
    gives away (`/home/NAME`) are remembered and replaced from then on, so learn from every text before the first.
    """

    def __init__(self, identity: Identity | None = None, *, withheld: Iterable[str] = ()) -> None:
        self.identity = this_machine() if identity is None else identity
        told = {w for w in withheld if len(w) >= _MIN_NAME and w.lower() not in _COMMON}
        self.withheld = tuple(sorted(told, key=lambda w: (-len(w), w)))
        self._folders: dict[str, int] = {}
        self._users = list(self.identity.users)
        self._compile_names()

    def _compile_names(self) -> None:
        names = Identity((), tuple(self._users), self.identity.hosts).names()
        hosts = {n.lower() for n in self.identity.hosts}
        self._word = {n.lower(): "HOST" if n.lower() in hosts else "USER" for n in names}
        self._word |= {_as_latin(n).lower(): word for n, word in list(self._word.items())}
        self._names = _any_of(self._word, r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])")
        self._withheld = _any_of(self.withheld, r"(?<![A-Za-z0-9_])(?:{})(?![A-Za-z0-9_])")

    def learn(self, text: str) -> None:
        """Remember the users whose home folders `text` names."""
        found = {m[1] for m in _HOME.finditer(text)} - set(self._users)
        if found:
            self._users += sorted(found)
            self._compile_names()

    def text(self, text: str) -> str:
        """Any prose, log or command line, scrubbed; byte strings of PTX in it as well."""
        self.learn(text)
        return self._bytes(self._prose(text))

    def code(self, text: str) -> str:
        """PTX or MLIR, scrubbed in its comments, strings and byte strings only."""
        self.learn(text)
        return self._bytes(self._homes(_SPOKEN.sub(lambda m: self._prose(m[0]), text)))

    def python(self, text: str) -> str:
        """Python source, scrubbed in its comments and strings only; all over where it is no Python."""
        self.learn(text)
        lines = text.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        out, at = [], 0
        try:
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.COMMENT or tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE"):
                    begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
                    out += [text[at:begin], self._prose(text[begin:end])]
                    at = end
        except (tokenize.TokenError, SyntaxError, ValueError, IndexError, RecursionError):
            return self._prose(text)
        return self._homes("".join([*out, text[at:]]))

    def remains(self, name: str, content: bytes) -> list[str]:
        """What still names this machine or its user in a file of a bundle; empty when nothing does.

        Looks at the bytes as they are, not at what scrubbing would do: for home folders anywhere, for names as words
        in prose and in PTX byte strings (in code a name may be an identifier of its own), for withheld words anywhere.
        """
        text = content.decode("latin-1")
        hidden = "\n".join(_byte_strings(text))
        found = []
        for home in self.identity.homes:
            if re.search(re.escape(_as_latin(home)) + r"(?![A-Za-z0-9_])", text + "\n" + hidden, re.IGNORECASE):
                found.append(f"{name}: a home folder")
        spoken = text
        if name.endswith((".ptx", ".ttir", ".ttgir")):
            spoken = "\n".join(m[0] for m in _SPOKEN.finditer(text))
        elif name.endswith((".py", ".png")):
            spoken = ""
        if self._names and self._names.search(spoken + "\n" + hidden):
            found.append(f"{name}: a user or host name")
        if self._withheld and not name.endswith(".png") and self._withheld.search(text + "\n" + hidden):
            found.append(f"{name}: a name of the kernel")
        return found

    def _prose(self, text: str) -> str:
        # A quoted path may hold spaces and commas.
        text = _QUOTED.sub(lambda m: m[1] + self._place(m[2]) + m[1] if "/" in m[2][2:] else m[0], text)
        text = _PATH.sub(lambda m: self._place(m[0]), text)
        text = _WINDOWS.sub(lambda m: self._place(m[0].replace("\\\\", "/").replace("\\", "/")), text)
        text = self._homes(text)
        text = _MAIL.sub(self._mail, text)
        if self._names:
            text = self._names.sub(lambda m: self._word[m[0].lower()], text)
        return self._withheld.sub("WITHHELD", text) if self._withheld else text

    def _homes(self, text: str) -> str:
        """Home folders that no rule of paths has taken, wherever they stand."""
        for home in self.identity.homes:
            for spelling in {home, _as_latin(home)}:
                text = re.sub(re.escape(spelling) + r"(?![A-Za-z0-9_])", "HOME", text, flags=re.IGNORECASE)
        return text

    def _place(self, path: str) -> str:
        if path in _KEPT:
            return path
        if package := _PACKAGES.search(path):
            return "SITE_PACKAGES/" + path[package.end() :]
        folder, _, name = path.rpartition("/")
        if not _FILE_NAME.fullmatch(name):  # a folder: its own name tells as much as the ones above it
            folder, name = path.rstrip("/"), ""
        return f"FOLDER{self._folders.setdefault(folder, len(self._folders) + 1)}{name and '/' + name}"

    @staticmethod
    def _mail(found: re.Match) -> str:
        if "." in found[2]:
            return "EMAIL"
        # user@host: of a prompt. Of `%p1@label` and the like, nothing is meant.
        return "USER@HOST" if found[1][:1].isalpha() and len(found[2]) >= _MIN_NAME else found[0]

    def _bytes(self, text: str) -> str:
        """PTX byte strings scrubbed at equal length, so that every offset into them stays right."""
        if ".b8" not in text and ".byte" not in text:
            return text
        edits: list[tuple[int, int, str]] = []
        for group in _byte_groups(text):
            values = [value for _, _, value in group]
            said = bytes(values).decode("latin-1")
            new = _RUN.sub(lambda m: self._equal_length(m[0]), said)
            if new != said:
                edits += [
                    (begin, end, str(after))
                    for (begin, end, before), after in zip(group, new.encode("latin-1"), strict=True)
                    if before != after
                ]
        out, at = [], 0
        for begin, end, value in edits:
            out += [text[at:begin], value]
            at = end
        return "".join([*out, text[at:]])

    def _equal_length(self, said: str) -> str:
        self.learn(said)
        new = self._prose(said)
        return (
            said
            if new == said
            else new.encode("latin-1", "replace").decode("latin-1")[: len(said)].ljust(len(said), "_")
        )


def _byte_groups(text: str) -> list[list[tuple[int, int, int]]]:
    """Runs of PTX bytes as (begin, end, value) of each number's place in the text: consecutive lines, and arrays."""
    groups: list[list[tuple[int, int, int]]] = []
    last_end = -2
    for line in _BYTE_LINE.finditer(text):
        numbers = _numbers(line[2], line.start(2))
        if line.start() == last_end + 1 and groups:
            groups[-1].extend(numbers)
        else:
            groups.append(numbers)
        last_end = line.end()
    groups += [_numbers(array[1], array.start(1)) for array in _BYTE_ARRAY.finditer(text)]
    return sorted((g for g in groups if g), key=lambda g: g[0][0])


def _numbers(text: str, offset: int) -> list[tuple[int, int, int]]:
    found = [(m.start() + offset, m.end() + offset, int(m[0], 0)) for m in _NUMBER.finditer(text) if _is_int(m[0])]
    return [n for n in found if n[2] < 256]


def _is_int(digits: str) -> bool:
    return digits[:1] != "0" or digits[:2].lower() == "0x" or digits == "0"


def _byte_strings(text: str) -> list[str]:
    """What the byte strings of a PTX spell, one entry a run of printable characters."""
    return [
        run for group in _byte_groups(text) for run in _RUN.findall(bytes(v for _, _, v in group).decode("latin-1"))
    ]


def _any_of(words: Iterable[str], pattern: str) -> re.Pattern | None:
    escaped = [re.escape(w) for w in sorted(words, key=lambda w: (-len(w), w))]
    return re.compile(pattern.format("|".join(escaped)), re.IGNORECASE) if escaped else None


def _as_latin(word: str) -> str:
    """A word's UTF-8 bytes as characters: how it looks in text read byte by byte."""
    return word.encode("utf-8", "surrogateescape").decode("latin-1")

"""Scrubber: home folders, user and host names, absolute paths and secrets out of any text, PTX debug bytes included.

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from helpers.bundle.secret_words import Form, forms_in, pieces, without_secrets

Any_ = TypeVar("Any_")

# Names that tell nobody apart, or that are words of what is scrubbed: left alone where they stand by themselves.
_COMMON = frozenset(
    "root user users ubuntu debian admin administrator runner docker jovyan nobody guest test tester home work app dev "
    "data local localhost localdomain build builder ci main python triton cuda nvidia torch kernel ptxas gpu cpu node "
    "host default code src opt var tmp usr bin lib share max min add mul load store ptx log spec report table status "
    "register registers memory name path program file files shared global warps result message version versions notes "
    "expected command none run "
    # What stands in the place of what was private: a text that is scrubbed already names nobody by these.
    "withheld secret email bucket account url".split()
)
# Words of Triton's own names and of PTX's: where a user is called like one, a name in code is left alone.
_OF_THE_LANGUAGE = frozenset(
    "block shape stages warps ptr order strides stride offsets boundary check cache eviction policy mask other axis "
    "dims num divisibility constancy contiguous tensor desc descriptor program range static assert print jit grid dot "
    "scaled acc input precision allow atomic reduce combine scan sort flip join split expand trans view broadcast "
    "arange zeros full param entry func".split()
)
_MIN_NAME = 3
# Files in our own words about the PTX whose names are gone: a parameter that is called like one of those words (`out`,
# `COUNT`) is not told there.
_OF_OUR_WORDS = ("repro.sh", "pressure.txt")
_PLAIN = re.compile(r"[a-z]+|[A-Z]+")
_PART = r"""[^\s"'`<>|*?:;,(){}\[\]\\/\x00]{1,255}"""
# An absolute path of two parts or more. Not: the rest of a relative path, of a URL, of a division; but also after -I.
_PATH = re.compile(
    rf"(?:(?<![\w./~$>+*)\]\\-])|(?<=file://)|(?<=[ \t\"']-[ILo])"
    # A path of Windows before it may have taken an escaped line end for the beginning of its last part.
    rf"|(?:(?<=FOLDER[0-9])|(?<=FOLDER[0-9][0-9]))(?=/(?:home|Users|root)/))/{_PART}(?:/{_PART}){{1,64}}/?"
)
_QUOTED = re.compile(r"""(["'])(/[^"'\n;]{2,8000})\1""")
# A part that another follows may have blanks: `C:\\Users\\Ada Lovelace\\k.py`. An escaped tab or line end may stand
# before the drive.
_WINDOWS = re.compile(
    r"(?:(?<![A-Za-z])|(?<=\\[nrt]))[A-Za-z]:"
    r"(?:\\{1,2}[^\n\"'<>|*?:\\/]{1,255}(?=\\)){0,64}\\{1,2}[^\s\"'<>|*?:\\/]{1,255}"
)
_HOME = re.compile(
    r"(?:/home|/Users|/users|/user/[a-z]|(?<![\w.])/u|[A-Za-z]:\\{1,2}(?:Users|Documents and Settings)|\\home)"
    r"[/\\]{1,2}"
    r"([^\s\"'`<>|*?:;,()\[\]{}/\\]{1,64})(?=[/\\\s\"':;,)]|$)|torchinductor_([A-Za-z][\w.-]{2,31})(?=[/\s\"':]|$)"
)
# The owner in a line of `ls -l`, and in one of `ps aux`.
_BLANK, _LINE = r"[ \t]+", r"(?:^|(?<=[\"']))[ \t#/\"']{0,8}"
_OWNER = re.compile(
    rf"{_LINE}[bcdlps-](?:[r-][w-][xsStT-]){{3}}[.+@]?{_BLANK}[0-9]+{_BLANK}([a-z_][\w.-]{{2,31}}){_BLANK}[\w.-]+{_BLANK}[0-9]"
    rf"|{_LINE}([a-z_][\w.-]{{2,31}}){_BLANK}[0-9]+{_BLANK}[0-9]{{1,3}}\.[0-9]{_BLANK}[0-9]{{1,3}}\.[0-9]{_BLANK}",
    re.MULTILINE,
)
# Variables whose value is somebody's name, or a machine's.
_NAMED_USER = re.compile(
    r"(?<![A-Za-z0-9_@])(?:USER|LOGNAME|USERNAME|SUDO_USER|SLURM_JOB_USER|PBS_O_LOGNAME)"
    r"(?:[ \t]?=[ \t]?[\"']?|[\"'][ \t]?[:=,][ \t]?[\"'])"
    r"([A-Za-z_][A-Za-z0-9_.-]{2,31})(?![A-Za-z0-9_.-])"
)
_NAMED_HOST = re.compile(
    r"(?<![A-Za-z0-9_])(?:HOSTNAME|SLURMD_NODENAME|SLURM_SUBMIT_HOST|PBS_O_HOST|NODE_NAME)"
    r"(?:[ \t]?=[ \t]?[\"']?|[\"'][ \t]?[:=,][ \t]?[\"'])"
    r"([A-Za-z][A-Za-z0-9-]{2,62})(?![A-Za-z0-9_-])"
)
_IDENTIFIER = re.compile(r"(?<![\w$%])[A-Za-z_$][\w$]*", re.ASCII)
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
    """Replaces what is private in texts: `FOLDER1/name`, `SITE_PACKAGES/…`, `USER`, `EMAIL`, `SECRET`, `WITHHELD` …

    `withheld` are further words (a proprietary kernel's names) that must not stand in prose. User names that a text
    gives away (`/home/NAME`) are remembered and replaced from then on, so learn from every text before the first. A
    name that is part of an identifier (`alice_attention`) becomes another one in every file alike. `replaced` says what
    was found, kind by kind.
    """

    def __init__(self, identity: Identity | None = None, *, withheld: Iterable[str] = ()) -> None:
        self.identity = this_machine() if identity is None else identity
        told = {w for w in withheld if len(w) >= _MIN_NAME and w.lower() not in _COMMON}
        self.withheld = tuple(sorted(told, key=lambda w: (-len(w), w)))
        self._folders: dict[str, int] = {}
        self._users, self._hosts = list(self.identity.users), list(self.identity.hosts)
        self._own: frozenset[str] = frozenset()
        self.replaced: dict[str, set[str]] = {}
        self._compile_names()

    def _compile_names(self) -> None:
        names = Identity((), tuple(self._users), tuple(self._hosts)).names()
        hosts = {n.lower() for n in self._hosts}
        self._word = {n.lower(): "HOST" if n.lower() in hosts else "USER" for n in names}
        self._word |= {_as_latin(n).lower(): word for n, word in list(self._word.items())}
        self._names = _any_of(self._word, r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])")
        self._withheld = _any_of(self.withheld, r"(?<![A-Za-z0-9_])(?:{})(?![A-Za-z0-9_])")

    def learn(self, text: str) -> None:
        """Remember the users whose home folders `text` names, and who it says that a user or a host is."""
        told = (m[m.lastindex or 1] for pattern in (_HOME, _NAMED_USER, _OWNER) for m in pattern.finditer(text))
        users = set(told) - set(self._users)
        hosts = {m[1] for m in _NAMED_HOST.finditer(text)} - set(self._hosts) - users
        if users or hosts:
            self._users += sorted(users)
            self._hosts += sorted(hosts)
            self._compile_names()

    def rename(self, names: Iterable[str]) -> None:
        """Take these for names of the kernel's own: a user's name in one is replaced, in code as well."""
        self._own |= frozenset(names)

    def list_replaced(self) -> list[str]:
        """What was replaced so far, as words: `2 absolute paths`, `1 GitHub token`; never what it was."""
        return [f"{len(was)} × {kind}" for kind, was in sorted(self.replaced.items())]

    def _saw(self, kind: str, was: str) -> None:
        self.replaced.setdefault(kind, set()).add(was)

    def text(self, text: str) -> str:
        """Any prose, log or command line, scrubbed; byte strings of PTX in it as well."""
        self.learn(text)
        return self._bytes(self._prose(text, forms_in(text)))

    def member(self, name: str) -> str:
        """The name of a file of the bundle, scrubbed part by part; its folders and its ending stay what they are."""
        return "/".join(self._prose(part, forms_in(part)) for part in PurePosixPath(name).parts)

    def names(self, text: str) -> str:
        """A text with the names of users and hosts replaced and nothing else, as in the code that it is about."""
        return self._word_for(text)

    def every(self, value: Any_) -> Any_:
        """A value with each text in it scrubbed: a frozen dataclass, a mapping, a sequence, or a text itself."""
        found: Any = value
        if isinstance(value, str):
            found = self.text(value)
        elif is_dataclass(value) and not isinstance(value, type):
            found = replace(value, **{f.name: self.every(getattr(value, f.name)) for f in fields(value) if f.init})
        elif isinstance(value, dict):
            found = {key: self.every(item) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            found = type(value)(self.every(item) for item in value)
        return found

    def code(self, text: str) -> str:
        """PTX or MLIR, scrubbed in its comments, strings and byte strings, and in its own names."""
        self.learn(text)
        forms = forms_in(text)
        return self._bytes(self._homes(self._outside(text, _SPOKEN, lambda said: self._prose(said, forms))))

    def _outside(self, text: str, spoken: re.Pattern[str], said: Callable[[str], str]) -> str:
        """The text with what it says put through `said`, and the names between that with users' names replaced."""
        out, at = [], 0
        for found in spoken.finditer(text):
            out += [self._identifiers(text[at : found.start()]), said(found[0])]
            at = found.end()
        return "".join([*out, self._identifiers(text[at:])])

    def _identifiers(self, code: str) -> str:
        """Code with users' names replaced in its identifiers, the same way everywhere."""
        if not self._names or not self._names.search(code):
            return code
        return _IDENTIFIER.sub(lambda m: self._identifier(m[0]), code)

    def _identifier(self, name: str) -> str:
        """An identifier with users' names replaced: one of the kernel's own, or one that a name is only a part of."""
        found = self._names.search(name) if self._names else None
        if found is None or found[0].lower() in _OF_THE_LANGUAGE:
            return name
        return self._word_for(name) if name in self._own or found[0] != name else name

    def _word_for(self, text: str) -> str:
        def put(found: re.Match[str]) -> str:
            word = self._word[found[0].lower()]
            self._saw("name of a user" if word == "USER" else "name of a host", found[0])
            return word

        return self._names.sub(put, text) if self._names else text

    def python(self, text: str) -> str:
        """Python source, scrubbed in comments, strings and its own names; all over where it is no Python."""
        self.learn(text)
        text = without_secrets(text, forms_in(text, of_code=True), self._saw)
        forms = forms_in(text)
        lines = text.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        out, at = [], 0
        try:
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.COMMENT or tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE"):
                    begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
                    out += [self._identifiers(text[at:begin]), self._prose(text[begin:end], forms)]
                    at = end
        except (tokenize.TokenError, SyntaxError, ValueError, IndexError, RecursionError):
            return self._prose(text, forms)
        return self._homes("".join([*out, self._identifiers(text[at:])]))

    def remains(self, name: str, content: bytes) -> list[str]:
        """What is still private in a file of a bundle, or in its name; empty when nothing is.

        Looks at the bytes as they are, not at what scrubbing would do: for home folders anywhere, for names as words
        in prose and in PTX byte strings (in code a name may be an identifier of its own), for withheld words and
        tokens anywhere, for addresses in prose.
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
        if self._names and self._names.search("\n".join([spoken, hidden, name])):
            found.append(f"{name}: a user or host name")
        if not name.endswith(".png"):
            left = {form.kind for form in (*forms_in(text, of_code=True), *forms_in("\n".join([spoken, hidden, name])))}
            found += [f"{name}: {kind}" for kind in sorted(left)]
        if self._withheld and not name.endswith(".png"):
            seen = {m[0] for m in self._withheld.finditer(text + "\n" + hidden)}
            if name in _OF_OUR_WORDS:
                seen = {word for word in seen if not _PLAIN.fullmatch(word)}
            if seen:
                found.append(f"{name}: a name of the kernel")
        return found

    def _prose(self, text: str, forms: Sequence[Form] = ()) -> str:
        text = without_secrets(text, forms, self._saw)
        # A quoted path may hold spaces and commas.
        text = _QUOTED.sub(lambda m: m[1] + self._place(m[2]) + m[1] if "/" in m[2][2:] else m[0], text)
        text = _WINDOWS.sub(lambda m: self._place(m[0].replace("\\\\", "/").replace("\\", "/")), text)
        return "".join(self._names_in(piece) for piece in pieces(text))

    def _names_in(self, text: str) -> str:
        text = _PATH.sub(lambda m: self._place(m[0]), text)
        text = self._homes(text)
        text = _MAIL.sub(self._mail, text)
        text = self._word_for(text)
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
        self._saw("absolute path", path)
        folder, _, name = path.rpartition("/")
        if not _FILE_NAME.fullmatch(name):  # a folder: its own name tells as much as the ones above it
            folder, name = path.rstrip("/"), ""
        return f"FOLDER{self._folders.setdefault(folder, len(self._folders) + 1)}{name and '/' + name}"

    def _mail(self, found: re.Match) -> str:
        if "." in found[2]:
            self._saw("e-mail address", found[0])
            return "EMAIL"
        # user@host: of a prompt. Of `%p1@label` and the like, nothing is meant.
        if not found[1][:1].isalpha() or len(found[2]) < _MIN_NAME or found[0] == "USER@HOST":
            return found[0]
        self._saw("name of a user and of a host", found[0])
        return "USER@HOST"

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
        new = self._prose(said, forms_in(said))
        if new == said:
            return said
        # A word that is cut off would be neither one nor the other.
        new = new.encode("latin-1", "replace").decode("latin-1")
        if len(new) == len(said):
            return new
        # The blank keeps the filling apart: `example.com___` would be another host.
        return f"{new} ".ljust(len(said), "_") if len(new) < len(said) else "_" * len(said)


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

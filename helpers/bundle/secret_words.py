"""What nobody outside may read, by its form: tokens, keys, passwords, addresses of machines, people and buckets.

Forms of tokens are detect-secrets' own, and a few that it lacks beside them. A form is replaced only where little else
looks like it: hashes, versions, registers and hexadecimal constants stay as they are (a test reads every fixture).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

# Plugins of detect-secrets that know a token by its form. Those that guess by entropy would take every hash for one,
# and two (jwt, npm) take minutes on a long line: their forms are among ours.
_PLUGINS = ("aws", "azure_storage_key", "basic_auth", "discord", "github_token", "gitlab_token", "mailchimp", "openai",
            "pypi_token", "sendgrid", "slack", "square_oauth", "stripe", "telegram_token", "twilio")  # fmt: skip
# Domains that anybody may be sent to. Every other host is somebody's.
_PUBLIC = (
    "github.com", "githubusercontent.com", "github.io", "gitlab.com", "nvidia.com", "pytorch.org", "python.org",
    "triton-lang.org", "llvm.org", "huggingface.co", "hf.co", "readthedocs.io",
    "readthedocs.org", "stackoverflow.com", "arxiv.org", "openxla.org", "w3.org", "apache.org", "gnu.org",
    "kernel.org", "wikipedia.org", "vllm.ai", "sglang.ai", "example.com", "example.org", "discord.gg", "slack.com",
    "google.com", "amazon.com", "microsoft.com", "ubuntu.com", "debian.org", "conda.io", "anaconda.org", "jupyter.org",
    "cppreference.com", "opencompute.org", "man7.org", "godbolt.org",
)  # fmt: skip
_ENDINGS = "com|net|org|edu|gov|mil|io|ai|cloud|dev|co|uk|de|fr|cn|jp|kr|ch|eu|in|ru|tech|systems"
_INSIDE = "internal|local|lan|corp|intra|intranet|private|home|localdomain|svc"
# What machines are called by what they do.
_SERVICES = frozenset(
    "registry hub git gitlab github jenkins artifactory nexus vpn proxy ldap mail smtp imap wiki jira login gateway"
    " bastion jump mirror pypi conda docker harbor grafana vault".split()
)
# A line end as Python, JSON and shells write it inside a string.
_ESCAPE = re.compile(r"((?<!\\)\\[nrt])")
# Shorter words of a secret may stand elsewhere as words of another kind.
_SHORTEST = 5
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NOT_A_VALUE = (
    r"(?!WITHHELD|SECRET|[tg]l\.|(?:str|int|bool|bytes|float|optional|none|null|true|false)\b"
    r"|\.\.\.|\*{3}|<|\$|%|\{)"
)


@dataclass(frozen=True)
class Form:
    """One kind of private words: what it is called, its pattern, what stands in its place.

    `group` is the part that is replaced. `fits` looks closer at a match. `anywhere` says that it is also replaced in
    the code of a program; the others only in what a program says (comments, strings) and in prose.
    """

    kind: str
    pattern: re.Pattern[str]
    word: str = "SECRET"
    group: int = 0
    fits: Callable[[re.Match[str]], bool] | None = None
    anywhere: bool = False


def forms_in(text: str, *, of_code: bool = False) -> tuple[Form, ...]:
    """The forms of which a text has any (in code: may have any), so that its many pieces are tried for these alone."""
    bare = _ESCAPE.sub("\n", text) if "\\" in text else text
    return tuple(form for form in _forms() if (form.anywhere or not of_code)
                 and (_first(form, text) or (bare is not text and _first(form, bare))))  # fmt: skip


def pieces(text: str) -> list[str]:
    """A text cut at its escaped line ends, which are pieces of their own: in `'a\\nb'`, b begins a line."""
    return _ESCAPE.split(text) if "\\" in text else [text]


def without_secrets(text: str, forms: Iterable[Form], seen: Callable[[str, str], None] | None = None) -> str:
    """The text with every match of the forms replaced by their word; `seen` hears (kind, what it was) of each."""

    forms = tuple(forms)
    if not forms:
        return text
    # The whole goes first: a key has many lines, and a path of Windows may have such letters in it. But there a value
    # may reach over an escaped line end and take the beginning of the next line with it, by which a secret is known.
    # So the lines are read as they were, too.
    of_lines = _in_lines(text, forms)
    text = "".join(_without(piece, forms, seen) for piece in pieces(_without(text, forms, seen)))
    for what in sorted(of_lines, key=len, reverse=True):
        if what in text:
            kind, word = of_lines[what]
            # The words have no backslash, which a replacement would read as more than itself.
            text, count = re.subn(rf"(?<!\w){re.escape(what)}(?!\w)", word, text)
            if count and seen is not None:
                seen(kind, what)
    return text


def _in_lines(text: str, forms: Iterable[Form]) -> dict[str, tuple[str, str]]:
    """What is secret in a line by itself -> (kind, word), for a text with escaped line ends."""
    found: dict[str, tuple[str, str]] = {}
    lines = pieces(text)
    for form in forms if len(lines) > 1 else ():

        def put(kind: str, what: str, word: str = form.word) -> None:
            found.setdefault(what, (kind, word))

        for line in lines:
            _without(line, (form,), put)
    return {what: told for what, told in found.items() if len(what) >= _SHORTEST}


def _without(text: str, forms: Iterable[Form], seen: Callable[[str, str], None] | None) -> str:
    for form in forms:

        def put(found: re.Match[str], form: Form = form) -> str:
            if _is_done(form, found) or (form.fits is not None and not form.fits(found)):
                return found[0]
            if seen is not None:
                seen(form.kind, found[form.group])
            begin, end = (place - found.start() for place in found.span(form.group))
            taken = found[0][begin:end]
            # A backslash that escapes what follows stays: without it, a quote after it would end the string.
            end -= (len(taken) - len(taken.rstrip("\\"))) % 2
            return found[0][:begin] + form.word + found[0][end:]

        text = form.pattern.sub(put, text)
    return text


def _first(form: Form, text: str) -> re.Match[str] | None:
    return next((m for m in form.pattern.finditer(text)
                 if not _is_done(form, m) and (form.fits is None or form.fits(m))), None)  # fmt: skip


def _is_done(form: Form, found: re.Match[str]) -> bool:
    """Whether what was found is what stands in its place already, filled up where the length had to stay."""
    return found[form.group].strip(" \t\"'_") == form.word


# --- looking closer ------------------------------------------------------------------------------------------------

_VERSION_BEFORE = re.compile(
    r"(?:[=<>~!]=\s{0,2}|[-_+/]|\bv|(?:version|release|driver|firmware|build|compiler|tools?|ptxas|nvcc|nvidia\S{0,40}|"
    r"\S{0,20}cu(?:da|dnn|blas|solver|sparse|fft|rand|pti|file|1[0-9])\S{0,20}|nccl|nvjitlink|nvshmem|triton|torch|python"
    r"|llvm|glibc|gcc|mlir)[\"']?[ :=,]{0,40}[vV\"']?)$",
    re.IGNORECASE,
)
_HARMLESS = {"0.0.0.0", "127.0.0.1", "255.255.255.255", "1.2.3.4", "8.8.8.8"}


def _is_ipv4(found: re.Match[str]) -> bool:
    """Whether four numbers are an address: none is over 255, and nothing beside them says that they are a version."""
    numbers = found[0].split(".")
    if found[0] in _HARMLESS or any(len(n) > 1 and n[0] == "0" for n in numbers) or any(int(n) > 255 for n in numbers):
        return False
    before = found.string[max(0, found.start() - 80) : found.start()].rpartition("\n")[2]
    after = found.string[found.end() : found.end() + 8]
    if re.match(r":[0-9]{2,5}\b|/[0-9]{1,2}\b", after):
        return True
    return not _VERSION_BEFORE.search(before) and not re.match(
        r"[-+_](?:cp|py|cu|post|dev|rc|[0-9])|\.(?:whl|tar|so)", after
    )


def _is_ipv6(found: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv6Address(found[0].partition("%")[0])
    except ValueError:
        return False
    return not address.is_loopback and ("::" in found[0] or found[0].count(":") == 7)


def _is_mac(found: re.Match[str]) -> bool:
    return ":" in found[0] or bool(re.search("[A-Fa-f]", found[0]))


def _is_not_public(found: re.Match[str]) -> bool:
    host = found["host"].lower().rpartition("@")[2].partition(":")[0].rstrip(".")
    if host in ("localhost", "127.0.0.1", "0.0.0.0", "host") or re.fullmatch(r"(?:.*\.)?[A-Z_]+", found["host"]):
        return False
    return not any(host == known or host.endswith("." + known) for known in _PUBLIC)


def _is_host(found: re.Match[str]) -> bool:
    """Whether dotted words are a machine's name: not a module's path, not a file, not of a public domain."""
    name = found["host"]
    labels = name.lower().split(".")
    if not _is_not_public(found) or any("_" in label for label in labels):
        return False
    # `threading.local`, `ld.local`, `entry.home` are no machines.
    told = (len(labels) > 2 and labels[-1] in _INSIDE.split("|")) or any(re.search("[0-9-]", x) for x in labels[:-1])
    told = (
        told or labels[0] in _SERVICES or bool(re.match(r":[0-9]{2,5}\b", found.string[found.end() : found.end() + 6]))
    )
    return told or labels[-1] in ("internal", "corp", "intra", "intranet", "localdomain")


def _looks_random(found: re.Match[str]) -> bool:
    """Whether a value is no word and no call: it has digits and letters, and is no path, module or version."""
    value = found.group(found.re.groups)
    return (
        bool(re.search("[0-9]", value) and re.search("[A-Za-z]{2}", value))
        and not re.fullmatch(
            r"(?:[A-Za-z_]\w*\.)+\w+|v?[0-9]+(?:\.[0-9]+)+\S*|0x[0-9a-fA-F]+|\S*[.]{3}\S*|/\S*|\w+[0-9]?", value
        )
    ) or (value.isalnum() and len(value) >= 16 and bool(re.search("[0-9]", value) and re.search("[A-Za-z]", value)))


def _looks_like_a_name_of_ones_own(found: re.Match[str]) -> bool:
    return found[1].lower() not in (
        "required",
        "prompt",
        "error",
        "failed",
        "shell",
        "manager",
        "learning",
        "code",
        "node",
    )


def _names_a_machine(found: re.Match[str]) -> bool:
    """Whether a word where a machine is named is none of the language's own: it has a digit, a dash or a domain."""
    host = found["host"]
    return (
        host.lower() not in ("localhost", "127.0.0.1")
        and bool(re.search(r"[0-9.-]", host))
        and not re.search(r"\.(?:py|cpp|cc|cu|h|hpp|ptx|log|so|txt|json)$", host)
    )


def _is_a_list_of_nodes(found: re.Match[str]) -> bool:
    """Whether a name with numbers in brackets is a list as SLURM writes it: they are padded, or a range of a name."""
    return bool(re.search(r"\[0[0-9]|,0[0-9]", found[0])) or (
        "-" in found["host"] and bool(re.search(r"[0-9]-[0-9]", found[0]))
    )


# --- the forms -----------------------------------------------------------------------------------------------------


def _form(kind: str, pattern: str, word: str = "SECRET", *, group: int = 0, flags: int = 0,
          fits: Callable[[re.Match[str]], bool] | None = None, anywhere: bool = False) -> Form:  # fmt: skip
    return Form(kind, re.compile(pattern, flags | re.ASCII), word, group, fits, anywhere)


_TOKEN = r"(?<![A-Za-z0-9])"  # where a token begins
_KEYWORDS = (
    r"(?:password|passwd|passphrase|secret|api_?key|access_?key|auth_?token|access_?token|private_?key|credential)"
)
# NAME=value, NAME = "value", 'NAME': 'value', ('NAME', 'value')
_GIVEN = r"(?:[ \t]?=[ \t]?[\"']?|[\"'][ \t]?[:=,][ \t]?[\"'])"
_VARIABLES = (
    r"(?:SLURM_\w{1,40}|SLURMD_\w{1,40}|PBS_\w{1,40}|LSB_\w{1,40}|USER|LOGNAME|USERNAME|SUDO_USER|HOSTNAME|HOST|NODE_NAME"
    r"|MASTER_ADDR|POD_NAME|KUBERNETES_SERVICE_HOST|SSH_CLIENT|SSH_CONNECTION|PWD|OLDPWD|HOME|MAIL)"
)
_DONE = r"(?!WITHHELD|USER|HOST|EMAIL|FOLDER|HOME|[0-9]{1,4}\b|\$)"
_STORES = r"(?:s3[an]?|gs|gcs|az|abfss?|wasbs?|hdfs|oss|cos|dbfs|r2|nfs|smb|afs|ssh|rsync|sftp|ftp)"
_SERVERS = r"(?:https?|wss?|tcp|grpc|git|postgres(?:ql)?|mysql|redis|mongodb|amqp|etcd)(?:\+\w{1,10})?"
_ADDRESS = r"[^\s\"'<>)\]},;]"
_BEFORE_A_USER = r"(?:(?<=[\"'=:])|(?<=\bcd )|(?<=\b(?:in|at|of) )|(?<=\bfrom )|(?<=\bhome ))"

# Letters that a service puts before its keys, so that whoever looks for lost ones finds them, and the key's own form.
_PREFIXED = "|".join((
    r"GOCSPX-[A-Za-z0-9_-]{20,60}", r"gl(?:dt|rt|cbt|ptt|ft|imt|soat|agent|oas|ffct)-[A-Za-z0-9_-]{16,100}",
    r"[spr]k_(?:live|test|prod)_[A-Za-z0-9]{16,250}", r"whsec_[A-Za-z0-9+/=]{16,100}",
    r"do[opr]_v1_[0-9a-f]{40,80}", r"dapi[0-9a-f]{32}(?:-[0-9])?", r"hv[sbr]\.[A-Za-z0-9_-]{20,300}",
    r"gl(?:sa|c)_[A-Za-z0-9+/=_]{20,200}", r"lin_(?:api|oauth)_[A-Za-z0-9]{30,100}", r"secret_[A-Za-z0-9]{40,50}",
    r"ntn_[A-Za-z0-9]{30,60}", r"fig[dou]_[A-Za-z0-9_-]{30,100}", r"r8_[A-Za-z0-9]{30,50}", r"gsk_[A-Za-z0-9]{40,80}",
    r"(?:xai|pplx|csk|tgp_v1|rpa|esecret|pcsk|lsv2_(?:pt|sk)|tskey-(?:auth|api|client))[-_][A-Za-z0-9_-]{24,120}",
    r"fw_[A-Za-z0-9]{20,40}", r"a[ks]-[A-Za-z0-9]{22}", r"ABSK[A-Za-z0-9+/=]{60,160}",
    r"NR(?:AK|II|JS)-[A-Za-z0-9-]{19,60}",
    r"sntry[su]_[A-Za-z0-9_=+/-]{40,300}", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}", r"HRKU-[A-Za-z0-9_-]{30,80}",
    r"AT(?:ATT3|CTT3|BB)[A-Za-z0-9_=-]{20,250}", r"rubygems_[0-9a-f]{40,60}", r"cio[A-Za-z0-9]{32}",
    r"dckr_oat_[A-Za-z0-9_-]{20,100}", r"pul-[0-9a-f]{40}", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}", r"key-[0-9a-f]{32}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{40,70}", r"EAA[A-Za-z0-9]{60,250}", r"ops_eyJ[A-Za-z0-9_-]{40,1000}",
))  # fmt: skip
# Where a line of prose or of a comment begins.
_LINE = r"(?:^|(?<=[\"']))[ \t#/;*\"'(]{0,12}"
_END = r"[ \t\"')]{0,8}$"
_HOST = r"[A-Za-z][A-Za-z0-9.-]{0,100}"
_SLURM = r"\b(?:srun|sbatch|salloc|sinfo|scontrol|squeue|scancel|#SBATCH)\b[^\n]{0,200}?[ \t]"

_OURS = (
    _form(
        "private key",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\S]{0,20000}?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|[^\"']{0,8000})",
        anywhere=True,
    ),
    _form("Hugging Face token", _TOKEN + r"(?:hf|api_org)_[A-Za-z0-9]{20,100}(?![A-Za-z0-9_])", anywhere=True),
    _form(
        "GitHub token",
        _TOKEN + r"(?:gh[pousr]_[A-Za-z0-9]{16,255}|github_pat_[A-Za-z0-9_]{20,255})",
        anywhere=True,
    ),
    _form("AWS key", _TOKEN + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,20}(?![A-Za-z0-9])", anywhere=True),
    _form("API key", r"(?<![\w-])sk-(?:[A-Za-z]{2,12}-){0,3}[A-Za-z0-9_-]{16,200}", anywhere=True),
    _form(
        "API key",
        r"(?<![\w-])(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,300}|wandb_v1_\w{20,200}"
        r"|nvapi-[A-Za-z0-9_-]{20,200}|dckr_pat_[A-Za-z0-9_-]{20,100}|glpat-[A-Za-z0-9_-]{16,100}"
        r"|pypi-[A-Za-z0-9_-]{40,300})",
        anywhere=True,
    ),
    _form("API key", rf"{_TOKEN}(?:{_PREFIXED})(?![A-Za-z0-9])", anywhere=True),
    _form("API key", _TOKEN + r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{40,100}", anywhere=True),
    _form("Slack token", r"(?<![\w-])(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{8,200}", anywhere=True),
    _form(
        "web token",
        r"(?<![\w-])eyJ[A-Za-z0-9_-]{6,2000}\.[A-Za-z0-9_-]{4,4000}(?:\.[A-Za-z0-9_-]{0,2000})?",
        anywhere=True,
    ),
    _form("npm token", _TOKEN + r"npm_[A-Za-z0-9]{30,60}(?![A-Za-z0-9])", anywhere=True),
    _form("npm token", r"(?<=:_authToken=)[^\s\"']{8,300}", anywhere=True),
    _form(
        "bearer token",
        r"(?i)\b(?:bearer|basic)[ \t]+" + _NOT_A_VALUE + r"([A-Za-z0-9._~+/=-]{16,4000})",
        group=1,
        anywhere=True,
    ),
    _form(
        "password in an address",
        r"(?<=[a-z])://([^\s/@:'\"<>{}]{1,100}:[^\s/@'\"<>{}]{1,200})@",
        group=1,
        anywhere=True,
    ),
    # Quotes are asked for in code, where `password: str` is no secret.
    _form(
        "password",
        rf"(?i){_TOKEN}\w{{0,40}}{_KEYWORDS}s?\w{{0,10}}[\"']?\]?\s{{0,4}}(?::=|[:=]{{1,2}})\s{{0,4}}[\"']"
        rf"{_NOT_A_VALUE}([^\"'\n]{{3,300}})[\"']",
        group=1,
        anywhere=True,
    ),
    _form(
        "password",
        rf"(?i){_TOKEN}(?:\w{{0,40}}{_KEYWORDS}|(?-i:[A-Z][A-Z0-9_]{{1,40}}_(?:TOKEN|PWD|PASS|CREDENTIALS)))"
        rf"[:=]\s{{0,2}}{_NOT_A_VALUE}([^\s\"',;(){{}}\[\]]{{4,300}})",
        group=1,
    ),
    _form(
        "password",
        r"(?i)(?<![\w-])--?(?:password|passwd|token|api-key|auth-token|secret)[ =]"
        + _NOT_A_VALUE
        + r"([^\s\"'-][^\s\"']{3,300})",
        group=1,
    ),
    _form(
        "password",
        rf"(?i){_TOKEN}(?:\w{{0,40}}{_KEYWORDS})[\"']?[ \t]{{1,4}}[:=][ \t]{{0,3}}[\"']?{_NOT_A_VALUE}"
        r"([^\s\"',;(){}\[\]]{8,300}+)(?!\()",
        group=1,
        fits=_looks_random,
    ),
    _form(
        "token",
        r"(?i)(?<![A-Za-z0-9])(?:(?:id|refresh|identity|registry|session|csrf|private|x)[-_]?)?(?:token|auth|apikey)"
        r"[\"']{0,2}[ \t]{0,3}[:=][ \t]{0,3}[\"']{0,2}([A-Za-z0-9._~+/=-]{16,4000})",
        group=1,
        fits=_looks_random,
        anywhere=True,
    ),
    _form("token", r"(?<![A-Za-z0-9])_(?:auth|password)[ \t]{0,2}=[ \t]{0,2}[\"']?([^\s\"']{6,300})", group=1),
    _form(
        "key of a cluster",
        r"(?:client-key|client-certificate|certificate-authority)-data[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?"
        r"([A-Za-z0-9+/=]{16,40000})",
        group=1,
        anywhere=True,
    ),
    _form(
        "header of a request",
        r"(?i)(?<![\w-])(?:proxy-)?authorization[\"']?[ \t]{0,3}[:=,][ \t]{0,3}[\"']?(?!WITHHELD|SECRET)"
        r"((?:(?:bearer|basic|token|digest|negotiate|apikey)[ \t]+)?(?!SECRET)[^\s\"'(){}]{8,4000})",
        group=1,
        anywhere=True,
    ),
    _form(
        "header of a request",
        r"(?i)(?<![\w-])(?:(?:set-)?cookie|[\w-]{0,30}(?:api-key|auth-token|access-token|private-token|security-token"
        r"|vault-token))[\"']?[ \t]{0,3}:[ \t]{0,3}[\"']?(?!SECRET)([^\n\"']{8,4000})",
        group=1,
        anywhere=True,
    ),
    _form(
        "signature in an address",
        r"(?i)(?<=[?&;])(?:sig|signature|x-(?:amz|goog)-(?:signature|credential|security-token)|access_?token|token|key"
        r"|api_?key|auth|password|passwd|pwd|secret|code)=([^&\s\"'<>;]{8,4000})",
        group=1,
        anywhere=True,
    ),
    _form("password", r"(?i)(?<=;)[ ]?(?:pwd|password|uid|user id)[ ]?=[ ]?([^;\s\"']{3,200})", group=1),
    _form(
        "line of a .netrc",
        r"\bmachine[ \t\n]{1,8}(?!SECRET)([^\s]{1,200}[ \t\n]{1,40}login[ \t\n]{1,8}[^\s]{1,200}"
        r"(?:[ \t\n]{1,40}account[ \t]{1,8}[^\s]{1,200})?[ \t\n]{1,40}password[ \t\n]{1,8}[^\s\"']{1,200})",
        group=1,
    ),
    _form(
        "line of a .netrc",
        rf"{_LINE}(?:login|password|machine)[ \t]{{1,8}}(?!SECRET)([^\s\"']{{3,200}}){_END}",
        group=1,
        flags=re.MULTILINE,
        fits=_looks_like_a_name_of_ones_own,
    ),
    _form(
        "line of a .pgpass",
        rf"{_LINE}([\w.*-]{{1,100}}:(?:[0-9]{{4,5}}|\*):[A-Za-z_*][^\s:]{{0,60}}:[A-Za-z_*][^\s:]{{0,60}}:[^\s:\"']{{4,200}}){_END}",
        group=1,
        flags=re.MULTILINE,
    ),
    _form(
        "password",
        r"\bcurl\b[^\n]{0,300}?[ \t](?:-u|--user|--proxy-user)[ =]?[\"']?(?!SECRET)([^\s:\"']{1,60}:[^\s\"']{3,200})",
        group=1,
    ),
    _form("password", r"\bsshpass[ \t]+-p[ \t]?(?!SECRET)([^\s]{3,200})", group=1),
    _form("password", r"\b(?:mysql|mysqldump|mariadb)\b[^\n]{0,200}?[ \t]-p(?!SECRET)([^\s]{4,200})", group=1),
    _form("API key", r"\bwandb[ \t]+login[ \t]+(?:--\w+[ \t]+)?(?!SECRET)([A-Za-z0-9_-]{20,200})", group=1),
    _form(
        "private key",
        r"Private-Lines:[ \t]*[0-9]+(?:(?:[\s#]|\\[nr]){1,12}[A-Za-z0-9+/=]{16,80}(?=[\s\"'\\]|$)){1,200}",
        anywhere=True,
    ),
    _form(
        "key of a person or a host",
        r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-[a-z0-9-]{1,20}|sk-(?:ssh|ecdsa)[\w@.-]{1,40})[ \t]+"
        r"AAAA[A-Za-z0-9+/=]{20,2000}",
    ),
    _form("name of a host", r"\|1\|[A-Za-z0-9+/]{20,40}=\|[A-Za-z0-9+/]{20,40}=", "HOST"),
    _form(
        "account of a cloud",
        r"\barn:aws[a-z-]{0,12}:[a-z0-9-]{1,40}:[a-z0-9-]{0,30}:[0-9]{12}:[^\s\"']{1,300}",
        "ACCOUNT",
    ),
    _form(
        "image of a container",
        r"(?<![\w.-])(?:(?:[a-z]{2,4}\.)?gcr\.io|[a-z0-9-]{3,40}-docker\.pkg\.dev|[a-z0-9]{3,50}\.azurecr\.io"
        r"|[0-9]{12}\.dkr\.ecr\.[a-z0-9-]{3,30}\.amazonaws\.com)/[\w./:@-]{1,300}",
        "IMAGE",
    ),
    _form(
        "GPU's number",
        r"(?<![\w-])(?:GPU|MIG(?:-GPU)?)-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:/\d+/\d+)?",
        "GPU-UUID",
        anywhere=True,
    ),
    _form(
        "variable of the machine",
        rf"(?<![A-Za-z0-9_@]){_VARIABLES}{_GIVEN}{_DONE}([A-Za-z0-9_.@/\[\]-][^\s\"',;)}}]{{0,300}})",
        "WITHHELD",
        group=1,
    ),
    _form("bucket", rf"{_TOKEN}{_STORES}://{_ADDRESS}{{1,1000}}", "BUCKET"),
    _form(
        "network path",
        r"(?<![\\\w:])(?:\\\\[A-Za-z0-9][\w.$-]{0,62}\\[\w$][\w.$ -]{0,100}(?:\\[\w.$-]{1,200}){0,30}"
        r"|\\\\\\\\[A-Za-z0-9][\w.-]{0,62}\\\\[\w$][\w.$ -]{0,100}(?:\\\\[\w.$-]{1,200}){0,30})",
        "NETWORK_PATH",
    ),
    _form("home folder", r"(?<![\w~/)\]}.])~([a-z_][a-z0-9_.-]{1,31})(?=/[A-Za-z._])", "USER", group=1),
    _form(
        "home folder",
        _BEFORE_A_USER + r"~([a-z_][a-z0-9_-]{2,31})(?=[\"'\s,;:)]|$)",
        "USER",
        group=1,
        flags=re.MULTILINE,
    ),
    _form(
        "MAC address",
        r"(?<![0-9A-Fa-f:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:-])",
        "MAC",
        fits=_is_mac,
    ),
    _form(
        "IP address",
        r"(?<![\w:.])(?:fe[89ab][0-9a-f]|f[cd][0-9a-f]{2}|[23][0-9a-f]{3})(?::[0-9a-f]{0,4}){2,7}(?:%[a-z][\w.-]{1,20})?(?![\w:.])",
        "IP",
        flags=re.IGNORECASE,
        fits=_is_ipv6,
    ),
    _form("IP address", r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.?[0-9A-Za-z_])", "IP", fits=_is_ipv4),
    _form(
        "address of a server",
        rf"{_TOKEN}{_SERVERS}://(?P<host>[^\s/\"'<>)\]}},;]{{1,300}}){_ADDRESS}{{0,2000}}",
        "URL",
        fits=_is_not_public,
    ),
    _form(
        "name of a host",
        rf"(?<![\w@/.-])(?P<host>{_LABEL}(?:\.{_LABEL}){{1,6}}\.(?:{_ENDINGS}|{_INSIDE})|{_LABEL}\.(?:{_INSIDE}))"
        r"(?![\w(/-]|\.[A-Za-z0-9_])",
        "HOST",
        flags=re.IGNORECASE,
        fits=_is_host,
    ),
    _form(
        "name of a host",
        rf"(?<![\w-])(?:ssh|mosh|sftp|telnet|slogin)[ \t]+(?:-[A-Za-z]+[ \t]+(?:[^\s-][^\s]{{0,100}}[ \t]+)?){{0,4}}"
        rf"(?:[\w.-]{{1,40}}@)?(?!HOST)(?P<host>{_HOST})(?![\w./])",
        "HOST",
        group=1,
        fits=_names_a_machine,
    ),
    _form(
        "name of a host",
        rf"\b(?:scp|rsync)\b[^\n]{{0,300}}?[ \t](?:[\w.-]{{1,40}}@)?(?!HOST)(?P<host>{_HOST}):(?=[/~\w.])",
        "HOST",
        group=1,
    ),
    _form(
        "name of a host",
        rf"{_LINE}(?:Host|HostName|host|hostname|Hostname|node|nodename)(?:[ \t]{{1,12}}|[ \t]{{0,12}}[:=][ \t]{{0,4}})"
        rf"(?!HOST)(?P<host>{_HOST}){_END}",
        "HOST",
        group=1,
        flags=re.MULTILINE,
        fits=_names_a_machine,
    ),
    _form(
        "name of a user",
        rf"{_LINE}User[ \t]{{1,8}}"
        rf"(?!(?:USER|error|input|code|defined|space|mode|guide|name|manual)\b)([a-z_][a-z0-9_.-]{{2,31}}){_END}",
        "USER",
        group=1,
        flags=re.MULTILINE,
    ),
    _form(
        "name of a user",
        rf"{_LINE}(?:Author|Committer|Co-authored-by|Signed-off-by|Reviewed-by|From):[ \t]+(?!USER)"
        r"([^<>\n]{2,80}?)[ \t]*<",
        "USER",
        group=1,
        flags=re.MULTILINE,
    ),
    _form(
        "name of a host",
        r"(?i)(?<![\w-])--(?:node-?list|exclude|hosts?|master[-_]addr|rdzv[-_]endpoint|head[-_]node|node[-_]ip[-_]address"
        r"|mail-user)[ =][\"']?(?!HOST|IP\b|WITHHELD|localhost|EMAIL)([A-Za-z0-9][^\s\"';)]{1,300})",
        "HOST",
        group=1,
    ),
    _form(
        "name of a project",
        r"(?<![\w-])--(?:account|reservation|wckey)[ =][\"']?(?!WITHHELD)([A-Za-z][\w.-]{1,80})",
        "WITHHELD",
        group=1,
    ),
    *(
        _form(
            "name of a host", rf"{_SLURM}-{letter}[ =]?(?!HOST|WITHHELD)([A-Za-z][\w.,\[\]-]{{2,300}})", word, group=1
        )
        for letter, word in (("w", "HOST"), ("x", "HOST"), ("A", "WITHHELD"))
    ),
    _form(
        "name of a host",
        r"(?<![\w.$%-])(?P<host>[A-Za-z][A-Za-z0-9]*-[A-Za-z0-9-]{0,60}|[A-Za-z]{3,30})\[(?:0[0-9]{1,5}|[0-9]{1,6}-[0-9]{1,6})"
        r"(?:[-,][0-9]{1,6}){0,200}\]",
        "HOST",
        fits=_is_a_list_of_nodes,
    ),
    _form("name of a host", rf"\bON (?!HOST)({_HOST}) (?=CANCELLED|FAILED|TERMINATED)", "HOST", group=1),
    _form("name of a host", rf"(?<=\])@(?!HOST)({_HOST})(?=[:\]\s])", "HOST", group=1),
    _form(
        "name of a host",
        r"(?i)(?:socket|connect\w{0,4}|connection|host(?:name)?|node|server|endpoint|addr(?:ess)?|listening|bind)\b[^\n]{0,60}?"
        r"[ \t\[(=@'\":](?!HOST|IP\b)(?P<host>[a-z][a-z0-9.-]{2,60})\]?:(?=[0-9]{2,5}(?!\w|\.[0-9]))",
        "HOST",
        group=1,
        fits=_names_a_machine,
    ),
    _form(
        "name of a host",
        r"(?<![\w/])(?:pods?|deployments?|namespaces?)/(?!HOST)([a-z0-9][a-z0-9-]{2,120})(?![\w.])",
        "HOST",
        group=1,
    ),
    _form("name of a host", r"(?<![\w.-])ip-[0-9]{1,3}(?:-[0-9]{1,3}){3}(?![\w-])", "HOST"),
)


@lru_cache(maxsize=1)
def _forms() -> tuple[Form, ...]:
    """Ours, then those of detect-secrets, loaded when the first text is looked at (0.15 s)."""
    import importlib

    from detect_secrets.plugins.base import RegexBasedDetector

    theirs = []
    for name in _PLUGINS:
        module: Any = importlib.import_module(f"detect_secrets.plugins.{name}")
        for plugin in vars(module).values():
            own = isinstance(plugin, type) and plugin.__module__ == module.__name__
            if own and issubclass(plugin, RegexBasedDetector):
                theirs += [Form(plugin.secret_type, pattern, anywhere=True) for pattern in plugin.denylist]
    return (*_OURS, *theirs)

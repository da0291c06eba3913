"""Source archives (.tar.gz) of packages: read member by member, never built, never extracted as they are.

An sdist is an archive from elsewhere. Names that would leave the target folder, links, devices, oversized or damaged
members are refused or passed over before a byte is written; its setup.py is a text like any other.
"""

from __future__ import annotations

import hashlib
import html.parser
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

from helpers.compiler.bring.wheels import check_member_name
from helpers.errors import UserError
from helpers.processes import end_with_parent

MAX_INDEX_BYTES, MAX_ARCHIVE_BYTES = 20_000_000, 400_000_000
INDEX_TIMEOUT_S = 60.0
_JSON = "application/vnd.pypi.simple.v1+json"
_SETUP_DIRECTORIES = ("src", "python", "lib")


def is_sdist(name: str) -> bool:
    """Whether a file's name is that of a source archive."""
    return name.endswith(".tar.gz")


def read_sdist(archive: Path, *, max_members: int, max_bytes: int, max_total: int) -> dict[str, bytes]:
    """The Python files of an sdist by name, without the folder that holds them all (and a `src/` below it).

    Members of more than `max_bytes` are left out. Raises UserError for what is no such archive or not to be trusted.
    """
    found: dict[str, bytes] = {}
    total = count = 0
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for info in tar:
                count += 1
                if count > 10 * max_members:
                    raise UserError(f"{archive.name} holds more than {10 * max_members} files: not an sdist to read")
                name = info.name.removeprefix("./")
                if "\\" in name or ":" in name or "\0" in name or name.startswith("/") or ".." in name.split("/"):
                    raise UserError(f"{archive.name} holds a file named {info.name[:80]!r}: not an sdist to trust")
                # Past a link or a device, whatever it is called.
                if not info.isreg() or not name.endswith(".py"):
                    continue
                check_member_name(name, archive, "an sdist")
                inner = name.partition("/")[2] or name
                if inner in found:
                    raise UserError(f"{archive.name} holds {inner[:80]!r} twice: not an sdist to trust")
                if len(found) >= max_members:
                    raise UserError(f"{archive.name} holds more than {max_members} Python files; no more are read")
                source = tar.extractfile(info)
                data = source.read(max_bytes + 1) if source is not None else b""
                total += len(data)
                if total > max_total:
                    raise UserError(f"the Python files of {archive.name} are larger than {max_total} bytes together")
                if len(data) <= max_bytes:
                    found[inner] = data
    except (OSError, tarfile.TarError, zlib.error, EOFError, ValueError) as exc:
        raise UserError(f"cannot read {archive.name} as an sdist: {exc}; fetch it again") from None
    return _without_source_folder(found)


def _without_source_folder(files: dict[str, bytes]) -> dict[str, bytes]:
    """Packages that lie in `src/` are imported without it: named as below it, unless that name is taken."""
    renamed = {}
    for name, data in files.items():
        first, _, rest = name.partition("/")
        bare = rest if first in _SETUP_DIRECTORIES and f"{first}/__init__.py" not in files and "/" in rest else name
        renamed[name if bare in files or bare in renamed else bare] = data
    return renamed


# --- from the index ---------------------------------------------------------------------------------------


def download_sdist(name: str, version: str, folder: Path) -> Path | None:
    """The sdist of a release from the index that pip is set up with, checked against its sha256; None if it has none.

    Raises UserError when what comes is not what the index says.
    """
    index = index_url().rstrip("/")
    if not index.startswith(("https://", "http://")):
        return None
    page = f"{index}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    try:
        request = urllib.request.Request(page, headers={"Accept": f"{_JSON}, text/html;q=0.5"})
        with urllib.request.urlopen(request, timeout=INDEX_TIMEOUT_S) as answer:
            text = answer.read(MAX_INDEX_BYTES).decode(errors="replace")
            is_json = "json" in (answer.headers.get("Content-Type") or "")
    except (OSError, ValueError):
        return None
    link = sdist_link(text, name, version, page_url=page, is_json=is_json)
    if link is None:
        return None
    url, digest = link
    target = folder / Path(urllib.parse.urlsplit(url).path).name
    seen, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=INDEX_TIMEOUT_S) as source, open(target, "wb") as out:
            while chunk := source.read(1 << 20):
                size += len(chunk)
                if size > MAX_ARCHIVE_BYTES:
                    raise UserError(f"{target.name} is larger than {MAX_ARCHIVE_BYTES} bytes")
                seen.update(chunk)
                out.write(chunk)
    except (OSError, ValueError) as exc:
        raise UserError(f"cannot fetch {target.name}: {exc}; download it yourself and give its path instead") from None
    if digest and seen.hexdigest() != digest:
        raise UserError(f"{target.name} is not what the index says it is (sha256); nothing of it was read")
    return target


def sdist_link(page: str, name: str, version: str, *, page_url: str = "", is_json: bool) -> tuple[str, str] | None:
    """(address, sha256 or "") of a release's .tar.gz in an index page (PEP 503 or 691); None where it is not there."""
    links: list[tuple[str, str]] = []
    if is_json:
        try:
            files = json.loads(page)["files"]
            links = [(str(f["url"]), str(f.get("hashes", {}).get("sha256", ""))) for f in files]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
    else:
        reader = _Links()
        reader.feed(page)
        links = [(address.partition("#")[0], _digest(address)) for address in reader.links]
    normal = re.sub(r"[-_.]+", "-", name).lower()
    for address, digest in links:
        full = urllib.parse.urljoin(page_url, address)
        file = urllib.parse.unquote(Path(urllib.parse.urlsplit(full).path).name)
        stem, _, of_file = file.removesuffix(".tar.gz").rpartition("-")
        if is_sdist(file) and of_file == version and re.sub(r"[-_.]+", "-", stem).lower() == normal:
            return (full, digest) if full.startswith(("https://", "http://")) else None
    return None


def _digest(address: str) -> str:
    found = re.search(r"#(?:.*&)?sha256=([0-9a-f]{64})", address)
    return found[1] if found else ""


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links += [value for key, value in attrs if key == "href" and value]


def index_url() -> str:
    """The package index that pip asks here; "" where pip does not say."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "get", "global.index-url"]
    default = [sys.executable, "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"]
    for command in (pip, default):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=end_with_parent()
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return ""

"""Kernels from wheels and sdists: hostile archives are refused, nothing is installed and nothing is built."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from helpers.compiler.bring import from_wheel as wheel_kernels
from helpers.compiler.bring.from_wheel import fetch_wheel, spec_from_wheel
from helpers.compiler.bring.sdists import sdist_link
from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError
from helpers.files import CACHE_ENV, ROOT
from helpers.processes import PREFIX, sweep

pytestmark = pytest.mark.usefixtures("own_cache")
KERNEL = """
import torch, cutlass
from tiny.util import logger, helper
from tiny.triton_utils import triton, tl
from tiny.ops.more import twice

@triton.jit
def scale(x_ptr, n, BLOCK: tl.constexpr):
    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + where, twice(tl.load(x_ptr + where, mask=where < n)), mask=where < n)
"""
FILES = {
    "tiny/__init__.py": "raise RuntimeError('the package was imported')\n",
    "tiny/util.py": "raise RuntimeError('not device code')\n",
    "tiny/ops/__init__.py": "",
    "tiny/ops/scale.py": KERNEL,
    "tiny/ops/more.py": "import triton\n@triton.jit\ndef twice(x):\n    return x * 2\n",
    "tiny/ops/beside.py": "CONSTANT = 1\n",
    # What a package's own file hands on is not kept; the folder is, for the device code in it.
    "tiny/triton_utils/__init__.py": "from tiny.triton_utils.real import tl, triton\n",
    "tiny/triton_utils/device.py": "import triton\n@triton.jit\ndef unused(x):\n    return x\n",
    "tiny/big.so": "x" * 1000,
    "tiny-1.0.dist-info/METADATA": "Name: tiny\n",
}


def make_wheel(folder: Path, files: dict[str, str], name: str = "tiny-1.0-py3-none-any.whl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as out:
        for member, text in files.items():
            out.writestr(member, text)
    return folder / name


def test_a_kernel_straight_out_of_a_wheel_compiles(tmp_path):
    wheel = make_wheel(tmp_path, FILES)
    spec = spec_from_wheel(wheel, "tiny/ops/scale.py:scale", "*fp32:16, i32, 128", options={"num_warps": 2})
    assert spec.label == "tiny-1.0 scale:scale BLOCK=128 w2"
    kept = {str(f.relative_to(spec.kernel.root)) for f in spec.kernel.root.rglob("*.py")}
    assert kept == {name for name in FILES if name.endswith(".py")}
    # Of these, the kernel's source is its own folder and what holds device code: nothing else changes its key.
    assert {f.name for f in spec.kernel.source_files()} == {"scale.py", "more.py"}
    report = compile_kernel(spec, "sm_90a", Toolchain("environment"))
    assert report.status == "ok", report.message
    # The end of a path is enough where one file has it; what is not there is answered with what is.
    assert spec_from_wheel(wheel, "scale.py:scale", "*fp32:16, i32, 128").kernel == spec.kernel
    with pytest.raises(
        UserError, match=r"files with kernels: tiny/ops/more.py, tiny/ops/scale.py, tiny/triton_utils/device.py"
    ):
        spec_from_wheel(wheel, "tiny/util.py:logger")
    with pytest.raises(UserError, match="FILE:KERNEL"):
        spec_from_wheel(wheel, "tiny/ops/scale.py")


def test_another_file_of_the_same_name_does_not_pass_for_the_first(tmp_path):
    first = fetch_wheel(make_wheel(tmp_path / "a", FILES))
    other = {**FILES, "tiny/ops/more.py": FILES["tiny/ops/more.py"].replace("* 2", "* 3")}
    second = fetch_wheel(make_wheel(tmp_path / "b", other))
    assert first != second and "* 2" in (first / "tiny/ops/more.py").read_text()
    assert "* 3" in (second / "tiny/ops/more.py").read_text()
    assert fetch_wheel(tmp_path / "a" / "tiny-1.0-py3-none-any.whl") == first
    assert fetch_wheel(tmp_path / "b" / "tiny-1.0-py3-none-any.whl") == second


def _symlink(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as out:
        info = zipfile.ZipInfo("tiny/link.py")
        info.external_attr = 0o120777 << 16
        out.writestr(info, "/etc/passwd")


@pytest.mark.parametrize(
    ("name", "text"),
    [("../evil.py", "triton.jit"), ("/abs/evil.py", "triton.jit"), ("tiny/..\\evil.py", ""), ("C:/evil.py", "")],
)
def test_names_that_leave_the_folder_are_refused_before_a_byte_is_written(tmp_path, own_cache, name, text):
    wheel = make_wheel(tmp_path / "in", {**FILES, name: text})
    with pytest.raises(UserError, match="not a wheel to trust"):
        fetch_wheel(wheel)
    assert not list((own_cache / "packages").glob("*")) and not list(tmp_path.rglob("evil.py"))


def test_links_duplicates_bombs_and_damage_are_refused(tmp_path, own_cache, monkeypatch):
    linked = make_wheel(tmp_path / "link", FILES)
    _symlink(linked)
    with pytest.raises(UserError, match="holds a link"):
        fetch_wheel(linked)
    monkeypatch.setattr(wheel_kernels, "MAX_TOTAL_BYTES", 3_000_000)
    bomb = make_wheel(tmp_path / "bomb", {**FILES, **{f"tiny/b{i}.py": "#" * 1_500_000 for i in range(4)}})
    assert bomb.stat().st_size < 50_000
    with pytest.raises(UserError, match="larger than 3000000 bytes together"):
        fetch_wheel(bomb)
    monkeypatch.setattr(wheel_kernels, "MAX_MEMBERS", 4)
    with pytest.raises(UserError, match="at most 4 are read"):
        fetch_wheel(make_wheel(tmp_path / "many", FILES))
    damaged = make_wheel(tmp_path / "damaged", FILES)
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot read"):
        fetch_wheel(damaged)
    with pytest.raises(UserError, match="no Triton kernel"):
        fetch_wheel(make_wheel(tmp_path / "empty", {"tiny/x.py": "1\n"}))
    assert not list((own_cache / "packages").glob("*")), "half a wheel was left in the cache"


@pytest.mark.parametrize("damage", ["version", "name", "nameless", "method", "file and folder"])
def test_whatever_ends_the_zip_reader_is_one_sentence(tmp_path, own_cache, damage):
    """Python's zipfile has no one exception for damage: each of these ends it in another way."""
    wheel = make_wheel(tmp_path, FILES | ({"tiny/util.py/x.py": ""} if damage == "file and folder" else {}))
    if damage == "nameless":
        with zipfile.ZipFile(wheel, "a") as out:
            out.writestr(zipfile.ZipInfo(""), "")
    data = bytearray(wheel.read_bytes())
    entry = data.index(b"PK\x01\x02")
    if damage == "version":
        data[entry + 6] = 99
    if damage == "name":
        data[entry + 9] |= 0x08  # says that the name is UTF-8, which it is not
        data[entry + 46] = 0x8D
    if damage == "method":
        data[entry + 10] = 77
    wheel.write_bytes(data)
    with pytest.raises(UserError, match=r"tiny-1\.0"):
        fetch_wheel(wheel)
    assert not list((own_cache / "packages").rglob("*.py"))


def test_one_huge_member_is_passed_over_and_the_rest_is_read(tmp_path):
    wheel = make_wheel(tmp_path, {**FILES, "tiny/ops/huge.py": "# triton.jit\n" + "#" * 5_000_000})
    folder = fetch_wheel(wheel)
    assert (folder / "tiny/ops/scale.py").is_file() and not (folder / "tiny/ops/huge.py").exists()


def test_pip_is_asked_once_for_wheels_only_and_its_words_come_through(tmp_path, monkeypatch):
    asked = []

    def pip(command, **_options):
        asked.append(command)
        if command[-1] == "gone==9.9":
            return subprocess.CompletedProcess(
                command, 1, "", "noise\nERROR: No matching distribution found for gone==9.9\n"
            )
        make_wheel(Path(command[command.index("--dest") + 1]), FILES)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheel_kernels.subprocess, "run", pip)
    monkeypatch.setattr(wheel_kernels, "download_sdist", lambda *_: None)
    folder = fetch_wheel("tiny==1.0")
    assert folder.name == "tiny-1.0" and fetch_wheel("tiny==1.0") == folder and len(asked) == 1
    assert {"--no-deps", "--only-binary=:all:"} <= set(asked[0]) and asked[0][-1] == "tiny==1.0"
    assert "shell" not in asked[0]
    with pytest.raises(UserError, match=r"No matching distribution.*give its path"):
        fetch_wheel("gone==9.9")


@pytest.mark.parametrize(
    "word", ["", "tiny==1.0; rm -rf /", "--index-url=http://x", "-r", "tiny @ http://x", "a" * 200, "x.whl"]
)
def test_what_is_no_requirement_never_reaches_pip(word, monkeypatch):
    monkeypatch.setattr(wheel_kernels.subprocess, "run", lambda *a, **k: pytest.fail("pip was asked"))
    with pytest.raises(UserError):
        fetch_wheel(word)


# --- what is remembered ---------------------------------------------------------------------------------


@pytest.fixture
def index(monkeypatch, own_cache) -> list[str]:
    """An index that has tiny 1.0 with another kernel than these tests' wheels; the requirements it was asked for."""
    asked: list[str] = []

    def download(requirement, folder, **_options):
        asked.append(requirement)
        return make_wheel(folder, {**FILES, "tiny/ops/scale.py": FILES["tiny/ops/scale.py"] + "# of the index\n"})

    monkeypatch.setattr(wheel_kernels, "download", download)
    return asked


def of_index(folder: Path) -> bool:
    return (folder / "tiny/ops/scale.py").read_text().endswith("# of the index\n")


def test_a_file_of_the_users_never_answers_for_the_release_of_its_name(tmp_path, index):
    mine = make_wheel(tmp_path / "in", FILES)
    assert mine.name.startswith("tiny-1.0-") and not of_index(fetch_wheel(mine))
    assert of_index(fetch_wheel("tiny==1.0")) and index == ["tiny==1.0"]
    assert not of_index(fetch_wheel(mine)) and of_index(fetch_wheel("tiny==1.0")) and len(index) == 1
    sdist = make_sdist(tmp_path / "sdist", FILES, "tiny-1.0.tar.gz", "tiny-1.0/")
    assert not of_index(fetch_wheel(sdist)) and of_index(fetch_wheel("tiny==1.0"))


@pytest.mark.parametrize("damage", ["changed", "gone", "more", "not json", "no list", "old list", "a list", "deep"])
def test_a_source_in_the_cache_that_is_not_what_was_unpacked_is_unpacked_anew(damage, index):
    folder = fetch_wheel("tiny==1.0")
    about = json.loads((folder / "wheel.json").read_text())
    source = folder / "tiny/ops/scale.py"
    if damage == "changed":
        source.write_text(source.read_text().replace("*", "/", 1))
    elif damage == "gone":
        source.unlink()
    elif damage == "more":
        (folder / "tiny/ops/triton.py").write_text("raise SystemExit\n")
    else:
        text = {"not json": "{", "no list": "{}", "a list": "[]", "deep": "[" * 100_000,
                "old list": json.dumps({**about, "kept": sorted(about["kept"])})}[damage]  # fmt: skip
        (folder / "wheel.json").write_text(text)
    assert of_index(again := fetch_wheel("tiny==1.0")) and again == folder and len(index) == 2
    assert not (folder / "tiny/ops/triton.py").exists() and fetch_wheel("tiny==1.0") == folder and len(index) == 2


def test_names_that_no_disk_takes_are_a_sentence(tmp_path, own_cache):
    for number, name in enumerate(("tiny/" + "n" * 300 + ".py", "d/" * 1_200 + "k.py", "a/" * 900 + "k.py")):
        with pytest.raises(UserError, match="not a wheel to trust"):
            fetch_wheel(make_wheel(tmp_path / f"w{number}", {**FILES, name: "# triton.jit"}))
        with pytest.raises(UserError, match="not an sdist to trust"):
            fetch_wheel(make_sdist(tmp_path / f"s{number}", {**FILES, name: "# triton.jit"}))
    with pytest.raises(UserError, match="there is no file"):
        fetch_wheel("n" * 300 + ".whl")
    for special in ("/dev/zero", "/proc/kmsg"):
        (tmp_path / "x.whl").unlink(missing_ok=True)
        (tmp_path / "x.whl").symlink_to(special)
        with pytest.raises(UserError, match="the archive"):
            fetch_wheel(tmp_path / "x.whl")


# --- sdists -----------------------------------------------------------------------------------------------


def make_sdist(folder: Path, files: dict[str, str], name: str = "tiny-2.0.tar.gz", top: str = "tiny-2.0/") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / name, "w:gz") as out:
        for member, text in files.items():
            info = tarfile.TarInfo(top + member)
            info.size = len(text.encode())
            out.addfile(info, io.BytesIO(text.encode()))
    return folder / name


def test_an_sdist_is_read_and_its_setup_is_not_run(tmp_path, own_cache):
    setup = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    sdist = make_sdist(tmp_path, {**FILES, "setup.py": setup})
    spec = spec_from_wheel(sdist, "tiny/ops/scale.py:scale", "*fp32:16, i32, 128", options={"num_warps": 2})
    assert spec.label.startswith("tiny-2.0 scale:scale") and not (tmp_path / "ran").exists()
    assert [path.name for path in (own_cache / "packages" / "files").glob("*/*")] == ["tiny-2.0"]
    report = compile_kernel(spec, "sm_90a", Toolchain("environment"))
    assert report.status == "ok", report.message
    assert fetch_wheel(sdist) == spec.kernel.root


def test_a_package_below_src_is_imported_without_it(tmp_path):
    sdist = make_sdist(tmp_path, {f"src/{name}": text for name, text in FILES.items()})
    spec = spec_from_wheel(sdist, "tiny/ops/scale.py:scale", "*fp32:16, i32, 128")
    assert compile_kernel(spec, "sm_90a", Toolchain("environment")).status == "ok"


@pytest.mark.parametrize("name", ["../evil.py", "a/../../evil.py", "/abs/evil.py", "tiny\\evil.py", "C:/evil.py"])
def test_an_sdist_that_would_leave_its_folder_is_refused(tmp_path, own_cache, name):
    with pytest.raises(UserError, match="not an sdist to trust"):
        fetch_wheel(make_sdist(tmp_path / "in", {**FILES, name: "triton.jit"}, top=""))
    assert not list((own_cache / "packages").glob("*")) and not list(tmp_path.rglob("evil.py"))


def test_links_bombs_and_damage_in_an_sdist(tmp_path, own_cache, monkeypatch):
    sdist = make_sdist(tmp_path / "link", {})
    with tarfile.open(sdist, "w:gz") as out:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"tiny-2.0/tiny/link{kind.decode()}.py")
            info.type, info.linkname = kind, "/etc/passwd"
            out.addfile(info)
        info = tarfile.TarInfo("tiny-2.0/tiny/k.py")
        info.size = len(b"# triton.jit\n")
        out.addfile(info, io.BytesIO(b"# triton.jit\n"))
    folder = fetch_wheel(sdist)
    assert [f.name for f in folder.rglob("*.py")] == ["k.py"]
    monkeypatch.setattr(wheel_kernels, "MAX_TOTAL_BYTES", 3_000_000)
    bomb = {**FILES, **{f"tiny/b{i}.py": "#" * 1_500_000 for i in range(4)}}
    with pytest.raises(UserError, match="larger than 3000000 bytes together"):
        fetch_wheel(make_sdist(tmp_path / "bomb", bomb))
    for cut in (0, 50, 300):
        damaged = make_sdist(tmp_path / f"cut{cut}", FILES)
        damaged.write_bytes(damaged.read_bytes()[:cut])
        with pytest.raises(UserError, match=r"cannot read|no Triton kernel"):
            fetch_wheel(damaged)


PAGE = """<!DOCTYPE html><html><body>
<a href="../../files/tiny-1.0-py3-none-any.whl#sha256={d}">tiny-1.0-py3-none-any.whl</a>
<a href="../../files/Tiny-2.0.tar.gz#sha256={d}" data-requires-python="&gt;=3.8">Tiny-2.0.tar.gz</a>
<a href="../../files/tiny-extra-2.0.tar.gz#sha256={d}">tiny-extra-2.0.tar.gz</a></body></html>""".format(d="a" * 64)


def test_the_address_of_an_sdist_in_both_kinds_of_index_page():
    found = sdist_link(PAGE, "tiny", "2.0", page_url="https://index.test/simple/tiny/", is_json=False)
    assert found == ("https://index.test/files/Tiny-2.0.tar.gz", "a" * 64)
    files = [{"url": "https://files.test/tiny-2.0.tar.gz", "hashes": {"sha256": "b" * 64}}]
    page = json.dumps({"files": [{"url": "tiny-2.0.zip", "hashes": {}}, *files]})
    assert sdist_link(page, "tiny", "2.0", page_url="https://i.test/tiny/", is_json=True) == (files[0]["url"], "b" * 64)
    for text, is_json in (("", True), ("[1]", True), ("{", True), ("<a href='file:///tiny-2.0.tar.gz'>", False)):
        assert sdist_link(text, "tiny", "2.0", page_url="", is_json=is_json) is None
    assert sdist_link(PAGE, "tiny", "3.0", page_url="", is_json=False) is None


def test_a_release_without_a_wheel_comes_as_an_sdist_that_is_what_the_index_says(tmp_path, monkeypatch):
    sdist = make_sdist(tmp_path / "files", FILES)
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    page = {"files": [{"url": "tiny-2.0.tar.gz", "hashes": {"sha256": digest}}]}

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = sdist.read_bytes() if self.path.endswith(".tar.gz") else json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    refused = UserError("pip download tiny==2.0 failed: no wheel")
    monkeypatch.setattr(wheel_kernels, "download", lambda *_: (_ for _ in ()).throw(refused))
    try:
        page["files"][0]["hashes"]["sha256"] = "0" * 64
        with pytest.raises(UserError, match="not what the index says"):
            fetch_wheel("tiny==2.0")
        page["files"][0]["hashes"]["sha256"] = digest
        assert (fetch_wheel("tiny==2.0") / "tiny/ops/scale.py").is_file()
        with pytest.raises(UserError, match="no wheel"):
            fetch_wheel("tiny==9.0")
    finally:
        server.shutdown()
        server.server_close()


PIP = """
import os, signal, sys, tempfile
if sys.argv[1] == "download":
    open(os.path.join(tempfile.mkdtemp(prefix="pip-unpack-"), "half.whl"), "w").write("x")
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
sys.exit(1)
"""


def test_what_a_killed_download_has_unpacked_goes_at_the_next_start(tmp_path):
    place, packages = tmp_path / "tmp", tmp_path / "packages"
    place.mkdir()
    (packages / "pip").mkdir(parents=True)
    (packages / "pip" / "__init__.py").touch()
    (packages / "pip" / "__main__.py").write_text(PIP)
    code = "from helpers.compiler.bring.from_wheel import fetch_wheel\nfetch_wheel('tiny==1.0')"
    env = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}",
           CACHE_ENV: str(tmp_path / "cache")}  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == -signal.SIGKILL
    left = list(place.iterdir())
    assert any(path.rglob("half.whl") for path in left) and all(path.name.startswith(PREFIX) for path in left), left
    for path in left:
        os.utime(path, (1, 1))
    assert sweep(place) == len(left) and list(place.iterdir()) == []

"""The cache: content decides, damage is noticed and made good, nobody sees half an entry."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest

from helpers.compiler import cache
from helpers.compiler.compile import compile_kernel
from helpers.compiler.toolchain import Toolchain, resolve_triton
from helpers.files import CACHE_ENV, staged_folder

pytestmark = pytest.mark.usefixtures("toolchain_351")
REPO_ROOT = Path(__file__).parents[2]
TOOLCHAIN = Toolchain("3.5.1")


def compile_351(spec):
    return compile_kernel(spec, "sm_90a", TOOLCHAIN)


def entries(root):
    return sorted(p.parent for p in root.glob("*/*/*/meta.json"))


def leftovers(root):
    return [p for kind in ("codegen", "assembly") for p in (root / kind).rglob(".*")]


def test_second_compile_is_read_and_equal(write_kernel, own_cache):
    first, second = compile_351(write_kernel()), compile_351(write_kernel())
    assert not first.cached and second.cached
    assert {**first.to_dict(), "cached": True} == second.to_dict()


def test_same_content_from_another_folder_hits(write_kernel, own_cache):
    compile_351(write_kernel(folder="one"))
    assert compile_351(write_kernel(folder="two")).cached


def test_arch_toolchain_and_flags_are_part_of_the_content(write_kernel, own_cache):
    spec = write_kernel()
    compile_351(spec)
    assert not compile_kernel(spec, "sm_80", TOOLCHAIN).cached
    assert not compile_kernel(spec, "sm_90a", TOOLCHAIN, ptxas_flags=["-O1"]).cached
    assert not compile_kernel(spec, "sm_90a", Toolchain("environment")).cached
    assert compile_351(spec).cached


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _retyped(path):
    digest_free = json.loads(path.read_bytes().partition(b"\n")[2])
    path.write_text(json.dumps(dict.fromkeys(digest_free, 7)))


DAMAGE = {
    "truncated": _truncate,
    "empty": lambda path: path.write_bytes(b""),
    "other bytes, same size": _flip,
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", ["meta.json", "kernel.ptx", "kernel.cubin", "ptxas.log", "kernel.ttgir"])
def test_a_damaged_entry_is_made_again(write_kernel, own_cache, file, how):
    spec = write_kernel()
    whole = compile_351(spec)
    damaged = [folder / file for folder in entries(own_cache) if (folder / file).exists()]
    assert damaged
    for path in damaged:
        DAMAGE[how](path)
    again = compile_351(spec)
    assert not again.cached
    assert again.status == "ok" and Path(again.ptx_path).read_bytes() and again.ptx_sha256 == whole.ptx_sha256
    assert compile_351(spec).cached
    assert leftovers(own_cache) == []


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"files": 3, "sha256": []}',
        b'{"files": {}, "sha256": {}}',
    ],
)
def test_meta_data_of_any_other_kind_are_made_again(write_kernel, own_cache, text):
    spec = write_kernel()
    compile_351(spec)
    for folder in entries(own_cache):
        # With a digest that fits as well: what is read must also be what this version writes.
        (folder / "meta.json").write_bytes(text)
    assert not compile_351(spec).cached
    assert compile_351(spec).cached


def test_retyped_meta_data_are_made_again(write_kernel, own_cache):
    spec = write_kernel()
    compile_351(spec)
    for folder in entries(own_cache):
        _retyped(folder / "meta.json")
    assert compile_351(spec).status == "ok"


def test_a_file_in_an_entry_s_place_is_replaced(write_kernel, own_cache):
    spec = write_kernel()
    compile_351(spec)
    for folder in entries(own_cache):
        shutil.rmtree(folder)
        folder.write_text("in the way")
    assert compile_351(spec).status == "ok"
    assert compile_351(spec).cached


def test_damage_between_front_end_and_ptxas_is_noticed(write_kernel, own_cache):
    """The PTX read back for another ptxas run is the PTX that was generated."""
    spec = write_kernel()
    first = compile_351(spec)
    _flip(Path(first.ptx_path))
    report = compile_kernel(spec, "sm_90a", TOOLCHAIN, ptxas_flags=["-O1"])
    assert report.status == "ok" and report.ptx_sha256 == first.ptx_sha256


@pytest.mark.parametrize("where", ["a file", "below a file", "/proc"])
def test_an_unwritable_cache_warns_and_works(write_kernel, tmp_path, monkeypatch, where):
    spec = write_kernel()
    (tmp_path / "file").write_text("not a folder")
    place = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "cache",
        "/proc": Path("/proc/cache"),
    }[where]
    monkeypatch.setenv(CACHE_ENV, str(place))
    with pytest.warns(UserWarning, match="cannot write to the cache folder"):
        report = compile_kernel(spec, "sm_90a", Toolchain("environment"))
    assert report.status == "ok" and Path(report.ptx_path).is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert compile_kernel(spec, "sm_90a", Toolchain("environment")).cached


@pytest.fixture
def read_only(own_cache, monkeypatch):
    """The cache as one that belongs to somebody else: it can be read, and nothing in it be made, moved or removed."""

    def begin() -> None:
        def guarded(real, writes=lambda *_args: True):
            def call(path, *args, **options):
                if Path(os.fsdecode(path)).is_relative_to(own_cache) and writes(*args):
                    raise PermissionError(errno.EACCES, "Permission denied", os.fsdecode(path))
                return real(path, *args, **options)

            return call

        for name in ("mkdir", "rename", "unlink", "rmdir", "replace"):
            monkeypatch.setattr(os, name, guarded(getattr(os, name)))
        opened = guarded(os.open, lambda flags, *_rest: flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
        monkeypatch.setattr(os, "open", opened)

    return begin


def test_a_cache_that_cannot_be_written_is_read(write_kernel, own_cache, read_only):
    spec = write_kernel()
    first = compile_351(spec)
    before = sorted(own_cache.rglob("*"))
    read_only()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is to be written, so there is nothing to say
        again = compile_351(spec)
    assert again.cached and again.ptx_path == first.ptx_path
    with pytest.warns(UserWarning, match=r"cannot write to the cache folder .*Permission denied.*removed at the end"):
        other = compile_351(spec.with_constexprs(BLOCK=256))
    assert other.status == "ok" and not other.cached and not Path(other.ptx_path).is_relative_to(own_cache)
    assert compile_351(spec.with_constexprs(BLOCK=256)).cached
    assert sorted(own_cache.rglob("*")) == before


@pytest.mark.parametrize("file", ["kernel.ptx", "kernel.cubin", "meta.json"])
def test_a_damaged_entry_that_cannot_be_removed_is_told_and_made_beside(write_kernel, own_cache, read_only, file):
    spec = write_kernel()
    whole = compile_351(spec)
    content = {name: Path(path).read_bytes() for name, path in (("ptx", whole.ptx_path), ("cubin", whole.cubin_path))}
    for folder in entries(own_cache):
        if (folder / file).exists():
            _flip(folder / file)
    read_only()
    with pytest.warns(UserWarning) as told:
        report = compile_351(spec)
    words = [str(warning.message) for warning in told]
    assert any("is damaged" in w and "remove it by hand" in w for w in words), words
    assert report.status == "ok" and Path(report.ptx_path).read_bytes() == content["ptx"]
    assert Path(report.cubin_path).read_bytes() == content["cubin"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once, and what was made beside is read
        again = compile_351(spec)
    assert again.cached and Path(again.cubin_path).read_bytes() == content["cubin"]


def test_a_damaged_entry_that_stays_where_it_is_hides_nothing(own_cache, monkeypatch):
    """The folder can be written, and still the old entry does not go away."""
    key = "cd" * 32
    cache.write("codegen", key, {"n": 1}, {"f": b"whole"})
    _flip(cache.entry_folder("codegen", key) / "f")
    monkeypatch.setattr(cache, "discard_folder", lambda _folder: None)
    with pytest.warns(UserWarning, match="a damaged entry is in the way"):
        entry, cached = cache.get_or_make("codegen", key, lambda: ({"n": 1}, {"f": b"whole"}, True))
    assert not cached and (entry["folder"] / "f").read_bytes() == b"whole"
    assert cache.get_or_make("codegen", key, lambda: pytest.fail("it is there"))[1]


def test_an_entry_that_another_one_removes_at_once_is_stored_again(own_cache, monkeypatch):
    real, times = cache._store, []

    def store(folder, content):
        real(folder, content)
        times.append(folder)
        if len(times) == 1:
            shutil.rmtree(folder)

    monkeypatch.setattr(cache, "_store", store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = cache.write("codegen", "ef" * 32, {"n": 1}, {"f": b"x"})
    assert len(times) == 2 and (entry["folder"] / "f").read_bytes() == b"x"


def test_no_room_to_read_an_entry_is_no_damage(own_cache, monkeypatch):
    key = "12" * 32
    cache.write("codegen", key, {"n": 1}, {"f": b"x"})
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_read_intact", lambda _folder: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many")))
        assert cache.read("codegen", key) is None
    assert cache.read("codegen", key)["n"] == 1


def test_a_disk_that_was_full_for_a_moment_is_used_again(write_kernel, own_cache, read_only, monkeypatch):
    spec = write_kernel()
    with monkeypatch.context() as patch:
        patch.setattr("helpers.files.tempfile.TemporaryFile", lambda **_options: (_ for _ in ()).throw(
            OSError(errno.ENOSPC, "No space left on device")))  # fmt: skip
        with pytest.warns(UserWarning, match="No space left"):
            beside = compile_351(spec)
    assert not Path(beside.ptx_path).is_relative_to(own_cache)
    after = compile_351(spec.with_constexprs(BLOCK=256))
    assert Path(after.ptx_path).is_relative_to(own_cache)


def test_part_of_the_cache_unwritable_warns_and_works(write_kernel, own_cache):
    (own_cache / "assembly").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot write to the cache folder"):
        report = compile_351(write_kernel())
    assert report.status == "ok" and Path(report.cubin_path).is_file()


def test_full_disk_warns_and_works(write_kernel, own_cache, monkeypatch):
    real, full = Path.write_bytes, OSError(28, "No space left on device")

    def write_bytes(self, content):
        if own_cache in self.parents:
            raise full
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.warns(UserWarning, match="No space left on device"):
        report = compile_351(write_kernel())
    assert report.status == "ok" and Path(report.ptx_path).is_file()
    assert entries(own_cache) == [] and leftovers(own_cache) == []


def test_an_entry_that_appears_while_one_looks_is_not_thrown_away(own_cache, monkeypatch):
    """Between 'not there' and 'is there a folder?' another process may have finished the same entry."""
    real, looks = cache._read_intact, []

    def late(folder):
        looks.append(folder)
        if len(looks) == 1:
            cache.write("codegen", "a" * 64, {"n": 1}, {"f": b"x"})
            raise FileNotFoundError
        return real(folder)

    monkeypatch.setattr(cache, "_read_intact", late)
    assert cache.read("codegen", "a" * 64)["n"] == 1


def test_staged_folder_leaves_all_or_nothing(tmp_path):
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "x" / "final") as scratch:
        (scratch / "half").write_text("")
        raise RuntimeError
    assert list((tmp_path / "x").iterdir()) == []
    with staged_folder(tmp_path / "x" / "final") as scratch:
        (scratch / "f").write_text("first")
    with staged_folder(tmp_path / "x" / "final") as scratch:
        (scratch / "f").write_text("second")
    assert (tmp_path / "x" / "final" / "f").read_text() == "first"
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["final"]


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from helpers.compiler.compile import CompileRequest, compile_matrix
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.toolchain import Toolchain
spec = KernelSpec.from_json({spec!r})
requests = [
    CompileRequest(spec.with_constexprs(BLOCK=block), arch, Toolchain("3.5.1"))
    for block in (64, 128, 256, 512) for arch in ("sm_90a", "sm_100a", "sm_80")
]
print("go", flush=True)
reports = compile_matrix(requests, progress=lambda done, total, report: print(done, flush=True))
assert all(r.status == "ok" for r in reports), reports
print("cached", sum(r.cached for r in reports), flush=True)
"""


def run(spec):
    code = textwrap.dedent(SCRIPT).format(root=str(REPO_ROOT), spec=spec.to_json())
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_two_processes_fill_the_same_cache_at_once(write_kernel, own_cache):
    spec = write_kernel()
    outputs = [p.communicate(timeout=120)[0] for p in [run(spec), run(spec)]]
    assert all("cached" in out for out in outputs), outputs
    assert run(spec).communicate(timeout=120)[0].strip().endswith("cached 12")
    assert len(entries(own_cache)) == 24 and leftovers(own_cache) == []


def test_kill_nine_in_the_middle_leaves_no_half_entry(write_kernel, own_cache):
    spec = write_kernel()
    killed = run(spec)
    while killed.stdout.readline().strip() not in ("4", ""):
        pass
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    time.sleep(0.1)
    done = entries(own_cache)
    assert 4 <= len(done) < 24
    for folder in done:
        kind = folder.parts[-3]
        assert cache.read(kind, folder.name) is not None
    assert run(spec).communicate(timeout=120)[0].count("cached") == 1
    assert len(entries(own_cache)) == 24


def test_keys_depend_on_every_part_and_on_types():
    keys = [
        cache.content_key(a=1),
        cache.content_key(a=True),
        cache.content_key(a=1.0),
        cache.content_key(b=1),
    ]
    assert len(set(keys)) == 4 and all(len(k) == 64 for k in keys)


def test_the_environment_triton_is_there():
    assert resolve_triton("environment").version


def test_equal_for_python_is_not_equal_for_the_cache(write_kernel, own_cache):
    spec = write_kernel()
    assert compile_351(spec).status == "ok"
    other = spec.with_constexprs(BLOCK=128.0)
    assert other == spec  # as Python has it
    report = compile_351(other)
    assert not report.cached and report.status == "frontend_error"

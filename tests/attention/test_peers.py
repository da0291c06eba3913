"""Peers and the reading of their wheels: hostile archives, stubbed imports, calls by name, reasons for skipping."""

import importlib
import io
import lzma
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.attention import peers
from helpers.attention.bench import bench_problem
from helpers.attention.correctness.reference import attention_float64
from helpers.attention.peers import Prepared, Variant, bind_by_name, dense_kv, fa3_why_not, paged_kv, prepare
from helpers.attention.shapes import GEMMA4_31B_GLOBAL, GEMMA4_31B_SLIDING, AttentionShape
from helpers.compiler.bring.wheels import (
    copy_member,
    find_definition,
    import_closure,
    load_from_wheel,
    safe_members,
)
from helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
MEMBER = "fakelang/srt/attention/extend_attention.py"
# Written for this test, in the shape of the real thing: imports that are missing, one folder-mate, a launcher.
KERNEL_SOURCE = """
import math
from fakelang.srt.attention.strides import first_stride
from fakelang.srt.environ import envs
from fakelang.srt.utils import is_cuda, is_hip, register_op
import not_installed_anywhere.deep as deep

ON_CUDA = is_cuda()
ON_HIP = is_hip()
DECORATED = register_op("name")

class _Kernel:
    def __getitem__(self, grid):
        return lambda *args, **options: ("compiled", grid, options)

_fwd_kernel = _Kernel()

def extend_attention_fwd(q_extend, k_extend, k_scale, sm_scale=None, window_kv_offsets=None):
    if envs.SOMETHING.get() or deep.flag:
        raise AssertionError("a stub must be false")
    return _fwd_kernel[(1, 2)](q_extend, first_stride(q_extend), BLOCK_M=128, BLOCK_N=64, num_warps=8)

@register_op
def untouched(x):
    return x + 1
"""
FILES = {
    MEMBER: KERNEL_SOURCE,
    "fakelang/srt/attention/strides.py": "import fakelang.srt.environ\ndef first_stride(t): return t.stride(0)\n",
    "fakelang/srt/attention/unrelated.py": "raise RuntimeError('must not be imported')\n",
    "fakelang/__init__.py": "raise RuntimeError('the package itself must not run')\n",
    "fakelang/other/extend_attention.py": "def something_else(): pass\n",
}


def archive(path: Path, files: dict[str, str] = FILES) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name, text in files.items():
            out.writestr(name, text)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return archive(tmp_path / "fakelang-1.0-py3-none-any.whl")


# --- wheels ---------------------------------------------------------------------------------------------------


def test_the_defining_file_and_what_it_needs_are_found(wheel: Path):
    assert find_definition(wheel, "extend_attention.py", "extend_attention_fwd") == MEMBER
    assert import_closure(wheel, MEMBER) == [MEMBER, "fakelang/srt/attention/strides.py"]


def test_a_module_loads_with_missing_imports_stubbed(wheel: Path, tmp_path: Path):
    module = load_from_wheel(wheel, MEMBER, tmp_path / "out", truths={"is_cuda": True})
    assert (module.ON_CUDA, module.ON_HIP) == (True, False)
    assert module.untouched(1) == 2
    answer = module.extend_attention_fwd(torch.zeros(3, 4), None, 1.0)
    assert answer == ("compiled", (1, 2), {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8})
    assert not [name for name in sys.modules if name.startswith(("fakelang", "not_installed_anywhere"))]


def test_loading_leaves_an_installed_package_of_that_name_alone(wheel: Path, tmp_path: Path, monkeypatch):
    installed = type(sys)("fakelang")
    monkeypatch.setitem(sys.modules, "fakelang", installed)
    load_from_wheel(wheel, MEMBER, tmp_path / "out")
    assert sys.modules["fakelang"] is installed


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "C:/evil.py", "..\\evil.py", "ok/./../evil.py"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str):
    bad = archive(tmp_path / "bad-1-py3-none-any.whl", {name: "x = 1", "ok.py": "x = 1"})
    with pytest.raises(UserError, match="not a wheel to trust"):
        copy_member(bad, "ok.py", tmp_path / "deep" / "out" / "ok.py")
    assert not list(tmp_path.rglob("evil.py"))


def test_links_and_doubles_are_refused(tmp_path: Path):
    link = tmp_path / "link-1-py3-none-any.whl"
    with zipfile.ZipFile(link, "w") as out:
        info = zipfile.ZipInfo("a.py")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="link"):
        safe_members(link)
    double = tmp_path / "double-1-py3-none-any.whl"
    with pytest.warns(UserWarning), zipfile.ZipFile(double, "w") as out:
        out.writestr("a.py", "1")
        out.writestr("a.py", "2")
    with pytest.raises(UserError, match="twice"):
        safe_members(double)


def test_damaged_and_oversized_files_are_refused(wheel: Path, tmp_path: Path):
    with pytest.raises(UserError, match="cannot read"):
        safe_members(_written(tmp_path / "text.whl", b"not a zip"))
    data = bytearray(wheel.read_bytes())
    at = data.index(b"first_stride(t)")
    data[at] ^= 0xFF
    target = tmp_path / "out.py"
    with pytest.raises(UserError, match="CRC"):
        copy_member(_written(tmp_path / "flipped.whl", data), "fakelang/srt/attention/strides.py", target)
    assert not target.exists()
    with pytest.raises(UserError, match="larger than 10 bytes"):
        copy_member(wheel, MEMBER, target, max_bytes=10)
    assert not target.exists()
    with pytest.raises(UserError, match=r"has no nothing\.py"):
        copy_member(wheel, "nothing.py", target)


def test_a_wheel_without_or_with_two_definitions_says_so(tmp_path: Path):
    none = archive(tmp_path / "none.whl", {"a/extend_attention.py": "x = 1"})
    with pytest.raises(UserError, match="none of 1 files"):
        find_definition(none, "extend_attention.py", "extend_attention_fwd")
    text = "def extend_attention_fwd(): pass"
    two = archive(tmp_path / "two.whl", {"a/extend_attention.py": text, "b/extend_attention.py": text})
    with pytest.raises(UserError, match=r"several: a/.*, b/"):
        find_definition(two, "extend_attention.py", "extend_attention_fwd")


def test_a_module_that_cannot_run_is_a_sentence(tmp_path: Path):
    bad = archive(tmp_path / "bad.whl", {"pkg/m.py": "raise KeyError('boom')", "pkg/broken.py": "def ("})
    with pytest.raises(UserError, match="does not load: KeyError"):
        load_from_wheel(bad, "pkg/m.py", tmp_path / "out")
    with pytest.raises(UserError, match="not Python"):
        load_from_wheel(bad, "pkg/broken.py", tmp_path / "out")


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_xz_files_are_unpacked_within_bounds(tmp_path: Path):
    packed = _written(tmp_path / "lib.so.xz", lzma.compress(b"x" * 5000))
    target = tmp_path / "deep" / "lib.so"
    assert peers.unpack_xz(packed, target, max_bytes=5000).read_bytes() == b"x" * 5000
    with pytest.raises(UserError, match="more than 4999"):
        peers.unpack_xz(packed, target, max_bytes=4999)
    for name, data in (("cut", packed.read_bytes()[:-20]), ("text", b"hello")):
        with pytest.raises(UserError, match="cannot be unpacked"):
            peers.unpack_xz(_written(tmp_path / name, data), target, max_bytes=10**6)
        assert not target.exists()


# --- variants -------------------------------------------------------------------------------------------------


def test_arguments_are_bound_by_name():
    def launcher(a, b, c=3, *, d):
        pass

    assert bind_by_name(launcher, {"a": 1, "b": 2, "d": 4, "gone": None}) == {"a": 1, "b": 2, "d": 4}
    with pytest.raises(UserError, match="asks for b, d"):
        bind_by_name(launcher, {"a": 1})
    with pytest.raises(UserError, match="no parameter window"):
        bind_by_name(launcher, {"a": 1, "b": 2, "d": 4, "window": 7})


def test_the_recorder_keeps_what_was_launched():
    module_kernel = type("K", (), {"__getitem__": lambda self, grid: lambda *a, **k: (grid, a), "fn": "source"})()
    recorder = peers.KernelRecorder(module_kernel)
    assert recorder[(3,)](1, BLOCK_M=64) == ((3,), (1,))
    assert (recorder.last, recorder.options, recorder.fn) == (((3,), (1,)), {"BLOCK_M": 64}, "source")


def test_without_peers_each_missing_one_says_how_to_get_it(tmp_path: Path):
    for folder in (None, tmp_path):
        missing = {v.name: v.why_not(GEMMA4_31B_SLIDING) for v in peers.default_variants(folder)}
        for name in ("sglang", "FA3 dense", "FA3 paged 64", "FA3 paged 1", "FA3 paged 64, all fp8"):
            assert "fetch_peers.py" in missing[name]
        assert missing["incident, hopper tile"] == missing["incident, sm100 tile"] == ""
        assert "flashinfer-python" in missing["FlashInfer"] and "fetch_peers.py" in missing["FA4 paged 1"]
        assert "not on the package index" in missing["FA4 of vLLM"]


def test_every_archive_of_sglang_becomes_a_variant(tmp_path: Path):
    archive(tmp_path / "sglang-0.5.10-extend.zip")
    archive(tmp_path / "sglang-0.5.99-cp312-cp312-manylinux_2_34_x86_64.whl")
    assert [v.name for v in peers.sglang_variants(tmp_path)] == ["sglang 0.5.10", "sglang 0.5.99"]


def test_reasons_not_to_run(tmp_path: Path):
    fp8 = AttentionShape(num_q_heads=2, num_kv_heads=1, head_dim=128, kv_dtype="fp8_e4m3").with_lengths(8, 8)
    assert "head dim 512 (256 at most)" in fa3_why_not(GEMMA4_31B_GLOBAL)
    assert fa3_why_not(GEMMA4_31B_SLIDING) == ""
    assert "one dtype" in fa3_why_not(fp8) and fa3_why_not(fp8, fp8=True) == ""
    assert "fp8_e4m3 cache" in fa3_why_not(GEMMA4_31B_SLIDING, fp8=True)
    why = {v.name: v.why_not for v in [*peers.sdpa_variants(), peers.flex_variant()]}
    one, whole = GEMMA4_31B_SLIDING.with_lengths(8, 8), GEMMA4_31B_GLOBAL.with_lengths(8, 8)
    assert "no sliding window" in why["SDPA flash"](one) and why["FlexAttention"](one) == ""
    assert "512" in why["SDPA cuDNN"](whole)
    assert "ragged" in why["FlexAttention"](GEMMA4_31B_GLOBAL.with_lengths((8, 8), (8, 8)))
    assert "fp8_e4m3" in why["FlexAttention"](fp8)


def test_builders_may_return_a_launch_or_a_callable():
    launch = SimpleNamespace(
        run=lambda: "ran",
        tile="64x64, which a builder changed",
        arguments={"BLOCK_M": 64, "BLOCK_N": 32, "GROUP_PACK": 8},
        options={"num_warps": 8, "num_stages": 2},
    )
    built = prepare(Variant(name="a", kernel="", build=lambda p, o: launch), None, None)
    assert (built.run(), built.tile, built.num_warps, built.num_stages) == ("ran", "64x32 pack 8", 8, 2)
    plain = prepare(Variant(name="a", kernel="", build=lambda p, o: lambda: 5), None, None)
    assert plain.run() == 5 and plain.compiled(None) is None
    own = Prepared(run=lambda: 7, tile="x")
    assert prepare(Variant(name="a", kernel="", build=lambda p, o: own), None, None) is own


# --- layouts handed to peers: checked by computing attention from them -----------------------------------------


@pytest.mark.parametrize("kv_dtype", ["bf16", "fp8_e4m3"])
def test_the_dense_equivalent_gives_the_same_answer(kv_dtype: str):
    shape = AttentionShape(num_q_heads=4, num_kv_heads=2, head_dim=32, kv_dtype=kv_dtype, model_window=9)
    problem = bench_problem(shape.with_lengths((13, 0, 5), (6, 4, 1)), device="cpu", seed=3)
    keys, values = dense_kv(problem)
    answer, start, row = attention_float64(problem), 0, 0
    for prefix, extend in zip((13, 0, 5), (6, 4, 1), strict=True):
        k, v = (x[start : start + prefix + extend].double().repeat_interleave(2, 1) for x in (keys, values))
        q = problem.q[row : row + extend].double()
        scores = torch.einsum("qhd,khd->hqk", q, k) * problem.sm_scale
        distance = prefix + torch.arange(extend)[:, None] - torch.arange(prefix + extend)[None, :]
        scores = scores.masked_fill((distance < 0) | (distance >= 9), -torch.inf)
        mine = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)
        # Folding the scale of an fp8 cache into 16-bit keys rounds them once more.
        assert torch.allclose(mine, answer[row : row + extend], atol=1e-9 if kv_dtype == "bf16" else 2e-2)
        start, row = start + prefix + extend, row + extend


def test_quantised_keys_are_the_cache_bytes_and_calibrated_new_ones():
    shape = AttentionShape(num_q_heads=2, num_kv_heads=2, head_dim=16, kv_dtype="fp8_e4m3").with_lengths(5, 3)
    problem = bench_problem(shape, device="cpu")
    keys, values = dense_kv(problem, quantised=True)
    assert keys.dtype == values.dtype == torch.float8_e4m3fn and keys.shape == (8, 2, 16)
    assert torch.equal(keys[:5].float(), problem.k_buffer.float()[problem.kv_indices])
    assert torch.equal(values[5:].float(), (problem.v.float() / problem.v_scale).to(torch.float8_e4m3fn).float())


@pytest.mark.parametrize("page", [1, 4, 64])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_pages_hold_every_token_once(page: int, dtype: torch.dtype):
    lengths = [9, 1, 4]
    keys, values = (torch.randn(14, 2, 16).to(dtype) for _ in range(2))
    key_pool, value_pool, table = paged_kv(keys, values, lengths, page)
    assert key_pool.shape[1:] == (page, 2, 16) and table.dtype == torch.int32
    used = []
    start = 0
    for seq, length in enumerate(lengths):
        for token in range(length):
            at = int(table[seq, token // page]), token % page
            used.append(at)
            assert torch.equal(key_pool[at].float(), keys[start + token].float())
            assert torch.equal(value_pool[at].float(), values[start + token].float())
        start += length
    assert len(set(used)) == 14
    assert torch.isfinite(key_pool.float()).all(), "a NaN in an unused row would leak through 0 * NaN"


# --- fetch_peers ----------------------------------------------------------------------------------------------


@pytest.fixture
def fetch(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fetch_peers")


def test_fetching_keeps_only_what_runs(fetch, tmp_path: Path, capsys):
    wheels, into = tmp_path / "wheels", tmp_path / "into"
    wheels.mkdir()
    for version in ("0.5.10", "0.5.9"):
        archive(wheels / f"sglang-{version}-py3-none-any.whl")
    library = b"\x7fELF" + bytes(9000)
    with zipfile.ZipFile(wheels / "vllm-0.22.1-cp38-abi3-manylinux_2_28_x86_64.whl", "w") as out:
        out.writestr(fetch.FA3_MEMBER, library)
    assert fetch.main(["--into", str(into), "--wheels", str(wheels), "--only", "sglang,fa3"]) == 0
    # The newest by number, not by letter, is 0.5.10 too.
    assert sorted(p.name for p in into.iterdir()) == ["_vllm_fa3_C.abi3.so.xz", "sglang-0.5.10-extend.zip"]
    assert set(safe_members(into / "sglang-0.5.10-extend.zip")) == {MEMBER, "fakelang/srt/attention/strides.py"}
    assert lzma.decompress((into / "_vllm_fa3_C.abi3.so.xz").read_bytes()) == library
    loaded = peers.load_sglang(into / "sglang-0.5.10-extend.zip")
    loaded.extend_attention_fwd(torch.zeros(2, 2), None, 1.0)
    assert loaded._fwd_kernel.options["BLOCK_M"] == 128


def test_a_failed_download_is_an_error_line(fetch, tmp_path: Path, monkeypatch, capsys):
    def refuse(command, **options):
        assert "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert fetch.main(["--into", str(tmp_path / "into")]) == 1
    assert "No matching distribution" in capsys.readouterr().err
    assert fetch.main(["--into", str(tmp_path / "into"), "--only", "fa9"]) == 2


def test_flash_attention_4_is_packed_without_its_profiler_and_unpacked_once(fetch, tmp_path: Path):
    wheels, into = tmp_path / "wheels", tmp_path / "into"
    wheels.mkdir()
    for requirement in fetch.FA4:
        name, _, version = requirement.replace("-", "_").partition("==")
        with zipfile.ZipFile(wheels / f"{name}-{version}-py3-none-any.whl", "w") as out:
            out.writestr(f"{name}/module.py", f"name = {name!r}")
            out.writestr(f"{name}/iket/profiler.so", bytes(9000))
            out.writestr(f"{name}/lib/runtime.a", bytes(9000))
    assert fetch.main(["--into", str(into), "--wheels", str(wheels), "--only", "fa4", "--python", "3.12"]) == 0
    assert [path.name for path in into.iterdir()] == [peers.FA4_ARCHIVE]
    site = peers.unpack_fa4(into)
    found = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    assert len(found) == len(fetch.FA4) and "flash_attn_4/module.py" in found
    (site / "kept").touch()
    assert peers.unpack_fa4(into) == site and (site / "kept").is_file()
    assert sorted(path.name for path in into.iterdir()) == ["fa4", peers.FA4_ARCHIVE]


def test_a_damaged_archive_of_flash_attention_4_is_said_so_and_leaves_nothing(tmp_path: Path, monkeypatch):
    (tmp_path / peers.FA4_ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        peers.unpack_fa4(tmp_path)
    with tarfile.open(tmp_path / peers.FA4_ARCHIVE, "w:xz") as out:
        info = tarfile.TarInfo("big")
        info.size = 2000
        out.addfile(info, io.BytesIO(bytes(2000)))
    monkeypatch.setattr(peers, "FA4_MAX_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        peers.unpack_fa4(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [peers.FA4_ARCHIVE]

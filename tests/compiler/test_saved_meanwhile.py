"""A kernel that is saved between the look at it and its load is compiled as what it is, under its own hash."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.compiler import codegen, source
from helpers.compiler.compile import compile_kernel
from helpers.compiler.source import hashed_source, read_anew
from helpers.compiler.toolchain import Toolchain
from helpers.errors import MachineError
from tests.compiling import ADD_ONE, spec_of

HERE = Toolchain("environment")
WITH_HELPER = """
import triton
import triton.language as tl
from helper import more


@triton.jit
def add_one(x_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + offsets, more(tl.load(x_ptr + offsets, mask=offsets < n)), mask=offsets < n)
"""
HELPER = "import triton\n\n\n@triton.jit\ndef more(x):\n    return x + 1\n"


def adds(report) -> set[str]:
    """The constants that a kernel adds, as its PTX has them (0f3F800000 is 1.0)."""
    ptx = Path(report.ptx_path).read_text()
    return {name for name, word in {"1": "0f3F800000", "2": "0f40000000", "3": "0f40400000"}.items() if word in ptx}


@pytest.fixture(params=["the file", "a module of its own", "a foreign file", "a foreign module"])
def kernel(request, tmp_path, own_cache):
    """(spec, what writes the part that adds a number)."""
    path = tmp_path / "k" / "kernel.py"
    path.parent.mkdir()
    if request.param.endswith("file"):
        edited, text = path, ADD_ONE
    else:
        path.write_text(WITH_HELPER)
        edited, text = path.parent / "helper.py", HELPER

    def save(number: int) -> None:
        edited.write_text(text.replace("+ 1", f"+ {number}"))

    save(1)
    spec = spec_of(path)
    spec = replace(spec, kernel=replace(spec.kernel, stub_imports="foreign" in request.param))
    return spec, save


def saved_before_it_is_asked(monkeypatch, *saves):
    """Let something happen between the hash and each question to a worker, one after the other."""
    left, real = list(saves), codegen._asked

    def asked(*args, **options):
        if left:
            left.pop(0)()
        return real(*args, **options)

    monkeypatch.setattr(codegen, "_asked", asked)
    return left


def test_what_is_saved_meanwhile_is_looked_at_anew(kernel, monkeypatch):
    spec, save = kernel
    saved_before_it_is_asked(monkeypatch, lambda: save(2))
    report = compile_kernel(spec, "sm_90a", HERE)
    assert report.status == "ok" and adds(report) == {"2"} and report.spec_key == spec.content_key()
    save(1)
    first = compile_kernel(spec, "sm_90a", HERE)
    assert adds(first) == {"1"} and not first.cached
    save(2)
    again = compile_kernel(spec, "sm_90a", HERE)
    assert adds(again) == {"2"} and again.cached


def test_there_and_back_again_is_seen(kernel, monkeypatch):
    """The worker loads another text, and the old one lies there again before anybody looks."""
    spec, save = kernel
    real = codegen.POOL.borrow

    class Between:
        """A worker whose question finds another file, which is gone when it has answered."""

        def __init__(self, worker):
            self.worker = worker

        def ask(self, request, timeout_s):
            save(3)
            try:
                return self.worker.ask(request, timeout_s)
            finally:
                save(1)
                monkeypatch.setattr(codegen.POOL, "borrow", real)

        def kill(self):
            self.worker.kill()

    @contextlib.contextmanager
    def borrow(*args, **options):
        with real(*args, **options) as worker:
            yield Between(worker)

    monkeypatch.setattr(codegen.POOL, "borrow", borrow)
    assert adds(compile_kernel(spec, "sm_90a", HERE)) == {"1"}
    assert adds(compile_kernel(spec, "sm_90a", HERE)) == {"1"}


def test_the_text_that_triton_reads_is_the_one_that_was_loaded(kernel, tmp_path):
    """A kernel's decorator reads the file a second time; what was saved in between must not be in the kernel."""
    spec, _save = kernel
    path = Path(spec.kernel.path)
    other = path.read_text().replace("+ 1", "+ 3").replace("more(", "2 + more(")
    (tmp_path / "other.py").write_text(other)
    path.write_text(f"open({str(path)!r}, 'w').write(open({str(tmp_path / 'other.py')!r}).read())\n{path.read_text()}")
    if spec.kernel.stub_imports:
        path.write_text(path.read_text().replace("open(", "x = open(", 1))
    before = hashed_source(path).sha256
    report = compile_kernel(spec, "sm_90a", HERE)
    assert report.status == "ok" and adds(report) == {"1"} and hashed_source(path).sha256 != before


def test_a_file_that_never_stays_is_one_sentence_and_exit_three(kernel, monkeypatch, capfd, tmp_path):
    spec, save = kernel
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.json").write_text(spec.to_json())
    saved_before_it_is_asked(monkeypatch, *(lambda n=n: save(2 + n % 2) for n in range(40)))
    assert main(["compile", "spec.json", "--arch", "sm_90a", "--triton", "3.7.1", "--trust-root", str(tmp_path)]) == 3
    err = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(err) == 1 and "was saved again while it was compiled, 3 times" in err[0] and "run the same" in err[0]


def test_a_file_saved_with_the_size_and_the_time_it_had_is_read_anew(kernel, own_cache):
    spec, save = kernel
    path = Path(spec.kernel.path)
    edited = path if (path.parent / "helper.py").is_file() is False else path.parent / "helper.py"
    stamp = edited.stat()
    assert adds(compile_kernel(spec, "sm_90a", HERE)) == {"1"}
    save(2)
    os.utime(edited, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other = replace(spec, options=(("num_warps", 8),))
    assert adds(compile_kernel(other, "sm_90a", HERE)) == {"2"}


def test_a_list_of_configurations_is_not_read_from_another_file(tmp_path, own_cache, monkeypatch):
    from helpers.compiler.bring import from_file

    path = tmp_path / "k.py"
    path.write_text(ADD_ONE)
    spec = spec_of(path)
    ref = replace(spec.kernel, stub_imports=True)
    told = ref.for_worker()
    path.write_text(ADD_ONE + "# more\n")
    monkeypatch.setattr(type(ref), "for_worker", lambda self: told)
    with pytest.raises(MachineError, match=r"k.py was saved again"):
        from_file.configurations(ref, "environment")
    read_anew()


def test_a_kernel_that_passes_over_the_exception_is_looked_at_anew_as_well(tmp_path, own_cache, monkeypatch):
    path = tmp_path / "kernel.py"
    guarded = "try:\n    from helper import more\nexcept Exception:\n    from other import more"
    path.write_text(WITH_HELPER.replace("from helper import more", guarded))
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "other.py").write_text(HELPER.replace("+ 1", "+ 3"))
    saved_before_it_is_asked(
        monkeypatch,
        lambda: (tmp_path / "helper.py").write_text(HELPER.replace("+ 1", "+ 2")),
        lambda: (tmp_path / "helper.py").write_text(HELPER),
    )
    report = compile_kernel(spec_of(path), "sm_90a", HERE)
    assert adds(report) == {"1"}


def test_one_reading_gives_the_name_and_the_hashes(kernel, monkeypatch):
    spec, save = kernel
    real = type(spec.kernel).hashed_source
    numbers = iter((2, 2, 2, 2))

    def hashed(self):
        found = real(self)
        save(next(numbers, 2))
        return found

    monkeypatch.setattr(type(spec.kernel), "hashed_source", hashed)
    report = compile_kernel(spec, "sm_90a", HERE)
    assert adds(report) == {"2"} and report.spec_key == spec.content_key()


def test_a_stamp_that_tells_nothing_is_not_trusted_twice(tmp_path, own_cache, monkeypatch):
    path = tmp_path / "kernel.py"
    path.write_text(ADD_ONE)
    stamp = path.stat()
    monkeypatch.setattr(source, "check_ordinary_file", lambda *_args: stamp)
    spec = spec_of(path)
    before = spec.content_key()
    path.write_text(ADD_ONE.replace("+ 1", "+ 2"))
    assert spec.content_key() == before, "this is what the stamp does"
    assert adds(compile_kernel(spec, "sm_90a", HERE)) == {"2"} and spec.content_key() != before

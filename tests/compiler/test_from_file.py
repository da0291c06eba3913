"""Specs from files: nothing is run here, what a file cannot import is stubbed, and its own modules are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.compiler.bring.from_file import spec_from_file
from helpers.compiler.compile import compile_kernel
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.toolchain import Toolchain
from helpers.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")
KERNEL = """
@triton.jit
def add(x_ptr, n, DTYPE: tl.constexpr, BLOCK: tl.constexpr):
    where = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + where, (tl.load(x_ptr + where, mask=where < n) + step()).to(DTYPE), mask=where < n)
"""
SIGNATURE = "*fp32:16, i32, tl.float32, 128"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def compiled(spec: KernelSpec, triton: str = "environment"):
    return compile_kernel(spec, "sm_90a", Toolchain(triton))


@pytest.fixture
def engine(tmp_path) -> Path:
    """A package that cannot be imported, with a kernel in it that needs device code of another module."""
    return write(
        tmp_path,
        {
            "engine/__init__.py": "raise RuntimeError('the whole engine was imported')\n",
            "engine/heavy.py": "raise RuntimeError('no device code here')\n",
            "engine/triton_utils.py": "import triton\nimport triton.language as tl\nHAS_TRITON = True\n",
            "engine/ops/__init__.py": "from engine.heavy import everything\n",
            "engine/device/steps.py": (
                "import triton\nimport triton.language as tl\n\n@triton.jit\ndef step():\n    return 2.0\n"
            ),
            "engine/ops/add.py": (
                "import not_installed_anywhere.deep as deep\n"
                "from engine.heavy import logger, is_cuda, config\n"
                "from engine.triton_utils import tl, triton\n"
                "from ..device.steps import step\n"
                "logger.info('loading')\n"
                "LIMIT = deep.limit(3) + 1 if is_cuda() and not config else None\n" + KERNEL
            ),
        },
    )


@pytest.mark.parametrize("triton", ["environment", "3.5.1"])
def test_a_kernel_of_an_engine_that_does_not_import_compiles(engine, triton, toolchain_351):
    spec = spec_from_file(engine / "engine/ops/add.py", "add", SIGNATURE, options={"num_warps": 2})
    assert spec.kernel.import_root == str(engine.resolve())
    assert {f.name for f in spec.kernel.source_files()} == {"add.py", "steps.py", "triton_utils.py"} - (
        set() if "tl.constexpr" in (engine / "engine/triton_utils.py").read_text() else {"triton_utils.py"}
    )
    report = compiled(spec, triton)
    assert report.status == "ok", report.message
    assert "0f40000000" in Path(report.ptx_path).read_text()  # 2.0, from the module with the device code


def test_an_edited_helper_of_the_kernel_misses_the_cache(engine):
    spec = spec_from_file(engine / "engine/ops/add.py", "add", SIGNATURE)
    before = compiled(spec).ptx_sha256
    steps = engine / "engine/device/steps.py"
    steps.write_text(steps.read_text().replace("2.0", "4.0"))
    after = compiled(spec)
    assert after.status == "ok" and after.ptx_sha256 != before and "0f40800000" in Path(after.ptx_path).read_text()


def test_the_file_is_not_run_by_making_the_spec_and_a_program_is_not_run_by_a_compile(tmp_path):
    trace = tmp_path / "ran"
    path = tmp_path / "program.py"
    path.write_text(
        "import triton, torch\nimport triton.language as tl\n\n@triton.jit\ndef step():\n    return 1.0\n" + KERNEL
        + f"\nx = torch.zeros(8, device='cuda')\nadd[(1,)](x, 8, tl.float32, 8)\nopen({str(trace)!r}, 'w').close()\n"
    )  # fmt: skip
    spec = spec_from_file(path, "add", SIGNATURE)
    assert not trace.exists()
    assert compiled(spec).status == "ok" and not trace.exists()


def test_stand_ins_of_one_kernel_are_gone_for_the_next(tmp_path):
    first = write(tmp_path / "a", {"a.py": "from shared_name import step, tl, triton\n" + KERNEL})
    second = write(
        tmp_path / "b",
        {
            "shared_name.py": "import triton\n@triton.jit\ndef step():\n    return 8.0\n",
            "b.py": "import triton\nimport triton.language as tl\nfrom shared_name import step\n" + KERNEL,
        },
    )
    assert compiled(spec_from_file(first / "a.py", "add", SIGNATURE)).status == "frontend_error"
    report = compiled(spec_from_file(second / "b.py", "add", SIGNATURE))
    assert report.status == "ok", report.message


def test_without_stubs_a_missing_import_stays_an_error(engine, write_kernel):
    report = compiled(write_kernel("import not_installed_anywhere\n" + Path(write_kernel().kernel.path).read_text()))
    assert report.status == "frontend_error" and "not_installed_anywhere" in report.message


def test_the_spec_survives_json(engine):
    spec = spec_from_file(engine / "engine/ops/add.py", "add", SIGNATURE, label="mine")
    again = KernelSpec.from_json(spec.to_json())
    assert again == spec and again.kernel.stub_imports and again.content_key() == spec.content_key()


def test_rubbish_is_a_sentence(tmp_path):
    (tmp_path / "not_python.py").write_text("def (:\n")
    (tmp_path / "binary.py").write_bytes(b"\x00\xff" * 100)
    with pytest.raises(UserError, match="there is no file"):
        spec_from_file(tmp_path / "gone.py", "k")
    for name in ("not_python.py", "binary.py"):
        with pytest.raises(UserError, match="not Python that this interpreter reads"):
            spec_from_file(tmp_path / name, "k")
    (tmp_path / "fine.py").write_text("import triton, triton.language as tl\n@triton.jit\ndef k(x):\n    pass\n")
    with pytest.raises(UserError, match="below the import root"):
        spec_from_file(tmp_path / "fine.py", "k", "fp32", import_root=tmp_path / "elsewhere")
    (tmp_path / "dies.py").write_text(
        "import os\nimport triton\n\n@triton.autotune([os.abort()], key=[])\n@triton.jit\ndef k(x):\n    pass\n"
    )
    with pytest.raises(UserError, match="does not load"):
        spec_from_file(tmp_path / "dies.py", "k", "fp32")

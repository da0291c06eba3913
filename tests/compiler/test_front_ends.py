"""Other languages' compilers: found where pip put them, run on their own, their binaries read as ptxas tells them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from helpers.compiler.front_ends.binary_report import binary_report
from helpers.compiler.front_ends.extras import CUTE, CUTILE, FrontEnd, Installed, find_front_end
from helpers.compiler.front_ends.run_script import run_script
from helpers.compiler.run_ptxas import PtxasRun, run_ptxas
from helpers.compiler.toolchain import ToolchainMissing, installed_ptxas
from helpers.errors import UserError
from helpers.files import ROOT
from helpers.inspection.ptx.pressure import pressure_profile
from helpers.inspection.ptx.scan import ptx_header

SCRIPTS = ROOT / "benchmarks" / "front_ends"
CUTE_GEMM = ROOT / "tests" / "fixtures" / "ptx" / "cute_gemm_sm90a.ptx"
MADE_UP = FrontEnd("Made-up", "made", "made-up", ("made-up-core",), ("made_up/inner", "made_up/not_there"))


def distribution(folder: Path, name: str, version: str) -> None:
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def made_up(tmp_path: Path) -> Installed:
    """A front end of two distributions in a folder of `pip install --target`."""
    packages = tmp_path / "packages"
    distribution(packages, "made-up", "1.2.3")
    distribution(packages, "made-up-core", "1.2.4")
    (packages / "made_up" / "inner").mkdir(parents=True)
    return find_front_end(MADE_UP, packages)


def test_a_front_end_in_a_folder_brings_its_inner_folders_and_all_its_releases(made_up: Installed, tmp_path: Path):
    assert made_up.path == (tmp_path / "packages", tmp_path / "packages" / "made_up" / "inner")
    assert made_up.releases == {"made-up": "1.2.3", "made-up-core": "1.2.4"} and made_up.version == "1.2.3"


def test_what_is_missing_is_named_with_the_extra_that_brings_it(tmp_path: Path):
    distribution(tmp_path, "made-up", "1.2.3")
    with pytest.raises(ToolchainMissing, match=r"there is no made-up-core; pip install 'register-cliff\[made\]'"):
        find_front_end(MADE_UP, tmp_path)
    with pytest.raises(ToolchainMissing, match=f"cuTile is not in {re.escape(str(tmp_path))}: there is no cuda-tile"):
        find_front_end(CUTILE, tmp_path)
    with pytest.raises(ToolchainMissing, match="Made-up is not installed"):
        find_front_end(MADE_UP)


def script(folder: Path, text: str) -> Path:
    path = folder / "front_end.py"
    path.write_text(text)
    return path


def test_a_script_runs_in_its_folder_with_the_front_end_on_its_path(made_up: Installed, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere/either")
    text = """
import json, os, sys
from pathlib import Path
Path("small.cubin").write_bytes(b"1")
Path("large.cubin").write_bytes(b"12")
Path("large.ptx").write_text(".version 8.8")
print(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith(("PYTHON", "ARCH"))}]))
"""
    folder = tmp_path / "run"
    folder.mkdir()
    made = run_script(script(tmp_path, text), ["sm_90a", "64"], made_up, folder, environment={"ARCH": "x"})
    words, seen = json.loads(made.log)
    assert words == ["sm_90a", "64"]
    assert seen == {"PYTHONPATH": ":".join(map(str, made_up.path)), "ARCH": "x"}
    assert (made.cubin, made.ptx) == (folder / "large.cubin", folder / "large.ptx")
    assert made.exit_code == 0 and made.complaint == "" and 0 < made.wall_s < 60


def test_a_script_that_fails_or_hangs_leaves_its_complaint_and_no_binary(made_up: Installed, tmp_path: Path):
    text = "open('half.cubin', 'wb').write(b'1'); print('starts', flush=True); raise SystemExit('no such tile\\n')"
    failed = run_script(script(tmp_path, text), [], made_up, tmp_path)
    assert (failed.exit_code, failed.cubin, failed.complaint) == (1, None, "no such tile")
    silent = run_script(script(tmp_path, "raise SystemExit(3)"), [], made_up, tmp_path)
    assert silent.complaint == "ended with exit code 3, without a word"
    text = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    hung = run_script(script(tmp_path, text), [], made_up, tmp_path, timeout_s=1.0)
    assert hung.exit_code is None and hung.cubin is None and hung.wall_s < 20
    assert hung.complaint.startswith("stopped after ")


@pytest.fixture(scope="module")
def spilling(tmp_path_factory: pytest.TempPathFactory) -> tuple[PtxasRun, Path]:
    """(ptxas's run on the PTX that nvcc made of 16 x 16 results a thread, its cubin)."""
    newest = [*installed_ptxas()][-1]
    ptx = (SCRIPTS / "tile_product_16.ptx").read_text()
    if tuple(map(int, newest.split(".")[:1])) < (13,):
        pytest.skip(f"nvcc 13.0's PTX needs ptxas 13.0 or newer; the newest here is {newest}")
    run = run_ptxas(installed_ptxas()[newest], ptx, gpu_name="sm_90a")
    path = tmp_path_factory.mktemp("cubin") / "tile.cubin"
    path.write_bytes(run.cubin or b"")
    return run, path


def test_a_binary_is_read_as_ptxas_describes_it(spilling):
    run, cubin = spilling
    report = binary_report(cubin, arch="sm_90", label="mine")
    assert run.spill_store_bytes and report.status == "spills" == run.verdict
    assert (report.arch, report.label, report.kernel_name) == ("sm_90a", "mine", "tile_product")
    for name in ("regs_per_thread", "spill_store_bytes", "spill_load_bytes", "stack_frame_bytes"):
        assert getattr(report, name) == getattr(run, name), name
    assert report.num_warps == 8 and report.tensor_core_path == "none" and report.ptx_path is None
    assert report.ptxas_version == [*installed_ptxas()][-1]


def test_the_ptx_beside_a_binary_tells_its_version_and_instructions(spilling):
    _, cubin = spilling
    ptx = SCRIPTS / "tile_product_16.ptx"
    report = binary_report(cubin, arch="sm_90a", ptx=ptx)
    assert (report.ptx_version, report.ptx_path) == ("9.0", str(ptx))
    assert report.instructions["total"] > 1000 and report.ptx_lines == ptx.read_text().count("\n")


def test_of_several_kernels_the_one_with_the_most_registers_is_told(tmp_path: Path):
    ptx = (ROOT / "tests" / "fixtures" / "ptx" / "several_functions.ptx").read_text()
    run = run_ptxas([*installed_ptxas().values()][-1], ptx, gpu_name="sm_80")
    (tmp_path / "two.cubin").write_bytes(run.cubin or b"")
    report = binary_report(tmp_path / "two.cubin", arch="sm_80")
    assert report.kernel_name in ptx_header(ptx).entries
    assert report.regs_per_thread == max(int(n) for n in re.findall(r"Used (\d+) registers", run.log))
    assert len(set(re.findall(r"Used (\d+) registers", run.log))) > 1


def test_what_is_no_cubin_is_refused_in_a_sentence(tmp_path: Path):
    (tmp_path / "text.cubin").write_text("no binary")
    with pytest.raises(UserError, match="it is no cubin"):
        binary_report(tmp_path / "text.cubin", arch="sm_90a")


def test_pressure_names_the_python_lines_of_a_kernel_in_cute_dsl():
    """NVVM writes an mma's opcode and its operands on lines of their own: each was taken for a scope, and lost."""
    profile = pressure_profile(CUTE_GEMM.read_text())
    # 128 x 128 floats over 128 threads are 128 registers; both operands' fragments and the addresses come on top.
    assert profile is not None and 128 < profile.demand < 217
    product = 38  # cute.gemm(tiled, acc, own_a, own_b, acc)
    lines = {line.source: line for line in profile.lines}
    assert lines["cute_gemm.py", product].registers == profile.demand
    assert profile.peak is not None
    assert any("mma.sync" in group.opcode and group.values > 50 for group in profile.peak.live)


def test_pressure_and_header_read_what_nvcc_wrote():
    fits, over = ((SCRIPTS / f"tile_product_{tile}.ptx").read_text() for tile in (8, 16))
    assert ptx_header(fits).threads == 256 and ptx_header(fits).entries == ("tile_product",)
    profile = pressure_profile(over)
    assert profile is not None and profile.demand > 16 * 16 and profile.lines[0].source[0] == "tile_product.cu"
    assert pressure_profile(fits).demand < 128


def recorded_row(command: str) -> dict[str, str]:
    with (ROOT / "data" / "front_ends.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return next(row for row in rows if row["command"].endswith(command))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("front_end", "name", "words"),
    [
        (CUTE, "cute_gemm", "sm_90a 128 128 4 0"),
        (CUTILE, "cutile_attention", "sm_90 64 64 256 0"),
    ],
    ids=["cute", "cutile"],
)
def test_the_recorded_row_comes_out_again(front_end: FrontEnd, name: str, words: str, tmp_path: Path):
    try:
        installed = find_front_end(front_end)
    except ToolchainMissing as exc:
        pytest.skip(str(exc))
    environment = {"CUTE_DSL_ARCH": "sm_90a", "CUTE_DSL_KEEP": "ptx,cubin", "CUTE_DSL_LINEINFO": "1",
                   "CUTE_DSL_DUMP_DIR": str(tmp_path)}  # fmt: skip
    made = run_script(SCRIPTS / f"{name}.py", words.split(), installed, tmp_path, environment=environment)
    assert made.cubin is not None, made.log
    report = binary_report(made.cubin, arch="sm_90a", ptx=made.ptx)
    row = recorded_row(f"{name}.py {words}")
    assert report.status == row["status"] and report.tensor_core_path == row["tensor_core_path"]
    assert str(report.regs_per_thread) == row["regs_per_thread"]

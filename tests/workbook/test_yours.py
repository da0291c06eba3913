"""Notebook 07's MINE: each kind is told by content, and each cell of the page has an answer for it, or a reason."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers.compiler.run_ptxas import PtxasRun
from helpers.diagnosis.diagnosis import Diagnosis
from helpers.files import ROOT
from helpers.search.ablate import Limits
from helpers.workbook.build import execute_notebook
from helpers.workbook.your_own_crash import yours as room
from helpers.workbook.your_own_crash.cliff_matmul import matmul_spec
from helpers.workbook.your_own_crash.decision_tree import DecisionTree
from helpers.workbook.your_own_crash.mine import Words, Yours
from helpers.workbook.your_own_crash.yours import yours

NOTEBOOK = ROOT / "notebooks" / "07_your_own_crash.ipynb"
FIXTURES = ROOT / "tests" / "fixtures"
A_LOG = FIXTURES / "diagnosis" / "c7602_at_64_135.log"
SMALL = ROOT / "data" / "incident_minimized.ptx"
MATMUL = ROOT / "kernels" / "cliff_matmul.py"
TYPES = ["*bf16:16"] * 3 + ["i32:16"] * 6 + [256, 256, 64]
DIES = {"signature": TYPES, "options": {"num_warps": 16, "num_stages": 2}, "arch": "sm_90a", "triton": "3.5.1"}
FEW = Limits(max_compiles=3, max_seconds=30.0, max_size=1)


@pytest.fixture(autouse=True)
def few_compiles(monkeypatch):
    monkeypatch.setattr(Yours.edits, "__defaults__", (FEW,))


def wheel(folder: Path) -> Path:
    path = folder / "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mine/__init__.py", "")
        archive.writestr("mine/product.py", MATMUL.read_text())
        archive.writestr("mine/sums.py", "import triton\n@triton.jit\ndef one(x):\n    pass\n")
    return path


def cells_of_mine() -> list[str]:
    """The expressions that the notebook's cells ask MINE, in order."""
    cells = [c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code"]
    return re.findall(
        r"^(?:print\()?((?:mine|tried|packed)\b[\w.]*(?:\([^()]*\))?)(?! =)", "\n".join(cells), re.MULTILINE
    )


def all_cells(mine: Yours) -> dict[str, object]:
    """What every cell about MINE shows, by its expression, evaluated in the notebook's order."""
    scope: dict[str, object] = {"mine": mine, "tried": mine.edits(), "packed": mine.pack()}
    return {asked: eval(asked, scope) for asked in cells_of_mine()}


def check_shown(shown: dict[str, object]) -> None:
    for asked, value in shown.items():
        if isinstance(value, Words):
            assert len(value.text) > 10 and value.text.rstrip().endswith((".", ".**")), (asked, value.text)
            assert "<p" in value._repr_html_()
        else:
            assert isinstance(value, (Yours, Diagnosis, pd.DataFrame, Figure, DecisionTree, str)), asked


def parts(mine: Yours) -> dict[str, bool]:
    return {part: yes == "yes" for part, yes, _ in mine.rows()}


def test_the_notebook_asks_mine_and_holds_no_logic():
    asked = cells_of_mine()
    assert asked[0] == "mine" and {"mine.tree()", "mine.answer()", "mine.pressure()", "tried.table()"} <= set(asked)
    source = "\n".join(c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code")
    assert not re.search(r"^\s*(if|for|try|while)\b", source, re.MULTILINE)
    assert source.index("MINE = ") < 100


@pytest.mark.slow
def test_without_mine_it_is_the_incident_whose_kernel_is_here(toolchain_351):
    mine = yours()
    assert mine.kind == room.LOG and mine.diagnosis.kind == "register_exhaustion" and all(parts(mine).values())
    assert mine.request.toolchain.triton == "3.5.1" and "MINE is not set" in mine.what
    assert mine.compiled.ptxas_code == "C7600" and not (set(parts(mine)) & dict(mine.lacks).keys())


def test_the_incident_without_its_toolchain_shows_the_recorded_ptx(monkeypatch, tmp_path):
    missing = room.CompileReport("toolchain_missing", "sm_100a", None, None, message="Triton 3.5.1 is not installed")
    monkeypatch.setattr(room, "compile_request", lambda _request: missing)
    mine = yours()
    assert parts(mine) == {
        room.DIAGNOSIS: True, room.KERNEL: True, room.PTX_TEXT: True, room.EDITS: False, room.REPORT: False
    }  # fmt: skip
    assert "not installed" in mine.edits().why and "not installed" in mine.pack().why
    check_shown(all_cells(mine))


@pytest.mark.parametrize("form", [str, Path, Path.read_text], ids=["name", "path", "text"])
def test_a_log_has_a_diagnosis_and_no_kernel(form):
    mine = yours(form(A_LOG))
    assert mine.kind == room.LOG and mine.diagnosis.kind == "register_cap_too_low" and mine.request is None
    assert parts(mine) == {
        room.DIAGNOSIS: True, room.KERNEL: False, room.PTX_TEXT: False, room.EDITS: False, room.REPORT: True
    }  # fmt: skip
    assert "register-cliff capture" in mine.why_not(room.KERNEL)
    shown = all_cells(mine)
    check_shown(shown)
    assert shown["mine.answer()"] is mine.diagnosis and isinstance(shown["mine.pressure()"], Words)
    assert "register cap is lower" in shown["mine.headline()"].text and "(yours)" in shown["mine.tree()"].text()


def test_one_line_of_a_log_is_a_text_and_not_the_name_of_a_file():
    assert yours("ptxas fatal   : (C7600) Register allocation failed with register count of '255'.").kind == room.LOG
    assert yours("ptxas fatal.log").kind == room.NOTHING


def test_a_log_that_states_no_failure_is_not_reported():
    mine = yours(FIXTURES / "diagnosis" / "advice_c7508.log")
    assert mine.diagnosis.failed is False and mine.pack().bundle is None and "no failure" in mine.pack().why
    check_shown(all_cells(mine))


def test_a_log_is_shown_escaped_and_nothing_in_it_is_opened(tmp_path):
    path = tmp_path / "<script>a.log"
    path.write_text("ptxas fatal   : <script>alert(1)</script> (C7600)\nRepro command: ptxas /etc/passwd -o x\n")
    mine = yours(path)
    page = mine._repr_html_() + mine.headline()._repr_html_() + mine.tree()._repr_html_() + mine.answer()._repr_html_()
    assert "&lt;script&gt;a.log" in page and "<script>" not in page and "root:" not in page


def test_a_ptx_is_assembled_and_has_no_edits(toolchain_351):
    mine = yours(SMALL)
    assert mine.kind == room.PTX and mine.diagnosis.failure.code == "C7600" and mine.assembled is not None
    assert parts(mine)[room.REPORT] and not parts(mine)[room.EDITS]
    shown = all_cells(mine)
    check_shown(shown)
    assert isinstance(shown["mine.pressure()"], Figure) and isinstance(shown["packed.table()"], pd.DataFrame)


def test_a_ptx_that_ptxas_takes_has_nothing_to_report(toolchain_351):
    mine = yours(FIXTURES / "ptx" / "wgmma_sm90a.ptx")
    assert mine.assembled.compiled and mine.diagnosis is None and "Nothing failed" in mine.why_not(room.DIAGNOSIS)
    check_shown(all_cells(mine))


def test_a_ptx_is_shown_to_every_ptxas_until_one_refuses_it(monkeypatch):
    asked = []

    def assembled(program, _ptx, **_options):
        asked.append(program.name)
        if program.name == "new":
            return PtxasRun("register_exhausted", 255, "ptxas fatal   : (C7600) Register allocation failed\n")
        return PtxasRun("ok" if program.name == "middle" else "unsupported_ptx_version", 0, "")

    here = {"12.9.1": Path("middle"), "13.1.80": Path("new"), "12.8.93": Path("old"), "13.4.1": Path("newest")}
    monkeypatch.setattr(room, "installed_ptxas", lambda: here)
    monkeypatch.setattr(room, "run_ptxas", assembled)
    mine = yours(SMALL)
    assert asked == ["old", "middle", "new"] and "ptxas 13.1.80 was run on it" in dict(mine.has)[room.DIAGNOSIS]


def test_a_ptx_without_a_ptxas_says_which_command_fetches_one(monkeypatch):
    monkeypatch.setattr(room, "installed_ptxas", dict)
    mine = yours(SMALL)
    assert "register-cliff toolchains install" in mine.why_not(room.DIAGNOSIS) and mine.ptx
    assert isinstance(mine.answer(), Words) and isinstance(mine.pressure(), Figure)


@pytest.fixture
def spec_file(tmp_path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(matmul_spec().to_json())
    return path


def test_a_spec_is_compiled_and_diagnosed(spec_file, toolchain_351):
    mine = yours(spec_file, arch="H100", triton="3.5.1")
    assert mine.kind == room.SPEC and mine.diagnosis.failure.code == "C7602" and all(parts(mine).values())
    assert mine.request.arch == "sm_90a"
    shown = all_cells(mine)
    check_shown(shown)
    assert isinstance(shown["tried.table()"], pd.DataFrame) and "C7602" in shown["packed.issue(lines=24)"]
    assert "reproduce" not in shown["packed.said()"].text.lower() or "same way" in shown["packed.said()"].text


def test_what_a_capture_says_of_chip_and_release_is_taken(spec_file, monkeypatch):
    raw = {**json.loads(spec_file.read_text()), "capture": {"arch": "sm_90a", "triton_version": "3.5.1"}}
    spec_file.write_text(json.dumps(raw))
    monkeypatch.setattr(room, "installed_tritons", lambda: ["3.5.1"])
    missing = room.CompileReport("toolchain_missing", "sm_90a", None, None, message="not here")
    monkeypatch.setattr(room, "compile_request", lambda _request: missing)
    mine = yours(spec_file)
    assert (mine.request.arch, mine.request.toolchain.triton) == ("sm_90a", "3.5.1")
    assert "it was captured on that chip" in mine.what and not parts(mine)[room.PTX_TEXT]
    check_shown(all_cells(mine))
    monkeypatch.setattr(room, "installed_tritons", lambda: ["3.7.1"])
    assert "captured with Triton 3.5.1, which is not the one used here" in yours(spec_file).what
    assert yours(spec_file, triton="3.5.1", arch="B200").request.arch == "sm_100a"


def test_a_spec_that_compiles_has_nothing_to_mend(tmp_path, toolchain_351):
    path = tmp_path / "spec.json"
    path.write_text(matmul_spec(64, 64, 64, num_warps=4).to_json())
    mine = yours(path, arch="sm_90a", triton="3.5.1")
    assert mine.compiled.status == "ok" and mine.diagnosis is None
    assert "nothing to mend" in mine.edits().why and "nothing to report" in mine.pack().why
    check_shown(all_cells(mine))


def test_a_python_file_needs_its_kernel_and_signature():
    mine = yours(MATMUL)
    assert mine.kind == room.PYTHON and "BLOCK_M (constexpr)" in mine.why_not(room.KERNEL)
    check_shown(all_cells(mine))
    check_shown(all_cells(yours(MATMUL, kernel="another")))


def test_a_kernel_of_a_python_file_is_worked_on(toolchain_351):
    mine = yours(MATMUL, kernel="cliff_matmul_kernel", **DIES)
    assert mine.kind == room.PYTHON and mine.diagnosis.failure.code == "C7602" and all(parts(mine).values())
    assert isinstance(mine.pressure(), Figure)


@pytest.mark.parametrize(
    ("kernel", "says"), [("forgotten_name", "factor is not defined"), ("gated_up", "does not dominate this use")]
)
def test_a_kernel_that_the_front_end_refuses_has_its_own_words_and_a_report(kernel, says, toolchain_351):
    signature = {"forgotten_name": "*i32:16,*i32:16,128", "gated_up": f"{'*bf16:16,' * 4}1024,64,64,64"}[kernel]
    mine = yours(FIXTURES / "kernels" / "failures.py", kernel=kernel, signature=signature, arch="B200", triton="3.5.1")
    there = {part: words for part, _, words in mine.rows()}
    assert says in there[room.DIAGNOSIS] and "ptxas None" not in str(mine) and mine.ptx is None
    assert mine.tree().mine == "frontend_error"
    shown = all_cells(mine)
    check_shown(shown)
    assert "same way" in shown["packed.said()"].text and says in shown["packed.issue(lines=24)"]


def test_inductors_output_code_shows_the_kernels_in_its_strings(tmp_path, own_cache):
    source = "import triton\n@triton.jit\ndef poi_0(x, XBLOCK: tl.constexpr):\n    pass\n"
    (tmp_path / "output_code.py").write_text(f"poi_0 = async_compile.triton('poi_0', {source!r})\n")
    mine = yours(tmp_path / "output_code.py")
    assert "with the kernels: poi_0" in mine.what and "XBLOCK" in mine.why_not(room.KERNEL)


def test_a_wheel_lists_its_kernels_and_takes_one(tmp_path, own_cache, toolchain_351):
    mine = yours(wheel(tmp_path))
    assert mine.kind == room.WHEEL and "mine/product.py:cliff_matmul_kernel, mine/sums.py:one" in mine.what
    assert "Set `kernel`" in mine.why_not(room.KERNEL)
    check_shown(all_cells(mine))
    taken = yours(wheel(tmp_path), kernel="mine/product.py:cliff_matmul_kernel", **DIES)
    assert taken.diagnosis.failure.code == "C7602" and all(parts(taken).values())
    check_shown(all_cells(taken))


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(40), b"PK\x03\x04broken", b"\0\0\0\0binary"])
def test_what_is_none_of_the_five_is_named_and_nothing_raises(content, tmp_path, own_cache):
    path = tmp_path / "thing"
    path.write_bytes(content)
    for mine in (yours(path), yours(tmp_path), yours(tmp_path / "absent"), yours("")):
        assert mine.kind == room.NOTHING and not any(parts(mine).values())
        check_shown(all_cells(mine))


def test_a_chip_or_release_that_is_not_known_is_a_sentence(spec_file):
    assert yours(spec_file, arch="sm_999").kind == room.NOTHING
    assert "3.0.99" in yours(spec_file, triton="3.0.99").why_not(room.PTX_TEXT)


@pytest.mark.slow
def test_the_notebook_runs_with_a_log_of_another_kind(tmp_path, toolchain_351):
    copied = Path(shutil.copy(NOTEBOOK, tmp_path))
    notebook = nbformat.read(copied, 4)
    log = tmp_path / "mine.log"
    shutil.copy(FIXTURES / "diagnosis" / "advice_c7508.log", log)
    first = next(cell for cell in notebook.cells if "MINE = None" in cell.source)
    first.source = first.source.replace("MINE = None", f"MINE = {str(log)!r}")
    nbformat.write(notebook, copied)
    run = execute_notebook(copied)
    assert run.ok, run.failure_report()
    assert "ptxas advises" in str([cell.get("outputs") for cell in run.notebook.cells])
